"""Runs of a model that can think before it answers: tiny-ja under a chat template like Qwen3's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from mlx_finetuning import models
from mlx_finetuning.config import PrepareConfig, TrainConfig
from mlx_finetuning.progress import silent
from mlx_finetuning.studio import Studio
from mlx_finetuning.workspace import Workspace

TEMPLATE = (
    "{%- set ns = namespace(asked=-1) %}{%- for m in messages %}{%- if m.role == 'user' %}"
    "{%- set ns.asked = loop.index0 %}{%- endif %}{%- endfor %}{%- for m in messages %}"
    "{{- '<|im_start|>' + m.role + '\\n' }}"
    "{%- if m.role == 'assistant' and loop.index0 > ns.asked %}"
    "{{- '<think>\\n' + (m.reasoning_content or '') + '\\n</think>\\n\\n' }}{%- endif %}"
    "{{- m.content + '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}"
    "{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}{%- endif %}"
)
CLOSED = "<think>\n\n</think>\n\n"
ROWS = (
    ("社長は誰ですか？", "社長の名前を思い出す。", "田中です。"),
    ("開店は何時ですか？", "店が開く時間を思い出す。", "朝の9時です。"),
    ("休みは何曜日ですか？", "休みの日を思い出す。", "水曜日です。"),
    ("返品はできますか？", "返品の決まりを思い出す。", "はい、できます。"),
)


def make_base(workspace: Workspace) -> None:
    """The workspace's own tiny-ja, with a template that has a switch for thinking."""
    own = workspace.base_model("tiny-ja")
    shutil.copytree(models.resolve("tiny-ja", workspace), own)
    path = own / "tokenizer_config.json"
    record = {**json.loads(path.read_text(encoding="utf-8")), "chat_template": TEMPLATE}
    path.write_text(json.dumps(record), encoding="utf-8")


def train(studio: Studio, folder: Path, name: str, *, thinks: bool, updates: int) -> str:
    """Prepare `ROWS` with or without their reasoning, and train on all of them."""
    kept = ("question", "reasoning", "answer") if thinks else ("question", "answer")
    rows = (dict(zip(("question", "reasoning", "answer"), row, strict=True)) for row in ROWS)
    lines = (json.dumps({key: row[key] for key in kept}, ensure_ascii=False) for row in rows)
    source = folder / f"{name}.jsonl"
    source.write_text("\n".join(lines), encoding="utf-8")
    studio.data.prepare(source, name, PrepareConfig(valid_share=0.0, test_share=0.0))
    settings = TrainConfig(
        dataset=name,
        iterations=updates,
        batch_size=4,
        learning_rate=3e-3,
        warmup=2,
        validate_every=1000,
        sample_every=max(updates, 1) if thinks else 0,
    )
    run_id = studio.training.start(settings)
    studio.runs.follow(run_id, silent)
    return run_id
