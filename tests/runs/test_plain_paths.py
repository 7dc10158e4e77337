"""Checkpoints come back from a folder of any name."""

import os
from pathlib import Path

import jax
import numpy as np
import pytest

from case_jax.runs.checkpoints import CheckpointStore
from case_jax.runs.plain_paths import plain_path
from tests.helpers.refusals import refusal
from tests.helpers.runs import SETTINGS

NAMES = {
    "brackets": "run [2]",
    "an open bracket": "run [2",
    "a star": "run*",
    "a question mark": "run?",
    "a backslash": "a\\b",
    "braces": "{a,b}",
    "percent": "50%20",
    "hash": "a#b",
    "a pipe": "a|b",
    "quotes": 'it\'s "new"',
    "a line break": "a\nb",
    "other letters": "läufe 跑",
    "a leading dash": "-run",
    "a leading ~": "~run",
    "not UTF-8": os.fsdecode(b"run\xff"),
}
# What Orbax takes for a pattern, and what TensorStore takes no names of.
TELLING = ("an open bracket", "not UTF-8")
named = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, id=kind, marks=() if kind in TELLING else pytest.mark.slow)
        for kind, name in NAMES.items()
    ],
)


@pytest.fixture(scope="module")
def state():
    return SETTINGS.fresh_state()


@pytest.fixture(scope="module")
def written(state, tmp_path_factory) -> Path:
    """A store in a folder of a usual name, to be renamed."""
    folder = tmp_path_factory.mktemp("written") / "usual"
    _save(folder, state)
    return folder


@named
def test_checkpoints_come_back_from_a_folder_of_any_name(state, tmp_path, name):
    folder = tmp_path / name / "checkpoints"
    _save(folder, state)
    assert [path.name for path in tmp_path.iterdir()] == [name]  # and nothing else has come to be
    _assert_restored(folder, state)


@named
def test_a_store_may_be_renamed(state, written, name):
    renamed = written.rename(written.parent / name)
    try:
        _assert_restored(renamed, state)
    finally:
        renamed.rename(written)


def test_a_message_names_the_folder_and_no_link(state, tmp_path):
    folder = tmp_path / "run [2]"
    _save(folder, state)
    for path in (folder / "0" / "default").rglob("d/*"):
        path.write_bytes(b"")
    with CheckpointStore(folder, read_only=True) as store:
        message = refusal(store.restore, state, 0)
    assert message.startswith(f"{folder}/0: cannot be restored (")
    assert "case_jax_" not in message


def test_a_plain_path_stays_and_a_link_does_not(tmp_path):
    with plain_path(tmp_path) as same:
        assert same == tmp_path
    folder = tmp_path / "a*"
    folder.mkdir()
    with plain_path(folder) as link:
        assert "*" not in str(link)
        assert link.resolve() == folder
    assert not os.path.lexists(link)
    assert folder.is_dir()


def _save(folder, state):
    with CheckpointStore(folder) as store:
        store.save(state, quality=0.5)


def _assert_restored(folder, state):
    with CheckpointStore(folder, read_only=True) as store:
        assert (store.latest_step, store.best_step) == (0, 0)
        restored = store.restore(state, 0)
    for ours, theirs in zip(jax.tree.leaves(restored.params), jax.tree.leaves(state.params), strict=True):
        np.testing.assert_array_equal(ours, theirs)
