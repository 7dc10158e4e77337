import dataclasses

import numpy as np
import pytest

from case_jax.data.synthetic import SyntheticSpec, make_synthetic_dataset

SPEC = SyntheticSpec(num_train=18, num_test=12)
CLEAN = dataclasses.replace(SPEC, noise=0.0, style=0.0)


@pytest.fixture(scope="module")
def data():
    return make_synthetic_dataset(0, SPEC)


def videos_of(data):
    return [*data.train.videos, *data.test.videos]


def acting(video, seconds):
    """(T_v,) class name of each snippet's action, "" for background."""
    names = np.full(video.num_snippets, "", dtype=object)
    for annotation in video.annotations:
        begin, end = round(annotation.start / seconds), round(annotation.end / seconds)
        names[begin:end] = annotation.label
    return names


def gather(videos, seconds, stream):
    """All snippets' features and action names."""
    return (
        np.concatenate([video.features[stream] for video in videos]),
        np.concatenate([acting(video, seconds) for video in videos]),
    )


def test_everything_follows_from_the_seed(data):
    again, other = make_synthetic_dataset(0, SPEC), make_synthetic_dataset(1, SPEC)
    assert again.info == data.info
    for video, same, different in zip(*map(videos_of, (data, again, other)), strict=True):
        assert video.name == same.name
        assert video.annotations == same.annotations != different.annotations
        for stream, features in video.features.items():
            np.testing.assert_array_equal(features, same.features[stream])
            assert not np.array_equal(features[:60], different.features[stream][:60])


def test_shapes_names_and_lengths(data):
    assert (len(data.train.videos), len(data.test.videos)) == (18, 12)
    assert data.info.classes == tuple(f"Action0{i}" for i in range(1, 7))
    assert (data.info.streams, data.info.seconds_per_snippet) == (("rgb", "flow"), 0.64)
    assert len({video.name for video in videos_of(data)}) == 30
    lengths = [video.num_snippets for video in videos_of(data)]
    assert SPEC.min_snippets <= min(lengths) < max(lengths) <= SPEC.max_snippets
    for video in videos_of(data):
        for features in video.features.values():
            assert features.shape == (video.num_snippets, SPEC.width)
            assert features.dtype == np.float32
            assert np.isfinite(features).all()
        assert not np.array_equal(video.features["rgb"], video.features["flow"])


@pytest.mark.parametrize("spec", [SPEC, dataclasses.replace(SPEC, num_classes=3, min_snippets=20)])
def test_every_video_is_annotated_inside_itself(spec):
    data = make_synthetic_dataset(2, spec)
    for split in (data.train, data.test):
        for i, video in enumerate(split.videos):
            seconds = data.info.seconds_per_snippet
            # The main class goes round, so that every class has videos.
            assert data.info.classes[i % spec.num_classes] in {a.label for a in video.annotations}
            end_before = 0.0
            for annotation in video.annotations:
                assert annotation.label in data.info.classes
                assert end_before <= annotation.start < annotation.end
                assert annotation.end <= video.num_snippets * seconds
                end_before = annotation.end
                snippets = (annotation.end - annotation.start) / seconds
                assert spec.action[0] - 0.1 < snippets < spec.action[1] + 0.1
        assert split.video_labels(data.info.classes).any(axis=0).all()


def test_one_sub_action_of_every_action_is_salient():
    data = make_synthetic_dataset(0, CLEAN)
    seconds = data.info.seconds_per_snippet
    salient = 0.75 * CLEAN.salient
    for stream in data.info.streams:
        features, names = gather(videos_of(data), seconds, stream)
        strength = np.linalg.norm(features, axis=1)
        assert np.all(strength[names == ""] < salient)
        share = np.mean(strength[names != ""] > salient)
        assert share == pytest.approx(1 / CLEAN.sub_actions, abs=0.05)
        for video in videos_of(data):
            strength = np.linalg.norm(video.features[stream], axis=1)
            for annotation in video.annotations:
                begin = round(annotation.start / seconds)
                end = round(annotation.end / seconds)
                assert strength[begin:end].max() > salient


@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_salient_sub_actions_tell_the_class_and_the_others_hardly(data, stream):
    """A nearest-mean probe learns each class from training snippets and names the test ones."""
    # Strengths change no draw, so that the clean twin has the same script and shows what is salient.
    clean = make_synthetic_dataset(0, CLEAN)
    for twin, video in zip(videos_of(clean), videos_of(data), strict=True):
        assert twin.annotations == video.annotations

    classes = np.array(data.info.classes, dtype=object)
    accuracy = {}
    for salient in (True, False):
        snippets = []
        for part in ("train", "test"):
            seconds = data.info.seconds_per_snippet
            features, names = gather(getattr(data, part).videos, seconds, stream)
            strength, _ = gather(getattr(clean, part).videos, seconds, stream)
            stands_out = np.linalg.norm(strength, axis=1) > 0.75 * CLEAN.salient
            chosen = (names != "") & (stands_out == salient)
            snippets.append((features[chosen], names[chosen]))
        (train, train_names), (test, test_names) = snippets
        means = np.stack([train[train_names == name].mean(axis=0) for name in classes])
        nearest = np.linalg.norm(test[:, None] - means, axis=-1).argmin(axis=1)
        accuracy[salient] = np.mean(classes[nearest] == test_names)
    assert accuracy[True] > 0.95
    assert 1 / 6 < accuracy[False] < 0.75


@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_all_sub_actions_share_one_direction_that_background_lacks(data, stream):
    still = make_synthetic_dataset(0, dataclasses.replace(SPEC, motion=0.0))
    seconds = data.info.seconds_per_snippet
    moving, names = gather(videos_of(data), seconds, stream)
    shared = moving - gather(videos_of(still), seconds, stream)[0]
    direction = shared[names != ""].mean(axis=0)
    assert np.linalg.norm(direction) == pytest.approx(SPEC.motion, rel=1e-5)
    expected = np.where((names != "")[:, None], direction, 0)
    np.testing.assert_allclose(shared, expected, rtol=0, atol=1e-5)
