"""prepare: a dataset appears whole or not at all, the old one survives, the source is untouched."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from mlx_finetuning import errors, files
from mlx_finetuning.config import PrepareConfig, load
from mlx_finetuning.data_processor import (
    SAMPLE_DATA,
    TEMPLATES,
    DatasetSummary,
    inspect,
    prepare,
    read_manifest,
    read_rows,
    recover,
    reproduce,
    store,
)
from mlx_finetuning.data_processor.prepare import Decided
from mlx_finetuning.progress import Step
from mlx_finetuning.studio.data import Data
from mlx_finetuning.workspace import DatasetPaths, Workspace
from support.japanese_rows import clean_rows


@pytest.fixture
def paths(tmp_path: Path) -> DatasetPaths:
    return DatasetPaths(tmp_path / "datasets" / "shop")


def _prepare(paths: DatasetPaths, source: Path = SAMPLE_DATA, **options: object) -> DatasetSummary:
    settings = {key: value for key, value in options.items() if key not in ("replace", "progress")}
    rest = {key: value for key, value in options.items() if key in ("replace", "progress")}
    return prepare(source, "shop", paths, load(PrepareConfig, settings), **rest)  # type: ignore[arg-type]


def _contents(paths: DatasetPaths) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(paths.folder.iterdir())}


def test_rows_are_written_with_their_source_line_and_group(paths: DatasetPaths) -> None:
    summary = _prepare(paths)
    source = SAMPLE_DATA.read_text(encoding="utf-8").splitlines()
    rows = [row for name in ("train", "valid", "test") for row in read_rows(paths.split(name))]
    assert sorted(row["row"] for row in rows) == list(range(2, len(source) + 1))
    for row in rows:
        question, answer = row["messages"]
        assert source[row["row"] - 1].startswith(question["content"])
        assert (question["role"], answer["role"]) == ("user", "assistant")
    counts = {name: len(read_rows(paths.split(name))) for name in ("train", "valid", "test")}
    assert summary.counts == counts
    assert summary.groups == len({row["group"] for row in rows}) == 16


def test_cp932_file_gives_the_same_dataset(paths: DatasetPaths, tmp_path: Path) -> None:
    _prepare(paths)
    source = tmp_path / "excel.csv"
    text = SAMPLE_DATA.read_text(encoding="utf-8")
    source.write_bytes(text.replace("\n", "\r\n").encode("cp932"))
    other = DatasetPaths(tmp_path / "datasets" / "excel")
    summary = _prepare(other, source)
    assert summary.encoding == "cp932"
    assert other.train.read_bytes() == paths.train.read_bytes()


def test_same_source_and_seed_give_the_same_bytes(paths: DatasetPaths) -> None:
    _prepare(paths)
    first = _contents(paths)
    _prepare(paths, replace=True)
    assert _contents(paths) == first
    _prepare(paths, replace=True, seed=7)
    assert _contents(paths)["test.jsonl"] != first["test.jsonl"]


def test_manifest_says_how_the_dataset_was_made(paths: DatasetPaths) -> None:
    summary = _prepare(paths, seed=5)
    manifest = files.read_json(paths.manifest)
    assert manifest["counts"] == summary.counts
    assert manifest["mapping"]["question"] == "質問"
    assert manifest["config"]["seed"] == 5
    assert len(manifest["sources"][0]["sha256"]) == 64
    assert manifest["sources"][0]["path"] == str(SAMPLE_DATA)
    assert manifest["encoding"] == "utf-8"
    json.dumps(asdict(summary))


def test_system_text_goes_first_in_every_row(paths: DatasetPaths) -> None:
    _prepare(paths, system="丁寧に答えてください。")
    for row in read_rows(paths.train):
        assert row["messages"][0] == {"role": "system", "content": "丁寧に答えてください。"}


@pytest.mark.parametrize(
    ("name", "keys"),
    [("text.jsonl", {"text"}), ("preference.jsonl", {"prompt", "chosen", "rejected"})],
)
def test_other_kinds_of_rows_keep_their_form(
    paths: DatasetPaths, name: str, keys: set[str]
) -> None:
    _prepare(paths, TEMPLATES / name)
    rows = [row for split in ("train", "valid", "test") for row in read_rows(paths.split(split))]
    assert len(rows) == 3
    assert all(set(row) == keys | {"row", "group"} for row in rows)


def test_input_column_follows_the_instruction(paths: DatasetPaths) -> None:
    _prepare(paths, TEMPLATES / "alpaca.json", valid_share=0, test_share=0)
    contents = [row["messages"][0]["content"] for row in read_rows(paths.train)]
    assert contents[0].endswith("直してください。\n\n見積もりを早く送ってほしい。")
    assert contents[2].endswith("説明してください。")


def test_existing_dataset_is_not_overwritten_without_replace(paths: DatasetPaths) -> None:
    _prepare(paths)
    before = _contents(paths)
    with pytest.raises(errors.DatasetExists):
        _prepare(paths, seed=9)
    assert _contents(paths) == before


def test_bad_source_leaves_the_old_dataset_whole(paths: DatasetPaths, tmp_path: Path) -> None:
    _prepare(paths)
    before = _contents(paths)
    bad = tmp_path / "bad.csv"
    bad.write_text("質問,回答\n,\n", encoding="utf-8")
    with pytest.raises(errors.DataError):
        _prepare(paths, bad, replace=True)
    assert _contents(paths) == before
    assert [path.name for path in paths.folder.parent.iterdir()] == ["shop"]


def test_interrupting_leaves_the_old_dataset_and_nothing_else(paths: DatasetPaths) -> None:
    _prepare(paths)
    before = _contents(paths)

    def stop(step: Step) -> None:
        if step.stage == "書き込み":
            raise errors.Interrupted

    with pytest.raises(errors.Interrupted):
        _prepare(paths, seed=9, replace=True, progress=stop)
    assert _contents(paths) == before
    assert [path.name for path in paths.folder.parent.iterdir()] == ["shop"]


_FULL_DISK = """
import resource, sys
from pathlib import Path
from mlx_finetuning.config import PrepareConfig
from mlx_finetuning.data_processor import SAMPLE_DATA, prepare
from mlx_finetuning.errors import DiskFull
from mlx_finetuning.workspace import DatasetPaths
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    prepare(SAMPLE_DATA, "shop", DatasetPaths(Path(sys.argv[1])), PrepareConfig(seed=9), replace=True)
except DiskFull:
    sys.exit(7)
"""


def test_full_disk_leaves_the_old_dataset_and_nothing_else(paths: DatasetPaths) -> None:
    _prepare(paths)
    before = _contents(paths)
    command = [sys.executable, "-c", _FULL_DISK, str(paths.folder)]
    assert subprocess.run(command, check=False).returncode == 7
    assert _contents(paths) == before
    assert [path.name for path in paths.folder.parent.iterdir()] == ["shop"]


def test_dataset_left_aside_by_a_kill_is_put_back(paths: DatasetPaths) -> None:
    _prepare(paths)
    before = _contents(paths)
    paths.folder.rename(paths.folder.with_name(".old-shop"))
    with pytest.raises(errors.DatasetExists):
        _prepare(paths)
    assert _contents(paths) == before


def test_dataset_made_meanwhile_by_another_process_is_kept(paths: DatasetPaths) -> None:
    with pytest.raises(errors.DatasetExists), store.new_folder(paths, replace=False) as new:
        new.train.write_text("{}\n", encoding="utf-8")
        _prepare(paths)
    assert len(read_rows(paths.train)) > 1
    assert [path.name for path in paths.folder.parent.iterdir()] == ["shop"]


def test_source_is_never_touched(paths: DatasetPaths, tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    source.write_bytes(SAMPLE_DATA.read_bytes())
    source.chmod(0o400)
    before = source.stat()
    _prepare(paths, source)
    assert source.read_bytes() == SAMPLE_DATA.read_bytes()
    assert source.stat().st_mtime_ns == before.st_mtime_ns


def test_damaged_row_is_named(paths: DatasetPaths) -> None:
    _prepare(paths)
    lines = paths.train.read_text(encoding="utf-8").splitlines(keepends=True)
    paths.train.write_text("".join(lines[:3]) + lines[3][:20], encoding="utf-8")
    with pytest.raises(errors.DatasetDamaged) as caught:
        read_rows(paths.train)
    assert caught.value.data["line"] == 4


def test_absent_split_has_no_rows(paths: DatasetPaths) -> None:
    assert read_rows(paths.valid) == []


# --- made again --------------------------------------------------------------------------


def test_manifest_makes_the_same_bytes_again(paths: DatasetPaths, tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    source.write_bytes(SAMPLE_DATA.read_bytes())
    settings = PrepareConfig(seed=3, clean=("nfc", "trim"), stratify="カテゴリ", hold_out="group")
    prepare(source, "shop", paths, settings, {"group": ""})
    before = _contents(paths)
    recorded = read_manifest(paths.manifest)
    reproduce(recorded, "shop", paths, replace=True)
    assert _contents(paths) == before
    other = DatasetPaths(paths.folder.with_name("other"))
    reproduce(recorded, "other", other)
    assert all(_contents(other)[name] == before[name] for name in before if name != "dataset.json")


def test_manifest_of_before_goals_makes_the_same_bytes(paths: DatasetPaths) -> None:
    prepare(SAMPLE_DATA, "shop", paths, PrepareConfig(hold_out="group"))
    before = _contents(paths)
    manifest = json.loads(before["dataset.json"])
    assert manifest.pop("goal") == manifest["config"].pop("goal") == "faq"
    paths.manifest.write_text(json.dumps(manifest), encoding="utf-8")
    reproduce(read_manifest(paths.manifest), "shop", paths, replace=True)
    again = _contents(paths)
    assert all(again[name] == before[name] for name in before if name != "dataset.json")


def test_inspection_says_what_it_is_for_and_what_could_be_held_out(tmp_path: Path) -> None:
    found = inspect(SAMPLE_DATA)
    assert (found.goal, found.reworded_facts) == ("faq", 16)
    sheet = tmp_path / "a.csv"
    sheet.write_text(
        "質問,回答\n" + "".join(f"問{n}は？,答え{n}番です\n" for n in range(9)), "utf-8"
    )
    assert (inspect(sheet).goal, inspect(sheet).reworded_facts) == ("faq", 0)
    asked = inspect(sheet, config=PrepareConfig(goal="style"))
    assert (asked.goal, asked.reworded_facts) == ("style", 0)


def test_manifest_finds_an_evaluation_set_from_another_folder(
    paths: DatasetPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "source.csv").write_bytes(SAMPLE_DATA.read_bytes())
    asked = SAMPLE_DATA.read_text(encoding="utf-8").splitlines()[:4]
    (tmp_path / "asked.csv").write_text("\n".join(asked) + "\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    settings = PrepareConfig(evaluation_sets=("asked.csv",), drop=("evaluation_set",))
    summary = prepare(Path("source.csv"), "shop", paths, settings)
    assert summary.dropped == {"EVALUATION_SET": 3}
    before = _contents(paths)
    monkeypatch.chdir("/")
    reproduce(read_manifest(paths.manifest), "shop", paths, replace=True)
    assert _contents(paths) == before


def test_moved_source_can_be_named(paths: DatasetPaths, tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    source.write_bytes(SAMPLE_DATA.read_bytes())
    _prepare(paths, source)
    before = _contents(paths)
    source = source.rename(tmp_path / "b.csv")
    with pytest.raises(errors.SourceNotFound):
        reproduce(read_manifest(paths.manifest), "shop", paths, replace=True)
    reproduce(read_manifest(paths.manifest, [source]), "shop", paths, replace=True)
    assert _contents(paths)["train.jsonl"] == before["train.jsonl"]


def test_changed_source_is_refused(paths: DatasetPaths, tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    source.write_bytes(SAMPLE_DATA.read_bytes())
    _prepare(paths, source)
    before = _contents(paths)
    source.write_bytes(SAMPLE_DATA.read_bytes() + "質問,回答,,\n".encode())
    with pytest.raises(errors.SourceChanged):
        reproduce(read_manifest(paths.manifest), "shop", paths, replace=True)
    assert _contents(paths) == before


def test_other_result_than_recorded_is_refused(paths: DatasetPaths) -> None:
    _prepare(paths)
    record = files.read_json(paths.manifest)
    record["files"]["test"] = "0" * 64
    files.write_json(paths.manifest, record)
    before = _contents(paths)
    with pytest.raises(errors.DatasetNotReproduced) as caught:
        reproduce(read_manifest(paths.manifest), "shop", paths, replace=True)
    assert caught.value.data["files"] == ["test.jsonl"]
    assert _contents(paths) == before


def test_damaged_manifest_is_named(paths: DatasetPaths) -> None:
    _prepare(paths)
    files.write_json(paths.manifest, {"name": "shop"})
    with pytest.raises(errors.RecordDamaged):
        read_manifest(paths.manifest)


# --- cleaning and dropping on request ----------------------------------------------------


def _dirty(tmp_path: Path) -> Path:
    source = tmp_path / "dirty.csv"
    source.write_text(
        "質問,回答\n"
        "ｶﾀﾛｸﾞの１号は？,はい\u200b、ｂ１です。 \n"
        "連絡先は？,03-1234-5678です。\n"
        "休みは？,Please call our office before noon.\n"
        "場所は？,東京です。\n",
        encoding="utf-8",
    )
    return source


def test_steps_are_done_in_the_order_that_is_asked(paths: DatasetPaths, tmp_path: Path) -> None:
    steps = "zero_width,trim,halfwidth_kana,fullwidth_alnum,mask_personal"
    summary = _prepare(paths, _dirty(tmp_path), clean=steps, valid_share=0, test_share=0)
    rows = read_rows(paths.train)
    assert [turn["content"] for turn in rows[0]["messages"]] == [
        "カタログの1号は？",
        "はい、b1です。",
    ]
    assert rows[1]["messages"][1]["content"] == "【電話番号】です。"
    assert [(step.name, step.rows) for step in summary.cleaning] == [
        (name, 1) for name in steps.split(",")
    ]
    assert summary.cleaning[-1].samples == ((3, "03-1234-5678です。", "【電話番号】です。"),)


def test_dataset_without_steps_has_the_text_as_it_was(paths: DatasetPaths, tmp_path: Path) -> None:
    _prepare(paths, _dirty(tmp_path), clean="", valid_share=0, test_share=0)
    assert read_rows(paths.train)[0]["messages"][1]["content"] == "はい\u200b、ｂ１です。 "


def test_rows_can_be_left_out_by_finding(paths: DatasetPaths, tmp_path: Path) -> None:
    drop = "personal_data,not_japanese"
    summary = _prepare(paths, _dirty(tmp_path), drop=drop, valid_share=0, test_share=0)
    assert [row["row"] for row in read_rows(paths.train)] == [2, 5]
    assert summary.dropped == {"PERSONAL_DATA": 1, "NOT_JAPANESE": 1}


@pytest.mark.parametrize("settings", [{"clean": "nfc,polish"}, {"drop": "everything"}])
def test_unknown_steps_and_findings_are_refused(
    paths: DatasetPaths, settings: dict[str, str]
) -> None:
    with pytest.raises(errors.InvalidSettings):
        _prepare(paths, **settings)
    assert not paths.folder.exists()


# --- recovery and progress ---------------------------------------------------------------


def test_dataset_left_aside_is_back_at_the_next_look(paths: DatasetPaths) -> None:
    _prepare(paths)
    before = _contents(paths)
    paths.folder.rename(paths.folder.with_name(".old-shop"))
    recover(paths.folder.parent)
    assert _contents(paths) == before
    recover(paths.folder.parent)
    assert [path.name for path in paths.folder.parent.iterdir()] == ["shop"]


def test_rest_of_a_finished_replacement_is_removed(paths: DatasetPaths) -> None:
    _prepare(paths)
    before = _contents(paths)
    paths.folder.with_name(".old-shop").mkdir()
    recover(paths.folder.parent)
    assert _contents(paths) == before
    assert [path.name for path in paths.folder.parent.iterdir()] == ["shop"]


def test_long_work_is_reported_and_can_be_stopped_in_every_stage(tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    with source.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([["質問", "回答", "カテゴリ"], *clean_rows(300)])
    stages: list[str] = []
    paths = DatasetPaths(tmp_path / "datasets" / "a")
    prepare(source, "a", paths, PrepareConfig(), progress=lambda step: stages.append(step.stage))
    for stage in set(stages):

        def stop(step: Step, stage: str = stage) -> None:
            if step.stage == stage:
                raise errors.Interrupted

        other = DatasetPaths(tmp_path / "datasets" / "b")
        if stage == "データの準備":
            continue  # the last word, when all is written
        with pytest.raises(errors.Interrupted):
            prepare(source, "b", other, PrepareConfig(), progress=stop)
        assert not other.folder.exists()
    assert len(set(stages)) >= 8


def test_inspection_previews_a_cleaning_step(tmp_path: Path) -> None:
    found = inspect(_dirty(tmp_path), config=PrepareConfig(clean=("mask_personal",)))
    assert [(step.name, step.rows) for step in found.cleaning] == [("mask_personal", 1)]


LABELLED = "".join(
    json.dumps({"text": f"{n}番の店は{word}です", "label": word}, ensure_ascii=False) + "\n"
    for n in range(12)
    for word in ("静か", "にぎやか")
)


def _of_former_version(paths: DatasetPaths, source: Path) -> None:
    """The record of a version that took texts beside labels for plain text, and kept no goal."""
    source.write_text(LABELLED, encoding="utf-8")
    _prepare(paths, source, goal="text")
    record = files.read_json(paths.manifest)
    record["config"]["goal"] = "auto"
    del record["goal"]
    files.write_json(paths.manifest, record)


def test_columns_of_a_record_are_held_to(paths: DatasetPaths, tmp_path: Path) -> None:
    _of_former_version(paths, tmp_path / "a.jsonl")
    before = {name: paths.split(name).read_bytes() for name in ("train", "valid", "test")}
    recorded = read_manifest(paths.manifest)
    assert _prepare(DatasetPaths(tmp_path / "new"), tmp_path / "a.jsonl").kind == "chat"
    assert reproduce(recorded, "shop", paths, replace=True).kind == "text"
    assert before == {name: paths.split(name).read_bytes() for name in ("train", "valid", "test")}


def test_changed_rows_of_a_record_keep_its_kind(tmp_path: Path) -> None:
    data = Data(Workspace(tmp_path))
    paths = data.workspace.dataset("shop")
    _of_former_version(paths, tmp_path / "a.jsonl")
    rows = data.edited("shop")
    rows.delete(1)
    summary = data.edit("shop", rows.edits)
    assert (summary.kind, summary.usable_rows) == ("text", 23)


def test_record_of_another_kind_is_refused(paths: DatasetPaths, tmp_path: Path) -> None:
    _of_former_version(paths, tmp_path / "a.jsonl")
    recorded = read_manifest(paths.manifest)
    # Columns that this version does not find in the file, and no bytes to compare with.
    decided = Decided("text", ({"text": "body"},))
    with pytest.raises(errors.DatasetNotReproduced):
        prepare(recorded.sources, "shop", paths, PrepareConfig(), replace=True, decided=decided)


@pytest.mark.parametrize("rows", [10, 17, 26, 40, 64, 93, 128, 170, 231, 300])
def test_every_fact_of_a_sheet_is_taught_and_only_other_wordings_are_held_out(
    paths: DatasetPaths, tmp_path: Path, rows: int
) -> None:
    """From a file to the dataset's; every third question has a second wording."""
    table = [(question, answer) for question, answer, *_ in clean_rows(rows, seed=rows)]
    table += [(f"すみません、{question}", answer) for question, answer in table[::3]]
    sheet = tmp_path / "faq.csv"
    with sheet.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("質問", "回答"), *table])
    summary = _prepare(paths, sheet, goal="faq")
    written = {name: read_rows(paths.split(name)) for name in ("train", "valid", "test")}
    facts = {
        name: {row["messages"][1]["content"] for row in split} for name, split in written.items()
    }
    assert facts["train"] == {answer for _, answer in table}
    assert facts["valid"] | facts["test"] <= facts["train"]
    assert sum(map(len, written.values())) == sum(summary.counts.values()) == len(table)
