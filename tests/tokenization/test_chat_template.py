"""A settled template says the same on every day and in every program, and nothing else than before."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest

from mlx_finetuning.errors import ChatTemplateUnusable, ConversationRefused, StudioError
from mlx_finetuning.quantizer.write.export import export_gguf
from mlx_finetuning.runtime import serve
from mlx_finetuning.tokenization import rendering
from mlx_finetuning.tokenization.chat_template import render, settled
from support.chat_formats import FORMATS, Format, conversations
from support.small_models import edit_json, write_model

NAMED = {"bos": "<s>", "eos": "</s>"}
CHATML = FORMATS["chatml"].template
DATED = (
    "{% if date_string is not defined %}{% set date_string = '26 Jul 2024' %}{% endif %}"
    "{{ 'Today: ' + date_string + '\\n' }}" + CHATML
)
CLOCK = (
    "{% if date_string is not defined %}{% if strftime_now is defined %}"
    "{% set date_string = strftime_now('%d %b %Y') %}{% else %}"
    "{% set date_string = '26 Jul 2024' %}{% endif %}{% endif %}"
    "{{ 'Today: ' + date_string + '\\n' }}" + CHATML
)
TODAY = "{{ 'Today: ' + strftime_now('%Y-%m-%d') + '\\n' }}" + CHATML
SWITCHED = CHATML.rstrip("\n").removesuffix("{% endif %}") + (
    "{% if enable_thinking is defined and enable_thinking is false %}"
    "<think>\n\n</think>\n\n{% endif %}{% endif %}\n"
)
OPENING = CHATML.rstrip("\n").removesuffix("{% endif %}") + "{{ '<think>\\n' }}{% endif %}\n"
SETTLED = {
    "date": DATED,
    "date by the clock": CLOCK,
    "clock": TODAY,
    "thinking switch": SWITCHED,
    "date and switch": DATED.removesuffix(CHATML) + SWITCHED,
    "open reasoning": OPENING,
    "folded system": FORMATS["gemma"].template,
    "alternating": FORMATS["mistral"].template,
}
QUESTION = [{"role": "user", "content": "質問"}]


class NextYear(datetime.datetime):
    @classmethod
    def now(cls, tz: Any = None) -> NextYear:
        return cls(2031, 7, 8)


@pytest.mark.parametrize("template", [DATED, CLOCK, TODAY], ids=["date", "both", "clock"])
def test_another_day_changes_no_letter(template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = settled(template, NAMED).text
    today = render(text, QUESTION, NAMED, ask=True)
    assert "Today: " in today
    monkeypatch.setattr(rendering, "datetime", NextYear)
    told = {"date_string": "08 Jul 2031"}
    assert render(text, QUESTION, NAMED, ask=True, variables=told) == today
    if template != DATED:  # the clock does reach the original
        assert "2031" in render(template, QUESTION, NAMED, ask=True)


@pytest.mark.parametrize("thinks", [False, True])
@pytest.mark.parametrize("template", [SWITCHED, OPENING], ids=["switch", "open"])
def test_reasoning_is_asked_for_or_not_whatever_the_caller_says(
    template: str, thinks: bool
) -> None:
    text = settled(template, NAMED, thinks=thinks).text
    for said in ({}, {"enable_thinking": True}, {"enable_thinking": False}):
        prompt = render(text, QUESTION, NAMED, ask=True, variables=said)
        assert prompt.endswith("</think>\n\n") is not thinks


@pytest.mark.parametrize("form", FORMATS.values(), ids=list(FORMATS))
def test_what_needs_no_settling_renders_as_the_original(form: Format) -> None:
    """But for what leads to an answer, which the prompt then has already."""
    named = {name: text for name, text in (("bos", form.bos), ("eos", form.eos)) if text}
    text = settled(form.template, named).text
    for messages in conversations(100, form.takes_system):
        turns = [*messages, {"role": "assistant", "content": "答え"}]
        assert render(text, turns, named, ask=False) == render(
            form.template, turns, named, ask=False
        )
        asked = render(form.template, messages, named, ask=True)
        added = render(text, messages, named, ask=True).removeprefix(asked)
        assert not added.strip() and render(text, messages, named, ask=True).startswith(asked)


@pytest.mark.parametrize("thinks", [False, True])
def test_settling_twice_changes_nothing(thinks: bool) -> None:
    for template in (*SETTLED.values(), *(form.template for form in FORMATS.values())):
        once = settled(template, NAMED, thinks=thinks)
        assert settled(once.text, NAMED, thinks=thinks).text == once.text


def test_a_system_text_that_a_family_refuses_goes_before_the_first_question() -> None:
    original = FORMATS["gemma"].template
    system = {"role": "system", "content": "案内係です。"}
    with pytest.raises(ConversationRefused):
        render(original, [system, *QUESTION], NAMED, ask=True)
    text = settled(original, NAMED).text
    joined = [{"role": "user", "content": "案内係です。\n\n質問"}]
    assert render(text, [system, *QUESTION], NAMED, ask=True) == render(
        original, joined, NAMED, ask=True
    )


@pytest.mark.parametrize("name", SETTLED)
def test_llama_cpp_renders_the_settled_template_alike(tmp_path: Path, name: str) -> None:
    """Its server tells templates its own date, and reasoning on."""
    model, gguf = tmp_path / "model", tmp_path / "settled.gguf"
    write_model(model, num_hidden_layers=1, hidden_size=64, head_dim=16, intermediate_size=64)
    named = {"eos": "<|im_end|>", "bos": "<|endoftext|>"}
    text = settled(SETTLED[name], named).text
    special = {"eos_token": named["eos"], "bos_token": named["bos"], "chat_template": text}
    edit_json(model / "tokenizer_config.json", **special)
    export_gguf(model, None, {"F16": gguf})
    with serve(gguf, context=256) as client:
        for messages in conversations(30, takes_system=True):
            expected = render(text, messages, named, ask=True)
            assert client.apply_template(messages).removeprefix(named["bos"]) == (
                expected.removeprefix(named["bos"])
            )


@pytest.mark.parametrize(
    "template",
    [
        "",
        "問い: {{ messages[0].content }}",
        "{% for m in messages %}{{ m.role }}{% endfor %}",
        "{{ raise_exception('no') }}",
        "{% for m in messages %}{{ m.content }}",
        "{{ 1 / 0 }}",
        "{{ messages[7].content.x }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% for a in [1] %}" * 30 + "{% endfor %}" * 30,
        "{{ ''.__class__.__mro__ }}",
        "{{ strftime_now('\ud800') }}",
    ],
)
def test_a_template_that_fails_or_loses_a_turn_is_refused(template: str) -> None:
    with pytest.raises((ChatTemplateUnusable, ConversationRefused)) as refused:
        settled(template, NAMED)
    assert isinstance(refused.value, StudioError) and refused.value.data["reason"]
