"""What the files of a model folder say about its tokenizer and its chat template.

`tokenizer.json` counts as it is; a folder that only has `tokenizer.model` gets an exact conversion
(`spm_model`). Nothing is asked of transformers, which rebuilds some classes by rules of its own: of
every `LlamaTokenizer` folder it makes BPE, with invented merges where the model is a Unigram one.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_finetuning.errors import TokenizerUnreadable
from mlx_finetuning.files import JsonObject
from mlx_finetuning.language import _
from mlx_finetuning.tokenization import spm_model
from mlx_finetuning.tokenization.spm_model import Definition

TOKENIZER, SENTENCEPIECE = "tokenizer.json", "tokenizer.model"
NAMED = ("bos", "eos", "unk", "pad")


@dataclass(frozen=True)
class TokenizerFiles:
    """The tokenizer and the chat template of a folder, decoded."""

    folder: Path
    source: str
    """The file that decides: `tokenizer.json` or `tokenizer.model`."""
    definition: Definition
    named: dict[str, str]
    """bos, eos, unk, pad → their text; those that the vocabulary has."""
    chat_template: str | None
    """As the folder has it."""

    def ids(self) -> dict[str, int]:
        """bos, eos, unk, pad → id."""
        vocabulary = token_ids(self.definition)
        return {name: vocabulary[text] for name, text in self.named.items()}


def read(folder: Path) -> TokenizerFiles:
    """The tokenizer of a model folder. Raises TokenizerUnreadable."""
    config = _object(folder, "tokenizer_config.json", optional=True)
    if (folder / TOKENIZER).is_file():
        source, definition = TOKENIZER, _object(folder, TOKENIZER)
    elif (folder / SENTENCEPIECE).is_file():
        source, definition = SENTENCEPIECE, spm_model.definition(folder / SENTENCEPIECE, config)
    else:
        raise TokenizerUnreadable(
            folder=str(folder), reason=_("トークナイザーのファイルがありません。")
        )
    if not _is_sound(definition):
        raise TokenizerUnreadable(
            folder=str(folder), reason=_("{source} の形が違います。").format(source=source)
        )
    # Limits that were left on when the file was saved would cut texts in silence.
    definition = {**definition, "truncation": None, "padding": None}
    return TokenizerFiles(
        folder,
        source,
        definition,
        _special_tokens(folder, config, definition),
        _chat_template(folder, config),
    )


def token_ids(definition: Definition) -> dict[str, int]:
    """Every token's text and its id; of two tokens with one text the added one."""
    vocabulary = definition["model"]["vocab"]
    if isinstance(vocabulary, list):
        vocabulary = {text: number for number, (text, __) in enumerate(vocabulary)}
    return {**vocabulary, **{entry["content"]: entry["id"] for entry in added(definition)}}


def added(definition: Definition) -> list[JsonObject]:
    """The tokens that are cut out of a text before anything else."""
    return definition.get("added_tokens") or []


def _is_sound(definition: Definition) -> bool:
    """Whether the parts that others rely on have their shapes."""
    model = definition.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocabulary, dict):
        has_vocabulary = _are_ids(vocabulary.values())
    else:
        has_vocabulary = isinstance(vocabulary, list) and all(
            isinstance(entry, list)
            and len(entry) == 2
            and isinstance(entry[0], str)
            and isinstance(entry[1], int | float)
            for entry in vocabulary
        )
    entries = definition.get("added_tokens") or []
    return (
        has_vocabulary
        and isinstance(entries, list)
        and all(
            isinstance(entry, dict) and isinstance(entry.get("content"), str) for entry in entries
        )
        and _are_ids([entry.get("id") for entry in entries])
    )


def _are_ids(values: Collection[Any]) -> bool:
    # Without a call for each of a hundred thousand; a bool is of another type.
    is_whole = set(map(type, values)) <= {int}
    return is_whole and (not values or (min(values) >= 0 and max(values) < 1 << 31))


def _object(folder: Path, name: str, optional: bool = False) -> JsonObject:
    path = folder / name
    if optional and not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise TokenizerUnreadable(
            folder=str(folder), reason=_("{name} を読めません。").format(name=name)
        ) from error
    if not isinstance(value, dict):
        raise TokenizerUnreadable(
            folder=str(folder), reason=_("{name} の形が違います。").format(name=name)
        )
    return value


def _special_tokens(folder: Path, config: JsonObject, definition: Definition) -> dict[str, str]:
    """From the tokenizer's settings, then its special tokens' file, then the model's ids.

    A text that the vocabulary lacks is left out: a token for it would be one that the model never
    saw, with an id beyond its embedding.
    """
    vocabulary = token_ids(definition)
    texts = {number: text for text, number in vocabulary.items()}
    special = _object(folder, "special_tokens_map.json", optional=True)
    model = _object(folder, "config.json", optional=True)
    tokens = {}
    for name in NAMED:
        choices = [_text(config.get(f"{name}_token")), _text(special.get(f"{name}_token"))]
        number = model.get(f"{name}_token_id")
        number = number[0] if isinstance(number, list) and number else number
        # An explicit null means that there is none.
        if f"{name}_token" not in config and isinstance(number, int):
            choices.append(texts.get(number))
        text = next((text for text in choices if text in vocabulary), None)
        if text is not None:
            tokens[name] = text
    return tokens


def _text(entry: Any) -> str | None:
    entry = entry.get("content") if isinstance(entry, dict) else entry
    return entry if isinstance(entry, str) else None


def _chat_template(folder: Path, config: JsonObject) -> str | None:
    """The template that transformers would use: the file before the setting."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            reason = _("{name} を読めません。").format(name=file.name)
            raise TokenizerUnreadable(folder=str(folder), reason=reason) from error
    template = config.get("chat_template")
    if template is None:
        template = _object(folder, "chat_template.json", optional=True).get("chat_template")
    if isinstance(template, list):
        by_name = {
            entry.get("name"): entry.get("template")
            for entry in template
            if isinstance(entry, dict) and isinstance(entry.get("name"), str)
        }
        template = by_name.get("default")
    return template if isinstance(template, str) else None
