"""What programs that ask transformers for a folder's tokenizer get, and how to make it the right one.

transformers rebuilds some classes by rules of its own: every `LlamaTokenizer` folder becomes BPE, a
`GPT2Tokenizer` folder loses its other steps (its issues 45345, 45812). `PreTrainedTokenizerFast` takes
tokenizer.json as it is.
"""

from __future__ import annotations

import json
from pathlib import Path

from mlx_finetuning.errors import TokenizerUnreadable
from mlx_finetuning.files import JsonObject, write_text
from mlx_finetuning.tokenization import battery, files, gate, loading
from mlx_finetuning.tokenization.gate import Encode

CONFIG = "tokenizer_config.json"
REBUILDING = ("auto_map", "add_bos_token", "add_eos_token", "add_prefix_space", "legacy")
"""Settings by which transformers changes what the file says."""


def encode_as_rebuilt(folder: Path) -> Encode:
    """How transformers, and with it mlx-lm, cuts texts. Raises TokenizerUnreadable."""
    from transformers import AutoTokenizer

    with loading.asking_library(folder):
        rebuilt = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
    return lambda text: list(rebuilt.encode(text, add_special_tokens=False))


def is_right(folder: Path) -> bool:
    """Whether transformers cuts texts as the folder's own file does. Raises TokenizerUnreadable."""
    try:
        encode = encode_as_rebuilt(folder)
    except TokenizerUnreadable:
        return False
    return not gate.differences(files.read(folder), encode, battery.TEXTS)


def settle(folder: Path) -> None:
    """Have transformers read a folder of ours as it is, where it would rebuild its tokenizer.

    Raises TokenizerUnreadable, DiskFull.
    """
    if is_right(folder):
        return
    model_files = files.read(folder)
    if model_files.source != files.TOKENIZER:
        text = json.dumps(model_files.definition, ensure_ascii=False)
        write_text(folder / files.TOKENIZER, text)
    path = folder / CONFIG
    config: JsonObject = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    config = {key: value for key, value in config.items() if key not in REBUILDING}
    config |= {f"{name}_token": text for name, text in model_files.named.items()}
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    write_text(path, json.dumps(config, ensure_ascii=False, indent=2) + "\n")
