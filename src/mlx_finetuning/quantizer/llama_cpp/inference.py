"""llama.cpp over ctypes: what a GGUF file computes, token by token.

Only the first fields of llama.cpp's parameter structs are known here; the rest travels as opaque
bytes from llama.cpp's own defaults, so a field added at their end changes nothing. The known ones
are checked against their documented defaults before use. Attention is computed in float32 where the
layout of its settings is known too: keys and values in half precision, as they are kept otherwise,
move logits enough to exchange experts that are nearly level. Does not generate text; `runtime` does.
"""

from __future__ import annotations

import ctypes
import functools
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from mlx_finetuning.errors import GgufUnreadable, QuantizerUnusable
from mlx_finetuning.language import _
from mlx_finetuning.utils import cores
from mlx_finetuning.utils import llama_library as library

CONTEXT_DEFAULTS = (512, 2048, 512, 1)
"""n_ctx, n_batch, n_ubatch, n_seq_max of `llama_context_default_params`."""
MODEL_FLAGS = (False, False, True, False, False)
"""vocab_only, check_tensors, use_extra_bufts, no_host, no_alloc of `llama_model_default_params`."""
_NOT_SET, _MINUS_ONE = -1, -1082130432
_AS_KNOWN = {
    **dict.fromkeys((6, 7, 8, 9), _NOT_SET),  # rope, pooling, attention, flash attention
    **dict.fromkeys((12, 13, 14, 15, 17), _MINUS_ONE),  # yarn's factors and a threshold, float32
    **dict.fromkeys((22, 23), 1),  # keys and values: GGML_TYPE_F16
}
"""Defaults behind the known fields, as int32 by index (llama.cpp of autumn 2026)."""
_IN_FLOAT32 = {9: 0, 22: 0, 23: 0}
"""No flash attention, which computes in half precision; GGML_TYPE_F32."""
BATCH = 256
"""Tokens per call; bounds the buffer of logits."""
ONE_THREAD_BYTES = 192 << 20
ERROR_LEVELS = (3, 4)
"""GGML_LOG_LEVEL_WARN and _ERROR."""

Token = ctypes.c_int32


class _ModelParams(ctypes.Structure):
    _fields_ = (
        ("before", ctypes.c_uint64 * 9),
        ("flags", ctypes.c_bool * 6),
        ("opaque", ctypes.c_uint64 * 55),
    )


class _ContextParams(ctypes.Structure):
    _fields_ = (
        ("n_ctx", ctypes.c_uint32),
        ("n_batch", ctypes.c_uint32),
        ("n_ubatch", ctypes.c_uint32),
        ("n_seq_max", ctypes.c_uint32),
        ("opaque", ctypes.c_uint64 * 64),
    )


class _Batch(ctypes.Structure):
    _fields_ = (
        ("n_tokens", ctypes.c_int32),
        ("token", ctypes.POINTER(Token)),
        ("embd", ctypes.c_void_p),
        ("pos", ctypes.c_void_p),  # NULL: positions go on from the last call
        ("n_seq_id", ctypes.c_void_p),
        ("seq_id", ctypes.c_void_p),
        ("logits", ctypes.POINTER(ctypes.c_int8)),
    )


_Log = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
_POINTER, _INT, _FLAG, _TEXT = ctypes.c_void_p, ctypes.c_int32, ctypes.c_bool, ctypes.c_char_p
_SIGNATURES: library.Signatures = {
    "llama_log_set": (None, [_Log, _POINTER]),
    "llama_backend_init": (None, []),
    "llama_model_default_params": (_ModelParams, []),
    "llama_context_default_params": (_ContextParams, []),
    "llama_model_load_from_file": (_POINTER, [_TEXT, _ModelParams]),
    "llama_adapter_lora_init": (_POINTER, [_POINTER, _TEXT]),
    "llama_set_adapters_lora": (
        _INT,
        [_POINTER, ctypes.POINTER(_POINTER), ctypes.c_size_t, ctypes.POINTER(ctypes.c_float)],
    ),
    "llama_model_free": (None, [_POINTER]),
    "llama_init_from_model": (_POINTER, [_POINTER, _ContextParams]),
    "llama_free": (None, [_POINTER]),
    "llama_set_n_threads": (None, [_POINTER, _INT, _INT]),
    "llama_get_memory": (_POINTER, [_POINTER]),
    "llama_memory_clear": (None, [_POINTER, _FLAG]),
    "llama_decode": (_INT, [_POINTER, _Batch]),
    "llama_get_logits": (ctypes.POINTER(ctypes.c_float), [_POINTER]),
    "llama_model_get_vocab": (_POINTER, [_POINTER]),
    "llama_vocab_n_tokens": (_INT, [_POINTER]),
    "llama_vocab_is_eog": (_FLAG, [_POINTER, Token]),
    "llama_vocab_bos": (Token, [_POINTER]),
    "llama_token_to_piece": (_INT, [_POINTER, Token, _TEXT, _INT, _INT, _FLAG]),
    "llama_tokenize": (
        _INT,
        [_POINTER, _TEXT, _INT, ctypes.POINTER(Token), _INT, _FLAG, _FLAG],
    ),
}

_complaints: deque[str] = deque(maxlen=20)


@_Log  # type: ignore[untyped-decorator]  # and kept, as long as the library uses it
def _remember(level: int, text: bytes, __: object) -> None:
    if level in ERROR_LEVELS:
        _complaints.append(text.decode("utf-8", "replace").strip())


@functools.cache
def _api() -> ctypes.CDLL:
    """The library with its signatures declared and checked. Raises QuantizerUnusable."""
    api = library.load()
    library.declare(api, _SIGNATURES)
    defaults = api.llama_context_default_params()
    sizes = (defaults.n_ctx, defaults.n_batch, defaults.n_ubatch, defaults.n_seq_max)
    if sizes != CONTEXT_DEFAULTS:
        raise QuantizerUnusable(
            reason=_("llama.cppの設定の並びが既知のものと違います: {sizes}").format(sizes=sizes)
        )
    flags = tuple(api.llama_model_default_params().flags[: len(MODEL_FLAGS)])
    if flags != MODEL_FLAGS:
        raise QuantizerUnusable(
            reason=_("llama.cppの設定の並びが既知のものと違います: {flags}").format(flags=flags)
        )
    api.llama_log_set(_remember, None)
    api.llama_backend_init()
    return api


class LlamaVocabulary:
    """The tokenizer of a GGUF file, which need not hold any weights. A context manager; not for
    several threads at once."""

    def __init__(self, path: Path, *, with_weights: bool = False) -> None:
        """Raises GgufUnreadable, QuantizerUnusable."""
        self._api = _api()
        _complaints.clear()
        params = self._api.llama_model_default_params()
        params.flags[0] = not with_weights
        self._model = self._api.llama_model_load_from_file(str(path).encode(), params)
        if not self._model:
            reason = _complaints[0] if _complaints else _("llama.cppが読み込めませんでした。")
            raise GgufUnreadable(path=str(path), reason=reason)
        self._vocab = self._api.llama_model_get_vocab(self._model)
        self.vocabulary = int(self._api.llama_vocab_n_tokens(self._vocab))

    def tokenize(self, text: str, add_special: bool) -> list[int]:
        """Token ids; special tokens in the text count as such. add_special: bos and eos too."""
        data = text.encode("utf-8", "replace")
        # No token is shorter than a byte; a few more are added around a text.
        size = len(data) + 8
        ids = (Token * size)()
        count = self._api.llama_tokenize(self._vocab, data, len(data), ids, size, add_special, True)
        return list(ids[:count])

    def written(self, tokens: Sequence[int]) -> str:
        """What llama.cpp writes for generated tokens, special ones included."""
        data = b""
        for token in tokens:
            size = 64
            while True:
                buffer = ctypes.create_string_buffer(size)
                count = self._api.llama_token_to_piece(self._vocab, token, buffer, size, 0, True)
                if count >= 0:
                    break
                size = -count
            data += buffer.raw[:count]
        return data.decode("utf-8", "replace")

    def ends_generation(self, token: int) -> bool:
        """Whether llama.cpp stops where this token is generated."""
        return bool(self._api.llama_vocab_is_eog(self._vocab, token))

    def close(self) -> None:
        """Free the model; more calls do nothing."""
        if self._model:
            self._api.llama_model_free(self._model)
        self._model = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class LlamaModel(LlamaVocabulary):
    """A GGUF file loaded into llama.cpp."""

    def __init__(self, path: Path, context: int, adapter: Path | None = None) -> None:
        """context: the longest sequence, tokens; adapter: a GGUF adapter to apply.

        Raises GgufUnreadable, QuantizerUnusable.
        """
        super().__init__(path, with_weights=True)
        self._context: int | None = None
        params = self._api.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = context, BATCH, BATCH
        settings = (_INT * (2 * len(params.opaque))).from_buffer(params.opaque)
        # Where they lie otherwise than known, half precision has to do.
        if all(settings[index] == value for index, value in _AS_KNOWN.items()):
            for index, value in _IN_FLOAT32.items():
                settings[index] = value
        self._context = self._api.llama_init_from_model(self._model, params)
        if not self._context:
            self.close()
            raise GgufUnreadable(
                path=str(path), reason=" ".join(_complaints) or _("メモリー不足です。")
            )
        # Its threads wait by spinning: with little to compute, a busy machine makes that slow.
        threads = 1 if path.stat().st_size < ONE_THREAD_BYTES else cores.usable()
        self._api.llama_set_n_threads(self._context, threads, threads)
        if adapter is None:
            return
        # It is freed with the model.
        loaded = self._api.llama_adapter_lora_init(self._model, str(adapter).encode())
        adapters, scales = (_POINTER * 1)(loaded), (ctypes.c_float * 1)(1.0)
        if not loaded or self._api.llama_set_adapters_lora(self._context, adapters, 1, scales):
            self.close()
            reason = " ".join(_complaints) or _("アダプターを適用できません。")
            raise GgufUnreadable(path=str(adapter), reason=reason)

    def logits(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Teacher-forced logits after every token, [tokens, vocabulary], float32."""
        self._api.llama_memory_clear(self._api.llama_get_memory(self._context), True)
        result = np.empty((len(tokens), self.vocabulary), np.float32)
        for start in range(0, len(tokens), BATCH):
            ids = tokens[start : start + BATCH]
            count = len(ids)
            all_wanted = (ctypes.c_int8 * count)(*([1] * count))
            batch = _Batch(n_tokens=count, token=(Token * count)(*ids), logits=all_wanted)
            status = self._api.llama_decode(self._context, batch)
            if status != 0:
                raise QuantizerUnusable(
                    reason=_("llama_decode が {status} を返しました。").format(status=status)
                )
            values = self._api.llama_get_logits(self._context)
            result[start : start + count] = np.ctypeslib.as_array(values, (count, self.vocabulary))
        return result

    def close(self) -> None:
        """Free the context and the model; more calls do nothing."""
        if self._context:
            self._api.llama_free(self._context)
        self._context = None
        super().close()
