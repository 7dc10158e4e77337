import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.helpers.commands import refuse_here, run_here, succeed_here
from tests.helpers.refusals import assert_parts

FLAGFILE = ROOT / "experiments" / "flags" / "activitynet12.flags"


def test_the_table_of_activitynets_layout(activitynet):
    printed = succeed_here("check", f"--flagfile={FLAGFILE}", f"--data_dir={activitynet}")
    facts, table, examples, verdict = printed.rstrip("\n").split("\n\n")
    assert facts.splitlines()[1].startswith("training (subset training): 7 of 8 videos are used, with ")
    rows = {line[:38].strip(): line[38:].split(maxsplit=2) for line in table.splitlines()[2:]}
    assert rows["videos without features"] == ["1", "1", "left out, and counted in every report"]
    assert rows["streams of different lengths"] == ["0", "0"]
    assert f"videos without features: for example {7:011d}" in examples
    assert verdict == "this data set can be trained on"


def test_it_refuses_what_training_refuses(small_dataset, tmp_path):
    """In THUMOS14's layout."""
    folder = tmp_path / "D"
    shutil.copytree(small_dataset, folder)
    gone = sorted((folder / "features" / "test" / "flow").iterdir())[0]
    gone.unlink()
    result = checked(folder, "--novalues")
    assert result["refused"]
    assert counts(result)["videos without features"] == {"train": 0, "test": 1}

    content = json.loads((folder / "gt.json").read_text())
    first = next(name for name, entry in content["database"].items() if entry["subset"] == "train")
    content["database"][first]["subset"] = "test"
    (folder / "gt.json").write_text(json.dumps(content))
    shutil.rmtree(folder / "features" / "test")
    found = counts(checked(folder))
    assert found["videos of another subset"] == {"train": 1, "test": 0}
    assert found["videos without features"] == {"train": 0, "test": 4}


def test_streams_that_differ_by_one_snippet_are_refused_if_strict(small_dataset, tmp_path):
    folder = tmp_path / "D"
    shutil.copytree(small_dataset, folder)
    path = sorted((folder / "features" / "test" / "flow").iterdir())[0]
    np.save(path, np.load(path)[:-1])
    printed = succeed_here("check", f"--data_dir={folder}", "--novalues")
    assert "cut to the shorter" in printed
    what = "streams that differ by one snippet"
    assert counts(checked(folder, "--novalues", "--strict"))[what] == {"train": 0, "test": 1}


def checked(folder: Path, *flags: str) -> dict:
    """What the command says of a data set that training would refuse."""
    ended = run_here("check", f"--data_dir={folder}", "--json", *flags)
    assert (ended.returncode, ended.stderr) == (1, "")
    return json.loads(ended.stdout)


def counts(result: dict) -> dict[str, dict[str, int]]:
    return {finding["what"]: finding["counts"] for finding in result["findings"]}


@pytest.mark.parametrize(
    "flags, named, wrong, expected",
    [
        ([], "--data_dir", "missing", "folder"),
        (["--data_dir={tmp}/none"], "{tmp}/none", "no such folder", "data set"),
        (["--data_dir={tmp}/file"], "{tmp}/file", "no such folder", "data set"),
        ([f"--data_dir={'a' * 300}"], "a" * 300, "no such folder", "data set"),
        (["--data_dir={tmp}"], "{tmp}", "0 .json files", "annotations"),
        (["--data_dir={tmp}", "--feature_store=tape"], "--feature_store", "'tape'", "device, disk"),
    ],
)
def test_bad_flags(flags, named, wrong, expected, tmp_path):
    (tmp_path / "file").touch()
    message = refuse_here("check", *(flag.format(tmp=tmp_path) for flag in flags))
    assert_parts(message, named.format(tmp=tmp_path), wrong, expected)
