"""Hostile files handed in through the page: kept as they are under a harmless name, refused or
read, and never run, unpacked or drawn as markup."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from mlx_finetuning.ui import sitemap
from mlx_finetuning.workspace import Workspace
from support.ui_pages import PAGES, SCRIPT

MARKUP = "<script>alert(1)</script>"


def zip_bomb() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", b"0" * 50_000_000)
    return stream.getvalue()


FILES: dict[str, bytes] = {
    "zip.csv": zip_bomb(),
    "xlsx.csv": b"PK\x03\x04" + b"\0" * 2000,
    "pickle.csv": b"\x80\x04\x95\x1c\0\0\0\0\0\0\0\x8c\x05posix\x8c\x06system\x93\x8c\x0btouch PWNED\x85R.",
    "binary.csv": bytes(range(256)) * 50,
    "nul.csv": "質問,回答\n".encode() + b"a\0b,c\n",
    "empty.csv": b"",
    "header.csv": "質問,回答\n".encode(),
    "long-cell.csv": "質問,回答\n問い,".encode() + b"x" * 5_000_000,
    "quote.csv": ('質問,回答\n"' + "あ" * 10_000).encode(),
    "columns.csv": (",".join(f"c{n}" for n in range(20_000)) + "\n").encode(),
    "markup.csv": f"質問,回答,{MARKUP}\n{MARKUP},[x](javascript:alert(1)),![](http://evil.example/x)\n".encode()
    * 3,
    "formula.csv": "質問,回答\n=cmd|' /C calc'!A0,@SUM(1)\n".encode() * 3,
    "deep.json": b"[" * 100_000,
    "number.json": b"[" + b"9" * 10_000 + b"]",
    "lines.jsonl": b'{"messages": 3}\n{"messages": [{"role": []}]}\n[]\n"x"\n' * 50,
    "broken.parquet": b"PAR1" + b"\xff" * 500 + b"PAR1",
    "../../../evil.csv": "質問,回答\n問い,答え\n".encode(),
    "<img src=x onerror=alert(1)>.csv": "質問,回答\n問い,答え\n".encode(),
}


@pytest.mark.parametrize("name", FILES)
def test_hostile_upload_is_read_or_refused(
    name: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLX_FINETUNING_HOME", str(workspace.root))
    app = AppTest.from_file(str(SCRIPT), default_timeout=60)
    page = app.switch_page(str(PAGES / "dataset.py")).run()
    page.file_uploader[0].upload(name, FILES[name], "text/csv").run()
    assert not page.exception
    assert [title.value for title in page.title] == [sitemap.ENTRIES["dataset"].title]
    assert not any("予期しない" in item.value for item in page.error), page.error
    assert not any(MARKUP in str(item.body) for item in page.get("html"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["workspace"]
    (kept,) = workspace.uploads.glob("*/*")
    assert kept.read_bytes() == FILES[name] and "<" not in kept.name
