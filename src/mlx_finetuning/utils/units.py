"""Figures as people read them: durations, bytes, shares, times of day."""

from __future__ import annotations

from datetime import datetime

from mlx_finetuning.language import _


def duration(seconds: float) -> str:
    """`1時間05分`, `2分07秒`, `8秒`."""
    whole = round(seconds)
    if whole >= 3600:
        return _("{hours}時間{minutes:02}分").format(
            hours=whole // 3600, minutes=whole % 3600 // 60
        )
    if whole >= 60:
        return _("{minutes}分{seconds:02}秒").format(minutes=whole // 60, seconds=whole % 60)
    return _("{seconds}秒").format(seconds=whole)


def size(count: float) -> str:
    """Bytes for people, in powers of 1000: `9.3 MB`."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def percent(share: float) -> str:
    """`97.8%`."""
    return f"{share * 100:.1f}%"


def local_time(stamp: str) -> str:
    """`2026/11/23 19:31` on this machine's clock, from ISO 8601; empty if it is none."""
    try:
        return datetime.fromisoformat(stamp).astimezone().strftime(_("%Y/%m/%d %H:%M"))
    except ValueError:
        return ""
