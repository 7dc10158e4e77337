"""The report's page in a real browser: its controls must show what was put in. Skips without Chromium."""

import itertools
import re

import numpy as np
import pytest

from case_jax.evaluation.matching import detected_segments, make_segments
from case_jax.evaluation.per_video import per_video_ap
from tests.helpers.pages import contrast, wait_until
from tests.helpers.reports import CONFIG, ODD_NAME, TIOU


@pytest.fixture
def page(open_page, reported):
    return open_page(reported.path)


def shown(page) -> str:
    """The name of the video on display."""
    return re.fullmatch(r"(.*), \d+ of \d+: .*", page.inner_text("#summary")).group(1)


def listed(page) -> list[str]:
    """Names in the order of the list."""
    return [text.rsplit(" – ", 1)[0] for text in page.locator("#video option").all_inner_texts()]


def choose(page, name: str) -> None:
    page.select_option("#video", index=listed(page).index(name))
    assert shown(page) == name


def qualities(reported) -> dict[str, float]:
    truth = make_segments(reported.dataset.test.ground_truth())
    return per_video_ap(truth, detected_segments(reported.detections, reported.dataset.info.classes), TIOU)


def test_every_video_is_listed_even_one_with_an_odd_name(page, reported):
    assert page.title() == "CASE run a run & <more>"
    assert sorted(listed(page)) == sorted(video.name for video in reported.dataset.test.videos)
    choose(page, ODD_NAME)
    assert page.locator("b").count() == 0


def test_the_slider_shows_detections_from_its_score(page, reported):
    for name, found in reported.detections.items():
        choose(page, name)
        for score in (0.0, float(np.median(found.score)), float(found.score.max()), 2.0):
            set_to = page.evaluate(
                """score => {
                    const slider = document.getElementById("score");
                    slider.value = score;
                    slider.dispatchEvent(new Event("input"));
                    return Number(slider.value);
                }""",
                score,
            )
            expected = int((np.round(found.score, 4) >= set_to).sum())
            assert page.locator("rect.found").count() == expected
            assert f"{expected} of {len(found.score)} detections" in page.inner_text("#summary")
            rows = page.locator("#listed tbody tr").all_text_contents()
            assert sum(row.startswith("found") for row in rows) == expected


def test_the_slider_follows_the_keyboard(page):
    choose(page, listed(page)[0])
    page.focus("#score")
    page.keyboard.press("Home")
    everything = page.locator("rect.found").count()
    before = float(page.inner_text("#score-value"))
    page.keyboard.press("ArrowRight")
    assert float(page.inner_text("#score-value")) == pytest.approx(before + 0.01)
    assert page.locator("rect.found").count() <= everything
    page.keyboard.press("End")
    assert page.locator("rect.found").count() < everything


def test_keys_change_the_video(page):
    order = listed(page)
    assert shown(page) == order[0]
    for key, expected in (
        ("ArrowRight", order[1]),
        ("j", order[2]),
        ("ArrowLeft", order[1]),
        ("k", order[0]),
        ("ArrowLeft", order[-1]),  # from the first video to the last
        ("ArrowRight", order[0]),
    ):
        page.keyboard.press(key)
        assert shown(page) == expected
    page.click("#next")
    assert shown(page) == order[1]
    page.click("#previous")
    assert shown(page) == order[0]


def test_keys_do_nothing_while_text_is_typed(page):
    first = shown(page)
    page.keyboard.press("/")
    page.keyboard.type("jk")
    assert page.input_value("#search") == "jk"
    assert page.inner_text("#summary") == "No video matches."
    page.fill("#search", "")
    assert shown(page) == first


@pytest.mark.parametrize("order", ["worst", "best"])
def test_order_by_quality(page, reported, order):
    page.select_option("#order", order)
    quality = qualities(reported)
    got = [round(quality[name], 4) for name in listed(page)]
    assert got == sorted(got, reverse=order == "best")
    assert len(set(got)) > 1
    assert shown(page) == listed(page)[0]


def test_search_by_name_and_by_class(page, reported):
    page.fill("#search", "TEST_0003")
    assert listed(page) == ["synthetic_test_0003"]
    label = reported.dataset.info.classes[0]
    page.fill("#search", label.lower())
    expected = {v.name for v in reported.dataset.test.videos if label in {a.label for a in v.annotations}}
    assert set(listed(page)) == expected
    assert 0 < len(expected) < len(reported.dataset.test.videos)


def test_hovering_shows_the_values(page, reported):
    video = reported.dataset.test.videos[2]
    choose(page, video.name)
    page.locator("#timeline svg").scroll_into_view_if_needed()
    box = page.locator("#timeline svg").bounding_box()
    sample, size = 17, CONFIG.num_snippets
    page.mouse.move(box["x"] + 36 + (box["width"] - 48) * (sample + 0.5) / size, box["y"] + 60)
    readout = page.inner_text("#readout")
    second = video.seconds(reported.dataset.info) * (sample + 0.5) / size
    scores = reported.scores
    assert float(readout.split(" s:")[0]) == pytest.approx(second, abs=0.3)
    for name, values in (
        ("P^A", scores.attention),
        ("P^T", scores.transformed_foreground),
        ("P^M", scores.mixed_foreground),
    ):
        got = float(re.search(rf"{re.escape(name)} ([\d.]+)", readout).group(1))
        assert got == pytest.approx(values[2, sample], abs=0.008)
    label = reported.dataset.info.classes.index(page.locator("#class option:checked").inner_text().split()[0])
    got = float(re.search(r"T-CAS of \S+ ([\d.]+)", readout).group(1))
    assert got == pytest.approx(scores.fused[2, sample, label], abs=0.008)
    cluster = int(scores.clusters[2, sample].argmax())
    assert f"cluster {cluster} (foreground {cluster / 3:.2f})" in readout
    true = [a.label for a in video.annotations if a.start <= second < a.end]
    assert f"true: {', '.join(true) or 'nothing'}" in readout


@pytest.mark.slow
def test_shift_and_arrows_move_through_time(page):
    page.keyboard.press("Shift+ArrowRight")
    first = float(page.inner_text("#readout").split(" s:")[0])
    page.keyboard.press("Shift+ArrowRight")
    second = float(page.inner_text("#readout").split(" s:")[0])
    page.keyboard.press("Shift+ArrowLeft")
    assert second > first == float(page.inner_text("#readout").split(" s:")[0])
    assert page.locator("#timeline .cursor").get_attribute("visibility") == "visible"


def test_true_actions_and_the_chosen_class_are_drawn(page, reported):
    video = max(reported.dataset.test.videos, key=lambda v: len(v.annotations))
    choose(page, video.name)
    assert page.locator("rect.truth").count() == len(video.annotations)
    paths = set()
    for label in page.locator("#class option").all():
        page.select_option("#class", label.get_attribute("value"))
        paths.add(page.locator("path.cas").last.get_attribute("d"))
    assert len(paths) == len(reported.dataset.info.classes)


@pytest.mark.slow
def test_zoom_widens_the_timeline_inside_its_box(page):
    width = page.locator("#timeline svg").bounding_box()["width"]
    page.select_option("#zoom", "4")
    assert page.locator("#timeline svg").bounding_box()["width"] == pytest.approx(4 * width)
    assert page.evaluate("document.documentElement.scrollWidth") <= 1200


def test_keys_do_not_change_the_video_where_they_have_another_use(page):
    first = shown(page)
    page.locator("table.sortable th button").first.focus()
    page.keyboard.press("ArrowRight")
    page.locator("div.wide").first.focus()
    page.keyboard.press("j")
    assert shown(page) == first
    page.select_option("#zoom", "8")
    page.focus("#timeline")
    page.evaluate("document.getElementById('timeline').scrollLeft = 500")
    page.keyboard.press("j")
    second = shown(page)
    assert second != first
    assert page.evaluate("document.getElementById('timeline').scrollLeft") == 0
    page.keyboard.press("ArrowRight")  # scrolls
    assert shown(page) == second
    wait_until(page, "document.getElementById('timeline').scrollLeft > 0")
    page.uncheck("#keys")
    page.keyboard.press("j")
    assert shown(page) == second


@pytest.mark.parametrize("address", ["#video=%zz", "#%", "#video=nobody"])
def test_an_address_that_names_no_video_shows_the_first_one(page, reported, address):
    first = shown(page)
    page.goto("about:blank")
    page.goto(reported.path.as_uri() + address)
    assert shown(page) == first


def test_another_address_shows_another_video(page):
    page.fill("#search", "test_0003")
    page.evaluate("location.hash = '#video=synthetic_test_0004'")
    wait_until(page, "document.getElementById('summary').textContent.startsWith('synthetic_test_0004')")
    assert page.input_value("#search") == ""


def test_the_video_comes_back_after_a_search_without_matches(page):
    page.keyboard.press("ArrowRight")
    before = shown(page)
    page.fill("#search", "zzz")
    assert page.locator("#class option").count() == 0
    assert page.url.endswith("#")
    page.fill("#search", "")
    assert shown(page) == before


def test_the_address_names_the_video(page, reported, open_page):
    page.keyboard.press("ArrowRight")
    choose(page, ODD_NAME)
    address = page.url
    page.goto("about:blank")
    page.goto(address)
    assert shown(page) == ODD_NAME


@pytest.mark.slow
def test_headings_sort_the_table(page):
    heading = page.locator("table.sortable th[scope=col]").nth(1)
    column = (
        "() => [...document.querySelectorAll('table.sortable tbody tr')].map(r => +r.cells[1].textContent)"
    )
    for expected in ("descending", "ascending"):
        heading.locator("button").click()
        assert heading.get_attribute("aria-sort") == expected
        values = page.evaluate(column)
        assert values == sorted(values, reverse=expected == "descending")


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_it_fits_and_has_contrast(open_page, reported, width, color_scheme):
    page = open_page(reported.path, width=width, color_scheme=color_scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for kind, least in (
        ("text", 7),
        ("quiet", 4.5),
        ("edge", 3),
        ("attention", 3),
        ("clusters", 3),
        ("truth", 3),
        ("cas", 3),
    ):
        assert contrast(page, kind) >= least, kind


def test_screen_readers_find_labels_captions_and_values(page):
    for label in ("Search", "Order", "Video", "Detections from score", "T-CAS of", "Zoom"):
        assert page.get_by_label(label, exact=False).count() >= 1
    assert page.locator("table:not(:has(caption))").count() == 0
    assert page.locator("#listed th[scope=col]").count() == 6
    pictures = page.locator("svg[role=img]")
    assert pictures.count() >= 3
    assert all(picture.get_attribute("aria-label") for picture in pictures.all())
    levels = [
        int(tag[1]) for tag in page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map(h => h.tagName)")
    ]
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    assert "loss from 1.8 at step 5 to 0.45 at step 20" in page.inner_text("main")
    # Lines differ in their dashes, not only in their colours.
    dashes = {
        page.locator(f"path.{name}").first.evaluate("e => getComputedStyle(e).strokeDasharray")
        for name in ("attention", "clusters", "both")
    }
    assert len(dashes) == 3


@pytest.mark.slow
def test_the_baseline_has_no_clusters(open_page, baseline_reported):
    page = open_page(baseline_reported.path)
    page.keyboard.press("Shift+ArrowRight")
    assert re.search(r"P\^A [\d.]+, T-CAS", page.inner_text("#readout"))
    assert page.locator("rect.cluster").count() == 0
    assert "Snippet clusters" not in page.inner_text("main")
    assert "clusters" not in page.inner_text("header")
