"""`mowich compare` and `mowich plan`: the same training job on several systems, each at its best plan.

It joins the layers below and adds only the interval of the answer: each fact with a range that no fit has tested is
moved to the ends of its range, and the error of steps left out of the fit (`evidence.residual`) is added.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from mowich.economics import money
from mowich.errors import UserError, or_infeasible
from mowich.estimate import Estimate, from_spreads, product_of, unknown_estimate
from mowich.evidence.residual import step_interval
from mowich.facts.together import moves_together
from mowich.machines.topology import joined_note
from mowich.models.model import Moe, as_trained
from mowich.plans.memory_range import MemoryNeed, memory_need
from mowich.plans.plan import Plan, TrainJob, stated_plan
from mowich.progress import steps, tell
from mowich.shown import Rows, Shown
from mowich.software.stack import Platform, equip
from mowich.studies.breakeven import with_breakeven
from mowich.sums import float_sum
from mowich.training import longrun
from mowich.training.search import Candidate, Search, search
from mowich.training.sensitivity import moves
from mowich.training.tuned import has_kernels
from mowich.units import show_gib

if TYPE_CHECKING:
    from mowich.requests.jobs import CompareRequest
    from mowich.shown import Text
from mowich.studies.batches import NEAR_BATCH, batch_notes, better_batch, beyond_critical, part_server_note
from mowich.studies.binding import binds, does_not_fit
from mowich.studies.fact_labels import fact_label
from mowich.studies.footing import owned_chips, placed_systems
from mowich.studies.hand_tuned import AMONG, hand_tuned_estimate, hand_tuned_plans
from mowich.studies.outcome import SystemAsk, step_outcome, used_chips
from mowich.studies.runnable import WIDE, Runs
from mowich.studies.system_row import SearchedRows, SystemRow, SystemRows
from mowich.studies.yearly import with_year


@dataclass(frozen=True, slots=True, kw_only=True)
class Row(Shown, SystemRow):
    """One system's answer. need: the range of the memory, and the chance of running out. step_s: with the software as
    shipped; hand_tuned_step_s: the same plan with operators as fast as our kernels run them (`training.tuned`),
    Trainium only; its coverage is the share of the time that our kernels were timed for. tokens_trained: in the days
    that a budget pays for, None without a budget. survival: how the run of `goodput` survives failures
    (docs/records/goodput.md), "" without a plan. spread: (fact path, change of ln step time at its low and high end).

    Units: SI (seconds, bytes, joules, watts), dollars; each number an `Estimate` with its 90% range and grade.

    Example:
        >>> import mowich
        >>> job = {"tokens": "1T", "seq": 4096, "batch": "256seqs"}
        >>> row = mowich.plan("llama-3.1-8b", "h100:64", train=job, top=1).rows[0]
        >>> row.chips_used, row.days.unit
        (64, 'd')
    """

    KEYS = (
        "system system_id display chips_requested chips_used chips_idle devices_per_chip global_batch_seqs "
        "feasible reason plan=stated step_s tokens_per_s_per_chip mfu usd_per_mtok J_per_token "
        "breakeven_usd_per_chip_h breakeven_W_per_chip goodput days tokens_trained? owned? yearly? "
        "hand_tuned_step_s memory_B memory_capacity_B **need survival binds price=price_label power_basis:none? "
        "estimated spread=moved"
    )

    global_batch_seqs: int = 0
    plan: Plan | None = None
    step_s: Estimate
    mfu: Estimate
    need: MemoryNeed | None = None
    goodput: Estimate
    days: Estimate
    survival: str = ""
    estimated: bool = False
    hand_tuned_step_s: Estimate | None = None
    spread: tuple[tuple[str, float, float], ...] = ()
    tokens_trained: Estimate | None = None
    of: PlanList | None = field(default=None, repr=False, compare=False)

    @property
    def breakdown(self) -> dict[str, float]:
        """Seconds of the step by part; they sum to `step_s`."""
        return {name: float(part) for name, part in self.step_s.breakdown.items()}

    def alone(self) -> PlanList:
        """A list that holds this plan only. Raises UserError for a row that was not taken from a list of plans."""
        if self.of is None:
            raise UserError(
                "this row does not say what was asked",
                fix="take it from mowich.plan(...)[0], or ask the comparison that holds it",
            )
        return replace(self.of, rows=Rows([self]))

    def _repr_html_(self) -> str:
        return (
            self.alone()._repr_html_()
            if self.of is not None
            else f"<pre>{self.system}: {self.plan}, {self.step_s}</pre>"
        )

    def explain(self, metric: str, *, facts: object = None) -> Text:
        """Where a number of this plan, such as "step_s" or "step_s.ep", comes from. facts: None for those of the
        question."""
        one = self.alone()
        return one.explain(f"1.{metric}", facts=facts or (one.ask.facts if one.ask else None))

    @property
    def stated(self) -> Mapping[str, object] | None:
        """The plan as the JSON states it."""
        return None if self.plan is None else stated_plan(self.plan, self.lnc)

    @property
    def moved(self) -> list[dict[str, object]]:
        """`spread` as the JSON states it."""
        return [{"fact": f, "at_low": low, "at_high": high} for f, low, high in self.spread]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanList(SearchedRows[Row]):
    """The best plans of one system: first the one to take, then the fastest of the others. ask: the question, which
    neighbours, the Pareto front and a timeline need again.

    Units: SI (seconds, bytes, joules, watts), dollars; each number an `Estimate` with its 90% range and grade.

    Example:
        >>> import mowich
        >>> job = {"tokens": "1T", "seq": 4096, "batch": "256seqs"}
        >>> found = mowich.plan("llama-3.1-8b", "h100:64", train=job, top=2)
        >>> len(found.rows)
        2
    """

    SCHEMA = "mowich/plan@1"
    KEYS = "inputs facts_hash evaluated feasible plans=rows preferred? warnings:none? compromise?"

    ask: SystemAsk | None = None

    def __getitem__(self, place: int) -> Row:
        """A plan, 0 the best. It knows its question, so it can be explained."""
        return replace(self.rows[place], of=self)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return map(self.__getitem__, range(len(self)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison(SystemRows[Row]):
    """Rows in the order asked for. complete: whether no interrupt came before the last.

    Units: SI (seconds, bytes, joules, watts), dollars; each number an `Estimate` with its 90% range and grade.

    Example:
        >>> import mowich
        >>> job = {"tokens": "1T", "seq": 4096, "batch": "256seqs"}
        >>> found = mowich.compare("llama-3.1-8b", ["trn3", "h100"], train=job, chips=64)
        >>> found.rows[1].system, found.rows[1].step_s.unit
        ('h100', 's')
    """

    SCHEMA = "mowich/compare@1"
    KEYS = "inputs facts_hash complete rows warnings"

    complete: bool = True


def _spread(ask: SystemAsk, plan: Plan) -> tuple[tuple[str, float, float], ...]:
    """How ln(seconds per token) of a fixed plan moves when each fact with a range goes to its low and high end; largest
    first.

    See `training.sensitivity`."""
    return moves(
        ask.model, ask.job, plan, facts=ask.facts, system_id=ask.system_id, chips=ask.chips, stack_name=ask.stack
    )


def step_estimate(ask: SystemAsk, candidate: Candidate) -> tuple[Estimate, tuple[tuple[str, float, float], ...]]:
    """The step time of a candidate with its 90% interval, and the facts that make the interval."""
    found = _spread(ask, candidate.plan)
    faster, slower = step_interval(candidate.parts, ask.model, ask.system, ask.facts)
    wide = moves_together(found, ask.facts)
    downs = [faster] + [max(0.0, -min(lo, hi)) for _, lo, hi in wide]
    ups = [slower] + [max(0.0, max(lo, hi)) for _, lo, hi in wide]
    grade = ask.model.graded("D" if any(max(abs(lo), abs(hi)) > 0.05 for _, lo, hi in found) else "C")
    estimate = from_spreads(
        candidate.step_s, "s", downs, ups, grade=grade, coverage={"analytic": 1.0}, breakdown=candidate.parts
    )
    return estimate, found


def without_plan(ask: SystemAsk, reason: str) -> Row:
    """The row of a system without a legal plan that fits: every estimate is unknown, with the reason."""
    system, none = ask.system, partial(unknown_estimate, reason="no plan fits")
    return Row(
        system=ask.name,
        system_id=system.id,
        display=system.display,
        chips_requested=ask.chips,
        feasible=False,
        reason=reason,
        devices_per_chip=system.devices_per_chip,
        lnc=system.lnc,
        memory_capacity_B=ask.usable_B[0],
        binds="no legal plan",
        price_label=money.price(ask.facts, system.id, term=ask.term).label,
        estimated=system.is_estimated,
        step_s=none("s"),
        tokens_per_s_per_chip=none("1/s"),
        mfu=none("1"),
        usd_per_mtok=none("USD/Mtok"),
        J_per_token=none("J/token"),
        breakeven_usd_per_chip_h=none("USD/chip/h"),
        breakeven_W_per_chip=none("W"),
        goodput=none("1"),
        days=none("d"),
        tokens_trained=none("1") if ask.paid else None,
    )


def with_plan(
    ask: SystemAsk,
    found: Search,
    candidate: Candidate,
    feasible: bool | None,
    reason: str | None,
    *,
    brief: bool = False,
) -> Row:
    """The row of a system from one of the plans that its search kept; brief: without the step with hand-tuned
    kernels."""
    system, facts, job = ask.system, ask.facts, ask.job
    step, moves = step_estimate(ask, candidate)
    tuned = None
    if has_kernels(system) and (ask.hand_tuned or not brief):
        tuned, tuned_moves = hand_tuned_estimate(ask.model, system, job, candidate.plan, facts, moves)
    if tuned is not None and ask.hand_tuned:
        step, moves, tuned = tuned, tuned_moves, None
        candidate = replace(candidate, step_s=float(step), parts=step.breakdown)
    used = used_chips(candidate.plan, system)
    failures = longrun.survival(facts, system.id, chips=used, step_s=step)
    out = step_outcome(ask, candidate.plan, step_s=step, tokens=candidate.tokens, goodput=failures.goodput)
    there = None
    if ask.paid is not None and ask.paid.more and (trained := out["tokens_trained"]) is not None:
        there = owned_chips(facts, system.id, ask.chips, trained, job.tokens, ask.paid)
    return Row(
        system=ask.name,
        system_id=system.id,
        display=system.display,
        chips_requested=ask.chips,
        chips_used=used,
        chips_idle=ask.chips - used,
        devices_per_chip=system.devices_per_chip,
        lnc=system.lnc,
        global_batch_seqs=round(candidate.tokens / job.seq),
        feasible=feasible,
        reason=reason,
        plan=candidate.plan,
        memory_B=candidate.memory_B,
        memory_capacity_B=ask.usable_B[0],
        need=memory_need(facts, system, candidate.plan, candidate.memory_B),
        owned=there,
        survival=failures.strategy,
        binds=binds(candidate, found),
        **out,
        estimated=system.is_estimated,
        hand_tuned_step_s=tuned,
        spread=moves,
        search_counts={"evaluated": found.evaluated, "feasible": found.feasible, "seconds": found.seconds},
    )


def solve_system(
    ask: SystemAsk, *, fixed: Mapping[str, Sequence[int | str]], top: int = 1, brief: bool = False
) -> tuple[Row, ...]:
    """Rows of one system, best first; one infeasible row when nothing fits.

    Where the usable memory is a range, a plan must fit at its low end; if plans fit only at the high end, `feasible` is
    None. brief: leave out the step with hand-tuned kernels, which takes a fifth of the time of a small search.
    """
    return solved(ask, fixed=fixed, top=top, brief=brief)[0]


def solved(
    ask: SystemAsk,
    *,
    fixed: Mapping[str, Sequence[int | str]],
    top: int,
    brief: bool = False,
    margin: float = 0.0,
    runs: Runs = None,
) -> tuple[tuple[Row, ...], Search | None]:
    """The rows of a system, and the search that found their plans (None without a search)."""
    if ask.no_chips:
        return (without_plan(ask, ask.no_chips),), None
    system = ask.system
    low, high = (replace(system, hbm_usable_B=end) for end in ask.usable_B)
    sought = or_infeasible(_sought, ask, low, fixed, top, margin, runs)
    if isinstance(sought, UserError):
        return (without_plan(ask, sought.line()),), None
    found, best = sought
    if best:
        return tuple(with_plan(ask, by, c, True, None, brief=brief) for c, by in best), found
    if high.hbm_usable_B > low.hbm_usable_B:
        roomy, best = _sought(ask, high, fixed, top, margin, runs)
        if best:
            need = min(float_sum(c.memory_B.values()) for c, _ in best) * system.devices_per_chip
            ends = "..".join(f"{s.hbm_usable_B * system.devices_per_chip / 2**30:.0f}" for s in (low, high))
            reason = f"fits only if a chip has at least {show_gib(need)}; its memory is given as {ends} GiB"
            return tuple(with_plan(ask, by, c, None, reason, brief=brief) for c, by in best), roomy
    row = without_plan(ask, does_not_fit(found, high))
    counts = {"evaluated": found.evaluated, "feasible": 0, "seconds": found.seconds}
    return (replace(row, memory_B=found.smallest_B, binds="hbm capacity", search_counts=counts),), None


def _sought(
    ask: SystemAsk, system: Platform, fixed: Mapping[str, Sequence[int | str]], top: int, margin: float, runs: Runs
) -> tuple[Search, list[tuple[Candidate, Search]]]:
    """A search, and its best plans, each with the search that found it."""
    for most in WIDE if runs is not None else ():
        found = search(ask.model, system, ask.job, fixed=fixed, top=most)
        best = [c for c in found.best if runs is not None and runs(c.plan, round(c.tokens / ask.job.seq))]
        if best or len(found.best) < most or most == WIDE[-1]:
            return replace(found, best=tuple(best[:top]), preferred=None), [(c, found) for c in best[:top]]
    tuned = ask.hand_tuned and has_kernels(system)
    found = search(ask.model, system, ask.job, fixed=fixed, top=max(top, AMONG) if tuned else top, margin=margin)
    if not (tuned and found.best):
        return found, [(c, found) for c in found.best]
    ranked = hand_tuned_plans(ask.model, system, ask.job, fixed=fixed, found=found)
    return found, [(c, by) for _, c, by in ranked[:top]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """One comparison before it is solved: the question to each system, and what the answer says about the inputs."""

    asked: CompareRequest
    asks: tuple[SystemAsk, ...]
    inputs: Mapping[str, object]
    notes: tuple[str, ...]


def system_asks(asked: CompareRequest) -> Questions:
    """The questions of `compare`, one a system; they may be solved anywhere, in any order. Raises UserError for bad
    input."""
    facts, footing, train = asked.facts, asked.footing, asked.train_job
    if asked.chips is None and footing.equal != "chips":
        raise UserError(
            "needs chips",
            field="equal",
            given=footing.equal,
            fix="they count the first system's chips (units with units)",
        )
    if footing.is_counted and not train.batch_tolerance:
        train = replace(train, batch_tolerance=NEAR_BATCH)  # a counted number of chips seldom divides a batch
    placed, notes = placed_systems(asked)
    asks: list[SystemAsk] = []
    resolved: list[dict[str, object]] = []
    for own in placed:
        system = equip(facts, own.name, chips=own.chips, stack=asked.stack)
        notes += joined_note(facts, own.name, system)
        ask = SystemAsk(
            name=own.name,
            system_id=system.id,
            chips=0 if own.no_chips else system.chips,
            stack=asked.stack,
            model=as_trained(asked.model),
            facts=facts,
            job=train,
            term=own.term,
            hand_tuned=asked.hand_tuned,
            paid=own.paid,
            no_chips=own.no_chips,
        )
        resolved.append({**ask.inputs(system), **own.inputs()})
        asks.append(ask)
    inputs = {
        **asked.model.inputs(),
        **train.inputs(),
        "systems": resolved,
        "chips": asked.chips,
        "equal": footing.equal,
        **footing.inputs(),
        **(asked.year.inputs() if asked.year else {}),
        "fixed": {k: list(v) for k, v in asked.fixed.items()},
        "price_term": footing.kind(asked.term),
    }
    return Questions(asked=asked, asks=tuple(asks), inputs=inputs, notes=tuple(notes))


def answer(question: Questions, rows: Sequence[Row], *, complete: bool = True) -> Comparison:
    """Rows of `question.asks`, in their order, as one comparison: break-evens against each other, warnings."""
    asked, warnings = question.asked, list(question.notes)
    for row in rows:
        links = [
            (f, lo, hi)
            for f, lo, hi in row.spread
            if "bandwidth" in f and "hbm" not in f and max(abs(lo), abs(hi)) > 0.05
        ]
        warnings += [
            f"{row.system}: the range of {fact_label(f)} alone moves the step by {math.expm1(min(lo, hi)):+.0%} to"
            f" {math.expm1(max(lo, hi)):+.0%}"
            for f, lo, hi in links[:1]
        ]
    warnings += said_of_batch(question.asks, rows, asked.fixed) if complete else []  # it searches once more
    found = with_breakeven(
        rows,
        asked.facts,
        speed=lambda r: r.tokens_per_s_per_chip.scaled(r.chips_used, "1/s"),
        kept=lambda r: r.goodput,
    )
    return Comparison(
        inputs=question.inputs,
        facts_hash=asked.facts.hash(),
        rows=Rows(found if asked.year is None else with_year(found, asked.facts, asked.year, _trained_rate)),
        warnings=tuple(warnings),
        complete=complete,
    )


def _trained_rate(row: Row) -> Estimate:
    """Tokens per second of all chips of a row, with the time that failures cost."""
    speed = row.tokens_per_s_per_chip.scaled(row.chips_used, "1/s")
    return product_of([(speed, 1.0), (row.goodput, 1.0)], "1/s")


def said_of_batch(
    asks: Sequence[SystemAsk], rows: Sequence[Row], fixed: Mapping[str, Sequence[int | str]]
) -> list[str]:
    """Warnings about the batch of a job. A fixed data-parallel degree is kept: a warning says what a degree that fills
    whole servers would give."""
    if not asks:
        return []
    of_name = {row.system: row for row in rows}
    beyond = beyond_critical(asks[0].facts, asks[0].job)
    critical = [beyond] if beyond else []
    if "dp" in fixed:
        plans = [(ask, of_name[ask.name].plan) for ask in asks if ask.name in of_name]
        return [*filter(None, (part_server_note(ask, plan) for ask, plan in plans if plan)), *critical]

    def better(ask: SystemAsk, row: Row) -> tuple[int, float] | None:
        own = replace(ask, hand_tuned=False)
        experts = max((f.num_experts for layer in ask.model.layers if isinstance(f := layer.ffn, Moe)), default=1)

        def best(job: TrainJob) -> Row:
            return solve_system(replace(own, job=job), fixed=fixed, brief=True)[0]

        return better_batch(ask.job, row, experts, best)

    found = [(of_name[ask.name], better(ask, of_name[ask.name])) for ask in asks if ask.name in of_name]
    return [*batch_notes(asks[0].job, found), *critical]


def compare(asked: CompareRequest) -> Comparison:
    """The best plan of each system for one training job, in the order given.

    Raises UserError for bad input; a system on which nothing fits is a row with a reason.
    An interrupt after the first system keeps the rows that are done (`complete` False).
    """
    question = system_asks(asked)
    rows: list[Row] = []
    for ask in steps(question.asks, "searching"):
        tell(f"{ask.system.display}, {ask.chips} chips")
        try:
            rows.append(solve_system(ask, fixed=asked.fixed)[0])
        except KeyboardInterrupt:
            if not rows:
                raise
            return answer(question, rows, complete=False)
    return answer(question, rows)
