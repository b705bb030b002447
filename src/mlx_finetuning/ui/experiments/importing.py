"""アダプターを取り込む: what another program trained, as a run."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from mlx_finetuning.language import _
from mlx_finetuning.ui import sitemap
from mlx_finetuning.ui.components.runs import PARAMETER
from mlx_finetuning.ui.frame import errors_shown, studio
from mlx_finetuning.ui.training.models import shown_name, trainable_names


def draw_import() -> None:
    """A button behind which folder, base and dataset are named; the new run is shown then."""
    with st.popover(_("アダプターを取り込む"), icon=":material/download_for_offline:"):
        st.markdown(
            _(
                "peft や mlx-lm で学習したLoRA（DoRA）を、新しい実験として取り込みます。"
                "ほかの実験と同じように、調べたり、話したり、書き出したりできます。"
            )
        )
        folder = st.text_input(
            _("アダプターのフォルダー"),
            key="import-folder",
            placeholder=_("例: /Users/tanaka/Downloads/my-adapter"),
            help=_("adapter\\_config.json と、重みのファイル（safetensors）が入っている場所です。"),
        )
        model = st.selectbox(
            _("学習に使ったモデル"),
            trainable_names(),
            format_func=shown_name,
            key="import-model",
            placeholder=_("選択"),
            help=_("アダプターは、学習に使ったモデルと一緒にだけ使えます。"),
        )
        datasets = [entry.name for entry in studio().data.list() if entry.manifest is not None]
        dataset = st.selectbox(
            _("成果を確かめるデータセット"),
            datasets,
            index=None,
            key="import-dataset",
            placeholder=_("なし"),
            help=_("選ばなくても、話したり書き出したりできます。成果を確かめるには要ります。"),
        )
        if st.button(_("取り込む"), type="primary", key="import", disabled=not folder.strip()):
            with errors_shown():
                made = studio().importing.start(Path(folder.strip()), str(model), dataset or "")
                st.switch_page(sitemap.page("experiments"), query_params={PARAMETER: made})
