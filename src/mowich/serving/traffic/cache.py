"""The prefix cache of a replica, in blocks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence


class PrefixCache:
    """Blocks of prompts by hash: those in use (counted), those free to evict (oldest first), and those in host
    memory."""

    __slots__ = ("each", "host", "host_limit", "idle", "used")

    def __init__(self, each: int, host_limit: int) -> None:
        self.each, self.host_limit = each, host_limit
        self.used: dict[int, int] = {}
        self.idle: OrderedDict[int, None] = OrderedDict()
        self.host: OrderedDict[int, None] = OrderedDict()

    def match(self, hashes: Sequence[int]) -> tuple[int, int]:
        """(leading hashes in the device's memory, further ones in host memory)."""
        here = 0
        for name in hashes:
            if name not in self.used and name not in self.idle:
                break
            here += 1
        away = 0
        for name in hashes[here:]:
            if name not in self.host:
                break
            away += 1
        return here, away

    def new_blocks(self, hashes: Sequence[int]) -> int:
        """Blocks that taking these hashes adds to the used ones."""
        return self.each * sum(1 for name in hashes if name not in self.used)

    def take(self, hashes: Sequence[int]) -> None:
        """Use these hashes once more."""
        for name in hashes:
            self.used[name] = self.used.get(name, 0) + 1
            self.idle.pop(name, None)

    def release(self, hashes: Sequence[int]) -> None:
        """Use these hashes once less; the last user leaves them idle, the end of the prompt to be evicted first."""
        for name in reversed(hashes):
            count = self.used[name] - 1
            if count:
                self.used[name] = count
            else:
                del self.used[name]
                self.idle[name] = None

    def keep(self, hashes: Sequence[int]) -> None:
        """Leave these hashes idle, the last to be evicted: blocks that an answer has filled."""
        for name in reversed(hashes):
            if name not in self.used:
                self.idle[name] = None
                self.idle.move_to_end(name)

    def shrink(self, room: int) -> None:
        """Evict idle hashes, oldest first, until they fit in `room` blocks; they go to host memory while it lasts."""
        while self.idle and len(self.idle) * self.each > room:
            name, _ = self.idle.popitem(last=False)
            if self.host_limit:
                self.host[name] = None
                self.host.move_to_end(name)
                while len(self.host) * self.each > self.host_limit:
                    self.host.popitem(last=False)

    @property
    def used_blocks(self) -> int:
        return len(self.used) * self.each
