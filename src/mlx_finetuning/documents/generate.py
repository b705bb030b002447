"""Question-answer pairs of a chunk, written by a model to a JSON schema and checked one by one.

How many and of which kinds follows from what the chunk holds. Prompts are `assets/prompts/pairs_*.md`.
The same model, chunk and seed give the same pairs. What a model answers that is no JSON of the form is
asked for again, and then told as a failure of its chunk.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from string import Template

from mlx_finetuning import files
from mlx_finetuning.documents.checks import Checker, page_of
from mlx_finetuning.documents.chunks import Chunk, sentences
from mlx_finetuning.documents.pairs import ABSENT_ANSWER, KINDS_JA, Kind, Pair
from mlx_finetuning.language import _
from mlx_finetuning.utils.text_generator import TextGenerator, TextRequest, Tick, ask

PROMPTS = files.ASSETS / "prompts"
MOST_OF_A_KIND = 6
TOKENS_PER_PAIR = 320
_SENTENCES_PER_PAIR = 1.5
_ABSENT_EVERY = 3
"""One question without an answer in every so many chunks."""
_STEPS = re.compile(r"手順|方法|やり方|使い方|しかた|まず|次に|最後に|申請|届け?出")
_DEFINES = re.compile(r"とは、?|をいう[。）)]|を指す|の定義|という。")
_TWO = re.compile(
    r"一方|に対して|それぞれ|と比べ|より(?:も)?(?:高|低|多|少|長|短)|場合は.{2,60}場合は", re.DOTALL
)


@dataclass(frozen=True)
class ChunkPairs:
    """What came of one chunk; a line of the file of pairs."""

    document: str
    chunk: int
    pairs: tuple[Pair, ...]
    failures: tuple[str, ...] = ()
    """In Japanese, why there are no pairs of a kind that was asked for."""


@dataclass(frozen=True)
class _WrittenPair:
    question: str
    answer: str
    quote: str = ""


@dataclass(frozen=True)
class _WrittenPairs:
    pairs: tuple[_WrittenPair, ...] = field(default=())


def planned(chunk: Chunk, share: float = 1.0) -> dict[Kind, int]:
    """How many pairs of which kinds a chunk is asked for; `share`: of the usual number."""
    text = chunk.text
    told = len(sentences(text)) - sum(block.kind == "heading" for block in chunk.blocks)
    rows = sum(len(block.rows) - 1 for block in chunk.blocks if block.rows)
    kinds: dict[Kind, int] = {"fact": _number(told / _SENTENCES_PER_PAIR * share)}
    steps = sum(block.kind == "item" for block in chunk.blocks)
    if _STEPS.search(text) and (steps >= 2 or told >= 3):
        kinds["procedure"] = 1
    if defined := len(_DEFINES.findall(text)):
        kinds["definition"] = _number(defined * share)
    if rows >= 2 or _TWO.search(text):
        kinds["comparison"] = 1
    if chunk.number % _ABSENT_EVERY == 0:
        kinds["absent"] = 1
    return kinds


def _number(wanted: float) -> int:
    return max(1, min(MOST_OF_A_KIND, round(wanted)))


def generate(
    generator: TextGenerator,
    chunk: Chunk,
    checker: Checker,
    seed: int,
    tick: Tick,
    share: float = 1.0,
) -> ChunkPairs:
    """The pairs of a chunk, with what checking found. Raises what the generator and `tick` raise."""
    plan = planned(chunk, share)
    requests = [_request(chunk, kind, count, seed) for kind, count in plan.items()]
    answers = ask(generator, requests, _WrittenPairs, tick)
    pairs, failures = [], []
    for (kind, count), answer in zip(plan.items(), answers, strict=True):
        written = answer.value.pairs if answer.value else ()
        if not written:
            failures.append(
                _("{kind}：{problem}").format(
                    kind=_(KINDS_JA[kind]), problem=answer.problem or _("質問が1つもありません")
                )
            )
        for one in written[:count]:
            made = Pair(
                question=" ".join(one.question.split()),
                answer=one.answer.strip(),
                quote="" if kind == "absent" else one.quote.strip(),
                kind=kind,
                document=chunk.document,
                chunk=chunk.number,
                page=page_of(one.quote, chunk),
            )
            pairs.append(checker.check(made, chunk))
    return ChunkPairs(chunk.document, chunk.number, tuple(pairs), tuple(failures))


def _request(chunk: Chunk, kind: Kind, count: int, seed: int) -> TextRequest:
    asked = prompt(
        f"pairs_{kind}", document=chunk.document, text=chunk.whole, count=str(count),
        absent=ABSENT_ANSWER,
    )  # fmt: skip
    return TextRequest(
        messages=(
            {"role": "system", "content": prompt("pairs_system")},
            {"role": "user", "content": asked},
        ),
        max_tokens=TOKENS_PER_PAIR * count + 60,
        seed=seed,
        schema=schema(count),
    )


def prompt(name: str, **values: str) -> str:
    """A prompt of the package with its places filled."""
    text = (PROMPTS / f"{name}.md").read_text(encoding="utf-8")
    return Template(text).substitute(values).strip() if values else text.strip()


def schema(count: int) -> dict[str, object]:
    """Of an answer with up to so many pairs."""
    limits = {"question": 120, "answer": 240, "quote": 240}  # in characters: they fit in the tokens
    texts = {name: {"type": "string", "maxLength": most} for name, most in limits.items()}
    pair = {"type": "object", "properties": texts, "required": [*texts]}
    pairs = {"type": "array", "items": pair, "minItems": 1, "maxItems": count}
    return {"type": "object", "properties": {"pairs": pairs}, "required": ["pairs"]}
