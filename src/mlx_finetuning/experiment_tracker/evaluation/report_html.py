"""The report as one page: no request leaves it, every text is escaped, light, dark and on paper.

Gets a report and, where there is one, a certificate; computes nothing new. The page itself is
`assets/report.html.j2`; here is what it is filled with.
"""

from __future__ import annotations

import functools

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
from mlx_finetuning.language import N_, _, language, n_
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
    "contains": N_("正解を含む"),
    "chrf": "chrF",
    "rouge_l": "ROUGE-L",
    "ended": N_("自分で終えた答え"),
}


@functools.cache
def environment(spoken: str) -> Environment:
    """Where pages in the language `spoken` are made from templates, each compiled once: every value is
    escaped, and none may be missing.
    """
    made = Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"number": format, "local_time": local_time}
    made.globals |= {"_": _, "n_": n_, "language": spoken}
    return made


def page(report: Report, certificate: Certificate | None = None) -> str:
    """The whole document."""
    splits = [
        (_(SPLITS_JA[name]), report.splits[name])
        for name in ("test", "valid", "train")
        if name in report.splits
    ]
    losses = [
        (title, split)
        for title, split in splits
        if split.base.loss is not None and split.tuned.loss is not None
    ]
    intervals = [
        (
            _("{title}・{model}").format(title=title, model=model),
            who,
            figures.loss,
            *figures.loss_interval,
        )
        for title, split in losses
        for who, model, figures in (
            ("base", _("学習前"), split.base),
            ("tuned", _("学習後"), split.tuned),
        )
        if figures.loss is not None and figures.loss_interval is not None
    ]
    curves = [("base", report.curves["train"]), ("tuned", report.curves["valid"])]
    answers = [item for split in report.splits.values() for item in split.answers]
    exchanges = []
    # What the goal is judged by first comes first.
    is_faq = report.outcome is not None and report.outcome.goal == "faq"
    kinds = sorted(report.questions.items(), key=lambda item: not (is_faq and item[0] == "trained"))
    for name, kind in kinds:
        of_kind = kind.answers or tuple(item for item in answers if item.kind == name)
        exchanges.append((_(kind.title), sorted(of_kind, key=lambda item: MARKS.index(item.mark))))
    layers = []
    for layer in report.adapter.layers:
        share = (
            ""
            if layer.relative is None
            else _("（{relative:.1%}）").format(relative=layer.relative)
        )
        layers.append(
            (_("層 {layer}").format(layer=layer.layer), layer.norm, f"{layer.norm:.3g}{share}")
        )
    return (
        environment(language())
        .get_template(TEMPLATE)
        .render(
            report=report,
            legend=_("、").join(f"{mark} {_(name)}" for mark, name in MARKS_JA.items()),
            unsure_ja=_(UNSURE_JA),
            certificate=certificate,
            terms=explained(EXPLAINED),
            style=STYLE.read_text(encoding="utf-8"),
            losses=losses,
            preferences=[(title, split.preference) for title, split in splits if split.preference],
            exchanges=exchanges,
            shown=SHOWN,
            scores_ja={name: _(title) for name, title in SCORES_JA.items()},
            loss_chart=charts.intervals(intervals),
            curve_chart=charts.curves(curves, _("更新の回数"), _("損失")),
            layer_chart=charts.bars(layers, _("層ごとの重みの変化")),
        )
    )
