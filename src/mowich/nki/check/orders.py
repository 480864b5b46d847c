"""Races between the two cores of a launch: what nothing orders is run in adversarial orders, and where results differ
the trace tells which lines meet.

Within one core the compiler orders instructions by their data, so that program order is what happens. Between the cores
of a logical core it does not: their stores to shared HBM follow one another only across a `core_barrier`, a `sendrecv`
or a collective.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import numpy as np

from mowich.neuroncore.communicator import Order
from mowich.neuroncore.trace import AccessRecord, Trace
from mowich.nki.result import Result
from mowich.nki.runtime import Kernel

_ORDERS = (Order(0, False), Order(1, False))
"""Each core runs on until it waits for the other: the first one first, then the second one."""
_MOST = 5
"""Pairs of lines that are told for one kernel."""

Raced = tuple[str, str]
"""(file:line, what happens there)."""


def races(
    kernel: Kernel, args: Sequence[object], kwargs: Mapping[str, object], result: Result, **how: object
) -> tuple[list[Raced], int]:
    """Where results depend on the order of the cores, and in how many orders the kernel ran. result: of a run on these
    arguments."""
    if len(result.cores) < 2 or not result.cores[0].values:
        return [], 1
    met = _meetings(result)
    if not met:
        return [], 1
    made = []
    for order in _ORDERS:
        given, named = copy.deepcopy(list(args)), copy.deepcopy(dict(kwargs))
        again = kernel.launch(given, named, order=order, **how)
        made.append(_bytes([again.value, given, named]))
    if made[0] == made[1]:
        return [], 1 + len(_ORDERS)
    return met[:_MOST], 1 + len(_ORDERS)


def _bytes(x: object) -> object:
    """The bytes of all arrays of a result, in a form that compares."""
    if isinstance(x, dict):
        return [(k, _bytes(v)) for k, v in x.items()]
    if isinstance(x, list | tuple):
        return [_bytes(v) for v in x]
    return np.asarray(x).tobytes() if hasattr(x, "__array__") else repr(x)


class _Touch:
    """One access of a core to shared HBM. epoch: meetings that the core had behind it."""

    def __init__(self, access: AccessRecord, writes: bool, site: tuple[str, int], epoch: int) -> None:
        self.access, self.writes, self.site, self.epoch = access, writes, site, epoch
        reach = sum((n - 1) * abs(s) for n, s in zip(access.shape, access.strides, strict=True))
        low = sum((n - 1) * min(s, 0) for n, s in zip(access.shape, access.strides, strict=True))
        self.low_B = (access.offset + low) * access.itemsize
        self.high_B = (access.offset + low + reach + 1) * access.itemsize

    def meets(self, other: _Touch) -> bool:
        """Whether both touch a byte, where one of them writes and nothing orders the two."""
        return (
            self.epoch == other.epoch
            and (self.writes or other.writes)
            and self.low_B < other.high_B
            and other.low_B < self.high_B
        )


def _touches(trace: Trace) -> dict[int, list[_Touch]]:
    """Accesses to HBM by storage; alike ones of a line and epoch once."""
    out: dict[int, list[_Touch]] = {}
    seen: set[object] = set()
    epoch = 0
    for i, record in enumerate(trace.records):
        for access, writes in [*((a, False) for a in record.reads), *((a, True) for a in record.writes)]:
            key = (access, writes, record.file, record.line, epoch)
            if access.space == "H" and key not in seen:
                seen.add(key)
                out.setdefault(access.storage, []).append(_Touch(access, writes, (record.file, record.line), epoch))
        epoch += i in trace.meetings
    return out


def _meetings(result: Result) -> list[Raced]:
    """Pairs of lines of two cores that touch the same bytes of HBM, one of them writing, between two barriers."""
    traces = [c.trace for c in result.cores if c.trace is not None]
    by_core = [_touches(t) for t in traces]
    out: dict[Raced, None] = {}
    for a in range(len(by_core)):
        for b in range(a + 1, len(by_core)):
            for storage, mine in by_core[a].items():
                for x in mine:
                    for y in by_core[b].get(storage, ()):
                        if x.meets(y):
                            out[_told(a, x, b, y, traces[a], storage)] = None
    return list(out)


def _told(a: int, x: _Touch, b: int, y: _Touch, trace: Trace, storage: int) -> Raced:
    if not x.writes:  # the one that writes is named first
        a, x, b, y = b, y, a, x
    made = trace.storages[storage]
    name = f"'{made.name}' " if made.name else ""
    there = "there too" if y.site == x.site else f"at {y.site[0].rsplit('/', 1)[-1]}:{y.site[1]}"
    verb = "writes" if y.writes else "reads"
    return (
        f"{x.site[0]}:{x.site[1]}",
        f"core {a} writes bytes of the tensor {name}{list(made.shape)} that core {b} {verb} {there}, nothing orders"
        " them, and the result depends on it",
    )
