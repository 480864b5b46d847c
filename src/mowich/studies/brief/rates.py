"""Rates as a brief tells them: what training is extrapolated from, and which constant decides a rate of serving.

A rate whose architecture nobody has measured on that chip is grade D and says what it is extrapolated from
(`studies.stack_support`). A rate that one constant decides, within the range of that constant, has the range of
measured ports, and gets no verdict.
"""

from __future__ import annotations

import math
from dataclasses import replace

from mowich.evidence.measured_architectures import extrapolated_from, trained_on
from mowich.facts import Facts
from mowich.models.model import Model
from mowich.requests.jobs import CompareRequest
from mowich.serving.engines import architecture
from mowich.serving.search import ServeJob
from mowich.studies.compare import Row as TrainRow
from mowich.studies.serving_plan import ServeRow, compare_serving
from mowich.studies.stack_support import EXTRAPOLATED

_DECIDING = "moe_layer"
"""The constant of an engine for everything that experts add to a layer."""


def trained_basis(facts: Facts, model: Model, system_id: str) -> str:
    """What a rate of training is extrapolated from; "" where its architecture was measured on that chip."""
    return extrapolated_from(trained_on(facts, system_id), architecture(model))


def deciding_constant(facts: Facts, model: Model, row: ServeRow, job: ServeJob, *, chips: int) -> str:
    """The path of the constant that decides a rate alone: between the ends of its range the best rates differ by more
    than `serving.extrapolated.decides`, or one end has no plan; "" where none does. Only a limit makes such an edge:
    where nobody waits, a constant moves a rate by its share of a step at most."""
    fact = facts.get(f"serving.{row.engine}.{_DECIDING}")
    if fact is None or fact.low is None or fact.high is None or math.isinf(job.tpot_s):
        return ""
    if not model.has_experts:
        return ""
    rates = []
    for end in (fact.low, fact.high):
        under = facts.with_values({fact.path: end})
        asked = CompareRequest(
            facts=under, model=model, systems=(row.system,), serve=job, chips=chips, engine=row.engine
        )
        found = compare_serving(asked).rows[0]
        rates.append(float(found.tokens_per_s_per_chip) if found.feasible else 0.0)
    return fact.path if max(rates) > min(rates) * facts.number(f"{EXTRAPOLATED}.decides") else ""


def told_training(row: TrainRow, basis: str) -> TrainRow:
    """A training row with the grade of its basis. Its range already holds the errors of other chips."""
    if not basis:
        return row
    return replace(
        row,
        step_s=replace(row.step_s, grade="D"),
        tokens_per_s_per_chip=replace(row.tokens_per_s_per_chip, grade="D"),
        usd_per_mtok=replace(row.usd_per_mtok, grade="D"),
        J_per_token=replace(row.J_per_token, grade="D"),
        days=replace(row.days, grade="D"),
    )
