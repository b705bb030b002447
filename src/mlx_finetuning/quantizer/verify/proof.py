"""The proof of an export: a small unquantized GGUF that computes what the trained model does.

It holds the first layers and, for large vocabularies, the rows of the embedding and the head for
the tokens that are compared, in float32, made by the same mapping as the files asked for. It lies
in memory (on Linux; elsewhere in a temporary file that is removed) and is bounded by `BYTES`, or
one layer where that is larger. What it leaves out is compared value by value in `tensor_error`.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlx_finetuning.progress import Progress, silent
from mlx_finetuning.quantizer.families import registry
from mlx_finetuning.quantizer.verify.results import LogitParity, Proof
from mlx_finetuning.quantizer.vocabulary.tokenizer import TokenizerMetadata
from mlx_finetuning.quantizer.write import export
from mlx_finetuning.quantizer.write.export import TensorSource
from mlx_finetuning.quantizer.write.gguf_writer import FileMetadata
from mlx_finetuning.utils.gguf_reader import RowIndex

QUANT = "F32"
BYTES = 512 << 20
VOCABULARY = 4096
"""Tokens whose chances are compared; a smaller vocabulary is compared as a whole."""
WITH_ROWS_PER_TOKEN = ("token_embd.weight", "output.weight", "per_layer_token_embd.weight")
WITH_ROWS_PER_LAYER = "per_layer_model_proj.weight"
WITH_COLUMNS_PER_LAYER = "per_layer_token_embd.weight"
NO_TOKENS = TokenizerMetadata("no_vocab", "", [], [], {}, False, False, None)


@dataclass(frozen=True)
class Extent:
    """How much of a model the proof covers."""

    layers: int
    of_layers: int
    tokens: NDArray[np.intp]
    """Ids, ascending."""

    def local(self, ids: Sequence[int]) -> list[int]:
        """Token ids as the proof numbers them."""
        return [int(position) for position in np.searchsorted(self.tokens, ids)]


def extent(model: Path, sequences: Sequence[Sequence[int]]) -> Extent:
    """What fits, with every token of the sequences. Raises what `export.sources` raises."""
    config = export.read_config(model)
    vocabulary = config["vocab_size"]
    tokens = np.arange(vocabulary)
    if vocabulary > VOCABULARY:
        spread = np.linspace(0, vocabulary - 1, VOCABULARY).astype(np.intp)
        tokens = np.union1d(spread, np.concatenate([np.asarray(s, np.intp) for s in sequences]))
    sizes = [0] * config["num_hidden_layers"]  # bytes of each layer in float32
    used = 0
    for source in export.sources(model, config, None):
        if (layer := _layer(source.name)) is not None:
            sizes[layer] += 4 * int(np.prod(source.shape))
        elif source.name in WITH_ROWS_PER_TOKEN:
            used += 4 * len(tokens) * source.shape[1]
    fitting = int(np.searchsorted(used + np.cumsum(sizes), BYTES, side="right"))
    layers = min(len(sizes), max(fitting, registry.of(config).fewest_layers(config)))
    return Extent(layers, len(sizes), tokens)


@contextlib.contextmanager
def written(
    model: Path, adapter: Path | None, chosen: Extent, progress: Progress = silent
) -> Iterator[Path]:
    """The proof of `model` with `adapter`, for as long as the block lasts.

    Raises what `export.sources` raises, NonFiniteWeights, Interrupted.
    """
    config = export.read_config(model)
    family = registry.of(config)
    values = {
        **family.metadata(config),
        **family.layer_metadata(config, chosen.layers),
        "block_count": chosen.layers,
        "vocab_size": len(chosen.tokens),
    }
    metadata = FileMetadata(family.name, "proof", values, NO_TOKENS)
    parts = [
        _part(source, chosen)
        for source in export.sources(model, config, adapter)
        if covers(chosen, source.name)
    ]
    plans = {QUANT: export.plan(parts, QUANT, config)}
    with in_memory() as path:
        export.write(parts, metadata, plans, {QUANT: path}, progress)
        yield path


@contextlib.contextmanager
def in_memory() -> Iterator[Path]:
    """A path to an empty file that takes no disk where the system can do that."""
    if not hasattr(os, "memfd_create"):
        with tempfile.NamedTemporaryFile(suffix=".gguf") as stream:
            yield Path(stream.name)
        return
    descriptor = os.memfd_create("proof")
    try:
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def covers(chosen: Extent, name: str) -> bool:
    """Whether the proof holds the GGUF tensor `name`."""
    layer = _layer(name)
    return layer is None or layer < chosen.layers


def as_record(chosen: Extent, compared: LogitParity) -> Proof:
    """For the report of an export."""
    return Proof(QUANT, chosen.layers, chosen.of_layers, len(chosen.tokens), compared)


def _part(source: TensorSource, chosen: Extent) -> TensorSource:
    """The rows and columns of a tensor that the proof holds."""
    if source.name == WITH_ROWS_PER_LAYER:
        rows = source.shape[0] // chosen.of_layers * chosen.layers
        return replace(source, shape=(rows, source.shape[1]))
    if source.name not in WITH_ROWS_PER_TOKEN:
        return source
    columns = source.shape[1]
    if source.name == WITH_COLUMNS_PER_LAYER:
        columns = columns // chosen.of_layers * chosen.layers

    def read(rows: RowIndex) -> NDArray[np.float32]:
        return np.ascontiguousarray(source.read(rows)[:, :columns])

    return replace(source, shape=(len(chosen.tokens), columns), read=read, order=chosen.tokens)


def _layer(name: str) -> int | None:
    return int(name.split(".")[1]) if name.startswith("blk.") else None
