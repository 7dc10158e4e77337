"""Every benchmark runs, small, and ends with its JSON line. No time is judged here."""

import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT

SMALL_STEP = "--batch_size=4 --num_snippets=16 --hidden_dim=8 --num_clusters=4 --width=6"
COMMANDS = {
    "train_step": f"{SMALL_STEP} --repeats=1 --steps=2 --num_videos=4 --peers=",
    "sinkhorn": "--repeats=1 --rows=100,200 --columns=4 --peers=ott,pot",
    "localize": "--repeats=1 --num_videos=3 --width=4 --peers=loops",
    "evaluate": "--repeats=1 --num_videos=3",
    "end_to_end": f"{SMALL_STEP} --fraction=0.002 --eval_every=4 --num_train=6 --num_test=3 --nopeer",
    "feeding": "--num_videos=4 --batch_size=4 --num_snippets=8 --hidden_dim=8 --width=6 --steps=2 "
    "--num_workers=0",
    "activitynet": "--folder={folder} --num_train=80 --num_test=20 --num_classes=3 --width=6 --steps=2 "
    "--flags=--num_snippets=8,--hidden_dim=8,--num_clusters=4,--noreport,--num_workers=0",
    "report": "--repeats=1 --num_videos=3",
    "scaling": "--repeats=1 --rows=100,200 --columns=4,8 --snippets=8,16 --videos=1,2 --devices=1 --width=4",
}


def run(name, *flags, environment):
    return subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *flags],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_benchmark_prints_a_table_and_last_a_json_line(name, environment, tmp_path):
    ended = run(name, *COMMANDS[name].format(folder=tmp_path).split(), environment=environment)
    assert ended.returncode == 0, ended.stderr
    header, rule, *rows, last = ended.stdout.splitlines()
    assert set(rule) == {"-"}
    assert len(rows) >= 1
    assert header.strip()
    line = json.loads(last)
    assert line["benchmark"] == name
    assert {"ours_s", "peer", "peer_s", "ratio"} <= set(line)
    assert line["ours_s"] > 0
    if line["peer_s"] is not None:
        assert line["ratio"] == pytest.approx(line["ours_s"] / line["peer_s"])
    if name == "activitynet":
        assert min(line["peak_bytes"], line["peak_bytes_of_a_tenth"]) > 100e6
    if name == "feeding":
        assert 0 < line["waiting_share"] < 1
    if name == "train_step":
        assert line["gemm_fraction"] == pytest.approx(line["gemm_s"] / line["ours_s"])
        assert line["dispatch_fraction"] == pytest.approx(line["dispatch_s"] / (2 * line["ours_s"]))


NUMBERS = 'expected "first:last:step" or "a,b,c", for example 0.1:0.7:0.1'


@pytest.mark.parametrize(
    "name, flag, message",
    [
        ("train_step", "--peers=jit", "--peers: is jit; expected some of eager, compile"),
        ("sinkhorn", "--peers=pytorch", "--peers: is pytorch; expected some of ott, pot"),
        ("sinkhorn", "--rows=ten", f"--rows: is 'ten'; {NUMBERS}"),
    ],
)
def test_bad_flags_are_named(name, flag, message, environment):
    ended = run(name, flag, environment=environment)
    assert (ended.returncode, ended.stderr) == (2, f"error: {message}\n")
