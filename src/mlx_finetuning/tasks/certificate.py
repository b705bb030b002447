"""What a parity certificate says: one row per engine, judged against the trained model's answers.

Pure: gets answers and figures, gives rows and texts. Asking the engines is `certify`'s business.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mlx_finetuning.jobs.results import SAME_ANSWERS, Certificate, EngineRow
from mlx_finetuning.quantizer.verify.results import LogitParity

LEAST_ENDED = 0.99
"""Share of answers that should end by themselves."""
MOST_RUNNING_ON = 0.5
"""Share of answers that say all that the trained model's do and then go on, where those end.

Without the right end token nearly all do; rounding turns an end into more words now and then.
"""
MOST_CUT = 0.05
"""Share of answers that are only the beginning of the trained model's, and yet ended."""
MOST_PROBLEMS = 5
"""Problems named per engine."""


@dataclass(frozen=True)
class EngineAnswer:
    """One question, put to one engine."""

    question: str
    prompt_ids: tuple[int, ...]
    """Empty where the engine does not tell."""
    text: str
    """The answer, without reasoning."""
    ended: bool
    reasoning: str = ""

    @property
    def compared_text(self) -> tuple[str, str]:
        """Reasoning and answer; engines differ in what space they leave around reasoning."""
        return (self.reasoning.strip(), self.text.lstrip() if self.reasoning else self.text)


Pairs = Sequence[tuple[EngineAnswer, EngineAnswer]]
"""An engine's answers, each with the trained model's to the same question."""


def reference_row(answers: Sequence[EngineAnswer]) -> EngineRow:
    """The trained model itself."""
    return EngineRow(
        engine="mlx",
        label="MLX（学習したモデル）",
        path="",
        prompts=len(answers),
        prompt_ids_equal=1.0,
        top1=1.0,
        kl=0.0,
        answers_equal=1.0,
        ended=_share(answer.ended for answer in answers),
        verdict="比べる基準です",
    )


def row(
    engine: str,
    label: str,
    path: str,
    answers: Sequence[EngineAnswer],
    expected: Sequence[EngineAnswer],
    *,
    parity: LogitParity | None,
    is_exact: bool,
    problems: Sequence[str] = (),
    verdict: str = "",
) -> EngineRow:
    """One engine's answers beside the expected ones, to the same questions in the same order.

    is_exact: not quantized, so that answers must be equal; problems: found before anything was
    asked; verdict: of a row without problems, where it has words of its own.
    """
    pairs = list(zip(answers, expected, strict=True))
    checks = [_prompt_problem, _stop_problem, _cut_problem]
    if is_exact:
        checks.append(_answer_problem)
    problems = [*problems, *(problem for check in checks if (problem := check(pairs)))]
    reasoning = [(a.compared_text[0], b.compared_text[0]) for a, b in pairs]
    reasoned = [a == b for a, b in reasoning if a or b]
    unnamed = len(problems) - MOST_PROBLEMS
    equal = sum(a.text == b.text for a, b in pairs)
    if equal < SAME_ANSWERS * len(pairs):
        same = f"{len(pairs)}問中{equal}問で、学習したモデルと同じ答えです"
        verdict = f"{verdict.rstrip('。')}。{same}" if verdict else same
    return EngineRow(
        engine=engine,
        label=label,
        path=path,
        prompts=len(answers),
        prompt_ids_equal=_share(a.prompt_ids == b.prompt_ids for a, b in pairs),
        top1=None if parity is None else parity.top1_agreement,
        kl=None if parity is None else parity.mean_kl,
        answers_equal=_share(a.text == b.text for a, b in pairs),
        ended=_share(answer.ended for answer in answers),
        verdict=f"違います: {problems[0]}" if problems else verdict or "学習したモデルと同じです",
        problems=(
            *problems[:MOST_PROBLEMS],
            *([f"ほかに{unnamed}件の違いがあります。"] if unnamed > 0 else []),
        ),
        reasoning_equal=_share(reasoned) if reasoned else None,
    )


def record(
    rows: Sequence[EngineRow], held_out_prompts: int, notes: Sequence[str] = ()
) -> Certificate:
    """What the engines' rows say together.

    rows: the trained model's first; held_out_prompts: those that were not trained on; notes: what
    else the reader should know.
    """
    trained, *others = rows
    problems = [f"{row.label}: {problem}" for row in rows for problem in row.problems]
    if problems:
        wrong = "、".join(row.label for row in rows if row.problems)
        verdict = f"学習したモデルと違うものがあります（{wrong}）: {problems[0]}"
    else:
        how_alike = "どれも同じ書式で質問を受け取り、学習したモデルとして答えます。"
        unlike = [
            f"{row.label}は{row.answers_equal:.0%}"
            for row in others
            if row.answers_equal < SAME_ANSWERS
        ]
        if unlike:
            how_alike = (
                "どれも同じ書式で質問を受け取りますが、丸めで答えの変わるものがあります"
                f"（同じ答えの割合: {'、'.join(unlike)}）。"
            )
        elif shifted := [row.label for row in others if not row.predicts_alike]:
            how_alike = (
                "どれも同じ書式で質問を受け取り、比べた質問には同じように答えますが、"
                f"丸めで予測に差のあるものがあります（{'、'.join(shifted)}）。"
            )
        verdict = (
            f"学習したモデルと、動かし方を変えた{len(others)}種類を{trained.prompts}問で比べました。"
            f"{how_alike}"
        )
    ending_notes = []
    if trained.ended < LEAST_ENDED:
        ending_notes.append(
            f"学習したモデル自身が、答えの{1 - trained.ended:.0%}を最大トークン数までに終えていません。"
            "「1つの答えの最大トークン数」を増やして証明し直すか、学習データの答えの長さを確認してください。"
        )
    ending_notes += [
        f"{row.label}: 最大トークン数までに終わる答えは{row.ended:.0%}です"
        f"（学習したモデルは{trained.ended:.0%}）。丸めで答えが変わっています。"
        "Q8_0 など、丸めの小さい種類で比べてください。"
        for row in others
        if not row.problems and row.ended < trained.ended - (1 - LEAST_ENDED)
    ]
    return Certificate(
        passed=not problems,
        verdict=verdict,
        problems=tuple(problems),
        notes=(*ending_notes, *notes),
        prompts=trained.prompts,
        held_out_prompts=held_out_prompts,
        rows=tuple(rows),
    )


# --- what is wrong -----------------------------------------------------------------------


def _prompt_problem(pairs: Pairs) -> str:
    different = [(a, b) for a, b in pairs if a.prompt_ids != b.prompt_ids]
    if not different:
        return ""
    answer, expected = different[0]
    count = f"{len(pairs)}問中{len(different)}問"
    if answer.prompt_ids == expected.prompt_ids[:1] + expected.prompt_ids:
        return f"会話の先頭の記号（BOS）が2つ付きます（{count}）。"
    if answer.prompt_ids == expected.prompt_ids[1:]:
        return f"会話の先頭の記号（BOS）が付きません（{count}）。"
    return (
        f"会話の書式（チャットテンプレート）が違い、質問が別のトークン列になります（{count}、"
        f"例: 「{answer.question}」）。"
    )


def _stop_problem(pairs: Pairs) -> str:
    # An answer that took other words earlier says nothing about where it would have ended.
    complete = [
        answer
        for answer, expected in pairs
        if expected.ended
        and expected.text.strip()
        and answer.text.startswith(expected.text.rstrip())
    ]
    running_on = [answer for answer in complete if not answer.ended]
    if len(running_on) <= MOST_RUNNING_ON * len(complete):
        return ""
    return (
        f"停止の設定（終わりのトークン）が違い、{len(complete)}問中{len(running_on)}問の答えが終わりません"
        f"（例: 「{running_on[0].question}」）。"
    )


def _cut_problem(pairs: Pairs) -> str:
    cut = [
        answer
        for answer, expected in pairs
        if answer.ended
        and answer.text != expected.text
        and expected.text.startswith(answer.text.rstrip())
    ]
    if len(cut) <= MOST_CUT * len(pairs):
        return ""
    return (
        f"停止の設定（終わりのトークン）が違い、{len(pairs)}問中{len(cut)}問の答えが途中で終わります"
        f"（例: 「{cut[0].question}」→「{cut[0].text}」）。"
    )


def _answer_problem(pairs: Pairs) -> str:
    different = [(a, b) for a, b in pairs if a.compared_text != b.compared_text]
    if len(different) <= (1 - SAME_ANSWERS) * len(pairs):
        return ""
    answer, expected = different[0]
    count = f"{len(pairs)}問中{len(different)}問"
    if answer.text == expected.text:
        return f"{count}で考えた過程が違います（例: 「{answer.question}」）。"
    return (
        f"{count}で答えが違います（例: 「{answer.question}」→「{answer.text}」、"
        f"学習したモデルは「{expected.text}」）。"
    )


def _share(flags: Iterable[bool]) -> float:
    """Of no flags at all, 1: nothing contradicts."""
    listed = list(flags)
    return sum(listed) / len(listed) if listed else 1.0
