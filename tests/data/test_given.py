import ml_dtypes
import numpy as np
import pytest

from case_jax.data.feature_files import FeatureFiles
from case_jax.data.given import open_video
from case_jax.data.sources import Source
from tests.helpers.refusals import assert_parts, bad, refusal

WIDTHS = {"rgb": 3, "flow": 2}


def streams(length=6):
    rng = np.random.default_rng(0)
    return {stream: rng.standard_normal((length, width), np.float32) for stream, width in WIDTHS.items()}


def side_by_side(features):
    return np.concatenate([features[stream] for stream in WIDTHS], axis=1)


def files(folder, features):
    for stream, array in features.items():
        np.save(folder / f"{stream}.npy", array)
    return FeatureFiles({stream: Source(folder / f"{stream}.npy") for stream in features})


FORMS = {
    "arrays": lambda folder, features: features,
    "lists": lambda folder, features: {stream: array.tolist() for stream, array in features.items()},
    "other streams, too": lambda folder, features: {"audio": None, **features},
    "side by side": lambda folder, features: side_by_side(features),
    "files": files,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_read_piece_by_piece(form, tmp_path):
    features = streams()
    video = open_video(FORMS[form](tmp_path, features), WIDTHS, "v")
    assert video.length == 6
    for begin, end in ((0, 6), (2, 5), (5, 6)):
        found = video.read(begin, end)
        assert list(found) == list(WIDTHS)
        for stream, array in features.items():
            np.testing.assert_array_equal(found[stream], array[begin:end], strict=True)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int16, np.uint8, ml_dtypes.bfloat16])
def test_any_real_numbers_become_float32(dtype):
    features = {stream: (10 * abs(array)).astype(dtype) for stream, array in streams().items()}
    for given in (features, side_by_side(features)):
        found = open_video(given, WIDTHS, "v").read(1, 4)
        for stream, array in features.items():
            np.testing.assert_array_equal(found[stream], array[1:4].astype(np.float32), strict=True)


def changed(stream, change):
    features = streams()
    return {**features, stream: change(features[stream])}


@pytest.mark.parametrize(
    "features, named, wrong, expected",
    [
        bad("a stream is missing", {"rgb": np.ones((2, 3))}, "v", "'flow'", "rgb, flow"),
        bad("bool", changed("rgb", lambda a: a > 0), "v['rgb']", "bool", "(snippets, 3)"),
        bad("complex", changed("rgb", lambda a: a * 1j), "v['rgb']", "complex64", "(snippets, 3)"),
        bad("object", changed("rgb", lambda a: None), "v['rgb']", "object", "(snippets, 3)"),
        bad("ragged", changed("rgb", lambda a: [[1], [1, 2]]), "v['rgb']", "not an array", "(snippets, 3)"),
        bad("text", "v.npy", "v", "<U5", "(snippets, 5)"),
        bad("a number", changed("flow", lambda a: 1.0), "v['flow']", "shape ()", "(snippets, 2)"),
        bad("no snippets", changed("rgb", lambda a: a[:0]), "v['rgb']", "shape (0, 3)", "(snippets, 3)"),
        bad("1-d", np.ones(5), "v", "shape (5,)", "(snippets, 5)"),
        bad("another width", changed("rgb", lambda a: a[:, :2]), "v['rgb']", "2 channels", "3 … training"),
        bad("another sum", np.ones((4, 6)), "v", "6 channels", "5 … rgb (3) … flow (2)"),
        bad("another length", changed("flow", lambda a: a[:4]), "v['flow']", "4 snippets", "6 … v['rgb']"),
        bad("channels in rows", changed("rgb", lambda a: a.T), "v['rgb']", "6 channels", "3, which … rows"),
    ],
)
def test_shapes_and_types_that_do_not_fit_are_named(features, named, wrong, expected):
    assert_parts(refusal(open_video, features, WIDTHS, "v"), named, wrong, expected)


@pytest.mark.parametrize("value, shown", [(np.nan, "nan"), (-np.inf, "-inf"), (1e39, "inf")])
def test_a_value_is_named_by_its_position_in_the_video(value, shown, tmp_path):
    features = {stream: array.astype(np.float64) for stream, array in streams().items()}
    features["flow"][4, 1] = value
    for form, named in (("arrays", "v['flow']"), ("files", f"{tmp_path}/flow.npy"), ("side by side", "v")):
        video = open_video(FORMS[form](tmp_path, features), WIDTHS, "v")
        video.read(0, 4)
        channel = 4 if form == "side by side" else 1
        wrong = f"snippet 4, channel {channel} is {shown}"
        assert_parts(refusal(video.read, 3, 6), named, wrong, "finite")


@pytest.mark.parametrize("form", ["arrays", "lists", "files"])
@pytest.mark.parametrize("longer", WIDTHS)
def test_streams_that_differ_by_one_snippet_are_read_to_the_end_of_the_shorter(form, longer, tmp_path):
    features = {s: array if s == longer else array[:5] for s, array in streams().items()}
    video = open_video(FORMS[form](tmp_path, features), WIDTHS, "v")
    assert video.length == 5
    for stream, array in video.read(2, 5).items():
        np.testing.assert_array_equal(array, features[stream][2:5], strict=True)


def test_files_are_named(tmp_path):
    given = files(tmp_path, changed("flow", lambda a: a[:4]))
    message = refusal(open_video, given, WIDTHS, "v")
    assert_parts(message, f"{tmp_path}/flow.npy", "4 snippets", f"6 … {tmp_path}/rgb.npy")


def test_files_are_opened_again_at_each_read(tmp_path):
    features = streams()
    video = open_video(files(tmp_path, features), WIDTHS, "v")
    files(tmp_path, {stream: array + 1 for stream, array in features.items()})
    np.testing.assert_array_equal(video.read(0, 2)["rgb"], features["rgb"][:2] + 1)
