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
        "1 video of subset 'test' with 2 instances of 2 classes; 3 detections in 1 of these videos (1 more "
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


# Beyond what the ground truth has


def detection(label, score=0.5, segment=(20, 30)):
    return {"label": label, "score": score, "segment": segment}


@pytest.mark.parametrize("protocol", ["activitynet", "thumos14"])
def test_oracles_tell_what_one_perfect_thing_would_bring(protocol, files):
    flags = [*files(), f"--protocol={protocol}"]
    plain = json.loads(succeed_here("evaluate", *flags, "--json"))
    result = json.loads(succeed_here("evaluate", *flags, "--json", "--oracles"))
    oracles = result.pop("oracles")
    assert result == plain
    assert oracles["as found"] == {name: plain[name] for name in ("map", "average")}
    assert oracles["perfect proposals"]["average"] > plain["average"]
    *_, table, _ = succeed_here("evaluate", *flags, "--oracles").split("\n\n")
    rows = [line.rsplit(maxsplit=1) for line in table.splitlines()[2:]]
    assert [title.split("  ")[0] for title, _ in rows] == list(oracles)
    assert [average for _, average in rows] == [f"{100 * one['average']:.2f}" for one in oracles.values()]


def test_what_the_ground_truth_cannot_judge_is_left_out_and_counted(files, tmp_path):
    more = {
        "v": [*FOUND["results"]["v"], detection("Fly", 1.0), detection("Swim", 1.0), detection("Fly", 1.0)],
        "x": [detection("Jump")],
    }
    plain, lenient = files(), {"results": {**FOUND["results"], **more}}
    expected = succeed_here("evaluate", *plain, "--json")
    tables = succeed_here("evaluate", *plain).split("\n\n")
    flags = files(found=lenient)
    result = json.loads(succeed_here("evaluate", *flags, "--json"))
    assert result.pop("left_out") == {"videos": {"x": 1}, "classes": {"Fly": 2, "Swim": 1}}
    assert result == json.loads(expected)
    *same, population = succeed_here("evaluate", *flags).split("\n\n")
    assert same == tables[:-1]
    first, *notes = population.splitlines()
    assert first.split(", computed")[0] == tables[-1].split(", computed")[0]  # it counts what is scored
    assert notes == [
        "left out: 1 detection in 1 video that the ground truth does not annotate (x)",
        "left out: 3 detections of 2 classes that this subset never has (Fly, Swim)",
    ]
    refused = refuse_here("evaluate", *flags, "--strict")
    assert_parts(refused, tmp_path / "p.json", "'v' … 'Fly'", "2 labels of")


def test_proposals_need_no_label(files, tmp_path):
    bare = {
        video: [{"score": e["score"], "segment": e["segment"]} for e in entries]
        for video, entries in FOUND["results"].items()
    }
    flags = ["--metric=ar", "--tiou=0.4,0.9", "--max_proposals=2", "--json"]
    expected = succeed_here("evaluate", *files(), *flags)
    ours = files(found={"results": bare})
    assert succeed_here("evaluate", *ours, *flags) == expected
    assert_parts(refuse_here("evaluate", *ours), tmp_path / "p.json", "'v', detection 0 … 0.9", '"label"')


@pytest.mark.parametrize(
    "flags, counts, said",
    [
        (["--protocol=activitynet"], False, "detections there count as they do without the interval"),
        (["--protocol=thumos14"], True, "false positives that overlap one do not count"),
        (["--protocol=wtalc"], True, "detections that touch one are deleted"),
        (["--metric=ar"], False, "passed over"),
    ],
)
def test_ambiguous_intervals_of_the_ground_truth_are_no_class(flags, counts, said, files, tmp_path):
    """They count as those of --ambiguous do where that may be given, and not at all otherwise."""
    (tmp_path / "a.txt").write_text("v 45 46\n")
    given_apart = [f"--ambiguous={tmp_path}/a.txt"] if counts else []
    expected = succeed_here("evaluate", *files(), *flags, *given_apart).split("\n\n")
    vague = json.loads(json.dumps(TRUTH))
    vague["database"]["v"]["annotations"].append({"label": "Ambiguous", "segment": [45, 46]})
    ours = files(truth=vague)
    *tables, population = succeed_here("evaluate", *ours, *flags).split("\n\n")
    assert tables == expected[:-1]
    first, note = population.splitlines()
    assert first.split(", computed")[0] == expected[-1].split(", computed")[0]
    assert note == f"1 ambiguous interval, never a class: {said}"
    assert json.loads(succeed_here("evaluate", *ours, *flags, "--json"))["ambiguous_intervals"] == 1


@pytest.fixture
def with_still(files):
    """Two videos without any action beside those above, one of half an hour, one of unknown duration."""
    still = {"subset": "test", "annotations": []}
    truth = {**TRUTH["database"], "still": {**still, "duration": 1800}, "calm": still}
    alarms = [detection("Run", 0.95), detection("Jump", 0.75)]
    results = {**FOUND["results"], "still": alarms, "calm": [detection("Fly", 0.9)]}
    return files(truth={"database": truth}, found={"results": results})


def test_false_alarms_in_videos_without_any_action(with_still):
    flags = [*with_still, "--tiou=0.3,0.5"]
    result = json.loads(succeed_here("evaluate", *flags, "--json"))
    assert result["per_class"] == {"Jump": [1.0, 0.0], "Run": [1 / 3, 1 / 3]}  # one more surer false positive
    # Only Run's second detection finds an action at tIoU 0.5, so its score is the only one.
    assert result["false_alarms"] == {
        "score": [0.7], "per_hour": [4.0], "recall": [0.5], "num_videos": 1, "hours": 0.5, "tiou": 0.5,
    }  # fmt: skip
    assert result["action_free_without_duration"] == 1
    chosen = json.loads(succeed_here("evaluate", *flags, "--json", "--alarm_scores=0.96,0.95,0.1"))
    assert chosen["false_alarms"]["per_hour"] == [0.0, 2.0, 4.0]
    assert chosen["false_alarms"]["recall"] == [0.0, 0.0, 0.5]
    _, _, table, population = succeed_here("evaluate", *flags).split("\n\n")
    assert table.splitlines()[-1].split() == ["0.7", "4.0", "50.0"]
    assert population.splitlines()[1] == (
        "1 video without any action has no duration in the ground truth: left out of false alarms per hour"
    )


def test_recall_asks_nothing_of_videos_without_any_action(with_still, files):
    flags = ["--metric=ar", "--tiou=0.4,0.9"]
    population = succeed_here("evaluate", *with_still, *flags).split("\n\n")[1]
    assert population.splitlines()[1:] == [
        "left out: 3 detections in 2 videos without any action (still, calm)"
    ]
    with_them = json.loads(succeed_here("evaluate", *with_still, *flags, "--json"))
    assert with_them.pop("left_out") == {"action_free": {"still": 2, "calm": 1}}
    assert with_them == json.loads(succeed_here("evaluate", *files(), *flags, "--json"))


@pytest.mark.slow
def test_hundreds_of_thousands_of_detections(tmp_path):
    """In each video the surest detection finds the action, and 1,999 others follow all of those."""
    segments = [[0, 4], *([10 + i, 11 + i] for i in range(1_999))]
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
        (["--alarm_scores=0.5"], "--alarm_scores", "no action-free video … 'test' … duration", "empty"),
        (["--alarm_scores=nan"], "--alarm_scores", "'nan'", "finite"),
        (["--alarm_scores=high"], "--alarm_scores", "'high'", "a,b,c"),
        (["--alarm_scores=1", "--metric=ar"], "--alarm_scores", "given", "--metric=map"),
        (["--oracles", "--metric=ar"], "--oracles", "given", "--metric=map"),
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
