"""The preview shows exactly what the training batches hold, and waits for nobody."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_finetuning import errors, files
from mlx_finetuning.config import EvaluateConfig
from mlx_finetuning.jobs.preview import LongRow, PreviewSequence
from mlx_finetuning.mlx_trainer.batches.batches import padded
from mlx_finetuning.mlx_trainer.batches.examples import Example, encode_rows
from mlx_finetuning.mlx_trainer.inference import grade
from mlx_finetuning.mlx_trainer.model.load import LoadedModel, load_tokenizer
from mlx_finetuning.progress import silent
from mlx_finetuning.studio import Studio
from mlx_finetuning.tasks import template_reading, usability
from mlx_finetuning.tasks.preview import shown
from mlx_finetuning.workspace import Workspace
from support.chat_templates import TEMPLATES
from support.helpers import with_template
from support.small_models import write_model, write_sentencepiece

pytestmark = pytest.mark.usefixtures("jobs_in_process")
LIMIT = 64


def _chat(*texts: str, system: str = "") -> dict[str, Any]:
    roles = ("user", "assistant")
    turns = [{"role": roles[at % 2], "content": text} for at, text in enumerate(texts)]
    return {"messages": [{"role": "system", "content": system}, *turns] if system else turns}


ROWS = [
    {**_chat("営業時間は？", "午前9時からです。"), "row": 2},
    {
        **_chat("営業時間は？", "9時です。", "休みは？😀", "水曜日です。", system="案内係です。"),
        "row": 3,
    },
    {**_chat("長い話を。", "むかしむかし、あるところに。" * 12), "row": 4},
    {"text": "本文だけの行です。", "row": 5},
]


def _in_batch(example: Example) -> tuple[list[int], set[int]]:
    """Tokens and supervised places of the only row of a training batch, without the padding."""
    batch = padded([example])
    # A batch holds inputs and, apart, the supervised next tokens.
    inputs = np.array(batch.tokens)[0].tolist()
    positions = np.array(batch.positions)[np.array(batch.weights) > 0]
    targets = np.array(batch.targets)[np.array(batch.weights) > 0]
    learned = {int(at) + 1: int(token) for at, token in zip(positions, targets, strict=True)}
    length = len(example.tokens)
    tokens = [*inputs[: length - 1], learned.get(length - 1, example.tokens[-1])]
    assert all(tokens[at] == token for at, token in learned.items())
    return tokens, set(learned)


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("row", ROWS, ids=["single", "multi-turn", "cut", "text"])
def test_preview_is_what_the_training_batch_holds(
    tiny: LoadedModel, template: str, row: dict[str, Any]
) -> None:
    tiny = with_template(tiny, TEMPLATES[template])
    pad = tiny.chat.files.ids().get("pad")
    for example, one in zip(encode_rows(tiny, [row], LIMIT), shown(tiny, row, LIMIT), strict=True):
        tokens, learned = _in_batch(example)
        preview = [token for token in one.tokens if not token.cut]
        assert [token.id for token in preview] == tokens
        assert {at for at, token in enumerate(preview) if token.supervised} == learned
        assert pad == tiny.tokenizer.eos_token_id or pad not in tokens


@pytest.mark.parametrize("template", ["chatml", "role prefix"])
def test_every_assistant_turn_is_supervised_and_nothing_else(
    tiny: LoadedModel, template: str
) -> None:
    tiny = with_template(tiny, TEMPLATES[template])
    [preview] = shown(tiny, ROWS[1], 1000)
    spans, before = [""], False
    for token in preview.tokens:
        if token.supervised:
            spans[-1] += token.piece
        elif before:
            spans.append("")
        before = token.supervised
    assert [span.strip() for span in spans if span] == [
        "9時です。<|im_end|>",
        "水曜日です。<|im_end|>",
    ]


def test_cut_answer_is_shown_with_what_is_lost(tiny: LoadedModel) -> None:
    [preview] = shown(tiny, ROWS[2], LIMIT)
    assert preview.cut == preview.token_count - LIMIT == sum(token.cut for token in preview.tokens)
    assert preview.answer_end_lost
    assert not shown(tiny, ROWS[0], LIMIT)[0].answer_end_lost


def test_pieces_are_the_text_or_the_bytes_inside_a_character(tiny: LoadedModel) -> None:
    pieces = [token.piece for token in shown(tiny, ROWS[1], LIMIT)[0].tokens]
    in_bytes = "".join(piece for piece in pieces if piece.startswith("⟨"))
    assert bytes.fromhex(in_bytes.replace("⟨", " ").replace("⟩", " ")).decode().endswith("😀")
    assert "�" not in "".join(pieces)


def test_bytes_of_sentencepiece_are_shown(tmp_path: Path, workspace: Workspace) -> None:
    write_sentencepiece(tmp_path)
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "llama", "max_position_embeddings": 256}), encoding="utf-8"
    )
    loaded = load_tokenizer(tmp_path)
    pieces = [token.piece for token in shown(loaded, {"text": "鬱😀", "row": 2}, 64)[0].tokens]
    assert "⟨F0⟩⟨9F⟩⟨98⟩⟨80⟩" in "".join(pieces)


# --- the job -----------------------------------------------------------------------------


@pytest.fixture
def studio(workspace: Workspace) -> Studio:
    folder = workspace.dataset("mixed")
    folder.folder.mkdir(parents=True)
    lines = [json.dumps(row, ensure_ascii=False) for row in ROWS[:3]]
    folder.train.write_text("\n".join(lines[:2]) + "\n", encoding="utf-8")
    folder.test.write_text(lines[2] + "\n", encoding="utf-8")
    return Studio(workspace)


def test_totals_are_over_all_rows_and_nobody_is_waited_for(
    studio: Studio, tiny: LoadedModel
) -> None:
    device = files.FileLock(studio.workspace.device_lock)
    assert device.acquire()
    result = studio.data.preview("mixed", "tiny-ja", row=4, max_length=LIMIT).follow()
    assert result.ends == ("MLX", "内蔵ランタイム", "Ollama")
    assert result.warnings == ()
    device.release()
    assert (result.row.split, result.row.row) == ("test", 4)
    encoded = encode_rows(tiny, ROWS[:3], LIMIT)
    totals = result.totals
    assert totals.rows == 3
    assert totals.tokens == sum(len(example.tokens) for example in encoded)
    assert totals.supervised_tokens == sum(example.targets for example in encoded)
    assert (totals.cut_rows, totals.answer_end_lost_rows) == (1, 1)
    assert totals.longest_row == 4
    assert totals.too_long == [LongRow(4, "", totals.longest_tokens, encoded[2].cut, True)]


def test_unknown_row_and_dataset_are_named(studio: Studio) -> None:
    with pytest.raises(errors.RowNotFound) as caught:
        studio.data.preview("mixed", "tiny-ja", row=99).follow()
    assert caught.value.data["nearest"] == [2, 3, 4]
    with pytest.raises(errors.DatasetNotFound):
        studio.data.preview("nothing", "tiny-ja").follow()


def test_both_answers_of_a_preference_row_are_shown(studio: Studio) -> None:
    rows = [
        {"prompt": f"{n}の次は？", "chosen": f"{n + 1}です。", "rejected": "知らない。", "row": n}
        for n in range(2, 5)
    ]
    _write(studio, "pairs", rows)
    result = studio.data.preview("pairs", "tiny-ja", row=3).follow()
    assert _learned(result.row) == "4です。<|im_end|>"
    assert _learned(result.rejected) == "知らない。<|im_end|>"
    assert result.row.text.startswith(result.rejected.text.split("知らない")[0])
    totals = result.totals
    assert totals.rows == 3
    assert totals.tokens > 3 * result.row.token_count


def test_judged_row_is_shown_with_its_mark_and_its_last_answer_alone(studio: Studio) -> None:
    said = ("はい？", "ご用件は？", "1の次は？", "3です。")
    talk = [
        {"role": role, "content": text}
        for role, text in zip(("user", "assistant") * 2, said, strict=True)
    ]
    _write(studio, "judged", [{"messages": talk, "label": False, "row": 2}])
    result = studio.data.preview("judged", "tiny-ja").follow()
    assert _learned(result.row) == "3です。<|im_end|>"
    assert (result.label, result.more, result.rejected) == (False, (), None)


def test_plain_text_is_shown_as_learned_whole(studio: Studio) -> None:
    rows = [{"text": "むかしむかし。", "row": 2}, {"text": "ある所に。" * 9, "row": 3}]
    _write(studio, "texts", rows)
    result = studio.data.preview("texts", "tiny-ja").follow()
    tokens = result.row.tokens
    assert [token.supervised for token in tokens] == [False] + [True] * (len(tokens) - 1)
    assert result.row.text == "むかしむかし。"
    short = studio.data.preview("texts", "tiny-ja", max_length=8).follow()
    assert not short.row.cut
    assert short.totals.tokens == result.totals.tokens
    assert result.rejected is None


def test_template_without_a_place_for_tools_is_named(studio: Studio) -> None:
    _write(studio, "tools", [{**ROWS[0], "tools": [WEATHER]}, ROWS[1]])
    assert studio.data.preview("tools", "tiny-ja", row=2).follow().tools_ignored
    assert not studio.data.preview("tools", "tiny-ja", row=3).follow().tools_ignored


def test_preview_follows_what_is_supervised(studio: Studio, tiny: LoadedModel) -> None:
    answers, whole = (
        studio.data.preview("mixed", "tiny-ja", supervise=choice).follow()
        for choice in ("answers", "all")
    )
    assert answers.row.supervised_tokens < whole.row.supervised_tokens
    encoded = encode_rows(tiny, ROWS[:3], whole.max_length, "all")
    assert whole.totals.supervised_tokens == sum(example.targets for example in encoded)
    with pytest.raises(errors.InvalidSettings):
        studio.data.preview("mixed", "tiny-ja", supervise="questions").follow()


def _write(studio: Studio, name: str, rows: list[dict[str, Any]]) -> None:
    paths = studio.workspace.dataset(name)
    paths.folder.mkdir()
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    paths.train.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _learned(preview: PreviewSequence) -> str:
    return "".join(token.piece for token in preview.tokens if token.supervised)


# --- tools -------------------------------------------------------------------------------

WEATHER = {"type": "function", "function": {"name": "天気予報", "parameters": {}}}


def test_tools_of_a_row_are_in_what_is_shown_trained_and_asked(tiny: LoadedModel) -> None:
    tools = "{% if tools %}[道具]{{ tools[0].function.name }}\n{% endif %}"
    tiny = with_template(tiny, tools + TEMPLATES["chatml"])
    asked: list[list[int]] = []

    class Listening(LoadedModel):
        def render(self, messages: Any, *, ask: bool, tools: Any = None) -> list[int]:
            tokens = super().render(messages, ask=ask, tools=tools)
            asked.extend([tokens] if ask else [])
            return tokens

    loaded = Listening(tiny.model, tiny.tokenizer, tiny.chat, tiny.config, tiny.folder)
    row = {**ROWS[0], "tools": [WEATHER]}
    [preview] = shown(loaded, row, 200)
    assert preview.text.startswith("[道具]天気予報\n<|im_start|>user")
    assert preview.supervised_tokens == shown(tiny, ROWS[0], 200)[0].supervised_tokens
    [example] = encode_rows(loaded, [row], 200)
    assert tiny.tokenizer.decode(example.tokens).startswith("[道具]天気予報")
    asked.clear()
    layout = grade.batch_layout(loaded)
    grade.grade(
        loaded, [row], EvaluateConfig(max_tokens=1), silent, "評価", layout=layout, ask=True
    )
    assert asked
    assert all(prompt == example.tokens[: len(prompt)] for prompt in asked)


def test_what_ollama_will_not_read_is_said_with_its_rows(tmp_path: Path) -> None:
    """A Unigram model with a space before each text: no bytes for what its vocabulary lacks."""
    write_model(tmp_path / "m", "llama 2", num_hidden_layers=1)
    write_sentencepiece(tmp_path / "m", kind="unigram")
    loaded = load_tokenizer(tmp_path / "m")
    rows = [
        {**_chat("営業時間は？", answer), "row": row} for row, answer in ((2, "9時"), (3, "🦕"))
    ]
    usable = usability.usability_of(tmp_path / "m", loaded, rows, tmp_path)
    assert usable.engines_ja[:2] == ("MLX", "内蔵ランタイム")
    assert any("3行目" in text and "<unk>" in text for text in usable.warnings_ja)
    assert not any("2行目" in text for text in usable.warnings_ja)


def test_template_that_llama_cpp_cannot_read_is_said_before_training(tiny: LoadedModel) -> None:
    """It selects turns as an older template of Mistral Nemo does."""
    assert tiny.folder is not None
    selecting = (
        "{% for m in messages | rejectattr('role', 'equalto', 'tool')"
        " | selectattr('tool_calls', 'undefined') %}{% endfor %}"
    )
    loaded = with_template(tiny, selecting + TEMPLATES["chatml"])
    usable = usability.usability_of(tiny.folder, loaded, ROWS, tiny.folder)
    assert usable == usability.Usability(("MLX",), (template_reading.UNREADABLE,))
    loaded = with_template(tiny, "{# tool_calls #}" + TEMPLATES["chatml"])
    usable = usability.usability_of(tiny.folder, loaded, ROWS, tiny.folder)
    assert usable.engines_ja == ("MLX", "内蔵ランタイム", "Ollama")
