import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.helpers.commands import refuse_here, succeed_here
from tests.helpers.refusals import assert_parts

TRUTH = {
    "database": {
        "v": {
            "subset": "test",
            "annotations": [
                {"label": "Jump", "segment": [0, 10]},
                {"label": "Run", "segment": ["20.0", "30.0"]},
            ],
        },
        "w": {"subset": "train", "annotations": [{"label": "Jump", "segment": [0, 1]}]},
    }
}
FOUND = {
    "results": {
        "v": [
            {"label": "Jump", "score": 0.9, "segment": [0, 4]},  # tIoU 0.4
            {"label": "Run", "score": 0.8, "segment": [40, 50]},  # a false positive
            {"label": "Run", "score": 0.7, "segment": [20, 28]},  # tIoU 0.8, at precision 1/2
        ],
        "w": [{"label": "Jump", "score": 1.0, "segment": [0, 1]}],
    }
}
# Subsets whose videos some flags do not suit.
OTHERS = {
    "still": {"subset": "quiet", "annotations": [{"label": "Jump", "segment": [0, 1]}]},
    "maybe": {"subset": "vague", "annotations": [{"label": "Ambiguous", "segment": [0, 1]}]},
}
THUMOS14 = [0.66253474, 0.60235689, 0.52026820, 0.42989168, 0.34295393, 0.23083844, 0.12878001]


@pytest.fixture
def files(tmp_path):
    """Writes the two files, as text or from an object, and returns their flags."""

    def write(truth=TRUTH, found=FOUND):
        for name, content in (("gt.json", truth), ("p.json", found)):
            text = content if isinstance(content, str) else json.dumps(content)
            (tmp_path / name).write_text(text)
        return f"--ground_truth={tmp_path / 'gt.json'}", f"--predictions={tmp_path / 'p.json'}"

    return write


def test_json_is_one_object_with_the_documented_fields(files):
    result = json.loads(succeed_here("evaluate", *files(), "--tiou=0.3,0.5", "--json"))
    assert list(result) == ["tiou", "map", "average", "per_class"]
    assert result["tiou"] == [0.3, 0.5]
    assert result["per_class"] == {"Jump": [1.0, 0.0], "Run": [0.5, 0.5]}
    assert result["map"] == [0.75, 0.25]
    assert result["average"] == 0.5


def test_tables_and_populations(files):
    per_class, overall, populations = succeed_here("evaluate", *files(), "--tiou=0.3,0.5").split("\n\n")
    assert per_class.splitlines() == [
        "AP (%) at tIoU     0.3    0.5    avg",
        "------------------------------------",
        "Jump            100.00   0.00  50.00",
        "Run              50.00  50.00  50.00",
    ]
    assert overall.splitlines() == [
        "mAP (%) at tIoU    0.3    0.5    avg",
        "------------------------------------",
        "test             75.00  25.00  50.00",
    ]
    assert populations.startswith(
        "1 videos of subset 'test' with 2 instances of 2 classes; 3 detections in 1 of these videos (1 more "
        "in other subsets, not counted); ActivityNet protocol, computed in "
    )


def test_protocols_differ_as_documented(files, tmp_path):
    ambiguous = tmp_path / "ambiguous.txt"
    ambiguous.write_text("v 45.0 46.0\n\nw 0 1\n")

    def per_class(*flags):
        return json.loads(succeed_here("evaluate", *files(), "--tiou=0.4", "--json", *flags))["per_class"]

    assert per_class() == {"Jump": [1.0], "Run": [0.5]}
    # tIoU 0.4 does not exceed 0.4; the false positive overlaps an ambiguous interval.
    assert per_class("--protocol=thumos14") == {"Jump": [0.0], "Run": [0.5]}
    excused = per_class("--protocol=thumos14", f"--ambiguous={ambiguous}")
    assert excused == per_class("--protocol=thumos14_kit", f"--ambiguous={ambiguous}")
    assert excused == {"Jump": [0.0], "Run": [1.0]}
    # In snippets of 0.64 s, Jump is 0 .. 16 and found 0 .. 6.
    assert per_class("--protocol=wtalc", f"--ambiguous={ambiguous}") == {"Jump": [0.0], "Run": [1.0]}
    printed = succeed_here("evaluate", *files(), "--protocol=thumos14_kit")
    assert "; THUMOS14's official protocol, matched as its Matlab kit does, computed in" in printed


def test_average_recall(files):
    flags = [*files(), "--metric=ar", "--tiou=0.4,0.9", "--max_proposals=2"]
    result = json.loads(succeed_here("evaluate", *flags, "--json"))
    assert list(result) == ["tiou", "num_proposals", "average_recall", "area"]
    assert (result["average_recall"][-1], result["num_proposals"][-1]) == (0.25, 2.0)
    table, populations = succeed_here("evaluate", *flags).split("\n\n")
    assert table.splitlines() == [
        "recall (%)   AR@1   area",
        "------------------------",
        f"test        25.00  {100 * result['area']:.2f}",
    ]
    assert "average recall as in ActivityNet's proposal task" in populations


def test_several_files_are_merged(files, tmp_path):
    """With their names as `case_jax.localization.shards.find_files` reads them."""
    flags = [*files(), "--tiou=0.3,0.5", "--json"]
    for index, video in enumerate(("v", "w")):
        results = {f"v_{video}": FOUND["results"][video]}
        (tmp_path / f"q-{index:05d}-of-00002.json").write_text(json.dumps({"results": results}))
    merged = succeed_here("evaluate", *flags, f"--predictions={tmp_path}/q-*-of-00002.json")
    assert json.loads(merged) == json.loads(succeed_here("evaluate", *flags))


def test_no_detection_at_all_scores_0(files):
    result = json.loads(succeed_here("evaluate", *files(found={"results": {}}), "--json"))
    assert result["average"] == 0


def test_real_detections_on_thumos14(shared_data):
    folder = shared_data / "thumos14"
    printed = succeed_here(
        "evaluate",
        f"--ground_truth={folder / 'gt.json'}",
        f"--predictions={folder / 'detections_crnet.json'}",
        "--subset=test",
        "--tiou=0.1:0.7:0.1",
        "--json",
    )
    result = json.loads(printed)
    assert result["tiou"] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    assert [round(value, 8) for value in result["map"]] == THUMOS14
    assert round(result["average"], 8) == 0.41680341
    assert len(result["per_class"]) == 20


@pytest.mark.slow
def test_a_million_detections(tmp_path):
    """In each video the surest detection finds the action, and 9,999 others follow all of those."""
    segments = [[0, 4], *([10 + i, 11 + i] for i in range(9_999))]
    found = [{"label": "Jump", "score": 1 / (1 + i), "segment": s} for i, s in enumerate(segments)]
    video = {"subset": "test", "annotations": [{"label": "Jump", "segment": [0, 5]}]}
    names = [f"v{i}" for i in range(100)]
    (tmp_path / "gt.json").write_text(json.dumps({"database": dict.fromkeys(names, video)}))
    (tmp_path / "p.json").write_text(json.dumps({"results": dict.fromkeys(names, found)}))
    flags = [f"--ground_truth={tmp_path / 'gt.json'}", f"--predictions={tmp_path / 'p.json'}"]
    result = json.loads(succeed_here("evaluate", *flags, "--tiou=0.8,0.81", "--json"))
    assert result["map"] == [1.0, 0.0]


def test_jax_is_never_imported(files):
    program = (
        "import runpy, sys\n"
        "try:\n"
        "    runpy.run_module('experiments.evaluate', run_name='__main__', alter_sys=True)\n"
        "finally:\n"
        "    print('jax' in sys.modules, 'case_jax' in sys.modules, file=sys.stderr)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, *files()], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == "False True\n"


@pytest.mark.parametrize(
    "flags, named, wrong, expected",
    [
        (["--ambiguous=a.txt"], "--ambiguous", "given", "--metric=map … another --protocol"),
        (["--metric=ar", "--max_proposals=nan"], "--max_proposals", "nan", "finite"),
        (["--protocol=wtalc", "--seconds_per_snippet=inf"], "--seconds_per_snippet", "inf", "finite"),
        (["--protocol=wtalc", "--metric=ar"], "--protocol", "wtalc", "activitynet … --metric=ar"),
        (["--metric=ar", "--subset=quiet"], "{folder}/p.json", "no detection … 'quiet'", "some"),
        (["--protocol=wtalc", "--ambiguous=none.txt"], "none.txt", "no such file", "video name"),
        (["--protocol=thumos14", "--ambiguous={folder}/x.txt"], "{folder}/x.txt", "no video", "videos"),
        (["--protocol=thumos14", "--subset=vague"], "{folder}/gt.json", "'vague' … 'Ambiguous'", "others"),
        (["--tiou=1.5"], "--tiou", "'1.5'", "above 0 and up to 1"),
        (["--tiou=nan"], "--tiou", "'nan'", "above 0 and up to 1"),
        (["--subset=val"], "{folder}/gt.json", "'val'", "'test'"),
        (["--predictions="], "--predictions", "missing", "path"),
        (["--ground_truth="], "--ground_truth", "missing", "path"),
        (["--predictions={folder}/no.json"], "{folder}/no.json", "no such file", "JSON"),
        (["p.json"], "p.json", "flag", "--flag=value"),
    ],
)
def test_bad_flags(flags, named, wrong, expected, files, tmp_path):
    (tmp_path / "x.txt").write_text("x 45.0 46.0\n")
    ours = files(truth={"database": {**TRUTH["database"], **OTHERS}})
    flags = [flag.format(folder=tmp_path) for flag in flags]
    message = refuse_here("evaluate", *ours, *flags)
    assert_parts(message, named.format(folder=tmp_path), wrong, expected)
