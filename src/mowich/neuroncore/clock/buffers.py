"""Where tiles without an address live: bytes that rotate through SBUF and PSUM, and what leaves when live tiles do not
fit.

A new tile takes the bytes that were freed longest ago, so that a load of the next tile overlaps the use of this one.
When the live tiles of SBUF exceed it, some leave: tiles that still equal what was loaded from HBM are dropped and
loaded again, others are stored first. Which compiler policy is right is not published; two are offered, and the
scheduler keeps the faster.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from mowich.neuroncore.trace import Allocation


def columns_taken(a: Allocation) -> int:
    """Bytes of a partition that an allocation takes, where tiles of few partitions share columns by quadrants of 32."""
    return max(1, a.row_B * -(-a.parts // 32) // 4)


class Rotation:
    """Free bytes of a memory, oldest first, each with the instructions that used them last."""

    def __init__(self, room: int) -> None:
        self.free: deque[tuple[int, tuple[int, ...]]] = deque([(room, ())])
        self.left = room

    def take(self, size: int, out: list[int]) -> int:
        """Take bytes; their last users to `out`. Returns how many bytes there were too few."""
        self.left -= size
        while size > 0 and self.free:
            have, users = self.free.popleft()
            out += users
            if have > size:
                self.free.appendleft((have - size, users))
                return 0
            size -= have
        return size

    def give(self, size: int, users: tuple[int, ...]) -> None:
        """Free bytes."""
        self.left += size
        self.free.append((size, users))


@dataclass(frozen=True, slots=True)
class Policy:
    """How tiles leave. farthest: the one used last in the future goes (else the one used longest ago); sink: loads wait
    until the first use; slack: share of the memory that stays free for loads ahead."""

    name: str
    farthest: bool
    sink: bool
    slack: float


BUFFER_POLICIES = (Policy("farthest next use", True, True, 0.0), Policy("least recently used", False, True, 0.1))
WORTH = 0.02
"""Share of the latency that a policy has to save for the additional bytes that it moves."""


@dataclass(slots=True)
class Residency:
    """Which tiles of SBUF are in it. uses: positions in the trace at which each is touched, ascending; loaded: storages
    that hold what HBM holds; emit_store, emit_load: add a spill or a reload to the program and give its number."""

    rotation: Rotation
    policy: Policy
    uses: dict[int, list[int]]
    sizes: dict[int, int]
    loaded: set[int]
    emit_store: Callable[[int, tuple[int, ...]], int]
    emit_load: Callable[[int, tuple[int, ...]], int]
    room: int
    live: dict[int, int] = field(default_factory=dict)  # storage -> position of the last use so far
    next_use: dict[int, int] = field(default_factory=dict)  # storage -> index into uses
    away: dict[int, int] = field(default_factory=dict)  # storage -> its store, or -1 where HBM has it anyway
    saved: set[int] = field(default_factory=set)

    def need(
        self, numbers: Collection[int], position: int, users_of: Callable[[int], tuple[int, ...]]
    ) -> dict[int, int]:
        """Bring back what an instruction touches. Returns storage -> number of its reload."""
        back: dict[int, int] = {}
        for number in numbers:
            if number in self.away:
                freed = self.make_room(self.sizes[number], numbers, position, users_of)
                store = self.away.pop(number)
                back[number] = self.emit_load(number, (*freed, store) if store >= 0 else freed)
            if number in self.live or number in back:
                self.live.pop(number, None)
                self.live[number] = position
        return back

    def born(
        self, number: int, position: int, keep: Collection[int], users_of: Callable[[int], tuple[int, ...]]
    ) -> tuple[int, ...]:
        """Bytes for a new tile; the instructions that must be done with them."""
        freed = self.make_room(self.sizes[number], keep, position, users_of)
        self.live[number] = position
        return freed

    def make_room(
        self, size: int, keep: Collection[int], position: int, users_of: Callable[[int], tuple[int, ...]]
    ) -> tuple[int, ...]:
        """Evict until `size` bytes are free, and take them."""
        spare = int(self.room * self.policy.slack)
        while self.rotation.left - spare < size:
            victim = self._victim(keep, position)
            if victim is None:
                break
            self._evict(victim, users_of)
        out: list[int] = []
        self.rotation.take(size, out)
        return tuple(dict.fromkeys(out))

    def _victim(self, keep: Collection[int], position: int) -> int | None:
        best, rank = None, (-1, -1)
        for number, used in self.live.items():
            if number in keep:
                continue
            clean = number in self.loaded or number in self.saved
            if not self.policy.farthest:
                found = (position - used, 1 if clean else 0)
            else:
                found = (self._next(number, position), 1 if clean else 0)
            if found > rank:
                best, rank = number, found
        return best

    def _next(self, number: int, position: int) -> int:
        uses, at = self.uses[number], self.next_use.get(number, 0)
        while at < len(uses) and uses[at] <= position:
            at += 1
        self.next_use[number] = at
        return uses[at] if at < len(uses) else 1 << 60

    def _evict(self, number: int, users_of: Callable[[int], tuple[int, ...]]) -> None:
        users = users_of(number)
        self.live.pop(number)
        if number in self.loaded or number in self.saved:
            self.away[number] = -1
            self.rotation.give(self.sizes[number], users)
            return
        store = self.emit_store(number, users)
        self.saved.add(number)
        self.away[number] = store
        self.rotation.give(self.sizes[number], (store,))

    def written(self, number: int, by_load: bool) -> None:
        """A tile changed: HBM no longer holds it."""
        self.saved.discard(number)
        if not by_load:
            self.loaded.discard(number)

    def dead(self, number: int, users: tuple[int, ...]) -> None:
        """A tile was used for the last time."""
        if self.live.pop(number, None) is not None:
            self.rotation.give(self.sizes[number], users)
        self.away.pop(number, None)
