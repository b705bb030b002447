"""GGUF tokenizers against Hugging Face's, through llama.cpp."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, processors

from gguf_files import metadata
from mlx_finetuning.errors import TokenizerUnsupported
from mlx_finetuning.quantizer import battery, tokenizer
from mlx_finetuning.quantizer.export import export_gguf
from mlx_finetuning.quantizer.families import LLAMA
from mlx_finetuning.quantizer.llama import LlamaModel
from mlx_finetuning.quantizer.parity import compare_tokens
from small_models import PRE_TOKENIZERS, edit_json, write_model, write_tokenizer

VOCABULARY = 608


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_model(tmp_path / "m", num_hidden_layers=1)
    return tmp_path / "m"


def gguf_of(folder: Path) -> Path:
    path = folder.parent / "m.gguf"
    export_gguf(folder, None, {"Q8_0": path})
    return path


def test_battery_has_at_least_150_different_texts() -> None:
    assert len(set(battery.TEXTS)) == len(battery.TEXTS) >= 150


@pytest.mark.parametrize("pre", PRE_TOKENIZERS)
def test_pre_tokenizer_is_recognised_and_cuts_every_text_alike(folder: Path, pre: str) -> None:
    original = write_tokenizer(folder, pre)
    path = gguf_of(folder)
    assert metadata(path)["tokenizer.ggml.pre"] == pre
    with LlamaModel(path, 64) as model:
        parity = compare_tokens(
            model,
            lambda text, special: original.encode(text, add_special_tokens=special).ids,
            battery.TEXTS,
        )
    assert parity.differing == ()


def test_shipped_model_cuts_every_text_alike(tmp_path: Path) -> None:
    shipped = Path(tokenizer.__file__).parents[1] / "assets" / "tiny-ja"
    original = Tokenizer.from_file(str(shipped / "tokenizer.json"))
    export_gguf(shipped, None, {"Q8_0": tmp_path / "m.gguf"})
    with LlamaModel(tmp_path / "m.gguf", 64) as model:
        encode = lambda text, special: original.encode(text, add_special_tokens=special).ids  # noqa: E731
        assert compare_tokens(model, encode, battery.TEXTS).equal
        assert model.ends_generation(original.token_to_id("<|im_end|>"))


@pytest.mark.parametrize(
    "changes",
    [
        {"pre_tokenizer": {"type": "Whitespace"}},
        {"pre_tokenizer": None},
        {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True}},
        {"normalizer": {"type": "Lowercase"}},
        {"model": {"type": "Unigram", "vocab": []}},
    ],
)
def test_unknown_tokenizers_are_an_error_not_a_guess(folder: Path, changes: dict[str, Any]) -> None:
    edit_json(folder / "tokenizer.json", **changes)
    with pytest.raises(TokenizerUnsupported):
        tokenizer.read(folder, VOCABULARY, LLAMA)


def test_slightly_different_split_is_not_taken_for_a_known_one(folder: Path) -> None:
    path = folder / "tokenizer.json"
    changed = path.read_text(encoding="utf-8").replace("{1,3}", "{1,2}")
    path.write_text(changed, encoding="utf-8")
    with pytest.raises(TokenizerUnsupported, match="分割の規則"):
        tokenizer.read(folder, VOCABULARY, LLAMA)


def test_vocabulary_larger_than_the_model_is_an_error(folder: Path) -> None:
    with pytest.raises(TokenizerUnsupported, match="語彙数"):
        tokenizer.read(folder, 100, LLAMA)


def test_rows_without_a_token_become_unused_padding(folder: Path) -> None:
    found = tokenizer.read(folder, VOCABULARY, LLAMA)
    known = len(json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"])
    assert found.tokens[known:] == [f"[PAD{number}]" for number in range(known, VOCABULARY)]
    assert {kind.name for kind in found.types[known:]} == {"UNUSED"}
    assert [kind.name for kind in found.types[:3]] == ["CONTROL"] * 3


def test_bos_is_stated_whether_the_tokenizer_adds_it_or_not(folder: Path) -> None:
    without = metadata(gguf_of(folder))
    assert without["tokenizer.ggml.add_bos_token"] is False
    path = folder / "tokenizer.json"
    original = Tokenizer.from_file(str(path))
    original.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    original.save(str(path))
    edit_json(folder / "tokenizer_config.json", bos_token="<|endoftext|>")
    gguf = gguf_of(folder)
    assert metadata(gguf)["tokenizer.ggml.add_bos_token"] is True
    with LlamaModel(gguf, 64) as model:
        assert model.tokenize("こんにちは", True) == original.encode("こんにちは").ids


def test_text_around_that_gguf_cannot_express_is_an_error(folder: Path) -> None:
    path = folder / "tokenizer.json"
    original = Tokenizer.from_file(str(path))
    original.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", 1)]
    )
    original.save(str(path))
    with pytest.raises(TokenizerUnsupported, match="bos"):
        tokenizer.read(folder, VOCABULARY, LLAMA)


def test_template_file_comes_before_the_setting(folder: Path) -> None:
    assert "im_start" in str(tokenizer.read(folder, VOCABULARY, LLAMA).chat_template)
    (folder / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")
    assert tokenizer.read(folder, VOCABULARY, LLAMA).chat_template == "{{ messages }}"


def test_named_templates_give_the_default_one(folder: Path) -> None:
    named = [{"name": "tool", "template": "a"}, {"name": "default", "template": "b"}]
    edit_json(folder / "tokenizer_config.json", chat_template=named)
    assert tokenizer.read(folder, VOCABULARY, LLAMA).chat_template == "b"
