"""The catalogue: led by what the project is for, and figures that follow from the models' shapes."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten

from mlx_finetuning import models
from mlx_finetuning.config import TrainConfig
from mlx_finetuning.errors import ArchitectureUnsupported, ModelNotDownloaded, ModelNotFound
from mlx_finetuning.mlx_trainer.batches.examples import Example
from mlx_finetuning.mlx_trainer.kernels import backend
from mlx_finetuning.mlx_trainer.model import adapters
from mlx_finetuning.mlx_trainer.model.load import LoadedModel
from mlx_finetuning.mlx_trainer.parallel import workload
from mlx_finetuning.mlx_trainer.training import memory_fit
from mlx_finetuning.models import CatalogueEntry
from mlx_finetuning.models.fitting import usable
from mlx_finetuning.models.hub import REPO_ID
from mlx_finetuning.models.wording_ja import reach_ja, twin_ja
from mlx_finetuning.quantizer.families import registry
from mlx_finetuning.studio import Studio
from mlx_finetuning.tasks import deploy
from mlx_finetuning.workspace import Workspace
from support import catalogue_figures
from support.catalogue_figures import SHAPES, figures

FETCHED = [entry for entry in models.catalogue() if not entry.built_in]
LEADING = [
    "elyza/Llama-3-ELYZA-JP-8B",
    "google/gemma-2-2b-it",
    "google/gemma-2-2b-jpn-it",
    "google/gemma-2-9b-it",
    "meta-llama/Llama-3.1-8B-Instruct",
]
GIB = 1 << 30


def named(name: str) -> CatalogueEntry:
    entry = models.find(name)
    assert entry
    return entry


def test_what_the_project_is_for_comes_first_and_the_built_in_one_last() -> None:
    entries = models.catalogue()
    assert [entry.name for entry in entries[: len(LEADING)]] == LEADING
    assert entries[-1].built_in
    headings = [group for group, _ in itertools.groupby(entries, lambda entry: entry.group)]
    assert len(headings) == len(set(headings)) > 1


def test_every_entry_says_what_it_is_good_and_bad_at_in_a_line() -> None:
    for entry in models.catalogue():
        for line in (entry.strong, entry.weak):
            assert line.endswith("。") and len(line) < 60 and "\n" not in line, entry.name


def test_recorded_shapes_are_those_of_the_entries() -> None:
    assert set(SHAPES) == {entry.name for entry in FETCHED}
    for entry in FETCHED:
        assert SHAPES[entry.name]["architectures"] == [entry.architecture]


@pytest.mark.parametrize("entry", FETCHED, ids=lambda entry: entry.name)
def test_sizes_and_memory_follow_from_the_shape(entry: CatalogueEntry) -> None:
    found = figures(entry.name)
    assert entry.parameters == f"{found.parameters / 1e9:.1f}B"
    assert entry.size_gb == pytest.approx(found.size_gb, abs=0.06)
    # Rounded up to whole ones: that it fits must hold.
    assert entry.memory_gb == math.ceil(found.memory_gb)
    if entry.mlx_4bit:
        assert entry.mlx_4bit.memory_gb == math.ceil(found.memory_4bit_gb)


# As published: model cards, and the sums of the makers' weight files.
PUBLISHED = {
    "elyza/Llama-3-ELYZA-JP-8B": 8_030_261_248,
    "google/gemma-2-2b-it": 2_614_341_888,
    "google/gemma-2-9b-it": 9_241_705_984,
    "google/gemma-3-1b-it": 999_885_952,
    "openai/gpt-oss-20b": 20_914_757_184,
    "SakanaAI/TinySwallow-1.5B-Instruct": 1_543_714_304,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_counted_parameters_are_the_published_ones(name: str) -> None:
    assert figures(name).parameters == PUBLISHED[name]


@pytest.mark.parametrize("kind", ["llama", "qwen3_5"])
def test_memory_of_a_gradient_is_what_the_trainer_measures(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float32, with the CPU's smaller pieces of logits and its attention that keeps no scores, and
    without the C++ that Macs do not have."""
    monkeypatch.setattr(backend, "chosen", lambda: backend.PYTHON)
    monkeypatch.setattr(catalogue_figures, "HALF", 4)
    monkeypatch.setattr(catalogue_figures, "OF_SCORES", 0)
    monkeypatch.setattr(
        catalogue_figures.loss, "LOGITS_AT_ONCE_GPU", catalogue_figures.loss.LOGITS_AT_ONCE
    )
    monkeypatch.setattr(catalogue_figures, "TOKENS", 256 if kind == "llama" else 64)
    text = {
        "model_type": kind,
        "hidden_size": 512,
        "num_hidden_layers": 4,
        "intermediate_size": 2048,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-5,
        "vocab_size": 2000,
        "tie_word_embeddings": True,
        "max_position_embeddings": 4096,
    }
    if kind == "qwen3_5":
        text |= {
            "model_type": "qwen3_5_text",
            "head_dim": 64,
            "full_attention_interval": 4,
            "linear_conv_kernel_dim": 4,
            "linear_key_head_dim": 128,
            "linear_value_head_dim": 128,
            "linear_num_key_heads": 8,
            "linear_num_value_heads": 8,
        }
    config = {"model_type": kind, "text_config": text} if kind == "qwen3_5" else text
    model = catalogue_figures._model(config)
    settings = TrainConfig(rank=16, recompute="on", processes=1, batch_size=1)
    adapters.attach(model, settings)
    mx.eval(model.parameters())
    length = catalogue_figures.TOKENS
    example = Example([5 + i for i in range(length)], [i >= length // 2 for i in range(length)], 0)
    layout = workload.batch_layout(model, text["vocab_size"], settings)
    work = workload.Workload(LoadedModel(model, None, None, text), [example], layout, settings)
    need = memory_fit.measured(work, [example])
    measured = need.per_cost * memory_fit._cost_at_once(work, [example])
    gradient = 4 * sum(value.size for _, value in tree_flatten(model.trainable_parameters()))
    expected = catalogue_figures._gradient(config) + gradient
    assert expected == pytest.approx(measured, rel=0.3)


def test_where_a_model_can_be_used_is_what_the_quantizer_can_write(tmp_path: Path) -> None:
    studio = Studio(Workspace(tmp_path))
    for entry in models.catalogue():
        reach = studio.models.reach(entry)
        try:
            registry.of({"architectures": [entry.architecture]})
        except ArchitectureUnsupported:
            assert reach == ("mlx",)
        else:
            assert reach[:2] == ("mlx", "gguf")
            assert (reach[2] == "ollama") == (entry.tokenizer != "unigram")
    assert studio.models.reach(named(LEADING[0])) == ("mlx", "gguf", "ollama")
    assert reach_ja(("mlx",)) == "MLXだけ"
    assert "語彙" in reach_ja(studio.models.reach(named("llm-jp/llm-jp-3.1-1.8b-instruct4")))


@pytest.mark.parametrize(
    ("name", "gib", "platform", "expected"),
    [
        ("elyza/Llama-3-ELYZA-JP-8B", 8, "darwin", "too_large"),
        ("elyza/Llama-3-ELYZA-JP-8B", 16, "darwin", "fits_4bit"),
        ("elyza/Llama-3-ELYZA-JP-8B", 32, "darwin", "fits"),
        # Weights become float32 on a CPU.
        ("elyza/Llama-3-ELYZA-JP-8B", 32, "linux", "fits_4bit"),
        ("elyza/Llama-3-ELYZA-JP-8B", 64, "linux", "fits"),
        ("google/gemma-2-2b-jpn-it", 16, "darwin", "fits"),
        # Has no twin.
        ("tokyotech-llm/Qwen3-Swallow-8B-RL-v0.2", 16, "darwin", "too_large"),
        ("tiny-ja", 8, "linux", "fits"),
    ],
)
def test_whether_a_model_fits_this_machine(
    name: str, gib: int, platform: str, expected: str
) -> None:
    assert models.fit(named(name), gib * GIB, platform) == expected


def test_metals_working_set_is_as_llama_cpp_logs_it() -> None:
    for gib, megabytes in ((16, 11_453), (32, 22_906), (64, 51_539)):
        assert usable(gib * GIB, "darwin") // 10**6 == megabytes


def test_twins_are_found_by_their_name_and_have_the_licence_of_their_entry(tmp_path: Path) -> None:
    twins = [entry for entry in FETCHED if entry.mlx_4bit]
    assert len(twins) > 15
    workspace = Workspace(tmp_path / "workspace")
    for entry in twins:
        assert entry.mlx_4bit
        name = entry.mlx_4bit.name
        assert REPO_ID.fullmatch(name)
        assert models.find(name.upper()) is entry
        assert entry.mlx_4bit.memory_gb < entry.memory_gb
        assert name in twin_ja(entry)
        assert deploy.licence_of(name, tmp_path) == entry.licence
        with pytest.raises(ModelNotDownloaded) as caught:
            models.resolve(name, workspace)
        # The size that is known is not that of the twin.
        assert f"約{entry.size_gb:g} GB" not in str(caught.value)
    assert twin_ja(named("tiny-ja")) == ""


def test_a_model_is_described_by_any_name_that_leads_to_it(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    entry, here = models.search("tiny-ja", workspace)
    assert entry is not None and entry.built_in
    assert here is not None and here.built_in
    assert models.search(LEADING[0], workspace) == (named(LEADING[0]), None)
    with pytest.raises(ModelNotFound):
        models.search("nobody/nothing", workspace)
