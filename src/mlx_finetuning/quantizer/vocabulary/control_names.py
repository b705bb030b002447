"""Tokens that llama.cpp takes for control tokens by their text, whatever a file says of them.

As listed in llama.cpp's `llama-vocab.cpp` (autumn 2026). Such a token is cut out of a text wherever its
name stands, and most of them end an answer.
"""

from __future__ import annotations

ENDING = frozenset(
    (
        *(
            "<|eot_id|>",
            "<|im_end|>",
            "<|end|>",
            "<|return|>",
            "<|call|>",
            "<|flush|>",
            "<|calls|>",
        ),
        *("<end_of_turn>", "<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]"),
        *("[EOS]", "<|end_of_text|>", "<end_of_utterance>", "<eos>", "<turn|>"),
        *("<|tool_response>", "<｜end▁of▁sentence｜>", "[e~["),
    )
)
_CHANNELS = ("<|channel|>", "<|message|>", "<|start|>", "<|constrain|>")
_FILLING = tuple(
    name
    for names in (
        "<|fim_{}|> <fim-{}> <fim_{}>".replace("{}", part)
        for part in ("prefix", "suffix", "middle")
    )
    for name in names.split()
)
_OTHER = (
    *("<PRE>", "▁<PRE>", "<|code_prefix|>", "<|prefix|>", "<｜fim▁begin｜>"),
    *("<SUF>", "▁<SUF>", "<|code_suffix|>", "<|suffix|>", "<｜fim▁hole｜>"),
    *("<MID>", "▁<MID>", "<|code_middle|>", "<|middle|>", "<｜fim▁end｜>"),
    *("<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"),
    *("<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>", "<|file_sep|>"),
)
CONTROLS = ENDING | frozenset((*_CHANNELS, *_FILLING, *_OTHER))
