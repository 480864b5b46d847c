"""Hostile files that are led by branches: one that takes a reader along a way that none took before is spoiled further.

`hostile_run.py --guided` looks for such files; `--keep` writes the fewest of them that take all the ways found to
`corpus.jsonl`, which every test run reads again.
"""

from __future__ import annotations

import dataclasses
import json
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from hostile_cases import (
    config,
    launched,
    lines_spoiled,
    measured,
    older,
    overlay,
    saved,
    scenario,
    spoiled,
    table,
    torn,
    traced,
)
from hostile_judge import Case, problems

import mowich
from mowich.writing import write_file

CORPUS = Path(__file__).resolve().parent / "corpus.jsonl"
KINDS = (config, overlay, scenario, table, saved, older, launched, measured, traced)
"""Kinds of cases that are files."""
READERS = (
    *("files.py", "units.py", "formula.py", "scenario.py", "readback.py", "requests", "facts", "models"),
    *("launch/read.py", "launch/arguments.py", "launch/megatron.py", "evidence/readers", "evidence/measured_tables.py"),
    *("evidence/row_cells.py", "evidence/row_checks.py", "evidence/rows.py", "serving/traffic", "fleets/read.py"),
)
"""Modules and folders of Mowich that read what others wrote."""
FRESH = 0.2
"""Share of the cases that are drawn anew; the others are made of one that is kept."""
MOST_B = 4000
"""Largest case that a corpus keeps: bytes of its files."""
Way = tuple[str, int, int]
"""From one line of a file to another; where a function begins, from 0."""


def ways(case: Case) -> tuple[frozenset[Way], list[str]]:
    """The ways that readers take for a case, and what is wrong with how it ends."""
    root, found = str(Path(mowich.__file__).parent) + "/", set[Way]()
    wanted = tuple(root + name for name in READERS)
    is_read: dict[str, bool] = {}

    def called(frame: FrameType, event: str, argument: object) -> Callable[..., Any] | None:
        file = frame.f_code.co_filename
        if file not in is_read:
            is_read[file] = file.startswith(wanted)
        if not is_read[file]:
            return None
        last = 0

        def stepped(frame: FrameType, event: str, argument: object) -> Callable[..., Any]:
            nonlocal last
            if event == "line":
                found.add((file, last, frame.f_lineno))
                last = frame.f_lineno
            return stepped

        return stepped(frame, "line", None)

    before = sys.gettrace()
    sys.settrace(called)
    try:
        wrong = problems(case)
    finally:
        sys.settrace(before)
    if any("processor time" in line for line in wrong):
        wrong = problems(case)  # without what looks on, which makes it slower
    return frozenset(found), wrong


def changed(case: Case, other: Case, rng: random.Random) -> Case:
    """A case with one of its files spoiled, or joined with that of another case of its kind."""
    name = rng.choice(sorted(case.files))
    data = case.files[name]
    text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
    beside = other.files.get(name, data)
    kind = rng.random()
    made: str | bytes
    if kind < 0.3:
        made = torn(text.encode("utf-8", "replace").decode(), rng)
    elif kind < 0.5 and isinstance(beside, str):
        one, two = text.splitlines(), beside.splitlines()
        made = "\n".join([*one[: rng.randint(0, len(one))], *two[rng.randint(0, len(two)) :]])
    else:
        made = _as_data(text, rng) or lines_spoiled(text or " ", rng)
    return dataclasses.replace(case, files={**case.files, name: made})


def _as_data(text: str, rng: random.Random) -> str | None:
    """A JSON text with one of its values spoiled; None where it is no JSON."""
    try:
        return json.dumps(spoiled(json.loads(text), rng))
    except (ValueError, RecursionError, TypeError):
        return None


@dataclasses.dataclass(slots=True)
class Search:
    """What a search found. kept: cases that took new ways, with all their ways; known: all ways; wrong: lines."""

    rng: random.Random
    kept: list[tuple[str, Case, frozenset[Way]]] = dataclasses.field(default_factory=list)
    known: set[Way] = dataclasses.field(default_factory=set)
    wrong: list[tuple[Case, list[str]]] = dataclasses.field(default_factory=list)

    def know(self, cases: Iterator[Case]) -> None:
        """Begins with cases that were kept."""
        for case in cases:
            taken, wrong = ways(case)
            self.known |= taken
            if wrong:
                self.wrong.append((case, wrong))
            else:
                self.kept.append((case.name, case, taken))

    def step(self, number: int) -> None:
        """Makes one case, and keeps it where it takes a way that is new."""
        kind = KINDS[number % len(KINDS)]
        own = [case for name, case, _ in self.kept if name == kind.__name__]
        if not own or self.rng.random() < FRESH:
            case = kind(self.rng)
        else:
            case = changed(self.rng.choice(own[-50:]), self.rng.choice(own), self.rng)
        taken, wrong = ways(case)
        if wrong:
            self.wrong.append((case, wrong))
        elif taken - self.known and case.files:
            self.kept.append((kind.__name__, case, taken))
            self.known |= taken

    def fewest(self) -> list[Case]:
        """The fewest cases that take what ways small ones do, nearly: always the one with most new ways by size."""
        left = [(dataclasses.replace(c, name=kind), taken) for kind, c, taken in self.kept if _size(c) <= MOST_B]
        found, covered = [], set[Way]()
        while left:
            case, taken = max(left, key=lambda pair: (len(pair[1] - covered), -_size(pair[0])))
            if not taken - covered:
                break
            found.append(case)
            covered |= taken
            left.remove((case, taken))
        return found


def _size(case: Case) -> int:
    return sum(len(data) for data in case.files.values())


def kept() -> Iterator[Case]:
    """The cases of the corpus."""
    for line in CORPUS.read_text(encoding="utf-8").splitlines():
        found = json.loads(line)
        files = {name: text.encode("utf-8", "surrogateescape") for name, text in found["files"].items()}
        yield Case(name=found["name"], words=tuple(found["words"]), files=files)


def keep(cases: list[Case]) -> None:
    """Writes the corpus."""

    def text(data: str | bytes) -> str:
        raw = data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass")
        return raw.decode("utf-8", "surrogateescape")

    def line(case: Case) -> str:
        files: Mapping[str, str] = {name: text(data) for name, data in case.files.items()}
        return json.dumps({"name": case.name, "words": list(case.words), "files": files})

    write_file(CORPUS, "".join(f"{line(case)}\n" for case in cases))
