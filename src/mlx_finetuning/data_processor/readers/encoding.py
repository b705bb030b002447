"""Bytes to text: which of the encodings Japanese files come in, judged over the whole file.

BOM, then ISO-2022-JP escapes, then strict UTF-8, then CP932 against EUC-JP by how much the result
looks like Japanese. Every reading is strict: a file is read whole and right, or not at all.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlx_finetuning.errors import EncodingMismatch, EncodingUnknown, EncodingUnsupported
from mlx_finetuning.language import _

AUTO = "auto"
CERTAIN = 0.9
"""Confidence from which the guess outweighs an override that turns the text into nonsense."""
FEW = 6
"""Non-ASCII characters below which a guess between CP932 and EUC-JP is never certain."""

_BLOCK = 1 << 22
_LOOKED_AT = 10_000
"""Characters by which a text is judged where its bytes say much already."""
_ASCII_AND_HALF_KANA = bytes([*range(0x80), *range(0xA1, 0xE0)])
_BEYOND_ALPHABETS = re.compile("[\u0800-\U0010ffff]")
_BINARY = re.compile("[\x00-\x08\x0e-\x1f\ufffe\uffff]")
_HALF_PUNCTUATION = re.compile("[｡-･]")
_UTF7_RUN = re.compile(r"\+([A-Za-z0-9+/]+)-?")
_ONLY_JAPANESE = re.compile("[\u3000-\u30ff\u4e00-\u9fff\uff00-\uffef]+")
_HALF_KANA_RUN = re.compile("[\uff61-\uff9f]{4}")

# Name → codecs tried in turn; the later ones know signs such as ① and ㈱ that the first lack.
CODECS: dict[str, tuple[str, ...]] = {
    "utf-8": ("utf-8-sig",),
    "cp932": ("cp932",),
    "euc-jp": ("euc_jp", "euc_jis_2004"),
    "iso-2022-jp": ("iso2022_jp", "iso2022_jp_ext", "iso2022_jp_2004"),
    "utf-16": ("utf-16",),
    "utf-16-le": ("utf-16-le",),
    "utf-16-be": ("utf-16-be",),
    "utf-32": ("utf-32",),
    "utf-7": ("utf-7",),
    "gb18030": ("gb18030",),
    "big5": ("big5hkscs",),
    "euc-kr": ("cp949",),
}
ALIASES = {
    "utf8": "utf-8",
    "utf-8-sig": "utf-8",
    "utf-8-bom": "utf-8",
    "shift-jis": "cp932",
    "shiftjis": "cp932",
    "sjis": "cp932",
    "ms932": "cp932",
    "windows-31j": "cp932",
    "eucjp": "euc-jp",
    "jis": "iso-2022-jp",
    "utf16": "utf-16",
    "utf32": "utf-32",
    "utf7": "utf-7",
    "gbk": "gb18030",
    "gb2312": "gb18030",
    "cp936": "gb18030",
    "cp950": "big5",
    "cp949": "euc-kr",
}
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # which begins with that of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_ESCAPE = b"\x1b"  # looked for alone first: one byte is found a hundred times faster
_ESCAPES = (b"\x1b$B", b"\x1b$@", b"\x1b(J", b"\x1b(I", b"\x1b$(")


@dataclass(frozen=True)
class Decoded:
    """A file's text and how it was read."""

    text: str
    encoding: str
    confidence: float
    """0 to 1; below 0.9 the preview deserves a look."""
    reason: str
    """Japanese, as shown to the user."""


def decode(raw: bytes, path: Path, encoding: str = AUTO) -> Decoded:
    """The text of `raw`. Raises EncodingUnsupported, EncodingMismatch, EncodingUnknown."""
    name = encoding.lower().replace("_", "-")
    name = ALIASES.get(name, name)
    if name not in (AUTO, *CODECS):
        raise EncodingUnsupported(encoding=encoding, supported=[AUTO, *CODECS])
    guess = _guess(raw)
    if name == AUTO:
        if guess is None:
            # The encoding that gets furthest is the one the file mostly is.
            line = max(_first_bad_line(raw, codec) for codec in ("utf-8", "cp932", "euc-jp"))
            raise EncodingUnknown(path=str(path), line=line)
        return guess
    text = _strict(raw, name)
    if text is None:
        line = _first_bad_line(raw, name)
    elif guess and guess.confidence >= CERTAIN and guess.text != text.lstrip("\ufeff"):
        pairs = zip(text.split("\n"), guess.text.split("\n"), strict=False)
        line = next((line for line, (ours, other) in enumerate(pairs, 1) if ours != other), 1)
    else:
        return Decoded(text, name, 1.0, _("指定された文字コードで読みました"))
    likely = guess.encoding if guess else _("判定できません")
    raise EncodingMismatch(path=str(path), encoding=name, line=line, guess=likely)


def _strict(raw: bytes, encoding: str) -> str | None:
    for codec in CODECS[encoding]:
        try:
            return raw.decode(codec)
        except UnicodeDecodeError:
            continue
    return None


def _guess(raw: bytes) -> Decoded | None:
    for bom, name in _BOMS:
        if raw.startswith(bom):
            text = _strict(raw, name)
            return (
                None if text is None else Decoded(text, name, 1.0, _("先頭のBOMから判定しました"))
            )
    if name := unmarked_utf16(raw):
        reason = _("文字の並びから、BOMのないUTF-16と判定しました")
        return Decoded(raw.decode(name), name, 0.95, reason)
    if _ESCAPE in raw and any(escape in raw for escape in _ESCAPES):
        text = _strict(raw, "iso-2022-jp")
        if text is not None:
            return Decoded(
                text, "iso-2022-jp", 0.99, _("切り替え記号（エスケープ）から判定しました")
            )
    text = _strict(raw, "utf-8")
    if text is None:
        guess = _cp932_or_euc(raw)
        return _of_neighbours(raw, guess) or guess
    if text.isascii() and is_utf7(text[:_LOOKED_AT]):
        decoded = _strict(raw, "utf-7")
        if decoded is not None:
            return Decoded(decoded, "utf-7", 0.95, _("文字の並びから、UTF-7と判定しました"))
    if not text.isascii() and not _BEYOND_ALPHABETS.search(text) and _cp932_or_euc(raw):
        # A kanji or two of EUC-JP may be sound UTF-8 for accented letters.
        return Decoded(text, "utf-8", 0.7, _("UTF-8として読めましたが、日本語の文字がありません"))
    return Decoded(text, "utf-8", 1.0, _("全体がUTF-8として正しく読めました"))


def unmarked_utf16(raw: bytes) -> str:
    """Which UTF-16 bytes without a byte order mark are; nothing for other bytes. Line ends and commas have a
    zero in one half each, always the same."""
    if b"\0" not in raw or len(raw) % 2:
        return ""
    first, second = raw[::2].count(0), raw[1::2].count(0)
    name = "utf-16-le" if second > first else "utf-16-be"
    if max(first, second) < 3 * min(first, second):
        return ""
    text = _strict(raw, name)
    if text is None or _BINARY.search(text):
        return ""
    start = text[:_LOOKED_AT]
    is_ascii = sum(character < "\x80" for character in start) * 2 > len(start)
    return name if is_ascii or japanese_score(start) > 0.3 else ""


def is_utf7(text: str) -> bool:
    """Whether nearly all runs that UTF-7 would write Japanese in are Japanese in it."""
    runs = [run for run in _UTF7_RUN.findall(text) if len(run) > 3]
    decoded = [f"+{run}-".encode().decode("utf-7", "replace") for run in runs]
    japanese = sum(_ONLY_JAPANESE.fullmatch(each) is not None for each in decoded)
    return japanese > 2 and japanese > 0.9 * len(runs)


def _of_neighbours(raw: bytes, japanese: Decoded | None) -> Decoded | None:
    """Chinese or Korean, of which most bytes are sound in the encodings of Japanese, too: known by the lack
    of kana there, and by what these languages write most."""
    if japanese is not None:
        sample = _beyond_ascii(japanese.text)
        if len(sample) < _FEW_WRITTEN or len(_KANA.findall(sample)) > 0.05 * len(sample):
            return None
    for name, often in _OFTEN.items():
        text = _strict(raw, name)
        written = "" if text is None else _beyond_ascii(text)
        if text is not None and len(often.findall(written)) > 0.2 * max(len(written), _FEW_WRITTEN):
            return Decoded(text, name, 0.8, _("仮名がなく、中国語か韓国語のようです"))
    return None


def _beyond_ascii(text: str) -> str:
    return "".join(character for character in text[:_LOOKED_AT] if character > "\x7f")


_FEW_WRITTEN = 20
"""Characters of text below which nobody can say."""
_KANA = re.compile("[ぁ-ヿ]")
_OFTEN = {
    "euc-kr": re.compile("[이가는을를은다에의요지하고니까습세기어로서도]"),
    "gb18030": re.compile("[的一是了我不在有您请可以吗怎么什个这们人时要来到说为和能会后过天点们]"),
    "big5": re.compile("[的一是了我不在有您請可以嗎怎麼什個這們人時要來到說為和能會後過天點]"),
}
"""Characters that make up a fifth of what is written in a language and more."""


def _cp932_or_euc(raw: bytes) -> Decoded | None:
    decoded = {name: _strict(raw, name) for name in ("cp932", "euc-jp")}
    texts = {name: text for name, text in decoded.items() if text is not None}
    if not texts:
        return None
    if not raw.translate(None, _ASCII_AND_HALF_KANA):
        return _half_kana_or_euc(texts)
    scores = {name: _SCORES[name](text) for name, text in texts.items()}
    best, *others = sorted(scores, key=lambda name: scores[name], reverse=True)
    if others:
        confidence = min(0.99, 0.5 + (scores[best] - scores[others[0]]) / 2)
        reason = _("日本語らしさが {others} より高いためです").format(others=others[0])
    else:
        # Only one could read the file, which is certain unless the text is strange.
        confidence = 0.99 if scores[best] > 0.3 else 0.6
        reason = _("{best}としてだけ読めました").format(best=best)
    if sum(character > "\x7f" for character in texts[best][:1000]) < FEW:
        confidence = min(confidence, 0.7)
    return Decoded(texts[best], best, round(confidence, 2), reason)


def _half_kana_or_euc(texts: Mapping[str, str]) -> Decoded:
    """For bytes that may all be half-width kana of CP932: what is likelier, never certain.

    Kana alone are what banks and tills write. Bytes below A6 would be punctuation among them, and
    are what every kana, digit and sign of EUC-JP begins with.
    """
    kana = "".join(character for character in texts.get("cp932", "") if character > "\x7f")
    is_kana = bool(kana) and _HALF_PUNCTUATION.search(kana) is None
    is_euc = "euc-jp" in texts and not is_kana and _euc_score(texts["euc-jp"]) > 0.59
    name = "euc-jp" if is_euc else "cp932"
    return Decoded(texts[name], name, 0.6, _("半角カナとも、EUC-JPの漢字とも読めます"))


def _euc_score(text: str) -> float:
    """Half-width kana cost EUC-JP a byte of their own, so several in a row are meant."""
    return japanese_score(text, half_kana=0.9 if _HALF_KANA_RUN.search(text) else 0.5)


def japanese_score(text: str, half_kana: float = -0.6) -> float:
    """How much the non-ASCII part of `text` looks like written Japanese: about -1 to 1.

    `half_kana` is the weight of half-width kana; EUC-JP read as CP932 is full of them.
    """
    # How often each UTF-16 unit occurs; a hundred million characters take a second.
    counts = np.zeros(1 << 16, np.int64)
    for start in range(0, len(text), _BLOCK):
        units = text[start : start + _BLOCK].encode("utf-16-le", "surrogatepass")
        counts += np.bincount(np.frombuffer(units, np.uint16), minlength=1 << 16)
    codes = np.flatnonzero(counts[0x80:]) + 0x80
    total = weight = 0.0
    for code, count in zip(codes.tolist(), counts[codes].tolist(), strict=True):
        is_half = 0xFF61 <= code <= 0xFF9F
        total += (half_kana if is_half else _plausibility(chr(code))) * count
        weight += count
    return total / weight if weight else 0.0


def _plausibility(character: str) -> float:
    """How likely the character is in Japanese text: -1 to 1."""
    if "ぁ" <= character <= "ん" or character in "、。ー":
        return 1.0
    if "ァ" <= character <= "ヶ" or "０" <= character <= "ｚ" or character in "「」・（）！？　～":
        return 0.8
    if "\ue000" <= character <= "\uf8ff" or character < "\xa0":
        return -1.0
    if "一" <= character <= "鿿":
        # JIS level 1, the kanji in everyday use: first byte 0x88 to 0x98 under CP932.
        first = character.encode("cp932", "replace")[0]
        return 0.6 if 0x88 <= first <= 0x98 else -0.5
    return 0.0


def _first_bad_line(raw: bytes, encoding: str) -> int:
    """The line that stops the strict reading; for UTF-16 the count is of bytes 0A, near enough."""
    try:
        raw.decode(CODECS[encoding][-1])
    except UnicodeDecodeError as error:
        return raw.count(b"\n", 0, error.start) + 1
    return 1


_SCORES: dict[str, Callable[[str], float]] = {"cp932": japanese_score, "euc-jp": _euc_score}
