"""What porting costs, and from how many chips it pays; what a machine is worth as it ages."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mowich.economics.depreciation import BOOKS, book_share, residual_share, seen_values
from mowich.economics.porting import pays_from_chips, porting_usd, porting_within_years
from mowich.errors import UserError
from mowich.estimate import Estimate, exact, unknown_estimate
from mowich.facts import load_facts

SYSTEMS = ("trn2", "trn3-gen2", "trn4", "ironwood", "gb300", "mi355x", "gaudi3")


def test_a_port_costs_people_times_months_times_a_month() -> None:
    facts = load_facts().with_values(
        {
            "prices.porting.people": 10.0,
            "prices.porting.months": 6 * 2629800.0,
            "prices.porting.usd_per_person_month": 20_000 / 2629800.0,
        }
    )
    assert float(porting_usd(facts)) == pytest.approx(10 * 6 * 20_000)
    assert float(porting_within_years(load_facts())) == pytest.approx(2.0)


def test_a_port_pays_from_the_chips_whose_savings_are_its_cost() -> None:
    found = pays_from_chips(exact(900.0, "USD"), exact(3.0, "USD"), 2.0)
    assert float(found) == pytest.approx(150.0)
    assert pays_from_chips(exact(900.0, "USD"), exact(0.0, "USD"), 2.0).value is None
    assert pays_from_chips(unknown_estimate("USD", "who knows"), exact(3.0, "USD"), 2.0).reason == "who knows"
    unsure = Estimate(value=3.0, unit="USD", low=-1.0, high=6.0)
    found = pays_from_chips(exact(900.0, "USD"), unsure, 2.0)
    assert (found.value, found.low, found.high) == (pytest.approx(150.0), pytest.approx(75.0), None)


@given(system=st.sampled_from(SYSTEMS), years=st.floats(0.0, 12.0), more=st.floats(0.0, 6.0))
@settings(max_examples=60, deadline=None)
def test_a_machine_is_worth_less_each_year_and_never_less_than_nothing(system: str, years: float, more: float) -> None:
    facts = load_facts()
    young, old = residual_share(facts, system, years), residual_share(facts, system, years + more)
    for e in (young, old):
        assert 0.0 < float(e.low or 0.0) <= float(e) <= float(e.high or 0.0) <= 1.0
    assert float(old) <= float(young)
    assert float(old.low or 0.0) <= float(young.low or 0.0) + 1e-12
    for owner in BOOKS:
        assert 0.0 <= float(book_share(facts, owner, years + more)) <= float(book_share(facts, owner, years)) <= 1.0


def test_a_new_machine_is_worth_its_price_and_a_faster_maker_ages_it() -> None:
    facts = load_facts()
    assert float(residual_share(facts, "trn3-gen2", 0.0)) == 1.0
    faster = facts.with_values({"prices.depreciation.next_generation.every.aws": 31557600.0})
    assert float(residual_share(faster, "trn3-gen2", 3.0)) < float(residual_share(facts, "trn3-gen2", 3.0))
    with pytest.raises(UserError):
        residual_share(facts, "nothing", 1.0)


def test_what_was_seen_of_resale_and_of_contracts_lies_in_the_range_of_the_law() -> None:
    for seen in seen_values(load_facts()):
        if "list" not in seen.words:  # a list price falls later than what a machine sells for
            assert seen.share.overlaps(seen.law), seen
