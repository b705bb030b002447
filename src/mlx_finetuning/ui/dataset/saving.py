"""The split and the saving of a dataset."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from mlx_finetuning.config import PrepareConfig
from mlx_finetuning.data_processor import Inspection
from mlx_finetuning.data_processor.edits import Edit
from mlx_finetuning.language import N_, _, name_in
from mlx_finetuning.ui.components.form import are_in_bounds, settings_form
from mlx_finetuning.ui.dataset.choices import Choices
from mlx_finetuning.ui.frame import studio

HOLD_OUT_JA = {
    "auto": N_(
        "目的に合わせる（社内FAQは全ての内容を教え、別の聞き方だけで確かめる。ほかは内容ごとに分ける）"
    ),
    "group": N_("内容ごとに分ける（教えていない内容に答えられるかを測る）"),
    "paraphrase": N_("言い換えで分ける（教えた内容を、別の聞き方で答えられるかを測る）"),
}
SPLIT = ("valid_share", "test_share", "system", "seed")


def draw_split(
    choices: Choices, inspection: Inspection, settings: PrepareConfig
) -> PrepareConfig | None:
    """The settings with what is chosen here; None where some of it is out of bounds."""
    st.caption(
        _("分け方: {hold_out}").format(hold_out=_(HOLD_OUT_JA[choices.value("hold-out", "auto")]))
    )
    values = dataclasses.asdict(settings)
    with st.expander(_("分け方とそのほかの設定"), icon=":material/tune:"):
        hold_out = st.radio(
            _("検証とテストに使う行の選び方"),
            list(HOLD_OUT_JA),
            format_func=name_in(HOLD_OUT_JA),
            key=choices.key("hold-out"),
        )
        chosen = settings_form(PrepareConfig, SPLIT, values, choices.file)
        stratify = st.selectbox(
            _("割合をそろえる列"),
            ["", *inspection.columns],
            format_func=lambda name: name or _("（そろえない）"),
            key=choices.key("stratify"),
            placeholder=_("選択"),
            disabled=hold_out == "paraphrase",
        )
    if not are_in_bounds(PrepareConfig, chosen):
        return None
    chosen |= {"hold_out": hold_out, "stratify": "" if hold_out == "paraphrase" else stratify}
    return dataclasses.replace(settings, **chosen)


def draw_saving(
    choices: Choices,
    path: Path,
    settings: PrepareConfig,
    mapping: dict[str, str],
    edits: Sequence[Edit],
) -> str | None:
    """The name of the dataset that was just saved, or None."""
    left, right = st.columns([2, 1], vertical_alignment="bottom")
    name = left.text_input(
        _("データセットの名前"),
        studio().data.suggested_name(path),
        key=choices.key("name"),
        help=_("英小文字・数字・ハイフンだけの64文字以内"),
    )
    exists = any(entry.name == name for entry in studio().data.list())
    replace = exists and st.checkbox(
        _("同じ名前のデータセットを置き換える"),
        key=choices.key("replace"),
        help=_("今のものはゴミ箱に移り、あとで元に戻せます。"),
    )
    label = _("データセットを保存")
    if not right.button(label, type="primary", icon=":material/save:", width="stretch"):
        return None
    with st.spinner(_("データセットを作っています…")):
        studio().data.prepare(path, name, settings, mapping or None, replace=replace, edits=edits)
    return name


def draw_new_version(name: str, edits: Sequence[Edit], *, is_changed: bool) -> str | None:
    """The name under which the edited dataset was just saved, or None."""
    left, right = st.columns([2, 1], vertical_alignment="bottom")
    chosen = left.text_input(
        _("保存する名前"),
        name,
        key=f"version-of-{name}",
        help=_(
            "同じ名前なら、今の版はゴミ箱に移り、あとで元に戻せます。別の名前なら、今の版も残ります。"
        ),
    ).strip()
    label = _("新しい版を保存") if chosen in ("", name) else _("別の名前で保存")
    is_asked = right.button(
        label, type="primary", icon=":material/save:", width="stretch", disabled=not is_changed
    )
    if not is_changed:
        st.caption(_("まだ何も直していません。"))
    if not is_asked:
        return None
    with st.spinner(_("データセットを作っています…")):
        return studio().data.edit(name, edits, chosen).name
