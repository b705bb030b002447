"""A model folder's tokenizer files out of a GGUF file's vocabulary.

SentencePiece's BPE becomes a `tokenizer.model` with the file's own pieces and scores, which every reader
of such a folder already converts exactly. Equality is proven by `folder`, text by text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from gguf import TokenType

from mlx_finetuning import files
from mlx_finetuning.language import _
from mlx_finetuning.quantizer.base import byte_level
from mlx_finetuning.quantizer.base.refusal import Unusable
from mlx_finetuning.quantizer.llama_cpp.inference import LlamaVocabulary
from mlx_finetuning.tokenization import spm_model
from mlx_finetuning.utils.gguf_reader import Metadata

SPECIAL_IDS = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
"""Names of special tokens in a folder → in the keys of a file."""


def write(folder: Path, metadata: Metadata, loaded: LlamaVocabulary) -> dict[str, int]:
    """The tokenizer's files; returns what `config.json` says of special tokens.

    loaded: the file's vocabulary, asked for what it puts around a text. Raises Unusable, KeyError.
    """
    tokens = metadata["tokenizer.ggml.tokens"]
    numbers = {
        name: metadata.get(f"tokenizer.ggml.{key}_token_id") for name, key in SPECIAL_IDS.items()
    }
    ids = {
        name: number
        for name, number in numbers.items()
        if isinstance(number, int) and 0 <= number < len(tokens)
    }
    bare, around = (loaded.tokenize("a", add_special=added) for added in (False, True))
    adds = {
        "bos": around != bare and around[0] == ids.get("bos"),
        "eos": around != bare and around[-1] == ids.get("eos"),
    }
    match model := str(metadata.get("tokenizer.ggml.model")):
        case "gpt2":
            definition = byte_level.definition(metadata, ids, adds)
            files.write_text(folder / "tokenizer.json", json.dumps(definition, ensure_ascii=False))
        case "llama":
            with files.replacing(folder / "tokenizer.model") as stream:
                stream.write(sentencepiece(metadata, ids))
        case _:
            raise Unusable(
                _("トークナイザーの種類が {model} です（扱えるのは gpt2 と llama）。").format(
                    model=model
                )
            )
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast" if model == "gpt2" else "LlamaTokenizer",
        **{f"{name}_token": tokens[number] for name, number in ids.items()},
        **{f"add_{name}_token": is_added for name, is_added in adds.items()},
    }
    template = metadata.get("tokenizer.chat_template")
    if isinstance(template, str):
        settings["chat_template"] = template
    text = json.dumps(settings, ensure_ascii=False, indent=2) + "\n"
    files.write_text(folder / "tokenizer_config.json", text)
    return {f"{name}_token_id": ids[name] for name in ("bos", "eos") if name in ids}


def sentencepiece(metadata: Metadata, ids: Mapping[str, int]) -> bytes:
    """A `tokenizer.model` of BPE with the file's pieces. Raises KeyError, TypeError, ValueError."""
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto()
    table = zip(
        metadata["tokenizer.ggml.tokens"],
        metadata["tokenizer.ggml.scores"],
        metadata["tokenizer.ggml.token_type"],
        strict=True,
    )
    for text, score, kind in table:
        is_own = kind == TokenType.USER_DEFINED
        piece = text.replace(" ", spm_model.MARK) if is_own else text
        proto.pieces.add(piece=piece, score=score, type=kind)
    trainer = proto.trainer_spec
    trainer.model_type, trainer.byte_fallback = spm_model.BPE, True
    trainer.unk_id = ids.get("unk", 0)
    trainer.unk_piece = proto.pieces[trainer.unk_id].piece
    for name in ("bos", "eos", "pad"):
        setattr(trainer, f"{name}_id", ids.get(name, -1))
    rewriting = proto.normalizer_spec
    rewriting.name = "identity"
    rewriting.add_dummy_prefix = bool(metadata.get("tokenizer.ggml.add_space_prefix", True))
    rewriting.remove_extra_whitespaces, rewriting.escape_whitespaces = False, True
    return bytes(proto.SerializeToString())
