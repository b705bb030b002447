"""The built-in model: its corpus, its tokenizer, its folder and its making."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
from pathlib import Path
from random import Random

import mlx.core as mx
import numpy as np
import pytest
from tokenizers import Tokenizer

from mlx_finetuning import files
from mlx_finetuning.errors import Interrupted
from mlx_finetuning.mlx_trainer.model.load import LoadedModel
from mlx_finetuning.progress import Step
from recipes.tiny_ja import build, pretrain
from recipes.tiny_ja import conversations as made
from recipes.tiny_ja.batches import stream
from recipes.tiny_ja.recipe import Recipe
from recipes.tiny_ja.tokenizer import ConversationEncoder
from recipes.tiny_ja.wording import varied

ASSET = files.ASSETS / "tiny-ja"
DATA = Path(__file__).parents[2] / "data"
TEXTS = (
    "こんにちは、世界。",
    "絵文字👨‍👩‍👧‍👦と🇯🇵と👍🏽",
    "髙﨑と𠮷野家、ﾊﾝｶｸ、㍿",
    "a  b\t c\n\n d\r\n",
    "0263-00-4521、税込12,800円",
    "العربية हिन्दी ไทย",
    "\u0000\u200b\ufeff",
    "",
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(ASSET / "tokenizer.json"))


# --- corpus ------------------------------------------------------------------------------


def test_corpus_depends_on_the_seed_alone() -> None:
    assert made.conversations(3, 300) == made.conversations(3, 300)
    assert made.conversations(3, 300) != made.conversations(4, 300)


def test_corpus_knows_nothing_of_the_sample_data() -> None:
    answers, names = set(), {"ミナモ", "ハヤセ", "みずも市"}
    for file in ("sample_data.csv", "sample_data_extended.csv"):
        with (DATA / file).open(encoding="utf-8") as rows:
            answers |= {row["回答"] for row in csv.DictReader(rows)}
    texts = [m["content"] for turns in made.conversations(11, 20_000) for m in turns]
    texts += [fact.answer for fact in made.world()]
    whole = "\n".join(texts)
    assert not [text for text in answers | names if text in whole]


def test_held_out_wordings_of_the_world_are_never_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """As they stand: another wording, varied as somebody might type it, can come out the same."""
    monkeypatch.setattr(made, "varied", lambda question, name, rng: question)
    rng, facts = Random(5), made.world()[:40]
    kept = {
        question
        for fact in facts
        for question in fact.phrasings()
        if made.is_held_out(question, fact.answer)
    }
    asked = {made.recall(rng, facts)[0]["content"] for _ in range(4000)}
    assert kept
    assert not kept & asked


def test_a_question_worded_otherwise_keeps_the_letters_of_the_name() -> None:
    rng = Random(1)
    for _ in range(2000):
        assert "亜伊宇製作所" in varied("亜伊宇製作所の住所を教えてください。", "亜伊宇製作所", rng)


def test_the_second_phase_never_guesses() -> None:
    settled = made.settling_conversations(2, 4000, ["到着"])
    refusals = sum(turns[-1]["content"].startswith("申し訳ありません") for turns in settled)
    first = made.conversations(2, 4000)
    assert refusals > sum(turns[-1]["content"].startswith("申し訳ありません") for turns in first)


def test_stream_skips_what_was_already_seen(tokenizer: Tokenizer) -> None:
    whole, rest = stream(tokenizer, 1, 4, 256), stream(tokenizer, 1, 4, 256, skip=3)
    for _ in range(3):
        next(whole)
    expected, seen = next(whole), next(rest)
    whole.close()
    rest.close()
    np.testing.assert_array_equal(expected.tokens, seen.tokens)
    np.testing.assert_array_equal(expected.written, seen.written)


# --- tokenizer ---------------------------------------------------------------------------


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_survives_the_tokenizer(text: str, tokenizer: Tokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


def test_conversations_are_encoded_as_transformers_renders_them(tokenizer: Tokenizer) -> None:
    from transformers import AutoTokenizer

    reference = AutoTokenizer.from_pretrained(str(ASSET), trust_remote_code=False)
    for turns in made.conversations(9, 200):
        ids, written = ConversationEncoder(tokenizer).encode([turns])[0]
        assert ids == reference.apply_chat_template(turns, return_dict=False)
        spoken = tokenizer.decode([i for i, w in zip(ids, written, strict=True) if w], False)
        replies = [m["content"] for m in turns if m["role"] == "assistant"]
        assert spoken == "".join(f"{reply}<|im_end|>" for reply in replies)


# --- the shipped folder ------------------------------------------------------------------


def test_folder_is_small_and_holds_no_code() -> None:
    assert sum(path.stat().st_size for path in ASSET.iterdir()) <= 10_000_000
    assert not list(ASSET.glob("*.py"))
    for name in ("config.json", "tokenizer_config.json"):
        assert "auto_map" not in json.loads((ASSET / name).read_text(encoding="utf-8"))


def test_folder_was_made_by_the_recipe_in_the_code() -> None:
    lines = (ASSET / "build_log.jsonl").read_text(encoding="utf-8").splitlines()
    headings = [json.loads(line)["recipe"] for line in lines if '"recipe"' in line]
    assert headings[-1] == dataclasses.asdict(Recipe())
    assert json.loads((ASSET / "config.json").read_text(encoding="utf-8")) == Recipe().config()


@pytest.mark.parametrize(
    ("size", "least"), [(12, 0.8), pytest.param(32, 0.9, marks=pytest.mark.long)]
)
def test_shipped_model_passes_its_exam(
    tiny: LoadedModel, tokenizer: Tokenizer, size: int, least: float
) -> None:
    shares = build.examine(tiny.model, tokenizer, size=size)
    assert min(shares.values()) >= least, shares  # two mistakes among twelve weigh more


# --- making it ---------------------------------------------------------------------------

SMALL = dataclasses.replace(
    Recipe(),
    updates=2,
    rows=2,
    length=64,
    settling_updates=2,
    settling_rows=2,
    settling_length=64,
    tokenizer_sample=500,
    hidden=32,
    layers=1,
    heads=2,
    kv_heads=1,
    feed_forward=32,
)


def _build(folder: Path) -> None:
    build.build(folder, SMALL, lambda step: None)


def _stop_between_the_phases(step: Step) -> None:
    if step.stage == build.SETTLING:
        raise Interrupted()


def _weights(folder: Path) -> dict[str, mx.array]:
    loaded = mx.load(str(folder / "model.safetensors"))
    assert isinstance(loaded, dict)
    return loaded


@pytest.mark.long
def test_a_build_that_was_stopped_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    _build(tmp_path / "whole")
    with pytest.raises(Interrupted):
        build.build(tmp_path / "stopped", SMALL, _stop_between_the_phases)
    assert (tmp_path / ".stopped-build" / "main.safetensors").exists()
    _build(tmp_path / "stopped")
    expected, weights = _weights(tmp_path / "whole"), _weights(tmp_path / "stopped")
    assert all(mx.array_equal(expected[name], weights[name]) for name in expected)


@pytest.mark.long
def test_a_former_model_stays_until_the_new_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / build.BUILD_LOG).write_text("former", encoding="utf-8")

    def fail(*_: object) -> None:
        raise OSError

    with monkeypatch.context() as patch:
        patch.setattr(pretrain, "save_weights", fail)
        with pytest.raises(OSError):
            _build(folder)
    assert (folder / build.BUILD_LOG).read_text(encoding="utf-8") == "former"
    _build(folder)
    assert _weights(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear", encoding="utf-8")
    with pytest.raises(FileExistsError):
        _build(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_training_resumed_from_its_state_ends_at_the_same_weights(tmp_path: Path) -> None:
    def train(stop_after: int | None) -> list[mx.array]:
        state = tmp_path / "state.safetensors"
        mx.random.seed(1)
        model = pretrain.build_llama(SMALL.config())
        rng = np.random.default_rng(0)
        made_rows = [
            (rng.integers(3, 4000, (2, 64)).astype(np.uint16), rng.random((2, 64)) < 0.5)
            for _ in range(4)
        ]
        left = made_rows[pretrain.updates_done(state) : stop_after]
        settings = pretrain.Pretraining(4, 1e-3, 0.1, 0.1, 0.1, 3)
        with contextlib.suppress(StopIteration):
            pretrain.pretrain(model, iter(left), settings, lambda _: None, state, save_every=2)
        return [model.layers[0].mlp.down_proj.weight, model.model.embed_tokens.weight]

    whole = train(None)
    train(stop_after=3)  # stopped in the third update; the state holds two
    assert pretrain.updates_done(tmp_path / "state.safetensors") == 2
    resumed = train(None)
    assert all(mx.array_equal(a, b) for a, b in zip(whole, resumed, strict=True))
