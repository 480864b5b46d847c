"""How far predicted forward passes are from measured ones.

`evidence.forward_rows` says what a row is a pass of, `studies.forward` answers it: at the row's own plan, size and
software, and nothing is fitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mowich.errors import UserError
from mowich.estimate import Notes
from mowich.evidence.forward_rows import PassCase, read_passes
from mowich.evidence.row_checks import PublishedRow
from mowich.evidence.scores import PASS_METRIC, RowResult, scored_rows
from mowich.facts import Facts
from mowich.models.latent import latent_tokens
from mowich.plans.forward import ForwardJob
from mowich.readback import record_of
from mowich.studies.forward import assess_forward
from mowich.studies.forward_row import ForwardAsk


def ask_of_pass(case: PassCase, facts: Facts) -> ForwardAsk:
    """The question that a row answers: one pass at its plan. Raises UserError for a size that its model cannot make."""
    is_made = not case.tokens
    tokens = case.tokens
    if is_made:
        tokens = latent_tokens(case.model, height=case.height, width=case.width, frames=case.frames)
    task = "diffuse" if case.model.kind == "diffusion" else "encode"
    job = record_of(ForwardJob, case, task=task, tokens=tokens, batch=case.plan.batch)
    return record_of(ForwardAsk, case, job=job, on=case.chip, facts=facts)


def score_passes(rows: Sequence[PublishedRow], facts: Facts) -> list[RowResult]:
    """Every row with what is predicted of it, in ms; `kind` is the model in the row's words."""
    cases = read_passes(rows, facts)
    stated = [row for row, case in zip(rows, cases, strict=True) if not isinstance(case, str)]
    found = scored_rows(
        rows,
        cases,
        lambda known: [_scored(row, case, facts) for row, case in zip(stated, known, strict=True)],
        lambda row, why: RowResult.refused(row, why, PASS_METRIC),
    )
    return [replace(one, kind=row["model"] or "none") for one, row in zip(found, rows, strict=True)]


def record_pass(row: PublishedRow, facts: Facts, notes: Notes) -> None:
    """The laws of a row, as they are called; of a row that is refused none."""
    (case,) = read_passes([row], facts)
    if not isinstance(case, str):
        assess_forward(ask_of_pass(case, facts), notes)


def _scored(row: PublishedRow, case: PassCase, facts: Facts) -> list[RowResult] | str:
    try:
        found = assess_forward(ask_of_pass(case, facts))
    except UserError as error:
        return "; ".join(error.line().splitlines())
    if found.pass_s.value is None:
        return found.reason
    result = RowResult.scored(
        row,
        found.pass_s,
        metric=PASS_METRIC,
        measured=case.measured_s,
        scale=1e3,
        kind=row["model"],
        inferred=case.inferred,
        fully_specified=not any(word.startswith("shape") for word in case.inferred),
    )
    return [replace(result, parts=found.parts, fits_memory=not found.reason)]
