import dataclasses
import re

import jax
import numpy as np
import pytest

from case_jax.config import CaseConfig
from case_jax.data.feature_files import FeatureFiles
from case_jax.data.thumos import write_dataset
from case_jax.runs.hardware import Hardware
from case_jax.runs.run import Run, check_batch, read_data
from case_jax.runs.settings import EVAL_EVERY, SYNTHETIC, TIOU
from tests.helpers.refusals import assert_parts, refusal
from tests.helpers.runs import CONFIG, assert_same_run
from tests.helpers.runs import EVAL_EVERY as EVERY


@pytest.fixture(scope="module")
def folder(dataset, tmp_path_factory):
    """The data set in THUMOS14's layout."""
    folder = tmp_path_factory.mktemp("data")
    write_dataset(dataset, folder)
    return folder


@pytest.mark.slow
def test_begin_train_open_and_evaluate(dataset, folder, tmp_path, uninterrupted, monkeypatch):
    """On the only device, as most users have it."""
    devices = jax.devices()[:1]
    monkeypatch.setattr(jax, "devices", lambda: devices)
    run = Run.begin(tmp_path / "W", CONFIG, dataset, seed=3, eval_every=EVERY, tiou=(0.1, 0.3))
    assert run.settings == uninterrupted.settings()
    run.train()
    assert_same_run(run.workdir, uninterrupted)
    opened = Run.open(tmp_path / "W", folder)
    assert opened.settings == run.settings
    outcome = opened.evaluate()
    assert outcome.results["last (step 30)"].per_tiou.tolist() == run.workdir.metrics()[-1]["map"]
    Run.open(tmp_path / "W", dataset).train()  # it has finished, so nothing changes
    assert run.workdir.metrics()[-1]["step"] == 30


@pytest.mark.slow
def test_features_may_stay_on_disk(folder, tmp_path, uninterrupted):
    pytest.importorskip("grain")
    run = Run.begin(tmp_path / "W", CONFIG, folder, seed=3, eval_every=EVERY, tiou=(0.1, 0.3))
    assert run.settings.data == str(folder)
    opened = Run.open(tmp_path / "W", in_memory=False)
    assert isinstance(opened.dataset.train.videos[0].features, FeatureFiles)
    opened.train(Hardware.of(CONFIG.batch_size, num_devices=1, on_device=False))
    run.workdir.begin(uninterrupted.settings())  # it was not told where its data are
    assert_same_run(run.workdir, uninterrupted)


def test_defaults(dataset, tmp_path):
    run = Run.begin(tmp_path, CONFIG, dataset)
    assert (run.settings.seed, run.settings.eval_every, run.settings.tiou) == (0, EVAL_EVERY, TIOU)
    assert run.settings.data is None
    assert_parts(refusal(Run.open, tmp_path), "--data_dir", "missing", str(tmp_path))


def test_begin_goes_on_with_the_same_run_only(dataset, tmp_path):
    run = Run.begin(tmp_path, CONFIG, dataset)
    assert Run.begin(tmp_path, CONFIG, dataset).settings == run.settings
    assert_parts(refusal(lambda: Run.begin(tmp_path, CONFIG, dataset, seed=1)), tmp_path, "seed = 0, not 1")


def test_a_batch_larger_than_the_training_split_is_refused(dataset, tmp_path):
    config = dataclasses.replace(CONFIG, batch_size=9)
    assert_parts(refusal(check_batch, config, dataset), "--batch_size", "9", "8 training videos")
    refusal(Run.begin, tmp_path / "W", config, dataset)
    assert not (tmp_path / "W").exists()


@pytest.mark.slow
def test_a_loss_that_is_not_finite_names_the_videos_of_its_batch(dataset, tmp_path):
    videos = [
        video._replace(features={s: np.full_like(a, 3e38) for s, a in video.features.items()})
        for video in dataset.train.videos
    ]
    broken = dataclasses.replace(dataset, train=dataclasses.replace(dataset.train, videos=tuple(videos)))
    run = Run.begin(tmp_path, CONFIG, broken, eval_every=EVERY)
    message = refusal(run.train, Hardware.of(CONFIG.batch_size, num_devices=1))
    assert_parts(message, "--learning_rate", "is 0.0001; loss … at step 1, with a batch of", "finite number")
    assert len(re.findall(r"synthetic_train_000\d", message)) == CONFIG.batch_size
    assert not (tmp_path / "metrics.jsonl").exists()


def test_data_are_read_from_a_folder_or_embedded(dataset, folder):
    config = CaseConfig(feature_dtype="bfloat16")
    embedded = read_data(SYNTHETIC, config)
    assert len(embedded.train.videos) > 8
    read = read_data(folder, config)
    assert read.info.classes == dataset.info.classes
    assert str(read.train.videos[0].features["rgb"].dtype) == "bfloat16"
    assert isinstance(read_data(folder, config, in_memory=False).train.videos[0].features, FeatureFiles)
    missing = folder / "missing"
    assert refusal(read_data, missing, config).startswith(str(missing))
