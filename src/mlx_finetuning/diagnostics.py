"""A text to hand to whoever helps: machine, versions, disk use, recent trouble. No secret, no name.

Secrets and the user's home folder are masked, wherever they stand.
"""

from __future__ import annotations

import contextlib
import getpass
import platform
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from mlx_finetuning import upkeep
from mlx_finetuning.doctor import Diagnosis
from mlx_finetuning.language import _
from mlx_finetuning.utils import redaction
from mlx_finetuning.utils.units import size
from mlx_finetuning.workspace import Workspace

LOG_LINES = 20
SHORTEST_NAME = 3
"""A shorter name of a user would mask ordinary words."""


def as_text(workspace: Workspace, report: Diagnosis) -> str:
    """The diagnosis as lines of text."""
    lines = [
        _("## 環境"),
        *(f"- {item.name}: {item.value} [{item.state}]" for item in report.items),
    ]
    lines += ["", _("## 使用量")]
    lines += [f"- {usage.name}: {size(usage.size)}" for usage in upkeep.disk_usage(workspace)]
    for log in sorted(workspace.logs.glob("*.log")):
        text = log.read_text(encoding="utf-8", errors="replace")
        lines += [
            "",
            _("## {name}（最後の{log_lines}行）").format(name=log.name, log_lines=LOG_LINES),
            *text.splitlines()[-LOG_LINES:],
        ]
    return masked("\n".join(lines))


def masked(text: str, environment: Mapping[str, str] | None = None) -> str:
    """`text` without secrets and without the user's name."""
    text = redaction.without_secrets(text, environment)
    home = str(Path.home())
    return text.replace(home, "~") if len(home) > 1 else text


def anonymous(text: str, workspace: Workspace) -> str:
    """`masked`, and without this machine's folders and the names of user and machine."""
    places = {
        str(workspace.root): _("作業フォルダ", "place"),
        str(Path(sys.executable).parent): _("Pythonのフォルダ", "place"),
        sys.prefix: _("Pythonのフォルダ", "place"),
        tempfile.gettempdir(): _("一時フォルダ", "place"),
    }
    for place in sorted(places, key=len, reverse=True):
        if len(place) > 1:
            text = text.replace(place, places[place])
    text = masked(text)
    names = {platform.node(), platform.node().partition(".")[0]}
    with contextlib.suppress(OSError, KeyError):  # a number without an entry, as in containers
        names.add(getpass.getuser())
    for name in sorted(names, key=len, reverse=True):
        if len(name) >= SHORTEST_NAME:
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", redaction.MASK, text)
    return text
