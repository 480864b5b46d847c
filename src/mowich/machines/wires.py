"""A collective of a group as a function of its bytes, for columns of groups on systems that may differ.

`machines.collectives` lays out groups of one system and gives the time of a message. An engine's step sends other sizes
over the same group at every number of tokens. So the parts that do not depend on the bytes are kept: latency and
seconds per byte of each algorithm. The law and its constants are those of `machines.collectives`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mowich.arrays import Columns, Floats
from mowich.machines import collectives
from mowich.machines.collectives import pipelined_s
from mowich.machines.system import System

_MOST = 3
"""Algorithms of an all-reduce that a library has at the most."""


@dataclass(frozen=True, slots=True)
class Wire(Columns):
    """A collective of groups, by each algorithm [a, n] that the group has."""

    latency: Floats
    """Latency of an algorithm, s [a, n]; inf where a group lacks it."""
    bulk: Floats
    """Extra latency of large messages, s [a, n]."""
    per_B: Floats
    """Seconds per byte, s/B [a, n]."""
    ahead: Floats
    """Seconds saved on each of the first `short_B` bytes, s/B [a, n]."""
    short_B: Floats
    """Bytes to which `ahead` applies [n]."""
    large_B: Floats
    """Bytes at which half of `bulk` applies [n]."""
    pipeline: Floats
    """Cost of pieces, as in `pipelined_s` [n]."""
    pipeline_limit: Floats
    """The largest cost of pieces, in latencies, as in `pipelined_s` [n]."""

    def latency_s(self, data_B: Floats) -> Floats:
        """L of every algorithm for messages of data_B [a, n]."""
        return np.asarray(self.latency + self.bulk * (data_B / (data_B + self.large_B)))

    def seconds(self, data_B: Floats) -> Floats:
        """Seconds of messages of data_B, by the algorithm that takes least [n]."""
        return np.asarray(np.min(self._each_s(data_B), axis=0))

    def taken(self, data_B: Floats) -> tuple[Floats, Floats]:
        """(L, seconds per byte) of that algorithm [n]."""
        best = np.argmin(self._each_s(data_B), axis=0)[None]
        L = np.take_along_axis(np.broadcast_to(self.latency_s(data_B), self.per_B.shape), best, axis=0)[0]
        return L, np.take_along_axis(self._b(data_B), best, axis=0)[0]

    def _b(self, data_B: Floats) -> Floats:
        """Seconds of a byte of messages of data_B, by every algorithm [a, n]."""
        return np.asarray(self.per_B - self.ahead * np.minimum(1.0, self.short_B / np.maximum(data_B, 1.0)))

    def _each_s(self, data_B: Floats) -> Floats:
        """Seconds of messages by every algorithm [a, n]."""
        L = self.latency_s(data_B)
        with np.errstate(invalid="ignore"):
            seconds = pipelined_s(L, self._b(data_B), data_B, self.pipeline, self.pipeline_limit)
        return np.asarray(np.where(np.isfinite(L), seconds, np.inf))

    def free(self) -> Wire:
        """This wire with messages that take no time."""
        none = np.zeros_like(self.latency)
        return replace(self, latency=none, bulk=none, per_B=none, ahead=none)

    def by_software(self, latency: Floats | float, rate: Floats | float) -> Wire:
        """This wire under software: latencies times `latency`, bytes at `rate` times the speed."""
        made = self.latency * latency, self.bulk * latency, self.per_B / rate, self.ahead / rate
        limits = self.short_B, self.large_B, self.pipeline, self.pipeline_limit
        return Wire(*made, *limits)  # `replace` takes three times as long


@dataclass(frozen=True, slots=True)
class MeasuredWire(Columns):
    """A measured collective: seconds by lines, each from its first byte to that of the next. latency, per_B: of each
    line [a, n], s and s/B; from_B: where it begins [a, n], inf where nothing was measured."""

    latency: Floats
    per_B: Floats
    from_B: Floats

    @property
    def is_measured(self) -> Floats:
        """Whether a group has lines [n]."""
        return np.asarray(np.isfinite(self.from_B[0]))

    def free(self) -> MeasuredWire:
        """The same lines with messages that take no time."""
        return replace(self, latency=np.zeros_like(self.latency), per_B=np.zeros_like(self.per_B))

    def taken(self, data_B: Floats) -> tuple[Floats, Floats]:
        """(L, seconds per byte) of the line of messages of data_B [n]."""
        at = np.maximum(np.sum(data_B >= self.from_B, axis=0) - 1, 0)[None]
        L, b = (np.take_along_axis(column, at, axis=0)[0] for column in (self.latency, self.per_B))
        return L, b


def _of(system: System, ways: list[tuple[Floats | float, ...]], n: int, most: int = 1) -> Wire:
    """The wire of algorithms, with room for `most`: columns of all systems have the same shape. ways: latency, bulk,
    seconds per byte, and the gain of the first bytes (absent without one)."""
    columns = np.zeros((4, most, n))
    columns[0] = np.inf
    for i, way in enumerate(ways):
        columns[: len(way), i] = np.stack(np.broadcast_arrays(*way))
    f, one = system.fabric, np.ones(n)
    latency, bulk, per_B, ahead = columns
    return Wire(
        latency,
        np.where(np.isfinite(latency), bulk, 0.0),
        per_B,
        ahead,
        one * f.short_B,
        one * f.large_B,
        one * f.pipeline,
        one * f.pipeline_limit,
    )


def all_reduce_wire(system: System, n: Floats, stride: Floats) -> Wire:
    """All-reduces of groups of n devices at a stride: `collectives.all_reduce_s` as a function of the bytes."""
    ways = collectives.algorithms(system, n, stride, "all-reduce")
    return _of(
        system,
        [(a.latency_s, a.bulk_s, a.per_B, 0.0 if a.ahead is None else a.ahead) for a in ways],
        len(n),
        _MOST,
    )


def all_to_all_wires(system: System, n: Floats, stride: Floats) -> tuple[Wire, Wire]:
    """(inside the domain, over the network) of all-to-alls: `collectives.all_to_all_s` as a function of the bytes that
    a device sends. A part that a group does not have takes no time."""
    inside, outside = collectives.all_to_all_ways(system, n, stride)
    return _of(system, [inside], len(n)), _of(system, [outside], len(n))


def transfer_wire(system: System, stride: Floats) -> Wire:
    """Transfers to the device `stride` places on: `collectives.transfer_s` as a function of the bytes."""
    return _of(system, [collectives.transfer_way(system, stride)], len(stride))
