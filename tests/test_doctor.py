"""The doctor's findings, with real servers, real processes and a real matrix product."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from ctypes.util import find_library
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mlx_finetuning import doctor
from mlx_finetuning.ollama_integration import health
from mlx_finetuning.utils import blas, mac, memory_monitor, native_kernels
from mlx_finetuning.workspace import Workspace

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
HAS_OPENBLAS = pytest.mark.skipif(
    sys.platform != "linux" or find_library("openblas") is None,
    reason="Linux with OpenBLAS, which setup.sh installs where it may",
)


class Service:
    """An HTTP server on loopback with one answer to everything."""

    def __init__(self) -> None:
        self.status = 200
        self.body = b""
        self.paths: list[str] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                service.paths.append(self.path)
                self.send_response(service.status)
                self.send_header("Content-Length", str(len(service.body)))
                self.end_headers()
                self.wfile.write(service.body)

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    running = Service()
    monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{running.server.server_port}")
    yield running
    running.server.shutdown()
    running.server.server_close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> doctor.Diagnosis:
    return doctor.diagnose(Workspace(tmp_path_factory.mktemp("doctor") / "not-yet-there"))


def test_this_machine_can_train(report: doctor.Diagnosis) -> None:
    assert report.can_train
    assert {item.state for item in report.items} <= {"ok", "warn", "missing"}
    assert len({item.key for item in report.items}) == len(report.items)


def test_everything_that_is_not_well_says_what_to_do(report: doctor.Diagnosis) -> None:
    for item in report.items:
        assert item.value
        assert (item.state == "ok") == (not item.advice), item


def test_diagnosis_leaves_no_files_and_loads_no_library(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from mlx_finetuning import doctor; from mlx_finetuning.workspace import Workspace\n"
        "doctor.diagnose(Workspace(Path(sys.argv[1])))\n"
        "sys.exit(', '.join({'mlx', 'numpy', 'xllamacpp'} & set(sys.modules)) or None)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "w")],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


# --- BLAS --------------------------------------------------------------------------------


@HAS_OPENBLAS
def test_measured_speed_agrees_with_numpy_on_the_order_of_magnitude() -> None:
    import time

    import numpy as np

    matrix = np.random.default_rng(0).normal(size=(1024, 1024)).astype(np.float32)

    def ratio() -> float:
        found = blas.measure()
        assert found is not None
        assert found.blas.state == "loaded"
        best = min(_timed(lambda: matrix @ matrix, time.perf_counter) for _ in range(10))
        return found.gflops / (2 * 1024**3 / best / 1e9)

    # On a busy machine one of the two may never have had a processor to itself.
    assert any(0.2 < ratio() < 5 for _ in range(5))


def _timed(action: object, clock: object) -> float:
    start = clock()  # type: ignore[operator]
    action()  # type: ignore[operator]
    return float(clock() - start)  # type: ignore[operator]


def _core_of_preloaded(changed: str = "", **environment: str) -> str:
    program = (
        "import ctypes, os\n"
        "from mlx_finetuning.utils import blas\n"
        f"{changed}\n"
        "before = dict(os.environ)\n"
        "assert blas.preload().state == 'loaded', blas.preload()\n"
        "assert dict(os.environ) == before\n"
        "name = ctypes.CDLL(None).openblas_get_corename\n"
        "name.restype = ctypes.c_char_p\n"
        "print(name().decode())"
    )
    kept = {key: value for key, value in os.environ.items() if key != "OPENBLAS_CORETYPE"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        env={**kept, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@HAS_OPENBLAS
def test_openblas_uses_what_the_processor_can_do_even_if_it_does_not_know_it() -> None:
    if blas._better_kernels("Prescott", blas._flags()):  # a processor with AVX2
        assert _core_of_preloaded() not in ("Prescott", "Barcelona")
    # On a processor that it knows, too, other kernels are taken when they are asked for.
    forced = "blas._better_kernels = lambda core, flags: 'Nehalem'"
    assert _core_of_preloaded(forced) == "Nehalem"
    # Who names the kernels gets them, the slow ones too.
    assert _core_of_preloaded(forced, OPENBLAS_CORETYPE="Prescott") == "Prescott"


@pytest.mark.parametrize(
    ("core", "flags", "kernels"),
    [
        ("Prescott", "avx2 fma avx512f avx512cd avx512bw avx512dq avx512vl", "SkylakeX"),
        ("Prescott", "avx2 fma avx512f", "Haswell"),
        ("Barcelona", "sse2 avx avx2 fma", "Haswell"),
        ("Prescott", "sse2 avx", None),
        ("Zen", "avx2 fma avx512f avx512cd avx512bw avx512dq avx512vl", None),
        ("", "avx2 fma", None),
    ],
)
def test_kernels_for_processors_that_openblas_does_not_know(
    core: str, flags: str, kernels: str | None
) -> None:
    assert blas._better_kernels(core, set(flags.split())) == kernels


@ON_LINUX
def test_reference_blas_is_reported_as_slow_with_the_remedy() -> None:
    found = blas.measure(with_preload=False)
    assert found is not None
    assert found.blas.state == "off"
    slow = doctor.check_blas(blas.Measurement("cpu", 6.0, blas.BlasInfo("absent")))
    assert slow.state == "warn"
    assert "libopenblas0-pthread" in slow.advice
    assert "6 GFLOP/s" in slow.value


@ON_LINUX
@pytest.mark.parametrize(
    ("value", "before", "state"),
    [("off", "", "off"), ("/nowhere.so", "", "unusable"), ("", "import mlx.core\n", "too_late")],
)
def test_preload_says_why_it_did_nothing(value: str, before: str, state: str) -> None:
    program = f"{before}from mlx_finetuning.utils import blas\nprint(blas.preload().state)"
    environment = {**os.environ, blas.OVERRIDE: value}
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, env=environment
    )
    assert done.stdout.strip() == state


@ON_LINUX
def test_library_without_the_symbols_is_not_loaded() -> None:
    program = "from mlx_finetuning.utils import blas\nprint(blas.preload().state)"
    environment = {**os.environ, blas.OVERRIDE: "libc.so.6"}
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, env=environment
    )
    assert done.stdout.strip() == "unusable"


def test_mlx_that_cannot_run_is_missing_not_fatal() -> None:
    assert doctor.check_mlx(None).state == "missing"
    assert doctor.check_blas(None).state == "missing"


# --- Ollama ------------------------------------------------------------------------------


def test_ollama_is_recognised_by_its_version(service: Service) -> None:
    service.body = json.dumps({"version": "0.36.1"}).encode()
    item = doctor.check_ollama()
    assert (item.state, service.paths) == ("ok", ["/api/version"])
    assert item.value.startswith("0.36.1")


@pytest.mark.parametrize("version", ["0.34.2", "0.34.9", "0.35.0"])
def test_ollama_with_a_known_hole_is_a_warning(service: Service, version: str) -> None:
    service.body = json.dumps({"version": version}).encode()
    assert doctor.check_ollama().state == "warn"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"<html>hello</html>"),
        (200, b'{"version": 3}'),
        (200, b'{"version": "<script>"}'),
        (200, b"[]"),
        (200, b"[" * 9_000),
        (404, b'{"version": "0.36.1"}'),
        (302, b""),
    ],
)
def test_stranger_on_the_port_is_not_taken_for_ollama(
    service: Service, status: int, body: bytes
) -> None:
    service.status, service.body = status, body
    item = doctor.check_ollama()
    assert item.state == "warn"
    assert "Ollamaではない" in item.value


def test_silent_listener_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{listener.getsockname()[1]}")
        monkeypatch.setattr(health, "TIMEOUT_S", 0.2)
        assert doctor.check_ollama().state == "warn"


def test_nobody_on_the_port_means_ollama_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{reserved.getsockname()[1]}")
        assert doctor.check_ollama().state == "missing"


@pytest.mark.parametrize("value", ["ftp://x", "host:port", "http://[::1", "host:99999"])
def test_unreadable_ollama_host_is_reported(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("OLLAMA_HOST", value)
    item = doctor.check_ollama()
    assert item.state == "warn"
    assert "OLLAMA_HOST" in item.value


# --- the rest ----------------------------------------------------------------------------


def test_token_is_reported_without_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_canaryDoctor0003")
    item = doctor.check_token()
    assert item.value.startswith("設定済み")
    assert "canary" not in repr(item)
    monkeypatch.delenv("HF_TOKEN")
    assert doctor.check_token().value.startswith("未設定")


def test_disk_that_cannot_be_written_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    assert doctor.check_disk(Path("/somewhere/else")).state == "missing"


def test_missing_compiler_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert doctor.check_compiler().state == "warn"


@pytest.mark.parametrize(
    ("state", "says"),
    [("off", "MLX_FINETUNING_KERNELS"), ("no_compiler", "g++"), ("no_headers", "python3-dev"), ("failed", "失敗"), ("stale", "古い版"), ("absent", "setup.sh")],
)  # fmt: skip
def test_missing_kernels_are_a_warning_with_the_reason(
    state: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native_kernels, "state", lambda: state)
    found = doctor.check_kernels(None)
    assert (found.state, says in found.advice) == ("warn", True)
    monkeypatch.setattr(native_kernels, "state", lambda: "built")
    assert doctor.check_kernels(None).state == "ok"


def test_memory_is_within_the_machine() -> None:
    import psutil

    memory = memory_monitor.read_memory()
    assert 0 < memory.available <= memory.total <= psutil.virtual_memory().total


def test_container_limit_replaces_the_machines_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    limit, used = tmp_path / "max", tmp_path / "current"
    limit.write_text("2000000000\n", encoding="ascii")
    used.write_text("1500000000\n", encoding="ascii")
    monkeypatch.setattr(memory_monitor, "_LIMITS", ((limit, used),))
    assert memory_monitor.read_memory() == memory_monitor.Memory(2_000_000_000, 500_000_000)
    limit.write_text("max\n", encoding="ascii")
    assert memory_monitor.read_memory().total > 2_000_000_000


# --- what hurts a Mac, by what its tools are known to say ---------------------------------

SYSCTL, PMSET = "/usr/sbin/sysctl -n ", "/usr/bin/pmset -g"
CALM = {
    PMSET: "System-wide power settings:\n lowpowermode         0\n sleep                1\n",
    f"{PMSET} batt": "Now drawing from 'AC Power'\n",
    f"{SYSCTL}kern.memorystatus_vm_pressure_level": "1\n",
    f"{SYSCTL}iogpu.wired_limit_mb": "0\n",
    "/usr/bin/mdutil -s /work": "/System/Volumes/Data:\n\tIndexing disabled.\n",
}
HARDSHIPS = {
    "low power": (PMSET, " lowpowermode         1\n", "power", "低電力モード"),
    "battery": (f"{PMSET} batt", "Now drawing from 'Battery Power'\n", "power", "バッテリー"),
    "swapping": (f"{SYSCTL}kern.memorystatus_vm_pressure_level", "4\n", "memory_pressure", "ほと"),
    "no room": (f"{SYSCTL}iogpu.wired_limit_mb", "999999999\n", "gpu_memory", "変更済み"),
}


def on_mac(
    monkeypatch: pytest.MonkeyPatch, said: dict[str, str]
) -> dict[str, doctor.DiagnosisItem]:
    monkeypatch.setattr(mac, "output_of", lambda *command: said.get(" ".join(command), ""))
    monkeypatch.setattr(mac, "CAFFEINATE", Path(sys.executable))
    return {item.key: item for item in (check() for check in doctor.mac_checks(Path("/work")))}


def test_calm_mac_is_told_of_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    items = on_mac(monkeypatch, CALM)
    assert {item.state for item in items.values()} == {"ok"}
    assert len(items) == 6
    assert "索引に入りません" in items["spotlight"].value


@pytest.mark.parametrize("hardship", HARDSHIPS)
def test_what_hurts_a_mac_is_said_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, hardship: str
) -> None:
    command, text, key, told = HARDSHIPS[hardship]
    items = on_mac(monkeypatch, {**CALM, command: text})
    assert [item.key for item in items.values() if item.state != "ok"] == [key]
    assert told in items[key].value and items[key].advice


def test_tools_that_say_nothing_are_no_hardship(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {item.state for item in on_mac(monkeypatch, {}).values()} == {"ok"}


def test_watchdog_and_sleep_are_seen_to_by_the_worker(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    [variable] = mac.RELAXED_WATCHDOG
    assert variable not in mac.worker_environment({"A": "b"})
    monkeypatch.setattr(sys, "platform", "darwin")
    assert mac.worker_environment({"A": "b"}) == {"A": "b", variable: "1"}
    assert mac.worker_environment({variable: "0"}) == {variable: "0"}
    monkeypatch.setenv(variable, "0")
    assert on_mac(monkeypatch, CALM)["gpu_watchdog"].state == "warn"
    called = tmp_path / "called"
    tool = tmp_path / "caffeinate"
    tool.write_text(f'#!/bin/sh\necho "$@" > "{called}"\n', encoding="utf-8")
    tool.chmod(0o755)
    monkeypatch.setattr(mac, "CAFFEINATE", tool)
    mac.stay_awake()
    for _ in range(200):
        if called.exists() and called.read_text("utf-8"):
            break
        time.sleep(0.05)
    assert called.read_text("utf-8").split() == ["-i", "-w", str(os.getpid())]
