"""Which way of surviving failures keeps how much of a long run (`mowich goodput`), and published goodputs against ours
(docs/records/goodput.md)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mowich.errors import UserError
from mowich.estimate import Estimate, Notes
from mowich.facts import Facts
from mowich.machines.system import resolve
from mowich.models.model import Model
from mowich.progress import steps
from mowich.requests.rooms.goodput import GoodputRequest
from mowich.shown import Keyed, Result, Rows, Shown
from mowich.software.vendors import failure_class
from mowich.studies.explain.rules.rule import R, of
from mowich.studies.explain.source import Numbers, Source
from mowich.studies.explain.tree import ResultPath
from mowich.sums import float_sum
from mowich.training import faults, longrun
from mowich.training.faults import Goodput, Job
from mowich.training.longrun import REPLICA_CHIPS, SPARE_SHARE

TARGET = 0.9
"""Goodput that the break-even recovery is given for."""

MOST_FAILURES = 1e7
"""Failures of one run that the Monte Carlo draws; a run of 90 days on a million chips has some 10^5."""


class PlayedRuns(NamedTuple):
    """Goodput of simulated runs: mean and standard deviation."""

    mean: float
    sd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyRow(Keyed):
    """One way of surviving. goodput: Estimate over the ranges of the facts and the luck of a run; formula: at the
    values of the facts;
    monte_carlo: of simulated runs at the same values; breakeven_s: longest recovery for
    TARGET, None if none is short enough."""

    KEYS = (
        "strategy display goodput mtbf_s=formula.mtbf_s checkpoint_s=formula.interval_s failures=formula.failures "
        "lost=formula.parts monte_carlo.mean monte_carlo.sd recovery_s breakeven_recovery_s=breakeven_s"
    )

    strategy: str
    display: str
    goodput: Estimate
    formula: Goodput
    monte_carlo: PlayedRuns
    recovery_s: float
    breakeven_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GoodputStudy(Shown):
    """Rows of one job, in the order of STRATEGIES. survival: the row that plans of this job take: the best, or the one
    that `--set survival=` names.

    Units: shares of the time; seconds.

    Example:
        >>> import mowich
        >>> [row.strategy for row in mowich.goodput("trn3:64", samples=20).rows][:2]
        ['sync', 'async']
    """

    SCHEMA = "mowich/goodput@1"
    KEYS = (
        "inputs.on=system inputs.chips=job.chips inputs.days=job.days inputs.step_s=job.step_s "
        "inputs.spare_share=job.spare_share inputs.replica_chips=job.replica_chips "
        "inputs.checkpoint_s=job.checkpoint_s inputs.samples=samples inputs.seed=seed facts_hash display rows "
        "survival target warnings"
    )

    system: str
    display: str
    job: Job
    kind: str
    rows: Rows[StrategyRow]
    survival: str
    warnings: tuple[str, ...]
    samples: int
    seed: int
    facts_hash: str

    @property
    def target(self) -> float:
        """The goodput that `breakeven_s` is for."""
        return TARGET


def job_of_inputs(facts: Facts, system_id: str, inputs: Result) -> Job:
    """The job that the inputs of a result state."""
    return longrun.job_of(
        facts,
        system_id,
        **{k: inputs[k] for k in ("chips", "days", "step_s", "spare_share", "replica_chips", "checkpoint_s")},
    )


def goodput_estimate(facts: Facts, kind: str, name: str, job: Job, *, samples: int, seed: int) -> Estimate:
    """Goodput with its 90% interval: the value is the formula at the facts' values, the ends are percentiles over their
    ranges and a run's luck."""
    value = faults.closed_form(job, faults.read_fault_rates(facts, kind), faults.read_strategy(facts, name)).value
    drawn = faults.sampled(facts, kind, name, job, samples=samples, seed=seed)
    low, high = (float(x) for x in np.quantile(drawn, (0.05, 0.95)))
    return Estimate(
        value=value, unit="1", low=min(low, value), high=max(high, value), grade="D", coverage={"analytic": 1.0}
    )


def answer(asked: GoodputRequest) -> GoodputStudy:
    """Goodput of a long run on machines that fail, by way of surviving failures.

    Args:
        on: one system with its chips, "trn3:16384".
        days: length of the run.
        step_s: time of a step, seconds.
        strategies: "sync", "async", "memory", "elastic"; None: all.
        spare_share: chips that wait as spares, a share.
        replica: chips of a copy of the model; None: the usual number.
        checkpoint_s: time between checkpoints, seconds; None: the best.
        samples: runs that are drawn.
        seed: of the draws.
        facts: other facts than the shipped ones.

    Returns: a `GoodputStudy`: `.rows`, one for each way: formula, Monte Carlo and range. Units: shares; seconds.

    Example:
        >>> import mowich
        >>> len(mowich.goodput("trn3:64", samples=20).rows)
        4
    """
    facts, samples, seed = asked.facts, asked.samples, asked.seed
    system = resolve(facts, asked.on)
    stated = {
        "chips": system.chips,
        "days": asked.days,
        "step_s": asked.step_s,
        "spare_share": asked.spare_share,
        "replica_chips": min(system.chips, asked.replica or REPLICA_CHIPS),
        "checkpoint_s": asked.checkpoint_s,
    }
    job = job_of_inputs(facts, system.id, stated)
    kind = failure_class(facts, system.id)
    rates = faults.read_fault_rates(facts, kind)
    rows = []
    for name in steps(asked.strategies, "simulating failures survived by {}"):
        way = faults.read_strategy(facts, name)
        formula = faults.closed_form(job, rates, way)
        expected = formula.failures
        if expected > MOST_FAILURES:
            raise UserError(
                "too many failures to draw one by one",
                field="days",
                given=f"{expected:.3g} failures",
                allowed=f"at most {MOST_FAILURES:.0g}",
                fix="a shorter run has the same goodput",
            )
        runs = faults.simulate_runs(job, rates, way, samples=samples, seed=seed)
        rows.append(
            StrategyRow(
                strategy=name,
                display=way.display,
                goodput=goodput_estimate(facts, kind, name, job, samples=min(samples, 400), seed=seed),
                formula=formula,
                monte_carlo=PlayedRuns(mean=float(runs.mean()), sd=float(runs.std())),
                recovery_s=way.recovery_s,
                breakeven_s=faults.breakeven_recovery_s(job, rates, way, TARGET),
            )
        )
    wanted = [r for r in rows if r.strategy in longrun.choices(facts)]
    taken = max(wanted or rows, key=lambda r: r.formula.value).strategy
    notes = []
    if kind != "gpu":
        notes.append(
            f"no failure rate of a {'Trainium' if kind == 'trainium' else 'TPU'} is published (searched 2026-11: papers"
            " on failures in facts/sources.yaml): the GPUs' rates times a factor known to about ten either way"
        )
    ends = [r.goodput for r in rows]
    if any(a.overlaps(b) for i, a in enumerate(ends) for b in ends[i + 1 :]):
        notes.append(
            f"the ranges of the strategies overlap; plans take {taken}, the best at the facts' values: the break-even"
            " recovery says what each must reach"
        )
    return GoodputStudy(
        system=asked.on,
        display=system.display,
        job=job,
        kind=kind,
        rows=Rows(rows),
        survival=taken,
        warnings=tuple(notes),
        samples=samples,
        seed=seed,
        facts_hash=facts.hash(),
    )


_SHARE_OF_FAILED = "terms: what is lost of the time, in turn"

RULES = (
    R("rows * goodput", "1", "share of the time that trains", "= 1 - sum(lost)"),
    R("rows * mtbf_s", "s", "mean time between failures that stop the job", of(faults.mtbf_s, rate="failure_rate")),
    R("rows * checkpoint_s", "s", "time between checkpoints", "= tau"),
    R("rows * failures", "1", "failures over the run", "= days * 86400 / mtbf_s"),
    R("rows * lost *", "1", "share of the time that is lost", _SHARE_OF_FAILED),
    R(
        "rows * monte_carlo mean",
        "1",
        "mean goodput of simulated runs",
        "simulation: failures drawn one by one, over `samples` runs; it checks the formula",
    ),
    R(
        "rows * monte_carlo sd",
        "1",
        "spread of simulated runs: luck",
        "simulation: standard deviation over `samples` runs",
    ),
    R("rows * recovery_s", "s", "from a failure until the job trains again", of(faults.recovery_of)),
    R(
        "rows * breakeven_recovery_s",
        "s",
        "longest recovery with which goodput still reaches the target",
        "search: bisection of the formula over the recovery",
    ),
    R("target", "1", "goodput that the break-even is given for", "lookup: a definition: 90%"),
)
"""What each number is."""


def source(result: Result, at: ResultPath, row: Result, facts: Facts, model: Callable[[], Model]) -> Source:
    """One way of surviving failures, made again."""
    inputs = result["inputs"]
    system = resolve(facts, inputs["on"])
    kind = failure_class(facts, system.id)

    def numbers(known: Facts, wanted: ResultPath) -> Numbers:
        job = job_of_inputs(known, system.id, inputs)
        rates, way = faults.read_fault_rates(known, kind), faults.read_strategy(known, row["strategy"])
        g = faults.closed_form(job, rates, way)
        out: dict[ResultPath, float] = {
            ("goodput",): g.value,
            ("mtbf_s",): g.mtbf_s,
            ("checkpoint_s",): g.interval_s,
            ("failures",): g.failures,
            ("recovery_s",): way.recovery_s,
        }
        out |= {("lost", k): v for k, v in g.parts.items()}
        out[("monte_carlo", "mean")] = g.value
        best = faults.breakeven_recovery_s(job, rates, way, TARGET)
        return out if best is None else {**out, ("breakeven_recovery_s",): best}

    def record(name: ResultPath, known: Facts, notes: Notes) -> None:
        job = job_of_inputs(known, system.id, inputs)
        longrun.terms(notes, known, kind, job, row["strategy"])
        if name[0] == "lost":
            rates, way = faults.read_fault_rates(known, kind), faults.read_strategy(known, row["strategy"])
            parts = faults.closed_form(job, rates, way).parts
            notes.add(
                "lost",
                float_sum(parts.values()),
                "1",
                words="what is not goodput, in turn: hardware first, then silent corruption, then slow chips; the rest"
                " is 1 - useful",
                given={f"share_{k}": v for k, v in parts.items()},
            )

    return Source(at=at, numbers=numbers, record=record, title=f"{inputs['on']}, {row['strategy']}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A run whose goodput or number of failures was published, and what the component rates of other runs say about
    it."""

    run: str
    chips: int
    days: float
    strategy: str
    published: float
    predicted: Estimate
    what: str
    note: str

    @property
    def inside(self) -> bool:
        """Whether the published figure lies in the predicted interval."""
        return bool((self.predicted.low or 0.0) <= self.published <= (self.predicted.high or 0.0))


def interruptions(facts: Facts, kind: str, chips: int, days: float) -> Estimate:
    """Failures that stop a job, from component rates; all ranges at one end together: a site is good or bad as a
    whole."""
    hours = chips * days * 24.0

    def count(end: str) -> float:
        paths = faults.rate_paths(kind)
        values: dict[str, float] = {}
        for name in (*faults.COMPONENTS, *(("factor",) if kind != "gpu" else ())):
            fact = facts.fact(paths[name])
            number = getattr(fact, end) if end != "value" else fact.value
            values[name] = float(number if number is not None else facts.number(paths[name]))
        factor = values.get("factor", 1.0)
        return float_sum(values[c] * (factor if c != "software" else 1.0) for c in faults.COMPONENTS) * 3600.0 * hours

    return Estimate(value=count("value"), unit="1", low=count("low"), high=count("high"), grade="D")


def published_runs(facts: Facts, *, samples: int = 400) -> list[Published]:
    """Published runs against component rates that were not taken from them."""
    llama = "reliability.llama3-405b"
    gpus, hours = round(facts.number(f"{llama}.gpus")), facts.number(f"{llama}.period") / 3600.0
    out = [
        Published(
            run="Llama 3 405B: unexpected interruptions",
            chips=gpus,
            days=hours / 24,
            strategy="-",
            published=facts.number(f"{llama}.interruptions_unexpected"),
            predicted=interruptions(facts, "gpu", gpus, hours / 24),
            what="failures",
            note="rates from Crusoe and Lablup, not from Llama",
        )
    ]
    runs: list[tuple[str, str, int, float, str, float, str]] = [
        (
            "Llama 3 405B: effective time, above 90%",
            "gpu",
            gpus,
            hours / 24,
            "async",
            0.9,
            "a lower bound: the paper says over 90%",
        ),
        (
            "ByteRobust: effective time",
            "gpu",
            round(facts.number("reliability.bytedance-byterobust.gpus")),
            90.0,
            "memory",
            facts.number("reliability.bytedance-byterobust.ettr"),
            "over three months; warm standbys and replicas in memory",
        ),
        (
            "Gemini Ultra: goodput with replicas in memory",
            "tpu",
            GEMINI_CHIPS,
            50.0,
            "memory",
            0.97,
            "chips not published (searched 2026-11: the Gemini report): two pods of TPU v4 taken",
        ),
        (
            "Gemini's predecessors: goodput before",
            "tpu",
            GEMINI_CHIPS,
            50.0,
            "sync",
            0.85,
            "chips not published (searched 2026-11: the Gemini report): two pods of TPU v4 taken",
        ),
    ]
    for run, kind, chips, days, way, published, note in runs:
        job = Job(
            chips=chips,
            step_s=5.0,
            days=days,
            spare_share=SPARE_SHARE,
            unit_chips=8,
            replica_chips=min(chips, REPLICA_CHIPS),
        )
        out.append(
            Published(
                run=run,
                chips=chips,
                days=days,
                strategy=way,
                published=published,
                predicted=goodput_estimate(facts, kind, way, job, samples=samples, seed=0),
                what="goodput",
                note=note,
            )
        )
    return out


GEMINI_CHIPS = 8192
"""Two TPU v4 pods: the report says "multiple SuperPods" and gives no number."""
