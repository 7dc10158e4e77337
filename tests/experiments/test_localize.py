import csv
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

from case_jax.data.feature_folders import find_sources
from case_jax.data.feature_files import check_shapes
from case_jax.data.formats import Source, open_source
from case_jax.errors import InputError
from case_jax.localization.export import as_csv, as_srt, as_webvtt
from case_jax.localizer import Localizer
from tests.conftest import ROOT
from tests.experiments.conftest import contents

NAMES = [f"synthetic_test_{i:04d}" for i in range(4)]
STREAMS = ("rgb", "flow")


@pytest.fixture
def features(small_dataset, tmp_path):
    """A copy of the test videos' features that may be changed."""
    return shutil.copytree(small_dataset / "features" / "test", tmp_path / "features")


@pytest.fixture
def flags(trained, features, tmp_path):
    return [
        f"--checkpoint={trained.workdir}",
        f"--features={features}",
        f"--output={tmp_path / 'found.json'}",
    ]


@pytest.fixture(scope="module")
def expected(trained, small_dataset, tmp_path_factory, succeed):
    """What an uninterrupted command finds, with all its default settings."""
    output = tmp_path_factory.mktemp("expected") / "p.json"
    features = small_dataset / "features" / "test"
    succeed("localize", f"--checkpoint={trained.workdir}", f"--features={features}", f"--output={output}")
    return json.loads(output.read_text())["results"]


def results_of(path):
    return json.loads(path.read_text())["results"]


def test_the_best_checkpoint_finds_again_what_training_predicted(trained, flags, tmp_path, succeed):
    """As evaluation samples videos: each as one window, of at most 193 snippets here."""
    printed = succeed("localize", *flags)
    rows = [json.loads(line) for line in (trained.workdir / "metrics.jsonl").read_text().splitlines()]
    best = max(rows, key=lambda row: row["average"])["step"]
    found, evaluated = (
        results_of(p) for p in (tmp_path / "found.json", trained.workdir / "predictions.json")
    )
    assert list(found) == list(evaluated) == NAMES
    for name in NAMES:
        assert [e["label"] for e in found[name]] == [e["label"] for e in evaluated[name]]
        for key in ("score", "segment"):
            ours, theirs = ([entry[key] for entry in entries[name]] for entries in (found, evaluated))
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
    assert printed == (
        f"{sum(map(len, found.values()))} detections in 4 videos, by the best checkpoint (step {best}): "
        f"{tmp_path / 'found.json'}\n"
    )
    assert not (tmp_path / "found.json.partial").exists()


@pytest.mark.parametrize("window", [None, 128])
def test_it_is_the_library_at_work(trained, features, flags, tmp_path, expected, succeed, window):
    localizer = Localizer.load(trained.workdir, window=window)
    assert localizer.window == (window or 193)  # the longest test video is longer than 4 T
    if window is not None:
        succeed("localize", *flags, f"--window={window}")
        expected = results_of(tmp_path / "found.json")
    for name in NAMES:
        listed = localizer.localize({s: np.load(features / s / f"{name}.npy") for s in STREAMS})
        rows = [(e["label"], *e["segment"], e["score"]) for e in expected[name]]
        assert sorted(rows) == sorted(map(tuple, listed))
    long = [name for name in NAMES if len(np.load(features / "rgb" / f"{name}.npy")) > 128]
    assert len(long) == 2


def test_fps_and_frames_per_snippet_scale_time(flags, tmp_path, succeed, expected):
    """Scores may change, for the published soft-NMS adds a second to every length; segments scale."""
    succeed("localize", *flags, "--fps=100", "--frames_per_snippet=32")  # 0.32 s in place of 0.64 s
    found = results_of(tmp_path / "found.json")
    assert list(found) == list(expected)
    for name in expected:
        np.testing.assert_allclose(_segments(found[name]), _segments(expected[name]) / 2, rtol=1e-12)


def _as_csv(features, folder):
    for stream in STREAMS:
        (folder / stream).mkdir(parents=True)
        for name in NAMES:
            np.savetxt(folder / stream / f"v_{name}.csv", features[stream, name], delimiter=",", fmt="%.9g")


def _side_by_side(features, folder):
    folder.mkdir()
    for name in NAMES:
        np.save(folder / f"v_{name}.npy", np.concatenate([features[s, name] for s in STREAMS], axis=1))


def _as_hdf5(features, folder):
    folder.mkdir()
    for stream in STREAMS:
        with h5py.File(folder / f"{stream}.h5", "w") as file:
            for name in NAMES:
                file[f"v_{name}"] = features[stream, name].astype(np.float64)


def _as_hdf5_side_by_side(features, folder):
    folder.mkdir()
    with h5py.File(folder / "features.hdf5", "w") as file:
        for name in NAMES:
            file[f"v_{name}"] = np.concatenate([features[s, name] for s in STREAMS], axis=1)


def _in_parts(features, folder):
    for i, name in enumerate(NAMES):
        for stream in STREAMS:
            part = folder / "features" / f"part{i % 2}" / stream
            part.mkdir(parents=True, exist_ok=True)
            np.save(part / f"v_{name}.npy", features[stream, name])


@pytest.mark.parametrize("write", [_as_csv, _side_by_side, _as_hdf5, _as_hdf5_side_by_side, _in_parts])
def test_every_form_of_features(write, flags, features, tmp_path, succeed, expected):
    arrays = {(s, name): np.load(features / s / f"{name}.npy") for s in STREAMS for name in NAMES}
    write(arrays, tmp_path / "form")
    succeed("localize", *flags, f"--features={tmp_path / 'form'}")
    found = results_of(tmp_path / "found.json")
    assert found == {f"v_{name}": entries for name, entries in expected.items()}


def test_streams_side_by_side_need_not_be_equally_wide_if_widths_are_known(tmp_path):
    array = np.arange(30, dtype=np.float32).reshape(3, 10)
    np.save(tmp_path / "v.npy", array)
    (sources,) = find_sources(tmp_path, STREAMS, widths={"rgb": 6, "flow": 4})[0].values()
    np.testing.assert_array_equal(open_source(sources["rgb"]), array[:, :6])
    np.testing.assert_array_equal(open_source(sources["flow"]), array[:, 6:])
    with pytest.raises(InputError) as raised:
        find_sources(tmp_path, STREAMS, widths={"rgb": 6, "flow": 6})
    assert str(raised.value) == (
        f"{tmp_path}/v.npy: has 10 channels; expected 12, those of rgb (6) and flow (6) side by side"
    )


def test_a_csv_file_is_read_once(tmp_path):
    path = tmp_path / "v.csv"
    path.write_text("1,2,3\n4,5,6\n")
    sources = {"rgb": Source(path, columns=(0, 1, 3)), "flow": Source(path, columns=(1, 3, 3))}
    files = check_shapes(sources, {}, keep=True)
    path.unlink()
    for _ in range(2):
        assert files["rgb"].tolist() == [[1], [4]]
        assert files["flow"].tolist() == [[2, 3], [5, 6]]
    assert files["rgb"].base is files["flow"].base


def test_some_videos(flags, tmp_path, succeed, expected):
    (tmp_path / "some.txt").write_text(f"{NAMES[3]}.npy\r\n\n  {NAMES[1]}\nv_{NAMES[2]}\n")
    succeed("localize", *flags, f"--videos={tmp_path / 'some.txt'}")
    found = results_of(tmp_path / "found.json")
    assert list(found) == NAMES[1:]
    assert found == {name: expected[name] for name in NAMES[1:]}


def test_shards_make_the_whole(flags, small_dataset, tmp_path, succeed, expected):
    table = f"--csv={tmp_path / 'table.csv'}"
    for i in range(5):
        printed = succeed("localize", *flags, table, "--num_shards=5", f"--shard_index={i}")
        assert f" in {int(i < 4)} videos, " in printed
    found = [results_of(tmp_path / f"found-{i:05d}-of-00005.json") for i in range(5)]
    assert [list(shard) for shard in found] == [[NAMES[0]], [NAMES[1]], [NAMES[2]], [NAMES[3]], []]
    assert {name: entries for shard in found for name, entries in shard.items()} == expected
    assert (tmp_path / "table-00004-of-00005.csv").read_text() == as_csv({})
    assert (tmp_path / "table-00002-of-00005.csv").read_text() == as_csv({NAMES[2]: expected[NAMES[2]]})
    assert not [*tmp_path.glob("*.partial"), *tmp_path.glob("found.json"), *tmp_path.glob("table.csv")]

    truth = f"--ground_truth={small_dataset / 'gt.json'}"
    (tmp_path / "whole.json").write_text(json.dumps({"results": expected}))
    of_shards, of_whole = (
        json.loads(succeed("evaluate", truth, f"--predictions={tmp_path / named}", "--json"))
        for named in ("found-*-of-00005.json", "whole.json")
    )
    assert of_shards == of_whole


def test_tables_and_subtitles(flags, tmp_path, succeed, expected):
    folders = [f"--{kind}={tmp_path / 'subtitles' / kind}" for kind in ("vtt", "srt")]
    succeed("localize", *flags, f"--csv={tmp_path / 'table.csv'}", *folders, "--min_score=0.25")
    assert (tmp_path / "table.csv").read_text() == as_csv(expected)
    with open(tmp_path / "table.csv") as file:
        assert len([*csv.reader(file)]) == 1 + sum(map(len, expected.values()))
    assert contents(tmp_path / "subtitles") == {
        f"{kind}/{name}.{kind}": as_text(expected[name], min_score=0.25).encode()
        for kind, as_text in (("srt", as_srt), ("vtt", as_webvtt))
        for name in NAMES
    }
    assert any("-->" in as_srt(entries, min_score=0.25) for entries in expected.values())

    # From the detections that are there, without localising anything.
    shutil.rmtree(tmp_path / "subtitles")
    printed = succeed("localize", *flags, *folders[:1])
    assert printed.startswith("4 of 4 videos were there already\n")
    assert contents(tmp_path / "subtitles") == {
        f"vtt/{name}.vtt": as_webvtt(expected[name], min_score=0.5).encode() for name in NAMES
    }


@pytest.mark.parametrize(
    "changed, message",
    [
        (["--output="], "--output: is missing; expected the path of a JSON file to write"),
        (["--checkpoint={tmp}"], "{tmp}/config.json: no such file; expected a JSON file"),
        (["--features={tmp}/no"], "{tmp}/no: no such folder; expected features of videos in it"),
        (
            ["--features={tmp}/empty"],
            "{tmp}/empty: holds no features; expected rgb/<video>.npy and flow/<video>.npy, <video>.npy, "
            ".csv or HDF5 files",
        ),
        (
            ["--features={tmp}/alone"],
            "{tmp}/alone/flow/v.npy: no such file; expected a .npy file with a (snippets, channels) array of "
            "numbers",
        ),
        (
            ["--features={tmp}/other"],
            "{tmp}/other/rgb/v.npy: no such file; expected a .npy file with a (snippets, channels) array of "
            "numbers",
        ),
        (
            ["--features={tmp}/wide"],
            "{tmp}/wide: stream 'rgb' has 5 channels; expected 8 as in training",
        ),
        (
            ["--features={tmp}/long"],
            "{tmp}/long/flow/v.npy: has 4 snippets; expected 3 as in {tmp}/long/rgb/v.npy",
        ),
        (
            ["--features={tmp}/beside"],
            "{tmp}/beside/v.npy: has 15 channels; expected 16, those of rgb (8) and flow (8) side by side",
        ),
        (["--output={tmp}/alone"], "{tmp}/alone: cannot be written (Is a directory)"),
        (["--csv={tmp}/alone"], "{tmp}/alone: cannot be written (Is a directory)"),
        (["--csv={tmp}/found.json"], "--csv: is {tmp}/found.json, as --output; expected another file"),
        (["--vtt={tmp}/list.txt"], "--vtt: {tmp}/list.txt is a file; expected a folder"),
        (["--min_score=nan"], "--min_score: is nan; expected a finite number"),
        (["--fps=inf"], "--fps: is inf; expected a finite number"),
        (["--shard_index=1"], "--num_shards: is missing; expected it with --shard_index"),
        (["--num_shards=2"], "--shard_index: is missing; expected it with --num_shards"),
        (
            ["--num_shards=2", "--shard_index=2"],
            "--shard_index: is 2; expected less than --num_shards, 2",
        ),
        (
            ["--videos={tmp}/list.txt"],
            "{tmp}/list.txt: names 'nobody.npy'; expected videos with features in {tmp}/features",
        ),
        (
            ["--videos={tmp}/twice.txt"],
            "{tmp}/twice.txt: names 'synthetic_test_0000' twice; expected each video once",
        ),
        (
            ["--features={tmp}/path", "--srt={tmp}/subtitles"],
            "{tmp}/path: has video 'a\\\\b'; expected names that are no paths, for subtitles",
        ),
    ],
)
def test_errors(changed, message, flags, tmp_path, fail):
    _write_features(tmp_path / "alone", rgb=(3, 8))
    _write_features(tmp_path / "other", flow=(3, 8))
    _write_features(tmp_path / "wide", rgb=(3, 5), flow=(3, 8))
    _write_features(tmp_path / "long", rgb=(3, 8), flow=(4, 8))
    _write_features(tmp_path / "path", name="a\\b", rgb=(3, 8), flow=(3, 8))
    (tmp_path / "empty").mkdir()
    (tmp_path / "beside").mkdir()
    np.save(tmp_path / "beside" / "v.npy", np.zeros((3, 15), np.float32))
    (tmp_path / "list.txt").write_text("synthetic_test_0000\nnobody.npy\n")
    (tmp_path / "twice.txt").write_text("synthetic_test_0000\nv_synthetic_test_0000\n")
    before = sorted(tmp_path.rglob("*"))
    changed = [flag.format(tmp=tmp_path) for flag in changed]
    assert fail("localize", *flags, *changed) == message.format(tmp=tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


# Going on where a command stopped. When the fourth of four videos is opened, the first is done and the two in
# between are under way.


@pytest.fixture
def uninterrupted(flags, tmp_path, succeed):
    """The bytes of a command that finds nothing there already."""
    succeed("localize", *flags, f"--output={tmp_path / 'uninterrupted.json'}")
    return (tmp_path / "uninterrupted.json").read_bytes()


def test_a_bad_file_stops_and_a_mended_one_goes_on(flags, features, tmp_path, uninterrupted, succeed, fail):
    output, partial = tmp_path / "found.json", tmp_path / "found.json.partial"
    path = features / "flow" / f"{NAMES[2]}.npy"
    good = np.load(path)
    bad = good.copy()
    bad[7, 3] = np.nan
    np.save(path, bad)
    assert fail("localize", *flags, "--window=200") == (
        f"{path}: snippet 7, channel 3 is nan; expected finite numbers"
    )
    assert len(partial.read_text().splitlines()) == 3  # of what it is, and the two videos before
    assert not output.exists()

    # Other settings begin anew.
    assert fail("localize", *flags) == f"{path}: snippet 7, channel 3 is nan; expected finite numbers"
    lines = partial.read_text().splitlines()
    assert json.loads(lines[0])["window"] == 193
    assert [json.loads(line)["video"] for line in lines[1:]] == NAMES[:2]

    # A line that was being written when the power failed is no video.
    partial.write_text("\n".join([*lines[:2], lines[2][: len(lines[2]) // 2]]))
    np.save(path, good)
    printed = succeed("localize", *flags).splitlines()
    assert printed[0] == "1 of 4 videos were there already"
    assert len(printed) == 2
    assert output.read_bytes() == uninterrupted
    assert not partial.exists()


def test_what_is_of_another_checkpoint_is_not_used(flags, trained, tmp_path, uninterrupted, succeed):
    partial = tmp_path / "found.json.partial"
    partial.write_text(json.dumps({"step": 1}) + "\n" + json.dumps({"video": NAMES[0]}) + "\n")
    printed = succeed("localize", *flags).splitlines()
    assert printed[0] == f"{partial}: is of another checkpoint or other settings; starting anew"
    assert len(printed) == 2
    assert (tmp_path / "found.json").read_bytes() == uninterrupted
    assert not partial.exists()
    # The last checkpoint is another one, so nothing of the best one's output is used.
    printed = succeed("localize", *flags, "--which=last").splitlines()
    assert len(printed) == 1
    assert (tmp_path / "found.json").read_bytes() != uninterrupted


def test_a_finished_output_is_made_again_where_features_have_changed(
    flags, features, tmp_path, uninterrupted, succeed
):
    output = tmp_path / "uninterrupted.json"
    flags = [*flags, f"--output={output}"]
    assert succeed("localize", *flags).splitlines()[0] == "4 of 4 videos were there already"
    assert output.read_bytes() == uninterrupted
    made = os.stat(output).st_mtime_ns
    os.utime(features / "rgb" / f"{NAMES[1]}.npy", ns=(made + 1, made + 1))
    path = features / "flow" / f"{NAMES[3]}.npy"
    np.save(path, 2 * np.load(path))
    os.utime(path, ns=(made + 1, made + 1))
    assert succeed("localize", *flags).splitlines()[0] == "2 of 4 videos were there already"
    before, after = json.loads(uninterrupted), json.loads(output.read_bytes())
    assert [before["results"][name] == after["results"][name] for name in NAMES] == [True, True, True, False]
    assert before["external_data"] == after["external_data"]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_killed_command_goes_on(how, flags, features, tmp_path, environment, succeed):
    path = features / "rgb" / f"{NAMES[3]}.npy"
    path.rename(tmp_path / "kept.npy")
    os.mkfifo(path)  # whoever opens it to read waits for a writer
    command = [sys.executable, "-m", "experiments.localize", *flags, "--window=200"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        writer = _open_once_read(path, process)
        process.send_signal(how)
        out, err = process.communicate(timeout=120)
    os.close(writer)
    assert out == ""
    if how == signal.SIGKILL:
        assert process.returncode == -how
    else:
        assert process.returncode == 128 + how
        assert err == "interrupted: 1 of 4 videos are done; the same command goes on with the others\n"
    assert not (tmp_path / "found.json").exists()
    (tmp_path / "kept.npy").replace(path)
    printed = succeed("localize", *flags, "--window=200").splitlines()
    assert printed[0] == "1 of 4 videos were there already"
    resumed = (tmp_path / "found.json").read_bytes()
    succeed("localize", *flags, "--window=200", f"--output={tmp_path / 'uninterrupted.json'}")
    assert (tmp_path / "uninterrupted.json").read_bytes() == resumed


def _open_once_read(fifo, process):
    """Opens a named pipe to write as soon as the process has opened it to read."""
    while process.poll() is None:
        try:
            return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:  # that nobody reads
                raise
            time.sleep(0.01)
    raise AssertionError(process.communicate())


def test_rescaled_training_tells_no_time(trained, flags, tmp_path, succeed, fail):
    workdir = tmp_path / "rescaled"
    shutil.copytree(trained.workdir, workdir)
    config = json.loads((workdir / "config.json").read_text())
    config["dataset"]["rescaled"] = True
    (workdir / "config.json").write_text(json.dumps(config))
    flags = [f"--checkpoint={workdir}", *flags[1:]]
    assert fail("localize", *flags) == (
        f"{workdir}: was trained on rescaled features, which tell no time; expected --fps and "
        "--frames_per_snippet of these"
    )
    succeed("localize", *flags, "--fps=25", "--frames_per_snippet=16")


def test_a_damaged_checkpoint_is_named(trained, flags, tmp_path, fail):
    workdir = shutil.copytree(trained.workdir, tmp_path / "workdir")
    metadata = workdir / "checkpoints" / "6" / "default" / "_METADATA"
    metadata.write_bytes(metadata.read_bytes()[:20])
    message = fail("localize", *flags, f"--checkpoint={workdir}", "--which=last")
    assert message.startswith(f"{workdir}/checkpoints/6: cannot be restored (")
    assert message.endswith("); expected a checkpoint of this run's settings")
    assert not (tmp_path / "found.json").exists()


def _segments(detections):
    rows = sorted((entry["label"], *entry["segment"]) for entry in detections)
    return np.array([row[1:] for row in rows])


def _write_features(folder, name="v", **shapes):
    for stream in STREAMS:
        (folder / stream).mkdir(parents=True)
        if stream in shapes:
            np.save(folder / stream / f"{name}.npy", np.zeros(shapes[stream], np.float32))
