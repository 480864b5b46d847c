"""The build-up against published costs, none of which is an input."""

from __future__ import annotations

import statistics

import pytest

from mowich.evidence.measured_tables import shipped_rows
from mowich.evidence.ownership_rows import PUBLISHED_COSTS, WITHIN, PublishedCost, compared_costs
from mowich.facts import Facts


@pytest.fixture(scope="module")
def checks(facts: Facts) -> list[PublishedCost]:
    return compared_costs(facts)


def test_published_costs_are_met_within_15_percent_or_explained(checks: list[PublishedCost]) -> None:
    missed = [c for c in checks if not c.is_met]
    assert all(c.explained for c in missed), [c.id for c in missed if not c.explained]
    assert not [c.id for c in checks if c.is_met and c.explained]
    assert len(checks) >= 23
    assert len(missed) <= 7
    assert statistics.median(abs(c.error) for c in checks) < 0.12


def test_the_analyst_with_most_figures_is_met_for_every_buyer(checks: list[PublishedCost]) -> None:
    """Chip-hours of H100, H200, GB200, MI300X and Vera Rubin, of hyperscaler and neocloud."""
    found = [c for c in checks if c.terms.rule == "semianalysis" and c.unit == "USD/chip-hour" and "mi355x" not in c.id]
    assert {c.terms.buyer for c in found} == {"hyperscaler", "neocloud"}
    assert len(found) >= 12
    assert sum(abs(c.error) <= WITHIN for c in found) >= len(found) - 1
    assert statistics.median(abs(c.error) for c in found) < 0.08


def test_every_row_is_compared_or_says_why_not() -> None:
    rows = shipped_rows(PUBLISHED_COSTS)
    assert len(rows) == 70
    assert len({r["id"] for r in rows}) == len(rows)
    for row in rows:
        assert bool(row["figure"]) != bool(row["not_compared"]), row["id"]


def test_ranges_hold_ours(checks: list[PublishedCost]) -> None:
    for c in checks:
        assert min(c.low, c.high) <= c.ours <= max(c.low, c.high), c.id
