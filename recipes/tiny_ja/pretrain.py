"""Pre-training of a small Llama from scratch: one compiled step, AdamW, cosine schedule.

It has no gradient accumulation, no mixed placement and no data parallelism. Adapters are trained by
`mlx_finetuning.mlx_trainer.training`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
from mlx.utils import tree_flatten, tree_map, tree_unflatten
from mlx_lm.models import llama
from numpy.typing import NDArray

from mlx_finetuning import files


class Update(NamedTuple):
    number: int
    loss: float
    """Nats per token the assistant wrote."""
    tokens_per_second: float


class Pretraining(NamedTuple):
    updates: int
    learning_rate: float
    weight_decay: float
    weight_noise: float
    """Relative to each matrix's root mean square; reached half-way."""
    others_weight: float
    seed: int


def build_llama(config: dict[str, Any]) -> llama.Model:
    """A Llama with random weights (normal, 0.02; residual outputs scaled by depth), float32."""
    model = llama.Model(llama.ModelArgs.from_dict(config))
    depth = (2 * config["num_hidden_layers"]) ** -0.5

    def initial(name: str, value: mx.array) -> mx.array:
        if value.ndim < 2:
            return mx.ones_like(value)
        residual = name.endswith(("o_proj.weight", "down_proj.weight"))
        return mx.random.normal(value.shape, scale=0.02 * (depth if residual else 1.0))

    model.update(tree_unflatten([(k, initial(k, v)) for k, v in tree_flatten(model.parameters())]))
    mx.eval(model.parameters())
    return model


def pretrain(
    model: llama.Model,
    batches: Iterator[tuple[NDArray[np.uint16], NDArray[np.bool_]]],
    settings: Pretraining,
    on_update: Callable[[Update], None],
    state: Path,
    save_every: int = 500,
) -> None:
    """Train `model` in place on `batches` (tokens and 'written by the assistant', [rows, length]).

    `state` holds the training state every `save_every` updates; if it is there, training goes
    on from it. Computes in bfloat16 on a GPU and in float32 on the CPU; weights stay float32.
    """
    optimizer = _optimizer(settings)
    first = _resume(model, optimizer, state)
    step = _compiled_step(model, optimizer, settings)
    began, tokens = time.monotonic(), 0
    for number in range(first + 1, settings.updates + 1):
        batch, written = next(batches)
        # From the number alone, so that a resumed run draws the same noise.
        key = mx.random.key(settings.seed + number)
        noise = mx.array(_noise(settings, number))
        loss = step(mx.array(batch), mx.array(written), noise, key)
        mx.eval(loss, model.state, optimizer.state)
        tokens += batch.size
        if number % 20 == 0 or number == settings.updates:
            value = float(cast(float, loss.item()))
            on_update(Update(number, value, tokens / (time.monotonic() - began)))
            began, tokens = time.monotonic(), 0
        if number % save_every == 0 and number < settings.updates:
            _save_state(model, optimizer, number, state)
    state.unlink(missing_ok=True)


def _noise(settings: Pretraining, number: int) -> float:
    """Grows over the first half: copying from the context is learnt late under full noise."""
    return settings.weight_noise * min(1.0, 2 * number / settings.updates)


def _optimizer(settings: Pretraining) -> optim.Optimizer:
    warmup = max(1, settings.updates // 50)
    peak, floor = settings.learning_rate, settings.learning_rate / 100
    schedule = optim.join_schedules(
        [
            optim.linear_schedule(0.0, peak, warmup),
            optim.cosine_decay(peak, max(1, settings.updates - warmup), floor),
        ],
        [warmup],
    )
    return optim.AdamW(schedule, betas=[0.9, 0.98], weight_decay=settings.weight_decay)


def _compiled_step(
    model: llama.Model, optimizer: optim.Optimizer, settings: Pretraining
) -> Callable[[mx.array, mx.array, mx.array, mx.array], mx.array]:
    compute = mx.bfloat16 if mx.default_device() == mx.gpu else mx.float32

    def loss_of(
        parameters: Any, tokens: mx.array, written: mx.array, noise: mx.array, key: mx.array
    ) -> tuple[mx.array, mx.array]:
        noisy = _with_noise(parameters, noise, key)
        model.update(tree_map(lambda value: value.astype(compute), noisy))
        logits = model(tokens[:, :-1]).astype(mx.float32)
        targets, spoken = tokens[:, 1:], written[:, 1:]
        losses = nn.losses.cross_entropy(logits, targets)
        # Token 0 pads the ends of rows.
        weights = mx.where(spoken, 1.0, settings.others_weight) * (targets != 0)
        answers = (losses * spoken).sum() / spoken.sum()
        return (losses * weights).sum() / weights.sum(), answers

    gradient = mx.value_and_grad(loss_of)
    tracked = [model.state, optimizer.state]

    @partial(mx.compile, inputs=tracked, outputs=tracked)
    def step(tokens: mx.array, written: mx.array, noise: mx.array, key: mx.array) -> mx.array:
        parameters = model.trainable_parameters()
        (_, answers), gradients = gradient(parameters, tokens.astype(mx.int32), written, noise, key)
        gradients, _ = optim.clip_grad_norm(gradients, 1.0)
        model.update(parameters)
        optimizer.update(model, gradients)
        return answers

    return step


def _with_noise(parameters: Any, share: mx.array, key: mx.array) -> Any:
    """`parameters` with noise on the blocks' matrices; the gradient passes unchanged."""
    flat = tree_flatten(parameters)
    keys = mx.random.split(key, len(flat))

    def noisy(index: int, name: str, value: mx.array) -> mx.array:
        if value.ndim < 2 or "proj" not in name:
            return value
        spread = share * mx.sqrt(mx.square(value).mean())
        return value + mx.stop_gradient(spread * mx.random.normal(value.shape, key=keys[index]))

    return tree_unflatten([(name, noisy(i, name, value)) for i, (name, value) in enumerate(flat)])


def _save_state(model: llama.Model, optimizer: optim.Optimizer, number: int, path: Path) -> None:
    values = {f"model.{k}": v for k, v in tree_flatten(model.parameters())}
    values |= {f"optimizer.{k}": v for k, v in tree_flatten(optimizer.state)}
    with files.replacing_path(path) as temporary:
        mx.save_safetensors(str(temporary), values, {"update": str(number)})


def _resume(model: llama.Model, optimizer: optim.Optimizer, path: Path) -> int:
    """Load the state at `path` if there is one; the number of updates already done."""
    optimizer.init(model.trainable_parameters())
    if not path.exists():
        return 0
    values, metadata = _load(path)

    def part(prefix: str) -> Any:
        named = [(k.removeprefix(prefix), v) for k, v in values.items() if k.startswith(prefix)]
        return tree_unflatten(named)

    model.update(part("model."))
    optimizer.state = part("optimizer.")
    return int(metadata["update"])


def updates_done(path: Path) -> int:
    """How many updates the state at `path` holds; 0 without one."""
    if not path.exists():
        return 0
    return int(_load(path)[1]["update"])


def _load(path: Path) -> tuple[dict[str, mx.array], dict[str, str]]:
    # mx.load's declared type covers every format; safetensors with metadata give these two.
    values: Any = mx.load(str(path), return_metadata=True)
    return values[0], values[1]


def exact_share(
    model: llama.Model, tokens: NDArray[np.uint16], written: NDArray[np.bool_]
) -> float:
    """Share of rows whose every assistant token is the model's first choice.

    Teacher-forced, which is the same as greedy decoding that reproduces the answer exactly.
    `tokens` and `written` are [rows, length], one conversation a row.
    """
    lengths = (tokens != 0).sum(axis=1)
    order = np.argsort(lengths, kind="stable")
    right = 0
    for start in range(0, len(order), 32):
        rows = order[start : start + 32]
        longest = int(lengths[rows].max())
        batch = mx.array(tokens[rows, :longest].astype(np.int32))
        spoken = mx.array(written[rows, 1:longest])
        chosen = model(batch[:, :-1]).argmax(axis=-1)
        right += int((((chosen == batch[:, 1:]) | ~spoken).all(axis=1)).sum().item())
    return right / len(tokens)


def save_weights(model: llama.Model, path: Path) -> None:
    """The weights in float16 under Hugging Face's names."""
    weights = {k: v.astype(mx.float16) for k, v in tree_flatten(model.parameters())}
    with files.replacing_path(path) as temporary:
        mx.save_safetensors(str(temporary), weights, {"format": "pt"})


def save_exactly(model: llama.Model, path: Path) -> None:
    """The weights as they are, whole or not at all."""
    with files.replacing_path(path) as temporary:
        mx.save_safetensors(str(temporary), dict(tree_flatten(model.parameters())))
