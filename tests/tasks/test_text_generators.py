"""Texts by every engine: the same way to ask, and servers that misbehave hang nobody."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from mlx_finetuning import models
from mlx_finetuning.errors import (
    AddressInvalid,
    Interrupted,
    ModelNotFound,
    OllamaModelNotFound,
    RuntimeNotAnswering,
)
from mlx_finetuning.ollama_integration import connect
from mlx_finetuning.ollama_integration.deploy import ModelDefinition, create_draft, publish
from mlx_finetuning.quantizer.write.export import export_gguf
from mlx_finetuning.runtime import addresses
from mlx_finetuning.runtime import text_generators as running
from mlx_finetuning.tasks.text_generators import opened
from mlx_finetuning.utils.text_generator import GeneratorChoice, TextRequest, ask, read
from mlx_finetuning.workspace import Workspace
from support.chat_server import ChatServer, chat_server
from support.ollama_server import running_ollama

GREETING = TextRequest(({"role": "user", "content": "こんにちは"},), max_tokens=24)


@dataclass(frozen=True)
class Pair:
    question: str
    answers: tuple[str, ...]


SCHEMA = {
    "type": "object",
    "properties": {
        "question": {"type": "string"},
        "answers": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
    },
    "required": ["question", "answers"],
    "additionalProperties": False,
}


def silent() -> None: ...


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("generators") / "tiny.gguf"
    shipped = models.resolve("tiny-ja", Workspace(path.parent))
    export_gguf(shipped, None, {"Q8_0": path})
    return path


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server() as running_server:
        yield running_server


def at(server: ChatServer) -> GeneratorChoice:
    return GeneratorChoice("some-model", address=server.url)


def test_engine_follows_from_the_models_name() -> None:
    engines = {
        name: GeneratorChoice(name).settled_engine
        for name in ("tiny-ja", "a/b.gguf", "ollama:gemma3", "org/model")
    }
    assert engines == {
        "tiny-ja": "mlx",
        "a/b.gguf": "gguf",
        "ollama:gemma3": "ollama",
        "org/model": "mlx",
    }
    assert GeneratorChoice("x", address="http://127.0.0.1:1").settled_engine == "address"
    assert GeneratorChoice("a/b.gguf", engine="mlx").settled_engine == "mlx"


# --- MLX and llama.cpp -------------------------------------------------------------------


def test_mlx_answers_many_at_once_and_the_same_again(tmp_path: Path) -> None:
    questions = ("こんにちは", "1たす1は？", "日本の首都は？", "元気？")
    requests = [
        TextRequest(({"role": "user", "content": text},), 16, 0.9, seed)
        for seed, text in enumerate(questions)
    ]
    with opened(GeneratorChoice("tiny-ja"), Workspace(tmp_path)) as generator:
        assert generator.at_once > 1
        first = generator.generate(requests, silent)
        assert generator.generate(requests, silent) == first
        assert len({*first}) > 1
        greedy = [replace(request, temperature=0.0) for request in requests]
        together = generator.generate(greedy, silent)
        assert together == [generator.generate([one], silent)[0] for one in greedy]


def test_mlx_stops_before_a_text_and_at_a_tick(tmp_path: Path) -> None:
    with opened(GeneratorChoice("tiny-ja"), Workspace(tmp_path)) as generator:
        (whole,) = generator.generate([GREETING], silent)
        (cut,) = generator.generate([replace(GREETING, stops=(whole[3:5],))], silent)
        assert cut == whole[:3]

        def stop() -> None:
            raise Interrupted()

        with pytest.raises(Interrupted):
            generator.generate([GREETING], stop)
        assert generator.generate([GREETING], silent) == [whole]  # and goes on after it


def test_llama_cpp_holds_the_model_to_a_schema(gguf: Path, tmp_path: Path) -> None:
    with opened(GeneratorChoice(str(gguf)), Workspace(tmp_path)) as generator:
        (plain,) = generator.generate([GREETING], silent)
        assert plain
        request = replace(GREETING, schema=SCHEMA, max_tokens=200, temperature=0.8, seed=3)
        found = ask(generator, [request], Pair, silent)
        assert generator.generate([request], silent) == generator.generate([request], silent)
    assert found[0].value is not None or "途中で切れて" in found[0].problem


def test_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    choice = GeneratorChoice(str(tmp_path / "missing.gguf"))
    with pytest.raises(ModelNotFound, match=r"missing\.gguf"), opened(choice, Workspace(tmp_path)):
        pass


# --- an address --------------------------------------------------------------------------


def test_address_is_asked_with_model_seed_and_no_key(server: ChatServer, tmp_path: Path) -> None:
    server.reply = lambda body: f"{body['messages'][0]['content']}ですね。"
    requests = [
        TextRequest(({"role": "user", "content": f"質問{number}"},), 20, 0.5, number)
        for number in range(6)
    ]
    with opened(at(server), Workspace(tmp_path)) as generator:
        texts = generator.generate(requests, silent)
    assert texts == [f"質問{number}ですね。" for number in range(6)]
    assert {body["model"] for body in server.bodies} == {"some-model"}
    assert {body["seed"] for body in server.bodies} == {*range(6)}
    assert server.keys == [None] * 6


def test_key_is_taken_from_the_environment(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-others")
    monkeypatch.setenv(addresses.KEY_VARIABLE, "our-key")
    with opened(at(server), Workspace(tmp_path)) as generator:
        generator.generate([GREETING], silent)
    assert server.keys == ["Bearer our-key"]


@pytest.mark.parametrize(
    "text",
    ["example.com", "ftp://example.com", "https://", "https://user:pw@example.com", "http://[::"],
)
def test_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(AddressInvalid):
        addresses.read(text)


def test_key_never_goes_unencrypted_to_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not addresses.read("http://example.com/v1").is_local
    assert addresses.read("http://127.0.0.1:1/v1").url == "http://127.0.0.1:1"
    monkeypatch.setenv(addresses.KEY_VARIABLE, "our-key")
    with pytest.raises(AddressInvalid, match="暗号"):
        addresses.read("http://example.com/v1")
    assert addresses.read("https://example.com/v1").url == "https://example.com"
    assert addresses.read("http://localhost:1").is_local


@pytest.mark.parametrize(
    ("status", "raw"),
    [
        (200, b""),
        (200, b"<html>Sign in</html>"),
        (200, b"data: {\n\n"),
        (200, b"data: [1, 2]\n\n"),
        (200, b'data: {"choices": [3]}\n\n'),
        (200, b'data: {"choices": [{"delta": "x"}]}\n\n'),
        (200, b'data: {"error": "out of credit"}\n\n'),
        (200, b"\xff\xfe\x00data: \x80\n\n"),
        (401, b'{"error": {"message": "wrong key"}}'),
        (500, b"oops"),
        (429, b'{"error": "slow down"}'),
    ],
)
def test_garbage_is_an_error_after_a_few_attempts(
    server: ChatServer, tmp_path: Path, status: int, raw: bytes
) -> None:
    server.status, server.raw = status, raw
    with opened(at(server), Workspace(tmp_path)) as generator:
        hasty = replace(generator, pause_s=0.01)
        with pytest.raises(RuntimeNotAnswering):
            hasty.generate([GREETING], silent)
    assert len(server.bodies) == running.ATTEMPTS


def test_answer_that_breaks_off_is_asked_for_again(server: ChatServer, tmp_path: Path) -> None:
    server.cuts = 2
    with opened(at(server), Workspace(tmp_path)) as generator:
        assert replace(generator, pause_s=0.01).generate([GREETING], silent) == ["はい。"]
    assert len(server.bodies) == 3


def test_answer_without_end_is_cut(server: ChatServer, tmp_path: Path) -> None:
    server.reply = lambda body: "あ" * 100_000
    with opened(at(server), Workspace(tmp_path)) as generator:
        (text,) = generator.generate([replace(GREETING, max_tokens=4)], silent)
    assert text == "あ" * 4 * running.CHARACTERS_PER_TOKEN


def test_slow_answer_is_cut_and_can_be_cancelled(server: ChatServer, tmp_path: Path) -> None:
    server.reply, server.drip_s = lambda body: "あ" * 1000, 0.05
    with opened(at(server), Workspace(tmp_path)) as generator:
        (text,) = replace(generator, answer_s=0.3).generate([GREETING], silent)
        assert 0 < len(text) < 20
        started = time.monotonic()

        def stop() -> None:
            if time.monotonic() - started > 0.3:
                raise Interrupted()

        with pytest.raises(Interrupted):
            generator.generate([GREETING] * 8, stop)
    assert time.monotonic() - started < 5


# --- Ollama ------------------------------------------------------------------------------


def test_ollama_answers_as_the_file_does_and_names_a_missing_model(
    gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(tmp_path)
    with opened(GeneratorChoice(str(gguf)), workspace) as generator:
        expected = generator.generate([GREETING], silent)
    with running_ollama(tmp_path / "blobs") as ollama:
        monkeypatch.setenv("OLLAMA_HOST", ollama.url)
        with connect() as client:
            tiny = ModelDefinition("tiny", gguf, "", {})
            create_draft(client, tiny)
            publish(client, tiny)
        with opened(GeneratorChoice("ollama:tiny"), workspace) as generator:
            assert generator.generate([GREETING], silent) == expected
        with (
            pytest.raises(OllamaModelNotFound),
            opened(GeneratorChoice("ollama:nobody"), workspace),
        ):
            pass


# --- JSON of engines that are held to nothing ---------------------------------------------


GOOD = {"question": "何時から？", "answers": ["9時"]}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (json.dumps(GOOD, ensure_ascii=False), ""),
        (f"はい、こちらです。\n```json\n{json.dumps(GOOD)}\n```", ""),
        ("わかりません。", "JSONではありません"),
        ('{"question": "何時', "途中で切れている"),
        ('{"question": 3}', "形が違います"),
        ("{" * 100_000, "途中で切れている"),
    ],
)
def test_json_is_found_in_what_is_said(text: str, problem: str) -> None:
    found = read(text, Pair)
    assert (found.value == Pair("何時から？", ("9時",))) is not bool(problem)
    assert problem in found.problem


def test_json_that_was_cut_is_asked_for_with_another_seed(
    server: ChatServer, tmp_path: Path
) -> None:
    good = json.dumps(GOOD)
    server.reply = lambda body: good if body["seed"] == 9 else good[:20]
    with opened(at(server), Workspace(tmp_path)) as generator:
        found = ask(generator, [replace(GREETING, seed=8), GREETING], Pair, silent)
    assert found[0].value == Pair("何時から？", ("9時",))
    assert found[1].value is None
    assert "途中で切れている" in found[1].problem
