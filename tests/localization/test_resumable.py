import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from case_jax.data.fingerprints import FilesMark
from case_jax.localization.resumable import ResumableDetections
from tests.helpers.refusals import refusal

IDENTITY = {"step": 3, "window": 193}
ENTRIES = {
    name: [{"label": "Jump", "score": 0.5, "segment": (0.0, float(i))}] for i, name in enumerate("abc")
}
FEATURES = FilesMark(1_000, "0f0f")  # as they are when videos are done


@pytest.fixture
def output(tmp_path):
    return tmp_path / "found.json"


def open_record(output, identity=IDENTITY):
    """A record, which has nothing to say."""
    said = []
    record = ResumableDetections(output, identity, said.append)
    assert not said
    return record


def known(record, features=FEATURES):
    """The videos that are done with these features."""
    found = {name: record.entries(name, features) for name in ENTRIES}
    return {name: entries for name, entries in found.items() if entries is not None}


def add(record, *names):
    for name in names:
        record.add(name, FEATURES, ENTRIES[name])


def write(record, results):
    record.write(results, dict.fromkeys(ENTRIES, FEATURES))


def part(*names):
    return {name: ENTRIES[name] for name in names}


def partial_of(output):
    return output.with_name("found.json.partial")


def test_the_first_video_begins_the_partial_file(output):
    record = open_record(output)
    assert not partial_of(output).exists()
    add(record, "a")
    row = {"video": "a", "features": "0f0f", "detections": ENTRIES["a"]}
    assert partial_of(output).read_text() == f"{json.dumps(IDENTITY)}\n{json.dumps(row)}\n"


def test_an_interrupted_command_goes_on(output):
    add(open_record(output), "a", "b")
    again = open_record(output)
    assert known(again) == part("a", "b")
    add(again, "c")
    assert known(open_record(output)) == ENTRIES


def test_a_finished_command_is_remembered_without_the_partial_file(output):
    record = open_record(output)
    add(record, *ENTRIES)
    write(record, ENTRIES)
    record.forget()
    assert [path.name for path in output.parent.iterdir()] == ["found.json"]
    assert known(open_record(output)) == ENTRIES
    record.forget()  # twice is no error


def test_a_video_whose_features_have_changed_is_not_done(output):
    record = open_record(output)
    add(record, "a")
    older = FilesMark(FEATURES.changed - 1, "f0f0")  # other features, though no later ones
    assert "a" in open_record(output)
    assert "b" not in open_record(output)
    assert known(open_record(output), older) == {}
    write(record, ENTRIES)
    record.forget()
    assert "b" in open_record(output)
    assert known(open_record(output), older) == {}


def test_files_of_earlier_versions_hold_for_features_that_are_older(output):
    rows = [IDENTITY, {"video": "a", "changed": 1_000, "detections": ENTRIES["a"]}]
    partial_of(output).write_text("".join(json.dumps(row) + "\n" for row in rows))
    output.write_text(json.dumps({"results": part("b"), "external_data": IDENTITY}))
    written = os.stat(output).st_mtime_ns
    for changed, done in ((1_000, "ab"), (1_001, "b"), (written, "b"), (written + 1, "")):
        assert known(open_record(output), FilesMark(changed, "any")) == part(*done)
    add(open_record(output), "c")
    assert known(open_record(output)) == part("a", "b", "c")


def test_the_output_and_the_partial_file_complete_each_other(output):
    record = open_record(output)
    write(record, part("a"))
    add(record, "b")
    assert known(open_record(output)) == part("a", "b")


def test_other_work_is_not_used_and_replaced(output):
    first = open_record(output)
    write(first, part("a"))
    add(first, "b")
    said = []
    record = ResumableDetections(output, {**IDENTITY, "window": 200}, said.append)
    (line,) = said
    assert line.startswith(f"{partial_of(output)}: ")
    assert "other settings" in line
    assert known(record) == {}
    add(record, "c")
    assert known(open_record(output, {**IDENTITY, "window": 200})) == part("c")


@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_a_partial_file_torn_anywhere_loses_only_the_torn_lines(tmp_path_factory, data):
    """As after a failure of power. The lines before the tear stay, and the file is mended as it grows."""
    output = tmp_path_factory.mktemp("torn") / "found.json"
    add(open_record(output), "a", "b")
    whole = partial_of(output).read_bytes()
    cut = data.draw(st.integers(0, len(whole)), label="bytes that are left")
    partial_of(output).write_bytes(whole[:cut])
    record = open_record(output)
    lines = whole[:cut].count(b"\n")
    assert known(record) == part(*"ab"[: max(0, lines - 1)])
    add(record, "c")
    assert known(open_record(output)) == part(*"ab"[: max(0, lines - 1)], "c")


@pytest.mark.parametrize(
    "row",
    [
        "not JSON",
        "[]",
        '{"video": "b"}',
        '{"video": 1, "changed": 0, "detections": []}',
        '{"video": "b", "changed": 0, "detections": [], "more": 0}',
        '{"video": "b", "features": 0, "detections": []}',
        '{"video": "b", "changed": 0, "detections": [{"label": "Jump"}]}',
        "[" * 100_000,
    ],
)
def test_a_damaged_line_and_what_follows_are_replaced(row, output):
    add(open_record(output), "a", "b")
    lines = partial_of(output).read_text().splitlines()
    partial_of(output).write_text("\n".join([*lines[:2], row, lines[2], ""]))
    record = open_record(output)
    assert known(record) == part("a")
    add(record, "c")
    assert known(open_record(output)) == part("a", "c")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"results": {"a": 1}}', '{"external_data": 1}'])
def test_a_damaged_output_is_replaced(content, output):
    record = open_record(output)
    write(record, part("a"))
    assert json.loads(output.read_text())["external_data"] == {**IDENTITY, "features_of": {"a": "0f0f"}}
    output.write_text(content)
    assert known(open_record(output)) == {}
    write(record, ENTRIES)
    assert known(open_record(output)) == ENTRIES


def test_a_partial_file_that_cannot_be_read_is_named(output):
    partial_of(output).mkdir()
    message = refusal(ResumableDetections, output, IDENTITY, print)
    assert message == f"{partial_of(output)}: cannot be read (Is a directory)"


def test_a_partial_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    record = open_record(tmp_path / "file" / "found.json")
    message = refusal(record.add, "a", FEATURES, ENTRIES["a"])
    assert message.startswith(f"{tmp_path}/file/found.json.partial: cannot be written (")


def test_scores_that_json_does_not_know_are_never_written(output):
    record = open_record(output)
    with pytest.raises(ValueError, match="JSON"):
        record.add("a", FEATURES, [{"label": "Jump", "score": float("nan"), "segment": [0, 1]}])
    assert not partial_of(output).exists()
