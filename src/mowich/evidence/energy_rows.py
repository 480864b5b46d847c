"""Metered power against the power of our machines: rows of watts per chip, of nodes or of whole systems.

A node's figure is what `mowich power` says that a busy node draws (chip and server, without switches), a system's the
same with its network. Power of machines is provisioned; `sites.parts.drawn_share` is what metered runs draw of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from mowich.economics.energy import read_site
from mowich.economics.power import by_part
from mowich.errors import UserError
from mowich.evidence.row_checks import PublishedRow, TableForm, blank, not_numbers
from mowich.evidence.scores import RowResult
from mowich.facts import Facts
from mowich.machines.system import machine_id

_METRIC = "W_per_chip"

ENERGY = TableForm(
    required=("id", "chip", "n_chips", "workload", "scope"),
    metrics=(_METRIC,),
    counts=("n_chips",),
    counts_from_zero=(),
)
"""The columns of metered power. scope: `node` or `system`."""

_SCOPES = ("node", "system")


def is_energy(columns: Sequence[str]) -> bool:
    """Whether a table's columns are those of metered power."""
    return _METRIC in columns


def check_energy_row(row: PublishedRow, where: str) -> list[UserError]:
    """What is wrong with a row: blank cells, an unknown scope, cells that are no number."""
    errors = blank(row, ("id", "chip", "scope", _METRIC), where)
    if row["scope"] and row["scope"] not in _SCOPES:
        place = f"{where}, column scope"
        errors.append(UserError("unknown scope", where=place, given=row["scope"], allowed=", ".join(_SCOPES)))
    return errors + not_numbers(row, ENERGY.numbers, where, whole=("n_chips",))


def validate_energy(rows: Sequence[PublishedRow], facts: Facts) -> list[RowResult]:
    """The result of every row, in order; a chip that is not known, or whose power is not, is refused with the
    reason."""
    return [_scored(row, facts) for row in rows]


def _scored(row: PublishedRow, facts: Facts) -> RowResult:
    source = row.get("source_title", "")
    try:
        found = by_part(facts, machine_id(facts, facts.resolve_system(row["chip"])), read_site(facts))
    except UserError as error:
        reason = f"no facts for it: {error.what}"
        return RowResult.unsupported(row, metric=_METRIC, source=source, reason=reason)
    drawn, measured = found.drawn_system if row["scope"] == "system" else found.drawn, float(row[_METRIC])
    if drawn.value is None or measured <= 0.0:
        reason = drawn.reason or f"{_METRIC} is 0"
        return RowResult.unsupported(row, metric=_METRIC, source=source, reason=reason)
    ratio = drawn.value / measured
    return RowResult(
        id=row["id"],
        status="ok",
        reason=None,
        inferred=(),
        metric=_METRIC,
        measured=measured,
        predicted=drawn.value,
        low=drawn.low,
        high=drawn.high,
        ratio=ratio,
        abs_error=max(ratio, 1.0 / ratio) - 1.0,
        chip=row["chip"],
        source=source,
        kind=row["workload"],
        fully_specified=True,
        grade=drawn.grade,
    )
