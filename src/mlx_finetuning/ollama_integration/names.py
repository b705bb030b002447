"""Names of models in Ollama: `[namespace/]model[:tag]`. Names of other registries are refused."""

from __future__ import annotations

import re

from mlx_finetuning.errors import OllamaNameInvalid

LONGEST = 80
"""Characters of each part, for Ollama."""
NAME = re.compile(
    rf"(?:[A-Za-z0-9_][\w-]{{0,{LONGEST - 1}}}/)?"
    rf"[A-Za-z0-9_][\w.-]{{0,{LONGEST - 1}}}"
    rf"(?::[A-Za-z0-9_][\w.-]{{0,{LONGEST - 1}}})?",
    re.ASCII,
)


def checked(name: str) -> str:
    """`name` itself, if Ollama takes it. Raises OllamaNameInvalid."""
    if not NAME.fullmatch(name):
        raise OllamaNameInvalid(name=name)
    return name


def default(model: str, run_id: str) -> str:
    """`gemma-2-2b-finetuned-<run id>`; a long model name is cut."""
    ending = f"-finetuned-{run_id}"
    last = model.rsplit("/", 1)[-1].removeprefix("ollama:").removesuffix(".gguf")
    slug = re.sub(r"[^a-z0-9]+", "-", last.lower()).strip("-")
    return (slug[: LONGEST - len(ending)].strip("-") or "model") + ending


def same(name: str, other: str) -> bool:
    """Whether Ollama takes both for the same model: case and `:latest` make no difference."""
    return _full(name) == _full(other)


def _full(name: str) -> str:
    name = name.lower().removeprefix("registry.ollama.ai/").removeprefix("library/")
    return name if ":" in name else f"{name}:latest"
