"""How models write calls of tools into their answers, and how the two are told apart.

Knows text only; how a family writes the call itself is told by `ToolFormat.parse`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Parsed = Mapping[str, object]
"""`name` and `arguments`."""


@dataclass(frozen=True)
class Call:
    """A tool that the model wants to be used."""

    name: str
    arguments: str
    """JSON."""


@dataclass(frozen=True)
class ToolFormat:
    """How the calls of one family are read."""

    opening: str
    closing: str
    """Empty: a call goes on to the end of the answer."""
    parse: Callable[[str], Parsed | list[Parsed]]
    """What stands between the two, or some exception where it is no call."""

    @property
    def signs(self) -> tuple[str, ...]:
        """The marks; where they are control tokens, engines may hide them."""
        return tuple(mark for mark in (self.opening, self.closing) if mark)

    def read(self, text: str, *, last: bool) -> tuple[str, list[Call], str]:
        """What was said, what was called, and the rest that is not certain yet; none with `last`.

        What cannot be read as a call was said.
        """
        said, calls = "", list[Call]()
        while self.opening in text:
            before, _, after = text.partition(self.opening)
            body, closing, rest = after.partition(self.closing) if self.closing else (after, "", "")
            said += before
            if not last and not closing:
                return said, calls, self.opening + after
            found = self._calls(body)
            calls += found
            said += "" if found else self.opening + body + closing
            text = rest
        held = 0 if last else possible_start(text, [self.opening])
        return said + text[: len(text) - held], calls, text[len(text) - held :]

    def _calls(self, body: str) -> list[Call]:
        try:
            parsed = self.parse(body)
            found = parsed if isinstance(parsed, list) else [parsed]
            return [
                Call(str(call["name"]), json.dumps(call["arguments"], ensure_ascii=False))
                for call in found
            ]
        except Exception:  # parsers are the library's, and models write anything
            return []


def possible_start(text: str, marks: list[str] | tuple[str, ...]) -> int:
    """How many letters at the end of a text may be the beginning of one of `marks`."""
    return max(
        (size for mark in marks for size in range(len(mark)) if text.endswith(mark[:size])),
        default=0,
    )
