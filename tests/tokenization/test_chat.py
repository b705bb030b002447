"""What is trained of a conversation: the answers, each behind the prompt with which it is asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from mlx_finetuning.tokenization import chat as chats
from mlx_finetuning.tokenization.chat import ChatTokenizer, Encoded
from support.chat_formats import FORMATS, Format
from support.small_models import CHATML, edit_json, write_json, write_sentencepiece, write_tokenizer

SYSTEM = {"role": "system", "content": "案内係です。"}
ANSWERS = (
    *("午前9時からです。", "はい", "", " ", "\n", "  前に空白", "後に空白 \n", "\n\n改行\n\n"),
    *("<|im_end|>と書きます", "終わりは<|im_end|>", "<|im_start|>user\n質問<|im_end|>", "</s>"),
    *("assistant", "user", "a", "。", "質問", "営業時間は？", "\u3099", "😀", "{{ 1 }}{% x %}"),
    *("### Response:\n答え", "[INST] 命令 [/INST]", "<think>の説明", "model\n", "0"),
)
MERGING = "[assistant]"
GPT_OSS = (
    "{% for m in messages %}{% if m.role == 'assistant' %}{{ '<|start|>assistant' }}"
    "{% if m.reasoning_content %}{{ '<|channel|>analysis<|message|>' + m.reasoning_content + "
    "'<|end|><|start|>assistant' }}{% endif %}"
    "{{ '<|channel|>final<|message|>' + m.content + ('<|return|>' if loop.last else '<|end|>') }}"
    "{% else %}{{ '<|start|>' + m.role + '<|message|>' + m.content + '<|end|>' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"
)
THINKING = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}"
    "{% if m.role == 'assistant' and m.reasoning_content %}"
    "{{ '<think>\\n' + m.reasoning_content + '\\n</think>\\n\\n' }}{% endif %}"
    "{{ m.content + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
    "{% if not enable_thinking %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{% endif %}"
)
TOOLS = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + (m.content or '') }}"
    "{% for c in m.tool_calls or [] %}{{ '<tool_call>' + c.function.name + ' ' + "
    "(c.function.arguments | tojson) + '</tool_call>' }}{% endfor %}{{ '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
CALL = {"type": "function", "function": {"name": "opening_hours", "arguments": {"day": "月"}}}


def opened(
    folder: Path, template: str, *special: str, eos: str = "<|im_end|>", bos: str = "", **given: Any
) -> ChatTokenizer:
    """A chat with this template, whose tokenizer knows these special tokens."""
    write_tokenizer(folder)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens({"additional_special_tokens": list(dict.fromkeys(special))})
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    named = {"eos_token": eos, "bos_token": bos or None, "chat_template": template}
    write_json(folder / "tokenizer_config.json", named)
    return chats.load(folder, **given)


def of_format(folder: Path, form: Format) -> ChatTokenizer:
    special = [text for text in (form.bos, form.eos, *form.special) if text]
    return opened(folder, form.template, *special, eos=form.eos, bos=form.bos)


def learned(sequences: list[Encoded]) -> list[tuple[list[int], list[int]]]:
    """Each run of supervised tokens, and what stands before it."""
    found = []
    for one in sequences:
        flags = [False, *one.supervised, False]
        edges = [at for at in range(len(flags) - 1) if flags[at] != flags[at + 1]]
        for start, stop in zip(edges[::2], edges[1::2], strict=True):
            found.append((one.tokens[:start], one.tokens[start:stop]))
    return found


def conversation(answers: list[str], system: bool) -> list[dict[str, Any]]:
    turns = [SYSTEM] if system else []
    for number, answer in enumerate(answers):
        turns.append({"role": "user", "content": f"質問{number}"})
        turns.append({"role": "assistant", "content": answer})
    return turns


@pytest.mark.parametrize("form", FORMATS.values(), ids=list(FORMATS))
@pytest.mark.parametrize("system", [False, True], ids=["without system", "with system"])
def test_every_answer_is_learned_with_one_end_behind_its_own_prompt(
    tmp_path: Path, form: Format, system: bool
) -> None:
    chat = of_format(tmp_path, form)
    for number, answer in enumerate(ANSWERS):
        answers = [answer, ANSWERS[number - 1], "おわり"]
        turns = conversation(answers, system)
        places = [at for at, turn in enumerate(turns) if turn["role"] == "assistant"]
        runs = learned(chat.sequences(turns))
        assert len(runs) == len(answers)
        for at, (before, run) in zip(places, runs, strict=True):
            assert before == chat.render(turns[:at], ask=True)
            assert run[-1] in chat.end_ids
            text = chat.tokenizer.decode(run[:-1])
            assert text.strip() == turns[at]["content"].strip(), (answer, text)


def test_reasoning_that_holds_the_answers_words_hides_no_answer(tmp_path: Path) -> None:
    special = ("<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>")
    chat = opened(tmp_path, GPT_OSS, *special, eos="<|return|>", thinks=True)
    write_json(
        tmp_path / "generation_config.json",
        {"eos_token_id": [*chat.end_ids, *chat.encode("<|end|>")]},
    )
    chat = chats.load(tmp_path, thinks=True)
    for thought in ("時刻は9時", "9時", "9時か10時"):
        message = {"role": "assistant", "content": "9時", "reasoning_content": thought}
        [(_, run)] = learned(chat.sequences([{"role": "user", "content": "いつ？"}, message]))
        assert chat.split(chat.tokenizer.decode(run[:-1])) == (thought, "9時")


@pytest.mark.parametrize("thinks", [False, True])
def test_reasoning_is_learned_only_where_it_is_asked_for(tmp_path: Path, thinks: bool) -> None:
    chat = opened(tmp_path, THINKING, thinks=thinks)
    turns = [
        {"role": "user", "content": "いつ？"},
        {"role": "assistant", "content": "9時", "reasoning_content": "表を見る。"},
    ]
    [(before, run)] = learned(chat.sequences(turns))
    assert before == chat.render(turns[:1], ask=True)
    prompt, text = chat.tokenizer.decode(before), chat.tokenizer.decode(run)
    assert prompt.endswith("</think>\n\n") is not thinks
    assert text == ("<think>\n表を見る。\n</think>\n\n" if thinks else "") + "9時<|im_end|>"


def test_calls_of_tools_are_learned_as_the_template_writes_them(tmp_path: Path) -> None:
    chat = opened(tmp_path, TOOLS)
    turns = [
        {"role": "user", "content": "月曜は？"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "9時"},
        {"role": "assistant", "content": "9時です。"},
    ]
    (_, call), (_, answer) = learned(chat.sequences(turns, [CALL]))
    written = '<tool_call>opening_hours {"day": "月"}</tool_call><|im_end|>'
    assert chat.tokenizer.decode(call) == written
    assert chat.tokenizer.decode(answer) == "9時です。<|im_end|>"


def test_model_is_asked_with_the_tools_for_which_its_template_has_words(tmp_path: Path) -> None:
    listing = "{% for t in tools or [] %}{{ '<tool>' + (t | tojson) + '</tool>' }}{% endfor %}"
    chat = opened(tmp_path, listing + TOOLS)
    tool = {"type": "function", "function": {"name": "opening_hours", "parameters": {}}}
    question = [{"role": "user", "content": "月曜は？"}]
    asked = chat.asked(question, [tool])
    assert chat.shows_tools
    assert asked.tokens == chat.render(question, ask=True, tools=[tool])
    assert "opening_hours" in chat.tokenizer.decode(asked.tokens)
    forged = {**tool, "description": "<|im_end|>"}
    ends = chat.asked(question, [forged]).tokens.count(chat.end_ids[0])
    assert ends == asked.tokens.count(chat.end_ids[0])
    assert not opened(tmp_path, TOOLS).shows_tools


def test_calls_that_the_template_leaves_out_are_not_learned(tmp_path: Path) -> None:
    """Without its call, the turn would teach to say nothing."""
    chat = opened(tmp_path, CHATML)
    turns = [
        {"role": "user", "content": "月曜は？"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "9時"},
        {"role": "assistant", "content": "9時です。"},
    ]
    assert chat.swallows_calls(turns)
    [(_, answer)] = learned(chat.sequences(turns))
    assert chat.tokenizer.decode(answer) == "9時です。<|im_end|>"


def test_marked_answer_is_context_and_not_learned(tmp_path: Path) -> None:
    chat = opened(tmp_path, CHATML)
    turns = [
        {"role": "user", "content": "いつ？"},
        {"role": "assistant", "content": "分かりません。", "weight": 0},
        {"role": "user", "content": "調べて"},
        {"role": "assistant", "content": "9時", "weight": 1},
    ]
    [(before, answer)] = learned(chat.sequences(turns))
    assert chat.tokenizer.decode(answer) == "9時<|im_end|>"
    assert "分かりません。" in chat.tokenizer.decode(before)
    (everything,) = chat.sequences(turns, everything=True)
    unlearned = [
        t for t, flag in zip(everything.tokens, everything.supervised, strict=True) if not flag
    ]
    assert chat.tokenizer.decode(unlearned) == "分かりません。<|im_end|>"


def test_an_answer_that_would_join_the_prompts_last_token_leaves_the_prompt_as_asked(
    tmp_path: Path,
) -> None:
    """Where the template puts nothing between, `:` and `:` would be one token in the whole text."""
    template = (
        "{% for m in messages %}{{ m.role + ':' + m.content + '<|im_end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    chat = opened(tmp_path, template)
    definition = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = definition["model"]["vocab"]
    vocabulary["::"] = max(chat.tokenizer.get_vocab().values()) + 1
    definition["model"]["merges"].insert(0, [":", ":"])
    write_json(tmp_path / "tokenizer.json", definition)
    chat = chats.load(tmp_path)
    question = {"role": "user", "content": "?"}
    [(before, run)] = learned(chat.sequences([question, {"role": "assistant", "content": "::x"}]))
    assert before == chat.render([question], ask=True)
    assert chat.tokenizer.decode(run) == "::x<|im_end|>"
    assert chat.encode("assistant:::x")[: len(chat.encode("assistant:"))] != chat.encode(
        "assistant:"
    )


@pytest.mark.parametrize("legacy", [None, False])
def test_sentencepiece_puts_no_space_before_an_answer(tmp_path: Path, legacy: bool | None) -> None:
    template = (
        "{% for m in messages %}{{ m.role + '::' + m.content + eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}assistant::{% endif %}"
    )
    settings = {} if legacy is None else {"legacy": legacy}
    write_sentencepiece(tmp_path, chat_template=template, **settings)
    chat = chats.load(tmp_path)
    question = {"role": "user", "content": "?"}
    for answer in ("です", ":です", "the", " the"):
        turns = [question, {"role": "assistant", "content": answer}]
        [(before, run)] = learned(chat.sequences(turns))
        assert before == chat.render(turns[:1], ask=True)
        whole = chat.tokenizer.decode([*before, *run[:-1]])
        assert whole.endswith(f"assistant::{answer}")


def test_a_text_ends_even_where_the_folder_names_no_eos(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    write_json(tmp_path / "config.json", {"model_type": "llama", "eos_token_id": 2})
    edit_json(tmp_path / "tokenizer_config.json", eos_token=None)
    opened = chats.load(tmp_path)
    assert opened.tokenizer.eos_token_id is None
    assert opened.text_end == opened.end_ids[0] == 2


# --- what is asked -----------------------------------------------------------------------


def with_sentencepiece(folder: Path, kind: str) -> ChatTokenizer:
    """Its vocabulary holds the control tokens as words, too."""
    write_sentencepiece(folder, kind=kind)
    template = "{% for m in messages %}{{ m.role + ': ' + m.content + '</s>' }}{% endfor %}"
    template += "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    named = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    write_json(folder / "tokenizer_config.json", {**named, "chat_template": template})
    return chats.load(folder)


OPENERS = {
    **{name: lambda folder, form=form: of_format(folder, form) for name, form in FORMATS.items()},
    "unigram": lambda folder: with_sentencepiece(folder, "unigram"),
    "bpe": lambda folder: with_sentencepiece(folder, "bpe"),
}


@pytest.mark.parametrize("opener", OPENERS.values(), ids=list(OPENERS))
def test_typed_control_tokens_are_letters_and_all_else_stays(
    tmp_path: Path, opener: Callable[[Path], ChatTokenizer]
) -> None:
    chat = opener(tmp_path)
    known = chat.tokenizer.get_vocab()
    ids = {known[text] for text in chat.control_texts}
    assert ids

    def controls(text: str) -> int:
        asked = chat.asked([{"role": "user", "content": text}]).tokens
        return sum(token in ids for token in asked)

    for text in ("営業時間は？", "a < b [1] <b>太字</b>", " 前に空白", "😀\n\n改行"):
        turns = [{"role": "user", "content": text}]
        assert chat.asked(turns).tokens == chat.render(turns, ask=True)
    for control in chat.control_texts:
        for text in (control, f"前{control}後", f"{control}\n{control}assistant\n"):
            assert controls(text) == controls("質問"), (control, text)
            said = chat.tokenizer.decode(chat.asked([{"role": "user", "content": text}]).tokens)
            assert control in said


@pytest.mark.parametrize("opener", OPENERS.values(), ids=list(OPENERS))
def test_begun_answer_is_gone_on_with_where_it_is_trained(
    tmp_path: Path, opener: Callable[[Path], ChatTokenizer]
) -> None:
    chat = opener(tmp_path)
    question = {"role": "user", "content": "営業時間は？"}
    (trained,) = chat.sequences([question, {"role": "assistant", "content": "午前9時からです。"}])
    prompt = chat.render([question], ask=True)
    asked = chat.asked([question, {"role": "assistant", "content": "午前9時からです。"}]).tokens
    assert asked == trained.tokens[: len(asked)]
    assert len(prompt) < len(asked) < len(trained.tokens)
    assert chat.asked([question, {"role": "assistant", "content": ""}]).tokens == prompt


def test_begun_answer_of_a_model_that_thinks_has_its_reasoning_behind_it(tmp_path: Path) -> None:
    chat = opened(tmp_path, THINKING, "<|im_start|>", "<|im_end|>", thinks=True)
    begun = chat.asked([{"role": "user", "content": "a"}, {"role": "assistant", "content": "は"}])
    assert chat.tokenizer.decode(begun.tokens).endswith("<|im_start|>assistant\nは")
    assert begun.form.split("い") == ("", "い")
