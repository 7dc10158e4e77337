import contextlib
import csv
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import time

import h5py
import ml_dtypes
import numpy as np
import pytest

from case_jax.localization.detections import to_activitynet
from case_jax.localization.export import as_csv, as_srt, as_webvtt
from case_jax.localizer import Localizer
from case_jax.runs.workdir import Workdir
from tests.conftest import ROOT
from tests.helpers.commands import interruptible, refuse_here, run_here, succeed_here
from tests.helpers.files import edit_json
from tests.helpers.refusals import assert_parts
from tests.helpers.runs import contents
from tests.helpers.workdirs import best_of, metrics_of, results_of

_MANY = 80  # videos of a command that is killed in their midst
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
def expected(trained, small_dataset, tmp_path_factory):
    """What a command finds with its default settings."""
    output = tmp_path_factory.mktemp("expected") / "p.json"
    features = small_dataset / "features" / "test"
    succeed_here(
        "localize", f"--checkpoint={trained.workdir}", f"--features={features}", f"--output={output}"
    )
    return json.loads(output.read_text())["results"]


def test_the_best_checkpoint_finds_again_what_training_predicted(trained, flags, tmp_path):
    """As evaluation samples videos: each as one window, of at most 193 snippets here."""
    printed = succeed_here("localize", *flags)
    best = best_of(metrics_of(trained.workdir))["step"]
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


def test_streams_in_one_file_of_which_one_is_a_snippet_longer(trained, features, flags, tmp_path, expected):
    """Beside the hidden files that macOS leaves."""
    for name in NAMES:
        rgb, flow = (np.load(features / stream / f"{name}.npy") for stream in STREAMS)
        np.savez(features / f"{name}.npz", rgb=rgb, flow=np.concatenate([flow, flow[:1]]))
        (features / f"._{name}.npz").write_bytes(b"\0\5\026\7")
    for stream in STREAMS:
        shutil.rmtree(features / stream)
    message = refuse_here("localize", *flags, "--strict")
    assert_parts(message, f"{features}/{NAMES[0]}.npz: array 'flow'", "snippets", "array 'rgb'")
    succeed_here("localize", *flags)
    assert results_of(tmp_path / "found.json") == expected


def test_files_are_read_as_those_of_the_runs_data(trained, features, flags, tmp_path, expected):
    """Here: crops of the frames, in values whose type numpy does not write."""
    workdir = shutil.copytree(trained.workdir, tmp_path / "W")
    edit_json(workdir / "config.json", lambda c: c["dataset"].update(crops="mean", dtype="bfloat16"))
    for path in features.rglob("*.npy"):
        np.save(path, np.stack([np.load(path)] * 10).astype(ml_dtypes.bfloat16))
    message = refuse_here("localize", *flags)
    assert_parts(message, features / "rgb" / f"{NAMES[0]}.npy", "bfloat16", '"dtype": "bfloat16"')
    succeed_here("localize", *flags, f"--checkpoint={workdir}")
    found = results_of(tmp_path / "found.json")
    assert list(found) == NAMES
    for name in NAMES:  # features are rounded to 8 bits
        assert {entry["label"] for entry in found[name]} == {entry["label"] for entry in expected[name]}


@pytest.mark.parametrize("window", [None, 128])
def test_the_library_finds_the_same(trained, features, flags, tmp_path, expected, window):
    localizer = Localizer.load(trained.workdir, window=window)
    assert localizer.window == (window or 193)  # the longest test video is longer than 4 T
    if window is not None:
        succeed_here("localize", *flags, f"--window={window}")
        expected = results_of(tmp_path / "found.json")
    for name in NAMES:
        listed = localizer.localize({s: np.load(features / s / f"{name}.npy") for s in STREAMS})
        rows = [(e["label"], *e["segment"], e["score"]) for e in expected[name]]
        assert sorted(rows) == sorted(map(tuple, listed))
    long = [name for name in NAMES if len(np.load(features / "rgb" / f"{name}.npy")) > 128]
    assert len(long) == 2


def test_fps_and_frames_per_snippet_scale_time(flags, tmp_path, expected):
    """Scores may change, for the published soft-NMS adds a second to every length; segments scale."""
    succeed_here("localize", *flags, "--fps=100", "--frames_per_snippet=32")  # 0.32 s in place of 0.64 s
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
def test_every_form_of_features(write, flags, features, tmp_path, expected):
    arrays = {(s, name): np.load(features / s / f"{name}.npy") for s in STREAMS for name in NAMES}
    write(arrays, tmp_path / "form")
    succeed_here("localize", *flags, f"--features={tmp_path / 'form'}")
    found = results_of(tmp_path / "found.json")
    assert found == {f"v_{name}": entries for name, entries in expected.items()}


def test_some_videos(flags, tmp_path, expected):
    (tmp_path / "some.txt").write_text(f"{NAMES[3]}.npy\r\n\n  {NAMES[1]}\nv_{NAMES[2]}\n")
    succeed_here("localize", *flags, f"--videos={tmp_path / 'some.txt'}")
    found = results_of(tmp_path / "found.json")
    assert list(found) == NAMES[1:]
    assert found == {name: expected[name] for name in NAMES[1:]}


def test_shards_make_the_whole(flags, small_dataset, tmp_path, expected):
    table = f"--csv={tmp_path / 'table.csv'}"
    for i in range(5):
        printed = succeed_here("localize", *flags, table, "--num_shards=5", f"--shard_index={i}")
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
        json.loads(succeed_here("evaluate", truth, f"--predictions={tmp_path / named}", "--json"))
        for named in ("found-*-of-00005.json", "whole.json")
    )
    assert of_shards == of_whole


def test_tables_and_subtitles(flags, tmp_path, expected):
    folders = [f"--{kind}={tmp_path / 'subtitles' / kind}" for kind in ("vtt", "srt")]
    succeed_here("localize", *flags, f"--csv={tmp_path / 'table.csv'}", *folders, "--min_score=0.25")
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
    printed = succeed_here("localize", *flags, *folders[:1])
    assert printed.startswith("4 of 4 videos were there already\n")
    assert contents(tmp_path / "subtitles") == {
        f"vtt/{name}.vtt": as_webvtt(expected[name], min_score=0.5).encode() for name in NAMES
    }


@pytest.mark.parametrize(
    "changed, named, wrong, expected",
    [
        (["--output="], "--output", "missing", "path"),
        (["--checkpoint={tmp}"], "{tmp}/config.json", "no such file", "JSON"),
        (["--features={tmp}/no"], "{tmp}/no", "no such folder", "features"),
        (["--features={tmp}/empty"], "{tmp}/empty", "no features", "rgb/<video>.npy"),
        (["--features={tmp}/alone"], "{tmp}/alone/flow/v.npy", "no such file", "array"),
        (["--features={tmp}/other"], "{tmp}/other/rgb/v.npy", "no such file", "array"),
        (["--features={tmp}/wide"], "{tmp}/wide/rgb/v.npy", "5 channels", "8 as in training"),
        (["--features={tmp}/beside"], "{tmp}/beside/v.npy", "15 channels", "16"),
        (["--output={tmp}/alone"], "{tmp}/alone", "cannot be written (Is a directory)", None),
        (["--csv={tmp}/alone"], "{tmp}/alone", "cannot be written (Is a directory)", None),
        (["--csv={tmp}/found.json"], "--csv", "{tmp}/found.json … --output", "another file"),
        (["--vtt={tmp}/found.json"], "--output", "{tmp}/found.json … --vtt", "another file"),
        (["--output={tmp}/list.txt/p.json"], "{tmp}/list.txt", "cannot be written (Not a directory)", None),
        (["--output={tmp}/list.txt", "--videos={tmp}/list.txt"], "--output", "… --videos", "another file"),
        (["--vtt={tmp}/list.txt"], "--vtt", "{tmp}/list.txt … file", "folder"),
        (["--min_score=nan"], "--min_score", "nan", "finite"),
        (["--fps=inf"], "--fps", "inf", "finite"),
        (["--fps=1e300"], "--fps", "1e+300", "1e9"),
        (["--frames_per_snippet=1e308"], "--frames_per_snippet", "1e+308", "1e9"),
        (["--shard_index=1"], "--num_shards", "missing", "--shard_index"),
        (["--num_shards=2"], "--shard_index", "missing", "--num_shards"),
        (["--num_shards=2", "--shard_index=2"], "--shard_index", "2", "--num_shards, 2"),
        (["--videos={tmp}/list.txt"], "{tmp}/list.txt", "'nobody.npy'", "{tmp}/features"),
        (["--videos={tmp}/twice.txt"], "{tmp}/twice.txt", "'synthetic_test_0000' twice", "once"),
        (["--features={tmp}/path", "--srt={tmp}/subtitles"], "{tmp}/path", r"'a\\b'", "subtitles"),
    ],
)
def test_bad_flags(changed, named, wrong, expected, flags, tmp_path):
    for folder, name, shapes in (
        ("alone", "v", {"rgb": (3, 8)}),
        ("other", "v", {"flow": (3, 8)}),
        ("wide", "v", {"rgb": (3, 5), "flow": (3, 8)}),
        ("path", "a\\b", {"rgb": (3, 8), "flow": (3, 8)}),
    ):
        for stream in STREAMS:
            (tmp_path / folder / stream).mkdir(parents=True)
        for stream, shape in shapes.items():
            np.save(tmp_path / folder / stream / f"{name}.npy", np.zeros(shape, np.float32))
    (tmp_path / "empty").mkdir()
    (tmp_path / "beside").mkdir()
    np.save(tmp_path / "beside" / "v.npy", np.zeros((3, 15), np.float32))
    (tmp_path / "list.txt").write_text("synthetic_test_0000\nnobody.npy\n")
    (tmp_path / "twice.txt").write_text("synthetic_test_0000\nv_synthetic_test_0000\n")
    before = sorted(tmp_path.rglob("*"))
    message = refuse_here("localize", *flags, *(flag.replace("{tmp}", str(tmp_path)) for flag in changed))
    named, wrong = (text.replace("{tmp}", str(tmp_path)) for text in (named, wrong))
    if expected is None:
        assert message == f"{named}: {wrong}"
    else:
        assert_parts(message, named, wrong, expected.replace("{tmp}", str(tmp_path)))
    assert sorted(tmp_path.rglob("*")) == before


# Going on where a command stopped. When it opens the last of four videos, the first one is finished, and
# the two in between are under way.


@pytest.fixture
def uninterrupted(flags, tmp_path):
    """The bytes that a command writes which finds no earlier output."""
    succeed_here("localize", *flags, f"--output={tmp_path / 'uninterrupted.json'}")
    return (tmp_path / "uninterrupted.json").read_bytes()


@contextlib.contextmanager
def spoilt(path):
    """A file of features holds a number that is not finite; afterwards it is as before, with its old time."""
    good, status = path.read_bytes(), os.stat(path)
    array = np.load(path)
    array[7, 3] = np.nan
    np.save(path, array)
    yield
    path.write_bytes(good)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_bad_videos_are_left_out_named_and_tried_again(flags, features, tmp_path, uninterrupted):
    output, partial = tmp_path / "found.json", tmp_path / "found.json.partial"
    whole = json.loads(uninterrupted)
    nan, gone = features / "flow" / f"{NAMES[0]}.npy", features / "rgb" / f"{NAMES[2]}.npy"
    expected = [NAMES[1], NAMES[3]]
    with spoilt(nan):
        gone.rename(tmp_path / "kept.npy")
        for already in (0, 2):
            ended = run_here("localize", *flags)
            lines = ended.stdout.splitlines()
            assert (ended.returncode, ended.stderr) == (1, "")
            assert lines[-3] == "2 videos cannot be read:"
            assert_parts(lines[-2].strip(), nan, "snippet 7, channel 3 … nan", "finite")
            assert_parts(lines[-1].strip(), gone, "no such file", "array")
            assert lines[-4].endswith(f": {output}")
            assert (f"{already} of 4 videos were there already" in lines) == bool(already)
            assert results_of(output) == {name: whole["results"][name] for name in expected}
            assert not partial.exists()
        assert_parts(refuse_here("localize", *flags, "--strict"), gone, "no such file", "array")
        (tmp_path / "bad.txt").write_text(NAMES[0])
        message = refuse_here(
            "localize", *flags, f"--output={tmp_path / 'n.json'}", f"--videos={tmp_path}/bad.txt"
        )
        assert_parts(message, nan, "snippet 7, channel 3 … nan", "finite")  # there is nothing else to write
        assert not (tmp_path / "n.json").exists()
    (tmp_path / "kept.npy").rename(gone)
    assert succeed_here("localize", *flags).splitlines()[0] == "2 of 4 videos were there already"
    assert output.read_bytes() == uninterrupted


def test_streams_that_differ_by_one_snippet_are_cut_and_counted(flags, features, tmp_path):
    (tmp_path / "one.txt").write_text(NAMES[1])
    path = features / "flow" / f"{NAMES[1]}.npy"
    np.save(path, np.load(path)[:-1])
    flags = [*flags, f"--videos={tmp_path / 'one.txt'}"]
    assert_parts(refuse_here("localize", *flags, "--strict"), path, "snippets", "as in")
    printed = succeed_here("localize", *flags).splitlines()
    assert printed[0] == "1 of 1 videos have a stream cut by one snippet"
    assert len(printed) == 2


def test_with_strict_a_bad_file_stops_and_a_mended_one_goes_on(flags, features, tmp_path, uninterrupted):
    output, partial = tmp_path / "found.json", tmp_path / "found.json.partial"
    path = features / "flow" / f"{NAMES[2]}.npy"
    with spoilt(path):
        message = refuse_here("localize", *flags, "--window=200", "--strict")
        assert_parts(message, path, "snippet 7, channel 3 … nan", "finite")
        _stops_and_goes_on(flags, output, partial)
    printed = succeed_here("localize", *flags).splitlines()
    assert printed[0] == "1 of 4 videos were there already"
    assert len(printed) == 2
    assert output.read_bytes() == uninterrupted
    assert not partial.exists()


def _stops_and_goes_on(flags, output, partial):
    assert len(partial.read_text().splitlines()) == 3  # the identity, and the two videos before
    assert not output.exists()

    # Other settings begin anew.
    assert run_here("localize", *flags, "--strict").returncode == 2
    lines = partial.read_text().splitlines()
    assert json.loads(lines[0])["window"] == 193
    assert [json.loads(line)["video"] for line in lines[1:]] == NAMES[:2]

    # A line that was torn when the power failed does not count as a video.
    partial.write_text("\n".join([*lines[:2], lines[2][: len(lines[2]) // 2]]))


def test_the_output_of_another_checkpoint_is_not_used(flags, tmp_path, uninterrupted):
    partial = tmp_path / "found.json.partial"
    partial.write_text(json.dumps({"step": 1}) + "\n" + json.dumps({"video": NAMES[0]}) + "\n")
    printed = succeed_here("localize", *flags).splitlines()
    assert printed[0].startswith(f"{partial}: ")
    assert "another checkpoint" in printed[0]
    assert len(printed) == 2
    assert (tmp_path / "found.json").read_bytes() == uninterrupted
    assert not partial.exists()
    # The last checkpoint is another one than the best, so nothing of the best one's output is used.
    printed = succeed_here("localize", *flags, "--which=last").splitlines()
    assert len(printed) == 1
    assert (tmp_path / "found.json").read_bytes() != uninterrupted


def test_a_finished_output_is_made_again_where_features_have_changed(
    flags, features, tmp_path, uninterrupted
):
    output = tmp_path / "uninterrupted.json"
    flags = [*flags, f"--output={output}"]
    assert succeed_here("localize", *flags).splitlines()[0] == "4 of 4 videos were there already"
    assert output.read_bytes() == uninterrupted
    made = os.stat(output).st_mtime_ns
    os.utime(features / "rgb" / f"{NAMES[1]}.npy", ns=(made + 1, made + 1))
    path = features / "flow" / f"{NAMES[3]}.npy"
    np.save(path, 2 * np.load(path))
    os.utime(path, ns=(made + 1, made + 1))
    path = features / "rgb" / f"{NAMES[0]}.npy"
    np.save(path, np.load(path)[::-1])
    os.utime(path, ns=(made - 10**12, made - 10**12))  # as `cp -p` and `tar x` do
    assert succeed_here("localize", *flags).splitlines()[:2] == [
        "3 of 4 videos that were done have other features now, and are localised again",
        "1 of 4 videos were there already",
    ]
    before, after = json.loads(uninterrupted), json.loads(output.read_bytes())
    assert [before["results"][name] == after["results"][name] for name in NAMES] == [False, True, True, False]
    marks = [content["external_data"].pop("features_of") for content in (before, after)]
    assert [marks[0][name] == marks[1][name] for name in NAMES] == [False, False, True, False]
    assert before["external_data"] == after["external_data"]


def test_the_output_of_an_earlier_version_is_used(flags, tmp_path, uninterrupted):
    output = tmp_path / "found.json"
    content = json.loads(uninterrupted)
    del content["external_data"]["features_of"]
    output.write_text(json.dumps(content))
    assert succeed_here("localize", *flags).splitlines()[0] == "4 of 4 videos were there already"
    assert output.read_bytes() == uninterrupted


def test_settings_of_test_time_may_be_tried(trained, features, flags, tmp_path, expected):
    """As with --mode=evaluate of training."""
    tried = ["--class_threshold=0.02", "--video_score=probability", "--proposal_thresholds=0.02,0.3"]
    succeed_here("localize", *flags, *tried)
    found = results_of(tmp_path / "found.json")
    settings, state = Workdir(trained.workdir).load("best")
    config = dataclasses.replace(
        settings.config, class_threshold=0.02, video_score="probability", proposal_thresholds=(0.02, 0.3)
    )
    localizer = Localizer(settings._replace(config=config), state)
    for name in NAMES:
        video = {stream: np.load(features / stream / f"{name}.npy") for stream in STREAMS}
        detections = localizer.detect(video)
        assert to_activitynet({name: detections}, localizer.classes)["results"][name] == found[name]
    assert found != expected
    assert_parts(
        refuse_here("localize", *flags, "--class_threshold=2"), "--class_threshold", "2.0", "0 and 1"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "how",
    [signal.SIGINT, signal.SIGKILL],
)
def test_a_killed_command_goes_on(how, flags, features, tmp_path, environment):
    for stream in STREAMS:
        for i in range(_MANY):
            (features / stream / f"{i:04d}.npy").symlink_to(features / stream / f"{NAMES[i % 4]}.npy")
    command = interruptible("-m", "experiments.localize", *flags, "--window=200")
    partial, total = tmp_path / "found.json.partial", _MANY + len(NAMES)
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while process.poll() is None and not (partial.exists() and partial.read_bytes().count(b"\n") > 1):
            time.sleep(0.01)
        process.send_signal(how)
        out, err = process.communicate(timeout=120)
    assert out == ""
    done = partial.read_bytes().count(b"\n") - 1
    assert 0 < done < total
    if how == signal.SIGKILL:
        assert process.returncode == -how
    else:
        assert process.returncode == 128 + how
        said = f"{{}} of {total} videos are done; the same command goes on with the others\n"
        assert err in [f"interrupted: {said.format(n)}" for n in (done - 1, done)]
    assert not (tmp_path / "found.json").exists()
    printed = succeed_here("localize", *flags, "--window=200").splitlines()
    assert printed[0] == f"{done} of {total} videos were there already"
    resumed = (tmp_path / "found.json").read_bytes()
    succeed_here("localize", *flags, "--window=200", f"--output={tmp_path / 'uninterrupted.json'}")
    assert (tmp_path / "uninterrupted.json").read_bytes() == resumed


def test_rescaled_training_tells_no_time(trained, flags, tmp_path):
    workdir = tmp_path / "rescaled"
    shutil.copytree(trained.workdir, workdir)
    config = json.loads((workdir / "config.json").read_text())
    config["dataset"]["rescaled"] = True
    (workdir / "config.json").write_text(json.dumps(config))
    flags = [f"--checkpoint={workdir}", *flags[1:]]
    message = refuse_here("localize", *flags)
    assert_parts(message, workdir, "rescaled", "--fps … --frames_per_snippet")
    succeed_here("localize", *flags, "--fps=25", "--frames_per_snippet=16")


def test_a_part_of_a_run_is_told_from_the_run(trained, flags):
    place = trained.workdir / "checkpoints"
    message = refuse_here("localize", *flags, f"--checkpoint={place}")
    assert message == f"{place}: is a part of a run; expected the run's folder, {trained.workdir}"


def test_a_damaged_checkpoint_is_named(trained, flags, tmp_path):
    workdir = shutil.copytree(trained.workdir, tmp_path / "workdir")
    metadata = workdir / "checkpoints" / "6" / "default" / "_METADATA"
    metadata.write_bytes(metadata.read_bytes()[:20])
    message = refuse_here("localize", *flags, f"--checkpoint={workdir}", "--which=last")
    assert_parts(message, f"{workdir}/checkpoints/6", "cannot be restored", "checkpoint")
    assert not (tmp_path / "found.json").exists()


def _segments(detections):
    rows = sorted((entry["label"], *entry["segment"]) for entry in detections)
    return np.array([row[1:] for row in rows])
