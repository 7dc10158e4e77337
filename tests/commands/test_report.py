import json
import shutil

import pytest

from tests.helpers.commands import refuse_here, succeed_here
from tests.helpers.refusals import assert_parts


@pytest.fixture
def workdir(trained, tmp_path):
    """A copy of a run that has no report yet."""
    return shutil.copytree(trained.workdir, tmp_path / "run")


def _change_config(workdir, **values):
    config = json.loads((workdir / "config.json").read_text())
    (workdir / "config.json").write_text(json.dumps(config | values))


def test_a_workdir_is_enough(trained, workdir):
    assert not (workdir / "report.html").exists()
    printed = succeed_here("report", f"--workdir={workdir}")
    assert printed.endswith(f"report: {workdir}/report.html\n")
    # The table is the one that training ended with.
    table = trained.stdout[trained.stdout.index("mAP (%) at tIoU") :]
    assert printed.startswith(table.rstrip())
    before = (workdir / "report.html").read_bytes()
    assert b"4 videos with" in before
    for suffix in ("png", "svg"):
        assert (workdir / f"timeline.{suffix}").stat().st_size > 5000

    # An evaluation writes the very same report.
    flags = [flag for flag in trained.flags if flag != "--noreport"]
    succeed_here("train", *flags, f"--workdir={workdir}", "--mode=evaluate", "--num_steps=6")
    assert (workdir / "report.html").read_bytes() == before


def test_data_that_has_moved_is_found_by_the_flag(small_dataset, workdir, tmp_path):
    _change_config(workdir, data=str(tmp_path / "gone"))
    assert_parts(
        refuse_here("report", f"--workdir={workdir}"), f"{tmp_path}/gone", "no such folder", "gt.json"
    )
    succeed_here("report", f"--workdir={workdir}", f"--data_dir={small_dataset}", "--noin_memory")


@pytest.mark.slow
def test_every_seed_has_its_report(workdir, tmp_path):
    for seed in (2, 10):
        shutil.copytree(workdir, tmp_path / "seeds" / f"seed_{seed}")
    printed = succeed_here("report", f"--workdir={tmp_path}/seeds")
    assert [line for line in printed.splitlines() if line.startswith("report")] == [
        f"report: {tmp_path}/seeds/seed_{seed}/report.html" for seed in (2, 10)
    ]


def test_without_data_nothing_is_written(workdir):
    _change_config(workdir, data=None)
    message = refuse_here("report", f"--workdir={workdir}")
    assert_parts(message, "--data_dir", "missing", f"{workdir}")
    assert not (workdir / "report.html").exists()
