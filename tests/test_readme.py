"""Every command, example and link of the README and docs/ works. Data is synthetic and the work cut short."""

import importlib.util
import json
import re
import runpy
import shlex
import subprocess
import sys

import pytest

from case_jax import commands
from case_jax.commands import cli
from case_jax.data.synthetic import SyntheticSpec, make_synthetic_dataset
from case_jax.data.thumos import write_dataset
from case_jax.runs import run
from tests.conftest import ROOT
from tests.helpers.commands import as_users_have_it, run_here
from tests.helpers.one_stream import one_stream_dataset
from tests.helpers.videos import write_video
from tests.helpers.wtalc import write_wtalc

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINKED = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
TEXT = "\n".join(page.read_text() for page in PAGES)
LINES = {
    page.name: [
        line
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(), flags=re.DOTALL)
        for line in block.strip().splitlines()
    ]
    for page in PAGES
}
# Pages whose commands train many times, or in several processes.
SLOW = {"README.md", "data.md", "computing.md", "paper.md", "plus.md", "video.md"}
BY_CI = ("make test", "source .venv/bin/activate")  # .ci/run runs the first one, and make demo whole
STEP = "--num_snippets=32 --hidden_dim=16 --num_clusters=4 --batch_size=2 --num_steps=2"
SMALL = SyntheticSpec(num_train=6, num_test=2)  # of all synthetic data, so that programs are compiled once
# Flags that come last win. The commands that are not named here take no time. All pages share sizes and, so,
# programs.
SHORT = {
    "synthesize": f"--num_train={SMALL.num_train} --num_test={SMALL.num_test}",
    "train": f"{STEP} --eval_every=2 --num_workers=0",
    "ablations": f"{STEP} --eval_every=2 --num_seeds=1",
    "make_dataset": "--num_workers=0",
    "extract": "--num_workers=0",
}
REPORTED = {"README.md", "video.md"}  # other pages' trainings write no report, which takes long
OF_SENSORS = {"computing.md", "plus.md"}  # here D is a data set of one stream, whose programs compile faster
NETWORK_ALONE = "--noscc --noccc --noclustering_assisted_testing"  # where many train together, it is enough
# Files that the commands of a page must leave.
WRITTEN = {
    "README.md": (
        *(f"{workdir}/report.html" for workdir in ("demo", "W", "R")),
        *(f"subtitles/synthetic_test_0000.{ending}" for ending in ("srt", "vtt")),
        "found.csv",
        "found.html",
        "demo_refined/metrics.jsonl",
        "refined.json",
    ),
    "data.md": ("V/metrics.jsonl", "T/gt.json"),
    "computing.md": ("S/seed_2/metrics.jsonl", "M/metrics.jsonl"),
    "paper.md": ("A/table_3.md", "ablations/table_6.md"),
    "plus.md": ("P/metrics.jsonl", "Q/metrics.jsonl", "B/study_plus.md"),
    "video.md": ("own_run/report.html", "found.html", "F/features.json"),
}
COMMAND_OF = {module: name for name, module in commands.COMMANDS.items()} | {"activitynet": "train"}
# Files and folders that the commands write, or read because another command wrote them.
MOVED = (
    r"D|sensors|F|W|S|M|A|N|V|C|P|Q|B|R|T|wtalc|runs/\w+|own|found\.\w+|subtitles|part\.json|best_model\.pkl|cls_gt\.npy|"
    r"refined\.json|ambiguous_test\.txt|videos|labels\.csv|new\.mp4"
)


def programs(package: str) -> set[str]:
    """The modules of a package in the checkout that are run with `python -m`."""
    files = [*(ROOT / package).glob("*.py"), *(ROOT / package).glob("*/__main__.py")]
    return {
        f"{package}.{path.parent.name if path.stem == '__main__' else path.stem}"
        for path in files
        if 'if __name__ == "__main__"' in path.read_text()
    }


def test_every_program_is_shown():
    lines = [line for page in LINES.values() for line in page]
    shown = {name for line in lines for name in re.findall(r"python -m (\S+)", line)}
    assert shown == programs("experiments") | programs("benchmarks")
    assert {f"experiments.{module}" for module in commands.COMMANDS.values()} <= shown
    for name in commands.COMMANDS:
        assert re.search(rf"`(case-jax )?{name}`", TEXT)
    assert "make ablations" in lines
    assert all(name in (ROOT / ".ci" / "run").read_text() for name in ("make demo", "make test"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the commands of all pages write."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "ambiguous_test.txt").write_text("synthetic_test_0000 0.0 1.0\n")
    return folder


@pytest.fixture(scope="module")
def done() -> set[str]:
    """Lines that have run. Some stand on several pages, and some make what other pages start from."""
    return set()


def write_own_videos(folder) -> None:
    """Videos of one snippet and a table of their labels, in place of a user's own."""
    (folder / "videos").mkdir(exist_ok=True)
    rows = ["video,label,start,end", "0.mp4,jump,,", "1.mp4,run,,", "test.mp4,run,0.1,0.6"]
    for name in ("new", "videos/0", "videos/1", "videos/test"):
        write_video(folder / f"{name}.mp4", 20, rate=25)
    (folder / "labels.csv").write_text("\n".join(rows))


@pytest.mark.parametrize("module", COMMAND_OF)
def test_programs_of_the_checkout_run_the_commands_of_the_library(module, monkeypatch):
    handed_over = []
    monkeypatch.setattr(cli, "run", handed_over.append)
    runpy.run_path(str(ROOT / "experiments" / f"{module}.py"), run_name="__main__")
    assert [command.__name__ for command in handed_over] == [f"case_jax.commands.{COMMAND_OF[module]}"]


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[pytest.mark.slow] * (page in SLOW)) for page, lines in LINES.items() if lines],
)
@pytest.mark.timeout(600)
def test_commands_run_in_order(page, folder, done, environment, free_port, monkeypatch):
    monkeypatch.chdir(ROOT)  # where the commands' flagfiles are
    monkeypatch.setattr(run, "make_synthetic_dataset", lambda: make_synthetic_dataset(0, SMALL))
    if any("--labels=labels.csv" in line for line in LINES[page]):
        write_own_videos(folder)
    if any("--input=wtalc" in line for line in LINES[page]):
        write_wtalc(folder / "wtalc")
    if page in OF_SENSORS and not (folder / "sensors").exists():
        write_dataset(one_stream_dataset(SMALL), folder / "sensors")
    for line in [*_before(page), *LINES[page]]:
        if line in BY_CI or line in done or line.startswith("python -m benchmarks."):
            continue
        if re.search("convert_checkpoint|--workdir=C", line) and not importlib.util.find_spec("torch"):
            continue  # the extra that writes PyTorch's files
        done.add(line)
        if line.startswith("make "):
            line = _recipe(line.removeprefix("make "))
        line = _moved(_shortened(line, page), folder)
        if "&" in line:
            _run_together(line.replace("localhost:12345", f"localhost:{free_port}"), environment)
            continue
        for command in _unrolled(line):
            ended = run_here(*_as_command(command))
            assert ended.returncode == 0, f"{command}\n{ended.stderr[-2000:]}"
    for name in WRITTEN[page]:
        content = (folder / name).read_text()
        if name.endswith("report.html"):
            assert ("test" if name.startswith("own_run/") else "synthetic_test") in content
        if name == "found.html":
            assert "new.mp4" in content
        if name.endswith(".md"):
            assert content.count("|") > 20  # a table
    if page == "plus.md":
        _check_study(json.loads((folder / "B" / "study_plus.json").read_text()))
    if page == "video.md":
        (example,) = [example for example in _examples() if "localize_video(" in example]
        example = example.replace('"runs/own"', f'"{folder}/own_run"')
        exec(example.replace('"new.mp4"', f'"{folder}/new.mp4"'), {})


def _check_study(table) -> None:
    """The study of what docs/plus.md describes, where every row was trained."""
    rows = {row["title"]: row for row in table["rows"]}
    plus = rows["+ agreed labels: CASE+"]
    for name in ("AUC P^A", "AUC P^T", "purity (%)", "true (%)", "marked (%)"):
        assert all(0 <= value <= 100 for value in plus[name]["values"])
    assert all(0 <= value <= 4 for value in plus["clusters called"]["values"])
    assert rows["baseline"]["AUC P^T"] is None


def _before(page: str) -> list[str]:
    """The commands of the README that make the data and the run that another page names."""
    if page == "README.md" or page in OF_SENSORS:
        return []
    outputs = ["--output=D"] + ["--workdir=W"] * any("=W/" in line for line in LINES[page])
    return [next(line for line in LINES["README.md"] if line.endswith(output)) for output in outputs]


def _recipe(target: str) -> str:
    """The last command that make would run for a target; of the ablations only one table."""
    assert "ABLATIONS ?= --all\n" in (ROOT / "Makefile").read_text()
    listed = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", target, "ABLATIONS=--table=6"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return re.sub(r"^\S*python ", "python ", listed.stdout.strip().splitlines()[-1])


def _shortened(line: str, page: str) -> str:
    """The line with flags that leave little to do."""

    def shorten(match: re.Match) -> str:
        name = COMMAND_OF.get(match[2], match[2])
        words = [match[0], SHORT.get(name, "")]
        if name == "train":
            words += ["--noreport"] * (page not in REPORTED) + [NETWORK_ALONE] * (page == "computing.md")
        return " ".join(words).strip()

    if page in OF_SENSORS:
        line = line.replace("--data_dir=D ", "--data_dir=sensors ")
    return re.sub(r"(python -m experiments\.|case-jax )(\w+)(?: --[^\s;]+)*", shorten, line)


def _moved(line: str, folder) -> str:
    """The line with its data, workdirs and outputs in a folder of the test."""
    line = re.sub(rf"=({MOVED})(?=[/\s]|$)", rf"={folder}/\1", line)
    line = line.replace("='part-", f"='{folder}/part-").replace("runs/own", "own_run")
    return line.replace(f"{folder}/runs/", f"{folder}/")


def _as_command(line: str) -> list[str]:
    """The module of a command, for `run_here`, and its flags."""
    program, *words = shlex.split(line)
    if program == "case-jax":
        return words
    _, module, *flags = words
    name = module.removeprefix("experiments.")
    return ["experiments.ablations.__main__" if name == "ablations" else COMMAND_OF[name], *flags]


def _unrolled(line: str) -> list[str]:
    """The commands of a loop; another line is one command."""
    loop = re.fullmatch(r"for i in ([\d ]+); do (.*); done", line)
    return [loop[2].replace("$i", i) for i in loop[1].split()] if loop else [line]


def _run_together(loop: str, environment) -> None:
    """Runs a loop of commands in the background by the shell, in processes of their own."""
    loop = loop.replace("python -m", f"{sys.executable} -m")
    loop = loop.replace("& done; wait", "& done; wait -n && wait -n")  # a failure ends the line
    ended = subprocess.run(
        ["bash", "-c", loop], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 0, f"{loop}\n{ended.stderr[-2000:]}"


def _examples() -> list[str]:
    return re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


def test_the_example_of_the_solver_runs():
    (solving,) = [example for example in _examples() if "sinkhorn(" in example]
    names = {}
    exec(solving, names)
    assert names["plan"].shape == (1000, 16)


@pytest.mark.slow
def test_the_examples_of_training_and_localising_run(folder, capsys):
    if not (folder / "D").exists():
        write_dataset(make_synthetic_dataset(0, SMALL), folder / "D")
    (training,) = [example for example in _examples() if "Run.begin" in example]
    (localizing,) = [example for example in _examples() if "localizer.localize(" in example]
    training = training.replace('"L"', f'"{folder}/L"').replace('"D"', f'"{folder}/D"')
    small = "num_snippets=32, hidden_dim=16, num_clusters=4, batch_size=2"
    for long, short in (("num_snippets=128", small), ("num_steps=400)", "num_steps=2)"), ("=100)", "=2)")):
        assert training.count(long) == 1
        training = training.replace(long, short)
    with as_users_have_it():
        exec(training, {})
    last, best = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"last \(step 2\): [\d.]+ mAP", last)
    assert re.fullmatch(r"best \(step 2\): [\d.]+ mAP", best)
    assert "synthetic_test" in (folder / "L" / "report.html").read_text()

    with as_users_have_it():
        exec(localizing.replace('"runs/demo"', f'"{folder}/L"').replace('"D/', f'"{folder}/D/'), {})
    printed = capsys.readouterr().out.splitlines()
    assert 1 <= len(printed) <= 5
    assert all(re.fullmatch(r" *[\d.]+ to +[\d.]+ s  -?[\d.]+  Action0\d", line) for line in printed)


def test_links_lead_somewhere():
    for page in LINKED:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            if target.startswith("https://"):
                continue
            path, _, anchor = target.partition("#")
            there = (page.parent / path).resolve() if path else page
            assert there.exists(), f"{page.name}: {target}"
            headings = re.findall(r"^#+ (.*)$", there.read_text(), flags=re.MULTILINE) if anchor else []
            anchors = [re.sub(r"[^\w\s-]", "", heading.lower()).replace(" ", "-") for heading in headings]
            assert not anchor or anchor in anchors, f"{page.name}: {target}"


def test_files_that_are_named_exist():
    named = r"`((?:case_jax|experiments|benchmarks|tests|docs)/[\w./-]+)`"
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        for path in re.findall(named, page.read_text()):
            assert (ROOT / path).exists(), f"{page.name}: {path}"
