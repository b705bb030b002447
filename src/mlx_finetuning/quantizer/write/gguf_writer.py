"""One GGUF file: header and metadata first, then its tensors, streamed block by block.

Sizes are known before the first byte is written. Does not choose types or compute values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from gguf import GGML_QUANT_VERSION, GGUF_DEFAULT_ALIGNMENT, GGMLQuantizationType, GGUFWriter
from numpy.typing import NDArray

from mlx_finetuning.quantizer.families.family import Value
from mlx_finetuning.quantizer.families.tensor_types import FILE_TYPE
from mlx_finetuning.quantizer.llama_cpp import ggml
from mlx_finetuning.quantizer.vocabulary.tokenizer import TokenizerMetadata


@dataclass(frozen=True)
class PlannedTensor:
    """One tensor of a file that is to be written."""

    name: str
    shape: tuple[int, ...]
    kind: GGMLQuantizationType

    @property
    def nbytes(self) -> int:
        """Of its values, quantized."""
        rows = int(np.prod(self.shape[:-1], dtype=np.int64))
        return rows * ggml.row_bytes(self.kind, self.shape[-1])


@dataclass(frozen=True)
class FileMetadata:
    """All metadata of a file but what depends on its quantization."""

    arch: str
    name: str
    values: dict[str, Value]
    """Keys without the architecture's prefix."""
    tokenizer: TokenizerMetadata
    importance_entries: int = 0
    """Weights that were quantized with an importance matrix."""


def file_bytes(tensors: list[PlannedTensor], metadata: FileMetadata) -> int:
    """About the size of the file, bytes; never less than its tensors."""
    texts = metadata.tokenizer.tokens + (metadata.tokenizer.merges or [])
    return sum(_padded(tensor.nbytes) for tensor in tensors) + sum(map(len, texts)) * 3 + 2**16


def create(
    path: Path, metadata: FileMetadata, quant: str, tensors: list[PlannedTensor]
) -> GgufFile:
    """Write all but the values, which follow in the order of `tensors`."""
    writer = GGUFWriter(path, metadata.arch)
    writer.add_type("model")
    writer.add_name(metadata.name)
    writer.add_file_type(FILE_TYPE[quant])
    writer.add_quantization_version(GGML_QUANT_VERSION)
    if metadata.importance_entries:
        writer.add_uint32("quantize.imatrix.entries_count", metadata.importance_entries)
    # By the exact type: a bool is an int, too.
    add: dict[type, Callable[[str, Any], None]] = {
        bool: writer.add_bool,
        int: writer.add_uint32,
        float: writer.add_float32,
        str: writer.add_string,
        list: writer.add_array,
    }
    for key, value in metadata.values.items():
        add[type(value)](f"{metadata.arch}.{key}", value)
    _add_tokenizer(writer, metadata.tokenizer)
    for tensor in tensors:
        writer.add_tensor_info(
            tensor.name,
            tensor.shape,
            np.dtype(np.float32),  # not looked at where raw_dtype is given
            tensor.nbytes,
            raw_dtype=tensor.kind,
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    file = GgufFile(path.open("ab"))
    file.end_tensor()
    return file


class GgufFile:
    """Takes the values of tensors, in order, each as blocks of whole rows. A context manager."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def append(self, block: NDArray[np.uint8]) -> None:
        """The next rows of the tensor."""
        self._stream.write(block.data)

    def end_tensor(self) -> None:
        """Fill up to where the next tensor may begin."""
        position = self._stream.tell()
        self._stream.write(bytes(_padded(position) - position))

    def close(self) -> None:
        """All tensors are written."""
        self._stream.close()

    def __enter__(self) -> GgufFile:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _padded(size: int) -> int:
    return -(-size // GGUF_DEFAULT_ALIGNMENT) * GGUF_DEFAULT_ALIGNMENT


def _add_tokenizer(writer: GGUFWriter, tokenizer: TokenizerMetadata) -> None:
    writer.add_tokenizer_model(tokenizer.model)
    if not tokenizer.tokens:
        return
    if tokenizer.pre:
        writer.add_tokenizer_pre(tokenizer.pre)
    writer.add_token_list(tokenizer.tokens)
    writer.add_token_types(tokenizer.types)
    if tokenizer.merges is not None:
        writer.add_token_merges(tokenizer.merges)
    if tokenizer.scores is not None:
        writer.add_token_scores(tokenizer.scores)
    if tokenizer.add_space_prefix is not None:
        writer.add_add_space_prefix(tokenizer.add_space_prefix)
    if tokenizer.merges_spaces is not None:
        writer.add_remove_extra_whitespaces(tokenizer.merges_spaces)
    if tokenizer.charsmap is not None:
        writer.add_precompiled_charsmap(tokenizer.charsmap)
    for kind, number in tokenizer.special_ids.items():
        getattr(writer, f"add_{kind}_token_id")(number)
    writer.add_add_bos_token(tokenizer.add_bos)
    writer.add_add_eos_token(tokenizer.add_eos)
    if tokenizer.chat_template is not None:
        writer.add_chat_template(tokenizer.chat_template)
