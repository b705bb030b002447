"""What a parity certificate says: one row per engine, judged against the trained model's answers.

Pure: gets answers and figures, gives rows and words. Who answers is `certify`'s business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mlx_finetuning.quantizer.verify.parity import LogitParity

LEAST_EQUAL = 0.99
"""Share of greedy answers that an unquantized model must give as the trained one."""
LEAST_ENDED = 0.99
"""Share of answers that should end by themselves."""
MOST_RUNNING_ON = 0.5
"""Share of answers that say all that the trained model's do and then go on, where those end.

Without the right end token nearly all do; rounding turns an end into more words now and then.
"""
MOST_CUT = 0.05
"""Share of answers that are only the beginning of the trained model's, and yet ended."""
SHOWN = 5
"""Problems named per engine."""


@dataclass(frozen=True)
class Said:
    """One question in one engine."""

    question: str
    prompt_ids: tuple[int, ...]
    """Empty where the engine does not tell."""
    text: str
    """The answer, without reasoning."""
    ended: bool
    reasoning: str = ""

    @property
    def words(self) -> tuple[str, str]:
        """All that was said; engines differ in what space they leave around reasoning."""
        return (self.reasoning.strip(), self.text.lstrip() if self.reasoning else self.text)


@dataclass(frozen=True)
class Row:
    """One engine beside the trained model; shares of 1."""

    engine: str
    """`mlx`, `mlx-fused`, `Q4_K_M`, `ollama`."""
    label: str
    """For people: 「GGUF Q4_K_M（llama.cpp）」."""
    path: str
    prompts: int
    prompt_ids_equal: float
    top1: float | None
    """Positions whose likeliest next token is the same; None where logits cannot be had."""
    kl: float | None
    """Mean divergence, nats."""
    answers_equal: float
    """Without their reasoning."""
    ended: float
    verdict: str
    problems: tuple[str, ...] = ()
    reasoning_equal: float | None = None
    """Of the answers that either side thought over; None where neither does."""


def reference_row(said: Sequence[Said]) -> Row:
    """The trained model itself."""
    ended = _share(one.ended for one in said)
    return Row(
        engine="mlx",
        label="MLX（学習したモデル）",
        path="",
        prompts=len(said),
        prompt_ids_equal=1.0,
        top1=1.0,
        kl=0.0,
        answers_equal=1.0,
        ended=ended,
        verdict="比べる基準です",
    )


def row(
    engine: str,
    label: str,
    path: str,
    said: Sequence[Said],
    expected: Sequence[Said],
    *,
    parity: LogitParity | None,
    is_exact: bool,
    problems: Sequence[str] = (),
    words: str = "学習したモデルと同じです",
) -> Row:
    """One engine's answers beside the expected ones, to the same questions in the same order.

    is_exact: not quantized, so that answers must be equal; problems: found before anything was
    asked; words: the verdict on a row without problems.
    """
    found = [*problems, *_problems(said, expected, is_exact)]
    return Row(
        engine=engine,
        label=label,
        path=path,
        prompts=len(said),
        prompt_ids_equal=_share(
            one.prompt_ids == other.prompt_ids for one, other in zip(said, expected, strict=True)
        ),
        top1=None if parity is None else parity.top1_agreement,
        kl=None if parity is None else parity.mean_kl,
        answers_equal=_share(
            one.text == other.text for one, other in zip(said, expected, strict=True)
        ),
        ended=_share(one.ended for one in said),
        verdict=f"違います: {found[0]}" if found else words,
        problems=_shortened(found),
        reasoning_equal=_reasoning_equal(said, expected),
    )


def _reasoning_equal(said: Sequence[Said], expected: Sequence[Said]) -> float | None:
    pairs = [(one.words[0], other.words[0]) for one, other in zip(said, expected, strict=True)]
    thought = [one == other for one, other in pairs if one or other]
    return _share(thought) if thought else None


def record(rows: Sequence[Row], held_out: int, notes: Sequence[str] = ()) -> dict[str, Any]:
    """`certificate.json` without its schema version.

    held_out: prompts that were not trained on; notes: what else the reader should know.
    """
    problems = [f"{one.label}: {problem}" for one in rows for problem in one.problems]
    return {
        "passed": not problems,
        "verdict": _verdict(rows, problems),
        "problems": problems,
        "notes": [*_notes(rows), *notes],
        "prompts": rows[0].prompts,
        "held_out_prompts": held_out,
        "rows": [{**asdict(one), "problems": list(one.problems)} for one in rows],
    }


def _verdict(rows: Sequence[Row], problems: Sequence[str]) -> str:
    wrong = [one.label for one in rows if one.problems]
    if wrong:
        return f"学習したモデルと違うものがあります（{'、'.join(wrong)}）: {problems[0]}"
    written = len(rows) - 1
    return (
        f"学習したモデルと、動かし方を変えた{written}種類を{rows[0].prompts}問で比べました。"
        "どれも同じ書式で質問を受け取り、学習したモデルとして答えます。"
    )


def _notes(rows: Sequence[Row]) -> list[str]:
    notes = []
    if rows[0].ended < LEAST_ENDED:
        notes.append(
            f"学習したモデル自身が、答えの{1 - rows[0].ended:.0%}を最大トークン数までに終えていません。"
            "max_tokens を増やすか、学習データの答えの長さを確認してください。"
        )
    notes += [
        f"{row.label}: 最大トークン数までに終わる答えは{row.ended:.0%}です"
        f"（学習したモデルは{rows[0].ended:.0%}）。丸め（量子化）で答えが変わっています。"
        "Q8_0 など、丸めの小さい種類で比べてください。"
        for row in rows[1:]
        if not row.problems and row.ended < rows[0].ended - (1 - LEAST_ENDED)
    ]
    return notes


# --- what is wrong -----------------------------------------------------------------------


def _problems(said: Sequence[Said], expected: Sequence[Said], is_exact: bool) -> list[str]:
    pairs = list(zip(said, expected, strict=True))
    checks = [_prompt_problem(pairs), _stop_problem(pairs), _cut_problem(pairs)]
    if is_exact:
        checks.append(_answer_problem(pairs))
    return [problem for problem in checks if problem]


Pairs = Sequence[tuple[Said, Said]]


def _prompt_problem(pairs: Pairs) -> str:
    wrong = [(one, other) for one, other in pairs if one.prompt_ids != other.prompt_ids]
    if not wrong:
        return ""
    one, other = wrong[0]
    count = f"{len(pairs)}問中{len(wrong)}問"
    if one.prompt_ids == other.prompt_ids[:1] + other.prompt_ids:
        return f"会話の先頭の記号（BOS）が2つ付きます（{count}）。"
    if one.prompt_ids == other.prompt_ids[1:]:
        return f"会話の先頭の記号（BOS）が付きません（{count}）。"
    return (
        f"会話の書式（チャットテンプレート）が違い、質問が別のトークン列になります（{count}、"
        f"例: 「{one.question}」）。"
    )


def _stop_problem(pairs: Pairs) -> str:
    # An answer that took other words earlier says nothing about where it would have ended.
    due = [
        one
        for one, other in pairs
        if other.ended and other.text.strip() and one.text.startswith(other.text.rstrip())
    ]
    running_on = [one for one in due if not one.ended]
    if len(running_on) <= MOST_RUNNING_ON * len(due):
        return ""
    return (
        f"停止の設定（終わりのトークン）が違い、{len(due)}問中{len(running_on)}問の答えが終わりません"
        f"（例: 「{running_on[0].question}」）。"
    )


def _cut_problem(pairs: Pairs) -> str:
    cut = [
        one
        for one, other in pairs
        if one.ended and one.text != other.text and other.text.startswith(one.text.rstrip())
    ]
    if len(cut) <= MOST_CUT * len(pairs):
        return ""
    return (
        f"停止の設定（終わりのトークン）が違い、{len(pairs)}問中{len(cut)}問の答えが途中で終わります"
        f"（例: 「{cut[0].question}」→「{cut[0].text}」）。"
    )


def _answer_problem(pairs: Pairs) -> str:
    wrong = [(one, other) for one, other in pairs if one.words != other.words]
    if len(wrong) <= (1 - LEAST_EQUAL) * len(pairs):
        return ""
    one, other = wrong[0]
    if one.text == other.text:
        return f"{len(pairs)}問中{len(wrong)}問で考えた過程が違います（例: 「{one.question}」）。"
    return (
        f"{len(pairs)}問中{len(wrong)}問で答えが違います（例: 「{one.question}」→「{one.text}」、"
        f"学習したモデルは「{other.text}」）。"
    )


def _shortened(problems: Sequence[str]) -> tuple[str, ...]:
    rest = len(problems) - SHOWN
    more = [f"ほかに{rest}件の違いがあります。"] if rest > 0 else []
    return (*problems[:SHOWN], *more)


def _share(flags: Any) -> float:
    listed = list(flags)
    return sum(listed) / len(listed) if listed else 1.0
