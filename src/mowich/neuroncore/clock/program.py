"""A trace made ready for the clock: the cost of each instruction, whom it waits for, where tiles live, what is added.

What is added: loads of activation tables, and spills and reloads where live tiles do not fit. An edge says what the
waiting is for: the other has to be done reading, its result, the memory that it used, or the stationary tile of a
matmul.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ctypes import CDLL

import numpy as np
from numpy.typing import NDArray

from mowich.neuroncore.clock import compiled
from mowich.neuroncore.clock.buffers import Policy
from mowich.neuroncore.clock.costs import Costs
from mowich.neuroncore.clock.records import ClockOptions, Program, Usage
from mowich.neuroncore.clock.reference import ProgramMaker, earlier_ones, table_load
from mowich.neuroncore.core import limits
from mowich.neuroncore.instructions.rates import COLLECTIVE_QUEUE, SCALAR, Cost
from mowich.neuroncore.trace import Trace


def prepare(trace: Trace, costs: Costs, options: ClockOptions, policy: Policy | None = None) -> Program:
    """A trace with its costs, its dependencies, the loads of activation tables and, with a policy, spills and
    reloads."""
    library = compiled.library(len(trace))
    made = None if library is None else compiled_program(library, trace, costs, options, policy)
    return reference_program(trace, costs, options, policy) if made is None else made


def reference_program(trace: Trace, costs: Costs, options: ClockOptions, policy: Policy | None) -> Program:
    """The program by the Python code."""
    made = Program(trace)
    with no_collection():
        ProgramMaker(made, costs, options, policy).make()
    return made


@contextmanager
def no_collection() -> Iterator[None]:
    """The many small tuples made here form no cycles: Python need not look for them."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


# the same, compiled ------------------------------------------------------------------------------------------

_SPACES = ("S", "P", "H")
MEETS, KEEPS_ORDER, COMES_AFTER = 1, 2, 4
TABLE_LOAD, RELOAD = -1, -3
"""What a cost stands for that belongs to no kind of instruction; -2: a spill."""


def _kind_rows(trace: Trace, made: Sequence[Cost]) -> compiled.ClockColumn:
    """Of each kind: queue, operands read, all operands, number of its activation table, and whether it reads HBM, is a
    memset."""
    tables: dict[str, int] = {"": 0}
    out = []
    for kind, cost in zip(trace.kinds, made, strict=True):
        table = tables.setdefault(cost.table if cost.queue == SCALAR else "", len(tables))
        reads, writes = len(kind.reads), len(kind.writes)
        out.append((cost.queue, reads, reads + writes, table, cost.hbm_read_B > 0, cost.opcode == "memset"))
    return compiled.rows(out, 6)


def _storage_columns(trace: Trace) -> tuple[NDArray[np.int32], compiled.ClockColumn, compiled.ClockColumn]:
    """(Form of each number of a storage, -1 where the trace does not touch it; of each form: space, partitions, bytes
    in each, whether it is placed by hand, at which partition and byte, and where its shape stands among the shapes,
    which come third). Those that differ in name and line only are of one form."""
    known: dict[tuple[object, ...], int] = {}
    rows: list[tuple[int, ...]] = []
    shapes: list[int] = []
    places = []
    for a in trace.storages.forms:
        places.append(known.setdefault((a.space, a.parts, a.row_B, a.address, a.shape, a.itemsize), len(known)))
        if places[-1] == len(rows):
            part, byte = a.address or (0, 0)
            space = _SPACES.index(a.space)
            rows.append((space, a.parts, a.row_B, a.address is not None, part, byte, len(shapes)))
            shapes += [len(a.shape), *a.shape, a.itemsize]
    form = np.array([*places, -1], np.int32)[np.array(trace.storages.form, np.int32)]
    return form, compiled.rows(rows, 7), np.array(shapes, np.int64)


def _family_columns(trace: Trace) -> tuple[compiled.ClockColumn, compiled.ClockColumn]:
    """(What the patterns of each family have in common, one after the other; where each begins)."""
    data: list[int] = []
    begins: list[int] = []
    for shape, itemsize, _, counts, strides, size in trace.patterns.families:
        begins.append(len(data))
        data += [len(shape), itemsize, size, len(counts), *shape, *counts, *strides]
    return np.array(data, np.int64), np.array(begins, np.int64)


def _special(trace: Trace) -> tuple[NDArray[np.uint8] | None, compiled.ClockColumn]:
    """(What is special about each instruction, None where nothing is; pairs of a later and an earlier one, for
    `depends_on`)."""
    if not (trace.edges or trace.meetings or trace.in_order):
        return None, compiled.rows([], 2)
    special, earlier = np.zeros(len(trace.kind), np.uint8), earlier_ones(trace)
    for found, flag in ((trace.meetings, MEETS), (set(trace.in_order), KEEPS_ORDER), (earlier, COMES_AFTER)):
        special[np.fromiter(found, np.int64, len(found))] |= flag
    return special, compiled.rows([(i, before) for i in sorted(earlier) for before in earlier[i]], 2)


def compiled_program(
    library: CDLL, trace: Trace, costs: Costs, options: ClockOptions, policy: Policy | None
) -> Program | None:
    """The program by the compiled code; None where it cannot."""
    made = [costs.of(k) for k in trace.kinds]
    kind_rows = _kind_rows(trace, made)
    # a collective costs what its members make it cost: a kind of its own for each number of them
    known: dict[tuple[int, int], int] = {}
    meetings: list[tuple[int, int]] = []
    for i in sorted(trace.meetings):
        k = trace.kind[i]
        if made[k].queue == COLLECTIVE_QUEUE:
            ranks = len(trace.meetings[i].members)
            meetings.append((i, known.setdefault((k, ranks), len(trace.kinds) + len(known))))
    made += [costs.of(trace.kinds[k], ranks) for k, ranks in known]
    storage_form, storage_rows, shapes = _storage_columns(trace)
    form_of, offset_of = trace.patterns.columns(compiled.ANYWHERE)
    form_data, form_at = _family_columns(trace)
    special, explicit = _special(trace)
    room = limits(costs.generation)
    given = compiled.ProgramGiven.of(
        trace,
        instructions=len(trace.kind),
        kinds=len(made),
        storages=len(storage_form),
        tensors=len(storage_rows),
        patterns=len(form_of),
        forms=len(form_at),
        kind_rows=kind_rows,
        storage_form=storage_form,
        storage_rows=storage_rows,
        form_of=form_of,
        offset_of=offset_of,
        form_data=form_data,
        form_at=form_at,
        shapes=shapes,
        special=special,
        meetings=len(meetings),
        meeting_rows=compiled.rows(meetings, 2),
        explicit_edges=len(explicit),
        explicit_rows=explicit,
        window=int(options.window or costs.number("model.window")) if trace.meetings else 0,
        rotate=options.rotate,
        bank_B=room.psum_bank_B,
        sbuf_B=room.sbuf_usable_B,
        psum_B=room.psum_B,
        spills=policy is not None,
        farthest=policy is not None and policy.farthest,
        sink=policy is not None and policy.sink,
        spare_B=int(room.sbuf_usable_B * policy.slack) if policy is not None else 0,
    )
    out = compiled.ProgramMade()
    if not compiled.is_done(library.clock_program, given, out):
        return None
    p = Program(trace, overflow_B=out.overflow_B, spill_B=out.spill_B, peak={"S": out.peak_s, "P": out.peak_p})
    p.cost, p.origin = out.take("cost", "i", out.n), out.take("origin", "i", out.n)
    p.first, p.edges = out.take("first", "i", out.n + 1), out.take("edge", "i", out.edges)
    p.usage = {
        "S": Usage(out.take("before_s", "i", out.usage_s), out.take("level_s", "i", out.usage_s)),
        "P": Usage(out.take("before_p", "i", out.usage_p), out.take("level_p", "i", out.usage_p)),
    }
    wanted = out.take("cost_rows", "q", 2 * out.costs)
    for what, number in zip(wanted[::2], wanted[1::2], strict=True):
        if what >= 0:
            p.costs.append(made[what])
        elif what == TABLE_LOAD:
            p.costs.append(table_load(costs))
        else:
            a = trace.storages[number]
            p.costs.append(costs.spill(a.parts, a.row_B, what == RELOAD))
    place_of = out.take("place_of", "i", len(trace.kind) if special is not None else 0)
    for me, i in sorted((place_of[i], i) for i in trace.meetings):
        p.meetings[me] = trace.meetings[i]
    return p
