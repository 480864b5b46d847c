"""How an instruction is issued: checked against its row of the table, and recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mowich.neuroncore import core as machine
from mowich.neuroncore.access import keep_access, storage_of, tile_elements
from mowich.neuroncore.boxes import merged
from mowich.neuroncore.core import Core, Limits, fail
from mowich.neuroncore.core import Named as Named
from mowich.neuroncore.instructions.table import TABLE, InstructionRow
from mowich.neuroncore.memory import ALL, SPACE_NAME, Storage
from mowich.neuroncore.trace import ViewAccess, ViewForm
from mowich.neuroncore.views import Tile

TAKES_WIDE = ("scalar_load", "scalar_store", "memset")
"""Instructions beside DMAs that take a format of 64 bits: one element of it."""
Rules = Callable[[str, Sequence[Named], Sequence[Named], Mapping[str, object]], None]
"""Raises where the operands of an instruction (its name, what it writes and reads, its flags) do not go together."""


def issue(
    name: str,
    engine: str,
    writes: Sequence[Named],
    reads: Sequence[Named],
    flags: dict[str, Any] | None = None,
    rules: Rules | None = None,
) -> bool:
    """Check an instruction against its row and record it. engine: "" lets the row choose; rules: of its
    operands together. False: do not compute.

    The checks look at the form of each access: memory, shapes, strides, format, first partition; the rules at forms and
    flags. An instruction on forms that it was issued on before has passed them.
    """
    core = machine.running() or machine.active()
    if core.waiting is not None and name != "nc_matmul":
        core.waiting.compute()
    core.clock += 1
    operands: Sequence[Named] = (*reads, *writes)
    indices: Sequence[Named] = ()
    row = TABLE[name]
    trace = core.trace
    is_dma = row.engines[0] == "dma"
    is_whole = False
    while not is_whole:  # again where a view has an offset that is read at run time
        key: list[Any] = [name, engine, len(reads), rules is None]
        touched: list[int] = []
        storages: list[Storage] = []
        all_fit = is_whole = True
        for operand, tile in operands:
            if type(tile) is not Tile:
                _check(core, row, engine, writes, reads)
            if tile.dynamic is not None and not indices:
                indices = _indices(reads, writes)
                if indices:
                    operands, is_whole = (*reads, *indices, *writes), False
                    break
            s = storage_of(tile)
            access = tile.access
            if access is None or s.core is not core:
                access = _access(core, tile, s)
            pattern, form, fits = access
            if not fits:
                all_fit = False
            key.append(operand)
            key.append(form)
            touched.append(s.number)
            touched.append(pattern)
            storages.append(s)
            if s.noted_by is not trace and trace is not None:
                trace.touch(s)
    if is_dma and reads and writes and storages[0].dtype is not storages[-len(writes)].dtype:
        flags = {**(flags or {}), "cast": True}
    if flags:
        key += flags.items()
    known = tuple(key)
    kind = core.known.get(known)
    if kind is None:
        kind = _new_kind(core, name, engine, writes, reads, indices, flags, known, rules)
    if is_dma and core.programs == 2 and core.group is not None and writes and storages[-len(writes)].space == "H":
        base = core.scratch["base"]
        core.group.step(base + core.program, base + 1 - core.program)
    if trace is not None:
        trace.add(core.clock, kind, touched, machine.site(core))
        if not core.values:  # when tiles live follows from the trace (`placement.live`)
            for s in storages[len(storages) - len(writes) :]:
                if not all_fit or (s._bytes is not None and s.is_cut_off):
                    _check_fit(core, writes, storages)
                s.state = ALL
                s.is_made = True
            return False
    _use(core, is_dma, storages, len(reads), len(storages) - len(writes))
    if core.values:
        if core.watcher is not None:
            core.watcher.issued(core, name, reads, writes)
        return True
    for (_, tile), s in zip(writes, storages[-len(writes) :], strict=False):
        if tile.dynamic is None:
            tile_elements(tile)
        s.record.first = core.clock if s.record.first < 0 else s.record.first
        s.state = ALL
    return False


def _new_kind(
    core: Core,
    name: str,
    engine: str,
    writes: Sequence[Named],
    reads: Sequence[Named],
    indices: Sequence[Named],
    flags: dict[str, object] | None,
    known: tuple[object, ...],
    rules: Rules | None,
) -> int:
    """Check an instruction on forms that it was not issued on before, and give it a number."""
    row = TABLE[name]
    lasts = _check(core, row, engine, writes, reads)
    if rules is not None:
        rules(name, writes, reads, flags or {})
    kind = -1
    if core.trace is not None:
        read, index, written = ([t for _, t in named] for named in (reads, indices, writes))
        kind = core.trace.kind_of(name, engine or row.engines[0], read, index, written, flags)
    if lasts:
        core.known[known] = kind
    return kind


def _check_fit(core: Core, writes: Sequence[Named], storages: Sequence[Storage]) -> None:
    """Raise where an instruction writes outside an allocation. storages: of all operands, those that it writes last."""
    for (_, tile), s in zip(writes, storages[len(storages) - len(writes) :], strict=True):
        if tile.dynamic is None and (s.is_cut_off or not _access(core, tile, s).fits):
            raise tile.outside()


def _indices(*operands: Sequence[Named]) -> list[Named]:
    """The tiles that hold the run-time offsets of views: they are read as well."""
    dynamic = [t.dynamic for named in operands for _, t in named if t.dynamic is not None]
    return [("index", d.index) for d in dynamic if type(d.index) is Tile]


def _access(core: Core, tile: Tile, s: Storage) -> ViewAccess:
    """What an access comes to. The core keeps it for all views that are alike, and a tile of the core for itself."""
    if s.core is not core and "ended" in s.core.scratch:
        raise fail(
            "a tensor that the body of a loop on the device allocated is used outside of it",
            tile=tile,
            given=f"the loop of {s.core.scratch['ended']}",
            fix="allocate it before the loop",
        )
    dynamic = "" if tile.dynamic is None else tile.dynamic.kind
    key = (s.layout, tile.offset, tile.shape, tile.strides, tile.dtype.name, dynamic)
    found = core.accesses.get(key)
    if found is None:
        found = core.accesses[key] = _new_access(core, tile, s, dynamic)
    if s.core is core and not core.is_sampling:
        keep_access(tile, found)
    return found


def _new_access(core: Core, tile: Tile, s: Storage, dynamic: str) -> ViewAccess:
    """What an access comes to that was not met before."""
    trace, start = core.trace, tile.start_partition if tile.on_chip else 0
    key = (s.layout, start, tile.shape, tile.strides, tile.dtype.name, dynamic)
    form = core.forms.get(key)
    if form is None:
        family = 0 if trace is None else trace.family_of(tile, s)
        form = core.forms[key] = ViewForm(len(core.forms), family)
    offset = tile.offset if tile.dynamic is None else None
    pattern = 0 if trace is None else trace.patterns.number_in(form.family, offset)
    return ViewAccess(pattern, form.number, dynamic != "" or tile.fits())


def _check(core: Core, row: InstructionRow, engine: str, writes: Sequence[Named], reads: Sequence[Named]) -> bool:
    """Raise where an instruction breaks its row. True: operands of the same forms would pass as well."""
    name, generation = row.name, core.limits.generation
    if row.since > generation:
        raise fail(
            f"{name} needs NeuronCore-v{row.since}",
            given=f"target v{generation}",
            fix=f"run with target='{ {3: 'trn2', 4: 'trn3'}[row.since] }'",
        )
    if engine and engine not in row.engines:
        raise fail(
            f"{name} does not run on the {engine} engine",
            allowed=", ".join(row.engines),
            fix=f"leave engine out, or use the {row.engines[0]} engine",
        )
    if row.engine_since.get(engine, 0) > generation:
        raise fail(
            f"{name} on the {engine} engine needs NeuronCore-v{row.engine_since[engine]}",
            given=f"target v{generation}",
            fix=f"use the {' or '.join(e for e in row.engines if e not in row.engine_since)} engine",
        )
    is_dma = row.engines[0] == "dma"
    lasts = True
    for operand, tile in (*writes, *reads):
        if type(tile) is not Tile:
            fix = "its .data, or that of a part of it" if hasattr(type(tile), "is_data_representable") else None
            raise fail(f"{name}: {operand} must be a tile", given=type(tile).__name__, fix=fix)
        if not tile.size:
            raise fail(
                f"{name}: {operand} is empty", tile=tile, fix="leave the instruction out where there is nothing to do"
            )
        if tile.dtype.itemsize > 4 and not is_dma and (name not in TAKES_WIDE or tile.size > 1):
            raise fail(
                f"{name}: {operand} has a format of 64 bits, which no engine computes in",
                tile=tile,
                fix="nisa.scalar_load reads one element, dma_copy moves more",
            )
        space = storage_of(tile).space
        allowed = row.spaces.get(operand) or ("SH" if is_dma else "SP")
        if space not in allowed:
            raise _wrong_memory(row, operand, tile, allowed)
        if row.dtypes and operand in row.dtypes and tile.dtype.name not in row.dtypes[operand]:
            raise fail(
                f"{name}: {operand} has a format that the instruction does not take",
                tile=tile,
                given=tile.dtype,
                allowed=", ".join(row.dtypes[operand]),
                fix="copy it to a tile of one of these with tensor_copy, or view() its bytes",
            )
        if space == "H":
            continue
        if tile.shape[0] > core.limits.partitions:
            raise fail(
                f"{name}: {operand} spans {tile.shape[0]} partitions",
                tile=tile,
                allowed=f"at most {core.limits.partitions}",
            )
        if engine == "gpsimd" and space == "P":
            raise fail(
                f"{name}: the GpSimd engine cannot reach PSUM",
                tile=tile,
                fix="copy to SBUF first, or use the vector or scalar engine",
            )
        if not is_dma:
            lasts &= _check_pattern(name, operand, tile, core.limits)
            if not operand.endswith("_scale"):
                _check_start(name, operand, tile, core.limits.quadrant)
    return lasts


def _use(core: Core, is_dma: bool, storages: Sequence[Storage], reads: int, before_writes: int) -> None:
    """Note in storages that an instruction uses them: when, that it made what it writes, and whether that rests on an
    argument. It reads the first `reads`, as run-time indices those up to `before_writes`, and writes the rest. A tile
    that only loads from HBM have written lives from its first read: the compiler may delay the loads until then."""
    clock, loads, is_fed = core.clock, is_dma, False
    for s in storages[:reads]:
        if s.is_fed:
            is_fed = True
        if s.space != "H":
            loads = False
            record = s._record or s.record
            record.last = clock
            if record.only_loaded:
                record.first, record.only_loaded = clock, False
    if reads < before_writes:
        for s in storages[reads:before_writes]:
            is_fed |= s.is_fed
            s.record.last = clock
    for s in storages[before_writes:]:
        s.is_made = True
        if is_fed:
            s.is_fed = True
        if s.space != "H":
            record = s._record or s.record
            record.last = clock
            if not loads:
                record.only_loaded = False
            elif record.first < 0 and record.address is None:
                record.only_loaded = True


def _wrong_memory(row: InstructionRow, operand: str, tile: Tile, allowed: str) -> Exception:
    names = " or ".join(SPACE_NAME[s] for s in allowed)
    remedy = {
        "H": "load it to SBUF with dma_copy first",
        "P": "copy it to SBUF with tensor_copy first",
        "S": "allocate it with buffer=nl.psum" if allowed == "P" else "put it in " + names,
    }[storage_of(tile).space]
    return fail(
        f"{row.name}: {operand} is in {SPACE_NAME[storage_of(tile).space]}, must be in {names}", tile=tile, fix=remedy
    )


def _check_start(name: str, operand: str, tile: Tile, quadrant: int) -> None:
    start = tile.start_partition
    if start == 0:
        return
    count, step = tile.shape[0], quadrant
    while step < count:
        step *= 2
    if start % step or start + count > storage_of(tile).core.limits.partitions:
        legal = range(0, storage_of(tile).core.limits.partitions - count + 1, step)
        raise fail(
            f"{name}: {operand} of {count} partitions starts at partition {start}",
            tile=tile,
            allowed=f"start at {', '.join(map(str, legal))}",
            fix=(
                f"engines start at quadrants of {quadrant} partitions; move the rows with dma_copy or nc_stream_shuffle"
            ),
        )


def _check_pattern(name: str, operand: str, tile: Tile, limits: Limits) -> bool:
    """What an engine can walk: partitions that follow one another, and few long axes in each. False: warned, once per
    line of the kernel."""
    fits = True
    s = storage_of(tile)
    if tile.shape[0] > 1 and tile.strides[0] * tile.dtype.itemsize != s.row_B:
        raise fail(
            f"{name}: the partitions of {operand} do not follow one another",
            tile=tile,
            given=f"partition stride {tile.strides[0]} elements, a partition has {tile.row_elements}",
            fix="an engine takes consecutive partitions: gather them with dma_copy first",
        )
    if len(tile.shape) > limits.max_dims:
        axes = len(merged(tile.shape[1:], tile.strides[1:]))
        if axes >= limits.max_dims:
            storage_of(tile).core.warn(
                "dims",
                f"{name}: {operand} has {axes} dimensions beside the partition, an access pattern"
                f" {limits.max_dims - 1}: {tile.describe()}; the compiler makes several instructions of this one",
            )
            fits = False
    if tile.size > limits.max_count and max(tile.shape) > limits.max_count:
        raise fail(
            f"{name}: {operand} has an axis of {max(tile.shape):,} elements",
            tile=tile,
            allowed=f"at most {limits.max_count:,}",
            fix="split the axis: an instruction counts its elements in 16 bits",
        )
    return fits
