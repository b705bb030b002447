"""The whole main job on real weights: SmolLM2-135M-Instruct learns sixty invented facts.

With the settings that a user gets who sets none. Real weights have something to lose, so what the
model knew is counted too. The Japanese sheet goes the same way with less training: the model knows
next to no Japanese, so of it only what was trained is asked.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from mlx_finetuning.config import EvaluateConfig
from mlx_finetuning.data_processor import SAMPLE_DATA
from mlx_finetuning.experiment_tracker.evaluation import in_prompt
from mlx_finetuning.mlx_trainer.inference import grade
from mlx_finetuning.mlx_trainer.inference.generate import logits
from mlx_finetuning.mlx_trainer.model.load import load
from mlx_finetuning.mlx_trainer.training import loop
from mlx_finetuning.progress import silent
from mlx_finetuning.quantizer.base import folder as gguf_folder
from mlx_finetuning.quantizer.llama_cpp.inference import LlamaModel
from mlx_finetuning.quantizer.write.export import export_gguf
from mlx_finetuning.utils import gguf_base, gguf_reader
from mlx_finetuning.workspace import AdapterPaths
from support import asking, command, smollm2
from support.gguf_bases import changed
from support.recorded_run import CONFIG, Recorder, rows

pytestmark = pytest.mark.models


@pytest.fixture(scope="module")
def base() -> Path:
    return smollm2.folder()


def test_the_folder_is_the_published_file(base: Path) -> None:
    """llama.cpp on the original and MLX on the folder say the same; rows of queries and keys in the
    wrong order would give a divergence above 1, other tokens none at all."""
    text = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    text += " ".join(question.text for question in asking.general())
    tokens = Tokenizer.from_file(str(base / "tokenizer.json")).encode(text).ids
    with LlamaModel(smollm2.original(), 512) as model:
        assert model.tokenize(text, False) == tokens
        theirs = _log_softmax(model.logits(tokens[:400]))
    ours = _log_softmax(logits(load(base), tokens[:400]))
    divergence = (np.exp(ours) * (ours - theirs)).sum(-1)
    # llama.cpp rounds activations to 8 bits before it multiplies by 4-bit weights.
    assert divergence.mean() < 0.02
    assert (ours.argmax(-1) == theirs.argmax(-1)).mean() > 0.9


def test_questions_with_the_same_data_are_graded_as_one_by_one(base: Path) -> None:
    loaded, data = load(base), rows(9)
    asked = [in_prompt.with_rows(row, data[2:]) for row in data[:2]]
    layout, settings = grade.batch_layout(loaded), EvaluateConfig(max_tokens=12)
    given = (loaded, asked, settings, silent, "")
    alone = grade.grade(*given, layout=layout, ask=True)
    together = grade.grade(*given, layout=layout, ask=True, begin_alike=True)
    assert [one.answer for one in together] == [one.answer for one in alone]
    nats = [one.nats / one.targets for one in together]
    assert nats == pytest.approx([one.nats / one.targets for one in alone], abs=1e-4)


def test_the_file_itself_is_a_base(tmp_path: Path, base: Path) -> None:
    """The same weights, but for the folder's rounding to 16 bits, and the same tokens."""
    gguf_folder.write(smollm2.original(), tmp_path / "base")
    question = [{"role": "user", "content": "What is the capital of France? 東京は？"}]
    values = []
    for folder in (base, tmp_path / "base"):
        loaded = load(folder)
        values.append(_log_softmax(logits(loaded, loaded.render(question, ask=True))))
    theirs, ours = values
    assert (np.exp(ours) * (ours - theirs)).sum(-1).mean() < 1e-3
    assert (ours.argmax(-1) == theirs.argmax(-1)).mean() > 0.95


def test_new_file_of_the_published_one_keeps_every_byte_that_was_not_trained(
    tmp_path: Path,
) -> None:
    original, base = smollm2.original(), tmp_path / "base"
    sha256 = gguf_base.sha256(original)
    gguf_folder.write(original, base)
    settings = replace(CONFIG, iterations=2, batch_size=1, targets="q_proj,v_proj", num_layers=2)
    paths = AdapterPaths(tmp_path / "adapter")
    loop.train(load(base), rows(4), rows(1), settings, paths, Recorder().hooks())
    new = tmp_path / "new.gguf"
    export_gguf(base, paths.folder, {"Q8_0": new})
    before, after = (gguf_reader.read(path).tensors for path in (original, new))
    assert before.keys() == after.keys()
    trained = {f"blk.{block}.attn_{part}.weight" for block in (28, 29) for part in "qv"}
    assert changed(original, new) == trained
    assert gguf_base.sha256(original) == sha256


def _log_softmax(values: np.ndarray) -> np.ndarray:
    shifted = values.astype(np.float64) - values.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


@dataclass(frozen=True)
class Job:
    workspace: Path
    run: str
    report: dict[str, Any]
    gguf: Path
    certificate: dict[str, Any]

    @property
    def adapter(self) -> Path:
        return self.workspace / "models" / "finetuned" / self.run

    def unseen(self) -> list[asking.Question]:
        """The wordings of the test split, which were not trained."""
        keys = {fact.answer: fact.key for fact in asking.facts()}
        lines = (self.workspace / "datasets" / "facts" / "test.jsonl").read_text("utf-8")
        turns = [json.loads(line)["messages"] for line in lines.splitlines()]
        return [asking.Question(turn[0]["content"], keys[turn[1]["content"]]) for turn in turns]


def main_job(workspace: Path, base: Path, sheet: Path, *settings: str) -> Job:
    prepared = ("--name", "facts", "--set", "hold_out=paraphrase", "--set", "test_share=0.2")
    command.result(workspace, "data", "prepare", str(sheet), *prepared)
    command.result(workspace, "data", "preview", "facts", "--model", str(base))
    chosen = [word for setting in settings for word in ("--set", setting)]
    run = command.result(
        *(workspace, "train", "--model", str(base), "--dataset", "facts", *chosen), limit_s=3600
    )["run_id"]
    asked = ("--set", "max_tokens=32", "--set", "max_rows=24")
    report = command.result(workspace, "evaluate", run, *asked, limit_s=1800)["report"]
    exported = command.result(workspace, "export", run, "--quant", "Q4_K_M")
    gguf = Path(exported["files"]["Q4_K_M"]["path"])
    assert command.result(workspace, "verify", str(gguf), "--run", run)["proven"]
    certified = ("--set", "prompts=16", "--set", "max_tokens=32")
    certificate = command.result(workspace, "certify", run, *certified)
    return Job(workspace, run, report, gguf, certificate)


@pytest.fixture(scope="module")
def english(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Job:
    workspace = tmp_path_factory.mktemp("english")
    sheet = workspace / "facts.csv"
    asking.write_sheet(sheet)
    return main_job(workspace, base, sheet, *SETTINGS)


SETTINGS: tuple[str, ...] = ("iterations=100",)
"""A third of the usual updates: CI has two cores. Measured with replay, on a GPU: 32 and 33 of 48 unseen
wordings by their key; with all 300, 38 to 41 (docs/decisions.md)."""


def test_it_learns_the_facts_in_wordings_that_it_never_saw(english: Job) -> None:
    test = english.report["splits"]["test"]
    assert test["base"]["contains"] <= 0.1
    assert test["tuned"]["contains"] >= 0.5
    assert english.report["splits"]["train"]["tuned"]["exact"] >= 0.9


def test_it_still_knows_what_it_knew(english: Job, base: Path) -> None:
    questions = asking.general()
    texts = [question.text for question in questions]
    before = asking.by_mlx(base, None, texts)
    after = asking.by_mlx(base, english.adapter, texts)
    known = [
        (question, answer)
        for question, was, answer in zip(questions, before, after, strict=True)
        if question.is_right(was)
    ]
    assert len(known) >= 25
    kept = [question for question, answer in known if question.is_right(answer)]
    assert len(kept) >= KEPT * len(known), [answer for _, answer in known]


KEPT = 0.7
"""Measured with replay, on a GPU: 31 and 28 of 35 after 100 updates; without it 20 or 21 of 32 were left."""


def test_the_quantized_file_answers_as_trained(english: Job, base: Path) -> None:
    assert english.certificate["passed"], english.certificate["problems"]
    questions = english.unseen()
    texts = [question.text for question in questions]
    trained = asking.by_mlx(base, english.adapter, texts)
    written = asking.by_llama_cpp(english.gguf, texts)
    right = [
        sum(question.is_right(answer) for question, answer in zip(questions, said, strict=True))
        for said in (trained, written)
    ]
    # Measured: 33 and 32 of the 36 that MLX has right, after a third of the usual updates.
    assert right[1] >= 0.8 * right[0], right


def test_plain_mlx_lm_loads_the_adapter_and_answers_alike(english: Job, base: Path) -> None:
    question = asking.facts()[0].wordings[0]
    flags = {"--model": base, "--adapter-path": english.adapter, "--temp": 0}
    words = [str(word) for pair in flags.items() for word in pair]
    done = subprocess.run(
        [sys.executable, "-m", "mlx_lm", "generate", *words, "--prompt", question],
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    ours = command.result(english.workspace, "chat", english.run, "--prompt", question)["text"]
    assert ours in done.stdout


@pytest.mark.long
def test_japanese_facts_are_learned_and_written_too(tmp_path: Path, base: Path) -> None:
    # The loss is 0.002 by then. There is no Japanese to be kept.
    job = main_job(tmp_path, base, SAMPLE_DATA, "iterations=60", "replay=0")
    assert job.certificate["passed"], job.certificate["problems"]
    lines = (job.workspace / "datasets" / "facts" / "train.jsonl").read_text("utf-8").splitlines()
    turns = [json.loads(line)["messages"] for line in lines[:16]]
    questions = [turn[0]["content"] for turn in turns]
    # An English vocabulary takes two tokens and more for a Japanese letter.
    trained = asking.by_mlx(base, job.adapter, questions, max_tokens=160)
    written = asking.by_llama_cpp(job.gguf, questions, max_tokens=160)
    right = [
        sum(answer == turn[1]["content"] for answer, turn in zip(said, turns, strict=True))
        for said in (trained, written)
    ]
    assert right[0] >= 0.8 * len(turns), right
    assert right[1] >= 0.6 * len(turns), right
