"""What is known to hurt a Mac that trains: read from the system's own tools, and kept away where a
process can do that for itself. On other systems there is nothing to read and nothing is done.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

RELAXED_WATCHDOG = {"AGX_RELAX_CDM_CTXSTORE_TIMEOUT": "1"}
"""For Metal of macOS 26: else its watchdog ends long computations while a display is attached."""
CAFFEINATE = Path("/usr/bin/caffeinate")
PRESSURES = {"1": "normal", "2": "warn", "4": "critical"}
LIMIT_S = 5.0


def worker_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process that computes; what is set in it already stays."""
    own = RELAXED_WATCHDOG if sys.platform == "darwin" else {}
    return {**own, **environment}


def stay_awake() -> None:
    """Let the Mac not go to sleep by itself as long as this process lives; its display may."""
    if sys.platform != "darwin":
        return
    with contextlib.suppress(OSError):
        command = [str(CAFFEINATE), "-i", "-w", str(os.getpid())]
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def in_low_power_mode() -> bool:
    """Whether the processor is held back to save energy."""
    lines = map(str.split, output_of("/usr/bin/pmset", "-g").splitlines())
    return ["lowpowermode", "1"] in lines


def on_battery() -> bool:
    """Whether no charger is connected."""
    return "'Battery Power'" in output_of("/usr/bin/pmset", "-g", "batt")


def memory_pressure() -> str:
    """`normal`, `warn` or `critical`, as the system's own memory monitor has it; empty if unknown."""
    level = output_of("/usr/sbin/sysctl", "-n", "kern.memorystatus_vm_pressure_level").strip()
    return PRESSURES.get(level, "")


def wired_limit_mb() -> int:
    """How much memory the GPU may hold, if somebody has set that; 0 for the system's own choice."""
    text = output_of("/usr/sbin/sysctl", "-n", "iogpu.wired_limit_mb").strip()
    return int(text) if text.isdecimal() else 0


def is_indexed(folder: Path) -> bool:
    """Whether Spotlight reads what is written into a folder."""
    return "Indexing enabled" in output_of("/usr/bin/mdutil", "-s", str(folder))


def output_of(*command: str) -> str:
    """What a tool of the system says; empty where it is absent or fails."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=True)
        return done.stdout
    return ""
