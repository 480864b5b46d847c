"""A row of predicted against measured made again, from the cells of its table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path as File

from mowich.errors import UserError
from mowich.estimate import Notes
from mowich.evidence.scores import RowResult
from mowich.facts import Facts
from mowich.shown import Result
from mowich.software.stack import equip
from mowich.studies.explain.source import Numbers, Source
from mowich.studies.explain.training import record_memory, record_step
from mowich.studies.explain.tree import ResultPath
from mowich.training.sensitivity import noted_on
from mowich.training.tuned import hand_tuned_terms


def measured_rows(result: Result, facts: Facts) -> dict[str, Mapping[str, str]]:
    """The rows of the file that a validation read, by id; empty where the file is gone."""
    from mowich.evidence.measured_tables import published, read_csv, shipped_as

    name = shipped_as(result["file"])
    file = published(name) if name else File(result["file"])
    try:
        return {r["id"]: r for r in read_csv(file, facts)}
    except UserError:
        return {}


def validated(at: ResultPath, row: Result, cells: Mapping[str, str], facts: Facts) -> Source:
    """One measured row, predicted again. cells: as the file has it."""
    from mowich.evidence.measured_tables import table_kind

    kind = table_kind(cells)
    made = _of_rl if kind == "rl" else _of_pass if kind == "passes" else _of_step
    numbers, terms = made(row, cells, facts)
    return Source(at=at, numbers=numbers, terms=terms, title=f"{row['id']}: {row['chip']}, {row['source']}")


_Made = tuple[Callable[[Facts, ResultPath], Numbers], Callable[[ResultPath, Notes], None]]
"""Numbers and terms of a `Source`."""


def _scored(
    score: Callable[[Facts], RowResult],
    record: Callable[[Mapping[str, str], Facts, Notes], None],
    cells: Mapping[str, str],
    facts: Facts,
) -> _Made:
    """A row that is scored by laws. score: under any facts; record: the laws of its cells."""

    def terms(name: ResultPath, notes: Notes) -> None:
        if name[0] != "measured":
            record(cells, facts, notes)

    return lambda known, wanted: _figures(score(known)), terms


def _of_step(row: Result, cells: Mapping[str, str], facts: Facts) -> _Made:
    """A step of training, a point of serving, or a metered power."""
    from mowich.evidence import validate as study
    from mowich.evidence.energy_rows import validate_energy
    from mowich.evidence.measured_tables import table_kind
    from mowich.evidence.rows import read_cases
    from mowich.evidence.serving_validate import validate_serving

    serving, metered = (table_kind(cells) == kind for kind in ("serving", "energy"))
    rows: list[Mapping[str, str]] = [cells]

    def numbers(known: Facts, wanted: ResultPath) -> Numbers:
        if metered:
            (made,) = validate_energy(rows, known)
        elif serving:
            made = next(r for r in validate_serving(rows, known) if r.metric == row["metric"])
        else:
            case = read_cases(rows, known)[0]
            if isinstance(case, str):
                return {}
            made = study.predict(case, known)
            if str(wanted[0]).startswith("hand_tuned"):
                (made,) = study.with_hand_tuned([made])
        return _figures(made)

    @cache
    def recorded(hand_tuned: bool) -> Notes:
        """The terms of a step, each with the facts that move it. A row with a machine that facts do not have has
        none."""
        notes, case = Notes(), read_cases(rows, facts)[0]
        if isinstance(case, str):
            return notes
        record = partial(hand_tuned_terms if hand_tuned else record_step, case.model, case.job, case.plan)
        system = case.system
        if system == equip(facts, system.id, chips=system.chips, stack=system.stack.name):
            return noted_on(record, system, facts)
        record(system, notes)
        return notes

    def terms(name: ResultPath, notes: Notes) -> None:
        if metered:
            return
        if name[0] == "memory":
            case = read_cases(rows, facts)[0]
            if not isinstance(case, str) and name[-1] != "measured":
                record_memory(case.model, case.job, case.plan, case.system, notes)
        elif not serving and name[0] != "measured":
            notes.terms |= recorded(str(name[0]).startswith("hand_tuned")).terms

    return numbers, terms


def _figures(made: RowResult) -> Numbers:
    """The measured and the predicted numbers of a row, by path."""
    keys = ("measured", "predicted", "low", "high", "ratio", "abs_error", "hand_tuned", "hand_tuned_coverage")
    found: dict[ResultPath, float] = {(k,): float(v) for k in keys if (v := getattr(made, k)) is not None}
    if made.memory is not None:
        found |= {("memory", k): float(getattr(made.memory, k)) for k in keys[:6]}
    return found


def _of_rl(row: Result, cells: Mapping[str, str], facts: Facts) -> _Made:
    """A phase of a measured step of reinforcement learning, by the laws of its step."""
    from mowich.studies.rl_evidence import record_rl, score_rl

    def score(known: Facts) -> RowResult:
        return next(r for r in score_rl([cells], known)[0] if r.metric == row["metric"])

    return _scored(score, record_rl, cells, facts)


def _of_pass(row: Result, cells: Mapping[str, str], facts: Facts) -> _Made:
    """A measured pass of a whole model, by the laws of a pass."""
    from mowich.studies.forward_evidence import record_pass, score_passes

    return _scored(lambda known: score_passes([cells], known)[0], record_pass, cells, facts)
