"""Makes the built-in base model again: corpus → tokenizer → pre-training → Hugging Face folder.

The same recipe made the folder that ships with the package. Rebuilding on the CPU takes about a day,
on a GPU minutes; it goes on where it was stopped.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import platform
from contextlib import closing
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from tokenizers import Tokenizer

from mlx_finetuning import __version__, files
from mlx_finetuning.config import as_dict
from mlx_finetuning.mlx_trainer import pretrain
from mlx_finetuning.progress import Progress, Step
from mlx_finetuning.tasks.context import TaskContext
from mlx_finetuning.tiny_ja.batches import Rows, pack, stream
from mlx_finetuning.tiny_ja.conversations import Conversation, conversations
from mlx_finetuning.tiny_ja.exam import exam
from mlx_finetuning.tiny_ja.recipe import Recipe
from mlx_finetuning.tiny_ja.tokenizer import ConversationEncoder, tokenizer_config, train_tokenizer

STAGE = "tiny-ja の事前学習"
SETTLING = "tiny-ja の仕上げ"
MODEL_CARD = """# tiny-ja

mlx-finetuning が自分で作った日本語の小さなベースモデル(Llama構造、約460万パラメータ)です。
学習に使った文章は全て、このプロジェクトのプログラムが種(seed)から生成したものです。
作り方は `mlx-finetuning models build tiny-ja`、記録は `build_log.jsonl` にあります。ライセンス: MIT
"""


def run(context: TaskContext) -> dict[str, Any]:
    recipe = dataclasses.replace(Recipe(), **context.config)
    return build(context.workspace.base_model("tiny-ja"), recipe, context.progress)


def build(folder: Path, recipe: Recipe, progress: Progress) -> dict[str, Any]:
    """Train tiny-ja and write its folder; returns the share of exact answers per kind.

    Goes on where an earlier call with the same recipe was stopped.
    """
    work = files.make_folder(folder.parent / f".{folder.name}-build")
    progress(Step("文章とトークナイザの用意", 0, 0))
    tokenizer = _tokenizer(work, recipe)
    mx.random.seed(recipe.seed)
    model = pretrain.build_llama(recipe.config())
    with files.LineLog(work / "build_log.jsonl") as log:
        log.append(_heading(recipe))
        main = work / "main.safetensors"
        if not main.exists():
            _phase(model, tokenizer, recipe, work, log, progress, settling=False)
            pretrain.save_exactly(model, main)
        model.load_weights(str(main))
        _phase(model, tokenizer, recipe, work, log, progress, settling=True)
        progress(Step("できあがりの確認", 0, 0))
        shares = examine(model, tokenizer)
        log.append({"exact_answers": shares})
    main.unlink()
    _write_folder(work, recipe, tokenizer, model)
    _replace_folder(work, folder)
    return {"folder": str(folder), "exact_answers": shares}


def _phase(
    model: Any,
    tokenizer: Tokenizer,
    recipe: Recipe,
    work: Path,
    log: files.LineLog,
    progress: Progress,
    *,
    settling: bool,
) -> None:
    """The long first phase or the short second one, from where its state file stands."""
    settings = _settings(recipe, settling)
    rows = recipe.settling_rows if settling else recipe.rows
    length = recipe.settling_length if settling else recipe.length
    state = work / ("settling.safetensors" if settling else "state.safetensors")

    def on_update(update: pretrain.Update) -> None:
        log.append({**update._asdict(), "settling": settling})
        detail = f"損失 {update.loss:.3f}、{update.tokens_per_second:,.0f} トークン/秒"
        progress(Step(SETTLING if settling else STAGE, update.number, settings.updates, detail))

    skip = pretrain.updates_done(state)
    made = stream(tokenizer, settings.seed, rows, length, skip, settling=settling)
    with closing(made) as batches:
        pairs = ((batch.tokens, batch.written) for batch in batches)
        pretrain.pretrain(model, pairs, settings, on_update, state)


def examine(model: Any, tokenizer: Tokenizer, size: int = 256) -> dict[str, float]:
    """Share of exactly right last answers per kind of the exam (greedy), of `size` each."""
    encoder = ConversationEncoder(tokenizer)
    shares = {}
    for kind, asked in exam(size).items():
        rows = _last_answers(encoder, asked)
        shares[kind] = round(pretrain.exact_share(model, rows.tokens, rows.written), 4)
    return shares


def _last_answers(encoder: ConversationEncoder, asked: list[Conversation]) -> Rows:
    encoded = encoder.encode(asked)
    length = max(len(tokens) for tokens, _ in encoded)
    alone = [pack([item], length) for item in encoded]
    written = np.concatenate([rows.written for rows in alone])
    earlier = np.zeros_like(written)
    for row, spoken in enumerate(written):
        starts = np.flatnonzero(spoken & ~np.roll(spoken, 1))
        earlier[row, : starts[-1]] = True
    return Rows(np.concatenate([rows.tokens for rows in alone]), written & ~earlier)


def _tokenizer(work: Path, recipe: Recipe) -> Tokenizer:
    path = work / "tokenizer.json"
    if path.exists():
        return Tokenizer.from_file(str(path))
    tokenizer = train_tokenizer(conversations(recipe.seed, recipe.tokenizer_sample))
    files.write_text(path, tokenizer.to_str())
    return tokenizer


def _settings(recipe: Recipe, settling: bool) -> pretrain.Pretraining:
    return pretrain.Pretraining(
        recipe.settling_updates if settling else recipe.updates,
        recipe.settling_rate if settling else recipe.learning_rate,
        recipe.weight_decay,
        recipe.weight_noise,
        recipe.others_weight,
        # Other text than the first phase saw.
        recipe.seed + settling,
    )


def _heading(recipe: Recipe) -> dict[str, Any]:
    return {
        "recipe": as_dict(recipe),
        "versions": {
            "mlx_finetuning": __version__,
            "mlx": importlib.metadata.version("mlx"),
            "python": platform.python_version(),
        },
        "device": str(mx.default_device()),
        "platform": f"{platform.system()} {platform.machine()}",
    }


def _write_folder(work: Path, recipe: Recipe, tokenizer: Tokenizer, model: Any) -> None:
    def write(name: str, value: dict[str, Any]) -> None:
        files.write_text(work / name, json.dumps(value, ensure_ascii=False, indent=2) + "\n")

    write("config.json", recipe.config())
    write("generation_config.json", {"eos_token_id": recipe.config()["eos_token_id"]})
    write("tokenizer_config.json", tokenizer_config())
    files.write_text(work / "README.md", MODEL_CARD)
    pretrain.save_weights(model, work / "model.safetensors")


def _replace_folder(work: Path, folder: Path) -> None:
    if folder.exists():
        old = folder.with_name(f".{folder.name}-old")
        folder.rename(old)
        work.rename(folder)
        for path in old.iterdir():
            path.unlink()
        old.rmdir()
    else:
        work.rename(folder)
