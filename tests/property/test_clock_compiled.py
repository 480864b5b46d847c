"""The compiled clock against the Python code, bit for bit: random traces, and kernels of the tests."""

from __future__ import annotations

import ctypes
import random
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mowich
import mowich.nki.collectives as ncc
import mowich.nki.isa as nisa
import mowich.nki.language as nl
from mowich.neuroncore import placement, profile
from mowich.neuroncore.clock import compiled, depend, events, latency, lower, places, program, schedule
from mowich.neuroncore.clock.buffers import BUFFER_POLICIES
from mowich.neuroncore.clock.costs import costs
from mowich.neuroncore.clock.records import ClockOptions, Program, Schedule
from mowich.neuroncore.core import Core, limits
from mowich.neuroncore.instructions import rates
from mowich.neuroncore.memory import Record
from mowich.neuroncore.trace import Allocation, Kind, Meeting, Pattern, Patterns, Trace

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import compiled_code

pytestmark = pytest.mark.skipif(not compiled_code.available(compiled.CLOCK), reason="no C compiler")
TARGETS = {2: "trn1", 3: "trn2", 4: "trn3"}
SIZES = ((128, 512, 4), (128, 2048, 2), (64, 96, 4), (33, 640, 2), (128, 9000, 4), (1, 300, 4))
"""Partitions, elements in each, bytes of one."""
PSUM_SIZES = ((128, 512, 4), (128, 1024, 4), (64, 2048, 4), (32, 100, 4))
"""The second and the third take several banks."""


def every_kind(generation: int) -> Any:
    """A kernel with instructions of all engines, in all forms that have rules of their own."""

    def kernel(x: Any) -> Any:
        out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
        engines = (nisa.engine.vector, nisa.engine.scalar, nisa.engine.gpsimd)
        t, u, v = (nl.ndarray((128, 512), dtype=nl.bfloat16, buffer=nl.sbuf) for _ in range(3))
        acc = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.psum)
        how: list[dict[str, Any]] = [{"dge_mode": nisa.dge_mode.none}, {"dge_mode": nisa.dge_mode.swdge}]
        if generation > 2:
            how += [
                {"dge_mode": nisa.dge_mode.hwdge, "engine": e} for e in (None, nisa.engine.sync, nisa.engine.scalar)
            ]
        for mode in how:
            nisa.dma_copy(dst=t, src=x[0:128, 0:512], **mode)
            nisa.dma_copy(dst=out[0:128, 0:512], src=t, **mode)
        nisa.dma_copy(dst=t[:, 0:8], src=x[0:128, 0:8])
        nisa.dma_copy(dst=out[0:128, 0:512], src=x[0:128, 0:512])
        for n in (64, 512):
            nisa.nc_matmul(dst=acc[:, 0:n], stationary=t[:, 0:128], moving=u[:, 0:n])
        rows = limits(generation).tile_rows
        for row in range(0, 128, rows):
            nisa.nc_matmul(
                dst=acc[row : row + rows],
                stationary=t[row : row + rows, 0:rows],
                moving=u[row : row + rows],
                tile_position=(row, row),
                tile_size=(rows, rows),
            )
        for engine in engines:
            nisa.tensor_copy(dst=v, src=u, engine=engine)
            if engine != nisa.engine.gpsimd:
                nisa.tensor_copy(dst=v, src=acc, engine=engine)
        for function in (nl.exp, nl.tanh, nl.gelu):
            nisa.activation(v, function, u)
        for engine in (nisa.engine.vector, nisa.engine.gpsimd):
            nisa.memset(v, 0.0, engine=engine)
            nisa.tensor_scalar(dst=v, data=u, op0=nl.multiply, operand0=2.0, engine=engine)
            nisa.tensor_tensor(dst=v, data1=u, data2=t, op=nl.add, engine=engine)
        return out

    return kernel


def collective(x: Any) -> Any:
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    mine = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=mine, src=x)
    ncc.all_reduce([mine], [out], [[0, 1]], nl.add)
    return out


def barrier(x: Any) -> Any:
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    t = nl.load(x)
    nisa.core_barrier(t, (0, 1))
    nisa.dma_copy(dst=out, src=t)
    return out


@cache
def kinds(generation: int) -> tuple[list[Kind], list[Kind]]:
    """(Kinds of instructions; kinds at which cores meet) of a generation."""
    target = TARGETS[generation]
    x = np.zeros((128, 512), np.float32)

    def traced(kernel: Any, **how: Any) -> Trace:
        made = mowich.run_kernel(kernel, x, target=target, values=False, strict=False, **how)
        first = made[0] if isinstance(made, list) else made
        assert first.cores[0].trace is not None
        return first.cores[0].trace

    plain = traced(every_kind(generation)).kinds
    made = [traced(collective, ranks=2), *([traced(barrier, lnc=2)] if generation > 2 else [])]
    meeting = [t.kinds[t.kind[i]] for t in made for i in t.meetings]
    assert meeting
    return plain, meeting


def view(r: random.Random, a: Allocation) -> Pattern:
    """A view of an allocation: a box, with steps or backwards, of other bytes, not known, or no box at all."""
    *outer, inner = a.shape
    size, scale = (a.itemsize, 1) if r.random() < 0.8 else (1, a.itemsize)
    pitch, offset = inner * scale, 0
    counts: list[int] = []
    strides: list[int] = []
    for n in reversed(outer):
        step = r.choice((1, 1, 1, 2, 3)) if n > 3 else 1
        low = r.choice((0, r.randrange(n)))
        counts.insert(0, max(1, r.choice((1, (n - low) // step, 1 + (n - low - 1) // (2 * step)))))
        strides.insert(0, step * pitch)
        offset += low * pitch
        pitch *= n
    width = inner * scale
    low = r.choice((0, 0, width // 2, r.randrange(width)))
    step = r.choice((1, 1, 1, 1, 2))
    count = max(1, r.choice((1, (width - low) // step, (width - low) // (2 * step))))
    offset += low
    shape = r.random()
    if shape < 0.04 and count > 1:
        offset, step = offset + (count - 1) * step, -step
    elif shape < 0.08:
        counts, strides = [*counts, 2], [*strides, 0]
    elif shape < 0.12 and len(counts) and counts[-1] > 2:
        strides[-1] += 7
        counts[-1] //= 2
    return (a.shape, a.itemsize, None if shape > 0.97 else offset, (*counts, count), (*strides, step), size)


def random_trace(r: random.Random, generation: int, length: int, meetings: Sequence[tuple[str, Kind]] = ()) -> Trace:
    """Instructions of random kinds on random views of tiles that come and go."""
    plain, _ = kinds(generation)
    some = r.sample(plain, min(len(plain), r.randrange(3, 14)))
    some += r.sample([k for k in plain if k.engine == "dma"], r.randrange(1, 6))
    t = Trace()
    t.kinds = [*some, *{k: None for _, k in meetings}]
    room = limits(generation)
    numbers = iter(range(r.randrange(5), 1_000_000, r.choice((1, 2))))
    patterns: dict[Pattern, int] = {}
    forms = {space: r.sample(sizes, r.randrange(1, len(sizes))) for space, sizes in (("S", SIZES), ("P", PSUM_SIZES))}

    def allocate(space: str) -> int:
        number = next(numbers)
        if space == "H":
            shape: tuple[int, ...] = r.choice(((256, 1024), (4, 128, 512), (6000,), (2, 3, 64, 64)))
            made = Allocation(number, "H", 1, 0, shape, 4, None, "", "kernel.py", 1, r.random() < 0.5)
        else:
            parts, columns, size = r.choice(forms[space])
            byte = 64 * r.randrange(8) if r.random() < 0.2 else None
            address = None if byte is None else (32 * r.randrange(1 + (128 - parts) // 32), byte)
            if space == "P" and address is not None:
                address = (address[0], room.psum_bank_B * r.randrange(2))
            made = Allocation(
                number,
                space,
                parts,
                columns * size,
                (parts, columns),
                size,
                address,
                "",
                "kernel.py",
                r.randrange(9),
                False,
            )
        t.storages[number] = made
        return number

    live: dict[str, list[int]] = {s: [allocate(s) for _ in range(3)] for s in "SPH"}
    favourite: dict[int, list[int]] = {}
    crowd = r.choice((4, 8, 40))

    def operand(space: str) -> tuple[int, int]:
        here = live[space]
        if space != "H" and r.random() < 0.25:
            here.append(allocate(space))
            if len(here) > crowd:
                here.pop(r.randrange(len(here)))
        number = r.choice(here)
        known = favourite.setdefault(number, [])
        if not known or (len(known) < 30 and r.random() < 0.3):
            known.append(patterns.setdefault(view(r, t.storages[number]), len(patterns)))
        return number, r.choice(known)

    at_meeting = dict(zip(sorted(r.sample(range(length), len(meetings))), meetings, strict=True))
    for i in range(length):
        k = t.kinds.index(at_meeting[i][1]) if i in at_meeting else r.randrange(len(some))
        for o in (*t.kinds[k].reads, *t.kinds[k].writes):
            t.touched.extend(operand(o.space))
        if i in at_meeting:
            t.meetings[i] = Meeting(at_meeting[i][0], (0, 1))
        if r.random() < 0.03:
            t.in_order.append(i)
        t.kind.append(k)
        t.site.append(r.randrange(3))
        t.number.append(i + 1)
    t.sites = [("kernel.py", 3), ("kernel.py", 8), ("other.py", 1)]
    t.patterns = Patterns(patterns)
    t.edges = [
        (a + 1, b + 1)
        for a, b in (sorted(r.sample(range(length), 2)) for _ in range(r.choice((0, 0, 3)) if length > 1 else 0))
    ]
    return t


def same_programs(traces: Sequence[Trace], generation: int, options: ClockOptions, policy: Any) -> list[Program]:
    library, c = compiled.loaded()[0], costs(generation)
    out = []
    for t in traces:
        wanted = program.reference_program(t, c, options, policy)
        found = program.compiled_program(library, t, c, options, policy)
        assert found is not None
        for name in Program.__dataclass_fields__:
            assert getattr(found, name) == getattr(wanted, name), name
        out.append(found)
    return out


def same_schedule(programs: list[Program], generation: int, options: ClockOptions) -> Schedule:
    library, c = compiled.loaded()[0], costs(generation)
    wanted = schedule.reference_schedule(programs, c, options)
    found = schedule.compiled_schedule(library, programs, c, options)
    assert found is not None
    for name in Schedule.__dataclass_fields__:
        assert getattr(found, name) == getattr(wanted, name), name
    path = latency._compiled(library, found)
    assert path is not None
    assert path == latency._critical_path(found)
    sums: dict[str, int] = {}
    for fact, length in zip(path.fact, path.length, strict=True):
        sums[path.names[fact]] = sums.get(path.names[fact], 0) + length
    assert list(path.total().items()) == list(sums.items())
    assert profile._compiled_places(library, found, path) == profile._places(found, path)
    p = profile.Profile(found)
    totals = profile._compiled_totals(library, found)
    assert totals is not None
    for core, made in enumerate(totals):
        assert [(n, m, list(m.waits)) for n, m in made.items()] == [
            (n, m, list(m.waits)) for n, m in p._total(core).items()
        ]
    return found


@pytest.mark.parametrize("struct", compiled.Struct.__subclasses__(), ids=lambda struct: struct.__name__)
def test_structs_are_those_of_the_c_code(struct: type[compiled.Struct]) -> None:
    found = compiled_code.fields_in_c(compiled.CLOCK, struct.__name__)
    assert [name for name, _ in struct._fields_] == [name for name, _ in found]
    assert {kind for _, kind in found} <= {"int64_t", "*"}


def test_functions_take_as_many_arguments_as_in_c() -> None:
    results = {"int": ctypes.c_int, "int64_t": ctypes.c_int64, "void": None}
    library = compiled.loaded()[0]
    for name, (arguments, result) in compiled_code.functions_in_c(compiled.CLOCK).items():
        if name == "sources":
            continue
        function = getattr(library, f"clock_{name}")
        assert (len(function.argtypes), function.restype) == (arguments, results[result]), name


@pytest.mark.share(4)
@pytest.mark.parametrize("seed", range(80))
def test_random_traces_of_one_core(seed: int) -> None:
    r = random.Random(seed)
    generation = r.choice((2, 3, 3, 4))
    trace = random_trace(r, generation, r.choice((1, 20, 250, 600)))
    options = ClockOptions(window=r.choice((None, 1, 2, 7)), rotate=r.random() < 0.9, throttle=r.random() < 0.7)
    programs = same_programs([trace], generation, options, None)
    same_schedule(programs, generation, options)
    if options.rotate:
        for policy in BUFFER_POLICIES:
            same_schedule(same_programs([trace], generation, options, policy), generation, options)


@pytest.mark.share(3)
@pytest.mark.parametrize("seed", range(30))
def test_random_traces_of_cores_that_meet(seed: int) -> None:
    r = random.Random(1000 + seed)
    generation = r.choice((2, 3, 4))
    meetings = [(f"meeting {n}", r.choice(kinds(generation)[1])) for n in range(r.randrange(1, 6))]
    traces = [random_trace(r, generation, r.randrange(10, 120), meetings) for _ in range(r.choice((2, 2, 3, 12)))]
    most = int(costs(generation).number("memory.cores"))
    options = ClockOptions(
        window=r.choice((None, 1, 4)), throttle=r.random() < 0.7, active_cores=r.choice((None, most))
    )
    programs = same_programs(traces, generation, options, r.choice((None, *BUFFER_POLICIES)))
    same_schedule(programs, generation, options)


def test_the_random_traces_meet_every_rule() -> None:
    """What a column never holds would not be compared."""
    causes: set[int] = set()
    data_causes: set[int] = set()
    kinds_of_edges: set[int] = set()
    queues: set[int] = set()
    spilled = tiled = loading = 0
    for seed in range(60):
        r = random.Random(seed)
        generation = r.choice((2, 3, 3, 4))
        trace = random_trace(r, generation, r.choice((1, 20, 250, 600)))
        options = ClockOptions(window=r.choice((None, 1, 2, 7)), rotate=r.random() < 0.9, throttle=r.random() < 0.7)
        p = program.prepare(trace, costs(generation), options, BUFFER_POLICIES[0])
        s = schedule.run_programs([p], costs(generation), options)
        causes |= set(s.cause)
        queues |= {k.queue for k in p.costs}
        data_causes |= set(s.data_cause)
        kinds_of_edges |= {e & 3 for e in p.edges}
        spilled += p.spill_B > 0
        tiled += any(k.groups for k in p.costs)
        loading += any(s.loading)
    assert kinds_of_edges == {depend.READ, depend.DATA, depend.BUFFER, depend.WEIGHT_BUFFER}
    assert causes >= set(range(events.ISSUER + 1)) | {events.PORT}
    assert queues >= rates.DMA_QUEUES | {rates.TENSOR, rates.VECTOR, rates.SCALAR, rates.GPSIMD}
    assert data_causes >= {events.DMA, events.MEMORY}
    assert min(spilled, tiled, loading) > 3


def repetitive_trace(r: random.Random, length: int) -> Trace:
    """Sums of a few tiles, written again now and then; repeated rows, copied and read; free copies."""
    plain, _ = kinds(3)

    def first(name: str, engine: str, space: str = "S") -> Kind:
        return next(k for k in plain if k.name == name and k.engine == engine and k.reads[0].space == space)

    row = first("nc_matmul", "tensor")
    sums = [first("tensor_tensor", e) for e in ("vector", "gpsimd")]
    copies = [first("tensor_copy", "vector", space) for space in "SP"]
    t = Trace()
    t.kinds = [*sums, *(k._replace(flags=(*k.flags, ("free", True))) for k in copies), row]
    t.kinds.append(row._replace(flags=(*row.flags, ("broadcast", True))))
    t.patterns = Patterns([((128, 512), 4, 0, (128, 512), (512, 1), 4), ((128, 512), 4, 256, (128, 256), (512, 1), 4)])
    t.sites = [("kernel.py", 1), ("kernel.py", 2)]

    def new(space: str) -> int:
        number = len(t.storages) + 3
        address = (0, 0) if r.random() < 0.1 else None
        t.storages[number] = Allocation(number, space, 128, 2048, (128, 512), 4, address, "", "kernel.py", 1, False)
        return number

    tiles = [new("S") for _ in range(4)]
    while len(t.kind) < length:
        k = r.randrange(len(t.kinds))
        reads, psum = len(t.kinds[k].reads), new("P")
        if k < len(sums):
            sources = r.choices(tiles[:2] if r.random() < 0.4 else tiles, k=reads)
            rows = [(k, [*sources, new("S") if r.random() < 0.7 else r.choice(r.choice((sources, tiles)))])]
        elif k == len(t.kinds) - 1:
            copy = new("S")
            rows = [(k, [*r.choices(tiles, k=reads), psum]), (3, [psum, copy])]
            rows += [(r.choice((0, 2)), [copy]) for _ in range(r.choice((0, 1, 1, 2)))]
        else:
            source = r.choice(tiles) if t.kinds[k].reads[0].space == "S" else psum
            rows = [
                (k, [source, *r.choices(tiles, k=reads - 1), psum if t.kinds[k].writes[0].space == "P" else new("S")])
            ]
        for kind, touched in rows:
            needed = len(t.kinds[kind].reads) + len(t.kinds[kind].writes)
            for number in [*touched, *(new("S") for _ in range(needed - len(touched)))]:
                t.touched.extend((number, r.choice((0, 0, 0, 1))))
            tiles += [n for n in touched if t.storages[n].space == "S" and r.random() < 0.3]
            tiles = list(dict.fromkeys(tiles))[-6:]
            if r.random() < 0.1:
                t.in_order.append(len(t.kind))
            if r.random() < 0.05:
                t.meetings[len(t.kind)] = Meeting(len(t.kind), (0,))
            t.kind.append(kind)
            t.site.append(r.randrange(2))
            t.number.append(len(t.kind))
    return t


def test_what_the_compiler_leaves_out_and_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    merged = moved = begun = 0
    for seed in range(100):
        trace = repetitive_trace(random.Random(seed), 60)
        made = []
        for code in ("python", "compiled"):
            monkeypatch.setenv("MOWICH_CLOCK", code)
            renewed = places.renewed(trace)
            shorter = lower.lowered(trace, 2048, only_invariant=seed % 2 == 1)
            shared = lower.balanced(shorter, costs(3))
            made.append(
                [
                    (t.kind, t.site, t.number, t.touched, t.kinds, t.in_order, t.meetings, t.edges, t.storages.form)
                    for t in (renewed, shorter, shared)
                ]
            )
            merged += len(shorter) < len(trace)
            moved += shared.kind != shorter.kind
            begun += len(renewed.storages) > len(trace.storages)
        assert made[0] == made[1]
    assert min(merged, moved, begun) > 50


def noted_at(number: int, r: random.Random, trace: Trace) -> Record:
    """What touched a storage without an instruction, before, with or after one, or not at all."""
    first, last = (r.choice((-1, r.choice(trace.number), r.randrange(max(trace.number) + 3))) for _ in range(2))
    return Record(number, "S", 1, 1, ("", 0), "", None, "float32", (1,), first, last)


def test_when_storages_live(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads of run-time indices do not count, nor does what lies before the first write."""
    delayed = skipped = loaded = full = 0
    for seed in range(120):
        r = random.Random(seed)
        trace = random_trace(r, r.choice((2, 3, 4)), r.choice((1, 30, 300)))
        trace.plain_reads = [len(k.reads) - (r.random() < 0.2 and len(k.reads) > 1) for k in trace.kinds]
        form = np.array([*trace.storages.form, *[-1] * r.choice((0, 7))], np.int32)
        noted = [noted_at(number, r, trace) for number in range(len(form)) if r.random() < 0.3]
        found = placement.Touches(trace)
        assert found.library is not None
        wanted = placement.Touches(trace)
        wanted.library = None
        lived = wanted.lives(form, noted)
        assert np.array_equal(lived, found.lives(form, noted))
        _, _, reads, others = lived
        delayed += bool(((reads >= 0) & (reads <= others)).any())
        loaded += bool((reads > -2).any())
        core = Core(3, program=0, programs=1, values=False, strict=False, record=True, shared={})
        core.trace = trace
        peaks = found.peaks(core.limits.quadrant)
        assert peaks is not None
        monkeypatch.setenv("MOWICH_CLOCK", "python")
        lives = placement.lives(core)
        monkeypatch.delenv("MOWICH_CLOCK")
        for space in "SP":
            peak = placement._of_partition(peaks[space], core)
            assert peak == placement.most_live(core, space, lives)[0]
            full += peak > 0
        skipped += any(p < len(k.reads) for p, k in zip(trace.plain_reads, trace.kinds, strict=True))
    assert min(delayed, loaded, skipped, full) > 30


def test_a_storage_that_is_not_there_is_left_to_python() -> None:
    trace = random_trace(random.Random(3), 3, 30)
    trace.plain_reads = [len(k.reads) for k in trace.kinds]
    with pytest.raises(IndexError):
        placement.Touches(trace).lives(np.zeros(max(trace.touched[::2]), np.int32), [])
