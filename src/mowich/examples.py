"""The kernels, tasks, scenarios and logs that ship, and the page for assistants: by name (`softmax`, `rainier`), from
any folder.

In a wheel they lie in the package, in a checkout beside `src`. A name stands for its file where no file of that name is
here: a scenario as it is (`mowich fleet rainier`), a kernel file and a log after an @ (`mowich kernel run @softmax`,
`mowich calibrate @megatron-llama-8b`), because without it the word could be a script. A task is a kernel to make
faster, with what it is judged by: `task:gelu`.
"""

from __future__ import annotations

import ast
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Literal

from mowich.errors import UserError, unknown
from mowich.handbook import handbook

ShippedKind = Literal["kernels", "scenarios", "tasks", "logs", "pages"]
SUFFIXES: Mapping[ShippedKind, tuple[str, ...]] = {
    "kernels": (".py",),
    "scenarios": (".yaml",),
    "tasks": (".py",),
    "logs": (".log", ".json"),
    "pages": (".md",),
}
_FOLDER: Mapping[ShippedKind, str] = {
    "kernels": "kernels",
    "scenarios": "scenarios",
    "tasks": "kernels/tasks",
    "logs": "scenarios/logs",
}
_LISTED: tuple[ShippedKind, ...] = ("scenarios", "kernels", "logs", "pages")
"""What `mowich example` lists and copies."""
SKILL = "skill"
"""The page for coding assistants."""
SKILL_FILE = "SKILL.md"
"""What assistants call it in their folders."""
TASK_PREFIX = "task:"
"""What stands before the name of a task where a file is asked for."""
_KEY_OF_VERB = {"fleet": "periods", "traffic": "traffic", "sweep": "models", "rl": "lengths"}
"""The key of a scenario that only this verb's scenarios have."""


@dataclass(frozen=True, slots=True)
class Shipped:
    """One file that ships. what: its first sentence; command: runs it."""

    name: str
    kind: ShippedKind
    path: Path
    what: str
    command: str


def folder_of(kind: ShippedKind) -> Path:
    """The folder of what ships of a kind. Raises UserError where the installation lacks it."""
    package = Path(__file__).resolve().parent
    for folder in (package / _FOLDER[kind], package.parents[1] / _FOLDER[kind]):
        if next(folder.glob(f"*{SUFFIXES[kind][0]}"), None) is not None:
            return folder
    raise UserError(f"the {kind} that ship with mowich are not here", where=str(package), fix="install it again")


def shipped_forecasts() -> Path:
    """The ledger of forecasts that ships. Raises UserError where the installation lacks it."""
    package = Path(__file__).resolve().parent
    for folder in (package / "forecasts", package.parents[1] / "forecasts"):
        if (file := folder / "forecasts.jsonl").is_file():
            return file
    raise UserError("the forecasts that ship with mowich are not here", where=str(package), fix="install it again")


@cache
def names_of(kind: ShippedKind) -> Mapping[str, Path]:
    """Name -> file of one kind, in order of the name.

    >>> "softmax" in names_of("kernels"), "rainier" in names_of("scenarios")
    (True, True)
    """
    if kind == "pages":
        return {SKILL: handbook()[SKILL].path}
    found = (path for suffix in SUFFIXES[kind] for path in folder_of(kind).glob(f"*{suffix}"))
    return {path.stem: path for path in sorted(found)}


_NO_TASKS = ("all_reduce_ranks", "attention_decode", "column_sums_lnc2", "layer_norm_wrong")
"""Examples that one core cannot run, that do what a candidate may not, or that are wrong on purpose."""


@cache
def tasks_of() -> Mapping[str, Path]:
    """Name -> file of each task: those that were written as tasks, and the examples, which are tasks too."""
    examples = {name: path for name, path in names_of("kernels").items() if name not in _NO_TASKS}
    return {**examples, **names_of("tasks")}


def example_name(file: Path, kind: ShippedKind) -> str:
    """ "@softmax" of the file of an example, "" of any other file."""
    return f"@{file.stem}" if names_of(kind).get(file.stem) == file else ""


def shipped(kind: ShippedKind, name: str) -> Shipped:
    """One example with what it is."""
    path = names_of(kind)[name]
    text = path.read_text(encoding="utf-8")
    if kind == "kernels":
        what = " ".join((ast.get_docstring(ast.parse(text)) or "").split())
        return Shipped(name, kind, path, _first_sentence(what), f"mowich kernel run @{name}")
    if kind == "pages":
        return Shipped(
            name, kind, path, "Which question is which command, for coding assistants", f"mowich example {name}"
        )
    if path.suffix == ".json":
        return Shipped(name, kind, path, _first_sentence(json.loads(text)["about"]), f"mowich calibrate @{name}")
    lines = text.splitlines()
    title = next((line[5:].strip() for line in lines if line.startswith("name:")), "")
    above = " ".join(line[2:] for line in takewhile(lambda line: line.startswith("# "), lines))
    what = _first_sentence(above) or title
    if kind == "logs":
        return Shipped(name, kind, path, what, f"mowich calibrate @{name}")
    keys = {line.partition(":")[0] for line in lines}
    verb = next(verb for verb, key in _KEY_OF_VERB.items() if key in keys)
    return Shipped(name, kind, path, what, f"mowich {verb} {name}")


def _first_sentence(text: str) -> str:
    return text.partition(". ")[0].rstrip(".")


def all_shipped() -> list[Shipped]:
    """Every example, scenarios first."""
    return [shipped(kind, name) for kind in _LISTED for name in names_of(kind)]


def find(word: str) -> Shipped:
    """The example of a name, with or without its @ and its suffix. Raises UserError for an unknown name.

    >>> find("@softmax").kind
    'kernels'
    """
    name = Path(word.removeprefix("@")).stem
    for kind in _LISTED:
        if name in names_of(kind):
            return shipped(kind, name)
    raise unknown("example", word, [n for kind in _LISTED for n in names_of(kind)])


def file_or_example(word: str, kind: ShippedKind) -> Path:
    """The file that a user means: one of his own, or after an @, or by a scenario's bare name, one that ships; of a
    task, after "task:". Raises UserError for an @ or a task with no name of ours, and for a missing file whose name is
    that of an example."""
    known = names_of(kind)
    if kind == "kernels" and word.startswith(TASK_PREFIX):
        tasks = {f"{TASK_PREFIX}{name}": path for name, path in tasks_of().items()}
        if word not in tasks:
            raise unknown("task", word, tasks)
        return tasks[word]
    if word.startswith("@"):
        if word[1:] not in known:
            raise unknown("example", word, [f"@{name}" for name in known])
        return known[word[1:]]
    path = Path(word)
    if path.exists() or path.is_symlink():
        return path
    if kind == "scenarios" and word in known:
        return known[word]
    if path.stem in known and path.suffix in ("", *SUFFIXES[kind]):
        raise UserError("no such file", given=word, fix=f"@{path.stem} is the file of that name that ships with mowich")
    return path


def copied(example: Shipped, folder: Path) -> list[Path]:
    """Copies of an example, and of the files beside it that carry its name, in a folder. Raises UserError where a file
    with other contents is there, or where the folder cannot be written."""
    beside = [*example.path.parent.glob(f"{example.name}.*.json"), *example.path.parent.glob(f"{example.path.name}.*")]
    sources = [example.path, *sorted(beside)]
    out = []
    for source in sources:
        target = folder / (SKILL_FILE if example.kind == "pages" else source.name)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if target.exists() and target.read_bytes() != source.read_bytes():
                raise UserError(
                    "a file of this name is there, and it is another", where=str(target), fix="move it away"
                )
            shutil.copyfile(source, target)
        except OSError as error:
            raise UserError(f"cannot be written ({error.strerror})", where=str(target)) from error
        out.append(target)
    return out
