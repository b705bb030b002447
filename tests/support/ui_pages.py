"""Opening pages of the interface through Streamlit's own test driver."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from streamlit import config
from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import AppTest

from mlx_finetuning.ui import navigation
from mlx_finetuning.utils import blas

SCRIPT = Path(navigation.__file__).parent / "entry" / "main.py"
PAGES = SCRIPT.parents[1] / "pages"
# Streamlit reads its settings once, from the folder it is first asked in, and some tests leave this one.
config.get_config_options()
# Each test driver looks through all installed packages for components of pages, for half a second.
setattr(  # noqa: B010 - it is declared as a plain function
    manifest_scanner,
    "scan_component_manifests",
    functools.cache(manifest_scanner.scan_component_manifests),
)
# The first page measures the machine, in a process of its own; it is the same for all workspaces.
measured_once = functools.cache(blas.measure)


def open_page(name: str, state: Mapping[str, Any] | None = None, **parameters: str) -> AppTest:
    """The page drawn, with `parameters` in its address and `state` in its session."""
    app = AppTest.from_file(str(SCRIPT), default_timeout=30)
    for key, value in (state or {}).items():
        app.session_state[key] = value
    for key, value in parameters.items():
        app.query_params[key] = value
    app.switch_page(str(PAGES / f"{name}.py"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blas, "measure", measured_once)
        return app.run()


def texts(app: AppTest) -> str:
    """What is written on the page."""
    return "\n".join(str(item.value) for item in (*app.markdown, *app.caption, *app.warning))


def shown_errors(app: AppTest) -> list[str]:
    return [str(item.value) for item in app.error]


def click(page: AppTest, label: str) -> None:
    """The button so called, and the page drawn again."""
    next(one for one in page.button if one.label == label).click().run()


class _Cells(HTMLParser):
    """The rows of a table, by their labels."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, str]] = []
        self._label = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._label = dict(attrs).get("data-label") or ""
        if tag == "tr":
            self.rows.append({})

    def handle_data(self, data: str) -> None:
        if self._label:
            self.rows[-1][self._label] = self.rows[-1].get(self._label, "") + data


def tables(app: AppTest) -> list[list[dict[str, str]]]:
    """What the page's tables hold."""
    found = []
    for item in app.get("html"):
        if '<table class="rows"' in item.proto.body:
            cells = _Cells()
            cells.feed(item.proto.body)
            found.append([row for row in cells.rows if row])
    return found
