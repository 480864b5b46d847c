"""The first instruction whose output leaves a reference.

A reference is a function of the same arguments. It may return what the kernel returns, and it may be a generator that
yields (name, array) for tiles within: each is compared with the tile that the kernel calls so, as the kernel leaves it.
Every element knows which instruction wrote it last, so the earliest instruction that left a wrong element is found
wherever the comparison takes place.

Or the reference is another kernel. Both run side by side, instruction by instruction; `paired_places` says which of
them go together.
"""

from __future__ import annotations

import difflib
import inspect
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Array
from mowich.errors import UserError
from mowich.neuroncore.access import static_view, storage_of
from mowich.neuroncore.core import Core
from mowich.neuroncore.views import Tile, view_of
from mowich.requests.debugging import TileName, read_tile_name
from mowich.shown import Keyed
from mowich.studies.debug.running import Launcher, silently
from mowich.studies.debug.session import Filling, Follower, Issued, StoppedRun, TileView
from mowich.studies.debug.values import numbers_of
from mowich.studies.debug.variables import Variables, find_tile, kernel_frames, named_tiles, no_tile, written_name
from mowich.studies.kernel_reference import TOLERANCES, apart, within_and_returned

_AT_ONCE = 4000
"""Instructions of two kernels that are matched with each other; of more only those at equal places."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference(Keyed):
    """The first instruction that leaves the reference. turn: which of its line; tile: what it wrote, as the kernel
    calls it, at `index`; got, wanted: there, got None where nothing wrote it; share: of the element and the root mean
    square; differing, of: elements of the tile; note: what else is known of the cause."""

    KEYS = "instruction core opcode file line turn statement tile got wanted share differing of note index"

    instruction: int
    core: int
    opcode: str
    file: str
    line: int
    turn: int
    statement: str
    tile: str
    index: tuple[int, ...]
    got: float | None
    wanted: float
    share: float
    differing: int
    of: int
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedTile(Keyed):
    """A name of the reference. tiles: of the kernel that were compared; share: the largest of any element; differing,
    of: elements."""

    name: str
    tiles: int
    share: float
    differing: int
    of: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceComparison(Keyed):
    """What was compared. difference: None: nothing differs; paired, unpaired, missing: instructions of a reference that
    is a kernel: with a counterpart, of the kernel without, of the reference without."""

    KEYS = "reference=kind tolerance difference instructions? compared=of_arrays?"

    kind: str
    tolerance: float
    difference: Difference | None
    compared: tuple[ComparedTile, ...] = ()
    paired: int = 0
    unpaired: int = 0
    missing: int = 0

    @property
    def instructions(self) -> dict[str, int] | None:
        """How many, where the reference is a kernel."""
        if self.kind != "kernel":
            return None
        return {"paired": self.paired, "unpaired": self.unpaired, "missing": self.missing}

    @property
    def of_arrays(self) -> tuple[ComparedTile, ...] | None:
        """What was compared, where the reference is no kernel."""
        return None if self.kind == "kernel" else self.compared


class _Turns:
    """Which instruction of its statement comes next."""

    def __init__(self) -> None:
        self._turns: dict[tuple[int, str, int], int] = {}

    def next(self, now: Issued) -> int:
        key = now.core.program, now.file, now.statement.line
        self._turns[key] = turn = self._turns.get(key, 0) + 1
        return turn


class _Narrowest:
    """The tolerance that the formats of a kernel's tiles ask for."""

    def __init__(self) -> None:
        self.bytes = max(TOLERANCES)

    def add(self, tiles: Sequence[tuple[str, Tile]]) -> None:
        for _, tile in tiles:
            d = tile.dtype.part or tile.dtype
            if d.is_float and d.itemsize in TOLERANCES:
                self.bytes = min(self.bytes, d.itemsize)

    def tolerance(self, given: float | None) -> float:
        return TOLERANCES[self.bytes] if given is None else given


# ---- a reference in NumPy
# ----------------------------------------------------------------------------------------------------------------------


class Wanted(NamedTuple):
    """What a reference gives. named: arrays in the order in which they came, by name; outputs: None: it returns
    none."""

    named: Mapping[str, Sequence[Array]]
    outputs: Sequence[Array] | None


def wanted_of_reference(reference: Callable[..., object], launcher: Launcher) -> Wanted:
    """Run a reference. Raises UserError for what it yields beside (name, array)."""
    args, named = launcher.arguments()
    try:
        inspect.signature(reference).bind(*args, **named)
    except TypeError as error:
        raise UserError(f"the reference takes other arguments than the kernel: {error}") from None
    within, outputs = within_and_returned(reference(*args, **named))
    if not within and outputs is None:
        raise UserError(
            "the reference gives nothing", fix="return the outputs, or yield (name, array) for tiles within"
        )
    return Wanted(within, outputs)


def _tile_name(name: str) -> TileName:
    """A name of a reference: as the kernel writes a tile, or one given at allocation, which may be any text."""
    try:
        return read_tile_name(name)._replace(text=name)
    except UserError:
        return TileName(name, name, ())


class _Target(NamedTuple):
    """A part of a storage to compare with an array. label: what the reference calls it."""

    label: str
    view: TileView
    want: Array


class NamingRun(Follower):
    """The first run: which storages the names stand for, and when each is written last."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = [_tile_name(name) for name in names]
        self.views: dict[str, dict[tuple[object, ...], tuple[Filling, int, TileView]]] = {name: {} for name in names}
        self.last_write: dict[Filling, int] = {}
        self.returned: list[tuple[Filling, TileView]] = []
        self.narrowest = _Narrowest()
        self.scopes: list[Variables] = []
        self._event = 0
        self._frames: dict[CodeType, FrameType] = {}

    def before(self, now: Issued) -> None:
        self._event += 1
        frames = kernel_frames()
        self._frames |= {frame.f_code: frame for frame, _, _ in frames}
        self._look([frame.variables for frame in frames], now.core)
        self.narrowest.add((*now.reads, *now.writes))
        for _, tile in now.writes:
            self.last_write[self.filling(tile)] = self._event

    def _look(self, scopes: Sequence[Variables], core: Core) -> None:
        for asked in self.names:
            found = find_tile(asked, scopes)
            if found is None or found[1] or found[0].dynamic is not None:  # an index: a part of a tile is no tile
                continue
            t, mine = found[0], self.views[asked.text]
            held = self.filling(t)
            key = held, t.offset, t.shape, t.strides
            if key not in mine:
                order = sum(program == core.program for _, program, _ in mine.values())
                mine[key] = held, core.program, TileView(t.dtype, t.shape, t.strides, t.offset, order, ())

    def end(self, cores: Sequence[Core], returned: Sequence[object]) -> None:
        self.scopes = [frame.f_locals for frame in reversed(self._frames.values())]
        self._look(self.scopes, cores[0])
        for t in returned:
            if isinstance(t, Tile):
                self.returned.append((self.filling(t), TileView(t.dtype, t.shape, t.strides, t.offset, 0, ())))

    def targets(self, wanted: Wanted, where: str) -> dict[Filling, list[_Target]]:
        """What to compare, by storage and turn. Raises UserError where names or shapes do not go together."""
        out: dict[Filling, list[_Target]] = {}
        for name, arrays in wanted.named.items():
            seen = [m for m in self.views[name].values() if not m[0].turn or m[0] in self.last_write]
            mine = sorted(seen, key=lambda m: (m[2].order, m[1]))
            if not mine:
                raise no_tile(_tile_name(name), self.scopes, where, "that the reference yields")
            for (held, _, view), want in zip(mine, _blocks(name, arrays, [m[2] for m in mine], where), strict=True):
                out.setdefault(held, []).append(_Target(name, view, want))
        if wanted.outputs is not None:
            shapes = [list(view.shape) for _, view in self.returned]
            if [list(x.shape) for x in wanted.outputs] != shapes:
                raise UserError(
                    "the reference returns other shapes than the kernel",
                    where=where,
                    given=[list(x.shape) for x in wanted.outputs],
                    allowed=str(shapes),
                )
            for i, ((held, view), want) in enumerate(zip(self.returned, wanted.outputs, strict=True)):
                out.setdefault(held, []).append(_Target(f"output {i}", view, want))
        return out


def _blocks(name: str, arrays: Sequence[Array], views: Sequence[TileView], where: str) -> list[Array]:
    """The array of each tile of a name: one for each, or one whose rows the tiles take in turn."""
    if len(arrays) == len(views) and all(_fits(a.shape, v.shape) for a, v in zip(arrays, views, strict=True)):
        return [a.reshape(v.shape) for a, v in zip(arrays, views, strict=True)]
    if len(arrays) == 1 and arrays[0].ndim:
        [array], rows = arrays, [v.shape[0] for v in views]
        ends = np.cumsum(rows)
        parts = [array[end - n : end] for n, end in zip(rows, ends, strict=True)]
        if ends[-1] == len(array) and all(_fits(a.shape, v.shape) for a, v in zip(parts, views, strict=True)):
            return [a.reshape(v.shape) for a, v in zip(parts, views, strict=True)]
    made = [list(v.shape) for v in views]
    raise UserError(
        f"'{name}' of the reference has other shapes than the tiles of the kernel",
        where=where,
        given=[list(a.shape) for a in arrays],
        allowed=f"an array for each of {made}" + (", or one with all their rows" if len(made) > 1 else ""),
    )


def _fits(one: tuple[int, ...], two: tuple[int, ...]) -> bool:
    return [n for n in one if n != 1] == [n for n in two if n != 1]


class _Place(NamedTuple):
    """What is kept of an instruction that wrote to a storage that is compared."""

    number: int
    core: int
    name: str
    file: str
    line: int
    turn: int
    statement: str


class ReferenceRun(Follower):
    """The second run: every storage of the reference is compared when it was written for the last time."""

    def __init__(
        self, targets: Mapping[Filling, Sequence[_Target]], last_write: Mapping[Filling, int], bound: float
    ) -> None:
        super().__init__(is_again=True)
        self.targets, self.last_write, self.bound = targets, last_write, bound
        self.first: tuple[int, Difference] | None = None
        self.compared: dict[str, ComparedTile] = {}
        self._event = 0
        self._turns = _Turns()
        self._events: dict[int, tuple[int, int]] = {}
        self._writers: dict[Filling, NDArray[np.int64]] = {}
        self._places: dict[int, _Place] = {}

    def before(self, now: Issued) -> None:
        self._event += 1
        self._events[id(now.core)] = self._event, self._turns.next(now)

    def after(self, last: Issued) -> None:
        event, turn = self._events[id(last.core)]
        for _, tile in last.writes:
            held = self.filling(tile)
            if held not in self.targets:
                continue
            place = (last.number, last.core.program, last.name, last.file, last.line, turn, last.statement.text)
            self._places[event] = _Place(*place)
            self._mark(held, tile, event)
            if event >= self.last_write[held]:
                for target in self.targets[held]:
                    self._compare(held, tile, target)
                self._writers.pop(held)

    def _mark(self, held: Filling, tile: Tile, event: int) -> None:
        """Note who wrote the elements of a view; of the whole storage where the elements are not known."""
        s, size = storage_of(tile), self.targets[held][0].view.dtype.itemsize
        writer = self._writers.get(held)
        if writer is None:
            writer = self._writers[held] = np.zeros(s.parts * s.row_B // size, np.int64)
        seen = static_view(tile)
        if seen is None or seen.dynamic is not None or seen.dtype.itemsize != size:
            writer[:] = event
        else:
            np.ndarray(seen.shape, np.int64, writer, 8 * seen.offset, [8 * x for x in seen.strides])[...] = event

    def _compare(self, held: Filling, tile: Tile, target: _Target) -> None:
        v = target.view
        found = numbers_of(view_of(storage_of(tile), v.dtype, v.shape, v.strides, v.offset))
        if found is None:
            return
        numbers, written = found
        want = target.want.astype(np.float64)
        share = np.where(written, apart(numbers.astype(np.float64), want), np.inf)
        bad = share > self.bound
        before = self.compared.get(target.label)
        self.compared[target.label] = ComparedTile(
            name=target.label,
            tiles=1 if before is None else before.tiles + 1,
            share=max(float(share.max()), 0.0 if before is None else before.share),
            differing=int(bad.sum()) + (0 if before is None else before.differing),
            of=bad.size + (0 if before is None else before.of),
        )
        if not bad.any():
            return
        writer = self._writers[held]
        if v.dtype.itemsize * writer.size != storage_of(tile).parts * storage_of(tile).row_B:
            writers = np.broadcast_to(writer.max(), v.shape)
        else:
            writers = np.ndarray(v.shape, np.int64, writer, 8 * v.offset, [8 * x for x in v.strides])
        blamed = np.where(bad & written, writers, np.where(bad, writer.max(), np.iinfo(np.int64).max))
        event = int(blamed.min())
        if self.first is not None and self.first[0] <= event:
            return
        at = tuple(int(i) for i in np.argwhere(blamed == event)[0])
        p = self._places[event]
        self.first = (
            event,
            Difference(
                instruction=p.number,
                core=p.core,
                opcode=p.name,
                file=p.file,
                line=p.line,
                turn=p.turn,
                statement=p.statement,
                tile=target.label,
                index=at,
                got=float(numbers[at]) if written[at] else None,
                wanted=float(want[at]),
                share=float(share[at]),
                differing=int(bad.sum()),
                of=bad.size,
                note=""
                if written[at]
                else "no instruction wrote this element; this one is the last to write to the tile",
            ),
        )


def compare_with_arrays(
    launcher: Launcher, reference: Callable[..., object], tolerance: float | None, where: str
) -> ReferenceComparison:
    """The first instruction whose output leaves what a function gives."""
    wanted = wanted_of_reference(reference, launcher)
    survey = NamingRun([*wanted.named])
    launcher.run(survey)
    bound = survey.narrowest.tolerance(tolerance)
    compared = ReferenceRun(survey.targets(wanted, where), survey.last_write, bound)
    with silently():
        launcher.run(compared)
    return ReferenceComparison(
        kind="function",
        tolerance=bound,
        difference=None if compared.first is None else compared.first[1],
        compared=tuple(compared.compared.values()),
    )


# ---- a reference that is a kernel
# ----------------------------------------------------------------------------------------------------------------------

_Key = tuple[object, ...]


class _Listing(Follower):
    """The instructions of a kernel, each by what it is and what it writes."""

    def __init__(self, is_again: bool) -> None:
        super().__init__(is_again)
        self.keys: list[_Key] = []
        self.narrowest = _Narrowest()

    def before(self, now: Issued) -> None:
        if now.core.programs > 1:
            raise UserError(
                "two kernels are compared on one core", fix="leave the grid out, or compare with a function"
            )
        self.keys.append((now.name, *((t.shape, t.dtype.name) for _, t in now.writes)))
        self.narrowest.add((*now.reads, *now.writes))


def paired_places(one: Sequence[_Key], two: Sequence[_Key]) -> dict[int, int]:
    """Which instructions of two kernels go together: (place in one) -> place in two, both rising. In a run of changed
    instructions of equal length those that write the same shapes do.

    >>> paired_places([("a", 1), ("b", 1), ("c", 1)], [("a", 1), ("d", 1), ("c", 1)])
    {0: 0, 1: 1, 2: 2}
    """
    first = next((i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))
    left = min(len(one), len(two)) - first
    last = next((i for i in range(left) if one[-1 - i] != two[-1 - i]), left)
    found = {i: i for i in range(first)}
    a, b = one[first : len(one) - last], two[first : len(two) - last]
    if max(len(a), len(b)) > _AT_ONCE:
        blocks = [("replace", 0, len(a), 0, len(b))]
    else:
        blocks = list(difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes())
    for tag, i, i_end, j, j_end in blocks:
        for x, y in zip(range(i, i_end), range(j, j_end), strict=False):
            is_changed = tag == "replace" and (i_end - i == j_end - j or len(blocks) == 1) and a[x][1:] == b[y][1:]
            if tag == "equal" or is_changed:
                found[first + x] = first + y
    return found | {len(one) - 1 - i: len(two) - 1 - i for i in reversed(range(last))}


_Values = list[tuple[str, tuple[Array, NDArray[np.bool_]] | None, int]]
"""Operands of an instruction: its name there, its numbers, the storage."""


def _values(named: Sequence[tuple[str, Tile]]) -> _Values:
    return [(operand, numbers_of(tile), storage_of(tile).number) for operand, tile in named]


class _Side(Follower):
    """One of two kernels that run side by side."""

    def __init__(self, paired: frozenset[int]) -> None:
        super().__init__(is_again=True)
        self.paired = paired
        self.place = -1
        self.writers: dict[int, tuple[int, Issued, int]] = {}
        self.reads: _Values = []
        self.turns = _Turns()
        self.turn = 0

    def before(self, now: Issued) -> None:
        self.place += 1
        self.turn = self.turns.next(now)
        self.reads = _values(now.reads) if self.place in self.paired else []

    def after(self, last: Issued) -> None:
        if self.place in self.paired:
            self.come(last, _values(last.writes))
        for _, tile in last.writes:
            self.writers[storage_of(tile).number] = self.place, last, self.turn

    def come(self, last: Issued, writes: _Values) -> None:
        """An instruction with a counterpart has done its work."""

    def unpaired_writer(self, storage: int) -> tuple[Issued, int] | None:
        """The instruction that wrote last to a storage, where it has no counterpart."""
        place, issued, turn = self.writers.get(storage, (-1, None, 0))
        return None if issued is None or place in self.paired else (issued, turn)


class _Handed(NamedTuple):
    """What the reference read and wrote, and the instructions without a counterpart that made what it read."""

    reads: _Values
    writes: _Values
    added: Sequence[Issued]


_Lane = queue.Queue[_Handed | BaseException]


class _Theirs(_Side):
    """The reference: hands on what each of its instructions read and wrote."""

    def __init__(self, paired: frozenset[int], lane: _Lane, is_over: threading.Event) -> None:
        super().__init__(paired)
        self.lane, self.is_over = lane, is_over

    def come(self, last: Issued, writes: _Values) -> None:
        added = [found for _, _, n in self.reads if (found := self.unpaired_writer(n)) is not None]
        self.hand(_Handed(self.reads, writes, [issued for issued, _ in added]))

    def hand(self, item: _Handed | BaseException) -> None:
        """Wait until there is room, or nobody wants it."""
        while not self.is_over.is_set():
            try:
                self.lane.put(item, timeout=0.05)
                return
            except queue.Full:
                continue
        raise StoppedRun


class _Ours(_Side):
    """The kernel: takes what the reference hands on and compares."""

    def __init__(self, paired: frozenset[int], lane: _Lane, bound: float) -> None:
        super().__init__(paired)
        self.lane, self.bound = lane, bound
        self.difference: Difference | None = None
        self._scopes: list[Variables] = []

    def before(self, now: Issued) -> None:
        super().before(now)
        if self.place in self.paired:
            # copies: the next turn of a loop gives its variables other tiles
            self._scopes = [dict(frame.variables) for frame in kernel_frames()]

    def come(self, last: Issued, writes: _Values) -> None:
        item = self.lane.get()
        if not isinstance(item, _Handed):
            raise item
        reads, wanted, added = item
        found = self._farthest(writes, wanted, last.writes)
        if found is None:
            return
        read = self._farthest(self.reads, reads, last.reads)
        own = None if read is None else self.unpaired_writer(self.reads[read[0]][2])
        if read is not None and own is not None:
            found, (issued, turn), note = read, own, "the reference has no such instruction"
        else:
            issued, turn, note = last, self.turn, ""
            if read is not None:
                note = f"it reads other values than the reference: {self.reads[read[0]][0]}"
                for theirs in added:
                    note = f"the reference has {theirs.file}:{theirs.line} before it, and this kernel has not"
        _, tile, index, got, want, share, differing, size = found
        self.difference = Difference(
            instruction=issued.number,
            core=issued.core.program,
            opcode=issued.name,
            file=issued.file,
            line=issued.line,
            turn=turn,
            statement=issued.statement.text,
            tile=written_name(tile, named_tiles(self._scopes)) or "(no name)",
            index=index,
            got=got,
            wanted=want,
            share=share,
            differing=differing,
            of=size,
            note=note,
        )
        raise StoppedRun

    def _farthest(
        self, mine: _Values, theirs: _Values, tiles: Sequence[tuple[str, Tile]]
    ) -> tuple[int, Tile, tuple[int, ...], float, float, float, int, int] | None:
        """The first element of the first operand that differs: (operand, its tile, index, got, wanted, share, elements
        that differ, of)."""
        for k, ((_, one, _), (_, two, _), (_, tile)) in enumerate(zip(mine, theirs, tiles, strict=False)):
            if one is None or two is None or one[0].shape != two[0].shape:
                continue
            if all(np.array_equal(x, y) for x, y in zip(one, two, strict=True)):
                continue  # nearly all operands, and much faster to see
            got, want = (np.where(w, x.astype(np.float64), np.nan) for x, w in (one, two))
            share = apart(got, want)
            bad = share > self.bound
            if bad.any():
                at = tuple(int(i) for i in np.argwhere(bad)[0])
                return k, tile, at, float(got[at]), float(want[at]), float(share[at]), int(bad.sum()), bad.size
        return None


def compare_with_kernel(launcher: Launcher, reference: Launcher, tolerance: float | None) -> ReferenceComparison:
    """The first instruction whose output leaves that of another kernel."""
    mine, theirs = _Listing(is_again=False), _Listing(is_again=True)
    launcher.run(mine)
    with silently():
        reference.run(theirs)
    found = paired_places(mine.keys, theirs.keys)
    bound = mine.narrowest.tolerance(tolerance)
    lane: _Lane = queue.Queue(16)
    is_over = threading.Event()
    theirs_side = _Theirs(frozenset(found.values()), lane, is_over)
    ours = _Ours(frozenset(found), lane, bound)

    def beside() -> None:
        try:
            try:
                reference.run(theirs_side)
            except BaseException as error:  # else the kernel would wait for ever
                theirs_side.hand(error)
            theirs_side.hand(UserError("the reference did not run twice alike"))
        except StoppedRun:  # nobody listens any more
            pass

    thread = threading.Thread(target=beside, daemon=True, name="reference")
    with silently():
        thread.start()
        try:
            launcher.run(ours)
        finally:
            is_over.set()
            thread.join()
    return ReferenceComparison(
        kind="kernel",
        tolerance=bound,
        difference=ours.difference,
        paired=len(found),
        unpaired=len(mine.keys) - len(found),
        missing=len(theirs.keys) - len(found),
    )
