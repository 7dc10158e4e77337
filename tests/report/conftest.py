"""A report, and a browser to look at it."""

import contextlib
import shutil
import urllib.parse
from collections.abc import Collection
from pathlib import Path

import pytest

from tests.helpers.reports import BASELINE, Reported, make_report


@pytest.fixture(scope="session")
def reported(tmp_path_factory) -> Reported:
    return make_report(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="session")
def baseline_reported(tmp_path_factory) -> Reported:
    return make_report(tmp_path_factory.mktemp("baseline"), BASELINE)


@pytest.fixture(
    scope="package"
)  # Playwright's loop must not outlive it: a benchmark opens a browser of its own
def chromium():
    """A headless Chromium; skips where it is not installed."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome")))
    program = next(found, None)
    if program is None:
        pytest.skip("Chromium is not installed")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium):
    """open_page(path, width=1200, height=900, color_scheme="light", allow=()).

    Fails on any error, and on any request but for the page itself and the files of ``allow`` beside it.
    """
    with contextlib.ExitStack() as stack:
        problems: list[str] = []

        def open_one(
            path: Path,
            *,
            width: int = 1200,
            height: int = 900,
            color_scheme: str = "light",
            allow: Collection[Path] = (),
        ):
            context = chromium.new_context(
                viewport={"width": width, "height": height}, color_scheme=color_scheme, offline=True
            )
            stack.callback(context.close)
            page = context.new_page()
            page.on("console", lambda message: problems.append(f"{message.type}: {message.text}"))
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on("request", lambda request: requests.append(request.url))
            requests: list[str] = []
            page.goto(path.as_uri())
            beside = {urllib.parse.unquote(file.as_uri()) for file in allow}

            def check() -> None:
                # Browsers leave characters such as ' as they are, which as_uri() quotes.
                others = {urllib.parse.unquote(url.partition("#")[0]) for url in requests}
                problems.extend(others - beside - {urllib.parse.unquote(path.as_uri()), "about:blank"})

            assert requests[0] == path.as_uri()
            if not allow:
                assert requests == [path.as_uri()]
            stack.callback(check)
            return page

        yield open_one
        stack.close()
        assert problems == []
