"""The signs of the code count what they say."""

from __future__ import annotations

from pathlib import Path

import measures

LONG_BODY = "\n".join(f"    a{number} = {number}" for number in range(50))


def value(folder: Path, sign: str, **files: str) -> float:
    """A sign of a package `pkg` with these files."""
    (folder / "src" / "pkg").mkdir(parents=True)
    for name, text in {"__init__": "", **files}.items():
        (folder / "src" / "pkg" / f"{name}.py").write_text(text, encoding="utf-8")
    return measures.measure(measures.read_modules(folder / "src"))[sign].value


def test_a_function_of_51_lines_is_long(tmp_path: Path) -> None:
    text = f"def f():\n{LONG_BODY}\n\ndef g():\n    pass\n"
    assert value(tmp_path, "functions over 50 lines, %", a=text) == 50


def test_private_function_with_a_second_caller_is_not_counted(tmp_path: Path) -> None:
    text = "def _once(): ...\ndef _twice(): ...\n_once()\n_twice()\n_twice()  # not _once\n"
    assert value(tmp_path, "private functions used once, % of functions", a=text) == 50


def test_methods_of_private_classes_need_no_docstring(tmp_path: Path) -> None:
    text = "class A:\n    '''Said.'''\n    def f(self): ...\nclass _B:\n    def g(self): ...\n"
    assert value(tmp_path, "public names without docstring, %", a=text) == 50


def test_circle_is_found_by_way_of_functions_and_types_too(tmp_path: Path) -> None:
    circle = {"a": "from pkg import b", "b": "from pkg.c import f", "c": "import pkg.a\nf = 1"}
    assert value(tmp_path / "1", "import circles", **circle) == 1
    assert value(tmp_path / "2", "import circles", **{**circle, "c": "f = 1"}) == 0
    later = "from pkg.c import f\ndef g():\n    from pkg import a\n"
    typing = "if TYPE_CHECKING:\n    from pkg import a\nf = 1"
    assert value(tmp_path / "3", "import circles", a="from pkg import b", b=later, c="f = 1") == 1
    assert (
        value(tmp_path / "4", "import circles", a="from pkg import b", b=circle["b"], c=typing) == 1
    )


def test_untyped_dicts_are_counted_in_code_alone(tmp_path: Path) -> None:
    text = "def f(a: Mapping[str, Any]) -> list[dict[str, Any]]: ...  # dict[str, Any]\n"
    assert value(tmp_path, "dict or Mapping[str, Any]", a=text) == 2
