import os

import pytest

from case_jax.commands.outputs import check_outputs
from tests.helpers.refusals import assert_parts, refusal


def test_outputs_that_can_be_written(tmp_path):
    (tmp_path / "in").mkdir()
    check_outputs(
        files={"output": tmp_path / "new" / "folder" / "p.json", "csv": tmp_path / "t.csv", "page": None},
        folders={"vtt": tmp_path / "subtitles", "srt": tmp_path / "subtitles", "other": tmp_path / "in"},
        own_folders={"workdir": tmp_path / "in" / "run"},
        inputs={"features": tmp_path / "in", "video": "", "videos": tmp_path / "gone"},
    )
    assert os.listdir(tmp_path) == ["in"]


@pytest.mark.parametrize(
    "given, named, wrong, expected",
    [
        ({"files": {"output": "p", "csv": "p"}}, "--csv", "p, as --output", "another file"),
        ({"files": {"output": "p"}, "folders": {"vtt": "x/../p"}}, "--output", "p, as --vtt", "another file"),
        (
            {"files": {"output": "link"}, "inputs": {"videos": "file"}},
            "--output",
            "link, as --videos",
            "another",
        ),
        (
            {"own_folders": {"workdir": "d"}, "inputs": {"data_dir": "d/."}},
            "--workdir",
            "as --data_dir",
            "folder",
        ),
        ({"files": {"output": "d"}}, "d", "Is a directory", None),
        ({"folders": {"vtt": "file"}}, "--vtt", "file is a file", "folder"),
        ({"files": {"output": "file/p"}}, "file", "Not a directory", None),
        ({"folders": {"vtt": "file/a/b"}}, "file/a/b", "Not a directory", None),
        ({"files": {"output": "locked/p"}}, "locked", "Permission denied", None),
        ({"own_folders": {"workdir": "locked/a/b"}}, "locked/a/b", "Permission denied", None),
    ],
)
def test_outputs_that_cannot(given, named, wrong, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "d").mkdir()
    (tmp_path / "locked").mkdir()
    access = os.access  # root may write everywhere
    monkeypatch.setattr(os, "access", lambda path, mode: "locked" not in str(path) and access(path, mode))
    message = refusal(lambda: check_outputs(**given))
    if expected is None:
        assert message == f"{named}: cannot be written ({wrong})"
    else:
        assert_parts(message, named, wrong, expected)
