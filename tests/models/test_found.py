"""GGUF files that other programs keep: an Ollama store and other folders, sound and damaged."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mlx_finetuning import models
from mlx_finetuning.errors import BaseFileUnusable, ModelNotFound
from mlx_finetuning.models import FoundFile, fitting, ollama_store
from support.ollama_store import MODEL, put, write_gguf

NOBODY = 65534


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An Ollama store; no other program keeps anything."""
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "store"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("HF_HOME", "HF_HUB_CACHE", "LLAMA_CACHE"):
        monkeypatch.delenv(name, raising=False)
    own = "registry.ollama.ai"
    put(tmp_path / "store", f"{own}/library/gemma2/2b", write_gguf(tmp_path / "a", "gemma2"))
    put(tmp_path / "store", f"{own}/someone/tuned/latest", write_gguf(tmp_path / "b", "qwen3"))
    put(tmp_path / "store", "hf.co/team/model/Q4_K_M", write_gguf(tmp_path / "c", "phi3"))
    put(tmp_path / "store", f"{own}/library/mamba/latest", write_gguf(tmp_path / "d", "mamba"))
    put(tmp_path / "store", f"{own}/library/gone/latest", None)
    put(
        tmp_path / "store", f"{own}/library/adapted/latest", None, MODEL.replace("model", "adapter")
    )
    for name, text in {
        "torn": '{"layers": [{"med',
        "odd": '{"layers": 3}',
        "path": json.dumps({"layers": [{"mediaType": MODEL, "digest": "sha256:../../../x"}]}),
        "deep": "[" * 100_000,
    }.items():
        put(tmp_path / "store", f"{own}/library/{name}/latest", None).write_text(text, "utf-8")
    return tmp_path / "store"


def by_name() -> dict[str, FoundFile]:
    return {file.name: file for file in models.found()}


def test_models_in_ollamas_store_are_listed_with_what_they_are(store: Path) -> None:
    listed = by_name()
    trainable = {name: file for name, file in listed.items() if not file.refusal}
    families = {name: (file.family, file.quant) for name, file in trainable.items()}
    assert families == {
        "ollama:gemma2:2b": ("gemma2", "Q4_K_M"),
        "ollama:someone/tuned:latest": ("qwen3", "Q4_K_M"),
        "ollama:hf.co/team/model:Q4_K_M": ("phi3", "Q4_K_M"),
    }
    assert "mamba" in listed["ollama:mamba:latest"].refusal
    assert all(file.size > 100_000 for file in trainable.values())
    assert models.gguf_file("ollama:gemma2:2b") == listed["ollama:gemma2:2b"].path


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("gone", "blob"),
        ("adapted", "アダプター"),
        *((name, "manifest") for name in ("torn", "odd", "path", "deep")),
    ],
)
def test_what_cannot_be_trained_is_listed_with_the_reason(
    name: str, word: str, store: Path
) -> None:
    assert word in by_name()[f"ollama:{name}:latest"].refusal
    with pytest.raises(BaseFileUnusable, match=word):
        models.gguf_file(f"ollama:{name}")


def test_name_that_ollama_does_not_have_brings_those_it_has(store: Path) -> None:
    with pytest.raises(ModelNotFound) as raised:
        models.gguf_file("ollama:gemma9")
    assert "ollama:gemma2:2b" in raised.value.data["near"]
    assert models.gguf_file("tiny-ja") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"stop": ["<end_of_turn>"], "top_k": 64}', {"stop": ["<end_of_turn>"], "top_k": 64}),
        ("[1]", {}),
        ('{"stop": [', {}),
    ],
)
def test_parameters_of_ollamas_models_are_read(
    text: str, expected: dict[str, object], store: Path, tmp_path: Path
) -> None:
    blob = write_gguf(tmp_path / "e", "llama")
    put(store, "registry.ollama.ai/library/own/latest", blob, parameters=text)
    assert ollama_store.parameters("ollama:own") == expected
    assert ollama_store.parameters("ollama:gemma2:2b") == {}
    assert ollama_store.parameters("own") == {}


def test_name_tells_what_its_file_is(store: Path, tmp_path: Path) -> None:
    of_ollama = models.found_file("ollama:gemma2:2b")
    assert of_ollama == by_name()["ollama:gemma2:2b"]
    path = write_gguf(tmp_path / "anywhere" / "own.gguf", "qwen3")
    anywhere = models.found_file(str(path))
    assert anywhere is not None
    assert (anywhere.family, anywhere.source, anywhere.refusal) == ("qwen3", "", "")
    assert models.found_file("tiny-ja") is None


def test_file_larger_than_the_memory_says_so(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = by_name()["ollama:gemma2:2b"].size
    monkeypatch.setattr(fitting, "capacity", lambda: size)
    assert by_name()["ollama:gemma2:2b"].refusal == ""
    monkeypatch.setattr(fitting, "capacity", lambda: size - 1)
    assert "メモリー" in by_name()["ollama:gemma2:2b"].refusal


def test_looking_writes_nothing(store: Path, tmp_path: Path) -> None:
    def state() -> dict[str, tuple[int, int]]:
        return {
            str(path): (path.stat().st_mtime_ns, path.stat().st_size)
            for path in tmp_path.rglob("*")
        }

    before = state()
    models.found()
    assert state() == before


def test_files_of_other_programs_are_found_once(store: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    blob = write_gguf(home / ".cache/huggingface/hub/models--a--b/blobs/0123")
    snapshot = home / ".cache/huggingface/hub/models--a--b/snapshots/main/model.gguf"
    snapshot.parent.mkdir(parents=True)
    snapshot.symlink_to(blob)
    linked = home / ".lmstudio/models/a/b/model.gguf"
    linked.parent.mkdir(parents=True)
    linked.symlink_to(blob)
    cache = home / ".cache/llama.cpp"
    write_gguf(cache / "part-00001-of-00002.gguf")
    write_gguf(cache / "eyes.gguf", "clip", general__type="mmproj")
    (cache / "empty.gguf").touch()
    (cache / "gone.gguf").symlink_to(tmp_path / "nowhere")
    os.mkfifo(cache / "pipe.gguf")
    listed = {
        file.path.name: file for file in models.found() if not file.name.startswith("ollama:")
    }
    assert listed.keys() == {
        *("model.gguf", "part-00001-of-00002.gguf", "eyes.gguf"),
        *("empty.gguf", "gone.gguf", "pipe.gguf"),
    }
    assert [name for name, file in listed.items() if not file.refusal] == ["model.gguf"]
    assert listed["model.gguf"].source == "LM Studio"
    assert models.gguf_file(str(linked)) == blob.resolve()


def test_store_without_permission_is_one_entry(store: Path) -> None:
    models.found()  # what it imports may be out of another user's reach
    (store / "manifests").chmod(0)
    user = os.geteuid()
    try:
        if user == 0:  # who may read everything
            for folder in (store, *list(store.parents)[:4]):
                folder.chmod(folder.stat().st_mode | 0o755)
            os.seteuid(NOBODY)
        assert [file.refusal for file in models.found()] == ["読む権限がありません。"]
    finally:
        os.seteuid(user)
        (store / "manifests").chmod(0o700)


def test_list_does_not_read_the_vocabulary(store: Path, tmp_path: Path) -> None:
    """What stands behind it may be cut off, and nothing is the slower for its size."""
    path = write_gguf(tmp_path / "home/.cache/llama.cpp/cut.gguf", "llama")
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"token100")])
    assert by_name()[str(path)].refusal == ""
