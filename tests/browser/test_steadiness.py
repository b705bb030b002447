"""A page that is drawn anew every two seconds, looked at in each frame: nothing goes and comes back, nothing
moves, nothing fades."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from playwright.sync_api import Page

from mlx_finetuning.cli import server_process
from mlx_finetuning.config import TrainConfig
from mlx_finetuning.studio import Studio
from support import ui_workspaces
from support.browser_actions import DRAWN, open_page
from support.served import Served
from support.sweeps import sweep

WATCHED_S = 9
"""Four drawings."""
SLOW_MS = 240_000
TRIES = 20
FADED_MS = 2000
"""Streamlit lets fade after half a second, and takes one for it."""
WATCH = """seconds => new Promise(done => {
  const seen = {frames: 0, shifts: 0, faded: 0, changes: [], heights: []};
  const shown = one => one.checkVisibility({opacityProperty: true, visibilityProperty: true});
  new PerformanceObserver(list => list.getEntries().forEach(one => { seen.shifts += one.value; }))
    .observe({type: 'layout-shift'});
  const began = performance.now();
  let before = null;
  const look = now => {
    const parts = {};
    for (const one of document.querySelectorAll('[data-testid=stMain] [data-testid]')) {
      if (shown(one)) parts[one.dataset.testid] = (parts[one.dataset.testid] ?? 0) + 1;
      if (parseFloat(getComputedStyle(one).opacity) < (one.dataset.stale === 'true' ? 0.95 : 0)) seen.faded += 1;
    }
    parts.lines = document.querySelectorAll('[data-testid=stVegaLiteChart] .mark-line path').length;
    for (const name of new Set([...Object.keys(before ?? parts), ...Object.keys(parts)])) {
      const [was, is] = [(before ?? parts)[name] ?? 0, parts[name] ?? 0];
      if (was !== is) seen.changes.push(`${Math.round(now - began)} ms: ${name} ${was} -> ${is}`);
    }
    const height = document.querySelector('[data-testid=stMain]').scrollHeight;
    if (seen.heights.at(-1) !== height) seen.heights.push(height);
    seen.frames += 1;
    before = parts;
    if (now - began < 1000 * seconds) requestAnimationFrame(look); else done(seen);
  };
  requestAnimationFrame(look);
})"""


DRAWS_ANEW = """() => document.querySelector('[data-test-script-state="running"]')
  && document.querySelectorAll('[data-stale="true"]').length > 0"""
OPACITIES = """() => [...document.querySelectorAll('[data-stale="true"]')]
  .map(one => parseFloat(getComputedStyle(one).opacity))"""


@pytest.fixture
def watched(page: Page, served: Served) -> Page:
    """The page of a run that goes on."""
    ui_workspaces.add_dataset(served.workspace)
    settings = TrainConfig(
        dataset="faq", engine="simulation", iterations=20_000, warmup=0, sample_every=0
    )
    run_id = Studio(served.workspace).training.start(settings)
    open_page(page, f"{served.url}/training?run={run_id}")
    page.get_by_test_id("stVegaLiteChart").wait_for(timeout=SLOW_MS)
    return page


@pytest.mark.parametrize("width", sweep((1440, 390), (1440,)))
def test_running_training_is_drawn_anew_without_flicker(watched: Page, width: int) -> None:
    page = watched
    page.set_viewport_size({"width": width, "height": 900})
    # What it tells of its start comes one after the other.
    page.wait_for_timeout(6000)
    loss = page.get_by_test_id("stMetric").first
    before = loss.inner_text()
    page.locator(DRAWN).wait_for()
    seen: dict[str, Any] = page.evaluate(WATCH, WATCHED_S)
    assert loss.inner_text() != before  # it was drawn anew
    assert seen["changes"] == []
    assert seen["faded"] == 0
    assert seen["shifts"] < 0.01 and len(seen["heights"]) == 1, seen


def test_page_that_takes_long_to_draw_stays_readable(watched: Page, served: Served) -> None:
    """As on a machine that trains: the server is held up in the midst of drawing."""
    server = server_process.running(served.workspace)
    assert server is not None
    opacities: list[float] = []
    for _ in range(TRIES):  # what was sent before may end the drawing after all
        watched.wait_for_function(DRAWS_ANEW, timeout=SLOW_MS)
        os.kill(server.pid, signal.SIGSTOP)
        try:
            watched.wait_for_timeout(FADED_MS)
            opacities = watched.evaluate(OPACITIES)
        finally:
            os.kill(server.pid, signal.SIGCONT)
        if opacities:
            break
    assert opacities and set(opacities) == {1}
