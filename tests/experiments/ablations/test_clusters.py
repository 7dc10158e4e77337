import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from case_jax.data.dataset import Annotation, Dataset, Split, Video, in_action
from case_jax.data.info import DatasetInfo
from case_jax.errors import InputError
from case_jax.method.scores import VideoScores
from experiments.ablations import clusters

INFO = DatasetInfo(classes=("Jump",), streams=("acc",), frames_per_second=10.0, frames_per_snippet=5.0)


def video(name, length, *segments):
    annotations = tuple(Annotation("Jump", start, end) for start, end in segments)
    return Video(name, {"acc": np.zeros((length, 2), np.float32)}, annotations)


def test_gallery_by_hand():
    # Snippets of 0.5 s; "long" has 6 for 3 samples (snippets 0, 2, 4), "short" 2 (snippets 0, 0, 1).
    videos = (video("long", 6, (1.0, 1.5)), video("short", 2, (0.5, 1.0)))
    dataset = Dataset(INFO, Split("train", ()), Split("test", videos))
    assignments = np.array([[[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], [[0.7, 0.3], [0.7, 0.3], [0.05, 0.95]]])
    scores = VideoScores(*(None,) * 5, clusters=jnp.asarray(assignments, jnp.float32))
    first, second = clusters.gallery(scores, np.array([[0.25, 0.75], [0.75, 0.25]]), dataset)

    def facts(row):
        return [(m.video, m.second, round(m.probability, 3), m.foreground) for m in row.members]

    assert facts(first) == [("long", 0.0, 0.9, False), ("short", 0.0, 0.7, False)]
    assert facts(second) == [("short", 0.5, 0.95, True), ("long", 1.0, 0.8, True)]
    # Five distinct snippets: the repeated one counts once.
    assert (first.cluster, first.foreground, first.share, first.purity) == (0, 0.25, 0.6, 0.0)
    assert (second.cluster, second.foreground, second.share, second.purity) == (1, 0.75, 0.4, 1.0)


def test_an_empty_cluster_has_no_purity():
    dataset = Dataset(INFO, Split("train", ()), Split("test", (video("v", 2),)))
    scores = VideoScores(*(None,) * 5, clusters=jnp.array([[[0.9, 0.1], [0.8, 0.2]]]))
    _, empty = clusters.gallery(scores, np.full((2, 2), 0.5), dataset)
    assert empty.share == 0
    assert np.isnan(empty.purity)
    assert empty.members[0].second == 0.5


def pictures(folder, names):
    folder.mkdir(parents=True)
    for i, name in enumerate(names):
        Image.new("RGB", (400, 200), (10 * i, 0, 0)).save(folder / name)


def test_frames_are_found_by_number_and_time(tmp_path):
    pictures(tmp_path / "v[1]", ["img_2.png", "img_10.png", "img_1.png", "cover.png"])
    (tmp_path / "v[1]" / "notes_3.txt").write_text("")
    frames = clusters.Frames(tmp_path, ["v[1]"], frames_per_second=2.0)
    shades = [frames.at("v[1]", second)[0, 0, 0] for second in (0.0, 0.49, 0.5, 1.0, 9.0)]
    assert shades == [20, 20, 0, 10, 10]
    assert frames.at("v[1]", 0.0).shape == (80, 160, 3)


def test_frames_that_are_missing(tmp_path):
    with pytest.raises(InputError) as raised:
        clusters.Frames(tmp_path / "none", ["v"], frames_per_second=25)
    assert str(raised.value) == (
        f"--frames_dir: {tmp_path / 'none'}: no such folder; expected one folder of frames per test video"
    )
    pictures(tmp_path / "v", ["cover.png"])
    with pytest.raises(InputError) as raised:
        clusters.Frames(tmp_path, ["v"], frames_per_second=25)
    assert str(raised.value) == (
        f"--frames_dir: {tmp_path / 'v'}: holds no frames; expected pictures with numbers in their names, as "
        "in img_00001.jpg"
    )


def test_a_frame_that_is_no_picture(tmp_path):
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "1.jpg").write_text("no picture")
    frames = clusters.Frames(tmp_path, ["v"], frames_per_second=25)
    with pytest.raises(InputError) as raised:
        frames.at("v", 0.0)
    assert str(raised.value).startswith(f"{tmp_path / 'v' / '1.jpg'}: cannot be read (")
    assert str(raised.value).endswith("); expected a picture")


def test_in_action_excludes_the_end():
    annotations = (Annotation("Jump", 1.0, 2.0), Annotation("Jump", 1.5, 3.0))
    got = in_action(annotations, np.array([0.9, 1.0, 2.9, 3.0]))
    assert got.tolist() == [False, True, True, False]
