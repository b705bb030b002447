"""What a parity certificate says: one row per engine, judged against the trained model's answers.

Pure: gets answers and figures, gives rows and texts. Asking the engines is `certify`'s business.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mlx_finetuning.jobs.results import SAME_ANSWERS, Certificate, EngineRow
from mlx_finetuning.language import _
from mlx_finetuning.quantizer.verify.results import LogitParity

LEAST_ENDED = 0.99
"""Share of answers that should end by themselves."""
MOST_RUNNING_ON = 0.5
"""Share of answers that say all that the trained model's do and then go on, where those end.

Without the right end token nearly all do; rounding turns an end into more words now and then.
"""
MOST_CUT = 0.05
"""Share of answers that are only the beginning of the trained model's, and yet ended."""
LEAST_TOP1 = 0.99
"""Share of next tokens below which is said what they are; llama.cpp's rounding of activations to 8 bits alone
takes SmolLM2 to 0.98."""
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
        label=_("MLX（学習したモデル）"),
        path="",
        prompts=len(answers),
        prompt_ids_equal=1.0,
        top1=1.0,
        kl=0.0,
        answers_equal=1.0,
        ended=_share(answer.ended for answer in answers),
        verdict=_("比べる基準です"),
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
        same = _("{total}問中{equal}問で、学習したモデルと同じ答えです").format(
            total=len(pairs), equal=equal
        )
        if verdict:
            same = _("{verdict}。{same}").format(verdict=verdict.rstrip("。."), same=same)
        verdict = same
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
        verdict=_("違います: {problem}").format(problem=problems[0])
        if problems
        else verdict or _("学習したモデルと同じです"),
        problems=(
            *problems[:MOST_PROBLEMS],
            *(
                [_("ほかに{count}件の違いがあります。").format(count=unnamed)]
                if unnamed > 0
                else []
            ),
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
        wrong = _("、").join(row.label for row in rows if row.problems)
        verdict = _("学習したモデルと違うものがあります（{engines}）: {problem}").format(
            engines=wrong, problem=problems[0]
        )
    else:
        how_alike = _("どれも、学習したモデルと同じように答えます。")
        unlike = [
            _("{label}は{share:.0%}").format(label=row.label, share=row.answers_equal)
            for row in others
            if row.answers_equal < SAME_ANSWERS
        ]
        if unlike:
            how_alike = _(
                "動かし方によって、答えの変わるものがあります（同じ答えの割合: {shares}）。"
            ).format(shares=_("、").join(unlike))
        elif shifted := [row.label for row in others if not row.predicts_alike]:
            how_alike = _(
                "比べた質問には同じように答えますが、予測に差のあるものがあります（{engines}）。"
            ).format(engines=_("、").join(shifted))
        verdict = _(
            "学習したモデルと、動かし方を変えた{count}種類を{prompts}問で比べました。{how_alike}"
        ).format(count=len(others), prompts=trained.prompts, how_alike=how_alike)
    ending_notes = []
    if trained.ended < LEAST_ENDED:
        ending_notes.append(
            _(
                "学習したモデル自身が、答えの{ended:.0%}を最大トークン数までに終えていません。"
                "「1つの答えの最大トークン数」を増やして証明し直すか、学習データの答えの長さを確認してください。"
            ).format(ended=1 - trained.ended)
        )
    ending_notes += [
        _(
            "{label}: 最大トークン数までに終わる答えは{ended:.0%}です（学習したモデルは{expected:.0%}）。"
            "丸めで答えが変わっています。"
            "Q8_0 など、丸めの小さい種類で比べてください。"
        ).format(label=row.label, ended=row.ended, expected=trained.ended)
        for row in others
        if not row.problems and row.ended < trained.ended - (1 - LEAST_ENDED)
    ]
    if any(row.top1 is not None and row.top1 < LEAST_TOP1 for row in others):
        ending_notes.append(
            _(
                "「次の語の一致」は、学習していない質問の中の語も数えます。"
                "答えがどれだけ変わるかは、「答えの一致」で分かります。"
            )
        )
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
    count = _("{total}問中{count}問").format(total=len(pairs), count=len(different))
    if answer.prompt_ids == expected.prompt_ids[:1] + expected.prompt_ids:
        return _("会話の先頭の記号（BOS）が2つ付きます（{count}）。").format(count=count)
    if answer.prompt_ids == expected.prompt_ids[1:]:
        return _("会話の先頭の記号（BOS）が付きません（{count}）。").format(count=count)
    return _(
        "会話の書式（チャットテンプレート）が違い、質問が別のトークン列になります（{count}、例: 「{question}」）。"
    ).format(count=count, question=answer.question)


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
    return _(
        "停止の設定（終わりのトークン）が違い、{total}問中{count}問の答えが終わりません（例: 「{question}」）。"
    ).format(
        total=len(complete),
        count=len(running_on),
        question=running_on[0].question,
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
    return _(
        "停止の設定（終わりのトークン）が違い、{total}問中{count}問の答えが途中で終わります（例: 「{question}」→「{text}」）。"
    ).format(total=len(pairs), count=len(cut), question=cut[0].question, text=cut[0].text)


def _answer_problem(pairs: Pairs) -> str:
    different = [(a, b) for a, b in pairs if a.compared_text != b.compared_text]
    if len(different) <= (1 - SAME_ANSWERS) * len(pairs):
        return ""
    answer, expected = different[0]
    count = _("{total}問中{count}問").format(total=len(pairs), count=len(different))
    if answer.text == expected.text:
        return _("{count}で考えた過程が違います（例: 「{question}」）。").format(
            count=count, question=answer.question
        )
    return _(
        "{count}で答えが違います（例: 「{question}」→「{text}」、学習したモデルは「{expected}」）。"
    ).format(count=count, question=answer.question, text=answer.text, expected=expected.text)


def _share(flags: Iterable[bool]) -> float:
    """Of no flags at all, 1: nothing contradicts."""
    listed = list(flags)
    return sum(listed) / len(listed) if listed else 1.0
