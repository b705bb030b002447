"""The report as one page: no request leaves it, every text is escaped, light, dark and on paper.

Gets `report.json` and, where there is one, `certificate.json`; computes nothing new. The page itself is
`assets/report.html.j2`; here is what it is filled with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mlx_finetuning.experiment_tracker.evaluation import charts
from mlx_finetuning.experiment_tracker.evaluation.measured import SPLITS_JA
from mlx_finetuning.files import ASSETS

TEMPLATE = "report.html.j2"
STYLE = ASSETS / "report.css"
SHOWN = 8
"""Exchanges of a kind that are open; the others are folded in."""
SCORES_JA = {
    "exact": "完全一致",
    "contains": "正解を含む",
    "chrf": "chrF",
    "rouge_l": "ROUGE-L",
    "ended": "自分で終了",
}

Record = Mapping[str, Any]


def page(report: Record, certificate: Record | None = None) -> str:
    """The whole document."""
    environment = Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = format
    splits = [
        (SPLITS_JA[name], report["splits"][name])
        for name in ("test", "valid", "train")
        if name in report["splits"]
    ]
    losses = [
        (title, split)
        for title, split in splits
        if split["base"]["loss"] is not None and split["tuned"]["loss"] is not None
    ]
    return environment.get_template(TEMPLATE).render(
        report=report,
        certificate=certificate,
        style=STYLE.read_text(encoding="utf-8"),
        verdicts=_verdicts(report, certificate),
        losses=losses,
        loss_chart=_loss_chart(losses),
        preferences=[
            (title, split["preference"]) for title, split in splits if split.get("preference")
        ],
        curve_chart=charts.curves(
            [("base", report["curves"]["train"]), ("tuned", report["curves"]["valid"])],
            "更新の回数",
            "損失",
        ),
        scores_ja=SCORES_JA,
        exchanges=_exchanges(report),
        shown=SHOWN,
        layer_chart=_layer_chart(report["adapter"]["layers"]),
        origin_facts=_origin_facts(report),
        settings=[
            *((f"学習 {name}", value) for name, value in report["origin"]["training"].items()),
            *((f"評価 {name}", value) for name, value in report["origin"]["evaluation"].items()),
        ],
    )


def _verdicts(report: Record, certificate: Record | None) -> list[tuple[str, Record]]:
    """By title, each with `level`, `text`, `evidence` and `advice`."""
    verdicts = [
        ("学習できたか", report["verdict"]),
        ("ほかのことを忘れていないか", report["forgetting"]),
        ("丸暗記していないか", report["memorising"]),
        ("答えを自分で終えるか", report["stopping"]),
    ]
    if report.get("thinking"):
        verdicts.append(("考えてから答えるか", report["thinking"]))
    if certificate is not None:
        problems = certificate.get("problems", [])
        judged = {
            "level": "bad" if problems else "good",
            "text": certificate.get("verdict", ""),
            "evidence": problems,
            "advice": "",
        }
        verdicts.append(("動かし方を変えても同じか", judged))
    return verdicts


def _loss_chart(losses: list[tuple[str, Record]]) -> str:
    return charts.intervals(
        [
            (f"{title}・{model}", who, split[who]["loss"], *split[who]["loss_interval"])
            for title, split in losses
            for who, model in (("base", "元のモデル"), ("tuned", "学習後"))
        ]
    )


def _exchanges(report: Record) -> list[tuple[str, list[Record]]]:
    """By kind of question; wrong answers first, because they are what is to be looked at."""
    answers = [item for split in report["splits"].values() for item in split["answers"]]
    return [
        (
            kind["title"],
            sorted(
                kind["answers"] or [item for item in answers if item["kind"] == name],
                key=lambda item: item["tuned_exact"],
            ),
        )
        for name, kind in report["questions"].items()
    ]


def _layer_chart(layers: list[Record]) -> str:
    rows = []
    for layer in layers:
        share = "" if layer["relative"] is None else f"（{layer['relative']:.1%}）"
        rows.append((f"層 {layer['layer']}", layer["norm"], f"{layer['norm']:.3g}{share}"))
    return charts.bars(rows, "層ごとの重みの変化")


def _origin_facts(report: Record) -> list[tuple[str, Any]]:
    origin = report["origin"]
    changed = "（今のデータセットは、学習したときと違います）" if origin["dataset_changed"] else ""
    return [
        ("実験ID", report["run_id"]),
        ("学習を始めた日時", f"{origin['created_at'][:19].replace('T', ' ')}（UTC）"),
        ("モデル", report["model"]),
        ("データセット", report["dataset"]),
        ("データのSHA-256", origin["dataset_sha256"] + changed),
        ("乱数の種", origin["seed"]),
        *((f"版 {name}", version) for name, version in origin["versions"].items()),
    ]
