"""GGUF tokenizers against Hugging Face's, through llama.cpp."""

from __future__ import annotations

import itertools
import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, processors
from transformers import AutoTokenizer

from mlx_finetuning.errors import TokenizerUnreadable, TokenizerUnsupported
from mlx_finetuning.files import ASSETS
from mlx_finetuning.quantizer.families import registry
from mlx_finetuning.quantizer.families.llama import Llama
from mlx_finetuning.quantizer.families.phi3 import Phi3
from mlx_finetuning.quantizer.llama_cpp.inference import LlamaModel
from mlx_finetuning.quantizer.verify.parity import compare_tokens
from mlx_finetuning.quantizer.vocabulary import tokenizer
from mlx_finetuning.quantizer.write.export import export_gguf
from mlx_finetuning.tokenization import battery, files, loading
from mlx_finetuning.utils import chat_template
from support.gguf_files import metadata
from support.small_models import (
    PRE_TOKENIZERS,
    edit_json,
    write_gemma4_tokenizer,
    write_model,
    write_sentencepiece,
    write_tokenizer,
)
from support.sweeps import sweep

VOCABULARY = 608
SPACE_TO_MARK = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}


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
            [],
            builtin=battery.TEXTS,
        )
    assert parity.differing == ()
    # llama.cpp's form of these two patterns leaves combining marks out of words.
    marked = [text for text in parity.foreign if any(unicodedata.combining(c) for c in text)]
    assert list(parity.foreign) == (marked if pre in ("gpt-4o", "tekken") else [])


SENTENCEPIECE: dict[str, tuple[str, dict[str, Any]]] = {
    "llama 2": ("llama 2", {"legacy": False}),
    "llama 2, legacy": ("llama 2", {"legacy": True}),
    "mistral": ("mistral", {}),
    "gemma": ("gemma2", {"tokenizer_class": "GemmaTokenizer"}),
}


FORMS = ("tokenizer.model", "tokenizer.json", "older tokenizer.json")
TELLING = (
    *((kind, "tokenizer.model") for kind in SENTENCEPIECE),
    *(("llama 2, legacy", "tokenizer.json"), ("gemma", "tokenizer.json")),
    ("mistral", "older tokenizer.json"),
)


@pytest.mark.parametrize(("kind", "form"), sweep(itertools.product(SENTENCEPIECE, FORMS), TELLING))
def test_sentencepiece_tokenizers_cut_every_text_alike(
    tmp_path: Path, kind: str, form: str
) -> None:
    family, settings = SENTENCEPIECE[kind]
    folder = tmp_path / "m"
    config = write_model(folder, family, num_hidden_layers=1)
    write_sentencepiece(folder, **settings)
    if form != "tokenizer.model":
        AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
        (folder / "tokenizer.model").unlink()
    if form == "older tokenizer.json":
        marks = [{"type": "Prepend", "prepend": "▁"}, SPACE_TO_MARK]
        normalizer = {"type": "Sequence", "normalizers": marks}
        edit_json(folder / "tokenizer.json", normalizer=normalizer, pre_tokenizer=None)
    original = loading.load(files.read(folder))
    encode = lambda text, special: original.encode(text, add_special_tokens=special)  # noqa: E731
    expected = tokenizer.read(folder, VOCABULARY, registry.of(config))
    with LlamaModel(gguf_of(folder), 64) as model:
        parity = compare_tokens(model, encode, battery.TEXTS, expected)
        prompt = AutoTokenizer.from_pretrained(folder).apply_chat_template(
            [{"role": "user", "content": " 空白 から。\n\n終わり "}], tokenize=False
        )
        assert model.tokenize(prompt, False) == encode(prompt, False)
        assert model.tokenize("一文", True)[:1] == encode("一文", True)[:1] == [1]
    assert parity.differing == ()


def test_gemma_4s_tokenizer_cuts_every_text_alike(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    config = write_model(folder, "gemma4")
    write_gemma4_tokenizer(folder)
    original = AutoTokenizer.from_pretrained(folder)
    path = gguf_of(folder)
    texts = [
        *battery.TEXTS,
        "<|turn>user\n質問<unused0><table>です。<turn|>\n\n\n\n終わり",
        "\n" * 31,
    ]
    with LlamaModel(path, 64) as model:
        encode = lambda text, special: original.encode(text, add_special_tokens=special)  # noqa: E731
        assert compare_tokens(model, encode, texts).differing == ()
        assert model.tokenize("一文", True)[0] == original.bos_token_id
        assert model.ends_generation(original.convert_tokens_to_ids("<turn|>"))
    written = metadata(path)
    assert written["tokenizer.ggml.model"] == "gemma4"
    assert "tokenizer.ggml.pre" not in written
    assert set(written["tokenizer.ggml.scores"]) == {-1000.0, -10000.0}
    found = tokenizer.read(folder, VOCABULARY, registry.of(config))
    kinds = dict(zip(found.tokens, found.types, strict=True))
    expected = {
        "<|turn>": "CONTROL",
        "<|tool_call>": "USER_DEFINED",
        "<unused0>": "CONTROL",
        "<table>": "USER_DEFINED",
        "<0x0A>": "BYTE",
        "\n\n": "NORMAL",
    }
    assert {text: kinds[text].name for text in expected} == expected


def test_broken_sentencepiece_file_is_an_error(tmp_path: Path) -> None:
    config = write_model(tmp_path / "m", "llama 2", num_hidden_layers=1)
    write_sentencepiece(tmp_path / "m")
    AutoTokenizer.from_pretrained(tmp_path / "m").save_pretrained(tmp_path / "m")
    (tmp_path / "m" / "tokenizer.model").write_bytes(b"\x0a\xff")
    with pytest.raises(TokenizerUnreadable, match="tokenizer"):
        tokenizer.read(tmp_path / "m", VOCABULARY, registry.of(config))


def test_phi_4_keeps_llama_cpps_name_for_its_pre_tokenizer(folder: Path) -> None:
    write_tokenizer(folder, "smaug-bpe")
    assert tokenizer.read(folder, VOCABULARY, Llama()).pre == "smaug-bpe"
    assert tokenizer.read(folder, VOCABULARY, Phi3()).pre == "dbrx"


def test_shipped_model_cuts_every_text_alike(tmp_path: Path) -> None:
    shipped = ASSETS / "tiny-ja"
    original = Tokenizer.from_file(str(shipped / "tokenizer.json"))
    export_gguf(shipped, None, {"Q8_0": tmp_path / "m.gguf"})
    with LlamaModel(tmp_path / "m.gguf", 64) as model:
        encode = lambda text, special: original.encode(text, add_special_tokens=special).ids  # noqa: E731
        assert compare_tokens(model, encode, battery.TEXTS).differing == ()
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
        tokenizer.read(folder, VOCABULARY, Llama())


def test_slightly_different_split_is_not_taken_for_a_known_one(folder: Path) -> None:
    path = folder / "tokenizer.json"
    changed = path.read_text(encoding="utf-8").replace("{1,3}", "{1,2}")
    path.write_text(changed, encoding="utf-8")
    with pytest.raises(TokenizerUnsupported, match="分割の規則"):
        tokenizer.read(folder, VOCABULARY, Llama())


def test_vocabulary_larger_than_the_model_is_an_error(folder: Path) -> None:
    with pytest.raises(TokenizerUnsupported, match="語彙数"):
        tokenizer.read(folder, 100, Llama())


def test_rows_without_a_token_become_unused_padding(folder: Path) -> None:
    found = tokenizer.read(folder, VOCABULARY, Llama())
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
        tokenizer.read(folder, VOCABULARY, Llama())


def test_template_file_comes_before_the_setting(folder: Path) -> None:
    assert "im_start" in str(tokenizer.read(folder, VOCABULARY, Llama()).chat_template)
    (folder / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")
    written = tokenizer.read(folder, VOCABULARY, Llama()).chat_template
    assert written == chat_template.protected("{{ messages }}")


def test_named_templates_give_the_default_one(folder: Path) -> None:
    named = [{"name": "tool", "template": "a"}, {"name": "default", "template": "b"}]
    edit_json(folder / "tokenizer_config.json", chat_template=named)
    assert tokenizer.read(folder, VOCABULARY, Llama()).chat_template == chat_template.protected("b")
