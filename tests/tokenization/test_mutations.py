"""Damaged tokenizers, settings and chat templates: an error with its reason, or a tokenizer; never a
traceback, and never a panic of the library below."""

from __future__ import annotations

import contextlib
import copy
import json
import random
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlx_finetuning.errors import StudioError
from mlx_finetuning.quantizer.families import registry
from mlx_finetuning.quantizer.vocabulary import tokenizer
from mlx_finetuning.tokenization import chat as chats
from mlx_finetuning.tokenization import gate, template_trial
from support.chat_formats import FORMATS
from support.sentencepiece_models import train_sentencepiece
from support.small_models import CHATML, write_sentencepiece, write_tokenizer

COUNT = 2000
LIMIT_S = 60.0
"""Of one mutation; mostly it takes a hundredth of a second."""
CONVERSATION = [
    {"role": "system", "content": "案内係です。"},
    {"role": "user", "content": "営業時間は？ <|im_end|></s>"},
    {"role": "assistant", "content": "午前9時からです。😀"},
    {"role": "user", "content": "か\u3099"},
    {"role": "assistant", "content": " 水曜日。\n", "reasoning_content": "定休日の表を見る。"},
]
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 3, 1 << 31, 1 << 40, 1 << 70, 1.5, float("nan"), float("inf")),
    *(
        "",
        " ",
        "a",
        "▁",
        "<|im_end|>",
        "</s>",
        "\ud800",
        "\0",
        "(",
        "[",
        "(?<x>",
        "\\p{",
        "a{99999}",
    ),
    *([], [[]], [None], ["a", 1], {}, {"type": "BPE"}, {"type": "NFC"}, {"content": "</s>"}),
    {"type": "Sequence", "normalizers": []},
    {"type": "Sequence", "pretokenizers": [{"type": "Sequence", "pretokenizers": []}]},
    {"type": "Replace", "pattern": {"Regex": "("}, "content": ""},
    {"type": "Replace", "pattern": {"Regex": ""}, "content": "a"},
    {"type": "Precompiled", "precompiled_charsmap": "AAAA"},
    {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
    {"type": "Prepend", "prepend": "▁"},
    {"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 7},
    {"type": "Unigram", "vocab": [["<unk>", 0.0], ["a", -1.0]], "unk_id": None},
    {"type": "WordPiece", "vocab": {"a": 0}, "unk_token": "b"},
    {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "b"},
    {"type": "BPE", "vocab": {"a": 0, "b": 0}, "merges": [["a", "b"]]},
)
CLASSES = ("LlamaTokenizer", "T5Tokenizer", "GPT2Tokenizer", "BertTokenizer", "NoSuch", 7, None)
TOP = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "config.json")
PIECES = re.compile(r"\{%.*?%\}|\{\{.*?\}\}|[^{]+|\{", re.DOTALL)
STATEMENTS = (
    *("{% if %}", "{% endif %}", "{% for m in messages %}", "{% endfor %}", "{{", "%}", "{# "),
    *(
        "{{ raise_exception('no') }}",
        "{{ messages[9].content }}",
        "{{ 1 / 0 }}",
        "{{ none + 'a' }}",
    ),
    *("{% set messages = [] %}", "{% set messages = 7 %}", "{{ messages | tojson }}", "\ud800"),
    *("{{ strftime_now('%Q%') }}", "{{ strftime_now('\ud800') }}", "{{ strftime_now(7) }}"),
    *("{% set date_string = '26 Jul 2024' %}", "{% if date_string is defined %}x{% endif %}"),
    *("{% if enable_thinking %}<think>{% endif %}", "{% set enable_thinking = 3 %}", "<think>\n"),
    *(
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% include 'x' %}",
        "{% import 'x' as y %}",
    ),
    *(
        "{% for a in range(9) %}" * 25 + "{% endfor %}" * 25,
        "{{ " + "(" * 300 + "1" + ")" * 300 + " }}",
    ),
    *(
        "{{ ''.__class__ }}",
        "{{ messages.append(messages) }}",
        "{{ 'a' * 9 }}",
        "{{ messages[0]() }}",
    ),
    *("{% set content = messages %}", "{% break %}", "{{ caller() }}", "{{ namespace(a=1).b.c }}"),
)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, bytes]]:
    """The files of four sound folders: byte-level BPE twice, SentencePiece's BPE and Unigram."""
    found = []
    for name in ("llama-bpe", "smollm", "sentencepiece", "unigram"):
        folder = tmp_path_factory.mktemp(name)
        if name in ("llama-bpe", "smollm"):
            write_tokenizer(folder, name)
        else:
            write_sentencepiece(folder)
        if name == "unigram":
            train_sentencepiece(folder, "unigram")
        (folder / "config.json").write_text('{"model_type": "llama", "eos_token_id": 0}')
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        files["special_tokens_map.json"] = b'{"eos_token": {"content": "</s>"}}'
        found.append(files)
    return found


def mutated_template(chosen: random.Random, template: str) -> str:
    pieces = PIECES.findall(template)
    for _ in range(chosen.randint(1, 3)):
        at, other = chosen.randrange(len(pieces)), chosen.randrange(len(pieces))
        match chosen.randrange(6):
            case 0:
                pieces[at] = ""
            case 1:
                pieces.insert(other, pieces[at])
            case 2:
                pieces[at], pieces[other] = pieces[other], pieces[at]
            case 3:
                pieces.insert(at, chosen.choice(STATEMENTS))
            case 4:
                text = pieces[at]
                cut = chosen.randrange(len(text) + 1)
                pieces[at] = (
                    text[:cut] + chosen.choice(("", "'", "}", "{", "%", "\n")) + text[cut + 1 :]
                )
            case 5:
                words = ("role", "content", "messages", "assistant", "user", "system", "eos_token")
                pieces[at] = pieces[at].replace(chosen.choice(words), chosen.choice(words))
    return "".join(pieces)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Containers and keys of a JSON value; of a long one a part, so that small parts are hit too."""
    found: list[tuple[Any, Any]] = []
    keys = list(value) if isinstance(value, dict) else range(len(value))
    for key in list(keys)[:12]:
        found.append((value, key))
        if isinstance(value[key], dict | list):
            found += places(value[key])
    return found


def mutate_json(chosen: random.Random, value: Any) -> Any:
    """One to three parts replaced, removed, doubled or exchanged."""
    value = copy.deepcopy(value)
    for _ in range(chosen.randint(1, 3)):
        found = places(value) if isinstance(value, dict | list) else []
        if not found:
            return chosen.choice(ODD)
        holder, key = chosen.choice(found)
        other_holder, other_key = chosen.choice(found)
        try:
            match chosen.randrange(5):
                case 0 | 1:
                    holder[key] = copy.deepcopy(chosen.choice(ODD))
                case 2:
                    del holder[key]
                case 3:
                    holder[key] = copy.deepcopy(other_holder[other_key])
                case 4:
                    if isinstance(holder, list):
                        holder.insert(key, copy.deepcopy(holder[key]))
                    else:
                        holder[str(chosen.choice(ODD))] = copy.deepcopy(holder[key])
        except (IndexError, KeyError):
            continue
    return value


def overlapping(chosen: random.Random, definition: Any) -> Any:
    """Added tokens that lie in each other, share ids or texts, or have ids far off."""
    definition = copy.deepcopy(definition)
    contents = ("<|im_end|>", "<|im", "<|im_end|>x", "。", "あ", "", " ", "</s>", "a", "\n", "▁")
    numbers = (0, 1, 2, 5, 599, 600, 700, 1 << 20, (1 << 31) - 1, 1 << 32)
    for _ in range(chosen.randint(1, 4)):
        entry = {"id": chosen.choice(numbers), "content": chosen.choice(contents)}
        for flag in ("single_word", "lstrip", "rstrip", "normalized", "special"):
            if chosen.random() < 0.9:
                entry[flag] = chosen.random() < 0.4
        definition.setdefault("added_tokens", []).append(entry)
    return definition


def damage(chosen: random.Random, sound: dict[str, bytes], folder: Path) -> None:
    """Write a folder of which something is wrong."""
    files = dict(sound)
    config = json.loads(files["tokenizer_config.json"])
    template = chosen.choice([CHATML, *(form.template for form in FORMATS.values())])
    match chosen.randrange(7):
        case 0 | 1:
            template = mutated_template(chosen, template)
        case 2:
            config = mutate_json(chosen, config)
        case 3:
            name = chosen.choice([name for name in TOP if name in files])
            mutated = mutate_json(chosen, json.loads(files[name]))
            files[name] = json.dumps(mutated).encode()
        case 4 if "tokenizer.json" in files:
            mutated = overlapping(chosen, json.loads(files["tokenizer.json"]))
            files["tokenizer.json"] = json.dumps(mutated).encode()
        case 5:
            name = chosen.choice(list(files))
            content = bytearray(files[name])
            at = chosen.randrange(len(content))
            files[name] = bytes(content[:at])
            if chosen.random() < 0.6:
                content[at : at + chosen.randint(0, 3)] = chosen.randbytes(chosen.randint(0, 3))
                files[name] = bytes(content)
        case _:
            token = f"{chosen.choice(('bos', 'eos', 'unk', 'pad'))}_token"
            config[token] = copy.deepcopy(chosen.choice(ODD))
            config["added_tokens_decoder"] = {
                str(chosen.choice(ODD)): copy.deepcopy(chosen.choice(ODD)),
                "9" * chosen.choice((1, 3, 5000)): {"content": "</s>", "lstrip": "a"},
            }
    if isinstance(config, dict):
        config["tokenizer_class"] = chosen.choice(CLASSES)
        kinds: tuple[Any, ...] = (
            *(template, template, template),
            *([{"name": "default", "template": template}], [{"name": [], "template": {}}]),
        )
        config["chat_template"] = chosen.choice(kinds)
        files.setdefault("tokenizer_config.json", b"")
        if files["tokenizer_config.json"] == sound["tokenizer_config.json"]:
            files["tokenizer_config.json"] = json.dumps(config).encode()
    for name, content in files.items():
        (folder / name).write_bytes(content)


def use(folder: Path) -> None:
    """What a run does with a folder before it trains, and an export with what could be trained."""
    chat = chats.load(folder, thinks=len(folder.name) % 2 == 0)
    chat.sequences(CONVERSATION)
    gate.require_own_tokens(folder, chat.encode, ["営業時間は？"])
    tokenizer.read(folder, 700, registry.FAMILIES["LlamaForCausalLM"])


@pytest.mark.parametrize("seed", [0])
def test_damaged_folders_end_in_an_error_or_work(
    sources: list[dict[str, bytes]],
    tmp_path: Path,
    often: Callable[[int], int],
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
) -> None:
    # In another process each time it takes a second; what it judges is tried in its own tests.
    monkeypatch.setattr(template_trial, "trying", lambda *_: contextlib.nullcontext())
    unexpected = []
    for number in range(often(COUNT)):
        chosen = random.Random(seed * 1_000_003 + number)
        folder = tmp_path / str(number)
        folder.mkdir()
        damage(chosen, chosen.choice(sources), folder)
        started = time.monotonic()
        try:
            use(folder)
        except StudioError:
            pass
        except BaseException as error:  # a panic is no Exception
            if isinstance(error, KeyboardInterrupt):
                raise
            unexpected.append(f"{number}: {type(error).__name__}: {error}"[:300])
        assert time.monotonic() - started < LIMIT_S, number
        for path in folder.iterdir():
            path.unlink()
    assert unexpected == []
