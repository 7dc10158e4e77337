import json

import numpy as np
import pytest

from case_jax.data.activitynet import find_dataset, load_activitynet, write_activitynet
from case_jax.data.info import ACTIVITYNET
from case_jax.data.synthetic import SyntheticSpec, make_synthetic_dataset
from case_jax.data.thumos import is_thumos_layout
from tests.data.conftest import STREAMS
from tests.helpers.refusals import assert_refused, bad


@pytest.mark.parametrize("in_memory", [True, False])
def test_what_is_loaded_and_what_is_left_out(activitynet, in_memory):
    data = load_activitynet(activitynet.path, in_memory=in_memory, action_free=False)
    assert data.info.classes == activitynet.classes
    assert (data.train.subset, data.test.subset) == ("training", "validation")
    assert data.stream_widths == {"rgb": 3, "flow": 3}
    names = [[video.name for video in split.videos] for split in (data.train, data.test)]
    assert names == [["a" * 11, "b" * 11], ["d" * 11]]
    for split in (data.train, data.test):
        assert (split.packed is not None) == in_memory
        for video in split.videos:
            assert video.num_snippets == activitynet.lengths[video.name]
            assert video.seconds(data.info) == pytest.approx(activitynet.lengths[video.name] * 0.64)
            for stream in STREAMS:
                expected = activitynet.array(video.name, stream)
                np.testing.assert_array_equal(video.features[stream], expected)
    assert data.test.videos[0].annotations == (("Ping-pong", 2.0, 2.0), ("Ballet", 0.5, 4.0))
    assert data.train.population == "2 videos with 2 instances (left out: 1 without annotations)"
    assert data.test.population == "1 video with 2 instances (left out: 1 without features)"


def test_a_video_without_annotations_shows_no_action(activitynet):
    activitynet.lengths["c" * 11] = 8
    activitynet.write_features()
    data = load_activitynet(activitynet.path)
    assert [(video.name, video.action_free) for video in data.train.videos] == [
        ("a" * 11, False), ("b" * 11, False), ("c" * 11, True),
    ]  # fmt: skip
    assert data.train.population == "3 videos with 2 instances, 1 of them without any action"


def test_sources_of_a_video_under_any_of_its_names(activitynet):
    found = find_dataset(activitynet.path)
    assert found.sources_of("a" * 11) == found.sources_of("v_" + "a" * 11) == found.sources["v_" + "a" * 11]
    assert found.sources_of("e" * 11) is None


def test_annotations_without_subsets_need_split_files(activitynet):
    activitynet.annotate(flat=True)
    assert_refused(
        load_activitynet,
        activitynet.path,
        "'training' … ''",
        "split_train.txt",
        named=activitynet.annotations,
    )
    (activitynet.path / "split_train.txt").write_text("aaaaaaaaaaa\nv_bbbbbbbbbbb\n")
    (activitynet.path / "split_test.txt").write_text("ddddddddddd\n")
    data = load_activitynet(activitynet.path)
    assert [video.name for video in data.train.videos] == ["a" * 11, "b" * 11]


def test_a_video_of_both_splits_is_refused(activitynet):
    activitynet.annotate(flat=True)
    (activitynet.path / "split_train.txt").write_text("aaaaaaaaaaa\nddddddddddd\n")
    (activitynet.path / "split_test.txt").write_text("v_ddddddddddd\n")
    assert_refused(load_activitynet, activitynet.path, "'ddddddddddd' … both", "one")


def test_rescaled_features_last_as_long_as_the_video(activitynet):
    activitynet.configure(rescaled=True)
    data = load_activitynet(activitynet.path)
    assert [video.seconds(data.info) for video in data.train.videos] == [6.4, 12.8]
    assert data.info.rescaled


def test_classes_may_be_named(activitynet):
    activitynet.configure(classes=["Zumba", *activitynet.classes])
    assert load_activitynet(activitynet.path).info.classes[0] == "Zumba"


def test_annotations_may_be_named_as_thumos14s(activitynet):
    activitynet.annotations.rename(activitynet.path / "gt.json")
    assert not is_thumos_layout(activitynet.path)
    assert len(load_activitynet(activitynet.path).train.videos) == 2


def test_one_of_several_annotation_files_is_chosen(activitynet):
    (activitynet.path / "other.json").write_text("{}")
    assert_refused(load_activitynet, activitynet.path, "2 .json files", "'annotations'")
    activitynet.configure(annotations=activitynet.annotations.name)
    assert len(load_activitynet(activitynet.path).train.videos) == 2


def without(field):
    def change(made):
        for entry in made.database.values():
            entry.pop(field)
        made.annotate()

    return change


def rename_features(made):
    for path in made.path.rglob("*.npy"):
        path.rename(path.with_name("x" + path.name))


def widen_a_video(made):
    np.save(made.path / "features" / "flow" / "v_bbbbbbbbbbb.npy", np.ones((20, 4)))


ANNOTATIONS = "activity_net.v1-3.min.json"


@pytest.mark.parametrize(
    "facts, spoil, file, wrong, expected",
    [
        bad(
            "a label that is not a class",
            {"classes": ["Ballet"]},
            None,
            ANNOTATIONS,
            "'Ping-pong'",
            "1 classes",
        ),
        bad(
            "no such subset",
            {"subsets": {"test": "val"}},
            None,
            ANNOTATIONS,
            "'val' … 'testing'",
            "split_test.txt",
        ),
        bad("no such stream", {"streams": ["tsn"]}, None, "features", "no features", "tsn/<video>"),
        bad("an unknown field", {"fps": 3}, None, "dataset.json", "'fps'", "rescaled"),
        bad(
            "no durations",
            {"rescaled": True},
            without("duration"),
            ANNOTATIONS,
            "'aaaaaaaaaaa' … duration",
            "rescaled",
        ),
        bad("no actions", {}, without("annotations"), ANNOTATIONS, "no action", "some"),
        bad(
            "other names",
            {},
            rename_features,
            "",
            "2 annotated videos … 'training'",
            f"{ANNOTATIONS} … aaaaaaaaaaa",
        ),
        bad(
            "another width",
            {},
            widen_a_video,
            "features/flow/v_bbbbbbbbbbb.npy",
            "4 channels",
            "3 … v_aaaaaaaaaaa",
        ),
        bad("a folder annotates", {"annotations": "features"}, None, "features", "Is a directory", "JSON"),
    ],
)
def test_data_sets_that_cannot_be_used(facts, spoil, file, wrong, expected, activitynet):
    load_activitynet(activitynet.path)
    if facts:
        activitynet.configure(**facts)
    if spoil:
        spoil(activitynet)
    assert_refused(load_activitynet, activitynet.path, wrong, expected, named=activitynet.path / file)


# Writing


@pytest.fixture(scope="module")
def small():
    return make_synthetic_dataset(0, SyntheticSpec(num_train=2, num_test=1, num_classes=2, width=4))


def test_a_written_data_set_comes_back_exactly(small, tmp_path):
    write_activitynet(small, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["activity_net.json", "features"]
    found = load_activitynet(tmp_path)
    assert (found.info.classes, found.info.streams) == (small.info.classes, small.info.streams)
    assert (found.info.train_subset, found.info.test_subset) == ("training", "validation")
    for split, wanted in ((found.train, small.train), (found.test, small.test)):
        assert split.ground_truth() == wanted.ground_truth()
        for video, expected in zip(split.videos, wanted.videos, strict=True):
            for stream in STREAMS:
                np.testing.assert_array_equal(video.features[stream], expected.features[stream])
    database = json.loads((tmp_path / "activity_net.json").read_text())["database"]
    assert database[small.test.videos[0].name]["duration"] == small.test.videos[0].seconds(small.info)


def test_facts_are_written_if_the_annotations_do_not_tell_them(small, tmp_path):
    import dataclasses

    info = dataclasses.replace(small.info, frames_per_snippet=8.0)
    write_activitynet(dataclasses.replace(small, info=info), tmp_path)
    written = json.loads((tmp_path / "dataset.json").read_text())
    assert written == {"streams": ["rgb", "flow"], "frames_per_second": 25.0, "frames_per_snippet": 8.0}
    found = load_activitynet(tmp_path).info
    assert found == dataclasses.replace(ACTIVITYNET, classes=info.classes, frames_per_snippet=8.0)
