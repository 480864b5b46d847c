"""`compare --emit`: the best of the compared systems that a program runs on, as its launch command or its bundle."""

from __future__ import annotations

import math

from mowich.errors import UserError
from mowich.readback import record_of
from mowich.requests import jobs
from mowich.shown import Result
from mowich.studies import job_answers
from mowich.studies.compare import Comparison
from mowich.studies.ranking import names_listed, ranking, rows_of
from mowich.studies.serving_plan import ServeResult
from mowich.units import show


def best_text(result: Comparison | ServeResult, asked: jobs.CompareRequest) -> str:
    """The text for the best system that the program runs on, with a line that says which it is. Raises UserError where
    it runs on none of them."""
    whole: Result = result.to_dict()
    rows = rows_of(whole)
    there = [row for row in rows if row.get("feasible", row.get("plan")) and row["tokens_per_s_per_chip"]["value"]]
    if not there:
        raise UserError("no system has a plan to write", field="emit", given=asked.emits)
    is_priced = all(row["usd_per_mtok"]["value"] is not None for row in there)
    key = "usd_per_mtok" if is_priced else "tokens_per_s_per_chip"
    refused: UserError | None = None
    refusing: set[str] = set()
    for row in sorted(there, key=lambda row: (1 if is_priced else -1) * (row[key]["value"] or math.inf)):
        of_one = _plan_of(row, asked)
        try:
            text = job_answers.plan_text(job_answers.plans_of_one(of_one), of_one)
        except UserError as error:
            if error.field == "out":
                raise
            refused = refused or error
            refusing.add(row["system"])
            continue
        mark = "# " if asked.form.out is None else "note: "
        left = [other for other in there if other["system"] not in refusing]
        return f"{mark}{row['system']}: {why_emitted(row, key, {**whole, 'rows': left}, asked.emits)}\n{text}"
    assert refused is not None
    raise refused


def why_emitted(row: Result, key: str, result: Result, program: object) -> str:
    """Why this row: the best of those that the program runs on, or the one with the best value where nobody is best.
    result: the comparison with those rows."""
    value = show(row[key]["value"], row[key]["unit"])
    names = [other["system"] for other in result["rows"]]
    if len(names) == 1:
        return f"the only one that {program} runs on, {value}"
    rank = ranking(result, key)
    cost = key == "usd_per_mtok"
    lowest = f"{'lowest cost' if cost else 'most per chip'} of those that {program} runs on, {value}"
    if rank.best is None:
        return f"{lowest}; not ranked: {rank.why_not}"
    close = [name for i, name in enumerate(names) if i in (rank.best, *rank.close) and name != row["system"]]
    if close:
        return f"{lowest}; its range overlaps that of {names_listed(close)}"
    return f"{'a token is cheapest' if cost else 'a chip does most'} on it of those that {program} runs on, {value}"


def _plan_of(row: Result, asked: jobs.CompareRequest) -> jobs.PlanRequest:
    """The question of one system for its best plan."""
    systems, chips = (row["system"],), row["chips_requested"]
    return record_of(jobs.PlanRequest, asked, systems=systems, chips=chips, emit=asked.emits, top=1)
