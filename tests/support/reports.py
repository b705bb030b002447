"""A whole report, certificate and export report, as a run leaves them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mlx_finetuning.experiment_tracker.evaluation import outcome
from mlx_finetuning.experiment_tracker.evaluation.results import (
    AdapterChange,
    Answered,
    AnswerFigures,
    Forgetting,
    Interval,
    LayerChange,
    Learned,
    LossFigures,
    Memorising,
    ModelFigures,
    QuestionsReport,
    Report,
    ReportOrigin,
    SplitReport,
    Stopping,
    Tally,
)
from mlx_finetuning.jobs.results import Certificate, EngineRow
from mlx_finetuning.quantizer.verify import results

JUDGED: dict[str, Any] = {
    "state": "learned",
    "level": "good",
    "text": "学習できています。",
    "evidence": ("減った",),
}
LOSS: dict[str, Any] = {
    "loss": 1.0,
    "loss_interval": (0.9, 1.1),
    "perplexity": 2.7,
    "perplexity_interval": (2, 3),
}
SCORES: dict[str, Any] = {"exact": 0.5, "contains": 0.5, "chrf": 0.6, "rouge_l": 0.6, "ended": 1.0}
FIGURES, ANSWERS = ModelFigures(**LOSS, **SCORES), AnswerFigures(**SCORES)
CHANGE = Interval(-1.0, -1.2, -0.8)
ANSWER = Answered(
    *(
        2,
        "営業時間は？",
        "9時です。",
        "？",
        "9時です。",
        False,
        True,
        True,
        0.1,
        1.0,
        0.1,
        1.0,
        True,
    ),
    kind="new",
)
REPORT = Report(
    run_id="20260101-000000-tiny-ja-0000",
    model="tiny-ja",
    dataset="faq",
    verdict=Learned(**JUDGED, learned=True),
    forgetting=Forgetting(
        **JUDGED,
        questions=72,
        could=42,
        still_can=42,
        base=LossFigures(**LOSS),
        tuned=LossFigures(**LOSS),
        change=CHANGE,
        kinds=(),
        lost=(),
    ),
    memorising=Memorising(**JUDGED, verbatim=0, of=8, parroted=(), personal=()),
    stopping=Stopping(**JUDGED, answers=3, base=1.0, tuned=1.0),
    splits={"test": SplitReport(3, 3, FIGURES, FIGURES, CHANGE, (ANSWER,))},
    questions={"new": QuestionsReport("質問", 3, ANSWERS, ANSWERS, {"exact": CHANGE}, ())},
    adapter=AdapterChange(1.5, False, (LayerChange(0, 1.5, None),)),
    curves={"train": ((1, 2.0), (2, 1.0)), "valid": ((0, 2.0), (2, 1.5))},
    origin=ReportOrigin(
        "0" * 64, False, "2026-01-01", {"rank": 16}, {"mlx": "1"}, "2026-01-01", {}
    ),
)


def summed_up(text: str = "") -> Report:
    """Of a FAQ of which half was learned, 20 of 30 answers; `text` makes its texts longer."""
    taught, held_out = Tally(30, 15, 5, 0, 2), Tally(8, 1, 1, 0, 0)
    judged = outcome.judge(
        outcome.Evidence(
            goal="faq",
            learning="learned",
            taught=taught,
            held_out=held_out,
            held_out_ja="別の聞き方",
            updates=300,
        )
    )
    answers = tuple(
        replace(
            ANSWER,
            row=at,
            question=f"質問{at}{text}",
            expected=f"正解{at}{text}",
            tuned=f"答え{at}{text}",
            base=f"前の答え{at}{text}",
            kind="trained",
            rightness="exact" if at < 15 else "contains" if at < 20 else "wrong",
        )
        for at in range(30)
    )
    split = replace(REPORT.splits["test"], rows=30, of_rows=30, answers=answers)
    questions = {"trained": replace(REPORT.questions["new"], title="教えた質問", rows=30)}
    return replace(REPORT, outcome=judged, splits={"train": split}, questions=questions)


CERTIFICATE = Certificate(
    passed=True,
    verdict="全て学習したモデルと同じです。",
    prompts=8,
    held_out_prompts=8,
    rows=(EngineRow("mlx", 8, 1.0, None, None, 1.0, 1.0, "比べる基準です", label="MLX"),),
    notes=("質問が少なめです。",),
)
EXPORT_REPORT = results.Verification(
    path="faq-Q8_0.gguf",
    size_bytes=4,
    structure=results.Structure("Q8_0", 2, {"F32": 1, "Q8_0": 1}, ()),
    tokens=results.TokenParity(500, ()),
    logits=results.LogitParity(512, 0.01, 0.5, 0.987, 2.0, 2.1),
    errors={"Q8_0": 0.01},
    problems=(),
    verdict="差はわずか。",
    proven=True,
)
