import json
import shutil

import pytest


@pytest.fixture
def workdir(trained, tmp_path):
    """A copy of a run that has no report yet."""
    return shutil.copytree(trained.workdir, tmp_path / "run")


def _change_config(workdir, **values):
    config = json.loads((workdir / "config.json").read_text())
    (workdir / "config.json").write_text(json.dumps(config | values))


def test_a_workdir_is_enough(trained, workdir, succeed):
    assert not (workdir / "report.html").exists()
    printed = succeed("report", f"--workdir={workdir}")
    assert printed.endswith(f"report: {workdir}/report.html\n")
    # The table is the one that training ended with.
    table = trained.stdout[trained.stdout.index("mAP (%) at tIoU") :]
    assert printed.startswith(table.rstrip())
    before = (workdir / "report.html").read_bytes()
    assert b"4 videos with" in before
    for suffix in ("png", "svg"):
        assert (workdir / f"timeline.{suffix}").stat().st_size > 5000

    # The same again from an evaluation, but for nothing.
    flags = [flag for flag in trained.flags if flag != "--noreport"]
    succeed("thumos", *flags, f"--workdir={workdir}", "--mode=evaluate", "--num_steps=6")
    assert (workdir / "report.html").read_bytes() == before


def test_data_that_has_moved_is_found_by_the_flag(small_dataset, workdir, tmp_path, succeed, fail):
    _change_config(workdir, data=str(tmp_path / "gone"))
    assert fail("report", f"--workdir={workdir}") == (
        f"{tmp_path}/gone: no such folder; expected features/, split_*.txt and gt.json in it"
    )
    succeed("report", f"--workdir={workdir}", f"--data_dir={small_dataset}", "--noin_memory")


def test_every_seed_has_its_report(workdir, tmp_path, succeed):
    for seed in (2, 10):
        shutil.copytree(workdir, tmp_path / "seeds" / f"seed_{seed}")
    printed = succeed("report", f"--workdir={tmp_path}/seeds")
    assert [line for line in printed.splitlines() if line.startswith("report")] == [
        f"report: {tmp_path}/seeds/seed_{seed}/report.html" for seed in (2, 10)
    ]


def test_errors(workdir, tmp_path, fail):
    assert fail("report") == "--workdir: is missing; expected the workdir of a run"
    assert fail("report", f"--workdir={tmp_path}/none") == (
        f"{tmp_path}/none/config.json: no such file; expected a JSON file"
    )
    _change_config(workdir, data=None)
    assert fail("report", f"--workdir={workdir}") == (
        f"--data_dir: is missing; expected the data set of {workdir}"
    )
    assert not (workdir / "report.html").exists()
