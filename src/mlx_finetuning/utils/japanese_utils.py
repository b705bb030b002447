"""Small pure functions on Japanese text: keys for comparison, similarity of answers, width of
characters, mojibake, other languages.

Comparison keys are for comparing only; training text is never rewritten with them (NFKC turns
① into 1 and ㈱ into (株)). Does not tokenise and needs no dictionary.
"""

from __future__ import annotations

import codecs
import contextlib
import re
import unicodedata
from collections import Counter

from mlx_finetuning.language import N_

# NFKC leaves these apart although CP932 converters write either one for the same key press.
_SAME_SIGN = {"〜": "~", "−": "-", "‐": "-", "‑": "-", "–": "-"}
_SIGNS = re.compile("[〜−‐‑–]")  # str.translate would take twenty times as long
TRAILING = " 。．.、,!?…"
"""Signs at the end that make no difference."""

_BROKEN = re.compile(
    "[\ufffd\ud800-\udfff]|ï¿½|锟斤拷|烫烫烫|〓〓|ðŸ|â€[™œ\x9d˜¦]"  # an emoji, quotes
)  # half a pair: a cut escape in JSON
# Every second or third sign, where kana were: UTF-8 as CP932, EUC-JP as CP932, UTF-8 as GBK, CP932 as GBK.
_MARKS = (
    re.compile("[縺繧繝]"),
    re.compile("[､･]"),
    re.compile("[銇銈銉]"),
    re.compile("[偺偼偱偡傪偟偨傞]"),
)
# Runs of what Western code pages make of bytes, with the ASCII between.
_WESTERN = re.compile("[\x00-\xffŒœŠšŽžŸƒˆ˜–—‘’‚“”„†‡•…‰‹›€™√≈Ω∆∞≠≤≥∂∑∏π∫◊ﬁﬂıˇ˘˙˝˛¸]+")
_HIGH = re.compile("[^\x00-\x7f]")
_KANA_READ = re.compile("[ぁ-ヶ]")
_C1 = re.compile("[\x80-\x9f]")
_JAPANESE = re.compile("[ぁ-ヿ一-鿿]")
_HIRAGANA = re.compile("[ぁ-ゖ]")
_LEAST_HIGH = 3
"""Letters beyond ASCII of which a misread text has at least so many."""
# How it was read, what it is, and what its undoing must give. No Western text becomes kana by chance.
_WESTERN_MISREADINGS = (
    ("cp1252", "utf-8", _JAPANESE),
    ("mac_roman", "utf-8", _KANA_READ),
    ("cp1252", "cp932", _KANA_READ),
    ("mac_roman", "cp932", _KANA_READ),
    ("cp1252", "euc_jp", _KANA_READ),
)
# Of DOS and Cyrillic code pages, which no Western text mixes in: frames, Greek and Cyrillic letters.
_OTHER_LETTERS = "Ā-ſΓΘΣΦΩαδεπστφ⌐ⁿ₧⌠⌡∙∩≡№‗ЁЂ-џҐґА-я─-▟■"
_OTHER = re.compile(f"[{_OTHER_LETTERS}]")
_OTHER_RUN = re.compile(_WESTERN.pattern.replace("]+", f"{_OTHER_LETTERS}]+"))
_OTHER_MISREADINGS = tuple(
    (wrong, right, japanese)
    for right, japanese, pages in (
        ("utf-8", _KANA_READ, "cp437 cp850 cp852 cp855 cp866 cp1251 koi8_r iso8859_5 mac_cyrillic"),
        ("cp932", _KANA_READ, "cp437 cp850 cp1251"),
        ("euc_jp", _HIRAGANA, "cp437 cp850 cp1251"),  # katakana begin as Ґ does
    )
    for wrong in pages.split()
)
_JIS = re.compile(
    r"\x1b?\$[B@](?:[!-~]{2}){2,40}\x1b?\([BJ]"
)  # ISO-2022-JP whose escapes were lost
_QUOTED = re.compile(r"(?:=[0-9A-F]{2}){6,}")  # a mail's quoted-printable
_QUESTION_MARKS = re.compile(r"\?{2,}")


def kept_byte(error: UnicodeError) -> tuple[bytes, int]:
    """Of a letter that a code page lacks, the byte that browsers and Latin-1 take it for."""
    if isinstance(error, UnicodeEncodeError) and all(
        ord(sign) < 256 for sign in error.object[error.start : error.end]
    ):
        return error.object[error.start : error.end].encode("latin-1"), error.end
    raise error


_KEEP_BYTE = "mlx_finetuning.kept_byte"
codecs.register_error(_KEEP_BYTE, kept_byte)

MIN_FOREIGN_LETTERS = 5

_HALF_KANA_RUN = re.compile("[\uff61-\uff9f]+")
_FULL_ALNUM = re.compile("[０-９Ａ-Ｚａ-ｚ]+")
_FULL_LETTER, _ASCII_LETTER = re.compile("[Ａ-Ｚａ-ｚ]"), re.compile("[A-Za-z]")
_FULL_DIGIT, _ASCII_DIGIT = re.compile("[０-９]"), re.compile("[0-9]")
_KANA = re.compile("[ぁ-ゖァ-ヺ\uff66-\uff9d]")
_KANJI = re.compile("[㐀-䶿一-鿿]")
_LATIN_WORD = re.compile("[A-Za-z\u00c0-\u024f']{2,}")
_CODE_SIGN = re.compile(r"[{}()\[\]<>=;_\\|$#/]")
_SCRIPTS = (
    (N_("韓国語"), re.compile("[가-힣]")),
    (N_("ロシア語など"), re.compile("[\u0400-\u04ff]")),
    (N_("アラビア語など"), re.compile("[\u0600-\u06ff]")),
    (N_("タイ語"), re.compile("[\u0e01-\u0e5b]")),
    (N_("ヒンディー語など"), re.compile("[\u0900-\u097f]")),
    (N_("ギリシャ語"), re.compile("[\u0370-\u03ff]")),
    (N_("ヘブライ語"), re.compile("[\u05d0-\u05ea]")),
)
# Everyday signs of Chinese, simplified and traditional, that modern Japanese does not use.
_CHINESE = re.compile(
    "[这们吗么说没还对时为个过问让给谁东车书长门见马鸟语话请谢难电发经现应该样从关开进动实产业"
    "這們嗎麼說沒還對來會讓應樣從點您你她它呢吧啊]"
)


def normalised(text: str) -> str:
    """`text` under NFKC, with equal-looking signs made equal and runs of whitespace as one space."""
    return with_same_signs(" ".join(unicodedata.normalize("NFKC", text).split()))


def with_same_signs(text: str) -> str:
    """Signs that look equal as one."""
    return _SIGNS.sub(lambda sign: _SAME_SIGN[sign.group()], text)


def comparison_key(text: str) -> str:
    """`normalised`, without case and trailing punctuation: equal for rows that say the same words."""
    return normalised(text).casefold().rstrip(TRAILING)


def exact_match(answer: str, expected: str) -> bool:
    """Whether both are the same characters after NFKC and whitespace folding."""
    return normalised(answer) == normalised(expected)


def contains(answer: str, expected: str) -> bool:
    """Whether `expected`, not empty, occurs in `answer` after NFKC and whitespace folding."""
    wanted = comparison_key(expected)
    return bool(wanted) and wanted in comparison_key(answer)


def chrf(answer: str, expected: str, order: int = 6, beta: float = 2.0) -> float:
    """chrF of Popović (2015), 0 to 1: F-score of character n-grams up to `order`, without spaces.

    The same number as sacrebleu's sentence chrF2, divided by 100.
    """
    ours, theirs = "".join(answer.split()), "".join(expected.split())
    precisions, recalls = [], []
    for size in range(1, min(order, len(ours), len(theirs)) + 1):
        left, right = _ngrams(ours, size), _ngrams(theirs, size)
        shared = (left & right).total()
        precisions.append(shared / left.total())
        recalls.append(shared / right.total())
    if not precisions:
        return 0.0
    precision, recall = sum(precisions) / len(precisions), sum(recalls) / len(recalls)
    weight = beta * beta
    below = weight * precision + recall
    return (1 + weight) * precision * recall / below if below else 0.0


def _ngrams(text: str, size: int) -> Counter[str]:
    return Counter(text[start : start + size] for start in range(len(text) - size + 1))


def rouge_l(answer: str, expected: str) -> float:
    """ROUGE-L over characters, 0 to 1: F1 of the longest common subsequence after NFKC.

    Word-based ROUGE gives 0 on identical Japanese, which has no spaces to split at.
    """
    ours, theirs = (normalised(text).replace(" ", "") for text in (answer, expected))
    if not ours or not theirs:
        return 0.0
    return 2 * _common_subsequence(ours, theirs) / (len(ours) + len(theirs))


def _common_subsequence(left: str, right: str) -> int:
    """Its length, with one bit per character of `left` (Hyyrö 2004): a few steps per character."""
    positions: dict[str, int] = {}
    for index, character in enumerate(left):
        positions[character] = positions.get(character, 0) | 1 << index
    everything = (1 << len(left)) - 1
    row = everything
    for character in right:
        matches = row & positions.get(character, 0)
        row = (row + matches | row - matches) & everything
    return len(left) - row.bit_count()


_BARE_JIS = re.compile(r"(?:\$[!-s]){3,}(?:[!-~]{2})*")
_HIRAGANA_LETTER = re.compile("[ぁ-ん]")


def is_suspect(character: str) -> bool:
    """Whether texts that are read in a wrong encoding hold such characters."""
    return (
        "\x80" <= character <= "\xff"
        or "\ud800" <= character <= "\udfff"
        or "\uff61" <= character <= "\uff9f"
        or _OTHER.match(character) is not None
        or character in "\ufffd縺繧繝銇銈銉偺偼偱偡锟烫〓ŒœŠšŽžŸƒ‚„†‡‰‹›√≈∆?$=\x1b"
    )


def is_mojibake(text: str) -> bool:
    """Whether `text` shows the marks of bytes read in the wrong encoding.

    Replacement characters and broken pairs; question marks in place of letters; many of the signs that kana
    become under CP932 or GBK; or text that turns into Japanese when the reading is undone.
    """
    if text.isascii():
        return _lost_letters(text)
    marks = max(len(sign.findall(text)) for sign in _MARKS)
    if _BROKEN.search(text) or (marks > 2 and marks * 8 >= len(text)) or _lost_letters(text):
        return True
    for wrong, right, japanese in (("cp932", "utf-8", _JAPANESE), ("cp932", "euc_jp", _HIRAGANA)):
        # Half-width kana can pass for EUC-JP kanji, but never for hiragana.
        with contextlib.suppress(UnicodeError):
            if japanese.search(text.encode(wrong).decode(right)):
                return True
    if _OTHER.search(text) and any(
        _is_misreading(run, _OTHER_MISREADINGS) for run in _OTHER_RUN.findall(text)
    ):
        return True
    return any(_is_misreading(run, _WESTERN_MISREADINGS) for run in _WESTERN.findall(text))


def _is_misreading(run: str, misreadings: tuple[tuple[str, str, re.Pattern[str]], ...]) -> bool:
    """Whether a run of foreign letters is Japanese under another code page."""
    high = len(_HIGH.findall(run))
    if high < _LEAST_HIGH or high * 4 < len(run):
        return False
    for wrong, right, japanese in misreadings:
        with contextlib.suppress(UnicodeError):
            raw = run.encode(wrong, _KEEP_BYTE)
            # A cut or damaged text has bytes of half a letter.
            undone = raw.decode(right, "replace")
            if undone.count("\ufffd") * 4 > len(undone):
                continue
            if len(japanese.findall(undone)) >= 2 or (
                right == "utf-8" and "\ufffd" not in undone and japanese.search(undone)
            ):
                return True
            # Read twice in the wrong way.
            again = undone.encode("cp1252", _KEEP_BYTE) if right == "utf-8" else b""
            if _JAPANESE.search(again.decode("utf-8", "ignore")):
                return True
    # Kanji alone: no Western text has these controls.
    with contextlib.suppress(UnicodeError):
        undone = run.encode("latin-1").decode("cp932")
        return len(_C1.findall(run)) >= 2 and len(_JAPANESE.findall(undone)) * 2 >= len(undone)
    return False


def _lost_letters(text: str) -> bool:
    """Whether question marks or bytes in writing stand where letters were."""
    if _JIS.search(text) or any(map(_is_bare_jis, _BARE_JIS.findall(text))):
        return True
    quoted = _QUOTED.search(text)
    if quoted:
        raw = bytes.fromhex(quoted.group().replace("=", ""))
        if _JAPANESE.search(raw.decode("utf-8", "ignore")):
            return True
    runs = _QUESTION_MARKS.findall(text)
    lost = sum(map(len, runs))
    written = len(text.strip())
    if lost < 3 or lost * 5 < written * 2:
        return False
    return text.lstrip().startswith("??") or len(runs) > 1


def _is_bare_jis(run: str) -> bool:
    """Whether a run of ASCII is hiragana of ISO-2022-JP that lost its escapes ($3$l$O)."""
    text = run[: len(run) // 2 * 2]
    with contextlib.suppress(UnicodeError):
        undone = f"\x1b$B{text}\x1b(B".encode("ascii").decode("iso2022_jp")
        return len(_HIRAGANA_LETTER.findall(undone)) * 2 >= len(undone)
    return False


def to_fullwidth_kana(text: str) -> str:
    """Half-width kana (ｶﾞ) as ordinary ones (ガ); nothing else changes."""
    return _HALF_KANA_RUN.sub(lambda run: unicodedata.normalize("NFKC", run.group()), text)


def to_halfwidth_alnum(text: str) -> str:
    """Full-width letters and digits (Ａ１) as ASCII (A1); signs such as ～ and ％ stay."""
    return _FULL_ALNUM.sub(lambda run: unicodedata.normalize("NFKC", run.group()), text)


def has_mixed_width(text: str) -> bool:
    """Whether `text` writes letters, or digits, both full-width and half-width."""
    pairs = ((_FULL_LETTER, _ASCII_LETTER), (_FULL_DIGIT, _ASCII_DIGIT))
    return any(full.search(text) and half.search(text) for full, half in pairs)


def foreign_language(text: str) -> str:
    """The language (in Japanese; shown with `_`) of a text that holds no Japanese, or nothing.

    Judged by script: 「英語など」 stands for the Latin ones. Short texts, code, names and addresses
    get no verdict.
    """
    if _KANA.search(text):
        return ""
    for name, pattern in _SCRIPTS:
        if len(pattern.findall(text)) >= MIN_FOREIGN_LETTERS:
            return name
    kanji = len(_KANJI.findall(text))
    if kanji:
        # Signs that Japanese never uses, or lacks in JIS.
        is_chinese = kanji >= 8 and len(_CHINESE.findall(text)) * 20 >= kanji
        return N_("中国語") if is_chinese else ""
    code = len(_CODE_SIGN.findall(text))
    letters = sum(map(len, words := _LATIN_WORD.findall(text)))
    is_prose = len(words) >= 4 and letters >= 15 and code * 20 < len(text)
    return N_("英語など") if is_prose else ""
