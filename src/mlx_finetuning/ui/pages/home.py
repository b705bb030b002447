"""ホーム: the workspace's runs with their states, or the first step where there are none."""

from __future__ import annotations

import streamlit as st

from mlx_finetuning.trainer.runs import Run
from mlx_finetuning.ui.frame import errors_shown, studio

FIRST_STEPS = """
まだ実験がありません。ターミナルで次のどちらかを実行すると、ここに表示されます。

1. **サンプルで試す**（数分）

   ```
   mlx-finetuning demo
   ```

2. **自分のデータで学習する**（質問と回答の列があるCSV）

   ```
   mlx-finetuning data prepare 質問と回答.csv --name my-data
   mlx-finetuning train --dataset my-data
   ```
"""


@st.fragment(run_every=2)
def draw_runs() -> None:
    """The table, read from disk again every two seconds."""
    with errors_shown():
        runs = studio().runs()
        if not runs:
            st.markdown(FIRST_STEPS)
            return
        st.dataframe([_row(run) for run in runs], hide_index=True, placeholder="—")


def _row(run: Run) -> dict[str, str]:
    return {
        "実験": run.run_id,
        "状態": run.state_ja,
        "進み": f"{run.status.done} / {run.status.total}" if run.status.total else "",
        "経過": run.status.detail,
        "モデル": run.model,
        "データセット": run.dataset,
    }


st.title("ホーム")
st.caption(f"作業フォルダ: {studio().workspace.root}")
st.header("実験")
draw_runs()
