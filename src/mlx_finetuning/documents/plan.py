"""What pairs are generated from and how, as it was asked for and as it was begun."""

from __future__ import annotations

from dataclasses import dataclass, fields

from mlx_finetuning.documents.document import Document
from mlx_finetuning.language import N_, _
from mlx_finetuning.utils.text_generator import GeneratorChoice


@dataclass(frozen=True)
class GenerateSettings:
    """What `data generate` was asked for."""

    documents: tuple[str, ...]
    """Paths."""
    name: str
    """Of the dataset."""
    generator: GeneratorChoice
    seed: int = 0
    share: float = 1.0
    """Of the usual number of pairs."""
    asks_model: bool = False
    """Whether the model is also asked each question with the chunk and without."""
    replaces: bool = False
    """Whether pairs and the dataset of this name are made anew."""


@dataclass(frozen=True)
class Plan:
    """`plan.json`: what the pairs of a folder were begun with. Others are not mixed in."""

    documents: tuple[str, ...]
    """Names, each with the SHA-256 of its content."""
    model: str
    engine: str
    address: str
    seed: int
    share: float
    asks_model: bool

    def changed_ja(self, other: Plan) -> list[str]:
        """What differs, for people."""
        return [
            _(_NAMES_JA[field.name])
            for field in fields(self)
            if getattr(self, field.name) != getattr(other, field.name)
        ]


_NAMES_JA = {
    "documents": N_("文書"),
    "model": N_("モデル"),
    "engine": N_("動かし方"),
    "address": N_("サーバーの住所"),
    "seed": N_("乱数の種"),
    "share": N_("作る数"),
    "asks_model": N_("モデルにも確かめるか"),
}


@dataclass(frozen=True)
class ReadDocuments:
    """What became of reading documents: the result of a `read_documents` job."""

    documents: tuple[Document, ...]


@dataclass(frozen=True)
class Generated:
    """What generating pairs came to: the result of a `generate` job."""

    name: str
    pairs: int
    sound: int
    """Pairs in which no check found anything: those that the dataset begins with."""
    source: str
    """The file with all pairs, that the dataset is made of."""
    found: dict[str, int]
    """How many pairs each kind of problem was found in, by the keys of `PROBLEMS_JA`."""
    failures: tuple[str, ...] = ()
    """In Japanese, where the model gave no pairs."""
    scanned: tuple[str, ...] = ()
    """In Japanese, pages without text."""
    dataset: bool = False
    """Whether the dataset could be made."""
