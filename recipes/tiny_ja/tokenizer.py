"""tiny-ja's byte-level BPE tokenizer and its chat template, in the forms that transformers,
mlx-lm and llama.cpp know: Llama 3's splitting rule and ChatML."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from recipes.tiny_ja.conversations import Conversation
from recipes.tiny_ja.words import RARE_KANJI

if TYPE_CHECKING:
    from tokenizers import Tokenizer

VOCABULARY = 4096
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
PAD, START, END = range(3)

# llama.cpp knows this rule as `llama-bpe`; another would need another entry there.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Where merges may be learnt: within a run of one script, never across, and never between digits.
# Otherwise tokens like 「業時」 arise from 「営業時間」, and a question worded otherwise shares nothing.
SCRIPT_RUNS = r"[\p{Han}々]+|\p{Hiragana}+|[\p{Katakana}ー]+|[A-Za-z]+|\p{N}|\s+|[^\p{L}\p{N}\s]"
CHARACTERS = 2100
"""Characters that get a token of their own; the others take two or three."""
LONGEST_TOKEN = 4
"""Characters in one token."""

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def train_tokenizer(sample: Iterable[Conversation]) -> Tokenizer:
    """A byte-level BPE of VOCABULARY tokens from the contents of `sample`.

    Merges are learnt over characters and then rewritten over bytes (first the merges that build
    each character, then those that join characters), so no token ends inside a character of the
    alphabet.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    merges = _byte_merges(*_character_merges(sample))
    vocabulary = {token: index for index, token in enumerate(SPECIAL_TOKENS)}
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    for token in (*alphabet, *(left + right for left, right in merges)):
        if len(vocabulary) < VOCABULARY:
            vocabulary.setdefault(token, len(vocabulary))
    kept = [pair for pair in merges if "".join(pair) in vocabulary]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=kept, ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return tokenizer


def _character_merges(sample: Iterable[Conversation]) -> tuple[list[str], list[tuple[str, str]]]:
    """The most frequent characters, and the pairs to merge in the order they were learnt."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    text = list(_tokenizer_text(sample))
    # Chosen here: the trainer's own choice among equally frequent characters changes from run to run.
    counts = Counter(letter for piece in text for letter in piece)
    alphabet = sorted(counts, key=lambda letter: (-counts[letter], letter))[:CHARACTERS]
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Split(Regex(SCRIPT_RUNS), "isolated")
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        max_token_length=LONGEST_TOKEN,
        show_progress=False,
    )
    learner.train_from_iterator(text, trainer)
    model = json.loads(learner.to_str())["model"]
    characters = sorted(token for token in model["vocab"] if len(token) == 1)
    return characters, [(left, right) for left, right in model["merges"]]


def _byte_merges(characters: list[str], pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    from tokenizers import pre_tokenizers

    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)

    def in_bytes(text: str) -> str:
        return "".join(piece for piece, _ in level.pre_tokenize_str(text))

    building = [
        (spelled[:size], spelled[size])
        for spelled in map(in_bytes, characters)
        for size in range(1, len(spelled))
    ]
    joining = [(in_bytes(left), in_bytes(right)) for left, right in pairs]
    return list(dict.fromkeys([*building, *joining]))


def _tokenizer_text(sample: Iterable[Conversation]) -> Iterable[str]:
    for conversation in sample:
        for message in conversation:
            yield f"{message['role']}\n{message['content']}"
    # Printable ASCII and both kana are in the alphabet whatever the sample holds.
    ranges = (range(0x20, 0x7F), range(0x3041, 0x3097), range(0x30A1, 0x30FD))
    always = [chr(point) for points in ranges for point in points]
    yield from always * 1000
    yield from RARE_KANJI


def tokenizer_config() -> dict[str, Any]:
    """`tokenizer_config.json`: no BOS, one end-of-turn token that also ends the text."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 1024,
        "add_bos_token": False,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "eos_token": SPECIAL_TOKENS[END],
        "pad_token": SPECIAL_TOKENS[PAD],
        "chat_template": CHAT_TEMPLATE,
    }


def pieces(tokenizer: Tokenizer) -> list[str]:
    """Tokens that are text by themselves: no parts of characters, no line ends."""
    decoded = (tokenizer.decode([index]) for index in range(END + 1, VOCABULARY))
    return [text for text in decoded if text.strip() and "\ufffd" not in text]


class ConversationEncoder:
    """Token ids of conversations as CHAT_TEMPLATE renders them, with what the assistant wrote."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._opening = {
            role: [START, *tokenizer.encode(f"{role}\n").ids]
            for role in ("system", "user", "assistant")
        }
        self._newline = tokenizer.encode("\n").ids

    def encode(self, conversations: list[Conversation]) -> list[tuple[list[int], list[bool]]]:
        """For each conversation its ids and, of the same length, whether the assistant wrote it.

        The end-of-turn token counts as written by the assistant.
        """
        contents = [message["content"] for turns in conversations for message in turns]
        encoded = iter(self.tokenizer.encode_batch_fast(contents, add_special_tokens=False))
        return [self._one(turns, [next(encoded).ids for _ in turns]) for turns in conversations]

    def _one(self, turns: Conversation, contents: list[list[int]]) -> tuple[list[int], list[bool]]:
        ids: list[int] = []
        written: list[bool] = []
        for message, content in zip(turns, contents, strict=True):
            opening = self._opening[message["role"]]
            spoken = message["role"] == "assistant"
            ids += [*opening, *content, END, *self._newline]
            written += [False] * len(opening) + [spoken] * (len(content) + 1)
            written += [False] * len(self._newline)
        return ids, written
