"""What Ollama's English error texts mean, as errors of ours. Unknown ones are passed on."""

from __future__ import annotations

import re

from mlx_finetuning.errors import (
    OllamaAdaptersRefused,
    OllamaArchitectureUnknown,
    OllamaError,
    OllamaModelNotFound,
    OllamaOutOfSpace,
    OllamaRefused,
    OllamaTooOld,
)

MEANINGS: tuple[tuple[str, type[OllamaError]], ...] = (
    (r"no space left|not enough (disk )?space|disk quota exceeded", OllamaOutOfSpace),
    # The importer tells no reason; a file that was proven here fails there for its architecture.
    (
        r"(unknown|unsupported) (model )?architecture|failed to validate GGUF",
        OllamaArchitectureUnknown,
    ),
    (r"adapters? .{0,80}(not|no longer) (be )?supported", OllamaAdaptersRefused),
    (r"requires a newer version|newer version of ollama", OllamaTooOld),
    (r"model .{0,200}not found", OllamaModelNotFound),
)


def error_for(text: str, status: int = 200) -> OllamaError:
    """The error for what Ollama said; `status` is HTTP's."""
    for pattern, kind in MEANINGS:
        if re.search(pattern, text, re.IGNORECASE | re.DOTALL):
            return kind(reason=text)
    return OllamaRefused(reason=text)
