"""A tokenizer with the one chat template of a run: conversations to ids, and which ids are learned.

A trained sequence is made of the parts that inference sees: the prompt as it is asked, then the answer,
then one end of turn. So the prompt is a prefix of what is trained by construction, whatever a template
does with earlier turns. Turns share a sequence where the next prompt goes on from the last answer, and
have one each where it does not (Qwen3 leaves earlier reasoning out of it).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlx_finetuning.errors import (
    ChatTemplateMissing,
    ChatTemplateUnusable,
    ConversationRefused,
    TokenizerUnreadable,
)
from mlx_finetuning.files import write_text
from mlx_finetuning.language import _
from mlx_finetuning.tokenization import (
    chat_template,
    files,
    loading,
    plain,
    reasoning,
    template_trial,
    turns,
)
from mlx_finetuning.tokenization.chat_template import ChatTemplate, Message, Tools
from mlx_finetuning.tokenization.files import TokenizerFiles
from mlx_finetuning.tokenization.loading import FolderTokenizer

TEMPLATE = "chat_template.jinja"
"""The settled template beside an adapter."""
THINKS = "thinks"
"""The key of `adapter_config.json` that says whether the adapter was trained with reasoning."""


@dataclass(frozen=True)
class Encoded:
    """One sequence to train on."""

    tokens: list[int]
    supervised: list[bool]
    """Per token: whether it is part of an answer or its end of turn."""
    text: str


@dataclass(frozen=True)
class Asked:
    """What a model is asked with."""

    tokens: list[int]
    form: reasoning.Format
    """How its answer is read."""


@dataclass(frozen=True)
class ChatTokenizer:
    """A folder's tokenizer with the settled template, if it has one."""

    tokenizer: FolderTokenizer
    """With the settled template in it."""
    files: TokenizerFiles
    template: ChatTemplate | None
    end_ids: tuple[int, ...]
    """Tokens that end an answer; the first one is written where the template writes none."""

    def encode(self, text: str) -> list[int]:
        """Ids without bos and eos. Raises TokenizerUnreadable."""
        return loading.ids(self.tokenizer.backend_tokenizer, self.files.folder, text)

    @property
    def text_end(self) -> int:
        """What ends a text that is no conversation: eos, or where there is none, an answer's end."""
        eos = self.tokenizer.eos_token_id
        return self.end_ids[0] if eos is None else eos

    def render_text(
        self, messages: Sequence[Message], *, ask: bool, tools: Tools | None = None
    ) -> str:
        """A conversation as text; with `ask`, ready for the assistant to answer.

        Raises ChatTemplateMissing, ConversationRefused.
        """
        if self.template is None:
            raise ChatTemplateMissing()
        if messages and messages[0]["role"] == "system" and not self.template.takes_system:
            raise ConversationRefused(
                reason=_("このモデルの書式には、システム文を置く場所がありません。")
            )
        # Reasoning is part of the turn that is under way, never of the history: so it is trained, and
        # so it is asked, whatever a template would do with it.
        users = [index for index, turn in enumerate(messages) if turn["role"] == "user"]
        asked = users[-1] if users else -1
        shown = [self._shown(turn, index > asked) for index, turn in enumerate(messages)]
        return chat_template.render(
            self.template.text, shown, self.files.named, ask=ask, tools=tools
        )

    def render(
        self, messages: Sequence[Message], *, ask: bool, tools: Tools | None = None
    ) -> list[int]:
        """The ids of `render_text`, which raises the same."""
        return self.encode(self.render_text(messages, ask=ask, tools=tools))

    def asked(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()
    ) -> Asked:
        """A conversation of users, ready for the assistant to answer, or to go on with its last message.

        Control tokens that somebody has typed are plain text. Raises ChatTemplateMissing,
        ConversationRefused, TokenizerUnreadable.
        """
        marked = [plain.marked(dict(message), self.control_texts) for message in messages]
        shown = [plain.marked(dict(tool), self.control_texts) for tool in tools] or None
        begun = begun_answer(marked)
        text, form = self.render_text(marked, ask=True, tools=shown), self.form
        if begun:
            # Some templates write a space before an answer, which belongs to its first token.
            said = {"role": "assistant", "content": begun}
            written, __ = self._answer_text([*marked, said], text, shown)
            begun = written[: max(0, written.find(begun.strip()))] + begun
            text += reasoning.closing(text)
            form = replace(form, opened=False)
        own = self.tokenizer.backend_tokenizer
        tokens, whole = (self._unmarked_ids(own, part) for part in (text, text + begun))
        if whole[: len(tokens)] != tokens:  # as in `sequences`
            whole = [*tokens, *self._unmarked_ids(self._continuing, begun)]
        return Asked(whole, form)

    @functools.cached_property
    def shows_tools(self) -> bool:
        """Whether the template tells the model which tools there are."""
        tool = {"name": "zt00l", "description": "", "parameters": {"type": "object"}}
        tools = [{"type": "function", "function": tool}]
        try:
            return "zt00l" in self.render_text(
                [{"role": "user", "content": "?"}], ask=True, tools=tools
            )
        except ConversationRefused:
            return False

    def _unmarked_ids(self, own: Any, text: str) -> list[int]:
        with loading.asking_library(self.files.folder):
            return plain.ids(own, self.files.definition, text, self.control_texts)

    @functools.cached_property
    def control_texts(self) -> list[str]:
        """Tokens that structure a conversation: the special ones, and the template's own."""
        template = self.template.text if self.template else ""
        return [
            token["content"]
            for token in files.added(self.files.definition)
            if token.get("special")
            or (token["content"][:1] in ("<", "[") and token["content"] in template)
        ]

    def sequences(
        self, messages: Sequence[Message], tools: Tools | None = None, *, everything: bool = False
    ) -> list[Encoded]:
        """What is trained of a conversation: its answers, each in the context in which it is asked for.

        With `everything`, what leads to them is learned as well. An answer that is marked
        (`turns.UNTRAINED`), or calls a tool for which the template has no words, is context alone.
        Empty where no assistant speaks. Raises ChatTemplateMissing, ConversationRefused.
        """
        sequences: list[Encoded] = []
        for index, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            prompt_text = self.render_text(messages[:index], ask=True, tools=tools)
            prompt = self.encode(prompt_text)
            answer_text, is_whole = self._answer_text(messages[: index + 1], prompt_text, tools)
            together = self.encode(prompt_text + answer_text)
            if together[: len(prompt)] == prompt:
                answer = together[len(prompt) :]
            else:
                # The answer's first letters would join the prompt's last ones in one token; when it
                # is asked, the prompt's ids stay as they are.
                answer = loading.ids(self._continuing, self.files.folder, answer_text)
            earlier: list[bool] = []
            if sequences and prompt[: len(sequences[-1].tokens)] == sequences[-1].tokens:
                earlier = sequences.pop().supervised
            before = [everything] * (len(prompt) - len(earlier))
            learned = is_whole and turns.is_trained(message)
            supervised = [*earlier, *before, *[learned] * len(answer)]
            sequences.append(Encoded([*prompt, *answer], supervised, prompt_text + answer_text))
        return sequences

    @property
    def thinks(self) -> bool:
        """Whether reasoning is trained and asked for."""
        return self.template is not None and self.template.thinks

    def save(self, folder: Path) -> None:
        """Keep the template beside an adapter. Raises DiskFull."""
        if self.template is not None:
            write_text(folder / TEMPLATE, self.template.text)

    def split(self, text: str) -> tuple[str, str]:
        """Reasoning and answer of what the model wrote."""
        return self.form.split(text)

    @functools.cached_property
    def form(self) -> reasoning.Format:
        """How what the model writes is read."""
        if self.template is None:
            return reasoning.Format(None)
        prompt = self.render_text([{"role": "user", "content": "?"}], ask=True)
        return reasoning.form_of(self.template.text, prompt, thinks=self.template.thinks)

    def _shown(self, message: Message, with_reasoning: bool = True) -> Message:
        """A message with its reasoning where templates look for it, or without."""
        if message["role"] != "assistant":
            return message
        thought, answer = reasoning.from_message(message)
        shown = {key: item for key, item in message.items() if key not in reasoning.FIELDS}
        shown["content"] = answer
        if self.template and self.template.thinks and thought and with_reasoning:
            shown[reasoning.FIELDS[0]] = thought
        return shown

    def swallows_calls(self, messages: Sequence[Message], tools: Tools | None = None) -> bool:
        """Whether the template leaves out a call of a tool. Raises as `sequences` does."""
        calling = [at for at, turn in enumerate(messages) if turn.get("tool_calls")]
        return any(
            not self._answer_text(
                messages[: at + 1], self.render_text(messages[:at], ask=True, tools=tools), tools
            )[1]
            for at in calling
        )

    def _answer_text(
        self, messages: Sequence[Message], prompt: str, tools: Tools | None
    ) -> tuple[str, bool]:
        """The last message as it goes on from its prompt, up to and with one end of turn.

        As the template writes it; where that does not go on from the prompt, or holds something else
        than the answer, the answer itself and an end. And whether it has all calls of tools: without
        them, the text would teach to say nothing.
        """
        shown = self._shown(messages[-1])
        answer, thought = str(shown["content"]), str(shown.get(reasoning.FIELDS[0], ""))
        calls = shown.get("tool_calls")
        functions = [
            call.get("function", call)
            for call in (calls if isinstance(calls, list) else ())
            if call
        ]
        names = [
            str(call["name"]) for call in functions if isinstance(call, dict) and "name" in call
        ]
        whole = self.render_text(messages, ask=False, tools=tools)
        if whole.startswith(prompt):
            written = self._up_to_end(whole[len(prompt) :], answer, thought)
            end = next(end for end in self.end_texts if written.endswith(end))
            body = written.removesuffix(end).strip()
            fits = body == answer.strip()
            if thought:
                fits = thought.strip() in body and body.endswith(answer.strip())
            if all(name in written for name in names) and (fits or names):
                return written, True
        style = self.template.reasoning if self.template else None
        if thought:
            style = style or reasoning.TAG
            opened = bool(reasoning.closing(prompt))
            answer = style.joined(thought, answer, opened=opened)
        return answer + self.end_texts[0], not names

    def _up_to_end(self, text: str, answer: str, thought: str) -> str:
        """Up to and with the first end of turn behind the answer; one is added where there is none."""
        # The reasoning may hold the answer's very words, and have an end of its own.
        thought_at = text.find(thought.strip())
        start = thought_at + len(thought.strip()) if thought_at >= 0 else 0
        answer_at = text.find(answer.strip(), start)
        behind = answer_at + len(answer.strip()) if answer_at >= 0 else 0
        ends = [
            text.index(end, behind) + len(end) for end in self.end_texts if end in text[behind:]
        ]
        if ends:
            return text[: min(ends)]
        return (text[:behind] if answer.strip() else text.rstrip()) + self.end_texts[0]

    @functools.cached_property
    def end_texts(self) -> list[str]:
        """The texts of `end_ids`."""
        return [str(text) for text in self.tokenizer.convert_ids_to_tokens(list(self.end_ids))]

    @functools.cached_property
    def _continuing(self) -> Any:
        from tokenizers import Tokenizer

        with loading.asking_library(self.files.folder):
            return Tokenizer.from_str(json.dumps(loading.continuing(self.files.definition)))


def begun_answer(turns: list[Message]) -> str:
    """Take an assistant's last message, which is to be gone on with, from the end of a conversation;
    empty where there is none."""
    if turns and turns[-1]["role"] == "assistant" and not turns[-1].get("tool_calls"):
        return reasoning.answer_of(turns.pop())
    return ""


def load(folder: Path, adapter: Path | None = None, *, thinks: bool = False) -> ChatTokenizer:
    """The tokenizer of a model folder with its settled template.

    adapter: its template, and whether it thinks, count instead of the folder's and of `thinks`.
    Raises TokenizerUnreadable, TemplateHostile, ChatTemplateUnusable.
    """
    model_files = files.read(folder)
    original = model_files.chat_template
    if adapter and (adapter / TEMPLATE).is_file():
        original = (adapter / TEMPLATE).read_text(encoding="utf-8")
        thinks = kept_thinks(adapter)
    template, own = None, None
    if original is not None:
        with template_trial.trying(original, str(folder)):
            own = loading.engine(model_files)
            import mlx_finetuning.tokenization.rendering  # noqa: F401  what settles it needs it
        try:
            template = chat_template.settled(original, model_files.named, thinks=thinks)
        except ConversationRefused as error:
            raise ChatTemplateUnusable(reason=error.data["reason"]) from error
    tokenizer = loading.load(model_files, template.text if template else None, own)
    end_ids = _end_ids(model_files, template, tokenizer.get_vocab())
    return ChatTokenizer(tokenizer, model_files, template, end_ids)


def kept_thinks(adapter: Path) -> bool:
    """Whether an adapter was trained with reasoning."""
    try:
        config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False  # the adapter's own reader says what is wrong
    return isinstance(config, dict) and config.get(THINKS) is True


def kept_form(adapter: Path, prompt: Callable[[], str]) -> reasoning.Format:
    """How answers of the adapter's model are read; `prompt` gives one that it was asked with.

    Without a template beside it, as other programs write adapters, all is answer.
    """
    path, thinks = adapter / TEMPLATE, kept_thinks(adapter)
    template = path.read_text(encoding="utf-8") if path.is_file() else ""
    return reasoning.form_of(template, prompt() if thinks else "", thinks=thinks)


def _end_ids(
    model_files: TokenizerFiles, template: ChatTemplate | None, vocabulary: dict[str, int]
) -> tuple[int, ...]:
    """The template's own end of turn first, then the tokenizer's and the model's ends.

    Folders are often silent about the first: Llama 3's name only `<|end_of_text|>`, which no answer ends
    with. Raises TokenizerUnreadable where there is none.
    """
    behind_answer = template.end.lstrip() if template else ""
    added = [entry["content"] for entry in files.added(model_files.definition)]
    written = [text for text in added if text and behind_answer.startswith(text)]
    ends = [max(written, key=len, default=None), model_files.named.get("eos")]
    ids = [vocabulary[end] for end in ends if end in vocabulary]
    known_ids = set(vocabulary.values())
    for name in ("generation_config.json", "config.json"):
        try:
            config = json.loads((model_files.folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        stated = config.get("eos_token_id") if isinstance(config, dict) else None
        stated = stated if isinstance(stated, list) else [stated]
        ids += [end for end in stated if isinstance(end, int) and end in known_ids]
    if not ids:
        raise TokenizerUnreadable(
            folder=str(model_files.folder),
            reason=_("発言の終わりを表すトークン（eos_token）がありません。"),
        )
    return tuple(dict.fromkeys(ids))
