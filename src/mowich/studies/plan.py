"""The best plans of one system: the question of `mowich plan`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from mowich.launch.origin import Origin, with_origin
from mowich.models.model import as_trained
from mowich.plans import preference
from mowich.plans.preference import Preferred
from mowich.requests.jobs import PlanRequest
from mowich.shown import Rows
from mowich.software.stack import equip
from mowich.studies.compare import PlanList, Row, said_of_batch, solved, with_plan
from mowich.studies.outcome import SystemAsk
from mowich.studies.runnable import Runs, runnable, train_filter


def plan(asked: PlanRequest) -> PlanList:
    """The best plans of one system for one training job, the one to take first. Where a program has to run them, those
    that it can run, with what that costs. Raises UserError where it can run none."""
    found = _found(asked)
    origin = found.rows[0].origin
    if asked.emit is None or found.ask is None or origin is None:
        return found

    def worth(row: Row) -> float | None:
        speed = row.tokens_per_s_per_chip.value
        return None if speed is None else speed * row.chips_used  # idle chips are paid for too

    runs = train_filter(asked.emit, origin, asked.systems[0], found.ask.chips, found.rows[0].lnc)
    rows, compromise = runnable(found.rows, asked.emit, worth, lambda: _found(asked, runs).rows)
    return replace(found, rows=rows, compromise=compromise)


def _found(asked: PlanRequest, runs: Runs = None) -> PlanList:
    """The best plans. runs: among which."""
    spec, facts, train, model = asked.systems[0], asked.facts, asked.train_job, as_trained(asked.model)
    system = equip(facts, spec, chips=asked.chips, stack=asked.stack)
    ask = SystemAsk(
        name=spec,
        system_id=system.id,
        chips=system.chips,
        stack=asked.stack,
        model=model,
        facts=facts,
        job=train,
        term=asked.term,
    )
    # of one system: no break-even against each other
    rows, preferred = preferred_of(ask, fixed=asked.fixed, top=asked.top, runs=runs)
    counts = rows[0].search_counts
    inputs = {
        **asked.model.inputs(),
        **train.inputs(),
        "systems": [ask.inputs(system)],
        "fixed": {k: list(v) for k, v in asked.fixed.items()},
        "price_term": asked.term,
    }
    return PlanList(
        inputs=inputs,
        facts_hash=facts.hash(),
        evaluated=int(counts.get("evaluated", 0)),
        feasible=int(counts.get("feasible", 0)),
        seconds=float(counts.get("seconds", 0.0)),
        rows=with_origin(Rows(rows), Origin(inputs=inputs, facts=facts, layers=model.num_layers)),
        ask=ask,
        preferred=preferred,
        warnings=tuple(said_of_batch([ask], rows[:1], asked.fixed)),
    )


def preferred_of(
    ask: SystemAsk, *, fixed: Mapping[str, Sequence[int | str]], top: int, runs: Runs = None
) -> tuple[tuple[Row, ...], Preferred | None]:
    """The rows of `solve_system` with the plan to take first: of those within the margin of the fastest the simplest
    (`plans.preference`). Beside them what it is slower by, None where it is the fastest."""
    margin = preference.margin(ask.facts)
    rows, found = solved(ask, fixed=fixed, top=top, margin=margin, runs=runs)
    if found is None or not found.best or found.preferred is None or found.preferred == found.best[0]:
        return rows, None
    first, fastest = found.preferred, found.best[0]
    row = with_plan(ask, found, first, rows[0].feasible, rows[0].reason)
    kept = [other for other in rows if other.plan != first.plan]
    slower = first.seconds_per_token / fastest.seconds_per_token - 1.0
    return (row, *kept)[:top], Preferred(fastest=str(fastest.plan), slower=slower, within=margin)
