import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import pytest

from case_jax.evaluation.health import Health
from case_jax.runs.checkpoints import CheckpointStore
from case_jax.runs.workdir import Workdir
from tests.helpers.refusals import assert_parts, bad, refusal
from tests.helpers.runs import SETTINGS
from tests.helpers.small import assert_equal_trees

ROW = {"step": 2, "losses": {"loss": 1.5}, "tiou": [0.5], "map": [0.25], "average": 0.25}


def longer(num_steps):
    return SETTINGS._replace(config=dataclasses.replace(SETTINGS.config, num_steps=num_steps))


def test_begin_writes_the_settings_and_lets_the_run_grow(tmp_path):
    workdir = Workdir(tmp_path / "new" / "run")
    workdir.begin(SETTINGS)
    workdir.begin(SETTINGS)
    assert workdir.settings() == SETTINGS
    workdir.begin(longer(2 * SETTINGS.config.num_steps))
    assert workdir.settings() == longer(2 * SETTINGS.config.num_steps)
    assert [path.name for path in workdir.path.iterdir()] == ["config.json"]


def test_begin_takes_down_where_the_data_are_now(tmp_path):
    workdir = Workdir(tmp_path)
    workdir.begin(SETTINGS._replace(data="/here"))
    workdir.begin(SETTINGS._replace(data="/there"))
    assert workdir.settings().data == "/there"


def test_begin_refuses_a_folder_of_another_run(tmp_path):
    workdir = Workdir(tmp_path)
    workdir.begin(SETTINGS)
    before = (tmp_path / "config.json").read_bytes()
    message = refusal(workdir.begin, SETTINGS._replace(stream_widths={"rgb": 3, "flow": 6}))
    assert_parts(message, tmp_path, "stream_widths.flow = 3, not 6", "same settings")
    assert (tmp_path / "config.json").read_bytes() == before


def test_begin_does_not_cut_a_run_back(tmp_path):
    workdir = Workdir(tmp_path)
    workdir.write_metrics([{**ROW, "step": 8}])
    assert_parts(refusal(workdir.begin, longer(7)), "--num_steps", "7", f"8 … {tmp_path}")
    workdir.begin(longer(8))


def test_rows_round_trip(tmp_path):
    workdir = Workdir(tmp_path)
    assert workdir.metrics() == workdir.history() == []
    rows = [ROW, {**ROW, "step": 4}]
    workdir.write_metrics(rows)
    assert workdir.metrics() == rows
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 2
    rows = [{"step": 1, "metrics": {"loss": 0.5}}]
    workdir.write_history(rows)
    assert workdir.history() == rows


def test_seeds_that_trained_together_have_folders_of_their_own(tmp_path):
    together = Workdir(tmp_path)
    assert [workdir.path for workdir in together.seeds()] == [tmp_path]
    for seed in (10, 9):
        together.of_seed(seed).begin(SETTINGS._replace(seed=seed))
    (tmp_path / "seed_of_trees").mkdir()
    assert [workdir.path.name for workdir in together.seeds()] == ["seed_9", "seed_10"]
    together.begin(SETTINGS)  # a run that happens to hold such folders
    assert [workdir.path for workdir in together.seeds()] == [tmp_path]
    assert [workdir.path for workdir in Workdir(tmp_path / "none").seeds()] == [tmp_path / "none"]


def test_all_seeds_of_one_training_are_loaded_together(together, tmp_path):
    parent = Workdir(together[0].path.parent)
    settings, states = parent.load_together()
    seeds = parent.healthy("last")
    assert settings == seeds[0].settings()
    for seed, state in zip(seeds, states, strict=True):
        assert_equal_trees(state.params, seed.load("last")[1].params)

    assert_parts(refusal(together[0].load_together), together[0].path, "no … several seeds", "--num_seeds")
    for seed in together:
        shutil.copytree(seed.path, tmp_path / seed.path.name)
    other = Workdir(tmp_path / together[1].path.name)
    content = json.loads(other.config.read_text())
    content["method"]["sigma"] = 0.5
    other.config.write_text(json.dumps(content))
    message = refusal(Workdir(tmp_path).load_together)
    assert_parts(message, other.path, "sigma = 0.5", "one training")


@pytest.fixture
def judged(tmp_path) -> Workdir:
    """Three seeds that keep the healthiest; the second has collapsed in the end."""
    parent = Workdir(tmp_path / "judged")
    agreements = {0: (0.02, 0.01), 1: (0.04, 0.001), 2: (0.01, 0.03)}  # at the steps 2 and 4
    for seed, agreement in agreements.items():
        settings = SETTINGS._replace(seed=seed, keep="healthiest")
        workdir = parent.of_seed(seed)
        workdir.begin(settings)
        health = [Health(4 * value, value, 0.5, 0.5) for value in agreement]
        health = [one._replace(separation=0.01 if one.agreement == 0.001 else 0.2) for one in health]
        workdir.write_metrics(
            [{"step": 2 * i, "average": i / 10, "health": h._asdict()} for i, h in enumerate(health, start=1)]
        )
        with CheckpointStore(workdir.checkpoints) as store:
            for step, quality in zip((2, 4), agreement):
                store.save(settings.fresh_state().replace(step=jnp.int32(step)), quality=quality)
    return parent


def test_the_healthiest_seed_is_loaded_where_seeds_keep_it(judged):
    for which, seed, step in (("best", 1, 2), ("last", 2, 4)):
        assert judged.healthiest(which).path == judged.of_seed(seed).path
        settings, state = judged.load(which)
        assert (settings.seed, int(state.step)) == (seed, step)
    for seed in judged.seeds():
        config = json.loads(seed.config.read_text())
        del config["keep"]
        seed.config.write_text(json.dumps(config))
    assert_parts(refusal(judged.load), judged.path, "3 seeds", "seed_0")


def test_collapsed_seeds_do_not_decide_with_the_others(judged):
    assert [workdir.path.name for workdir in judged.healthy("last")] == ["seed_0", "seed_2"]
    assert len(judged.healthy("best")) == 3
    settings, states = judged.load_together("last")
    assert settings.seed == 0
    expected = [judged.of_seed(seed).load("last")[1] for seed in (0, 2)]
    for state, other in zip(states, expected, strict=True):
        assert_equal_trees(state.params, other.params)


def test_where_all_seeds_have_collapsed_all_of_them_decide(judged):
    for seed in judged.seeds():
        rows = seed.metrics()
        seed.write_metrics([{**row, "health": {**row["health"], "separation": 0.0}} for row in rows])
    assert len(judged.healthy("last")) == 3


def test_a_seed_whose_health_is_not_known(judged):
    """As in workdirs of earlier versions: it may decide with the others, but is not called the healthiest."""
    rows = judged.of_seed(1).metrics()
    judged.of_seed(1).write_metrics([{k: v for k, v in row.items() if k != "health"} for row in rows])
    assert judged.of_seed(1).health("last") is None
    assert len(judged.healthy("last")) == 3
    assert_parts(
        refusal(judged.healthiest, "last"), judged.of_seed(1).path, "not measured", "--keep=healthiest"
    )


def test_what_a_killed_process_left_half_written_is_removed(tmp_path):
    for name in (".metrics.jsonl.x", ".history.jsonl.y", ".predictions.json.z", ".config", "metrics.jsonl"):
        (tmp_path / name).write_text("")
    Workdir(tmp_path).sweep()
    assert {path.name for path in tmp_path.iterdir()} == {".config", "metrics.jsonl"}


def test_load_finds_the_best_and_the_last(tmp_path):
    workdir = Workdir(tmp_path)
    workdir.begin(SETTINGS)
    state = SETTINGS.fresh_state()
    with CheckpointStore(workdir.checkpoints) as store:
        for step, average in ((2, 0.1), (4, 0.3), (6, 0.2)):
            labels = jnp.full_like(state.cluster_labels, step)
            store.save(state.replace(step=jnp.int32(step), cluster_labels=labels), quality=average)
    for which, step in (("best", 4), ("last", 6)):
        settings, loaded = workdir.load(which)
        assert settings == SETTINGS
        assert int(loaded.step) == step
        assert (loaded.cluster_labels == step).all()
        assert (jax.random.key_data(loaded.key) == jax.random.key_data(state.key)).all()
    assert_parts(refusal(workdir.load, "first"), "which", "'first'", "'best' or 'last'")


def test_load_says_what_is_missing(tmp_path):
    workdir = Workdir(tmp_path)
    checkpoints = tmp_path / "checkpoints"
    assert_parts(refusal(workdir.load), tmp_path / "config.json", "no such file", "JSON")
    workdir.begin(SETTINGS)
    assert_parts(refusal(workdir.load), checkpoints, "no such folder", "training")
    checkpoints.mkdir()
    assert_parts(refusal(workdir.load), checkpoints, "holds no checkpoint", "training")
    assert not list(checkpoints.iterdir())


def emptied(name):
    return lambda folder: (folder / name).write_bytes(b"")


def file_instead_of(name):
    def replace(folder):
        shutil.rmtree(folder / name)
        (folder / name).touch()

    return replace


@pytest.mark.parametrize(
    "damage, file, wrong, expected",
    [
        bad(
            "file for the checkpoints",
            file_instead_of("checkpoints"),
            "checkpoints",
            "no such folder",
            "training",
        ),
        bad(
            "file for the checkpoint",
            file_instead_of("checkpoints/2"),
            "checkpoints",
            "no checkpoint",
            "training",
        ),
        bad(
            "no list of arrays",
            emptied("checkpoints/2/default/_METADATA"),
            "checkpoints/2",
            "restored",
            "settings",
        ),
        bad(
            "no index",
            emptied("checkpoints/2/default/manifest.ocdbt"),
            "checkpoints/2",
            "restored",
            "settings",
        ),
    ],
)
def test_damaged_checkpoints(damage, file, wrong, expected, untrained, tmp_path):
    shutil.copytree(untrained.path, tmp_path / "W")
    damage(tmp_path / "W")
    assert_parts(refusal(Workdir(tmp_path / "W").load), tmp_path / "W" / file, wrong, expected)
