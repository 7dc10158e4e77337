import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from case_jax.data.dataset import Annotation, Dataset, Split, Video, as_entries, hold_out, in_action
from case_jax.data.feature_files import FeatureFiles
from case_jax.data.info import DatasetInfo
from case_jax.data.packed import DTYPES, PackedFeatures, pack

INFO = DatasetInfo(classes=("Jump", "Run", "Swim"))
RUN, JUMP = Annotation("Run", 0.5, 2.0), Annotation("Jump", 1.0, 1.0)


def videos(lengths=(4, 1, 7)):
    rng = np.random.default_rng(0)
    widths = {"rgb": 5, "flow": 3}
    return [
        {stream: rng.standard_normal((length, width), np.float32) for stream, width in widths.items()}
        for length in lengths
    ]


def split_of(features, packed=None):
    named = (Video(f"v{i}", video, (RUN, JUMP)[:i]) for i, video in enumerate(features))
    return Split("train", tuple(named), packed)


# Videos and splits


def test_annotations_as_entries():
    assert as_entries([RUN]) == [{"label": "Run", "segment": (0.5, 2.0)}]
    assert as_entries([]) == []


def test_an_action_is_under_way_from_its_start_to_before_its_end():
    seconds = np.array([0.4, 0.5, 1.0, 1.99, 2.0, 3.5])
    assert in_action([RUN, Annotation("Jump", 3, 4)], seconds).tolist() == [
        False,
        True,
        True,
        True,
        False,
        True,
    ]
    assert not in_action([], seconds).any()
    assert not in_action([JUMP], seconds).any()  # it has no length


def test_how_long_features_last():
    (features,) = videos((10,))
    assert Video("v", features, ()).num_snippets == 10
    assert Video("v", features, ()).seconds(INFO) == pytest.approx(6.4)
    rescaled = DatasetInfo(INFO.classes, rescaled=True)
    assert Video("v", features, (), duration=33.0).seconds(rescaled) == 33.0
    with pytest.raises(ValueError, match=r"'v'.*duration"):
        Video("v", features, ()).seconds(rescaled)


def test_the_length_of_a_video_on_disk_needs_no_file():
    assert Video("v", FeatureFiles({}, num_snippets=12), ()).num_snippets == 12


def test_labels_instances_and_ground_truth_of_a_split():
    split = split_of(videos())
    assert split.num_instances == 3
    labels = split.video_labels(INFO.classes)
    assert labels.dtype == np.float32
    assert labels.tolist() == [[0, 0, 0], [0, 1, 0], [1, 1, 0]]
    assert split.ground_truth() == {"v0": [], "v1": as_entries([RUN]), "v2": as_entries([RUN, JUMP])}
    entry = split.database("training", INFO)["v1"]
    assert entry == {"subset": "training", "duration": 0.64, "annotations": as_entries([RUN])}


def test_the_population_says_what_is_left_out():
    split = split_of(videos())
    assert split.population == "3 videos with 3 instances, 1 of them without any action"
    split = Split("train", split.videos[1:])
    assert split.population == "2 videos with 3 instances"
    left_out = {"without features": 1234, "without annotations": 0}
    told = Split("train", split.videos, None, left_out).population
    assert told == "2 videos with 3 instances (left out: 1,234 without features)"


@pytest.mark.parametrize(
    "labels, told",
    [
        ([["run"], ["run", "run"]], "labelled run"),
        ([["run", "jump"], ["jump", "run"]], "labelled jump and run"),
        ([["run"], ["jump"]], None),
        ([["run"], []], None),
    ],
)
def test_labels_that_teach_nothing_are_told(labels, told):
    marked = [tuple(Annotation(label, 0.0, 1.0) for label in of_video) for of_video in labels]
    said = Split("train", tuple(Video("v", {}, annotations) for annotations in marked)).missing_contrast
    assert said is None if told is None else told in said and "expected videos without any action" in said


def test_widths_of_streams():
    split, none = split_of(videos()), Split("test", ())
    assert Dataset(INFO, split, none).stream_widths == {"rgb": 5, "flow": 3}
    assert Dataset(INFO, none, split).stream_widths == {"rgb": 5, "flow": 3}


# Packing a split


def test_a_split_that_lies_packed_is_not_copied():
    packed = pack(videos(), ("rgb", "flow"))
    split = split_of(videos(), packed)
    assert split.pack(("rgb", "flow")) is packed
    assert split.pack(("flow",)) is packed
    assert split.pack(("rgb", "flow"), "float32") is packed


def test_a_split_is_copied_where_the_dtype_differs():
    packed = pack(videos(), ("rgb", "flow"))
    copied = split_of(videos(), packed).pack(("rgb", "flow"), "bfloat16")
    assert isinstance(copied, PackedFeatures)
    for stream, rows in copied.rows.items():
        assert rows.dtype == DTYPES["bfloat16"]
        assert not np.shares_memory(rows, packed.rows[stream])
        np.testing.assert_array_equal(rows, packed.rows[stream].astype(ml_dtypes.bfloat16))


def test_a_split_whose_videos_lie_apart_is_packed():
    features = videos()
    packed = split_of(features).pack(("rgb",))
    np.testing.assert_array_equal(packed.rows["rgb"], np.concatenate([video["rgb"] for video in features]))
    assert packed.rows["rgb"].shape == (12, 5)


# Holding out


@given(st.lists(st.sampled_from("abcdefg"), min_size=3, max_size=30), st.integers(2, 7))
@settings(deadline=None)
def test_parts_are_disjoint_and_whole_and_divide_no_group(groups, num_parts):
    if len(set(groups)) < num_parts:
        return
    videos = tuple(Video(f"{group}{i}", {}, ()) for i, group in enumerate(groups))
    dataset = Dataset(DatasetInfo(("Jump",)), Split("train", videos), Split("test", (Video("z", {}, ()),)))
    held: list[str] = []
    for part in range(num_parts):
        divided = hold_out(dataset, groups, part, num_parts)
        train, test = ([video.name for video in s.videos] for s in (divided.train, divided.test))
        assert train
        assert test
        assert sorted(train + test) == sorted(video.name for video in videos)
        assert not {name[0] for name in train} & {name[0] for name in test}
        assert (divided.train.subset, divided.test.subset) == ("train", "test")
        held += test
    assert sorted(held) == sorted(video.name for video in videos)


@pytest.mark.parametrize("part", [0, 1])
def test_parts_follow_from_the_groups_alone(part):
    def held(order):
        videos = tuple(Video(f"{group}_1", {}, ()) for group in order)
        dataset = Dataset(DatasetInfo(("Jump",)), Split("train", videos), Split("test", ()))
        return {video.name for video in hold_out(dataset, list(order), part, 2).test.videos}

    assert held("abcd") == held("dcba")
