"""What a model is asked for when it makes rows, and what its answers become. The texts are files of
`assets/prompts`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlx_finetuning.data_processor.wordings.kinds import KINDS_JA, Wording
from mlx_finetuning.data_processor.wordings.made import Known
from mlx_finetuning.files import ASSETS
from mlx_finetuning.utils.text_generator import TextRequest

_TOKENS_PER_CHARACTER = 2
"""More than a Japanese character takes; small models' tokenizers cut it into bytes."""
_SHOWN_ROWS = 20
_HOW_JA = {
    "polite": "敬語で、ていねいに聞く",
    "casual": "友だちに話すように、くだけて聞く",
    "keyword": "検索するときのように、言葉を並べるだけにする",
    "asked": "別の聞き方にする",
    "recast": "名詞で聞く文を動詞で、動詞で聞く文を名詞で聞く",
    "synonym": "似た意味の言葉に替える",
    "name": "かぎかっこの中の名前だけで呼ぶ",
    "order": "言葉の順序を変える",
    "long": "事情を一言そえて、長く聞く",
    "kana": "漢字をいくつか、かなで書く",
    "typo": "打ちまちがいを1つ入れる",
}


@dataclass(frozen=True)
class Reworded:
    """A model's wordings of one question."""

    wordings: dict[str, str]
    """Kind, in Japanese, → text."""

    def as_wordings(self) -> list[Wording]:
        """Those of kinds that there are."""
        kinds = {name: kind for kind, name in KINDS_JA.items()}
        return [
            Wording(kinds[name], text.strip())
            for name, text in self.wordings.items()
            if name in kinds and text.strip()
        ]


@dataclass(frozen=True)
class Asked:
    """A question that a model made."""

    question: str


def reword(known: Known, kinds: Sequence[str], seed: int) -> TextRequest:
    """For one wording of each kind; the answer is read as `Reworded`."""
    names = [KINDS_JA[kind] for kind in kinds]
    text = _template("reword").format(
        question=known.question,
        kinds="\n".join(f"- {KINDS_JA[kind]}：{_HOW_JA[kind]}" for kind in kinds),
        example=json.dumps({"wordings": dict.fromkeys(names, "…")}, ensure_ascii=False),
    )
    length = (len(known.question) + 30) * len(kinds) * _TOKENS_PER_CHARACTER
    wordings = {name: _string(3 * len(known.question) + 60) for name in names}
    return TextRequest(
        ({"role": "user", "content": text},),
        max_tokens=min(length, 1024),
        temperature=0.7,
        seed=seed,
        schema=_object({"wordings": _object(wordings)}),
    )


def near_miss(known: Known, others: Sequence[Known], seed: int) -> TextRequest:
    """For one question that the rows do not answer, those nearest first; the answer is read as `Asked`."""
    shown = "\n".join(f"- {one.question} → {one.answer}" for one in others[:_SHOWN_ROWS])
    text = _template("near_miss").format(question=known.question, known=shown)
    return TextRequest(
        ({"role": "user", "content": text},),
        max_tokens=min((len(known.question) + 40) * _TOKENS_PER_CHARACTER, 256),
        temperature=0.8,
        seed=seed,
        schema=_object({"question": _string(2 * len(known.question) + 60)}),
    )


def same_answer(known: Known, wording: str) -> TextRequest:
    """What a model answers to a wording when it is shown the question and its answer."""
    text = _template("same_answer").format(
        question=known.question, answer=known.answer, wording=wording
    )
    return TextRequest(
        ({"role": "user", "content": text},),
        max_tokens=min((len(known.answer) + 20) * _TOKENS_PER_CHARACTER, 512),
    )


def _template(name: str) -> str:
    return (ASSETS / "prompts" / f"{name}.txt").read_text(encoding="utf-8")


def _object(properties: Mapping[str, object]) -> Mapping[str, object]:
    return {
        "type": "object",
        "properties": properties,
        "required": [*properties],
        "additionalProperties": False,
    }


def _string(longest: int) -> Mapping[str, object]:
    return {"type": "string", "minLength": 1, "maxLength": min(longest, 500)}
