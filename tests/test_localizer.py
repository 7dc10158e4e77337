"""A trained run finds actions in new videos, of any length, as evaluation would."""

import json

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import case_jax
from case_jax import localizer as module
from case_jax.config import CaseConfig
from case_jax.data.dataset import Video
from case_jax.data.feature_files import FeatureFiles
from case_jax.data.info import DatasetInfo
from case_jax.data.sources import Source
from case_jax.data.torch_files import read_state_dict
from case_jax.errors import InputError
from case_jax.evaluator import detect
from case_jax.localization.detect import localize_windows
from case_jax.localization.detections import Detection, Detections
from case_jax.localizer import Localizer
from case_jax.method.sampled_videos import score_window
from case_jax.method.scores import score_videos
from case_jax.runs.checkpoints import CheckpointStore
from case_jax.runs.published import params_from_published
from case_jax.runs.settings import RunSettings
from case_jax.runs.workdir import Workdir
from case_jax.training.state import create_train_state
from tests.helpers.refusals import assert_parts, refusal

SNIPPETS, WIDTHS = 16, {"rgb": 6, "flow": 4}
CONFIG = CaseConfig(num_snippets=SNIPPETS, hidden_dim=8, num_clusters=4)
INFO = DatasetInfo(classes=("Jump", "Run", "Fall"))
LENGTHS = (1, 5, 16, 17, 40, 64, 2)  # up to 4 T


def make_localizer(config=CONFIG, info=INFO, widths=WIDTHS, window=None):
    state = create_train_state(config, jax.random.key(0), stream_widths=widths, num_classes=len(info.classes))
    foreground = jnp.linspace(0, 1, config.num_clusters)
    # The scores of an untrained network hardly differ in time.
    params = jax.tree.map(lambda array: 6 * array, state.params)
    state = state.replace(cluster_labels=jnp.stack([foreground, 1 - foreground], axis=1), params=params)
    settings = RunSettings(config, info, widths, seed=0, eval_every=1, tiou=(0.5,))
    return Localizer(settings, state, window=window), state


@pytest.fixture(scope="module")
def localizer_and_state():
    return make_localizer()


@pytest.fixture(scope="module")
def localizer(localizer_and_state):
    return localizer_and_state[0]


def make_features(length, seed=0):
    """Smooth enough for a few long actions."""
    rng = np.random.default_rng(seed)
    walk = {s: rng.standard_normal((length + 4, width)) for s, width in WIDTHS.items()}
    return {s: sum(w[i : i + length] for i in range(5)).astype(np.float32) for s, w in walk.items()}


def side_by_side(features):
    return np.concatenate([features[stream] for stream in WIDTHS], axis=1)


def assert_close(found, expected, **tolerance):
    assert found.label.size > 0
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, **(tolerance or {"rtol": 0, "atol": 1e-6}))


def assert_equal(found, expected):
    assert found.label.size > 0
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs, strict=True)


# What is found


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"nms": "standard", "video_score": "probability"},
        pytest.param({"clustering_assisted_testing": False}, marks=pytest.mark.slow),
        pytest.param(
            {"scc": False, "ccc": False, "clustering_assisted_testing": False}, marks=pytest.mark.slow
        ),
    ],
)
def test_a_video_of_one_window_is_what_evaluation_makes_of_it(changes):
    localizer, state = make_localizer(CaseConfig(**{**vars(CONFIG), **changes}))
    videos = [Video(f"v{length}", make_features(length, length), ()) for length in LENGTHS]
    expected = detect(state, videos, INFO)
    found = localizer.detect([video.features for video in videos])
    for ours, theirs in zip(found, expected.values(), strict=True):
        assert_close(ours, theirs)


def test_several_seeds_decide_by_the_mean_of_their_scores(localizer_and_state):
    localizer, state = localizer_and_state
    other = state.replace(params=jax.tree.map(lambda array: -array, state.params))
    settings = RunSettings(CONFIG, INFO, WIDTHS, seed=0, eval_every=1, tiou=(0.5,))
    features = make_features(16)
    curves = [one.curves(features) for one in (localizer, Localizer(settings, other))]
    together = Localizer(settings, [state, other])
    for name in ("attention", "transformed", "mixed", "classes"):
        ours, *theirs = (getattr(one, name) for one in (together.curves(features), *curves))
        np.testing.assert_allclose(ours, np.mean(theirs, axis=0), rtol=0, atol=1e-6)
        assert np.abs(theirs[0] - theirs[1]).max() > 0.01

    scored = [
        score_window(
            one.params,
            one.cluster_labels,
            features,
            jnp.arange(16),
            network=one.network,
            top_k=CONFIG.top_k,
            foreground="mixed",
        )
        for one in (state, other)
    ]
    fused, video = (np.mean(arrays, axis=0) for arrays in zip(*scored))
    expected = localize_windows(fused, video[None], duration=16 * 0.64, config=CONFIG)
    assert_close(together.detect(features), expected)
    assert_equal(Localizer(settings, [state]).detect(features), localizer.detect(features))


@pytest.mark.slow
def test_recorded_data_is_localised_as_evaluation_does(shared_data):
    folder = shared_data / "inertial"
    facts = json.loads((folder / "dataset.json").read_text())
    info = DatasetInfo(tuple(facts["classes"]), ("acc", "gyro"), frames_per_second=50.0)
    params = params_from_published(read_state_dict(folder / "published" / "best_model.pkl"), info.streams)
    config = CaseConfig(num_snippets=140)
    settings = RunSettings(config, info, {"acc": 103, "gyro": 103}, seed=0, eval_every=1, tiou=(0.5,))
    labels = np.load(folder / "published" / "cls_gt.npy").astype(np.float32)
    state = settings.fresh_state().replace(params=params, cluster_labels=labels)
    names = sorted(path.stem for path in (folder / "features/test/acc").glob("*.npy"))[:30]
    videos = [
        Video(n, {s: np.load(folder / "features/test" / s / f"{n}.npy") for s in info.streams}, ())
        for n in names
    ]
    expected = detect(state, videos, info)
    found = Localizer(settings, state).detect([video.features for video in videos])
    assert sum(d.label.size for d in found) > 300
    for ours, theirs in zip(found, expected.values(), strict=True):
        assert_close(ours, theirs)


@pytest.mark.parametrize("length, num_windows", [(64, 1), (65, 2), (200, 4), (16 * 64, 16)])
def test_a_long_video_is_sampled_uniformly_and_scored_window_by_window(
    localizer_and_state, length, num_windows
):
    localizer, state = localizer_and_state
    features = make_features(length)
    count = num_windows * SNIPPETS
    sampled = {stream: array[np.arange(count) * length // count] for stream, array in features.items()}
    scores = score_videos(
        state.params,
        state.cluster_labels,
        {s: array.reshape(num_windows, SNIPPETS, -1) for s, array in sampled.items()},
        network=state.network,
        top_k=CONFIG.top_k,
    )
    expected = localize_windows(
        np.asarray(scores.fused).reshape(count, -1),
        np.asarray(scores.video),
        duration=length * 0.64,
        config=CONFIG,
    )
    assert_close(localizer.detect(features), expected, rtol=0, atol=1e-5)


def test_a_video_does_not_depend_on_those_beside_it(localizer):
    videos = [make_features(length, length) for length in (3, 200, 64, 1)]
    for together, video in zip(localizer.detect(videos), videos, strict=True):
        assert_equal(together, localizer.detect(video))


def test_a_list_is_sorted_from_the_surest_down(localizer, monkeypatch):
    found = Detections(
        np.array([1, 0, 2, 1, 0]),
        np.array([5.0, 5.0, 0.0, 5.0, 9.0]),
        np.array([7.0, 7.0, 1.0, 6.0, 9.5]),
        np.array([0.5, 0.5, -0.1, 0.5, 0.7]),
    )
    monkeypatch.setattr(Localizer, "detect", lambda *_: found)
    assert localizer.localize({}) == [
        Detection("Jump", 9.0, 9.5, 0.7),
        Detection("Run", 5.0, 6.0, 0.5),
        Detection("Jump", 5.0, 7.0, 0.5),
        Detection("Run", 5.0, 7.0, 0.5),
        Detection("Fall", 0.0, 1.0, -0.1),
    ]
    assert all(type(value) is float for detection in localizer.localize({}) for value in detection[1:])


def test_lists_have_the_detections_of_the_arrays(localizer):
    videos = [make_features(length) for length in (30, 100)]
    for listed, found in zip(localizer.localize(tuple(videos)), localizer.detect(videos), strict=True):
        rows = {(INFO.classes[label], *rest) for label, *rest in zip(*(c.tolist() for c in found))}
        assert set(listed) == rows
        assert len(listed) == found.label.size
    assert localizer.localize([]) == []


def test_time_is_that_of_the_run_unless_told_otherwise(localizer):
    features = make_features(40)
    found, slower = localizer.detect(features), localizer.detect(features, 12.5, 4)
    assert localizer.seconds_per_snippet == 0.64
    # The published soft-NMS adds a second to lengths, so scores and with them the order may differ.
    for part in ("start", "end"):
        ours, theirs = np.sort(getattr(slower, part)), np.sort(getattr(found, part))
        np.testing.assert_allclose(ours, theirs / 2, rtol=1e-12)
    assert_equal(localizer.detect(features, frames_per_snippet=16), found)
    assert_equal(localizer.detect(features, fps=np.float32(25)), found)
    assert found.end.max() <= 40 * 0.64 + 1e-9


# Features that are accepted, and those that are refused


def test_kinds_of_arrays(localizer, tmp_path):
    features = {s: np.round(4 * array) for s, array in make_features(100).items()}
    expected = localizer.detect(features)
    for dtype in (np.float16, np.float64, np.int32, np.int8):
        assert_equal(localizer.detect({s: a.astype(dtype) for s, a in features.items()}), expected)
    together = side_by_side(features)
    np.save(tmp_path / "v.npy", together)
    mapped = np.load(tmp_path / "v.npy", mmap_mode="r")
    with h5py.File(tmp_path / "v.h5", "w") as file:
        sets = {stream: file.create_dataset(stream, data=array) for stream, array in features.items()}
        for same in (
            together,
            mapped,
            {"flow": features["flow"], "other": None, "rgb": features["rgb"]},
            {stream: jnp.asarray(array) for stream, array in features.items()},
            {stream: array.tolist() for stream, array in features.items()},
            {stream: np.asfortranarray(array)[::1] for stream, array in features.items()},
            sets,
        ):
            assert_equal(localizer.detect(same), expected)


def test_bfloat16_features():
    localizer, _ = make_localizer()
    features = {s: a.astype(jnp.bfloat16) for s, a in make_features(100).items()}
    exact = localizer.detect({s: a.astype(np.float32) for s, a in features.items()})
    assert_equal(localizer.detect(features), exact)
    with jax.numpy_dtype_promotion("standard"):
        rounding, state = make_localizer(CaseConfig(**{**vars(CONFIG), "feature_dtype": "bfloat16"}))
        video = Video("v", make_features(60), ())
        assert_close(rounding.detect(video.features), detect(state, [video], INFO)["v"])


def test_one_stream_needs_no_name():
    localizer, _ = make_localizer(info=DatasetInfo(("Jump",), ("acc",)), widths={"acc": 6})
    array = make_features(30)["rgb"]
    assert_equal(localizer.detect(array), localizer.detect({"acc": array}))
    with pytest.raises(InputError, match=r"^features: has 4 channels; expected 6 as in training$"):
        localizer.detect(array[:, :4])


def test_files_are_read_from_disk(localizer, tmp_path):
    features = make_features(100)
    np.save(tmp_path / "v.npy", side_by_side(features))
    columns = {"rgb": (0, 6, 10), "flow": (6, 10, 10)}
    files = FeatureFiles({s: Source(tmp_path / "v.npy", columns=c) for s, c in columns.items()})
    assert_equal(localizer.detect(files), localizer.detect(features))


def broken(**changes):
    features = make_features(20)
    for stream, change in changes.items():
        features[stream] = change(features[stream])
    return features


def with_value(row, column, value):
    def change(array):
        array[row, column] = value
        return array

    return change


@pytest.mark.parametrize(
    "features, named, wrong, expected",
    [
        ({"rgb": np.zeros((2, 6))}, "features", "has no stream 'flow'", "rgb, flow"),
        (
            broken(flow=lambda a: a[:, :3]),
            "features['flow']",
            "has 3 channels",
            "4 as in training",
        ),
        (broken(rgb=lambda a: a[:, 0]), "features['rgb']", "has shape (20,)", "(snippets, 6)"),
        (broken(rgb=lambda a: a[None]), "features['rgb']", "has shape (1, 20, 6)", "(snippets, 6)"),
        (
            broken(rgb=lambda a: a[:0], flow=lambda a: a[:0]),
            "features['rgb']",
            "has shape (0, 6)",
            "(snippets, 6)",
        ),
        (
            broken(flow=lambda a: a[:7]),
            "features['flow']",
            "has 7 snippets",
            "20 as in features['rgb']",
        ),
        (
            broken(flow=with_value(13, 2, np.nan)),
            "features['flow']",
            "snippet 13, channel 2 is nan",
            "finite numbers",
        ),
        (
            side_by_side(broken(flow=with_value(0, 3, -np.inf))),
            "features",
            "snippet 0, channel 9 is -inf",
            "finite numbers",
        ),
        (
            broken(rgb=lambda a: with_value(5, 1, 1e39)(a.astype(np.float64))),
            "features['rgb']",
            "snippet 5, channel 1 is inf",
            "finite numbers",
        ),
        (
            broken(rgb=lambda a: a.astype(np.complex64)),
            "features['rgb']",
            "holds complex64 values",
            "(snippets, 6) numbers",
        ),
        (broken(rgb=lambda a: a > 0), "features['rgb']", "holds bool values", "(snippets, 6) numbers"),
        (broken(rgb=lambda a: None), "features['rgb']", "holds object values", "(snippets, 6) numbers"),
        (
            broken(rgb=lambda a: [[1.0, 2.0], [1.0]]),
            "features['rgb']",
            "is not an array",
            "(snippets, 6) numbers",
        ),
        (
            np.zeros((3, 11)),
            "features",
            "has 11 channels",
            "10, rgb (6) and flow (4) side by side",
        ),
        ("v.npy", "features", "holds <U5 values", "(snippets, 10) numbers"),
        (
            [make_features(3), make_features(3)["rgb"]],
            "features[1]",
            "has 6 channels",
            "10, rgb (6) and flow (4) side by side",
        ),
        (
            [{"rgb": np.zeros((2, 6)), "flow": 1.0}],
            "features[0]['flow']",
            "has shape ()",
            "(snippets, 4)",
        ),
    ],
)
def test_bad_features(features, named, wrong, expected, localizer):
    assert_parts(refusal(localizer.localize, features), named, wrong, expected)


def test_a_position_is_that_in_the_video_not_in_its_window(localizer):
    features = make_features(200)
    with_value(150, 1, np.inf)(features["rgb"])
    message = refusal(localizer.localize, features)
    assert_parts(message, "features['rgb']", "snippet 150, channel 1 is inf", "finite")


def test_a_bad_file_is_named(localizer, tmp_path):
    features = make_features(20)
    features["flow"][3, 1] = np.nan
    for stream, array in features.items():
        np.save(tmp_path / f"{stream}.npy", array)
    files = FeatureFiles({stream: Source(tmp_path / f"{stream}.npy") for stream in WIDTHS})
    message = refusal(localizer.localize, files)
    assert_parts(message, tmp_path / "flow.npy", "snippet 3, channel 1 is nan", "finite")


@pytest.mark.parametrize("value", [0, -25.0, np.nan, np.inf, "25", True])
def test_bad_times(localizer, value):
    for name, videos in (("fps", make_features(3)), ("frames_per_snippet", [])):
        message = refusal(lambda videos=videos, name=name: localizer.localize(videos, **{name: value}))
        assert_parts(message, name, repr(value), "finite number above 0")


@pytest.mark.parametrize("fps, stride", [(1e-300, 1e300), (10**400, 1)])
def test_times_that_cannot_be_computed_with(localizer, fps, stride):
    message = refusal(localizer.localize, make_features(3), fps, stride)
    assert_parts(message, "frames_per_snippet", f"{stride} … {fps}", "seconds")


@pytest.mark.parametrize("window", [0, -1, 2.5, True, "many"])
def test_bad_windows(window):
    message = refusal(lambda: make_localizer(window=window))
    assert_parts(message, "window", repr(window), "whole number of snippets")


def test_rescaled_features_tell_no_time():
    rescaled, _ = make_localizer(info=DatasetInfo(INFO.classes, rescaled=True))
    features = make_features(40)
    assert rescaled.seconds_per_snippet is None
    for given, missing in (({}, "fps"), ({"fps": 25.0}, "frames_per_snippet")):
        message = refusal(lambda given=given: rescaled.localize(features, **given))
        assert_parts(message, missing, "missing … rescaled", "fps and frames_per_snippet")
    assert_equal(rescaled.detect(features, 25.0, 16.0), make_localizer()[0].detect(features))


@pytest.mark.slow
def test_load(tmp_path):
    localizer, state = make_localizer()
    workdir = Workdir(tmp_path / "W")
    workdir.begin(RunSettings(CONFIG, INFO, WIDTHS, seed=0, eval_every=1, tiou=(0.5,)))
    with CheckpointStore(workdir.checkpoints) as store:
        for step, average in ((3, 0.5), (7, 0.2)):
            params = jax.tree.map(lambda array, step=step: array * (step / 3), state.params)
            store.save(state.replace(step=jnp.int32(step), params=params), quality=average)
    best = case_jax.Localizer.load(tmp_path / "W")
    last = case_jax.Localizer.load(str(tmp_path / "W"), "last", window=100)
    assert (best.step, best.window, last.step, last.window) == (3, 64, 7, 100)
    assert (best.classes, best.streams, best.stream_widths) == (INFO.classes, ("rgb", "flow"), WIDTHS)
    features = make_features(60)
    assert_equal(best.detect(features), localizer.detect(features))
    assert not np.array_equal(last.detect(features).score, best.detect(features).score)
    with pytest.raises(InputError, match=r"holds 1 runs .* expected one of them"):
        Localizer.load(tmp_path)


# Windows, memory and order


class Recording:
    """A large array that is not there: its values are the positions, modulo 7."""

    dtype = np.dtype(np.float32)

    def __init__(self, length, width):
        self.shape, self.read = (length, width), []

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, rows):
        self.read.append(np.arange(rows.start, rows.stop))
        return np.repeat(self.read[-1][:, None] % 7, self.shape[1], axis=1).astype(np.float32)


@pytest.mark.parametrize("length", [10_007, 64, 16, 3])
def test_features_are_read_in_blocks_of_at_most_t_snippets(localizer, length):
    arrays = {stream: Recording(length, width) for stream, width in WIDTHS.items()}
    localizer.localize(arrays)
    for array in arrays.values():
        assert max(map(len, array.read)) <= SNIPPETS
        np.testing.assert_array_equal(np.concatenate(array.read), np.arange(length))
    together = Recording(length, 10)
    localizer.localize(together)
    assert [len(rows) for rows in together.read] == [len(rows) for rows in arrays["rgb"].read]


@pytest.mark.parametrize("window", [1, 5, 15, 17])
@pytest.mark.parametrize("length", [1, 33, 50])
def test_windows_may_be_shorter_than_t(localizer_and_state, window, length):
    settings = RunSettings(CONFIG, INFO, WIDTHS, seed=0, eval_every=1, tiou=(0.5,))
    localizer = Localizer(settings, localizer_and_state[1], window=window)
    num_windows = -(-length // window)
    read = []
    for index in range(num_windows):
        distinct, samples = module.sample_window(length, index, num_windows, SNIPPETS)
        first = index * SNIPPETS
        expected = [i * length // (num_windows * SNIPPETS) for i in range(first, first + SNIPPETS)]
        assert distinct[samples].tolist() == expected
        read += [*distinct]
    arrays = {stream: Recording(length, width) for stream, width in WIDTHS.items()}
    localizer.localize(arrays)
    assert {*np.concatenate(arrays["rgb"].read)} == {*range(length)} >= {*read}


def test_positions_beyond_32_bits():
    length = 5 * 10**9
    distinct, samples = module.sample_window(length, 0, 1, 750)
    assert distinct[samples].tolist() == [i * length // 750 for i in range(750)]
    distinct, samples = module.sample_window(length, 9, 10, 750)
    assert distinct[samples][-1] == 7499 * length // 7500


@pytest.mark.slow
def test_few_programs_are_compiled():
    localizer, _ = make_localizer(CaseConfig(num_snippets=300, hidden_dim=4, num_clusters=2))
    score_window.clear_cache()
    rng = np.random.default_rng(0)
    lengths = [1, 64, 65, 128, 129, 256, 257, 300, 1200, 1201, 2500, *rng.integers(1, 1500, 10)]
    for _ in localizer.detect_each(make_features(length) for length in lengths):
        pass
    assert score_window._cache_size() == 4  # 64, 128, 256 and 300


def test_what_windows_are_filled_up_with_does_not_matter(localizer, monkeypatch):
    config = CaseConfig(**{**vars(CONFIG), "num_snippets": 100})
    localizer, _ = make_localizer(config)
    lengths = (1, 63, 64, 65, 90, 100, 401)
    expected = [localizer.detect(make_features(length)) for length in lengths]
    filled = []

    def fill_up(rows, size, dtype):
        filled.append(size - len(rows["rgb"]))
        return {
            s: np.concatenate([a, np.full((size - len(a), a.shape[1]), np.nan, dtype)])
            for s, a in rows.items()
        }

    monkeypatch.setattr(module, "fill_up", fill_up)
    for length, theirs in zip(lengths, expected, strict=True):
        assert_equal(localizer.detect(make_features(length)), theirs)
    assert filled == [63, 1, 0, 35, 10, 0, 0, 0]


def test_a_few_videos_are_taken_ahead(localizer):
    taken = []

    def videos():
        for i in range(10):
            taken.append(i)
            yield make_features(20, i)

    counts = [len(taken) for _ in localizer.detect_each(videos())]
    assert counts == [3, 4, 5, 6, 7, 8, 9, 10, 10, 10]


@pytest.mark.parametrize("bad_length", [20, 5000])
def test_videos_before_a_bad_one_are_finished(localizer, bad_length):
    def videos():
        for i in range(4):
            features = make_features(bad_length if i == 3 else 100, i)
            if i == 3:
                features["rgb"][-1] = np.nan
                features["rgb"][bad_length // 2 :] = np.nan
            yield features
        raise AssertionError("read on after a bad video")

    found = localizer.detect_each(videos())
    for i in range(3):
        assert_equal(next(found), localizer.detect(make_features(100, i)))
    with pytest.raises(InputError, match=r"^features\[3\]\['rgb'\]: snippet \d+, channel 0 is nan"):
        next(found)


@pytest.mark.parametrize("bad_length", [20, 5000])
def test_videos_behind_a_bad_one_can_be_localised_too(localizer, bad_length):
    spoilt = make_features(bad_length)
    spoilt["rgb"][bad_length // 2 :] = np.nan  # after some of its windows
    first, error, no_streams, last = localizer.try_each(
        [make_features(100, 1), spoilt, {}, make_features(100, 2)]
    )
    assert_equal(first, localizer.detect(make_features(100, 1)))
    assert str(error).startswith("features[1]['rgb']: snippet ")
    assert str(no_streams).startswith("features[2]: has no stream 'rgb'")
    assert_equal(last, localizer.detect(make_features(100, 2)))


def test_an_error_of_the_iterable_comes_after_the_videos_before(localizer):
    def videos():
        yield make_features(5)
        raise InputError("v.npy: is bad; expected good")

    found = localizer.detect_each(videos())
    assert_equal(next(found), localizer.detect(make_features(5)))
    with pytest.raises(InputError, match=r"^v\.npy: is bad"):
        next(found)
