"""What ran, in columns: one row per instruction, with the bytes that it read and wrote. The scheduler replays it;
nothing here computes.

Instructions that differ only in the addresses that they touch share a `Kind`, from which the cost follows; views of the
same shape, strides and offset share a pattern. So a row is a few small integers, and a trace of 10^7 instructions fits
in memory.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from ctypes import CDLL
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, SupportsInt, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from mowich.neuroncore.clock import compiled
from mowich.neuroncore.dtypes import DType

T = TypeVar("T")


class _Offset(Protocol):
    """An offset of a view that is read at run time."""

    kind: str


class AnyTile(Protocol):
    """What stands below views asks this much of one (`views.Tile`)."""

    @property
    def dtype(self) -> DType: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def strides(self) -> tuple[int, ...]: ...
    @property
    def offset(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def space(self) -> str: ...
    @property
    def start_partition(self) -> int: ...
    @property
    def dynamic(self) -> _Offset | None: ...
    def describe(self) -> str: ...
    def byte_offset(self) -> int: ...
    def byte_strides(self) -> tuple[int, ...]: ...


class AnyStorage(Protocol):
    """What a trace asks of an allocation (`memory.Storage`)."""

    number: int
    noted_by: Trace | None
    layout: tuple[str, tuple[int, ...], int, int]
    site: tuple[str, int]
    name: str
    address: tuple[int, int] | None
    owner: object

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> DType: ...
    def form(self) -> Allocation: ...


class Operand(NamedTuple):
    """One operand of a kind of instruction. space: "S", "P" or "H"; shape and strides (elements of `itemsize` bytes,
    partitions outermost); start: first partition, for DMA operands on chip; dynamic: an offset is read at run time."""

    space: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    itemsize: int
    dtype: str
    start: int
    dynamic: str


class Kind(NamedTuple):
    """What instructions with the same cost have in common."""

    name: str
    engine: str
    flags: tuple[tuple[str, object], ...]
    reads: tuple[Operand, ...]
    writes: tuple[Operand, ...]

    def flag(self, name: str, default: object = None) -> Any:
        """A flag by name."""
        for key, value in self.flags:
            if key == name:
                return value
        return default


class Allocation(NamedTuple):
    """A storage that the trace touches. address: (partition, byte) where placed by hand; row_B: bytes in each of
    `parts` partitions."""

    number: int
    space: str
    parts: int
    row_B: int
    shape: tuple[int, ...]
    itemsize: int
    address: tuple[int, int] | None
    name: str
    file: str
    line: int
    is_input: bool
    dtype: str = ""


class Storages(MutableMapping[int, Allocation]):
    """The storages that a trace touches, by number, in columns: a kernel makes up to one for each instruction. form:
    number of a storage -> place in `forms`, -1 where the trace does not touch it; forms: what the allocations of one
    line share, with the number 0."""

    __slots__ = ("_known", "_made", "form", "forms")

    def __init__(self) -> None:
        self._made: dict[int, Allocation] = {}  # those that were asked for
        self.form = array("i")
        self.forms: list[Allocation] = []
        self._known: dict[Allocation, int] = {}

    def __getitem__(self, number: int) -> Allocation:
        found = self._made.get(number)
        if found is None:
            place = self.form[number] if 0 <= number < len(self.form) else -1
            if place < 0:
                raise KeyError(number)
            found = self._made[number] = Allocation(number, *self.forms[place][1:])
        return found

    def __contains__(self, number: object) -> bool:
        return isinstance(number, int) and 0 <= number < len(self.form) and self.form[number] >= 0

    def __setitem__(self, number: int, made: Allocation) -> None:
        self.put(number, self.form_of(made._replace(number=0)))

    def __delitem__(self, number: int) -> None:
        if number not in self:
            raise KeyError(number)
        self.put(number, -1)

    def __iter__(self) -> Iterator[int]:
        return (n for n, place in enumerate(self.form) if place >= 0)

    def __len__(self) -> int:
        return int(np.count_nonzero(np.frombuffer(self.form, np.int32) >= 0)) if self.form else 0

    def copy(self) -> Storages:
        """The same, to be changed apart."""
        out = Storages()
        out.form, out.forms, out._known = self.form[:], list(self.forms), dict(self._known)
        return out

    def more(self, like: NDArray[np.int64]) -> int:
        """Note further storages, each like another; the number of the first of them."""
        first = len(self.form)
        self.form.frombytes(np.array(self.form, np.int32)[like].tobytes())
        return first

    def form_of(self, made: Allocation) -> int:
        """Place of an allocation with the number 0 in `forms`, where it is put when it is new."""
        return _number(self._known, self.forms, made)

    def reserve(self, numbers: int) -> None:
        """Room for the storages below a number."""
        missing = numbers - len(self.form)
        if missing > 0:
            self.form.extend(_UNTOUCHED * max(missing, 1024))

    def put(self, number: int, form: int) -> None:
        """Note a storage by its form."""
        if number >= len(self.form):
            self.reserve(number + 1)
        self.form[number] = form
        self._made.pop(number, None)


_UNTOUCHED = array("i", [-1])


class Meeting(NamedTuple):
    """Where an instruction waits for other cores. key: the same for all that come to it; members: their numbers."""

    key: object
    members: tuple[int, ...]


class AccessRecord(NamedTuple):
    """Bytes that an instruction touches. storage: number of the allocation; space: "S", "P" or "H"; offset and strides
    in elements of `itemsize` bytes from the start of the allocation (partitions outermost); shape: elements along each
    stride."""

    storage: int
    space: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    itemsize: int
    dtype: str


class InstructionRecord(NamedTuple):
    """One instruction, as a row for people and tests."""

    number: int
    name: str
    engine: str
    reads: tuple[AccessRecord, ...]
    writes: tuple[AccessRecord, ...]
    flags: dict[str, object] | None
    file: str
    line: int


ViewBound: TypeAlias = "slice | SupportsInt"
"""An index or a slice of one dimension."""


class NotedView(NamedTuple):
    """A view that was made by indices, in a run without values. keys: the indices; shape: of the tile that they went
    into; spread: of each bound and each index (`repeat.reach`), how far below and above itself loops take it."""

    keys: tuple[ViewBound, ...]
    shape: tuple[int, ...]
    spread: tuple[tuple[int, int], ...] = ()


class ViewForm(NamedTuple):
    """What views of one form have in common: allocations alike, memory, shape, strides, format, first partition.
    number: in the core; family: of their patterns, in the trace."""

    number: int
    family: int


class ViewAccess(NamedTuple):
    """What `issue` found out about a view. pattern, form: numbers in the trace and in the core; fits: it lies within
    its allocation."""

    pattern: int
    form: int
    fits: bool


@dataclass(slots=True, eq=False)
class Record:
    """What a run keeps of an allocation on chip once its bytes are gone. first: number of the instruction that writes
    it first, -1 before;
    last: of the one that uses it last; only_loaded: nothing but loads from HBM has touched it so far. The rest as in
    `Storage`."""

    number: int
    space: str
    parts: int
    row_B: int
    site: tuple[str, int]
    name: str
    address: tuple[int, int] | None
    dtype: str
    shape: tuple[int, ...]
    first: int = -1
    last: int = -1
    only_loaded: bool = False


Pattern = tuple[tuple[int, ...], int, int | None, tuple[int, ...], tuple[int, ...], int]
"""(shape and itemsize of the storage, offset (None: anywhere in it), shape, strides, itemsize)"""


_ANYWHERE = (1 << 40) - 1
"""In the key of a pattern: its offset is not known."""


class KeyTable:
    """Number of a key in a column of keys, by the compiled code: loops come to thousands at once. slots: number + 1 by
    the hash of its key, 2 ** bits of them."""

    __slots__ = ("bits", "keys", "library", "slots")

    def __init__(self, library: CDLL, keys: array[int]) -> None:
        self.library, self.keys = library, keys
        self.bits, self.slots = 11, array("i")

    def hold(self, wanted: int) -> None:
        """See that the table has places for so many keys more."""
        count = len(self.keys)
        if 2 * (count + wanted) > len(self.slots):
            while 2 * (count + wanted) > 1 << self.bits:
                self.bits += 1
            self.slots = array("i", [0]) * (1 << self.bits)
            self.library.clock_index(self.keys.buffer_info()[0], count, self.slots.buffer_info()[0], self.bits)

    def given(self, wanted: int) -> compiled.Struct:
        """The keys for the compiled code, which may put up to `wanted` more behind them: `end` them then."""
        self.hold(wanted)
        count = len(self.keys)
        self.keys.extend(array("q", [0]) * wanted)
        return compiled.KeysGiven(count, self.bits, self.keys.buffer_info()[0], self.slots.buffer_info()[0])

    def end(self, count: int) -> None:
        """So many keys there are."""
        del self.keys[count:]

    def number(self, key: int) -> int:
        """The number of a key, which is put at the end when it is new."""
        self.hold(1)
        keys, slots = self.keys, self.slots
        count = len(keys)
        keys.append(key)
        found: int = self.library.clock_number(keys.buffer_info()[0], count, slots.buffer_info()[0], self.bits)
        if found < count:
            keys.pop()
        return found

    def cut(self, count: int) -> None:
        """Forget all keys but the first `count`."""
        keys, slots = self.keys.buffer_info(), self.slots.buffer_info()
        self.library.clock_unindex(keys[0], keys[1], count, slots[0], self.bits)
        del self.keys[count:]


class Patterns(Sequence[Pattern]):
    """The patterns of a trace, in columns: loops come to thousands. Those that differ in the offset only are of one
    family. known: key of a pattern, its family and its offset in one number -> its number, None: a table of the
    compiled code has them; keys: the same by number; families: what the patterns of each have in common, without an
    offset."""

    __slots__ = ("_family_of", "_table", "families", "keys", "known")

    def __init__(self, made: Iterable[Pattern] = ()) -> None:
        self.known: dict[int, int] | None = {}
        self.keys = array("q")
        self.families: list[Pattern] = []
        self._family_of: dict[Pattern, int] = {}
        self._table: KeyTable | None = None
        for pattern in made:
            self.number(pattern)

    def number(self, made: Pattern) -> int:
        """Number of a pattern, which is put at the end when it is new."""
        return self.number_in(self.family(made), made[2])

    def family(self, like: Pattern) -> int:
        """Number of the family of a pattern, which is put at the end when it is new."""
        return _number(self._family_of, self.families, (*like[:2], None, *like[3:]))

    def number_in(self, family: int, offset: int | None) -> int:
        """Number of the pattern of a family with this offset (None: anywhere)."""
        return self._number_of((family << 40) + (_ANYWHERE if offset is None else offset))

    def _number_of(self, key: int) -> int:
        """Number of the pattern with a key."""
        known = self.known
        if known is None:
            assert self._table is not None
            return self._table.number(key)
        place = known.setdefault(key, len(known))
        if place == len(self.keys):
            self.keys.append(key)
        return place

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self[n] for n in range(*number.indices(len(self)))]
        key = self.keys[number]
        shape, itemsize, _, dims, strides, size = self.families[key >> 40]
        offset = key & _ANYWHERE
        return (shape, itemsize, None if offset == _ANYWHERE else offset, dims, strides, size)

    def __len__(self) -> int:
        return len(self.keys)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Patterns) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def cut(self, count: int) -> None:
        """Forget all patterns but the first `count`."""
        known = self.known
        if len(self.keys) <= count:
            return
        if known is None:
            assert self._table is not None
            self._table.cut(count)
            return
        while len(known) > count:
            known.popitem()
        del self.keys[count:]

    def have_offsets(self, numbers: Sequence[int]) -> bool:
        """Whether the offset of each of these patterns is known."""
        keys = self.keys
        return all(keys[n] & _ANYWHERE != _ANYWHERE for n in numbers)

    def steps(self, first: Sequence[int], second: Sequence[int]) -> list[int] | None:
        """By how much the offset of each pattern is larger than that of another one, elements. None: two of them differ
        in more than the offset, or an offset is not known."""
        keys, out = self.keys, []
        for a, b in zip(first, second, strict=True):
            x, y = keys[a], keys[b]
            if x >> 40 != y >> 40 or x & _ANYWHERE == _ANYWHERE or y & _ANYWHERE == _ANYWHERE:
                return None
            out.append(y - x)
        return out

    def are_known(self, keys: NDArray[np.int64]) -> bool:
        """Whether the offsets in these keys are known, and those below each other are of one family."""
        families = keys >> 40
        return bool((keys & _ANYWHERE != _ANYWHERE).all() and (families == families[:1]).all())

    def columns(self, anywhere: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """(Family, offset) of each pattern; anywhere: for one whose offset is not known."""
        keys = np.array(self.keys, np.int64)
        offsets = keys & _ANYWHERE
        return (keys >> 40).astype(np.int32), np.where(offsets == _ANYWHERE, anywhere, offsets)

    def numbers(self, wanted: NDArray[np.int64], library: CDLL) -> NDArray[np.int64]:
        """Numbers of the patterns with these keys. New ones are put where they come up, row after row."""
        table, found = self.table(library), np.array(wanted, np.int64, order="C")
        keys = table.given(found.size)
        library.clock_numbers(compiled.by_reference(keys), found.size, compiled.begin(found))
        table.end(keys.count)
        return found

    def table(self, library: CDLL) -> KeyTable:
        """What finds the number of a key from now on: the compiled code."""
        if self._table is None:
            self._table, self.known = KeyTable(library, self.keys), None
        return self._table


def _number(known: dict[T, int], listed: list[T], made: T) -> int:
    """The place of `made` in `listed`, where it is put when it is new; known: value -> place."""
    place = known.get(made)
    if place is None:
        place = known[made] = len(listed)
        listed.append(made)
    return place


@dataclass(slots=True, eq=False, repr=False)
class Trace:
    """The instructions of one core in program order, and the order that `depends_on` adds.

    kind, site, number: one entry per instruction; touched: (storage, pattern) for each operand, reads before writes,
    instruction after instruction; kinds, sites, patterns: what those numbers stand for; plain_reads: of each kind, how
    many of its reads are operands and no run-time indices; meetings: index of an instruction -> the meeting at which it
    waits for other cores; in_order: instructions that keep their order (while `ordered`); _form_of: what allocations
    have in common -> place of their form.
    """

    kind: array[int] = field(default_factory=lambda: array("i"))
    site: array[int] = field(default_factory=lambda: array("i"))
    number: array[int] = field(default_factory=lambda: array("q"))
    touched: array[int] = field(default_factory=lambda: array("q"))
    kinds: list[Kind] = field(default_factory=list)
    plain_reads: list[int] = field(default_factory=list)
    sites: list[tuple[str, int]] = field(default_factory=list)
    patterns: Patterns = field(default_factory=Patterns)
    storages: Storages = field(default_factory=Storages)
    edges: list[tuple[int, int]] = field(default_factory=list)
    meetings: dict[int, Meeting] = field(default_factory=dict)
    ordered: bool = False
    keeps_order: bool = False
    fence: tuple[int, int] = (0, -1)
    in_order: array[int] = field(default_factory=lambda: array("q"))
    _kind_of: dict[Kind, int] = field(default_factory=dict)
    _form_of: dict[tuple[object, ...], int] = field(default_factory=dict)
    _site_of: dict[tuple[str, int], int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.kind)

    def add(self, number: int, kind: int, touched: list[int], site: tuple[str, int]) -> None:
        """Append one instruction: what `kind_of` gave, and the storage (`touch`) and pattern (`Patterns.number_in`)
        of each operand."""
        place = self._site_of.get(site)
        if place is None:
            place = _number(self._site_of, self.sites, site)
        if self.ordered:
            self._note_order(number)
        self.kind.append(kind)
        self.site.append(place)
        self.number.append(number)
        self.touched.fromlist(touched)

    def _note_order(self, number: int) -> None:
        if self.keeps_order:
            self.in_order.append(len(self.kind))
        if self.fence[0]:
            self.edges.append((self.fence[0], number))

    def keep_order(self, does: bool) -> None:
        """Whether instructions keep their order from here on."""
        self.keeps_order = does
        self.ordered = does or self.fence[0] > 0

    def put_fence(self) -> None:
        """The instruction that was recorded last waits for all before it, and all that follow wait for it."""
        number, (_, before) = self.number[-1], self.fence
        self.edges += [(n, number) for n in self.number[before + 1 : -1]]
        self.fence, self.ordered = (number, len(self.number) - 1), True

    def kind_of(
        self,
        name: str,
        engine: str,
        reads: Sequence[AnyTile],
        indices: Sequence[AnyTile],
        writes: Sequence[AnyTile],
        flags: dict[str, object] | None,
    ) -> int:
        """Number of a kind of instruction. indices: tiles of run-time offsets, which are read as well."""
        found = _number(self._kind_of, self.kinds, _kind(name, engine, flags, (*reads, *indices), writes))
        if found == len(self.plain_reads):
            self.plain_reads.append(len(reads))
        return found

    def family_of(self, tile: AnyTile, s: AnyStorage) -> int:
        """Number of the family of the pattern of a view of a storage: of views that differ from it in the offset
        only."""
        return self.patterns.family((s.shape, s.dtype.itemsize, None, tile.shape, tile.strides, tile.dtype.itemsize))

    def touch(self, s: AnyStorage) -> None:
        """Note a storage that an instruction touches for the first time."""
        key = s.layout, s.dtype.name, s.site, s.name, s.address, s.owner is None
        place = self._form_of.get(key)
        if place is None:
            place = self._form_of[key] = self.storages.form_of(s.form())
        self.storages.put(s.number, place)
        s.noted_by = self

    @property
    def records(self) -> Sequence[InstructionRecord]:
        """The rows as `InstructionRecord`s, made on demand."""
        return list(self._rows())

    def _rows(self) -> Iterator[InstructionRecord]:
        at = 0
        for i, k in enumerate(self.kind):
            kind = self.kinds[k]
            accesses = []
            for op in (*kind.reads, *kind.writes):
                number, pattern = self.touched[at], self.touched[at + 1]
                _, _, offset, shape, strides, itemsize = self.patterns[pattern]
                accesses.append(AccessRecord(number, op.space, offset or 0, shape, strides, itemsize, op.dtype))
                at += 2
            n = len(kind.reads)
            file, line = self.sites[self.site[i]]
            yield InstructionRecord(
                self.number[i],
                kind.name,
                kind.engine,
                tuple(accesses[:n]),
                tuple(accesses[n:]),
                dict(kind.flags) or None,
                file,
                line,
            )


def _operand(tile: AnyTile, is_dma: bool) -> Operand:
    space = tile.space
    start = tile.start_partition if is_dma and space != "H" else 0
    dynamic = tile.dynamic.kind if tile.dynamic is not None else ""
    return Operand(space, tile.shape, tile.strides, tile.dtype.itemsize, tile.dtype.name, start, dynamic)


def _kind(
    name: str, engine: str, flags: dict[str, object] | None, reads: Sequence[AnyTile], writes: Sequence[AnyTile]
) -> Kind:
    is_dma = engine == "dma"
    operands = (tuple(_operand(t, is_dma) for t in tiles) for tiles in (reads, writes))
    return Kind(name, engine, tuple((flags or {}).items()), *operands)
