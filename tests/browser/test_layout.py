"""Every page at every width, light and dark: no text is cut off, no control lies on another, nothing
scrolls sideways, and axe-core finds nothing serious. One of each in every test run, all in the long one.
"""

from __future__ import annotations

from dataclasses import asdict

import pytest
from playwright.sync_api import Page, ViewportSize

from mlx_finetuning import files
from mlx_finetuning.config import TrainConfig
from mlx_finetuning.experiment_tracker.evaluation import report
from support import finished_run, ui_workspaces
from support.browser_actions import open_page
from support.page_faults import access_faults, layout_faults
from support.reports import CERTIFICATE, EXPORT_REPORT, summed_up
from support.served import Served

SIZES: tuple[ViewportSize, ...] = (
    *({"width": width, "height": 900} for width in (390, 768, 1024)),  # type: ignore[misc]
    # A window of 1440 pixels at 200 % has room for 720.
    {"width": 720, "height": 450},
    {"width": 1440, "height": 900},
)
SETTLED_MS, LOOKS = 400, 10
"""Until what is laid out by scripts follows a new width; on a busy machine the menu slides for longer."""
SCHEMES = ("light", "dark")
VIEWS = (
    *("", "dataset", "dataset?view=saved&dataset=faq", "dataset?view=edit&dataset=faq"),
    *("dataset?view=documents", "dataset?view=trash"),
    *("training?view=new", "training?view=watch&run={run}"),
    *("training?view=models", "quantization?run={run}", "chat?run={run}"),
    *("chat?view=test&run={run}", "chat?view=ollama&run={run}", "experiments?view=list"),
    *("experiments?view=detail&run={run}", "experiments?view=compare", "experiments?view=trash"),
    *("settings", "report/{run}/summary", "report/{run}/full", "nowhere"),
)


@pytest.fixture
def run_id(served: Served) -> str:
    """A workspace with runs in every state, of which one has all that can be made of a run."""
    workspace = served.workspace
    ui_workspaces.fill(workspace, len(ui_workspaces.STATES))
    run_id = finished_run.make(workspace)
    paths = workspace.run(run_id)
    ui_workspaces.write_metrics(paths.metrics, 120)
    report.write(paths, summed_up("長い質問の" * 12))
    files.write_json(paths.certificate, asdict(CERTIFICATE))
    report.write_page(paths)
    written = workspace.gguf_folder(run_id) / "questions-Q8_0.gguf"
    files.write_text(written, "GGUF")
    files.write_json(written.with_suffix(".export_report.json"), asdict(EXPORT_REPORT))
    return run_id


def look(page: Page, served: Served, view: str, run_id: str) -> None:
    address = f"{served.url}/{view.format(run=run_id)}"
    if view.startswith(("report/", "nowhere")):
        page.goto(address)
        return
    open_page(page, address)
    page.wait_for_function("!document.querySelector('[data-testid=stSkeleton]')")


def settled_faults(page: Page) -> list[str]:
    """What is still wrong when everything has found its place."""
    faults: list[str] = []
    for _ in range(LOOKS):
        page.wait_for_timeout(SETTLED_MS)
        faults = layout_faults(page)
        if not faults:
            break
    return faults


@pytest.mark.parametrize(
    ("width", "scheme", "view"),
    [
        (390, "dark", "experiments?view=detail&run={run}"),
        (768, "light", "training?view=new"),
    ],
)
def test_page_is_whole_and_accessible(
    page: Page, served: Served, run_id: str, width: int, scheme: str, view: str
) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    look(page, served, view, run_id)
    assert not layout_faults(page)
    assert not access_faults(page)


@pytest.mark.long
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("view", VIEWS)
def test_every_page_is_whole_and_accessible(
    page: Page, served: Served, run_id: str, view: str, scheme: str
) -> None:
    """Opened once: a page follows its window."""
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    look(page, served, view, run_id)
    found = {}
    for size in SIZES:
        page.set_viewport_size(size)
        faults = settled_faults(page)
        if size in (SIZES[0], SIZES[-1]):
            faults += access_faults(page)
        if faults:
            found[size["width"]] = faults
    assert not found


def test_cut_texts_and_wide_pages_are_noticed(page: Page) -> None:
    page.set_content(
        "<html lang=ja><title>x</title><main style='width:400px'>"
        "<p style='width:40px;overflow:hidden;white-space:nowrap'>切られる長い文</p>"
        "<button></button><div style='width:5000px'>広い</div></main>"
    )
    assert any("切られる" in fault for fault in layout_faults(page))
    assert any("sideways" in fault for fault in layout_faults(page))
    assert any("button-name" in fault for fault in access_faults(page))


def test_settings_of_a_run_have_room_for_their_labels() -> None:
    """What is drawn in three columns has labels of at most two lines at 1024 pixels."""
    from mlx_finetuning.ui.training.setup import GROUPS
    from mlx_finetuning.utils.settings_ja import label_of

    labels = [label_of(TrainConfig, name) for names in GROUPS.values() for name in names]
    assert max(map(len, labels)) <= 44
