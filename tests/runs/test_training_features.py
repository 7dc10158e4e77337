"""A run goes on over the features that it has trained on, wherever they are now, and over no others."""

import dataclasses
import json

import numpy as np
import pytest

from case_jax.data.load import load_dataset
from case_jax.data.thumos import write_dataset
from case_jax.errors import InputError
from case_jax.runs import training_features as module
from case_jax.runs.training_features import TrainingFeatures, note_features, training_features_path
from tests.helpers.files import write_array
from tests.helpers.refusals import assert_parts, refusal
from tests.helpers.runs import Training, contents


def marked(dataset, dtype="float32"):
    return TrainingFeatures.of(dataset.train.videos, dtype)


def with_features(dataset, change, *, of=0):
    """The data set with changed features of one training video."""
    videos = list(dataset.train.videos)
    features = {stream: change(np.asarray(array)) for stream, array in videos[of].features.items()}
    videos[of] = videos[of]._replace(features=features)
    return dataclasses.replace(
        dataset, train=dataclasses.replace(dataset.train, videos=tuple(videos), packed=None)
    )


def test_marks_depend_on_neither_place_nor_format_nor_where_features_are_kept(dataset, tmp_path):
    write_dataset(dataset, tmp_path / "npy")
    write_dataset(dataset, tmp_path / "csv")
    for path in (tmp_path / "csv").rglob("*.npy"):
        write_array(path.with_suffix(".csv"), np.load(path))
        path.unlink()
    for dtype in ("float32", "bfloat16"):
        expected = marked(dataset, dtype)
        for place in ("npy", "csv"):
            for in_memory in (True, False):
                found = marked(load_dataset(tmp_path / place, in_memory=in_memory, dtype=dtype), dtype)
                assert found == expected
    assert marked(dataset, "float32") != marked(dataset, "bfloat16")


def test_differences_are_said(dataset):
    before = marked(dataset)
    names = list(before.marks)
    assert before.difference(marked(dataset)) is None
    for change in (lambda x: x[::-1], lambda x: 3 * x, lambda x: x[:-1]):
        assert before.difference(marked(with_features(dataset, change, of=2))) == (
            f"other features of 1 of 8 training videos, such as {names[2]!r}"
        )
    fewer = TrainingFeatures({name: before.marks[name] for name in names[1:]})
    assert before.difference(fewer) == f"8 training videos, and 1 are not there now, such as {names[0]!r}"
    assert fewer.difference(before) == f"7 training videos, and 1 were added, such as {names[0]!r}"
    turned = TrainingFeatures(dict(reversed(before.marks.items())))
    assert "order" in before.difference(turned)


def test_files_that_are_read_whole_are_marked_for_some_videos_only(dataset, tmp_path, monkeypatch):
    write_dataset(dataset, tmp_path)
    for path in tmp_path.rglob("*.npy"):
        write_array(path.with_suffix(".csv"), np.load(path))
        path.unlink()
    on_disk = load_dataset(tmp_path, in_memory=False)
    monkeypatch.setattr(module, "_MARKED_IF_READ_WHOLE", 3)
    some = marked(on_disk)
    assert [digest is not None for _, digest in some.marks.values()] == [i in (0, 3, 7) for i in range(8)]
    for one, other in ((some, marked(dataset)), (marked(dataset), some)):
        assert one.difference(other) is None
    assert some.difference(marked(with_features(dataset, lambda x: 2 * x, of=3))) is not None
    assert some.difference(marked(with_features(dataset, lambda x: x[1:], of=4))) is not None  # by its length


def test_marks_are_read_as_they_were_written(tmp_path):
    marks = TrainingFeatures({"a": (3, "0f"), 'ü"\\': (10, None)})
    assert TrainingFeatures.read(tmp_path) is None
    marks.write(tmp_path)
    assert TrainingFeatures.read(tmp_path) == marks
    assert list(json.loads(training_features_path(tmp_path).read_text())["videos"]) == ["a", 'ü"\\']


@pytest.mark.parametrize(
    "content", ["[]", "{}", '{"videos": 1}', '{"videos": {"a": 3}}', '{"videos": {"a": ["3", "0"]}}']
)
def test_a_damaged_file_is_named(content, tmp_path):
    path = training_features_path(tmp_path)
    path.write_text(content)
    assert_parts(refusal(TrainingFeatures.read, tmp_path), path, "marks", "that training wrote")


def test_a_run_that_begins_notes_its_features(dataset, tmp_path):
    training = Training(tmp_path, dataset, seeds=(3, 4))
    note_features(training.runs, going_on=False)
    assert all(TrainingFeatures.read(workdir.path) == marked(dataset) for workdir in training.workdirs)
    other = with_features(dataset, lambda x: 2 * x)
    note_features(Training(tmp_path, other).runs, going_on=False)  # it has not trained yet
    assert TrainingFeatures.read(training.workdirs[0].path) == marked(other)
    assert TrainingFeatures.read(training.workdirs[1].path) == marked(dataset)


def test_a_run_goes_on_over_the_same_features_only(dataset, finished, tmp_path):
    before = contents(finished.path)
    other = Training(tmp_path, with_features(dataset, lambda x: x[::-1]))
    other.change(num_steps=31)
    with pytest.raises(InputError) as refused:
        other.train()
    assert_parts(
        str(refused.value), finished.path, "other features of 1 of 8 training videos", "empty --workdir"
    )
    after = contents(finished.path)
    assert {name for name in after if after[name] != before.get(name)} <= {"config.json"}  # its num_steps

    training_features_path(finished.path).unlink()  # of an earlier version: nobody can tell
    note_features(other.runs, going_on=True)
    assert TrainingFeatures.read(finished.path) == marked(other.runs[0].dataset)
