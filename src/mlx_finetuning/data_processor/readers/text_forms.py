"""What the lines of a text file have in common that prose has not: a sign that divides all of them, or the
same beginning. Says so much; what they are is for a person to say."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from mlx_finetuning.language import _

_FEWEST = 6
"""Lines from which on likeness is no chance."""
_MOST = 0.9
_SIGNS = (
    *("|", "│", "\t", "→", "⇒", "->", "=>", "::", "=", "~", "^", "§", "¦", ";", "/", "・・・"),
    *(" - ", " – ", "…", ":", "：", "　", ","),
)
_TIMES = re.compile(r"\d\d:\d\d[:,.\d]* --> ")
_HEADS = re.compile(r"(From|To|Subject|Date|差出人|宛先|件名|日時|送信日時): ?\S", re.IGNORECASE)
_BEGINNING = 6
"""Characters that lines of a dump share (INSERT INTO, <item>)."""


def form_of(lines: Sequence[str]) -> str:
    """What nearly all lines have, for people; nothing for prose."""
    written = [line.strip() for line in lines if line.strip()]
    if len(written) < _FEWEST:
        return ""
    if sum(_TIMES.match(line) is not None for line in written) >= 0.2 * len(written):
        return _("字幕の時刻（-->）がある")
    heads = {found[1].casefold() for line in written if (found := _HEADS.match(line))}
    if len(heads) >= 3 and heads & {"subject", "件名"}:
        return _("メールの見出し（{names}）がある").format(names=_("、").join(sorted(heads)))
    for sign in _SIGNS:
        count, often = Counter(line.count(sign) for line in written).most_common(1)[0]
        if count and often >= _MOST * len(written):
            named = {"\t": _("タブ"), "　": _("全角の空白")}
            shown = named.get(sign, _("「{text}」").format(text=sign))
            return _("どの行にも{sign}が{count}つ").format(sign=shown, count=count)
    beginning, often = Counter(line[:_BEGINNING] for line in written).most_common(1)[0]
    if len(beginning) == _BEGINNING and often >= _MOST * len(written):
        return _("どの行も「{text}」で始まる").format(text=beginning)
    return ""
