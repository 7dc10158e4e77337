import dataclasses
import functools
import json
import shutil

import jax
import numpy as np
import pytest

from case_jax.config import CaseConfig
from case_jax.data.dataset import Annotation, Dataset, Split, Video
from case_jax.data.info import DatasetInfo
from case_jax.data.synthetic import SyntheticSpec
from case_jax.errors import InputError
from case_jax.evaluation.matching import make_segments
from case_jax.evaluation.mean_average_precision import detection_map
from case_jax.localization.detections import to_activitynet
from case_jax.runs.hardware import Hardware
from case_jax.runs.narrator import Narrator
from case_jax.runs.settings import RunSettings
from case_jax.runs.workdir import Workdir
from case_jax.training.loop import NonFiniteLossError
from case_jax.training.parallel import make_mesh
from experiments.ablations import runs
from experiments.ablations.runs import Laboratory, fingerprint, run_name
from experiments.ablations.variants import BASELINE, FULL, WITH_CCC, Variant
from tests.helpers.one_stream import one_stream_dataset
from tests.helpers.runs import contents

pytestmark = pytest.mark.usefixtures("standard_dtypes")
CONFIG = CaseConfig(num_snippets=16, hidden_dim=6, num_clusters=3, batch_size=4, num_steps=4)


@pytest.fixture(scope="module")
def dataset():
    return one_stream_dataset(SyntheticSpec(num_train=6, num_test=4, num_classes=2, width=6))


def laboratory(folder, dataset, seeds=(0, 1), at_once=1, **fields):
    config = dataclasses.replace(CONFIG, **fields)
    return Laboratory(
        RunSettings.of(config, dataset, seed=0, eval_every=2, tiou=(0.1, 0.3)),
        dataset,
        Workdir(folder),
        Hardware(make_mesh(jax.devices()[:1])),
        Narrator(),
        seeds=seeds,
        seeds_at_once=at_once,
    )


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory):
    """A workdir in which the full method is trained with seeds 0 and 1; read only."""
    folder = tmp_path_factory.mktemp("trained")
    with jax.numpy_dtype_promotion("standard"):
        laboratory(folder, dataset).evaluated(FULL)
    return folder


@pytest.fixture
def make(dataset, trained, tmp_path):
    """make(seeds=..., at_once=..., FIELD=...): a laboratory in a copy of the trained workdir."""
    folder = tmp_path / "workdir"
    shutil.copytree(trained, folder)
    return functools.partial(laboratory, folder, dataset)


@pytest.mark.slow
def test_runs_are_kept_and_shared(make):
    lab = make()
    kept = contents(lab.folder)
    full = lab.evaluated(FULL)
    (folder,) = lab.folder.iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["seed_0", "seed_1"]
    assert contents(lab.folder) == kept

    # Other rows of the same training, the other checkpoint and other laboratories train nothing.
    again = make()
    assert again.evaluated(FULL) == full
    again.evaluated(WITH_CCC)
    again.evaluated(FULL._replace(foreground="transformed"), "best")
    again.evaluated(Variant("K = 3", {"num_clusters": 3}))
    now = contents(lab.folder)
    added = {path for path in now if now[path] != kept.get(path)}
    assert {path.rpartition("/")[2] for path in added} == {"evaluations.json"}


@pytest.mark.slow
def test_a_further_seed_trains_alone_and_other_settings_train_anew(make):
    lab = make()
    kept = contents(lab.folder)
    make(seeds=(0, 1, 2)).train([FULL])
    assert {path: c for path, c in contents(lab.folder).items() if "seed_2" not in path} == kept
    (baseline,) = make(seeds=(0,)).evaluated(BASELINE)
    assert baseline.assignment_entropy is None  # it has no clusters
    assert len(list(lab.folder.iterdir())) == 2


@pytest.mark.slow
def test_an_evaluation_is_what_the_workdir_gives(make, dataset):
    lab = make(seeds=(1,))
    (result,) = lab.evaluated(FULL._replace(foreground="transformed"))
    state = lab.state(FULL, 1)
    assert result.step == int(state.step) == 4
    assert result.tiou == (0.1, 0.3)
    scores = lab.evaluator.score(state, foreground="transformed")
    found = lab.evaluator.localize(scores, state).detections()
    predictions = to_activitynet(found, dataset.info.classes)["results"]
    want = detection_map(make_segments(dataset.test.ground_truth()), make_segments(predictions), (0.1, 0.3))
    np.testing.assert_allclose(result.map, want.per_tiou)
    assert result.average == pytest.approx(np.mean(result.map))
    share = np.asarray(scores.clusters, np.float64).reshape(-1, 3).mean(axis=0)
    assert result.assignment_entropy == pytest.approx(-(share * np.log(share)).sum())


@pytest.mark.slow
def test_a_history_has_every_chunk_of_every_seed(make):
    steps, values = make().history(FULL, "entropy_snippets")
    assert steps.tolist() == [2, 4]
    assert values.shape == (2, 2)
    assert (values > 0).all()


def test_as_many_seeds_train_together_as_asked(dataset, tmp_path, monkeypatch):
    together = []
    monkeypatch.setattr(
        runs, "train", lambda group, *_, **__: together.append([r.settings.seed for r in group])
    )
    laboratory(tmp_path, dataset, seeds=(0, 1, 2), at_once=2).train([FULL])
    assert together == [[0, 1], [2]]


@pytest.mark.slow
def test_seeds_at_once_go_on_each_from_where_it_was(make):
    whole = make(at_once=2)
    want = [result.average for result in whole.evaluated(FULL)]
    kept = contents(whole.workdir(FULL, 0).path)
    # Seed 1 loses its last checkpoint and everything after it, so that it goes on from step 2, alone.
    workdir = whole.workdir(FULL, 1).path
    shutil.rmtree(workdir / "checkpoints" / "4")
    (workdir / "evaluations.json").unlink()
    resumed = make(at_once=2)
    assert [result.average for result in resumed.evaluated(FULL)] == pytest.approx(want, abs=1e-6)
    assert contents(whole.workdir(FULL, 0).path) == kept
    rows = (workdir / "history.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == [2, 4]


@pytest.mark.slow
def test_a_file_that_holds_no_evaluation_is_named(make):
    path = make().workdir(FULL, 0).path / "evaluations.json"
    path.write_text('{"last, mixed": {"step": 4}}')
    with pytest.raises(InputError) as raised:
        make(seeds=(0,)).evaluated(FULL)
    assert str(raised.value).startswith(f"{path}: 'last, mixed' is not an evaluation; expected ")


def test_a_variant_whose_loss_is_not_finite_is_named(dataset, tmp_path, monkeypatch):
    def diverge(*arguments, **settings):
        raise NonFiniteLossError("loss is nan at step 2", (1, 0))

    monkeypatch.setattr(runs, "train", diverge)
    first, second = (video.name for video in dataset.train.videos[:2])
    named = f"^baseline: loss is nan at step 2, with a batch of {second}, {first}; expected a finite number"
    with pytest.raises(InputError, match=named):
        laboratory(tmp_path, dataset).train([BASELINE])


def test_run_names_depend_on_settings_and_data_but_not_on_the_seed(dataset):
    settings = RunSettings.of(CONFIG, dataset, seed=0, eval_every=2, tiou=(0.1,))
    name = run_name(settings, "data")
    assert name == run_name(settings._replace(seed=1), "data")
    others = [
        run_name(settings, "other data"),
        run_name(settings._replace(eval_every=4), "data"),
        run_name(settings._replace(config=dataclasses.replace(CONFIG, sigma=0.1)), "data"),
    ]
    assert len({name, *others}) == 4


def test_the_fingerprint_depends_on_names_times_annotations_and_features():
    info = DatasetInfo(classes=("Jump",), streams=("acc",))

    def of(name="v", end=2.0, where=-1, value=0.0, duration=None):
        features = np.zeros((200, 2), np.float32)
        features[where] = value
        video = Video(name, {"acc": features}, (Annotation("Jump", 1.0, end),), duration)
        return fingerprint(Dataset(info, Split("train", (video,)), Split("test", ())))

    assert of() == of()
    others = [of(name="w"), of(end=3.0), of(value=1.0), of(where=0, value=1.0), of(duration=5.0)]
    inside = of(where=slice(90, 120), value=1.0)
    assert len({of(), *others, inside}) == 7
