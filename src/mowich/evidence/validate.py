"""Predicted against measured: every row of a table of published training steps, and how far off we are.

`validate_rows` reads a CSV (the shipped one by default), turns each row into a case (`rows`), predicts it with the plan
that the row states, and summarises the errors by chip and source. It refuses rows that it cannot model, with a reason,
and never fits anything to the file.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path

from mowich.errors import UserError, UserErrors, unknown
from mowich.evidence import collective_rows, forward_passes, serving_validate
from mowich.evidence.energy_rows import ENERGY, check_energy_row, is_energy, validate_energy
from mowich.evidence.forward_rows import PASS_TABLE, check_pass_row, is_pass, named_rows
from mowich.evidence.residual import step_interval
from mowich.evidence.rl_rows import RL_TABLE, check_rl_row, is_rl
from mowich.evidence.row_checks import PublishedRow, TableForm, blank, not_numbers
from mowich.evidence.row_plan import memory_of
from mowich.evidence.row_rules import TRAINING, is_time
from mowich.evidence.rows import Case, read_cases
from mowich.evidence.scores import METERED, SHIPPED, TRAINIUM, TRAINIUM_COLLECTIVES, MemoryScore, RowResult, Validation
from mowich.evidence.serving_rows import SERVING
from mowich.facts import Facts
from mowich.files import read_text
from mowich.plans.memory_range import allocated
from mowich.progress import steps
from mowich.shown import Rows
from mowich.training.sensitivity import moves
from mowich.training.step import OneStep, predict_step, predict_steps
from mowich.training.tuned import HandTuned, has_kernels, predict_hand_tuned

TABLES = {
    "training": SHIPPED,
    "trainium-serving": TRAINIUM,
    "trainium-collectives": TRAINIUM_COLLECTIVES,
    "energy": METERED,
}
"""Word for a table of measurements that ships -> its file, as results name it."""


def published(shown: str = SHIPPED) -> Path:
    """The file of measurements that ship under this name."""
    return Path(str(resources.files("mowich.facts"))) / shown


def shipped_as(path: str | Path | None) -> str | None:
    """How results name the shipped table that `path` means: none for those of training, a word of `TABLES`, or the
    name itself. None for any other file."""
    if path is None:
        return SHIPPED
    return TABLES.get(str(path)) or (str(path) if str(path) in TABLES.values() else None)


def read_csv(path: Path, facts: Facts) -> list[PublishedRow]:
    """Rows of a table of measurements of training, of serving, of reinforcement learning, of forward passes, of
    collectives or of metered power (told apart by their columns), checked at the edge.

    Raises UserError (one) or UserErrors (all at once), each with file:line: missing file, empty file, no rows, missing
    columns, a cell that is not a number, a repeated id, an unknown metric, no chip that is known.
    """
    name = str(path)
    text = read_text(path, "table")
    reader = csv.DictReader(text.splitlines(keepends=True), strict=True)
    try:
        columns = reader.fieldnames
        if not columns:
            raise UserError(
                "the file is empty", where=f"{name}:1", fix=f"a table needs the columns {', '.join(TRAINING.required)}"
            )
        if is_rl(columns):
            rows = _rows(checked_rows(name, "reinforcement learning", columns, reader, RL_TABLE, check_rl_row))
            return [{**row, "chip": row["hardware"]} for row in rows]
        if is_pass(columns):
            return named_rows(_rows(checked_rows(name, "forward passes", columns, reader, PASS_TABLE, check_pass_row)))
        if is_energy(columns):
            return _rows(checked_rows(name, "energy", columns, reader, ENERGY, check_energy_row))
        if serving_validate.is_serving(columns):
            return _rows(checked_rows(name, "serving", columns, reader, SERVING, serving_validate.check_serving_row))
        if collective_rows.is_collectives(columns):
            form, check = collective_rows.MEASURED_COLLECTIVES, collective_rows.check_collective_row
            return _rows(checked_rows(name, "collectives", columns, reader, form, check))
        if forward_passes.is_forward(columns):
            reader.fieldnames = columns = forward_passes.forward_columns(columns)
            form = replace(forward_passes.FORWARD_TABLE, required=("id", *forward_passes.FORWARD_TABLE.required))
            found = checked_rows(name, "forward passes", columns, reader, form, forward_passes.check_forward_row)
            return [{**row, "chip": forward_passes.chip_word(row["chip"])} for row in _rows(found)]
        rows = _rows(checked_rows(name, "training", columns, reader, TRAINING, check_training_row))
    except csv.Error as error:
        raise UserError(f"not a CSV table: {error}", where=f"{name}:{reader.line_num}") from error
    if not any(_chip_reason(row["chip"], facts) is None for row in rows):
        try:
            facts.resolve_system(rows[0]["chip"])
        except UserError as error:
            raise UserError(error.what, where=f"{name}:2, column chip", allowed=error.allowed, fix=error.fix) from error
    return rows


NOT_STATED = frozenset({"-", "--", "?", "n/a", "na", "nan", "none", "null", "unknown", "not stated", "tbd"})
"""Words that people and programs write for a cell that holds nothing."""


def plain_number(text: str) -> str:
    """A cell of numbers as `float` reads it: "" for a word that means nothing is stated, without commas between
    thousands.

    >>> plain_number("16,384"), plain_number("n/a"), plain_number("8.0"), plain_number("many")
    ('16384', '', '8.0', 'many')
    """
    if not text or text.casefold() in NOT_STATED:
        return ""
    return text.replace(",", "") if re.fullmatch(r"\d{1,3}(,\d{3})+(\.\d+)?", text) else text


def _rows(found: Sequence[tuple[int, PublishedRow]]) -> list[PublishedRow]:
    return [row for _, row in found]


def checked_rows(
    name: str,
    kind: str,
    columns: Sequence[str],
    reader: csv.DictReader[str],
    form: TableForm,
    check: Callable[[PublishedRow, str], list[UserError]],
) -> list[tuple[int, PublishedRow]]:
    """(line, row) of a table behind its header; its numbers are read by `plain_number`. Raises UserError or
    UserErrors, each with file:line: missing columns, a ragged row, what `check` finds, a repeated id, no rows."""
    missing = [c for c in form.required if c not in columns]
    if missing:
        raise UserError(
            f"missing columns: {', '.join(missing)}",
            where=f"{name}:1",
            fix=f"a table of {kind} measurements needs them",
        )
    numbers = form.numbers
    errors: list[UserError] = []
    rows: list[tuple[int, PublishedRow]] = []
    seen: dict[str, int] = {}
    for cells in reader:
        where = f"{name}:{reader.line_num}"
        if None in cells or any(value is None for value in cells.values()):
            errors.append(
                UserError(
                    "wrong number of cells",
                    where=where,
                    given=sum(v is not None for v in cells.values()),
                    allowed=str(len(columns)),
                )
            )
            continue
        row = {key: plain_number(value.strip()) if key in numbers else value.strip() for key, value in cells.items()}
        errors += check(row, where)
        if "id" in row:
            if row["id"] in seen:
                errors.append(UserError(f"id '{row['id']}' is repeated (first on line {seen[row['id']]})", where=where))
            seen.setdefault(row["id"], reader.line_num)
        rows.append((reader.line_num, row))
    if errors:
        raise errors[0] if len(errors) == 1 else UserErrors(errors)
    if not rows:
        raise UserError("no rows after the header", where=f"{name}:1")
    return rows


def check_training_row(row: PublishedRow, where: str) -> list[UserError]:
    """What is wrong with a row: blank cells, an unknown metric, cells that are no number."""
    errors = blank(row, ("id", "chip", "primary_metric"), where)
    metric = row["primary_metric"].split(" ")[0]
    if metric and metric not in TRAINING.metrics:
        errors.append(unknown("metric", metric, TRAINING.metrics, where=f"{where}, column primary_metric"))
    return errors + not_numbers(row, TRAINING.numbers, where, whole=("n_chips",))


def _chip_reason(chip: str, facts: Facts) -> str | None:
    """None when the chip is known, else why not."""
    try:
        facts.resolve_system(chip)
    except UserError as error:
        return f"no facts for it: {error.what}; --facts adds a chip and its system" + (
            f"; {error.fix}" if error.fix else ""
        )
    return None


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
    """Every row of a table with what is predicted of it."""
    rows = read_csv(file, facts)
    if is_energy(list(rows[0])):
        return Rows(validate_energy(rows, facts))
    if serving_validate.is_serving(list(rows[0])):
        return Rows(serving_validate.validate_serving(rows, facts))
    if forward_passes.is_forward(list(rows[0])):
        return Rows(forward_passes.validate_forward(rows, facts))
    if collective_rows.is_collectives(list(rows[0])):
        return Rows(collective_rows.validate_collectives(rows, facts))
    reasons = {chip: _chip_reason(chip, facts) for chip in {row["chip"] for row in rows}}
    usable = [row for row in rows if reasons[row["chip"]] is None]
    found = read_cases(usable, facts)
    of_runs = steps_of(case for case in found if not isinstance(case, str))
    cases = iter(found)
    results = []
    for row in steps(rows, "predicting rows"):
        reason = reasons[row["chip"]]
        case = reason if reason is not None else next(cases)
        if isinstance(case, str):
            metric, source = row["primary_metric"].split(" ")[0], row.get("source_group", "")
            results.append(RowResult.unsupported(row, metric=metric, source=source, reason=case))
            continue
        results.append(predict(case, facts, of_runs[run_of(case)]))
    return Rows(with_hand_tuned(results))


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
    """What cases that are the same run share. Good while the cases are kept: system and model are told by their
    identity."""
    return (id(case.system), id(case.model), case.job, case.plan)


def with_hand_tuned(rows: Iterable[RowResult]) -> tuple[RowResult, ...]:
    """The rows, those of Trainium with what hand-tuned kernels would take; a run that several rows repeat is evaluated
    once."""
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
    """What the plan of a row takes in its program's allocator, beside what the row states."""
    found = allocated(facts, case.system, case.plan, memory_of(case.model, case.system, case.job, case.plan))
    assert case.allocated_B is not None
    return MemoryScore(
        measured=case.allocated_B, predicted=float(found), low=found.low or 0.0, high=found.high or math.inf
    )


def untested(case: Case, facts: Facts) -> list[tuple[float, float]]:
    """What ln(step time) changes by, at both ends of each uncertain fact, for a chip to whose family no constant was
    fitted (its `product_16` is an estimate): on top of the error of the formulas. Empty for others, whose error on
    rows left out holds it already."""
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
    return [(low, high) for _, low, high in found]
