"""The embedded llama.cpp server, with the shipped model."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from mlx_finetuning import quantizer
from mlx_finetuning.errors import PromptTooLong, RuntimeNotAnswering, RuntimeNotStarted
from mlx_finetuning.quantizer.write.export import export_gguf
from mlx_finetuning.runtime import Client, serve

SHIPPED = Path(quantizer.__file__).parents[1] / "assets" / "tiny-ja"
QUESTION = [{"role": "user", "content": "あなたは誰ですか？"}]


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runtime") / "tiny.gguf"
    export_gguf(SHIPPED, None, {"Q8_0": path})
    return path


@pytest.fixture(scope="module")
def client(gguf: Path) -> Iterator[Client]:
    with serve(gguf) as running:
        yield running


def test_greedy_answers_are_always_the_same(client: Client) -> None:
    answers = [client.chat(QUESTION) for _ in range(3)]
    assert answers[0].text
    assert answers[0].ended
    assert answers == [answers[0]] * 3


def test_the_users_own_python_files_are_not_taken_for_the_librarys(
    gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit(7)", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with serve(gguf) as running:
        assert running.chat(QUESTION, max_tokens=1).tokens == 1


def test_streamed_chunks_make_the_same_answer(client: Client) -> None:
    chunks = list(client.stream(QUESTION))
    assert len(chunks) > 1
    assert "".join(chunk.text for chunk in chunks) == client.chat(QUESTION).text


def test_answer_that_is_cut_says_so(client: Client) -> None:
    answer = client.chat(QUESTION, max_tokens=2)
    assert (answer.tokens, answer.ended) == (2, False)


def test_prompt_is_rendered_by_the_files_own_template(client: Client) -> None:
    tokenizer = AutoTokenizer.from_pretrained(SHIPPED)
    talk = [
        {"role": "system", "content": "短く答えてください。"},
        {"role": "user", "content": "こんにちは\n\n  元気？"},
        {"role": "assistant", "content": "はい。"},
        {"role": "user", "content": "「{{ 7*7 }}」とは？"},
    ]
    for messages in (QUESTION, talk):
        expected = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=False
        )
        assert client.apply_template(messages) == expected
        assert client.tokenize(expected, add_special=True) == tokenizer.encode(expected)


def test_prompt_of_token_ids_gets_the_same_answer(client: Client) -> None:
    tokenizer = AutoTokenizer.from_pretrained(SHIPPED)
    ids = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, return_dict=False)
    assert client.answer_ids(ids) == client.chat(QUESTION)
    cut = client.answer_ids(ids, max_tokens=2)
    assert (cut.tokens, cut.ended, cut.prompt_tokens) == (2, False, len(ids))


def test_token_ids_reach_the_model_as_they_are(client: Client) -> None:
    """The same text, cut letter by letter: ids that llama.cpp would never make of it."""
    tokenizer = AutoTokenizer.from_pretrained(SHIPPED)
    letters = [tokenizer.encode(letter, add_special_tokens=False) for letter in "あなたは誰ですか"]
    ids = [token for letter in letters for token in letter]
    assert ids != client.tokenize("あなたは誰ですか")
    assert client.answer_ids(ids, max_tokens=1).prompt_tokens == len(ids)


def test_token_id_outside_the_vocabulary_is_an_error(client: Client) -> None:
    with pytest.raises(RuntimeNotAnswering):
        client.answer_ids([10**6])
    assert client.chat(QUESTION).ended


def test_only_requests_with_the_key_on_loopback_are_answered(client: Client) -> None:
    assert client.address.startswith("http://127.0.0.1:")
    with pytest.raises(RuntimeNotAnswering):
        Client(client.address, "違う鍵".encode().hex()).chat(QUESTION)
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(f"{client.address}/props")


def test_question_longer_than_the_context_is_an_error(client: Client) -> None:
    with pytest.raises(PromptTooLong) as raised:
        client.chat([{"role": "user", "content": "長い話です。" * 4000}])
    assert raised.value.data["tokens"] > raised.value.data["limit"]
    assert client.is_healthy()


def test_environment_proxy_is_not_asked(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert client.is_healthy()


def test_server_ends_with_the_block(gguf: Path) -> None:
    with serve(gguf) as running:
        assert running.is_healthy()
    started = time.monotonic()
    assert not running.is_healthy()
    assert time.monotonic() - started < 5


def test_file_that_is_no_model_is_an_error(tmp_path: Path) -> None:
    wrong = tmp_path / "x.gguf"
    wrong.write_text("これはモデルではありません", encoding="utf-8")
    with pytest.raises(RuntimeNotStarted, match="GGUF"), serve(wrong):
        pass


def test_model_that_never_gets_ready_is_an_error(gguf: Path) -> None:
    with pytest.raises(RuntimeNotStarted, match="秒"), serve(gguf, timeout_s=0.01):
        pass


PARENT = """
import sys, time
from pathlib import Path
from mlx_finetuning.runtime import serve
with serve(Path(sys.argv[1])) as client:
    print(client.address, client.key, flush=True)
    time.sleep(60)
"""


def test_server_dies_with_its_killed_parent(gguf: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(gguf)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        client = Client(*parent.stdout.readline().split())
        assert client.is_healthy()
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
    end = time.monotonic() + 10
    while client.is_healthy() and time.monotonic() < end:
        time.sleep(0.05)
    assert not client.is_healthy()
