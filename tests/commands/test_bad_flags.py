"""Bad flags and bad files, for every command: status 2, one line on standard error, nothing written.

What a command's own flags may be is tested with that command, and how files are read with their readers.
"""

import json
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from case_jax.commands import COMMANDS
from case_jax.runs.checkpoints import CheckpointStore
from case_jax.runs.workdir import Workdir
from tests.helpers.commands import refuse_here, run_here
from tests.helpers.files import ONES, Trap, npy, torch_file
from tests.helpers.published import published_arrays
from tests.helpers.refusals import assert_parts, bad
from tests.helpers.runs import SETTINGS
from tests.helpers.wtalc import objects, write_wtalc

# Flags and flagfiles. All commands share the parser, so one of them stands for all.


@pytest.fixture
def flagfiles(tmp_path) -> Path:
    for name, content in {
        "unknown": b"# not a flag\n--tiuo=0.5\n",
        "type": b"--max_proposals=many\n",
        "binary": npy(ONES),
        "null": b"--flagfile=a\0b\n",
    }.items():
        (tmp_path / f"{name}.flags").write_bytes(content)
    return tmp_path


@pytest.mark.parametrize(
    "flag, named, wrong, expected",
    [
        bad("unknown", "--tiuo=0.5", "--tiuo", "flag of this command", "--help, such as --tiou"),
        bad("not a number", "--max_proposals=many", "--max_proposals", "'many'", "number >= 1"),
        bad("below the range", "--max_proposals=0", "--max_proposals", "'0'", "number >= 1"),
        bad("a colon", "--max_proposals=1: 2", "--max_proposals", "'1: 2'", "number >= 1"),
        bad("not a choice", "--metric=recall", "--metric", "'recall'", "map, ar"),
        bad("not a boolean", "--json=perhaps", "--json", "'perhaps'", "--json or --nojson"),
        bad("a value of no", "--nojson=1", "--nojson", "has a value", "--json or --nojson"),
        bad("no value at the end", "--subset", "--subset", "no value", "text"),
        bad("no flag", "0.5", "0.5", "flag", "--flag=value"),
        bad("no flagfile", "--flagfile={}/gone", "--flagfile", "No such file … '{}/gone'", "text file"),
        bad("a folder", "--flagfile={}", "--flagfile", "Is a directory: '{}'", "text file"),
        bad("no value of flagfile", "--flagfile", "--flagfile", "no value", "text file"),
        bad("unknown in a file", "--flagfile={}/unknown.flags", "--tiuo", "flag", "--tiou"),
        bad("type in a file", "--flagfile={}/type.flags", "--max_proposals", "'many'", "number"),
        bad("NUL in a file", "--flagfile={}/null.flags", "--flagfile", "null byte", "--help"),
        bad("not text", "--flagfile={}/binary.flags", "--flagfile", "byte 0", "text file"),
    ],
)
def test_flags_that_cannot_be_parsed(flag, named, wrong, expected, flagfiles):
    message = refuse_here("evaluate", flag.replace("{}", str(flagfiles)))
    assert_parts(message, named, wrong.replace("{}", str(flagfiles)), expected)


def test_a_flagfile_that_includes_itself_is_read_once(tmp_path):
    """absl warns, and goes on."""
    path = tmp_path / "recursive.flags"
    path.write_text(f"--flagfile={path}\n--metric=recall\n")
    ended = run_here("evaluate", f"--flagfile={path}")
    assert ended.returncode == 2
    warning, error = ended.stderr.splitlines()
    assert warning == f"Warning: Hit circular flagfile dependency. Ignoring flagfile: {path}"
    assert error.startswith("error: --metric: is 'recall'; ")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_refuses_other_flags_and_arguments(command):
    assert_parts(refuse_here(command, "--no_such_flag=1"), "--no_such_flag", "flag", "--help")
    assert_parts(refuse_here(command, "file.json"), "file.json", "flag", "--flag=value")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_names_the_first_flag_that_is_missing(command):
    message = refuse_here(command)
    named, separator, _ = message.partition(": is missing; expected ")
    assert separator, message
    assert named.startswith("--")


# Files


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with good files of all kinds and, beside them, bad ones; read only."""
    folder = tmp_path_factory.mktemp("place")
    annotation = {"label": "Jump", "segment": [0.5, 1]}
    splits = {"a": "train", "b": "train", "c": "test"}
    database = {name: {"subset": split, "annotations": [annotation]} for name, split in splits.items()}
    results = {"c": [{"label": "Jump", "score": 0.5, "segment": [0, 1]}]}
    network = published_arrays()  # of the sizes of SETTINGS
    files = {
        "gt.json": {"database": database},
        "p.json": {"results": results},
        "cut.json": b'{"results": {"c": [',
        "half.json": {"database": {"c": {"subset": "test", "annotations": [{"label": "\ud800"}]}}},
        "p-00000-of-00002.json": {"results": results},
        "videos.txt": b"a\n../b\n",
        "unknown.txt": b"a\nz\n",
        "broken/rgb/v.npy": npy(ONES)[:-1],
        "broken/flow/v.npy": npy(ONES),
        "videos/v.mp4": b"no video",
        "labels.csv": b"video,label\nv,Jump\n",
        "published/best_model.pkl": torch_file(network),
        "published/cls_gt.npy": npy(np.full((2, 2), 0.5)),
        "published/hostile.pkl": b"",  # see below
        "published/cut.pkl": torch_file(network)[:-50],
        "published/missing.pkl": torch_file({n: a for n, a in network.items() if "att_module_flow" not in n}),
        "published/one.npy": npy(np.full((1, 2), 0.5)),
        "data/gt.json": {"database": database},
        "data/split_train.txt": b"a\nb\n",
        "data/split_test.txt": b"c\n",
        "data/dataset.json": {"classes": ["Jump", "Run"]},
        **{
            f"data/features/{split}/{stream}/{name}.npy": npy(ONES)
            for name, split in splits.items()
            for stream in ("rgb", "flow")
        },
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(json.dumps(content).encode() if isinstance(content, dict) else content)
    write_runs(folder / "runs")
    write_wtalc(folder / "wtalc")
    write_wtalc(folder / "wtalc_trap", features=objects(*[Trap()] * 4))
    write_wtalc(folder / "wtalc_cut", duration=None)
    features = folder / "wtalc_cut" / "Thumos14reduced-I3D-JOINTFeatures.npy"
    features.write_bytes(features.read_bytes()[:-50])
    return folder


def write_runs(folder: Path) -> None:
    """Writes the workdir of an untrained run, and damaged copies of it."""
    good = Workdir(folder / "good")
    good.begin(SETTINGS)
    with CheckpointStore(good.checkpoints) as store:
        store.save(SETTINGS.fresh_state().replace(step=jnp.int32(2)), quality=0.5)
    good.write_metrics([{"step": 2, "losses": {"loss": 1.0}, "tiou": [0.5], "map": [0.5], "average": 0.5}])
    good.write_history([{"step": 1, "metrics": {"loss": 2.0}}, {"step": 2, "metrics": {"loss": 1.0}}])

    settings = SETTINGS.as_json()
    swapped = {**settings, "dataset": {**settings["dataset"], "classes": ["Run", "Jump"]}}
    text = {**settings, "stream_widths": {"rgb": "x", "flow": 3}}
    for name, content in (("classes", swapped), ("text", text)):
        shutil.copytree(good.path, folder / name)
        (folder / name / "config.json").write_text(json.dumps(content))
    for name in ("metrics", "history"):
        shutil.copytree(good.path, folder / name)
        with open(folder / name / f"{name}.jsonl", "a") as file:
            file.write('{"step": 3, "average": 1e999, "metrics": {"loss": 1e999}}\n')


GOOD = {
    "train": ["--data_dir={}/data", "--workdir={}/new", "--num_snippets=8", "--batch_size=2", "--noreport"],
    "evaluate": ["--ground_truth={}/gt.json", "--predictions={}/p.json"],
    "localize": ["--checkpoint={}/runs/good", "--features={}/data/features/test", "--output={}/new.json"],
    "report": ["--workdir={}/runs/good", "--data_dir={}/data"],
    "refine": ["--workdir={}/runs/good", "--data_dir={}/data", "--output={}/new", "--noreport"],
    "check": ["--data_dir={}/data"],
    "convert": [
        "--torch={}/published/best_model.pkl",
        "--cluster_labels={}/published/cls_gt.npy",
        "--output={}/new",
        "--data_dir={}/data",
    ],
    "synthesize": ["--output={}/new", "--num_train=1", "--num_test=1"],
    "extract": ["--videos={}/gt.json", "--output={}/new", "--num_workers=0"],
    "make_dataset": ["--videos={}/videos", "--labels={}/labels.csv", "--output={}/new", "--num_workers=0"],
    "convert_dataset": ["--input={}/wtalc", "--output={}/new"],
}
LONG_NAME = "a" * 300
BAD = {
    "train": [
        (["--data_dir={}/published"], "{}/published", "0 .json files", "annotations"),
        (["--data_dir=" + LONG_NAME], LONG_NAME, "no such folder", "gt.json"),
        (["--workdir=" + LONG_NAME], f"{LONG_NAME}/metrics.jsonl", "File name too long", "evaluation"),
        (["--workdir={}/gt.json"], "--workdir", "{}/gt.json is a file", "folder"),
        (["--workdir={}/runs/text", "--mode=evaluate"], "{}/runs/text/config.json", "'x'", "training"),
    ],
    "evaluate": [
        (["--predictions={}/cut.json"], "{}/cut.json", "not JSON", "JSON"),
        (["--predictions={}"], "{}", "Is a directory", "JSON"),
        (["--predictions={}/gone*.json"], "--predictions", "'{}/gone*.json'", "prediction files"),
        (["--predictions={}/p-*.json"], "--predictions", "{}/p-*-of-00002.json … 00001", "2 shards"),
        (["--ground_truth={}/half.json"], "{}/half.json", r"'\ud800'", "surrogates"),
        (["--ground_truth={}/p.json"], "{}/p.json", "'database'", "ActivityNet"),
    ],
    "localize": [
        (["--checkpoint={}/gt.json"], "{}/gt.json/config.json", "Not a directory", "JSON"),
        (["--checkpoint=" + LONG_NAME], f"{LONG_NAME}/config.json", "File name too long", "JSON"),
        (["--checkpoint={}/runs/text"], "{}/runs/text/config.json", "'x'", "training"),
        (["--features=" + LONG_NAME], LONG_NAME, "no such folder", "features"),
        (["--features={}/broken"], "{}/broken/rgb/v.npy", "cannot be read", "array"),
        (["--videos={}/videos.txt"], "{}/videos.txt", "line 2 … '../b'", "not a path"),
        (["--videos={}"], "{}", "Is a directory", "video name"),
        (
            ["--features={}/data/features/train", "--videos={}/unknown.txt"],
            "{}/unknown.txt",
            "'z'",
            "{}/data/features/train",
        ),
        (
            ["--num_shards=2", "--shard_index=0", "--output=/"],
            "/",
            "cannot be written (Is a directory)",
            None,
        ),
        (["--output={}/gt.json/new.json"], "{}/gt.json", "cannot be written (Not a directory)", None),
    ],
    "report": [
        (["--workdir={}/gone"], "{}/gone/config.json", "no such file", "JSON"),
        (["--workdir={}/runs/text", "--data_dir="], "{}/runs/text/config.json", "'x'", "training"),
        (["--workdir=" + LONG_NAME], f"{LONG_NAME}/config.json", "File name too long", "JSON"),
        (["--workdir={}/runs/metrics"], "{}/runs/metrics/metrics.jsonl", "line 2", "'average'"),
        (["--workdir={}/runs/history"], "{}/runs/history/history.jsonl", "line 3", "'metrics'"),
        (["--workdir={}/runs/classes"], "{}/runs/classes", "other classes", "data set"),
        (["--data_dir="], "--data_dir", "missing", "{}/runs/good"),
    ],
    "refine": [
        (["--workdir={}/gone"], "{}/gone/config.json", "no such file", "JSON"),
        (["--workdir={}/runs/text"], "{}/runs/text/config.json", "'x'", "training"),
        (["--output={}/gt.json"], "--output", "{}/gt.json is a file", "folder"),
        (["--output={}/runs/good"], "--output", "as --workdir", "another folder"),
        (["--output={}/runs/metrics"], "{}/runs/metrics/metrics.jsonl", "line 2", "'average'"),
        (["--data_dir="], "--data_dir", "missing", "{}/runs/good"),
        (["--workdir={}/runs/classes"], "{}/runs/classes", "other classes", "data set"),
        (["--refined_weight=2"], "--refined_weight", "2", "between 0 and 1"),
    ],
    "check": [
        (["--data_dir={}/gone"], "{}/gone", "no such folder", "data set"),
        (["--data_dir=" + LONG_NAME], LONG_NAME, "no such folder", "data set"),
        (["--data_dir={}/gt.json"], "{}/gt.json", "no such folder", "data set"),
        (["--data_dir={}/published"], "{}/published", "0 .json files", "annotations"),
    ],
    "convert": [
        (
            ["--torch={}/published/hostile.pkl"],
            "{}/published/hostile.pkl",
            "__builtin__.getattr",
            "torch.save",
        ),
        (["--torch={}/published/cut.pkl"], "{}/published/cut.pkl", "not a file of PyTorch", "torch.save"),
        (["--torch={}/published/missing.pkl"], "{}/published/missing.pkl", "att_module_flow", "names"),
        (["--cluster_labels={}/published/one.npy"], "{}/published/one.npy", "(1, 2)", "(2, 2)"),
        (["--output={}/gt.json"], "--output", "{}/gt.json is a file", "folder"),
        (["--output={}/runs"], "{}/runs", "not empty", "new folder"),
        (["--checkpoint=x"], "--output", "--checkpoint", "one of the two"),
        (["--data_dir="], "{}/published/best_model.pkl", "2 classes", "20 of THUMOS14"),
    ],
    "synthesize": [
        (["--output={}/gt.json"], "--output", "{}/gt.json is a file", "folder"),
    ],
    "extract": [
        (["--videos={}/gone"], "{}/gone", "no such file", "video"),
        (["--videos={}/published"], "{}/published", "no video", "video"),
        (["--rgb_weights={}/gt.json"], "{}/gt.json", "", "torch.save"),
        (["--rgb_weights={}/published/hostile.pkl"], "{}/published/hostile.pkl", "__builtin__.getattr", ""),
        (["--rgb_weights={}/published/best_model.pkl"], "{}/published/best_model.pkl", "", "weights"),
        (["--flow=tvl1"], "--flow_weights", "", "--flow=none"),
        (["--strict"], "{}/gt.json", "", "video"),
    ],
    "make_dataset": [
        (["--labels={}/gone.csv"], "{}/gone.csv", "no such file", "video and label"),
        (["--labels={}/gt.json"], "{}/gt.json", "'video'", "label"),
        (["--labels={}"], "{}", "Is a directory", "label"),
        (["--videos={}/published"], "{}/published", "no video", "video"),
    ],
    "convert_dataset": [
        (["--input={}/gone"], "{}/gone", "no such folder", "JOINTFeatures.npy"),
        (["--input={}/data"], "{}/data", "0 <name>-JOINTFeatures.npy", "--features"),
        (["--features={}/gt.json"], "{}/gt.json", "cannot be read", "arrays"),
        (["--annotations={}/data"], "{}/data/videoname.npy", "no such file", "arrays"),
        (
            ["--input={}/wtalc_trap"],
            "{}/wtalc_trap/Thumos14reduced-I3D-JOINTFeatures.npy",
            "pathlib",
            "arrays",
        ),
        (
            ["--input={}/wtalc_cut"],
            "{}/wtalc_cut/Thumos14reduced-I3D-JOINTFeatures.npy",
            "ends early",
            "arrays",
        ),
        (
            ["--output={}/gt.json"],
            "{}/gt.json/features/train/rgb/video_validation_0000051.npy",
            "cannot be written (Not a directory)",
            None,
        ),
    ],
}


def test_every_command_is_tried_with_bad_files():
    assert list(BAD) == list(GOOD)
    assert set(BAD) == set(COMMANDS)


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """Arms `Trap`, which must not be sprung."""
    monkeypatch.setattr(Trap, "path", tmp_path / "sprung")
    yield
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "command, flags, named, wrong, expected",
    [(command, *case) for command, cases in BAD.items() for case in cases],
    ids=[f"{command} {flags[-1][:40]}" for command, cases in BAD.items() for flags, *_ in cases],
)
def test_files_that_cannot_be_used(command, flags, named, wrong, expected, place, trap):
    (place / "published" / "hostile.pkl").write_bytes(torch_file(published_arrays(), hostile=Trap()))
    before = written(place)
    flags = [flag.replace("{}", str(place)) for flag in [*GOOD[command], *flags]]
    message = refuse_here(command, *flags)
    named, wrong, expected = (part and part.replace("{}", str(place)) for part in (named, wrong, expected))
    if expected is None:  # all that is wrong is that a file cannot be written
        assert message == f"{named}: {wrong}"
    else:
        assert_parts(message, named, wrong, expected)
    assert written(place) == before


def written(folder: Path) -> dict[Path, int]:
    """The files of a folder, and when each was last written to."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
