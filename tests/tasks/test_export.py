"""Export and verify of a run, with real MLX, real files and the real runtime."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mlx_finetuning import cli, files, models
from mlx_finetuning.config import GenerateConfig, TrainConfig
from mlx_finetuning.data_processor import read_rows
from mlx_finetuning.errors import (
    ArchitectureUnsupported,
    ExportNotProven,
    GgufUnreadable,
    Interrupted,
    InvalidSettings,
    RunNotReady,
)
from mlx_finetuning.jobs import jobs
from mlx_finetuning.jobs.context import TaskContext
from mlx_finetuning.jobs.status import JobStatus
from mlx_finetuning.mlx_trainer.inference import generate
from mlx_finetuning.mlx_trainer.model.load import load
from mlx_finetuning.mlx_trainer.training import loop
from mlx_finetuning.progress import Step, silent
from mlx_finetuning.quantizer.write import adapter_files
from mlx_finetuning.quantizer.write.export import export_gguf
from mlx_finetuning.runtime import serve
from mlx_finetuning.tasks import export, reference, verify
from mlx_finetuning.tasks.reference import TrainedModel
from mlx_finetuning.workspace import JobPaths, Workspace
from support import expert_models
from support.cut_models import short_folder
from support.gguf_files import metadata, rewrite
from support.small_models import (
    write_adapter,
    write_gemma4_tokenizer,
    write_model,
    write_quantized,
    write_sentencepiece,
)

RUN = "20261123-193000-tiny-ja-1a2b"


@pytest.fixture
def finished(workspace: Workspace, facts: str) -> Workspace:
    """A workspace with a run that has ended and left an adapter."""
    paths = workspace.run(RUN)
    files.make_folder(paths.folder)
    files.write_json(
        paths.experiment, {"run_id": RUN, "model": "tiny-ja", "dataset": facts, "engine": "mlx"}
    )
    jobs.write_status(paths, JobStatus("done"))
    folder = models.resolve("tiny-ja", workspace)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    write_adapter(workspace.adapter(RUN).folder, config)
    return workspace


@pytest.fixture
def short(finished: Workspace) -> Workspace:
    """The same of a base with half the layers, for what hangs on no answer."""
    base = finished.base_model("tiny-ja")
    shutil.copytree(short_folder(), base)
    write_adapter(finished.adapter(RUN).folder, files.read_json(base / "config.json"))
    return finished


def context(workspace: Workspace, progress: Any = silent, **config: Any) -> TaskContext:
    def event(name: str, **data: Any) -> None:
        json.dumps(data)

    paths: JobPaths = workspace.run(RUN).later_job("job-1")
    return TaskContext(workspace, paths, RUN, config, progress, event)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("**/*")) if folder.exists() else []


def test_several_types_are_written_and_proven_in_one_pass(short: Workspace) -> None:
    result = export.run(context(short, quant=["Q4_K_M", "Q8_0"]))
    folder = short.gguf_folder(RUN)
    assert names(folder) == [
        "tiny-ja-Q4_K_M.export_report.json",
        "tiny-ja-Q4_K_M.gguf",
        "tiny-ja-Q8_0.export_report.json",
        "tiny-ja-Q8_0.gguf",
    ]
    assert result.proof.parity.mean_kl < 1e-3
    assert result.proof.parity.top1_agreement >= 0.99
    assert result.proof.parity.tokens >= 512
    q4, q8 = result.files["Q4_K_M"], result.files["Q8_0"]
    assert q4.size_bytes < q8.size_bytes == (folder / "tiny-ja-Q8_0.gguf").stat().st_size
    assert q8.parity.mean_kl < q4.parity.mean_kl
    report = files.read_json(folder / "tiny-ja-Q8_0.export_report.json")
    assert (report["proven"], report["path"]) == (True, q8.path)


def test_export_to_a_given_file(short: Workspace, tmp_path: Path) -> None:
    target = tmp_path / "ここ" / "わたしの.gguf"
    result = export.run(context(short, quant="F16", out=str(target)))
    assert result.path == str(target)
    assert names(target.parent) == ["わたしの.export_report.json", "わたしの.gguf"]


def test_file_that_is_not_the_trained_model_is_not_handed_over(
    short: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A fault of the writer itself: the adapter is forgotten.
    forgetful = lambda model, adapter, *rest, **named: original(model, None, *rest, **named)  # noqa: E731
    original = export.export_gguf
    monkeypatch.setattr(export, "export_gguf", forgetful)
    with pytest.raises(ExportNotProven, match="元の重み"):
        export.run(context(short, quant="Q8_0"))
    assert names(short.gguf_folder(RUN)) == []


def test_cancelling_while_verifying_leaves_nothing(short: Workspace) -> None:
    def stop(step: Step) -> None:
        if step.stage == "検証":
            raise Interrupted()

    with pytest.raises(Interrupted):
        export.run(context(short, stop, quant="Q8_0"))
    assert names(short.gguf_folder(RUN)) == []


def test_verify_recognises_the_runs_own_file_and_a_wrong_one(
    short: Workspace, tmp_path: Path
) -> None:
    path = Path(export.run(context(short, quant="F16")).path)
    good = verify.run(context(short, path=str(path), verify_tokens=512))
    assert good.proven
    assert good.logits.mean_kl < 1e-3

    def without_attention(tensors: dict[str, Any]) -> None:
        tensors["blk.0.attn_output.weight"][:] = 0

    wrong = rewrite(path, tmp_path / "wrong.gguf", change_tensors=without_attention)
    bad = verify.run(context(short, path=str(wrong), verify_tokens=512))
    assert not bad.proven
    assert bad.problems
    assert "認められません" in bad.verdict


def test_missing_file_is_an_error(finished: Workspace, tmp_path: Path) -> None:
    with pytest.raises(GgufUnreadable):
        verify.run(context(finished, path=str(tmp_path / "none.gguf"), verify_tokens=512))


def test_run_without_an_adapter_cannot_be_exported(finished: Workspace) -> None:
    finished.adapter(RUN).weights.unlink()
    with pytest.raises(RunNotReady):
        export.run(context(finished, quant="Q8_0"))


@pytest.mark.parametrize("quant", ["Q9_Z", []])
def test_unknown_or_no_types_are_refused(finished: Workspace, quant: object) -> None:
    with pytest.raises(InvalidSettings):
        export.run(context(finished, quant=quant))


def test_adapter_on_a_four_bit_base_answers_in_llama_cpp_as_in_mlx(finished: Workspace) -> None:
    base = finished.base_model("tiny-ja")
    files.make_folder(base.parent)
    write_quantized(models.resolve("tiny-ja", finished), base)
    assert (base / "model.safetensors").stat().st_size < 6_000_000
    rows = read_rows(finished.dataset("facts").train)[:3]
    settings = TrainConfig(iterations=14, batch_size=3, learning_rate=6e-3, sample_every=0)
    hooks = loop.Hooks(lambda line: None, lambda name, **data: None, silent)
    loop.train(load(base), rows, [], settings, finished.adapter(RUN), hooks)
    questions = [row["messages"][:1] for row in rows]
    trained = load(base, finished.adapter(RUN).folder)
    wanted = [generate.answer(trained, one, GenerateConfig()).text for one in questions]
    assert wanted == [row["messages"][1]["content"] for row in rows]
    result = export.run(context(finished, quant="Q8_0"))
    with serve(Path(result.path)) as client:
        assert [client.chat(one, max_tokens=64).text for one in questions] == wanted


# --- the other formats -------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gguf-lora", "peft", "mlx", "safetensors"])
def test_other_formats_are_written_and_proven(short: Workspace, kind: str) -> None:
    result = export.run(context(short, format=kind))
    path = short.gguf_folder(RUN) / f"tiny-ja-{'adapter.gguf' if kind == 'gguf-lora' else kind}"
    assert result.path == str(path)
    assert path.exists()
    assert "同じ動き" in result.verdict
    (written,) = result.files.values()
    assert written.size_bytes > 10_000
    assert [one for one in names(short.gguf_folder(RUN)) if one.startswith(".tmp")] == []


OTHER_FAMILIES = (
    *("qwen3.5", "gemma4", "gemma4 unified", "gemma3 with eyes"),
    *("ministral3", "granite4", "smollm3", "lfm2"),
)
OTHER_KINDS = ("gguf-lora", "peft", "mlx", "safetensors")
# Of layers other than attention, of attention of several sizes, of parts that see: each kind of file
# once. What every family's tensors become is tested in `quantizer`.
ALWAYS = (
    *(("qwen3.5", kind) for kind in ("gguf", "mlx")),
    *(("gemma4", kind) for kind in ("gguf", "peft")),
    *(("gemma3 with eyes", "safetensors"), ("lfm2", "gguf-lora")),
)
BUILT_OTHERWISE = [
    pytest.param(family, kind, marks=[] if (family, kind) in ALWAYS else pytest.mark.long)
    for family in OTHER_FAMILIES
    for kind in ("gguf", *OTHER_KINDS)
]


@pytest.mark.parametrize(("family", "kind"), BUILT_OTHERWISE)
def test_families_built_otherwise_are_exported_and_proven(
    finished: Workspace, family: str, kind: str
) -> None:
    model = finished.base_model("tiny-ja")
    write_adapter(finished.adapter(RUN).folder, write_model(model, family))
    if family.startswith("gemma4"):
        write_gemma4_tokenizer(model)
    # Half precision alone turns some of the even chances of random weights.
    exact = "F32" if family == "smollm3" else "F16"
    settings = {"quant": [exact, "Q4_K_M"]} if kind == "gguf" else {}
    assert "同じ動き" in export.run(context(finished, format=kind, **settings)).verdict


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        *((expert_models.QWEN3MOE, kind) for kind in ("gguf", "peft")),
        *((expert_models.GPT_OSS, kind) for kind in ("gguf", "mlx")),
        *(
            pytest.param(*left, marks=pytest.mark.long)
            for left in (
                (expert_models.QWEN3MOE, "gguf-lora"),
                (expert_models.QWEN3MOE, "mlx"),
                (expert_models.GPT_OSS, "gguf-lora"),
                (expert_models.GPT_OSS, "peft"),
            )
        ),
    ],
    ids=str,
)
def test_mixtures_of_experts_are_exported_and_proven(
    finished: Workspace, settings: dict[str, Any], kind: str
) -> None:
    model = finished.base_model("tiny-ja")
    expert_models.write(model, settings)
    keys = expert_models.ATTENTION if kind == "peft" else None
    expert_models.write_adapter(finished.adapter(RUN).folder, model, keys)
    quants = {"quant": ["F32", "Q4_K_M"]} if kind == "gguf" else {}
    assert "同じ動き" in export.run(context(finished, format=kind, **quants)).verdict


def test_family_without_a_mapping_leaves_every_format_but_gguf(finished: Workspace) -> None:
    """mlx-lm trains Xverse as a Llama, and there is no mapping to GGUF."""
    model = finished.base_model("tiny-ja")
    config = write_model(model, architectures=["XverseForCausalLM"], model_type="xverse")
    for kind in ("gguf", "gguf-lora"):
        with pytest.raises(ArchitectureUnsupported, match="--format mlx"):
            export.run(context(finished, format=kind))
    write_adapter(finished.adapter(RUN).folder, config)
    assert "同じ動き" in export.run(context(finished, format="safetensors")).verdict
    assert "同じ動き" in export.run(context(finished, format="peft")).verdict


def test_adapter_that_differs_is_not_handed_over(
    short: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter_files, "_alpha", lambda deltas: 0.5)
    with pytest.raises(ExportNotProven, match="予測の差"):
        export.run(context(short, format="gguf-lora"))
    assert names(short.gguf_folder(RUN)) == []


def test_importance_of_the_runs_own_rows_brings_small_types_closer(short: Workspace) -> None:
    plain = export.run(context(short, quant="Q2_K")).files["Q2_K"]
    weighted = export.run(context(short, quant="Q2_K", importance=True)).files["Q2_K"]
    assert weighted.parity.mean_kl < 0.9 * plain.parity.mean_kl
    assert metadata(Path(weighted.path))["quantize.imatrix.entries_count"] == 21


def test_advice_measures_the_types_and_keeps_none(short: Workspace) -> None:
    result = export.run(context(short, advise=True, quant=["Q8_0", "Q3_K_M"]))
    assert [one.quant for one in result.candidates] == ["Q8_0", "Q3_K_M"]
    assert result.candidates[0].mean_kl < result.candidates[1].mean_kl
    assert result.recommended in ("Q8_0", "Q3_K_M")
    assert names(short.gguf_folder(RUN)) == []


def test_command_line_shows_measured_types_and_a_recommendation(
    short: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--advise", "--quant", "Q8_0", "--quant", "Q3_K_M"]
    assert cli.main(["export", RUN, *words, "--workspace", str(short.root)]) == 0
    largest, smallest, advised = capsys.readouterr().out.strip().splitlines()
    assert largest.startswith("Q8_0") and smallest.startswith("Q3_K_M")
    assert "一致率" in smallest and "予測の差" in smallest
    assert advised.startswith("お勧め: Q") and "トークンで比較" in advised
    assert names(short.gguf_folder(RUN)) == []


# --- conversations -----------------------------------------------------------------------


def spoken(model: Path) -> TrainedModel:
    """As much of a trained model as rendering needs."""
    loaded = load(model)
    conversation = [
        {"role": "user", "content": "質問  です\n"},
        {"role": "assistant", "content": "答え"},
    ]
    return TrainedModel(model, model, "m", loaded.without_weights(), (conversation,), ())


def test_conversations_of_a_model_with_bos_start_with_one(tmp_path: Path) -> None:
    model = tmp_path / "m"
    write_model(model, "llama 2", num_hidden_layers=1)
    write_sentencepiece(model)
    trained = spoken(model)
    true = tmp_path / "m.gguf"
    export_gguf(model, None, {"F16": true})
    assert reference.template_problems(trained, true) == []

    def doubled(values: dict[str, Any]) -> None:
        template = values["tokenizer.chat_template"]
        values["tokenizer.chat_template"] = template.replace("{{ bos_token }}", "<s><s>")

    def forgotten(values: dict[str, Any]) -> None:
        values["tokenizer.ggml.add_bos_token"] = False
        values["tokenizer.chat_template"] = values["tokenizer.chat_template"].replace(
            "{{ bos_token }}", ""
        )

    def foreign(values: dict[str, Any]) -> None:
        values["tokenizer.chat_template"] = "{{ bos_token }}{{ messages[0].content }}"

    for fault, word in ((doubled, "2つ"), (forgotten, "付きません"), (foreign, "組み立て方")):
        wrong = rewrite(true, tmp_path / "wrong.gguf", change_metadata=fault)
        (problem,) = reference.template_problems(trained, wrong)
        assert word in problem
