"""The choice of a model that writes texts: one of those that are here, or whatever is typed."""

from __future__ import annotations

from streamlit.delta_generator import DeltaGenerator

from mlx_finetuning.language import _
from mlx_finetuning.ui.frame import studio
from mlx_finetuning.ui.training.models import found_files, shown_name


def choose_generator_model(
    place: DeltaGenerator, label: str, key: str, placeholder: str, note: str = ""
) -> str:
    """Its name; empty while nothing is chosen. place: where it is drawn; note: what else to know."""
    found = [file.name for file in found_files(str(studio().workspace.root))]
    names = dict.fromkeys((*found, *(model.name for model in studio().models.list())))
    chosen = place.selectbox(
        label,
        list(names),
        index=None,
        format_func=shown_name,
        key=key,
        placeholder=placeholder,
        accept_new_options=True,
        help=_(
            "一覧にないものは、GGUFファイルの場所や「ollama:名前」を打ち込めます。{note}"
        ).format(note=note),
    )
    return (chosen or "").strip()
