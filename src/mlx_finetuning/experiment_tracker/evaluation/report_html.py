"""The report as one page: no request leaves it, every text is escaped, light, dark and on paper.

Gets a report and, where there is one, a certificate; computes nothing new. The page itself is
`assets/report.html.j2`; here is what it is filled with.
"""

from __future__ import annotations

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mlx_finetuning.experiment_tracker.evaluation import charts
from mlx_finetuning.experiment_tracker.evaluation.results import (
    MARKS,
    MARKS_JA,
    SPLITS_JA,
    UNSURE_JA,
    Report,
)
from mlx_finetuning.files import ASSETS
from mlx_finetuning.jobs.results import Certificate
from mlx_finetuning.utils.glossary import explained
from mlx_finetuning.utils.units import local_time

TEMPLATE = "report.html.j2"
STYLE = ASSETS / "report.css"
SHOWN = 8
"""Exchanges of a kind that are open; the others are folded in."""
EXPLAINED = (
    *("損失", "トークン", "パープレキシティ", "信頼区間", "更新", "検証"),
    *("chrF", "ROUGE-L", "予測の差", "アダプター", "証明"),
)
"""Terms of the page that its last section explains."""
SCORES_JA = {
    "exact": MARKS_JA["○"],
    "contains": "正解を含む",
    "chrf": "chrF",
    "rouge_l": "ROUGE-L",
    "ended": "自分で終えた答え",
}


def environment() -> Environment:
    """Where pages are made from templates: every value is escaped, and none may be missing."""
    made = Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"number": format, "local_time": local_time}
    return made


def page(report: Report, certificate: Certificate | None = None) -> str:
    """The whole document."""
    splits = [
        (SPLITS_JA[name], report.splits[name])
        for name in ("test", "valid", "train")
        if name in report.splits
    ]
    losses = [
        (title, split)
        for title, split in splits
        if split.base.loss is not None and split.tuned.loss is not None
    ]
    intervals = [
        (f"{title}・{model}", who, figures.loss, *figures.loss_interval)
        for title, split in losses
        for who, model, figures in (
            ("base", "学習前", split.base),
            ("tuned", "学習後", split.tuned),
        )
        if figures.loss is not None and figures.loss_interval is not None
    ]
    curves = [("base", report.curves["train"]), ("tuned", report.curves["valid"])]
    answers = [item for split in report.splits.values() for item in split.answers]
    exchanges = []
    for name, kind in report.questions.items():
        of_kind = kind.answers or tuple(item for item in answers if item.kind == name)
        exchanges.append((kind.title, sorted(of_kind, key=lambda item: MARKS.index(item.mark))))
    layers = []
    for layer in report.adapter.layers:
        share = "" if layer.relative is None else f"（{layer.relative:.1%}）"
        layers.append((f"層 {layer.layer}", layer.norm, f"{layer.norm:.3g}{share}"))
    return (
        environment()
        .get_template(TEMPLATE)
        .render(
            report=report,
            marks=MARKS_JA,
            unsure_ja=UNSURE_JA,
            certificate=certificate,
            terms=explained(EXPLAINED),
            style=STYLE.read_text(encoding="utf-8"),
            losses=losses,
            preferences=[(title, split.preference) for title, split in splits if split.preference],
            exchanges=exchanges,
            shown=SHOWN,
            scores_ja=SCORES_JA,
            loss_chart=charts.intervals(intervals),
            curve_chart=charts.curves(curves, "更新の回数", "損失"),
            layer_chart=charts.bars(layers, "層ごとの重みの変化"),
        )
    )
