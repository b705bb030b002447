"""Which ends a model can reach, asked before anything is trained."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, normalizers

from mlx_finetuning.errors import ExportNotProven
from mlx_finetuning.quantizer.llama_cpp.inference import LlamaVocabulary
from mlx_finetuning.quantizer.verify import parity, reach, scripts
from mlx_finetuning.quantizer.verify.parity import Cut
from mlx_finetuning.quantizer.vocabulary import control_names
from mlx_finetuning.tokenization import files
from support.small_models import (
    edit_json,
    write_json,
    write_model,
    write_sentencepiece,
    write_tokenizer,
)
from support.sweeps import sweep

PROMPT = "<|im_start|>user\n質問<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_model(tmp_path / "m", num_hidden_layers=1)
    return tmp_path / "m"


def test_ordinary_model_reaches_all_three_ends(folder: Path) -> None:
    found = reach.reach(
        folder, [["営業時間は？", "午前9時です🚀"], ["def f():\n    pass"]], [PROMPT]
    )
    assert found.ends == ("MLX", "内蔵ランタイム", "Ollama")
    assert found.reasons == found.warnings == ()
    assert found.rows == reach.NotableRows()
    assert found.tokens and found.tokens.texts > 500


def test_model_that_cannot_be_exported_is_for_mlx_only(folder: Path) -> None:
    edit_json(folder / "config.json", model_type="mamba", architectures=["MambaForCausalLM"])
    found = reach.reach(folder, [["こんにちは"]])
    assert found.ends == ("MLX",)
    assert "GGUF" in found.reasons[0] and "MLX" in found.reasons[0]


def test_rows_with_characters_outside_the_vocabulary_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    write_model(folder, num_hidden_layers=1)
    write_sentencepiece(folder, kind="unigram", legacy=True)
    rows = [["営業時間は？\n\n午前9時"], ["質問", "🚀です"], ["株式会社"], ["鱻"]]
    found = reach.reach(folder, rows, ["<s>[user] 質問</s>\n[assistant]"])
    assert found.rows.unsayable == (1, 3)
    assert found.ends == ("MLX", "内蔵ランタイム", "Ollama")
    assert "2行（2、4行目）" in found.warnings[0] and "<unk>" in found.warnings[0]


def test_template_that_the_file_cannot_say_closes_ollama_alone(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    write_model(folder, num_hidden_layers=1)
    write_sentencepiece(folder, kind="unigram", legacy=True)
    found = reach.reach(folder, [["質問"]], ["<s>｛user｝質問</s>"])
    assert found.ends == ("MLX", "内蔵ランタイム")
    assert "会話の書式" in found.reasons[0]
    assert "serve-model" in found.reasons[-1]


def test_rows_with_names_of_control_tokens_are_warned_about(folder: Path) -> None:
    """As `</s>` in Qwen's vocabulary: an ordinary token that llama.cpp takes for a control token."""
    definition = files.read(folder).definition
    last = max(definition["model"]["vocab"].values())
    definition["model"]["vocab"] |= {"</": last + 1, "</s": last + 2, "</s>": last + 3}
    definition["model"]["merges"] += [["<", "/"], ["</", "s"], ["</s", ">"]]
    write_json(folder / "tokenizer.json", definition)
    found = reach.reach(folder, [["普通の行"], ["取り消し線は<s>と</s></html>です"]], [PROMPT])
    assert found.rows.named == (1,)
    assert found.rows.differing == ()
    assert found.ollama
    assert "</s>" in found.warnings[0] and "2行目" in found.warnings[0]
    reach.require(folder, reach.own_tokenizer(folder), ["取り消し線は<s>と</s>です"])


def test_texts_that_are_not_composed_are_counted(folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.save(str(folder / "tokenizer.json"))
    found = reach.reach(folder, [["ガラス"], ["か\u3099らす"]])
    assert found.rows.not_composed == (1,)
    assert found.rows.differing == ()
    assert found.ollama
    assert "NFC" in found.warnings[0]


def test_difference_in_other_characters_warns_and_in_the_users_own_refuses(folder: Path) -> None:
    # llama.cpp's form of this pattern leaves combining marks out of words.
    write_tokenizer(folder, "tekken")
    decomposed = "か\u3099き\u3099く\u3099 は\u309aひ\u309a（分解されたかな）"
    japanese = reach.reach(folder, [["こんにちは"]])
    assert japanese.ollama
    assert any("データにない種類の文字" in warning for warning in japanese.warnings)
    encode = reach.own_tokenizer(folder)
    with reach.vocabulary_file(folder) as (path, original), LlamaVocabulary(path) as vocabulary:
        assert parity.cut(vocabulary, encode, decomposed, original) == Cut.DIFFERENTLY
    own = reach.reach(folder, [["こんにちは"], [decomposed]])
    assert own.rows.differing == (1,)
    assert own.ends == ("MLX",)
    with pytest.raises(ExportNotProven):
        reach.require(folder, encode, [decomposed])


def test_tokenizer_that_trains_is_compared_not_the_file_again(folder: Path) -> None:
    own = reach.own_tokenizer(folder)
    rebuilt = lambda text, added: [*own(text, added), 0] if "会社" in text else own(text, added)  # noqa: E731
    found = reach.reach(folder, [["こんにちは"], ["会社"]], encode=rebuilt)
    assert found.rows.differing == (1,)
    assert not found.ollama


def test_every_listed_name_becomes_a_control_token_in_llama_cpp(tmp_path: Path) -> None:
    """Against llama.cpp itself: the list is neither too long nor unread."""
    folder = tmp_path / "m"
    write_model(folder, num_hidden_layers=1)
    edit_json(folder / "tokenizer_config.json", eos_token="<2>", pad_token="<0>")
    original_text = (folder / "tokenizer.json").read_text(encoding="utf-8")
    for name in sorted(control_names.CONTROLS):
        definition = json.loads(original_text)
        # What else has a name like it would take its place.
        names = {entry["content"]: f"<{entry['id']}>" for entry in definition["added_tokens"]}
        for entry in definition["added_tokens"]:
            entry["content"] = names[entry["content"]]
        vocabulary = definition["model"]["vocab"]
        definition["model"]["vocab"] = {
            names.get(text, text): at for text, at in vocabulary.items()
        }
        number = max(vocabulary.values()) + 1
        definition["model"]["vocab"][name] = number
        write_json(folder / "tokenizer.json", definition)
        with reach.vocabulary_file(folder) as (path, original), LlamaVocabulary(path) as vocab:
            assert original.named_controls(f"a{name}b") == [name]
            assert number in vocab.tokenize(f"a{name}b", False), name
            assert vocab.ends_generation(number) or name not in control_names.ENDING


@pytest.mark.parametrize("size", sweep((64_000, 256_000), (64_000,)))
def test_large_vocabulary_takes_seconds(folder: Path, size: int) -> None:
    definition = files.read(folder).definition
    vocabulary = definition["model"]["vocab"]
    for number in range(len(vocabulary), size):
        vocabulary[f"w{number}"] = number
    write_json(folder / "tokenizer.json", definition)
    edit_json(folder / "config.json", vocab_size=size)
    started = time.monotonic()
    assert reach.reach(folder, [["こんにちは"]] * 500).ollama
    assert time.monotonic() - started < 60


MUTATIONS: list[Any] = [
    None,
    [],
    {},
    "",
    "x",
    0,
    -1,
    10**12,
    True,
    [[]],
    [{}],
    {"type": "Sequence"},
]


@pytest.mark.parametrize("kind", ["bpe", "sentencepiece", "unigram"])
def test_strange_files_give_a_reason_not_a_traceback(
    tmp_path: Path, kind: str, often: Callable[[int], int]
) -> None:
    folder = tmp_path / "m"
    write_model(folder, num_hidden_layers=1)
    if kind != "bpe":
        write_sentencepiece(folder, kind="bpe" if kind == "sentencepiece" else kind)
        write_json(folder / "tokenizer.json", files.read(folder).definition)
        (folder / "tokenizer.model").unlink()
    chance = random.Random(kind)
    sound = files._object(folder, "tokenizer.json")
    for _ in range(often(150)):
        changed = {**sound, "model": dict(sound["model"])}
        where = chance.choice([changed, changed["model"]])
        where[chance.choice(sorted(where))] = chance.choice(MUTATIONS)
        write_json(folder / "tokenizer.json", changed)
        found = reach.reach(folder, [["こんにちは"]], ["質問"])
        assert found.ends[0] == "MLX"
        assert found.ollama or found.reasons


def test_scripts_are_told_apart() -> None:
    assert scripts.of("こんにちは、ＡＢＣ ｱｲｳ 髙橋 ー abc\n") == {"japanese", "ascii"}
    assert scripts.of("नमस्ते") == {"DEVANAGARI"}
    assert scripts.of("🚀") == {"symbols"}
    assert scripts.of("") == frozenset()
