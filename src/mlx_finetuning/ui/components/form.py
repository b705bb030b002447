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
    for at in range(0, len(names), columns):
        for name, column in zip(names[at : at + columns], st.columns(columns), strict=False):
            with column:
                chosen[name] = setting_input(kind, name, values[name], f"{key}-{name}")
    return chosen


def setting_input(kind: type, name: str, value: Any, key: str) -> Any:
    """The input of one setting, by its type."""
    metadata = _field(kind, name).metadata
    hint = typing.get_type_hints(kind)[name]
    label = metadata["help"].split("。", 1)[0]
    shared: dict[str, Any] = {"key": key, "help": f"{metadata['help']}\n\n設定の名前: `{name}`"}
    if metadata["choices"]:
        choices = metadata["choices"]
        return st.selectbox(
            label, choices, index=choices.index(value), placeholder="選択", **shared
        )
    if hint is bool:
        return st.toggle(label, value, **shared)
    if hint is str:
        return st.text_input(label, value, **shared)
    return _number(label, hint, value, metadata, shared)


def _number(label: str, kind: type, value: Any, metadata: Mapping[str, Any], shared: Any) -> Any:
    """An input of whole numbers or of decimals; empty stands for the value it began with."""
    low, high = (
        None if edge is None else kind(edge) for edge in (metadata["minimum"], metadata["maximum"])
    )
    step: dict[str, Any] = {"step": 1} if kind is int else {"format": "%g"}
    typed = st.number_input(label, low, high, kind(value), **step, **shared)
    return value if typed is None else typed


def _field(kind: type, name: str) -> Any:
    return next(item for item in dataclasses.fields(kind) if item.name == name)
