"""What the user has chosen for a file, read from its widgets before they are drawn.

The inspection needs the choices, and the widgets stand below what it shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import streamlit as st

from mlx_finetuning.config import PrepareConfig
from mlx_finetuning.data_processor.clean import DEFAULT, STEPS
from mlx_finetuning.data_processor.settings import DROPPABLE, READING

BY_WIDGET = (*READING, "goal", "several")
"""Settings with a widget before the saving, which has the setting's name for a key."""


@dataclass(frozen=True)
class Choices:
    """Widget keys of one file, and their present values."""

    file: str
    """The upload's digest: another file starts afresh."""

    def key(self, name: str) -> str:
        """The key of the widget that chooses `name`."""
        return f"{self.file}-{name}"

    def value(self, name: str, default: Any) -> Any:
        """What is chosen now; `default` before the widget is drawn."""
        return st.session_state.get(self.key(name), default)

    def set(self, name: str, value: Any) -> None:
        """For callbacks only: widgets that are drawn already cannot be set."""
        st.session_state[self.key(name)] = value

    @property
    def cleaning(self) -> tuple[str, ...]:
        """The cleaning steps that are switched on."""
        return tuple(name for name in STEPS if self.value(f"clean-{name}", name in DEFAULT))

    @property
    def dropped(self) -> tuple[str, ...]:
        """Findings, in lower case, whose rows are left out."""
        return tuple(code for code in DROPPABLE if self.value(f"drop-{code}", False))

    def mapping(self, roles: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
        """Roles the user has changed, with their columns; an empty column leaves the role out."""
        changed = (role for role in roles if self.value(f"changed-{role}", False))
        return tuple((role, self.value(f"role-{role}", "") or "") for role in changed)

    def settings(self) -> PrepareConfig:
        """For the inspection; the split's settings come with the saving."""
        chosen = {
            name: self.value(name, None) or getattr(PrepareConfig, name) for name in BY_WIDGET
        }
        return PrepareConfig(**chosen, clean=self.cleaning, drop=self.dropped)
