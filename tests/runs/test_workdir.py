import json

import jax
import jax.numpy as jnp
import pytest

from case_jax.config import CaseConfig
from case_jax.data.dataset import Annotation
from case_jax.data.info import DatasetInfo
from case_jax.data.synthetic import SyntheticSpec, make_synthetic_dataset
from case_jax.errors import InputError
from case_jax.runs.checkpoints import CheckpointStore
from case_jax.runs.settings import RunSettings
from case_jax.runs.workdir import Workdir

CONFIG = CaseConfig(num_snippets=8, hidden_dim=4, num_clusters=3, num_steps=10)
INFO = DatasetInfo(classes=("Jump", "Run"), streams=("acc",), frames_per_second=50.0)
SETTINGS = RunSettings(CONFIG, INFO, {"acc": 5}, seed=3, eval_every=2, tiou=(0.3, 0.5))
ROW = {"step": 2, "losses": {"loss": 1.5}, "tiou": [0.5], "map": [0.25], "average": 0.25}


def test_settings_of_a_data_set():
    dataset = make_synthetic_dataset(0, SyntheticSpec(num_train=1, num_test=1, num_classes=2, width=4))
    settings = RunSettings.of(CONFIG, dataset, seed=1, eval_every=5, tiou=[0.5], data="/data")
    longest = dataset.test.videos[0].num_snippets
    assert settings == (CONFIG, dataset.info, {"rgb": 4, "flow": 4}, 1, 5, (0.5,), "/data", longest)
    assert isinstance(dataset.test.videos[0].annotations[0], Annotation)


def test_settings_survive_json():
    assert RunSettings.from_json(json.loads(json.dumps(SETTINGS.as_json()))) == SETTINGS


def test_fresh_state_follows_from_the_settings():
    state = SETTINGS.fresh_state()
    assert int(state.step) == 0
    assert state.config == CONFIG
    assert (state.network.streams, state.network.num_classes) == (("acc",), 2)
    same, other = SETTINGS.fresh_state(), SETTINGS._replace(seed=4).fresh_state()
    kernel = state.params["acc"]["cas_head"]["kernel"]
    assert (same.params["acc"]["cas_head"]["kernel"] == kernel).all()
    assert not (other.params["acc"]["cas_head"]["kernel"] == kernel).all()


def test_begin_writes_the_settings_and_lets_the_run_grow(tmp_path):
    workdir = Workdir(tmp_path / "new" / "run")
    workdir.begin(SETTINGS)
    workdir.begin(SETTINGS)
    assert workdir.settings() == SETTINGS
    longer = SETTINGS._replace(config=CaseConfig(**{**vars(CONFIG), "num_steps": 20}))
    workdir.begin(longer)
    assert workdir.settings() == longer
    assert [path.name for path in workdir.path.iterdir()] == ["config.json"]


@pytest.mark.parametrize("changes", [{"settling": 0.1}, {"attention_labels": "agreed"}])
def test_a_run_whose_steps_depend_on_their_number_does_not_grow(changes, tmp_path):
    def settings(num_steps):
        return SETTINGS._replace(config=CaseConfig(**{**vars(CONFIG), **changes, "num_steps": num_steps}))

    workdir = Workdir(tmp_path)
    workdir.begin(settings(10))
    with pytest.raises(InputError) as raised:
        workdir.begin(settings(20))
    assert str(raised.value) == (
        f"{tmp_path}: holds a run with num_steps = 10, not 20; expected the same settings, or an empty "
        "--workdir"
    )


def test_data_may_be_moved_and_need_not_be_known(tmp_path):
    workdir = Workdir(tmp_path)
    workdir.begin(SETTINGS._replace(data="/here"))
    workdir.begin(SETTINGS._replace(data="/there"))
    assert workdir.settings().data == "/there"
    content = SETTINGS.as_json()
    del content["data"], content["longest_video"]  # as written before it was recorded
    assert RunSettings.from_json(content).data is None


@pytest.mark.parametrize(
    "changes, difference",
    [
        ({"config": CaseConfig(**{**vars(CONFIG), "sigma": 0.2})}, "sigma = 10.0, not 0.2"),
        (
            {"info": DatasetInfo(**{**vars(INFO), "streams": ("gyro",)})},
            'dataset.streams = ["acc"], not ["gyro"]',
        ),
        ({"stream_widths": {"acc": 6}}, "stream_widths.acc = 5, not 6"),
        ({"eval_every": 3}, "eval_every = 2, not 3"),
        (
            {"tiou": tuple(i / 100 for i in range(1, 30))},
            "tiou = [0.3, 0.5], not [0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.09, 0....",
        ),
    ],
)
def test_begin_refuses_a_folder_of_another_run(tmp_path, changes, difference):
    workdir = Workdir(tmp_path)
    workdir.begin(SETTINGS)
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(InputError) as raised:
        workdir.begin(SETTINGS._replace(**changes))
    assert str(raised.value) == (
        f"{tmp_path}: holds a run with {difference}; expected the same settings, or an empty --workdir"
    )
    assert (tmp_path / "config.json").read_bytes() == before


@pytest.mark.parametrize(
    "content, reason",
    [
        ("[]", "list indices must be integers or slices, not str"),
        ("{}", "'method'"),
        (json.dumps({**SETTINGS.as_json(), "seed": "x"}), "invalid literal for int() with base 10: 'x'"),
        (json.dumps({**SETTINGS.as_json(), "data": 3}), "'data' is 3"),
        (json.dumps({**SETTINGS.as_json(), "longest_video": 0}), "'longest_video' is 0"),
        (json.dumps({**SETTINGS.as_json(), "method": {"gamma": 2.0}}), "--gamma: is 2.0; expected between 0"),
        (json.dumps({**SETTINGS.as_json(), "method": {"typo": 2.0}}), "unexpected keyword argument 'typo'"),
    ],
)
def test_settings_that_are_none(tmp_path, content, reason):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError) as raised:
        Workdir(tmp_path).settings()
    message = str(raised.value)
    assert message.startswith(f"{tmp_path / 'config.json'}: is no run's settings (")
    assert reason in message
    assert message.endswith("); expected the file that training wrote")
    assert "\n" not in message


def test_metrics_round_trip(tmp_path):
    workdir = Workdir(tmp_path)
    assert workdir.metrics() == []
    rows = [ROW, {**ROW, "step": 4}]
    workdir.write_metrics(rows)
    assert workdir.metrics() == rows
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 2


def test_metrics_that_are_not_finite_never_reach_the_file(tmp_path):
    workdir = Workdir(tmp_path)
    workdir.write_metrics([ROW])
    with pytest.raises(ValueError):
        workdir.write_metrics([ROW, {**ROW, "average": float("nan")}])
    assert workdir.metrics() == [ROW]


@pytest.mark.parametrize("line", ["", "{", "[]", "{}", '{"step": 1}', '{"step": "x", "average": 0}'])
def test_a_line_that_is_no_evaluation(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps(ROW) + "\n" + line + "\n")
    with pytest.raises(InputError) as raised:
        Workdir(tmp_path).metrics()
    assert str(raised.value) == (
        f"{path}: line 2 is no evaluation; expected a JSON object with 'step' and 'average'"
    )


def test_load_finds_the_best_and_the_last(tmp_path):
    workdir = Workdir(tmp_path)
    workdir.begin(SETTINGS)
    state = SETTINGS.fresh_state()
    with CheckpointStore(workdir.checkpoints) as store:
        for step, average in ((2, 0.1), (4, 0.3), (6, 0.2)):
            labels = jnp.full_like(state.cluster_labels, step)
            store.save(state.replace(step=jnp.int32(step), cluster_labels=labels), average=average)
    for which, step in (("best", 4), ("last", 6)):
        settings, loaded = workdir.load(which)
        assert settings == SETTINGS
        assert int(loaded.step) == step
        assert (loaded.cluster_labels == step).all()
        assert (jax.random.key_data(loaded.key) == jax.random.key_data(state.key)).all()


def test_load_says_what_is_missing(tmp_path):
    workdir = Workdir(tmp_path)
    checkpoints = tmp_path / "checkpoints"

    def message():
        with pytest.raises(InputError) as raised:
            workdir.load()
        return str(raised.value)

    assert message() == f"{tmp_path / 'config.json'}: no such file; expected a JSON file"
    workdir.begin(SETTINGS)
    assert message() == f"{checkpoints}: no such folder; expected the checkpoints of a training"
    checkpoints.mkdir()
    assert message() == f"{checkpoints}: holds no checkpoint; expected one from training"
    assert not list(checkpoints.iterdir())
