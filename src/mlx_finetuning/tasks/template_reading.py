"""Whether llama.cpp's server, and with it Ollama, can read a chat template at all: tried on tiny-ja.

The server renders sample conversations when it starts, and does not start where its own engine fails
on the template (an older one of Mistral Nemo selects turns by `rejectattr` and `selectattr`).
"""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from mlx_finetuning.errors import RuntimeNotStarted
from mlx_finetuning.language import N_
from mlx_finetuning.quantizer.vocabulary.tokenizer import ChatFormat
from mlx_finetuning.quantizer.write.export import export_gguf
from mlx_finetuning.runtime import serve
from mlx_finetuning.tokenization import files

UNREADABLE = N_(
    "会話の書式（チャットテンプレート）を、llama.cppが読めません。GGUFとOllamaでは使えません。"
    "「MLX（学習したまま）」での対話と serve-model では、学習したとおりに使えます。"
)
TRIED = ("tool_calls", "attr(")
"""What a template holds that is tried, which takes seconds; simpler ones have not been seen to fail."""


@functools.lru_cache(maxsize=16)
def is_readable(template: str, tiny: Path) -> bool:
    """Whether a server starts on the model in `tiny`, the built-in one, with this template."""
    if not any(part in template for part in TRIED):
        return True
    end = files.read(tiny).ids()["eos"]
    with tempfile.TemporaryDirectory() as folder:
        gguf = Path(folder) / "trial.gguf"
        export_gguf(tiny, None, {"F16": gguf}, chat=ChatFormat(template, end))
        try:
            with serve(gguf):
                return True
        except RuntimeNotStarted as error:
            if "template" in str(error.data.get("reason", "")):
                return False
            raise
