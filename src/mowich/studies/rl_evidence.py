"""Predicted against measured for steps of reinforcement learning: each phase that a row states is scored by itself.

`evidence.rl_rows` says what a row is a run of, `studies.rl` answers it. A row's own plan, batch, lengths and memory
share are what is asked; nothing here is fitted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product

from mowich.errors import UserError
from mowich.estimate import Estimate, Notes, unknown_estimate
from mowich.evidence.measured_tables import table_form
from mowich.evidence.residual import step_interval
from mowich.evidence.rl_rows import PHASES, RlCase, read_rl_row, told_row
from mowich.evidence.row_checks import PublishedRow
from mowich.evidence.scores import OrderedPair, RowResult, scored_rows
from mowich.evidence.sync_rows import read_sync
from mowich.facts import Facts
from mowich.machines.system import resolve
from mowich.rl.cycle import CyclePart
from mowich.software.stack import equip
from mowich.studies.rl import assess
from mowich.studies.rl_row import RlAsk, RlRow, RolloutAsk, TrainerAsk
from mowich.sums import float_sum
from mowich.training.step import predict_step

PARTS_OF: Mapping[str, tuple[CyclePart, ...]] = {
    "gen_time_s": ("generation",),
    "exposed_gen_time_s": ("generation", "reward"),
    "train_time_s": ("training",),
    "logprob_time_s": ("policy", "reference"),
    "ref_time_s": ("reference",),
    "weight_sync_s": ("sync",),
}
"""Column of a phase -> the parts of a step that it times. Of a row that times the reference apart, the
log-probabilities are the policy's."""

DIFFERS_BY = 0.10
"""Two measured steps that differ by less are in no order."""

PhaseTimes = dict[str, Estimate]
"""Column of a phase -> what is predicted."""


def ask_of_case(case: RlCase, facts: Facts) -> RlAsk:
    """The run of a row of a whole step."""
    assert case.job is not None
    assert case.rollouts is not None
    each = resolve(facts, case.trainer.system_id).devices_per_chip
    return RlAsk(
        model=case.model,
        job=case.job,
        rollouts=RolloutAsk(
            on=case.row["chip"],
            system_id=case.rollouts.system_id,
            chips=max(1, case.rollouts.devices // each),
            engine=case.rollouts.software,
            plan=case.rollouts.plan,
            memory_share=case.memory_share,
        ),
        trainer=TrainerAsk(
            on=case.row["chip"],
            system_id=case.trainer.system_id,
            chips=max(1, case.trainer.devices // each),
            stack=case.trainer.software or None,
            plan=case.trainer.plan,
        ),
        facts=facts,
        framework=case.framework.name,
        framework_release=case.release,
    )


def score_rl(rows: Sequence[PublishedRow], facts: Facts) -> tuple[list[RowResult], tuple[OrderedPair, ...]]:
    """(results of every row in order, one for each phase that it states and one, without figures, for a row that is
    refused; pairs of a synchronous and an asynchronous run)."""
    told = [told_row({**table_form("rl").blank(), **row}) for row in rows]
    steps: list[tuple[RlCase, float, float]] = []

    def predicted(cases: list[RlCase | PublishedRow]) -> Iterator[list[RowResult] | str]:
        for case in cases:
            try:
                found = _run(case, facts, steps) if isinstance(case, RlCase) else [_sync(case, facts)]
            except UserError as error:  # without what else is allowed
                found = error.what if error.given is None else f"{error.what}, got '{error.given}'"
            yield found

    cases: list[RlCase | PublishedRow | str] = [
        row if row["row_kind"] == "weight_sync" else read_rl_row(row, facts) for row in told
    ]
    results = scored_rows(told, cases, predicted, _refused)  # type: ignore[arg-type]  # two kinds of cases
    return results, tuple(_ordered(steps))


def record_rl(row: PublishedRow, facts: Facts, notes: Notes) -> None:
    """The laws of a row of a whole step, as they are called; of other rows none."""
    case = read_rl_row(row, facts)
    if not isinstance(case, str) and case.job is not None:
        assess(ask_of_case(case, facts), notes=notes)


def _refused(row: PublishedRow, reason: str) -> list[RowResult]:
    """A row without figures, once for each phase that it states; a hand-over of weights has one."""
    stated = [column for column in PHASES if row.get(column)]
    found = RowResult.refused(row, reason, *(stated[-1:] if row["row_kind"] == "weight_sync" else stated))
    return [replace(one, kind=row["family"]) for one in found]


def _run(case: RlCase, facts: Facts, steps: list[tuple[RlCase, float, float]]) -> list[RowResult] | str:
    """Every phase of a row; the reason where there is no answer. A whole step is put beside those before it."""
    found = _update(case, facts) if case.job is None else _phases(case, assess(ask_of_case(case, facts)))
    if isinstance(found, str):
        return found
    if "step_time_s" in case.measured and found["step_time_s"].value is not None:
        steps.append((case, case.measured["step_time_s"], found["step_time_s"].value))
    return [_scored(case, column, found) for column in case.measured]


def _phases(case: RlCase, row: RlRow) -> PhaseTimes | str:
    """What is predicted of each phase of a step; the reason where there is no answer."""
    if row.reason:
        return row.reason
    found = {"step_time_s": row.step_s}
    for column, names in PARTS_OF.items():
        apart = column == "logprob_time_s" and "ref_time_s" in case.measured
        found[column] = _sum([row.parts[name] for name in (("policy",) if apart else names) if name in row.parts])
    return found


def _sum(parts: Sequence[Estimate]) -> Estimate:
    """Phases one after the other: their errors are those of one run, so the ends add up."""
    value, low, high = (float_sum(getattr(part, end) or 0.0 for part in parts) for end in ("value", "low", "high"))
    grade = max((part.grade for part in parts), default="D")
    return Estimate(value=value, unit="s", low=low, high=high, grade=grade)


def _update(case: RlCase, facts: Facts) -> PhaseTimes:
    """A micro-batch of a trainer that ran alone, with its share of the step's end: the optimizer, and the weights that
    it writes for workers."""
    assert case.update is not None
    plan = case.trainer.plan
    assert plan is not None
    factor = facts.fact(case.framework.paths["training"])
    platform = equip(facts, case.trainer.system_id, chips=case.trainer.devices, stack=case.trainer.software)
    step = predict_step(case.model, platform, case.update, plan)
    at = case.framework.training
    faster, slower = step_interval(step.breakdown, case.model, platform, facts, case.inferred)
    faster = math.hypot(faster, math.log(at / (factor.low or at)))
    slower = math.hypot(slower, math.log((factor.high or at) / at))
    saved = [0.0, 0.0, 0.0]
    if case.saves_B:
        rate = facts.fact(case.framework.paths["file_rate"])
        saved = [case.saves_B / float(end or 1.0) for end in (rate.value, rate.high, rate.low)]
    seconds = step.total_s * at
    whole = Estimate(
        value=seconds + saved[0],
        unit="s",
        low=seconds * math.exp(-faster) + saved[1],
        high=seconds * math.exp(slower) + saved[2],
        grade="C",
    )
    return {"train_time_s": whole}


def _scored(case: RlCase, column: str, found: PhaseTimes) -> RowResult:
    """One phase of a row."""
    predicted = found.get(column)
    reason = case.skip.get(column, "")
    if reason or predicted is None or not predicted.value:
        predicted = unknown_estimate("s", reason or "no such phase is predicted of this run")
    result = RowResult.scored(
        case.row,
        predicted,
        metric=column,
        measured=case.measured[column],
        kind=case.row["family"],
        stack=case.row["stack"],
    )
    return replace(result, kind=case.row["family"], inferred=case.inferred, fully_specified=not case.inferred)


def _sync(row: PublishedRow, facts: Facts) -> RowResult:
    """A hand-over of weights. Raises UserError where none is predicted."""
    if not row["weight_sync_s"] or not all(float(row[name] or 1.0) for name in ("weight_sync_s", "weight_sync_s_max")):
        raise UserError("the row states no time that is predicted")
    case = read_sync(row, facts)
    value = case.predicted_s(facts)
    half = facts.number(f"rl.sync.{case.method}.residual")
    predicted = Estimate(value=value, unit="s", low=value * math.exp(-half), high=value * math.exp(half), grade="C")
    return RowResult.scored(
        row,
        predicted,
        metric="weight_sync_s",
        measured=case.measured_s,
        kind=row["family"],
        stack=f"{row['stack']}, {case.method}",
    )


def _ordered(steps: Iterable[tuple[RlCase, float, float]]) -> Iterable[OrderedPair]:
    """Synchronous against asynchronous runs of one table that share all else, where the steps differ by more than
    `DIFFERS_BY`."""
    groups: dict[tuple[str, ...], list[tuple[RlCase, float, float]]] = {}
    for step in steps:
        groups.setdefault(step[0].pair, []).append(step)
    for found in groups.values():
        split = [s for s in found if s[0].is_asynchronous]
        for one, other in product((s for s in found if not s[0].is_asynchronous), split):
            if abs(math.log(one[1] / other[1])) > math.log1p(DIFFERS_BY):
                yield OrderedPair(
                    synchronous=one[0].row["id"],
                    asynchronous=other[0].row["id"],
                    measured=one[1] / other[1],
                    predicted=one[2] / other[2],
                    doubts="; ".join(filter(None, (step[0].row.get("doubts") for step in (one, other)))),
                )
