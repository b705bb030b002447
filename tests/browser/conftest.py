"""A real browser against a real server, with nothing else within reach.

Every request that is not to the server fails, and so does a test that made one. They are not routed
through the test: that would take a processor's second a page, and switch the browser's cache off.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    Page,
    Request,
    ViewportSize,
    expect,
    sync_playwright,
)

from mlx_finetuning.workspace import Workspace
from support.helpers import stop_jobs
from support.served import Served, find_chromium
from support.ui_server import free_port

PATIENCE_MS = 60_000
"""On a machine with a load of 20 the first page took longer than 20 s."""
ONLY_HERE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
WINDOW: ViewportSize = {"width": 1280, "height": 900}
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


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One for all tests: all that an interface knows is in its workspace."""
    server = Served(Workspace(tmp_path_factory.mktemp("browser") / "workspace"), free_port())
    server.start()
    yield server
    server.stop()


@pytest.fixture
def workspace(server: Served) -> Iterator[Workspace]:
    """The server's, emptied when a test ends, but for the server's own records."""
    yield server.workspace
    stop_jobs(server.workspace)
    root = server.workspace.root
    for path in (*root.iterdir(), *server.workspace.logs.iterdir()):
        if path.is_file() and not path.name.startswith("serve."):
            path.unlink()
        elif path.is_dir() and path != server.workspace.logs:
            shutil.rmtree(path)


@pytest.fixture
def served(workspace: Workspace, server: Served) -> Iterator[Served]:
    assert workspace == server.workspace
    server.off_machine.clear()
    yield server
    assert server.off_machine == []


@pytest.fixture(scope="session")
def context(browser: Browser, server: Served) -> Iterator[BrowserContext]:
    context = browser.new_context(
        locale="ja-JP",
        timezone_id="Asia/Tokyo",
        reduced_motion="reduce",
        viewport=WINDOW,
    )
    context.set_default_timeout(PATIENCE_MS)

    def note(request: Request) -> None:
        if not request.url.startswith((server.url, "data:", "blob:")):
            server.off_machine.append(request.url)

    context.on("request", note)
    yield context
    context.close()


@pytest.fixture(scope="session")
def tab(context: BrowserContext) -> Page:
    """One for all tests, since it holds the interface's compiled code: a first page costs twice a later one."""
    return context.new_page()


@pytest.fixture
def page(request: pytest.FixtureRequest, tab: Page, served: Served) -> Iterator[Page]:
    """The tab with nothing in it. A test that fails prints what its page showed."""
    tab.set_viewport_size(WINDOW)
    tab.emulate_media(media="null", color_scheme="light")
    failed_before = request.session.testsfailed
    yield tab
    if request.session.testsfailed > failed_before:
        print(f"{tab.url}\n{tab.locator('body').inner_text()}\n{served.log()}")  # noqa: T201
    for other in tab.context.pages:
        if other != tab:
            other.close()
    # Another address of the server: what is elsewhere would get another process.
    tab.goto(f"{served.url}/_stcore/health")
    tab.evaluate("sessionStorage.clear(); localStorage.clear()")


@pytest.fixture
def home(page: Page, served: Served) -> None:
    """The tab shows the home page, drawn."""
    page.goto(served.url)
    page.get_by_role("heading", name="ホーム").wait_for()
