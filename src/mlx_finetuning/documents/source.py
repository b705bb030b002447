"""Generated pairs as the source file of a dataset: a row a pair, with where it comes from and what
checking found, so that it can be read, edited and prepared as any other table."""

from __future__ import annotations

import json
from collections.abc import Sequence

from mlx_finetuning.documents.pairs import KINDS_JA, Pair


def source_of(pairs: Sequence[Pair]) -> bytes:
    """The pairs as JSON lines; the row of a pair is its position, from 1."""
    rows = (
        {
            "質問": pair.question,
            "回答": pair.answer,
            "根拠": pair.quote,
            "資料": pair.document,
            "ページ": pair.page or "",
            "箇所": pair.chunk,
            "問いの種類": KINDS_JA[pair.kind],
            "確かめた結果": "、".join(problem.text_ja for problem in pair.problems),
        }
        for pair in pairs
    )
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
