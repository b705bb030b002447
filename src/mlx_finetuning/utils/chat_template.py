"""Keeps a chat template from being swapped by Ollama. Renders and judges nothing.

Ollama compares the template in an imported GGUF file with the ones it knows, and takes a template
and stops of its own where the edit distance is below 100: an Alpaca-like template of 152 characters
becomes ChatML. The known templates hold no Japanese, so each Japanese letter of ours costs an edit,
whatever the list holds. A comment with more than 100 of them is therefore enough, and is no part
of what the template renders.
"""

from __future__ import annotations

import re

ENOUGH = 100
"""Edits from which on Ollama leaves a template alone."""
COMMENT = (
    "{# この注釈は、会話の組み立て方を変えません。Ollamaは、読み込んだモデルのチャットテンプレートが"
    "自分の知っているものに似ていると、それを別のテンプレートと停止文字列に置き換えます。"
    "似ていないと判断されるだけの長さの日本語をここに置き、学習したときと同じ形のまま使われるようにしています。 #}"
)
_JAPANESE = re.compile(r"[ぁ-ヿ一-鿿]")
_LAST_LINE_END = re.compile(r"(?:\r\n|\r|\n)\Z")
_LINE_END = re.compile(r"[\r\n]")


def is_protected(template: str) -> bool:
    """Whether Ollama cannot take the template for another."""
    return len(_JAPANESE.findall(template)) >= ENOUGH


def protected(template: str) -> str:
    """A template that renders the same and that Ollama leaves alone."""
    return template if is_protected(template) else appended(template, COMMENT)


def appended(template: str, more: str) -> str:
    """A template with a comment or a statement at its end that changes nothing before it."""
    # Jinja drops one line end at a template's end, but not one before a comment.
    body = _LAST_LINE_END.sub("", template)
    # It also drops spaces that stand alone before a comment, but not before an expression.
    guard = "{{ '' }}" if _LINE_END.split(body)[-1].isspace() else ""
    return body + guard + more
