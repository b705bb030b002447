"""Two languages: every text has both, and each is looked up where it is shown, in time and whole."""

from __future__ import annotations

import ast
import dataclasses
import json
import os
import string
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import messages
from messages import JAPANESE, MARKS, PACKAGE
from mlx_finetuning import language, preferences
from mlx_finetuning.cli import japanese
from mlx_finetuning.cli.app import COMMANDS
from mlx_finetuning.config import SECTIONS, TrainConfig, default_yaml, load
from mlx_finetuning.errors import DatasetNotFound, InvalidSettings, RecordDamaged
from mlx_finetuning.jobs import jobs, kinds
from mlx_finetuning.jobs.status import JobState
from mlx_finetuning.language import N_, _, n_
from mlx_finetuning.messages import catalogue, describe
from mlx_finetuning.ui.components.errors import in_words
from mlx_finetuning.utils.glossary import TERMS_JA, explained, terms_in
from mlx_finetuning.utils.settings_ja import label_of
from mlx_finetuning.utils.units import duration
from mlx_finetuning.workspace import Workspace
from support import helpers

CONVERTED = (
    # ui
    "ui/",
    # cli
    *("cli/", "config.py", "presets.py", "utils/settings_ja.py", "utils/goals.py"),
    *("utils/glossary.py", "jobs/", "tuning.py", "selftest.py", "doctor.py", "diagnostics.py"),
    *("upkeep.py", "bases.py", "shortcut.py", "demo.py"),
    # the rest
    *("language.py", "messages.py", "utils/units.py", "preferences.py"),
    *("experiment_tracker/", "utils/", "tasks/", "studio/", "data_processor/", "documents/"),
    *("mlx_trainer/", "models/", "ollama_integration/", "quantizer/", "runtime/"),
    *("tokenization/", "trainer/", "workspace.py", "document_files.py", "demo.py"),
    *("worker.py", "progress.py", "files.py", "errors.py"),
)
"""Modules and folders whose texts are all marked. The list grows until it is the package."""
JAPANESE_AS_DATA = (
    "cli/japanese.py",  # click's words, shown in Japanese only
    "data_processor/downloads.py",  # names of columns, read again when the table comes back
    "data_processor/readers/choices.py",
    "data_processor/readers/column_names.py",
    "data_processor/readers/flat_messages.py",
    "data_processor/readers/number_formats.py",
    "data_processor/readers/roles.py",
    "data_processor/wordings/forms.py",
    "data_processor/wordings/near_misses.py",  # questions and refusals that are taught
    "data_processor/wordings/prompts.py",  # said to the model
    "data_processor/wordings/rules.py",
    "data_processor/wordings/verbs.py",
    "documents/readers/wording.py",
    "documents/source.py",  # names of columns, read again from the file of pairs
    "experiment_tracker/evaluation/in_prompt.py",  # said to the model
    "experiment_tracker/evaluation/questions.py",  # the same
    "experiment_tracker/evaluation/rightness.py",
    "tokenization/battery.py",
    "utils/chat_template.py",  # part of the templates that are written
    "utils/denials.py",
    "utils/facts.py",
    "utils/japanese_utils.py",
    "utils/proper_names.py",
)
"""Modules that know Japanese: lexicons, names of columns, prompts. Nothing in them is shown as it is."""
DATA: dict[str, set[str]] = {
    "data_processor/examine.py": {"行目の聞き方"},  # a group, as datasets keep it
    "data_processor/examples.py": {"行目の聞き方"},
    "data_processor/html_text.py": {"（", "）"},
    "data_processor/readers/arrangements.py": {
        *("質問", "回答"),
        "(?P<side>q(?:uestion)?|a(?:nswer)?|質問|回答|設問|問題|問い?|解答|正解|答え?)",
    },
    "data_processor/readers/chat_logs.py": {
        *("日時", "話し手", "本文", "会話番号"),
        r"\d{1,4}[./年-]\s?\d{1,2}[./月-]\s?\d{1,4}日?",
        r"(?:(?:午前|午後|[AaPp][Mm])\s?)?\d{1,2}:\d{2}(?::\d{2})?(?:\s?[AaPp]\.?[Mm]\.?)?",
    },
    "data_processor/readers/columns.py": {"列", "前", "後", "元"},
    "data_processor/readers/delimited.py": {"，", "、", "，、"},
    "data_processor/readers/header.py": {
        *("質問", "回答", "問い合わせ", "教えてください", "記入", "入力してください"),
    },
    "data_processor/readers/html_tables.py": {"表"},
    "data_processor/readers/json_records.py": {"、"},
    "data_processor/readers/json_shapes.py": {"質問", "回答", "列"},
    "data_processor/readers/locate.py": {"列", "（", "列目）"},
    "data_processor/readers/one_cell.py": {"質問", "回答"},
    "data_processor/readers/tables.py": {"質問", "回答"},
    "data_processor/readers/text_forms.py": {"・・・", "：", "　", "件名"},
    "experiment_tracker/evaluation/report_html.py": {
        *("損失", "トークン", "パープレキシティ", "信頼区間", "更新", "検証"),
        *("予測の差", "アダプター", "証明"),
    },
    "experiment_tracker/evaluation/results.py": {"○△？×", "？"},
    "experiment_tracker/evaluation/summary_html.py": {"？"},
    "experiment_tracker/records/export.py": {"設定", "値"},
    "cli/chat.py": {"終了"},  # what one may type as well
    "language.py": {"日本語"},
    "messages.py": {"。", "）"},
    "shortcut.py": {"自分のデータで言語モデルを学習する画面を、ブラウザーで開きます"},
    "utils/goals.py": {
        " \t\r\n　。．.!！?？、…♪〜～ー☆★」』）)",
        *(
            "です",
            "ます",
            "した",
            "せん",
            "さい",
            "ょう",
            "ある",
            "いる",
            "する",
            "ない",
            "った",
            "れる",
        ),
    },
    "documents/pairs.py": {"その内容は、資料に書かれていないため、分かりません。"},  # taught
    "mlx_trainer/training/replay.py": {  # to the model
        *("[ぁ-ヿ]", "日本の", "世界で", "なぜ", "どうして", "どうすれば", "一番", "人は", "昔"),
    },
    "quantizer/vocabulary/control_names.py": {"<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"},
    "quantizer/vocabulary/pre_tokenizer.py": {"[一-龥\u3040-ゟ゠-ヿ]+"},
    "tasks/usability.py": {
        "こんにちは",
        "はい",
        "質問です",
        "日本語で答えてください",
    },  # to the model
    "tasks/reference.py": {"質問です。\n\n  2行目。", "日本語で答えてください。"},  # the same
    "tokenization/template_trial.py": {"こんにちは", "はい。", "終わりです"},
    "utils/validators.py": {"【", "】"},
    "ui/components/form.py": {"0なら自動"},
    "ui/dataset/reading.py": {"，", "、"},
}
"""The same in modules that have both, by the literal."""
OF_STRINGS = {
    *("startswith", "endswith", "split", "rsplit", "replace", "strip", "lstrip", "rstrip", "find"),
    *("index", "count", "removeprefix", "removesuffix", "partition", "rpartition", "maketrans"),
    *("compile", "sub", "match", "fullmatch", "search", "findall", "finditer"),
}
"""Methods whose arguments are looked for, and not shown."""
CACHES = {"cache", "lru_cache", "cached_property", "cache_data", "cache_resource"}
Function = ast.FunctionDef | ast.AsyncFunctionDef


@pytest.fixture
def english(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process speaks English for the test."""
    monkeypatch.setattr(language, "_current", language.ENGLISH)
    yield


# --- the catalogue -----------------------------------------------------------------------


def fields(text: str) -> set[str]:
    return {name for _text, name, _spec, _how in string.Formatter().parse(text) if name is not None}


def test_catalogue_holds_exactly_the_texts_of_the_code_and_is_compiled() -> None:
    text = messages.po(messages.updated(messages.read()))
    assert messages.PO.read_bytes() == text, "make messages"
    assert messages.MO.read_bytes() == messages.mo(text), "make messages"


def test_every_text_has_its_english() -> None:
    assert not messages.untranslated(messages.read())


def test_english_has_the_placeholders_of_the_japanese_and_nothing_japanese() -> None:
    wrong = []
    for entry in messages.read():
        text = entry.id if isinstance(entry.id, str) else entry.id[0]
        forms = [entry.string] if isinstance(entry.string, str) else entry.string
        for english in forms if text else ():
            if fields(english) != fields(text) or JAPANESE.search(english.replace("日本語", "")):
                wrong.append((text, english))
    assert not wrong


def test_errors_have_the_same_codes_and_data_in_both_languages() -> None:
    japanese, english = catalogue("ja"), catalogue("en")
    assert list(english) == list(japanese)
    for code, message in english.items():
        assert message.what and message.why and message.next_step, code
        assert not JAPANESE.search(message.text), code
        assert fields(message.text) == fields(japanese[code].text), code


# --- the code ----------------------------------------------------------------------------


class Marks(ast.NodeVisitor):
    """What a module does with its texts, each with its line."""

    def __init__(self, tree: ast.Module, known: set[str]) -> None:
        self.unmarked: list[str] = []
        self.at_import: list[str] = []
        self.cached: list[str] = []
        self.throwaways: list[str] = []
        self._known = known
        self._functions: list[ast.AST] = []
        self._is_raised = False
        self.visit(tree)

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):  # docstrings
            self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        for item in (node.left, *node.comparators):
            if not isinstance(item, ast.Constant | ast.Tuple | ast.Set | ast.List):
                self.visit(item)

    def visit_Constant(self, node: ast.Constant) -> None:
        is_japanese = isinstance(node.value, str) and JAPANESE.search(node.value)
        if is_japanese and node.value not in self._known:
            self.unmarked.append(f"{node.lineno}: {node.value}")

    def visit_Call(self, node: ast.Call) -> None:
        name = _name(node.func)
        if isinstance(node.func, ast.Name) and name in MARKS:
            if name != "N_":
                if not self._functions:
                    self.at_import.append(f"{node.lineno}: {ast.unparse(node)}")
                if any(map(_is_cached, self._functions)) and not self._is_raised:
                    self.cached.append(f"{node.lineno}: {ast.unparse(node)}")
            for rest in node.args[0 if not isinstance(node.args[0], ast.Constant) else 1 :]:
                self.visit(rest)
        elif name == "frozenset" or (isinstance(node.func, ast.Attribute) and name in OF_STRINGS):
            self.visit(node.func)
        else:
            self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> None:
        self._is_raised = True  # which no cache keeps
        self.generic_visit(node)
        self._is_raised = False

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        for outer in (*node.decorator_list, node.args):
            self.visit(outer)
        self._functions.append(node)
        for inner in node.body:
            self.visit(inner)
        self._functions.pop()

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.visit_FunctionDef(ast.FunctionDef(**vars(node)))

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._functions.append(node)
        self.generic_visit(node)
        self._functions.pop()

    def visit_Name(self, node: ast.Name) -> None:
        if node.id == "_" and isinstance(node.ctx, ast.Store):
            self.throwaways.append(str(node.lineno))

    def visit_arg(self, node: ast.arg) -> None:
        if node.arg == "_":
            self.throwaways.append(str(node.lineno))


def _name(function: ast.expr) -> str:
    match function:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def _is_cached(function: ast.AST) -> bool:
    decorators = function.decorator_list if isinstance(function, Function) else []
    return any(
        _name(item.func if isinstance(item, ast.Call) else item) in CACHES for item in decorators
    )


@pytest.fixture(scope="module")
def modules() -> dict[str, Marks]:
    """Every module of the package that marks texts or is to."""
    return dict(_modules())


def _modules() -> Iterator[tuple[str, Marks]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        source = path.read_text(encoding="utf-8")
        if is_converted(name) or "mlx_finetuning.language import" in source:
            yield name, Marks(ast.parse(source), DATA.get(name, set()))


def is_converted(name: str) -> bool:
    """Whether all texts of a module have to be marked."""
    return name.startswith(CONVERTED) and name not in JAPANESE_AS_DATA


def test_no_text_of_a_converted_module_is_unmarked(modules: dict[str, Marks]) -> None:
    assert not {
        name: marks.unmarked
        for name, marks in modules.items()
        if marks.unmarked and is_converted(name)
    }


def test_nothing_is_translated_before_the_language_is_known(modules: dict[str, Marks]) -> None:
    """The interface keeps its modules while the language changes; only commands end with it, and the
    script of a page runs anew at each drawing."""
    assert not {
        name: marks.at_import
        for name, marks in modules.items()
        if marks.at_import and not name.startswith(("cli/", "ui/pages/", "ui/entry/"))
    }


def test_no_cache_keeps_a_translated_text(modules: dict[str, Marks]) -> None:
    assert not {name: marks.cached for name, marks in modules.items() if marks.cached}


def test_no_module_hides_the_translation_behind_a_value_nobody_needs(
    modules: dict[str, Marks],
) -> None:
    users = {name for name in modules if _imports_translation(PACKAGE / name)}
    assert not {
        name: marks.throwaways
        for name, marks in modules.items()
        if marks.throwaways and name in users
    }


def _imports_translation(path: Path) -> bool:
    return any(
        isinstance(node, ast.ImportFrom)
        and node.module == language.__name__
        and any(alias.name == "_" for alias in node.names)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    )


def test_marks_are_told_apart() -> None:
    tree = ast.parse(
        '''
"""説明"""
TABLE = {"a": N_("表"), "b": "生"}
EARLY = _("早い")
@cache
def kept(text):
    return _("残る") if text == "比べる" else text.replace("、", "")
for _ in TABLE: pass
'''
    )
    marks = Marks(tree, set())
    assert (len(marks.unmarked), len(marks.at_import)) == (1, 1)
    assert (len(marks.cached), len(marks.throwaways)) == (1, 1)


# --- the choice --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "saved", "spoken"),
    [
        (None, None, "ja"),
        (None, "en", "en"),
        (None, "fr", "ja"),
        ("en", None, "en"),
        ("EN ", "ja", "en"),
        ("ja", "en", "ja"),
        ("fr", "en", "en"),
        ("", "en", "en"),
    ],
)
def test_variable_goes_before_what_was_chosen_and_that_before_japanese(
    monkeypatch: pytest.MonkeyPatch, variable: str | None, saved: str | None, spoken: str
) -> None:
    monkeypatch.setattr(language, "_current", "ja")
    if variable is None:
        monkeypatch.delenv(language.VARIABLE, raising=False)
    else:
        monkeypatch.setenv(language.VARIABLE, variable)
    language.use(saved)
    assert language.language() == spoken


def test_choice_is_kept_and_a_damaged_file_chooses_nothing(workspace: Workspace) -> None:
    assert preferences.language(workspace) is None
    preferences.save_language(workspace, "en")
    preferences.save_notifies(workspace, True)
    assert preferences.language(workspace) == "en"
    workspace.preferences.write_text("{", encoding="utf-8")
    assert preferences.language(workspace) is None
    with pytest.raises(RecordDamaged):
        preferences.notifies(workspace)


@pytest.mark.usefixtures("english")
def test_texts_errors_and_figures_are_english() -> None:
    assert _("設定") == "Settings"
    assert _("") == ""
    assert N_("設定") == "設定"
    assert duration(3900) == "1 h 05 min"
    error = describe(DatasetNotFound(name="faq", available=["a", "b"]))
    assert "faq" in error.what
    assert "a, b" in error.why
    assert describe(DatasetNotFound(name="faq", available=[])).why.endswith("none")


def test_texts_are_themselves_in_japanese() -> None:
    assert _("設定") == "設定"
    assert n_("{count}件", 1) == "{count}件"
    assert duration(3900) == "1時間05分"


# --- settings, jobs and words ------------------------------------------------------------


@pytest.mark.usefixtures("english")
def test_label_of_a_setting_is_the_first_sentence_of_its_english_help() -> None:
    assert label_of(TrainConfig, "rslora") == "rsLoRA"
    assert label_of(TrainConfig, "unknown_of_old") == "unknown_of_old"
    for kind in SECTIONS.values():
        for field in dataclasses.fields(kind):
            label = label_of(kind, field.name)
            assert label and not label.endswith(".") and not JAPANESE.search(label), field.name


@pytest.mark.usefixtures("english")
def test_faults_and_bounds_of_settings_are_english() -> None:
    with pytest.raises(InvalidSettings) as raised:
        load(TrainConfig, {"rank": 0, "lerning_rate": 1, "seed": "x"})
    assert raised.value.data["problems"] == [
        "rank: 0 is too small. Make it 1 or more.",
        "Unknown setting: lerning_rate (did you mean learning_rate?)",
        "seed: 'x' cannot be read as a whole number.",
    ]
    assert in_words("rank: 0 is too small.") == "“LoRA rank”: 0 is too small."
    assert not JAPANESE.search(default_yaml())


@pytest.mark.usefixtures("english")
def test_words_are_found_and_explained_in_english() -> None:
    assert list(terms_in(label_of(TrainConfig, "rank"))) == ["LoRA", "rank"]
    assert not JAPANESE.search(json.dumps(explained(TERMS_JA), ensure_ascii=False))


@pytest.mark.usefixtures("english")
def test_jobs_and_states_are_called_in_english() -> None:
    assert kinds.told("train", "done") == "Training finished"
    assert kinds.told("of a later version", "failed") == "Work failed"
    assert JobState.CANCELLED.label == "Stopped"


# --- the commands ------------------------------------------------------------------------

HELP = """
import json, click
from mlx_finetuning.cli.app import build
def walk(command, context):
    yield context.command_path, command.get_help(context)
    for name in command.list_commands(context) if isinstance(command, click.Group) else ():
        inner = command.get_command(context, name)
        yield from walk(inner, click.Context(inner, context, info_name=name))
app = build()
print(json.dumps(dict(walk(app, click.Context(app, info_name="")))))
"""


@pytest.fixture(scope="module")
def english_help() -> dict[str, str]:
    """The help of every command, by its words."""
    done = subprocess.run(
        [sys.executable, "-c", HELP],
        env={**os.environ, language.VARIABLE: "en"},
        capture_output=True,
        check=True,
        timeout=120,
    )
    helps: dict[str, str] = json.loads(done.stdout)
    return helps


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_is_english(english_help: dict[str, str], command: str) -> None:
    told = [text for path, text in english_help.items() if path.split()[:1] == [command]]
    assert told
    assert not [text for text in told if JAPANESE.search(text)]


def test_command_speaks_the_language_of_its_workspace(tmp_path: Path) -> None:
    preferences.save_language(Workspace(tmp_path), "en")
    program = "import sys; from mlx_finetuning.cli import main; sys.exit(main())"
    ended = subprocess.run(
        [sys.executable, "-c", program, "runs", "show", "none", f"--workspace={tmp_path}"],
        env={key: value for key, value in os.environ.items() if key != language.VARIABLE},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert "There is no run “none”." in ended.stderr


@pytest.mark.usefixtures("english")
def test_worker_speaks_the_language_of_who_starts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "told"
    program = f"import os; open({str(told)!r}, 'w').write(os.environ[{language.VARIABLE!r}])"
    monkeypatch.setattr(jobs, "worker_command", lambda *given: [sys.executable, "-c", program])
    workspace = Workspace(tmp_path)
    jobs.launch(workspace.job(jobs.new_name("preview")), jobs.Job("preview", str(tmp_path), "", {}))
    helpers.wait_until(lambda: told.exists() and told.read_text() == "en")


def test_clicks_own_words_are_japanese_only_where_that_is_the_language(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert japanese.translate("Usage:") == "使い方:"
    monkeypatch.setattr(language, "_current", language.ENGLISH)
    assert japanese.translate("Usage:") == "Usage:"
