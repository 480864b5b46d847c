"""Where tiles without an address live: bytes that rotate through SBUF and PSUM, and what leaves when live tiles do not
fit.

A new tile takes the bytes that were freed longest ago, so that a load of the next tile overlaps the use of this one.
When the live tiles of SBUF exceed it, some leave: tiles that still equal what was loaded from HBM are dropped and
loaded again, others are stored first. Which compiler policy is right is not published; two are offered, and the
scheduler keeps the faster.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass

from mowich.neuroncore.trace import Allocation


def columns_taken(a: Allocation) -> int:
    """Bytes of a partition that an allocation takes, where tiles of few partitions share columns by quadrants of 32."""
    return max(1, a.row_B * -(-a.parts // 32) // 4)


class Rotation:
    """Free bytes of a memory, oldest first, each with the instructions that used them last."""

    def __init__(self, room_B: int) -> None:
        self.free: deque[tuple[int, list[int]]] = deque([(room_B, [])])
        self.left_B = room_B

    def take(self, size_B: int) -> tuple[list[int], int]:
        """Take bytes: (their last users, how many bytes there were too few)."""
        self.left_B -= size_B
        users: list[int] = []
        while size_B > 0 and self.free:
            have_B, last = self.free.popleft()
            users += last
            if have_B > size_B:
                self.free.appendleft((have_B - size_B, last))
            size_B -= min(have_B, size_B)
        return users, size_B

    def give(self, size_B: int, users: list[int]) -> None:
        """Free bytes."""
        self.left_B += size_B
        self.free.append((size_B, users))


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

LOWEST = (-1, False)
"""The lowest rank of a tile that may leave: for a load that waited, and comes at an earlier position, what was used
since then stays."""


class Residency:
    """Which tiles of SBUF are in it. uses: of each tile, positions in the trace at which it is touched, ascending;
    sizes: bytes of a partition that each takes; loaded: those that hold what HBM holds; spill, reload: add one to the
    program, after these instructions, and give its number; users_of: a tile's last users."""

    def __init__(
        self,
        rotation: Rotation,
        policy: Policy,
        *,
        uses: dict[int, list[int]],
        sizes: dict[int, int],
        loaded: Collection[int],
        spill: Callable[[int, list[int]], int],
        reload: Callable[[int, list[int]], int],
        users_of: Callable[[int], list[int]],
    ) -> None:
        self.rotation, self.policy, self.uses, self.sizes, self.loaded = rotation, policy, uses, sizes, set(loaded)
        self.spill, self.reload, self.users_of = spill, reload, users_of
        self.spare_B = int(rotation.left_B * policy.slack)
        self.live: dict[int, int] = {}  # position of the last use so far, the tile used last comes last
        self.away: dict[int, list[int]] = {}  # its spill, none where HBM has it anyway
        self.saved: set[int] = set()  # not changed since they were spilled
        self.past: dict[int, int] = {}  # how many of its uses are past

    def need(self, numbers: Collection[int], position: int) -> None:
        """Bring back what an instruction touches."""
        for number in numbers:
            if number in self.away:
                freed = self.make_room(number, numbers, position)
                self.reload(number, freed + self.away.pop(number))
            elif self.live.pop(number, None) is None:
                continue
            self.live[number] = position

    def make_room(self, number: int, keep: Collection[int], position: int) -> list[int]:
        """Evict tiles, but for those to keep, until another one fits, and take its bytes. Returns their last users."""
        while self.rotation.left_B - self.spare_B < self.sizes[number]:
            ranks = {other: self._rank(other, position) for other in self.live if other not in keep}
            victim = max(ranks, key=ranks.__getitem__, default=None)
            if victim is None or ranks[victim] < LOWEST:
                break
            self._evict(victim)
        users, _ = self.rotation.take(self.sizes[number])
        return list(dict.fromkeys(users))

    def _rank(self, number: int, position: int) -> tuple[int, bool]:
        is_clean = number in self.loaded or number in self.saved
        if not self.policy.farthest:
            return position - self.live[number], is_clean
        uses = self.uses[number]
        # loads that waited come at an earlier position: what was past stays past
        past = self.past[number] = bisect_right(uses, position, self.past.get(number, 0))
        return uses[past] if past < len(uses) else 1 << 60, is_clean

    def _evict(self, number: int) -> None:
        users = self.users_of(number)
        del self.live[number]
        if number in self.loaded or number in self.saved:
            self.away[number] = []
        else:
            self.away[number] = users = [self.spill(number, users)]
            self.saved.add(number)
        self.rotation.give(self.sizes[number], users)

    def written(self, number: int, *, by_load: bool) -> None:
        """A tile changed: HBM no longer holds it."""
        self.saved.discard(number)
        if not by_load:
            self.loaded.discard(number)

    def dead(self, number: int, users: list[int]) -> None:
        """A tile was used for the last time."""
        if self.live.pop(number, None) is not None:
            self.rotation.give(self.sizes[number], users)
        self.away.pop(number, None)
