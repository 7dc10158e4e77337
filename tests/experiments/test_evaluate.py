import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT

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


def test_json_is_one_object_with_the_documented_fields(files, succeed):
    result = json.loads(succeed("evaluate", *files(), "--tiou=0.3,0.5", "--json"))
    assert list(result) == ["tiou", "map", "average", "per_class"]
    assert result["tiou"] == [0.3, 0.5]
    assert result["per_class"] == {"Jump": [1.0, 0.0], "Run": [0.5, 0.5]}
    assert result["map"] == [0.75, 0.25]
    assert result["average"] == 0.5


def test_tables_and_populations(files, succeed):
    per_class, overall, populations = succeed("evaluate", *files(), "--tiou=0.3,0.5").split("\n\n")
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


def test_protocols_differ_as_documented(files, tmp_path, succeed):
    ambiguous = tmp_path / "ambiguous.txt"
    ambiguous.write_text("v 45.0 46.0\n\nw 0 1\n")

    def per_class(*flags):
        return json.loads(succeed("evaluate", *files(), "--tiou=0.4", "--json", *flags))["per_class"]

    assert per_class() == {"Jump": [1.0], "Run": [0.5]}
    # tIoU 0.4 does not exceed 0.4; the false positive overlaps an ambiguous interval.
    assert per_class("--protocol=thumos14") == {"Jump": [0.0], "Run": [0.5]}
    excused = per_class("--protocol=thumos14", f"--ambiguous={ambiguous}")
    assert excused == per_class("--protocol=thumos14_kit", f"--ambiguous={ambiguous}")
    assert excused == {"Jump": [0.0], "Run": [1.0]}
    # In snippets of 0.64 s, Jump is 0 .. 16 and found 0 .. 6.
    assert per_class("--protocol=wtalc", f"--ambiguous={ambiguous}") == {"Jump": [0.0], "Run": [1.0]}
    printed = succeed("evaluate", *files(), "--protocol=thumos14_kit")
    assert "; THUMOS14's official protocol, matched as its Matlab kit does, computed in" in printed


def test_ambiguous_intervals_of_other_videos_only(files, tmp_path, fail):
    ambiguous = tmp_path / "ambiguous.txt"
    ambiguous.write_text("x 45.0 46.0\n")
    message = fail("evaluate", *files(), "--protocol=thumos14", f"--ambiguous={ambiguous}")
    assert message == f"{ambiguous}: names no video of the ground truth; expected some of its videos"


def test_average_recall(files, succeed):
    flags = [*files(), "--metric=ar", "--tiou=0.4,0.9", "--max_proposals=2"]
    result = json.loads(succeed("evaluate", *flags, "--json"))
    assert list(result) == ["tiou", "num_proposals", "average_recall", "area"]
    assert (result["average_recall"][-1], result["num_proposals"][-1]) == (0.25, 2.0)
    table, populations = succeed("evaluate", *flags).split("\n\n")
    assert table.splitlines() == [
        "recall (%)   AR@1   area",
        "------------------------",
        f"test        25.00  {100 * result['area']:.2f}",
    ]
    assert "average recall as in ActivityNet's proposal task" in populations


def test_names_with_and_without_the_prefix_of_activitynet(files, succeed, fail):
    found = {"results": {"v_v": FOUND["results"]["v"]}}
    assert json.loads(succeed("evaluate", *files(found=found), "--tiou=0.3", "--json"))["average"] == 0.75
    found["results"]["v"] = []
    message = fail("evaluate", *files(found=found))
    assert message.endswith("p.json: has video 'v' with and without the prefix v_; expected it once")


def write_parts(folder, **parts):
    """One prediction file per name, of the videos that it is given."""
    for name, videos in parts.items():
        content = {"results": {video: FOUND["results"][video] for video in videos}}
        (folder / f"{name}.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    "named",
    [
        "{folder}/q-*-of-00003.json",
        "{folder}/q-00000-of-00003.json,{folder}/q-00001-of-00003.json,{folder}/q-00002-of-00003.json",
        "{folder}/q-00000*,{folder}/q-0000?-of-00003.json",  # the first one twice
        "{folder}/b.json,{folder}/a.json",
    ],
)
def test_several_files_are_merged(named, files, tmp_path, succeed):
    flags = [*files(), "--tiou=0.3,0.5", "--json"]
    shards = {"q-00000-of-00003": "v", "q-00001-of-00003": "", "q-00002-of-00003": "w"}
    write_parts(tmp_path, **shards, a="v", b="w")
    merged = succeed("evaluate", *flags, f"--predictions={named.format(folder=tmp_path)}")
    assert json.loads(merged) == json.loads(succeed("evaluate", *flags))


@pytest.mark.parametrize("name", ["p-*.json", "a,b.json", "p-00001-of-00004.json", "p[1].json"])
def test_a_file_that_exists_is_that_file(name, files, tmp_path, succeed):
    flags = [*files(), "--tiou=0.3", "--json"]
    (tmp_path / name).write_text((tmp_path / "p.json").read_text())
    (tmp_path / "p-2.json").write_text("not read")
    found = succeed("evaluate", *flags, f"--predictions={tmp_path / name}")
    assert json.loads(found) == json.loads(succeed("evaluate", *flags))


@pytest.mark.parametrize(
    "named, message",
    [
        ("{folder}/a.json,{folder}/c.json", "{folder}/c.json: has video 'v_v', as {folder}/a.json has; "
         "expected each video in one file"),
        ("{folder}/z-*.json", "--predictions: '{folder}/z-*.json' matches no file; expected prediction "
         "files"),
        ("{folder}/a.json,{folder}/z*", "--predictions: '{folder}/z*' matches no file; expected prediction "
         "files"),
        ("{folder}/a.json,,{folder}/b.json", "--predictions: '{folder}/a.json,,{folder}/b.json' has an empty "
         "name; expected files, a,b,c"),
        ("{folder}/a.json,{folder}/no.json", "{folder}/no.json: no such file; expected a JSON file"),
        ("{folder}/q-*.json", "--predictions: {folder}/q-*-of-00003.json lacks 00000, 00002; expected all 3 "
         "shards"),
        ("{folder}/a.json,{folder}/q-00001-of-00003.json", "--predictions: {folder}/q-*-of-00003.json lacks "
         "00000, 00002; expected all 3 shards"),
        ("{folder}/r-0*", "--predictions: {folder}/r-*-of-00020.json lacks 00000, 00001, 00002, 00003, "
         "00004, 00006, 00007, 00008, ...; expected all 20 shards"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_merged(named, message, files, tmp_path, fail):
    write_parts(tmp_path, **{"a": "v", "b": "w", "q-00001-of-00003": "w", "r-00005-of-00020": "w"})
    (tmp_path / "c.json").write_text(json.dumps({"results": {"v_v": []}}))
    found = fail("evaluate", *files(), f"--predictions={named.format(folder=tmp_path)}")
    assert found == message.format(folder=tmp_path)


def test_no_detection_at_all_scores_0(files, succeed):
    result = json.loads(succeed("evaluate", *files(found={"results": {}}), "--json"))
    assert result["average"] == 0


def test_real_detections_on_thumos14(shared_data, succeed):
    folder = shared_data / "thumos14"
    printed = succeed(
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
    "flags, message",
    [
        (
            ["--ambiguous=a.txt"],
            "--ambiguous: is given; expected --metric=map and another --protocol than activitynet",
        ),
        (["--metric=ar", "--max_proposals=nan"], "--max_proposals: is nan; expected a finite number"),
        (
            ["--protocol=wtalc", "--metric=ar"],
            "--protocol: is wtalc; expected activitynet with --metric=ar",
        ),
        (
            ["--protocol=wtalc", "--ambiguous=none.txt"],
            "none.txt: no such file; expected a video name, start and end in seconds on each line",
        ),
        (["--tiou=1.5"], "--tiou: is '1.5'; expected thresholds above 0 and up to 1"),
        (
            ["--tiou=0.7:0.1:0.1"],
            '--tiou: is \'0.7:0.1:0.1\'; expected "first:last:step" or "a,b,c", for example 0.1:0.7:0.1',
        ),
        (
            ["--subset=val"],
            "{folder}/gt.json: has no video of subset 'val'; expected one of its subsets: 'test', 'train'",
        ),
        (["--predictions="], "--predictions: is missing; expected the path of a prediction file"),
        (["--ground_truth="], "--ground_truth: is missing; expected the path of a ground-truth file"),
        (["--predictions={folder}/no.json"], "{folder}/no.json: no such file; expected a JSON file"),
        (["p.json"], "p.json: is no flag; expected only --flag=value arguments"),
    ],
)
def test_bad_flags(flags, message, files, fail, tmp_path):
    flags = [flag.format(folder=tmp_path) for flag in flags]
    assert fail("evaluate", *files(), *flags) == message.format(folder=tmp_path)


def _detection(**changes):
    entry = {"label": "Jump", "score": 0.5, "segment": [0, 4], **changes}
    return {"results": {"v": [entry]}}


@pytest.mark.parametrize(
    "found, message",
    [
        (
            _detection(label="Fly"),
            "{p}: video 'v' has label 'Fly'; expected one of the 2 labels of {gt}",
        ),
        ({"results": {"u": []}}, "{p}: has video 'u'; expected videos of {gt}"),
        (
            _detection(score=float("nan")),
            "{p}: video 'v', detection 0: score or segment is not finite (nan, 0.0, 4.0); expected numbers",
        ),
        (
            _detection(segment=[4, 0]),
            "{p}: video 'v', detection 0: segment [4.0, 0.0] ends before it starts; expected start <= end",
        ),
        (
            '{"results": ',
            "{p}: is not JSON (line 1, column 13: Expecting value); expected a JSON file",
        ),
    ],
    ids=["label", "video", "nan", "order", "json"],
)
def test_bad_predictions(found, message, files, fail, tmp_path):
    expected = message.format(p=tmp_path / "p.json", gt=tmp_path / "gt.json")
    assert fail("evaluate", *files(found=found)) == expected


def test_a_subset_without_annotations(files, fail, tmp_path):
    truth = {"database": {"v": {"subset": "test", "annotations": []}}}
    assert fail("evaluate", *files(truth=truth)) == (
        f"{tmp_path / 'gt.json'}: no video of subset 'test' has an annotation; expected some"
    )
