"""Loads a Hugging Face folder, with an adapter or without, in the type the device computes best."""

from __future__ import annotations

import copy
import gc
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_lm import tokenizer_utils, utils
from mlx_lm.tokenizer_utils import TokenizerWrapper

from mlx_finetuning.errors import AdapterUnusable, ModelUnloadable
from mlx_finetuning.files import JsonObject
from mlx_finetuning.language import _
from mlx_finetuning.mlx_trainer.model import dora, gguf_weights, weight_names
from mlx_finetuning.tokenization import chat as chats
from mlx_finetuning.tokenization.chat import ChatTokenizer
from mlx_finetuning.tokenization.chat_template import Message, Tools
from mlx_finetuning.utils import gguf_base, model_settings

ModuleWithSettings = tuple[nn.Module, JsonObject]
"""mlx-lm's model, and the settings of its `config.json`, completed."""


@dataclass(frozen=True)
class LoadedModel:
    """A model with its tokenizer, chat template and settings."""

    model: nn.Module
    tokenizer: TokenizerWrapper
    """For mlx-lm's generator; ids and texts come from `chat`."""
    chat: ChatTokenizer
    config: JsonObject
    """The folder's `config.json`; of a model that sees too, its text part's settings with it."""
    folder: Path | None = None
    """Where it was loaded from."""

    def without_weights(self) -> LoadedModel:
        """Tokenizer and settings only."""
        return replace(self, model=nn.Module())

    @property
    def context_length(self) -> int:
        """Most tokens of one sequence; a large number where the config does not say."""
        return int(self.config.get("max_position_embeddings") or 1 << 20)

    def end_texts(self) -> list[str]:
        """The tokens that end an answer, as text."""
        ids = sorted(self.tokenizer.eos_token_ids)
        return [str(text) for text in self.tokenizer.convert_ids_to_tokens(ids)]

    def render(
        self, messages: Sequence[Message], *, ask: bool, tools: Tools | None = None
    ) -> list[int]:
        """Token ids of a conversation; with `ask`, ready for the assistant to answer."""
        return self.chat.render(messages, ask=ask, tools=tools)

    def render_text(
        self, messages: Sequence[Message], *, ask: bool, tools: Tools | None = None
    ) -> str:
        """The same as text."""
        return self.chat.render_text(messages, ask=ask, tools=tools)


def load(
    folder: Path,
    adapter: Path | None = None,
    *,
    lazy: bool = False,
    thinks: bool = False,
    asked_like: Path | None = None,
) -> LoadedModel:
    """The model in `folder`, with the adapter in `adapter` applied (not fused).

    lazy: weights stay in their files until they are needed; thinks: with reasoning, where no adapter
    says; asked_like: an adapter whose chat template is used without the adapter.
    Raises ModelUnloadable and AdapterUnusable with the library's reason, TokenizerUnreadable,
    TemplateHostile, ChatTemplateUnusable.
    """
    with gguf_weights.reading_ahead(folder):
        chat = chats.load(folder, adapter or asked_like, thinks=thinks)
    model, config = load_module(folder, lazy=lazy)
    if adapter is not None:
        model = _adapted(model, adapter)
    settings = text_settings(config)
    return LoadedModel(model, wrapped(chat, settings), chat, settings, folder)


def load_beside(base: LoadedModel, folder: Path, adapter: Path) -> LoadedModel:
    """The model in `folder`, loaded as `base` without an adapter, with the adapter in `adapter`.

    Both share the base's weights in memory; either computes as if it were alone.
    Raises AdapterUnusable, TokenizerUnreadable, TemplateHostile, ChatTemplateUnusable.
    """
    chat = chats.load(folder, adapter)
    shared = {id(array): array for __, array in tree_flatten(base.model.parameters())}
    model = _adapted(copy.deepcopy(base.model, shared), adapter)
    return replace(base, model=model, chat=chat, tokenizer=wrapped(chat, base.config))


def _adapted(model: nn.Module, adapter: Path) -> nn.Module:
    """Raises AdapterUnusable."""
    try:
        model = dora.load_adapter(model, adapter)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        reason = _("設定か重みを読み込めません（{name}: {error}）。").format(
            name=type(error).__name__, error=error
        )
        raise AdapterUnusable(path=str(adapter), reason=reason) from error
    model.eval()
    return model


def load_module(folder: Path, *, lazy: bool = False) -> ModuleWithSettings:
    """The model alone, without a tokenizer, and its settings; lazy: as for `load`.

    Raises ModelUnloadable with the library's reason.
    """
    try:
        model, config = load_weights(folder, lazy=lazy)
        if mx.default_device() == mx.cpu and gguf_base.read(folder) is None:
            # MLX's half-precision products run 30 times slower there than float32 ones. What is kept of a
            # GGUF file has products of its own.
            model.set_dtype(mx.float32)
        if not lazy:
            mx.eval(model.parameters())
    except (OSError, ValueError, KeyError, TypeError, ImportError, RuntimeError) as error:
        raise ModelUnloadable(folder=str(folder), reason=str(error)) from error
    model.eval()
    return model, config


def load_tokenizer(folder: Path, *, thinks: bool = False) -> LoadedModel:
    """What `load` gives, but for the weights: enough to encode, too little to compute.

    Raises ModelUnloadable, TokenizerUnreadable, TemplateHostile, ChatTemplateUnusable.
    """
    chat = chats.load(folder, thinks=thinks)
    try:
        config = text_settings(model_settings.completed(utils.load_config(folder), folder))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelUnloadable(folder=str(folder), reason=str(error)) from error
    return LoadedModel(nn.Module(), wrapped(chat, config), chat, config, folder)


def load_weights(folder: Path, *, lazy: bool = False, outline: bool = False) -> ModuleWithSettings:
    """mlx-lm's model and settings, completed as for the writer of files; raises what mlx-lm does.

    outline: without the values of a GGUF base, which cannot wait in their file.
    """
    stored = utils.load_config(folder)
    settings = model_settings.completed(stored, folder)
    _refuse_what_is_misread(stored, settings)
    changed = {key: value for key, value in settings.items() if stored.get(key) != value}

    def classes(config: JsonObject) -> tuple[Any, Any]:
        return weight_names.classes(
            config, is_tied=text_settings(config).get("tie_word_embeddings") is True
        )

    base = gguf_base.read(folder)
    if base is not None:
        return gguf_weights.load(base, settings, classes, is_outline=outline), settings
    model, config = utils.load_model(
        folder,
        lazy=lazy,
        model_config=changed,
        get_model_classes=classes,
        trust_remote_code=False,
    )
    return model, config


def _refuse_what_is_misread(stored: JsonObject, settings: JsonObject) -> None:
    """Raises ValueError of what mlx-lm would take for another model than files hold."""
    # Its Ministral 3 multiplies the bytes of such weights as if they were whole numbers.
    method = (stored.get("quantization_config") or {}).get("quant_method")
    if method == "fp8" and text_settings(stored).get("model_type") == "ministral3":
        raise ValueError(
            _(
                "重みが FP8 です。mlx-lm はこの系列の FP8 を正しく読めません。"
                "同じモデルの BF16 版（名前の終わりが -BF16）を使ってください。"
            )
        )
    # Its Qwen3-MoE reads no `rope_scaling`.
    scaling = settings.get("rope_scaling") or {}
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if settings.get("model_type") == "qwen3_moe" and kind != "default":
        raise ValueError(
            _(
                "config.json の rope_scaling が {kind} です。"
                "mlx-lm はこの系列でそれを読みません。"
                "元の文脈の長さのまま使うなら、config.json から rope_scaling を消してください。"
            ).format(kind=kind)
        )


def text_settings(config: JsonObject) -> JsonObject:
    """The settings; of a model that sees too, its text part's settings with them."""
    return {**config, **(config.get("text_config") or {})}


def wrapped(chat: ChatTokenizer, config: JsonObject) -> TokenizerWrapper:
    """The tokenizer as mlx-lm's generator takes it, with its own choice of a detokenizer."""
    decoder = chat.files.definition.get("decoder")
    kinds: tuple[tuple[Any, Any], ...] = (
        (tokenizer_utils._is_spm_decoder, tokenizer_utils.SPMStreamingDetokenizer),
        (
            tokenizer_utils._is_spm_decoder_no_space,
            partial(tokenizer_utils.SPMStreamingDetokenizer, trim_space=False),
        ),
        (tokenizer_utils._is_bpe_decoder, tokenizer_utils.BPEStreamingDetokenizer),
    )
    kind = next(
        (kind for is_this, kind in kinds if is_this(decoder)),
        tokenizer_utils.NaiveStreamingDetokenizer,
    )
    wrapper = TokenizerWrapper(chat.tokenizer, kind, eos_token_ids=chat.end_ids)
    texts = getattr(wrapper._detokenizer, "tokenmap", None)
    if texts:
        # Embeddings are often larger than the vocabulary, and a poor model says such ids too.
        missing = int(config.get("vocab_size") or 0) - len(texts)
        texts.extend([type(texts[0])()] * missing)
    return wrapper


def free_memory() -> None:
    """Give back what models took that nobody holds any more."""
    gc.collect()  # a model's modules refer to each other
    mx.clear_cache()
