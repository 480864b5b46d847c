"""LoRA adapters on a replica: which are on the device, which in host memory, and what they add to a step."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

BASE = -1
"""The adapter of a request that takes the base model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterCosts:
    """What adapters take of one worker. slots: adapters of a batch, and on the device; host: adapters in host memory,
    those on the device among them. Of a step with a sequence of an adapter: fixed_s in any case, each_s for each
    different adapter, token_s for each token; load_s: from host memory to the device, read_s: from disk to host memory;
    both hold up the step."""

    slots: int
    host: int
    fixed_s: float
    each_s: float
    token_s: float
    load_s: float
    read_s: float


class Adapters:
    """The adapters of one replica. active: sequences under way of each; the least recently used others go first."""

    __slots__ = ("active", "costs", "device", "host", "loads", "reads")

    def __init__(self, costs: AdapterCosts) -> None:
        self.costs = costs
        self.active: dict[int, int] = {}
        self.device: OrderedDict[int, None] = OrderedDict()
        self.host: OrderedDict[int, None] = OrderedDict()
        self.loads = self.reads = 0

    def admits(self, adapter: int) -> bool:
        """Whether a sequence of this adapter may join the batch."""
        return adapter == BASE or adapter in self.active or len(self.active) < self.costs.slots

    def enter(self, adapter: int) -> float:
        """A sequence joins; seconds until its adapter is on the device."""
        if adapter == BASE:
            return 0.0
        self.active[adapter] = self.active.get(adapter, 0) + 1
        costs, seconds = self.costs, 0.0
        if adapter not in self.device:
            if len(self.device) >= costs.slots:
                del self.device[next(old for old in self.device if old not in self.active)]
            self.loads += 1
            seconds = costs.load_s
            if adapter not in self.host:
                self.reads += 1
                seconds += costs.read_s
                if len(self.host) >= costs.host:
                    del self.host[next(old for old in self.host if old not in self.device)]
        for kept in (self.device, self.host):
            kept[adapter] = None
            kept.move_to_end(adapter)
        return seconds

    def leave(self, adapter: int) -> None:
        """A sequence leaves the batch; its adapter stays on the device until another needs the place."""
        if adapter == BASE:
            return
        self.active[adapter] -= 1
        if not self.active[adapter]:
            del self.active[adapter]

    def clear(self) -> None:
        """Nothing is on the device or in host memory."""
        self.active.clear()
        self.device.clear()
        self.host.clear()

    def extra_s(self, tokens: float) -> float:
        """Seconds that the adapters of the present batch add to a step of `tokens` tokens."""
        if not self.active:
            return 0.0
        costs = self.costs
        return costs.fixed_s + len(self.active) * costs.each_s + tokens * costs.token_s
