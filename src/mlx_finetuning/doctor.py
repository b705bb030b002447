"""Looks at the machine and says what is there, what is missing and what to do.

Every check is one small function that returns an `DiagnosisItem`; native libraries are tried in processes
of their own. Talks to no host but Ollama's. Repairs nothing, and never shows a token.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mlx_finetuning import __version__, ollama_integration
from mlx_finetuning.errors import (
    OllamaHostInvalid,
    OllamaNotInstalled,
    OllamaNotRunning,
    StudioError,
)
from mlx_finetuning.language import N_, _, n_
from mlx_finetuning.messages import describe
from mlx_finetuning.utils import blas, mac, memory_monitor, native_kernels, nvidia
from mlx_finetuning.workspace import Workspace

State = Literal["ok", "warn", "missing"]
GB = 1e9
_LEAST_AVAILABLE_GB = 2.0
_LEAST_DISK_GB = 5.0
_SLOW_GFLOPS = 20.0
"""The reference BLAS stays below this on every machine of the last ten years."""
_BLAS_ADVICE_JA = {
    "off": N_("環境変数 {variable} の off を外すと、OpenBLASを使います。"),
    "unusable": N_("環境変数 {variable} の {library} を読み込めません。場所を確認してください。"),
    "loaded": N_(
        "CPUの割り当てが少ないか、ほかの処理が動いています。空いているときに測り直してください。"
    ),
}
_INSTALL_BLAS_JA = N_(
    "OpenBLASを入れると10倍以上速くなります。"
    "Debian・Ubuntu: sudo apt-get install libopenblas0-pthread / "
    "Fedora: sudo dnf install openblas-threads / Arch: sudo pacman -S openblas"
)
# A checkout has a script that repairs; what came as a wheel is installed again.
_IS_CHECKOUT = (Path(__file__).parents[2] / "setup.sh").exists()
_REPAIR_JA = (
    N_("./setup.sh を実行してください。")
    if _IS_CHECKOUT
    else N_(
        "mlx-finetuning を入れ直してください（uv tool install には --force、pip install には --force-reinstall を付けて）。"
    )
)
_PACKAGES = ("mlx", "mlx-lm", "transformers", "huggingface-hub", "gguf", "xllamacpp", "streamlit")


@dataclass(frozen=True)
class DiagnosisItem:
    """One finding. `key` is stable; the other texts are for people."""

    key: str
    name: str
    state: State
    value: str
    advice: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """All findings, in the order of the checks."""

    items: tuple[DiagnosisItem, ...]

    @property
    def can_train(self) -> bool:
        """Whether nothing is missing that training needs."""
        return all(item.state != "missing" for item in self.items if item.key in _REQUIRED)

    def item(self, key: str) -> DiagnosisItem:
        """The finding with this key."""
        return next(item for item in self.items if item.key == key)


def diagnose(workspace: Workspace) -> Diagnosis:
    """Check everything once; takes about two seconds."""
    measured = blas.measure()
    checks: list[Callable[[], DiagnosisItem]] = [
        check_machine,
        check_system,
        check_memory,
        lambda: check_disk(workspace.root),
        check_python,
        check_packages,
        lambda: check_mlx(measured),
        lambda: check_blas(measured),
        *(
            [lambda: check_cards(measured), check_compiler, lambda: check_kernels(measured)]
            if sys.platform == "linux"
            else []
        ),
        *(mac_checks(workspace.root) if sys.platform == "darwin" else []),
        check_llama_cpp,
        check_ollama,
        check_token,
    ]
    return Diagnosis(tuple(check() for check in checks))


_REQUIRED = frozenset({"system", "python", "disk", "packages", "mlx"})


# --- the machine -------------------------------------------------------------------------


def check_machine() -> DiagnosisItem:
    """The processor, and whether MLX runs on it."""
    cores = os.cpu_count() or 1
    value = n_("{processor}（{machine}、{cores}コア）", cores).format(
        processor=_processor(), machine=platform.machine(), cores=cores
    )
    if sys.platform == "darwin" and platform.machine() != "arm64":
        advice = _(
            "Apple SiliconのMacと、arm64版のPythonを使ってください（Rosettaでは動きません）。"
        )
        return DiagnosisItem("machine", _("機種"), "warn", value, advice)
    return DiagnosisItem("machine", _("機種"), "ok", value)


def _processor() -> str:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        if sys.platform == "darwin":
            command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
            return done.stdout.strip()
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        match = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
        if match:
            return match[1].strip()
    return platform.processor() or _("不明なCPU")


def check_system() -> DiagnosisItem:
    """The operating system against the oldest that MLX supports."""
    if sys.platform == "darwin":
        version = platform.mac_ver()[0]
        if int(version.split(".")[0]) < 14:
            return DiagnosisItem(
                "system", "OS", "missing", f"macOS {version}", _("macOS 14以降に更新してください。")
            )
        return DiagnosisItem("system", "OS", "ok", f"macOS {version}")
    if sys.platform == "linux":
        value = f"Linux {platform.release()}"
        with contextlib.suppress(OSError):
            value = _("{name}（{kernel}）").format(
                name=platform.freedesktop_os_release()["PRETTY_NAME"], kernel=value
            )
        return DiagnosisItem("system", "OS", "ok", value)
    return DiagnosisItem(
        "system", "OS", "missing", sys.platform, _("macOSかLinux（WSL 2を含む）が必要です。")
    )


def check_memory() -> DiagnosisItem:
    """What is free now."""
    memory = memory_monitor.read_memory()
    available = memory.available / GB
    value = _("{total:.1f} GB（空き {available:.1f} GB）").format(
        total=memory.total / GB, available=available
    )
    if available < _LEAST_AVAILABLE_GB:
        return DiagnosisItem(
            "memory",
            _("メモリー"),
            "warn",
            value,
            _("ほかのアプリを終了して空きを増やしてください。"),
        )
    return DiagnosisItem("memory", _("メモリー"), "ok", value)


def check_disk(folder: Path) -> DiagnosisItem:
    """Free space where the workspace is, or will be."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free / GB
    value = _("空き {free:.1f} GB（{folder}）").format(free=free, folder=folder)
    if not os.access(existing, os.W_OK):
        advice = _("--workspace か MLX_FINETUNING_HOME で、書き込めるフォルダを指定してください。")
        return DiagnosisItem(
            "disk",
            _("ディスク"),
            "missing",
            _("書き込めません（{folder}）").format(folder=folder),
            advice,
        )
    if free < _LEAST_DISK_GB:
        advice = _("不要なファイルを消すか、--workspace で空きのあるディスクを指定してください。")
        return DiagnosisItem("disk", _("ディスク"), "warn", value, advice)
    return DiagnosisItem("disk", _("ディスク"), "ok", value)


# --- what hurts a Mac --------------------------------------------------------------------


def mac_checks(folder: Path) -> list[Callable[[], DiagnosisItem]]:
    """Those of a Mac, for a workspace in `folder`."""
    return [
        check_power,
        check_pressure,
        check_gpu_memory,
        check_watchdog,
        check_sleep,
        lambda: check_spotlight(folder),
    ]


def check_power() -> DiagnosisItem:
    """Low-power mode halves the speed, and a battery does not last for a training."""
    key, name = "power", _("電源")
    if mac.in_low_power_mode():
        advice = _(
            "学習が半分ほどの速さになります。システム設定の「バッテリー」で、低電力モードを切ってください。"
        )
        return DiagnosisItem(key, name, "warn", _("低電力モード"), advice)
    if mac.on_battery():
        advice = _("長い学習では、電源アダプタをつないでください。")
        return DiagnosisItem(key, name, "warn", _("バッテリー"), advice)
    return DiagnosisItem(key, name, "ok", _("電源アダプタ"))


def check_pressure() -> DiagnosisItem:
    """Whether the system has begun to compress and swap."""
    key, name, pressure = "memory_pressure", _("メモリーの余裕"), mac.memory_pressure()
    if pressure in ("warn", "critical"):
        value = _("ほとんどありません") if pressure == "critical" else _("少なくなっています")
        advice = _("ほかのアプリを終了してください。足りないまま学習すると、何倍も遅くなります。")
        return DiagnosisItem(key, name, "warn", value, advice)
    return DiagnosisItem(key, name, "ok", _("あります") if pressure else _("分かりません"))


def check_gpu_memory() -> DiagnosisItem:
    """A limit that was set by hand, against what is to be left to the rest of the machine."""
    key, name, limit_mb = "gpu_memory", _("GPUのメモリーの上限"), mac.wired_limit_mb()
    total_mb = memory_monitor.read_memory().total / 1e6
    if not limit_mb:
        value = _("macOSの既定（メモリーの3分の2から4分の3）")
        return DiagnosisItem(key, name, "ok", value)
    value = _("{limit_mb:.0f} GB（変更済み）").format(limit_mb=limit_mb / 1000)
    if limit_mb > (1 - memory_monitor.LEFT_TO_OTHERS) * total_mb:
        advice = _(
            "Mac全体が止まることがあります。sudo sysctl iogpu.wired_limit_mb=0 で、既定に戻せます。"
        )
        return DiagnosisItem(key, name, "warn", value, advice)
    return DiagnosisItem(key, name, "ok", value)


def check_watchdog() -> DiagnosisItem:
    """Whether long computations of the GPU are let through."""
    [(variable, relaxed)] = mac.RELAXED_WATCHDOG.items()
    key, name, value = "gpu_watchdog", _("GPUの時間切れ"), os.environ.get(variable, relaxed)
    if value == relaxed:
        return DiagnosisItem(
            key,
            name,
            "ok",
            _("学習するときに延ばします（{variable}={relaxed}）").format(
                variable=variable, relaxed=relaxed
            ),
        )
    advice = _(
        "GPUの計算が途中で止められることがあります。環境変数 {variable} を消してください。"
    ).format(variable=variable)
    return DiagnosisItem(key, name, "warn", f"{variable}={value}", advice)


def check_sleep() -> DiagnosisItem:
    """Whether the machine stays awake while it computes."""
    key, name = "sleep", _("スリープ")
    if mac.CAFFEINATE.exists():
        return DiagnosisItem(key, name, "ok", _("作業中は防ぎます（ふたを閉じると止まります）"))
    advice = _("長い学習の間は、システム設定で自動のスリープを切ってください。")
    return DiagnosisItem(key, name, "warn", _("防げません（caffeinate がない）"), advice)


def check_spotlight(folder: Path) -> DiagnosisItem:
    """Whether every file that is written gets read once more."""
    key, name = "spotlight", "Spotlight"
    if not mac.is_indexed(folder):
        return DiagnosisItem(key, name, "ok", _("作業フォルダは、索引に入りません"))
    value = _(
        "作業フォルダも索引に入ります（遅いときは、システム設定の「Spotlight」の検索のプライバシーで外せます）"
    )
    return DiagnosisItem(key, name, "ok", value)


# --- the software ------------------------------------------------------------------------


def check_python() -> DiagnosisItem:
    """The interpreter against the supported versions."""
    value = _("{version}（{place}）").format(
        version=platform.python_version(), place=sys.executable
    )
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        return DiagnosisItem("python", "Python", "ok", value)
    return DiagnosisItem(
        "python",
        "Python",
        "missing",
        value,
        _("Python 3.11〜3.13で、{repair}").format(repair=_(_REPAIR_JA)),
    )


def check_packages() -> DiagnosisItem:
    """Installed versions against this project's pins."""
    installed = {name: _version(name) for name in _PACKAGES}
    pins = {}
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for line in importlib.metadata.requires("mlx-finetuning") or []:
            if match := re.match(r"([\w.-]+)(?:\[\w+\])?==([\w.]+)", line):
                pins[match[1].lower()] = match[2]
    absent = [name for name, version in installed.items() if version is None]
    other = [
        _("{name} {version}（想定は {expected}）").format(
            name=name, version=version, expected=pins[name]
        )
        for name, version in installed.items()
        if version and pins.get(name, version) != version
    ]
    everything = {"mlx-finetuning": __version__, **installed}
    absence = _("なし")
    value = _("、").join(f"{name} {version or absence}" for name, version in everything.items())
    if absent:
        advice = _("{absent} がありません。{repair}").format(
            absent=_("、").join(absent), repair=_(_REPAIR_JA)
        )
        return DiagnosisItem("packages", _("パッケージ"), "missing", value, advice)
    if other:
        advice = _("版が想定と違います: {other}。{repair}").format(
            other=_("、").join(other), repair=_(_REPAIR_JA)
        )
        return DiagnosisItem("packages", _("パッケージ"), "warn", value, advice)
    return DiagnosisItem("packages", _("パッケージ"), "ok", value)


def _version(name: str) -> str | None:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(name)
    return None


def check_mlx(measured: blas.Measurement | None) -> DiagnosisItem:
    """Whether MLX computes, and on which device."""
    if measured is None:
        advice = _(
            "{repair}続くときは python -c 'import mlx.core' の出力を確認してください。"
        ).format(repair=_(_REPAIR_JA))
        return DiagnosisItem("mlx", _("MLXの装置"), "missing", _("MLXを動かせません"), advice)
    speed = _("行列積 {gflops:,.0f} GFLOP/s").format(gflops=measured.gflops)
    if measured.device == "gpu":
        value = _("GPU: {gpu}（メモリー {gpu_bytes:.1f} GB、{speed}）").format(
            gpu=measured.gpu, gpu_bytes=measured.gpu_bytes / GB, speed=speed
        )
        return DiagnosisItem("mlx", _("MLXの装置"), "ok", value)
    return DiagnosisItem("mlx", _("MLXの装置"), "ok", _("CPU（{speed}）").format(speed=speed))


def check_cards(measured: blas.Measurement | None, library: str = nvidia.LIBRARY) -> DiagnosisItem:
    """The machine's NVIDIA cards, and whether MLX uses them."""
    found = nvidia.cards(library)
    value = _("、").join(
        _("{name}（{total:.1f} GB、空き {available:.1f} GB）").format(
            name=card.name, total=card.memory.total / GB, available=card.memory.available / GB
        )
        for card in found
    )
    if not found:
        return DiagnosisItem("cards", _("NVIDIAのGPU"), "ok", _("なし（CPUで計算します）"))
    if measured is not None and measured.device == "cpu":
        advice = _(
            "MLXはCPUで計算しています。GPUを使うには、このフォルダで "
            ".venv/bin/pip install -e '.[cuda13]' を実行してください。"
        )
        return DiagnosisItem("cards", _("NVIDIAのGPU"), "warn", value, advice)
    return DiagnosisItem("cards", _("NVIDIAのGPU"), "ok", value)


def check_blas(measured: blas.Measurement | None) -> DiagnosisItem:
    """The matrix library that MLX uses on the CPU, judged by its measured speed."""
    if measured is None:
        return DiagnosisItem("blas", _("行列計算"), "missing", _("測定できません"))
    speed = f"{measured.gflops:,.0f} GFLOP/s"
    if measured.blas.state == "not_needed" or measured.device == "gpu":
        return DiagnosisItem("blas", _("行列計算"), "ok", _("MLX内蔵、{speed}").format(speed=speed))
    if measured.blas.state == "loaded" and measured.gflops >= _SLOW_GFLOPS:
        return DiagnosisItem(
            "blas",
            _("行列計算"),
            "ok",
            _("{description}、{speed}").format(description=measured.blas.description, speed=speed),
        )
    name = measured.blas.description if measured.blas.state == "loaded" else _("MLX付属の参照BLAS")
    advice = _(_BLAS_ADVICE_JA.get(measured.blas.state, _INSTALL_BLAS_JA)).format(
        variable=blas.OVERRIDE, library=measured.blas.description
    )
    return DiagnosisItem(
        "blas",
        _("行列計算"),
        "warn",
        _("{name}、{speed}（低速）").format(name=name, speed=speed),
        advice,
    )


def check_compiler() -> DiagnosisItem:
    """MLX fuses element-wise operations on the CPU with g++ at run time."""
    path = shutil.which("g++")
    if path:
        return DiagnosisItem("compiler", _("C++コンパイラ"), "ok", path)
    advice = _(
        "なくても動きますが、入れると速くなることがあります。Debian・Ubuntu: sudo apt-get install g++"
    )
    return DiagnosisItem("compiler", _("C++コンパイラ"), "warn", _("g++ がありません"), advice)


def check_kernels(measured: blas.Measurement | None) -> DiagnosisItem:
    """Whether training on the CPU takes the C++ kernels, and else why not."""
    key, name = "kernels", _("CPU用カーネル")
    if measured is not None and measured.device == "gpu":
        return DiagnosisItem(key, name, "ok", _("GPUを使うため不要"))
    state = native_kernels.state()
    if state == "built":
        return DiagnosisItem(key, name, "ok", _("C++（このマシンでコンパイル済み）"))
    value = _("MLXの標準の演算（学習が1.5倍ほど遅くなります）")
    return DiagnosisItem(key, name, "warn", value, _kernels_advice(state))


def _kernels_advice(state: native_kernels.State) -> str:
    build = "./setup.sh" if _IS_CHECKOUT else f"{sys.executable} -m {native_kernels.__name__}"
    advice: dict[native_kernels.State, str] = {
        "off": _("環境変数 {variable} の off を外すと、C++のカーネルを使います。").format(
            variable=native_kernels.OVERRIDE
        ),
        "no_compiler": _("g++を入れてから {build} を実行してください。").format(build=build),
        "no_headers": _(
            "Pythonのヘッダー（Debian・Ubuntuでは python3-dev）を入れてから {build} を実行してください。"
        ).format(build=build),
        "failed": _(
            "コンパイルに失敗しました。理由: {complaint}（このファイルを消して {build} を実行すると、もう一度試します）"
        ).format(complaint=native_kernels.complaint_file(), build=build),
        "stale": _("古い版から作られたものは使いません。{build} を実行すると作り直します。").format(
            build=build
        ),
    }
    return advice.get(state, _("{build} を実行してください。").format(build=build))


def check_llama_cpp() -> DiagnosisItem:
    """Whether the runtime for GGUF files can be loaded."""
    version = _version("xllamacpp")
    if version is None:
        return DiagnosisItem("llama_cpp", "llama.cpp", "missing", _("なし"), _(_REPAIR_JA))
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        command = [sys.executable, "-c", "import xllamacpp"]
        subprocess.run(command, capture_output=True, timeout=60, check=True)
        return DiagnosisItem(
            "llama_cpp", "llama.cpp", "ok", _("内蔵（xllamacpp {version}）").format(version=version)
        )
    advice = _("学習はできますが、GGUFの検証と対話ができません。{repair}").format(
        repair=_(_REPAIR_JA)
    )
    return DiagnosisItem(
        "llama_cpp",
        "llama.cpp",
        "missing",
        _("xllamacpp {version} を読み込めません").format(version=version),
        advice,
    )


# --- services ----------------------------------------------------------------------------


def check_ollama() -> DiagnosisItem:
    """Who answers where Ollama should be; sends nothing but one GET."""
    try:
        status = ollama_integration.status()
    except OllamaHostInvalid as problem:
        return DiagnosisItem(
            "ollama", "Ollama", "warn", _("OLLAMA_HOST を読めません"), _advice(problem)
        )
    if isinstance(status.problem, OllamaNotRunning | OllamaNotInstalled):
        value = _("動いていません（{place}）").format(place=status.place)
        return DiagnosisItem("ollama", "Ollama", "missing", value, _advice(status.problem))
    if status.problem is not None:
        return DiagnosisItem(
            "ollama", "Ollama", "warn", describe(status.problem).what, _advice(status.problem)
        )
    value, advice = (
        _("{version}（{place}）").format(version=status.version, place=status.place),
        "\n".join(status.warnings),
    )
    return DiagnosisItem("ollama", "Ollama", "warn" if advice else "ok", value, advice)


def _advice(problem: StudioError) -> str:
    return describe(problem).next_step


def check_token() -> DiagnosisItem:
    """Whether a Hugging Face token is set; its value is not looked at."""
    is_set = bool(os.environ.get("HF_TOKEN", "").strip())
    value = (
        _("設定済み（値は表示しません）")
        if is_set
        else _("未設定（公開モデルと内蔵モデルには不要です）")
    )
    return DiagnosisItem("hf_token", "HF_TOKEN", "ok", value)
