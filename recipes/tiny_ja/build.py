"""Makes tiny-ja: corpus → tokenizer → pre-training in two phases → Hugging Face folder.

The same recipe made the folder that ships with the package. A build goes on where it was stopped.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
from contextlib import closing
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx_lm.models import llama
from tokenizers import Tokenizer

from mlx_finetuning import __version__, files
from mlx_finetuning.config import as_dict
from mlx_finetuning.progress import Progress, Step
from recipes.tiny_ja import pretrain
from recipes.tiny_ja.batches import TokenRows, pack, stream
from recipes.tiny_ja.conversations import Conversation, conversations
from recipes.tiny_ja.exam import exam
from recipes.tiny_ja.recipe import Recipe
from recipes.tiny_ja.tokenizer import ConversationEncoder, tokenizer_config, train_tokenizer

STAGE = "tiny-ja の事前学習"
SETTLING = "tiny-ja の仕上げ"
BUILD_LOG = "build_log.jsonl"
MODEL_CARD = """# tiny-ja

mlx-finetuning が自分で作った日本語の小さなベースモデル(Llama構造、約460万パラメータ)です。
学習に使った文章は全て、このプロジェクトのプログラムが種(seed)から生成したものです。
作り方は `python -m recipes.tiny_ja フォルダ`、記録は `build_log.jsonl` にあります。ライセンス: MIT
"""


def build(folder: Path, recipe: Recipe, progress: Progress) -> dict[str, float]:
    """Train tiny-ja and write its folder; returns the share of exact answers per kind.

    Goes on where an earlier call with the same recipe was stopped. A model that was in `folder`
    stays until the new one is whole. Raises FileExistsError where `folder` holds something else.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / BUILD_LOG).exists():
        raise FileExistsError(f"{folder} holds something other than a tiny-ja")
    work = files.make_folder(folder.parent / f".{folder.name}-build")
    progress(Step("文章とトークナイザの用意", 0, 0))
    tokenizer = _tokenizer(work, recipe)
    mx.random.seed(recipe.seed)
    model = pretrain.build_llama(recipe.config())
    with files.LineLog(work / BUILD_LOG) as log:
        log.append(
            {
                "recipe": as_dict(recipe),
                "versions": {
                    "mlx_finetuning": __version__,
                    "mlx": importlib.metadata.version("mlx"),
                    "python": platform.python_version(),
                },
                "device": str(mx.default_device()),
                "platform": f"{platform.system()} {platform.machine()}",
            }
        )
        main = work / "main.safetensors"
        if not main.exists():
            _train_phase(model, tokenizer, recipe, work, log, progress, settling=False)
            pretrain.save_exactly(model, main)
        model.load_weights(str(main))
        _train_phase(model, tokenizer, recipe, work, log, progress, settling=True)
        progress(Step("できあがりの確認", 0, 0))
        shares = examine(model, tokenizer)
        log.append({"exact_answers": shares})
    with files.replacing_folder(folder) as replacement:
        _write_folder(replacement, recipe, tokenizer, model)
        files.write_text(replacement / BUILD_LOG, (work / BUILD_LOG).read_text(encoding="utf-8"))
    files.remove_folder(work)
    return shares


def _train_phase(
    model: llama.Model,
    tokenizer: Tokenizer,
    recipe: Recipe,
    work: Path,
    log: files.LineLog,
    progress: Progress,
    *,
    settling: bool,
) -> None:
    """The long first phase or the short second one, from where its state file stands."""
    settings = pretrain.Pretraining(
        recipe.settling_updates if settling else recipe.updates,
        recipe.settling_rate if settling else recipe.learning_rate,
        recipe.weight_decay,
        recipe.weight_noise,
        recipe.others_weight,
        # Other text than the first phase saw.
        recipe.seed + settling,
    )
    rows = recipe.settling_rows if settling else recipe.rows
    length = recipe.settling_length if settling else recipe.length
    state = work / ("settling.safetensors" if settling else "state.safetensors")

    def on_update(update: pretrain.Update) -> None:
        log.append({**update._asdict(), "settling": settling})
        detail = f"損失 {update.loss:.3f}、{update.tokens_per_second:,.0f} トークン/秒"
        progress(Step(SETTLING if settling else STAGE, update.number, settings.updates, detail))

    skip = pretrain.updates_done(state)
    with closing(
        stream(tokenizer, settings.seed, rows, length, skip, settling=settling)
    ) as batches:
        pairs = ((batch.tokens, batch.written) for batch in batches)
        pretrain.pretrain(model, pairs, settings, on_update, state)


def examine(model: llama.Model, tokenizer: Tokenizer, size: int = 256) -> dict[str, float]:
    """Share of exactly right last answers per kind of the exam (greedy), of `size` each."""
    encoder = ConversationEncoder(tokenizer)
    shares = {}
    for kind, questions in exam(size).items():
        rows = _last_answers(encoder, questions)
        shares[kind] = round(pretrain.exact_share(model, rows.tokens, rows.written), 4)
    return shares


def _last_answers(encoder: ConversationEncoder, chats: list[Conversation]) -> TokenRows:
    """One conversation a row, of which only the last answer counts as written."""
    encoded = encoder.encode(chats)
    length = max(len(tokens) for tokens, _ in encoded)
    single_rows = [pack([item], length) for item in encoded]
    written = np.concatenate([rows.written for rows in single_rows])
    earlier = np.zeros_like(written)
    for row, is_written in enumerate(written):
        starts = np.flatnonzero(is_written & ~np.roll(is_written, 1))
        earlier[row, : starts[-1]] = True
    return TokenRows(np.concatenate([rows.tokens for rows in single_rows]), written & ~earlier)


def _tokenizer(work: Path, recipe: Recipe) -> Tokenizer:
    path = work / "tokenizer.json"
    if path.exists():
        return Tokenizer.from_file(str(path))
    tokenizer = train_tokenizer(conversations(recipe.seed, recipe.tokenizer_sample))
    files.write_text(path, tokenizer.to_str())
    return tokenizer


def _write_folder(folder: Path, recipe: Recipe, tokenizer: Tokenizer, model: llama.Model) -> None:
    config = recipe.config()
    contents = {
        "config.json": config,
        "generation_config.json": {"eos_token_id": config["eos_token_id"]},
        "tokenizer_config.json": tokenizer_config(),
    }
    for name, content in contents.items():
        files.write_text(folder / name, json.dumps(content, ensure_ascii=False, indent=2) + "\n")
    files.write_text(folder / "tokenizer.json", tokenizer.to_str())
    files.write_text(folder / "README.md", MODEL_CARD)
    pretrain.save_weights(model, folder / "model.safetensors")
