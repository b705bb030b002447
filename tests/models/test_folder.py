"""Model folders: what is refused, what is found by which name, what the catalogue says."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mlx_finetuning import models
from mlx_finetuning.errors import (
    ModelBuiltIn,
    ModelDamaged,
    ModelIncomplete,
    ModelLinksOutside,
    ModelNotDownloaded,
    ModelNotFound,
    ModelRefused,
    ModelRunsCode,
    ModelUnsafeWeights,
    TokenizerUnreadable,
)
from mlx_finetuning.messages import catalogue
from mlx_finetuning.models.folder import is_whole
from mlx_finetuning.tokenization import chat, foreign
from mlx_finetuning.workspace import Workspace


def write_weights(path: Path, payload: bytes = b"\0" * 8) -> None:
    header = json.dumps(
        {"w": {"dtype": "U8", "shape": [len(payload)], "data_offsets": [0, len(payload)]}}
    ).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + payload)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The smallest folder that passes."""
    path = tmp_path / "model"
    path.mkdir()
    (path / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    (path / "tokenizer.json").write_text("{}", encoding="utf-8")
    write_weights(path / "model.safetensors")
    return path


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


def add_to_json(path: Path, **values: object) -> None:
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps({**known, **values}), encoding="utf-8")


HOSTILE: dict[str, tuple[Callable[[Path], object], type[ModelRefused]]] = {
    "model_file": (
        lambda path: add_to_json(path / "config.json", model_file="model.py"),
        ModelRunsCode,
    ),
    "auto_map in config": (
        lambda path: add_to_json(path / "config.json", auto_map={"AutoModel": "evil.Model"}),
        ModelRunsCode,
    ),
    "auto_map in tokenizer": (
        lambda path: add_to_json(
            path / "tokenizer_config.json", auto_map={"AutoTokenizer": "e.T", "AutoModel": "e.M"}
        ),
        ModelRunsCode,
    ),
    "auto_map nested": (
        lambda path: add_to_json(path / "config.json", text_config={"auto_map": {"A": "e.M"}}),
        ModelRunsCode,
    ),
    "custom_generate": (
        lambda path: add_to_json(path / "generation_config.json", custom_generate="evil"),
        ModelRunsCode,
    ),
    "pickle": (lambda path: (path / "pytorch_model.bin").write_bytes(b"x"), ModelUnsafeWeights),
    "pickle in capitals": (
        lambda path: (path / "WEIGHTS.PT").write_bytes(b"x"),
        ModelUnsafeWeights,
    ),
    "link to a file": (
        lambda path: (path / "extra.json").symlink_to("/etc/passwd"),
        ModelLinksOutside,
    ),
    "link upwards": (lambda path: (path / "up").symlink_to(path.parent), ModelLinksOutside),
    "no config": (lambda path: (path / "config.json").unlink(), ModelIncomplete),
    "no tokenizer": (lambda path: (path / "tokenizer.json").unlink(), ModelIncomplete),
    "no weights": (lambda path: (path / "model.safetensors").unlink(), ModelIncomplete),
    "missing shard": (
        lambda path: add_to_json(
            path / "model.safetensors.index.json", weight_map={"w": "model-00002.safetensors"}
        ),
        ModelIncomplete,
    ),
    "shard elsewhere": (
        lambda path: add_to_json(
            path / "model.safetensors.index.json", weight_map={"w": "../other.safetensors"}
        ),
        ModelDamaged,
    ),
    "config is no JSON": (lambda path: (path / "config.json").write_bytes(b"\xff{"), ModelDamaged),
    "config is a list": (lambda path: (path / "config.json").write_text("[]"), ModelDamaged),
    "config without type": (lambda path: (path / "config.json").write_text("{}"), ModelDamaged),
    "deep JSON": (
        lambda path: (path / "config.json").write_text("[" * 100_000 + "]" * 100_000),
        ModelDamaged,
    ),
    "Git LFS pointer": (
        lambda path: (path / "model.safetensors").write_text(
            "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
        ),
        ModelDamaged,
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_folder_is_refused(folder: Path, case: str) -> None:
    change, expected = HOSTILE[case]
    assert models.check_folder(folder) == folder
    change(folder)
    with pytest.raises(expected) as caught:
        models.check_folder(folder)
    assert caught.value.code in catalogue()
    assert str(folder) in str(caught.value)
    assert "不明" not in str(caught.value)


def test_code_of_a_hostile_folder_does_not_run(folder: Path, tmp_path: Path) -> None:
    proof = tmp_path / "ran"
    (folder / "evil.py").write_text(f"open({str(proof)!r}, 'w')", encoding="utf-8")
    add_to_json(folder / "config.json", model_file="evil.py", auto_map={"AutoModel": "evil.M"})
    with pytest.raises(ModelRunsCode):
        models.check_folder(folder)
    assert not proof.exists()


def test_class_for_the_tokenizer_alone_is_never_asked_for(folder: Path, tmp_path: Path) -> None:
    proof = tmp_path / "ran"
    (folder / "evil.py").write_text(f"open({str(proof)!r}, 'w')", encoding="utf-8")
    named = {"AutoTokenizer": ["evil.Tokenizer", "evil.Tokenizer"]}
    add_to_json(folder / "tokenizer_config.json", auto_map=named)
    tiny = models.resolve("tiny-ja", Workspace(tmp_path / "none"))
    shutil.copyfile(tiny / "tokenizer.json", folder / "tokenizer.json")
    add_to_json(folder / "tokenizer_config.json", eos_token="<|im_end|>")
    assert models.check_folder(folder) == folder
    assert chat.load(folder).encode("こんにちは")
    with pytest.raises(TokenizerUnreadable):  # what the mlx-lm engine would use
        foreign.encode_as_rebuilt(folder)
    assert not proof.exists()


def test_link_inside_the_folder_is_allowed(folder: Path) -> None:
    (folder / "alias.json").symlink_to("tokenizer.json")
    assert models.check_folder(folder) == folder


def test_empty_auto_map_names_no_code(folder: Path) -> None:
    add_to_json(folder / "config.json", auto_map={}, model_file=None)
    assert models.check_folder(folder) == folder


def test_weights_cut_at_any_byte_are_noticed(folder: Path) -> None:
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    assert is_whole(weights)
    for length in range(len(whole)):
        weights.write_bytes(whole[:length])
        assert not is_whole(weights), length


def test_built_in_model_needs_no_workspace(workspace: Workspace) -> None:
    path = models.resolve(models.BUILT_IN, workspace)
    assert (path / "config.json").is_file()
    assert path.name == models.BUILT_IN
    assert not workspace.root.exists()


def test_rebuilt_model_wins_over_the_built_in_one(workspace: Workspace, folder: Path) -> None:
    rebuilt = workspace.base_model(models.BUILT_IN)
    rebuilt.parent.mkdir(parents=True)
    folder.rename(rebuilt)
    assert models.resolve(models.BUILT_IN, workspace) == rebuilt
    assert [model.path for model in models.installed(workspace)] == [rebuilt]
    models.delete(models.BUILT_IN, workspace)
    assert models.resolve(models.BUILT_IN, workspace) != rebuilt


def test_built_in_model_cannot_be_deleted(workspace: Workspace) -> None:
    with pytest.raises(ModelBuiltIn):
        models.delete(models.BUILT_IN, workspace)


def test_local_folder_is_used_by_its_path(
    workspace: Workspace, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    for name in (str(folder), "./model", "model"):
        assert models.resolve(name, workspace) == folder


def test_misspelt_name_is_answered_with_near_ones(workspace: Workspace) -> None:
    for wrong, meant in (("tiny-jp", "tiny-ja"), ("qwen3-0.6", "Qwen/Qwen3-0.6B")):
        with pytest.raises(ModelNotFound) as caught:
            models.resolve(wrong, workspace)
        assert meant in str(caught.value)


def test_hub_model_that_is_not_here_says_how_to_fetch_it_and_how_to_go_on_offline(
    workspace: Workspace,
) -> None:
    with pytest.raises(ModelNotDownloaded) as caught:
        models.resolve("Qwen/Qwen3-0.6B", workspace)
    text = str(caught.value)
    assert "mlx-finetuning models download Qwen/Qwen3-0.6B" in text
    assert "1.5 GB" in text
    assert "tiny-ja" in text


@pytest.mark.parametrize(
    "name",
    ["", " ", "\0", "a\0b", "a\nb", "; touch x", "$(touch x)", "-rf", "x/../../y", "x" * 5000, "/"],
)
def test_untrusted_name_is_refused_and_changes_nothing(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ModelNotFound, ModelRefused)) as caught:
        models.resolve(name, workspace)
    assert "\0" not in str(caught.value)
    with pytest.raises(ModelNotFound):
        models.delete(name, workspace)
    assert list(tmp_path.iterdir()) == []


def test_delete_stays_inside_the_workspace(workspace: Workspace, folder: Path) -> None:
    workspace.base_models.mkdir(parents=True)
    for name in (str(folder), "../../../model", ".."):
        with pytest.raises(ModelNotFound):
            models.delete(name, workspace)
    assert folder.is_dir()


def test_catalogue_entries_are_complete_and_can_be_asked_for(workspace: Workspace) -> None:
    entries = models.catalogue()
    assert len({entry.name for entry in entries}) == len(entries) >= 12
    assert [entry.name for entry in entries if entry.built_in] == [models.BUILT_IN]
    for entry in entries:
        assert entry.licence
        assert set(entry.tasks) <= {"chat", "qa", "text", "translation"}
        assert entry.memory_gb > entry.size_gb
        if not entry.built_in:
            with pytest.raises(ModelNotDownloaded):
                models.resolve(entry.name, workspace)


def test_importing_models_loads_no_hub_library() -> None:
    program = (
        "import sys; from mlx_finetuning import models; models.catalogue()\n"
        "sys.exit(', '.join({'huggingface_hub', 'httpx2', 'mlx', 'numpy'} & set(sys.modules)) or None)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
