import dataclasses
import functools
import json

import pytest

from case_jax.config import CaseConfig
from case_jax.data.dataset import without_action_free
from case_jax.data.info import DatasetInfo
from case_jax.data.synthetic import SyntheticSpec, make_synthetic_dataset
from case_jax.runs.settings import RunSettings
from case_jax.runs.workdir import Workdir
from tests.helpers.refusals import assert_parts, assert_refused, bad, refusal
from tests.helpers.runs import SETTINGS

CONFIG = SETTINGS.config


def test_settings_follow_from_the_config_and_the_data_set():
    dataset = make_synthetic_dataset(0, SyntheticSpec(num_train=1, num_test=1, num_classes=2, width=4))
    settings = RunSettings.of(CONFIG, dataset, seed=1, eval_every=5, tiou=[0.5], data="/data")
    longest = dataset.test.videos[0].num_snippets
    assert settings == (
        CONFIG,
        dataset.info,
        {"rgb": 4, "flow": 4},
        1,
        5,
        (0.5,),
        "/data",
        longest,
        None,
        "best",
        None,
    )


def test_where_videos_without_any_action_train_the_model_has_a_background_class():
    dataset = make_synthetic_dataset(0, SyntheticSpec(num_train=2, num_test=2, num_classes=2, width=4))

    def kind(data, **changes):
        config = dataclasses.replace(CONFIG, **changes)
        return RunSettings.of(config, data, seed=0, eval_every=1, tiou=[0.5]).config.action_free

    def freed(split):
        first, *others = split.videos
        return dataclasses.replace(split, videos=(first._replace(annotations=()), *others), packed=None)

    train_free = dataclasses.replace(dataset, train=freed(dataset.train))
    test_free = dataclasses.replace(dataset, test=freed(dataset.test))
    assert [kind(data) for data in (dataset, train_free, test_free)] == ["auto", "learn", "auto"]
    assert kind(dataset, action_free="learn") == "learn"
    assert kind(without_action_free(train_free), action_free="leave_out") == "leave_out"


def test_a_run_without_a_background_class_goes_on_without_videos_without_any_action():
    def of_kind(kind):
        return SETTINGS._replace(config=dataclasses.replace(CONFIG, action_free=kind))

    assert of_kind("auto").difference(of_kind("leave_out")) is None
    assert of_kind("auto").difference(of_kind("learn")) == ("action_free", '"auto"', '"learn"')


def test_settings_survive_json():
    told = SETTINGS._replace(info=dataclasses.replace(SETTINGS.info, crops="mean", dtype="bfloat16"))
    for settings in (SETTINGS, told):
        assert RunSettings.from_json(json.loads(json.dumps(settings.as_json()))) == settings


def test_how_features_are_read_keeps_a_run_from_going_on_over_others():
    told = SETTINGS._replace(info=dataclasses.replace(SETTINGS.info, crops="mean"))
    assert SETTINGS.difference(told) == ("dataset.crops", "null", '"mean"')
    assert told.difference(SETTINGS) == ("dataset.crops", '"mean"', "null")
    assert told.difference(told) is None


def test_the_fresh_state_follows_from_the_settings():
    state = SETTINGS.fresh_state()
    assert int(state.step) == 0
    assert state.config == CONFIG
    assert (state.network.streams, state.network.num_classes) == (("rgb", "flow"), 2)
    same, other = SETTINGS.fresh_state(), SETTINGS._replace(seed=4).fresh_state()
    kernel = state.params["rgb"]["cas_head"]["kernel"]
    assert (same.params["rgb"]["cas_head"]["kernel"] == kernel).all()
    assert not (other.params["rgb"]["cas_head"]["kernel"] == kernel).all()


def _with_config(**changes):
    return SETTINGS._replace(config=dataclasses.replace(CONFIG, **changes))


@pytest.mark.parametrize(
    "other, difference",
    [
        (_with_config(sigma=0.2), ("sigma", "10.0", "0.2")),
        (
            SETTINGS._replace(info=dataclasses.replace(SETTINGS.info, frames_per_second=30.0)),
            ("dataset.frames_per_second", "25.0", "30.0"),
        ),
        (SETTINGS._replace(stream_widths={"rgb": 3, "flow": 6}), ("stream_widths.flow", "3", "6")),
        (SETTINGS._replace(eval_every=3), ("eval_every", "1", "3")),
        (
            SETTINGS._replace(tiou=tuple(i / 100 for i in range(1, 30))),
            ("tiou", "[0.5]", "[0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.09, 0...."),
        ),
        (SETTINGS, None),
        (SETTINGS._replace(data="/there", longest_video=7), None),  # data may be moved
        (_with_config(num_steps=20), None),  # a run may be prolonged
    ],
)
def test_the_first_difference_that_keeps_a_run_from_going_on(other, difference):
    assert SETTINGS.difference(other) == difference


@pytest.mark.parametrize("changes", [{"settling": 0.1}, {"attention_labels": "agreed"}])
def test_a_run_whose_steps_depend_on_their_number_cannot_be_prolonged(changes):
    shorter, longer = (_with_config(**changes, num_steps=n) for n in (10, 20))
    assert shorter.difference(longer) == ("num_steps", "10", "20")


# Content of config.json

# As version 0.1.0 wrote it, but for line breaks.
OF_0_1_0 = """
{"method": {"num_snippets": 32, "batch_size": 4, "sampling": "stratified", "hidden_dim": 16,
"num_clusters": 4, "cluster_temperature": 10.0, "scc": true, "ccc": true, "clustering_assisted_testing":
true, "top_k_divisor": 8, "gamma": 0.7, "epsilon": 0.5, "sinkhorn_iters": 3, "sigma": 10.0, "scc_prior":
true, "scc_transport": true, "scc_labels": "soft", "prior_rank": "true", "ccc_marginal": "foreground",
"rho": 10.0, "settling": 0.0, "ccc_foreground": "labels", "attention_labels": "top_k", "agreement_from":
0.2, "lambda_s": 1.0, "lambda_c": 0.3, "learning_rate": 0.0001, "weight_decay": 0.0005, "num_steps": 4,
"matmul_precision": "float32", "feature_dtype": "float32", "class_threshold": 0.25, "upsampling": 24,
"proposal_thresholds": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9], "flank": 0.15,
"video_score_weight": 0.2, "video_score": "kept", "nms": "published", "nms_threshold": 0.4, "nms_alpha":
0.35}, "dataset": {"classes": ["Action01", "Action02"], "streams": ["rgb", "flow"], "frames_per_second":
25.0, "frames_per_snippet": 16.0, "train_subset": "train", "test_subset": "test", "rescaled": false},
"stream_widths": {"rgb": 8, "flow": 8}, "seed": 4, "eval_every": 2, "tiou": [0.1, 0.2, 0.3, 0.4, 0.5,
0.6, 0.7], "data": "/data", "longest_video": 193}
"""


def test_settings_of_version_0_1_0_are_read():
    settings = RunSettings.from_json(json.loads(OF_0_1_0))
    assert settings.config == CaseConfig(
        num_snippets=32, hidden_dim=16, num_clusters=4, batch_size=4, num_steps=4
    )
    assert settings.info == DatasetInfo(classes=("Action01", "Action02"))
    assert settings[2:] == (
        {"rgb": 8, "flow": 8}, 4, 2, (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7), "/data", 193, None, "best", None,
    )  # fmt: skip
    # Written again, it says the same. Settings may be added; what 0.1.0 wrote must stay.
    old, new = json.loads(OF_0_1_0), json.loads(json.dumps(settings.as_json()))
    for part in ("method", "dataset"):
        assert old[part].items() <= new[part].items()
    assert {**old, "method": None, "dataset": None} == {**new, "method": None, "dataset": None}


def test_the_place_of_the_data_and_the_longest_video_need_not_be_known():
    content = SETTINGS.as_json()
    del content["data"], content["longest_video"]  # as it was before they were written
    settings = RunSettings.from_json(content)
    assert (settings.data, settings.longest_video) == (None, None)


def changed(*place, to):
    """config.json with one value changed."""
    content = json.loads(json.dumps(SETTINGS.as_json()))
    inner = content
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = to
    return json.dumps(content).encode()


@pytest.mark.parametrize(
    "content, wrong",
    [
        bad("a list", b"[]", "list indices must be integers or slices, not str"),
        bad("no method", b"{}", "'method'"),
        bad(
            "unknown setting",
            changed("method", "new", to=1),
            "unexpected keyword argument 'new'",
        ),
        bad("setting of text", changed("method", "hidden_dim", to="4"), "'hidden_dim' is '4'"),
        bad("half a snippet", changed("method", "num_snippets", to=8.5), "'num_snippets' is 8.5"),
        bad("true clusters", changed("method", "num_clusters", to=True), "'num_clusters' is True"),
        bad("2^40 clusters", changed("method", "num_clusters", to=2**40), f"'num_clusters' is {2**40}"),
        bad("NaN", changed("method", "gamma", to=float("nan")), "'gamma' is nan"),
        bad("gamma 2", changed("method", "gamma", to=2), "--gamma: is 2; expected between 0 and 1"),
        bad("classes of text", changed("dataset", "classes", to="ab"), "'classes' is 'ab'"),
        bad("classes of numbers", changed("dataset", "classes", to=[1]), "'classes' is (1,)"),
        bad("no classes", changed("dataset", "classes", to=[]), "no classes or no time of a snippet"),
        bad("fps 0", changed("dataset", "frames_per_second", to=0), "float division by zero"),
        bad("fps -1", changed("dataset", "frames_per_second", to=-1), "no classes or no time of a snippet"),
        bad("other crops", changed("dataset", "crops", to="max"), "unknown 'crops' or 'dtype'"),
        bad("dtype 16", changed("dataset", "dtype", to=16), "'dtype' is 16"),
        bad("no widths", changed("stream_widths", to={}), "'stream_widths' is {}"),
        bad("other streams", changed("stream_widths", to={"rgb": 3}), "'stream_widths' is {'rgb': 3}"),
        bad(
            "width 0",
            changed("stream_widths", "rgb", to=0),
            "'stream_widths' is {'rgb': 0, 'flow': 3}",
        ),
        bad(
            "width 1e999",
            changed("stream_widths", "rgb", to=float("inf")),
            "cannot convert float infinity to integer",
        ),
        bad("seed x", changed("seed", to="x"), "invalid literal for int() with base 10: 'x'"),
        bad("seed -1", changed("seed", to=-1), "'seed' or 'eval_every' is out of range"),
        bad("seed 10^30", changed("seed", to=10**30), "'seed' or 'eval_every' is out of range"),
        bad("tIoU 2", changed("tiou", to=[2]), "'tiou' is (2.0,)"),
        bad("data 3", changed("data", to=3), "'data' is 3"),
        bad("longest video 0", changed("longest_video", to=0), "'longest_video' is 0"),
        bad("longest video of text", changed("longest_video", to="5"), "'longest_video' is '5'"),
    ],
)
def test_settings_that_training_never_wrote(content, wrong, tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    assert_refused(
        lambda path: Workdir(path.parent).settings(), path, f"settings … {wrong}", "training wrote"
    )


@pytest.mark.parametrize("content, wrong", [(None, "no such file"), (b"{", "not JSON (line 1, column 2")])
def test_settings_that_are_not_json(content, wrong, tmp_path):
    path = tmp_path / "config.json"
    if content is not None:
        path.write_bytes(content)
    assert_refused(lambda path: Workdir(path.parent).settings(), path, wrong, "JSON")


def test_a_run_keeps_the_best_unless_told_otherwise():
    dataset = make_synthetic_dataset(0, SyntheticSpec(num_train=1, num_test=1, num_classes=2, width=4))
    best, healthiest = (
        RunSettings.of(CONFIG, dataset, seed=1, eval_every=5, tiou=[0.5], **keep)
        for keep in ({}, {"keep": "healthiest"})
    )
    assert "keep" not in best.as_json()  # as earlier versions wrote it
    again = RunSettings.from_json(json.loads(json.dumps(healthiest.as_json())))
    assert again == healthiest
    assert best.difference(healthiest) == ("keep", '"best"', '"healthiest"')
    with pytest.raises(ValueError, match="'keep' is 'worst'"):
        RunSettings.from_json({**json.loads(json.dumps(best.as_json())), "keep": "worst"})


def test_the_healthiest_needs_classes_to_compare():
    dataset = make_synthetic_dataset(0, SyntheticSpec(num_train=1, num_test=1, num_classes=1, width=4))
    keep_healthiest = functools.partial(
        RunSettings.of, CONFIG, dataset, seed=1, eval_every=5, tiou=[0.5], keep="healthiest"
    )
    assert_parts(refusal(keep_healthiest), "--keep", "'healthiest' … compared", "'best' … single class")
