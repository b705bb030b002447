"""How a family's calls of tools are read: by mlx-lm's own parsers, and its own choice of one."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence

from mlx_lm import tokenizer_utils

from mlx_finetuning.tokenization.chat import ChatTokenizer
from mlx_finetuning.tokenization.tool_calls import ToolFormat


def tool_format(chat: ChatTokenizer, tools: Sequence[Mapping[str, object]]) -> ToolFormat | None:
    """How calls of `tools` are read; None where mlx-lm knows no form for the template."""
    name = tokenizer_utils._infer_tool_parser(chat.tokenizer)
    if name is None:
        return None
    parser = importlib.import_module(f"mlx_lm.tool_parsers.{name}")
    # Some need the schemas to tell a number from a text.
    return ToolFormat(
        parser.tool_call_start,
        parser.tool_call_end,
        lambda text: parser.parse_tool_call(text, list(tools)),
    )
