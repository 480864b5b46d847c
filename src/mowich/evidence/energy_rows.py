"""Metered power against the power of our machines: rows of watts per chip, of nodes, of whole systems or of idle ones,
and of the overhead of buildings (PUE).

A node's figure is the draw of a busy node (chip and server, without switches) in `mowich power`, in training and in
serving. A system's adds its network (`economics.energy.drawn_power`). An idle chip's includes its share of host and
network.
"""

from __future__ import annotations

from collections.abc import Sequence

from mowich.economics.energy import read_site
from mowich.economics.power import by_part
from mowich.errors import UserError
from mowich.estimate import Estimate, product_of, unknown_estimate
from mowich.evidence.measured_tables import table_form
from mowich.evidence.row_checks import PublishedRow
from mowich.evidence.scores import RowResult
from mowich.facts import Facts
from mowich.machines.system import machine_id


def _metric_of(scope: str) -> str:
    """The column by which rows of a scope are scored. node, system: of a busy chip; idle: of an idle one, with its
    share of host and network; building: power of the site over that of its machines."""
    return next(c.name for c in table_form("energy").columns if scope in c.needed_with.get("scope", ()))


def validate_energy(rows: Sequence[PublishedRow], facts: Facts) -> list[RowResult]:
    """The result of every row, in order; an unknown chip, or a chip of unknown power, is refused with the reason."""
    return [_scored(row, facts) for row in rows]


def _scored(row: PublishedRow, facts: Facts) -> RowResult:
    metric = _metric_of(row["scope"])
    measured = float(row[metric])
    try:
        said = _said(row, facts) if measured > 0.0 else unknown_estimate("W", f"{metric} is 0")
    except UserError as error:
        said = unknown_estimate("W", f"no facts for it: {error.what}")
    return RowResult.scored(row, said, metric=metric, measured=measured, kind=row["workload"], source="source_title")


def _said(row: PublishedRow, facts: Facts) -> Estimate:
    """Our figure for a row. Raises UserError for an unknown chip."""
    site, scope = read_site(facts), row["scope"]
    if scope == "building":
        return site.pue
    found = by_part(facts, machine_id(facts, facts.resolve_system(row["chip"])), site)
    if scope == "idle":
        return product_of([(found.it, 1.0), (site.idle_share, 1.0)], "W")
    return found.drawn_system if scope == "system" else found.drawn
