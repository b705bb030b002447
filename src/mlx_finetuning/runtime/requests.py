"""What a request of OpenAI's protocol asks for: its JSON, checked, as questions to an engine.

What would change the answer and is not known here is refused by its name. Knows no HTTP.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from mlx_finetuning import config
from mlx_finetuning.config import GenerateConfig, SamplingConfig
from mlx_finetuning.errors import InvalidSettings, RequestRefused
from mlx_finetuning.language import _
from mlx_finetuning.runtime.answers import Message, Question
from mlx_finetuning.tokenization.reasoning import answer_of

DEFAULT_MAX_TOKENS = 1024
COMPLETION_MAX_TOKENS = 16
"""As OpenAI's: a text that is gone on with may have no end."""
MOST_CHOICES = 16
MOST_LIKELIHOODS = 20
DEEPEST = 64
"""How far a request may be nested: templates and llama.cpp read schemas by recursion."""
ASSISTANT = "assistant"
ROLES = {
    **{role: role for role in ("system", "user", ASSISTANT, "tool", "function")},
    "developer": "system",
}
"""Who may speak, and as whom templates know him. Others could bring control tokens along."""
SAMPLING = tuple(item.name for item in fields(SamplingConfig))
COMMON = (
    *("model", "n", "max_tokens", "temperature", "stop", "stream", "stream_options", "logprobs"),
    *SAMPLING,
)
CHAT = (
    *COMMON,
    *("messages", "max_completion_tokens", "top_logprobs", "response_format"),
    *("tools", "tool_choice", "parallel_tool_calls"),
)
COMPLETION = (*COMMON, "prompt")
HARMLESS = (
    *("user", "metadata", "store", "service_tier", "safety_identifier"),
    *("prompt_cache_key", "prompt_cache_retention"),
)
"""Of use to those who sell answers; no answer is another one for them."""
NEUTRAL: Mapping[str, object] = {
    "logit_bias": {},
    "modalities": ["text"],
    "functions": [],
    "function_call": "none",
    "echo": False,
    "best_of": 1,
    "suffix": "",
}
"""Settings that are not to be had, with what they are when nobody wants them."""

Given = Mapping[str, Any]
"""A request's fields, without those that are null."""


class UnknownModel(Exception):
    """Nobody here goes by the name, `args[0]`."""


@dataclass(frozen=True)
class Request:
    """One request, checked."""

    questions: tuple[Question, ...]
    """One for each of the answers, in their order."""
    streams: bool
    wants_usage: bool
    """In a stream, an event of its own at the end."""


def chat(body: Given, models: list[str]) -> Request:
    """A request for answers to a conversation. Raises RequestRefused, UnknownModel."""
    given = _known(body, CHAT)
    wants_likelihoods = _flag(given, "logprobs")
    if "top_logprobs" in given and not wants_likelihoods:
        raise _problem("top_logprobs", _("logprobs を true にしたときだけ使えます。"))
    others = _whole(given, "top_logprobs", 0, MOST_LIKELIHOODS, 0)
    tools = tuple(_tools(given.get("tools", [])))
    choice = given.get("tool_choice", "auto")
    if choice not in ("auto", "none"):
        raise _problem(
            "tool_choice", _("auto か none にしてください。呼び出しの強制はできません。")
        )
    schema = _schema(given.get("response_format", {"type": "text"}))
    limit = given.get("max_tokens", DEFAULT_MAX_TOKENS)
    question = replace(
        _question(given, models, given.get("max_completion_tokens", limit)),
        messages=tuple(_messages(given.get("messages"))),
        likelihoods=others if wants_likelihoods else None,
        tools=tools if choice == "auto" else (),
        one_call=not _flag(given, "parallel_tool_calls", True),
        schema=schema,
    )
    if question.tools and schema is not None:
        raise _problem("response_format", _("tools と一緒には使えません。"))
    if schema is not None and question.messages[-1]["role"] == ASSISTANT:
        # The grammar would know nothing of what is there already.
        raise _problem("response_format", _("書きかけの回答の続きには使えません。"))
    return _request(given, [question])


def completion(body: Given, models: list[str]) -> Request:
    """A request to go on with texts. Raises RequestRefused, UnknownModel."""
    given = _known(body, COMPLETION)
    prompt = given.get("prompt")
    texts = [prompt] if isinstance(prompt, str) else prompt
    if not isinstance(texts, list) or not 1 <= len(texts) <= MOST_CHOICES:
        raise _problem(
            "prompt",
            _("文字か、その{most}個までの一覧にしてください。").format(most=MOST_CHOICES),
        )
    if not all(isinstance(text, str) and text for text in texts):
        raise _problem("prompt", _("空でない文字にしてください。トークンの番号は使えません。"))
    others = _whole(given, "logprobs", 0, MOST_LIKELIHOODS, 0)
    question = replace(
        _question(given, models, given.get("max_tokens", COMPLETION_MAX_TOKENS)),
        likelihoods=others if "logprobs" in given else None,
    )
    return _request(given, [replace(question, prompt=text) for text in texts])


def _known(body: Given, known: tuple[str, ...]) -> Given:
    """The fields that count; null is the default of every one."""
    if _depth(body, DEEPEST) > DEEPEST:
        raise _problem(_("要求"), _("入れ子は{most}段までです。").format(most=DEEPEST))
    given = {name: value for name, value in body.items() if value is not None}
    unknown = [
        name
        for name, value in given.items()
        if name not in (*known, *HARMLESS) and not (name in NEUTRAL and NEUTRAL[name] == value)
    ]
    if unknown:
        raise RequestRefused(
            problems=[
                _("{name}: この項目には対応していません。").format(name=name[:80])
                for name in unknown[:8]
            ]
        )
    return given


def _question(given: Given, models: list[str], max_tokens: Any) -> Question:
    """What both kinds of requests ask in the same way."""
    model = given.get("model", models[0]) or models[0]
    if model not in models:
        raise UnknownModel(str(model))
    temperature = given.get("temperature", 0.0)
    drawn = {name: given[name] for name in SAMPLING if name in given}
    try:
        settings = config.load(
            GenerateConfig, {"max_tokens": max_tokens, "temperature": temperature}
        )
        sampling = config.load(SamplingConfig, drawn)
    except InvalidSettings as error:
        raise RequestRefused(**error.data) from error
    stops = given.get("stop", [])
    stops = [stops] if isinstance(stops, str) else stops
    if not isinstance(stops, list) or not all(isinstance(stop, str) and stop for stop in stops):
        raise _problem("stop", _("空でない文字か、その一覧にしてください。"))
    return Question((), settings, str(model), tuple(stops), sampling)


def _request(given: Given, questions: list[Question]) -> Request:
    count = _whole(given, "n", 1, MOST_CHOICES // len(questions), 1)
    streams = _flag(given, "stream")
    options = given.get("stream_options", {})
    if not isinstance(options, dict):
        raise _problem("stream_options", _("オブジェクトにしてください。"))
    choices = [_draw(question, number) for question in questions for number in range(count)]
    return Request(tuple(choices), streams, bool(options.get("include_usage")))


def _draw(question: Question, number: int) -> Question:
    """The question for one of several answers, which are to differ by the same seed, too."""
    seed = question.sampling.seed
    own = seed if seed < 0 else seed + number
    return replace(question, sampling=replace(question.sampling, seed=own))


def _messages(value: Any) -> Iterator[Message]:
    if not isinstance(value, list) or not value:
        raise _problem("messages", _("1つ以上の発言が必要です。"))
    for number, message in enumerate(value, 1):
        given = message if isinstance(message, dict) else {}
        role, text = given.get("role"), _text(given.get("content"))
        if not isinstance(role, str) or role not in ROLES:
            raise _problem(
                "messages",
                _("{number}番目の role は、{roles}のどれかです。").format(
                    number=number, roles=_("・", "values").join(ROLES)
                ),
            )
        calls = list(_calls(given.get("tool_calls"), number)) if role == ASSISTANT else []
        if text is None and (calls or (role == ASSISTANT and given.get("reasoning_content"))):
            text = ""  # it called a tool, or was cut while it was thinking
        if text is None:
            raise _problem(
                "messages", _("{number}番目に、文字の content がありません。").format(number=number)
            )
        # Thinking is no part of what was said: no engine is shown it again.
        said = answer_of({"content": text}) if role == ASSISTANT else text
        turn = {"role": ROLES[role], "content": said}
        if role in ("tool", "function"):
            names = {name: given.get(name) for name in ("tool_call_id", "name")}
            turn |= {name: value for name, value in names.items() if isinstance(value, str)}
        yield {**turn, "tool_calls": calls} if calls else turn


def _calls(value: Any, number: int) -> Iterator[Message]:
    """Calls as templates take them: the protocol has their arguments as JSON in a text."""
    for call in value if isinstance(value, list) else [value] if value else []:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise _problem(
                "messages",
                _("{number}番目の tool_calls に、関数の名前がありません。").format(number=number),
            )
        arguments = function.get("arguments", {})
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments or "{}")
            except (ValueError, RecursionError):
                arguments = None
        if not isinstance(arguments, dict):
            problem = _(
                "{number}番目の tool_calls の arguments が、JSONのオブジェクトではありません。"
            ).format(number=number)
            raise _problem("messages", problem)
        yield {**call, "function": {**function, "arguments": arguments}}


def _text(content: Any) -> str | None:
    """The text of a message; of several parts, joined. None where it is not all text."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return None
    texts = [part.get("text") for part in content if isinstance(part, dict)]
    if len(texts) != len(content) or not all(isinstance(text, str) for text in texts):
        return None
    return "".join(str(text) for text in texts)


def _tools(value: Any) -> Iterator[Given]:
    for tool in value if isinstance(value, list) else [value]:
        function = tool.get("function") if isinstance(tool, dict) else None
        if (
            not isinstance(function, dict)
            or tool.get("type", "function") != "function"
            or not isinstance(function.get("name"), str)
            or not isinstance(function.get("parameters", {}), dict)
        ):
            raise _problem("tools", _("type が function の、名前のある関数の一覧にしてください。"))
        yield tool


def _schema(value: Any) -> Given | None:
    """The JSON schema of a `response_format`; None for any text."""
    kind = value.get("type") if isinstance(value, dict) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return {"type": "object"}
    stated = value.get("json_schema") if kind == "json_schema" else None
    schema = stated.get("schema") if isinstance(stated, dict) else None
    if not isinstance(schema, dict):
        raise _problem(
            "response_format",
            _("type は text・json_object・json_schema（schema が要る）のどれかです。"),
        )
    return schema


def _depth(value: Any, limit: int) -> int:
    """How deep a JSON value is nested, looked at no deeper than `limit` and one."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max((_depth(item, limit - 1) for item in inner), default=0) if limit >= 0 else 0


def _flag(given: Given, name: str, default: bool = False) -> bool:
    value = given.get(name, default)
    if not isinstance(value, bool):
        raise _problem(name, _("true か false にしてください。"))
    return value


def _whole(given: Given, name: str, least: int, most: int, default: int) -> int:
    value = given.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise _problem(
            name, _("{least}〜{most} の整数にしてください。").format(least=least, most=most)
        )
    return value


def _problem(name: str, text: str) -> RequestRefused:
    return RequestRefused(problems=[f"{name}: {text}"])
