"""KTO: loss and gradients against plain references, and whole runs on answers marked good or bad."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
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
from mlx_finetuning.mlx_trainer.gradient import backward, judged, objectives
from mlx_finetuning.mlx_trainer.gradient.judged import Judged
from mlx_finetuning.mlx_trainer.model import adapters
from mlx_finetuning.mlx_trainer.model.load import LoadedModel
from mlx_finetuning.mlx_trainer.training import memory_fit
from mlx_finetuning.progress import silent
from support.model_classes import model_of
from support.resumed_run import assert_same_runs, metrics, stop_at, train

CONFIG = TrainConfig(objective="kto", beta=0.3, desirable_weight=1.5, undesirable_weight=0.5)


def answers() -> list[Judged]:
    random = np.random.default_rng(4)

    def answer(length: int) -> Example:
        tokens = random.integers(0, 300, length).tolist()
        return Example(tokens, [place > length // 3 for place in range(length)], row=length)

    lengths = ((9, 14), (22, 6), (12, 17), (7, 11))
    return [
        Judged(answer(own), answer(other), own % 2 == 0, -3.0 * own, -4.5 * other)
        for own, other in lengths
    ]


# --- references --------------------------------------------------------------------------


def _nats(model: nn.Module, example: Example) -> float:
    """Log-probability of an answer, in NumPy, from the model's logits."""
    logits = np.array(model(mx.array([example.tokens[:-1]]))[0], np.float64)
    normal = logits - np.log(np.exp(logits - logits.max()).sum(-1, keepdims=True)) - logits.max()
    chosen = normal[np.arange(len(logits)), example.tokens[1:]]
    return float(chosen[np.array(example.supervised[1:])].sum())


def _drift(model: nn.Module) -> float:
    ratios = [_nats(model, one.mismatched) - one.mismatched_reference for one in answers()]
    return max(0.0, sum(ratios) / len(ratios))


def _in_numpy(model: nn.Module) -> float:
    """Equations 7 and 8 of the paper: the weight minus the value."""
    total, drift = 0.0, _drift(model)
    for one in answers():
        moved = _nats(model, one.answer) - one.reference - drift
        weight = CONFIG.desirable_weight if one.is_desirable else CONFIG.undesirable_weight
        value = 1 / (1 + math.exp(-CONFIG.beta * (moved if one.is_desirable else -moved)))
        total += weight - weight * value
    return total


def _by_autograd(model: nn.Module, drift: float) -> dict[str, NDArray[Any]]:
    def total() -> mx.array:
        losses = []
        for one in answers():
            logits = model(mx.array([one.answer.tokens[:-1]]))[0]
            nats = nn.losses.cross_entropy(logits, mx.array(one.answer.tokens[1:]))
            moved = -(nats * mx.array(one.answer.supervised[1:])).sum() - one.reference - drift
            if one.is_desirable:
                losses.append(CONFIG.desirable_weight * (1 - mx.sigmoid(CONFIG.beta * moved)))
            else:
                losses.append(CONFIG.undesirable_weight * (1 - mx.sigmoid(-CONFIG.beta * moved)))
        return mx.stack(losses).sum()

    _, found = nn.value_and_grad(model, total)()
    return {name: np.array(value) for name, value in tree_flatten(found)}


def _shifted(model: nn.Module) -> list[Judged]:
    """References near what the model says, so that no sigmoid is flat, and the drift is above 0."""
    return [
        dataclasses.replace(
            one,
            reference=_nats(model, one.answer) + (1.0 if one.is_desirable else -2.0),
            mismatched_reference=_nats(model, one.mismatched) - 1.0 - place,
        )
        for place, one in enumerate(answers())
    ]


@pytest.mark.parametrize("build", [batches.concatenated, batches.padded])
@pytest.mark.parametrize("kind", ["llama", "gemma2"])
def test_loss_and_gradients_equal_those_of_the_formula(
    kind: str, build: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(kind)
    shifted = _shifted(model)
    monkeypatch.setitem(globals(), "answers", lambda: shifted)
    layout = batches.BatchLayout(partial(judged.batch_of, build))
    found_in = judged.with_drift(model, shifted, 3, layout)
    drift = found_in[0].drift
    assert drift == pytest.approx(_drift(model), rel=1e-4)
    assert drift > 1
    sums, found = backward.gradient_for(model, CONFIG)(judged.batch_of(build, found_in))
    assert sums[0].item() == pytest.approx(_in_numpy(model), rel=1e-4)
    ours = {name: np.array(value) for name, value in tree_flatten(found)}
    expected = _by_autograd(model, drift)
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        assert np.abs(value).max() > 0
        np.testing.assert_allclose(ours[name], value, atol=1e-4 * np.abs(value).max())


def test_drift_is_never_below_zero() -> None:
    model = model_of("llama")
    far = [dataclasses.replace(one, mismatched_reference=0.0) for one in answers()]
    assert judged.with_drift(model, far, 4, objectives.KTO.layout(batches.PADDED))[0].drift == 0.0


# --- what is learned of rows -------------------------------------------------------------


def row(number: int, answer: str, label: bool) -> dict[str, Any]:
    asked = {"role": "user", "content": f"品番{number}の値段は？"}
    said = {"role": "assistant", "content": answer}
    return {"messages": [asked, said], "label": label, "row": number + 2}


ROWS = [
    row(n // 2, "知りません。" if n % 2 else f"{n // 2}00円です。", n % 2 == 0) for n in range(12)
]


def test_mismatched_answer_is_of_another_question(tiny: LoadedModel) -> None:
    found = judged.encode(tiny, ROWS, 64, ROWS)
    for one, mine in zip(found, ROWS, strict=True):
        start = one.answer.supervised.index(True)
        assert one.mismatched.tokens[:start] == one.answer.tokens[:start]
        said = tiny.tokenizer.decode(one.mismatched.tokens[start:])
        others = [each for each in ROWS if each["row"] != mine["row"]]
        assert any(str(each["messages"][1]["content"]) in said for each in others)
    assert [one.is_desirable for one in found] == [bool(each["label"]) for each in ROWS]


def test_only_the_last_answer_of_a_conversation_is_judged(tiny: LoadedModel) -> None:
    asked = [
        {"role": "user", "content": "はい？"},
        {"role": "assistant", "content": "何でしょう。"},
    ]
    talk = {**ROWS[0], "messages": [*asked, *ROWS[0]["messages"]]}
    [one] = judged.encode(tiny, [talk], 64, ROWS)
    answer = [token for token, counts in zip(one.tokens, one.supervised, strict=True) if counts]
    assert "何でしょう" not in tiny.tokenizer.decode(answer)
    assert "00円です" in tiny.tokenizer.decode(answer)
    assert "何でしょう" in tiny.tokenizer.decode(one.tokens)


def test_objective_follows_the_marks(tiny: LoadedModel) -> None:
    assert objectives.settled(TrainConfig(), ROWS).objective == "kto"
    assert objectives.settled(TrainConfig(), ROWS).beta == 0.1
    good = objectives.SFT.encode(tiny, ROWS, TrainConfig(objective="sft"), ROWS)
    assert [one.row for one in good] == [each["row"] for each in ROWS if each["label"]]
    with pytest.raises(InvalidSettings):
        objectives.settled(TrainConfig(objective="dpo"), ROWS)
    with pytest.raises(InvalidSettings):
        objectives.settled(TrainConfig(batch_size=1), ROWS)
    with pytest.raises(NothingToLearn):
        judged.encode(tiny, [row(1, "長い答え。" * 9, True)], 8, ROWS)


@pytest.mark.parametrize(
    ("good", "bad", "told"),
    [
        *((10, 10, ""), (13, 10, ""), (9, 10, ""), (5, 0, "○ の付いた答えだけ")),
        *((30, 10, "undesirable_weight を 3 "), (5, 20, "desirable_weight を 4 ")),
    ],
)
def test_imbalance_of_marks_is_told_with_its_remedy(good: int, bad: int, told: str) -> None:
    one = answers()[0]
    marked = [dataclasses.replace(one, is_desirable=at < good) for at in range(good + bad)]
    text = judged.imbalance(marked, TrainConfig())
    assert told in text
    assert bool(text) == bool(told)


# --- whole runs --------------------------------------------------------------------------

RUN = TrainConfig(
    iterations=12,
    batch_size=4,
    rank=4,
    dropout=0.1,
    learning_rate=2e-3,
    warmup=2,
    num_layers=1,
    validate_every=6,
    checkpoint_every=3,
    max_length=64,
    sample_every=0,
)


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted KTO run."""
    folder = tmp_path_factory.mktemp("kto")
    assert train(folder, RUN, data=(ROWS, ROWS[:4])).objective == "kto"
    return folder


def test_run_begins_undecided_and_learns_what_is_marked(marked: Path) -> None:
    # 1 - sigmoid(0), of the untrained model; dropout moves the training's own first loss a little.
    assert metrics(marked, "valid_loss")[0] == pytest.approx(0.5, rel=1e-5)
    assert metrics(marked, "valid_loss")[-1] < 0.45
    assert metrics(marked, "valid_margin")[-1] > 0.2
    assert metrics(marked, "valid_accuracy")[-1] > metrics(marked, "valid_accuracy")[0]
    assert len(metrics(marked, "drift")) == RUN.iterations
    assert metrics(marked, "drift")[0] == pytest.approx(0.0, abs=1e-4)


def test_stopped_run_goes_on_bit_identical(marked: Path, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(tmp_path, RUN, stop_at(4), data=(ROWS, ROWS[:4]))
    train(tmp_path, RUN, data=(ROWS, ROWS[:4]))
    assert_same_runs(tmp_path, marked)


def test_division_of_updates_changes_nothing(tmp_path: Path) -> None:
    """The drift is of the whole update, whoever computes it, in however many parts."""
    config = dataclasses.replace(RUN, dropout=0.0, iterations=5)
    ways = {"one": {}, "processes": {"processes": 2}, "parts": {"micro_batch_size": 1}}
    for name, changes in ways.items():
        train(tmp_path / name, dataclasses.replace(config, **changes), data=(ROWS, []))
    for figure in ("loss", "drift", "margin"):
        whole = metrics(tmp_path / "one", figure)
        for name in ("processes", "parts"):
            assert metrics(tmp_path / name, figure) == pytest.approx(whole, rel=1e-3, abs=1e-5)
    assert metrics(tmp_path / "one", "drift")[-1] > 0


def test_changed_marks_are_another_run(tmp_path: Path, tiny: LoadedModel) -> None:
    from mlx_finetuning.mlx_trainer.training import checkpoints

    adapters.attach(tiny.model, RUN)
    config = objectives.settled(RUN, ROWS)
    turned = [{**each, "label": not each["label"]} for each in ROWS]
    identities = {
        checkpoints.identity(config, objectives.KTO.encode(tiny, rows, config, rows), [], None)
        for rows in (ROWS, turned)
    }
    assert len(identities) == 2


def test_predicted_memory_counts_the_longest_answer(tiny: LoadedModel) -> None:
    from mlx_finetuning.mlx_trainer.parallel import workload

    config = objectives.settled(RUN, ROWS)
    adapters.attach(tiny.model, config)
    layout = workload.batch_layout(tiny.model, len(tiny.tokenizer.vocab), config)
    examples = judged.with_reference(
        tiny.model, judged.encode(tiny, ROWS, 64, ROWS), 4, layout, silent
    )
    fit = memory_fit.fitted(
        workload.Workload(tiny, examples, layout, config), memory_fit.allowed(config), exactly=True
    )
    assert fit.figures(workload.Workload(tiny, examples, layout, config))["longest_tokens"] == max(
        len(one.tokens) for one in examples
    )
