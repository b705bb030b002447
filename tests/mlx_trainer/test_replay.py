"""Replay: what the base said by itself is learned beside the rows, exactly and again the same."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_finetuning import config as settings
from mlx_finetuning.config import GenerateConfig, TrainConfig
from mlx_finetuning.errors import Interrupted
from mlx_finetuning.mlx_trainer.batches import batches
from mlx_finetuning.mlx_trainer.batches.batches import BatchLayout
from mlx_finetuning.mlx_trainer.batches.examples import Example, encode_rows
from mlx_finetuning.mlx_trainer.gradient import backward
from mlx_finetuning.mlx_trainer.inference import generate
from mlx_finetuning.mlx_trainer.model import trainable
from mlx_finetuning.mlx_trainer.model.load import LoadedModel, load
from mlx_finetuning.mlx_trainer.training import checkpoints, replay
from mlx_finetuning.progress import Step, silent
from mlx_finetuning.utils import gguf_base
from support import model_classes
from support.cut_models import short_folder
from support.model_classes import model_of, named
from support.resumed_run import CONFIG, former, lines, rows, stop_at, train
from support.sweeps import sweep

REPLAYING = dataclasses.replace(CONFIG, replay=2)


def said(count: int) -> list[Example]:
    """Answers of another kind than the rows', as if the base had given them."""
    turns = [
        ("user", "空は何色ですか？" + "ねえ" * (n % 3), "青です。" * (1 + n % 2))
        for n in range(count)
    ]
    chats = [
        {"messages": [{"role": role, "content": asked}, {"role": "assistant", "content": answer}]}
        for role, asked, answer in turns
    ]
    return encode_rows(load(short_folder()), chats, 1024)


# --- what is learned ---------------------------------------------------------------------


@pytest.mark.parametrize("make", [batches.padded, batches.concatenated, batches.packed])
@pytest.mark.parametrize("kind", ["llama", "gemma2", "phi3"])
def test_learned_is_the_whole_prediction_of_the_base(kind: str, make: Any) -> None:
    model = model_of(kind)
    examples, expected_loss, expected = _expected(model, BatchLayout(make))
    value, found = backward.gradient_of(model)(make(examples))
    assert float(value.item()) == pytest.approx(expected_loss, rel=1e-4)
    for name, gradient in tree_flatten(found):
        wanted = expected[name]
        np.testing.assert_allclose(gradient, wanted, atol=1e-4 * np.abs(wanted).max())


def test_the_compiled_gradient_of_replayed_rows_is_the_plain_one() -> None:
    model = model_of("llama")
    examples, expected_loss, expected = _expected(model, batches.PACKED)
    step = backward.compiled(model)
    # Rows with and without a reference take turns in one function.
    step(batches.packed(model_classes.examples()))
    value, found = step(batches.packed(examples))
    assert float(value.item()) == pytest.approx(expected_loss, rel=1e-4)
    for name, gradient in named(model, found):
        wanted = expected[name]
        np.testing.assert_allclose(gradient, wanted, atol=1e-4 * np.abs(wanted).max())


def _expected(
    model: nn.Module, layout: BatchLayout
) -> tuple[list[Example], float, dict[str, np.ndarray]]:
    """Examples with their reference, and divergence and gradients by whole, plain predictions."""
    tuned = trainable.of(model).arrays()
    trainable.of(model).put(
        {name: mx.zeros_like(value) if "lora_b" in name else value for name, value in tuned.items()}
    )
    plain = model_classes.examples()
    examples = replay.with_reference(SimpleNamespace(model=model), plain, layout, silent)  # type: ignore[arg-type]
    base = [model(mx.array([one.tokens[:-1]]))[0] for one in plain]
    mx.eval(base)
    trainable.of(model).put(tuned)

    def divergence() -> mx.array:
        total = mx.array(0.0)
        for one, logits in zip(plain, base, strict=True):
            known, own = (
                nn.log_softmax(item.astype(mx.float32))
                for item in (logits, model(mx.array([one.tokens[:-1]]))[0])
            )
            nats = (mx.exp(known) * (known - own)).sum(-1)
            total = total + (nats * mx.array(one.supervised[1:])).sum()
        return total

    value, gradients = nn.value_and_grad(model, divergence)()
    found = {name: np.array(item) for name, item in tree_flatten(gradients)}
    assert float(value.item()) > 0.1
    return examples, float(value.item()), found


def test_where_the_head_is_trained_the_words_themselves_are_learned() -> None:
    model = model_of("phi3")
    model.lm_head.unfreeze()
    plain = model_classes.examples()
    loaded: Any = SimpleNamespace(model=model)
    given = replay.with_reference(loaded, plain, batches.CONCATENATED, silent)
    assert [example.reference for example in given] == [None] * len(plain)


# --- the run -----------------------------------------------------------------------------


def test_the_first_loss_of_the_rows_is_what_it_is_without_replay(tmp_path: Path) -> None:
    train(tmp_path / "with", dataclasses.replace(REPLAYING, iterations=2), replayed=said(6))
    train(tmp_path / "without", dataclasses.replace(CONFIG, iterations=2))
    ours, plain = (
        [line for line in lines(tmp_path / name) if "loss" in line] for name in ("with", "without")
    )
    assert ours[0]["loss"] == plain[0]["loss"]
    assert ours[0]["supervised_tokens"] == plain[0]["supervised_tokens"]
    # The base diverges from itself by nothing, and so the first step is the rows' alone.
    assert ours[0]["replay_loss"] == pytest.approx(0, abs=1e-6)
    assert ours[1]["replay_loss"] > 1e-6


def test_replay_keeps_the_base_closer(tmp_path: Path) -> None:
    diverged = {}
    for weight in (0.0, 5.0):
        config = dataclasses.replace(REPLAYING, iterations=30, replay_weight=weight, dropout=0.0)
        result = train(tmp_path / str(weight), config, replayed=said(6))
        assert result.replayed == 6
        diverged[weight] = lines(tmp_path / str(weight))[-2]["replay_loss"]
    assert diverged[5.0] < 0.5 * diverged[0.0]


@pytest.mark.parametrize("processes", sweep((1, 2), (1,)))  # two: `test_resume`, without replay
def test_a_run_that_replays_goes_on_bit_identical(processes: int, tmp_path: Path) -> None:
    config = dataclasses.replace(REPLAYING, processes=processes, micro_batch_size=2)
    train(tmp_path / "whole", config, replayed=said(5))
    with pytest.raises(Interrupted):
        train(tmp_path / "cut", config, stop_at(7), replayed=said(5))
    train(tmp_path / "cut", config, replayed=said(5))
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")
    ours, theirs = (
        mx.load(str(tmp_path / name / "adapters.safetensors")) for name in ("cut", "whole")
    )
    assert all(bool((ours[key] == theirs[key]).all()) for key in theirs)


def test_without_replay_a_checkpoint_is_known_as_before(tiny: LoadedModel) -> None:
    """Versions that knew nothing of replay took the digest of all their settings."""
    examples = encode_rows(tiny, rows(3), 64)
    config = TrainConfig()
    digest = hashlib.sha256(repr(sorted(former(settings.as_dict(config)).items())).encode())
    for example in examples:
        digest.update(repr((example.tokens, example.supervised)).encode())
    assert checkpoints.identity(config, examples, (), None).trained == digest.hexdigest()
    other = checkpoints.identity(config, examples, (), None, said(2))
    assert other.trained != digest.hexdigest()


def test_a_run_of_a_version_without_replay_replays_nothing() -> None:
    assert settings.load_of_run({"rank": 4}).replay == 0
    assert settings.load_of_run(settings.as_dict(TrainConfig())).replay == -1


# --- what the base says ------------------------------------------------------------------


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SAMPLED", "KEPT"):
        monkeypatch.setattr(replay, name, 5)
    monkeypatch.setattr(replay, "LEAST", 2)


def ask(
    tiny: LoadedModel, folder: Path, progress: Callable[[Step], None] = silent
) -> replay.Replay:
    config = TrainConfig(replay=2)
    return replay.prepare(tiny, rows(2), config, folder / "cache", folder / "run.jsonl", progress)


@pytest.mark.usefixtures("few")
def test_the_base_asks_itself_once_and_a_run_keeps_what_it_replays(
    tiny: LoadedModel, tmp_path: Path
) -> None:
    steps: list[Step] = []
    first = ask(tiny, tmp_path, steps.append)
    assert 2 <= len(first.examples) <= 5
    assert {step.stage for step in steps} == {replay.STAGE}
    [cached] = (tmp_path / "cache").iterdir()
    assert cached.read_bytes() == (tmp_path / "run.jsonl").read_bytes()

    again: list[Step] = []
    assert ask(tiny, tmp_path, again.append) == first and not again
    cached.unlink()
    assert ask(tiny, tmp_path, again.append) == first and not again
    (tmp_path / "run.jsonl").unlink()
    assert ask(tiny, tmp_path) == first  # sampled anew, and the same


@pytest.mark.usefixtures("few")
def test_an_estimate_asks_no_base_but_says_how_long_that_takes(
    tiny: LoadedModel, tmp_path: Path
) -> None:
    config = TrainConfig(replay=2)
    stand_ins, asked_s = replay.rehearse(tiny, rows(2), config, tmp_path / "cache", silent)
    assert asked_s > 0 and not list(tmp_path.iterdir())
    assert {one.targets for one in stand_ins.examples} == {replay.ANSWER_TOKENS}
    known = ask(tiny, tmp_path)
    assert replay.rehearse(tiny, rows(2), config, tmp_path / "cache", silent) == (known, 0.0)
    config = dataclasses.replace(config, replay=0)
    nothing = (replay.Replay(), 0.0)
    assert replay.rehearse(tiny, rows(2), config, tmp_path / "none", silent) == nothing


@pytest.mark.usefixtures("few")
def test_answers_are_those_that_the_base_gives_when_it_is_asked(
    tiny: LoadedModel, tmp_path: Path
) -> None:
    ask(tiny, tmp_path)
    for one in replay.files.read_records(tmp_path / "run.jsonl", replay.SelfAnswer):
        turns = [{"role": "user", "content": one.question}]
        asked = GenerateConfig(max_tokens=replay.ANSWER_TOKENS)
        ends = "".join(tiny.end_texts())
        assert one.answer.removesuffix(ends) == generate.answer(tiny, turns, asked).text
        assert one.tokens[: one.prompt] == tiny.render(turns, ask=True)
        example = one.example(1024)
        assert example.targets == len(one.tokens) - one.prompt


def test_bases_in_two_gguf_files_have_nothing_in_common(tiny: LoadedModel, tmp_path: Path) -> None:
    def kept_in(name: str, sha256: str) -> LoadedModel:
        gguf_base.write(tmp_path, gguf_base.GgufBase(f"/{name}.gguf", 9, 0, sha256, (), {}))
        return dataclasses.replace(tiny, folder=tmp_path)

    first = replay.base_of(kept_in("first", "00"))
    assert replay.base_of(kept_in("second", "01")) != first
    assert replay.base_of(kept_in("moved", "00")) == first


@pytest.mark.usefixtures("few")
def test_stopping_the_base_leaves_nothing_half_said(tiny: LoadedModel, tmp_path: Path) -> None:
    def stop(step: Step) -> None:
        if step.done > 5:
            raise Interrupted()

    with pytest.raises(Interrupted):
        ask(tiny, tmp_path, stop)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_nothing_is_replayed_where_it_makes_no_sense_and_the_reason_is_said(
    tiny: LoadedModel, tmp_path: Path
) -> None:
    pair: Any = {"prompt": "色は？", "chosen": "青", "rejected": "赤"}
    text: Any = {"text": "空は青い。"}
    untold = dataclasses.replace(tiny, chat=dataclasses.replace(tiny.chat, template=None))
    cases: list[tuple[LoadedModel, Any, int, str]] = [
        (tiny, pair, 4, "好みの比較"),
        (tiny, text, 4, "文章"),
        (untold, rows(1)[0], 4, "書式"),
        (tiny, rows(1)[0], -1, "小さく"),
        (tiny, rows(1)[0], 0, ""),
    ]
    for loaded, row, wanted, reason in cases:
        config = TrainConfig(replay=wanted)
        given = replay.prepare(loaded, [row], config, tmp_path, None, silent)
        assert given.examples == ()
        assert (reason in given.reason_ja) if reason else (given.reason_ja == "")
