"""Unigram tokenizers in llama.cpp against SentencePiece and the file's own engine."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import pytest
import sentencepiece

from mlx_finetuning.errors import TokenizerUnsupported
from mlx_finetuning.quantizer.families import registry
from mlx_finetuning.quantizer.families.llama import Llama
from mlx_finetuning.quantizer.llama_cpp.inference import LlamaVocabulary
from mlx_finetuning.quantizer.verify import parity, reach
from mlx_finetuning.quantizer.verify.parity import Cut
from mlx_finetuning.quantizer.vocabulary import tokenizer
from mlx_finetuning.quantizer.vocabulary import unigram as ugm
from mlx_finetuning.quantizer.write.export import export_gguf
from mlx_finetuning.tokenization import battery, files, loading
from support.gguf_files import metadata
from support.small_models import edit_json, write_json, write_model, write_sentencepiece

VOCABULARY = 608
KINDS: dict[str, tuple[bool, dict[str, Any], str]] = {
    "no space before texts": (False, {"legacy": False}, "plamo2"),
    "one before the first": (True, {"legacy": False}, "plamo2"),
    "one before each": (True, {"legacy": True}, "t5"),
}


@pytest.fixture(params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return unigram(tmp_path / "m", request.param)


def unigram(folder: Path, kind: str) -> Path:
    write_model(folder, num_hidden_layers=1)
    dummy_prefix, settings, _ = KINDS[kind]
    write_sentencepiece(folder, kind="unigram", dummy_prefix=dummy_prefix, **settings)
    return folder


def encode_of(folder: Path) -> parity.Tokenize:
    engine = loading.engine(files.read(folder))
    return lambda text, added: engine.encode(text, add_special_tokens=added).ids


def cuts_of(folder: Path, texts: list[str]) -> dict[str, Cut]:
    with reach.vocabulary_file(folder) as (path, original), LlamaVocabulary(path) as vocabulary:
        encode = encode_of(folder)
        return {text: parity.cut(vocabulary, encode, text, original) for text in texts}


def test_every_text_within_the_vocabulary_is_cut_alike(folder: Path) -> None:
    cuts = cuts_of(folder, list(battery.TEXTS))
    # What llama.cpp cuts otherwise needs a reason that holds for the text itself.
    bytes_of = {number for number in range(VOCABULARY) if 3 <= number < 259}
    own = encode_of(folder)
    for text, found in cuts.items():
        assert found != Cut.DIFFERENTLY, text
        if found == Cut.UNSAYABLE:
            assert bytes_of.intersection(own(text, False)) or "▁" in text or "\ufeff" in text
    assert list(cuts.values()).count(Cut.ALIKE) > 80


def test_unigram_with_bytes_says_emoji_and_rare_characters(tmp_path: Path) -> None:
    folder = unigram(tmp_path / "m", "no space before texts")
    texts = ["改行\nと🚀と𠮷野家と鱻", "\n\n\t", "👩‍👩‍👧‍👦", "Ünïcödé नमस्ते"]
    assert set(cuts_of(folder, texts).values()) == {Cut.ALIKE}
    assert metadata(gguf_of(folder))["tokenizer.ggml.model"] == "plamo2"


def gguf_of(folder: Path) -> Path:
    path = folder.parent / "m.gguf"
    export_gguf(folder, None, {"Q8_0": path})
    return path


def test_the_files_own_ids_are_sentencepieces(tmp_path: Path) -> None:
    """Independent of `tokenizers`: the ids that llama.cpp gives are SentencePiece's."""
    folder = unigram(tmp_path / "m", "no space before texts")
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    special = ("<s>", "</s>", "<unk>")
    texts = [
        text
        for text in battery.TEXTS
        if not any(name in text for name in special) and "\ufeff" not in text
    ]
    with reach.vocabulary_file(folder) as (path, _), LlamaVocabulary(path) as vocabulary:
        # Pieces that are as likely in another order are a tie.
        differing = [
            text
            for text in texts
            if sorted(processor.encode(text)) != sorted(vocabulary.tokenize(text, False))
        ]
    assert differing == []


def test_line_ends_are_said_where_other_unknown_characters_are_not(tmp_path: Path) -> None:
    folder = unigram(tmp_path / "m", "one before each")
    cuts = cuts_of(folder, ["こんにちは\n\nです\t。\r\n", "🚀です", "株式会社です"])
    assert list(cuts.values()) == [Cut.ALIKE, Cut.UNSAYABLE, Cut.ALIKE]
    assert metadata(gguf_of(folder))["tokenizer.ggml.model"] == "t5"


def test_generated_tokens_are_written_as_the_original_decodes_them(folder: Path) -> None:
    encode = encode_of(folder)
    own = loading.engine(files.read(folder))
    with reach.vocabulary_file(folder) as (path, _), LlamaVocabulary(path) as vocabulary:
        for text in ("と🚀と𠮷\n\nabc é", *battery.TEXTS):
            ids = encode(text, False)
            expected = own.decode(ids, skip_special_tokens=False)
            # The original's decoder takes away the space that it put before the text.
            assert vocabulary.written(ids) in (expected, f" {expected}")
        halves = encode("🚀", False)
        assert vocabulary.written(halves[-4:]) == "🚀"
        assert "�" in vocabulary.written(halves[-4:-1])


def test_folders_with_tokenizer_json_are_read_alike(folder: Path) -> None:
    before = tokenizer.read(folder, VOCABULARY, Llama())
    write_json(folder / "tokenizer.json", files.read(folder).definition)
    (folder / "tokenizer.model").unlink()
    assert tokenizer.read(folder, VOCABULARY, Llama()) == before


def test_japanese_t5s_rewriting_of_characters_is_taken_over(tmp_path: Path) -> None:
    """NFKC by SentencePiece's own table, spaces merged, no byte fallback."""
    folder = tmp_path / "m"
    config = write_model(folder, num_hidden_layers=1)
    write_sentencepiece(
        folder,
        kind="unigram",
        legacy=True,
        train={
            "byte_fallback": False,
            "normalization_rule_name": "nmt_nfkc",
            "remove_extra_whitespaces": True,
            "vocab_size": 180,
        },
    )
    found = tokenizer.read(folder, VOCABULARY, registry.of(config))
    assert (found.model, found.merges_spaces) == ("t5", True)
    texts = ["ＡＢＣ１２３ ﾊﾝｶｸ", "営業時間は　午前９時", "a  b   c", "  両端  ", "㈱みどり①"]
    assert any(unicodedata.normalize("NFKC", text) != text for text in texts)
    assert set(cuts_of(folder, texts).values()) == {Cut.ALIKE}


@pytest.mark.parametrize(
    "changes",
    [
        {"normalizer": {"type": "NFKC"}},
        {"pre_tokenizer": {"type": "Whitespace"}},
        {"pre_tokenizer": {"type": "Metaspace", "replacement": "_", "prepend_scheme": "first"}},
    ],
)
def test_unknown_rules_for_spaces_are_an_error(tmp_path: Path, changes: dict[str, Any]) -> None:
    folder = unigram(tmp_path / "m", "no space before texts")
    write_json(folder / "tokenizer.json", files.read(folder).definition)
    edit_json(folder / "tokenizer.json", **changes)
    with pytest.raises(TokenizerUnsupported, match="空白"):
        tokenizer.read(folder, VOCABULARY, Llama())


def test_worst_pieces_stay_better_than_an_unknown_character() -> None:
    scored = {"type": "Unigram", "unk_id": 0, "byte_fallback": True}
    vocab = [["<unk>", 0.0], *[[f"<0x{byte:02X}>", 0.0] for byte in range(256)], ["あ", -120.0]]
    pieces = ugm.pieces({"model": {**scored, "vocab": vocab}}, 258, "plamo2")
    # llama.cpp holds 1e-4 for one, takes -1000 for unknown characters, and passes over -2000.
    assert -1000 < pieces[-1][1] < -900
    assert pieces[0][1] < -2000
