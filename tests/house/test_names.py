"""Names: what a module defines in public, no other module defines too; and no file name that says nothing.

A reader who meets a name finds its one definition by a search. A helper of one module begins with an underscore.
"""

from __future__ import annotations

import ast
import importlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

import mowich
from mowich.neuroncore.instructions.table import TABLE
from mowich.nki import words
from mowich.web.verbs import VERBS

SRC = Path(__file__).resolve().parents[2] / "src" / "mowich"

EDGES = {
    "api/": "Python",
    "cli/": "command line",
    "web/verbs.py": "web",
    "web/library.py": "web",
    "studies/": "study",
}
"""Where a verb has its function -> the edge that the place belongs to: one verb, one function for each edge."""

INTERFACE = ("nki/", "neuroncore/dtypes.py", "neuroncore/instructions/")
"""Where the names stand that AWS fixes: the two interfaces, and the formats and instructions that they give on."""

MOST_STEMS = 5
"""Most packages with a file of one name."""


def defined(body: Iterable[ast.stmt]) -> Iterator[str]:
    """Public names that statements at the top of a module define: imports and type variables aside."""
    for node in body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                found = [node.name]
            case ast.Assign(value=ast.Call(func=ast.Name(id="TypeVar"))):
                found = []
            case ast.Assign() | ast.AnnAssign() | ast.AugAssign() | ast.For():
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names = (n for target in targets for n in ast.walk(target) if isinstance(n, ast.Name))
                found = [n.id for n in names if isinstance(n.ctx, ast.Store)]
            case _:
                found = []
        yield from (name for name in found if not name.startswith("_"))
        if isinstance(node, ast.If | ast.Try | ast.With | ast.For | ast.While):
            inner = [getattr(node, part, []) for part in ("body", "orelse", "finalbody")]
            inner += [handler.body for handler in getattr(node, "handlers", [])]
            for part in inner:
                yield from defined(part)


def edge_of(place: str) -> str | None:
    return next((edge for start, edge in EDGES.items() if place.startswith(start)), None)


OF_INTERFACE = {"OPERATORS", "Place"}
"""Names of our own in the folders of the interface that stand for something else elsewhere."""


def interface_names() -> set[str]:
    """What the modules of the two interfaces offer to kernels, the names that their packages set for it, and the
    instructions by name."""
    install = importlib.import_module("mowich.nki.install")
    modules = {*install.NAMES.values(), *install.BETA1.values()}
    offered = {name for module in modules for name in words.public(importlib.import_module(module))}
    packages = [(SRC / place / "__init__.py").read_text(encoding="utf-8") for place in ("nki", "nki/beta1")]
    set_there = {name for text in packages for name in defined(ast.parse(text).body)}
    return (
        offered
        | set_there
        | OF_INTERFACE
        | set(TABLE)
        | {name.rsplit(".", 1)[-1] for name in (*install.NAMES, *install.BETA1)}
    )


def twins(texts: Mapping[str, str], fixed: set[str], verbs: set[str]) -> dict[str, list[str]]:
    """Name -> the modules that define it, where they are too many. texts: path below the package -> source; fixed:
    names of the interfaces, which do not count where those stand; verbs: names that each edge may define once."""
    places = defaultdict(list)
    for place, text in texts.items():
        for name in sorted(set(defined(ast.parse(text).body))):
            places[name].append(place)
    out = {}
    for name, found in places.items():
        own = [p for p in found if not (name in fixed and p.startswith(INTERFACE))]
        edges = [edge_of(p) for p in own]
        is_verb = name in verbs and None not in edges and len(set(edges)) == len(edges)
        if len(own) > 1 and not is_verb:
            out[name] = own
    return out


def verb_names() -> set[str]:
    """Verbs of Python and of the web; those of the command line are among them."""
    return {*mowich.__all__, *VERBS}


def sources() -> dict[str, str]:
    return {p.relative_to(SRC).as_posix(): p.read_text(encoding="utf-8") for p in sorted(SRC.rglob("*.py"))}


EXPORTER = "capture/"
"""A program of its own, which nothing else imports: its names are its own, and one module has each of them."""


SEVERAL = ("adapter", "SCHEMA", "RULES", "IS_SLOW", "answer", "source", "page")
"""The function of each family's helper (`capture/adapters`), and what the files of each room have
(`requests/rooms`)."""


def test_no_public_name_stands_in_two_modules() -> None:
    texts = sources()
    exporter = {place: text for place, text in texts.items() if place.startswith(EXPORTER)}
    rest = {place: text for place, text in texts.items() if place not in exporter}
    found = twins(rest, interface_names(), verb_names()) | twins(exporter, set(), set())
    found = {name: places for name, places in found.items() if name not in SEVERAL}
    lines = [f"{name}: {', '.join(places)}" for name, places in sorted(found.items())]
    assert not lines, "names in several modules; a helper of one module begins with '_':\n" + "\n".join(lines)


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        ({"a.py": "FEW = 1", "b.py": "FEW: int = 2"}, {"FEW"}),
        ({"a.py": "class Row: ...", "b.py": "if True:\n    Row = dict"}, {"Row"}),
        ({"a.py": "try:\n    import x\nexcept ImportError:\n    x = None", "b.py": "def x(): ..."}, {"x"}),
        ({"a.py": "_FEW = 1", "b.py": "_FEW = 2"}, set()),
        ({"a.py": "from b import FEW", "b.py": "FEW = 2"}, set()),
        ({"a.py": "T = TypeVar('T')", "b.py": "T = TypeVar('T')"}, set()),
        (
            {"api/verbs.py": "def plan(): ...", "cli/plan.py": "def plan(): ...", "studies/plan.py": "def plan(): ..."},
            set(),
        ),
        (
            {"api/verbs.py": "def plan(): ...", "studies/a.py": "def plan(): ...", "studies/b.py": "def plan(): ..."},
            {"plan"},
        ),
        ({"api/verbs.py": "def plan(): ...", "plans/plan.py": "def plan(): ..."}, {"plan"}),
        ({"api/verbs.py": "def best(): ...", "studies/plan.py": "def best(): ..."}, {"best"}),
        ({"nki/isa.py": "iota = 1", "neuroncore/instructions/gpsimd.py": "def iota(): ..."}, set()),
        ({"nki/isa.py": "iota = 1", "show/page.py": "iota = 1", "facts/load.py": "iota = 2"}, {"iota"}),
        ({"nki/isa.py": "helper = 1", "neuroncore/dtypes.py": "helper = 2"}, {"helper"}),
    ],
)
def test_twins_are_found(texts: Mapping[str, str], found: set[str]) -> None:
    assert set(twins(texts, {"iota"}, {"plan"})) == found


def test_a_file_name_stands_in_few_packages_and_says_what_the_file_holds() -> None:
    stems = Counter(Path(place).stem for place in sources())
    often = {stem: n for stem, n in stems.items() if n > MOST_STEMS and not stem.startswith("__")}
    assert not often, f"file names in more than {MOST_STEMS} packages: {often}"
    empty = [place for place in sources() if Path(place).stem in ("others", "other", "misc", "utils", "helpers")]
    assert not empty, f"names that say nothing: {empty}"
