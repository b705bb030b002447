"""Control tokens that somebody has typed, as plain text.

A tokenizer cuts such tokens out of any text, wherever they come from. So in a message they are replaced
by marks before a template sees them, the marks are tokens of their own while the text is cut, and each is
then replaced by what its token's letters come to. All other ids stay as they would be.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from mlx_finetuning.tokenization import files, loading
from mlx_finetuning.tokenization.spm_model import Definition

MARKS = 0x100000
"""The first of the private characters, one for each control token, that nobody has a use for."""


def marked(value: Any, controls: Sequence[str]) -> Any:
    """A JSON value whose texts have marks instead of control tokens."""
    if isinstance(value, dict):
        return {key: marked(item, controls) for key, item in value.items()}
    if isinstance(value, list):
        return [marked(item, controls) for item in value]
    if not isinstance(value, str) or not controls:
        return value
    longest_first = sorted(controls, key=len, reverse=True)
    return re.sub(
        "|".join(map(re.escape, longest_first)),
        lambda found: chr(MARKS + controls.index(found[0])),
        value,
    )


def unmarked(text: str, controls: Sequence[str]) -> list[tuple[str, bool]]:
    """The parts of a marked text, with the control tokens in it: which of them somebody has typed."""
    last = MARKS + len(controls)
    parts = re.split(f"([{chr(MARKS)}-{chr(last)}])", text)
    return [
        (controls[ord(part) - MARKS], True) if number % 2 else (part, False)
        for number, part in enumerate(parts)
        if part
    ]


def ids(own: Any, definition: Definition, text: str, controls: Sequence[str]) -> list[int]:
    """What a `tokenizers.Tokenizer` makes of a marked text, without bos and eos.

    definition: the tokenizer's. Raises what the library raises.
    """
    from tokenizers import AddedToken, Tokenizer

    marks = {chr(MARKS + number): control for number, control in enumerate(controls)}
    present = [mark for mark in marks if mark in text]
    if not present:
        return list(own.encode(text, add_special_tokens=False).ids)
    marking = Tokenizer.from_str(own.to_str())
    marking.add_tokens([AddedToken(mark, normalized=False) for mark in present])
    bare: Definition = {
        "added_tokens": [],
        "post_processor": None,
        "truncation": None,
        "padding": None,
    }
    letters = Tokenizer.from_str(json.dumps({**loading.continuing(definition), **bare}))
    tokens = files.token_ids(definition)
    control_ids = {tokens[control] for control in controls}

    def spelled(control: str) -> list[int]:
        found: list[int] = letters.encode(control, add_special_tokens=False).ids
        if control_ids.isdisjoint(found):
            return found
        # Some vocabularies hold the token as a word, too.
        return [number for letter in control for number in letters.encode(letter).ids]

    plain = {marking.token_to_id(mark): spelled(marks[mark]) for mark in present}
    cut = marking.encode(text, add_special_tokens=False).ids
    return [number for token in cut for number in plain.get(token, [token])]
