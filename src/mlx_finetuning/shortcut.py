"""A double-click start of the web interface, for one workspace.

On macOS a `.command` file on the desktop, on Linux an entry with an icon in the menu of
applications (freedesktop.org's Desktop Entry Specification 1.4). Both run `serve --open`.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from mlx_finetuning import files
from mlx_finetuning.errors import ShortcutUnwritable
from mlx_finetuning.workspace import Workspace

NAME = "mlx-finetuning"
COMMENT_JA = "自分のデータで言語モデルを学習する画面を、ブラウザーで開きます"
"""Beside its English: the file holds both, for whoever reads it."""
_ICON = Path(__file__).parent / "ui" / "icon.svg"
# What means something between double quotes, and by that must stand behind a backslash.
_SPECIAL = str.maketrans({character: f"\\{character}" for character in '"`$\\'})


def install(workspace: Workspace, system: str = sys.platform) -> Path:
    """Write the shortcut to `workspace`, over an earlier one; where it is. Raises ShortcutUnwritable,
    DiskFull."""
    # Beside this interpreter: its environment need not be active where files are double-clicked.
    program = str(Path(sys.executable).with_name(NAME))
    words = [program, "serve", "--open", "--workspace", str(workspace.root.resolve())]
    start, *others = paths(system)
    try:
        if system == "darwin":
            files.write_text(start, f"#!/bin/sh\nexec {shlex.join(words)}\n")
            start.chmod(0o755)
        else:
            [icon] = others
            files.write_text(icon, _ICON.read_text(encoding="utf-8"))
            files.write_text(start, desktop_entry(words, icon))
    except OSError as error:
        raise ShortcutUnwritable(path=str(start), reason=error.strerror or str(error)) from error
    return start


def remove(system: str = sys.platform) -> list[Path]:
    """Remove what `install` wrote, whichever workspace it opens; what was there. Raises
    ShortcutUnwritable."""
    there = [path for path in paths(system) if path.exists()]
    for path in there:
        try:
            path.unlink()
        except OSError as error:
            raise ShortcutUnwritable(path=str(path), reason=error.strerror or str(error)) from error
    return there


def paths(system: str = sys.platform) -> list[Path]:
    """The files of a shortcut on `system`: the one that starts, and on Linux its icon."""
    if system == "darwin":
        return [Path.home() / "Desktop" / f"{NAME}.command"]
    # Relative values are to be ignored (XDG Base Directory Specification).
    named = Path(os.environ.get("XDG_DATA_HOME", ""))
    data = named if named.is_absolute() else Path.home() / ".local" / "share"
    icons = data / "icons" / "hicolor" / "scalable" / "apps"
    return [data / "applications" / f"{NAME}.desktop", icons / f"{NAME}.svg"]


def desktop_entry(words: Sequence[str], icon: Path) -> str:
    """The entry that runs the command `words`."""
    # GLib looks for the program before it takes %% for %, and knows no entry without its program.
    words = ["/usr/bin/env", *words]
    # A single % would begin a field code.
    quoted = " ".join(f'"{word.translate(_SPECIAL)}"' for word in words).replace("%", "%%")
    lines = [
        "[Desktop Entry]",
        "Type=Application",
        "Version=1.4",
        f"Name={NAME}",
        f"Comment[ja]={COMMENT_JA}",
        "Comment=Teach a language model your own data",
        f"Exec={_as_value(quoted)}",
        f"Icon={_as_value(str(icon))}",
        "Terminal=false",
        "Categories=Utility;",
    ]
    return "\n".join([*lines, ""])


def _as_value(text: str) -> str:
    """Any value of the file is read with escapes, before `Exec` takes its quotes off."""
    return text.replace("\\", "\\\\").replace("\n", "\\n")
