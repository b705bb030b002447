"""The file's own tokens: what the file's engine cuts is what training sees and what llama.cpp cuts.

Over some thousand lines, of every obtainable tokenizer, in every variant of its folder. Between file
and training nothing may differ. llama.cpp differs only where it is known to, and each such line is
one that `announced` names a reason for.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest
import sentencepiece
from gguf import GGUFReader, TokenType
from tokenizers import Tokenizer

from mlx_finetuning.mlx_trainer.model.load import load
from mlx_finetuning.quantizer.llama_cpp.inference import LlamaModel
from mlx_finetuning.quantizer.write.export import export_gguf
from support import corpus, real_folders

pytestmark = pytest.mark.models

VARIANTS = [
    (name, kind)
    for name, model in real_folders.MODELS.items()
    for kind in model.variants
    # With `legacy: false` no second space is put before a text that begins with one: transformers'
    # custom, which SentencePiece on the file alone does not have.
    if (name, kind) != ("mistral-v3", "tokenizer.model")
]
Ids = list[int]


@dataclass(frozen=True)
class Folder:
    path: Path
    name: str
    definition: Path
    """A tokenizer.json of the same tokenizer, for what `tokenizer.model` has no engine for: special
    tokens within a text."""

    @cached_property
    def engine(self) -> Tokenizer:
        return Tokenizer.from_file(str(self.definition))

    @cached_property
    def is_normalised(self) -> bool:
        """Whether the file's own rules bring texts into NFC."""
        definition = json.loads(self.definition.read_text(encoding="utf-8"))
        return '"NFC"' in json.dumps(definition["normalizer"])


@pytest.fixture(scope="module")
def lines() -> list[str]:
    return corpus.lines()


@pytest.fixture(scope="module", params=VARIANTS, ids=" ".join)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    name, variant = request.param
    path = tmp_path_factory.mktemp(name) / "model"
    real_folders.write(path, name, variant, hidden=64, layers=1)
    definition = path / "tokenizer.json"
    if not definition.is_file():
        definition = path.parent / "tokenizer.json"
        source = real_folders.sentencepiece_file(real_folders.MODELS[name].tokenizer)
        real_folders.as_tokenizers(source).save(str(definition))
    return Folder(path, name, definition)


@pytest.fixture(scope="module")
def expected(folder: Folder, lines: list[str]) -> list[Ids]:
    return [folder.engine.encode(line, add_special_tokens=False).ids for line in lines]


def test_training_sees_the_files_own_tokens(
    folder: Folder, lines: list[str], expected: list[Ids]
) -> None:
    tokenizer = load(folder.path).tokenizer
    differing = [
        line
        for line, ids in zip(lines, expected, strict=True)
        if list(tokenizer.encode(line, add_special_tokens=False)) != ids
    ]
    assert not differing, (len(differing), differing[:5])


def test_llama_cpp_cuts_alike_but_where_it_is_announced(
    folder: Folder, lines: list[str], expected: list[Ids]
) -> None:
    gguf = folder.path / "model.gguf"
    export_gguf(folder.path, None, {"Q8_0": gguf})
    with LlamaModel(gguf, 64) as model:
        found = [model.tokenize(line, False) for line in lines]
    differing = [
        line
        for line, ids, other in zip(lines, expected, found, strict=True)
        if other != ids and not (folder.name == "unigram" and _is_tie(ids, other))
    ]
    made_control = _made_control(folder, gguf)
    unexplained = [line for line in differing if not any(announced(folder, made_control, line))]
    assert not unexplained, (len(unexplained), unexplained[:5])


def announced(folder: Folder, made_control: set[str], text: str) -> Iterator[bool]:
    """Whether a difference of llama.cpp's has its reason in this text."""
    yield folder.is_normalised and not unicodedata.is_normalized("NFC", text)
    yield any(name in text for name in made_control)
    # Both write a space as this character, but only llama.cpp takes the two for one.
    yield "▁" in text and folder.name.startswith(("gemma", "unigram"))
    # llama.cpp's rendering of tekken's pattern knows no combining marks.
    yield folder.name == "mistral-nemo" and any(unicodedata.category(c)[0] == "M" for c in text)
    yield folder.name == "unigram" and _leaves_the_vocabulary(folder, text)


def _is_tie(ids: Ids, other: Ids) -> bool:
    """Whether both say the same pieces in another order: `;` `;;;` is as likely as `;;;` `;`."""
    return sorted(ids) == sorted(other)


def _made_control(folder: Folder, gguf: Path) -> set[str]:
    """Ordinary pieces of the file that llama.cpp takes for control tokens by their names."""
    definition = json.loads(folder.definition.read_text(encoding="utf-8"))
    own = {token["content"] for token in definition["added_tokens"]}
    fields = GGUFReader(gguf).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    named = {token for token in tokens if token in CONTROL_NAMES}
    kinds = fields["tokenizer.ggml.token_type"].contents()
    marked = {token for token, kind in zip(tokens, kinds, strict=True) if kind == TokenType.CONTROL}
    return (named | marked) - own


CONTROL_NAMES = frozenset(
    "</s> <|im_end|> <|eot_id|> <|end|> <end_of_turn> <|endoftext|> <|eom_id|> <EOT> _<EOT> "
    "<|end_of_text|> <end_of_utterance> <｜end▁of▁sentence｜> <|fim_prefix|> <fim_prefix> "
    "<fim-prefix> <PRE> <|fim_suffix|> <fim_suffix> <SUF> <|fim_middle|> <fim_middle> <MID> "
    "<|file_sep|> <|repo_name|> <|fim_pad|>".split()
)
"""Of llama.cpp's vocabulary loader, those that occur in real vocabularies."""


def _leaves_the_vocabulary(folder: Folder, text: str) -> bool:
    """Whether the file's engine needs its byte pieces: llama.cpp has no byte fallback here."""
    pieces = folder.engine.encode(text, add_special_tokens=False).tokens
    return any(piece.startswith("<0x") for piece in pieces)


@pytest.mark.parametrize("name", ["mistral v1", "mistral v3", "unigram"])
def test_the_converted_files_are_sentencepieces_own(name: str, lines: list[str]) -> None:
    """The references above are right: no line without a special token's name differs."""
    source = real_folders.sentencepiece_file(name)
    engine = real_folders.as_tokenizers(source)
    original = sentencepiece.SentencePieceProcessor(model_file=str(source))
    special = [token.content for token in engine.get_added_tokens_decoder().values()]
    plain = [line for line in lines if not any(name in line for name in (*special, "<0x0A>", "▁"))]
    assert len(plain) > 3500
    differing = [
        line
        for line in plain
        if (ids := engine.encode(line, add_special_tokens=False).ids) != original.encode(line)
        and not (name == "unigram" and _is_tie(ids, original.encode(line)))
    ]
    assert not differing, (len(differing), differing[:5])
