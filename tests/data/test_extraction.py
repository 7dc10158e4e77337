import dataclasses
import json

import pytest

from case_jax.data.extraction import (
    ExtractedVideo,
    Extraction,
    Source,
    common_extraction,
    features_path,
    read_record,
    write_record,
)
from case_jax.errors import InputError
from tests.helpers.refusals import assert_parts, bad, refusal

BOTH = {"rgb": Source("a.pt", "1" * 64), "flow": Source("b.pt", "2" * 64)}
ONE = Extraction({"rgb": Source("a.pt", "1" * 64)})
TWO = Extraction(BOTH, flow="tvl1", fps=None, stride=8, crops="ten", tail="repeat", precision="bf16")
VIDEO = ExtractedVideo("v.mp4", 10, 11, 25.0, 4.0, 100, 1, 2, 6, None)


def test_the_streams_follow_from_the_flow():
    assert (ONE.streams, TWO.streams) == (("rgb",), ("rgb", "flow"))


@pytest.mark.parametrize(
    "changes, named, wrong",
    [
        ({"fps": 0.0}, "--fps", "0.0"),
        ({"fps": float("nan")}, "--fps", "nan"),
        ({"stride": 0}, "--stride", "0"),
        ({"frames": 8}, "--frames", "8"),
        ({"flow": "raft"}, "--flow", "raft"),
        ({"crops": "three"}, "--crops", "three"),
        ({"flow": "dis"}, "--flow", "dis … rgb"),
        ({"weights": BOTH}, "--flow", "none … rgb, flow"),
    ],
)
def test_values_out_of_range_are_refused(changes, named, wrong):
    assert_parts(refusal(lambda: dataclasses.replace(ONE, **changes)), named, wrong)


@pytest.mark.parametrize("extraction", [ONE, TWO])
def test_a_record_survives_the_disk(tmp_path, extraction):
    videos = {"b": VIDEO, "a": VIDEO._replace(broken="cut off")}
    write_record(tmp_path, extraction, videos, {"jax": "1"})
    assert read_record(tmp_path) == (extraction, videos)
    content = json.loads(features_path(tmp_path).read_text())
    assert list(content["videos"]) == ["a", "b"]
    assert content["versions"] == {"jax": "1"}


def test_a_folder_without_a_record_has_none(tmp_path):
    assert read_record(tmp_path) is None
    assert common_extraction(tmp_path) is None


def record(**changes):
    return {"extraction": ONE.as_json() | changes, "videos": {"v": VIDEO._asdict()}, "versions": {}}


@pytest.mark.parametrize(
    "content",
    [
        bad("a list", []),
        bad("no extraction", {"videos": {}}),
        bad("an unknown setting", record(colour="red")),
        bad("no weights", record(weights={})),
        bad("weights without a hash", record(weights={"rgb": {"name": "a"}})),
        bad("another kind", record(stride="many")),
        bad("a video of another form", {**record(), "videos": {"v": {"file": "v"}}}),
        bad("a video of another kind", {**record(), "videos": {"v": {**VIDEO._asdict(), "frames": "x"}}}),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path, content):
    features_path(tmp_path).write_text(json.dumps(content))
    message = refusal(read_record, tmp_path)
    assert message.startswith((f"{features_path(tmp_path)}: ", "--"))


def test_the_first_difference_is_named():
    assert ONE.difference(ONE) is None
    assert ONE.difference(dataclasses.replace(ONE, stride=8)) == ("stride", "16", "8")
    name, ours, theirs = ONE.difference(dataclasses.replace(ONE, weights={"rgb": Source("c.pt", "3" * 64)}))
    assert (name, ours, theirs) == ("weights", f"rgb a.pt ({'1' * 12})", f"rgb c.pt ({'3' * 12})")


def test_the_splits_of_a_data_set_must_agree(tmp_path):
    for split, extraction in (("train", ONE), ("test", ONE)):
        (tmp_path / "features" / split).mkdir(parents=True)
        write_record(tmp_path / "features" / split, extraction, {}, {})
    assert common_extraction(tmp_path) == ONE
    write_record(tmp_path / "features" / "test", dataclasses.replace(ONE, fps=30.0), {}, {})
    with pytest.raises(InputError) as raised:
        common_extraction(tmp_path)
    assert_parts(str(raised.value), tmp_path / "features/test/features.json", "fps = 30.0", "25.0")


def test_activitynets_layout_has_one_record(tmp_path):
    (tmp_path / "features").mkdir()
    write_record(tmp_path / "features", TWO, {}, {})
    assert common_extraction(tmp_path) == TWO
