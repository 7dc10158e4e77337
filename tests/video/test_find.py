"""Finding videos and numbered images in folders."""

import os
import random

import pytest

from case_jax.video.find import find_videos, numbered_images
from tests.helpers.refusals import assert_refused, bad

VIDEO = "a video, or a folder of videos or of numbered images"


def place(root, *names):
    """Empty files; their content is not looked at."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def found(root):
    return {name: str(path.relative_to(root)) for name, path in find_videos(root).items()}


def test_videos_at_any_depth_in_the_order_of_their_names(tmp_path):
    place(tmp_path, "b.mp4", "deep/er/a.MKV", "deep/c.webm", "d.e.avi", "clip.gif", "notes.txt", "f.mp4.part")
    assert list(found(tmp_path).items()) == [
        ("a", "deep/er/a.MKV"),
        ("b", "b.mp4"),
        ("c", "deep/c.webm"),
        ("clip", "clip.gif"),
        ("d.e", "d.e.avi"),
    ]


def test_hidden_files_and_folders_are_left_out(tmp_path):
    place(tmp_path, "a.mp4", "._a.mp4", "._1.jpg", ".cache/b.mp4", ".trash/1.jpg", "deep/.c.mp4")
    assert found(tmp_path) == {"a": "a.mp4"}


def test_a_folder_of_numbered_images_is_a_video(tmp_path):
    place(
        tmp_path, "a.mp4", "walk/img_1.jpg", "walk/img_2.JPG", "run/0.png", "run/notes.txt", "art/cover.png"
    )
    assert found(tmp_path) == {"a": "a.mp4", "run": "run", "walk": "walk"}


def test_images_beside_videos_are_no_video(tmp_path):
    place(tmp_path, "a.mp4", "a_1.jpg", "a_2.jpg")
    assert found(tmp_path) == {"a": "a.mp4"}


def test_the_folder_itself_may_be_the_images(tmp_path, monkeypatch):
    place(tmp_path, "walk/1.png")
    assert find_videos(tmp_path / "walk") == {"walk": tmp_path / "walk"}
    monkeypatch.chdir(tmp_path / "walk")
    assert list(find_videos(".")) == ["walk"]


def test_one_file_whatever_its_ending(tmp_path):
    place(tmp_path, "a.mp4", "b")
    assert find_videos(tmp_path / "a.mp4") == {"a": tmp_path / "a.mp4"}
    assert find_videos(str(tmp_path / "b")) == {"b": tmp_path / "b"}


def test_links_are_followed_and_circles_end(tmp_path):
    place(tmp_path, "videos/a.mp4", "elsewhere/b.mp4")
    (tmp_path / "videos/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "videos")
    (tmp_path / "videos/c.mp4").symlink_to(tmp_path / "elsewhere/b.mp4")
    assert list(find_videos(tmp_path / "videos")) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "names, wrong",
    [
        bad("nothing", [], "holds no video"),
        bad("nothing of use", ["a.txt", "cover.jpg", ".a.mp4"], "holds no video"),
    ],
)
def test_folders_without_videos(tmp_path, names, wrong):
    assert_refused(find_videos, place(tmp_path, *names), wrong, VIDEO)


@pytest.mark.parametrize(
    "names, wrong",
    [
        bad("two folders", ["x/a.mp4", "y/a.mp4"], "x/a.mp4 … y/a.mp4 … 'a'"),
        bad("two endings", ["a.mkv", "a.mp4"], "a.mkv … a.mp4 … 'a'"),
        bad("a file and images", ["x/a.mp4", "y/a/1.png"], "x/a.mp4 … y/a … 'a'"),
    ],
)
def test_two_videos_of_one_name(tmp_path, names, wrong):
    assert_refused(find_videos, place(tmp_path, *names), wrong, "each name once")


def test_nothing_at_the_path(tmp_path):
    assert_refused(find_videos, tmp_path / "gone", "no such file or folder", VIDEO)


def test_pipes_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.mp4")
    assert_refused(find_videos, tmp_path / "a.mp4", "pipe", VIDEO)


# Numbered images


@pytest.mark.parametrize("pattern", ["{}.jpg", "img_{}.png", "{:06d}.jpeg", "take 2 - {}.PNG", "x.png{}.jpg"])
def test_images_in_the_order_of_their_numbers(tmp_path, pattern):
    numbers = [0, 1, 2, 9, 10, 11, 100, 1000]
    names = [pattern.format(number) for number in numbers]
    place(tmp_path, *random.Random(0).sample(names, len(names)), "cover.jpg", ".1.jpg", "1.txt")
    assert [path.name for path in numbered_images(tmp_path)] == names


@pytest.mark.parametrize(
    "names, wrong, expected",
    [
        bad("none", ["cover.jpg"], "without videos or numbered images", VIDEO),
        bad("one number twice", ["img_1.jpg", "img_01.jpg"], "img_01.jpg and img_1.jpg", "each number once"),
        bad("two formats", ["img_1.jpg", "img_1.png"], "img_1.jpg and img_1.png", "each number once"),
        bad("two series", ["flow_x_1.jpg", "img_1.jpg"], "flow_x_1.jpg and img_1.jpg", "one"),
    ],
)
def test_folders_that_are_no_series(tmp_path, names, wrong, expected):
    assert_refused(numbered_images, place(tmp_path, *names), wrong, expected)


def test_a_folder_that_is_gone(tmp_path):
    assert_refused(numbered_images, tmp_path / "gone", "No such file", VIDEO)
