"""Texts on which two tokenizers are compared: scripts, spacing, digits, symbols, odd characters."""

from __future__ import annotations

import json

from mlx_finetuning.files import ASSETS

_CORES: list[str] = json.loads((ASSETS / "tokenizer_battery.json").read_text(encoding="utf-8"))
_FRAMES = (
    *(("", ""), (" ", ""), ("", "\n"), ("「", "」\n\n")),
    *(("  \n", "  "), ("回答: ", "。\t"), ("\n\n", "   x")),
)

TEXTS = tuple(f"{before}{core}{after}" for core in _CORES for before, after in _FRAMES)
