import dataclasses
import os

import jax
import pytest

from case_jax.runs import memory
from case_jax.runs.hardware import Hardware
from case_jax.runs.memory import check_memory
from case_jax.training.parallel import make_mesh
from tests.helpers.refusals import assert_parts, refusal
from tests.helpers.runs import SETTINGS


@pytest.fixture
def where(monkeypatch, tmp_path) -> Hardware:
    """One device, with 8 GB of memory."""
    (tmp_path / "max").write_text(f"{8 * 10**9}\n")
    monkeypatch.setattr(memory, "_CONTAINER", tmp_path / "max")
    return Hardware(make_mesh(jax.devices()[:1]))


def of(**fields):
    return SETTINGS._replace(config=dataclasses.replace(SETTINGS.config, **fields))


@pytest.mark.parametrize(
    "fields, named, wrong, expected",
    [
        ({"num_snippets": 10**9}, "--num_snippets", "1000000000 … 112 GB", "8 GB … --batch_size"),
        ({"hidden_dim": 10**9}, "--hidden_dim", "1000000000 … 224 GB", "8 GB"),
        ({"num_clusters": 10**9}, "--num_clusters", "1000000000 … 48 GB", "8 GB"),
    ],
)
def test_sizes_that_no_memory_here_holds(where, fields, named, wrong, expected):
    assert_parts(refusal(check_memory, of(**fields), where), named, wrong, expected)


def test_what_certainly_needs_less_is_let_through(where):
    check_memory(SETTINGS, where)
    check_memory(
        of(num_snippets=50_000_000), where
    )  # a batch of 2 x 50 million snippets of 14 float32: 5.6 GB
    assert_parts(
        refusal(lambda: check_memory(of(num_snippets=50_000_000), where, num_seeds=2)),
        "--num_snippets",
        "11 GB",
    )


def test_devices_divide_a_batch(where):
    two = Hardware(make_mesh(jax.devices()[:2]))
    check_memory(of(num_snippets=100_000_000), two)
    assert refusal(check_memory, of(num_snippets=100_000_000), where)


def test_without_a_limit_of_a_container_the_machine_is_the_limit(where, monkeypatch, tmp_path):
    for content in ("max\n", None):
        monkeypatch.setattr(memory, "_CONTAINER", tmp_path / "other")
        if content:
            (tmp_path / "other").write_text(content)
        here = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        assert_parts(
            refusal(check_memory, of(hidden_dim=10**12), where),
            "--hidden_dim",
            "",
            f"{here / 1e9:,.0f} GB",
        )
