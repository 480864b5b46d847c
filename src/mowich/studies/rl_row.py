"""One run of reinforcement learning on given machines: what is asked and what its answer holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mowich.economics import energy
from mowich.estimate import Estimate
from mowich.facts import Facts
from mowich.models.model import Model
from mowich.plans.plan import Plan, ServePlan
from mowich.rl.cycle import Binds, Cycle, CyclePart
from mowich.rl.job import RlJob


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutAsk:
    """Where answers are made. on: system as the user wrote it; system_id, chips: that system and how many; engine,
    release: software ("" : the newest); plan: of one worker, None: the fastest is searched; fixed: choices that
    restrict this search (`plans.serving_choices.parse_serving`); memory_share: of a device that the engine may use,
    None: its default; accept, drafts: of speculative decoding (None, 0: none)."""

    on: str
    system_id: str
    chips: int
    engine: str
    release: str = ""
    plan: ServePlan | None = None
    fixed: Mapping[str, Sequence[int | str]] = field(default_factory=dict)
    memory_share: float | None = None
    accept: float | None = None
    drafts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerAsk:
    """Where updates are made. stack: None: the vendor's own; plan: None: the fastest is searched; fixed: choices that
    restrict this search (`plans.plan.parse_fixed`)."""

    on: str
    system_id: str
    chips: int
    stack: str | None = None
    plan: Plan | None = None
    fixed: Mapping[str, Sequence[int | str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RlAsk:
    """One run. framework: of `facts` rl.frameworks ("" : none is stated), framework_release: of it ("" : the newest);
    sync: method, "": the framework's; link_Bps: bytes/s of the link between the sites of both sides (None: they share a
    fabric or, across vendors, the fact's default); term: kind of price; seed: of the drawn lengths; critic, teacher: of
    passes and updates (None: as large as the model); judge_id: system of the chips that rate answers, which are paid
    for too ("" : none); assumed: what the question left open, in words."""

    model: Model
    job: RlJob
    rollouts: RolloutAsk
    trainer: TrainerAsk
    facts: Facts
    framework: str = ""
    framework_release: str = ""
    sync: str = ""
    link_Bps: float | None = None
    term: str = "default"
    seed: int = 0
    critic: Model | None = None
    teacher: Model | None = None
    judge_id: str = ""
    assumed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RlRow:
    """The answer to one `RlAsk`. parts: of a step, their values sum to that of step_s; cycle: as the events gave it;
    closed_s: the same step in closed form; sync_method: how new weights reach the workers; tokens_per_s_per_chip:
    trained tokens, prompts with them, over all chips; usd_per_mtok: of a million trained tokens; assumed: what nobody
    stated and was taken, with its range, in words; reason: why there is no answer ("" : there is one)."""

    ask: RlAsk
    reason: str
    rollout_plan: ServePlan | None
    trainer_plan: Plan | None
    workers: int
    step_s: Estimate
    parts: Mapping[CyclePart, Estimate]
    binds: Binds | None
    tokens_per_s_per_chip: Estimate
    trainer_wait_frac: Estimate
    rollout_idle_frac: Estimate
    longest_s: Estimate
    staleness_mean: Estimate
    staleness_max: int
    sync_seen_s: Estimate
    sync_hidden_s: Estimate
    usd_per_mtok: Estimate
    J_per_token: Estimate
    price_label: str
    power_basis: energy.PowerBasis | None
    cycle: Cycle | None
    closed_s: float | None
    sync_method: str = ""
    assumed: tuple[str, ...] = ()
