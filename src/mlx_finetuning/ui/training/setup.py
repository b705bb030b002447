"""What to train on what, and how: three presets, and every setting behind them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import streamlit as st

from mlx_finetuning.config import TrainConfig, as_dict
from mlx_finetuning.presets import Preset
from mlx_finetuning.ui import sitemap
from mlx_finetuning.ui.components import views
from mlx_finetuning.ui.components.datasets import first_choice
from mlx_finetuning.ui.components.empty import empty_state
from mlx_finetuning.ui.components.form import settings_form
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.frame import studio

USUAL = "usual"
# Every other setting stands under ほか, so that a new one never hides.
GROUPS = {
    "量と長さ": ("iterations", "epochs", "batch_size", "max_length", "supervise"),
    "学習率と最適化": (
        *("learning_rate", "schedule", "warmup", "optimizer"),
        *("weight_decay", "gradient_clip"),
    ),
    "アダプタ": ("method", "rank", "alpha", "dropout", "targets", "num_layers", "rslora"),
    "検証と途中保存": (
        *("validate_every", "patience", "sample_every"),
        *("checkpoint_every", "checkpoint_minutes"),
    ),
}
REST = "ほか"
CHOSEN_ABOVE = ("model", "dataset")


def draw_choice(more_models: str) -> TrainConfig | None:
    """The run to start; None while there is nothing to train on. `more_models` is the view in
    which models are fetched."""
    names = [entry.name for entry in studio().data.list() if entry.manifest is not None]
    if not names:
        empty_state("学習に使うデータセットがまだありません。先に作ってください。", "dataset")
        return None
    base = _draw_subject(names)
    if st.button("ほかのモデルを用意する", icon=":material/download:", type="tertiary"):
        st.switch_page(sitemap.page("training"), query_params={views.PARAMETER: more_models})
    chosen = _draw_presets(studio().training.presets(base))
    return dataclasses.replace(chosen.settings, **_draw_settings(chosen))


def _draw_subject(names: list[str]) -> TrainConfig:
    models = [model.name for model in studio().models.list()]
    usual = studio().preferences.read()
    left, right = st.columns(2)
    dataset = left.selectbox(
        "データセット",
        names,
        index=first_choice(names),
        key="train-dataset",
        placeholder="選択",
    )
    model = right.selectbox(
        "モデル",
        models,
        index=models.index(usual.model) if usual.model in models else 0,
        key="train-model",
        placeholder="選択",
        help="内蔵のモデルと、ダウンロードしたモデルから選べます。",
    )
    return dataclasses.replace(usual, dataset=dataset or names[-1], model=model or models[0])


def _draw_presets(found: list[Preset]) -> Preset:
    by_key = {preset.key: preset for preset in found}
    key = st.segmented_control(
        "学習のしかた",
        list(by_key),
        format_func=lambda key: by_key[key].title,
        default=USUAL,
        required=True,
        key="train-preset",
    )
    chosen = by_key[str(key)]
    st.caption(plain(chosen.reason))
    return chosen


def _draw_settings(preset: Preset) -> dict[str, Any]:
    """All settings, starting from the preset's; another preset starts afresh."""
    values = as_dict(preset.settings)
    # The inputs start anew when what they start from changes.
    key = f"train-{preset.key}-{hash(tuple(values.items())):x}"
    chosen: dict[str, Any] = {}
    with st.expander("詳細設定", icon=":material/tune:"):
        for title, names in _groups():
            st.markdown(f"**{title}**")
            chosen |= settings_form(TrainConfig, names, values, key, columns=3)
    return chosen


def _groups() -> Iterable[tuple[str, tuple[str, ...]]]:
    named = {name for names in GROUPS.values() for name in names}
    fields = (item.name for item in dataclasses.fields(TrainConfig))
    rest = tuple(name for name in fields if name not in named and name not in CHOSEN_ABOVE)
    return (*GROUPS.items(), (REST, rest))
