"""What to train on what, and how: three presets, every setting behind them, and what it would take."""

from __future__ import annotations

import dataclasses
from typing import Any

import streamlit as st

from mlx_finetuning.config import TrainConfig, as_dict
from mlx_finetuning.jobs.results import Estimate
from mlx_finetuning.language import N_, _
from mlx_finetuning.ui import sitemap
from mlx_finetuning.ui.components import views
from mlx_finetuning.ui.components.datasets import first_choice
from mlx_finetuning.ui.components.empty import empty_state
from mlx_finetuning.ui.components.form import are_in_bounds, kept_settings, settings_form
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.frame import errors_shown, studio
from mlx_finetuning.ui.training.models import MODEL, shown_name, trainable_names
from mlx_finetuning.utils.units import duration

DEFAULT_PRESET = "usual"
ESTIMATED = "estimate-of"
"""Session state: the settings that an estimate was asked for."""
CHOSEN_ABOVE = ("model", "dataset")
CHOSEN_ELSEWHERE = ("continues",)
"""On the page of the run that is continued."""
_NAMED_GROUPS = {
    N_("量と長さ"): ("iterations", "epochs", "batch_size", "max_length", "supervise"),
    N_("学習率と最適化"): (
        *("learning_rate", "schedule", "warmup", "optimizer"),
        *("weight_decay", "gradient_clip"),
    ),
    N_("アダプター"): ("method", "rank", "alpha", "dropout", "targets", "num_layers", "rslora"),
    N_("忘れにくくする"): ("replay", "replay_weight"),
    N_("好みの学習"): ("objective", "beta", "gamma", "desirable_weight", "undesirable_weight"),
    N_("検証と記録"): (
        *("validate_every", "patience", "sample_every"),
        *("checkpoint_every", "checkpoint_minutes", "trackers"),
    ),
}
_NAMED = {
    *CHOSEN_ABOVE,
    *CHOSEN_ELSEWHERE,
    *(name for names in _NAMED_GROUPS.values() for name in names),
}
GROUPS = {
    **_NAMED_GROUPS,
    # Every other setting, so that a new one never hides.
    N_("ほか"): tuple(
        field.name for field in dataclasses.fields(TrainConfig) if field.name not in _NAMED
    ),
}


def draw_choice(more_models: str) -> TrainConfig | None:
    """The run to start; None while there is nothing to train on, or a setting is out of its bounds.
    `more_models` is the view in which models are fetched."""
    names = [entry.name for entry in studio().data.list() if entry.manifest is not None]
    if not names:
        empty_state(_("学習に使うデータセットがまだありません。先に作ってください。"), "dataset")
        return None
    base = _choose_data_and_model(names)
    if st.button(_("ほかのモデルを用意する"), icon=":material/download:", type="tertiary"):
        st.switch_page(sitemap.page("training"), query_params={views.PARAMETER: more_models})
    presets = {preset.key: preset for preset in studio().training.presets(base)}
    key = st.segmented_control(
        _("学習のしかた"),
        list(presets),
        format_func=lambda key: presets[key].title,
        default=DEFAULT_PRESET,
        required=True,
        key="train-preset",
        persist_state="session",
    )
    preset = presets[str(key)]
    st.caption(plain(preset.reason))
    values = as_dict(preset.settings)
    # The inputs start anew when what they start from changes.
    inputs = f"train-{preset.key}-{hash(tuple(values.items())):x}"
    chosen: dict[str, Any] = {}
    details = st.expander(
        _("詳細設定"), icon=":material/tune:", key="train-details", on_change="rerun"
    )
    with details:
        for title, settings in GROUPS.items():
            if not details.open:  # two thirds of the page's time for what nobody looks at
                chosen |= kept_settings(TrainConfig, settings, values, inputs)
                continue
            st.markdown(f"**{_(title)}**")
            chosen |= settings_form(TrainConfig, settings, values, inputs, columns=3)
    if not are_in_bounds(TrainConfig, chosen):
        return None
    return dataclasses.replace(preset.settings, **chosen)


def _choose_data_and_model(names: list[str]) -> TrainConfig:
    """The user's own defaults with the chosen dataset and model in them."""
    defaults = studio().preferences.read()
    asked = st.query_params.get(MODEL, "")
    models = trainable_names(asked)
    first = next((name for name in (asked, defaults.model) if name in models), models[0])
    left, right = st.columns(2)
    dataset = left.selectbox(
        _("データセット"),
        names,
        index=first_choice(names),
        key="train-dataset",
        placeholder=_("選択"),
    )
    model = right.selectbox(
        _("モデル"),
        models,
        index=models.index(first),
        format_func=shown_name,
        # A model chosen on another view has to win over what was chosen here before.
        key=f"train-model-{asked}" if asked else "train-model",
        placeholder=_("選択"),
        help=_(
            "内蔵のモデル、ダウンロードしたモデル、Ollamaなどが置いているGGUFファイルから選べます。"
        ),
    )
    return dataclasses.replace(defaults, dataset=dataset or names[-1], model=model or models[0])


def draw_estimate(settings: TrainConfig) -> None:
    """On request: the measurement takes some seconds, and the device."""
    busy = studio().jobs.is_device_busy()
    clicked = st.button(
        _("必要なメモリーと時間を測る"),
        icon=":material/speed:",
        disabled=busy,
        help=_("ほかの作業が終わると測れます。")
        if busy
        else _("最初の数回を実際に計算して測ります。"),
    )
    if clicked:
        st.session_state[ESTIMATED] = settings
    if st.session_state.get(ESTIMATED) != settings:
        return
    with errors_shown():
        with st.spinner(_("最初の数回を計算して測っています…")):
            estimate = _cached_estimate(str(studio().workspace.root), settings)
        reason = plain(estimate.reason_ja)
        if not estimate.fits:
            st.error(
                _("この設定では学習できません。{reason}").format(reason=reason),
                icon=":material/memory:",
            )
            return
        figures = {
            _("必要なメモリー"): f"{estimate.peak_memory_gb:.2f} GB",
            _("使えるメモリー"): f"{estimate.available_gb:.2f} GB",
            _("予想時間"): _("約{total_s}").format(total_s=duration(estimate.total_s)),
            _("おすすめの例の数"): f"{estimate.recommended_batch_size}",
        }
        with st.container(horizontal=True):
            for label, value in figures.items():
                st.metric(label, value, border=True, width=200)
        st.caption(
            _("{reason} 例の数は「1回の更新に使う例の数」（今は {batch_size}）です。").format(
                reason=reason, batch_size=estimate.batch_size
            )
        )


@st.cache_data(max_entries=8, show_spinner=False)
def _cached_estimate(root: str, settings: TrainConfig) -> Estimate:
    return studio().training.estimate(settings).follow()
