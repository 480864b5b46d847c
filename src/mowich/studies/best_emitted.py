"""`compare --emit`: the best of the compared systems that a program runs on, as its launch command or its bundle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields

from mowich.errors import UserError
from mowich.requests import jobs
from mowich.shown import Result
from mowich.studies import answers
from mowich.studies.compare import Comparison
from mowich.studies.serving_plan import ServeResult
from mowich.units import show


def best_text(result: Comparison | ServeResult, asked: jobs.CompareRequest) -> str:
    """The text for the best system that the program runs on, with a line that says which it is. Raises UserError where
    it runs on none of them."""
    rows: Sequence[Result] = [row.to_dict() for row in result.rows]
    there = [row for row in rows if row.get("feasible", row.get("plan")) and row["tokens_per_s_per_chip"]["value"]]
    if not there:
        raise UserError("no system has a plan to write", field="emit", given=asked.emits)
    is_priced = all(row["usd_per_mtok"]["value"] is not None for row in there)
    key = "usd_per_mtok" if is_priced else "tokens_per_s_per_chip"
    refused: UserError | None = None
    for row in sorted(there, key=lambda row: (1 if is_priced else -1) * (row[key]["value"] or math.inf)):
        of_one = _plan_of(row, asked)
        try:
            found = answers.planned(of_one) if asked.train is not None else answers.served_planned(of_one)
            text = answers.plan_text(found, of_one)
        except UserError as error:
            if error.field == "out":
                raise
            refused = refused or error
            continue
        mark = "# " if asked.form.out is None else "note: "
        why = "a token is cheapest" if is_priced else "a chip does most"
        value = show(row[key]["value"], row[key]["unit"])
        return f"{mark}{row['system']}: {why} on it of those that {asked.emits} runs on, {value}\n{text}"
    assert refused is not None
    raise refused


def _plan_of(row: Result, asked: jobs.CompareRequest) -> jobs.PlanRequest:
    """The question of one system for its best plan."""
    common: Result = {f.name: getattr(asked, f.name) for f in fields(jobs.JobRequest)}
    one: Result = {"systems": (row["system"],), "chips": row["chips_requested"], "emit": asked.emits, "load": None}
    return jobs.PlanRequest(**{**common, **one}, top=1, neighbours=False, pareto=False, timeline=None, pick=1)
