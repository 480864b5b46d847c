"""Goodput as plans take it: one number for a job, of the best way of surviving failures, or of the one that is asked
for.

The ways, their facts and their formula are those of `faults`, so that comparisons, plans and sweeps say what `mowich
goodput` says. No failure is drawn here. The job is one of `mowich goodput` with its defaults: spare chips are at hand
and not among those that are paid for. Planned maintenance and evaluation are left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from mowich.errors import unknown as unknown_word
from mowich.estimate import Estimate, Notes, exact, told, unknown_estimate, worst_grade
from mowich.facts import Fact, Facts
from mowich.software.vendors import failure_class
from mowich.training import faults
from mowich.training.faults import STRATEGIES, FaultRates, Job, Losses, Strategy
from mowich.units import show

BEST = "best"
CHOICES = (BEST, *STRATEGIES)
SURVIVAL_CHOSEN = "reliability.strategies.chosen"
"""The fact that says which way of surviving plans take; `--set survival=memory` sets it."""

SPARE_SHARE = 0.02
"""Spare chips over the chips of a job, unless stated."""

REPLICA_CHIPS = 1024
"""Chips of a data-parallel replica unless stated: what a frontier model's tensor, pipeline and expert parallelism
span."""

VALID_RATIO = 3.0
"""Below this many recoveries per mean time between failures the closed form is an extrapolation: real jobs of that size
restart in part."""

LEAST_SHARE = 1e-6
"""A share of useful time below this is reported as a run that never ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survival:
    """strategy: the way of surviving, of `faults.STRATEGIES`; goodput: share of the time that trains, with its 90%
    interval."""

    strategy: str
    goodput: Estimate


@dataclass(frozen=True, slots=True)
class _Ends:
    """Rates and ways at the facts' values, and at each end of each range: (low end, high end)."""

    rates: FaultRates
    ways: Mapping[str, Strategy]
    moves: tuple[tuple[tuple[FaultRates, Mapping[str, Strategy]], ...], ...]


def job_of(
    facts: Facts,
    system_id: str,
    *,
    chips: int,
    step_s: float,
    days: float = 1.0,
    spare_share: float = SPARE_SHARE,
    replica_chips: int | None = None,
    checkpoint_s: float | None = None,
) -> Job:
    """A job on `chips` chips of a system; step_s: s per step. What leaves together when a chip fails is a server, or
    the job where it is smaller."""
    server = f"systems.{system_id}.chips_per_server"
    unit = round(facts.number(server)) if facts.get(server) else 8
    return Job(
        chips=chips,
        step_s=step_s,
        days=days,
        spare_share=spare_share,
        unit_chips=min(unit, chips),
        replica_chips=min(replica_chips or REPLICA_CHIPS, chips),
        checkpoint_s=checkpoint_s,
    )


def choices(facts: Facts) -> tuple[str, ...]:
    """The ways of surviving among which plans take the best: all, or the one that is asked for. Raises UserError for a
    way that does not exist."""
    name = facts.text(SURVIVAL_CHOSEN)
    if name not in CHOICES:
        raise unknown_word("way to survive failures", name, CHOICES, where=SURVIVAL_CHOSEN)
    return STRATEGIES if name == BEST else (name,)


def best(job: Job, rates: FaultRates, ways: Mapping[str, Strategy]) -> tuple[str, dict[str, float]]:
    """(the way of surviving that keeps most of the time, goodput of every way)."""
    shares = {name: faults.losses(job, rates, way).share for name, way in ways.items()}
    return max(shares, key=lambda name: shares[name]), shares


def kept(facts: Facts, system_id: str, *, chips: int, step_s: float) -> Estimate:
    """The goodput of the best way of surviving, at the facts' values and without its interval; unknown below
    `LEAST_SHARE`."""
    ways = {name: faults.read_strategy(facts, name) for name in choices(facts)}
    job = job_of(facts, system_id, chips=chips, step_s=step_s)
    name, shares = best(job, faults.read_fault_rates(facts, failure_class(facts, system_id)), ways)
    if shares[name] < LEAST_SHARE:
        return unknown_estimate("1", "a step does not finish between failures")
    return exact(shares[name], "1")


def _ends(facts: Facts, kind: str) -> _Ends:
    """Ends of the ranges of all facts; those of the components' rates go together: a site is good or bad as a whole."""
    names = choices(facts)
    paths = {("rates", k): p for k, p in faults.rate_paths(kind).items()}
    paths |= {(name, k): p for name in names for k, p in faults.strategy_paths(name).items()}
    read: dict[tuple[str, str], Fact] = {key: facts.fact(path) for key, path in paths.items()}
    groups: dict[str, list[tuple[str, str]]] = {}  # several names may refer to one fact
    for key, fact in read.items():
        groups.setdefault("components" if key[1] in faults.COMPONENTS else fact.path, []).append(key)

    def at(moved: Mapping[tuple[str, str], float]) -> tuple[FaultRates, Mapping[str, Strategy]]:
        owners = {owner for owner, _ in moved}
        of = {owner: {k: v for (o, k), v in moved.items() if o == owner} for owner in owners}
        found = {n: faults.read_strategy(facts, n, of[n]) if n in owners else ways[n] for n in names}
        return (faults.read_fault_rates(facts, kind, of["rates"]) if "rates" in owners else rates), found

    rates = faults.read_fault_rates(facts, kind)
    ways = {name: faults.read_strategy(facts, name) for name in names}
    moves = []
    for keys in groups.values():
        wide = {k: f for k in keys if (f := read[k]).low is not None and f.high is not None and f.low != f.high}
        if wide:
            ends = [{k: float(getattr(f, end)) for k, f in wide.items()} for end in ("low", "high")]
            moves.append(tuple(map(at, ends)))
    return _Ends(rates, ways, tuple(moves))


def _logit(g: float) -> float:
    g = min(max(g, 1e-12), 1 - 1e-12)
    return math.log(g / (1 - g))


def survival(facts: Facts, system_id: str, *, chips: int, step_s: Estimate) -> Survival:
    """The best way of surviving failures for a job of `chips` chips, and its goodput with the interval that the ranges
    of the facts make.

    Each fact goes to its ends alone, the components' rates together, and at each end the way is taken that is best
    there: the operator would. The moves are combined in quadrature as log odds, so that the interval stays inside (0,
    1). `reason` says when the formula is used beyond MTBF >> recovery.
    """
    kind = failure_class(facts, system_id)
    found: _Ends = facts.once(("survival", kind), lambda known: _ends(known, kind))
    step = step_s.value or 0.0
    job = job_of(facts, system_id, chips=chips, step_s=step)
    name, shares = best(job, found.rates, found.ways)
    way, value, mtbf = found.ways[name], shares[name], faults.mtbf_s(found.rates.total, chips)
    if value < LEAST_SHARE:
        why = f"a step of {show(step, 's')} is too long to finish between failures, {show(mtbf, 's')} apart on average"
        return Survival(strategy=name, goodput=unknown_estimate("1", why))
    middle, downs, ups = _logit(value), [0.0], [0.0]
    for ends in found.moves:
        to = [
            _logit(
                max(
                    shares[n] if rates is found.rates and w is found.ways[n] else faults.losses(job, rates, w).share
                    for n, w in ways.items()
                )
            )
            - middle
            for rates, ways in ends
        ]
        downs.append(min([0.0, *to]))
        ups.append(max([0.0, *to]))
    low, high = (1.0 / (1.0 + math.exp(-x)) for x in (middle - math.hypot(*downs), middle + math.hypot(*ups)))
    reason = None
    if mtbf < VALID_RATIO * way.recovery_s:
        reason = (
            f"beyond the formula's validity: a failure every {show(mtbf, 's')} against {show(way.recovery_s, 's')} to"
            f" recover with {name}; a job of this size must survive failures in part"
        )
    paths = {**faults.rate_paths(kind), **faults.strategy_paths(name)}
    grade = "D" if reason else worst_grade(facts.fact(path).grade or "D" for path in paths.values())
    return Survival(
        strategy=name, goodput=Estimate(value=value, unit="1", low=low, high=high, grade=grade, reason=reason)
    )


def record_goodput(facts: Facts, system_id: str, *, chips: int, step_s: float, notes: Notes) -> None:
    """Record what the goodput of the best way of surviving is made of; nothing where a step does not finish between
    failures."""
    kind, names = failure_class(facts, system_id), choices(facts)
    ways, rates = {name: faults.read_strategy(facts, name) for name in names}, faults.read_fault_rates(facts, kind)
    job = job_of(facts, system_id, chips=chips, step_s=step_s)
    name, shares = best(job, rates, ways)
    if shares[name] < LEAST_SHARE:
        return
    lost = terms(notes, facts, kind, job, name)
    others = ", ".join(f"{n} {100 * share:.3g}%" for n, share in shares.items() if n != name)
    note = f"{name}: {ways[name].display}" + (f"; the best way to survive, before {others}" if others else "")
    told(notes, "goodput", faults.share_of, unit="1", note=note)(
        useful=lost.useful, missing=lost.missing, silent=lost.silent, slow=lost.slow
    )


def terms(notes: Notes, facts: Facts, kind: str, job: Job, name: str) -> Losses:
    """Record what the goodput of a way of surviving is made of."""
    rates = faults.read_fault_rates(facts, kind)
    notes.add(
        "failure rate",
        rates.total,
        "1/s",
        words="sum of components, per chip (those of hardware by the factor of the kind of chip)",
        given={k: v * 3600.0 for k, v in rates.failures.items()},
        factor_facts=kind,
        note="inputs per chip-hour",
    )
    return faults.losses(job, rates, faults.read_strategy(facts, name), notes)
