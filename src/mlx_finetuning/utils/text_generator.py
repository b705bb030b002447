"""Texts by a language model, whichever engine runs it: what is asked, and what is read of answers.

Engines are opened by `tasks.text_generators`. An answer that is to be JSON is read here and asked for
again where it is none, because only some engines hold a model to a schema.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from mlx_finetuning import files
from mlx_finetuning.errors import RecordDamaged
from mlx_finetuning.files import Record
from mlx_finetuning.language import N_, _

ENGINES_JA = {
    "auto": N_("モデルの名前で決める"),
    "mlx": N_("MLX（このアプリの中）"),
    "gguf": N_("llama.cpp（このアプリの中）"),
    "ollama": "Ollama",
    "address": N_("指定した住所のサーバー"),
}
OLLAMA = "ollama:"
"""Begins the name of a model in Ollama."""
ATTEMPTS = 3
"""How often JSON is asked for, each time with another seed."""
WARMER = 0.3
"""Added to the temperature for every further attempt: at 0 a model repeats itself."""

Tick = Callable[[], None]
"""Called often while texts are generated; raises Interrupted to cancel them."""


@dataclass(frozen=True)
class GeneratorChoice:
    """Which model generates, as it was asked for."""

    model: str
    """A base model's name or folder, a GGUF file, `ollama:NAME`, or the name at an address."""
    engine: str = "auto"
    """A key of `ENGINES_JA`."""
    address: str = ""
    """Of an OpenAI-compatible server; never assumed, only named."""

    @property
    def settled_engine(self) -> str:
        """The engine that is meant by `auto`."""
        if self.engine != "auto":
            return self.engine
        if self.address:
            return "address"
        if self.model.startswith(OLLAMA):
            return "ollama"
        return "gguf" if self.model.endswith(".gguf") else "mlx"


@dataclass(frozen=True)
class TextRequest:
    """One text to be generated. The same request to the same model gives the same text."""

    messages: tuple[Mapping[str, str], ...]
    """`role` and `content` each."""
    max_tokens: int = 256
    temperature: float = 0.0
    seed: int = 0
    stops: tuple[str, ...] = ()
    """Texts before which the answer ends."""
    schema: Mapping[str, object] | None = None
    """The JSON schema of the answer; llama.cpp and Ollama hold the model to it, others do not."""


class TextGenerator(Protocol):
    """A loaded model, or a server that has one."""

    @property
    def at_once(self) -> int:
        """How many requests it is best given together: texts of one call may depend on each other
        in their last digits, so that whoever wants the same again asks in the same parts."""
        ...

    def generate(self, requests: Sequence[TextRequest], tick: Tick) -> list[str]:
        """The texts, in order. Raises what the engine raises, and what `tick` raises."""
        ...


Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Read(Generic[Answer]):
    """An answer as a dataclass, or why there is none."""

    value: Answer | None
    problem: str = ""
    """In Japanese, where there is none."""


def ask(
    generator: TextGenerator, requests: Sequence[TextRequest], kind: type[Record], tick: Tick
) -> list[Read[Record]]:
    """The answers as `kind`, asked for up to `ATTEMPTS` times; None with the reason for one that was
    never fit. Raises what `generate` raises."""
    found: list[Read[Record]] = [Read(None)] * len(requests)
    open_ = list(range(len(requests)))
    for attempt in range(ATTEMPTS):
        tries = [
            replace(
                requests[at],
                seed=requests[at].seed + attempt,
                temperature=requests[at].temperature + attempt * WARMER,
            )
            for at in open_
        ]
        texts = generator.generate(tries, tick)
        for at, text in zip(open_, texts, strict=True):
            found[at] = read(text, kind)
        open_ = [at for at in open_ if found[at].value is None]
        if not open_:
            break
    return found


def read(text: str, kind: type[Record]) -> Read[Record]:
    """The first JSON object in a text as `kind`; words around it and fences are passed over."""
    start = text.find("{")
    if start < 0:
        return Read(None, _("答えがJSONではありません"))
    try:
        value, __ = json.JSONDecoder().raw_decode(text, start)
        return Read(files.decode(value, kind, Path("answer.json")))
    except (ValueError, RecursionError):
        return Read(None, _("答えのJSONが途中で切れているか、壊れています"))
    except RecordDamaged:
        return Read(None, _("答えのJSONの形が違います"))
