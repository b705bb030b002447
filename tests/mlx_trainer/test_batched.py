"""Many answers at once are the answers one gets one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.generate import generate_step

from mlx_finetuning import errors
from mlx_finetuning.config import GenerateConfig
from mlx_finetuning.mlx_trainer.inference import batch_generate, generate
from mlx_finetuning.mlx_trainer.model.load import LoadedModel, load
from recipes.tiny_ja.exam import exam
from support.small_models import write_model, write_sentencepiece


def questions(size: int) -> list[list[dict[str, str]]]:
    return [chat[:-1] for kind in exam(size).values() for chat in kind]


def test_batched_answers_are_those_of_one_by_one(tiny: LoadedModel) -> None:
    chats = questions(3)
    prompts = [tiny.render(chat, ask=True) for chat in chats]
    single = [generate.answer(tiny, chat, GenerateConfig(max_tokens=20)) for chat in chats]
    together = batch_generate.answers(tiny, prompts, 20, 16)
    assert together == single
    assert {answer.ended for answer in together} == {True, False}


@pytest.mark.parametrize("family", ["llama 2", "gemma2"])
def test_a_model_is_tried_once(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path, family)
    model = load(tmp_path).model
    found = batch_generate.is_batchable(model)
    assert found is (family == "llama 2")
    monkeypatch.delattr(batch_generate, "_Sequences")
    assert batch_generate.is_batchable(model) is found


FAMILIES = ("llama 2", "qwen3", "qwen3.5", "gemma2", "gemma3", "gemma4", "phi3")


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_changes_no_answer_in_any_family(family: str, tmp_path: Path) -> None:
    write_model(tmp_path, family, dtype=mx.float32)
    loaded = load(tmp_path)
    random = np.random.default_rng(1)
    # Longer than gemma3's window of 64.
    prompts: list[list[int]] = [random.integers(5, 600, size).tolist() for size in (1, 7, 30, 90)]
    together = batch_generate.answers(loaded, prompts, 6, 8)
    for prompt, answer in zip(prompts, together, strict=True):
        alone = [token for token, _ in generate_step(mx.array(prompt), loaded.model, max_tokens=6)]
        ends = [at for at, token in enumerate(alone) if token in loaded.tokenizer.eos_token_ids]
        kept = alone[: ends[0]] if ends else alone
        assert answer.text == _decoded(loaded, kept)
        assert answer.ended == bool(ends)


def _decoded(loaded: LoadedModel, tokens: list[Any]) -> str:
    detokenizer = loaded.tokenizer.detokenizer
    detokenizer.reset()
    for token in tokens:
        detokenizer.add_token(token)
    detokenizer.finalize()
    return str(detokenizer.text)


def test_a_prompt_near_the_end_of_the_context_gets_the_room_there_is(tiny: LoadedModel) -> None:
    long = [5] * (tiny.context_length - 3)
    [long_answer, short_answer] = batch_generate.answers(tiny, [long, [5, 6, 7]], 8, 8)
    assert long_answer.tokens <= 3
    assert short_answer.tokens <= 8


def test_long_prompts_share_fewer_rows(tiny: LoadedModel) -> None:
    prompts = [[5] * 500 for _ in range(40)]
    sizes = [len(batch) for batch in batch_generate._batches(tiny, prompts, 100, 32)]
    assert sum(sizes) == 40
    assert max(sizes) * 600 <= batch_generate.POSITIONS


def test_answering_can_be_cancelled_between_two_steps(tiny: LoadedModel) -> None:
    heard: list[int] = []

    def stop(count: int) -> None:
        heard.append(count)
        if len(heard) == 3:
            raise errors.Interrupted()

    with pytest.raises(errors.Interrupted):
        batch_generate.answers(tiny, [[5, 6, 7]] * 4, 50, 4, stop)
    assert len(heard) == 3


@pytest.mark.parametrize("is_spm", [True, False])
def test_ids_beyond_the_vocabulary_have_no_text(tmp_path: Path, is_spm: bool) -> None:
    write_model(tmp_path / "m", "llama 2", num_hidden_layers=1)
    if is_spm:
        write_sentencepiece(tmp_path / "m")
    loaded = load(tmp_path / "m")
    detokenizer = loaded.tokenizer.detokenizer
    for token in (*loaded.chat.encode("はい"), loaded.config["vocab_size"] - 1):
        detokenizer.add_token(token)
    detokenizer.finalize()
    assert len(loaded.tokenizer) < loaded.config["vocab_size"]
    assert detokenizer.text == "はい"
