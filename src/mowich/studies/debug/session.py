"""A run that is looked at: it stops before an instruction or goes to its end, shows tiles, and notes how one of them
changes.

`DebugRun` looks at each instruction (`neuroncore.core.Watcher`). A tile that is watched has to be known by its storage
before the run, since a variable may get it after an instruction has written to it. So a first run looks for the names,
and a second one notes the values.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import NamedTuple

from mowich.errors import UserError, words_of
from mowich.neuroncore import memory as mem
from mowich.neuroncore.access import storage_of
from mowich.neuroncore.core import Core
from mowich.neuroncore.dtypes import DType
from mowich.neuroncore.memory import SPACE_NAME
from mowich.neuroncore.source import Statement, statement
from mowich.neuroncore.turns import KernelFrame
from mowich.neuroncore.views import Tile, view_of
from mowich.requests.debugging import SourceLine, Step, TileName
from mowich.shown import Keyed
from mowich.studies.debug.values import TileValues, ValueSummary, chosen, numbers_of, summary_of, tile_values
from mowich.studies.debug.variables import (
    Variables,
    failed_frames,
    find_tile,
    kernel_frames,
    named_tiles,
    no_tile,
    written_name,
)

NamedTiles = Sequence[tuple[str, Tile]]
_NEAR = 6
"""KernelLines with instructions that an error names."""


class Issued(NamedTuple):
    """An instruction. number: of its core, from 1; file, line: where it comes from."""

    core: Core
    number: int
    name: str
    engine: str
    file: str
    line: int
    reads: NamedTiles
    writes: NamedTiles

    @property
    def statement(self) -> Statement:
        """What stands there."""
        return statement(self.file, self.line)


class Filling(NamedTuple):
    """A storage by its number, and which of the turns of a loop on the device that allocates it: 0 of another one."""

    storage: int
    turn: int


class Follower:
    """What looks at each instruction, before and after it."""

    def __init__(self, is_again: bool = False) -> None:
        self.is_again = is_again
        self._last: dict[int, Issued] = {}
        self._fillings: Counter[int] = Counter()

    def issued(self, core: Core, name: str, reads: NamedTiles, writes: NamedTiles) -> None:
        """As `Watcher.issued`."""
        self.settle(core)
        trace = core.trace
        assert trace is not None
        file, line = trace.sites[trace.site[-1]]
        now = Issued(core, core.clock, name, trace.kinds[trace.kind[-1]].engine, file, line, reads, writes)
        self.before(now)
        self._last[id(core)] = now

    def settle(self, core: Core) -> None:
        """The last instruction of a core has done its work."""
        last = self._last.pop(id(core), None)
        if last is not None:
            self.after(last)

    def turn_ended(self, core: Core, storages: Sequence[int]) -> None:
        """As `Watcher.turn_ended`."""
        self.settle(core)
        self._fillings.update(storages)

    def filling(self, tile: Tile) -> Filling:
        """What a tile holds now: its storage, and for one of the body of a loop on the device the turn."""
        number = storage_of(tile).number
        return Filling(number, self._fillings[number])

    def ended(self, cores: Sequence[Core], returned: Sequence[object]) -> None:
        """As `Watcher.ended`."""
        for core in cores:
            self.settle(core)
        self.end(cores, returned)

    def before(self, now: Issued) -> None:
        """An instruction is next."""

    def after(self, last: Issued) -> None:
        """An instruction has done its work."""

    def end(self, cores: Sequence[Core], returned: Sequence[object]) -> None:
        """All programs have ended."""


class StoppedRun(BaseException):
    """A run has come to its stop, or has shown what was asked; the rest of the kernel does not run."""


@dataclass(frozen=True, slots=True)
class TileWriter:
    """An instruction by its number, and the line that issued it."""

    instruction: int
    file: str
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TileState(Keyed):
    """A tile that the kernel holds. names: how it writes it; row_B: bytes of a partition, or of all in HBM; writer:
    what wrote to it last."""

    KEYS = "tile names shape dtype memory bytes=row_B **summary written_by=writer"

    names: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    memory: str
    row_B: int
    summary: ValueSummary | None
    writer: TileWriter | None

    @property
    def tile(self) -> str:
        """The first of its names."""
        return self.names[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class OperandState(Keyed):
    """An operand of the instruction that is next. role: "reads" or "writes"; operand: as the instruction calls it."""

    KEYS = "role operand tile shape dtype memory **summary"

    role: str
    operand: str
    tile: str
    shape: tuple[int, ...]
    dtype: str
    memory: str
    summary: ValueSummary | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Where a run stopped: before this instruction. turn: which of its line; sbuf_B: bytes of a partition that written
    tiles take, psum_banks: banks; refused: what is wrong with the instruction, which then has no name and no operands;
    "": nothing is."""

    issued: Issued
    turn: int
    operands: tuple[OperandState, ...]
    tiles: tuple[TileState, ...]
    sbuf_B: int
    psum_banks: int
    refused: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change(Keyed):
    """The values of a watched tile after an instruction that writes to it. tile: which of those that had the name, from
    1, in the order in which they got it."""

    KEYS = "instruction core opcode=name file line tile **summary"

    instruction: int
    core: int
    name: str
    file: str
    line: int
    tile: int
    summary: ValueSummary


class TileView(NamedTuple):
    """A view of a storage, for another run. order: which of those that the name stood for, from 1; steps: indices into
    its values."""

    dtype: DType
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    order: int
    steps: tuple[Step, ...]


@dataclass(slots=True)
class KernelLines:
    """KernelLines of the kernel that instructions came from, and how many; for what is told where none did."""

    seen: dict[tuple[str, int], int] = field(default_factory=dict)

    def add(self, frames: Sequence[KernelFrame]) -> None:
        """An instruction that these frames issue."""
        for frame, line, _ in frames:
            key = frame.f_code.co_filename, line
            self.seen[key] = self.seen.get(key, 0) + 1

    def missed(self, place: SourceLine, where: str) -> UserError:
        """The error for a stop that no run comes to."""
        own = {line: n for (file, line), n in self.seen.items() if is_file(place.file, file)}
        label = f"{place.file or 'the kernel'}:{place.line}"
        at = [n for (file, line), n in self.seen.items() if is_file(place.file, file) and is_line(place, file, line)]
        if at:
            return UserError(
                f"the line issues {sum(at)} instruction" + ("s" if sum(at) > 1 else ""),
                where=where,
                given=f"{label}:{place.turn}",
                allowed=f"{label}:1 to {label}:{sum(at)}",
            )
        if not own:
            files = sorted({os.path.basename(file) for file, _ in self.seen})
            return UserError(
                "no instruction comes from this file", where=where, given=place.file, allowed=files or None
            )
        near = sorted(sorted(own, key=lambda line: abs(line - place.line))[:_NEAR])
        return UserError(
            "no instruction comes from this line",
            where=where,
            given=label,
            fix=f"lines near it with instructions: {', '.join(map(str, near))}",
        )


def is_file(asked: str, file: str) -> bool:
    """Whether a path is the file that was asked for: the same, or one that ends so."""
    if not asked:
        return True
    one, two = os.path.normpath(asked).split(os.sep), os.path.normpath(file).split(os.sep)
    return two[-len(one) :] == one or os.path.abspath(asked) == os.path.abspath(file)


def is_line(place: SourceLine, file: str, line: int) -> bool:
    """Whether a line is the one that was asked for, or belongs to the same statement."""
    return line == place.line or statement(file, line).line == statement(file, place.line).line


class DebugRun(Follower):
    """A run up to a stop, or to its end. place: where to stop, None: nowhere; tiles: to show there; watched: the views
    to note, by storage, None: they are looked for by the name `watch`; spelled: how the edge calls a field."""

    def __init__(
        self,
        *,
        place: SourceLine | None = None,
        tiles: Sequence[TileName] = (),
        watch: TileName | None = None,
        watched: dict[int, TileView] | None = None,
        spelled: Callable[[str], str] = str,
        is_again: bool = False,
    ) -> None:
        super().__init__(is_again)
        self.place, self.tiles, self.watch, self.watched = place, tiles, watch, watched
        self.spelled = spelled
        self.lines = KernelLines()
        self.views: dict[int, TileView] = {}
        self.changes: list[Change] = []
        self.prints: tuple[TileValues, ...] = ()
        self.stop: Stop | None = None
        self._frames: dict[CodeType, FrameType] = {}
        self._main: CodeType | None = None
        self._turns: dict[int, int] = {}
        self._writers: dict[int, TileWriter] = {}
        self._places: dict[tuple[str, int], bool] = {}

    def _is_here(self, lines: Iterable[tuple[str, int]]) -> bool:
        assert self.place is not None
        for key in lines:
            if key not in self._places:
                self._places[key] = is_file(self.place.file, key[0]) and is_line(self.place, *key)
            if self._places[key]:
                return True
        return False

    def before(self, now: Issued) -> None:
        frames = kernel_frames()
        self.lines.add(frames)
        for frame, _, _ in frames:
            self._frames[frame.f_code] = frame
        self._main = frames[-1].frame.f_code if frames else None
        scopes = [frame.variables for frame in frames]
        if self.watch is not None and self.watched is None:
            self._look(scopes)
        if self.place is not None and self._is_here((frame.f_code.co_filename, line) for frame, line, _ in frames):
            turn = self._turns[id(now.core)] = self._turns.get(id(now.core), 0) + 1
            if turn == self.place.turn:
                self._stopped(now, turn, scopes)
                raise StoppedRun

    def failed(self, error: Exception) -> bool:
        """Whether a kernel failed at the stop; then the state at that moment is noted."""
        frames = failed_frames(error)
        lines = [(frame.f_code.co_filename, line) for frame, line, _ in frames]
        if self.place is None or not self._is_here(lines):
            return False
        scopes = [frame.variables for frame in frames]
        core = next((storage_of(tile).core for tile in named_tiles(scopes).values()), None)
        if core is None or self._turns.get(id(core), 0) + 1 != self.place.turn:
            return False
        self.settle(core)
        now = Issued(core, core.clock, "", "", *lines[0], (), ())
        self._stopped(now, self.place.turn, scopes, error.what if isinstance(error, UserError) else words_of(error))
        return True

    def after(self, last: Issued) -> None:
        for _, tile in last.writes:
            s = storage_of(tile)
            self._writers[s.number] = TileWriter(last.number, last.file, last.line)
            view = None if self.watched is None else self.watched.get(s.number)
            if view is not None:
                assert self.watch is not None
                found = numbers_of(view_of(s, view.dtype, view.shape, view.strides, view.offset))
                if found is not None:
                    part = chosen(found, view.steps, self.watch.text, self.spelled("watch"))
                    self.changes.append(
                        Change(
                            instruction=last.number,
                            core=last.core.program,
                            name=last.name,
                            file=last.file,
                            line=last.line,
                            tile=view.order,
                            summary=summary_of(*part),
                        )
                    )

    def end(self, cores: Sequence[Core], returned: Sequence[object]) -> None:
        if self.place is not None:
            raise self.lines.missed(self.place, self.spelled("stop"))
        # the kernel's own function first, then what it called, the latest first
        frames = [*reversed(self._frames.values())]
        frames.sort(key=lambda frame: frame.f_code is not self._main)
        scopes = [frame.f_locals for frame in frames]
        if self.watch is not None and self.watched is None:
            self._look(scopes)
            self._check_watched(scopes)
        self._print(scopes)

    def _look(self, scopes: Sequence[Variables]) -> None:
        """Note the tile that the watched name stands for now."""
        assert self.watch is not None
        found = find_tile(self.watch, scopes)
        if found is not None:
            t, steps = found
            number = storage_of(t).number
            if number not in self.views and t.dynamic is None:
                self.views[number] = TileView(t.dtype, t.shape, t.strides, t.offset, len(self.views) + 1, steps)

    def _check_watched(self, scopes: Sequence[Variables]) -> None:
        if not self.views:
            assert self.watch is not None
            raise no_tile(self.watch, scopes, self.spelled("watch"), "")

    def _print(self, scopes: Sequence[Variables]) -> None:
        shown, where = [], self.spelled("print")
        for asked in self.tiles:
            found = find_tile(asked, scopes)
            if found is None:
                raise no_tile(asked, scopes, where, "at the stop" if self.place is not None else "at the end")
            shown.append(tile_values(*found, asked.text, where))
        self.prints = tuple(shown)

    def _stopped(self, now: Issued, turn: int, scopes: Sequence[Variables], refused: str = "") -> None:
        """Note the state."""
        if self.watch is not None and self.watched is None:
            self._check_watched(scopes)
        named = named_tiles(scopes)
        self._print(scopes)
        operands = [
            _operand(role, operand, tile, named)
            for role, side in (("reads", now.reads), ("writes", now.writes))
            for operand, tile in side
        ]
        held: dict[int, list[tuple[str, Tile]]] = {}
        for name, tile in named.items():
            held.setdefault(storage_of(tile).number, []).append((name, tile))
        for _, tile in (*now.reads, *now.writes):
            if storage_of(tile).number not in held:
                held[storage_of(tile).number] = [("", tile)]
        tiles = [_tile(same, self._writers) for _, same in sorted(held.items())]
        storages = [storage_of(same[0][1]) for same in held.values()]
        bank_B = now.core.limits.psum_bank_B
        self.stop = Stop(
            issued=now,
            turn=turn,
            operands=tuple(operands),
            tiles=tuple(tiles),
            sbuf_B=_in_use_B(storages, "S"),
            psum_banks=-(-_in_use_B(storages, "P") // bank_B),
            refused=refused,
        )


def _operand(role: str, operand: str, tile: Tile, named: dict[str, Tile]) -> OperandState:
    found = numbers_of(tile) if role == "reads" else None
    return OperandState(
        role=role,
        operand=operand,
        tile=written_name(tile, named),
        shape=tile.shape,
        dtype=str(tile.dtype),
        memory=SPACE_NAME[tile.space],
        summary=None if found is None else summary_of(*found),
    )


def _tile(same: Sequence[tuple[str, Tile]], writers: dict[int, TileWriter]) -> TileState:
    """A row of an allocation. same: how the kernel writes it, the whole of it first where there is a name for that."""
    s = storage_of(same[0][1])
    order = sorted(same, key=lambda pair: pair[1].size * pair[1].itemsize != s.parts * s.row_B)
    t = order[0][1]
    found = numbers_of(t)
    return TileState(
        names=tuple(dict.fromkeys(name for name, _ in order if name)) or ("(no name)",),
        shape=t.shape,
        dtype=str(t.dtype),
        memory=SPACE_NAME[s.space],
        row_B=s.row_B,
        summary=None if found is None else summary_of(*found),
        writer=writers.get(s.number),
    )


def _in_use_B(storages: Sequence[mem.Storage], space: str) -> int:
    """Bytes of a partition that written tiles take; those placed by hand may overlap."""
    mine = [s for s in storages if s.space == space and s.state != mem.NONE]
    placed = sorted((s.address[1], s.address[1] + s.row_B) for s in mine if s.address is not None)
    total, reach = sum(s.row_B for s in mine if s.address is None), 0
    for a, b in placed:
        total += max(0, b - max(a, reach))
        reach = max(reach, b)
    return total
