"""A run on a GGUF file: trained by a real worker, then exported, certified and answered from."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from mlx_finetuning import bases, files
from mlx_finetuning.config import GenerateConfig, TrainConfig
from mlx_finetuning.errors import BaseFileChanged, BaseFileUnusable, Interrupted
from mlx_finetuning.jobs import runs
from mlx_finetuning.jobs.context import TaskContext
from mlx_finetuning.jobs.runs import Run
from mlx_finetuning.progress import silent
from mlx_finetuning.quantizer.write.export import export_gguf
from mlx_finetuning.studio import Studio
from mlx_finetuning.tasks import certify, evaluate, export
from mlx_finetuning.utils import gguf_base, gguf_reader
from mlx_finetuning.workspace import Workspace
from support.helpers import wait_until, write_facts
from support.small_models import write_model

SETTINGS = TrainConfig(
    dataset="facts", iterations=6, batch_size=4, rank=4, targets="q_proj,v_proj", learning_rate=1e-3
)


@dataclass(frozen=True)
class Trained:
    studio: Studio
    run_id: str
    file: Path
    sha256: str

    @property
    def workspace(self) -> Workspace:
        return self.studio.workspace

    @property
    def run(self) -> Run:
        return runs.show(self.workspace, self.run_id)

    def context(self, **config: object) -> TaskContext:
        paths = self.workspace.run(self.run_id).later_job("job-1")
        return TaskContext(
            self.workspace, paths, self.run_id, config, silent, lambda name, **data: None
        )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("gguf-base")
    write_model(folder / "m", "llama 3")
    file = folder / "Small-Model.Q8_0.gguf"
    export_gguf(folder / "m", None, {"Q8_0": file})
    file.chmod(0o400)
    sha256 = gguf_base.sha256(file)
    studio = Studio(Workspace(folder / "workspace"))
    write_facts(studio.workspace)
    run_id = studio.training.start(TrainConfig(**{**vars(SETTINGS), "model": str(file)}))
    studio.runs.follow(run_id, silent)
    return Trained(studio, run_id, file, sha256)


def test_run_on_a_file_leaves_the_file_as_it_was(trained: Trained) -> None:
    losses = [line.loss for line in runs.metrics(trained.workspace, trained.run_id) if line.loss]
    assert len(losses) == SETTINGS.iterations and losses[-1] < losses[0]
    assert gguf_base.sha256(trained.file) == trained.sha256
    folder = bases.of_run(trained.run, trained.workspace)
    assert folder.name.startswith("small-model-q8-0-")
    assert not list(folder.glob("*.safetensors"))


def test_adapter_and_new_file_answer_as_the_trained_model(trained: Trained) -> None:
    adapter = export.run(trained.context(format="gguf-lora"))
    written = export.run(trained.context(quant="Q8_0"))
    for parity in (one.parity for made in (adapter, written) for one in made.files.values()):
        assert parity.top1_agreement > 0.9 and parity.mean_kl < 0.05
    before, after = (gguf_reader.read(path).tensors for path in (trained.file, Path(written.path)))
    kept = {name for name in before if ".attn_q." not in name and ".attn_v." not in name}
    assert before.keys() == after.keys()
    assert all(before[name].data.tobytes() == after[name].data.tobytes() for name in kept)
    certificate = certify.run(trained.context(prompts=3, max_tokens=8))
    rows = {row.engine: row for row in certificate.rows}
    assert {"mlx", "gguf-lora", "Q8_0"} <= rows.keys()
    assert all(rows[name].prompt_ids_equal == 1 for name in ("gguf-lora", "Q8_0"))


def test_chat_answers_with_the_adapter_on_the_file(trained: Trained) -> None:
    export.run(trained.context(format="gguf-lora"))  # the newest of the run's files answers
    messages = [{"role": "user", "content": "営業時間を教えてください。"}]
    settings = GenerateConfig(max_tokens=4)
    answers = {
        engine: "".join(
            trained.studio.chat.stream(trained.run_id, messages, settings, engine=engine)
        )
        for engine in ("gguf", "mlx")
    }
    assert answers["gguf"] == answers["mlx"]


def test_run_is_evaluated_and_its_rows_are_previewed(trained: Trained, few_general: None) -> None:
    context = trained.context(max_rows=2, max_tokens=4)
    valid = evaluate.run(context).splits["valid"]
    assert valid.tuned.loss < valid.base.loss
    preview = trained.studio.data.preview("facts", str(trained.file), row=2).follow()
    assert preview.row.supervised_tokens > 0


@pytest.mark.long
def test_preferences_are_trained_by_dora_stopped_and_gone_on_with(trained: Trained) -> None:
    write_pairs(trained.workspace)
    studio = trained.studio
    settings = dataclasses.replace(
        SETTINGS, dataset="pairs", model=str(trained.file), method="dora", checkpoint_every=1
    )
    run_id = studio.training.start(settings)
    wait_until(lambda: len(studio.runs.metrics(run_id)) > 2, limit_s=300)
    studio.runs.stop(run_id)
    with contextlib.suppress(Interrupted):
        studio.runs.follow(run_id, silent)
    assert studio.runs.show(run_id).resumable
    studio.training.resume(run_id)
    assert studio.runs.follow(run_id, silent).resumed_from >= 2
    assert gguf_base.sha256(trained.file) == trained.sha256


def write_pairs(workspace: Workspace) -> None:
    """Questions with a better and a worse answer."""
    for split in ("train", "valid", "test"):
        path = workspace.dataset("pairs").split(split)
        files.make_folder(path.parent)
        rows = (
            {
                "prompt": f"商品{number}は？",
                "chosen": "はい。",
                "rejected": "いいえ。",
                "row": number,
            }
            for number in range(2, 8)
        )
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        path.write_text("".join(lines), encoding="utf-8")


def test_moved_file_is_the_same_base_and_another_is_refused(
    trained: Trained, tmp_path: Path
) -> None:
    folder = bases.of_run(trained.run, trained.workspace)
    trained.file.touch()
    assert bases.of_run(trained.run, trained.workspace) == folder
    other = tmp_path / "other.gguf"
    write_model(tmp_path / "o", "llama 3", seed=9)
    export_gguf(tmp_path / "o", None, {"Q8_0": other})
    content = trained.file.read_bytes()
    trained.file.chmod(0o600)
    try:
        trained.file.write_bytes(other.read_bytes())
        with pytest.raises(BaseFileChanged):
            bases.of_run(trained.run, trained.workspace)
    finally:
        trained.file.write_bytes(content)
    assert bases.of_run(trained.run, trained.workspace) == folder


def test_engine_that_cannot_read_the_file_is_refused_before_a_run_is_made(
    trained: Trained,
) -> None:
    before = trained.studio.runs.list()
    settings = TrainConfig(dataset="facts", model=str(trained.file), engine="mlx-lm")
    with pytest.raises(BaseFileUnusable, match="mlx-lm"):
        trained.studio.training.start(settings)
    assert trained.studio.runs.list() == before
