"""The language of all that people read: Japanese, or English by the catalogue of `assets/locale`.

Texts stand in the code in Japanese. `_("…")` is a text in the language of this process, looked up
where it is shown; `N_("…")` marks one that is kept (a table, a default) and shown with `_` later.
MLXFT_LANG decides; without it what the user chose (`preferences.language`); else it is Japanese.
`make messages` brings the catalogue up to date (`tests/messages.py`).
"""

from __future__ import annotations

import functools
import gettext
import os
from collections.abc import Callable, Mapping
from pathlib import Path

JAPANESE, ENGLISH = "ja", "en"
LANGUAGES = {JAPANESE: "日本語", ENGLISH: "English"}
"""By code, each as it calls itself."""
VARIABLE = "MLXFT_LANG"
DOMAIN = "mlx_finetuning"
FOLDER = Path(__file__).parent / "assets" / "locale"


def decided() -> str | None:
    """What MLXFT_LANG asks for; None where it is not set, or to what is no language of ours."""
    wanted = os.environ.get(VARIABLE, "").strip().lower()
    return wanted if wanted in LANGUAGES else None


_current = decided() or JAPANESE


def language() -> str:
    """`ja` or `en`."""
    return _current


def use(chosen: str | None) -> None:
    """Speak the user's choice from now on in this whole process, unless MLXFT_LANG decides."""
    global _current  # noqa: PLW0603 - `_` is called by the thousand
    _current = decided() or (chosen if chosen in LANGUAGES else JAPANESE)


def _(text: str, context: str = "") -> str:
    """`text`, which is Japanese, in the current language; `context` is a word that tells texts apart
    which are one in Japanese and several in English."""
    if _current == JAPANESE or not text:
        return text
    words = _catalogue(_current)
    return words.pgettext(context, text) if context else words.gettext(text)


def n_(text: str, number: int) -> str:
    """The same where the words hang on a number, as in `1 row` and `2 rows`."""
    if _current == JAPANESE:
        return text
    return _catalogue(_current).ngettext(text, text, number)


def N_(text: str, context: str = "") -> str:  # noqa: N802 - gettext's own name for it
    """`text` itself: marks what is translated where it is shown."""
    return text


def name_in(table: Mapping[str, str]) -> Callable[[str], str]:
    """Of a table of `N_` texts: what an entry is called, for the `format_func` of a choice."""
    return lambda key: _(table[key])


def sentences(*said: str) -> str:
    """Whole sentences, one behind the other, without those that are empty."""
    return ("" if _current == JAPANESE else " ").join(filter(None, said))


@functools.cache
def _catalogue(code: str) -> gettext.NullTranslations:
    return gettext.translation(DOMAIN, FOLDER, [code])
