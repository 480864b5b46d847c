"""The order of imports in src: what import-linter does not see, and circles between files.

import-linter reads every `import` statement, those inside functions too, and holds the layers of `.importlinter` to
them. It does not see a module that is imported by a name in a string (`importlib.import_module`), nor a circle of files
inside one layer. Here every file is parsed, and both are found: no circle is allowed anywhere, those that an import
under `if TYPE_CHECKING` would close counted, nor one among the scripts of the page.
"""

from __future__ import annotations

import ast
import configparser
import functools
import importlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from mowich.version import VERSION

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src"

DYNAMIC = {
    *("mowich", "mowich.cli.verbs", "mowich.nki.install", "mowich.show.render.frame", "mowich.show.verbs"),
    *("mowich.studies.judge.names", "mowich.studies.layer.library"),
    *("mowich.capture.adapters", "mowich.capture.inputs"),
    *("mowich.requests.room", "mowich.studies.rooms", "mowich.show.rooms"),
}
"""Modules that import by a name that they compute. `nki.install` makes `import nki` give modules of `mowich.nki`; the
layer rule for its names is tested below. `studies.layer.library` imports modules of the checkout of nki-library that
a user names, and none of ours. `mowich` gives the classes of `api/names.py:CLASSES`, `show.render.frame` the
dataframes and the writer of Parquet that are installed. `cli.verbs` loads the module of a verb; `show.verbs` loads
the page of an answer among `mowich.show`; `judge.names` gives a candidate what it may import. `capture.adapters` loads
a family's helper among its own modules, `capture.inputs` the module of the model that a user names.
`requests.room`, `studies.rooms` and `show.rooms` load the file of a room in their own folder."""


@dataclass(frozen=True, slots=True)
class Import:
    """One module names another. line: where; is_typing: under `if TYPE_CHECKING`; is_text: by a string."""

    source: str
    target: str
    line: int
    is_typing: bool = False
    is_text: bool = False


def modules(src: Path) -> dict[str, Path]:
    """Dotted name -> file of every module below `src`."""
    found = {}
    for path in sorted(src.rglob("*.py")):
        parts = path.relative_to(src).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def is_loader(call: ast.Call) -> bool:
    """Whether a call imports a module by name."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    return name in ("import_module", "__import__", "find_spec", "run_module", "resolve_name")


def read(name: str, text: str, known: Iterable[str], *, is_package: bool = False) -> Iterator[Import]:
    """Every import of a module of the package in a file: statements anywhere in it, and strings given to what imports
    by name. A target that is computed has the name "?"."""
    known = known if isinstance(known, dict) else set(known)
    nodes = list(ast.walk(ast.parse(text)))
    typing = {
        id(inner)
        for node in (nodes if "TYPE_CHECKING" in text else ())
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        for statement in node.body
        for inner in ast.walk(statement)
    }

    def nearest(target: str) -> str | None:
        while target and target not in known:
            target = target.rpartition(".")[0]
        return target or None

    for node in nodes:
        targets: list[tuple[str, bool]] = []
        if isinstance(node, ast.Import):
            targets = [(alias.name, False) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = name.split(".")
                parts = parts[: len(parts) - node.level + is_package]
                base = ".".join([*parts, *([base] if base else [])])
            targets = [(f"{base}.{alias.name}", False) for alias in node.names]
        elif isinstance(node, ast.Call) and is_loader(node) and node.args:
            first = node.args[0]
            is_string = isinstance(first, ast.Constant) and isinstance(first.value, str)
            targets = [(str(first.value) if is_string else "?", True)]  # type: ignore[attr-defined]
        for target, is_text in targets:
            found = target if target == "?" else nearest(target)
            if found is not None and found != name:
                yield Import(name, found, node.lineno, id(node) in typing, is_text)


@functools.cache
def all_imports() -> tuple[Import, ...]:
    """Every import of the package, in the order of files and lines."""
    known = modules(SRC)
    return tuple(
        found
        for name, path in known.items()
        for found in read(name, path.read_text(encoding="utf-8"), known, is_package=path.stem == "__init__")
    )


def layers() -> list[list[str]]:
    """The layers of `.importlinter`, lowest first; modules of one layer together."""
    config = configparser.ConfigParser()
    config.read(ROOT / ".importlinter")
    lines = config["importlinter:contract:layers"]["layers"].strip().splitlines()
    return [re.split(r"\s*[|:]\s*", line.strip()) for line in reversed(lines)]


def height(name: str, order: list[list[str]]) -> int | None:
    """The place of a module in the layers; the package itself, its public face, stands on top with its start."""
    if name in ("mowich", "mowich.__main__"):
        return len(order)
    for place, group in enumerate(order):
        if any(name == member or name.startswith(f"{member}.") for member in group):
            return place
    return None


def upward(imports: Iterable[Import], order: list[list[str]]) -> list[str]:
    """A line for each import of a module in a higher layer, and for each between two sides of one layer."""
    out = []
    for found in imports:
        if found.target == "?":
            continue
        low, high = height(found.source, order), height(found.target, order)
        assert low is not None, f"{found.source} is in no layer of .importlinter"
        assert high is not None, f"{found.target} is in no layer of .importlinter"
        sides = found.source.split(".")[:2] != found.target.split(".")[:2]
        if high > low or (high == low < len(order) and sides):
            out.append(f"{found.source}:{found.line} imports {found.target}, which stands above it")
    return out


def circles(edges: Mapping[str, set[str]]) -> list[frozenset[str]]:
    """Groups of modules that reach one another: strongly connected components of two or more."""

    def reach(start: str) -> set[str]:
        seen: set[str] = set()
        todo = [start]
        while todo:
            for target in edges.get(todo.pop(), ()):
                if target not in seen:
                    seen.add(target)
                    todo.append(target)
        return seen

    reached = {name: reach(name) for name in edges}
    groups = {frozenset(other for other in reached[name] if name in reached.get(other, ())) for name in edges}
    return sorted((group for group in groups if len(group) > 1), key=sorted)


def edges_of(imports: Iterable[Import]) -> dict[str, set[str]]:
    """What each module imports when it runs."""
    edges: dict[str, set[str]] = {}
    for found in imports:
        if not found.is_typing and found.target != "?":
            edges.setdefault(found.source, set()).add(found.target)
    return edges


def test_no_module_imports_one_of_a_higher_layer() -> None:
    assert upward(all_imports(), layers()) == []


def test_no_circle_of_files() -> None:
    assert [sorted(group) for group in circles(edges_of(all_imports()))] == []


def test_no_circle_that_types_close() -> None:
    """Imports under `if TYPE_CHECKING` counted too: what two files know of one another stands below both."""
    named = [replace(found, is_typing=False) for found in all_imports()]
    assert [sorted(group) for group in circles(edges_of(named))] == []


SCRIPTS = SRC / "mowich" / "web" / "static"


def scripts(files: Mapping[str, str]) -> dict[str, set[str]]:
    """What each script of the page imports, at the top or when it is needed."""
    named = re.compile(r"""(?:from|import)\s*\(?\s*["']\./([^"']+)["']""")
    return {name: set(named.findall(text)) for name, text in files.items()}


def test_no_circle_of_the_scripts_of_the_page() -> None:
    edges = scripts({path.name: path.read_text(encoding="utf-8") for path in SCRIPTS.glob("*.js")})
    assert "dom.js" in edges["main.js"]
    assert set().union(*edges.values()) <= set(edges)
    assert [sorted(group) for group in circles(edges)] == []


def test_a_circle_of_scripts_is_seen() -> None:
    files = {"a.js": 'import {\n  $,\n  h,\n} from "./b.js";', "b.js": "const late = () => import('./a.js');"}
    assert circles(scripts(files)) == [frozenset(files)]


def test_only_modules_that_say_why_import_by_a_name_that_they_compute() -> None:
    assert {found.source for found in all_imports() if found.target == "?"} <= DYNAMIC
    install = importlib.import_module("mowich.nki.install")  # `mowich.nki.install` is the function
    named = {*install.NAMES.values(), *install.BETA1.values()}
    assert named
    assert all(name.startswith("mowich.nki") for name in named)


def test_the_web_page_imports_no_command_line() -> None:
    found = [i for i in all_imports() if i.source.startswith("mowich.web") and i.target.startswith("mowich.cli")]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "import p.high",
        "from p import high",
        "from p.high import thing",
        "from . import high",
        "def f():\n    from p.high import thing",
        "import importlib\ndef f():\n    importlib.import_module('p.high')",
        "from importlib import import_module as import_module\nx = import_module('p.high')",
        "__import__('p.high')",
        "if TYPE_CHECKING:\n    from p.high import thing",
    ],
)
def test_every_form_of_import_is_seen(text: str) -> None:
    found = list(read("p.low", text, {"p", "p.low", "p.high"}))
    assert [i.target for i in found] == ["p.high"]
    assert found[0].is_typing == text.startswith("if TYPE_CHECKING")
    assert circles(edges_of([*found, Import("p.high", "p.low", 1)])) == (
        [] if found[0].is_typing else [frozenset({"p.low", "p.high"})]
    )
    order = [["p.low"], ["p.high"]]
    assert upward(found, order) == [f"p.low:{found[0].line} imports p.high, which stands above it"]
    assert upward([Import("p.high", "p.low", 1)], order) == []


def test_two_sides_of_one_layer_do_not_import_one_another() -> None:
    order = [["mowich.web", "mowich.api"]]
    assert upward([Import("mowich.web.verbs", "mowich.api", 7)], order)
    assert not upward([Import("mowich.web.verbs", "mowich.web.asks", 7)], order)


def test_pages_are_made_of_answers_alone() -> None:
    """Imports by a name in a string counted, which `.importlinter` does not see."""
    laws = ("mowich.economics", "mowich.machines", "mowich.plans")
    assert [i for i in all_imports() if i.source.startswith("mowich.show") and i.target.startswith(laws)] == []


def test_no_file_is_called_others() -> None:
    assert [name for name in modules(SRC) if name.endswith(".others")] == []


def test_the_version_is_the_one_of_the_package() -> None:
    stated = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert stated is not None
    assert stated[1] == VERSION
