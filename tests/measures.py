"""Signs of the code's health, counted in `src/`: prints them, and fails where one is over its limit.

They are signs, not law: where the better code breaks one, raise its limit and say why in a comment.
`make check` runs this; with `--list` it also names what was counted.

    python tests/measures.py [--list]
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src"
LONG_LINES = 50
"""A function of more lines counts as long."""

UNTYPED = ("dict[str, Any]", "Mapping[str, Any]")
LIMITS = {
    "functions over 50 lines, %": 3.0,
    "private functions used once, % of functions": 15.0,
    "public names without docstring, %": 3.0,
    "import circles": 0,
    "dict or Mapping[str, Any]": 80,
    "JsonObject, JSON with others' keys": 60,
}
"""The most that each sign may be."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One source file, parsed."""

    name: str
    file: str
    """Its path as editors open it."""
    tree: ast.Module
    lines: int

    def nodes(self) -> Iterator[ast.AST]:
        """All nodes of the syntax tree."""
        return ast.walk(self.tree)

    def functions(self) -> list[Function]:
        """All functions and methods, nested ones too."""
        return [node for node in self.nodes() if isinstance(node, Function)]


@dataclass(frozen=True)
class Sign:
    """One line of the table: what was counted, and of how many, for a share."""

    examples: list[str]
    total: int | None = None

    @property
    def value(self) -> float:
        """A percentage of `total`, or the plain count."""
        count = len(self.examples)
        return count if self.total is None else round(100 * count / max(1, self.total), 1)


def read_modules(source: Path) -> list[Module]:
    """Every Python file below `source`."""
    modules = []
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        text = path.read_text(encoding="utf-8")
        file = str(path.relative_to(source.parent))
        modules.append(Module(name, file, ast.parse(text), len(text.splitlines())))
    return modules


def measure(modules: list[Module]) -> dict[str, Sign]:
    """The signs, under the names of `LIMITS`."""
    functions = sum(len(module.functions()) for module in modules)
    public = [item for module in modules for item in _public(module)]
    return {
        "functions over 50 lines, %": Sign(_of_all(_long, modules), functions),
        "private functions used once, % of functions": Sign(
            _of_all(_used_once, modules), functions
        ),
        "public names without docstring, %": Sign(
            [example for example, is_explained in public if not is_explained], len(public)
        ),
        "import circles": Sign(import_circles(modules)),
        "dict or Mapping[str, Any]": Sign(_of_all(_untyped_dicts, modules)),
        "JsonObject, JSON with others' keys": Sign(_of_all(_foreign_objects, modules)),
    }


def _of_all(examples: Callable[[Module], Iterator[str]], modules: list[Module]) -> list[str]:
    return [example for module in modules for example in examples(module)]


def _long(module: Module) -> Iterator[str]:
    for function in module.functions():
        lines = (function.end_lineno or function.lineno) - function.lineno + 1
        if lines > LONG_LINES:
            yield f"{module.file}:{function.lineno} {function.name}, {lines} lines"


def _used_once(module: Module) -> Iterator[str]:
    """Private functions and methods that their file names once beside the definition."""
    uses = Counter(
        node.id if isinstance(node, ast.Name) else node.attr
        for node in module.nodes()
        if isinstance(node, ast.Name | ast.Attribute)
    )
    for function in module.functions():
        is_private = function.name.startswith("_") and not function.name.startswith("__")
        if is_private and uses[function.name] == 1:
            yield f"{module.file}:{function.lineno} {function.name}"


def _public(module: Module) -> Iterator[tuple[str, bool]]:
    """Public functions, classes and methods of public classes; whether each has a docstring."""
    definitions = [*module.tree.body]
    while definitions:
        node = definitions.pop()
        if not isinstance(node, Function | ast.ClassDef) or node.name.startswith("_"):
            continue
        yield f"{module.file}:{node.lineno} {node.name}", ast.get_docstring(node) is not None
        if isinstance(node, ast.ClassDef):
            definitions += node.body


def _untyped_dicts(module: Module) -> Iterator[str]:
    for node in module.nodes():
        if isinstance(node, ast.Subscript) and ast.unparse(node) in UNTYPED:
            yield f"{module.file}:{node.lineno}"


def _foreign_objects(module: Module) -> Iterator[str]:
    """Uses of `files.JsonObject`, the one alias of such a dictionary that is not typed."""
    for node in module.nodes():
        if isinstance(node, ast.Name) and node.id == "JsonObject":
            yield f"{module.file}:{node.lineno}"


def import_circles(modules: list[Module]) -> list[str]:
    """Circles of modules that import each other, be it later, in functions, or for types alone.

    Each circle found is cut at one place before the next is looked for.
    """
    names = {module.name for module in modules}
    graph = {module.name: set(_imported(module, names)) for module in modules}
    circles = []
    while circle := _circle(graph):
        circles.append(" → ".join(circle))
        graph[circle[1]].discard(circle[0])
    return circles


def _circle(graph: dict[str, set[str]]) -> list[str]:
    """One circle, each module imported by the next; empty where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle: list[str] = error.args[1]
        return circle
    return []


def _imported(module: Module, names: set[str]) -> Iterator[str]:
    """The package's modules that `module` imports, wherever it does."""
    for node in module.nodes():
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names if alias.name in names)
            case ast.ImportFrom(module=str(origin), level=0):
                for alias in node.names:
                    imported = f"{origin}.{alias.name}"
                    if imported in names:
                        yield imported
                    elif origin in names and origin != module.name:
                        yield origin


def main(arguments: list[str]) -> int:
    """Exit status 1 where a sign is over its limit."""
    modules = read_modules(SOURCE)
    lines = sum(module.lines for module in modules)
    print(f"{len(modules)} files, {lines} lines in {SOURCE.name}/")
    signs = measure(modules)
    for name, limit in LIMITS.items():
        sign = signs[name]
        mark = "  OVER" if sign.value > limit else ""
        print(f"{name:45}{sign.value:8g}  (at most {limit:g}){mark}")
        if "--list" in arguments:
            print("".join(f"    {example}\n" for example in sign.examples), end="")
    return int(any(signs[name].value > limit for name, limit in LIMITS.items()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
