"""Reasoning and answer of a text, whole and as it comes in."""

from __future__ import annotations

import random
from typing import Any

import pytest

from mlx_finetuning.runtime import apart, collect
from mlx_finetuning.tokenization import reasoning
from mlx_finetuning.tokenization.answer import AnswerChunk, AnswerChunks
from mlx_finetuning.tokenization.reasoning import STYLES, TAG, Format

GPT_OSS = STYLES[0]
THOUGHT, ANSWER = "まず 5 < 6 を\n\n確かめる。", "答えは6です。\n<b>6</b>"


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.opening)
@pytest.mark.parametrize("opened", [False, True])
def test_what_is_joined_is_split_again(style: Any, opened: bool) -> None:
    text = style.joined(THOUGHT, ANSWER, opened=opened)
    assert Format(style, opened).split(text) == (THOUGHT, ANSWER)


@pytest.mark.parametrize(
    ("text", "opened", "expected"),
    [
        ("答え", False, ("", "答え")),
        ("途中", True, ("途中", "")),
        ("<think>途中", False, ("途中", "")),
        ("<think>\n\n</think>\n\n答え", False, ("", "答え")),
        ("\n<think>考え</think>答え", False, ("考え", "答え")),
        ("<think>考え</think>答え", True, ("考え", "答え")),
        ("タグ <think> と </think> の説明", False, ("", "タグ <think> と </think> の説明")),
        ("  字下げ", False, ("", "  字下げ")),
    ],
)
def test_only_what_stands_first_is_reasoning(
    text: str, opened: bool, expected: tuple[str, str]
) -> None:
    assert Format(TAG, opened).split(text) == expected


def test_model_that_writes_no_reasoning_is_taken_at_its_word() -> None:
    assert Format(None).split("<think>a</think>b") == ("", "<think>a</think>b")


def texts() -> list[str]:
    made = [style.joined(THOUGHT, ANSWER, opened=opened) for style in STYLES for opened in (0, 1)]
    cut = [text[: len(text) * part // 4] for text in made for part in (1, 2, 3)]
    return [*made, *cut, "", "  ", "<", "<thin", "答え<", "答え <think> 終", "\n\n答え \n"]


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize("style", [*STYLES, None], ids=lambda one: one.opening if one else "-")
def test_pieces_of_any_size_come_to_the_same(style: Any, opened: bool) -> None:
    form = Format(style, opened)
    draw = random.Random(7)
    for text in texts():
        for longest in (1, 2, 5, 40):
            splitter, rest, thought, answer = form.splitter(), text, "", ""
            while rest:
                size = draw.randint(1, longest)
                new = splitter.feed(rest[:size])
                rest, thought, answer = rest[size:], thought + new[0], answer + new[1]
            new = splitter.feed("", last=True)
            assert (thought + new[0], answer + new[1]) == form.split(text), text


def chunks(*texts: str, **last: Any) -> AnswerChunks:
    for text in texts:
        yield AnswerChunk(text)
    yield AnswerChunk("", **last)


def test_counts_and_end_of_an_answer_are_kept() -> None:
    written = chunks("<thi", "nk>考え</", "think>答", "え<", tokens=9, ended=True, prompt_tokens=3)
    found = collect(apart(written, Format(TAG)))
    assert (found.reasoning, found.text) == ("考え", "答え<")
    assert (found.tokens, found.ended, found.prompt_tokens) == (9, True, 3)


def test_engine_that_splits_by_itself_is_left_alone() -> None:
    def split() -> AnswerChunks:
        yield AnswerChunk("", reasoning="考え")
        yield AnswerChunk("答え")
        yield AnswerChunk("", 5, True)

    found = collect(apart(split(), Format(TAG, opened=True)))
    assert (found.reasoning, found.text) == ("考え", "答え")


def test_closing_an_answer_closes_the_engine() -> None:
    closed = []

    def endless() -> AnswerChunks:
        try:
            while True:
                yield AnswerChunk("あ")
        finally:
            closed.append(True)

    stream = apart(endless(), Format(TAG))
    next(stream)
    stream.close()
    assert closed


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"content": "答え", "reasoning_content": "考え"}, ("考え", "答え")),
        ({"content": "答え", "reasoning": "考え"}, ("考え", "答え")),
        ({"content": "答え", "thinking": "考え"}, ("考え", "答え")),
        ({"content": "<think>考え</think>答え"}, ("考え", "答え")),
        ({"content": "<think>別</think>答え", "reasoning_content": "考え"}, ("考え", "答え")),
        ({"content": "答え", "reasoning_content": None}, ("", "答え")),
        ({"content": None}, ("", "")),
        ({"content": "<think>途中"}, ("", "<think>途中")),
    ],
)
def test_reasoning_of_a_message(message: dict[str, Any], expected: tuple[str, str]) -> None:
    assert reasoning.from_message(message) == expected


def test_reasoning_occurs_in_preferred_answers_too() -> None:
    assert reasoning.occurs_in([{"prompt": "a", "chosen": "<think>b</think>c", "rejected": "d"}])
    assert not reasoning.occurs_in([{"prompt": "<think>a</think>", "chosen": "c", "rejected": "d"}])


def test_signs_are_the_tokens_of_which_marks_consist() -> None:
    assert Format(TAG).signs == ("<think>", "</think>")
    assert set(Format(GPT_OSS).signs) == {"<|channel|>", "<|message|>", "<|end|>"}
    assert Format(None).signs == ()
