"""Predicted against measured: every row of a table of published training steps, and our errors.

`validate_rows` reads a CSV (the shipped one by default), turns each row into a case (`rows`), predicts it with the plan
that the row states, and summarises the errors by chip and source. It refuses rows that it cannot model, with a reason,
and never fits anything to the file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mowich.evidence.collective_rows import validate_collectives
from mowich.evidence.energy_rows import validate_energy
from mowich.evidence.forward_passes import validate_forward
from mowich.evidence.measured_tables import TableKind, chip_reason, is_time, published, read_csv, shipped_as, table_kind
from mowich.evidence.residual import step_interval
from mowich.evidence.row_checks import PublishedRow
from mowich.evidence.row_plan import memory_of
from mowich.evidence.rows import Case, read_cases
from mowich.evidence.scores import MemoryScore, RowResult, Validation, scored_rows
from mowich.evidence.serving_validate import validate_serving
from mowich.facts import Facts
from mowich.facts.together import moves_together
from mowich.plans.memory_range import allocated
from mowich.progress import steps
from mowich.shown import Rows
from mowich.training.sensitivity import moves
from mowich.training.step import OneStep, predict_step, predict_steps
from mowich.training.tuned import HandTuned, has_kernels, predict_hand_tuned


def validate_rows(path: str | Path | None, facts: Facts) -> Validation:
    """Predict every row of `path` (None: the published training rows that ship; a word of `TABLES`: that table). Raises
    UserError for a file that is not a table of measurements of training, serving or collectives (those of
    reinforcement learning and of forward passes: `studies.validate`); a single row that
    cannot be modelled is answered with status "unsupported" and its reason. Rows that ship are predicted once for the
    same facts."""
    name = shipped_as(path)
    if name is None:
        return Validation(path=str(path), facts_hash=facts.hash(), rows=_predicted(Path(str(path)), facts))
    rows = facts.once(("validated", name), lambda known: _predicted(published(name), known))
    return Validation(path=name, facts_hash=facts.hash(), rows=rows)


def _predicted(file: Path, facts: Facts) -> Rows[RowResult]:
    """Every row of a table with its prediction."""
    rows = read_csv(file, facts)
    return Rows(_PREDICTED.get(table_kind(rows[0]), _validate_training)(rows, facts))


def _validate_training(rows: Sequence[PublishedRow], facts: Facts) -> Sequence[RowResult]:
    reasons = {chip: chip_reason(chip, facts) for chip in {row["chip"] for row in rows}}
    usable = [row for row in rows if reasons[row["chip"]] is None]
    found = iter(read_cases(usable, facts))
    read = [next(found) if (reason := reasons[row["chip"]]) is None else reason for row in rows]

    def predicted(cases: list[Case]) -> Iterator[list[RowResult]]:
        of_runs = steps_of(cases)
        for case in steps(cases, "predicting rows"):
            yield [predict(case, facts, of_runs[run_of(case)])]

    def refuse(row: PublishedRow, why: str) -> list[RowResult]:
        return RowResult.refused(row, why, row["primary_metric"].split(" ")[0], source="source_group")

    return with_hand_tuned(scored_rows(rows, read, predicted, refuse))


_PREDICTED: Mapping[TableKind, Callable[[Sequence[PublishedRow], Facts], Sequence[RowResult]]] = {
    "energy": validate_energy,
    "serving": validate_serving,
    "forward": validate_forward,
    "collectives": validate_collectives,
}
"""Kind of table -> the function that predicts its rows; `_validate_training` does the others."""


def steps_of(cases: Iterable[Case]) -> dict[object, OneStep]:
    """The predicted step of each run (`run_of`): several rows may repeat one, and plans of one job are evaluated
    together."""
    jobs: dict[object, dict[object, Case]] = {}
    for case in cases:
        jobs.setdefault((id(case.system), id(case.model), case.job), {})[run_of(case)] = case
    steps: dict[object, OneStep] = {}
    for runs in jobs.values():
        one = next(iter(runs.values()))
        plans = [case.plan for case in runs.values()]
        steps |= zip(runs, predict_steps(one.model, one.system, one.job, plans), strict=True)
    return steps


def run_of(case: Case) -> object:
    """The key that cases of the same run share. Valid while the cases are kept, because it holds the ids of system and
    model."""
    return (id(case.system), id(case.model), case.job, case.plan)


def with_hand_tuned(rows: Iterable[RowResult]) -> tuple[RowResult, ...]:
    """The rows; those of Trainium also have the time with hand-tuned kernels. A run that several rows repeat is
    evaluated once."""
    known: dict[object, HandTuned] = {}
    out = []
    for row in steps(list(rows), "predicting hand-tuned kernels"):
        case = row.case
        if case is not None and row.measured is not None and has_kernels(case.system):
            run = run_of(case)
            found = known[run] = known.get(run) or predict_hand_tuned(case.model, case.system, case.job, case.plan)
            factor = case.measured_step_s / (found.step.total_s * case.job.tokens_per_step / found.step.tokens)
            figure = row.measured / factor if is_time(row.metric) else row.measured * factor
            row = replace(row, hand_tuned=figure, hand_tuned_coverage=found.coverage)
        out.append(row)
    return tuple(out)


def predict(case: Case, facts: Facts, step: OneStep | None = None) -> RowResult:
    """One case: the predicted step (`step` where it is known), scaled from the legal batch to the row's per token, in
    the row's own metric."""
    step = step or predict_step(case.model, case.system, case.job, case.plan)
    seconds = step.total_s * case.job.tokens_per_step / step.tokens
    ratio = seconds / case.measured_step_s
    faster, slower = step_interval(step.breakdown, case.model, case.system, facts, case.inferred)
    found = untested(case, facts)
    down = math.hypot(faster, *(max(0.0, -min(move)) for move in found))
    up = math.hypot(slower, *(max(0.0, max(move)) for move in found))
    if not is_time(case.metric):
        down, up = up, down
    predicted = case.measured * ratio if is_time(case.metric) else case.measured / ratio
    return RowResult(
        id=case.id,
        inferred=case.inferred,
        metric=case.metric,
        measured=case.measured,
        predicted=predicted,
        low=predicted * math.exp(-down),
        high=predicted * math.exp(up),
        grade="D" if found else "C",
        ratio=ratio,
        chip=case.chip,
        source=case.source,
        kind=case.kind,
        fully_specified=case.fully_specified,
        case=case,
        parts=step.breakdown,
        fits_memory=case.memory_share <= 1.0,
        memory=score_memory(case, facts) if case.allocated_B else None,
    )


def score_memory(case: Case, facts: Facts) -> MemoryScore:
    """The memory of a row's plan in its program's allocator, and the memory that the row states."""
    found = allocated(facts, case.system, case.plan, memory_of(case.model, case.system, case.job, case.plan))
    assert case.allocated_B is not None
    return MemoryScore(
        measured=case.allocated_B, predicted=float(found), low=found.low or 0.0, high=found.high or math.inf
    )


def untested(case: Case, facts: Facts) -> list[tuple[float, float]]:
    """Change of ln(step time) at both ends of each uncertain fact, for a chip to whose family no constant was fitted
    (its `product_16` is an estimate). It adds to the error of the formulas. Empty for others: their error on rows left
    out includes it."""
    if facts.fact(f"devices.{case.system.family}.product_16").grade != "D":
        return []
    found = moves(
        case.model,
        case.job,
        case.plan,
        facts=facts,
        system_id=case.system.id,
        chips=case.system.chips,
        stack_name=case.system.stack.name,
    )
    return [(low, high) for _, low, high in moves_together(found, facts)]
