"""What the doctor says of features that are not as training expects them."""

import numpy as np
import pytest

from case_jax.data.doctor import diagnose
from case_jax.data.load import load_dataset
from case_jax.errors import InputError
from tests.data.conftest import STREAMS

BY_ONE = "streams that differ by one snippet"
TURNED = "files with the channels in rows"


def finding(folder, what, **options):
    return next(f for f in diagnose(folder, **options).findings if f.what == what)


def test_streams_that_differ_by_one_snippet_are_counted_and_refused_only_if_told(thumos):
    assert not finding(thumos, BY_ONE).total
    for name, split, length in (("a", "train", 5), ("c", "test", 3)):
        np.save(thumos / "features" / split / "flow" / f"{name}.npy", np.ones((length, 3)))
    found = finding(thumos, BY_ONE)
    assert (found.counts, found.example) == ({"train": 1, "test": 1}, "a: 4 and 5 snippets")
    assert found.then.startswith("cut to the shorter")
    assert not diagnose(thumos).refused
    load_dataset(thumos)
    assert finding(thumos, BY_ONE, strict=True).then.startswith("refused")
    assert diagnose(thumos, strict=True).refused
    with pytest.raises(InputError):
        load_dataset(thumos, strict=True)


def test_files_with_the_channels_in_rows_are_told(activitynet):
    for stream in STREAMS:
        for path in (activitynet.path / "features" / stream).iterdir():
            np.save(path, np.ones((64, len(np.load(path)))))
    found = finding(activitynet.path, TURNED)
    assert found.counts == {"train": 4, "test": 2}
    assert "v_aaaaaaaaaaa.npy: 64 rows, as in all files, and 10 columns" in found.example
    assert "(snippets, channels)" in found.then
    assert diagnose(activitynet.path).refused
    with pytest.raises(InputError, match="channels; expected"):
        load_dataset(activitynet.path)


@pytest.mark.parametrize(
    "shapes", [[(64, 3), (64, 3), (64, 3)], [(64, 3), (65, 4), (64, 5)], [(9, 3), (9, 4), (9, 5)]]
)
def test_other_shapes_are_not_taken_for_it(shapes, activitynet):
    for stream in STREAMS:
        for path, shape in zip(sorted((activitynet.path / "features" / stream).iterdir()), shapes):
            np.save(path, np.ones(shape))
    assert not finding(activitynet.path, TURNED).total


def test_rescaled_features_with_the_channels_in_rows_are_turned(bare_activitynet):
    """As a .csv file of this shape is: (400 channels, 100 snippets) of the streams side by side."""
    folder = bare_activitynet.path
    rng = np.random.default_rng(0)
    arrays = {video: rng.standard_normal((8, 100), np.float32) for video in bare_activitynet.lengths}
    for video, array in arrays.items():
        np.save(folder / f"{video}.npy", array)
    bare_activitynet.configure(rescaled=True)
    result = diagnose(folder)
    assert result.facts[-1] == "features: rgb (4), flow (4); rescaled to the videos' durations"
    assert not result.refused
    for in_memory in (True, False):
        for video in load_dataset(folder, in_memory=in_memory).train.videos:
            np.testing.assert_array_equal(video.features["flow"], arrays[video.name].T[:, 4:])


def test_crops_and_values_without_a_type_are_told_with_the_field(thumos):
    np.save(thumos / "features" / "train" / "rgb" / "a.npy", np.ones((10, 4, 3)))
    found = finding(thumos, "features that cannot be read")
    assert '"crops": "mean"' in found.example
    (thumos / "dataset.json").write_text('{"crops": "mean"}')
    assert not diagnose(thumos).refused
