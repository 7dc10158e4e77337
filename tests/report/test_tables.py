import numpy as np
import pytest

from case_jax.evaluation.false_alarms import FalseAlarms
from case_jax.evaluation.mean_average_precision import DetectionMap
from case_jax.report.tables import alarm_table, format_table, map_table, per_class_table, seeds_table


def _result(tiou, per_class, classes=("Jump", "Run")):
    return DetectionMap(np.array(tiou), classes, np.array(per_class, float))


def test_format_table_aligns_every_column():
    table = format_table([["a", "long title", "b"], ["wide cell", "1", "22"]])
    assert table.splitlines() == [
        "a          long title   b",
        "-------------------------",
        "wide cell           1  22",
    ]


def test_format_table_leaves_no_blanks_at_line_ends():
    table = format_table([["a", "b"], ["c", ""]])
    assert all(line == line.rstrip() for line in table.splitlines())


def test_map_table_has_the_averages_of_the_field():
    tiou = np.arange(1, 8) / 10
    result = _result(tiou, [1 - tiou, 1 - tiou])
    header, rule, last, best = map_table({"last": result, "best": result}).splitlines()
    assert header.split("  ")[0] == "mAP (%) at tIoU"
    assert [cell for cell in header.split("  ") if "avg" in cell] == [
        *("avg 0.1:0.5", "avg 0.3:0.7", "avg 0.1:0.7")
    ]
    assert rule == "-" * len(header)
    expected = "90.00 80.00 70.00 60.00 50.00 40.00 30.00 70.00 50.00 60.00".split()
    assert last.split() == ["last", *expected]
    assert best.split() == ["best", *expected]


@pytest.mark.parametrize(
    "tiou, averages",
    [
        ([0.1, 0.2, 0.3, 0.4, 0.5], ["avg 0.1:0.5"]),
        ([0.3, 0.4, 0.5, 0.6, 0.7], ["avg 0.3:0.7"]),
        ([0.5, 0.75, 0.95], ["avg"]),
        ([0.5], ["avg"]),
    ],
)
def test_map_table_averages_only_what_was_evaluated(tiou, averages):
    result = _result(tiou, [np.linspace(1, 0, len(tiou)), np.zeros(len(tiou))])
    header, _, row = map_table({"test": result}).splitlines()
    titles = [cell.strip() for cell in header.split("  ") if cell.strip()]
    assert titles == ["mAP (%) at tIoU", *map(str, tiou), *averages]
    assert row.split()[-1] == f"{100 * result.average:.2f}"


def test_map_table_averages_a_range_inside_finer_thresholds():
    tiou = [0.1, 0.15, 0.2, 0.3, 0.4, 0.5]
    values = [1.0, 0.0, 1.0, 1.0, 1.0, 1.0]
    row = map_table({"test": _result(tiou, [values], ("Jump",))}).splitlines()[-1]
    assert row.split()[-1] == "100.00"


def test_per_class_table_has_a_row_for_each_class():
    result = _result([0.3, 0.5], [[1, 0.5], [0.25, 0]], ("Jump", "Tennis swing"))
    assert per_class_table(result).splitlines() == [
        "AP (%) at tIoU     0.3    0.5    avg",
        "------------------------------------",
        "Jump            100.00  50.00  75.00",
        "Tennis swing     25.00   0.00  12.50",
    ]


def _cells(line):
    """Row title and numbers; titles hold single blanks only."""
    title, *cells = [cell.strip() for cell in line.split("  ") if cell.strip()]
    return title, [float(cell) for cell in cells]


def test_seeds_table_has_mean_and_sample_deviation():
    tiou, rng = np.arange(1, 8) / 10, np.random.default_rng(0)
    values = rng.random((3, 2, 7))  # seed, last and best, threshold
    seeds = {
        seed: {
            f"last (step {60 + seed})": _result(tiou, [last, last]),
            f"best (step {seed})": _result(tiou, [best, best]),
        }
        for seed, (last, best) in zip((4, 5, 6), values, strict=True)
    }
    header, rule, *lines = seeds_table(seeds).splitlines()
    one = map_table(seeds[4]).splitlines()[0]
    assert header.split() == one.split()
    assert set(rule) == {"-"}
    rows = dict(map(_cells, lines))
    assert list(rows) == [
        "seed 4, last (step 64)",
        "seed 4, best (step 4)",
        "seed 5, last (step 65)",
        "seed 5, best (step 5)",
        "seed 6, last (step 66)",
        "seed 6, best (step 6)",
        "last, mean of 3 seeds",
        "last, standard deviation",
        "best, mean of 3 seeds",
        "best, standard deviation",
    ]
    for which, of_seeds in (("last", values[:, 0]), ("best", values[:, 1])):
        averages = [of_seeds[:, :5], of_seeds[:, 2:], of_seeds]
        columns = 100 * np.concatenate([of_seeds, *(a.mean(axis=1, keepdims=True) for a in averages)], axis=1)
        for seed, expected in zip((4, 5, 6), columns):
            (found,) = (row for title, row in rows.items() if title.startswith(f"seed {seed}, {which} "))
            np.testing.assert_allclose(found, expected, atol=0.0051)
        np.testing.assert_allclose(rows[f"{which}, mean of 3 seeds"], columns.mean(axis=0), atol=0.0051)
        deviation = np.sqrt(np.square(columns - columns.mean(axis=0)).sum(axis=0) / 2)
        np.testing.assert_allclose(rows[f"{which}, standard deviation"], deviation, atol=0.0051)


def test_all_seeds_together_stand_at_the_end():
    one, other = (_result([0.5], [[value], [value]]) for value in (0.25, 0.5))
    seeds = {0: {"last (step 2)": one}, 1: {"last (step 2)": one}}
    *same, row = seeds_table(seeds, {"all seeds together, last (step 2)": other}).splitlines()
    assert _cells(row) == ("all seeds together, last (step 2)", [50.0, 50.0])
    assert [_cells(line) for line in same[2:]] == [
        _cells(line) for line in seeds_table(seeds).splitlines()[2:]
    ]


def test_one_seed_has_no_deviation():
    lines = seeds_table({7: {"last (step 2)": _result([0.5], [[0.25], [0.75]])}}).splitlines()
    assert [_cells(line)[0] for line in lines[2:]] == [
        "seed 7, last (step 2)",
        "last, mean of 1 seeds",
        "last, standard deviation",
    ]
    assert [line.split()[-2:] for line in lines[2:]] == [["50.00", "50.00"]] * 2 + [["nan", "nan"]]


def test_false_alarms_are_told_with_the_actions_found_and_scores_of_any_scale():
    columns = np.array([[123456.0, 0.25, 0.00012], [0.0, 1.25, 800.0], [0.125, 0.5, 1.0]])
    said, header, _, *rows = alarm_table(FalseAlarms(*columns, 1234, 2.0, 0.5)).splitlines()
    assert said == "false alarms in 1,234 videos without any action, 2.00 hours:"
    assert header.split("  ") == ["from score", "false alarms per hour", "actions found (%) at tIoU 0.5"]
    assert [row.split() for row in rows] == [
        ["1.235e+05", "0.0", "12.5"],
        ["0.25", "1.2", "50.0"],
        ["0.00012", "800.0", "100.0"],
    ]


def test_without_detections_there_is_no_table_of_false_alarms():
    none = np.zeros(0)
    assert alarm_table(FalseAlarms(none, none, none, 2, 0.5, 0.5)).splitlines() == [
        "false alarms in 2 videos without any action, 0.50 hours: none, as nothing was detected in any video"
    ]
