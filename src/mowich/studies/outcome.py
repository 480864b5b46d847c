"""What a step that takes so long comes to: its speed, cost, energy and the days of the run.

The one place for all who say such a number: rows of comparisons and lists of plans, sizes of a scaling, served tokens,
and explanations, which make it again under other facts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypedDict

from mowich.economics import energy, money
from mowich.estimate import Estimate, exact, product_of, unknown_estimate
from mowich.facts import Facts
from mowich.facts.load import once_for
from mowich.models.model import Model
from mowich.models.task import train_flop_per_token
from mowich.plans.memory_range import usable_B
from mowich.plans.plan import Plan, TrainJob
from mowich.software.stack import Platform, equip, stack_words
from mowich.studies.footing import DAY_S, PaidRun, tokens_trained
from mowich.training.tuned import has_kernels

CERTAIN = exact(1.0, "1")
"""The goodput of what is not interrupted."""


@once_for(64)
def resolved(facts: Facts, spec: str, chips: int | None, stack: str | None) -> Platform:
    """`resolve`, kept: a row asks for its system again and again, and so do the points of a sweep."""
    return equip(facts, spec, chips=chips, stack=stack)


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemAsk:
    """One system's question. name: as the user wrote it; chips: requested and paid for; hand_tuned: with kernels
    written by hand where they are timed for the chip, each at the plan that is best with them (`hand_tuned_plans`);
    paid: what pays for the chips, None where nobody said; no_chips: why there are none (chips 0)."""

    name: str
    system_id: str
    chips: int
    stack: str | None
    model: Model
    facts: Facts
    job: TrainJob
    term: str
    hand_tuned: bool = False
    paid: PaidRun | None = None
    no_chips: str = ""

    def under(self, facts: Facts) -> Platform:
        """The system as other facts have it."""
        return resolved(facts, self.system_id, self.chips or None, self.stack)

    @property
    def system(self) -> Platform:
        return self.under(self.facts)

    def inputs(self, system: Platform) -> dict[str, object]:
        """The system and its software, as the inputs of an answer say them. system: that of the question."""
        return {
            "system": self.name,
            "id": self.system_id,
            "chips": self.chips,
            **stack_words(self.facts, system, hand_tuned=self.hand_tuned and has_kernels(system)),
            "price_terms": money.quoted_terms(self.facts, self.system_id),
        }

    @property
    def usable_B(self) -> tuple[float, float]:
        """What a program may use of a device's memory: low and high end of the fact's range."""
        low, _, high = usable_B(self.facts, self.system)
        return low, high


class TokenCost(TypedDict):
    """Those fields of a row that tell what tokens cost, in dollars and in energy; price_label: at which price;
    power_basis: whether the power that is drawn was metered."""

    usd_per_mtok: Estimate
    J_per_token: Estimate
    price_label: str
    power_basis: energy.PowerBasis


def cost_of(
    facts: Facts,
    system_id: str,
    *,
    term: str,
    used: int,
    idle: int,
    step_s: Estimate,
    tokens: float,
    goodput: Estimate = CERTAIN,
) -> TokenCost:
    """The cost of the tokens of a step. used, idle: chips, all of which are paid for; term: kind of price."""
    price, site = money.price(facts, system_id, term=term), energy.read_site(facts)
    draw = energy.drawn_power(facts, system_id)
    return TokenCost(
        usd_per_mtok=money.usd_per_mtok(price.rate, chips=used + idle, step_s=step_s, tokens=tokens, goodput=goodput),
        J_per_token=energy.joule_per_token(
            draw.power,
            used=used,
            idle=idle,
            step_s=step_s,
            tokens=tokens,
            goodput=goodput,
            pue=site.pue,
            idle_share=draw.idle_share,
        ),
        price_label=price.label,
        power_basis=draw.basis,
    )


class StepOutcome(TokenCost):
    """Those fields of a row that tell what a training step comes to. tokens_per_s_per_chip: of used chips, without
    failures; cost, days: with failures and idle chips; tokens_trained: in the days that a budget pays for, None without
    one."""

    step_s: Estimate
    tokens_per_s_per_chip: Estimate
    mfu: Estimate
    goodput: Estimate
    days: Estimate
    tokens_trained: Estimate | None


def used_chips(plan: Plan, system: Platform) -> int:
    """Chips that a plan uses."""
    return math.ceil(plan.devices / system.devices_per_chip)


def step_outcome(ask: SystemAsk, plan: Plan, *, step_s: Estimate, tokens: float, goodput: Estimate) -> StepOutcome:
    """What a step of a plan comes to. tokens: of a step with its padding, which is computed and not counted; goodput:
    share of the time that trains, at that step time (`longrun`)."""
    system, job, counted, used = ask.system, ask.job, tokens * ask.job.fill, used_chips(plan, ask.system)
    speed = step_s.inverse(counted / used, "1/s")
    peak = system.peak_flops[plan.precision] * system.devices_per_chip
    days = product_of([(step_s, 1.0), (goodput, -1.0)], "d").scaled(job.tokens / job.sites / counted / DAY_S, "d")
    if ask.paid is not None and not ask.paid.has_tokens:
        days = unknown_estimate("d", "the tokens of the run are not asked")
    cost = cost_of(
        ask.facts,
        system.id,
        term=ask.term,
        used=used,
        idle=ask.chips - used,
        step_s=step_s,
        tokens=counted,
        goodput=goodput,
    )
    return StepOutcome(
        step_s=step_s,
        tokens_per_s_per_chip=speed,
        mfu=step_s.inverse(model_flop_per_step(ask.model, job, counted) / (used * peak), "1").below(1.0),
        goodput=goodput,
        **cost,
        days=days,
        tokens_trained=None if ask.paid is None else tokens_trained(speed, used, goodput, ask.paid),
    )


def model_flop_per_step(model: Model, job: TrainJob, tokens: float) -> float:
    """FLOP of the step as MFU counts them: 3 x forward, causal attention halved, no recompute; `train_flop_per_token`
    for adapters."""
    return train_flop_per_token(model, job.attended, job.task, job.lora) * tokens
