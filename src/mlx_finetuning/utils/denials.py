"""Whether one Japanese text denies what another says: 「できます」 against 「できません」.

Predicates are told by their kanji and a few set phrases, without a dictionary: what is denied in other
words (休み for 受け付けません) is not seen. A contradiction is only named where the clause of the source that
is about the same things says the opposite, and nothing in it could mean an exception.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mlx_finetuning.utils import facts
from mlx_finetuning.utils.japanese_utils import normalised

_NOT = r"(?:ません|ない|なかった|ぬ(?=[。、])|ず(?=[、。に]))"
_END = r"(?=(?:でした|です|こと|もの|と(?:する|します))?(?:が|ので|から)?(?:[、。)」]|$))"
"""Of a predicate that states something: 「届け出ないと」 does not."""
_ALIKE = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        # Two denials, or none: what must be done, may be so, is only so.
        (rf"な(?:ければ|くては|いと)(?:なり|なら|いけ){_NOT}|ざるを得(?:{_NOT}|ず)", "必要です"),
        (rf"かもしれ{_NOT}|に(?:過ぎ|すぎ){_NOT}|に(?:違い|ちがい){_NOT}", ""),
        (rf"しか([^、。]*?){_NOT}", r"だけ\1ます"),
        (r"なくても?(?:よい|いい|良い|構|かま)[いわ]?(?:ません|ない)?", "不要です"),
        (rf"必要[はが]?(?:あり{_NOT}|ない)|不要|(?:要|い)り{_NOT}|要しない", "不要です"),
        (r"[てで]も(?:よい|いい|良い|(?:構|かま)[いわ](?:ません|ない))", "できます"),
        (rf"[てで]は(?:なり|なら|いけ){_NOT}|ないで(?:ください|下さい)", "できません"),
        (rf"禁止|禁じ|禁ずる|不可能?|お断り|遠慮(?:ください|下さい|願|いただ)|(?:認め|許可[しさ]|許[さし])(?:られ|れ)?(?:て?い)?{_NOT}", "できません"),
        (r"可能|認め(?:られ)?(?:る|ます)|許可(?:する|します|される|されます)", "できます"),
    )
)  # fmt: skip
_CONTRAST = re.compile(r"[。\n!?！？]|が、|ものの、|けれども?、|一方で?、|ただし、?")
_DENIED = (
    ("でき", re.compile(rf"でき(?:て?い)?{_NOT}")),
    ("必要", re.compile("不要")),
    ("対象", re.compile("対象外|対象とし(?:ない|ません)|対象では?(?:ない|ありません)")),
    ("有料", re.compile("無料|無償")),
)
_SAID = {
    "でき": re.compile("でき|使え|可(?![一-鿿])"),
    "必要": re.compile("必要|要する"),
    "有料": re.compile("有料|有償"),
}
_DENIED_VERB = re.compile(
    rf"([一-鿿々]+(?:[けりいきしみびちえせげめべれ][一-鿿々]+)?)(?:(?![はがをもにと])[ぁ-ゖ]){{0,4}}?{_NOT}{_END}"
)
_CONDITION = r"場合|とき|ば(?=、|[一-鿿])|たら|なら|ないと|以外|限り"
_DENIES_IF = re.compile(_CONDITION)
_EXCEPTION = re.compile(
    rf"{_CONDITION}|{_NOT}|不|無|外|休|禁|除|廃|停止|中止|なし|のみ|だけ|限[りっる]"
)
"""What may turn a statement into its opposite, or bind it to a condition."""
_KANA = re.compile("[ぁ-ゖ]+")


def contradiction(answer: str, question: str, source: str) -> str | None:
    """The clause of `source` that `answer`, given to `question`, says the opposite of, if there is one."""
    parts = list(_clauses(source))
    for clause in _clauses(answer):
        about = facts.terms(f"{question} {clause}")
        scores = [sum(term in part for term in about) for part in parts]
        best = max(scores, default=0)
        nearest = [part for part, score in zip(parts, scores, strict=True) if score == best > 0]
        if nearest and all(_opposite(clause, part) for part in nearest):
            return nearest[0].strip()
    return None


def _clauses(text: str) -> Iterator[str]:
    plain = normalised(text)
    for pattern, replacement in _ALIKE:
        plain = pattern.sub(replacement, plain)
    return filter(str.strip, _CONTRAST.split(plain))


def _opposite(one: str, other: str) -> bool:
    """Whether exactly one of two clauses denies what both speak of."""
    return any(
        _says(said, concept)
        for denying, said in ((one, other), (other, one))
        for concept in _denied(denying)
    )


def _denied(clause: str) -> set[str]:
    """What a clause denies without a condition: set phrases by their word, verbs by their kanji."""
    if _DENIES_IF.search(clause):
        return set()
    found = {word for word, pattern in _DENIED if pattern.search(clause)}
    return found | {_KANA.sub("", verb) for verb in _DENIED_VERB.findall(clause)}


def _says(clause: str, concept: str) -> bool:
    """Whether a clause affirms it, without exception or condition."""
    if _EXCEPTION.search(clause):
        return False
    pattern = _SAID.get(concept)
    return bool(pattern.search(clause)) if pattern else concept in _KANA.sub("", clause)
