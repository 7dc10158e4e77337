"""`localize --video` with a run that was never trained and a network that tells which frames it saw."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest

from case_jax.config import CaseConfig
from case_jax.data.extraction import Extraction, Source, read_record
from case_jax.data.info import DatasetInfo
from case_jax.localizer import Localizer
from case_jax.runs.checkpoints import CheckpointStore
from case_jax.runs.settings import RunSettings
from case_jax.runs.workdir import Workdir
from tests.helpers.commands import refuse_here, run_here, succeed_here
from tests.helpers.extraction import SHA256, WIDTH, fake_network, numbers_of
from tests.helpers.refusals import assert_parts, refusal
from tests.helpers.runs import contents
from tests.helpers.videos import numbered, write_images, write_video
from tests.helpers.workdirs import results_of

EXTRACTION = Extraction({"rgb": Source("rgb weights", SHA256["rgb"])}, stride=8)
INFO = DatasetInfo(classes=("jump", "run"), streams=("rgb",), frames_per_snippet=8.0)
CONFIG = CaseConfig(num_snippets=8, hidden_dim=4, num_clusters=2, batch_size=2)
FLAGS = ("--num_workers=0", "--clips_at_once=2")


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    fake_network(monkeypatch)


def write_run(folder: Path, extraction: Extraction | None = EXTRACTION, info: DatasetInfo = INFO) -> Path:
    """A run with one checkpoint, of which every class is found everywhere."""
    workdir = Workdir(folder)
    settings = RunSettings(
        CONFIG, info, {"rgb": WIDTH}, seed=0, eval_every=1, tiou=(0.5,), extraction=extraction
    )
    workdir.begin(settings)
    with CheckpointStore(workdir.checkpoints) as store:
        store.save(settings.fresh_state(), quality=0.5)
    return workdir.path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run") / "W")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Two videos of 25 frames/s: 60 and 40 frames."""
    folder = tmp_path_factory.mktemp("videos")
    write_images(folder / "a", [numbered(k, (48, 48)) for k in range(60)])
    write_video(folder / "b c.mp4", 40, rate=25, size=(48, 48))
    return folder


def test_a_folder_of_videos_is_extracted_and_localised(run, videos, tmp_path):
    output = tmp_path / "found.json"
    printed = succeed_here(
        "localize", f"--checkpoint={run}", f"--video={videos}", f"--output={output}", *FLAGS
    )
    found = results_of(output)
    assert list(found) == ["a", "b c"]
    folder = tmp_path / "found_features"
    assert sorted(contents(folder)) == ["features.json", "rgb/a.npy", "rgb/b c.npy"]
    assert numbers_of(np.load(folder / "rgb" / "a.npy"))[1] == list(range(8, 24))
    assert read_record(folder)[0] == EXTRACTION
    # From the features alone it is the same.
    again = tmp_path / "again.json"
    succeed_here("localize", f"--checkpoint={run}", f"--features={folder}", f"--output={again}")
    assert results_of(again) == found
    assert printed.splitlines()[-1].endswith(str(output))


def test_one_video_in_the_library_is_the_same(run, videos, tmp_path):
    output = tmp_path / "found.json"
    flags = [f"--video={videos / 'b c.mp4'}", f"--features={tmp_path / 'F'}", f"--output={output}"]
    succeed_here("localize", f"--checkpoint={run}", *flags, *FLAGS)
    assert (tmp_path / "F" / "rgb" / "b c.npy").is_file()
    [entries] = results_of(output).values()
    found = Localizer.load(run).localize_video(videos / "b c.mp4")
    assert sorted((d.label, round(d.start, 3)) for d in found) == sorted(
        (entry["label"], round(entry["segment"][0], 3)) for entry in entries
    )


def test_names_may_be_listed(run, videos, tmp_path):
    (tmp_path / "names.txt").write_text("a\n")
    flags = [f"--video={videos}", f"--videos={tmp_path / 'names.txt'}", f"--output={tmp_path / 'found.json'}"]
    succeed_here("localize", f"--checkpoint={run}", *flags, *FLAGS)
    assert list(results_of(tmp_path / "found.json")) == ["a"]
    (tmp_path / "names.txt").write_text("z\n")
    assert_parts(
        refuse_here("localize", f"--checkpoint={run}", *flags, *FLAGS),
        tmp_path / "names.txt",
        "'z'",
        "videos",
    )


def test_each_shard_extracts_its_own_videos(run, videos, tmp_path):
    flags = [
        f"--checkpoint={run}",
        f"--video={videos}",
        f"--output={tmp_path / 'part.json'}",
        "--num_shards=2",
    ]
    for index, name in enumerate(("a", "b c")):
        succeed_here("localize", *flags, f"--shard_index={index}", *FLAGS)
        [output] = tmp_path.glob(f"part*0000{index}-of-00002.json")
        assert list(results_of(output)) == [name]
        features = output.with_name(f"{output.stem}_features")
        assert sorted(contents(features)) == ["features.json", f"rgb/{name}.npy"]


def test_the_page_plays_the_videos(run, videos, tmp_path):
    page = tmp_path / "pages" / "found.html"
    flags = [f"--video={videos}", f"--output={tmp_path / 'found.json'}", f"--page={page}"]
    printed = succeed_here("localize", f"--checkpoint={run}", *flags, *FLAGS)
    assert printed.splitlines()[-1] == f"page: {page}"
    text = page.read_text()
    assert re.search(r"b%20c\.mp4", text)
    assert str(videos.parent) not in text.replace("../", "")  # paths are relative


def test_a_bad_video_is_listed_and_told_by_the_status(run, videos, tmp_path):
    folder = tmp_path / "V"
    write_images(folder / "good", [numbered(k, (48, 48)) for k in range(30)])
    (folder / "bad.mp4").write_text("no video")
    flags = [f"--checkpoint={run}", f"--video={folder}", f"--output={tmp_path / 'found.json'}", *FLAGS]
    ended = run_here("localize", *flags)
    assert ended.returncode == 1
    assert ended.stdout.splitlines()[-1].startswith(f"  {folder / 'bad.mp4'}: ")
    assert list(results_of(tmp_path / "found.json")) == ["good"]
    assert_parts(refuse_here("localize", *flags, "--strict"), folder / "bad.mp4", "")
    only = [flag.replace(str(folder), str(folder / "bad.mp4")) for flag in flags]
    assert_parts(refuse_here("localize", *only), folder / "bad.mp4", "")


def test_other_weights_are_refused_with_both_hashes(run, videos, tmp_path):
    weights = tmp_path / "other.pt"
    weights.write_text("c" * 64)
    flags = [f"--checkpoint={run}", f"--video={videos}", f"--output={tmp_path / 'found.json'}", *FLAGS]
    message = refuse_here("localize", *flags, f"--rgb_weights={weights}")
    assert_parts(message, "--rgb_weights", "c" * 64, SHA256["rgb"])


def test_a_run_must_tell_how_its_features_were_extracted(videos, tmp_path):
    run = write_run(tmp_path / "W", extraction=None)
    flags = [f"--checkpoint={run}", f"--video={videos}", f"--output={tmp_path / 'found.json'}", *FLAGS]
    assert_parts(refuse_here("localize", *flags), run, "does not tell", "make_dataset")


def test_where_every_frame_is_taken_the_rate_must_be_the_runs(videos, tmp_path):
    native = Extraction(EXTRACTION.weights, fps=None, stride=8)
    run = write_run(tmp_path / "W", native, dataclasses.replace(INFO, frames_per_second=30.0))
    flags = [
        f"--checkpoint={run}",
        f"--video={videos / 'b c.mp4'}",
        f"--output={tmp_path / 'f.json'}",
        *FLAGS,
    ]
    assert_parts(refuse_here("localize", *flags), videos / "b c.mp4", "25 frames/s", "30")
    assert_parts(
        refusal(Localizer.load(run).localize_video, videos / "b c.mp4"),
        videos / "b c.mp4",
        "25 frames/s",
        "30",
    )


@pytest.mark.parametrize(
    "flags, named, wrong",
    [
        (["--features=F", "--page=p.html"], "--page", "without --video"),
        (["--video=V", "--page=p.html", "--num_shards=2", "--shard_index=0"], "--page", "--num_shards"),
        ([], "--features", "missing"),
        (["--video=no/such"], "no/such", "no such"),
    ],
)
def test_flags_that_do_not_fit(run, tmp_path, flags, named, wrong):
    message = refuse_here(
        "localize", f"--checkpoint={run}", f"--output={tmp_path / 'f.json'}", *flags, *FLAGS
    )
    assert_parts(message, named, wrong)


def test_the_run_remembers_the_extraction(run):
    settings = Workdir(run).settings()
    assert settings.extraction == EXTRACTION
    assert json.loads((run / "config.json").read_text())["extraction"]["stride"] == 8
