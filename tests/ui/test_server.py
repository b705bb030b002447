"""The server of the interface as others meet it: real HTTP, real websockets, real processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from mlx_finetuning import cli, files
from mlx_finetuning.ui import downloads, server
from mlx_finetuning.utils.host_guard import is_loopback, is_own_host, refusal
from mlx_finetuning.workspace import Workspace
from support.helpers import wait_until
from support.ui_server import ROOT, answers, free_port, get, serve

STREAM = "/_stcore/stream"


@pytest.fixture(scope="module", params=["serve", "streamlit run app.py"])
def port(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a server that was started in one of the two ways."""
    chosen, root = free_port(), tmp_path_factory.mktemp("served")
    if request.param == "serve":
        done = serve(root, "--background", "--port", str(chosen))
        assert done.returncode == 0, done.stderr
        yield chosen
        serve(root, "--stop")
        return
    command = [sys.executable, "-m", "streamlit", "run", "app.py", f"--server.port={chosen}"]
    environment = {**os.environ, "MLX_FINETUNING_HOME": str(root)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL) as server:
        wait_until(lambda: answers(chosen))
        yield chosen
        server.terminate()


def open_websocket(port: int, host: str, origin: str | None) -> int:
    """The status with which a websocket handshake is answered."""
    headers = {
        "Host": host,
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        **({} if origin is None else {"Origin": origin}),
    }
    lines = [f"GET {STREAM} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    with socket.create_connection(("127.0.0.1", port), timeout=10) as stream:
        stream.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        return int(stream.recv(100).split()[1])


def test_page_is_served_with_protecting_headers(port: int) -> None:
    status, headers = get(port)
    assert status == 200
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "default-src 'self'" in headers["content-security-policy"]
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"


def test_page_says_that_it_is_japanese_whatever_the_browser_accepts(port: int) -> None:
    accept = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    for path in ("/", "/training"):
        for encoding in ("identity", "gzip, br"):
            connection = HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("GET", path, headers={**accept, "Accept-Encoding": encoding})
            response = connection.getresponse()
            body = response.read()
            assert b'<html lang="ja"' in body and b'lang="en"' not in body
            assert len(body) == int(response.headers["Content-Length"])
            connection.close()


def test_foreign_host_is_refused_on_http_and_websocket(port: int) -> None:
    for host in ("evil.example", f"evil.example:{port}", f"127.0.0.1.evil.example:{port}", ""):
        assert get(port, Host=host)[0] == 400
        assert open_websocket(port, host, f"http://{host}") == 403


def test_foreign_and_null_origins_are_refused_on_http_and_websocket(port: int) -> None:
    host = f"127.0.0.1:{port}"
    for origin in ("null", "http://evil.example", "http://127.0.0.1:1", f"http://localhost:{port}"):
        assert get(port, Host=host, Origin=origin)[0] == 403
        assert open_websocket(port, host, origin) == 403


def test_own_page_may_connect(port: int) -> None:
    for name in ("127.0.0.1", "localhost"):
        host = f"{name}:{port}"
        assert get(port, Host=host, Origin=f"http://{host}")[0] == 200
        assert open_websocket(port, host, f"http://{host}") == 101


def test_upload_without_the_cookie_s_token_is_refused(port: int) -> None:
    status, _ = get(port, "PUT", "/_stcore/upload_file/session/file", Host=f"127.0.0.1:{port}")
    assert status == 403


def test_written_model_is_streamed_and_nothing_else_is_given(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    folder = files.make_folder(workspace.gguf_folder("run-1"))
    content = bytes(range(256)) * 40_000  # more than one piece
    (folder / "faq-Q4_K_M.gguf").write_bytes(content)
    (folder / "faq-Q4_K_M.export_report.json").write_text("{}", encoding="utf-8")
    secret = workspace.root / "preferences.json"
    secret.write_text("{}", encoding="utf-8")
    application = Starlette(routes=downloads.ROUTES, middleware=server.MIDDLEWARE)
    with (
        pytest.MonkeyPatch.context() as patch,
        TestClient(application, base_url="http://127.0.0.1") as client,
    ):
        patch.setenv("MLX_FINETUNING_HOME", str(workspace.root))
        patch.setattr("streamlit.config.get_option", lambda name: "127.0.0.1")
        found = client.get(downloads.address("run-1", "faq-Q4_K_M.gguf"))
        assert found.content == content
        assert found.headers["content-disposition"].startswith("attachment")
        part = client.get(
            downloads.address("run-1", "faq-Q4_K_M.gguf"), headers={"Range": "bytes=256-259"}
        )
        assert (part.status_code, part.content) == (206, b"\0\1\2\3")
        for run_id, name in (
            ("run-1", "faq-Q4_K_M.export_report.json"),
            ("run-1", "../../../preferences.json"),
            ("..", "preferences.json"),
            ("run-2", "faq-Q4_K_M.gguf"),
        ):
            assert client.get(downloads.address(run_id, name)).status_code in (404, 400)
        foreign = {"Origin": "http://evil.example"}
        path = downloads.address("run-1", "faq-Q4_K_M.gguf")
        assert client.get(path, headers=foreign).status_code == 403


def test_server_listens_on_loopback_alone(port: int) -> None:
    other = next((a for a in addresses() if not is_loopback(a)), None)
    if other is None:
        pytest.skip("this machine has only a loopback address")
    with pytest.raises(OSError), socket.create_connection((other, port), timeout=2):
        pass


def addresses() -> set[str]:
    import psutil

    found = (item for items in psutil.net_if_addrs().values() for item in items)
    return {item.address for item in found if item.family == socket.AF_INET}


def test_background_server_is_found_stopped_and_not_started_twice(tmp_path: Path) -> None:
    chosen = free_port()
    started = json.loads(serve(tmp_path, "--background", "--port", str(chosen)).stdout)
    try:
        assert answers(chosen)
        status = json.loads(serve(tmp_path, "--status").stdout)
        assert status == {"running": True, "url": started["url"], "pid": started["pid"]}
        again = serve(tmp_path, "--background", "--port", str(free_port()))
        assert json.loads(again.stdout)["error"]["code"] == "SERVER_RUNNING"
        assert started["url"] in again.stderr
    finally:
        stopped = serve(tmp_path, "--stop")
    assert json.loads(stopped.stdout)["url"] == started["url"]
    assert not answers(chosen)
    assert json.loads(serve(tmp_path, "--status").stdout) == {"running": False}


def test_killed_background_server_is_known_to_be_gone(tmp_path: Path) -> None:
    started = json.loads(serve(tmp_path, "--background", "--port", str(free_port())).stdout)
    os.kill(started["pid"], signal.SIGKILL)
    lock = Workspace(tmp_path).logs / "serve.lock"
    wait_until(lambda: not files.is_locked(lock))
    # The record still names the process, which must not be taken for a server, or ended.
    assert json.loads(serve(tmp_path, "--status").stdout) == {"running": False}
    assert json.loads(serve(tmp_path, "--stop").stdout) == {"running": False}


def test_taken_port_is_an_error_with_the_next_step(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = serve(tmp_path, "--background", "--port", str(port))
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["code"] == "SERVER_FAILED"
    assert "--port" in done.stderr


def test_other_program_s_answer_on_the_port_is_not_taken_for_the_server_s(
    tmp_path: Path, port: int
) -> None:
    done = serve(tmp_path, "--background", "--port", str(port))
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["code"] == "SERVER_FAILED"
    assert json.loads(serve(tmp_path, "--status").stdout) == {"running": False}


def test_address_that_is_none_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", "--address", "example.com"]) == 2
    assert "アドレスではありません" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "address", "is_own"),
    [
        ("127.0.0.1:8501", "127.0.0.1", True),
        ("localhost:8501", "127.0.0.1", True),
        ("[::1]:8501", "::1", True),
        ("LOCALHOST:8501", "127.0.0.1", True),
        ("192.168.1.5:8501", "127.0.0.1", False),
        ("evil.example", "127.0.0.1", False),
        ("localhost.evil.example", "127.0.0.1", False),
        ("user@localhost", "127.0.0.1", True),
        ("[::1", "127.0.0.1", False),
        ("127.0.0.2:8501", "127.0.0.2", True),
        ("192.168.1.5:8501", "0.0.0.0", True),
        ("[fe80::1]:8501", "::", True),
        (f"{socket.gethostname()}:8501", "0.0.0.0", True),
        ("evil.example:8501", "0.0.0.0", False),
    ],
)
def test_hosts_are_told_apart(host: str, address: str, is_own: bool) -> None:
    assert is_own_host(host, address) is is_own


def test_two_hosts_or_none_are_refused() -> None:
    assert refusal([], [], "127.0.0.1") == 400
    assert refusal(["localhost", "evil.example"], [], "127.0.0.1") == 400
    assert refusal(["localhost"], [], "127.0.0.1") is None


def test_server_without_pages_answers_none_and_knows_its_names_on_this_machine_alone() -> None:
    for address in ("127.0.0.1", "0.0.0.0"):
        own = "http://localhost:8080"
        assert refusal(["localhost:8080"], [own], address, has_pages=False) == 403
        assert refusal(["localhost:8080"], [], address, has_pages=False) is None
    assert refusal(["host.docker.internal"], [], "0.0.0.0", has_pages=False) is None
    assert refusal(["host.docker.internal"], [], "127.0.0.1", has_pages=False) == 400


def test_open_starts_where_a_port_is_free_and_shows_what_runs(tmp_path: Path) -> None:
    browser, shown = tmp_path / "browser", tmp_path / "shown"
    browser.write_text(f'#!/bin/sh\necho "$1" >> "{shown}"\n', encoding="utf-8")
    browser.chmod(0o755)
    environment = {**os.environ, "BROWSER": str(browser)}
    command = [str(Path(sys.executable).with_name("mlx-finetuning")), "serve", "--json"]
    command += ["--workspace", str(tmp_path / "w")]
    urls = []
    with socket.socket() as taken:
        with contextlib.suppress(OSError):  # whoever has it already serves as well
            taken.bind(("127.0.0.1", 8501))
            taken.listen()
        try:
            for _ in range(2):
                done = subprocess.run(
                    [*command, "--open"],
                    env=environment,
                    capture_output=True,
                    text=True,
                    check=True,
                )
                urls.append(json.loads(done.stdout)["url"])
            assert urls[0] == urls[1] != "http://127.0.0.1:8501"
            assert get(int(urls[0].rsplit(":", 1)[1]))[0] == 200
            wait_until(lambda: shown.read_text(encoding="utf-8").splitlines() == urls)
        finally:
            subprocess.run([*command, "--stop"], capture_output=True, check=True)
