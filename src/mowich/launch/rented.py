"""What a cloud rents a system as: the name of an instance, how many chips it has, and what Kubernetes calls them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from mowich.facts import Facts
from mowich.launch.plans import LaunchedPool, PlanLaunch

RESOURCES = {
    "AWS": "aws.amazon.com/neuron",
    "Google": "google.com/tpu",
    "AMD": "amd.com/gpu",
    "NVIDIA": "nvidia.com/gpu",
}
"""Vendor -> the resource of one of its chips in Kubernetes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Workers that stand together. workers: of each pool, by role; nodes: instances that they take; times: how often
    this is there."""

    workers: Mapping[str, int]
    nodes: int
    times: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rented:
    """instance: its name, "" where none is sold under a name (`why` says so); cloud: who sells it; chips: of one;
    tpu: the label of a TPU in Kubernetes."""

    instance: str
    cloud: str
    chips: int
    tpu: str
    why: str

    def per_worker(self, launch: PlanLaunch, pool: LaunchedPool) -> int:
        """Instances that one worker takes."""
        return math.ceil(pool.devices / (self.chips * launch.system.devices_per_chip))

    def placed(self, launch: PlanLaunch) -> list[Placed]:
        """Where the workers stand: a worker larger than an instance takes several; of the others, the largest first,
        each goes to the first instance with room. Instances that hold the same count as one."""
        room = self.chips * launch.system.devices_per_chip
        large = [p for p in launch.pools if p.devices > room]
        out = [Placed(workers={p.role: 1}, nodes=self.per_worker(launch, p), times=p.copies) for p in large]
        held: list[dict[str, int]] = []
        left: list[int] = []
        small = sorted((p for p in launch.pools if p.devices <= room), key=lambda p: -p.devices)
        for pool in (p for p in small for _ in range(p.copies)):
            place = next((i for i, free in enumerate(left) if free >= pool.devices), len(left))
            if place == len(left):
                held.append({})
                left.append(room)
            held[place][pool.role] = held[place].get(pool.role, 0) + 1
            left[place] -= pool.devices
        kinds = [h for i, h in enumerate(held) if h not in held[:i]]
        return out + [Placed(workers=kind, nodes=1, times=held.count(kind)) for kind in kinds]

    def instances(self, launch: PlanLaunch) -> int:
        """Instances that all workers of a plan take."""
        return sum(one.nodes * one.times for one in self.placed(launch))

    def line(self, launch: PlanLaunch) -> str:
        """The instances in words."""
        if not self.instance:
            return f"no instance of {launch.system.display} is sold under a name: {self.why}"
        count = self.instances(launch)
        return f"{count} x {self.instance} ({self.chips} chips each) of {self.cloud}"


def rented_as(launch: PlanLaunch, facts: Facts) -> Rented:
    """What `systems.<id>.rented` says; where it says nothing, a server of the system without a name."""
    root = f"systems.{launch.system.id}.rented"
    said = {key: facts.get(f"{root}.{key}") for key in ("instance", "cloud", "chips", "tpu")}
    texts = {key: str(fact.value) if fact is not None and fact.value is not None else "" for key, fact in said.items()}
    name, chips = said["instance"], said["chips"]
    per_server = launch.per_server // launch.system.devices_per_chip
    return Rented(
        instance=texts["instance"],
        cloud=texts["cloud"],
        chips=round(facts.number(chips.path)) if chips is not None and chips.value is not None else per_server,
        tpu=texts["tpu"],
        why=str(name.reason) if name is not None and name.reason else "the facts name none",
    )
