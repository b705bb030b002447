"""No English but names: every word in Latin letters that a page shows is on the list below."""

from __future__ import annotations

import re

from playwright.sync_api import Page
from served import Served

import ui_workspaces
from mlx_finetuning.ui import sitemap

WORD = re.compile(r"[A-Za-z][A-Za-z]+")
NAMES = set(
    "mlx finetuning MLX Ollama ollama com https LoRA DoRA rsLoRA NEFTune DPO ORPO GGUF BLAS OpenBLAS "
    "llama cpp Python Hugging Face HF TOKEN HOME FINETUNING CPU GPU GB MB kB GFLOP OS NFC NFKC BOM LF "
    "CSV TSV JSON JSONL Parquet Linux Debian GNU bookworm tiny ja faq csv utf cp SHA YAML".split()
)
SETTINGS = set(
    "chat auto on off answers all linear attention lora dora full adamw adamw bit adam adafactor muon sgd "
    "distributed mx seed cosine constant sft dpo orpo alpha rank iterations batch size chosen rejected workspace".split()
)
"""Values of settings, as files and commands write them."""
DRAWN = '[data-testid="stApp"][data-test-script-state="notRunning"]'


# Icons are words in the document; code is data; style rules cover the uploader's words.
SHOWN = """(main, also) => {
  const hidden = '[translate="no"], [role="img"], style, pre, code, '
    + '[data-testid="stFileUploaderDropzone"]' + also;
  const copy = main.cloneNode(true);
  copy.querySelectorAll(hidden).forEach(element => element.remove());
  const walker = document.createTreeWalker(copy, NodeFilter.SHOW_TEXT);
  const texts = [];
  while (walker.nextNode()) texts.push(walker.currentNode.data);
  return texts.join(" ");
}"""


def words(page: Page, without: str = "") -> set[str]:
    """What is shown, without paths and ids, and without what the selectors `without` name."""
    text = page.get_by_test_id("stMain").evaluate(SHOWN, without)
    return set(WORD.findall(re.sub(r"/[\w./-]+|\d{8}-[\w-]+", " ", text)))


def test_pages_speak_japanese(page: Page, served: Served) -> None:
    for fill in (lambda: None, lambda: ui_workspaces.fill(served.workspace, 3)):
        fill()
        for name, entry in sitemap.ENTRIES.items():
            page.goto(f"{served.url}/{'' if name == 'home' else name}")
            page.get_by_role("heading", name=entry.title, exact=True, level=1).wait_for()
            page.locator(DRAWN).wait_for()
            # What is folded away on these pages is data: the machine's parts, records, logs.
            unknown = words(page, ', [data-testid="stExpanderDetails"]') - NAMES - SETTINGS
            assert not unknown, (name, sorted(unknown))


def test_all_settings_are_explained_in_japanese(page: Page, served: Served) -> None:
    ui_workspaces.add_dataset(served.workspace)
    page.goto(f"{served.url}/training")
    page.get_by_text("詳細設定").click()
    page.get_by_text("最大トークン数").wait_for()
    unknown = words(page) - NAMES - SETTINGS
    assert not unknown, sorted(unknown)
