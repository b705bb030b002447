"""Which turns of a conversation are learned: the assistant's, but those that are marked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

UNTRAINED = ("weight", 0)
"""Key and value of a message that stays out of the loss, as OpenAI's fine-tuning has it."""


def is_trained(message: Mapping[str, Any]) -> bool:
    """Whether an answer is in the loss, if it is the assistant's."""
    return message.get(UNTRAINED[0]) != UNTRAINED[1]
