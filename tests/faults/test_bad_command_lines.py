"""Command lines with bad flags and files: exit status 2, one line on standard error, nothing written."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.faults.conftest import SETTINGS
from tests.faults.readers import npy, torch_file
from tests.faults.refusals import JSON, NPY, ONES, Trap, assert_message

pytestmark = pytest.mark.faults

TIUO = "--tiuo: is no flag of this command; expected one of --help, such as --tiou"


@pytest.fixture(scope="module")
def place(tmp_path_factory, workdir):
    """A folder with good files of all kinds and, beside them, bad ones."""
    folder = tmp_path_factory.mktemp("place")
    annotation = {"label": "Jump", "segment": [0.5, 1]}
    splits = {"a": "train", "b": "train", "c": "test"}
    database = {name: {"subset": split, "annotations": [annotation]} for name, split in splits.items()}
    detection = {"label": "Jump", "score": 0.5, "segment": [0, 1]}
    results = {"c": [detection]}
    network = published()

    def changed(name, *shape):
        return torch_file({**network, name: np.ones(shape, np.float32)})

    files = {
        "gt.json": {"database": database},
        "p.json": {"results": results},
        "cut.json": b'{"results": {"c": [',
        "video.json": {"results": {"z": []}},
        "label.json": {"results": {"c": [{**detection, "label": "Sit"}]}},
        "nan.json": {"results": {"c": [{**detection, "score": float("nan")}]}},
        "text.json": {"results": {"c": [{**detection, "segment": "0-1"}]}},
        "huge.json": {"results": {"c": [{**detection, "segment": [-1e308, 1e308]}]}},
        "twice.json": b'{"results": {"c": [], "c": []}}',
        "prefix.json": {"results": {"c": [], "v_c": []}},
        "half.json": {
            "database": {"c": {"subset": "test", "annotations": [{**annotation, "label": "\ud800"}]}}
        },
        "p-00000-of-00002.json": {"results": results},
        "ambiguous.txt": b"c 0\n",
        "others.txt": b"z 0 1\n",
        "flags/unknown.flags": b"# what is no flag\n--tiuo=0.5\n",
        "flags/recursive.flags": b"--flagfile={folder}/flags/recursive.flags\n--tiou=0\n",
        "flags/binary.flags": npy(ONES),
        "flags/null.flags": b"--flagfile=a\0b\n",
        "videos.txt": b"a\n../b\n",
        "unknown.txt": b"a\nz\n",
        "empty.txt": b"\n",
        "broken/rgb/v.npy": npy(ONES)[:-1],
        "broken/flow/v.npy": npy(ONES),
        "wide/rgb/v.npy": npy(np.ones((4, 5))),
        "wide/flow/v.npy": npy(ONES),
        "published/best_model.pkl": torch_file(network),
        "published/cls_gt.npy": npy(np.full((2, 2), 0.5)),
        "published/hostile.pkl": b"",  # see below
        "published/cut.pkl": torch_file(network)[:-50],
        "published/nan.pkl": torch_file({**network, "cas_module_rgb.2.bias": np.full(2, np.nan, np.float32)}),
        "published/missing.pkl": torch_file({n: a for n, a in network.items() if "att_module_flow" not in n}),
        "published/flat.pkl": changed("cas_module_rgb.2.weight", 3),
        "published/wide.pkl": torch_file(
            {**network, "base_module_rgb.0.weight": np.ones((5, 3, 1), np.float32)}
        ),
        "published/taps.pkl": torch_file(
            {**network, "cas_module_rgb.0.weight": np.ones((4, 3, 3), np.float32)}
        ),
        "published/one.npy": npy(np.full((1, 2), 0.5)),
        "published/sums.npy": npy(np.ones((2, 2))),
        "published/negative.npy": npy(np.array([[2.0, -1.0]] * 2)),
        "published/q.h5": b"",
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
        if isinstance(content, dict):
            content = json.dumps(content).encode()
        path.write_bytes(content.replace(b"{folder}", str(folder).encode()))
    for name, config in (
        ("wider", {"stream_widths": {"rgb": 5, "flow": 3}}),
        ("text", {"stream_widths": {"rgb": "x", "flow": 3}}),
    ):
        shutil.copytree(workdir.path, folder / "runs" / name)
        content = {**SETTINGS.as_json(), **config}
        (folder / "runs" / name / "config.json").write_text(json.dumps(content))
    for name, file in (("metrics", "metrics.jsonl"), ("history", "history.jsonl")):
        shutil.copytree(workdir.path, folder / "runs" / name)
        with open(folder / "runs" / name / file, "a") as opened:
            opened.write('{"step": 3, "average": 1e999, "metrics": {"loss": 1e999}}\n')
    shutil.copytree(workdir.path, folder / "runs" / "good")
    shutil.copytree(workdir.path, folder / "runs" / "classes")
    content = SETTINGS.as_json()
    content["dataset"]["classes"] = ["Run", "Jump"]
    (folder / "runs" / "classes" / "config.json").write_text(json.dumps(content))
    return folder


def published():
    """The published code's arrays, of the sizes of `SETTINGS`."""
    arrays = {}
    for stream in ("rgb", "flow"):
        for layer, shape in (
            (f"cas_module_{stream}.0", (4, 3)),
            (f"cas_module_{stream}.2", (2, 4)),
            (f"base_module_{stream}.0", (4, 3)),
            (f"att_module_{stream}", (1, 4)),
        ):
            arrays[f"{layer}.weight"] = np.ones((*shape, 1), np.float32)
            arrays[f"{layer}.bias"] = np.ones(shape[0], np.float32)
        arrays[f"clu_head_{stream}.prototypes.weight"] = np.ones((2, 4), np.float32)
    return arrays


GOOD = {
    "evaluate": ["--ground_truth={}/gt.json", "--predictions={}/p.json"],
    "localize": ["--checkpoint={}/runs/good", "--features={}/data/features/test", "--output={}/new.json"],
    "convert_checkpoint": [
        "--torch={}/published/best_model.pkl",
        "--cluster_labels={}/published/cls_gt.npy",
        "--output={}/new",
        "--data_dir={}/data",
    ],
    "report": ["--workdir={}/runs/good", "--data_dir={}/data"],
    "check_data": ["--data_dir={}/data"],
}
LONG_NAME = "a" * 300
STATE = "expected a state dict as torch.save(model.state_dict(), path) writes it"
LAYER = "expected that of a layer of CASE"
BAD = {
    "evaluate": [
        (["--predictions={}/cut.json"], f"{{}}/cut.json: is not JSON (…); {JSON}"),
        (["--predictions={}/video.json"], "{}/video.json: has video 'z'; expected videos of {}/gt.json"),
        (
            ["--predictions={}/label.json"],
            "{}/label.json: video 'c' has label 'Sit'; expected one of the 1 labels of {}/gt.json",
        ),
        (
            ["--predictions={}/nan.json"],
            "{}/nan.json: video 'c', detection 0: score or segment is not finite (nan, 0.0, 1.0); expected "
            "numbers",
        ),
        (
            ["--predictions={}/text.json"],
            '{}/text.json: video \'c\', detection 0: is {"label": "Jump", "score": 0.5, "segment": "0-1"}; '
            'expected {"label": text, "score": number, "segment": [start, end]}',
        ),
        (
            ["--predictions={}/huge.json"],
            "{}/huge.json: video 'c', detection 0: segment [-1e+308, 1e+308] is beyond any video; expected "
            "seconds",
        ),
        (
            ["--predictions={}/twice.json"],
            "{}/twice.json: has 'c' twice in one object; expected each name once",
        ),
        (
            ["--predictions={}/prefix.json"],
            "{}/prefix.json: has video 'c' with and without the prefix v_; expected it once",
        ),
        (["--predictions={}"], f"{{}}: cannot be read (Is a directory); {JSON}"),
        (["--predictions={}/gone"], f"{{}}/gone: no such file; {JSON}"),
        (
            ["--predictions={}/gone*.json"],
            "--predictions: '{}/gone*.json' matches no file; expected prediction files",
        ),
        (
            ["--predictions={}/p-*.json"],
            "--predictions: {}/p-*-of-00002.json lacks 00001; expected all 2 shards",
        ),
        (
            ["--predictions={}/p.json,{}/p-00000-of-00002.json"],
            "--predictions: {}/p-*-of-00002.json lacks 00001; expected all 2 shards",
        ),
        (
            ["--predictions={}/p.json,,"],
            "--predictions: '{}/p.json,,' has an empty name; expected files, a,b,c",
        ),
        (
            ["--ground_truth={}/half.json"],
            "{}/half.json: holds the text '\\ud800'; expected none with NUL characters or surrogates",
        ),
        (
            ["--ground_truth={}/p.json"],
            "{}/p.json: has no 'database' object; expected the ActivityNet form {\"database\": {video: "
            '{"subset", "annotations"}}}',
        ),
        (
            ["--subset=validation"],
            "{}/gt.json: has no video of subset 'validation'; expected one of its subsets: 'test', 'train'",
        ),
        (
            ["--protocol=thumos14", "--ambiguous={}/ambiguous.txt"],
            "{}/ambiguous.txt: line 1 is 'c 0'; expected a video name, start and end in seconds on each line",
        ),
        (
            ["--protocol=wtalc", "--ambiguous={}/others.txt"],
            "{}/others.txt: names no video of the ground truth; expected some of its videos",
        ),
        (
            ["--ambiguous={}/others.txt"],
            "--ambiguous: is given; expected --metric=map and another --protocol than activitynet",
        ),
        (["--tiou=nan"], "--tiou: is 'nan'; expected thresholds above 0 and up to 1"),
        (
            ["--tiou=0:1:0"],
            '--tiou: is \'0:1:0\'; expected "first:last:step" or "a,b,c", for example 0.1:0.7:0.1',
        ),
        (
            ["--protocol=wtalc", "--seconds_per_snippet=inf"],
            "--seconds_per_snippet: is inf; expected a finite number",
        ),
        (["0.5"], "0.5: is no flag; expected only --flag=value arguments"),
    ],
    "localize": [
        (["--checkpoint={}"], f"{{}}/config.json: no such file; {JSON}"),
        (["--checkpoint={}/gt.json"], f"{{}}/gt.json/config.json: cannot be read (Not a directory); {JSON}"),
        (
            [f"--checkpoint={LONG_NAME}"],
            f"{LONG_NAME}/config.json: cannot be read (File name too long); {JSON}",
        ),
        (
            ["--checkpoint={}/runs/text"],
            "{}/runs/text/config.json: is no run's settings (invalid literal for int() with base 10: 'x'); "
            "expected the file that training wrote",
        ),
        ([f"--features={LONG_NAME}"], f"{LONG_NAME}: no such folder; expected features of videos in it"),
        (["--features={}/broken"], f"{{}}/broken/rgb/v.npy: cannot be read (…); {NPY}"),
        (
            ["--features={}/wide"],
            "{}/wide: stream 'rgb' has 5 channels; expected 3 as in training",
        ),
        (["--videos={}/videos.txt"], "{}/videos.txt: line 2 is '../b'; expected a video name, not a path"),
        (
            ["--features={}/data/features/train", "--videos={}/unknown.txt"],
            "{}/unknown.txt: names 'z'; expected videos with features in {}/data/features/train",
        ),
        (["--videos={}/empty.txt"], "{}/empty.txt: names no video; expected one video name a line"),
        (["--videos={}"], "{}: cannot be read (Is a directory); expected one video name a line"),
        (["--fps=1e300"], "--fps: is 1e+300; expected 1e9 or less"),
        (["--frames_per_snippet=1e308"], "--frames_per_snippet: is 1e+308; expected 1e9 or less"),
        (["--num_shards=2", "--shard_index=0", "--output=/"], "/: cannot be written (Is a directory)"),
        (
            ["--output={}/gt.json/new.json"],
            "{}/gt.json/new.json.partial: cannot be written (File exists)",
        ),
    ],
    "convert_checkpoint": [
        (
            ["--torch={}/published/hostile.pkl"],
            "{}/published/hostile.pkl: cannot be read (it asks for __builtin__.getattr, which no tensor "
            f"needs); {STATE}",
        ),
        (
            ["--torch={}/published/cut.pkl"],
            "{}/published/cut.pkl: is no archive of PyTorch 1.6 or newer; " + STATE,
        ),
        (
            ["--torch={}/published/nan.pkl"],
            "{}/published/nan.pkl: 'cas_module_rgb.2.bias' holds values that are not finite; expected finite "
            "numbers",
        ),
        (
            ["--torch={}/published/missing.pkl"],
            "{}/published/missing.pkl: has no 'att_module_flow.weight'; expected the published code's "
            "parameter names",
        ),
        (
            ["--torch={}/published/flat.pkl"],
            "{}/published/flat.pkl: 'cas_module_rgb.2.weight' has shape (3,); " + LAYER,
        ),
        (
            ["--torch={}/published/taps.pkl"],
            "{}/published/taps.pkl: 'cas_module_rgb.0.weight' has shape (4, 3, 3); " + LAYER,
        ),
        (
            ["--torch={}/published/wide.pkl"],
            "{}/published/wide.pkl: shapes of stream 'rgb' do not fit; expected those of CASE",
        ),
        (
            ["--cluster_labels={}/published/one.npy"],
            "{}/published/one.npy: has shape (1, 2); expected (2, 2), as the prototypes",
        ),
        (
            ["--cluster_labels={}/published/sums.npy"],
            "{}/published/sums.npy: has rows that do not sum to 1; expected probabilities of foreground",
        ),
        (
            ["--cluster_labels={}/published/negative.npy"],
            "{}/published/negative.npy: has rows that do not sum to 1; expected probabilities of foreground",
        ),
        (
            ["--cluster_labels={}/published/q.h5"],
            "{}/published/q.h5: is an HDF5 file of data sets by name; expected a .npy file of one array",
        ),
        (
            ["--cluster_labels={}/published/best_model.pkl"],
            f"{{}}/published/best_model.pkl: is an archive of several arrays; {NPY}",
        ),
        (["--output={}/gt.json"], "{}/gt.json: cannot be read (Not a directory); expected a new folder"),
        (["--output={}/runs"], "{}/runs: is not empty; expected a new folder"),
        (
            ["--data_dir="],
            "{}/published/best_model.pkl: has 2 classes; expected the 20 of THUMOS14, or --data_dir",
        ),
    ],
    "report": [
        (["--workdir={}/runs/text", "--data_dir="], "{}/runs/text/config.json: is no run's settings (…"),
        ([f"--workdir={LONG_NAME}"], f"{LONG_NAME}/config.json: cannot be read (File name too long); {JSON}"),
        (
            ["--workdir={}/runs/metrics"],
            "{}/runs/metrics/metrics.jsonl: line 2 is no evaluation; expected a JSON object with 'step' and "
            "'average'",
        ),
        (
            ["--workdir={}/runs/history"],
            "{}/runs/history/history.jsonl: line 3 is no report of training; expected a JSON object with "
            "'step' and 'metrics'",
        ),
        (
            ["--workdir={}/runs/classes"],
            "{}/runs/classes: was trained on other classes, streams or widths; expected those of the data "
            "set given",
        ),
        (["--data_dir="], "--data_dir: is missing; expected the data set of {}/runs/good"),
    ],
    "check_data": [
        (
            ["--data_dir={}/gone"],
            "{}/gone: no such folder; expected a data set in it",
        ),
        ([f"--data_dir={LONG_NAME}"], f"{LONG_NAME}: no such folder; expected a data set in it"),
        (["--data_dir={}/gt.json"], "{}/gt.json: no such folder; expected a data set in it"),
    ],
}


def contents(folder):
    """What there is, and when it was last written to."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("module", BAD)
def test_many_bad_command_lines(module, place, environment, trap):
    (place / "published" / "hostile.pkl").write_bytes(torch_file(published(), hostile=Trap()))
    before = contents(place)
    lists = [[flag.replace("{}", str(place)) for flag in GOOD[module] + flags] for flags, _ in BAD[module]]
    result = subprocess.run(
        [sys.executable, "-m", "tests.faults.many", module],
        input=json.dumps(lists),
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    outcomes = json.loads(result.stdout)
    assert len(outcomes) == len(lists)
    for (flags, message), (status, stderr) in zip(BAD[module], outcomes):
        assert status == 2, (flags, status, stderr)
        assert stderr.startswith("error: "), (flags, stderr)
        assert stderr.endswith("\n"), (flags, stderr)
        assert stderr.count("\n") == 1, (flags, stderr)
        assert_message(stderr.removeprefix("error: ").rstrip("\n"), message.replace("{}", str(place)))
    assert contents(place) == before


@pytest.mark.parametrize(
    "flags, expected",
    [
        (["--tiuo=0.5"], TIUO),
        (["--max_proposals=many"], "--max_proposals: is 'many'; expected a number >= 1"),
        (["--max_proposals=0"], "--max_proposals: is '0'; expected a number >= 1"),
        (["--metric=recall"], "--metric: is 'recall'; expected one of map, ar"),
        (["--json=perhaps"], "--json: is 'perhaps'; expected --json or --nojson"),
        (["--nojson=1"], "--nojson: has a value; expected --json or --nojson"),
        (
            ["--flagfile={}/gone.flags"],
            "--flagfile: cannot be opened ([Errno 2] No such file or directory: '{}/gone.flags'); expected a "
            "text file of flags",
        ),
        (
            ["--flagfile={}"],
            "--flagfile: cannot be opened ([Errno 21] Is a directory: '{}'); expected a text file of flags",
        ),
        (["--flagfile={}/flags/unknown.flags"], TIUO),
        (["--flagfile"], "--flagfile: has no value; expected a text file of flags"),
        (
            ["--flagfile={}/flags/null.flags"],
            "--flagfile: cannot be used (embedded null byte); expected what --help says of it",
        ),
        (
            ["--stderrthreshold=loud"],  # absl's own
            "--stderrthreshold: cannot be used (--stderrthreshold must be one of (case-insensitive) 'debug', "
            "'info', 'warning', 'error', 'fatal', or '0', '1', '2', '3', not 'loud'); expected what --help "
            "says of it",
        ),
        (
            ["--flagfile={}/flags/binary.flags"],
            "--flagfile: is no text (invalid start byte at byte 0); expected a text file of flags",
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_flags_that_are_none(flags, expected, place, fail):
    flags = [flag.replace("{}", str(place)) for flag in GOOD["evaluate"] + flags]
    assert fail("evaluate", *flags) == expected.replace("{}", str(place))


def test_a_flagfile_that_includes_itself_is_read_once(place, run):
    """absl says so, and goes on."""
    flags = [flag.replace("{}", str(place)) for flag in GOOD["evaluate"]]
    recursive = place / "flags" / "recursive.flags"
    result = run("evaluate", *flags, f"--flagfile={recursive}")
    assert result.returncode == 2
    warning, error = result.stderr.splitlines()
    assert warning == f"Warning: Hit circular flagfile dependency. Ignoring flagfile: {recursive}"
    assert error == "error: --tiou: is '0'; expected thresholds above 0 and up to 1"


@pytest.mark.parametrize(
    "module, flags, message",
    [
        ("evaluate", "--predictions={}/cut.json", f"{{}}/cut.json: is not JSON (…); {JSON}"),
        ("localize", "--features={}/broken", f"{{}}/broken/rgb/v.npy: cannot be read (…); {NPY}"),
        (
            "convert_checkpoint",
            "--torch={}/published/cut.pkl",
            f"{{}}/published/cut.pkl: is no archive of PyTorch 1.6 or newer; {STATE}",
        ),
        ("report", "--workdir={}/gone", f"{{}}/gone/config.json: no such file; {JSON}"),
        (
            "check_data",
            "--data_dir={}/published",
            "{}/published: holds 0 .json files; expected one with annotations, or its name as 'annotations' "
            "in dataset.json",
        ),
    ],
)
def test_bad_command_lines_as_users_run_them(module, flags, message, place, fail):
    before = contents(place)
    flags = [flag.replace("{}", str(place)) for flag in [*GOOD[module], flags]]
    assert_message(fail(module, *flags), message.replace("{}", str(place)))
    assert contents(place) == before


@pytest.mark.slow
def test_a_million_detections_are_evaluated(tmp_path, succeed):
    """In every video one finds the action, and 9,999 less sure ones come after all of those."""
    segments = [[0, 4], *([10 + i, 11 + i] for i in range(9_999))]
    found = [{"label": "Jump", "score": 1 / (1 + i), "segment": s} for i, s in enumerate(segments)]
    video = {"subset": "test", "annotations": [{"label": "Jump", "segment": [0, 5]}]}
    names = [f"v{i}" for i in range(100)]
    (tmp_path / "gt.json").write_text(json.dumps({"database": dict.fromkeys(names, video)}))
    (tmp_path / "p.json").write_text(json.dumps({"results": dict.fromkeys(names, found)}))
    files = [f"--ground_truth={tmp_path / 'gt.json'}", f"--predictions={tmp_path / 'p.json'}"]
    result = json.loads(succeed("evaluate", *files, "--tiou=0.8,0.81", "--json"))
    assert result["map"] == [1.0, 0.0]
