"""One look for every error: what happened, why, what to do next, code, details folded.

Errors are worded for the command line too. Here settings are called as their inputs are, and a file
that was handed in by its name, for where it is kept is nobody's business.
"""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import PurePath

import streamlit as st

from mlx_finetuning.config import SECTIONS, TrainConfig
from mlx_finetuning.errors import StudioError
from mlx_finetuning.language import _
from mlx_finetuning.messages import ErrorText, describe
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.messages_ja import NEXT_STEPS_JA
from mlx_finetuning.utils.settings_ja import label_of
from mlx_finetuning.workspace import Workspace

LABELLED = {
    field.name: kind
    for kind in (*SECTIONS.values(), TrainConfig)
    for field in dataclasses.fields(kind)
}
"""Settings by their names in files and commands, each with whose it is; a run's own before others of
the same name."""
_NAMES = "|".join(sorted(LABELLED, key=len, reverse=True))
# A name of one word is one where it stands before a colon, as in `rank: 0 は小さすぎます`.
_SETTING = re.compile(rf"(?<![\w-])(?:({_NAMES}): |((?=\w+_)(?:{_NAMES}))(?![\w=]))", re.MULTILINE)


def in_words(text: str) -> str:
    """`text` with the settings in it called by their labels."""

    def called(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        quoted = _("「{label}」", "before what is said of it") if found[1] else _("「{label}」")
        return quoted.format(label=label_of(LABELLED[name], name))

    return _SETTING.sub(called, text)


def described(error: StudioError) -> ErrorText:
    """The error's wording, with a next step that is on these pages."""
    message = describe(_shown(error))
    return ErrorText(
        what=in_words(message.what),
        # What nobody foresaw has its reason in English, among the technical details.
        why="" if error.code == "UNEXPECTED" else in_words(message.why),
        next_step=in_words(_(NEXT_STEPS_JA.get(error.code, message.next_step))),
    )


def _shown(error: StudioError) -> StudioError:
    """The error with files that were handed in by their names."""
    uploads = str(Workspace.locate().uploads)
    data = {
        key: PurePath(value).name if isinstance(value, str) and value.startswith(uploads) else value
        for key, value in error.data.items()
    }
    return StudioError.from_json({"code": error.code, "data": data})


def show_error(error: StudioError, detail: str = "") -> None:
    """Draw `error`; `detail` (a traceback, the end of a log) is folded away with its data."""
    message = described(error)
    with st.container(border=True, gap="small"):
        st.error(
            _("**何が起きたか**　{what}").format(what=plain(message.what)), icon=":material/error:"
        )
        if message.why:
            st.markdown(_("**原因**　{why}").format(why=plain(message.why)))
        if message.next_step:
            st.markdown(
                _("**次にすること**　{next_step}").format(next_step=plain(message.next_step))
            )
        with st.expander(
            _("技術的な詳細（コード: {code}）").format(code=error.code), icon=":material/code:"
        ):
            data = json.dumps(_shown(error).data, ensure_ascii=False, indent=2, default=str)
            technical = f"{error.code}\n{data}" + (f"\n{detail}" if detail else "")
            st.code(technical, language=None, wrap_lines=True)
