import dataclasses
import json

import numpy as np
import pytest

from case_jax.data.extraction import Source, features_path, read_record
from case_jax.errors import InputError
from case_jax.video import extract as module
from case_jax.video.extract import ExtractionProgress, Extractor, FolderOfFeatures, extractor_of
from case_jax.video.workers import Taken
from tests.helpers.extraction import SHA256, SMALL, fake_network, fake_weights, numbers_of
from tests.helpers.refusals import assert_parts, refusal
from tests.helpers.videos import numbered, write_images

LENGTHS = {"a": 50, "b": 3, "c": 32}


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    fake_network(monkeypatch)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Folders of images that show 0, 1, 2 ... ("a"), 60 ... ("b") and 120 ... ("c")."""
    folder = tmp_path_factory.mktemp("videos")
    return {
        name: write_images(folder / name, [numbered(60 * i + k, (48, 48)) for k in range(length)])
        for i, (name, length) in enumerate(LENGTHS.items())
    }


def make(extraction=SMALL, **options):
    return Extractor(extraction, {s: fake_weights(stream=s) for s in extraction.streams}, **options)


EXPECTED = {
    "a": [list(range(16 * k, 16 * k + 16)) for k in range(3)],
    "b": [[60, 61, 62, *[62] * 13]],
    "c": [list(range(120, 136)), list(range(136, 152))],
}


@pytest.mark.parametrize("batch_size", [1, 2, 4, 16])
@pytest.mark.parametrize("num_workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_each_video_has_the_features_of_its_frames(videos, batch_size, num_workers):
    found = {e.name: e for e in make(batch_size=batch_size).each(videos, num_workers=num_workers)}
    assert set(found) == set(videos)
    for name, extracted in found.items():
        assert numbers_of(extracted.require()["rgb"]) == EXPECTED[name]
        assert extracted.features["rgb"].dtype == np.float32
        assert extracted.video.snippets == len(EXPECTED[name])


def test_one_video(videos):
    assert numbers_of(make().extract(videos["c"]).require()["rgb"]) == EXPECTED["c"]


def test_crops_are_averaged_and_streams_are_two(videos, monkeypatch):
    sources = {"rgb": Source("r", "0"), "flow": Source("f", "1")}
    extraction = dataclasses.replace(SMALL, side=64, crops="ten", flow="dis", weights=sources)
    monkeypatch.setattr(
        module,
        "i3d_features",
        lambda params, clips, precision: np.arange(len(clips) * 1024.0).reshape(-1, 1024),
    )
    extracted = make(extraction, batch_size=1).extract(videos["c"]).require()
    assert {stream: array.shape for stream, array in extracted.items()} == {
        "rgb": (2, 1024),
        "flow": (2, 1024),
    }
    np.testing.assert_allclose(extracted["flow"][0], np.arange(10240.0).reshape(10, 1024).mean(axis=0))


def test_a_bad_video_stops_no_other(videos, tmp_path):
    (tmp_path / "x.mp4").write_bytes(b"")
    told = []

    class Told(ExtractionProgress):
        def clips(self, name, frames):
            told.append((name, frames))

        def ended(self, extracted):
            told.append(extracted.name)

    given = {"x": tmp_path / "x.mp4", "c": videos["c"]}
    bad, good = make(batch_size=1).each(given, progress=Told())
    assert bad.features == {}
    assert_parts(refusal(bad.require), tmp_path / "x.mp4", "")
    assert numbers_of(good.require()["rgb"]) == EXPECTED["c"]
    assert told == ["x", ("c", 16), ("c", 16), "c"]


def test_features_of_a_video_that_ends_in_an_error_are_not_kept(videos, monkeypatch):
    def take(paths, extraction, num_workers):
        clip = {"rgb": np.zeros((1, 16, 48, 48, 3), np.uint8)}
        yield from (Taken(0, clip), Taken(0, error="v: is damaged; expected a video"))

    monkeypatch.setattr(module, "take_clips", take)
    [extracted] = make(batch_size=4).each({"v": videos["b"]})
    assert (extracted.features, extracted.video) == ({}, None)


def test_batches_hold_a_clip_or_more():
    assert_parts(refusal(lambda: make(batch_size=0)), "--clips_at_once", "0", "1 or more")


# Folders of features


def add_all(folder, videos, extraction=SMALL):
    folder = FolderOfFeatures(folder, extraction)
    missing = {name: path for name, path in videos.items() if not folder.has(name, path)}
    for extracted in make(extraction).each(missing):
        folder.add(extracted)
    folder.write_record()
    return set(missing)


def test_a_folder_keeps_what_is_there(videos, tmp_path):
    assert add_all(tmp_path, {"a": videos["a"]}) == {"a"}
    before = (tmp_path / "rgb" / "a.npy").stat().st_mtime_ns
    assert add_all(tmp_path, videos) == {"b", "c"}
    assert (tmp_path / "rgb" / "a.npy").stat().st_mtime_ns == before
    assert add_all(tmp_path, videos) == set()
    extraction, known = read_record(tmp_path)
    assert (extraction, set(known)) == (SMALL, set(videos))
    assert numbers_of(np.load(tmp_path / "rgb" / "b.npy")) == EXPECTED["b"]
    assert set(json.loads(features_path(tmp_path).read_text())["versions"]) >= {"case_jax", "jax", "av"}


def test_a_video_that_changed_or_lost_a_file_is_extracted_anew(videos, tmp_path):
    path = write_images(tmp_path / "v", [numbered(1, (48, 48))] * 3)
    assert add_all(tmp_path / "F", {"v": path, "a": videos["a"]}) == {"v", "a"}
    write_images(path, [numbered(2, (48, 48))] * 4)
    assert add_all(tmp_path / "F", {"v": path, "a": videos["a"]}) == {"v"}
    (tmp_path / "F" / "rgb" / "a.npy").unlink()
    assert add_all(tmp_path / "F", {"v": path, "a": videos["a"]}) == {"a"}


def test_what_was_added_before_a_kill_is_extracted_again_at_worst(videos, tmp_path):
    folder = FolderOfFeatures(tmp_path, SMALL)
    for extracted in make().each(videos):
        folder.add(extracted)  # and then the process is killed
    extraction, known = read_record(tmp_path)
    assert extraction == SMALL
    assert set(known) < set(videos)
    assert add_all(tmp_path, videos) == set(videos) - set(known)


def test_features_of_another_extraction_are_not_mixed_in(videos, tmp_path):
    add_all(tmp_path, {"b": videos["b"]})
    other = dataclasses.replace(SMALL, stride=8)
    message = refusal(FolderOfFeatures, tmp_path, other)
    assert_parts(message, features_path(tmp_path), "stride = 16, not 8", "another folder")


def test_features_of_unknown_origin_are_not_overwritten(tmp_path):
    (tmp_path / "rgb").mkdir()
    (tmp_path / "rgb" / ".DS_Store").touch()
    FolderOfFeatures(tmp_path, SMALL)
    np.save(tmp_path / "rgb" / "mine.npy", np.zeros(3))
    message = refusal(FolderOfFeatures, tmp_path, SMALL)
    assert_parts(message, tmp_path / "rgb", "features.json is missing", "empty folder")


# The extraction of a run


def test_an_extractor_has_the_weights_of_the_run(videos, tmp_path):
    extractor = extractor_of(SMALL, {}, run="W")
    assert numbers_of(extractor.extract(videos["b"]).require()["rgb"]) == EXPECTED["b"]
    other = tmp_path / "other.pt"
    other.write_text("c" * 64)
    message = refusal(lambda: extractor_of(SMALL, {"rgb": other}, run="W"))
    assert_parts(message, "--rgb_weights", f"other.pt … {'c' * 64}", f"{SHA256['rgb']} of rgb weights … W")
    message = refusal(lambda: extractor_of(None, {}, run="W"))
    assert_parts(message, "W", "does not tell", "extract")


def test_an_error_is_raised_where_features_are_wanted():
    with pytest.raises(InputError, match=r"^v: is bad; expected a video$"):
        module.Extracted("v", {}, None, "v: is bad; expected a video").require()
