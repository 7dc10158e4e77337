"""Every command of the README and docs/ runs; real data is the synthetic set, and the work is cut short."""

import importlib.util
import re
import subprocess
import sys

import pytest

from tests.benchmarks.test_benchmarks import COMMANDS as BENCHMARKS  # run there
from tests.conftest import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXT = "\n".join(page.read_text() for page in PAGES)
COMMANDS = [
    line
    for block in re.findall(r"```bash\n(.*?)```", TEXT, flags=re.DOTALL)
    for line in block.strip().splitlines()
]
BY_CI = ("make test", "source .venv/bin/activate")  # .ci/run runs the first one, and make demo whole
STEP = "--num_snippets=32 --hidden_dim=16 --num_clusters=4 --batch_size=4"
MOVED = (
    r"D|W|S|M|A|N|V|C|P|B|found\.json|found\.csv|subtitles|part\.json|best_model\.pkl|cls_gt\.npy|"
    r"ambiguous_test\.txt"
)
SHORT = {
    "experiments.synthesize": "--num_train=6 --num_test=2",
    "experiments.thumos": f"{STEP} --num_steps=2",
    "experiments.localize": "",
    "experiments.evaluate": "",
    "experiments.report": "",
    "experiments.activitynet": f"{STEP} --num_steps=2 --eval_every=2 --num_workers=0",
    "experiments.check_data": "",
    "experiments.convert_checkpoint": "",  # needs PyTorch, which the tests can do without
    "experiments.ablations": f"{STEP} --num_steps=2 --eval_every=2 --num_seeds=1",
}


def test_commands_are_all_accounted_for():
    ours = [c for c in COMMANDS if c not in BY_CI]
    assert len(ours) >= 12
    assert "make ablations" in ours
    modules = {name for c in ours for name in re.findall(r"python -m (\S+)", c)}
    assert modules == set(SHORT) | {f"benchmarks.{name}" for name in BENCHMARKS}
    assert all(name in (ROOT / ".ci" / "run").read_text() for name in ("make demo", BY_CI[0]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("readme")


def test_commands_run_in_order(folder, environment, free_port):
    (folder / "ambiguous_test.txt").write_text("synthetic_test_0000 0.0 1.0\n")
    # The commands name files relative to the checkout; only the data, the workdirs and outputs move.
    for command in COMMANDS:
        if command in BY_CI or command.startswith("python -m benchmarks."):
            continue
        if re.search("convert_checkpoint|--workdir=C", command) and not importlib.util.find_spec("torch"):
            continue
        if command == "make demo":
            command = _recipe("demo")
        if command == "make ablations":
            assert "ABLATIONS ?= --all\n" in (ROOT / "Makefile").read_text()
            command = _recipe("ablations", ABLATIONS="--table=6")
        # Flags that come last win.
        short = re.sub(
            r"\S*python( -m (\S+)(?: --\S+)*)", lambda m: f"{sys.executable}{m[1]} {SHORT[m[2]]}", command
        )
        short = re.sub(rf"=({MOVED})(?=[/\s]|$)", rf"={folder}/\1", short)
        short = short.replace("='part-", f"='{folder}/part-")
        short = short.replace("=runs/", f"={folder}/").replace("localhost:12345", f"localhost:{free_port}")
        short = short.replace("& done; wait", "& done; wait -n && wait -n")  # so that a failure is seen
        ended = subprocess.run(
            ["bash", "-c", short], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
        )
        assert ended.returncode == 0, f"{command}\n{ended.stderr[-2000:]}"
    for name in ("A/table_3.md", "ablations/table_6.md"):
        assert (folder / name).stat().st_size > 500
    assert {path.suffix for path in (folder / "subtitles").iterdir()} == {".srt", ".vtt"}
    for workdir in ("demo", "W", "S/seed_2", "M", "V"):
        report = (folder / workdir / "report.html").read_text()
        assert len(report) > 10_000
        assert "synthetic_test" in report


def _recipe(target: str, **variables: str) -> str:
    """The last command that make would run for a target."""
    given = [f"{name}={value}" for name, value in variables.items()]
    listed = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", target, *given],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return listed.stdout.strip().splitlines()[-1]


def test_library_examples_run(folder, capsys):
    localizing, solving = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    names = {}
    exec(solving, names)
    assert names["plan"].shape == (1000, 16)

    if not (folder / "demo").exists():
        pytest.skip("needs the run of the commands before it")
    capsys.readouterr()
    exec(localizing.replace('"runs/', f'"{folder}/').replace('"D/', f'"{folder}/D/'), {})
    printed = capsys.readouterr().out.splitlines()
    assert 1 <= len(printed) <= 5
    assert all(re.fullmatch(r" *[\d.]+ to +[\d.]+ s  -?[\d.]+  Action0\d", line) for line in printed)


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            path, _, anchor = target.partition("#")
            there = (page.parent / path).resolve() if path else page
            assert there.exists(), f"{page.name}: {target}"
            headings = re.findall(r"^#+ (.*)$", there.read_text(), flags=re.MULTILINE) if anchor else []
            anchors = [re.sub(r"[^\w\s-]", "", heading.lower()).replace(" ", "-") for heading in headings]
            assert not anchor or anchor in anchors, f"{page.name}: {target}"
