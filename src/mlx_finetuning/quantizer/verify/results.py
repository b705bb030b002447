"""What is found of written files, as reports and results keep it. Plain data; loads no NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Structure:
    """A file's own description, and in Japanese what is wrong with it."""

    quant: str
    """The file type's name: Q4_K_M; 「不明」 where it says nothing."""
    tensors: int
    types: Mapping[str, int]
    """Tensors per type."""
    problems: tuple[str, ...]


@dataclass(frozen=True)
class LogitParity:
    """Averages over all positions; divergences in nats, reference against file."""

    tokens: int
    mean_kl: float
    max_kl: float
    top1_agreement: float
    """Share of positions whose likeliest next token is the same."""
    perplexity_reference: float
    perplexity_gguf: float

    @property
    def perplexity_change(self) -> float:
        """Relative: 0.02 is two percent worse than the tuned model."""
        return self.perplexity_gguf / self.perplexity_reference - 1


@dataclass(frozen=True)
class TokenParity:
    """How alike texts are cut."""

    texts: int
    differing: tuple[str, ...]
    """The texts that are cut differently, for no reason that is counted below."""
    foreign: tuple[str, ...] = ()
    """Built-in texts likewise, but in scripts that do not occur in the user's texts."""
    unsayable: int = 0
    """Texts with characters outside the vocabulary that the file can have."""
    named: int = 0
    """Texts with the name of an ordinary token that llama.cpp takes for a control token; left out."""
    reordered: int = 0
    """Texts of which the same pieces come in another order, as likely as the original's."""


@dataclass(frozen=True)
class Proof:
    """The small unquantized model that was compared before the files."""

    quant: str
    layers: int
    of_layers: int
    vocabulary: int
    """Tokens whose chances were compared."""
    parity: LogitParity


@dataclass(frozen=True)
class Verification:
    """One file, examined."""

    path: str
    size_bytes: int
    structure: Structure
    tokens: TokenParity
    logits: LogitParity
    errors: Mapping[str, float]
    """Per type, the largest error of a tensor relative to the original weights."""
    problems: tuple[str, ...]
    """In Japanese; none: the file is proven."""
    verdict: str
    """One Japanese line for people."""
    proven: bool
    """Whether nothing speaks against the file."""
    warnings: tuple[str, ...] = ()
    """In Japanese: what is different without speaking against the file."""
    weight_errors: tuple[str, ...] = ()
    """Those of `problems` that say by how much a weight is off."""
    report_path: str = ""
    """Where this is kept."""
    proof: Proof | None = None


@dataclass(frozen=True)
class Candidate:
    """A file of one quantization type, measured."""

    quant: str
    size_bytes: int
    mean_kl: float
    top1_agreement: float
    perplexity_change: float


@dataclass(frozen=True, kw_only=True)
class ExportedFile:
    """One file or folder that was written, and what was proven of it."""

    path: str
    size_bytes: int
    verdict: str
    report_path: str = ""
    """Of a GGUF model."""
    parity: LogitParity | None = None
    """Of a GGUF model or adapter."""
    changed: int | None = None
    """Weights that a PEFT adapter changes, all of them compared."""


@dataclass(frozen=True, kw_only=True)
class FusedFolder(ExportedFile, LogitParity):
    """A folder of merged weights with its logits."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What an export wrote, or where it only measured types, what it advises."""

    verdict: str
    path: str = ""
    """Of the first file; empty after a measurement, which keeps none."""
    files: Mapping[str, FusedFolder | ExportedFile] = field(default_factory=dict)
    """By quantization type, else by name."""
    elapsed_s: float | None = None
    """Of writing GGUF files."""
    proof: Proof | None = None
    recommended: str = ""
    candidates: tuple[Candidate, ...] = ()
    """The measured types, the largest first."""
    tokens: int | None = None
    """On which they were measured."""
