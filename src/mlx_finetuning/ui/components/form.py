"""Inputs made from the settings' dataclasses: labels, bounds and choices come from there, tooltips
from `settings_ja`. What is out of bounds is said beside its input, and where one would go on.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable, Mapping
from typing import Any

import streamlit as st

from mlx_finetuning import config
from mlx_finetuning.config import HIGHEST_STRENGTH
from mlx_finetuning.language import _
from mlx_finetuning.utils.glossary import terms_in
from mlx_finetuning.utils.settings_ja import CHOICES_JA, EXPLANATIONS_JA, label_of


def settings_form(
    kind: type, names: Iterable[str], values: Mapping[str, Any], key: str, columns: int = 2
) -> dict[str, Any]:
    """One input per named setting of `kind`, starting from `values`; returns what is chosen, be it in
    bounds or not. What is chosen stays when another page is shown."""
    chosen, names = {}, list(names)
    for start in range(0, len(names), columns):
        for name, column in zip(names[start : start + columns], st.columns(columns), strict=False):
            with column:
                chosen[name] = setting_input(kind, name, values[name], f"{key}-{name}")
    return chosen


def kept_settings(
    kind: type, names: Iterable[str], values: Mapping[str, object], key: str
) -> dict[str, object]:
    """What `settings_form` would return, were it drawn as it was left."""
    kept = {name: st.session_state.get(f"{key}-{name}", values[name]) for name in names}
    hints = typing.get_type_hints(kind)
    chosen_from = {name for name in kept if _metadata(kind, name)["choices"]}
    return {
        name: tuple(value)
        if name in chosen_from and typing.get_origin(hints[name]) is tuple
        else value
        for name, value in kept.items()
    }


def setting_input(kind: type, name: str, value: Any, key: str) -> Any:
    """The input of one setting, by its type. A number may come back out of bounds: Streamlit's own
    would keep the number before without a word."""
    metadata = _metadata(kind, name)
    hint = typing.get_type_hints(kind)[name]
    label = label_of(kind, name)
    shared: dict[str, Any] = {
        "key": key,
        "help": tooltip(kind, name),
        "persist_state": "session",
    }
    choices = metadata["choices"]
    if choices and typing.get_origin(hint) is tuple:
        several = st.multiselect(
            label,
            choices,
            default=list(value),
            format_func=lambda choice: _(CHOICES_JA.get(name, {}).get(choice) or choice),
            placeholder=_("なし"),
            **shared,
        )
        return tuple(several)
    if choices:
        return st.selectbox(
            label,
            choices,
            index=choices.index(value),
            format_func=lambda choice: _(CHOICES_JA.get(name, {}).get(choice) or choice),
            placeholder=_("選択"),
            **shared,
        )
    if hint is bool:
        return st.toggle(label, value, **shared)
    if hint is str or typing.get_origin(hint) is tuple:
        return st.text_input(label, value, **shared)
    if name == "strength":
        return st.slider(label, 0.0, HIGHEST_STRENGTH, hint(value), 0.05, **shared)
    shared |= {"step": 1} if hint is int else {"format": "%g"}
    typed = st.number_input(label, value=hint(value), **shared)
    if fault := _fault(kind, name, typed):
        st.caption(f":red[:material/error: {fault}]")
    elif not typed and "0なら自動" in metadata["help"]:
        st.caption(_("0なので、自動で決まります。"))
    return typed


def are_in_bounds(kind: type, values: Mapping[str, object]) -> bool:
    """Whether one can go on with the chosen values; what is wrong with each is said otherwise."""
    found = ((label_of(kind, name), _fault(kind, name, value)) for name, value in values.items())
    lines = [
        _("- 「{label}」 {fault}").format(label=label, fault=fault)
        for label, fault in found
        if fault
    ]
    if lines:
        text = "\n".join([_("次の設定を直すと、先へ進めます。"), "", *lines])
        st.error(text, icon=":material/error:")
    return not lines


def tooltip(kind: type, name: str) -> str:
    """What a setting does and when to change it, the words that its label uses, and its bounds."""
    metadata, label = _metadata(kind, name), label_of(kind, name)
    parts = [_(EXPLANATIONS_JA[name])]
    parts += [f"**{term}**: {meaning}" for term, meaning in terms_in(label).items()]
    if not metadata["choices"] and (bounds := config.bounds_in_words(metadata)):
        parts.append(_("使える数: {bounds}").format(bounds=bounds))
    return "\n\n".join(parts)


def _metadata(kind: type, name: str) -> Mapping[Any, Any]:
    [metadata] = [field.metadata for field in dataclasses.fields(kind) if field.name == name]
    return metadata


def _fault(kind: type, name: str, value: Any) -> str:
    return config.fault(value, _metadata(kind, name))
