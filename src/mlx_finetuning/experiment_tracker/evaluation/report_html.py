"""The report as one page: no request leaves it, every text is escaped, light, dark and on paper.

Gets `report.json` and, where there is one, `certificate.json`; computes nothing new.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import chain
from typing import Any

from mlx_finetuning.experiment_tracker.evaluation import charts
from mlx_finetuning.experiment_tracker.evaluation.measured import SPLITS_JA
from mlx_finetuning.files import ASSETS

STYLE = ASSETS / "report.css"
SHOWN = 8
"""Exchanges of a kind that are open; the others are folded in."""
SCORES = {
    "exact": "完全一致",
    "contains": "正解を含む",
    "chrf": "chrF",
    "rouge_l": "ROUGE-L",
    "ended": "自分で終了",
}

Record = Mapping[str, Any]


def page(report: Record, certificate: Record | None = None) -> str:
    """The whole document."""
    title = f"評価レポート {report['run_id']}"
    parts = (
        _heading(report),
        _cards(report, certificate),
        _losses(report),
        _preferences(report["splits"]),
        _curves(report["curves"]),
        _questions(report),
        _exchanges(report),
        _general(report["forgetting"]),
        _certificate(certificate),
        _adapter(report["adapter"]),
        _origin(report),
    )
    return (
        '<!doctype html>\n<html lang="ja">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{STYLE.read_text(encoding='utf-8')}</style>\n"
        f"</head>\n<body>\n<main>\n{''.join(parts)}</main>\n</body>\n</html>\n"
    )


def _heading(report: Record) -> str:
    origin = report["origin"]
    return (
        "<h1>評価レポート</h1>\n"
        f'<p class="about">実験 <code>{escape(report["run_id"])}</code>　モデル '
        f"<code>{escape(report['model'])}</code>　データセット <code>{escape(report['dataset'])}</code>"
        f"　評価日時 {escape(origin['evaluated_at'][:16].replace('T', ' '))}（UTC）</p>\n"
    )


# --- verdicts ----------------------------------------------------------------------------


def _cards(report: Record, certificate: Record | None) -> str:
    cards = [
        ("学習できたか", report["verdict"]),
        ("ほかのことを忘れていないか", report["forgetting"]),
        ("丸暗記していないか", report["memorising"]),
        ("答えを自分で終えるか", report["stopping"]),
    ]
    if report.get("thinking"):
        cards.append(("考えてから答えるか", report["thinking"]))
    if certificate is not None:
        cards.append(("動かし方を変えても同じか", _certificate_verdict(certificate)))
    return f'<div class="cards">{"".join(_card(title, one) for title, one in cards)}</div>\n'


def _card(title: str, verdict: Record) -> str:
    evidence = "".join(f"<li>{escape(line)}</li>" for line in verdict["evidence"])
    advice = f'<p class="advice">→ {escape(verdict["advice"])}</p>' if verdict["advice"] else ""
    return (
        f'<section class="card {escape(verdict["level"])}"><h3>{escape(title)}</h3>'
        f'<p class="head">{escape(verdict["text"])}</p><ul>{evidence}</ul>{advice}</section>'
    )


def _certificate_verdict(certificate: Record) -> dict[str, Any]:
    problems = [str(problem) for problem in certificate.get("problems", [])]
    level = "bad" if problems else "good"
    text = str(certificate.get("verdict", ""))
    return {"level": level, "text": text, "evidence": problems, "advice": ""}


# --- losses ------------------------------------------------------------------------------


def _losses(report: Record) -> str:
    rows, drawn = [], []
    for name in (name for name in ("test", "valid", "train") if name in report["splits"]):
        split = report["splits"][name]
        if split["base"]["loss"] is None or split["tuned"]["loss"] is None:
            continue
        title = SPLITS_JA[name]
        rows.append(_loss_row(title, split))
        for who, called in (("base", "元のモデル"), ("tuned", "学習後")):
            figures = split[who]
            drawn.append((f"{title}・{called}", who, figures["loss"], *figures["loss_interval"]))
    if not rows:
        return ""
    heading = ("", "行", "損失 元 → 後", "変化（95%信頼区間）", "パープレキシティ 元 → 後")
    return (
        "<h2>損失とパープレキシティ</h2>\n"
        '<p class="note">答えの1トークンあたりの損失（nat）です。小さいほど、答えを正しく予測できています。'
        "区間は、行を選び直して求めた95%信頼区間です。</p>\n"
        + _table(heading, rows, numbers=(1, 2, 3, 4))
        + _figure(charts.intervals(drawn), "損失と95%信頼区間", legend=True)
    )


def _loss_row(title: str, split: Record) -> list[str]:
    base, tuned, change = split["base"], split["tuned"], split["change"]
    count = str(split["rows"])
    if split["rows"] < split["of_rows"]:
        count += f"<small>{split['of_rows']:,}行から等間隔に選択</small>"
    return [
        escape(title),
        count,
        f"{base['loss']:.3f} → <b>{tuned['loss']:.3f}</b>",
        f"{change['value']:+.3f}<small>{change['low']:+.3f} 〜 {change['high']:+.3f}</small>",
        f"{base['perplexity']:.2f} → <b>{tuned['perplexity']:.2f}</b>"
        f"<small>{_span(base['perplexity_interval'])} → {_span(tuned['perplexity_interval'])}</small>",
    ]


def _span(ends: Sequence[float]) -> str:
    return f"{ends[0]:.2f}–{ends[1]:.2f}"


def _preferences(splits: Record) -> str:
    rows = [
        _preference_row(SPLITS_JA[name], splits[name]["preference"])
        for name in ("test", "valid", "train")
        if name in splits and splits[name].get("preference")
    ]
    if not rows:
        return ""
    heading = (
        "",
        "組",
        "よい答えのほうが出やすい組",
        "差 元 → 後",
        "変化（95%信頼区間）",
        "差が広がった組",
    )
    return (
        "<h2>よい答えとよくない答え</h2>\n"
        '<p class="note">比べて学習した2つの答えの、出やすさ（対数確率、nat）の差です。'
        "大きいほど、よい答えのほうを選びます。上の損失は、よい答えのものです。</p>\n"
        + _table(heading, rows, numbers=range(1, 6))
    )


def _preference_row(title: str, found: Record) -> list[str]:
    change = found["change"]
    return [
        escape(title),
        str(found["pairs"]),
        f"{found['base_accuracy']:.0%} → <b>{found['tuned_accuracy']:.0%}</b>",
        f"{found['base_margin']:.3f} → <b>{found['tuned_margin']:.3f}</b>",
        f"{change['value']:+.3f}<small>{change['low']:+.3f} 〜 {change['high']:+.3f}</small>",
        f"{found['widened']:.0%}",
    ]


def _curves(curves: Record) -> str:
    series = [("学習", "base", curves["train"]), ("検証", "tuned", curves["valid"])]
    drawn = charts.curves(series, "更新の回数", "損失")
    if not drawn:
        return ""
    key = '<span class="key base"></span>学習の損失<span class="key tuned"></span>検証の損失'
    return f"<h2>学習の経過</h2>\n<figure><figcaption>{key}</figcaption>{drawn}</figure>\n"


# --- questions and answers ---------------------------------------------------------------


def _questions(report: Record) -> str:
    kinds = report["questions"]
    if not kinds:
        return ""
    rows = [
        [
            escape(kind["title"]),
            str(kind["rows"]),
            *(_score_cell(kind, name) for name in SCORES),
        ]
        for kind in kinds.values()
    ]
    return (
        "<h2>答えの点数</h2>\n"
        '<p class="note">元のモデル → 学習後。chrF と ROUGE-L は、正解との文字の並びの近さです（100%で同じ）。'
        "小さな数字は、変化の95%信頼区間です。</p>\n"
        + _table(("", "問", *SCORES.values()), rows, numbers=range(1, 7))
    )


def _score_cell(kind: Record, name: str) -> str:
    before, after = kind["base"][name], kind["tuned"][name]
    change = kind["change"].get(name)
    shown = f"{before:.0%} → <b>{after:.0%}</b>"
    if change is None:
        return shown
    return f"{shown}<small>{100 * change['low']:+.0f} 〜 {100 * change['high']:+.0f}</small>"


def _exchanges(report: Record) -> str:
    kinds = report["questions"]
    told = [item for split in report["splits"].values() for item in split["answers"]]
    drawn = [
        _kind(kind["title"], kind["answers"] or [item for item in told if item["kind"] == name])
        for name, kind in kinds.items()
    ]
    return "<h2>質問と答え</h2>\n" + "".join(drawn) if drawn else ""


def _kind(title: str, answers: Sequence[Record]) -> str:
    # Wrong ones first: they are what is to be looked at.
    ordered = [_exchange(one) for one in sorted(answers, key=lambda one: one["tuned_exact"])]
    rest = "".join(ordered[SHOWN:])
    folded = f"<details><summary>残り {len(ordered) - SHOWN} 問</summary>{rest}</details>"
    return (
        f"<h3>{escape(title)}（{len(ordered)}問、まちがいから順に）</h3>\n"
        f"{''.join(ordered[:SHOWN])}{folded if rest else ''}\n"
    )


def _said(item: Record, who: str) -> str:
    """An answer; what was thought before it is folded in. Older reports have none."""
    thought, answer = item.get(f"{who}_reasoning"), escape(item[who])
    if not thought:
        return answer
    said = answer or "（考えている途中で終わりました）"
    return f"{said}<details><summary>考えた過程</summary>{escape(thought)}</details>"


def _exchange(item: Record) -> str:
    mark = ("good", "○") if item["tuned_exact"] else ("bad", "×")
    if item["tuned_contains"] and not item["tuned_exact"]:
        mark = ("good", "△")
    ended = "" if item["ended"] else "　答えが終わっていません"
    return (
        f'<div class="exchange"><div class="question"><span class="mark {mark[0]}">{mark[1]}</span>'
        f"{escape(item['question'])}</div><dl><dt>正解</dt><dd>{escape(item['expected'])}</dd>"
        f"<dt>元のモデル</dt><dd>{_said(item, 'base')}</dd>"
        f'<dt>学習後</dt><dd class="tuned">{_said(item, "tuned")}</dd></dl>'
        f'<p class="figures">chrF {item["base_chrf"]:.0%} → {item["tuned_chrf"]:.0%}　'
        f"ROUGE-L {item['base_rouge_l']:.0%} → {item['tuned_rouge_l']:.0%}{ended}</p></div>\n"
    )


def _general(found: Record) -> str:
    rows = [
        [escape(one["kind"]), str(one["questions"]), str(one["could"]), str(one["still_can"])]
        for one in found["kinds"]
    ]
    lost = "".join(
        f"<tr><td>{escape(one['question'])}</td><td>{escape(str(one['base']))}</td>"
        f"<td>{escape(str(one['tuned']))}</td></tr>"
        for one in found["lost"]
    )
    table = "<tr><th>質問</th><th>元のモデル</th><th>学習後</th></tr>" + lost
    return (
        "<h2>一般の質問（忘れていないか）</h2>\n"
        '<p class="note">学習と関係のない、決まった質問です。学習の前に正しく答えられたものを、学習後も答えられるかを見ます。</p>\n'
        + _table(("種類", "問", "前に正解", "うち学習後も正解"), rows, numbers=(1, 2, 3))
        + (f"<h3>答えられなくなった質問</h3><table>{table}</table>\n" if lost else "")
    )


# --- certificate, adapter, origin --------------------------------------------------------


def _certificate(certificate: Record | None) -> str:
    if certificate is None:
        return ""
    heading = (
        "動かし方",
        "問",
        "質問の書式が同じ",
        "次の語が同じ",
        "KL",
        "答えが同じ",
        "自分で終了",
        "判定",
    )
    rows = [
        [
            escape(str(one.get("label") or one["engine"])),
            str(one["prompts"]),
            _percent(one["prompt_ids_equal"]),
            _percent(one["top1"]),
            "" if one["kl"] is None else f"{one['kl']:.1e}",
            _percent(one["answers_equal"]),
            _percent(one["ended"]),
            escape(str(one["verdict"])),
        ]
        for one in certificate["rows"]
    ]
    return "<h2>動かし方ごとの一致（証明書）</h2>\n" + _table(heading, rows, numbers=range(1, 7))


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _adapter(adapter: Record) -> str:
    if not adapter["layers"]:
        return ""
    rows = [(f"層 {one['layer']}", one["norm"], _norm(one)) for one in adapter["layers"]]
    said = "変化量が0です。学習されていません。" if adapter["is_zero"] else "0ではありません。"
    return (
        "<h2>重みの変化</h2>\n"
        f'<p class="note">層ごとの、学習で変わった量（フロベニウスノルム）です。全体で {adapter["norm"]:.4g}、{said}</p>\n'
        + _figure(charts.bars(rows, "層ごとの重みの変化"), "かっこ内は、元の重みに対する割合")
    )


def _norm(layer: Record) -> str:
    relative = layer["relative"]
    return f"{layer['norm']:.3g}" + ("" if relative is None else f"（{relative:.1%}）")


def _origin(report: Record) -> str:
    origin = report["origin"]
    changed = "（今のデータセットは、学習したときと違います）" if origin["dataset_changed"] else ""
    facts = [
        ("実験ID", report["run_id"]),
        ("学習を始めた日時", f"{origin['created_at'][:19].replace('T', ' ')}（UTC）"),
        ("モデル", report["model"]),
        ("データセット", report["dataset"]),
        ("データのSHA-256", origin["dataset_sha256"] + changed),
        ("乱数の種", str(origin["seed"])),
        *((f"版 {name}", str(version)) for name, version in origin["versions"].items()),
    ]
    settings = chain(
        ((f"学習 {name}", str(value)) for name, value in origin["training"].items()),
        ((f"評価 {name}", str(value)) for name, value in origin["evaluation"].items()),
    )
    again = f"mlx-finetuning runs rerun {report['run_id']}"
    return (
        "<h2>もう一度作るために</h2>\n"
        f'<p class="note">同じ設定で学習し直す: <code>{escape(again)}</code></p>\n'
        + _facts(facts)
        + f"<details><summary>全ての設定</summary>{_facts(settings)}</details>\n"
    )


# --- pieces ------------------------------------------------------------------------------


def _facts(pairs: Iterable[tuple[str, str]]) -> str:
    rows = (
        f"<tr><th>{escape(name)}</th><td><code>{escape(value)}</code></td></tr>"
        for name, value in pairs
    )
    return f"<table>{''.join(rows)}</table>\n"


def _table(
    heading: Sequence[str], rows: Iterable[Sequence[str]], numbers: Iterable[int] = ()
) -> str:
    """A table of escaped headings and of cells that are HTML already."""
    right = set(numbers)

    def kind(at: int) -> str:
        return ' class="number"' if at in right else ""

    head = "".join(f"<th{kind(at)}>{escape(text)}</th>" for at, text in enumerate(heading))
    body = "".join(
        "<tr>" + "".join(f"<td{kind(at)}>{cell}</td>" for at, cell in enumerate(row)) + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>\n'


def _figure(drawn: str, caption: str, *, legend: bool = False) -> str:
    if not drawn:
        return ""
    key = '<span class="key base"></span>元のモデル<span class="key tuned"></span>学習後'
    return f"<figure><figcaption>{escape(caption)}{key if legend else ''}</figcaption>{drawn}</figure>\n"
