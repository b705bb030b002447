"""HTML as the text a reader sees: line breaks, lists, links and tables kept, tags and entities gone.

Works on known tags alone, so `a<b` stays; code in backticks stays too. No browser: styles and scripts
are dropped, nothing is fetched.
"""

from __future__ import annotations

import html
import re

from mlx_finetuning.data_processor.leftovers import CODE, ENTITY, QUOTED, TAG

_UNSEEN = re.compile(r"<(script|style)\b[^<>]*>|<!--", re.IGNORECASE)
_HREF = re.compile(r"""\bhref\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s>]+))""", re.IGNORECASE)
_ALT = re.compile(r"""\balt\s*=\s*(?:"([^"]*)"|'([^']*)')""", re.IGNORECASE)
_BLOCKS = frozenset(
    "p div h1 h2 h3 h4 h5 h6 table tr ul ol dl dt dd blockquote pre section article header footer main nav "
    "figure form hr body".split()
)
_TWICE = re.compile(r"&amp;(?=(?:nbsp|lt|gt|quot|amp|#\d{1,7});)")


def seen(text: str) -> str:
    """`text` as a browser would show it, roughly."""
    if not any(sign in text for sign in "<&["):
        return text
    parts, at = [], 0
    for code in CODE.finditer(text):
        parts += [_shown(text[at : code.start()]), code.group()]
        at = code.end()
    shown = "".join([*parts, _shown(text[at:])])
    return shown.strip() if TAG.search(text) else shown


def _shown(text: str) -> str:
    text = QUOTED.sub(lambda part: part["raw"] or part["said"] or "", text)
    if "<!--" in text:
        text = without_unseen(text)
    if not TAG.search(text):
        return ENTITY.sub(_sign, _TWICE.sub("&", text))
    text = without_unseen(text)
    shown: list[str] = []
    lists: list[int] = []  # of each open list the items so far; -1 for one without numbers
    links: list[tuple[str, int]] = []
    at = 0
    for tag in TAG.finditer(text):
        shown.append(text[at : tag.start()])
        at = tag.end()
        closes, name, attributes = bool(tag[1]), tag[2].lower(), tag[3]
        if name == "br":
            shown.append("\n")
        elif name in ("ul", "ol"):
            if not closes:
                lists.append(0 if name == "ol" else -1)
            elif lists:
                lists.pop()
            shown.append("\n")
        elif name == "li" and not closes:
            if lists and lists[-1] >= 0:
                lists[-1] += 1
            mark = f"{lists[-1]}. " if lists and lists[-1] > 0 else "- "
            shown.append("\n" + "  " * max(0, len(lists) - 1) + mark)
        elif name == "a" and not closes:
            links.append((_value(_HREF, attributes), len(shown)))
        elif name == "a" and links:
            address, start = links.pop()
            words = "".join(shown[start:]).strip()
            if address.startswith(("http://", "https://")) and address.rstrip("/") != words.rstrip(
                "/"
            ):
                shown.append(f"（{address}）" if words else address)
        elif name == "img":
            shown.append(_value(_ALT, attributes))
        elif name in ("td", "th") and closes:
            shown.append(" | ")
        elif name in _BLOCKS and (closes or name != "tr"):
            shown.append("\n")
    shown.append(text[at:])
    joined = ENTITY.sub(_sign, _TWICE.sub("&", "".join(shown)))
    joined = re.sub(r"(?<![ \t])[ \t]*+(?:\| )?\n(?:[ \t]+(?![ ]*(?:- |\d+\. )))?", "\n", joined)
    joined = re.sub(r"\n{3,}", "\n\n", joined)
    return re.sub(r"\n\n(?=[ ]{0,9}(?:- |\d{1,4}\. ))", "\n", joined)


def without_unseen(text: str) -> str:
    """Without scripts, styles and comments that are closed."""
    folded, parts, at = text.casefold(), [], 0
    if len(folded) != len(text):
        folded = text
    for opening in _UNSEEN.finditer(text):
        if opening.start() < at:
            continue
        closing = f"</{opening[1].lower()}" if opening[1] else "-->"
        end = folded.find(closing, opening.end())
        if end < 0:
            break
        parts.append(text[at : opening.start()])
        at = folded.find(">", end) + 1 or len(text)
    return "".join([*parts, text[at:]])


def _value(pattern: re.Pattern[str], attributes: str) -> str:
    match = pattern.search(attributes)
    return html.unescape(next((group for group in match.groups() if group), "")) if match else ""


def _sign(entity: re.Match[str]) -> str:
    return html.unescape(entity.group()).replace("\xa0", " ")
