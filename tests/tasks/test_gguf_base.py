"""A run on a GGUF file: trained by a real worker, then exported, certified and answered from."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mlx_finetuning import bases, files
from mlx_finetuning.config import GenerateConfig, TrainConfig
from mlx_finetuning.errors import (
    BaseFileChanged,
    BaseFileUnusable,
    Interrupted,
    InvalidSettings,
    OllamaAdaptersRefused,
    OllamaModelNotFound,
)
from mlx_finetuning.jobs import runs
from mlx_finetuning.jobs.context import TaskContext
from mlx_finetuning.jobs.results import Deployment
from mlx_finetuning.jobs.runs import Run
from mlx_finetuning.progress import silent
from mlx_finetuning.quantizer.write.export import export_gguf
from mlx_finetuning.studio import Studio
from mlx_finetuning.tasks import certify, deploy, evaluate, export
from mlx_finetuning.utils import gguf_base, gguf_reader
from mlx_finetuning.workspace import Workspace
from support.helpers import wait_until, write_facts
from support.ollama_server import Ollama, running_ollama
from support.ollama_store import put
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
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
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
    yield Trained(studio, run_id, file, sha256)
    studio.chat.stop_servers(run_id)


def test_run_on_a_file_leaves_the_file_as_it_was(trained: Trained) -> None:
    losses = [line.loss for line in runs.metrics(trained.workspace, trained.run_id) if line.loss]
    assert len(losses) == SETTINGS.iterations and losses[-1] < losses[0]
    assert gguf_base.sha256(trained.file) == trained.sha256
    folder = bases.of_run(trained.run, trained.workspace)
    assert folder.name.startswith("small-model-q8-0-")
    assert not list(folder.glob("*.safetensors"))


def test_adapter_and_new_file_answer_as_the_trained_model(trained: Trained) -> None:
    adapter = export.run(trained.context(format="gguf-lora"))
    written = export.run(trained.context())  # nobody asks for a type
    assert list(written.files) == [trained.studio.exports.usual_quant(trained.run_id)] == ["Q8_0"]
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


@pytest.fixture
def ollama(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ollama]:
    """A server that takes adapters and has the base, which the run names as Ollama's own."""
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path))
    shutil.copyfile(trained.file, tmp_path / "sent")
    put(tmp_path, "registry.ollama.ai/library/small/q8", tmp_path / "sent")
    record = trained.workspace.run(trained.run_id).experiment
    before = record.read_text(encoding="utf-8")
    files.write_json(record, {**json.loads(before), "model": "ollama:small:q8"})
    with running_ollama(tmp_path / "blobs") as running:
        running.takes_adapters = True
        running.models["small:q8"] = {"files": {"model.gguf": f"sha256:{trained.sha256}"}}
        yield running
    record.write_text(before, encoding="utf-8")


def deployed(trained: Trained, ollama: Ollama, **config: object) -> Deployment:
    asked = {"name": "shop", "host": ollama.url, "replace": False, "prompts": 1, "max_tokens": 4}
    return deploy.run(trained.context(**{**asked, "form": "adapter", **config}))


def test_adapter_alone_goes_over_the_base_that_ollama_has(trained: Trained, ollama: Ollama) -> None:
    result = deployed(trained, ollama)
    adapter = Path(result.path)
    assert adapter.stem.endswith("-adapter") and ollama.received == adapter.stat().st_size
    made = ollama.models["shop:latest"]
    assert made["from"] == "small:q8" and "files" not in made
    assert (result.compared, result.equal_answers, result.quant) == (1, 1, "adapter")
    lines = Path(result.modelfile).read_text(encoding="utf-8").splitlines()
    assert {"FROM small:q8", f"ADAPTER ./{adapter.name}"} <= set(lines)
    assert gguf_base.sha256(ollama.blob(f"sha256:{trained.sha256}")) == trained.sha256


@pytest.mark.parametrize("takes", [False, None])
def test_server_that_takes_no_adapters_is_noticed_before_anything_is_sent(
    trained: Trained, ollama: Ollama, takes: bool | None
) -> None:
    ollama.takes_adapters = takes
    with pytest.raises(OllamaAdaptersRefused):
        deployed(trained, ollama)
    assert list(ollama.models) == ["small:q8"] and ollama.received == 0


def test_adapter_goes_over_no_other_model_than_was_trained_on(
    trained: Trained, ollama: Ollama
) -> None:
    ollama.blob("sha256:0").touch()
    ollama.models["small:q8"] = {"files": {"model.gguf": "sha256:0"}}
    with pytest.raises(BaseFileChanged):
        deployed(trained, ollama)
    del ollama.models["small:q8"]
    with pytest.raises(OllamaModelNotFound):
        deployed(trained, ollama)
    record = trained.workspace.run(trained.run_id).experiment
    files.write_json(record, {**files.read_json(record), "model": str(trained.file)})
    with pytest.raises(InvalidSettings, match="ollama:"):
        deployed(trained, ollama)


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
