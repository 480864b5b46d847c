"""Predicted against measured, for every kind of table: those of reinforcement learning and of forward passes are
answered by studies, all others by the laws themselves."""

from __future__ import annotations

from pathlib import Path

from mowich.evidence.measured_tables import read_csv, shipped_as, table_kind
from mowich.evidence.scores import Validation
from mowich.evidence.validate import validate_rows
from mowich.facts import Facts
from mowich.shown import Rows
from mowich.studies.forward_evidence import score_passes
from mowich.studies.rl_evidence import score_rl


def validate(path: str | Path | None, facts: Facts) -> Validation:
    """Predict every row of a table (None: the published training rows that ship). Raises UserError for a file that is
    no table of measurements; a row that cannot be modelled is answered with its reason."""
    if shipped_as(path) is not None:
        return validate_rows(path, facts)
    rows = read_csv(Path(str(path)), facts)
    kind = table_kind(rows[0])
    if kind == "passes":
        return Validation(path=str(path), facts_hash=facts.hash(), rows=Rows(score_passes(rows, facts)))
    if kind != "rl":
        return validate_rows(path, facts)
    results, pairs = score_rl(rows, facts)
    return Validation(path=str(path), facts_hash=facts.hash(), rows=Rows(results), pairs=pairs)
