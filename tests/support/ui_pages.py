"""Opening pages of the interface through Streamlit's own test driver."""

from __future__ import annotations

from pathlib import Path

from streamlit.testing.v1 import AppTest

from mlx_finetuning.ui import navigation

SCRIPT = Path(navigation.__file__).parent / "entry" / "main.py"
PAGES = SCRIPT.parents[1] / "pages"


def open_page(name: str, **parameters: str) -> AppTest:
    """The page drawn, with `parameters` in its address."""
    app = AppTest.from_file(str(SCRIPT), default_timeout=30)
    for key, value in parameters.items():
        app.query_params[key] = value
    app.switch_page(str(PAGES / f"{name}.py"))
    return app.run()


def texts(app: AppTest) -> str:
    """What is written on the page."""
    return "\n".join(str(item.value) for item in (*app.markdown, *app.caption, *app.warning))


def shown_errors(app: AppTest) -> list[str]:
    return [str(item.value) for item in app.error]


def click(page: AppTest, label: str) -> None:
    """The button so called, and the page drawn again."""
    next(one for one in page.button if one.label == label).click().run()
