"""The best plans of one system: the question of `mowich plan`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mowich.economics import money
from mowich.facts import Facts
from mowich.launch.origin import Origin, with_origin
from mowich.models.model import Model, as_trained
from mowich.plans import preference
from mowich.plans.plan import TrainJob
from mowich.plans.preference import Preferred
from mowich.shown import Rows
from mowich.software.stack import equip, stack_words
from mowich.studies.compare import PlanList, Row, said_of_batch, solved, with_plan
from mowich.studies.outcome import SystemAsk
from mowich.studies.runnable import Runs


def plan(
    model: Model,
    spec: str,
    *,
    train: TrainJob,
    chips: int | None,
    facts: Facts,
    top: int = 5,
    fixed: Mapping[str, Sequence[int | str]] | None = None,
    term: str = "default",
    stack: str | None = None,
    runs: Runs = None,
) -> PlanList:
    """The `top` best plans of one system for one training job, the one to take first. runs: among which plans."""

    given, model = model, as_trained(model)

    system = equip(facts, spec, chips=chips, stack=stack)
    ask = SystemAsk(
        name=spec, system_id=system.id, chips=system.chips, stack=stack, model=model, facts=facts, job=train, term=term
    )
    rows, preferred = preferred_of(
        ask, fixed=fixed or {}, top=top, runs=runs
    )  # of one system: no break-even against each other
    counts = rows[0].search_counts
    inputs = {
        **given.inputs(),
        **train.inputs(),
        "systems": [
            {
                "system": spec,
                "id": system.id,
                "chips": system.chips,
                **stack_words(facts, system),
                "price_terms": money.quoted_terms(facts, system.id),
            }
        ],
        "fixed": {k: list(v) for k, v in (fixed or {}).items()},
        "price_term": term,
    }
    return PlanList(
        inputs=inputs,
        evaluated=int(counts.get("evaluated", 0)),
        feasible=int(counts.get("feasible", 0)),
        seconds=float(counts.get("seconds", 0.0)),
        rows=with_origin(Rows(rows), Origin(inputs=inputs, facts=facts, layers=model.num_layers)),
        ask=ask,
        preferred=preferred,
        warnings=tuple(said_of_batch([ask], rows[:1], fixed or {})),
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
