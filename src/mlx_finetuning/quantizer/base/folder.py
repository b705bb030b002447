"""A model folder for a GGUF file: settings, tokenizer and template, without weights.

Before the folder counts, llama.cpp's own loader of the file's vocabulary and the folder's tokenizer
must cut the battery into the same ids.
"""

from __future__ import annotations

import json
from pathlib import Path

from mlx_finetuning import files
from mlx_finetuning.errors import BaseFileUnusable, ExportError, GgufUnreadable, ModelError
from mlx_finetuning.language import _
from mlx_finetuning.messages import describe
from mlx_finetuning.quantizer.base import settings, vocabulary, weights
from mlx_finetuning.quantizer.base.refusal import Unusable
from mlx_finetuning.quantizer.llama_cpp.inference import LlamaVocabulary
from mlx_finetuning.quantizer.verify import parity, reach
from mlx_finetuning.tokenization import battery
from mlx_finetuning.utils import gguf_base, gguf_reader
from mlx_finetuning.utils.gguf_base import GgufBase


def write(path: Path, folder: Path) -> None:
    """Make `folder`, which must not exist, of the GGUF file at `path`.

    Raises BaseFileUnusable, DiskFull.
    """
    try:
        stat = path.stat()
        file = gguf_reader.read(path)
        config = settings.config_of(file)
        placed = weights.placement(file, config)
        base = GgufBase(
            path=str(path),
            size=stat.st_size,
            modified_ns=stat.st_mtime_ns,
            sha256=gguf_base.sha256(path),
            orders=placed.orders,
            weights=dict(placed.weights),
        )
        with files.replacing_folder(folder) as draft, LlamaVocabulary(path) as loaded:
            special = vocabulary.write(draft, file.metadata, loaded)
            text = json.dumps({**config, **special}, ensure_ascii=False, indent=2) + "\n"
            files.write_text(draft / "config.json", text)
            gguf_base.write(draft, base)
            # As the export asks it of a file; rows in other scripts are compared before training.
            encode = reach.own_tokenizer(draft)
            tokens = parity.compare_tokens(loaded, encode, [], builtin=battery.TEXTS)
            if tokens.differing:
                raise Unusable(parity.problem(tokens))
    except Unusable as error:
        raise BaseFileUnusable(path=str(path), reason=str(error)) from error
    except GgufUnreadable as error:
        raise BaseFileUnusable(path=str(path), reason=str(error.data["reason"])) from error
    except (ExportError, ModelError) as error:
        raise BaseFileUnusable(path=str(path), reason=describe(error).why) from error
    except (OSError, LookupError, TypeError, ValueError, OverflowError) as error:
        reason = _("形式が違うか、壊れています: {error}").format(error=error)
        raise BaseFileUnusable(path=str(path), reason=reason) from error
