"""Replay: what the base says by itself is learned beside the user's rows, so that it is not forgotten.

The base makes up questions (sampled in its template's empty user turn) and answers them, as in
Magpie (Xu et al. 2024) and self-synthesized rehearsal (Huang et al. 2024): no outside data is needed.
Learned are its probabilities over the whole vocabulary before each token of the answers, as in
Learning without Forgetting (Li and Hoiem 2016). The frozen head makes them of the base's last hidden
states, which take little room. Where the head is trained, the tokens themselves are learned.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from mlx_finetuning import files
from mlx_finetuning.config import TrainConfig
from mlx_finetuning.language import N_, _
from mlx_finetuning.mlx_trainer.batches.batches import BatchLayout
from mlx_finetuning.mlx_trainer.batches.examples import Example, shortened
from mlx_finetuning.mlx_trainer.gradient import loss, objectives, preference
from mlx_finetuning.mlx_trainer.inference import batch_generate
from mlx_finetuning.mlx_trainer.model import split_head
from mlx_finetuning.mlx_trainer.model.load import LoadedModel
from mlx_finetuning.progress import Progress, Step
from mlx_finetuning.tokenization.rows import Row
from mlx_finetuning.utils import fingerprint

STAGE = N_("ベースモデルに自分で質問を作らせ、答えさせています")
VERSION = 1
"""Of how questions and answers are made: another one makes them anew."""
SEED = 42
"""Not the run's: what a base says belongs to the base, and is made once for all runs."""
SAMPLED = 96
"""Questions sampled from the empty turn, and as many from openings."""
KEPT = 128
"""Questions that are answered at most."""
LEAST = 16
"""Fewer than this are no picture of a base."""
QUESTION_TOKENS = ANSWER_TOKENS = 48
"""Longer questions are left out; of answers the beginning is enough."""
SHORTEST_CONTEXT = 512
"""Tokens that template, question and answer have room in, whatever the template."""
AT_ONCE = 96
"""Prompts in a batch."""
TIMED = 4
"""Tokens whose time tells an estimate how long the base will speak."""
NARROWEST = 512
"""Width of the hidden states below which a model knows too little for what replay costs, unless it is
asked for: tiny-ja has 256, and a third of its 58 answers to lose; SmolLM2-135M 576 (docs/decisions.md)."""
OPENINGS = {
    "[A-Za-z]": ("What", "Who", "Where", "When", "Why", "How", "Which", "Is"),
    "[ぁ-ヿ]": (
        "日本の",
        "世界で",
        "なぜ",
        "どうして",
        "どうすれば",
        "一番",
        "人は",
        "昔",
    ),
}
"""Beginnings of questions by the letters of a language: the empty turn leads to long requests, and
seldom to plain questions."""
_PLACE = "MLXFT"
"""Stands for a question where the template's beginning of a user turn is looked for."""


@dataclass(frozen=True)
class SelfAnswer:
    """A question that the base made up and the beginning of its answer: a line of `replay.jsonl`."""

    question: str
    answer: str
    tokens: list[int]
    """Of both, in the template."""
    prompt: int
    """How many of them lead to the answer."""

    def example(self, limit: int) -> Example:
        """Its answer is to be learned, as far as `limit` tokens go."""
        learned = [at >= self.prompt for at in range(len(self.tokens))]
        return shortened(Example(self.tokens, learned, row=0), limit)


@dataclass(frozen=True)
class Replay:
    """What a run replays."""

    examples: tuple[Example, ...] = ()
    reason_ja: str = ""
    """Why nothing is replayed, where it was not turned off."""


def prepare(
    loaded: LoadedModel,
    rows: Sequence[Row],
    config: TrainConfig,
    cache: Path,
    record: Path | None,
    progress: Progress,
) -> Replay:
    """What a run on `rows` replays. To be asked for before an adapter is attached to the model.

    cache: folder with what each base has said already. record: the file of the run that keeps what
    it replays; what is in it counts. Raises DiskFull, and what `progress` raises.
    """
    if config.replay == 0:
        return Replay()
    if reason := _hindrance(loaded, rows, config):
        return Replay(reason_ja=reason)
    if record is None or not record.is_file():
        known = cache / f"{base_of(loaded)}.jsonl"
        if not known.is_file():
            _write(known, _self_answers(loaded, progress))
        said = list(files.read_records(known, SelfAnswer))
        if record is not None:
            _write(record, said)
    else:
        said = list(files.read_records(record, SelfAnswer))
    if len(said) < LEAST:
        return Replay(reason_ja=_("ベースモデルが、自分で質問を作れませんでした。"))
    limit = min(config.max_length, loaded.context_length)
    examples = (one.example(limit) for one in said)
    return Replay(tuple(example for example in examples if example.targets))


def rehearse(
    loaded: LoadedModel, rows: Sequence[Row], config: TrainConfig, cache: Path, progress: Progress
) -> tuple[Replay, float]:
    """What an estimate replays, and the seconds that the run will take to have it said first.

    A base that was never asked is not asked now, which takes minutes on a CPU: some of what it says
    is timed, and examples of that size stand in. On a graphics processor, where a step takes as long for few
    as for many, they are as many as the run's.
    """
    known = cache / f"{base_of(loaded)}.jsonl"
    if config.replay == 0 or _hindrance(loaded, rows, config) or known.is_file():
        return prepare(loaded, rows, config, cache, None, progress), 0.0
    at_once = AT_ONCE if mx.default_device() == mx.gpu else LEAST
    prompt = loaded.render([{"role": "user", "content": OPENINGS["[A-Za-z]"][0]}], ask=True)
    timed: list[float] = []
    for tokens in (1, 1, 1 + TIMED):  # the first one compiles
        progress(Step(_(STAGE), len(timed), 3))
        began_s = time.monotonic()
        said = batch_generate.continuations(loaded, [prompt] * at_once, tokens, at_once, set())
        timed.append(time.monotonic() - began_s)
    read_s, step_s = timed[1], max(timed[2] - timed[1], 0.0) / TIMED
    texts = 2 * SAMPLED + KEPT
    asked_s = texts / at_once * (read_s + ANSWER_TOKENS * step_s)
    # Behind it the untrained model reads each question and answer once more.
    asked_s += KEPT / at_once * read_s * (len(prompt) + ANSWER_TOKENS) / len(prompt)
    padded = (said[0] * ANSWER_TOKENS)[:ANSWER_TOKENS]
    stand_in = SelfAnswer("", "", prompt + padded, len(prompt))
    limit = min(config.max_length, loaded.context_length)
    return Replay((stand_in.example(limit),) * LEAST), asked_s


def _hindrance(loaded: LoadedModel, rows: Sequence[Row], config: TrainConfig) -> str:
    """Why the run cannot replay anything, or should not; empty if it can."""
    if objectives.objective_for(config, rows).is_per_item:
        return _("好みの比較の学習では、しません。")
    if any("text" in row for row in rows):
        return _("文章の続きを学習するときは、しません。")
    if loaded.chat.template is None:
        return _("ベースモデルに会話の書式がありません。")
    if loaded.context_length < SHORTEST_CONTEXT:
        return _("ベースモデルが読める長さが短すぎます。")
    width = int(loaded.config.get("hidden_size") or 0)
    if config.replay < 0 and width < NARROWEST:
        return _("ベースモデルが小さく、忘れて困る知識がほとんどありません。")
    return ""


def base_of(loaded: LoadedModel) -> str:
    """What tells a base and its template from others, and ways to ask it."""
    template = loaded.chat.template.text if loaded.chat.template else ""
    digest = hashlib.sha256(f"{VERSION} {mx.default_device()} {template}".encode())
    for chunk in fingerprint.of_weights(loaded.folder) if loaded.folder else ():
        digest.update(chunk)
    return digest.hexdigest()[:16]


def _write(path: Path, said: Sequence[SelfAnswer]) -> None:
    lines = [json.dumps(dataclasses.asdict(one), ensure_ascii=False) for one in said]
    files.write_text(path, "".join(f"{line}\n" for line in lines))


# --- what the base says ------------------------------------------------------------------


def _self_answers(loaded: LoadedModel, progress: Progress) -> list[SelfAnswer]:
    """Up to `KEPT` questions with answers; always the same on the same device."""
    mx.random.seed(SEED)
    freely = _questions(loaded, [""] * SAMPLED, 0, progress)
    told = [text for text in freely if text]
    openings = [
        text
        for letters, texts in OPENINGS.items()
        if 5 * sum(bool(re.search(letters, question)) for question in told) > len(told)
        for text in texts
    ]
    begun = [openings[at % len(openings)] for at in range(SAMPLED)] if openings else []
    # In turn, so that both kinds are left where there are too many.
    pairs = zip(freely, _questions(loaded, begun, SAMPLED, progress) or freely, strict=True)
    questions = _distinct([question for pair in pairs for question in pair if question])[:KEPT]
    prompts = [loaded.render([{"role": "user", "content": text}], ask=True) for text in questions]
    answers = batch_generate.continuations(
        loaded,
        prompts,
        ANSWER_TOKENS,
        AT_ONCE,
        set(loaded.tokenizer.eos_token_ids),
        finished=lambda count: progress(Step(_(STAGE), 2 * SAMPLED + count, 2 * SAMPLED + KEPT)),
    )
    return [
        SelfAnswer(question, loaded.tokenizer.decode(answer), prompt + answer, len(prompt))
        for question, prompt, answer in zip(questions, prompts, answers, strict=True)
    ]


def _questions(
    loaded: LoadedModel, openings: Sequence[str], before: int, progress: Progress
) -> list[str]:
    """What the base goes on with as the user, from each opening; "" where that is no usable turn."""
    whole = loaded.chat.render_text([{"role": "user", "content": _PLACE}], ask=True)
    begun, __, behind = whole.rpartition(_PLACE)
    # Mistral's user turns end with a token of their own.
    ends = {*loaded.tokenizer.eos_token_ids, *loaded.chat.encode(behind)[:1]}
    written = batch_generate.continuations(
        loaded,
        [loaded.chat.encode(begun + opening) for opening in openings],
        QUESTION_TOKENS,
        AT_ONCE,
        ends,
        mx.random.categorical,
        lambda count: progress(Step(_(STAGE), before + count, 2 * SAMPLED + KEPT)),
    )
    texts = [
        (opening + loaded.tokenizer.decode(tokens[:-1])).strip() if tokens[-1] in ends else ""
        for opening, tokens in zip(openings, written, strict=True)
    ]
    strange = (*loaded.chat.control_texts, "\ufffd")
    return ["" if any(sign in text for sign in strange) else text for text in texts]


def _distinct(questions: Sequence[str]) -> list[str]:
    """Without those that begin as an earlier one does, but for signs."""
    by_beginning: dict[str, str] = {}
    for question in questions:
        by_beginning.setdefault("".join(re.findall(r"\w", question.casefold()))[:24], question)
    return [question for beginning, question in by_beginning.items() if beginning]


# --- what is learned of it ---------------------------------------------------------------


def with_reference(
    loaded: LoadedModel,
    examples: Sequence[Example],
    layout: BatchLayout,
    progress: Progress,
    known: dict[tuple[int, ...], NDArray[np.float32]] | None = None,
) -> list[Example]:
    """The examples with the hidden states of the untrained model, to which an adapter is attached;
    as they are where its head will be trained, or cannot be run apart.

    known: states by an example's tokens, that earlier runs found; those found now are added.
    """
    model = loaded.model
    if not (split_head.is_separable(model) and loss.head_is_frozen(model)):
        return list(examples)
    known = {} if known is None else known
    model.eval()
    referenced = []
    for number, example in enumerate(examples):
        progress(Step(_(preference.STAGE), number, len(examples)))
        key = tuple(example.tokens)
        if key not in known:
            states = loss.hidden(model, layout.build([example]))[: example.targets]
            known[key] = np.array(states.astype(mx.float32))
        referenced.append(dataclasses.replace(example, reference=known[key]))
    return referenced
