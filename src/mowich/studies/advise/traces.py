"""A recorded trace with one change: what an edit of the kernel would have recorded, as far as the clock needs it.

Instructions keep their places. A change that cannot be made (the engine cannot do it, a tile is used between, the
number is not known) gives None. Fewer and other instructions follow from boxes and uses, as the compiler's own
rewritings do (`clock.lower`); what they compute is not looked at.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from mowich.errors import UserError
from mowich.neuroncore.clock.costs import Costs
from mowich.neuroncore.clock.depend import Box, box, covers, meet
from mowich.neuroncore.clock.lower import Uses, uses_of, with_kinds
from mowich.neuroncore.instructions.rates import SHORT, Cost
from mowich.neuroncore.instructions.table import TABLE
from mowich.neuroncore.trace import Kind, Operand, Trace

KernelLine: TypeAlias = tuple[str, int]
"""(File, line) that an instruction comes from."""
MERGED_COUNTS = (2, 4, 8)
"""How many DMAs become one."""
SHARED_COUNTS = (2, 4)
"""How many turns of a loop share a load."""
_ELEMENTWISE = ("vector", "scalar", "gpsimd")
_NEAR = 256
"""Instructions between two that become one, among which a use of their tiles is looked for."""


class EditCosts(Costs):
    """Costs that know of instructions which no table has: DMAs of several tiles."""

    def __init__(self, like: Costs) -> None:
        super().__init__(like.generation, like.facts)
        self._numbers, self._found = like._numbers, dict(like._found)

    def entered(self, kind: Kind, cost: Cost) -> None:
        """Note what a kind of instruction costs."""
        self._found[kind, 1] = cost


def places_of(trace: Trace) -> dict[tuple[KernelLine, str], list[int]]:
    """(KernelLine, name of the instruction) -> kinds of instructions there."""
    found: dict[tuple[KernelLine, str], list[int]] = {}
    if len(trace):
        pairs = np.unique(np.stack([np.array(trace.site, np.int64), np.array(trace.kind, np.int64)], 1), axis=0)
        for site, kind in pairs.tolist():
            found.setdefault((trace.sites[site], trace.kinds[kind].name), []).append(kind)
    return found


def remapped(
    trace: Trace, places: Iterable[tuple[KernelLine, str]], change: Callable[[Kind], Kind | None]
) -> Trace | None:
    """A trace whose instructions of some places are of other kinds. change: gives the other kind, None: it cannot be.
    None where it can be nowhere, or not everywhere."""
    wanted, known = set(places), places_of(trace)
    kinds, kind, site = list(trace.kinds), np.array(trace.kind, np.int64), np.array(trace.site, np.int64)
    made: dict[int, int] = {}
    for place in wanted:
        for k in known.get(place, ()):
            if k not in made:
                other = change(trace.kinds[k])
                if other is None:
                    return None
                made[k] = len(kinds)
                kinds.append(other)
            mine = (kind == k) & np.isin(site, [n for n, s in enumerate(trace.sites) if s == place[0]])
            kind[mine] = made[k]
    if not made or all(kinds[a] == kinds[b] for a, b in made.items()):
        return None
    out = with_kinds(trace, kinds)
    out.kind = array("i", kind.astype(np.int32).tobytes())
    return out


def on_engine(kind: Kind, engine: str, generation: int) -> Kind | None:
    """An instruction on another engine; None where that cannot run it."""
    row = TABLE[kind.name]
    if engine not in row.engines or row.engine_since.get(engine, 0) > generation:
        return None
    if engine == "gpsimd" and any(o.space == "P" for o in (*kind.reads, *kind.writes)):
        return None
    if kind.name == "nc_transpose" and engine != kind.engine:
        return None  # where the result lies, and its size, follow from the engine
    return kind._replace(engine=engine, flags=tuple(f for f in kind.flags if f[0] not in ("free", "assigned")))


def with_flag(kind: Kind, name: str, value: object) -> Kind:
    """An instruction with a flag set."""
    return kind._replace(flags=(*(f for f in kind.flags if f[0] != name), (name, value)))


def is_dynamic(kind: Kind, *how: str) -> bool:
    """Whether an address of an instruction is known at run time only. how: "scalar" or "vector"; any by default."""
    return any(o.dynamic in how if how else o.dynamic for o in (*kind.reads, *kind.writes))


def in_bf16(kind: Kind, costs: EditCosts, products: int = 1) -> Kind | None:
    """A product in float32 with operands of 16 bits, or as several of these. costs: gets the cost of several."""
    if kind.name != "nc_matmul" or not all(o.dtype == "float32" for o in kind.reads[:2]):
        return None
    reads = [o._replace(dtype=SHORT[0], itemsize=2) if o.dtype == "float32" else o for o in kind.reads]
    made = kind._replace(reads=tuple(reads))
    if products == 1:
        return made
    several, one = with_flag(made, "products", products), costs.of(made)
    parts = {name: products * part for name, part in one.parts.items()}
    costs.entered(several, replace(one, occupancy=products * one.occupancy, load=products * one.load, parts=parts))
    return several


# instructions fewer
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class ChangedTrace:
    """A trace that is being changed. before, after: of each operand, the one of the same storage that comes before and
    after it, -1: none; kind: of each instruction; rows: instruction -> (storage, pattern) of its operands, of those
    that have others; number: storage of each operand; gone: instructions; costs: of kinds that the table does not
    have."""

    trace: Trace
    uses: Uses
    before: np.ndarray[tuple[int], np.dtype[np.int64]]
    after: np.ndarray[tuple[int], np.dtype[np.int64]]
    kinds: list[Kind]
    kind: np.ndarray[tuple[int], np.dtype[np.int64]]
    number: np.ndarray[tuple[int], np.dtype[np.int64]]
    rows: dict[int, list[tuple[int, int]]]
    gone: set[int]
    known: dict[Kind, int]
    slots: list[int]
    boxes: dict[int, Box]

    @classmethod
    def of(cls, trace: Trace) -> ChangedTrace:
        """One that is not changed yet."""
        uses = uses_of(trace)
        order = np.argsort(uses.number, kind="stable")
        before, after = np.full(len(order), -1), np.full(len(order), -1)
        same = uses.number[order[1:]] == uses.number[order[:-1]]
        before[order[1:]] = np.where(same, order[:-1], -1)
        after[order[:-1]] = np.where(same, order[1:], -1)
        kind = uses.kind.copy()
        return cls(trace, uses, before, after, list(trace.kinds), kind, uses.number.copy(), {}, set(), {}, [], {})

    def add(self, kind: Kind) -> int:
        """The number of a new kind."""
        if kind not in self.known:
            self.known[kind] = len(self.kinds)
            self.kinds.append(kind)
        return self.known[kind]

    def operands(self, i: int) -> list[int]:
        """Places of the operands of an instruction."""
        return [*range(int(self.uses.start[i]), int(self.uses.start[i + 1]))]

    def row(self, i: int) -> list[tuple[int, int]]:
        """(Storage, pattern) of the operands of an instruction as it is now."""
        if i in self.rows:
            return self.rows[i]
        return [(int(self.number[o]), int(self.uses.pattern[o])) for o in self.operands(i)]

    def user(self, operand: int) -> int:
        """The instruction of an operand; -1 of none."""
        return int(self.uses.whose[operand]) if operand >= 0 else -1

    def box(self, operand: int) -> Box:
        """The bytes of an operand."""
        pattern = int(self.uses.pattern[operand])
        found = self.boxes.get(pattern)
        if found is None:
            found = self.boxes[pattern] = box(self.trace.patterns[pattern])
        return found

    def meeting(self, operand: int) -> int | None:
        """The next operand of another instruction that shares bytes with one; -1: there is none; None: it is far."""
        mine, me, at = self.box(operand), self.user(operand), int(self.after[operand])
        for _ in range(_NEAR):
            if at < 0 or (self.user(at) != me and meet(mine, self.box(at))):
                return at
            at = int(self.after[at])
        return None

    def readers(self, operand: int) -> list[int] | None:
        """The operands that read what one writes, up to the next that writes there; None: one is far, or reads and
        writes at once."""
        found: list[int] = []
        mine, me, at = self.box(operand), self.user(operand), int(self.after[operand])
        for _ in range(_NEAR):
            if at < 0:
                return found
            if self.user(at) != me and meet(mine, self.box(at)):
                if self.uses.written[at]:
                    return None if found and self.user(found[-1]) == self.user(at) else found
                found.append(at)
            at = int(self.after[at])
        return None

    def meets_earlier(self, operand: int, since: int) -> bool:
        """Whether an instruction from `since` on, before that of an operand, shares bytes with it."""
        at = int(self.before[operand])
        while at >= 0 and self.user(at) >= since:
            if meet(self.box(operand), self.box(at)):
                return True
            at = int(self.before[at])
        return False

    def slot(self, like: int) -> int:
        """The number of a new storage like another one."""
        self.slots.append(like)
        return len(self.trace.storages.form) + len(self.slots) - 1

    def done(self) -> Trace | None:
        """The trace, changed; None where nothing is."""
        if not (self.gone or self.rows):
            return None
        trace, uses = self.trace, self.uses
        out, kept = with_kinds(trace, self.kinds), np.ones(len(self.kind), np.bool_)
        if self.slots:
            out.storages = trace.storages.copy()
            out.storages.more(np.array(self.slots, np.int64))
        kept[[*self.gone]] = False
        counts = np.diff(uses.start)
        for i, row in self.rows.items():
            counts[i] = len(row)
        counts[~kept] = 0
        start = np.concatenate([[0], np.cumsum(counts)])
        touched = np.zeros((int(start[-1]), 2), np.int64)
        plain = kept.copy()
        plain[[*self.rows]] = False
        mine = plain[uses.whose]
        place = start[uses.whose] + np.arange(len(uses.whose)) - uses.start[uses.whose]
        touched[place[mine], 0], touched[place[mine], 1] = self.number[mine], uses.pattern[mine]
        for i, row in self.rows.items():
            if kept[i]:
                touched[start[i] : start[i + 1]] = row
        out.kind = array("i", self.kind[kept].astype(np.int32).tobytes())
        out.site = array("i", np.array(trace.site, np.int32)[kept].tobytes())
        out.number = array("q", np.array(trace.number, np.int64)[kept].tobytes())
        out.touched = array("q", touched.tobytes())
        at = np.cumsum(kept) - 1
        out.in_order = array(trace.in_order.typecode, [int(at[i]) for i in trace.in_order if kept[i]])
        out.meetings = {int(at[i]): meeting for i, meeting in trace.meetings.items() if kept[i]}
        return out


def _at(trace: Trace, site: KernelLine) -> list[int]:
    """Instructions of a line, in program order."""
    numbers = [n for n, s in enumerate(trace.sites) if s == site]
    return np.flatnonzero(np.isin(np.array(trace.site, np.int64), numbers)).tolist() if numbers else []


def _memory(kind: Kind) -> int | None:
    """Which operand of a DMA between HBM and SBUF lies in HBM: 0 of a load, 1 of a store. A load may have an offset
    that is known at run time only."""
    if kind.name != "dma_copy" or len(kind.writes) != 1 or is_dynamic(kind, "vector", "columns"):
        return None
    spaces = kind.reads[0].space + kind.writes[0].space
    if len(kind.reads) > 1 and (spaces != "HS" or not kind.reads[0].dynamic):
        return None
    return {"HS": 0, "SH": 1}.get(spaces)


def merged_dmas(trace: Trace, site: KernelLine, count: int, costs: EditCosts) -> Trace | None:
    """A trace in which `count` DMAs of a line that follow one another are one, of as many tiles: a tile that is loaded
    again and again has as many places. costs: gets the cost of the larger DMAs."""
    c = ChangedTrace.of(trace)
    group: list[int] = []
    step = None
    slots: dict[tuple[int, int], int] = {}
    for i in _at(trace, site):
        same = bool(group) and c.kind[i] == c.kind[group[-1]]
        now = _step(c, group[-1], i, count) if same else None
        if not same or now is None or (len(group) > 1 and now != step):
            group = [i] if _memory(trace.kinds[trace.kind[i]]) is not None else []
            continue
        group, step = [*group, i], now
        if len(group) == count:
            _merge(c, group, now, costs, slots)
            group = []
    return c.done()


def _step(c: ChangedTrace, a: int, b: int, count: int) -> int | None:
    """By how many elements the side in HBM of a DMA lies behind that of another one; None: it does not. Of offsets that
    are known at run time only: as tiles would lie beside one another, in a row where it is long enough."""
    kind = c.trace.kinds[c.trace.kind[a]]
    side = _memory(kind)
    if side is None:
        return None
    x, y = (c.operands(i)[side] for i in (a, b))
    if c.uses.number[x] != c.uses.number[y]:
        return None
    memory = (kind.reads if side == 0 else kind.writes)[0]
    if memory.dynamic:
        same = [c.uses.number[o] for o in c.operands(a)[1:-1]] == [c.uses.number[o] for o in c.operands(b)[1:-1]]
        row = int(np.prod(memory.shape[1:]))
        beside = row if memory.strides[0] >= count * row else memory.shape[0] * memory.strides[0]
        return beside if same else None
    found = c.trace.patterns.steps([int(c.uses.pattern[x])], [int(c.uses.pattern[y])])
    return found[0] if found is not None and found[0] > 0 else None


def _merge(
    c: ChangedTrace, group: Sequence[int], step: int, costs: EditCosts, slots: dict[tuple[int, int], int]
) -> None:
    """Make one DMA of some, where nothing writes between what it reads or reads between what it writes. slots: as of
    `_places`."""
    kind = c.trace.kinds[c.trace.kind[group[0]]]
    side = _memory(kind)
    assert side is not None
    memory, first, last = c.operands(group[0])[side], group[0], group[-1]
    if (c.uses.reads if side == 1 else c.uses.writes)[c.uses.number[memory]]:
        return
    moved = _places(c, group, side, slots)
    if moved is None:
        return
    for operand, place in moved.items():
        c.number[operand] = place
        if c.user(operand) in c.rows:
            return
    wide = tuple(_stacked(o, len(group), step if o.space == "H" else None) for o in (kind.reads[0], kind.writes[0]))
    flags = (*kind.flags, ("merged", len(group)))
    made = Kind(kind.name, kind.engine, flags, kind.reads * len(group), kind.writes * len(group))
    costs.entered(made, costs.of(kind._replace(reads=(wide[0], *kind.reads[1:]), writes=wide[1:])))
    stays = first if side == 0 else last
    rows, reads = [c.row(i) for i in group], len(kind.reads)
    c.rows[stays] = [pair for row in rows for pair in row[:reads]] + [pair for row in rows for pair in row[reads:]]
    c.kind[stays] = c.add(made)
    c.gone |= {*group} - {stays}


def _places(
    c: ChangedTrace, group: Sequence[int], side: int, slots: dict[tuple[int, int], int]
) -> dict[int, int] | None:
    """Operand -> its storage, of tiles that DMAs load again and again, where these become one; None: they cannot.
    slots: (tile, which of the group) -> the storage that stands for this place of such a tile."""
    first, last = group[0], group[-1]
    moved: dict[int, int] = {}
    tiles: list[int] = []
    for n, i in enumerate(group):
        tile = c.operands(i)[-1 if side == 0 else 0]
        number = int(c.uses.number[tile])
        if side == 1:
            following = c.meeting(tile)
            if following is None or (-1 < c.user(following) < last and c.user(following) not in group):
                return None
        elif c.meets_earlier(tile, first):
            readers = c.readers(tile) if number in tiles else None
            if readers is None:
                return None
            place = slots.get((number, n))
            if place is None:
                place = slots[number, n] = c.slot(number)
            moved |= dict.fromkeys([tile, *readers], place)
        tiles.append(number)
    return moved


def _stacked(o: Operand, count: int, step: int | None) -> Operand:
    """An operand of several tiles: in HBM `step` elements apart, on chip behind one another in each partition."""
    inner = o.strides[0] if step is None else step
    pitch = o.strides[0] * count if step is None else o.strides[0]
    return o._replace(shape=(o.shape[0], count, *o.shape[1:]), strides=(pitch, inner, *o.strides[1:]))


def loaded_once(trace: Trace, site: KernelLine) -> Trace | None:
    """A trace in which a line does not load what is in SBUF already: the tile that holds it stays there."""
    c = ChangedTrace.of(trace)
    root: dict[int, int] = {}
    held: dict[tuple[int, ...], int] = {}
    loads = [k for k, kind in enumerate(trace.kinds) if _memory(kind) == 0 and not is_dynamic(kind)]
    mine = set(_at(trace, site))
    for i in np.flatnonzero(np.isin(c.kind, loads)).tolist():
        source, target = c.operands(i)
        memory, tile = int(c.uses.number[source]), int(c.uses.number[target])
        if c.uses.writes[memory] or c.uses.writes[tile] != 1 or trace.storages[tile].address is not None:
            continue
        form = trace.storages.form[tile]
        key = (memory, int(c.uses.pattern[source]), int(c.kind[i]), int(c.uses.pattern[target]), form)
        if key in held and i in mine:
            root[tile] = held[key]
            c.gone.add(i)
        else:
            held.setdefault(key, tile)
    if root:
        moved = np.arange(int(c.number.max()) + 1)
        moved[[*root]] = [*root.values()]
        c.number = moved[c.number]
    return c.done()


def shared_loads(trace: Trace, site: KernelLine, share: int, costs: EditCosts) -> Trace | None:
    """A trace in which a line that loads the same bytes again and again loads them once in `share` times: that many
    turns of the loop around it use the tile while it is there. costs: gets the loads that are left out, at no cost."""
    kind, kinds = np.array(trace.kind, np.int64), list(trace.kinds)
    c, seen, none = ChangedTrace.of(trace), defaultdict[tuple[int, ...], int](int), dict[int, int]()
    for i in _at(trace, site):
        k = int(kind[i])
        if _memory(trace.kinds[k]) != 0 or is_dynamic(trace.kinds[k]):
            continue
        source = c.operands(i)[0]
        if c.uses.writes[c.uses.number[source]]:
            continue
        key = (int(c.uses.number[source]), int(c.uses.pattern[source]), k)
        if seen[key] % share:
            if k not in none:
                none[k] = len(kinds)
                kinds.append(with_flag(trace.kinds[k], "shared", share))
                costs.entered(kinds[-1], _no_transfer(costs.of(trace.kinds[k])))
            kind[i] = none[k]
        seen[key] += 1
    if not none:
        return None
    out = with_kinds(trace, kinds)
    out.kind = array("i", kind.astype(np.int32).tobytes())
    return out


def _no_transfer(cost: Cost) -> Cost:
    """The cost of a DMA that moves nothing."""
    return replace(
        cost,
        issue=0,
        first_byte=0,
        transfer=tuple(0 for _ in cost.transfer),
        latency=0,
        hbm_read_B=0,
        sbuf_B=0,
        descriptors=0,
        parts={},
        latency_parts={},
        lead_parts={},
    )


def without_zeros(trace: Trace, site: KernelLine) -> Trace | None:
    """A trace without those memsets of a line that write what an earlier one wrote, and nothing wrote since."""
    c = ChangedTrace.of(trace)
    for i in _at(trace, site):
        if trace.kinds[trace.kind[i]].name != "memset":
            continue
        (target,) = c.operands(i)
        mine, at = box(trace.patterns[int(c.uses.pattern[target])]), int(c.before[target])
        while at >= 0:
            j = c.user(at)
            if c.uses.written[at]:
                if c.kind[j] == c.kind[i] and c.uses.pattern[at] == c.uses.pattern[target]:
                    c.gone.add(i)
                    break
                if meet(box(trace.patterns[int(c.uses.pattern[at])]), mine):
                    break
            at = int(c.before[at])
    return c.done()


# two instructions as one
# ---------------------------------------------------------------------------------------------------------------------

FUSED: Mapping[tuple[str, str], str] = {
    ("activation", "tensor_reduce"): "activation_reduce",
    ("activation", "activation"): "activation",
    ("tensor_scalar", "activation"): "activation",
    ("tensor_scalar", "tensor_reduce"): "tensor_scalar_reduce",
    ("tensor_scalar", "tensor_scalar"): "tensor_scalar",
    ("tensor_scalar", "tensor_tensor"): "scalar_tensor_tensor",
    ("tensor_tensor", "tensor_scalar"): "scalar_tensor_tensor",
}
"""(Instruction, the one that reads what it writes) -> the instruction that does both. An instruction and a copy of what
it writes are that instruction, which writes where the copy does."""
_KEEPS = ("activation_reduce", "tensor_scalar_reduce")
"""Instructions that write what the first of the two wrote as well."""
_LINEAR = ("multiply", "add", "subtract")
_SAME = ("copy", "identity")


PairKey: TypeAlias = tuple[KernelLine, KernelLine]
"""(Line that writes a tile, line that reads it next)."""


def pairs_of(trace: Trace) -> dict[PairKey, list[tuple[int, int]]]:
    """The instructions of pairs of lines that may become one."""
    c = ChangedTrace.of(trace)
    found: dict[PairKey, list[tuple[int, int]]] = defaultdict(list)
    kinds = [k for k, kind in enumerate(trace.kinds) if kind.engine in _ELEMENTWISE and kind.name != "memset"]
    for i in np.flatnonzero(np.isin(c.kind, kinds)).tolist():
        one = trace.kinds[trace.kind[i]]
        target = c.operands(i)[len(one.reads)]
        operand = c.meeting(target)
        reader = -1 if operand is None else c.user(operand)
        if reader > i and _both(one, trace.kinds[trace.kind[reader]]):
            found[trace.sites[trace.site[i]], trace.sites[trace.site[reader]]].append((i, reader))
    return dict(found)


def _both(one: Kind, two: Kind) -> str:
    """The instruction that does what two do; "": there is none."""
    if two.name == "tensor_copy" and not is_dynamic(two) and not one.flag("broadcast"):
        able = "P" not in two.writes[0].space or one.engine != "gpsimd"
        able &= two.writes[0].dtype in TABLE[one.name].dtypes.get("dst", (two.writes[0].dtype,))
        return one.name if able and one.writes[0].shape == two.writes[0].shape and len(one.writes) == 1 else ""
    return FUSED.get((one.name, two.name), "")


def fused(trace: Trace, pairs: Sequence[tuple[int, int]], costs: Costs) -> tuple[Trace, str] | None:
    """A trace in which pairs of instructions are one each, and the name of that instruction. None where one pair
    cannot."""
    c = ChangedTrace.of(trace)
    name = ""
    for a, b in pairs:
        made = _fuse(c, a, b, costs)
        if not made:
            return None
        name = made
    out = c.done()
    return None if out is None else (out, name)


def _fuse(c: ChangedTrace, a: int, b: int, costs: Costs) -> str:
    """Make one instruction of two; its name, "" where that cannot be."""
    one, two = c.trace.kinds[c.trace.kind[a]], c.trace.kinds[c.trace.kind[b]]
    name, place = _both(one, two), _place_read(c, a, b)
    if not name or place is None or not _is_one_operation(name, one, two, place):
        return ""
    keeps = name in _KEEPS
    mine, theirs = c.operands(a), c.operands(b)
    if not keeps and c.readers(mine[len(one.reads)]) != [theirs[place]]:
        return ""
    if not _is_quiet(c, a, b, mine[: len(one.reads)] if not keeps else theirs[len(two.reads) :]):
        return ""
    rest = [n for n in range(len(two.reads)) if n != place]
    kind = _fused_kind(name, one, two, rest, keeps=keeps)
    if kind is None or not _is_able(kind, costs):
        return ""
    rows, others = c.row(a), c.row(b)
    stays, goes = (a, b) if keeps else (b, a)
    c.rows[stays] = [
        *rows[: len(one.reads)],
        *(others[n] for n in rest),
        *(rows[len(one.reads) :] if keeps else ()),
        *others[len(two.reads) :],
    ]
    c.kind[stays] = c.add(kind)
    c.gone.add(goes)
    return name


def _place_read(c: ChangedTrace, a: int, b: int) -> int | None:
    """Which operand of the second instruction is all that the first wrote; None where none or several are, or where
    one of the two has been changed before."""
    if {a, b} & (c.rows.keys() | c.gone):
        return None
    target = c.operands(a)[len(c.trace.kinds[c.trace.kind[a]].reads)]
    reads = c.operands(b)[: len(c.trace.kinds[c.trace.kind[b]].reads)]
    places = [n for n, o in enumerate(reads) if c.uses.number[o] == c.uses.number[target]]
    is_whole = len(places) == 1 and c.uses.pattern[reads[places[0]]] == c.uses.pattern[target]
    return places[0] if is_whole else None


def _is_one_operation(name: str, one: Kind, two: Kind, place: int) -> bool:
    """Whether one instruction can compute what two do. place: the operand of the second that the first wrote."""
    if two.name != "tensor_copy" and name == "activation" and not _is_one_function(one, two, place):
        return False
    if name == "scalar_tensor_tensor" and two.name == "tensor_scalar" and place != 0:
        return False
    return name not in _KEEPS or two.flag("op") in ("add", "maximum")


def _fused_kind(name: str, one: Kind, two: Kind, rest: Sequence[int], *, keeps: bool) -> Kind | None:
    """The kind of the instruction that does what two do; None where its engine cannot read PSUM. rest: operands of the
    second that the first did not write; keeps: it writes what the first wrote, too."""
    engine = one.engine if two.name == "tensor_copy" else TABLE[name].engines[0]
    if engine == "gpsimd" and "P" in [o.space for o in (*one.reads, *two.reads)]:
        return None
    reads = (*one.reads, *(two.reads[n] for n in rest))
    writes = (*(one.writes if keeps else ()), *two.writes)
    flags = one.flags if keeps or two.name == "tensor_copy" or two.flag("op") in _SAME else two.flags
    return Kind(name, engine, tuple(f for f in flags if f[0] not in ("free", "assigned")), reads, writes)


def _is_able(kind: Kind, costs: Costs) -> bool:
    """Whether there is an instruction of this kind."""
    try:
        costs.of(kind)
    except (UserError, IndexError, KeyError):
        return False
    return True


def _is_one_function(one: Kind, two: Kind, place: int) -> bool:
    """Whether a product, a sum or a copy becomes the scale or the bias of a function."""
    if place != 0 or len(two.reads) > 1:
        return False
    return one.flag("op") in (_SAME if one.name == "activation" else _LINEAR) or (
        one.name == "activation" and two.flag("op") in _SAME
    )


def _is_quiet(c: ChangedTrace, a: int, b: int, operands: Sequence[int]) -> bool:
    """Whether no instruction between two writes what the first reads (or touches what the second writes, where that
    comes earlier)."""
    if b - a > _NEAR:
        return False
    between = slice(int(c.uses.start[a + 1]), int(c.uses.start[b]))
    numbers = {int(c.uses.number[o]) for o in operands}
    touched = c.uses.number[between]
    is_reader = bool(len(operands)) and not c.uses.written[operands[0]]
    if is_reader:
        touched = touched[c.uses.written[between]]
    return not numbers & set(touched.tolist())


def without_copy(trace: Trace, site: KernelLine) -> Trace | None:
    """A trace without the copies of a line: what reads a copy reads what it was copied from. None where one of them is
    needed."""
    c = ChangedTrace.of(trace)
    changed: dict[int, dict[int, tuple[int, int]]] = defaultdict(dict)  # reader -> operand -> (copy, pattern)
    for i in _at(trace, site):
        kind = trace.kinds[trace.kind[i]]
        if not (kind.name == "tensor_copy" or (kind.name == "activation" and kind.flag("op") in _SAME)):
            continue
        if len(kind.reads) != 1 or len(kind.writes) != 1 or kind.flag("broadcast") or is_dynamic(kind):
            return None
        source, target = c.operands(i)
        readers = c.readers(target)
        if not readers or not _stays(c, source, c.user(readers[-1])):
            return None
        for at in readers:
            j = c.user(at)
            pattern = _seen_in_source(c, at, source, target)
            if pattern is None or not _may_read(trace.kinds[trace.kind[j]], kind):
                return None
            changed[j][at] = i, pattern
        c.gone.add(i)
    for j, mine in changed.items():
        if j in c.gone:
            return None
        kind, first = c.kinds[int(c.kind[j])], int(c.uses.start[j])
        reads, row = list(kind.reads), c.row(j)
        for operand, (i, pattern) in mine.items():
            n, of = operand - first, trace.kinds[trace.kind[i]].reads[0]
            reads[n] = reads[n]._replace(dtype=of.dtype, itemsize=of.itemsize, space=of.space)
            row[n] = c.row(i)[0][0], pattern
        c.rows[j], c.kind[j] = row, c.add(kind._replace(reads=tuple(reads)))
    return c.done()


def _seen_in_source(c: ChangedTrace, reader: int, source: int, target: int) -> int | None:
    """The pattern in the source of a copy that holds what an operand reads of the copy; None: it is not known."""
    patterns = c.trace.patterns
    if c.uses.pattern[reader] == c.uses.pattern[target]:
        return int(c.uses.pattern[source])
    of, to, view = (patterns[int(c.uses.pattern[o])] for o in (source, target, reader))
    if of[0] != to[0] or of[2:5] != to[2:5] or view[2] is None or not covers(c.box(target), c.box(reader)):
        return None
    shape, itemsize, _, _, _, size = of
    return patterns.number_in(patterns.family((shape, itemsize, None, view[3], view[4], size)), view[2])


def _may_read(reader: Kind, copy: Kind) -> bool:
    """Whether an instruction may read the source of a copy in its place."""
    source, target = copy.reads[0], copy.writes[0]
    if reader.engine == "dma" or (reader.engine in ("gpsimd", "tensor") and source.space == "P"):
        return False
    if reader.engine == "tensor" and source.dtype != target.dtype:
        return source.dtype != "float32" and target.dtype != "float32"
    return True


def _stays(c: ChangedTrace, source: int, last: int) -> bool:
    """Whether nothing writes to the storage of an operand up to an instruction."""
    at = int(c.after[source])
    while at >= 0 and c.user(at) <= last:
        if c.uses.written[at]:
            return False
        at = int(c.after[at])
    return True
