"""Tiers of a prefix cache beside the device's memory: host memory, SSD, a remote store, and the links to them."""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from mowich.serving.traffic.policies import Scheduler

WRITES = ("eviction", "through", "second_use")
"""When a block is written to a tier: when the tier above it evicts it, as soon as it is computed, or when it is found
in the device's memory for the first time."""
TIER_NAMES = ("host", "ssd", "remote")
"""Fastest first: a block that is in several tiers is read from the first of them."""
LOADS = ("always", "faster")
"""always: what a tier holds is loaded; faster: where loading is faster than computing it again."""
OVERLAPS = ("batch", "layers")
"""What a load runs beside: the batch, while its request waits for all of it (vLLM, LMCache), or the layers of its own
prompt, so that the step waits for what of the load is longer than the step (HiCache, LMCache by layers)."""

_WHOLE = 1e-6
"""Of a block: a capacity that lacks less of it holds the block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheTier:
    """One tier. capacity_B: of one replica, or of all that share it; read_Bps, write_Bps: of the link of a replica, or
    of all of them where it has one link; lanes: parts of a link that carry loads side by side, one each (the devices of
    a rank group of attention data parallelism); latency_s: from a request for blocks to the first byte; write: see
    WRITES; is_shared: by all replicas; has_one_link: for all of them; stays: what it holds is there after a replica
    was lost."""

    name: str
    capacity_B: float
    read_Bps: float
    write_Bps: float
    latency_s: float = 0.0
    write: str = "eviction"
    lanes: int = 1
    is_shared: bool = False
    has_one_link: bool = False
    stays: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiering:
    """The tiers of a replica, fastest first, and how they are used. load: see LOADS; overlap: see OVERLAPS; prefetch:
    blocks of slower tiers come to the first tier while their request is queued."""

    tiers: tuple[CacheTier, ...] = ()
    load: str = "always"
    overlap: str = "batch"
    prefetch: bool = False


class TierStore:
    """What a tier holds and what its link does. Blocks are names, the least recently used is evicted first; a block is
    there when its bytes have come. Bytes wait for those before them on the link of their direction.

    Example:
        >>> store = TierStore(CacheTier(name="ssd", capacity_B=20.0, read_Bps=5.0, write_Bps=10.0), 10.0)
        >>> store.put(1, 0.0), store.has(1, 0.5), store.has(1, 1.0)
        (None, False, True)
        >>> store.read(1, 3.0)
        5.0
    """

    __slots__ = ("_read_free_s", "_write_free_s", "limit", "name_B", "names", "read_B", "tier", "written_B")

    def __init__(self, tier: CacheTier, name_B: float, names: OrderedDict[int, float] | None = None) -> None:
        self.tier, self.name_B = tier, name_B
        self.limit = int(tier.capacity_B / name_B + _WHOLE) if name_B > 0 else 0
        self.names = OrderedDict[int, float]() if names is None else names  # to the moment from which it is there
        self._read_free_s, self._write_free_s = [0.0] * tier.lanes, [0.0] * tier.lanes
        self.read_B = self.written_B = 0.0

    def has(self, name: int, now: float) -> bool:
        """Whether a block can be read now."""
        return self.names.get(name, math.inf) <= now

    def touch(self, names: Iterable[int]) -> None:
        """Note a use of those of these blocks that are here."""
        mine = self.names
        for name in names:
            if name in mine:
                mine.move_to_end(name)

    def put(self, name: int, now: float) -> int | None:
        """Write a block, unless it is here; the block that had to go for it."""
        if name in self.names:
            self.names.move_to_end(name)
            return None
        if self.limit < 1:
            return name
        tier, free = self.tier, self._write_free_s
        end = max(free[0], now) + self.name_B * tier.lanes / tier.write_Bps
        heapq.heapreplace(free, end)
        self.written_B += self.name_B
        return self.keep(name, end + tier.latency_s)

    def keep(self, name: int, ready_s: float) -> int | None:
        """Hold a block that comes by another way; the block that had to go for it."""
        self.names[name] = ready_s
        self.names.move_to_end(name)
        return self.names.popitem(last=False)[0] if len(self.names) > self.limit else None

    def read_end_s(self, count: int, now: float) -> float:
        """When so many blocks would have come if they were asked for now."""
        tier = self.tier
        return max(self._read_free_s[0], now) + count * self.name_B * tier.lanes / tier.read_Bps + tier.latency_s

    def read(self, count: int, now: float) -> float:
        """Read so many blocks; when the last of them has come."""
        end = self.read_end_s(count, now)
        heapq.heapreplace(self._read_free_s, end - self.tier.latency_s)
        self.read_B += count * self.name_B
        return end


def stores_of(tiering: Tiering, name_B: float, replicas: int) -> list[tuple[TierStore, ...]]:
    """The stores of each of so many replicas. What a shared tier holds is the same for all of them, and its link where
    it has one."""
    first = [TierStore(tier, name_B) for tier in tiering.tiers]

    def store(one: TierStore) -> TierStore:
        if one.tier.has_one_link:
            return one
        return TierStore(one.tier, name_B, one.names if one.tier.is_shared else None)

    return [tuple(store(one) for one in first) for _ in range(replicas)]


def tiering_of(scheduler: Scheduler, token_B: float) -> Tiering:
    """The tier of a scheduler that keeps evicted blocks in host memory; none where it keeps none."""
    if not scheduler.host_blocks:
        return Tiering()
    names = scheduler.host_blocks // max(1, scheduler.hash_block // scheduler.block)
    way, size = scheduler.host_Bps, names * scheduler.hash_block * token_B
    return Tiering(tiers=(CacheTier(name="host", capacity_B=size, read_Bps=way, write_Bps=way),))
