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

from tests.conftest import ROOT

PACKAGE = {
    str(path.relative_to(ROOT))
    for path in (ROOT / "case_jax").rglob("*")
    if path.is_file() and "__pycache__" not in path.parts
}
DIST_INFO = {"METADATA", "RECORD", "WHEEL", "licenses/LICENSE", "top_level.txt"}
BESIDE = {"CHANGELOG.md", "LICENSE", "MANIFEST.in", "PKG-INFO", "README.md", "pyproject.toml", "setup.cfg"}

USE = """
import pathlib, sys
from case_jax import Localizer, sinkhorn
import case_jax
from case_jax.config import CaseConfig
from case_jax.data.synthetic import SyntheticSpec, make_synthetic_dataset
from case_jax.evaluator import Evaluator
from case_jax.report.page import write_report
from case_jax.runs.workdir import RunSettings, Workdir

dataset = make_synthetic_dataset(0, SyntheticSpec(num_train=2, num_test=2, num_classes=2, width=4))
config = CaseConfig(num_snippets=16, batch_size=2, hidden_dim=4, num_clusters=2, num_steps=1)
settings = RunSettings.of(config, dataset, seed=0, eval_every=1, tiou=(0.5,))
workdir, state = Workdir("run"), settings.fresh_state()
workdir.begin(settings)
with Evaluator(dataset.test, dataset.info, config) as evaluator:
    scores = evaluator.score(state)
    detections = evaluator.localize(scores, config).detections()
    results = {"untrained": evaluator.map_of(detections, settings.tiou)}
write_report(workdir, dataset, state, results, scores, detections)
print(pathlib.Path(case_jax.__file__).parents[1], callable(sinkhorn), Localizer.__name__)
"""


def build(checkout: Path, what: str, folder: Path) -> Path:
    """Builds a "wheel" or "sdist" of a checkout with the setuptools that is installed, without a network."""
    command = f"import sys; from setuptools import build_meta; build_meta.build_{what}(sys.argv[1])"
    result = subprocess.run(
        [sys.executable, "-c", command, str(folder)], cwd=checkout, capture_output=True, text=True
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
    assert re.search("^License(-Expression)?: MIT$", described, flags=re.MULTILINE)
    assert (ROOT / "LICENSE").read_text().startswith("MIT License\n")
    assert {"page.css", "page.html", "page.js"} == {Path(name).name for name in PACKAGE if "/page/" in name}


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


def test_wheel_works_away_from_the_checkout(wheel, environment, tmp_path):
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    result = subprocess.run(
        [sys.executable, "-c", USE],
        cwd=elsewhere,
        env={**environment, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [str(site), "True", "Localizer"]
    assert "</html>" in (elsewhere / "run" / "report.html").read_text()
    assert os.listdir(elsewhere) == ["run"]
