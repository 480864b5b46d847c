"""One forward pass, or a loop of them, on given machines: what is asked and what its answer holds. Diffusion (an image
or a clip in `steps` passes), encoders and speech: nothing is decoded token by token, nothing is cached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from mowich.estimate import Estimate
from mowich.facts import Facts
from mowich.models.model import Model

ForwardTask = Literal["diffuse", "encode"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardJob:
    """What is computed. tokens: of one item (an image, a clip, a text) at the model's width; batch: items at once on one
    replica, 0: searched; steps: passes for one item; branches: forwards of each step (2 with classifier-free guidance);
    height, width, frames: of what is made, 0 where tokens are stated; latency_s: most seconds of an item, 0: no limit."""

    task: ForwardTask
    tokens: int
    batch: int = 0
    steps: int = 1
    branches: int = 1
    height: int = 0
    width: int = 0
    frames: int = 0
    latency_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardPlan:
    """How one replica is split: tp: heads and columns; cp: tokens (rings or all-to-all); cfg: 2 where both branches of
    guidance run on devices of their own; batch: items at once; precision: format of products ("bf16", "fp8"); lnc:
    physical cores in one logical core of Trainium, 0 elsewhere."""

    tp: int = 1
    cp: int = 1
    cfg: int = 1
    batch: int = 1
    precision: str = "bf16"
    lnc: int = 0

    @property
    def devices(self) -> int:
        """Devices of one replica."""
        return self.tp * self.cp * self.cfg


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardAsk:
    """One question. on: system as the user wrote it; system_id, chips: that system and how many; stack: software ("" :
    the vendor's own); plan: None: the fastest, or cheapest, is searched; fixed: choices that restrict this search; term:
    kind of price; assumed: what the question left open, in words."""

    model: Model
    job: ForwardJob
    on: str
    system_id: str
    chips: int
    facts: Facts
    stack: str = ""
    plan: ForwardPlan | None = None
    fixed: Mapping[str, Sequence[int | str]] = field(default_factory=dict)
    term: str = "default"
    assumed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardRow:
    """The answer to one `ForwardAsk`. pass_s: one forward pass of one replica; parts: seconds of a pass, their values
    sum to its value; item_s: an item from first to last step; items_per_s_per_chip: over all chips; memory_B: of a
    device; mfu: over the published peak; reason: why there is no answer ("" : there is one)."""

    ask: ForwardAsk
    plan: ForwardPlan | None
    replicas: int
    chips_used: int
    pass_s: Estimate
    parts: Mapping[str, float]
    binds: str
    item_s: Estimate
    items_per_s_per_chip: Estimate
    usd_per_item: Estimate
    J_per_item: Estimate
    mfu: Estimate
    memory_B: Mapping[str, float]
    evaluated: int
    assumed: tuple[str, ...]
    reason: str = ""

    @property
    def feasible(self) -> bool:
        """Whether there is an answer."""
        return not self.reason
