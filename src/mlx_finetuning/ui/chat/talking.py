"""A conversation with the tuned model, beside its base if wanted, kept with the run.

The model runs in a process of its own, which a reload does not touch; an answer that is stopped,
or left, is kept as far as it came.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from mlx_finetuning.config import GenerateConfig, as_dict
from mlx_finetuning.language import N_, _, name_in
from mlx_finetuning.progress import Step
from mlx_finetuning.runtime.chats import Conversation
from mlx_finetuning.ui.chat import marking
from mlx_finetuning.ui.components.form import are_in_bounds, settings_form
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.frame import studio
from mlx_finetuning.utils.units import local_time

PARAMETER = "chat"
ENGINES_JA = {
    "ollama": "Ollama",
    "gguf": N_("内蔵ランタイム（作ったファイル）"),
    "mlx": N_("MLX（学習したまま）"),
}
"""The nearest to what is handed on first."""
EXAMPLES = 3
"""Questions that a new conversation may begin with."""
SIDES_JA = {"tuned": N_("学習後"), "base": N_("元のモデル")}
NEW = ""
THINKING = N_("考えた過程")
UNFINISHED = N_(
    "（考えている途中で終わりました。「答え方の設定」の最大トークン数を増やしてください。）"
)


@dataclass(frozen=True)
class Manner:
    """How the next question is answered."""

    engine: str
    sides: tuple[str, ...]
    settings: GenerateConfig


def draw_talk(run_id: str, place: DeltaGenerator) -> None:
    """The conversation so far, how to answer, and the input for the next question. place: where the
    conversation is chosen."""
    with place:
        chat = _choose_chat(run_id)
    manner = _choose_manner(run_id, chat)
    marks = marking.marks_of(run_id)
    if manner.engine != "ollama" and studio().jobs.is_device_busy():
        st.caption(_("学習などの作業が動いています。待たずに答えますが、いつもより遅くなります。"))
    talks = {side: chat.talks.get(side, []) if chat else [] for side in manner.sides}
    for start in range(0, max(map(len, talks.values())), 2):
        turns = {side: talk[start : start + 2] for side, talk in talks.items()}
        _draw_question(next(turn[0]["content"] for turn in turns.values() if turn))
        for side, area in _answer_areas(manner.sides):
            answer = turns[side][1] if len(turns[side]) > 1 else {"content": "—"}
            _draw_answer(area, answer["content"], str(answer.get("reasoning_content") or ""))
        said = [turn["content"] for turn in talks["tuned"][: start + 2]]
        if chat and len(said) == start + 2 and said[-1]:
            marking.draw_marks(run_id, marks, said[:-1], said[-1], f"{chat.chat_id}-{start}")
    if chat:
        marking.draw_next(run_id, marks)
    chosen = "" if chat else _choose_example(run_id)
    new_turn = st.container()
    typed = st.chat_input(_("質問を書いて、送信してください"), submit_mode="stop", key="question")
    question = typed or chosen
    if question and question.strip():
        with new_turn:
            chat = chat or Conversation(manner.engine, as_dict(manner.settings))
            _answer(run_id, chat, manner, question)


def _choose_chat(run_id: str) -> Conversation | None:
    """One of the saved conversations, or None for a new one; kept in the address."""
    by_id = {chat.chat_id: chat for chat in studio().chat.list(run_id)}
    titles = {
        chat_id: f"{local_time(chat.created_at)}　{chat.title[:30]}"
        for chat_id, chat in by_id.items()
    }
    titles = {NEW: _("新しい会話"), **titles}
    asked = st.query_params.get(PARAMETER, NEW)
    names, shown = list(titles), asked if asked in by_id else NEW
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.selectbox(
            _("会話"),
            names,
            index=names.index(shown),
            format_func=titles.__getitem__,
            key=f"choose-chat-{shown}",
            placeholder=_("選択"),
        )
        if shown and st.button(_("この会話を消す"), icon=":material/delete:"):
            studio().chat.delete(run_id, shown)
            chosen = NEW
    if chosen != shown:
        st.query_params[PARAMETER] = chosen or NEW
        st.rerun()
    return by_id.get(shown)


def _choose_example(run_id: str) -> str:
    """How a new conversation may begin: questions of the data; the one that was chosen, if any."""
    asked = dict.fromkeys(sample.question for sample in studio().runs.samples(run_id))
    st.markdown(_("**何を聞いてみますか？**　下の欄に質問を書いてください。"))
    if not asked:
        return ""
    st.caption(_("データにある質問から選んでも、始められます。"))
    with st.container(horizontal=True):
        chosen = [
            question
            for question in list(asked)[:EXAMPLES]
            if st.button(question, icon=":material/chat:", key=f"example-{hash(question)}")
        ]
    return next(iter(chosen), "")


def _choose_manner(run_id: str, chat: Conversation | None) -> Manner:
    """Which of the engines that can answer now does, for whom, and how."""
    app = studio()
    can_answer = {
        "ollama": bool(app.ollama.deployments(run_id)) and app.ollama.can_connect(),
        "gguf": any(model.format == "gguf" for model in app.exports.list(run_id)),
        "mlx": True,
    }
    engines = [engine for engine in ENGINES_JA if can_answer[engine]]
    line = st.container(horizontal=True, vertical_alignment="center")
    side_by_side = line.toggle(
        _("元のモデルと並べる"),
        value=chat is not None and "base" in chat.talks,
        # Who takes part in a conversation stays; both must have heard the same.
        disabled=chat is not None,
        help=_("同じ質問に、学習の前のモデルにも答えさせて、並べて見ます。"),
        key=f"side-by-side-{chat.chat_id if chat else NEW}",
    )
    with line.popover(_("答え方の設定"), icon=":material/tune:"):
        engine = st.segmented_control(
            _("答えるもの"),
            engines,
            default=engines[0],
            format_func=name_in(ENGINES_JA),
            required=True,
            key=f"engine-{run_id}-{len(engines)}",
        )
        defaults = as_dict(GenerateConfig())
        chosen = settings_form(GenerateConfig, defaults, defaults, "generate", columns=3)
    if not are_in_bounds(GenerateConfig, chosen):
        st.stop()
    sides = ("tuned", "base") if side_by_side else ("tuned",)
    return Manner(str(engine), sides, GenerateConfig(**chosen))


def _draw_question(question: str) -> None:
    with st.chat_message("user", avatar=":material/person:"):
        st.markdown(plain(question))


def _answer_areas(sides: Sequence[str]) -> list[tuple[str, DeltaGenerator]]:
    """Where each side's answer is drawn, beside each other."""
    areas = []
    for side, column in zip(sides, st.columns(len(sides)), strict=True):
        with column, st.chat_message("assistant", avatar=":material/smart_toy:"):
            if len(sides) > 1:
                st.caption(_(SIDES_JA[side]))
            areas.append((side, st.empty()))
    return areas


def _draw_answer(
    area: DeltaGenerator, answer: str, reasoning: str, *, is_open: bool = False
) -> None:
    """An answer, and behind an expander what the model thought before it."""
    if not reasoning:
        area.markdown(plain(answer))
        return
    with area.container():
        with st.expander(_(THINKING), icon=":material/psychology:", expanded=is_open):
            st.markdown(plain(reasoning))
        st.markdown(plain(answer) if answer or is_open else _(UNFINISHED))


def _answer(run_id: str, chat: Conversation, manner: Manner, question: str) -> None:
    """Ask each side in turn, draw what it says as it comes, and keep it, even if it is stopped."""
    st.query_params[PARAMETER] = chat.chat_id
    _draw_question(question)
    answers = dict.fromkeys(manner.sides, "")
    thoughts = dict.fromkeys(manner.sides, "")
    try:
        for side, area in _answer_areas(manner.sides):

            def loading(step: Step, area: DeltaGenerator = area) -> None:
                area.caption(plain(_("準備しています… {stage}").format(stage=step.stage)))

            is_base = side == "base"
            stream = studio().chat.stream(
                run_id,
                [*chat.talks.get(side, []), {"role": "user", "content": question}],
                manner.settings,
                # The base is in no file of the run.
                engine="mlx" if is_base else manner.engine,
                base=is_base,
                progress=loading,
            )
            with contextlib.closing(stream):
                for part in stream.parts():
                    answers[side] += part.text
                    thoughts[side] += part.reasoning
                    is_open = not answers[side]
                    _draw_answer(area, answers[side], thoughts[side], is_open=is_open)
    finally:
        if any((*answers.values(), *thoughts.values())):
            studio().chat.save(run_id, chat.with_turn(question, answers, thoughts))
    st.rerun()
