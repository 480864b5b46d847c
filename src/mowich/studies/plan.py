"""The best plans of one system: the question of `mowich plan`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mowich.economics import money
from mowich.facts import Facts
from mowich.launch.origin import Origin, with_origin
from mowich.models.model import Model, as_trained
from mowich.plans.plan import TrainJob
from mowich.shown import Rows
from mowich.software.stack import equip, stack_words

if TYPE_CHECKING:
    pass
from mowich.studies.compare import PlanList, SystemAsk, solve_system


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
) -> PlanList:
    """The `top` best plans of one system for one training job."""

    name_given, model = model.name, as_trained(model)

    system = equip(facts, spec, chips=chips, stack=stack)
    term, priced = money.kind_of_specs(facts, [spec], term)
    ask = SystemAsk(
        name=spec, system_id=system.id, chips=system.chips, stack=stack, model=model, facts=facts, job=train, term=term
    )
    rows = solve_system(ask, fixed=fixed or {}, top=top)  # plans of one system: no break-even against each other
    counts = rows[0].search_counts
    inputs = {
        "model": name_given,
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
        **priced,
    }
    return PlanList(
        inputs=inputs,
        evaluated=int(counts.get("evaluated", 0)),
        feasible=int(counts.get("feasible", 0)),
        seconds=float(counts.get("seconds", 0.0)),
        rows=with_origin(Rows(rows), Origin(inputs=inputs, facts=facts, layers=model.num_layers)),
        ask=ask,
    )
