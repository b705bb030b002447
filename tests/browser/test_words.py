"""No English but names: every word in Latin letters that a page shows is on the lists below."""

from __future__ import annotations

import re

from playwright.sync_api import Page
from served import Served

import finished_run
import ui_workspaces
from mlx_finetuning.config import ExportConfig
from mlx_finetuning.runtime.chats import Chat
from mlx_finetuning.studio import Studio
from mlx_finetuning.ui import sitemap

WORD = re.compile(r"[A-Za-z][A-Za-z]+")
NAMES = set(
    "mlx finetuning MLX Ollama ollama com https LoRA DoRA rsLoRA NEFTune DPO ORPO GGUF BLAS OpenBLAS "
    "llama cpp Python Hugging Face HF TOKEN HOME FINETUNING CPU GPU GB MB kB GFLOP OS NFC NFKC BOM LF "
    "CSV TSV JSON JSONL Parquet Linux Debian GNU bookworm tiny ja faq csv utf cp SHA YAML "
    "HTML TensorBoard LM Studio PEFT transformers imatrix num ctx Qwen Apache questions gguf ID".split()
)
SETTINGS = set(
    "chat auto on off answers all linear attention lora dora full adamw adamw bit adam adafactor muon sgd "
    "distributed mx seed cosine constant sft dpo orpo alpha rank iterations batch size chosen rejected workspace".split()
)
"""Values of settings, as files and commands write them."""
DRAWN = '[data-testid="stApp"][data-test-script-state="notRunning"]'


# Icons are words in the document; code is data; style rules cover words of Streamlit's own.
SHOWN = """(body, also) => {
  const hidden = '[translate="no"], [role="img"], style, script, noscript, pre, code, '
    + '[data-testid="stFileUploaderDropzone"], [data-testid="stSkipToContent"]' + also;
  const copy = body.cloneNode(true);
  copy.querySelectorAll(hidden).forEach(element => element.remove());
  const walker = document.createTreeWalker(copy, NodeFilter.SHOW_TEXT);
  const texts = [];
  while (walker.nextNode()) texts.push(walker.currentNode.data);
  return texts.join(" ");
}"""
FOLDED = ', [data-testid="stExpanderDetails"]'
"""What is folded away on most pages is data: the machine's parts, records, logs."""
VIEWS = {
    "": ("",),
    "dataset": ("new", "saved", "trash"),
    "training": ("new", "watch", "models"),
    "quantization": ("",),
    "ollama": ("talk", "register", "models"),
    "experiments": ("list", "detail", "compare", "trash"),
    "settings": ("",),
}
"""Every view of every page."""


def words(page: Page, without: str = "") -> set[str]:
    """What is shown, without paths and ids, and without what the selectors `without` name."""
    text = page.locator("body").evaluate(SHOWN, without)
    return set(WORD.findall(re.sub(r"/[\w./-]+|\d{8}-[\w-]+", " ", text)))


def assert_japanese(page: Page, served: Served, run_id: str = "") -> None:
    """On every view of every page, with `run_id` chosen."""
    for name, views in VIEWS.items():
        for view in views:
            page.goto(f"{served.url}/{name}?view={view}&run={run_id}")
            title = sitemap.ENTRIES[name or "home"].title
            page.get_by_role("heading", name=title, exact=True, level=1).wait_for()
            page.locator(DRAWN).wait_for()
            unknown = words(page, FOLDED) - NAMES - SETTINGS
            assert not unknown, (name, view, sorted(unknown))


def test_pages_of_an_empty_and_of_a_full_workspace_speak_japanese(
    page: Page, served: Served
) -> None:
    assert_japanese(page, served)
    ui_workspaces.fill(served.workspace, 3)
    assert_japanese(page, served)


def test_pages_of_a_run_with_all_that_can_be_made_of_it_speak_japanese(
    page: Page, served: Served
) -> None:
    run_id, studio = finished_run.make(served.workspace), Studio(served.workspace)
    studio.evaluate(run_id)
    studio.export(run_id, ExportConfig(quant="Q8_0"))
    studio.export(run_id, ExportConfig(format="peft"))
    studio.certify(run_id)
    talk = [{"role": "user", "content": "こんにちは"}, {"role": "assistant", "content": "はい。"}]
    studio.save_chat(run_id, Chat("mlx", talks={"tuned": talk, "base": talk}))
    assert_japanese(page, served, run_id)


def test_all_settings_are_explained_in_japanese(page: Page, served: Served) -> None:
    ui_workspaces.add_dataset(served.workspace)
    page.goto(f"{served.url}/training")
    page.get_by_text("詳細設定").click()
    page.get_by_text("最大トークン数").wait_for()
    unknown = words(page) - NAMES - SETTINGS
    assert not unknown, sorted(unknown)
