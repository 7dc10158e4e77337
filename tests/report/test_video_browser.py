"""The page that plays videos, in a real browser with real videos. Skips without Chromium."""

import itertools
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from case_jax.report.video_page import PagedVideo, write_video_page
from tests.helpers.page_videos import CLASSES, STEP, detection, paged_video
from tests.helpers.pages import contrast, wait_until
from tests.helpers.videos import number_in, numbered, write_images, write_video

FOUND = (
    detection("Jump", 2.0, 5.0, 0.9),
    detection(CLASSES[1], 4.0, 8.0, 0.6),
    detection("Jump", 6.0, 7.2, 0.4),
    detection("Swim", 0.52, 1.4, 0.2),
)
SECONDS = 9.6


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    """A film of 240 numbered frames, H.264 in .mp4."""
    return write_video(tmp_path_factory.mktemp("film") / "film.mp4", 240, rate=25)


@pytest.fixture(scope="module")
def written(film) -> Path:
    return write(film.parent / "page.html", paged_video(film, FOUND, duration=SECONDS))


@pytest.fixture
def page(open_page, written, film):
    page = open_page(written, allow=[film])
    wait_until(page, "player.readyState >= 1")
    return page


def write(output: Path, *videos: PagedVideo, min_score=0.1, **options) -> Path:
    write_video_page(output, videos, classes=CLASSES, title="Found", min_score=min_score, **options)
    return output


def time_of(page) -> float:
    return page.evaluate("player.currentTime")


def told(page) -> float:
    """The cursor's time as the text under the timeline tells it."""
    return float(page.inner_text("#readout").split(" s of ")[0])


def drawn(page) -> float:
    """The cursor's time by its place in the picture."""
    width = float(page.get_attribute("#timeline svg", "width"))
    place = float(re.match(r"M([\d.]+) ", page.get_attribute(".cursor", "d")).group(1))
    return (place - 36) / (width - 48) * SECONDS


def bar(page, place: int):
    """The bar of a detection of `FOUND`."""
    label, (start, _) = FOUND[place]["label"], FOUND[place]["segment"]
    return page.locator("rect.found").filter(
        has_text=re.compile(rf"^{re.escape(label)} .*, {start:.2f} s to ")
    )


def chosen(page) -> list[str]:
    """Text of the table's rows that are chosen."""
    return page.locator("#listed tr[aria-current=true]").all_inner_texts()


def listed(page) -> list[str]:
    return [text.rsplit(" – ", 1)[0] for text in page.locator("#video option").all_inner_texts()]


def set_score(page, score: float) -> None:
    page.evaluate(
        """score => {
            const slider = document.getElementById("score");
            slider.value = score;
            slider.dispatchEvent(new Event("input"));
        }""",
        score,
    )


def test_the_video_plays_and_the_cursor_follows(page):
    page.keyboard.press("Space")
    wait_until(page, "player.currentTime > 0.5")
    assert not page.evaluate("player.paused")
    page.keyboard.press("Space")
    assert page.evaluate("player.paused")
    page.wait_for_timeout(100)
    assert told(page) == pytest.approx(time_of(page), abs=0.011)
    assert drawn(page) == pytest.approx(time_of(page), abs=0.01)


def test_a_click_on_a_detection_plays_from_its_start(page):
    bar(page, 1).click()
    assert 4.0 <= time_of(page) < 6
    assert page.locator("#class option:checked").inner_text() == f"{CLASSES[1]} (found)"
    wait_until(page, "player.currentTime > 4.3")
    assert chosen(page) == ["Run & <i>hide</i>\t4.00\t8.00\t0.60"]
    page.evaluate("player.pause()")
    page.wait_for_timeout(100)
    now = [entry["segment"][0] <= time_of(page) < entry["segment"][1] for entry in FOUND]
    assert page.locator("#listed tr.now").count() == sum(now) >= 1
    assert "A click plays from its start." in bar(page, 1).text_content()


def test_a_click_on_the_timeline_seeks_and_shows_the_frame(page):
    box = page.locator("#timeline svg").bounding_box()
    wanted = 3.3
    page.mouse.click(box["x"] + 36 + (box["width"] - 48) * wanted / SECONDS, box["y"] + box["height"] - 60)
    wait_until(page, "!player.seeking && player.readyState >= 2")
    assert time_of(page) == pytest.approx(wanted, abs=0.02)
    assert page.evaluate("player.paused")
    assert drawn(page) == pytest.approx(wanted, abs=0.02)
    assert chosen(page) == []
    page.evaluate("player.controls = false")
    page.wait_for_timeout(200)
    shot = np.frombuffer(page.locator("#player").screenshot(), np.uint8)
    image = cv2.imdecode(shot, cv2.IMREAD_COLOR)
    height, width = image.shape[:2]
    image = image[:, (width - height * 4 // 3) // 2 :][:, : height * 4 // 3]  # black left and right of it
    assert number_in(image) == int(time_of(page) * 25)


def test_keys_move_through_snippets_and_detections(page):
    for key, seconds in (
        ("ArrowRight", STEP),
        ("ArrowRight", 2 * STEP),
        ("ArrowLeft", STEP),
        ("Shift+ArrowRight", 11 * STEP),
        ("Shift+ArrowLeft", STEP),
        ("]", 0.52),
        ("ArrowRight", 2 * STEP),
        ("[", 0.52),
        ("]", 2.0),
        ("]", 4.0),
        ("]", 6.0),
        ("]", 6.0),
        ("[", 4.0),
        ("End", SECONDS),
        ("Home", 0.0),
        ("ArrowLeft", 0.0),
    ):
        page.keyboard.press(key)
        assert told(page) == pytest.approx(seconds, abs=0.006), key
        assert time_of(page) == pytest.approx(seconds, abs=1e-3), key
    assert page.get_attribute("#readout", "aria-live") == "polite"
    page.focus("#timeline")
    page.keyboard.press("ArrowDown")
    assert told(page) == 0.52
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    assert told(page) == 0.52
    page.click("#later")
    assert told(page) == 2.0


@pytest.mark.slow
def test_keys_stay_with_the_controls_that_use_them(page):
    page.focus("#class")
    page.keyboard.press("ArrowRight")
    page.focus("#score")
    page.keyboard.press("End")
    assert told(page) == 0.0
    page.locator("#listed tbody button").first.focus()
    page.keyboard.press("Space")  # presses the button
    wait_until(page, "player.currentTime > 2")
    page.evaluate("player.pause()")
    set_score(page, 0.1)
    page.evaluate("player.currentTime = 5.5")  # as if it had played on
    wait_until(page, "!player.seeking")
    page.focus("#player")
    page.keyboard.press("]")
    assert time_of(page) == 6.0
    page.keyboard.press("Home")
    assert time_of(page) == 0.0
    page.keyboard.press("Space")  # once, though the player has this key, too
    wait_until(page, "player.currentTime > 0.1")
    page.keyboard.press("Space")
    assert page.evaluate("player.paused")
    before = time_of(page)
    page.uncheck("#keys")
    page.locator("h1").click()
    page.keyboard.press("ArrowRight")
    assert time_of(page) == before


def test_the_slider_hides_detections(page):
    for score, count in ((0.2, 4), (0.21, 3), (0.6, 2), (0.9, 1)):
        set_score(page, score)
        assert page.locator("rect.found").count() == count
        assert page.locator("#listed tbody tr").count() == count
        assert page.locator("#pictures button:visible").count() == count
        assert f"{count} of 4 detections from score {score:.2f}" in page.inner_text("#summary")
    page.keyboard.press("]")
    page.keyboard.press("]")
    assert told(page) == 2.0  # the only one left


def test_rows_and_pictures_seek(page):
    page.locator("#listed tbody tr").nth(2).locator("td").first.click()
    assert 6.0 <= time_of(page) < 8
    assert page.locator("#pictures button[aria-current=true]").inner_text().startswith("Jump")
    assert page.locator("rect[aria-current=true]").count() == 1
    page.locator("#pictures button").first.click()  # in the order of time
    assert 0.52 <= time_of(page) < 2
    sizes = page.evaluate(
        "[...document.querySelectorAll('#pictures img')].map(i => [i.naturalWidth, i.naturalHeight])"
    )
    assert sizes == [[160, 120]] * 4


@pytest.mark.slow
def test_zoom_keeps_the_cursor_in_view(page):
    page.select_option("#zoom", "16")
    page.keyboard.press("End")
    left, width = page.locator("#timeline").evaluate("box => [box.scrollLeft, box.clientWidth]")
    place = float(re.match(r"M([\d.]+) ", page.get_attribute(".cursor", "d")).group(1))
    assert left <= place <= left + width
    assert page.evaluate("document.documentElement.scrollWidth") <= 1200


# Several videos


@pytest.fixture(scope="module")
def several(film, tmp_path_factory) -> tuple[Path, list[Path]]:
    """A page of videos with odd names in a folder of an odd name."""
    folder = tmp_path_factory.mktemp("several")
    names = ("a b#c?d%20e.mp4", "\"quoted' & <b>.mp4", "<script>.mp4", "Grüße 動画.mp4", "x:y.mp4")
    paths = [folder / "my #1 videos" / name for name in names]
    paths[0].parent.mkdir()
    for path in paths:
        path.write_bytes(film.read_bytes())
    videos = [
        paged_video(path, FOUND[k : k + 1], duration=SECONDS, name=f"{k}</script>{path.name}")
        for k, path in enumerate(paths)
    ]
    return write(folder / "pages" / "page.html", *videos), paths


def shown(page) -> str:
    return re.fullmatch(r"(.*), \d+ of \d+: .*", page.inner_text("#summary")).group(1)


def test_odd_names_are_found_and_played(open_page, several):
    path, films = several
    page = open_page(path, allow=films)
    names = listed(page)
    assert names == [f"{k}</script>{film.name}" for k, film in enumerate(films)]
    for name in names:
        assert shown(page) == name
        wait_until(page, "player.readyState >= 1")
        assert page.evaluate("player.duration") == pytest.approx(SECONDS)
        page.keyboard.press("j")
    assert shown(page) == names[0]
    page.keyboard.press("k")
    assert shown(page) == names[-1]
    page.click("#previous")
    assert shown(page) == names[-2]


@pytest.mark.slow
def test_search_by_name_and_by_class(open_page, several):
    path, films = several
    page = open_page(path, allow=films)
    page.keyboard.press("/")
    page.keyboard.type("grüße")
    assert len(listed(page)) == 1
    assert shown(page).endswith("Grüße 動画.mp4")
    page.fill("#search", "run hide")
    assert [name[0] for name in listed(page)] == ["1"]
    page.fill("#search", "nobody")
    assert page.inner_text("#summary") == "No video matches."
    assert not page.locator("#player").is_visible()
    page.keyboard.press("j")  # typed
    page.fill("#search", "")
    assert shown(page)[0] == "1"
    assert page.locator("#player").is_visible()


@pytest.mark.slow
def test_the_address_names_the_video(open_page, several):
    path, films = several
    page = open_page(path, allow=films)
    page.keyboard.press("j")
    page.keyboard.press("j")
    address, name = page.url, shown(page)
    page.goto("about:blank")
    page.goto(address)
    assert shown(page) == name
    page.evaluate("name => location.hash = '#video=' + encodeURIComponent(name)", listed(page)[4])
    wait_until(page, "document.getElementById('summary').textContent.startsWith('4')")
    page.goto("about:blank")
    page.goto(f"{path.as_uri()}#video=%zz")
    assert shown(page)[0] == "0"


# What cannot be played, and what is played by a copy


@pytest.fixture(scope="module")
def unplayable(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("unplayable")
    return [
        write_video(folder / "old.mp4", 240, rate=25, codec="mpeg4"),
        write_video(folder / "anim.gif", 240, rate=25, codec="gif", pix_fmt="rgb8"),
        write_images(folder / "images", [numbered(k) for k in range(24)]),
    ]


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        (0, "old.mp4 cannot be played by this browser: .* does not know mpeg4 (yuv420p) in mp4."),
        pytest.param(
            1, "anim.gif is a GIF, in which browsers cannot go to a chosen time.", marks=pytest.mark.slow
        ),
        pytest.param(2, "images is a folder of images, which has no player.", marks=pytest.mark.slow),
    ],
)
def test_a_line_says_why_there_is_no_player_and_the_cursor_moves(
    open_page, unplayable, tmp_path, place, reason
):
    video = unplayable[place]
    page = open_page(
        write(tmp_path / "page.html", paged_video(video, FOUND, duration=SECONDS)), allow=[video]
    )
    wait_until(page, "!document.getElementById('unplayable').hidden")
    said = page.inner_text("#unplayable")
    assert re.match(reason.replace("(", r"\(").replace(")", r"\)"), said), said
    assert not page.locator("#player").is_visible()
    page.keyboard.press("]")
    page.keyboard.press("]")
    assert told(page) == 2.0
    bar(page, 2).click()
    assert told(page) == 6.0
    assert drawn(page) == pytest.approx(6.0, abs=0.01)
    assert page.locator("#pictures img").count() == 4


@pytest.mark.slow
def test_copies_play(open_page, unplayable, tmp_path):
    copies = tmp_path / "page files"
    videos = [paged_video(path, FOUND, duration=SECONDS) for path in unplayable]
    path = write(tmp_path / "page.html", *videos, copies=copies)
    page = open_page(path, allow=list(copies.iterdir()))
    for _ in videos:
        wait_until(page, "player.readyState >= 1")
        assert page.evaluate("player.duration") == pytest.approx(SECONDS, abs=0.05)
        bar(page, 1).click()
        wait_until(page, "player.currentTime > 4.1")
        page.keyboard.press("j")


def test_a_player_whose_sound_begins_first_is_at_the_right_frame(open_page, tmp_path):
    times = [2 + k / 25 for k in range(100)]
    film = write_video(tmp_path / "a.mp4", 100, rate=25, times=times, audio=True)
    video = paged_video(film, [detection("Jump", 1.0, 2.0, 0.5)], duration=4.0)
    page = open_page(write(tmp_path / "page.html", video), allow=[film])
    wait_until(page, "player.readyState >= 1")
    page.keyboard.press("]")
    begin = page.evaluate("JSON.parse(document.getElementById('data').textContent).videos[0].begin")
    assert begin == pytest.approx(2.0, abs=0.05)
    assert time_of(page) == pytest.approx(1 + begin, abs=1e-3)
    assert told(page) == 1.0
    page.keyboard.press("Space")
    wait_until(page, "player.currentTime > 3.3")
    page.keyboard.press("Space")
    page.wait_for_timeout(100)
    assert told(page) == pytest.approx(time_of(page) - begin, abs=0.011)


# Looks


@pytest.mark.slow
@pytest.mark.parametrize(
    ("width", "color_scheme"),
    [
        (360, "light"),
        (1200, "dark"),
        pytest.param(360, "dark", marks=pytest.mark.slow),
        pytest.param(1200, "light", marks=pytest.mark.slow),
    ],
)
def test_it_fits_and_has_contrast(open_page, several, width, color_scheme):
    path, films = several
    page = open_page(path, width=width, color_scheme=color_scheme, allow=films)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for kind, least in (
        ("text", 7),
        ("quiet", 4.5),
        ("edge", 3),
        ("attention", 3),
        ("clusters", 3),
        ("found", 3),
        ("cas", 3),
        ("cursor", 3),
    ):
        assert contrast(page, kind) >= least, kind


@pytest.mark.parametrize(("width", "height"), [(360, 640), pytest.param(1200, 700, marks=pytest.mark.slow)])
def test_the_player_is_in_sight_when_a_picture_is_chosen(open_page, written, film, width, height):
    page = open_page(written, width=width, height=height, allow=[film])
    page.locator("#pictures button").last.click()
    box = page.locator("#player").bounding_box()
    assert box["y"] >= -0.5
    assert box["y"] + box["height"] <= height
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    page.wait_for_timeout(50)
    assert (page.locator("#player").bounding_box()["y"] >= -0.5) == (width == 360)


@pytest.mark.slow
def test_screen_readers_find_labels_and_captions(open_page, several, film):
    path, films = several
    page = open_page(path, allow=films)
    for label in ("Search", "Video", "Detections from score", "T-CAS of", "Zoom", "Keys"):
        assert page.get_by_label(label, exact=False).count() >= 1
    assert page.locator("#listed caption").inner_text().startswith("Detections in ")
    assert page.locator("#listed th[scope=col]").count() == 4
    assert page.locator("#listed th[scope=row] button").count() == 1
    picture = page.locator("svg[role=img]")
    assert "1 detection" in picture.get_attribute("aria-label")
    for box in page.locator("[role=region], [role=group]").all():
        assert box.get_attribute("aria-label")
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))


@pytest.mark.slow
def test_a_page_without_detections_still_plays(open_page, film, tmp_path):
    page = open_page(write(tmp_path / "page.html", paged_video(film, [], duration=SECONDS)), allow=[film])
    wait_until(page, "player.readyState >= 1")
    assert "Nothing was found." in page.locator("#timeline").text_content()
    assert page.locator("#later").is_disabled()
    page.keyboard.press("]")
    page.keyboard.press("Space")
    wait_until(page, "player.currentTime > 0.2")
