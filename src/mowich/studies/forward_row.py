"""One forward pass, or a loop of them, on given machines: what is asked and what its answer holds. Diffusion (an image
or a clip in `steps` passes), encoders and speech: nothing is decoded token by token, nothing is cached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mowich.economics import money
from mowich.estimate import Estimate
from mowich.facts import Facts
from mowich.models.model import Model
from mowich.plans.forward import ForwardJob, ForwardPlan
from mowich.shown import Keyed
from mowich.software.stack import Platform


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardAsk:
    """One question. on: system as the user wrote it; system_id, chips: that system and how many; stack: software ("" :
    the vendor's own); plan: None: the fastest, or cheapest, is searched; fixed: choices that restrict this search;
    term: kind of price; assumed: what the question left open, in words."""

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
class ForwardRow(Keyed):
    """The answer to one `ForwardAsk`. platform: its chips, with their software; pass_s: one step of one replica: its
    forwards, one behind the other where the branches of guidance share devices; item_s: `steps` of these;
    items_per_s_per_chip: over all chips; memory_B: of a device; mfu: over the published peak; reason: why there is no
    answer ("" : there is one)."""

    KEYS = (
        "system=ask.on system_id=ask.system_id display=platform.display chips_requested=ask.chips chips_used "
        "chips_idle devices_per_chip=platform.devices_per_chip feasible reason:none plan replicas pass_s binds "
        "item_s items_per_s_per_chip usd_per_item J_per_item mfu memory_B memory_capacity_B=platform.hbm_usable_B "
        "price estimated=platform.is_estimated evaluated assumed"
    )

    ask: ForwardAsk
    platform: Platform
    plan: ForwardPlan | None
    replicas: int
    chips_used: int
    pass_s: Estimate
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

    @property
    def parts(self) -> Mapping[str, float]:
        """Seconds of a pass, their values sum to its value."""
        return self.pass_s.breakdown

    @property
    def chips_idle(self) -> int:
        """Chips that no replica is on."""
        return self.ask.chips - self.chips_used

    @property
    def price(self) -> str:
        """What a chip costs, in words."""
        return money.price(self.ask.facts, self.ask.system_id, term=self.ask.term).label
