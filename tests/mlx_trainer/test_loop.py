"""The loop's arithmetic against independent references, and what a run leaves on disk."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
import pytest
from mlx.utils import tree_flatten
from mlx_lm.tuner.utils import linear_to_lora_layers

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.errors import Interrupted, LossNotFinite, NoTrainingRows, TargetsNotFound
from mlx_finetuning.mlx_trainer.batches import batches
from mlx_finetuning.mlx_trainer.batches.examples import encode_rows
from mlx_finetuning.mlx_trainer.inference import generate
from mlx_finetuning.mlx_trainer.model import adapters, split_head
from mlx_finetuning.mlx_trainer.model.load import LoadedModel, load
from mlx_finetuning.mlx_trainer.training import loop, optimizer
from mlx_finetuning.progress import Step
from mlx_finetuning.workspace import AdapterPaths
from support import losses
from support.recorded_run import CONFIG, Recorder, rows, tiny_folder


def run(tiny: LoadedModel, folder: Path, config: TrainConfig = CONFIG) -> Recorder:
    recorder = Recorder()
    loop.train(tiny, rows(7), rows(2), config, AdapterPaths(folder), recorder.hooks())
    return recorder


def test_loss_is_the_mean_over_supervised_tokens_of_numpy_cross_entropy(tiny: LoadedModel) -> None:
    examples = encode_rows(tiny, rows(5), 64)
    batch = batches.padded(examples)
    total, count = 0.0, 0
    for example in examples:
        logits = generate.logits(tiny, example.tokens[:-1]).astype(np.float64)
        shifted = logits - logits.max(axis=1, keepdims=True)
        log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        for position, target in enumerate(example.tokens[1:]):
            if example.supervised[position + 1]:
                total -= log_probabilities[position, target]
                count += 1
    ours = losses.of_batch(tiny.model, batch).item()
    assert ours == pytest.approx(total / count, rel=1e-5)
    assert count == batch.supervised


def test_gathered_logits_equal_the_full_ones(tiny: LoadedModel) -> None:
    batch = batches.padded(encode_rows(tiny, rows(4), 64))
    full = tiny.model(batch.tokens)
    expected = full.reshape(-1, full.shape[-1])[batch.positions]
    ours = split_head.logits_at(tiny.model, batch.tokens, batch.positions)
    np.testing.assert_allclose(np.array(ours), np.array(expected), atol=1e-5)
    assert ours.shape[0] == len(batch.targets)
    assert np.array(tiny.model(batch.tokens)).shape == full.shape, "the model is as before"


def test_padding_and_neighbours_change_no_loss(tiny: LoadedModel) -> None:
    examples = encode_rows(tiny, rows(6), 64)
    together = losses.corpus_loss(tiny.model, [batches.padded(examples)])
    alone = losses.corpus_loss(tiny.model, [batches.padded([item]) for item in examples])
    assert together == pytest.approx(alone, rel=1e-5)


def test_losses_equal_a_plain_loop_on_mlx_lm_layers(tiny: LoadedModel, tmp_path: Path) -> None:
    """The reference shares no code with ours but the order of the examples."""
    config = dataclasses.replace(CONFIG, iterations=10, gradient_clip=0.0)
    examples = encode_rows(tiny, rows(7), 64)
    order = batches.endless(len(examples), config.batch_size, config.seed)
    taken = [next(order) for _ in range(config.iterations)]
    expected = plain_losses(config, [[examples[index] for index in one] for one in taken])
    assert run(tiny, tmp_path, config).losses == pytest.approx(expected, rel=1e-4)


def plain_losses(config: TrainConfig, updates: list[list[Any]]) -> list[float]:
    model = load(tiny_folder()).model
    mx.random.seed(config.seed)
    model.freeze()
    keys = sorted(f"self_attn.{name}_proj" for name in "qkvo")
    keys += sorted(f"mlp.{name}_proj" for name in ("gate", "up", "down"))
    parameters = {"rank": 4, "scale": 2.0, "dropout": 0.0, "keys": sorted(keys)}
    linear_to_lora_layers(model, len(model.layers), parameters)
    rule = optim.AdamW(0.0, weight_decay=0.0, bias_correction=True)

    def objective(examples: list[Any]) -> mx.array:
        total, count = mx.array(0.0), 0
        for example in examples:
            logits = model(mx.array([example.tokens[:-1]]))[0]
            losses = nn.losses.cross_entropy(logits, mx.array(example.tokens[1:]))
            flags = mx.array(example.supervised[1:])
            total = total + (losses * flags).sum()
            count += sum(example.supervised[1:])
        return total / count

    gradient = nn.value_and_grad(model, objective)
    model.train()
    found = []
    for number, examples in enumerate(updates, 1):
        rule.learning_rate = optimizer.learning_rate(config, number)
        value, gradients = gradient(examples)
        rule.update(model, gradients)
        mx.eval(value, model.parameters())
        found.append(value.item())
    return found


def test_training_learns_what_it_is_shown(tiny: LoadedModel, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, iterations=40, batch_size=7, learning_rate=3e-3)
    losses = run(tiny, tmp_path, config).losses
    assert losses[-1] < 0.25 * losses[0]


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_learning_rate_follows_its_schedule(schedule: str) -> None:
    config = TrainConfig(iterations=110, warmup=10, learning_rate=2e-3, schedule=schedule)
    rates = [optimizer.learning_rate(config, update) for update in range(1, 111)]
    assert rates[:10] == pytest.approx([2e-4 * (n + 1) for n in range(10)])
    after = np.arange(100) / 100
    reference = {
        "cosine": 1e-3 * (1 + np.cos(np.pi * after)),
        "linear": 2e-3 * (1 - after),
        "constant": np.full(100, 2e-3),
    }[schedule]
    assert rates[10:] == pytest.approx(reference.tolist())


def test_only_the_adapter_changes(tiny: LoadedModel, tmp_path: Path) -> None:
    before = {k: np.array(v) for k, v in tree_flatten(tiny.model.parameters())}
    run(tiny, tmp_path)
    after = {
        name.replace(".linear.", "."): np.array(value)
        for name, value in tree_flatten(tiny.model.parameters())
        if "lora_" not in name
    }
    assert before.keys() == after.keys()
    assert all((before[name] == after[name]).all() for name in before)
    written = mx.load(str(tmp_path / "adapters.safetensors"))
    assert all(np.abs(np.array(value)).max() > 0 for value in written.values())


def test_saved_adapter_gives_the_trained_models_logits(tiny: LoadedModel, tmp_path: Path) -> None:
    run(tiny, tmp_path)
    tokens = tiny.render([{"role": "user", "content": "品番1の値段は？"}], ask=True)
    tiny.model.eval()
    reloaded = load(tiny_folder(), tmp_path)
    np.testing.assert_allclose(
        generate.logits(reloaded, tokens), generate.logits(tiny, tokens), atol=1e-4
    )


def test_metrics_hold_every_update_and_validation(tiny: LoadedModel, tmp_path: Path) -> None:
    lines = run(tiny, tmp_path).lines
    assert [line["update"] for line in lines if "loss" in line] == list(range(1, 7))
    assert [line["update"] for line in lines if "valid_loss" in line] == [0, 3, 6]
    keys = {"gradient_norm", "learning_rate", "supervised_tokens", "tokens_per_second"}
    assert all(keys <= line.keys() for line in lines if "loss" in line)


def test_checkpoints_are_whole_and_the_oldest_go(tiny: LoadedModel, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, iterations=9, checkpoint_every=2)
    events = run(tiny, tmp_path, config).events
    assert events.count("checkpoint") == 4
    kept = sorted((tmp_path / "checkpoints").iterdir())
    assert [path.name for path in kept] == ["0000004", "0000006", "0000008"]
    for path in kept:
        assert mx.load(str(path / "adapters.safetensors"))
        assert mx.load(str(path / "optimizer.safetensors"))
        assert json.loads((path / "adapter_config.json").read_text())["fine_tune_type"] == "lora"


def test_best_adapter_has_the_lowest_validation_loss(tiny: LoadedModel, tmp_path: Path) -> None:
    lines = run(tiny, tmp_path).lines
    best = min(line["valid_loss"] for line in lines if "valid_loss" in line)
    reloaded = load(tiny_folder(), tmp_path / "best")
    held_out = [batches.padded(encode_rows(reloaded, rows(2), 64))]
    assert losses.corpus_loss(reloaded.model, held_out) == pytest.approx(best, rel=1e-4)


def test_same_seed_gives_the_same_losses(tmp_path: Path) -> None:
    first = run(load(tiny_folder()), tmp_path / "a").losses
    assert run(load(tiny_folder()), tmp_path / "b").losses == first


def test_zero_iterations_leave_an_adapter_that_changes_nothing(
    tiny: LoadedModel, tmp_path: Path
) -> None:
    tokens = tiny.render([{"role": "user", "content": "品番1の値段は？"}], ask=True)
    before = generate.logits(tiny, tokens)
    run(tiny, tmp_path, dataclasses.replace(CONFIG, iterations=0))
    assert (generate.logits(load(tiny_folder(), tmp_path), tokens) == before).all()


def test_a_loss_that_is_not_finite_stops_and_names_the_rows(
    tiny: LoadedModel, tmp_path: Path
) -> None:
    config = dataclasses.replace(CONFIG, learning_rate=10.0, iterations=60, gradient_clip=0.0)
    tiny.model.model.norm.weight = tiny.model.model.norm.weight * math.nan
    with pytest.raises(LossNotFinite) as caught:
        run(tiny, tmp_path, config)
    assert caught.value.data["update"] == 1
    assert set(caught.value.data["rows"]) <= {row["row"] for row in rows(7)}


def test_no_rows_is_an_error(tiny: LoadedModel, tmp_path: Path) -> None:
    with pytest.raises(NoTrainingRows):
        loop.train(tiny, [], [], CONFIG, AdapterPaths(tmp_path), Recorder().hooks())


def test_cancelling_leaves_a_checkpoint_of_the_last_update(
    tiny: LoadedModel, tmp_path: Path
) -> None:
    def stop_at_five(step: Step) -> None:
        if step.stage == loop.STAGE and step.done == 5:
            raise Interrupted()

    with pytest.raises(Interrupted):
        loop.train(
            tiny, rows(7), [], CONFIG, AdapterPaths(tmp_path), Recorder().hooks(stop_at_five)
        )
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["0000002", "0000004", "0000005"]


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (("attention",), {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"}),
        (("q_proj", "v_proj"), {"self_attn.q_proj", "self_attn.v_proj"}),
        (("mlp.down_proj",), {"mlp.down_proj"}),
    ],
)  # fmt: skip
def test_targets_choose_layers(
    tiny: LoadedModel, targets: tuple[str, ...], expected: set[str]
) -> None:
    assert set(adapters.target_keys(list(tiny.model.layers), targets)) == expected


def test_unknown_targets_name_what_there_is(tiny: LoadedModel) -> None:
    with pytest.raises(TargetsNotFound) as caught:
        adapters.attach(tiny.model, dataclasses.replace(CONFIG, targets=("w_q",)))
    assert "self_attn.q_proj" in caught.value.data["available"]


def test_upper_layers_only(tiny: LoadedModel, tmp_path: Path) -> None:
    run(tiny, tmp_path, dataclasses.replace(CONFIG, num_layers=2, iterations=2))
    names = mx.load(str(tmp_path / "adapters.safetensors")).keys()
    count = len(tiny.model.layers)
    assert {int(name.split(".")[2]) for name in names} == {count - 2, count - 1}
