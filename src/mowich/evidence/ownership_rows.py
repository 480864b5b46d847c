"""Published costs of ownership against our build-up: rows of facts/published/tco.csv. None is an input.

A row is compared under its own rule, buyer and quarter. Its `figure` names its number: the `total` of a chip-hour, its
`capital` or `operating` part, the `ratio` to another system (`change`: the ratio less one), or `per_MW_year` and
`energy_per_MW_year` of a site.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mowich.economics.ownership import BOUGHT, Ownership, Terms, owned
from mowich.evidence.measured_tables import shipped_rows
from mowich.facts import Facts
from mowich.readback import record_of
from mowich.sums import float_sum
from mowich.units import UNITS

_YEAR_S = UNITS["year"].value
_HOUR_S = UNITS["hour"].value
WITHIN = 0.15
"""Error up to which a figure counts as met."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedCost:
    """A row against the build-up, in the row's unit. low, high: 90% range of our cost; what: in words; explained: why
    we miss it."""

    id: str
    system: str
    what: str
    published: float
    ours: float
    low: float
    high: float
    unit: str
    terms: Terms
    source: str
    explained: str

    @property
    def error(self) -> float:
        """Ours over published, less one; for a change, computed on one plus the change."""
        if self.unit == "%":
            return (1 + self.ours / 100) / (1 + self.published / 100) - 1
        return self.ours / self.published - 1

    @property
    def is_met(self) -> bool:
        """Whether ours lies within `WITHIN` of the published figure."""
        return abs(self.error) <= WITHIN


PUBLISHED_COSTS = "published/tco.csv"
"""The shipped table of costs; it also holds costs that are not compared."""


def compared_costs(facts: Facts) -> list[PublishedCost]:
    """Every row that states a cost, against ours."""
    return [_compared(facts, row) for row in shipped_rows(PUBLISHED_COSTS) if row["figure"]]


def _compared(facts: Facts, row: Mapping[str, str]) -> PublishedCost:
    terms = Terms(
        quarter=row["quarter"],
        rule=row["rule"],
        buyer=row["buyer"],
        life_s=float(row["life_years"]) * _YEAR_S if row["life_years"] else None,
        chips=facts.number("prices.ownership.asked.chips"),
    )
    cost = owned(facts, row["system_id"], terms)
    base = owned(facts, row["base"], terms) if row["base"] else None
    ours = _figure(facts, row, cost, base)
    spread = (
        (1.0, 1.0)
        if cost.total.value is None
        else ((cost.total.low or 0.0) / cost.total.value, (cost.total.high or 0.0) / cost.total.value)
    )
    ends = [_figure(facts, row, replace(cost, total=cost.total.scaled(s, cost.total.unit)), base, s) for s in spread]
    low, high = ends
    return record_of(PublishedCost, row, published=float(row["value"]), ours=ours, low=low, high=high, terms=terms)


def _figure(facts: Facts, row: Mapping[str, str], cost: Ownership, base: Ownership | None, by: float = 1.0) -> float:
    """Our number for the figure of a row. by: a factor on its parts, for the ends of the range."""
    hour = float(cost.total) * _HOUR_S
    chip = facts.meta("systems", row["system_id"])["chip"]
    per_MW_year = _YEAR_S / facts.number(f"chips.{chip}.power.all_in")  # M USD per MW and year, from USD per chip and s
    parts = {name: float(part) * by for name, part in cost.parts.items()}
    figures = {
        "total": hour,
        "capital": float_sum(parts[name] for name in BOUGHT) * _HOUR_S,
        "operating": cost.operating * by * _HOUR_S,
        "ratio": float(cost.total) / float(base.total) if base else 0.0,
        "change": (float(cost.total) / float(base.total) - 1) * 100 if base else 0.0,
        "per_MW_year": float(cost.total) * per_MW_year,
        "energy_per_MW_year": (parts["energy"] + parts["cooling"]) * per_MW_year,
    }
    return figures[row["figure"]]
