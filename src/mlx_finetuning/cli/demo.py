"""`demo`: the whole chain on the bundled data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlx_finetuning import config
from mlx_finetuning.cli import text
from mlx_finetuning.cli.session import CommandResult, Session, command

if TYPE_CHECKING:
    from mlx_finetuning.demo import Demonstration


@command()
@click.option(
    "--model",
    metavar="MODEL",
    default=config.TrainConfig.model,
    help="使うモデルの名前かフォルダ。省略時は内蔵の tiny-ja",
)
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="学習の設定を1つ変える"
)
def demo(session: Session, model: str, assignments: tuple[str, ...]) -> CommandResult:
    """付属のデータで、学習から書き出しまでをひと通り試す（内蔵のモデルなら約3分）"""
    from mlx_finetuning.demo import run_demo

    settings = config.parse_assignments(list(assignments))
    with session.progress() as progress:
        result = run_demo(session.studio, model, settings, progress)
    data = config.as_dict(result)
    parities = {f"{quant.lower()}_parity": one for quant, one in data.pop("parities").items()}
    return CommandResult(data | parities, _shown(result))


def _shown(result: Demonstration) -> str:
    from mlx_finetuning.demo import stage_name

    files = [
        (quant, text.percent(parity.top1_agreement), f"{parity.mean_kl:.2e}")
        for quant, parity in result.parities.items()
        if parity is not None
    ]
    losses = (result.valid_loss_before, result.valid_loss_after)
    loss_before, loss_after = ("—" if loss is None else f"{loss:.3f}" for loss in losses)
    learning = [
        ("教えた質問の正答率", *_shares(result.base_accuracy, result.tuned_accuracy)),
        (
            "教えていない聞き方の正答率",
            *_shares(result.base_paraphrase_accuracy, result.paraphrase_accuracy),
        ),
        ("検証の損失（小さいほど良い）", loss_before, loss_after),
    ]
    outcome = result.outcome
    parts = [
        *([outcome.line, ""] if outcome is not None else []),
        "■ 学習の前と後",
        text.table(("", "元のモデル", "学習後"), learning),
        "",
        "■ 教えていない聞き方への答え",
        *(
            f"質問: {item.question}\n  元のモデル: {item.base}\n  学習後:     {item.tuned}"
            for item in result.examples
        ),
        "",
        "■ 書き出したファイル（GGUF）",
        text.table(("形式", "MLXのモデルとの一致", "予測の差"), files),
        f"教えた質問への正答率（Q4_K_M、llama.cpp）: {text.percent(result.q4_k_m_accuracy)}",
        "",
        "■ llama.cpp に聞いてみました",
        f"質問: {result.runtime_answer.question}",
        f"答え: {result.runtime_answer.answer}",
        "",
        "■ かかった時間",
        text.pairs(
            (stage_name(stage), text.duration(value)) for stage, value in result.seconds.items()
        ),
        "",
        text.pairs(
            (
                ("実験ID", result.run_id),
                ("アダプター", result.adapter_path),
                ("GGUF", result.gguf_path),
                ("次の一歩", f"mlx-finetuning chat {result.run_id}"),
            )
        ),
    ]
    return "\n".join(parts)


def _shares(before: float | None, after: float | None) -> tuple[str, str]:
    first, second = ("—" if one is None else text.percent(one) for one in (before, after))
    return first, second
