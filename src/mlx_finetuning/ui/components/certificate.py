"""The certificate of a run: whether what was written is still what was trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.utils.units_ja import percent


def draw_certificate(found: Mapping[str, Any]) -> None:
    """`found`: the content of `certificate.json`."""
    show = st.success if found["passed"] else st.error
    show(plain(str(found["verdict"])), icon=":material/verified:")
    st.dataframe([_row(row) for row in found["rows"]], hide_index=True, placeholder="—")
    for problem in found["problems"]:
        st.warning(plain(str(problem)), icon=":material/warning:")
    for note in found["notes"]:
        st.caption(plain(str(note)))


def _row(row: Mapping[str, Any]) -> dict[str, str]:
    thought = row.get("reasoning_equal")
    return {
        "動かし方": str(row["label"]),
        "質問": f"{row['prompts']:,}",
        "質問のトークンの一致": percent(row["prompt_ids_equal"]),
        "次の語の一致": "—" if row["top1"] is None else percent(row["top1"]),
        "答えの一致": percent(row["answers_equal"]),
        "自分で終えた答え": percent(row["ended"]),
        **({} if thought is None else {"考えた過程の一致": percent(thought)}),
    }
