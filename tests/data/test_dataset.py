import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from case_jax.data.dataset import Dataset, Split, Video, hold_out
from case_jax.data.info import DatasetInfo


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
