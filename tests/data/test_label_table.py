import csv
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from case_jax.data.dataset import Annotation
from case_jax.data.label_table import check_splits, read_labels, split_videos
from tests.helpers.refusals import assert_parts, bad, refusal


def table(tmp_path, text):
    path = tmp_path / "labels.csv"
    path.write_text(text)
    return path


def test_rows_and_cells_of_several_labels(tmp_path):
    path = table(tmp_path, "video,label,note\na,jump,x\na,run; jump\n\nb.mp4, walk ;\n")
    found = read_labels(path)
    assert {name: video.labels for name, video in found.items()} == {"a": ("jump", "run"), "b.mp4": ("walk",)}
    assert all(video.annotations == () and video.subset is None for video in found.values())


def test_times_and_subsets(tmp_path):
    path = table(
        tmp_path, "Label\tvideo\tstart\tend\tSubset\njump;run\ta\t1.5\t2\ttest\njump\tb\t\t\tTRAIN\n"
    )
    found = read_labels(path)
    assert found["a"].annotations == (Annotation("jump", 1.5, 2.0), Annotation("run", 1.5, 2.0))
    assert (found["a"].subset, found["b"].subset) == ("test", "train")


def test_ambiguous_is_no_class(tmp_path):
    of_a, of_b = ["a,jump;Ambiguous,1,2", "a,ambiguous,4,5"], ["b,run,,", "b,Ambiguous,3,4", "b,Ambiguous,,"]
    rows = [*of_a, *of_b, "c,Ambiguous,,"]
    found = read_labels(table(tmp_path, "\n".join(["video,label,start,end", *rows])))
    assert {name: video.labels for name, video in found.items()} == {"a": ("jump",), "b": ("run",), "c": ()}
    assert found["a"].annotations == (Annotation("jump", 1.0, 2.0),)
    unclear = {name: [a[1:] for a in video.ambiguous] for name, video in found.items()}
    assert unclear == {"a": [(1.0, 2.0), (4.0, 5.0)], "b": [(3.0, 4.0)], "c": [(0.0, math.inf)]}
    assert not any(video.action_free for video in found.values())


# Neither line ends, which cells may hold but labels do not, nor halves of surrogate pairs.
_TEXT = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"], exclude_characters=";"), min_size=1
)


@given(st.lists(_TEXT.map(str.strip).filter(bool), max_size=4))
def test_any_label_comes_back(tmp_path_factory, labels):
    path = tmp_path_factory.mktemp("table") / "labels.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["video", "label"], ["v", "x"], *(["v", label] for label in labels)])
    assert read_labels(path)["v"].labels == tuple(dict.fromkeys(["x", *labels]))


@pytest.mark.parametrize(
    "text, wrong",
    [
        bad("nothing", "", "no column 'video'"),
        bad("no header", "a,jump\n", "no column 'video'"),
        bad("no label column", "video,class\na,b\n", "no column 'label'"),
        bad("a column twice", "video,label,label\na,b,c\n", "'label' twice"),
        bad("no rows", "video,label\n\n", "no rows"),
        bad("a row with and one without label", "video,label\na,\na,b\n", "'a' has a row without a label"),
        bad("times without label", "video,label,start,end\na,,1,2\n", "'a' has start and end but no label"),
        bad("no video", "video,label\na,b\n,b\n", "line 3 names no video"),
        bad("too many cells", "video,label\na,b,c\n", "line 2 has 3 cells"),
        bad("an open quote", 'video,label\n"a,b\n', "not a table"),
        bad("a subset", "video,label,subset\na,b,val\n", "line 2 … 'val'"),
        bad("two subsets", "video,label,subset\na,b,test\na,c,train\n", "'a' is of several subsets"),
        bad("half a time", "video,label,start,end\na,b,1,\n", "line 2 … '1' … ''"),
        bad("the end first", "video,label,start,end\na,b,2,1\n", "line 2 … '2' … '1'"),
        bad("no number", "video,label,start,end\na,b,0:01,0:02\n", "line 2 … '0:01'"),
        bad("before the start", "video,label,start,end\na,b,-1,2\n", "line 2 … '-1'"),
        bad(
            "some times",
            "video,label,start,end\na,b,1,2\na,b,,\n",
            "'a' has rows with times and rows without",
        ),
    ],
)
def test_tables_of_another_form_are_refused(tmp_path, text, wrong):
    path = table(tmp_path, text)
    message = refusal(read_labels, path)
    assert message.startswith(f"{path}: ")
    position = 0
    for part in wrong.split(" … "):
        position = message.index(part, position)


def splits_of(tmp_path, text):
    path = table(tmp_path, text)
    return split_videos(path, read_labels(path))


def test_videos_with_times_test_the_others_train(tmp_path):
    splits = splits_of(tmp_path, "video,label,start,end\nb,x,,\na,x,1,2\nc,x,,\n")
    assert (list(splits.train), list(splits.test), splits.timed) == (["b", "c"], ["a"], True)


def test_without_times_every_fifth_video_tests(tmp_path):
    rows = "".join(f"v{i:02},x\n" for i in range(12))
    splits = splits_of(tmp_path, f"video,label\n{rows}")
    assert (list(splits.test), splits.timed) == (["v04", "v09"], False)
    assert len(splits.train) == 10


def test_a_row_without_a_label_is_a_video_without_any_action(tmp_path):
    free = "".join(f"free{i},,,\n" for i in range(6))
    splits = splits_of(tmp_path, f"video,label,start,end\nb,x,,\na,x,1,2\n{free}")
    assert (list(splits.test), splits.timed) == (["a", "free4"], True)
    assert [name for name, video in splits.train.items() if video.action_free] == [
        "free0",
        "free1",
        "free2",
        "free3",
        "free5",
    ]
    assert not splits.train["b"].action_free


def test_labelled_videos_and_videos_without_any_action_are_dealt_apart(tmp_path):
    rows = "".join(f"{name},x\n" for name in "bcdef") + "".join(f"{name},\n" for name in "aghij")
    splits = splits_of(tmp_path, f"video,label\n{rows}")
    assert list(splits.test) == ["f", "j"]


def test_the_column_subset_decides(tmp_path):
    splits = splits_of(tmp_path, "video,label,start,end,subset\na,x,1,2,train\nb,x,1,2,test\n")
    assert (list(splits.train), list(splits.test), splits.timed) == (["a"], ["b"], True)


@pytest.mark.parametrize(
    "text, wrong, expected",
    [
        bad("all have times", "video,label,start,end\na,x,1,2\n", "no video is left to train", "subset"),
        bad("too few", "video,label\na,x\nb,x\n", "no video tests", "subset"),
        bad("a new label", "video,label,start,end\na,x,,\nb,y,1,2\n", "'b' tests 'y'", "training video"),
        bad("some subsets", "video,label,subset\na,x,test\nb,x,\n", "'b' has no subset", "train or test"),
        bad(
            "some test times",
            "video,label,start,end,subset\na,x,,,train\nb,x,1,2,test\nc,x,,,test\n",
            "'c' has no times",
            "start and end",
        ),
    ],
)
def test_splits_that_no_model_can_use_are_refused(tmp_path, text, wrong, expected):
    message = refusal(splits_of, tmp_path, text)
    assert_parts(message, tmp_path / "labels.csv", wrong, expected)


def test_splits_are_checked_again_when_videos_are_gone(tmp_path):
    splits = splits_of(tmp_path, "video,label,start,end\na,x,,\nb,y,,\nc,y,1,2\n")
    assert check_splits("t.csv", splits) is splits
    del splits.train["b"]
    assert_parts(refusal(check_splits, "t.csv", splits), "t.csv", "'c' tests 'y'")
