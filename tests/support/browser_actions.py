"""What people do on the pages, and where they look."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from playwright.sync_api import Locator, Page, TimeoutError
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from mlx_finetuning.ui import sitemap

MOST_TABS = 120
DRAWN = '[data-testid="stApp"][data-test-script-state="notRunning"]'


TURN = """address => {
  history.pushState({}, '', address);
  dispatchEvent(new PopStateEvent('popstate'));
}"""
STAYS = """async () => {
  const before = document.body.innerText;
  await new Promise(done => setTimeout(done, 100));
  return before === document.body.innerText;
}"""
"""What the server has sent is drawn."""


def open_page(page: Page, address: str) -> None:
    """And wait until it is drawn: what is touched before may be drawn anew under one's hands."""
    page.goto(address)
    page.get_by_role("heading", level=1).first.wait_for()
    page.locator(DRAWN).wait_for()


class Turning:
    """From one address of the interface to the next without loading its code again, as the browser's back
    and forward do: a third of the processor time. `open_page` comes first.
    """

    def __init__(self, page: Page) -> None:
        self._page = page
        self._drawn = 0
        """How often the server has told the page that it has been drawn to its end."""
        page.on("websocket", lambda socket: socket.on("framereceived", self._take))

    def _take(self, content: str | bytes) -> None:
        told = ForwardMsg.FromString(content if isinstance(content, bytes) else content.encode())
        self._drawn += told.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY and (
            told.WhichOneof("type") == "script_finished"
        )

    def to(self, address: str) -> None:
        before, limit_s = self._drawn, time.monotonic() + 60
        self._page.evaluate(TURN, address)
        while self._drawn == before:
            assert time.monotonic() < limit_s, address
            self._page.wait_for_timeout(20)
        self._page.locator(DRAWN).wait_for()
        self._page.wait_for_function(STAYS)


def visit(page: Page, name: str) -> None:
    """By the navigation, as a user would."""
    title = sitemap.ENTRIES[name].title
    page.get_by_test_id("stSidebarNav").get_by_role("link", name=title, exact=True).click()
    page.get_by_role("heading", name=title, exact=True, level=1).wait_for()


def open_row(page: Page, row: int) -> None:
    """Open one of the rows that are looked at, to be edited."""
    option = page.get_by_role("option", name=f"{row}行目", exact=True)
    # The list closes where the page moves under it, as it does while the table is laid out.
    for _ in range(10):
        page.get_by_role("combobox", name="1行を開いて直す").click()
        with contextlib.suppress(TimeoutError):
            option.click(timeout=2000)
            return
    raise AssertionError(f"row {row} is not offered")


def hand_in(page: Page, file: Path) -> None:
    page.get_by_test_id("stFileUploaderDropzoneInput").set_input_files(file)


def click(page: Page, name: str) -> None:
    page.get_by_role("button", name=name).click()


def metric(page: Page, label: str) -> Locator:
    return page.get_by_test_id("stMetric").filter(has_text=label)


def badge(page: Page, state: str) -> Locator:
    return page.locator(".stMarkdownBadge").filter(has_text=state)


def ask(page: Page, question: str) -> None:
    box = page.get_by_test_id("stChatInputTextArea")
    box.fill(question)
    box.press("Enter")


def reach(page: Page, role: str, name: str, *, exact: bool = True) -> None:
    """Go to an element by the Tab key alone."""
    target = page.get_by_role(role, name=name, exact=exact)  # type: ignore[arg-type]
    target.wait_for()
    page.locator(DRAWN).wait_for()
    for _ in range(MOST_TABS):
        page.keyboard.press("Tab")
        if target.evaluate("element => element.contains(document.activeElement)"):
            return
    raise AssertionError(f"{name} is not reached by Tab")


def press(page: Page, role: str, name: str) -> None:
    """Go to a button or link by the Tab key, and use it with Enter."""
    reach(page, role, name)
    page.keyboard.press("Enter")
