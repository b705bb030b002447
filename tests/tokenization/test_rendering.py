"""Templates and tokens come out as with transformers, which no job has to import for it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jinja2.exceptions import SecurityError, TemplateError
from transformers import PreTrainedTokenizerFast
from transformers.utils.chat_template_utils import render_jinja_template

from mlx_finetuning.tokenization import battery, files, loading, rendering
from support.chat_formats import FORMATS, conversations
from support.small_models import edit_json, write_sentencepiece, write_tokenizer

TALK: list[dict[str, Any]] = [
    {"role": "user", "content": "<b>営業時間</b>は？ 'a' \"b\" & c"},
    {"role": "assistant", "content": "9時です。", "reasoning": "朝は9時"},
    {"role": "user", "content": "休みは？"},
]
TOOLS = [{"type": "function", "function": {"name": "hours", "parameters": {"日": [1, None, True]}}}]
PROGRAMS = {
    "marks of what is said": "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
    "names in a mark": "{% set a = 1 %}{% generation %}{% set a = 2 %}{{ a }}{% endgeneration %}{{ a }}",
    "json": "{{ tools | tojson }}{{ messages | tojson(indent=2) }}{{ messages[0] | tojson(sort_keys=true) }}",
    "json in ASCII": "{{ messages | tojson(ensure_ascii=true, separators=(',', ':')) }}",
    "namespace": "{% set n = namespace(a=1, self=2) %}{% set n.b = 3 %}{{ n.a + n.self + n.b }}",
    "namespace of a mapping": "{% set n = namespace({'a': 1}) %}{{ n.a }}",
    "dict": "{{ dict(a=1) }}{{ dict([('b', 2)], c=3) }}{{ dict.fromkeys(['x'], 0) }}",
    "breaks and blocks": "  {% for m in messages %}\n{% if loop.last %}{% continue %}{% endif %}\n  {{ m.role }}\n{% break %}{% endfor %}\n",
    "reasoning": "{% for m in messages %}[{{ m.reasoning_content }}|{{ m.thinking }}|{{ m.reasoning }}]{% endfor %}",
    "what is given": "{{ documents is defined }}{{ tools is none }}{{ add_generation_prompt }}{{ bos_token }}{{ other }}",
}
REFUSED = {
    "class of a value": "{{ ''.__class__.__mro__ }}{{ messages.__class__.__base__ }}",
    "change of what is given": "{{ messages.append(1) }}",
    "inside of a function": "{{ raise_exception.__globals__.os }}",
    "kept name": "{% set n = namespace() %}{% set n._x = 1 %}",
    "kept name at once": "{{ namespace(__class__=1) }}",
    "own error": "{{ raise_exception('理由') }}",
    "class of a dictionary": "{{ dict.__subclasses__() }}{{ dict.mro() }}",
}


def theirs(template: str, messages: list[dict[str, Any]], told: dict[str, Any]) -> str:
    rendered, _ = render_jinja_template([messages], chat_template=template, **told)
    return str(rendered[0])


@pytest.mark.parametrize("template", PROGRAMS.values(), ids=list(PROGRAMS))
def test_programs_write_what_transformers_writes(template: str) -> None:
    for tools in (None, TOOLS):
        told = {"tools": tools, "add_generation_prompt": True, "bos_token": "<s>"}
        assert rendering.render(template, TALK, told) == theirs(template, TALK, told)


def test_formats_of_families_are_rendered_as_by_transformers() -> None:
    for form in FORMATS.values():
        for messages in conversations(20, form.takes_system):
            told = {"add_generation_prompt": True, "bos_token": form.bos, "eos_token": form.eos}
            expected = theirs(form.template, [dict(turn) for turn in messages], told)
            assert rendering.render(form.template, messages, told) == expected


@pytest.mark.parametrize("template", REFUSED.values(), ids=list(REFUSED))
def test_what_transformers_refuses_is_refused(template: str) -> None:
    with pytest.raises((SecurityError, TemplateError, AttributeError)) as expected:
        theirs(template, TALK, {})
    with pytest.raises(expected.type):
        rendering.render(template, TALK, {})


@pytest.mark.parametrize("kind", ["bytes", "pieces", "named only"])
def test_tokens_are_those_of_the_class_of_transformers(tmp_path: Path, kind: str) -> None:
    if kind == "pieces":
        write_sentencepiece(tmp_path)
    else:
        write_tokenizer(tmp_path)
    if (
        kind == "named only"
    ):  # a name for an ordinary token of the vocabulary makes it a special one
        edit_json(tmp_path / "tokenizer_config.json", eos_token="a", bos_token="の")
    read = files.read(tmp_path)
    special = {f"{name}_token": text for name, text in read.named.items()}
    own = PreTrainedTokenizerFast(
        tokenizer_object=loading.engine(read), clean_up_tokenization_spaces=False, **special
    )
    loaded = loading.load(read)
    assert (loaded.get_vocab(), len(loaded)) == (own.get_vocab(), len(own))
    assert (loaded.bos_token, loaded.eos_token_id) == (own.bos_token, own.eos_token_id)
    ids = list(range(len(own)))
    assert loaded.convert_ids_to_tokens(ids) == own.convert_ids_to_tokens(ids)
    for text in battery.TEXTS:
        found = loaded.encode(text)
        assert found == own.encode(text)
        assert loaded.decode(found) == own.decode(found)
        bare = loaded.encode(text, add_special_tokens=False)
        assert bare == own.encode(text, add_special_tokens=False)


def test_tokens_have_the_librarys_numbers_where_the_file_states_others(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    path = tmp_path / "tokenizer.json"
    definition = json.loads(path.read_text(encoding="utf-8"))
    for entry in definition["added_tokens"]:
        entry["id"] += 7
    definition["added_tokens"].append({**entry, "id": 9000, "content": "<|new|>"})
    path.write_text(json.dumps(definition), encoding="utf-8")
    read = files.read(tmp_path)
    loaded = loading.load(read)
    assert loaded.get_vocab() == loading.engine(read).get_vocab() != files.token_ids(definition)


def test_a_job_imports_mlx_lm_without_transformers_which_can_be_had_later() -> None:
    program = (
        "import sys\n"
        "from mlx_finetuning.mlx_trainer.training import loop\n"
        "from mlx_finetuning.tasks import certify, deploy, evaluate, export, preview, train, usability\n"
        "assert not {'transformers', 'huggingface_hub'} & set(sys.modules)\n"
        "from transformers import AutoTokenizer\n"
        "from huggingface_hub import snapshot_download\n"
        "print(AutoTokenizer.__module__, snapshot_download.__module__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [
        "transformers.models.auto.tokenization_auto",
        "huggingface_hub._snapshot_download",
    ]
