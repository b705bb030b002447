"""A folder's tokenizer is the file's own: compared with `tokenizers` and SentencePiece themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from mlx_finetuning.errors import TokenizerUnreadable, TokensDiffer
from mlx_finetuning.tokenization import battery, chat, files, foreign, gate
from support.sentencepiece_models import train_sentencepiece
from support.small_models import edit_json, write_json, write_tokenizer


def own_folder(folder: Path, pre: str = "llama-bpe", **settings: Any) -> Tokenizer:
    """A folder with `tokenizer.json`, and its tokenizer."""
    folder.mkdir(exist_ok=True)
    write_tokenizer(folder, pre)
    edit_json(folder / "tokenizer_config.json", **settings)
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def unigram_json(folder: Path) -> None:
    """A Unigram `tokenizer.json`, in the folder alone."""
    train_sentencepiece(folder, "unigram")
    write_json(folder / "tokenizer_config.json", {"eos_token": "</s>"})
    write_json(folder / "tokenizer.json", files.read(folder).definition)
    (folder / "tokenizer.model").unlink()


@pytest.mark.parametrize("pre", ["llama-bpe", "smollm", "qwen2", "tekken"])
@pytest.mark.parametrize(
    "name",
    ["LlamaTokenizer", "PreTrainedTokenizerFast", "T5Tokenizer", "GPT2Tokenizer", "GemmaTokenizer"],
)
def test_the_class_that_a_folder_names_changes_no_token(
    tmp_path: Path, pre: str, name: str
) -> None:
    own = own_folder(tmp_path, pre, tokenizer_class=name, legacy=False, add_prefix_space=True)
    loaded = chat.load(tmp_path)
    for text in battery.TEXTS:
        assert loaded.encode(text) == own.encode(text, add_special_tokens=False).ids
    gate.require_own_tokens(tmp_path, loaded.encode)


@pytest.mark.parametrize("name", ["LlamaTokenizer", "T5Tokenizer", "PreTrainedTokenizerFast"])
def test_a_unigram_tokenizer_stays_one(tmp_path: Path, name: str) -> None:
    unigram_json(tmp_path)
    edit_json(tmp_path / "tokenizer_config.json", tokenizer_class=name)
    own = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    loaded = chat.load(tmp_path)
    for text in battery.TEXTS:
        assert loaded.encode(text) == own.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("model_type", ["bpe", "unigram"])
@pytest.mark.parametrize("legacy", [None, True, False])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"user_defined_symbols": ["<sep>", "改行"]},
        {"control_symbols": ["<ctl>"]},
        {"remove_extra_whitespaces": True},
        {"add_dummy_prefix": False},
        {"byte_fallback": False},
        {"split_digits": True, "allow_whitespace_only_pieces": True},
        {"unk_id": 3, "bos_id": 0, "eos_id": 1, "pad_id": 2},
    ],
    ids=lambda settings: " ".join(settings) or "plain",
)
def test_tokenizer_model_is_cut_as_sentencepiece_cuts(
    tmp_path: Path, model_type: str, legacy: bool | None, settings: dict[str, Any]
) -> None:
    processor = train_sentencepiece(tmp_path, model_type, **settings)
    config = {"tokenizer_class": "LlamaTokenizer", "eos_token": "</s>"}
    write_json(
        tmp_path / "tokenizer_config.json",
        config if legacy is None else {**config, "legacy": legacy},
    )
    loaded = chat.load(tmp_path)
    gate.require_own_tokens(tmp_path, loaded.encode)
    # What SentencePiece cannot be asked: special tokens inside a text, and custom's first space.
    special = [entry["content"] for entry in files.added(loaded.files.definition)]
    compared = 0
    for text in battery.TEXTS:
        if text.startswith((" ", "▁")) or any(content in text for content in special):
            continue
        expected, found = processor.encode(text), loaded.encode(text)
        # Pieces of equal score in another order are a tie of the Unigram model.
        assert sorted(found) == sorted(expected) if model_type == "unigram" else found == expected
        compared += 1
    assert compared > 250


def test_names_of_tokens_that_the_vocabulary_lacks_are_not_invented(tmp_path: Path) -> None:
    own = own_folder(tmp_path, bos_token="<nowhere>", unk_token="<unk>", pad_token="<pad>")
    loaded = chat.load(tmp_path)
    assert loaded.tokenizer.get_vocab() == own.get_vocab()
    assert loaded.tokenizer.bos_token is None
    assert set(loaded.files.named) == {"eos"}


def test_limits_left_in_the_file_cut_nothing(tmp_path: Path) -> None:
    own = own_folder(tmp_path)
    own.enable_truncation(3)
    own.enable_padding(length=200)
    own.save(str(tmp_path / "tokenizer.json"))
    plain = own_folder(tmp_path / "plain")
    loaded, text = chat.load(tmp_path), "営業時間は午前9時からです。"
    assert loaded.encode(text) == plain.encode(text).ids
    gate.require_own_tokens(tmp_path, loaded.encode, [text])


def test_other_tokens_are_told_with_an_example(tmp_path: Path) -> None:
    own_folder(tmp_path)
    other = own_folder(tmp_path / "other", "smollm")
    with pytest.raises(TokensDiffer) as refused:
        gate.require_own_tokens(tmp_path, lambda text: list(other.encode(text).ids))
    data = refused.value.data
    assert data["differing"] > 0 and data["expected"] != data["found"]


def test_a_difference_in_the_users_rows_alone_is_found(tmp_path: Path) -> None:
    loaded = chat.load(folder := _with(tmp_path))
    row = {"messages": [{"role": "user", "content": "秘密の合言葉"}]}
    texts = gate.row_texts([row])
    gate.require_own_tokens(folder, loaded.encode, texts)
    with pytest.raises(TokensDiffer):
        gate.require_own_tokens(
            folder, lambda text: [0] if "合言葉" in text else loaded.encode(text), texts
        )


def _with(folder: Path) -> Path:
    own_folder(folder)
    return folder


def test_a_unigram_model_beside_a_bpe_definition_is_refused(tmp_path: Path) -> None:
    own_folder(tmp_path)
    train_sentencepiece(tmp_path, "unigram")
    with pytest.raises(TokenizerUnreadable, match="Unigram"):
        gate.require_own_tokens(tmp_path, chat.load(tmp_path).encode)


def test_another_programs_tokenizer_model_beside_the_definition_is_no_reason(
    tmp_path: Path,
) -> None:
    """tiktoken's ranks have that name in some folders."""
    own_folder(tmp_path)
    (tmp_path / "tokenizer.model").write_text("IQ== 0\nIg== 1\n")
    gate.require_own_tokens(tmp_path, chat.load(tmp_path).encode)


def test_what_transformers_rebuilds_wrongly_is_recognised_and_settled(tmp_path: Path) -> None:
    unigram_json(tmp_path)
    edit_json(tmp_path / "tokenizer_config.json", tokenizer_class="LlamaTokenizer")
    write_json(tmp_path / "config.json", {"model_type": "llama"})
    assert not foreign.is_right(tmp_path)
    foreign.settle(tmp_path)
    assert foreign.is_right(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff\xfe", b'{"model": {}}', b'{"model": {"vocab": {"a": "b"}}}'],
)
def test_damaged_files_say_so(tmp_path: Path, content: bytes) -> None:
    own_folder(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(TokenizerUnreadable):
        chat.load(tmp_path)
