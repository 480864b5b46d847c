"""Predicted against measured, for every kind of table: those of reinforcement learning and of forward passes are
answered by studies, all others by the laws themselves."""

from __future__ import annotations

from pathlib import Path

from mowich.evidence.forward_rows import is_pass
from mowich.evidence.rl_rows import is_rl
from mowich.evidence.scores import Validation
from mowich.evidence.validate import read_csv, shipped_as, validate_rows
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
    columns = list(rows[0])
    if is_pass(columns):
        return Validation(path=str(path), facts_hash=facts.hash(), rows=Rows(score_passes(rows, facts)))
    if not is_rl(columns):
        return validate_rows(path, facts)
    results, pairs = score_rl(rows, facts)
    return Validation(path=str(path), facts_hash=facts.hash(), rows=Rows(results), pairs=pairs)
