"""What tiny-ja should be able to do, as conversations it never trained on, kind by kind."""

from __future__ import annotations

from random import Random

from recipes.tiny_ja import conversations
from recipes.tiny_ja.conversations import Conversation, Fact, assistant, user

EXAM_SEED = 7


def exam(size: int = 256) -> dict[str, list[Conversation]]:
    """`size` conversations of each kind; only the last answer of each is judged.

    `recall_new_wording` asks in wordings that are kept out of training as they stand. Another
    wording, varied as somebody might type it, can have come out the same, so it shows less than a
    strict separation would.
    """
    rng = Random(EXAM_SEED)
    facts = conversations.world()
    return {
        "recall": [_asked(rng.choice(facts), rng, held_out=False) for _ in range(size)],
        "recall_new_wording": [_asked(rng.choice(facts), rng, held_out=True) for _ in range(size)],
        "reading": [conversations.reading(rng) for _ in range(size)],
        "examples": [conversations.examples(rng) for _ in range(size)],
        "unknown": [conversations.unknown(rng) for _ in range(size)],
        "repeating": [conversations.repeating(rng) for _ in range(size)],
        "extracting": [conversations.extracting(rng) for _ in range(size)],
        "general": [conversations.general_knowledge(rng) for _ in range(size)],
    }


def _asked(fact: Fact, rng: Random, held_out: bool) -> Conversation:
    fitting = [
        question
        for question in fact.phrasings()
        if conversations.is_held_out(question, fact.answer) == held_out
    ]
    question = rng.choice(fitting) if fitting else fact.question(rng)
    return [user(question), assistant(fact.answer)]
