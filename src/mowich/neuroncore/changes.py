"""What changed between two versions of a kernel: their lines matched by what they say and do, not by where they stand.

A line is a statement of the source with the instructions that it issues. Lines with the same text are matched in order,
as `diff` does. What lies between two matches is matched by opcode and likeness of the text (edited), then by text
anywhere (moved). The rest was added or removed. Profiles that were measured match as well: their source files are read
where they lie, and without a text opcodes alone decide.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Literal, TypedDict

from mowich.neuroncore.instructions.rates import QUEUES
from mowich.neuroncore.source import statement
from mowich.sums import float_sum

if TYPE_CHECKING:
    from mowich.neuroncore.profile import Profile

How = Literal["same", "edited", "moved", "added", "removed"]
ALIKE = 0.4
"""Likeness of two texts (of difflib, 0 to 1) from which on they can be one line that was edited, if they share an
instruction; with all instructions the same, half of it."""
RENAMED = 0.7
"""The same for lines that share no instruction."""
_GAP = 10_000
"""Pairs of lines between two matches up to which their texts are compared; beyond, opcodes decide."""


@dataclass(slots=True)
class ChangedLine:
    """A statement and what it costs, ns. busy: of its instructions, of a DMA its trigger; path: of the critical path by
    cause; opcodes: (engine, opcode) -> how many."""

    file: str
    line: int
    text: str
    busy: float = 0.0
    opcodes: Counter[tuple[str, str]] = field(default_factory=Counter)
    path: dict[str, float] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """file:line, without the folder."""
        return f"{self.file.replace(chr(92), '/').rsplit('/', 1)[-1]}:{self.line}" if self.file else "compiler"


@dataclass(slots=True)
class Version:
    """One profile. lines: in the order of the source, files in the order in which they first ran; engines,
    causes, opcodes: ns by name; has_path: whether the critical path is known."""

    lines: list[ChangedLine]
    engines: dict[str, float] = field(default_factory=dict)
    causes: dict[str, float] = field(default_factory=dict)
    opcodes: dict[str, float] = field(default_factory=dict)
    has_path: bool = True


class FigureRow(TypedDict):
    """One figure of both versions; ratio: b / a."""

    what: str
    a: float | None
    b: float | None
    ratio: float | None


class LineRow(FigureRow):
    """A line of both. what: where it stands, in b if it is there; text: its statement; a, b: ns of its instructions;
    a_path, b_path: ns of the critical path; a_count, b_count: instructions; engines: that run them; cause: what most of
    the change on the critical path is."""

    text: str
    how: How
    a_line: str
    b_line: str
    a_path: float | None
    b_path: float | None
    a_count: int
    b_count: int
    engines: str
    cause: str


def figure_row(what: str, a: float | None, b: float | None) -> FigureRow:
    """A figure of both versions."""
    return FigureRow(what=what, a=a, b=b, ratio=b / a if a and b is not None else None)


def changed_lines(
    entries: Sequence[tuple[str, int, str, str, str, float]],
) -> tuple[list[ChangedLine], list[ChangedLine]]:
    """Lines in the order of the source, and the line of each entry: (file, line, text, engine, opcode, ns) of an
    instruction, in order of time. An entry without a file belongs to what the compiler added."""
    found: dict[tuple[str, int], ChangedLine] = {}
    files: dict[str, int] = {}
    of: list[ChangedLine] = []
    for file, number, text, engine, opcode, ns in entries:
        made = found.get((file, number))
        if made is None:
            made = found[file, number] = ChangedLine(file, number, text)
            files.setdefault(file, len(files))
        made.busy += ns
        made.opcodes[engine, opcode] += 1
        of.append(made)
    return sorted(found.values(), key=lambda x: (files[x.file], x.line)), of


def version_of(profile: Profile) -> Version:
    """A simulated profile as a version."""
    s = profile.schedule
    entries: list[tuple[str, int, str, str, str, float]] = []
    for i, k in enumerate(profile.cost):
        file, number = profile.site(i)
        at = statement(file, number)
        text = at.text if file else "added by the compiler"
        held = k.issue if k.transfer else s.end[i] - s.begin[i]
        engine = "dma" if k.transfer else QUEUES[k.queue]
        entries.append((file, at.line if file else 0, text, engine, k.opcode.upper(), held / 1000))
    lines, of = changed_lines(entries)
    for step in profile.path:
        if step.instruction >= 0:
            mine = of[step.instruction].path
            for cause, ps in step.parts:
                mine[cause] = mine.get(cause, 0.0) + ps / 1000
    engines: dict[str, float] = {}
    for name, use in profile.engines.items():
        if use.instructions:
            engines |= {f"{name} busy": use.busy_s * 1e9, f"{name} waiting": use.wait_s * 1e9}
    causes: dict[str, float] = {}
    for step in profile.path:
        for cause, ps in step.parts:
            causes[cause] = causes.get(cause, 0.0) + ps / 1000
    opcodes: dict[str, float] = {}
    for i, (*_, engine, opcode, _) in enumerate(entries):
        opcodes[f"{engine} {opcode}"] = opcodes.get(f"{engine} {opcode}", 0.0) + (s.end[i] - s.begin[i]) / 1000
    return Version(lines=lines, engines=engines, causes=causes, opcodes=opcodes)


# matching
# ----------------------------------------------------------------------------------------------------


def matched(a: Sequence[ChangedLine], b: Sequence[ChangedLine]) -> list[tuple[How, int, int]]:
    """(how, place in a, place in b) of every line of both, in the order of b; -1 where a side has none."""
    keys = [[x.text or x.place for x in side] for side in (a, b)]
    pairs: dict[int, tuple[How, int]] = {}
    gaps: list[tuple[range, range]] = []
    at_a = at_b = 0
    for block in SequenceMatcher(None, keys[0], keys[1], autojunk=False).get_matching_blocks():
        gaps.append((range(at_a, block.a), range(at_b, block.b)))
        for k in range(block.size):
            pairs[block.b + k] = ("same", block.a + k)
        at_a, at_b = block.a + block.size, block.b + block.size
    left_a = [i for gap, _ in gaps for i in gap]
    used: set[int] = set()
    for j in (j for _, gap in gaps for j in gap):  # the same text elsewhere comes before a likeness in place
        found = next((i for i in left_a if i not in used and a[i].text and a[i].text == b[j].text), None)
        if found is not None:
            pairs[j] = ("moved", found)
            used.add(found)
    for gap_a, gap_b in gaps:
        rest_a, rest_b = [i for i in gap_a if i not in used], [j for j in gap_b if j not in pairs]
        for i, j in _edited([a[i] for i in rest_a], [b[j] for j in rest_b]):
            pairs[rest_b[j]] = ("edited", rest_a[i])
            used.add(rest_a[i])
    out: list[tuple[How, int, int]] = []
    gone = [i for i in range(len(a)) if i not in {p for _, p in pairs.values()}]
    for j in range(len(b)):
        how, i = pairs.get(j, ("added", -1))
        if how in ("same", "edited"):
            while gone and gone[0] < i:
                out.append(("removed", gone.pop(0), -1))
        out.append((how, i, j))
    return out + [("removed", i, -1) for i in gone]


def _edited(a: Sequence[ChangedLine], b: Sequence[ChangedLine]) -> list[tuple[int, int]]:
    """Pairs of lines in order that are most alike in all: the alignment with the largest sum of likenesses."""
    if not a or not b:
        return []
    by_text = len(a) * len(b) <= _GAP
    like = [[_likeness(x, y, by_text) for y in b] for x in a]
    best = [[0.0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i in range(len(a) - 1, -1, -1):
        for j in range(len(b) - 1, -1, -1):
            best[i][j] = max(best[i + 1][j], best[i][j + 1], best[i + 1][j + 1] + like[i][j] if like[i][j] else 0.0)
    out, i, j = [], 0, 0
    while i < len(a) and j < len(b):
        if like[i][j] and best[i][j] == best[i + 1][j + 1] + like[i][j]:
            out.append((i, j))
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            i += 1
        else:
            j += 1
    return out


def _likeness(x: ChangedLine, y: ChangedLine, by_text: bool) -> float:
    """How alike two lines are, 0 where they cannot be one."""
    one, two = ({o for _, o in side.opcodes} for side in (x, y))
    if not by_text or not x.text or not y.text:
        return 0.5 if one & two else 0.0
    text = SequenceMatcher(None, x.text, y.text, autojunk=False).ratio()
    least = ALIKE / 2 if one == two else ALIKE if one & two else RENAMED
    return text + bool(one & two) if text >= least else 0.0


# what changed
# ----------------------------------------------------------------------------------------------------


def changes_between(a: Version, b: Version) -> dict[str, list[FigureRow]]:
    """ "engines", "causes", "opcodes" and "lines" of two versions; times in ns, the largest change first."""
    has_path = a.has_path and b.has_path
    made: list[LineRow] = []
    for how, i, j in matched(a.lines, b.lines):
        x, y = a.lines[i] if i >= 0 else None, b.lines[j] if j >= 0 else None
        made.append(_line(how, x, y, a.has_path, b.has_path))

    def weight(r: LineRow) -> tuple[float, float]:
        path = abs((r["b_path"] or 0.0) - (r["a_path"] or 0.0)) if has_path else 0.0
        return -path, -abs((r["b"] or 0.0) - (r["a"] or 0.0))

    rows: list[FigureRow] = [*sorted(made, key=weight)]
    return {
        "engines": _figures(a.engines, b.engines),
        "causes": _figures(a.causes, b.causes) if has_path else [],
        "opcodes": _figures(a.opcodes, b.opcodes),
        "lines": rows,
    }


def _figures(a: Mapping[str, float], b: Mapping[str, float]) -> list[FigureRow]:
    rows = [figure_row(name, a.get(name), b.get(name)) for name in dict.fromkeys((*a, *b))]
    return sorted(rows, key=lambda r: -abs((r["b"] or 0.0) - (r["a"] or 0.0)))


def _line(how: How, x: ChangedLine | None, y: ChangedLine | None, a_path: bool, b_path: bool) -> LineRow:
    shown = y if y is not None else x
    assert shown is not None
    path = [x.path if x is not None else {}, y.path if y is not None else {}]
    change = {c: path[1].get(c, 0.0) - path[0].get(c, 0.0) for c in (*path[0], *path[1])}
    cause = max(change, key=lambda c: abs(change[c]), default="")
    engines = sorted({e for side in (x, y) if side is not None for e, _ in side.opcodes})
    return LineRow(
        **figure_row(shown.place, x.busy if x is not None else None, y.busy if y is not None else None),
        text=shown.text,
        how=how,
        a_line=x.place if x is not None else "",
        b_line=y.place if y is not None else "",
        a_path=float_sum(path[0].values()) if a_path and x is not None else None,
        b_path=float_sum(path[1].values()) if b_path and y is not None else None,
        a_count=sum(x.opcodes.values()) if x is not None else 0,
        b_count=sum(y.opcodes.values()) if y is not None else 0,
        engines=", ".join(engines),
        cause=cause if change and change[cause] else "",
    )
