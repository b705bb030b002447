"""A text to hand to whoever helps: machine, versions, disk use, recent trouble. No secret, no name.

Values of environment variables that look secret, tokens by their form, and the user's home folder
are masked, wherever they stand.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from mlx_finetuning import upkeep
from mlx_finetuning.doctor import Report
from mlx_finetuning.utils.units_ja import size
from mlx_finetuning.workspace import Workspace

MASK = "***"
LOG_LINES = 20
_SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|_KEY$|^KEY$|APIKEY")
_TOKEN = re.compile(r"\b(?:hf|ghp|gho|github_pat|sk|xox[abp])[_-][A-Za-z0-9_-]{8,}")
_LEAST_SECRET = 6
"""Shorter values would mask ordinary words."""


def as_text(workspace: Workspace, report: Report) -> str:
    """The diagnosis as lines of text."""
    lines = ["## 環境", *(f"- {item.name}: {item.value} [{item.state}]" for item in report.items)]
    lines += ["", "## 使用量"]
    lines += [f"- {usage.name}: {size(usage.size)}" for usage in upkeep.disk_usage(workspace)]
    for log in sorted(workspace.logs.glob("*.log")):
        lines += ["", f"## {log.name}（最後の{LOG_LINES}行）", *_tail(log)]
    return masked("\n".join(lines))


def masked(text: str, environment: Mapping[str, str] | None = None) -> str:
    """`text` without secrets and without the user's name."""
    for secret in sorted(_secrets(os.environ if environment is None else environment), key=len)[
        ::-1
    ]:
        text = text.replace(secret, MASK)
    text = _TOKEN.sub(MASK, text)
    home = str(Path.home())
    return text.replace(home, "~") if len(home) > 1 else text


def _secrets(environment: Mapping[str, str]) -> Iterable[str]:
    for name, value in environment.items():
        if _SECRET_NAME.search(name.upper()) and len(value) >= _LEAST_SECRET:
            yield value


def _tail(log: Path) -> list[str]:
    return log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
