"""A real browser against a real server, with nothing else within reach.

Every request that is not to the server fails, and so does a test that made one. They are not routed
through the test: that would take a processor's second a page, and switch the browser's cache off.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, expect, sync_playwright

from mlx_finetuning.workspace import Workspace
from support.served import Served, find_chromium
from support.ui_server import free_port

PATIENCE_MS = 20_000
ONLY_HERE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    found = find_chromium()
    if found is None:
        pytest.skip("no Chromium (./setup.sh --dev installs it where it may)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=[ONLY_HERE])
        yield browser
        browser.close()


@pytest.fixture
def served(workspace: Workspace) -> Iterator[Served]:
    served = Served(workspace, free_port())
    served.start()
    yield served
    served.stop()
    assert served.off_machine == []


@pytest.fixture
def context(browser: Browser, served: Served) -> Iterator[BrowserContext]:
    context = browser.new_context(
        locale="ja-JP",
        timezone_id="Asia/Tokyo",
        reduced_motion="reduce",
        viewport={"width": 1280, "height": 900},
    )
    context.set_default_timeout(PATIENCE_MS)

    def note(request: Request) -> None:
        if not request.url.startswith((served.url, "data:", "blob:")):
            served.off_machine.append(request.url)

    context.on("request", note)
    yield context
    context.close()


@pytest.fixture
def page(request: pytest.FixtureRequest, context: BrowserContext, served: Served) -> Iterator[Page]:
    """A tab with nothing in it yet. A test that fails prints what its page showed."""
    page = context.new_page()
    failed_before = request.session.testsfailed
    yield page
    if request.session.testsfailed > failed_before:
        print(f"{page.url}\n{page.locator('body').inner_text()}\n{served.log()}")  # noqa: T201


@pytest.fixture
def home(page: Page, served: Served) -> None:
    """The tab shows the home page, drawn."""
    page.goto(served.url)
    page.get_by_role("heading", name="ホーム").wait_for()
