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
from mlx_finetuning.progress import Step
from mlx_finetuning.runtime.chats import Chat
from mlx_finetuning.ui.components.form import settings_form
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.frame import studio
from mlx_finetuning.utils.units_ja import local_time

PARAMETER = "chat"
ENGINES_JA = {
    "ollama": "Ollama",
    "gguf": "内蔵ランタイム（作ったファイル）",
    "mlx": "MLX（学習したまま）",
}
SIDES_JA = {"tuned": "学習後", "base": "元のモデル"}
NEW = ""
THINKING = "考えた過程"
UNFINISHED = (
    "（考えている途中で終わりました。「答え方の設定」の最大トークン数を増やしてください。）"
)


@dataclass(frozen=True)
class Manner:
    """How the next question is answered."""

    engine: str
    sides: tuple[str, ...]
    settings: GenerateConfig


def draw_talk(run_id: str, can_connect: bool) -> None:
    chat = _choose_chat(run_id)
    manner = _choose_manner(run_id, chat, can_connect)
    if manner.engine != "ollama" and studio().jobs.is_device_busy():
        st.caption("学習などの作業が動いています。待たずに答えますが、いつもより遅くなります。")
    _draw_turns(chat, manner.sides)
    here = st.container()
    question = st.chat_input("質問を書いて、送信してください", submit_mode="stop", key="question")
    if question and question.strip():
        with here:
            _answer(run_id, chat or Chat(manner.engine, as_dict(manner.settings)), manner, question)


def _choose_chat(run_id: str) -> Chat | None:
    """One of the saved conversations, or None for a new one; kept in the address."""
    by_id = {chat.chat_id: chat for chat in studio().chat.list(run_id)}
    asked = st.query_params.get(PARAMETER, NEW)
    names, shown = [NEW, *by_id], asked if asked in by_id else NEW
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.selectbox(
            "会話",
            names,
            index=names.index(shown),
            format_func=lambda name: _title(by_id[name]) if name else "新しい会話",
            key=f"choose-chat-{shown}",
            placeholder="選択",
        )
        if shown and st.button("この会話を消す", icon=":material/delete:"):
            studio().chat.delete(run_id, shown)
            chosen = NEW
    if chosen != shown:
        st.query_params[PARAMETER] = chosen or NEW
        st.rerun()
    return by_id.get(shown)


def _title(chat: Chat) -> str:
    return f"{local_time(chat.created_at)}　{chat.title[:30]}"


def _choose_manner(run_id: str, chat: Chat | None, can_connect: bool) -> Manner:
    engines = _engines(run_id, can_connect)
    first, second = st.columns([2, 1], vertical_alignment="bottom")
    engine = first.segmented_control(
        "答えるもの",
        engines,
        default=engines[0],
        format_func=ENGINES_JA.__getitem__,
        required=True,
        key=f"engine-{run_id}-{len(engines)}",
    )
    side_by_side = second.toggle(
        "元のモデルと並べる",
        value=chat is not None and "base" in chat.talks,
        # Who takes part in a conversation stays; both must have heard the same.
        disabled=chat is not None,
        key=f"side-by-side-{chat.chat_id if chat else NEW}",
    )
    with st.expander("答え方の設定", icon=":material/tune:"):
        usual = as_dict(GenerateConfig())
        chosen = settings_form(GenerateConfig, usual, usual, "generate", columns=3)
    sides = ("tuned", "base") if side_by_side else ("tuned",)
    return Manner(str(engine), sides, GenerateConfig(**chosen))


def _engines(run_id: str, can_connect: bool) -> list[str]:
    """Those that can answer now, the nearest to what is handed on first."""
    app = studio()
    has_file = any(model.format == "gguf" for model in app.exports.list(run_id))
    can = {
        "ollama": can_connect and bool(app.ollama.deployments(run_id)),
        "gguf": has_file,
        "mlx": True,
    }
    return [engine for engine, works in can.items() if works]


def _draw_turns(chat: Chat | None, sides: Sequence[str]) -> None:
    talks = {} if chat is None else {side: chat.talks.get(side, []) for side in sides}
    turns = max((len(talk) for talk in talks.values()), default=0)
    for at in range(0, turns, 2):
        said = {side: talk[at : at + 2] for side, talk in talks.items()}
        question = next(turn[0]["content"] for turn in said.values() if turn)
        _draw_question(question)
        for side, place in _places(sides):
            answer = said[side][1] if len(said[side]) > 1 else {"content": "—"}
            _draw_said(place, answer["content"], str(answer.get("reasoning_content") or ""))


def _draw_said(
    place: DeltaGenerator, answer: str, reasoning: str, *, is_open: bool = False
) -> None:
    """An answer, and behind an expander what the model thought before it."""
    if not reasoning:
        place.markdown(plain(answer))
        return
    with place.container():
        with st.expander(THINKING, icon=":material/psychology:", expanded=is_open):
            st.markdown(plain(reasoning))
        st.markdown(plain(answer) if answer or is_open else UNFINISHED)


def _draw_question(question: str) -> None:
    with st.chat_message("user", avatar=":material/person:"):
        st.markdown(plain(question))


def _places(sides: Sequence[str]) -> list[tuple[str, DeltaGenerator]]:
    """Where each side's answer is drawn, beside each other."""
    places = []
    for side, column in zip(sides, st.columns(len(sides)), strict=True):
        with column, st.chat_message("assistant", avatar=":material/smart_toy:"):
            if len(sides) > 1:
                st.caption(SIDES_JA[side])
            places.append((side, st.empty()))
    return places


def _answer(run_id: str, chat: Chat, manner: Manner, question: str) -> None:
    """Ask each side in turn, and keep what they said, even if the user stops them."""
    st.query_params[PARAMETER] = chat.chat_id
    _draw_question(question)
    answers = dict.fromkeys(manner.sides, "")
    thoughts = dict.fromkeys(manner.sides, "")
    try:
        for side, place in _places(manner.sides):
            _stream(run_id, chat, manner, question, side, place, answers, thoughts)
    finally:
        if any((*answers.values(), *thoughts.values())):
            studio().chat.save(run_id, chat.with_turn(question, answers, thoughts))
    st.rerun()


def _stream(
    run_id: str,
    chat: Chat,
    manner: Manner,
    question: str,
    side: str,
    place: DeltaGenerator,
    answers: dict[str, str],
    thoughts: dict[str, str],
) -> None:
    """Draw an answer as it comes; `answers` and `thoughts` have it so far."""

    def loading(step: Step) -> None:
        place.caption(plain(f"準備しています… {step.stage}"))

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
        for piece in stream.parts():
            answers[side] += piece.text
            thoughts[side] += piece.reasoning
            _draw_said(place, answers[side], thoughts[side], is_open=not answers[side])
