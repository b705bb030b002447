"""Model folders from a stranger: nothing of them runs, and none hangs or fills the memory.

What a folder's names, keys and links are refused for is tested in `test_models_folder`; here are
templates, absurd headers, and files that are no files.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlx_finetuning import models
from mlx_finetuning.errors import (
    GgufUnreadable,
    ModelDamaged,
    ModelRefused,
    StudioError,
    TemplateHostile,
    WeightsUnreadable,
)
from mlx_finetuning.mlx_trainer.model.load import load
from mlx_finetuning.models.folder import is_whole
from mlx_finetuning.quantizer.formats import safetensors
from mlx_finetuning.tokenization import template_trial
from mlx_finetuning.utils import gguf_reader
from mlx_finetuning.workspace import Workspace

ESCAPES = (
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.__class__.__base__.__subclasses__()[0]('touch PWNED') }}",
    "{{ cycler.__init__.__globals__.os.system('touch PWNED') }}",
    "{{ self._TemplateReference__context.cycler.__init__.__globals__.os.popen('touch PWNED') }}",
    "{{ ''|attr('__class__')|attr('__mro__') }}",
    "{% for x in ().__class__.__base__.__subclasses__() %}{{ x }}{% endfor %}",
    "{{ raise_exception.__globals__['os'].system('touch PWNED') }}",
)
BOMBS = (
    "{% for i in range(10**9) %}x{% endfor %}",
    "{{ 'x' * 10**11 }}",
    "{{ range(99999)|list|string * 99999 }}",
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{{ 10 ** (10 ** 10) }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{{ '%1000000000000d' % 1 }}",
    "{{ 'x'.center(10**12) }}",
)
NESTED_TOO_DEEP = "{% for a in [1] %}" * 30 + "{% endfor %}" * 30
"""For Python, of which Jinja makes loops within loops."""


@pytest.fixture
def built_in(tmp_path: Path) -> Path:
    """A copy of tiny-ja, to be made hostile."""
    source = models.resolve("tiny-ja", Workspace(tmp_path / "none"))
    return Path(shutil.copytree(source, tmp_path / "model"))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_trial, "TIME_S", 1.5)


@pytest.mark.parametrize("template", ESCAPES)
def test_template_that_would_escape_is_refused_or_gets_nothing(
    template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # Jinja gives nothing for what it hides, or forbids it: both are harmless.
    try:
        template_trial.require_harmless(template, "x")
    except TemplateHostile as error:
        assert error.data["reason"] == template_trial.REASONS[template_trial.FORBIDDEN]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("template", BOMBS)
def test_hostile_template_is_refused_in_time(
    template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    start_s = time.monotonic()
    with pytest.raises(TemplateHostile):
        template_trial.require_harmless(template, "x")
    assert time.monotonic() - start_s < 10
    assert list(tmp_path.iterdir()) == []


def test_ordinary_template_passes_even_with_marks_and_mistakes() -> None:
    for template in (
        "{% generation %}{{ messages[0]['content'] }}{% endgeneration %}",
        "{{ raise_exception('roles must alternate') }}",
        "{{ messages[9].content }}",
        "{% for message in messages %}{{ message.role }}{{ strftime_now('%Y') }}{% endfor %}",
        "{% not jinja",
        NESTED_TOO_DEEP,
    ):
        template_trial.require_harmless(template, "x")


@pytest.mark.usefixtures("impatient")
def test_template_is_tried_beside_the_block_and_refused_behind_it() -> None:
    reached = False
    with pytest.raises(TemplateHostile), template_trial.trying(BOMBS[0], "x"):
        reached = True
    assert reached


def test_trial_does_not_outlive_a_block_that_fails() -> None:
    begun: list[subprocess.Popen[bytes]] = []
    started = time.monotonic()

    class Noted(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named)
            begun.append(self)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(ValueError, match="unreadable"):
        patch.setattr(subprocess, "Popen", Noted)
        with template_trial.trying(BOMBS[0], "x"):
            raise ValueError("unreadable")
    assert [trial.returncode for trial in begun] == [-signal.SIGKILL]
    assert time.monotonic() - started < template_trial.TIME_S


def test_trial_that_fails_by_itself_blames_no_template(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHOME", "/nowhere")  # Python ends with 1 before it reads the template
    with pytest.raises(RuntimeError, match="template_trial") as failed:
        template_trial.require_harmless("{{ 'fine' }}", "x")
    assert "encodings" in "".join(failed.value.__notes__)


@pytest.fixture
def no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every process that is started is killed, as by a system without memory."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nkill -KILL $$\n")
    python.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(python))


@pytest.mark.usefixtures("no_memory")
def test_template_whose_trial_is_killed_is_hostile() -> None:
    with pytest.raises(TemplateHostile):
        template_trial.require_harmless("{{ 'heavy' }}", "x")


@pytest.mark.usefixtures("no_memory")
def test_only_the_applications_own_template_needs_no_trial(built_in: Path) -> None:
    own = json.loads((built_in / "tokenizer_config.json").read_text(encoding="utf-8"))
    template_trial.require_harmless(own["chat_template"], "x")
    with pytest.raises(TemplateHostile):
        template_trial.require_harmless(own["chat_template"] + " ", "x")


@pytest.mark.usefixtures("impatient")
def test_model_with_a_hostile_template_is_not_loaded(built_in: Path) -> None:
    settings = built_in / "tokenizer_config.json"
    record = json.loads(settings.read_text(encoding="utf-8"))
    settings.write_text(json.dumps({**record, "chat_template": BOMBS[3]}), encoding="utf-8")
    for jinja in built_in.glob("*.jinja"):
        jinja.write_text(BOMBS[3])
    with pytest.raises(TemplateHostile) as caught:
        load(built_in)
    assert "テンプレート" in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "model.safetensors.index.json",
    ],
)
def test_pipe_in_place_of_a_file_does_not_hang(built_in: Path, name: str) -> None:
    (built_in / name).unlink(missing_ok=True)
    os.mkfifo(built_in / name)
    with pytest.raises(ModelRefused):
        models.resolve(str(built_in), Workspace(built_in.parent))


@pytest.mark.parametrize("name", ["generation_config.json", "model-2.safetensors"])
def test_folder_in_place_of_a_file_is_refused(built_in: Path, name: str) -> None:
    (built_in / name).unlink(missing_ok=True)
    (built_in / name).mkdir()
    with pytest.raises(ModelRefused):
        models.resolve(str(built_in), Workspace(built_in.parent))


def header(value: object, length: int | None = None) -> bytes:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text


def entry(**changes: object) -> dict[str, object]:
    return {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], **changes}


ABSURD: dict[str, bytes] = {
    "nothing": b"",
    "length alone": struct.pack("<Q", 2),
    "length of 2**63": header({}, 2**63),
    "length of 2**64 - 1": header({}, 2**64 - 1),
    "length of 90 MB": header({}, 90_000_000),
    "a list": header([1]),
    "a number": header(b"9" * 5000),
    "deep": header(b'{"a":' + b"[" * 100_000),
    "entry is a list": header({"w": [1]}),
    "entry is text": header({"w": "x"}),
    "no offsets": header({"w": {"dtype": "F32", "shape": [1]}}),
    "offsets of text": header({"w": entry(data_offsets=["a", "b"])}),
    "offsets backwards": header({"w": entry(data_offsets=[4, 0])}),
    "negative offset": header({"w": entry(data_offsets=[-4, 0])}) + b"0000",
    "fractional offsets": header({"w": entry(data_offsets=[0.0, 4.0])}) + b"0000",
    "offset of 10**30": header({"w": entry(data_offsets=[0, 10**30])}),
    "shape of text": header({"w": entry(shape="ab")}) + b"0000",
    "negative shape": header({"w": entry(shape=[-1, -1])}) + b"0000",
    "shape of 2**63": header({"w": entry(shape=[2**63, 2])}) + b"0000",
    "shape that wraps to one": header({"w": entry(shape=[2**32, 2**32, 1])}) + b"0000",
    "dtype is a list": header({"w": entry(dtype=["F32"])}) + b"0000",
    "dtype unknown": header({"w": entry(dtype="EVIL")}) + b"0000",
    "infinite": header(b'{"w":{"dtype":"F32","shape":[1e999],"data_offsets":[0,4]}}') + b"0000",
}


@pytest.mark.parametrize("case", ABSURD)
def test_absurd_safetensors_header_is_refused(case: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(ABSURD[case])
    with pytest.raises(WeightsUnreadable):
        safetensors.open_files([path])
    if case in ("nothing", "length of 2**63", "a list", "deep", "offset of 10**30"):
        assert not is_whole(path)


def gguf(*, tensors: int = 0, fields: int = 0, rest: bytes = b"") -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, fields) + rest


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def info(name: bytes, shape: tuple[int, ...], kind: int, offset: int) -> bytes:
    packed = struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)
    return text(name) + packed


ALIGNMENT = text(b"general.alignment")
NESTED = text(b"k") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 5000
ABSURD_GGUF: dict[str, bytes] = {
    "nothing": b"",
    "magic alone": b"GGUF",
    "other version": b"GGUF" + struct.pack("<IQQ", 99, 0, 0),
    "2**64 - 1 tensors": gguf(tensors=2**64 - 1),
    "2**40 fields": gguf(fields=2**40),
    "text without end": gguf(fields=1, rest=struct.pack("<Q", 2**62)),
    "text no UTF-8": gguf(fields=1, rest=text(b"\xff\xfe") + struct.pack("<II", 4, 0)),
    "type unknown": gguf(fields=1, rest=text(b"k") + struct.pack("<I", 77)),
    "array of 2**62": gguf(fields=1, rest=text(b"k") + struct.pack("<IIQ", 9, 4, 2**62)),
    "list of a text without end": gguf(
        fields=1, rest=text(b"k") + struct.pack("<IIQQ", 9, 8, 1, 2**62)
    ),
    "arrays 5000 deep": gguf(fields=1, rest=NESTED),
    "alignment zero": gguf(tensors=1, fields=1, rest=ALIGNMENT + struct.pack("<II", 4, 0))
    + info(b"w", (4,), 0, 0),
    "alignment is text": gguf(
        tensors=1, fields=1, rest=ALIGNMENT + struct.pack("<I", 8) + text(b"x")
    )
    + info(b"w", (4,), 0, 0),
    "no dimensions": gguf(tensors=1, rest=info(b"w", (), 0, 0)),
    "a thousand dimensions": gguf(tensors=1, rest=text(b"w") + struct.pack("<I", 1000)),
    "shape that wraps": gguf(tensors=1, rest=info(b"w", (2**32, 2**32, 2**32), 0, 0)),
    "shape of 2**63": gguf(tensors=1, rest=info(b"w", (32, 2**63), 0, 0)),
    "offset of 2**63": gguf(tensors=1, rest=info(b"w", (4,), 0, 2**63)),
    "kind unknown": gguf(tensors=1, rest=info(b"w", (4,), 250, 0)),
    "row shorter than a block": gguf(tensors=1, rest=info(b"w", (4, 2), 2, 0)),
    "no rows of wide columns": gguf(tensors=1, rest=info(b"w", (2**40, 0), 0, 0)),
}


@pytest.mark.parametrize("case", ABSURD_GGUF)
def test_absurd_gguf_header_is_refused(case: str, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(ABSURD_GGUF[case])
    for read in (gguf_reader.read, gguf_reader.read_tensors):
        with pytest.raises(GgufUnreadable):
            read(path)


def peak_mb() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def test_absurd_headers_cost_little_memory_and_time(tmp_path: Path) -> None:
    reads: list[tuple[dict[str, bytes], Callable[[Path], object]]] = [
        (ABSURD, lambda path: safetensors.open_files([path])),
        (ABSURD_GGUF, gguf_reader.read),
        (ABSURD_GGUF, gguf_reader.read_tensors),
    ]
    before_mb, start_s = peak_mb(), time.monotonic()
    for cases, read in reads:
        for content in cases.values():
            path = tmp_path / "file"
            path.write_bytes(content)
            with pytest.raises(StudioError):
                read(path)
    assert peak_mb() - before_mb < 200
    assert time.monotonic() - start_s < 5


def test_hostile_index_cannot_lead_elsewhere(built_in: Path) -> None:
    index = built_in / "model.safetensors.index.json"
    for place in ("../x.safetensors", "/etc/passwd", "a/b.safetensors", "", "\0", 3, None):
        index.write_text(json.dumps({"weight_map": {"w": place}}))
        with pytest.raises((ModelDamaged, ModelRefused)):
            models.resolve(str(built_in), Workspace(built_in.parent))
