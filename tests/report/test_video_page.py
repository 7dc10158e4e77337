"""What is written into the page that plays videos; tests/report/test_video_browser.py looks at it."""

import base64
import html.parser
import importlib.util
import json
import re
import urllib.parse
from pathlib import Path

import cv2
import numpy as np
import pytest

from case_jax.errors import InputError
from case_jax.localization.curves import Curves
from case_jax.report.video_page import MAX_CLASSES, MAX_PICTURES, MAX_POINTS, write_video_page
from tests.helpers.page_videos import CLASSES, detection, made_up_curves, paged_video
from tests.helpers.videos import number_in, numbered, write_images, write_video


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    """Two seconds at 25 frames per second."""
    return write_video(tmp_path_factory.mktemp("film") / "film.mp4", 50, rate=25)


def write(output: Path, *videos, classes=CLASSES, min_score=0.1, **options) -> dict:
    """Writes a page; returns what its script reads."""
    write_video_page(output, videos, classes=classes, title="A & <b>B</b>", min_score=min_score, **options)
    return json.loads(scripts(output.read_text())[0])


def scripts(text: str) -> list[str]:
    """The contents of the page's <script> elements, as a browser would end them."""

    found: list[str] = []

    class Parser(html.parser.HTMLParser):
        def handle_starttag(self, tag, attributes):
            if tag == "script":
                found.append("")

        def handle_data(self, data):
            if self.cdata_elem == "script":
                found[-1] += data

    parser = Parser()
    parser.feed(text)
    parser.close()
    return found


def rows(video: dict) -> np.ndarray:
    """A video's curves, (rows, points)."""
    values = np.frombuffer(base64.b64decode(video["tracks"]), np.uint8).reshape(-1, len(video["starts"]))
    return values / 255


def test_it_needs_no_network_and_escapes_its_title(tmp_path, film):
    write(tmp_path / "page.html", paged_video(film, [], duration=2.0))
    text = (tmp_path / "page.html").read_text()
    assert "<h1>A &amp; &lt;b&gt;B&lt;/b&gt;</h1>" in text
    assert set(re.findall(r"https?://[^\s\"']+", text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"@import|url\((?!#)|fetch\(|XMLHttpRequest|import\(", text)
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_detections_and_curves_are_those_given(tmp_path, film):
    found = [
        detection("Swim", 0.5, 1.23456, 0.9),
        detection("Jump", 0.0, 1.0, 0.30004),
        detection("Swim", 1.0, 2.0, -0.2),
    ]
    video = paged_video(film, found, duration=2.0)
    data = write(tmp_path / "page.html", video, min_score=0.25)
    assert (data["lowest"], data["highest"], data["score"]) == (-0.2, 0.9, 0.25)
    assert data["classes"] == list(CLASSES)
    (one,) = data["videos"]
    assert one["found"] == [[2, 0.5, 1.2346, 0.9], [0, 0.0, 1.0, 0.3], [2, 1.0, 2.0, -0.2]]
    assert one["classes"] == [2, 0, 1]
    assert (one["name"], one["seconds"], one["step"]) == ("film", 2.0, 0.4)
    assert one["starts"] == pytest.approx([0, 0.4, 0.8, 1.2, 1.6])
    curves = video.curves
    expected = [curves.attention, curves.transformed, curves.mixed, *curves.classes.T[[2, 0, 1]]]
    np.testing.assert_allclose(rows(one), expected, atol=0.002)


def test_without_clusters_there_is_one_foreground(tmp_path, film):
    video = paged_video(film, [], duration=2.0, clusters=False)
    (one,) = write(tmp_path / "page.html", video)["videos"]
    assert not one["clusters"]
    np.testing.assert_allclose(rows(one)[0], video.curves.attention, atol=0.002)
    assert len(rows(one)) == 1 + len(CLASSES)


@pytest.mark.parametrize(("min_score", "stands"), [(0.0, 0.2), (5.0, 0.8)])
def test_the_slider_stands_within_the_scores(tmp_path, film, min_score, stands):
    found = [detection("Jump", 0, 1, 0.8), detection("Jump", 0, 1, 0.2)]
    data = write(tmp_path / "page.html", paged_video(film, found, duration=2.0), min_score=min_score)
    assert data["score"] == stands


def test_curves_of_long_videos_keep_their_peaks(tmp_path, film):
    video = paged_video(film, [], duration=7200.0)  # 18,000 snippets
    video.curves.attention[:] = 0
    video.curves.attention[[7, 12_345]] = 1
    (one,) = write(tmp_path / "page.html", video)["videos"]
    assert len(one["starts"]) == MAX_POINTS
    assert np.flatnonzero(rows(one)[0]).tolist() == [0, 12_345 // 9]
    assert one["starts"][1:3] == pytest.approx([3.6, 7.2])
    assert one["step"] == 0.4
    assert f"at most {MAX_POINTS:,} points" in (tmp_path / "page.html").read_text()


def test_snippets_that_repeat_are_drawn_once(tmp_path, film):
    curves = made_up_curves(2.0)
    twice = Curves(*(None if c is None else np.repeat(c, 2, axis=0) for c in curves))
    video = paged_video(film, [], duration=2.0)
    (once,) = write(tmp_path / "once.html", video)["videos"]
    (repeated,) = write(tmp_path / "twice.html", video._replace(curves=twice))["videos"]
    assert repeated == once
    alone = Curves(*(None if c is None else c[:1] for c in curves))
    (short,) = write(tmp_path / "short.html", video._replace(curves=alone))["videos"]
    assert (short["starts"], short["step"]) == ([0.0], 2.0)


def test_many_classes_are_thinned_to_the_detected_and_highest(tmp_path, film):
    names = [f"class {i}" for i in range(50)]
    video = paged_video(film, [detection("class 49", 0, 1, 0.5)], duration=2.0, num_classes=50)
    video.curves.classes[:, 49] = 0
    (one,) = write(tmp_path / "page.html", video, classes=names)["videos"]
    highest = video.curves.classes.max(axis=0)
    assert one["classes"][0] == 49
    assert set(one["classes"][1:]) == set(np.argsort(-highest)[: MAX_CLASSES - 1].tolist())


def test_pictures_show_the_middles_of_the_surest_detections(tmp_path, film):
    found = [detection("Jump", 0.04 * k, 0.04 * k + 0.44, 1 - 0.01 * k) for k in range(MAX_PICTURES - 5)]
    found += [detection("Jump", 0.0, 0.1, 0.1)] * 10
    (one,) = write(tmp_path / "page.html", paged_video(film, found, duration=2.0))["videos"]
    assert len(one["pictures"]) == MAX_PICTURES
    for k, picture in enumerate(one["pictures"][: MAX_PICTURES - 5]):
        image = cv2.imdecode(np.frombuffer(base64.b64decode(picture), np.uint8), cv2.IMREAD_COLOR)
        assert number_in(image) == int((0.04 * k + 0.22 + 1e-3) * 25)
    assert f"The {MAX_PICTURES} surest detections" in (tmp_path / "page.html").read_text()


ODD_NAMES = ("a b#c?d%20e.mp4", "\"quoted' & <b>.mp4", "<script>.mp4", "Grüße 動画.mp4", "x:y.mp4", "-.mp4")


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_file_names_are_addressed_from_the_page(tmp_path, film, name):
    (tmp_path / "videos #1").mkdir()
    path = tmp_path / "videos #1" / name
    path.write_bytes(film.read_bytes())
    page = tmp_path / "pages" / "page.html"
    (one,) = write(page, paged_video(path, [], duration=2.0, name=name))["videos"]
    address = urllib.parse.urljoin(page.as_uri(), one["address"])
    assert urllib.parse.unquote(urllib.parse.urlsplit(address).path) == str(path)
    assert one["name"] == name
    assert len(scripts(page.read_text())) == 2


def test_the_address_is_relative_to_the_page_even_if_given_relatively(tmp_path, film, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "film.mp4").write_bytes(film.read_bytes())
    monkeypatch.chdir(tmp_path / "a")
    (one,) = write(Path("page.html"), paged_video(Path("../film.mp4"), [], duration=2.0))["videos"]
    assert one["address"] == "../film.mp4"


def test_sound_that_begins_before_the_pictures_moves_them_in_the_player(tmp_path):
    path = write_video(tmp_path / "a.mp4", 25, rate=25, times=[2 + k / 25 for k in range(25)], audio=True)
    (one,) = write(tmp_path / "page.html", paged_video(path, [], duration=1.0))["videos"]
    assert one["begin"] == pytest.approx(2.0, abs=0.05)


def test_copies_are_made_only_of_what_browsers_do_not_play(tmp_path, film):
    gif = write_video(tmp_path / "b.gif", 10, rate=25, codec="gif", pix_fmt="rgb8")
    images = write_images(tmp_path / "images", [numbered(k) for k in range(10)])
    old = write_video(tmp_path / "old.avi", 10, rate=25, codec="mpeg4")
    videos = [paged_video(path, [], duration=0.4) for path in (film, gif, images, old)]
    page, copies = tmp_path / "page.html", tmp_path / "page files"
    without = write(page, *videos)["videos"]
    assert [one["address"] is None for one in without] == [False, True, True, False]
    assert not copies.exists()
    within = write(page, *videos, copies=copies)["videos"]
    assert [one["copied"] for one in within] == [False, True, True, True]
    assert [one["address"] for one in within[1:]] == [
        f"page%20files/{name}.mp4" for name in ("b", "images", "old")
    ]
    assert sorted(path.name for path in copies.iterdir()) == ["b.mp4", "images.mp4", "old.mp4"]
    assert "3 are shown as copies" in page.read_text()


def test_a_missing_video_and_a_page_that_cannot_be_written_are_named(tmp_path, film):
    with pytest.raises(InputError, match=r"gone\.mp4: no such file"):
        write(tmp_path / "page.html", paged_video(tmp_path / "gone.mp4", [], duration=2.0))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"page\.html: cannot be written"):
        write(tmp_path / "file" / "page.html", paged_video(film, [], duration=2.0))


def test_without_jinja2_nothing_is_begun(tmp_path, film, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "jinja2" else find(name))
    with pytest.raises(InputError, match=r"jinja2: is not installed, .* pip install 'case_jax\[plots\]'"):
        write(tmp_path / "page.html", paged_video(film, [], duration=2.0), copies=tmp_path / "copies")
    assert list(tmp_path.iterdir()) == []
