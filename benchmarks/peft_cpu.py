"""Hugging Face's side of `train.py`: transformers and peft on torch's CPU, without padding.

Runs with the Python of an environment that holds torch, transformers and peft, and none of ours. The
examples of an update stand in one row with positions that begin anew, which transformers takes for
sequences apart. Reads updates as JSON, of examples as [tokens, number of the first supervised one].

    PYTHON benchmarks/peft_cpu.py MODEL UPDATES.json
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

RANK = 8


def main() -> None:
    folder, given = sys.argv[1:]
    updates = json.loads(Path(given).read_text(encoding="utf-8"))
    began_s = time.perf_counter()
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.config.use_cache = False
    settings = LoraConfig(r=RANK, lora_alpha=16, target_modules="all-linear")
    model = get_peft_model(model, settings)
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.0)
    losses: list[float] = []
    supervised = 0
    train_s = time.perf_counter()
    for examples in updates:
        row = batch(examples)
        supervised += int((row["labels"] >= 0).sum())
        loss = model(**row).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    ended_s = time.perf_counter()
    result = {
        "train_s": ended_s - train_s,
        "wall_s": ended_s - began_s,
        "first_update_s": 0.0,
        "supervised": supervised,
        "real": sum(len(ids) for examples in updates for ids, _ in examples),
        "losses": losses,
        "padded": 0.0,
        "processes": 1,
    }
    print(json.dumps(result))


def batch(examples: list[list[Any]]) -> dict[str, torch.Tensor]:
    """One row of all examples, whose first targets are nobody's."""
    tokens = [token for ids, _ in examples for token in ids]
    positions = [position for ids, _ in examples for position in range(len(ids))]
    labels = [
        token if at >= max(1, first) else -100
        for ids, first in examples
        for at, token in enumerate(ids)
    ]
    names = {"input_ids": tokens, "position_ids": positions, "labels": labels}
    return {name: torch.tensor([values]) for name, values in names.items()}


if __name__ == "__main__":
    main()
