# ruff: noqa: I001
"""The web interface in a real browser: start, page changes, live updates, memory, as a table.

python benchmarks/ui.py [--soak-s 90] [--cold] [--idle-s 20]

Beside each page's seconds stand the milliseconds of processor time that the server and the browser took
for it: on a machine with other work, these alone say something. A page that nobody touches is watched for
what both take of one core.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from playwright.sync_api import Browser, Page, WebSocket, sync_playwright

# The tests' workspaces and their way to start a server.
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support import finished_run
from support import ui_workspaces
from support.served import Served, find_chromium

from mlx_finetuning import files
from mlx_finetuning.cli import server_process
from mlx_finetuning.config import EvaluateConfig
from mlx_finetuning.studio import Studio
from mlx_finetuning.runtime.chats import Conversation
from mlx_finetuning.jobs import jobs
from mlx_finetuning.jobs.status import JobStatus
from mlx_finetuning.ui import sitemap
from mlx_finetuning.workspace import RunPaths, Workspace

RUNS, UPDATES, ROUNDS = 200, 50_000, 3
PORT = 8799
WARM_UP_S = 40.0
"""Before memory is watched: libraries are loaded and their pools filled."""
IDLE = (
    *("", "dataset", "training", "training?view=watch", "quantization", "chat", "experiments"),
    *("experiments?view=detail", "settings"),
)
DRAWN = '[data-testid="stApp"][data-test-script-state="notRunning"]'


@contextmanager
def serving(root: str) -> Iterator[Served]:
    served = Served(Workspace(Path(root)), PORT)
    try:
        yield served
    finally:
        served.stop()


def forget_files() -> None:
    """Have the kernel read files from the drive again. Linux, as root."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3", encoding="ascii")


def fill(workspace: Workspace) -> None:
    """200 runs, of which those that are done can be quantized and talked to; of the newest there
    are a file, a report and a conversation."""
    ui_workspaces.fill(workspace, RUNS - 1)
    studio = Studio(workspace)
    for run in studio.runs.list():
        if run.status.state == "done":
            weights = workspace.adapter(run.run_id).weights
            files.make_folder(weights.parent)
            weights.touch()
    newest = finished_run.make(workspace)
    studio.exports.start(newest).follow()
    studio.evaluation.start(newest, EvaluateConfig(max_rows=2)).follow()
    talk = [{"role": "user", "content": "こんにちは"}, {"role": "assistant", "content": "はい。"}]
    studio.chat.save(newest, Conversation("gguf", talks={"tuned": talk}))


def first_page(browser: Browser, served: Served) -> float:
    """Seconds from the command to a drawn home page."""
    page = browser.new_page()
    start = time.perf_counter()
    served.start()
    page.goto(served.url)
    page.get_by_role("heading", name="次にすること").wait_for()
    taken = time.perf_counter() - start
    page.close()
    return taken


@dataclasses.dataclass(frozen=True)
class Taken:
    """What a server and its browser took for something."""

    wall_s: float
    server_s: float
    """Of processor time, as the browser's."""
    browser_s: float

    @classmethod
    def of(cls, served: Served, work: Callable[[], object]) -> Taken:
        server = server_process.running(served.workspace)
        assert server is not None
        began, browser_before = (time.perf_counter(), processor_s(server.pid)), browser_processes()
        work()
        ended, browser_after = (time.perf_counter(), processor_s(server.pid)), browser_processes()
        # A process that began meanwhile is counted whole; of one that ended nothing is known.
        browser_s = sum(took - browser_before.get(pid, 0.0) for pid, took in browser_after.items())
        return cls(ended[0] - began[0], ended[1] - began[1], browser_s)


def processor_s(pid: int) -> float:
    """Of a process, without its children."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def browser_processes() -> dict[int, float]:
    """Processor time of all processes of the browser that this one started."""
    taken = {}
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if "chrom" in process.name():
                taken[process.pid] = processor_s(process.pid)
    return taken


def page_changes(page: Page, served: Served) -> Iterator[tuple[str, Taken]]:
    """From a click in the navigation to a drawn page, the median of three each."""
    for entry in sitemap.ENTRIES.values():
        rounds = [one_change(page, served, entry.title) for _ in range(ROUNDS)]
        yield entry.title, sorted(rounds, key=lambda taken: taken.wall_s)[ROUNDS // 2]


def first_paint(browser: Browser, served: Served) -> Taken:
    """A new browser's way to the drawn home page, nothing kept from before."""
    page = browser.new_context().new_page()

    def look() -> None:
        page.goto(served.url)
        page.get_by_role("heading", name="次にすること").wait_for()

    taken = Taken.of(served, look)
    page.context.close()
    return taken


def idle(browser: Browser, served: Served, seconds: float) -> Iterator[tuple[str, Taken]]:
    """Each page, drawn and then left alone for so long."""
    for view in IDLE:
        page = browser.new_page()
        page.goto(f"{served.url}/{view}")
        page.locator(DRAWN).wait_for()
        page.wait_for_timeout(3000)  # what is drawn behind the page
        yield (
            view or "home",
            Taken.of(served, lambda page=page: page.wait_for_timeout(seconds * 1000)),
        )
        page.close()


def one_change(page: Page, served: Served, title: str) -> Taken:
    links = page.get_by_test_id("stSidebarNav").get_by_role("link")
    other = "設定" if title != "設定" else "ホーム"
    links.filter(has_text=other).click()
    page.get_by_role("heading", name=other, exact=True, level=1).wait_for()
    page.locator(DRAWN).wait_for()

    def change() -> None:
        links.filter(has_text=title).click()
        page.get_by_role("heading", name=title, exact=True, level=1).wait_for()
        page.locator(DRAWN).wait_for()

    return Taken.of(served, change)


class LivingRun:
    """A run that seems to go on: its lock is held here, and `step` adds to its files."""

    def __init__(self, workspace: Workspace) -> None:
        self.paths: RunPaths = ui_workspaces.add_run(workspace, 0, UPDATES)
        self._lock = files.FileLock(self.paths.lock)
        self._lock.acquire()
        self._update = UPDATES
        self.step()

    def step(self) -> None:
        self._update += 5
        lines = [ui_workspaces.update_line(self._update - at, 0.4) for at in range(4, -1, -1)]
        with self.paths.metrics.open("a", encoding="utf-8") as stream:
            stream.writelines(f"{json.dumps(line)}\n" for line in lines)
        status = JobStatus("running", "学習", self._update, 2 * UPDATES, "損失 0.400")
        living = dataclasses.replace(status, elapsed_s=1.0, heartbeat_s=time.monotonic())
        jobs.write_status(self.paths, living)


def live(browser: Browser, served: Served, soak_s: float) -> tuple[float, float]:
    """Bytes of one live update, and the server's growth in bytes per hour."""
    run = LivingRun(served.workspace)
    received: list[int] = []
    page = browser.new_page()
    page.on("websocket", lambda socket: count(socket, received))
    page.goto(f"{served.url}/training?run={run.paths.folder.name}")
    page.get_by_test_id("stVegaLiteChart").wait_for()
    follow(page, run, WARM_UP_S)
    received.clear()
    samples = follow(page, run, soak_s)
    updates = soak_s / 2.0
    return sum(received) / updates, slope(samples) * 3600


def count(socket: WebSocket, received: list[int]) -> None:
    socket.on("framereceived", lambda payload: received.append(len(payload)))


def follow(page: Page, run: LivingRun, seconds: float) -> list[tuple[float, int]]:
    """Time and the server's memory, once a second, while the run goes on."""
    server = server_process.running(Workspace(run.paths.folder.parents[1]))
    assert server is not None
    process, samples, start = psutil.Process(server.pid), [], time.monotonic()
    while time.monotonic() - start < seconds:
        run.step()
        page.wait_for_timeout(1000)  # unlike sleep, it lets the browser's events through
        samples.append((time.monotonic() - start, process.memory_info().rss))
    return samples


def slope(samples: list[tuple[float, int]]) -> float:
    """Least squares, in bytes per second."""
    return statistics.linear_regression(*zip(*samples, strict=True)).slope


def shown(taken: Taken) -> str:
    """`0.52 s (server 80 ms, browser 310 ms)`"""
    server, browser = (f"{1000 * one:.0f} ms" for one in (taken.server_s, taken.browser_s))
    return f"{taken.wall_s:.2f} s (server {server}, browser {browser})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--soak-s", type=float, default=90.0)
    parser.add_argument("--idle-s", type=float, default=20.0)
    parser.add_argument("--cold", action="store_true", help="forget cached files before the start")
    options = parser.parse_args()
    print("| measure | figure | goal |\n|---|---|---|")
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as root:
        browser = playwright.chromium.launch(executable_path=find_chromium(whole=True))
        with serving(root) as served:
            if options.cold:
                forget_files()
            start_s = first_page(browser, served)
            print(f"| server start to drawn ホーム | {start_s:.1f} s | 4 s |")
            fill(served.workspace)
            page = browser.new_page()
            page.goto(served.url)
            page.get_by_text("調べた項目").wait_for()
            for title, taken in page_changes(page, served):
                print(f"| to {title} with {RUNS} runs | {shown(taken)} | 0.6 s |")
            page.close()
            print(
                f"| first paint in a new browser | {shown(first_paint(browser, served))} | 1.8 s |"
            )
            for view, taken in idle(browser, served, options.idle_s):
                share = (taken.server_s + taken.browser_s) / taken.wall_s
                print(f"| {view}, untouched: of a core | {share:.1%} | 2% |")
            size, growth = live(browser, served, options.soak_s)
            print(f"| live update, {UPDATES:,} updates | {size / 1e3:.1f} kB | 50 kB |")
            hour = f"{growth / 1e6:+.0f} MB (from {options.soak_s:.0f} s)"
            print(f"| memory of a live page in an hour | {hour} | 50 MB |")
        browser.close()


if __name__ == "__main__":
    main()
