"""Conversations in well-known chat formats: the runtime feeds what transformers renders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from mlx_finetuning.quantizer.write.export import export_gguf
from mlx_finetuning.runtime import serve
from mlx_finetuning.utils import chat_template, gguf_reader
from support.chat_formats import FORMATS, Format, conversations
from support.small_models import edit_json, write_model

COUNT = 400


def write_format(folder: Path, form: Format) -> None:
    """A random model with the format's special tokens, bos behaviour and template."""
    write_model(folder, num_hidden_layers=1, hidden_size=64, head_dim=16, intermediate_size=64)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    names = [text for text in (form.bos, form.eos, *form.special) if text]
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in names])
    if form.bos:
        marked = [(form.bos, tokenizer.token_to_id(form.bos))]
        tokenizer.post_processor = TemplateProcessing(
            single=f"{form.bos} $A", special_tokens=marked
        )
    tokenizer.save(str(folder / "tokenizer.json"))
    settings: dict[str, Any] = {"eos_token": form.eos, "chat_template": form.template}
    edit_json(folder / "tokenizer_config.json", **settings, bos_token=form.bos or None)


@pytest.mark.parametrize("form", FORMATS.values(), ids=list(FORMATS))
def test_prompts_are_the_same_tokens(
    form: Format, tmp_path: Path, often: Callable[[int], int]
) -> None:
    model, gguf = tmp_path / "model", tmp_path / "format.gguf"
    write_format(model, form)
    export_gguf(model, None, {"F16": gguf})
    template = gguf_reader.read(gguf).metadata["tokenizer.chat_template"]
    assert chat_template.is_protected(template)
    original = AutoTokenizer.from_pretrained(model)
    assert original.chat_template == form.template
    with serve(gguf, context=256) as client:
        for messages in conversations(often(COUNT), form.takes_system):
            expected = original.apply_chat_template(
                messages, add_generation_prompt=True, return_dict=False
            )
            prompt = client.apply_template(messages)
            assert client.tokenize(prompt, add_special=True) == expected, messages
