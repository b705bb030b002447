"""Every obtainable real chat template: what is learned is the answers, in the context in which they are
asked for, or the template is refused with its reason. Writes the table of `docs/chat-templates.md`.

All templates share one small tokenizer that knows their special tokens: templates are about texts.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from mlx_finetuning.errors import StudioError
from mlx_finetuning.tokenization import chat as chats
from mlx_finetuning.tokenization import chat_template, reasoning
from mlx_finetuning.tokenization.chat import ChatTokenizer, Encoded
from support.real_models import RealTemplate, templates
from support.small_models import write_json, write_tokenizer

pytestmark = pytest.mark.models

TABLE = Path(__file__).resolve().parents[2] / "docs" / "chat-templates.md"
REWRITE = "MLX_FINETUNING_REWRITE_DOCS"
"""Set it to have the table written instead of compared."""
LEAST = 98
SPECIAL = re.compile(
    r"<[|｜][^<>{}'\"\s]{1,40}[|｜]>|<\|[^<>{}'\"\s|]{1,30}>|<[^<>{}'\"\s|]{1,30}\|>"
    r"|\[\|[a-z]+\|\]|\[/?[A-Z_]{3,20}\]|</?s>|<(?:start|end)_of_turn>|<[be]os>"
    r"|</?think>|</?[a-z]+:think>|<SPECIAL_\d+>|<sep>|〈\|[A-Z]+\|〉|<[a-z]+_of_sentence>|\[e~\[|\]~!?b\["
)

SYSTEM = {"role": "system", "content": "あなたは親切な案内係です。"}
TURNS = [
    {"role": role, "content": f"{words}{number}。"}
    for number in (1, 2, 3)
    for role, words in (("user", "質問その"), ("assistant", "お答えその"))
]
THOUGHT = "まず考えます。"
CONVERSATIONS = {
    "one": TURNS[:2],
    "three": TURNS,
    "system, one": [SYSTEM, *TURNS[:2]],
    "system, three": [SYSTEM, *TURNS],
}


@pytest.fixture(scope="module")
def found() -> list[RealTemplate]:
    return templates()


@pytest.fixture(scope="module")
def folder(found: list[RealTemplate], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose tokenizer has the special tokens of all templates."""
    folder = tmp_path_factory.mktemp("templates")
    write_tokenizer(folder)
    path = folder / "tokenizer.json"
    definition = json.loads(path.read_text(encoding="utf-8"))
    known = {entry["content"] for entry in definition["added_tokens"]}
    texts = (text for one in found for text in (*SPECIAL.findall(one.text), one.bos, one.eos))
    number = max(definition["model"]["vocab"].values())
    for content in dict.fromkeys(text for text in texts if text and text not in known):
        number += 1
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        entry = {"id": number, "content": content, **flags, "special": True}
        definition["added_tokens"].append(entry)
    write_json(path, definition)
    write_json(folder / "config.json", {"model_type": "llama"})
    return folder


def opened(folder: Path, template: RealTemplate, *, thinks: bool = False) -> ChatTokenizer:
    named = {"bos_token": template.bos or None, "eos_token": template.eos or "</s>"}
    write_json(folder / "tokenizer_config.json", named)
    (folder / "chat_template.jinja").write_text(template.text, encoding="utf-8")
    return chats.load(folder, thinks=thinks)


def runs(sequences: list[Encoded]) -> list[tuple[list[int], list[int]]]:
    """What stands before each learned run, and the run."""
    found: list[tuple[list[int], list[int]]] = []
    for one in sequences:
        flags = [False, *one.supervised, False]
        starts = [at for at in range(len(one.tokens)) if flags[at + 1] and not flags[at]]
        for start in starts:
            stop = next(at for at in range(start, len(flags)) if not flags[at + 1])
            found.append((one.tokens[:start], one.tokens[start:stop]))
    return found


def problems(chat: ChatTokenizer, conversation: list[dict[str, Any]]) -> list[str]:
    """What is wrong with what would be learned of a conversation."""
    answers = [at for at, turn in enumerate(conversation) if turn["role"] == "assistant"]
    learned = runs(chat.sequences(conversation))
    if len(learned) != len(answers):
        return [f"{len(learned)} runs for {len(answers)} answers"]
    wrong = []
    for at, (before, run) in zip(answers, learned, strict=True):
        expected = str(conversation[at]["content"])
        text = chat.tokenizer.decode(run[:-1])
        if [token in chat.end_ids for token in run].count(True) != 1 or run[-1] not in chat.end_ids:
            wrong.append(f"ends of {chat.tokenizer.decode(run)!r}")
        begins = chat.thinks or text == text.lstrip("\n")
        if chat.split(text)[1].strip() != expected or not begins:
            wrong.append(f"learned {text!r} instead of {expected!r}")
        if before != chat.render(conversation[:at], ask=True):
            wrong.append(f"{chat.tokenizer.decode(before)!r} is not the prompt")
        if any(turn["content"] not in chat.tokenizer.decode(before) for turn in conversation[:at]):
            wrong.append(f"a turn is lost in {chat.tokenizer.decode(before)!r}")
    return wrong


def with_thoughts(conversation: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {**turn, "reasoning_content": THOUGHT} if turn["role"] == "assistant" else turn
        for turn in conversation
    ]


def line(folder: Path, template: RealTemplate) -> tuple[str, list[str]]:
    """The table's line of a template, and what is wrong with it."""
    try:
        chat = opened(folder, template)
        sequences = chat.sequences(TURNS)
    except StudioError as error:
        reason = str(error.data.get("reason", "")).splitlines()[0]
        return f"| {template.name} | {template.source} | 使えない | | | {reason} |", []
    assert chat.template is not None
    wrong = [
        f"{template.name}, {name}: {problem}"
        for name, conversation in CONVERSATIONS.items()
        if chat.template.takes_system or "system" not in name
        for problem in problems(chat, conversation)
    ]
    if reasoning.closing(chat.render_text(TURNS[:1], ask=True)):
        wrong.append(f"{template.name}: asks for reasoning")
    if chat.template.reasoning:
        thinking = opened(folder, template, thinks=True)
        wrong += [
            f"{template.name}, thinking: {problem}"
            for problem in problems(thinking, with_thoughts(TURNS))
        ]
        [(_, run), *_] = runs(thinking.sequences(with_thoughts(TURNS[:2])))
        if THOUGHT not in thinking.tokenizer.decode(run):
            wrong.append(f"{template.name}: the reasoning is not learned")
    thinks = f"`{chat.template.reasoning.opening}`" if chat.template.reasoning else "なし"
    system = "あり" if chat.template.takes_system else "なし"
    together = "まとめて" if len(sequences) == 1 else "別々に"
    end = f"`{chat.end_texts[0]}`".replace("|", "\\|")
    cells = (template.name, template.source, system, thinks.replace("|", "\\|"), together, end)
    return f"| {' | '.join(cells)} |", wrong


HEAD = """# 会話の書式（チャットテンプレート）の一覧

`make test-models` が、手に入る本物の書式のすべてで確かめた結果です（このファイルは
`tests/real_models/test_templates.py` が作ります）。どの書式でも、1回と3回のやり取り、システム文のある
なしで、学習の対象が回答そのもの（と考えた過程）と1つの終わりの記号だけであること、回答の前にある
トークンが、使うときの質問の文面と同じであることを確かめています。確かめられない書式は、理由を付けて
学習の前に断ります。

「3つの回答」は、続けて3回答える会話の学習の仕方です。書式が前の回答の形を後から変えるもの（考えた
過程を消すなど）は、回答ごとに別に学習します。

| 書式 | 出どころ | システム文 | 考える印 | 3つの回答 | 終わりの記号 |
|---|---|---|---|---|---|
"""


def test_learned_are_the_answers_in_the_context_in_which_they_are_asked_for(
    found: list[RealTemplate], folder: Path
) -> None:
    lines, wrong = zip(*(line(folder, one) for one in found), strict=True)
    table = HEAD + "\n".join(sorted(lines)) + "\n"
    if os.environ.get(REWRITE):
        TABLE.write_text(table, encoding="utf-8")
    assert len(found) >= LEAST
    assert [problem for problems in wrong for problem in problems] == []
    if "MLX_FINETUNING_REAL_MODELS" not in os.environ:
        assert TABLE.read_text(encoding="utf-8") == table, f"{REWRITE}=1 writes it anew"


def test_a_settled_template_stays_as_it_is(found: list[RealTemplate], folder: Path) -> None:
    for one in found:
        for thinks in (False, True):
            try:
                settled = opened(folder, one, thinks=thinks).template
            except StudioError:
                continue
            assert settled is not None
            named = {"bos": one.bos, "eos": one.eos}
            named = {name: text for name, text in named.items() if text}
            again = chat_template.settled(settled.text, named, thinks=thinks)
            assert again.text == settled.text, one.name
