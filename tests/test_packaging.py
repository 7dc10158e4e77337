"""What is published: a wheel and a source archive of the package, its page, its licence, and nothing else."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from case_jax.data.synthetic import SyntheticSpec, make_synthetic_dataset
from case_jax.data.thumos import write_dataset
from tests.conftest import ROOT
from tests.helpers.network import GUARD

PACKAGE = {
    str(path.relative_to(ROOT))
    for path in (ROOT / "case_jax").rglob("*")
    if path.is_file() and "__pycache__" not in path.parts
}
DIST_INFO = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "top_level.txt"}
BESIDE = {"CHANGELOG.md", "LICENSE", "MANIFEST.in", "PKG-INFO", "README.md", "pyproject.toml", "setup.cfg"}

# As in the README: a run, from its first step to its report (whose template is data of the package) and to
# detections in a video; then the console script.
USE = """
import pathlib
import numpy as np
import case_jax
from case_jax import CaseConfig, Localizer, Run, sinkhorn, write_report
from case_jax.commands import main

config = CaseConfig(
    num_snippets=32, batch_size=2, hidden_dim=16, num_clusters=4, learning_rate=5e-4, num_steps=2
)
run = Run.begin("run", config, "D", eval_every=2)
run.train()
outcome = Run.open("run").evaluate()
for which, result in outcome.results.items():
    print(f"{which}: mAP {100 * result.average:.2f} %")
write_report(run, outcome)
localizer = Localizer.load("run")
video = {stream: np.zeros((20, width)) for stream, width in localizer.stream_widths.items()}
for action in localizer.localize(video)[:3]:
    print(f"{action.start:.1f} to {action.end:.1f} s  {action.label}")
main(["case-jax", "--help"])
print(pathlib.Path(case_jax.__file__).parents[1], callable(sinkhorn))
"""


def build(checkout: Path, what: str, folder: Path) -> Path:
    """Builds a "wheel" or "sdist" of a checkout with the setuptools that is installed, without a network."""
    command = f"import sys; from setuptools import build_meta; build_meta.build_{what}(sys.argv[1])"
    result = subprocess.run(
        [sys.executable, "-c", command, str(folder)],
        cwd=checkout,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert result.returncode == 0, result.stderr
    (archive,) = folder.iterdir()
    return archive


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A copy, as building leaves files behind."""
    copy = tmp_path_factory.mktemp("checkout")
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, copy)
    for name in ("benchmarks", "case_jax", "docs", "experiments", "tests"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.fixture(scope="module")
def wheel(checkout, tmp_path_factory) -> Path:
    return build(checkout, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(checkout, tmp_path_factory) -> Path:
    return build(checkout, "sdist", tmp_path_factory.mktemp("sdist"))


def test_wheel_holds_the_package_and_the_licence(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        (dist_info,) = {name.split("/")[0] for name in names if ".dist-info/" in name}
        assert names == PACKAGE | {f"{dist_info}/{name}" for name in DIST_INFO}
        assert archive.read(f"{dist_info}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
        described = archive.read(f"{dist_info}/METADATA").decode()
        scripts = archive.read(f"{dist_info}/entry_points.txt").decode()
    assert "case-jax = case_jax.commands:main" in scripts.splitlines()
    assert re.search("^License(-Expression)?: MIT$", described, flags=re.MULTILINE)
    assert (ROOT / "LICENSE").read_text().startswith("MIT License\n")
    template = {Path(name).name for name in PACKAGE if "/template/" in name}
    pages = {f"{page}.{kind}" for page in ("page", "video") for kind in ("css", "html", "js")}
    assert template == pages | {"common.js"}


@pytest.mark.slow
def test_source_archive_makes_the_same_wheel(sdist, wheel, tmp_path):
    with tarfile.open(sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive if member.isfile()}
        archive.extractall(tmp_path, filter="data")
    assert {name for name in names if not name.startswith("case_jax.egg-info/")} == PACKAGE | BESIDE
    (unpacked,) = tmp_path.iterdir()
    (tmp_path / "wheel").mkdir()
    again = build(unpacked, "wheel", tmp_path / "wheel")
    with zipfile.ZipFile(again) as ours, zipfile.ZipFile(wheel) as theirs:
        assert {n: ours.read(n) for n in ours.namelist()} == {n: theirs.read(n) for n in theirs.namelist()}


@pytest.mark.slow
def test_wheel_works_away_from_the_checkout_and_opens_no_connection(wheel, environment, tmp_path):
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    write_dataset(make_synthetic_dataset(0, SyntheticSpec(num_train=6, num_test=2)), elsewhere / "D")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    ended = subprocess.run(
        [sys.executable, "-c", GUARD + USE],
        cwd=elsewhere,
        env={**environment, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert ended.returncode == 0, ended.stderr
    assert re.search(r"^last \(step 2\): mAP \d+\.\d\d %$", ended.stdout, flags=re.MULTILINE)
    assert "case-jax NAME --flag=value" in ended.stdout
    assert ended.stdout.splitlines()[-1].split() == [str(site), "True"]
    assert "</html>" in (elsewhere / "run" / "report.html").read_text()
    assert set(os.listdir(elsewhere)) == {"D", "run"}
