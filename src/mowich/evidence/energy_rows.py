"""Metered power against the power of our machines: rows of watts per chip, of nodes, of whole systems or of idle ones,
and of the overhead of buildings (PUE).

A node's figure is what `mowich power` says that a busy node draws (chip and server, without switches), in training and
in serving; a system's is the same with its network (`economics.energy.drawn_power`). An idle chip's has its share of
host and network too.
"""

from __future__ import annotations

from collections.abc import Sequence

from mowich.economics.energy import read_site
from mowich.economics.power import by_part
from mowich.errors import UserError
from mowich.estimate import Estimate, product_of
from mowich.evidence.row_checks import PublishedRow, TableForm, blank, not_numbers
from mowich.evidence.scores import RowResult
from mowich.facts import Facts
from mowich.machines.system import machine_id

_METRIC, _PUE = "W_per_chip", "pue"

ENERGY = TableForm(
    required=("id", "chip", "n_chips", "workload", "scope"),
    metrics=(_METRIC, _PUE),
    counts=("n_chips",),
    counts_from_zero=(),
)
"""The columns of metered power. scope: one of `_METRIC_OF`."""

_METRIC_OF = {"node": _METRIC, "system": _METRIC, "idle": _METRIC, "building": _PUE}
"""What a row is about -> the column that it is scored by. node, system: of a busy chip; idle: of an idle one, with its
share of host and network; building: power of the site over that of its machines."""


def is_energy(columns: Sequence[str]) -> bool:
    """Whether a table's columns are those of metered power."""
    return _METRIC in columns


def check_energy_row(row: PublishedRow, where: str) -> list[UserError]:
    """What is wrong with a row: blank cells, an unknown scope, cells that are no number."""
    metric = _METRIC_OF.get(row["scope"])
    errors = blank(row, ("id", "chip", "scope", *([metric] if metric else [])), where)
    if row["scope"] and metric is None:
        place = f"{where}, column scope"
        errors.append(UserError("unknown scope", where=place, given=row["scope"], allowed=", ".join(_METRIC_OF)))
    return errors + not_numbers(row, ENERGY.numbers, where, whole=("n_chips",))


def validate_energy(rows: Sequence[PublishedRow], facts: Facts) -> list[RowResult]:
    """The result of every row, in order; a chip that is not known, or whose power is not, is refused with the
    reason."""
    return [_scored(row, facts) for row in rows]


def _scored(row: PublishedRow, facts: Facts) -> RowResult:
    source, metric = row.get("source_title", ""), _METRIC_OF[row["scope"]]
    try:
        said = _said(row, facts)
    except UserError as error:
        reason = f"no facts for it: {error.what}"
        return RowResult.unsupported(row, metric=metric, source=source, reason=reason)
    measured = float(row[metric])
    if said.value is None or measured <= 0.0:
        reason = said.reason or f"{metric} is 0"
        return RowResult.unsupported(row, metric=metric, source=source, reason=reason)
    return RowResult(
        id=row["id"],
        metric=metric,
        measured=measured,
        predicted=said.value,
        low=said.low,
        high=said.high,
        ratio=said.value / measured,
        chip=row["chip"],
        source=source,
        kind=row["workload"],
        grade=said.grade,
    )


def _said(row: PublishedRow, facts: Facts) -> Estimate:
    """What our facts say of a row. Raises UserError for a chip that they do not know."""
    site, scope = read_site(facts), row["scope"]
    if scope == "building":
        return site.pue
    found = by_part(facts, machine_id(facts, facts.resolve_system(row["chip"])), site)
    if scope == "idle":
        return product_of([(found.it, 1.0), (site.idle_share, 1.0)], "W")
    return found.drawn_system if scope == "system" else found.drawn
