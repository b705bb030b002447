"""The parity certificate, with real MLX, real files and the real runtime; every planted fault."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlx_finetuning import files
from mlx_finetuning.cli.certify import table
from mlx_finetuning.config import DeployConfig
from mlx_finetuning.errors import ChatTemplateMissing, RunNotReady
from mlx_finetuning.jobs import jobs
from mlx_finetuning.jobs.results import Certificate, EngineRow
from mlx_finetuning.progress import silent
from mlx_finetuning.quantizer.verify.results import LogitParity
from mlx_finetuning.quantizer.write.export import export_gguf
from mlx_finetuning.studio import Studio
from mlx_finetuning.tasks import certificate, certify
from mlx_finetuning.tasks.certificate import EngineAnswer
from mlx_finetuning.workspace import JobPaths, Workspace
from support import finished_run
from support.gguf_files import Tensors, Values, rewrite
from support.ollama_server import Ollama, running_ollama

pytestmark = pytest.mark.usefixtures("jobs_in_process")
TRUE = ("F16", "Q8_0", "Q4_K_M")
FULL_STOP = 263
"""The token 「。」 of tiny-ja, which ends most of its sentences."""


def wrong_template(values: Values) -> None:
    template = values["tokenizer.chat_template"]
    values["tokenizer.chat_template"] = template.replace("assistant\\n", "assistant:\\n")


def wrong_stop(values: Values) -> None:
    values["tokenizer.ggml.eos_token_id"] = FULL_STOP


def swapped(tensors: Tensors) -> None:
    gate, up = "blk.1.ffn_gate.weight", "blk.1.ffn_up.weight"
    tensors[gate], tensors[up] = tensors[up], tensors[gate]


def zeroed(tensors: Tensors) -> None:
    tensors["blk.0.attn_v.weight"][:] = 0


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = Workspace(tmp_path_factory.mktemp("certify"))
    finished_run.make(workspace)
    base, adapter = finished_run.base(workspace), workspace.adapter(finished_run.RUN).folder
    folder = files.make_folder(workspace.gguf_folder(finished_run.RUN))
    export_gguf(base, adapter, {quant: folder / f"{quant}.gguf" for quant in TRUE})
    true = folder / "F16.gguf"
    rewrite(true, folder / "template.gguf", change_metadata=wrong_template)
    rewrite(true, folder / "stop.gguf", change_metadata=wrong_stop)
    rewrite(true, folder / "swapped.gguf", change_tensors=swapped)
    rewrite(true, folder / "zeroed.gguf", change_tensors=zeroed)
    weaker = workspace.root / "weaker"
    shutil.copytree(adapter, weaker)
    finished_run.set_scale(weaker, 0.1)
    export_gguf(base, weaker, {"F16": folder / "scale.gguf"})
    export_gguf(base, weaker, {"Q4_K_M": folder / "scale-q4.gguf"})
    export_gguf(base, None, {"Q8_0": folder / "forgotten.gguf"})
    return workspace


@pytest.fixture(scope="module")
def record(workspace: Workspace) -> Certificate:
    return certify.run(finished_run.context(workspace, prompts=3, max_tokens=24))


def row(record: Certificate, name: str) -> EngineRow:
    """The row of a file."""
    return next(one for one in record.rows if Path(one.path).stem == name)


def test_true_files_are_certified(record: Certificate) -> None:
    for quant in TRUE:
        found = row(record, quant)
        assert found.problems == ()
        assert found.engine == quant
        assert found.prompt_ids_equal == 1.0
        assert found.prompts == 3
    exact = row(record, "F16")
    assert exact.answers_equal == 1.0
    assert exact.top1 >= 0.99 and exact.kl < 1e-3
    assert exact.kl < row(record, "Q8_0").kl < row(record, "Q4_K_M").kl


def test_merged_model_is_certified(record: Certificate) -> None:
    trained, merged = record.rows[:2]
    assert (trained.engine, merged.engine) == ("mlx", "mlx-fused")
    assert merged.problems == ()
    assert merged.answers_equal == merged.prompt_ids_equal == 1.0
    assert merged.kl < 1e-6


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("template", "チャットテンプレート"),
        ("stop", "停止の設定"),
        ("swapped", "blk.1.ffn_gate.weight の場所に blk.1.ffn_up.weight"),
        ("zeroed", "blk.0.attn_v.weight"),
        ("scale", "倍率が、正しい値の0.50倍"),
        ("scale-q4", "倍率が、正しい値の0.5"),
        ("forgotten", "アダプター）が入っていません"),
    ],
)
def test_planted_fault_turns_the_certificate_red_and_is_named(
    record: Certificate, name: str, words: str
) -> None:
    found = row(record, name)
    assert any(words in problem for problem in found.problems), found.problems
    assert found.verdict.startswith("違います")
    assert not record.passed
    assert any(words in problem for problem in record.problems)


def test_wrong_template_shows_in_the_tokens_of_the_prompt(record: Certificate) -> None:
    assert row(record, "template").prompt_ids_equal == 0.0


def test_certificate_is_kept_with_the_run(workspace: Workspace, record: Certificate) -> None:
    assert Studio(workspace).evaluation.certificate(finished_run.RUN) == record


def test_held_out_questions_come_first(workspace: Workspace) -> None:
    asked = certify.choose_questions(finished_run.context(workspace), finished_run.DATASET, 6)
    questions = [turns[-1]["content"] for turns in asked.conversations]
    assert questions == list(finished_run.QUESTIONS[:6])
    assert asked.held_out == 5
    few = certify.choose_questions(finished_run.context(workspace), finished_run.DATASET, 2)
    assert few.held_out == 2


def test_table_shows_every_engine(record: Certificate) -> None:
    shown = table(record)
    assert shown.startswith("× ")
    for word in ("MLX（学習したモデル）", "GGUF Q4_K_M（llama.cpp）", "100.0%", "倍率"):
        assert word in shown


def test_run_without_an_adapter_has_no_certificate(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    finished_run.make(workspace)
    workspace.adapter(finished_run.RUN).weights.unlink()
    with pytest.raises(RunNotReady):
        certify.run(finished_run.context(workspace))


def test_run_on_text_is_certified_with_general_questions(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    finished_run.make(workspace)
    finished_run.write_text_dataset(workspace)
    record = certify.run(finished_run.context(workspace, prompts=4, max_tokens=16))
    assert record.passed, record.problems
    assert record.prompts == record.held_out_prompts == 4
    assert "一般の質問" in record.notes[0]


def test_preferences_are_certified_with_their_questions(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    finished_run.make(workspace)
    finished_run.write_preference_dataset(workspace)
    asked = certify.choose_questions(finished_run.context(workspace), finished_run.DATASET, 3)
    questions = [turns[-1]["content"] for turns in asked.conversations]
    assert questions == list(finished_run.QUESTIONS[:3])
    assert asked.notes == ()


def test_model_without_a_chat_template_is_refused(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    finished_run.make(workspace)
    finished_run.forget_template(workspace)
    with pytest.raises(ChatTemplateMissing):
        certify.run(finished_run.context(workspace))


# --- Ollama ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def deployed(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Workspace, Ollama, JobPaths]]:
    """A run that was deployed by a job of its own and whose file is gone since."""
    folder = tmp_path_factory.mktemp("deployed")
    workspace = Workspace(folder / "workspace")
    finished_run.make(workspace)
    studio = Studio(workspace)
    with running_ollama(folder / "blobs") as ollama:
        settings = DeployConfig(quant="F16", prompts=1)
        job = studio.ollama.deploy(finished_run.RUN, "Shop", settings, ollama.url).paths
        jobs.follow(job, silent)
        shutil.rmtree(workspace.gguf_folder(finished_run.RUN))
        yield workspace, ollama, job


def certified(workspace: Workspace) -> Certificate:
    return certify.run(finished_run.context(workspace, prompts=2, max_tokens=24))


def test_model_in_ollama_has_a_row(deployed: tuple[Workspace, Ollama, JobPaths]) -> None:
    record = certified(deployed[0])
    assert record.passed, record.problems
    found = record.rows[-1]
    assert (found.engine, found.label, found.prompts) == ("ollama", "Ollama Shop", 2)
    assert found.prompt_ids_equal == found.answers_equal == 1.0
    assert found.kl is None


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("doubles_bos", "別のトークン列"),
        ("never_ends", "停止の設定"),
        ("changes_answers", "答えが違います"),
    ],
)
def test_ollama_that_does_otherwise_turns_the_certificate_red(
    deployed: tuple[Workspace, Ollama, JobPaths],
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    words: str,
) -> None:
    workspace, ollama, _ = deployed
    monkeypatch.setattr(ollama, fault, True)
    record = certified(workspace)
    assert not record.passed
    (problem,) = record.problems
    assert problem.startswith("Ollama Shop") and words in problem


def test_ollama_that_cannot_be_asked_is_a_note(
    deployed: tuple[Workspace, Ollama, JobPaths],
) -> None:
    workspace, ollama, _ = deployed
    ollama.cut_chats = 1
    record = certified(workspace)
    assert record.passed
    assert [one.engine for one in record.rows] == ["mlx", "mlx-fused"]
    assert "「Shop」は比べられませんでした" in record.notes[0]


def test_model_that_was_removed_from_ollama_is_not_asked(
    deployed: tuple[Workspace, Ollama, JobPaths], monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, ollama, _ = deployed
    monkeypatch.setattr(ollama, "models", {})
    record = certified(workspace)
    assert record.notes == ()
    assert len(record.rows) == 2


def test_model_with_another_system_text_is_a_note(
    deployed: tuple[Workspace, Ollama, JobPaths],
) -> None:
    workspace, _, job = deployed
    result = files.read_json(job.result)
    files.write_json(job.result, {**result, "system": "短く答えてください。"})
    try:
        record = certified(workspace)
    finally:
        files.write_json(job.result, result)
    assert "システム文が違うため" in record.notes[0]


# --- the judgement -----------------------------------------------------------------------


def said(text: str, *, ended: bool = True, ids: tuple[int, ...] = (1, 5, 6)) -> EngineAnswer:
    return EngineAnswer("質問", ids, text, ended)


def problems(
    found: list[EngineAnswer], expected: list[EngineAnswer], *, is_exact: bool = True
) -> tuple[str, ...]:
    one = certificate.row("x", "X", "", found, expected, parity=None, is_exact=is_exact)
    return one.problems


def test_doubled_and_lost_bos_are_named() -> None:
    (doubled,) = problems([said("答え", ids=(1, 1, 5, 6))], [said("答え")])
    (lost,) = problems([said("答え", ids=(5, 6))], [said("答え")])
    assert "BOS）が2つ" in doubled
    assert "BOS）が付きません" in lost


def test_answers_that_run_on_are_a_fault_of_the_stop_setting() -> None:
    (problem,) = problems([said("答え", ended=False)], [said("答え")])
    assert "答えが終わりません" in problem


def test_answers_changed_by_rounding_that_run_on_are_a_note() -> None:
    """A random Mistral at 4 bits: other words from the start, and so no end within 8 tokens."""
    expected = [said("答え"), said("短い"), said("長い", ended=False)]
    rounded = certificate.row(
        "Q4_K_M",
        "GGUF Q4_K_M",
        "",
        [said("別の話", ended=False), said("短い"), said("長い", ended=False)],
        expected,
        parity=None,
        is_exact=False,
    )
    assert rounded.problems == ()
    record = certificate.record([certificate.reference_row(expected), rounded], 0)
    assert record.passed
    (_, note) = record.notes
    assert "33%" in note and "67%" in note


def test_certificate_says_what_counts_as_a_next_word_where_few_are_alike() -> None:
    expected = [said("答え")]
    for top1, notes in ((0.985, 1), (0.995, 0)):
        parity = LogitParity(400, 0.007, 0.1, top1, 2.0, 2.0)
        row = certificate.row(
            "Q8_0", "GGUF Q8_0", "", expected, expected, parity=parity, is_exact=False
        )
        record = certificate.record([certificate.reference_row(expected), row], 0)
        assert record.passed
        assert len([note for note in record.notes if "次の語の一致" in note]) == notes


def test_answers_that_the_trained_model_does_not_end_either_are_no_fault() -> None:
    assert problems([said("答え", ended=False)], [said("答え", ended=False)]) == ()
    rows = [certificate.reference_row([said("答え", ended=False)])]
    assert "最大トークン数" in certificate.record(rows, 0).notes[0]


def test_other_answers_are_a_fault_of_exact_models_only() -> None:
    expected = [said("答え")] * 100
    found = [said("別の答え")] * 2 + expected[2:]
    (problem,) = problems(found, expected)
    assert "100問中2問" in problem
    assert problems([said("別の答え"), *expected[1:]], expected) == ()
    assert problems(found, expected, is_exact=False) == ()


def test_many_problems_are_shortened() -> None:
    many = [f"問題{number}" for number in range(9)]
    one = certificate.row(
        "x", "X", "", [said("")], [said("")], parity=None, is_exact=True, problems=many
    )
    assert len(one.problems) == 6
    assert "4件" in one.problems[-1]


@pytest.mark.parametrize(("equal", "level"), [(64, "good"), (40, "warning")])
def test_the_headline_agrees_with_the_figures_row_by_row(equal: int, level: str) -> None:
    expected = [said("答え")] * 64
    found = [*expected[:equal], *([said("別の答え")] * (64 - equal))]
    reference = certificate.reference_row(expected)
    rounded = certificate.row(
        "Q4_K_M", "GGUF Q4_K_M", "", found, expected, parity=None, is_exact=False
    )
    made = certificate.record([reference, rounded], 0)
    assert (made.passed, made.level) == (True, level)
    assert ("どれも、学習したモデルと同じように答えます" in made.verdict) == (level == "good")
    assert ("GGUF Q4_K_Mは62%" in made.verdict) == (level == "warning")
    assert ("64問中40問" in rounded.verdict) == (level == "warning")


def test_the_headline_says_that_predictions_differ_where_answers_do_not() -> None:
    expected = [said("答え")] * 64
    reference = certificate.reference_row(expected)
    moved = LogitParity(512, 0.3, 2.0, 0.82, 2.0, 2.4)
    rounded = certificate.row(
        "Q3_K_M", "GGUF Q3_K_M", "", expected, expected, parity=moved, is_exact=False
    )
    made = certificate.record([reference, rounded], 0)
    assert (made.passed, made.level) == (True, "warning")
    assert "予測に差のあるものがあります（GGUF Q3_K_M）" in made.verdict
