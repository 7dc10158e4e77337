"""Every command of the README runs; real data is replaced by the synthetic set, and the work is cut short."""

import os
import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()
COMMANDS = [
    line
    for block in re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
    for line in block.strip().splitlines()
]
BY_CI = ("make demo", "make test", "source .venv/bin/activate")  # .ci/run runs the first two
SHORT = {
    "experiments.synthesize": "--num_train=4 --num_test=2",
    "experiments.thumos": "--num_snippets=32 --hidden_dim=16 --num_clusters=4 --batch_size=4 --num_steps=2",
}


def test_commands_are_all_accounted_for():
    ours = [c for c in COMMANDS if c not in BY_CI]
    assert len(ours) >= 5
    assert all(c.startswith("python -m experiments.") for c in ours)
    assert all(name in (ROOT / ".ci" / "run").read_text() for name in BY_CI[:2])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("readme")


def test_commands_run_in_order(folder):
    # The commands name files relative to the checkout; only the data, the workdir and outputs move.
    for command in COMMANDS:
        if command in BY_CI:
            continue
        module = command.split()[2]
        words = f"{command} {SHORT.get(module, '')}".split()
        for i, word in enumerate(words):
            flag, _, value = word.partition("=")
            if value in ("W", "detections.json") or value.split("/")[0] == "D":
                words[i] = f"{flag}={folder / value}"
        ended = subprocess.run(
            [sys.executable, *words[1:]],
            cwd=ROOT,
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert ended.returncode == 0, f"{command}\n{ended.stderr[-2000:]}"
    assert (folder / "W" / "report.html").stat().st_size > 10_000
    assert "synthetic_test" in (folder / "W" / "report.html").read_text()


def test_library_example_runs():
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    names = {}
    exec(example, names)
    assert names["plan"].shape == (1000, 16)
