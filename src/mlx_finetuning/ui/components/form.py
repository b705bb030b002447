"""Inputs made from the settings' dataclasses: label, help, bounds and choices come from there."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable, Mapping
from typing import Any

import streamlit as st


def settings_form(
    kind: type, names: Iterable[str], values: Mapping[str, Any], key: str, columns: int = 2
) -> dict[str, Any]:
    """One input per named setting of `kind`, starting from `values`; returns what is chosen."""
    chosen, names = {}, list(names)
    for start in range(0, len(names), columns):
        for name, column in zip(names[start : start + columns], st.columns(columns), strict=False):
            with column:
                chosen[name] = setting_input(kind, name, values[name], f"{key}-{name}")
    return chosen


def setting_input(kind: type, name: str, value: Any, key: str) -> Any:
    """The input of one setting, by its type; an emptied number stands for the value it began with."""
    [metadata] = [field.metadata for field in dataclasses.fields(kind) if field.name == name]
    hint = typing.get_type_hints(kind)[name]
    label = metadata["help"].split("。", 1)[0]
    shared: dict[str, Any] = {"key": key, "help": f"{metadata['help']}\n\n設定の名前: `{name}`"}
    if choices := metadata["choices"]:
        index = choices.index(value)
        return st.selectbox(label, choices, index=index, placeholder="選択", **shared)
    if hint is bool:
        return st.toggle(label, value, **shared)
    if hint is str or typing.get_origin(hint) is tuple:
        return st.text_input(label, value, **shared)
    low, high = metadata["minimum"], metadata["maximum"]
    typed = st.number_input(
        label,
        None if low is None else hint(low),
        None if high is None else hint(high),
        hint(value),
        **({"step": 1} if hint is int else {"format": "%g"}),
        **shared,
    )
    return value if typed is None else typed
