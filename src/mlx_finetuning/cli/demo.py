"""`demo`: the whole chain on the bundled data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlx_finetuning import config
from mlx_finetuning.cli import text
from mlx_finetuning.cli.session import CommandResult, Session, command
from mlx_finetuning.language import _

if TYPE_CHECKING:
    from mlx_finetuning.demo import Demonstration


@command()
@click.option(
    "--model",
    metavar="MODEL",
    default=config.TrainConfig.model,
    help=_("使うモデルの名前かフォルダ。省略時は内蔵の tiny-ja"),
)
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help=_("学習の設定を1つ変える")
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
        (_("教えた質問の正答率"), *_shares(result.base_accuracy, result.tuned_accuracy)),
        (
            _("教えていない聞き方の正答率"),
            *_shares(result.base_paraphrase_accuracy, result.paraphrase_accuracy),
        ),
        (_("検証の損失（小さいほど良い）"), loss_before, loss_after),
    ]
    outcome = result.outcome
    parts = [
        *([outcome.line, ""] if outcome is not None else []),
        _("■ 学習の前と後"),
        text.table(("", _("元のモデル", "side"), _("学習後", "side")), learning),
        "",
        _("■ 教えていない聞き方への答え"),
        *(
            _("質問: {question}\n  元のモデル: {base}\n  学習後:     {tuned}").format(
                question=item.question, base=item.base, tuned=item.tuned
            )
            for item in result.examples
        ),
        "",
        _("■ 書き出したファイル（GGUF）"),
        text.table((_("形式"), _("MLXのモデルとの一致"), _("予測の差")), files),
        _("教えた質問への正答率（Q4_K_M、llama.cpp）: {accuracy}").format(
            accuracy=text.percent(result.q4_k_m_accuracy)
        ),
        "",
        _("■ llama.cpp に聞いてみました"),
        _("質問: {question}").format(question=result.runtime_answer.question),
        _("答え: {answer}").format(answer=result.runtime_answer.answer),
        "",
        _("■ かかった時間"),
        text.pairs(
            (stage_name(stage), text.duration(value)) for stage, value in result.seconds.items()
        ),
        "",
        text.pairs(
            (
                (_("実験ID"), result.run_id),
                (_("アダプター"), result.adapter_path),
                ("GGUF", result.gguf_path),
                (_("次の一歩"), f"mlx-finetuning chat {result.run_id}"),
            )
        ),
    ]
    return "\n".join(parts)


def _shares(before: float | None, after: float | None) -> tuple[str, str]:
    first, second = ("—" if one is None else text.percent(one) for one in (before, after))
    return first, second
