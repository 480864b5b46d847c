"""The prefix cache of a replica: blocks by name in the device's memory, and in the tiers beside it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import islice

from mowich.serving.traffic.tiers import TierStore


class PrefixCache:
    """Blocks of prompts and answers by name, a name for `each` blocks of the engine. In the device's memory: those in
    use (counted), and those free to evict, the least recently used first. A name stands for all tokens before it too,
    so the ends of prompts are evicted before their beginnings: of one moment the last block of a chain is the oldest.
    coming: blocks on the way here or to the first tier, and when they have come. changes: counts what may change an
    answer of `found`.
    """

    __slots__ = ("changes", "coming", "each", "idle", "tiers", "used")

    def __init__(self, each: int, tiers: tuple[TierStore, ...] = ()) -> None:
        self.each, self.tiers = each, tiers
        self.used: dict[int, int] = {}
        self.idle: OrderedDict[int, None] = OrderedDict()
        self.coming: dict[int, float] = {}
        self.changes = 0

    def found(self, names: Sequence[int], now: float) -> tuple[int, list[int]]:
        """(leading blocks in the device's memory, where those after them are: 0 in this memory, k in tier k), up to
        the first that is nowhere."""
        used, idle = self.used, self.idle
        here = 0
        for name in names:
            if name not in used and name not in idle:
                break
            here += 1
        away: list[int] = []
        if not self.tiers:
            return here, away
        for name in islice(names, here, None):
            if name in used or name in idle:
                away.append(0)
                continue
            for k, store in enumerate(self.tiers, 1):
                if store.has(name, now) or (k == 1 and name in self.coming and name in store.names):
                    away.append(k)
                    break
            else:
                break
        return here, away

    def wait_s(self, names: Sequence[int], now: float) -> float:
        """When the last of these blocks will have come; the present moment where all are here."""
        if not self.coming:
            return now
        ends = [self.coming[name] for name in names if name in self.coming]
        for name in [name for name, end in self.coming.items() if end <= now]:
            del self.coming[name]
        return max([now, *ends])

    def new_blocks(self, names: Sequence[int]) -> int:
        """Blocks that using these names adds to the used ones."""
        used = self.used
        return self.each * sum(name not in used for name in names)

    def take(self, names: Sequence[int], now: float) -> None:
        """Use blocks that were found once more."""
        self._use(names)
        for store in self.tiers:
            store.touch(reversed(names))
            if store.tier.write == "second_use":
                for name in names:
                    self._put(store, name, now)

    def add(self, names: Sequence[int], now: float) -> None:
        """Use blocks that are computed now; one that is there already is shared."""
        self._use(names)
        self._through(names, now)

    def _use(self, names: Sequence[int]) -> None:
        self.changes += 1
        used, idle = self.used, self.idle
        for name in names:
            count = used.get(name)
            if count is None:
                idle.pop(name, None)
                used[name] = 1
            else:
                used[name] = count + 1

    def release(self, names: Sequence[int], computed: int | None = None) -> None:
        """Use these blocks once less; the last user leaves them idle, but for those after the first `computed`, which
        hold nothing."""
        self.changes += 1
        used, idle = self.used, self.idle
        end = len(names) if computed is None else computed
        for k in range(len(names) - 1, -1, -1):
            name = names[k]
            count = used[name] - 1
            if count:
                used[name] = count
            else:
                del used[name]
                if k < end:
                    idle[name] = None
                else:
                    self.coming.pop(name, None)

    def keep(self, names: Sequence[int], now: float) -> None:
        """Leave blocks idle that an answer has filled, before those of its prompt are released."""
        self.changes += 1
        for name in reversed(names):
            if name not in self.used:
                self.idle[name] = None
                self.idle.move_to_end(name)
        self._through(names, now)

    def shrink(self, room: int, now: float) -> None:
        """Evict idle blocks, the least recently used first, until they fit in `room` blocks of the engine."""
        idle, most = self.idle, max(0, room) // self.each
        if len(idle) <= most:
            return
        self.changes += 1
        first = self.tiers[0] if self.tiers else None
        while len(idle) > most:
            name, _ = idle.popitem(last=False)
            if first is not None and first.tier.write == "eviction":
                self._put(first, name, now)

    def _through(self, names: Sequence[int], now: float) -> None:
        for store in self.tiers:
            if store.tier.write == "through":
                for name in reversed(names):
                    self._put(store, name, now)

    def _put(self, store: TierStore, name: int, now: float) -> None:
        """Write a block to a tier; what goes for it goes to the next tier that takes what is evicted."""
        self.evicted(store, store.put(name, now), now)

    def evicted(self, store: TierStore, name: int | None, now: float) -> None:
        """Write what a tier has evicted to the next one, where that takes it."""
        if name is None:
            return
        after = next((k for k, other in enumerate(self.tiers, 1) if other is store), len(self.tiers))
        if after < len(self.tiers) and self.tiers[after].tier.write == "eviction":
            self._put(self.tiers[after], name, now)

    def lost(self) -> PrefixCache:
        """The cache of the same replica after it was lost: what stays is in its tiers."""
        for store in self.tiers:
            if not store.tier.stays and not store.tier.is_shared:
                store.names.clear()
        return PrefixCache(self.each, self.tiers)

    @property
    def used_blocks(self) -> int:
        return len(self.used) * self.each
