"""One run of reinforcement learning on given machines: what is asked and what its answer holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mowich.economics import energy
from mowich.estimate import Estimate
from mowich.facts import Facts
from mowich.machines.system import System, resolve
from mowich.models.model import Model
from mowich.plans.plan import Plan, ServePlan, stated_plan
from mowich.rl.cycle import Binds, Cycle, CyclePart
from mowich.rl.frameworks import Framework, read_framework
from mowich.rl.job import RlJob
from mowich.shown import Keyed
from mowich.software.engine import engine_for
from mowich.software.stack import Platform


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

    def software(self) -> Framework:
        """The framework under the run's facts. Raises UserError for one that is not known."""
        return read_framework(self.facts, self.framework, self.framework_release)

    def maker(self) -> System:
        """The chips that make answers, under the run's facts. Raises UserError for a system that is not known."""
        return resolve(self.facts, self.rollouts.system_id, chips=self.rollouts.chips)


@dataclass(frozen=True, slots=True, kw_only=True)
class RlRow(Keyed):
    """The answer to one `RlAsk`. maker, machine: chips that make answers, and those that train with their software;
    parts: of a step, their values sum to that of step_s; cycle: as the events gave it;
    closed_s: the same step in closed form; sync_method: how new weights reach the workers; tokens_per_s_per_chip:
    trained tokens, prompts with them, over all chips; usd_per_mtok: of a million trained tokens; assumed: what nobody
    stated and was taken, with its range, in words; reason: why there is no answer ("" : there is one)."""

    KEYS = (
        "name placement=ask.job.placement rollouts.system=ask.rollouts.system_id rollouts.chips=ask.rollouts.chips "
        "rollouts.engine=engine rollouts.plan=stated_rollouts rollouts.workers=workers "
        "trainer.system=ask.trainer.system_id trainer.chips=ask.trainer.chips trainer.stack=machine.stack.name "
        "trainer.plan=stated_trainer chips feasible reason:none step_s parts binds closed_form_s=closed_s "
        "tokens_per_s_per_chip trainer_wait_frac rollout_idle_frac longest_s staleness.mean=staleness_mean "
        "staleness.max=staleness_max sync.method=sync_method:none sync.seen_s=sync_seen_s "
        "sync.hidden_s=sync_hidden_s usd_per_mtok J_per_token price=price_label:none power_basis assumed"
    )

    ask: RlAsk
    maker: System
    machine: Platform
    step_s: Estimate
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
    reason: str = ""
    rollout_plan: ServePlan | None = None
    trainer_plan: Plan | None = None
    workers: int = 0
    parts: Mapping[CyclePart, Estimate] = field(default_factory=dict)
    binds: Binds | None = None
    power_basis: energy.PowerBasis | None = None
    cycle: Cycle | None = None
    closed_s: float | None = None
    sync_method: str = ""
    assumed: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What it is called, in one word of a shell: its chips, of rollouts first where they are apart."""
        sized = [f"{side.system_id}:{side.chips}" for side in (self.ask.rollouts, self.ask.trainer)]
        return sized[0] if self.ask.job.placement == "colocated" else "+".join(sized)

    @property
    def feasible(self) -> bool:
        """Whether there is an answer."""
        return not self.reason

    @property
    def engine(self) -> str:
        """The engine that makes answers."""
        return engine_for(self.ask.facts, self.maker, self.ask.rollouts.engine or None, self.ask.model)

    @property
    def stated_rollouts(self) -> Mapping[str, object] | None:
        """The plan of a rollout worker as the JSON states it."""
        return None if self.rollout_plan is None else stated_plan(self.rollout_plan, self.maker.lnc)

    @property
    def stated_trainer(self) -> Mapping[str, object] | None:
        """That of the trainer."""
        return None if self.trainer_plan is None else stated_plan(self.trainer_plan, self.machine.lnc)

    @property
    def chips(self) -> int:
        """Chips that are paid for: of both sides, and of a judge."""
        job = self.ask.job
        trains = 0 if job.placement == "colocated" else self.ask.trainer.chips
        return self.ask.rollouts.chips + trains + job.environment.judge_chips
