import dataclasses
import json

import pytest

from case_jax.data.info import (
    ACTIVITYNET,
    AS_STORED,
    FIELDS,
    THUMOS14,
    DatasetInfo,
    Reading,
    as_fields,
    as_settings,
    info_from,
    known_fields,
    read_fields,
    read_info,
)
from tests.helpers.refusals import assert_parts, bad, refusal

DEFAULTS = {"thumos14": THUMOS14, "activitynet": ACTIVITYNET}
# Values that differ from every default.
VALUES = {
    "streams": ["acc", "gyro"],
    "frames_per_second": 30,
    "frames_per_snippet": 8.5,
    "classes": ["Jump", "Run"],
    "subsets": {"train": "a", "test": "b"},
    "annotations": "gt.json",
    "rescaled": True,
    "crops": "mean",
    "dtype": "bfloat16",
}


def write(folder, content):
    (folder / "dataset.json").write_text(content if isinstance(content, str) else json.dumps(content))


def test_every_field_has_a_value_here():
    assert list(VALUES) == [field.name for field in FIELDS]


def test_every_fact_is_filled_by_one_field():
    filled = []
    for field in FIELDS:
        if field.fills is not None:
            filled += [field.fills] if isinstance(field.fills, str) else field.fills.values()
    assert sorted(filled) == sorted(field.name for field in dataclasses.fields(DatasetInfo))


def test_thumos14():
    assert list(THUMOS14.classes) == sorted(set(THUMOS14.classes))
    assert len(THUMOS14.classes) == 20
    assert THUMOS14.streams == ("rgb", "flow")
    assert THUMOS14.seconds_per_snippet == 0.64


@pytest.mark.parametrize("layout", DEFAULTS)
def test_no_file_gives_the_layouts_defaults(layout, tmp_path):
    assert read_fields(tmp_path, layout) == {}
    assert read_info(tmp_path, layout) == DEFAULTS[layout]
    write(tmp_path, {})
    assert read_info(tmp_path, layout) == DEFAULTS[layout]


def test_fields_that_are_left_out_keep_their_defaults(tmp_path):
    write(tmp_path, {"subsets": {"test": "validation"}, "frames_per_second": 30})
    expected = dataclasses.replace(THUMOS14, test_subset="validation", frames_per_second=30.0)
    assert read_info(tmp_path) == expected
    assert expected.seconds_per_snippet == 16 / 30


@pytest.mark.parametrize("layout", DEFAULTS)
@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_a_field_alone_changes_what_it_fills(field, layout, tmp_path):
    write(tmp_path, {field.name: VALUES[field.name]})
    if layout not in field.layouts:
        message = refusal(read_info, tmp_path, layout)
        assert_parts(message, tmp_path / "dataset.json", f"unknown … {field.name!r}", "streams … subsets")
        return
    found = dataclasses.asdict(read_info(tmp_path, layout))
    default = dataclasses.asdict(DEFAULTS[layout])
    fills = field.fills or {}
    expected = {fills: None} if isinstance(fills, str) else dict.fromkeys(fills.values())
    assert {name for name in found if found[name] != default[name]} == set(expected)


@pytest.mark.parametrize("layout", DEFAULTS)
def test_written_fields_are_read_to_the_same_facts(layout, tmp_path):
    fields = {name: VALUES[name] for name in known_fields(layout)}
    write(tmp_path, fields)
    info = read_info(tmp_path, layout)
    written = as_fields(info, layout)
    fields.pop("annotations", None)  # tells no fact
    assert json.loads(json.dumps(written)) == fields
    write(tmp_path, written)
    assert read_info(tmp_path, layout) == info == info_from(read_fields(tmp_path, layout), layout)


@pytest.mark.parametrize("layout", DEFAULTS)
def test_rare_fields_are_written_only_where_they_differ(layout):
    rare = {field.name for field in FIELDS if field.rare}
    assert rare == {"rescaled", "crops", "dtype"}
    assert not rare & set(as_fields(DEFAULTS[layout], layout))


def test_runs_keep_later_facts_only_where_they_differ():
    usual = as_settings(THUMOS14)
    assert list(usual)[-1] == "rescaled"  # as version 0.1.0 wrote it
    changed = dataclasses.replace(THUMOS14, crops="mean_first")
    assert as_settings(changed) == {**usual, "crops": "mean_first"}
    assert changed.reading == AS_STORED._replace(crops="mean_first")
    assert DatasetInfo(**as_settings(changed)) == changed


def test_unknown_readings_are_told():
    assert AS_STORED.is_known
    assert not Reading(crops="max").is_known
    assert not Reading(dtype="float8").is_known


NUMBER, NAMES, FOLDER = "number", "different names", "folder"
RATES = [
    (0, "above 0"),
    (-25, "above 0"),
    (float("nan"), "above 0"),
    (float("inf"), "above 0"),
    ("25", "above 0"),
    (True, "above 0"),
    (None, "above 0"),
    (1e300, "1e-6 … 1e9"),
    (1e-320, "1e-6 … 1e9"),  # times would overflow
    (10**400, "1e-6 … 1e9"),
]
LISTS = [[], "ab", None, ["a", "a"], ["a", 1], [["a"]], [""]]
PATHS = ["../x", "/etc", "..", ".", "a\\b", "s" * 300]
REFUSED = [
    *(
        (name, value, expected)
        for name in ("frames_per_second", "frames_per_snippet")
        for value, expected in RATES
    ),
    *((name, value, "different names") for name in ("streams", "classes") for value in LISTS),
    *(("streams", ["rgb", value], "folder names") for value in PATHS),
    *(("subsets", value, '"train" … "test"') for value in ([], ["a"], {"val": "a"}, {"train": 1}, None)),
    *(("annotations", value, "name of a file") for value in ("../gt.json", "/etc/passwd", "..", "", 3)),
    *(("rescaled", value, "true or false") for value in (1, "yes", None)),
    *(("crops", value, "none, mean, mean_first, mean_second") for value in (10, "first", None, True, [])),
    *(("dtype", value, "stored, bfloat16") for value in ("float32", "", None, 16, {})),
]


@pytest.mark.parametrize("name, value, expected", REFUSED)
def test_a_value_of_the_wrong_kind_is_named(name, value, expected, tmp_path):
    write(tmp_path, {name: value})
    offending = value[-1] if value in [["rgb", path] for path in PATHS] else value
    message = refusal(read_info, tmp_path, "activitynet")
    assert_parts(message, tmp_path / "dataset.json", f"{name!r} … {offending!r}", expected)


@pytest.mark.parametrize(
    "content, wrong, expected",
    [
        bad("not JSON", "fps=25", "not JSON … line 1", "JSON"),
        bad("a list", "[]", "JSON object", "'classes'"),
        bad("another field", '{"fps": 25}', "unknown … 'fps'", "streams, frames_per_second"),
        bad("no class", '{"classes": ["a", "ambiguous"]}', "'classes' has 'ambiguous'", "without it"),
        bad("a field twice", '{"classes": ["a"], "classes": ["b"]}', "'classes' twice", "once"),
        bad("NUL in a name", '{"streams": ["a\\u0000"]}', r"a\x00", "NUL"),
    ],
)
def test_a_file_of_the_wrong_form_is_named(content, wrong, expected, tmp_path):
    write(tmp_path, content)
    assert_parts(refusal(read_info, tmp_path), tmp_path / "dataset.json", wrong, expected)
