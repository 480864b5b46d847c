"""Frameworks of reinforcement learning as facts: what they add to the software of both sides, and in what order they
work."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from mowich.errors import UserError, unknown
from mowich.facts import Facts
from mowich.rl.job import BATCH_ORDERS, BatchOrder, Pass, RlJob
from mowich.rl.sides import Around

NO_FRAMEWORK = "unstated"
"""The framework of a run that names none; others have its facts where they have none of their own."""

_ROOT = "rl.frameworks"

Links = Literal["domain", "server"]
LINKS: tuple[Links, ...] = get_args(Links)
"""How far links within a scale-up domain reach for collectives of the trainer: in the whole domain, or in a server; the
rest goes over the network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Framework:
    """A release of a framework."""

    name: str
    display: str
    release: str
    generation: float
    """Time of generation, over that of the same software in benchmarks of it."""
    training: float
    """Time of training steps, over that of the same software in benchmarks of it."""
    passes: float
    """Time of forward passes, over that of the same software in benchmarks of it."""
    experts: float
    """Time of rollouts of mixtures of experts, over `generation`."""
    switch_s: float
    """s of a colocated step beside its refit: sleep, wake and offload."""
    tensor_s: float
    """s of each tensor of a checkpoint that a sync hands over by itself."""
    forward: tuple[Pass, ...]
    """Passes before an update, by default."""
    sync_colocated: str
    """Method of sync where trainer and engine share devices, of `rl.sync.METHODS`."""
    sync_split: str
    """Method of sync where each has its own."""
    order: BatchOrder
    """Order of its asynchronous runs, where they state none."""
    partial: bool
    """Whether new weights reach answers under way in these, where they state nothing."""
    staleness: int
    """Versions that the weights of a rollout may be behind in these, where they state none."""
    hides_passes: bool
    """Whether forward passes run while rollouts still do."""
    overlaps_sync: bool
    """Whether the trainer goes on while weights travel."""
    memory_share_colocated: float
    """Share of a device's memory that the engine may use where the trainer shares the device."""
    memory_share_split: float
    """The same share where the engine has its own devices."""
    engine: str
    """Its engine of rollouts."""
    stack: str
    """Its software of training."""
    recipe: str
    """Settings of the stack (`software.recipes`); "release": as its newest release has them."""
    links: Links
    other_s: float
    """s of what else it takes in each step."""
    paths: Mapping[str, str]
    """Path of the fact behind each of these, by name of the fact, and of `file_rate`: bytes/s at which it writes
    weights to a file, where that is known."""

    def around(self, job: RlJob) -> Around:
        """What a step of a job has beside its sides: chips change sides only where both share them."""
        switch_s = self.switch_s if job.placement == "colocated" else 0.0
        return {"switch_s": switch_s, "hides_passes": self.hides_passes, "other_s": self.other_s}


def framework_names(facts: Facts) -> tuple[str, ...]:
    """Names of the frameworks that facts know, as `rl.frameworks.NAME`."""
    return facts.children(_ROOT)


def find_framework(facts: Facts, word: str) -> str:
    """The name in facts of a framework as people write it. Raises UserError for one that is not known.

    >>> from mowich.facts import load_facts
    >>> find_framework(load_facts(), "NeMo RL"), find_framework(load_facts(), "slime"), find_framework(load_facts(), "")
    ('nemo-rl', 'miles', 'unstated')
    """
    if not word:
        return NO_FRAMEWORK
    for name in framework_names(facts):
        also = facts.get(f"{_ROOT}.{name}.also")
        words = [name, facts.text(f"{_ROOT}.{name}.display"), *(str(also.value).split() if also else ())]
        if _plain(word) in map(_plain, words):
            return name
    raise unknown("framework", word, framework_names(facts))


def read_framework(facts: Facts, name: str, release: str = "") -> Framework:
    """A framework in one of its releases. name: as people write it, "": none is stated; release: such as "v0.6", "":
    the newest that is known. Raises UserError for a framework that is not known, or a release that is no number.

    Units: seconds; factors and shares without one.

    >>> from mowich.facts import load_facts
    >>> nemo = read_framework(load_facts(), "NeMo RL", "v0.4")
    >>> nemo.sync_colocated, nemo.sync_split, nemo.memory_share_split
    ('ipc-tensors', 'collective', 0.8)
    """
    found = find_framework(facts, name)
    layers = [f"{_ROOT}.{found}", f"{_ROOT}.{NO_FRAMEWORK}"]
    older = f"{_ROOT}.{found}.until"
    if release:
        asked = _number(release)
        if not asked:
            raise UserError("not a release of a framework", given=release, allowed="a number, such as v0.6")
        ends = {until: _number(until) for until in (facts.children(older) if facts.paths(older) else ())}
        layers[:0] = [
            f"{older}.{until}" for until, end in sorted(ends.items(), key=lambda e: e[1]) if asked[: len(end)] <= end
        ]
    paths: dict[str, str] = {}

    def of(fact: str) -> str:
        paths[fact] = next(path for layer in layers if facts.get(path := f"{layer}.{fact}") is not None)
        return paths[fact]

    def number(fact: str) -> float:
        return facts.number(of(fact))

    forward: tuple[Pass, ...] = ("policy", "reference")
    if facts.get(f"{_ROOT}.{found}.file_rate") is not None:
        of("file_rate")
    newest = facts.get(f"{_ROOT}.{found}.release")
    order, links = facts.text(of("order")), facts.text(of("links"))
    assert order in BATCH_ORDERS
    assert links in LINKS
    return Framework(
        name=found,
        display=facts.text(f"{_ROOT}.{found}.display"),
        release=release or (str(newest.value) if newest else ""),
        generation=number("generation"),
        training=number("training"),
        passes=number("passes"),
        experts=number("experts"),
        switch_s=number("switch"),
        tensor_s=number("tensor"),
        forward=tuple(name for name in forward if number(f"{name}_pass") > 0.0),
        sync_colocated=facts.text(of("sync_colocated")),
        sync_split=facts.text(of("sync_split")),
        order=order,
        partial=number("partial") > 0.0,
        staleness=round(number("staleness")),
        hides_passes=number("hides_passes") > 0.0,
        overlaps_sync=number("overlaps_sync") > 0.0,
        memory_share_colocated=number("memory_share_colocated"),
        memory_share_split=number("memory_share_split"),
        engine=facts.text(of("engine")),
        stack=facts.text(of("stack")),
        recipe=facts.text(of("recipe")),
        links=links,
        other_s=number("other"),
        paths=paths,
    )


def _plain(word: str) -> str:
    """A name without what people write in different ways."""
    return re.sub(r"[^a-z0-9]", "", word.casefold())


def _number(release: str) -> tuple[int, ...]:
    """The numbers of a release: "v0.3.1" and "v0-3-1" are (0, 3, 1)."""
    start = re.match(r"v?\d+([.-]\d+)*", release.strip().casefold())
    return tuple(int(part) for part in re.findall(r"\d+", start[0])) if start else ()
