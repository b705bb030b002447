"""A text to hand to whoever helps: machine, versions, disk use, recent trouble. No secret, no name.

Secrets and the user's home folder are masked, wherever they stand.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mlx_finetuning import upkeep
from mlx_finetuning.doctor import Diagnosis
from mlx_finetuning.utils import redaction
from mlx_finetuning.utils.units_ja import size
from mlx_finetuning.workspace import Workspace

LOG_LINES = 20


def as_text(workspace: Workspace, report: Diagnosis) -> str:
    """The diagnosis as lines of text."""
    lines = ["## 環境", *(f"- {item.name}: {item.value} [{item.state}]" for item in report.items)]
    lines += ["", "## 使用量"]
    lines += [f"- {usage.name}: {size(usage.size)}" for usage in upkeep.disk_usage(workspace)]
    for log in sorted(workspace.logs.glob("*.log")):
        text = log.read_text(encoding="utf-8", errors="replace")
        lines += ["", f"## {log.name}（最後の{LOG_LINES}行）", *text.splitlines()[-LOG_LINES:]]
    return masked("\n".join(lines))


def masked(text: str, environment: Mapping[str, str] | None = None) -> str:
    """`text` without secrets and without the user's name."""
    text = redaction.without_secrets(text, environment)
    home = str(Path.home())
    return text.replace(home, "~") if len(home) > 1 else text
