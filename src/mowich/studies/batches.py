"""What is said of the batch of a training job: that another one trains faster, or that it is larger than what helps.

A plan trains the batch that was asked, and where the chips do not divide it, some of them idle. That is told, not
mended: how many sequences a step has is a choice of who trains the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from mowich.errors import UserError
from mowich.estimate import Estimate
from mowich.facts import Facts
from mowich.plans.enumerate import dp_step_of
from mowich.plans.plan import Plan, Plans, TrainJob
from mowich.studies.outcome import SystemAsk
from mowich.training.step import predict_step
from mowich.units import StepBatch, show_count

NEAR_BATCH = 0.05
"""How far from the batch a better one is looked for; and how far a plan's may be where the number of chips is counted
from money or power, not chosen."""

_IDLE, _FASTER = 0.02, 0.02
"""Shares of idle chips, and of speed gained, from which on another batch is told."""


class Trained(Protocol):
    """What a row says of a plan that trains."""

    @property
    def system(self) -> str: ...
    @property
    def chips_requested(self) -> int: ...
    @property
    def chips_idle(self) -> int: ...
    @property
    def global_batch_seqs(self) -> int: ...
    @property
    def step_s(self) -> Estimate: ...


def better_batch(
    job: TrainJob, row: Trained, experts: int, best: Callable[[TrainJob], Trained]
) -> tuple[int, float] | None:
    """(sequences, share by which it trains faster) of a nearby batch; None where there is none. experts: of a layer, 1
    for a dense model; best: the best row of the same question for another job.

    It is looked for where chips idle, and where groups of experts would need data ranks that the batch does not divide
    over: 384 experts, three times a power of two, and a batch that is a power of two."""
    divides = job.batch_seqs % (experts // (experts & -experts)) == 0
    is_idle = row.chips_idle > _IDLE * row.chips_requested
    if job.batch_tolerance or not row.step_s.value or (divides and not is_idle):
        return None
    try:
        other = best(replace(job, batch_tolerance=NEAR_BATCH))
    except UserError:
        return None
    if not other.step_s.value:
        return None
    gain = other.global_batch_seqs / other.step_s.value / (row.global_batch_seqs / row.step_s.value) - 1.0
    return (other.global_batch_seqs, gain) if gain >= _FASTER else None


def batch_notes(job: TrainJob, found: Sequence[tuple[Trained, tuple[int, float] | None]]) -> list[str]:
    """What to say of better batches, a sentence for each, with the rows that gain."""
    out, near = [], StepBatch(sequences=job.batch_seqs, within=NEAR_BATCH)
    for seqs in dict.fromkeys(better[0] for _, better in found if better):
        rows = [(row, better[1]) for row, better in found if better and better[0] == seqs]
        gains = ", ".join(
            f"{gain:.0%} on {row.system}"
            + (f" ({row.chips_idle:,} of {row.chips_requested:,} chips idle)" if row.chips_idle else "")
            for row, gain in rows
        )
        out.append(
            f"a batch of {seqs:,} ({seqs / job.batch_seqs - 1:+.1%}) divides better and trains faster: {gains}. Ask for"
            f" {StepBatch(sequences=seqs)}, or for {near}, any batch that near"
        )
    return out


def part_server_note(ask: SystemAsk, plan: Plan) -> str | None:
    """What to say of a plan that uses a part of a server, as a data-parallel degree that was asked for may: the next
    ones that fill whole servers, each with as many sequences a rank, and how fast they train. None where servers are
    whole, or the plan is smaller than one."""
    system, model, job = ask.system, ask.model, ask.job
    server = system.server_devices
    if plan.devices < server or plan.devices % server == 0:
        return None
    step = float(dp_step_of(system, Plans.of([plan]))[0])
    told = []
    for dp in (math.ceil(plan.dp / step) * step, math.floor(plan.dp / step) * step):
        if not 0 < dp * plan.devices / plan.dp <= system.devices:
            continue
        seqs = job.batch_seqs / plan.dp * dp
        here = predict_step(model, system, job, plan)
        there = predict_step(model, system, replace(job, batch_seqs=seqs), replace(plan, dp=int(dp)))
        gain = there.tokens / there.total_s / (here.tokens / here.total_s) - 1.0
        servers = round(dp * plan.devices / plan.dp / server)
        told.append(f"dp{dp:.0f} fills {servers:,} and trains {gain:+.1%} a second, with {seqs:g} sequences")
    other = "; ".join(told) or "no other degree fills whole ones"
    return (
        f"{ask.name}: dp{plan.dp} fills {plan.devices / server:g} servers of {system.chips_per_server} chips: {other}"
    )


def critical_tokens(*, tokens: float, run: float, batch: float, x: float) -> float:
    """Tokens of a step beyond which a larger batch hardly saves steps.

    B = batch (tokens / run)^x

    Args:
        tokens: of the run; run, batch: of a run whose batch was found to be near it, in tokens; x: exponent.

    >>> round(critical_tokens(tokens=1e12, run=14.8e12, batch=62.9e6, x=0.47) / 1e6, 1)
    17.7
    """
    return float(batch * (tokens / run) ** x)


def beyond_critical(facts: Facts, job: TrainJob) -> str | None:
    """A word on a batch beyond the critical one of pretraining, None below the high end of what is known of it."""
    if job.task != "pretrain" or job.tokens <= job.tokens_per_step:
        return None
    fact = facts.fact("training.common.critical_batch")
    known = facts.number(fact.path)
    low, middle, high = (
        critical_tokens(
            tokens=job.tokens,
            run=facts.number("training.common.critical_batch_run"),
            batch=end,
            x=facts.number("training.common.critical_batch_exponent"),
        )
        for end in (fact.low or known, known, fact.high or known)
    )
    step = job.tokens_per_step * job.fill * job.sites
    if step <= high:
        return None
    return (
        f"a step of {show_count(step)} tokens is beyond the critical batch of a run of {show_count(job.tokens)}"
        f" tokens (about {show_count(middle)}, {show_count(low)} to {show_count(high)}; {fact.source}, {fact.path}):"
        " fewer steps would learn less, so more tokens, and days, are needed than stand here"
    )
