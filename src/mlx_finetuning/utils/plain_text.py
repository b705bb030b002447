"""Texts as they come in: from a request, a command line or a terminal."""

from __future__ import annotations

import json
from typing import Any

from mlx_finetuning.errors import TextUndecodable


def require_text(value: Any, place: str) -> None:
    """Raises TextUndecodable where any text of a JSON value, keys too, has no form in UTF-8.

    JSON can escape half of a surrogate pair, and Python hands on undecodable bytes of a command line
    as such halves: tokenizers and files take neither.
    """
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise TextUndecodable(place=place) from error
