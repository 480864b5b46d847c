"""One forward pass, or a loop of them, on given chips: the plans of a replica, the best of them, and what it comes to.

Replicas are independent: as many as the chips hold. Without a limit of time the best plan makes the most items a second
on all chips; with one (`latency_s`) the most among those that keep it. Plans whose rates the law cannot tell apart
(`plans.preference.margin`) are ordered by the seconds of an item.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from mowich.arrays import Floats
from mowich.estimate import Estimate, Notes, exact, from_spreads, unknown_estimate
from mowich.evidence.residual import step_interval
from mowich.facts import Facts
from mowich.facts.together import moves_together
from mowich.machines.system import with_lnc
from mowich.plans.enumerate import check_fixed, tp_degrees
from mowich.plans.forward import FORWARD_PRECISIONS, ForwardPlan
from mowich.plans.plan import one_of
from mowich.plans.preference import margin
from mowich.plans.search import SAME_TIME, by_time, powers
from mowich.software.stack import Platform
from mowich.software.vendors import chip_of, software_of, vendor_of
from mowich.studies.forward_row import ForwardAsk, ForwardRow
from mowich.studies.outcome import cost_of, resolved
from mowich.sums import float_sum
from mowich.training.forward import (
    PassTime,
    PassWork,
    binds_pass,
    forward_flop,
    pass_memory_B,
    pass_plans,
    pass_time,
)
from mowich.training.sensitivity import ends, moved_numbers, noted_on
from mowich.units import show_gib

MOST_BATCH = 1024
"""Items at once up to which a batch is searched."""
MOST_CP = 16
"""Ranks that share the tokens of an item, at most."""
_LEAST_MOVE = 1e-4
_WIDE_MOVE = 0.05
"""Change of ln seconds by a fact at the end of its range: below the first it is left out, above the second the answer
has grade D."""


def assess_forward(ask: ForwardAsk, notes: Notes | None = None) -> ForwardRow:
    """The best plan of one system, or the plan that is asked, and what it comes to; a row with a reason where nothing
    is legal, fits or keeps the limit of time. notes: record every law of the plan that is asked.

    Units: seconds, items/s, dollars and joules of an item.

    Raises UserError for a fixed choice that no plan of the model can have.
    """
    return best_forward(ask, notes=notes)[0]


def best_forward(ask: ForwardAsk, top: int = 1, notes: Notes | None = None) -> tuple[ForwardRow, ...]:
    """At most `top` rows, best first. Behind the best plan come those that make an item sooner at a higher cost (the
    front of items a second and seconds of an item), then the next best."""
    asked = _Asked.of(ask)
    plans = asked.plans()
    if not plans:
        return (_without(ask, asked, asked.no_plan()),)
    columns = pass_plans(plans, asked.system)
    memory = pass_memory_B(ask.model, asked.system, asked.work, columns, notes)
    need = np.sum(list(memory.values()), axis=0)
    fits = need <= asked.system.hbm_usable_B
    if not fits.any() and ask.plan is None:
        least = int(np.argmin(need))
        found = {name: float(column[least]) for name, column in memory.items()}
        return (_without(ask, asked, _too_small(found, asked.system), found, len(plans)),)
    kept = np.flatnonzero(fits) if ask.plan is None else np.arange(len(plans))
    time = pass_time(ask.model, asked.system, asked.work, columns.take(kept), notes)
    rate = np.array([asked.items_at_once(plans[i]) for i in kept]) / time.total_s
    item_s = ask.job.steps * time.total_s
    keeps = item_s <= (ask.job.latency_s or math.inf)
    reason = ""
    if not keeps.any():
        fastest = int(np.argmin(item_s))
        reason = f"no plan makes an item in {ask.job.latency_s:.3g} s; the fastest takes {item_s[fastest]:.3g} s"
        order = [fastest]
    else:
        among = np.flatnonzero(keeps)
        ranked = _front_first(rate[among], item_s[among], margin(ask.facts))
        order = [int(i) for i in among[ranked]][:top]
    if not fits[kept].all():
        reason = _too_small({name: float(column[0]) for name, column in memory.items()}, asked.system)
    rows = []
    for i in order:
        found = {name: float(column[kept[i]]) for name, column in memory.items()}
        rows.append(_row(ask, asked, plans[kept[i]], time, i, found, len(plans), reason, with_range=notes is None))
    return tuple(rows)


def forward_laws(ask: ForwardAsk) -> Notes:
    """The laws behind the row of the plan that is asked, each with the facts that move it: all in one evaluation.

    Raises ValueError where no plan is asked.
    """
    if ask.plan is None:
        raise ValueError("laws are of one plan")
    asked, plan = _Asked.of(ask), ask.plan

    def evaluate(system: Platform, notes: Notes) -> None:
        columns = pass_plans([plan], system)
        pass_memory_B(ask.model, system, asked.work, columns, notes)
        pass_time(ask.model, system, asked.work, columns, notes)

    found = noted_on(evaluate, asked.system, asked.facts)
    found.drop_zeros()
    return found


def forward_platform(ask: ForwardAsk) -> Platform:
    """The chips of a question with the software that its passes run on."""
    return _Asked.of(ask).system


def _front_first(rate: Floats, item_s: Floats, within: float) -> list[int]:
    """Places in the order of an answer: of those within that share of the most items a second the shortest item, then
    the front from there to the shortest item of all, then the rest."""
    order = by_time(1.0 / rate, item_s).tolist()
    near = [i for i in order if rate[i] >= (1.0 - within) * rate[order[0]]]
    front = [min(near, key=lambda i: item_s[i])]
    for i in order:
        if item_s[i] < item_s[front[-1]] * (1.0 - SAME_TIME):
            front.append(i)
    return [*front, *(i for i in order if i not in front)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A question on its machine. facts: with the devices that are asked for; stack: its software."""

    ask: ForwardAsk
    facts: Facts
    stack: str
    system: Platform
    work: PassWork

    @classmethod
    def of(cls, ask: ForwardAsk) -> _Asked:
        facts, on = ask.facts, ask.system_id
        stack = ask.stack or software_of(facts, chip_of(facts, on), vendor_of(facts, on), "forward_stack")
        system = resolved(facts, on, ask.chips, stack)
        if ask.plan is not None and ask.plan.lnc not in (0, system.lnc):
            facts = facts.with_values(with_lnc(facts, ask.plan.lnc))
            system = resolved(facts, on, ask.chips, stack)
        return cls(
            ask=ask,
            facts=facts,
            stack=stack,
            system=system,
            work=PassWork(tokens=ask.job.tokens, branches=ask.job.branches, is_diffusion=ask.job.task == "diffuse"),
        )

    def plans(self) -> list[ForwardPlan]:
        """The legal plans, within the choices that were made; that of the question alone where it has one."""
        ask, lnc = self.ask, self.system.lnc
        if ask.plan is not None:
            return [replace(ask.plan, lnc=lnc)] if ask.plan.devices <= self.system.devices else []
        fixed = {name: [int(v) for v in values] for name, values in ask.fixed.items() if name != "precision"}
        check_fixed(ask.model, self.system, ask.fixed)
        batches = [ask.job.batch] if ask.job.batch else fixed.get("batch", self._batches())
        batches = [batch for batch in batches if batch in fixed.get("batch", batches)]
        out = []
        words = map(str, ask.fixed.get("precision", ("bf16",)))
        for precision in (one_of(word, FORWARD_PRECISIONS, "precision") for word in words):
            for cfg in fixed.get("cfg", [1, 2][: ask.job.branches]):
                for tp in fixed.get("tp", tp_degrees(ask.model, self.system)):
                    for cp in fixed.get("cp", powers(min(MOST_CP, ask.job.tokens))):
                        if cfg <= ask.job.branches and self._least <= tp * cp * cfg <= self.system.devices:
                            shape = ForwardPlan(tp=tp, cp=cp, cfg=cfg, precision=precision, lnc=lnc)
                            out += [replace(shape, batch=batch) for batch in batches]
        return out

    @property
    def _least(self) -> int:
        """Devices of a replica at least: those of a chip where images are made, so that seconds of an item compare
        between chips, and one copy of the weights leaves room for the encoder of the text and the decoder of the
        image."""
        return self.system.devices_per_chip if self.ask.job.task == "diffuse" else 1

    def _batches(self) -> list[int]:
        """Items at once that are tried."""
        job = self.ask.job
        return [1] if job.task == "diffuse" and not job.latency_s else powers(MOST_BATCH)

    def no_plan(self) -> str:
        """Why no plan is legal."""
        fixed = ", ".join(f"{name}={'|'.join(map(str, values))}" for name, values in self.ask.fixed.items())
        return (
            f"no plan is legal with {self.ask.plan or fixed}: tp x cp x cfg is {self._least} to {self.system.devices}"
            f" devices, cfg at most {self.ask.job.branches}"
        )

    def replicas(self, plan: ForwardPlan) -> int:
        """Copies of a plan that the chips hold."""
        return self.system.devices // plan.devices

    def items_at_once(self, plan: ForwardPlan) -> int:
        """Items that all replicas work on."""
        return self.replicas(plan) * plan.batch

    def assumed(self) -> tuple[str, ...]:
        """What the question left open, in words."""
        job, out = self.ask.job, list(self.ask.assumed)
        if job.task == "diffuse":
            out.append("the text encoder, the VAE and the scheduler are left out")
            if not (job.batch or job.latency_s or "batch" in self.ask.fixed):
                out.append("a replica makes one item at a time: a batch, or a limit of time, says otherwise")
        if not job.latency_s and self.ask.plan is None:
            out.append("the plan is the one that makes the most items a second: a limit of time asks for shorter ones")
        return tuple(out)


def _row(
    ask: ForwardAsk,
    asked: _Asked,
    plan: ForwardPlan,
    time: PassTime,
    i: int,
    memory: dict[str, float],
    evaluated: int,
    reason: str,
    with_range: bool,
) -> ForwardRow:
    """The row of one plan."""
    parts = {name: float(column[i]) for name, column in time.parts.items() if column[i]}
    pass_s = _pass_estimate(ask, asked, plan, float(time.total_s[i]), parts, with_range)
    system, job, replicas = asked.system, ask.job, asked.replicas(plan)
    used = math.ceil(replicas * plan.devices / system.devices_per_chip)
    item_s = pass_s.scaled(float(job.steps), "s")
    items = float(asked.items_at_once(plan))
    cost = cost_of(ask.facts, system.id, term=ask.term, used=used, idle=ask.chips - used, step_s=item_s, tokens=items)
    peak = system.peak_flops[plan.precision] * system.devices_per_chip
    flop = forward_flop(ask.model, job.tokens) * job.branches * job.steps * items
    return ForwardRow(
        ask=ask,
        platform=system,
        plan=plan,
        replicas=replicas,
        chips_used=used,
        pass_s=pass_s,
        binds=binds_pass(parts),
        item_s=item_s,
        items_per_s_per_chip=item_s.inverse(items / ask.chips, "1/s"),
        usd_per_item=cost["usd_per_mtok"].scaled(1e-6, "USD"),
        J_per_item=cost["J_per_token"].scaled(1.0, "J"),
        mfu=item_s.inverse(flop / (used * peak), "1").below(1.0),
        memory_B=memory,
        evaluated=evaluated,
        assumed=asked.assumed(),
        reason=reason,
    )


def _pass_estimate(
    ask: ForwardAsk, asked: _Asked, plan: ForwardPlan, value: float, parts: dict[str, float], with_range: bool
) -> Estimate:
    """The seconds of a step with their range: the law's own error, and each fact at the ends of its range."""
    if not with_range:
        return replace(exact(value, "s", ask.model.graded("C")), breakdown=parts)

    def seconds(system: Platform) -> Floats:
        return pass_time(ask.model, system, asked.work, pass_plans([plan], system)).total_s

    now, moved = moved_numbers(seconds, ends(asked.facts, ask.system_id, asked.stack), ask.chips)
    change: dict[str, list[float]] = {}
    for (path, is_high), other in moved.items():
        change.setdefault(path, [0.0, 0.0])[is_high] = math.log(other / now)
    found = moves_together([(path, low, high) for path, (low, high) in change.items()], asked.facts)
    wide = [(low, high) for _, low, high in found if max(abs(low), abs(high)) > _LEAST_MOVE]
    faster, slower = step_interval(parts, ask.model, asked.system, asked.facts)
    return from_spreads(
        value,
        "s",
        [faster, *(max(0.0, -min(moves)) for moves in wide)],
        [slower, *(max(0.0, max(moves)) for moves in wide)],
        grade=ask.model.graded("D" if any(max(map(abs, moves)) > _WIDE_MOVE for moves in wide) else "C"),
        coverage={"analytic": 1.0},
        breakdown=parts,
    )


def _too_small(need: dict[str, float], system: Platform) -> str:
    """Why nothing fits: by how much, and of what."""
    short = float_sum(need.values()) - system.hbm_usable_B
    parts = ", ".join(f"{name} {size / 2**30:.1f}" for name, size in need.items())
    return (
        f"does not fit: {show_gib(short)} short per device at best ({parts}; usable {system.hbm_usable_B / 2**30:.1f})"
    )


def _without(
    ask: ForwardAsk, asked: _Asked, reason: str, memory: dict[str, float] | None = None, evaluated: int = 0
) -> ForwardRow:
    """The row of a system on which nothing runs."""

    def none(unit: str) -> Estimate:
        return unknown_estimate(unit, reason)

    return ForwardRow(
        ask=ask,
        platform=asked.system,
        plan=None,
        replicas=0,
        chips_used=0,
        pass_s=none("s"),
        binds="hbm capacity" if memory else "no legal plan",
        item_s=none("s"),
        items_per_s_per_chip=none("1/s"),
        usd_per_item=none("USD"),
        J_per_item=none("J"),
        mfu=none("1"),
        memory_B=memory or {},
        evaluated=evaluated,
        assumed=asked.assumed(),
        reason=reason,
    )
