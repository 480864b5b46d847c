"""Rates as a brief tells them: with the grade and the range of how far they lie from what was measured.

A rate whose architecture nobody has measured on that chip is grade D and says what it is extrapolated from. A rate that
one constant decides, within the range of that constant, has the range of measured ports, and gets no verdict.
"""

from __future__ import annotations

import math
from dataclasses import replace

from mowich.estimate import Estimate
from mowich.evidence.measured_architectures import extrapolated_from, served_on, trained_on
from mowich.facts import Facts
from mowich.models.model import Model, Moe
from mowich.serving.engines import architecture
from mowich.serving.search import ServeJob
from mowich.studies.compare import Row as TrainRow
from mowich.studies.serving_plan import ServeRow, compare_serving

_FACTS = "serving.extrapolated"
_DECIDING = "moe_layer"
"""The constant of an engine that stands for all that experts add to a layer."""


def basis_of(facts: Facts, model: Model, system_id: str, *, serves: bool) -> str:
    """What a rate is extrapolated from; "" where its architecture was measured on that chip."""
    measured = (served_on if serves else trained_on)(facts, system_id)
    return extrapolated_from(measured, architecture(model))


def deciding_constant(facts: Facts, model: Model, row: ServeRow, job: ServeJob, *, chips: int) -> str:
    """The path of the constant that decides a rate alone: between the ends of its range the best rates differ by more
    than `serving.extrapolated.decides`, or one end has no plan; "" where none does. Only a limit makes such an edge:
    where nobody waits, a constant moves a rate by its share of a step at most."""
    fact = facts.get(f"serving.{row.engine}.{_DECIDING}")
    if fact is None or fact.low is None or fact.high is None or math.isinf(job.tpot_s):
        return ""
    if not any(isinstance(layer.ffn, Moe) for layer in model.layers):
        return ""
    rates = []
    for end in (fact.low, fact.high):
        under = facts.with_values({fact.path: end})
        found = compare_serving(model, [row.system], job=job, chips=chips, facts=under, engine=row.engine).rows[0]
        rates.append(float(found.tokens_per_s_per_chip) if found.feasible else 0.0)
    return fact.path if max(rates) > min(rates) * facts.number(f"{_FACTS}.decides") else ""


def told_serving(facts: Facts, row: ServeRow, basis: str, decided: str) -> ServeRow:
    """A row with the grade and at least the range that its basis, and a constant that decides it, ask for."""
    if not basis and not decided:
        return row
    times = facts.number(f"{_FACTS}.times")
    down, up = (1.0 / times, times) if basis else (1.0, 1.0)
    if decided:
        large = facts.fact(f"{_FACTS}.large_mixture")
        down, up = min(down, large.low or 1.0), max(up, large.high or 1.0)
    return replace(
        row,
        tokens_per_s_per_chip=_at_least(row.tokens_per_s_per_chip, down, up),
        tokens_per_s_per_user=_at_least(row.tokens_per_s_per_user, down, up),
        breakeven_usd_per_chip_h=_at_least(row.breakeven_usd_per_chip_h, down, up),
        breakeven_W_per_chip=_at_least(row.breakeven_W_per_chip, down, up),
        tpot_s=_at_least(row.tpot_s, 1.0 / up, 1.0 / down),
        usd_per_mtok=_at_least(row.usd_per_mtok, 1.0 / up, 1.0 / down),
        J_per_token=_at_least(row.J_per_token, 1.0 / up, 1.0 / down),
    )


def told_training(row: TrainRow, basis: str) -> TrainRow:
    """A row of training with the grade that its basis asks for. Its range has the errors of other chips in it."""
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


def _at_least(e: Estimate, down: float, up: float) -> Estimate:
    """An estimate of grade D whose range spans at least these factors of its value."""
    if e.value is None:
        return e
    low, high = e.value * down, e.value * up
    return replace(e, low=min(low, e.low or low), high=max(high, e.high or high), grade="D")
