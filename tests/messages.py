"""Brings the English catalogue up to date: `make messages`.

Gathers every text that the code marks with `_`, `n_` or `N_`, adds the new ones to the catalogue
without English, drops those that are gone, and compiles it. Entries are sorted and carry neither
places nor dates, so that a change of one text is a change of its lines alone; nothing is guessed
from similar texts. Fails while a text has no English.
"""

from __future__ import annotations

import ast
import io
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import yaml
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po
from jinja2 import Environment
from jinja2.ext import extract_from_ast

from mlx_finetuning.language import DOMAIN, ENGLISH

PACKAGE = Path(__file__).parents[1] / "src" / "mlx_finetuning"
PO = PACKAGE / "assets" / "locale" / ENGLISH / "LC_MESSAGES" / f"{DOMAIN}.po"
MO = PO.with_suffix(".mo")
MODELS = PACKAGE.parents[1] / "config" / "models.yaml"
JAPANESE = re.compile(r"[\u3001-\u30ff\u3400-\u9fff\uff00-\uffef]")
"""Kana, Chinese characters, and punctuation of their width."""
MARKS = {"_", "n_", "N_"}
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
"""In the compiled file, which has to have dates: always the same file from the same texts."""
HEADER = """msgid ""
msgstr ""
"Content-Type: text/plain; charset=utf-8\\n"
"Plural-Forms: nplurals=2; plural=(n != 1);\\n"

"""


@dataclass(frozen=True)
class Text:
    """A text of the code."""

    japanese: str
    context: str | None = None
    is_counted: bool = False
    """Whether its words hang on a number."""


def marked() -> Iterator[Text]:
    """Every text of the package, and of its list of models."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            yield from _of_code(node)
    for path in sorted((PACKAGE / "assets").glob("*.j2")):
        tree = Environment().parse(path.read_text(encoding="utf-8"))
        for _line, mark, given in extract_from_ast(tree, MARKS):
            text, *rest = given if isinstance(given, tuple) else (given,)
            if text:
                is_counted = mark == "n_"  # the rest is the number, else a context or nothing
                yield Text(text, *([] if is_counted else rest), is_counted=is_counted)
    for entry in yaml.safe_load(MODELS.read_text(encoding="utf-8"))["models"]:
        for value in entry.values():
            if isinstance(value, str) and JAPANESE.search(value):
                yield Text(value)


def _of_code(node: ast.AST) -> Iterator[Text]:
    match node:
        case ast.Call(func=ast.Name(id="_" | "N_"), args=[ast.Constant(value=str(text)), *rest]):
            contexts = [item.value for item in rest if isinstance(item, ast.Constant)]
            yield Text(text, *map(str, contexts))
        case ast.Call(func=ast.Name(id="n_"), args=[ast.Constant(value=str(text)), *_]):
            yield Text(text, is_counted=True)
        case ast.FunctionDef() if any(_makes_command(item) for item in node.decorator_list):
            yield Text(ast.get_docstring(node) or "")


def _makes_command(decorator: ast.expr) -> bool:
    """Whether a function's docstring is a command's help (`cli.session.command`)."""
    match decorator:
        case ast.Call(func=ast.Name(id="command")):
            return True
    return False


def read() -> Catalog:
    """The catalogue as it stands. Raises PoFileError where it is no catalogue."""
    with PO.open("rb") as file:
        return read_po(file, locale=ENGLISH, abort_invalid=True)


def updated(old: Catalog) -> Catalog:
    """Exactly the texts of the code, with the English that `old` has for them."""
    new = Catalog(locale=ENGLISH)
    for text in sorted(set(marked()), key=lambda text: text.is_counted):
        known = old.get(text.japanese, text.context)
        english = known.string if known is not None else ""
        if text.is_counted:
            english = english if isinstance(english, tuple) else (english, english)
        elif isinstance(english, tuple):
            english = english[-1]
        key = (text.japanese, text.japanese) if text.is_counted else text.japanese
        message = new.add(key, english, context=text.context)
        message.flags.clear()  # "%" and "{}" are only characters here
    return new


def po(catalogue: Catalog) -> bytes:
    """The catalogue's file."""
    out = io.BytesIO(HEADER.encode())
    out.seek(0, io.SEEK_END)
    write_po(out, catalogue, width=0, no_location=True, omit_header=True, sort_output=True)
    return out.getvalue()


def mo(text: bytes) -> bytes:
    """What gettext reads, from the catalogue's file."""
    catalogue = read_po(io.BytesIO(text), locale=ENGLISH, abort_invalid=True)
    catalogue.creation_date = catalogue.revision_date = EPOCH
    out = io.BytesIO()
    write_mo(out, catalogue)
    return out.getvalue()


def untranslated(catalogue: Catalog) -> list[str]:
    """Texts without English."""
    return [
        message.id if isinstance(message.id, str) else message.id[0]
        for message in catalogue
        if message.id
        and not (all(message.string) if isinstance(message.string, tuple) else message.string)
    ]


def main() -> int:
    """Exit status 1 where a text has no English."""
    catalogue = updated(read())
    text = po(catalogue)
    PO.write_bytes(text)
    MO.write_bytes(mo(text))
    missing = untranslated(catalogue)
    print(f"{len(catalogue)} texts, {len(missing)} without English")
    print("".join(f"    {text}\n" for text in missing), end="")
    return int(bool(missing))


if __name__ == "__main__":
    sys.exit(main())
