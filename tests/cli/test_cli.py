"""The command line: exit codes, one JSON object, Japanese throughout."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from rich.cells import cell_len

from mlx_finetuning import cli
from mlx_finetuning.cli import text
from mlx_finetuning.cli.app import build
from mlx_finetuning.cli.progress_line import ProgressLine, line
from mlx_finetuning.cli.server_process import ServerAddress, serve_command
from mlx_finetuning.errors import DatasetNotFound
from mlx_finetuning.experiment_tracker.evaluation import report
from mlx_finetuning.progress import Step
from mlx_finetuning.studio import Studio
from mlx_finetuning.studio.runs import Runs
from mlx_finetuning.workspace import Workspace
from support import ui_workspaces
from support.helpers import wait_until
from support.reports import summed_up

Shown = tuple[int, str, str]
JAPANESE = re.compile(r"[ぁ-んァ-ヶ一-龥]")
ASCII_WORD = re.compile(r"[A-Za-z][\w./=-]+", re.ASCII)
CLICKS_WORDS = re.compile(
    r"\b(Usage|Options|Commands|Arguments|Show|Error|Missing|Invalid|Try|default|required|"
    r"such|Got|unexpected|range|valid|one of|does not|exist|OPTIONS|COMMAND|ARGS|TEXT|INTEGER|"
    r"DIRECTORY|Aborted|Did you mean)\b"
)


class Terminal:
    """Runs commands in this process, on one workspace."""

    def __init__(self, workspace: Workspace, capture: pytest.CaptureFixture[str]) -> None:
        self._workspace = workspace
        self._capture = capture

    def __call__(self, *words: str) -> Shown:
        code = cli.main([*words, "--workspace", str(self._workspace.root)])
        out, err = self._capture.readouterr()
        return code, out, err

    def json(self, *words: str) -> tuple[int, dict[str, Any]]:
        code, out, _ = self(*words, "--json")
        return code, json.loads(out)


@pytest.fixture
def terminal(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(workspace, capsys)


def commands(
    group: click.Group | None = None, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    group = group or build()
    yield path, group
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(commands())
LEAVES = [path for path, command in COMMANDS.items() if not isinstance(command, click.Group)]


def test_the_commands_are_those_of_the_contract() -> None:
    assert {" ".join(path) for path in LEAVES} == {
        *(
            "doctor",
            "demo",
            "auto",
            "data inspect",
            "data prepare",
            "data preview",
            "data edit",
            "data export",
            "data generate",
            "data reword",
            "data refuse",
            "data list",
            "data delete",
            "data trash",
            "train",
            "evaluate",
            "export",
        ),
        *("runs list", "runs show", "runs watch", "runs stop", "export", "verify", "chat", "serve"),
        *("runs rerun", "runs compare", "runs note", "runs delete", "runs trash", "runs export"),
        *(
            "runs report",
            "runs merge",
            "runs import",
            "runs share",
            "tune",
            "data refuse",
            "data reword",
        ),
        *("certify", "serve-model", "deploy", "install-shortcut"),
        *(
            f"answers {name}"
            for name in ("test", "list", "mark", "correct", "undo", "retrain", "export")
        ),
        *(f"ollama {name}" for name in ("status", "list", "show", "copy", "delete", "ask")),
        *("models list", "models show", "models download", "models delete"),
    }


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_is_japanese(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*path, "--help"]) == 0
    shown = capsys.readouterr().out
    assert CLICKS_WORDS.findall(shown) == []
    assert "使い方:" in shown and "この説明を表示して終わる" in shown


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_fits_the_terminal_and_cuts_no_name_and_no_sentence(
    path: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main([*path, "--help"]) == 0
    shown = capsys.readouterr().out
    # A list of choices has no place to be broken at.
    lines = [line for line in shown.splitlines() if not re.fullmatch(r"  --\S+ \[\S+\]", line)]
    assert max(map(cell_len, lines)) <= 80
    assert not any(line.endswith("...") and "[" not in line for line in shown.splitlines())
    command = COMMANDS[path]
    options = [item for item in command.params if isinstance(item, click.Option)]
    told = " ".join(filter(None, (command.help, *(item.help for item in options))))
    assert [name for name in ASCII_WORD.findall(told) if name not in shown] == []


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_and_option_is_explained_in_japanese(path: tuple[str, ...]) -> None:
    command = COMMANDS[path]
    assert JAPANESE.search(command.help or "")
    options = [item for item in command.params if isinstance(item, click.Option)]
    assert [item.name for item in options if not JAPANESE.search(item.help or "版")] == []


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_every_command_takes_workspace_and_json(path: tuple[str, ...]) -> None:
    options = {word for item in COMMANDS[path].params for word in item.opts}
    assert {"--workspace", "--json"} <= options


@pytest.mark.parametrize(
    "words",
    [
        ["bogus"],
        ["trian"],
        ["train", "--foo"],
        ["train", "--modle", "x"],
        ["train", "--engine", "torch"],
        ["train", "--model"],
        ["train", "--detach=1"],
        ["runs", "show"],
        ["runs", "show", "a", "b"],
        ["verify", "x.gguf"],
        ["tune"],
        ["tune", "--dataset", "a", "--resume", "b"],
        ["tune", "--dataset", "a", "--minutes", "0"],
        ["serve", "--port", "abc"],
        ["serve", "--port", "99999"],
        ["runs"],
        [],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_2_and_japanese(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert JAPANESE.search(err) and CLICKS_WORDS.findall(err) == []


def test_wrong_usage_is_one_object_with_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["runs", "show", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "USAGE"


def test_error_is_exit_1_with_what_why_and_next(terminal: Terminal) -> None:
    code, out, err = terminal("runs", "show", "20260101-000000-x-0000")
    assert (code, out) == (1, "")
    first, why, following = err.splitlines()
    assert first.startswith("エラー [RUN_NOT_FOUND]: 実験「20260101-000000-x-0000」")
    assert "最近の実験: なし" in why and following.startswith("  → ")


def test_error_with_json_is_one_object(terminal: Terminal) -> None:
    code, shown = terminal.json("runs", "show", "20260101-000000-x-0000")
    assert code == 1
    assert set(shown["error"]) == {"code", "message", "why", "next", "data"}
    assert shown["error"]["data"] == {"run_id": "20260101-000000-x-0000", "recent": []}


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--dataset", "facts", "--set", "iters=3"], "INVALID_SETTINGS"),
        (["--dataset", "facts", "--set", "learning_rate=-1"], "INVALID_SETTINGS"),
        (["--dataset", "facts", "--set", "rank"], "INVALID_SETTINGS"),
        (["--dataset", "none"], "DATASET_NOT_FOUND"),
        (["--dataset", "-rf"], "INVALID_NAME"),
        (["--dataset", "facts", "--model", "no-such"], "MODEL_NOT_FOUND"),
        (["--dataset", "facts", "--config", "/none.yaml"], "CONFIG_FILE_UNREADABLE"),
    ],
)
@pytest.mark.usefixtures("facts")
def test_wrong_training_is_refused_and_writes_nothing(
    terminal: Terminal, workspace: Workspace, words: list[str], code: str
) -> None:
    exit_code, shown = terminal.json("train", *words)
    assert (exit_code, shown["error"]["code"]) == (1, code)
    assert not workspace.experiments.exists()


def test_simulated_training_is_followed_and_marked(terminal: Terminal, facts: str) -> None:
    simulate = ["train", "--engine", "simulation", "--dataset", facts, "--set", "iterations=5"]
    code, out, err = terminal(*simulate)
    assert code == 0
    assert "シミュレーションを始めました" in err and "シミュレーションが終わりました" in out
    code, shown = terminal.json(*simulate)
    assert (code, shown["state"], shown["simulated"]) == (0, "done", True)
    assert shown["result"]["adapter_path"] is None


def test_options_of_their_own_win_over_set_and_set_over_the_file(
    terminal: Terminal, workspace: Workspace, facts: str, tmp_path: Path
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("engine: simulation\niterations: 9\nrank: 2\nseed: 3\ndataset: none\n")
    words = ["--config", str(path), "--set", "iterations=4", "--set", "dataset=neither"]
    _, shown = terminal.json("train", *words, "--dataset", facts)
    (run,) = Studio(workspace).runs.list()
    assert run.run_id == shown["run_id"]
    saved = (workspace.run(run.run_id).config).read_text()
    assert "iterations: 4" in saved and "rank: 2" in saved and "dataset: facts" in saved


def test_goal_decides_what_is_not_set(terminal: Terminal, workspace: Workspace, facts: str) -> None:
    words = ["train", "--dataset", facts, "--engine", "simulation", "--set", "rank=4"]
    saved = {}
    for goal in ("faq", "text"):
        _, shown = terminal.json(*words, "--goal", goal)
        saved[goal] = Studio(workspace).runs.settings(shown["run_id"])
    assert {settings["rank"] for settings in saved.values()} == {4}
    assert saved["faq"]["iterations"] > saved["text"]["iterations"]  # type: ignore[operator]


def test_answers_are_marked_put_right_trained_again_and_handed_out(
    terminal: Terminal, workspace: Workspace, tmp_path: Path
) -> None:
    source = tmp_path / "faq.csv"
    rows = "".join(f"商品{n}の値段は？,{n}00円です。\n" for n in range(1, 21))
    source.write_text(f"質問,回答\n{rows}", encoding="utf-8")
    Studio(workspace).data.prepare(source, "faq")
    simulate = ["--engine", "simulation", "--set", "iterations=3", "--set", "warmup=0"]
    _, shown = terminal.json("train", "--dataset", "faq", *simulate)
    run_id = shown["run_id"]
    asked = ["--question", "営業時間は？", "--said", "8時です。"]
    assert terminal.json("answers", "mark", run_id, *asked, "--as", "wrong")[0] == 0
    assert terminal.json("answers", "correct", run_id, *asked, "--right", "10時です。")[0] == 0
    _, listed = terminal.json("answers", "list", run_id)
    assert [mark["correction"] for mark in listed["marks"]] == ["10時です。"]
    kto = tmp_path / "kto.jsonl"
    assert terminal.json("answers", "export", run_id, "--out", str(kto))[1]["rows"] == 2
    code, again = terminal.json("answers", "retrain", run_id)
    assert (code, again["state"], again["dataset"]) == (0, "done", "faq-v2")
    before, after = (Studio(workspace).runs.settings(one) for one in (run_id, again["run_id"]))
    assert {**before, "dataset": "faq-v2"} == after
    for left in (1, 0, 0):
        assert terminal.json("answers", "undo", run_id)[1]["steps"] == left
    code, shown = terminal.json("answers", "retrain", run_id)
    assert (code, shown["error"]["code"]) == (1, "NOTHING_CORRECTED")
    code, shown = terminal.json("answers", "mark", run_id, "--question", "？", "--as", "right")
    assert (code, shown["error"]["code"]) == (2, "USAGE")


def test_detached_run_goes_on_and_can_be_watched_and_stopped(
    terminal: Terminal, facts: str
) -> None:
    words = ["train", "--engine", "simulation", "--dataset", facts, "--set", "iterations=100000"]
    code, shown = terminal.json(*words, "--detach")
    # Which of them depends on how soon the worker starts.
    assert code == 0 and shown["state"] in ("queued", "preparing", "running")
    run_id = shown["run_id"]
    code, shown = terminal.json("runs", "stop", run_id)
    assert code == 0 and shown["state"] in ("stopping", "cancelled")
    code, shown = terminal.json("runs", "watch", run_id)
    assert (code, shown["error"]["code"]) == (130, "INTERRUPTED")
    code, shown = terminal.json("runs", "list")
    assert [run["state"] for run in shown["runs"]] == ["cancelled"]
    assert "停止（シミュレーション）" in terminal("runs", "list")[1]


def test_damaged_run_is_listed_and_shown(
    terminal: Terminal, workspace: Workspace, facts: str
) -> None:
    words = ["train", "--engine", "simulation", "--dataset", facts, "--set", "iterations=2"]
    _, shown = terminal.json(*words)
    workspace.run(shown["run_id"]).status.write_text("{")
    assert "破損" in terminal("runs", "list")[1]
    code, out, _ = terminal("runs", "show", shown["run_id"])
    assert code == 0 and "status.json" in out


def test_run_details_are_shown_to_people_and_programs(terminal: Terminal, facts: str) -> None:
    words = ["train", "--engine", "simulation", "--dataset", facts, "--set", "iterations=6"]
    run_id = terminal.json(*words)[1]["run_id"]
    _, shown = terminal.json("runs", "show", run_id)
    assert shown["losses"]["update"] == 6
    assert shown["losses"]["last_valid_loss"] < shown["losses"]["first_valid_loss"]
    told = terminal("runs", "show", run_id)[1]
    assert "完了（シミュレーション）" in told
    assert re.findall(r"損失.*  (\S+)$", told, re.MULTILINE) == [
        f"{shown['losses'][name]:.4f}" for name in ("loss", "first_valid_loss", "last_valid_loss")
    ]


def test_source_file_is_inspected_prepared_and_trained_on(
    terminal: Terminal, tmp_path: Path
) -> None:
    source = tmp_path / "faq.csv"
    rows = "".join(f"商品{n}の値段は？,{n}00円です。\n" for n in range(1, 21))
    source.write_text(f"質問,回答\n{rows}", encoding="cp932")
    code, shown = terminal.json("data", "inspect", str(source))
    assert (code, shown["encoding"], shown["usable_rows"]) == (0, "cp932", 20)
    code, out, _ = terminal("data", "prepare", str(source), "--name", "faq")
    assert code == 0 and "20 行のうち 20 行を使用" in out
    code, shown = terminal.json("data", "prepare", str(source), "--name", "faq")
    assert (code, shown["error"]["code"]) == (1, "DATASET_EXISTS")
    assert terminal("data", "prepare", str(source), "--name", "faq", "--replace")[0] == 0
    words = ["train", "--dataset", "faq", "--engine", "simulation", "--set", "iterations=2"]
    assert terminal(*words)[0] == 0


def test_rows_of_a_dataset_are_edited_undone_and_handed_out(
    terminal: Terminal, workspace: Workspace, tmp_path: Path
) -> None:
    source = tmp_path / "faq.csv"
    source.write_text(
        "質問,回答\n" + "".join(f"商品{n}は？,{n}円です。\n" for n in range(2, 12)), "utf-8"
    )
    assert terminal("data", "prepare", str(source), "--name", "faq")[0] == 0
    words = ("--set", "3.回答=a=b\n三円です。", "--delete", "4")
    code, shown = terminal.json("data", "edit", "faq", *words)
    assert (code, shown["usable_rows"]) == (0, 9)
    assert [(edit["action"], edit["row"]) for edit in shown["edits"]] == [("set", 3), ("delete", 4)]
    assert [row["name"] for row in terminal.json("data", "trash")[1]["deleted"]] == ["faq"]
    code, shown = terminal.json("data", "edit", "faq", "--undo", "1", "--name", "faq-2")
    assert (code, shown["usable_rows"], len(shown["edits"])) == (0, 10, 1)
    code, shown = terminal.json("data", "edit", "faq", "--set", "4.回答=あ")
    assert (code, shown["error"]["code"]) == (1, "EDIT_MISMATCH")
    for wrong in ((), ("--set", "回答=あ"), ("--undo", "1", "--delete", "3")):
        assert terminal("data", "edit", "faq", *wrong)[0] == 2
    out = tmp_path / "faq-2.xlsx"
    code, shown = terminal.json("data", "export", "faq-2", "--out", str(out))
    assert (code, shown["path"]) == (0, str(out))
    assert terminal("data", "prepare", str(out), "--name", "back")[0] == 0
    back, before = (workspace.dataset(name).train.read_bytes() for name in ("back", "faq-2"))
    assert back == before
    assert "a=b\\n三円です。" in back.decode()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, []),
        (b"", []),
        ("質問,回答\n".encode(), []),
        (b"\x00\x01\x02\xff" * 50, []),
        (b"a,b\n1,2\n", []),
        ("質問,回答\nあ,い\n".encode("cp932"), ["--encoding", "utf-8"]),
        ("質問,回答\nあ,い\n".encode(), ["--encoding", "no-such"]),
        ("質問,回答\nあ,い\n".encode(), ["--map", "question=無い列"]),
        ("質問,回答\nあ,い\n".encode(), ["--set", "valid_share=2"]),
    ],
    ids=["missing", "empty", "header", "binary", "columns", "wrong", "unknown", "map", "share"],
)
def test_unusable_source_is_an_error_and_writes_nothing(
    terminal: Terminal,
    workspace: Workspace,
    tmp_path: Path,
    content: bytes | None,
    words: list[str],
) -> None:
    source = tmp_path / "faq.csv"
    if content is not None:
        source.write_bytes(content)
    code, shown = terminal.json("data", "prepare", str(source), "--name", "faq", *words)
    assert code == 1
    assert JAPANESE.search(shown["error"]["message"]) and shown["error"]["next"]
    assert not workspace.dataset("faq").folder.exists()


def test_models_are_listed(terminal: Terminal) -> None:
    code, shown = terminal.json("models", "list")
    assert code == 0
    assert [model["name"] for model in shown["installed"]] == ["tiny-ja"]
    shown_text = terminal("models", "list")[1]
    assert "おすすめのモデル" in shown_text
    names = [entry["name"] for entry in shown["catalogue"]]
    table = shown_text[shown_text.index("おすすめのモデル") :]
    places = [table.index(f"\n{name} ") for name in names]
    assert places == sorted(places)
    assert all(entry["fit"] and entry["reach"][0] == "mlx" for entry in shown["catalogue"])


def test_model_is_described_with_its_4_bit_twin(terminal: Terminal) -> None:
    name, twin = "elyza/Llama-3-ELYZA-JP-8B", "mlx-community/Llama-3-ELYZA-JP-8B-4bit"
    code, shown = terminal("models", "show", name)[:2]
    assert code == 0
    for part in ("8.0B", "16.1 GB", "Meta Llama 3 Community License", "MLX・GGUF・Ollama", twin):
        assert part in shown
    of_twin = terminal("models", "show", twin)[1]
    assert "の4ビット版" in of_twin and "16.1 GB" not in of_twin
    consent = terminal("models", "show", "google/gemma-2-2b-jpn-it")[1]
    assert "huggingface.co/google/gemma-2-2b-jpn-it" in consent and "HF_TOKEN" in consent
    code, shown = terminal.json("models", "show", "tiny-ja")
    assert (code, shown["installed"]["name"], shown["catalogue"]["fit"]) == (0, "tiny-ja", "fits")
    assert (
        terminal.json("models", "show", "nobody/nothing")[1]["error"]["code"] == "MODEL_NOT_FOUND"
    )


def test_unexpected_error_is_logged_with_its_traceback(
    terminal: Terminal, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Runs) -> None:
        raise RuntimeError("壊れた")

    monkeypatch.setattr(Runs, "list", broken)
    code, shown = terminal.json("runs", "list")
    assert (code, shown["error"]["code"]) == (1, "UNEXPECTED")
    log = Path(shown["error"]["data"]["log"])
    assert log == workspace.logs / "cli.log"
    assert "RuntimeError: 壊れた" in log.read_text(encoding="utf-8")


def test_printing_libraries_do_not_spoil_the_json(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Runs.list

    def chatty(self: Runs) -> Any:
        sys.stdout.write("downloading…")
        return original(self)

    monkeypatch.setattr(Runs, "list", chatty)
    assert terminal.json("runs", "list") == (0, {"runs": []})


# --- as processes ---------------------------------------------------------------------------

PROGRAM = [
    sys.executable,
    "-c",
    "import sys; from mlx_finetuning.cli import main; sys.exit(main())",
]


def test_ctrl_c_stops_the_followed_run_cleanly(workspace: Workspace, facts: str) -> None:
    words = ["train", "--engine", "simulation", "--dataset", facts, "--set", "iterations=100000"]
    process = subprocess.Popen(
        [*PROGRAM, *words, "--json", "--workspace", str(workspace.root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    studio = Studio(workspace)
    wait_until(lambda: any(run.status.done for run in studio.runs.list()))
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    assert json.loads(out)["error"]["code"] == "INTERRUPTED"
    assert [run.status.state for run in studio.runs.list()] == ["cancelled"]


def test_plain_locale_and_closed_reader_are_no_problem(workspace: Workspace) -> None:
    environment = {**os.environ, "LC_ALL": "C", "LANG": "C"}
    command = [*PROGRAM, "models", "list", "--workspace", str(workspace.root)]
    shown = subprocess.run(command, capture_output=True, env=environment, check=True)
    assert "使えるモデル" in shown.stdout.decode("utf-8")
    piped = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert piped.stdout is not None and piped.stderr is not None
    piped.stdout.close()
    assert b"Traceback" not in piped.stderr.read()
    piped.wait()


# --- pieces ---------------------------------------------------------------------------------


class FakeTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def draw(stream: io.StringIO, seconds: float) -> str:
    """100 steps of one stage, spread over `seconds` of a made-up clock."""
    now_s = 0.0
    progress = ProgressLine(stream, clock=lambda: now_s)
    for done in range(101):
        now_s = seconds * done / 100
        progress(Step("学習", done, 100))
    progress.close()
    return stream.getvalue()


def test_short_work_shows_no_progress() -> None:
    assert draw(io.StringIO(), 0.9) == ""


def test_long_work_shows_time_left_every_few_seconds() -> None:
    shown = draw(io.StringIO(), 100).splitlines()
    assert 15 <= len(shown) <= 21
    assert "学習  51/100 (51%)  残り49秒" in shown


def test_terminal_line_is_rewritten_and_cleared() -> None:
    shown = draw(FakeTerminal(), 100)
    assert "\n" not in shown and shown.endswith("\r\x1b[2K")


def test_long_counts_are_shown_as_a_share() -> None:
    shown = line(Step("ダウンロード", 5_000_000, 20_000_000, "model.safetensors"), 61.0)
    assert shown == "ダウンロード  25%  model.safetensors  残り1分01秒"


def test_columns_line_up_for_wide_characters() -> None:
    shown = text.table(["名前", "b"], [["a", "x"], ["長い名前", "y"]]).splitlines()
    assert [cell_len(row[: row.index(mark)]) for row, mark in zip(shown, "bxy", strict=True)] == [
        10,
        10,
        10,
    ]
    # The voiced mark stands on the kana before it, in the same two columns.
    assert text.pairs([("か\u3099", 1), ("山", 2)]) == "か\u3099  1\n山  2"


def test_durations_read_naturally() -> None:
    shown = [text.duration(value) for value in (0.4, 59, 60, 3599, 3600, 7265)]
    assert shown == ["0秒", "59秒", "1分00秒", "59分59秒", "1時間00分", "2時間01分"]


def test_long_lines_are_cut_to_the_terminal() -> None:
    assert cell_len(text.shorten("あ" * 50, 20)) <= 20
    assert text.shorten("a\nb", 20) == "a b"


def test_error_text_has_code_and_next_step() -> None:
    shown = text.error(DatasetNotFound(name="d", available=[]))
    assert shown.startswith("エラー [DATASET_NOT_FOUND]: ") and "\n  → " in shown


def test_web_server_is_bound_to_this_machine() -> None:
    command = serve_command(Path("app.py"), ServerAddress("127.0.0.1", 8501))
    assert "--server.address=127.0.0.1" in command
    assert "--browser.gatherUsageStats=false" in command


def test_report_is_written_as_pages_to_be_printed(terminal: Terminal, workspace: Workspace) -> None:
    run = ui_workspaces.add_run(workspace, 0)
    out = workspace.root / "out"
    words = ("runs", "report", run.folder.name, "--out", str(out))
    code, _, err = terminal(*words)
    assert code == 1 and "RUN_NOT_EVALUATED" in err
    report.write(run, summed_up())
    code, shown = terminal.json(*words)
    assert code == 0
    summary, whole = (Path(name).read_text(encoding="utf-8") for name in shown["files"])
    assert "学習の結果のまとめ" in summary and "<h1>報告書</h1>" in whole


def test_advice_names_the_option_that_does_it() -> None:
    outcome = summed_up().outcome
    assert outcome is not None
    (line,) = text.advice(outcome)
    assert "このつづきから学習する" in line and "--continue" in line and "--set iterations=" in line
