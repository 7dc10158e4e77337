"""From videos to features with the real network, in processes as users run them. It takes long."""

import json
import signal
import subprocess
import time

import numpy as np
import pytest

from case_jax.data.extraction import read_record
from tests.conftest import ROOT
from tests.helpers.commands import interruptible, run_process
from tests.helpers.runs import contents
from tests.helpers.videos import write_video

pytestmark = [pytest.mark.slow, pytest.mark.optimised]

FALLS = ("fall-16-cam0", "fall-21-cam0")  # short ones


@pytest.fixture(scope="module")
def falls(shared_data, tmp_path_factory):
    """A folder with a few of the videos of falls."""
    if not (shared_data / "falls").is_dir():
        pytest.skip("the videos of falls are not beside the project (../shared/data/falls)")
    folder = tmp_path_factory.mktemp("falls")
    for name in FALLS:
        (folder / f"{name}.mp4").symlink_to(shared_data / "falls" / "videos" / f"{name}.mp4")
    return folder


def test_features_are_those_of_an_independent_extraction(falls, shared_data, tmp_path, environment):
    flags = ["--fps=native", "--stride=8", "--tail=repeat", "--num_workers=2"]
    ended = run_process(
        "extract", f"--videos={falls}", f"--output={tmp_path}", *flags, environment=environment, timeout=600
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    _, known = read_record(tmp_path)
    for name in FALLS:
        ours = np.load(tmp_path / "rgb" / f"{name}.npy")
        theirs = np.load(shared_data / "falls" / "i3d_rgb" / f"{name}.npy")
        assert ours.shape == theirs.shape == (known[name].snippets, 1024)
        norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
        assert ((ours * theirs).sum(axis=1) / norms).min() > 0.9999


def test_an_interrupted_extraction_goes_on_to_the_same_bytes(tmp_path, environment):
    folder = tmp_path / "videos"
    folder.mkdir()
    for number in range(3):
        write_video(folder / f"{number}.mp4", 20, rate=25)  # one snippet
    flags = [f"--videos={folder}", "--num_workers=1"]
    whole, part = tmp_path / "whole", tmp_path / "part"
    assert run_process("extract", *flags, f"--output={whole}", environment=environment).returncode == 0

    command = interruptible("-m", "experiments.extract", *flags, f"--output={part}")
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while process.poll() is None and not list((part / "rgb").glob("*.npy")):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert errors.endswith("of 3 videos are done; the same command goes on with the others\n")
    done = len(json.loads((part / "features.json").read_text())["videos"])
    assert 1 <= done < 3
    printed = run_process("extract", *flags, f"--output={part}", environment=environment).stdout
    assert f"{done} of 3 videos were there already" in printed
    assert contents(part) == contents(whole)
