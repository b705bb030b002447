"""DPO, ORPO and SimPO: losses and gradients against plain references, and whole runs on pairs."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten
from numpy.typing import NDArray

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.errors import Interrupted, InvalidSettings, NothingToLearn
from mlx_finetuning.mlx_trainer.batches import batches
from mlx_finetuning.mlx_trainer.batches.examples import Example
from mlx_finetuning.mlx_trainer.gradient import backward, objectives, preference
from mlx_finetuning.mlx_trainer.gradient.preference import Pair
from mlx_finetuning.mlx_trainer.model import adapters
from mlx_finetuning.mlx_trainer.model.load import LoadedModel, load
from mlx_finetuning.progress import silent
from support.helpers import with_template
from support.model_classes import model_of
from support.recorded_run import rows, tiny_folder
from support.resumed_run import assert_same_runs, lines, metrics, stop_at, train

BETA, GAMMA = 0.7, 0.4


def config_of(objective: str, **changes: Any) -> TrainConfig:
    return TrainConfig(objective=objective, beta=BETA, gamma=GAMMA, **changes)


def pairs() -> list[Pair]:
    random = np.random.default_rng(2)

    def answer(length: int) -> Example:
        tokens = random.integers(0, 300, length).tolist()
        return Example(tokens, [place > length // 3 for place in range(length)], row=length)

    return [
        Pair(answer(first), answer(second), reference=(-3.0 * first, -2.5 * second))
        for first, second in ((9, 14), (22, 6), (12, 12))
    ]


# --- references --------------------------------------------------------------------------


def _log_probabilities(logits: NDArray[np.float64], example: Example) -> NDArray[np.float64]:
    shifted = logits - logits.max(-1, keepdims=True)
    normal = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    chosen = normal[np.arange(len(logits)), example.tokens[1:]]
    return chosen[np.array(example.supervised[1:])]


def _in_numpy(model: nn.Module, objective: str) -> float:
    total = 0.0
    for pair in pairs():
        found = []
        for answer in (pair.chosen, pair.rejected):
            logits = np.array(model(mx.array([answer.tokens[:-1]]))[0], np.float64)
            found.append(_log_probabilities(logits, answer))
        if objective == "dpo":
            better, worse = (
                one.sum() - before for one, before in zip(found, pair.reference, strict=True)
            )
            total += math.log1p(math.exp(-BETA * (better - worse)))
        elif objective == "simpo":
            better, worse = (one.mean() for one in found)
            total += math.log1p(math.exp(GAMMA - BETA * (better - worse)))
        else:
            better, worse = (math.exp(one.mean()) for one in found)
            ratio = (better / (1 - better)) / (worse / (1 - worse))
            total += -math.log(better) + BETA * math.log1p(1 / ratio)
    return total


def _by_autograd(model: nn.Module, objective: str) -> dict[str, NDArray[Any]]:
    def log_probabilities(answer: Example) -> mx.array:
        logits = model(mx.array([answer.tokens[:-1]]))[0]
        nats = nn.losses.cross_entropy(logits, mx.array(answer.tokens[1:]))
        return -nats * mx.array(answer.supervised[1:])

    def total() -> mx.array:
        losses = []
        for pair in pairs():
            better, worse = log_probabilities(pair.chosen), log_probabilities(pair.rejected)
            if objective == "dpo":
                margin = better.sum() - pair.reference[0] - worse.sum() + pair.reference[1]
                losses.append(-mx.log(mx.sigmoid(BETA * margin)))
                continue
            better = better.sum() / pair.chosen.targets
            worse = worse.sum() / pair.rejected.targets
            if objective == "simpo":
                losses.append(-mx.log(mx.sigmoid(BETA * (better - worse) - GAMMA)))
                continue
            odds = [mx.exp(one) / (1 - mx.exp(one)) for one in (better, worse)]
            losses.append(-better - BETA * mx.log(mx.sigmoid(mx.log(odds[0] / odds[1]))))
        return mx.stack(losses).sum()

    _, found = nn.value_and_grad(model, total)()
    return {name: np.array(value) for name, value in tree_flatten(found)}


@pytest.mark.parametrize("build", [batches.concatenated, batches.padded])
@pytest.mark.parametrize("objective", ["dpo", "orpo", "simpo"])
@pytest.mark.parametrize("kind", ["llama", "gemma2", "qwen3"])
def test_loss_and_gradients_equal_those_of_the_formula(
    kind: str, objective: str, build: Any
) -> None:
    model = model_of(kind)
    sums, found = backward.gradient_for(model, config_of(objective))(
        preference.batch_of(build, pairs())
    )
    assert sums[0].item() == pytest.approx(_in_numpy(model, objective), rel=1e-4)
    ours = {name: np.array(value) for name, value in tree_flatten(found)}
    expected = _by_autograd(model, objective)
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        assert np.abs(value).max() > 0
        np.testing.assert_allclose(ours[name], value, atol=1e-4 * np.abs(value).max())


def test_marks_count_leading_answers_and_add_their_margins() -> None:
    found = mx.array([[-1.0, -4.0], [-5.0, -2.0]])
    reference = mx.array([[-2.0, -2.0], [-1.0, -1.0]])
    batch = preference.PairBatch(None, mx.ones((4, 3)), reference)  # type: ignore[arg-type]
    losses, margins = preference.dpo(found, batch, TrainConfig(beta=0.5))
    np.testing.assert_allclose(np.array(margins), [1.5, -1.5])
    expected = [math.log1p(math.exp(-1.5)), math.log1p(math.exp(1.5))]
    np.testing.assert_allclose(np.array(losses), expected, rtol=1e-6)


def test_certain_answer_has_finite_odds() -> None:
    found = mx.array([[0.0, -1e-9]])
    batch = preference.PairBatch(None, mx.ones((2, 3)), found)  # type: ignore[arg-type]
    losses, _ = preference.orpo(found, batch, TrainConfig(beta=0.1))
    assert np.isfinite(np.array(losses)).all()


# --- the reference model -----------------------------------------------------------------

ROWS = [
    {
        "prompt": f"品番{n}の値段は？",
        "chosen": f"{n}00円です。",
        "rejected": "知りません。" if n % 2 else f"{n}円かもしれません。",
        "row": n + 2,
    }
    for n in range(8)
]


@pytest.mark.parametrize("method", ["lora", "dora", "full"])
def test_reference_is_the_model_without_adapters(tiny: LoadedModel, method: str) -> None:
    plain = preference.encode_pairs(tiny, ROWS, 64)
    expected = preference.log_probabilities(tiny.model, preference.batch_of(batches.padded, plain))
    adapters.attach(tiny.model, TrainConfig(method=method))
    found = preference.with_reference(
        tiny.model, plain, 3, objectives.DPO.layout(batches.CONCATENATED), silent
    )
    np.testing.assert_allclose([pair.reference for pair in found], np.array(expected), rtol=1e-4)


def test_both_answers_follow_the_same_question(tiny: LoadedModel) -> None:
    [pair] = preference.encode_pairs(tiny, [{**ROWS[0], "tools": []}], 64)
    start = pair.chosen.supervised.index(True)
    assert pair.chosen.tokens[:start] == pair.rejected.tokens[:start]
    question = [{"role": "user", "content": str(ROWS[0]["prompt"])}]
    assert pair.chosen.tokens[:start] == tiny.render(question, ask=True)
    assert pair.row == 2


def test_pairs_without_room_for_an_answer_are_left_out(tiny: LoadedModel) -> None:
    long = {"prompt": "長い質問。" * 40, "chosen": "あ", "rejected": "い"}
    assert len(preference.encode_pairs(tiny, [*ROWS, long], 64)) == len(ROWS)
    with pytest.raises(NothingToLearn):
        preference.encode_pairs(tiny, [long], 64)


def test_objective_follows_the_rows() -> None:
    chat = rows(2)
    assert objectives.objective_for(TrainConfig(), ROWS) is objectives.DPO
    assert objectives.objective_for(TrainConfig(), chat) is objectives.SFT
    assert objectives.objective_for(config_of("sft"), ROWS) is objectives.SFT
    with pytest.raises(InvalidSettings):
        objectives.objective_for(config_of("orpo"), chat)


# --- whole runs --------------------------------------------------------------------------

RUN = TrainConfig(
    iterations=10,
    batch_size=3,
    rank=4,
    dropout=0.1,
    learning_rate=1e-3,
    warmup=2,
    beta=0.3,
    num_layers=1,
    validate_every=5,
    checkpoint_every=3,
    max_length=64,
    sample_every=0,
)


@pytest.fixture(scope="module")
def preferred(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted DPO run."""
    folder = tmp_path_factory.mktemp("dpo")
    assert train(folder, RUN, data=(ROWS, ROWS[:2])).objective == "dpo"
    return folder


def test_dpo_begins_undecided_and_learns_what_is_preferred(preferred: Path) -> None:
    assert metrics(preferred, "loss")[0] == pytest.approx(math.log(2), rel=0.05)
    assert metrics(preferred, "valid_loss")[0] == pytest.approx(math.log(2), rel=1e-5)
    assert metrics(preferred, "valid_loss")[-1] < 0.6
    assert metrics(preferred, "valid_accuracy")[-1] == 1.0
    margins = metrics(preferred, "margin")
    assert margins[-1] > margins[0]
    assert len(margins) == RUN.iterations


def test_stopped_dpo_run_goes_on_bit_identical(preferred: Path, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(tmp_path, RUN, stop_at(4), data=(ROWS, ROWS[:2]))
    train(tmp_path, RUN, data=(ROWS, ROWS[:2]))
    assert_same_runs(tmp_path, preferred)


@pytest.mark.parametrize("objective", ["orpo", "simpo"])
def test_helper_processes_change_no_loss_of_pairs(tmp_path: Path, objective: str) -> None:
    config = dataclasses.replace(RUN, dropout=0.0, iterations=3, objective=objective)
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        result = train(folder, dataclasses.replace(config, processes=processes), data=(ROWS, []))
        assert (result.processes, result.objective) == (processes, objective)
    one, two = (metrics(tmp_path / name, "loss") for name in ("1", "2"))
    assert one == pytest.approx(two, rel=1e-4)


def test_chosen_answers_alone_can_be_learned(tmp_path: Path) -> None:
    config = dataclasses.replace(RUN, objective="sft", iterations=2)
    result = train(tmp_path, config, data=(ROWS, []))
    assert result.objective == "sft"
    assert "margin" not in lines(tmp_path)[0]


# --- plain text --------------------------------------------------------------------------


def test_text_is_learned_token_by_token_without_a_template(tmp_path: Path) -> None:
    """Continued pre-training: the loss is over every token but the first, and over the end."""
    loaded = load(tiny_folder())
    loaded = with_template(loaded, None)
    texts = [{"text": "むかしむかし、あるところに。", "row": 2}, {"text": "終わり。", "row": 3}]
    config = dataclasses.replace(RUN, iterations=1, batch_size=2, dropout=0.0)
    train(tmp_path, config, loaded=loaded, data=(texts, []))
    base = load(tiny_folder())
    total, count = 0.0, 0
    for row in texts:
        tokens = [*base.tokenizer.encode(row["text"]), base.tokenizer.eos_token_id]
        logits = base.model(mx.array([tokens[:-1]]))[0]
        total += nn.losses.cross_entropy(logits, mx.array(tokens[1:]), reduction="sum").item()
        count += len(tokens) - 1
    [line] = [line for line in lines(tmp_path) if "loss" in line]
    assert line["loss"] == pytest.approx(total / count, rel=1e-4)
    assert line["supervised_tokens"] == count
