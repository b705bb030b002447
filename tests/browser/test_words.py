"""No English but names: every word in Latin letters that a page shows is on the lists below."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page

from mlx_finetuning import models
from mlx_finetuning.config import CertifyConfig, ExportConfig
from mlx_finetuning.runtime.chats import Conversation
from mlx_finetuning.studio import Studio
from mlx_finetuning.tasks import evaluate
from mlx_finetuning.workspace import Workspace
from support import finished_run, ui_workspaces
from support.browser_actions import Turning, open_page, open_row
from support.served import Served

WORD = re.compile(r"[A-Za-z][A-Za-z]+")
NAMES = set(
    "mlx finetuning MLX Ollama ollama com https LoRA DoRA rsLoRA NEFTune DPO ORPO KTO SimPO AdamW GGUF BLAS OpenBLAS "
    "llama cpp Python Hugging Face HF TOKEN HOME FINETUNING CPU GPU GB MB kB GFLOP OS NFC NFKC BOM LF "
    "Excel xlsx xls ODS CSV TSV JSON JSONL Parquet Linux Debian GNU bookworm tiny ja faq csv utf cp SHA YAML "
    "PDF Word docx PowerPoint pptx Markdown HTML FAQ TensorBoard LM Studio PEFT transformers imatrix num ctx Qwen Apache questions gguf ID QLoRA Language".split()
) | {
    word
    for entry in models.catalogue()
    for name in (entry.name, entry.title, entry.licence, str(entry.mlx_4bit))
    for word in WORD.findall(name)
}
SETTINGS = set(
    "chat auto on off answers all linear attention lora dora full adamw adamw bit adam adafactor muon sgd "
    "distributed mx seed cosine constant sft dpo orpo alpha rank iterations batch size chosen rejected workspace learning rate".split()
)
"""Values of settings, as files and commands write them."""

# Icons are words in the document; code is data; style rules cover words of Streamlit's own.
SHOWN = """(body, also) => {
  const hidden = '[translate="no"], [role="img"], style, script, noscript, pre, code, '
    + '[data-testid="stFileUploaderDropzone"], [data-testid="stSkipToContent"], '
    + '[data-testid="stStatusWidget"]' + also;
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
    "dataset": ("new", "documents", "saved", "edit", "trash"),
    "training": ("new", "watch", "models"),
    "quantization": ("",),
    "chat": ("talk", "test", "ollama"),
    "experiments": ("list", "detail", "compare", "trash"),
    "settings": ("",),
}
"""Every view of every page."""


def words(page: Page, without: str = "") -> set[str]:
    """What is shown, without paths, ids and codes, and without what the selectors `without` name."""
    text = page.locator("body").evaluate(SHOWN, without)
    return set(WORD.findall(re.sub(r"/[\w./-]+|\d{8}-[\w-]+|コード: \w+", " ", text)))


def assert_japanese(page: Page, address: str) -> None:
    """Of the page that is shown, at this address."""
    unknown = words(page, FOLDED) - NAMES - SETTINGS
    assert not unknown, (address, sorted(unknown))


def test_pages_of_an_empty_workspace_speak_japanese(page: Page, served: Served) -> None:
    turning = Turning(page)
    open_page(page, served.url)
    for name in VIEWS:
        turning.to(f"{served.url}/{name}")
        assert_japanese(page, name)


@pytest.mark.usefixtures("few_general", "jobs_in_process")
def test_views_of_runs_in_every_state_speak_japanese(page: Page, served: Served) -> None:
    """The newest has all that can be made of a run; others have failed, or broke off."""
    ui_workspaces.fill(served.workspace, len(ui_workspaces.STATES))
    others = [run.run_id for run in Studio(served.workspace).runs.list()]
    newest = finish(served.workspace)
    views = [f"{name}?view={view}&run={newest}" for name in VIEWS for view in VIEWS[name]]
    turning = Turning(page)
    open_page(page, served.url)
    for view in (*views, *(f"training?view=watch&run={run_id}" for run_id in others[:3])):
        turning.to(f"{served.url}/{view}")
        assert_japanese(page, view)


def finish(workspace: Workspace) -> str:
    """A run with a report, files, a conversation, and a certificate with all notes: no answer ends."""
    run_id, studio = finished_run.make(workspace, short=True), Studio(workspace)
    evaluate.run(finished_run.context(workspace, max_tokens=8))
    studio.exports.start(run_id, ExportConfig(quant="Q8_0")).follow()
    studio.exports.start(run_id, ExportConfig(format="peft")).follow()
    studio.evaluation.certify(run_id, CertifyConfig(prompts=4, max_tokens=1)).follow()
    talk = [{"role": "user", "content": "こんにちは"}, {"role": "assistant", "content": "はい。"}]
    studio.chat.save(run_id, Conversation("mlx", talks={"tuned": talk, "base": talk}))
    return run_id


def test_all_settings_are_explained_in_japanese(page: Page, served: Served) -> None:
    ui_workspaces.add_dataset(served.workspace)
    page.goto(f"{served.url}/training")
    page.get_by_text("詳細設定").click()
    page.get_by_text("最大トークン数").wait_for()
    unknown = words(page) - NAMES - SETTINGS
    assert not unknown, sorted(unknown)


def test_rows_being_edited_speak_japanese(page: Page, served: Served) -> None:
    ui_workspaces.add_dataset(served.workspace)
    open_page(page, f"{served.url}/dataset?view=edit&dataset=faq")
    page.get_by_text("全ての行を見る・直す").click()
    open_row(page, 5)
    page.get_by_role("button", name="消す").click()
    page.get_by_text("直したところの一覧").click()
    page.get_by_text("5行目を消去").wait_for()
    # Streamlit's lists tell screen readers in English how many they hold.
    unknown = words(page, ", [data-live-announcer]") - NAMES - SETTINGS
    assert not unknown, sorted(unknown)


def test_no_page_shows_japanese_where_english_was_chosen(page: Page, served: Served) -> None:
    """But for what is the user's: names of files, questions, answers."""
    ui_workspaces.fill(served.workspace, len(ui_workspaces.STATES))
    turning = Turning(page)
    open_page(page, f"{served.url}/settings")
    page.get_by_role("combobox", name="言語 / Language").click()
    page.get_by_role("option", name="English").click()
    page.get_by_role("heading", name="Settings", exact=True).wait_for()
    run_id = Studio(served.workspace).runs.list()[0].run_id
    for name, views in VIEWS.items():
        for view in views:
            address = f"{served.url}/{name}?view={view}&run={run_id}"
            turning.to(address)
            text = page.locator("body").evaluate(SHOWN, "").replace("質問と回答.csv", "")
            found = re.findall(r".{0,20}[ぁ-ヿ一-鿿][^\n]{0,20}", text.replace("日本語", ""))
            assert not found, (address, found)
