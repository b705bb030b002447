"""click's own words in Japanese, where that is the language; in English they are click's.

click translates only through compiled catalogues that the user's locale selects; this product has
a language of its own whatever the locale, so click's lookup functions are given this table instead.
Words that are not in it stay as they are (a test reads every command's help and the usual errors).
"""

from __future__ import annotations

import re

from click import _textwrap, core, decorators, exceptions, formatting, parser, termui, types
from rich.cells import cell_len

from mlx_finetuning.language import JAPANESE, language

WORDS = {
    "Usage:": "使い方:",
    "Options": "オプション",
    "Commands": "コマンド",
    "Positional arguments": "引数",
    "Show this message and exit.": "この説明を表示して終わる",
    "Show the version and exit.": "版を表示して終わる",
    "%(prog)s, version %(version)s": "%(prog)s %(version)s",
    "default: {default}": "初期値: {default}",
    "required": "必須",
    "Try '{command} {option}' for help.": "説明は '{command} {option}' で表示します。",
    "Error: {message}": "エラー: {message}",
    "Aborted!": "中断しました。",
    "Missing command.": "コマンドを指定してください。",
    "Missing argument": "引数がありません:",
    "Missing option": "オプションがありません:",
    "Missing parameter": "値がありません:",
    "Missing {param_type}": "{param_type} がありません:",
    "Invalid value: {message}": "値が正しくありません: {message}",
    "Invalid value for {param_hint}: {message}": "{param_hint} の値が正しくありません: {message}",
    "No such option {name!r}.": "オプション {name!r} はありません。",
    "No such command {name!r}.": "コマンド {name!r} はありません。",
    "Did you mean {possibility}?": "もしかして {possibility}?",
    "(Did you mean one of: {possibilities}?)": "もしかして次のどれか: {possibilities}?",
    "Invalid start character for option ({option})": "オプションの先頭の文字が正しくありません（{option}）",
    "Option {name!r} does not take a value.": "オプション {name!r} に値は付けられません。",
    "Option {name!r} requires an argument.": "オプション {name!r} には値が必要です。",
    "Option {name!r} requires {nargs} arguments.": "オプション {name!r} には値が {nargs} 個必要です。",
    "Argument {name!r} takes {nargs} values.": "引数 {name!r} には値が {nargs} 個必要です。",
    "Got unexpected extra argument ({args})": "余分な引数があります（{args}）",
    "Got unexpected extra arguments ({args})": "余分な引数があります（{args}）",
    "{value!r} is not a valid {number_type}.": "{value!r} は数として読めません。",
    "{value} is not in the range {range}.": "{value} は範囲 {range} の外です。",
    "{value!r} is not {choice}.": "{value!r} は選べません。選べるのは {choice} です。",
    "{value!r} is not one of {choices}.": "{value!r} は選べません。選べるのは {choices} です。",
    "Choose from:\n\t{choices}": "次から選んでください:\n\t{choices}",
    "file": "ファイル",
    "directory": "フォルダ",
    "path": "パス",
    "{name} {filename!r} does not exist.": "{name} {filename!r} がありません。",
    "{name} {filename!r} is a file.": "{name} {filename!r} はファイルです。",
    "{name} {filename!r} is a directory.": "{name} {filename!r} はフォルダです。",
    "{name} {filename!r} is not readable.": "{name} {filename!r} を読む権限がありません。",
}


def install() -> None:
    """Make click speak this process's language, whatever the locale."""
    for module in (core, decorators, exceptions, formatting, parser, termui, types):
        for name, function in (("_", translate), ("ngettext", translate_number)):
            if hasattr(module, name):
                setattr(module, name, function)
    for module in (formatting, _textwrap):
        module.term_len = cell_len  # type: ignore[attr-defined]
    _textwrap.TextWrapper = Wrapper  # type: ignore[misc]


class Wrapper(_textwrap.TextWrapper):
    """Lines end between Japanese characters too, but not within an option or a name, as click's do."""

    CHUNK = re.compile(r"\s+|[（「]*(?:[!-~]+|[^\s!-~])[、。・）」…ー]*")

    def _split(self, text: str) -> list[str]:
        return self.CHUNK.findall(text)


def translate(text: str) -> str:
    return WORDS.get(text, text) if language() == JAPANESE else text


def translate_number(singular: str, plural: str, number: int) -> str:
    return translate(singular if number == 1 else plural)
