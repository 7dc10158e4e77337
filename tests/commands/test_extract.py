"""`extract` with a network that tells which frames it saw; for the real one see tests/test_videos.py."""

import numpy as np
import pytest

from case_jax.data.extraction import features_path, read_record
from tests.helpers.commands import refuse_here, run_here, succeed_here
from tests.helpers.extraction import SHA256, fake_network, numbers_of
from tests.helpers.refusals import assert_parts
from tests.helpers.runs import contents
from tests.helpers.videos import numbered, write_audio, write_images, write_video

SQUARE = (48, 48)
FLAGS = ("--num_workers=0", "--clips_at_once=2")


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    fake_network(monkeypatch)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Three videos of 25 frames/s, in a tree: 40, 33 and 5 frames."""
    folder = tmp_path_factory.mktemp("videos")
    (folder / "more").mkdir()
    write_video(folder / "a.mp4", 40, rate=25, size=SQUARE)
    write_video(folder / "more" / "b.mkv", 33, rate=25, size=SQUARE)
    write_images(folder / "c", [numbered(100 + k, SQUARE) for k in range(5)])
    return folder


def test_a_folder_of_videos_becomes_features(videos, tmp_path):
    printed = succeed_here("extract", f"--videos={videos}", f"--output={tmp_path / 'F'}", *FLAGS)
    assert sorted(contents(tmp_path / "F")) == ["features.json", *(f"rgb/{v}.npy" for v in "abc")]
    assert numbers_of(np.load(tmp_path / "F" / "rgb" / "a.npy")) == [list(range(16)), list(range(16, 32))]
    assert numbers_of(np.load(tmp_path / "F" / "rgb" / "c.npy")) == [[100, 101, 102, 103, *[104] * 12]]
    lines = printed.splitlines()
    assert_in_order(
        lines[0], "25 frames/s", "16 frames every 16", "centre crop", "no optical flow", "rgb weights"
    )
    assert_in_order(lines[1], "78 frames", "0 repeated", "frames/s")
    assert lines[-1] == f"3 videos: {tmp_path / 'F'}"


def assert_in_order(text, *parts):
    position = 0
    for part in parts:
        position = text.index(part, position)


def test_the_record_says_how(videos, tmp_path):
    flags = ["--fps=native", "--stride=8", "--tail=repeat", "--crop=ten", "--side=240"]
    succeed_here("extract", f"--videos={videos / 'a.mp4'}", f"--output={tmp_path}", *flags, *FLAGS)
    extraction, known = read_record(tmp_path)
    assert extraction.as_json() == {
        "weights": {"rgb": {"name": "rgb weights", "sha256": SHA256["rgb"]}},
        "fps": None,
        "frames": 16,
        "stride": 8,
        "side": 240,
        "crop": 224,
        "crops": "ten",
        "flow": "none",
        "tail": "repeat",
        "precision": "f32",
    }
    assert (known["a"].file, known["a"].fps, known["a"].snippets) == (str(videos / "a.mp4"), 25.0, 4)


def test_flow_weights_bring_a_flow_stream(videos, tmp_path):
    weights = tmp_path / "flow.pt"
    weights.write_text("f" * 64)
    flags = [f"--videos={videos / 'c'}", f"--flow_weights={weights}", f"--output={tmp_path / 'F'}"]
    printed = succeed_here("extract", *flags, "--flow=dis", *FLAGS)
    assert "DIS" in printed
    assert {path.name for path in (tmp_path / "F").iterdir()} == {"rgb", "flow", "features.json"}
    assert read_record(tmp_path / "F")[0].weights["flow"].sha256 == "f" * 64
    message = refuse_here("extract", *flags, "--flow=none", *FLAGS)
    assert_parts(message, "--flow_weights", "--flow=none", "tvl1")


def test_what_is_there_is_not_extracted_again(videos, tmp_path):
    succeed_here("extract", f"--videos={videos / 'a.mp4'}", f"--output={tmp_path}", *FLAGS)
    before = contents(tmp_path)
    printed = succeed_here("extract", f"--videos={videos}", f"--output={tmp_path}", *FLAGS)
    assert "1 of 3 videos were there already" in printed
    assert contents(tmp_path)["rgb/a.npy"] == before["rgb/a.npy"]
    message = refuse_here("extract", f"--videos={videos}", f"--output={tmp_path}", "--stride=8", *FLAGS)
    assert_parts(message, features_path(tmp_path), "stride = 16, not 8", "another folder")


@pytest.fixture
def some_bad(videos, tmp_path):
    """A folder of which two videos cannot be read."""
    folder = tmp_path / "V"
    folder.mkdir()
    (folder / "a.mp4").write_bytes((videos / "a.mp4").read_bytes())
    (folder / "text.mp4").write_text("no video")
    write_audio(folder / "sound.mp4")
    return folder


def test_bad_videos_are_skipped_listed_and_told_by_the_status(some_bad, tmp_path):
    ended = run_here("extract", f"--videos={some_bad}", f"--output={tmp_path / 'F'}", *FLAGS)
    assert ended.returncode == 1
    assert (tmp_path / "F" / "rgb" / "a.npy").is_file()
    *_, count, first, second = ended.stdout.splitlines()
    assert count == "2 of 3 videos cannot be read:"
    assert first.startswith(f"  {some_bad / 'sound.mp4'}: ")
    assert second.startswith(f"  {some_bad / 'text.mp4'}: ")


def test_a_strict_extraction_stops_at_the_first(some_bad, tmp_path):
    message = refuse_here("extract", f"--videos={some_bad}", f"--output={tmp_path / 'F'}", "--strict", *FLAGS)
    assert_parts(message, some_bad / "sound.mp4", "")
    assert read_record(tmp_path / "F")[1].keys() == {"a"}


@pytest.mark.parametrize(
    "flags, named, wrong",
    [
        (["--output=F"], "--videos", "missing"),
        (["--videos=."], "--output", "missing"),
        (["--videos=no/such", "--output=F"], "no/such", "no such"),
        (["--videos={videos}", "--output=F", "--fps=fast"], "--fps", "fast"),
        (["--videos={videos}", "--output=F", "--fps=-1"], "--fps", "-1"),
        (["--videos={videos}", "--output=F", "--stride=0"], "--stride", "0"),
        (["--videos={videos}", "--output=F", "--side=100"], "--side", "100"),
        (["--videos={videos}", "--output=F", "--flow=raft"], "--flow", "raft"),
    ],
)
def test_bad_flags(videos, tmp_path, monkeypatch, flags, named, wrong):
    monkeypatch.chdir(tmp_path)
    message = refuse_here("extract", *(flag.format(videos=videos) for flag in flags), *FLAGS)
    assert_parts(message, named, wrong)
    assert list(tmp_path.iterdir()) == []
