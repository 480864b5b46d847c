"""The cost of bringing work to another vendor's software, and the number of chips from which that pays.

The cost is people times months times the monthly cost of a person: facts `prices.porting`, all with wide ranges,
because no source states them. A port is paid once and saves per chip and year, so it pays from a number of chips on.
"""

from __future__ import annotations

from mowich.economics.energy import of_fact
from mowich.economics.ownership import YEAR_S
from mowich.estimate import Estimate, Notes, product_of, told, unknown_estimate
from mowich.facts import Facts

_PORTING = "prices.porting"


def port_cost(people: Estimate, time_s: Estimate, usd_per_s: Estimate) -> Estimate:
    """What a port costs, once.

    T = people * time_s * usd_per_s

    people: at work on it; time_s: how long; usd_per_s: what one of them costs, all in.

    Units: people 1, time_s s, usd_per_s USD/s.
    """
    return product_of([(people, 1.0), (time_s, 1.0), (usd_per_s, 1.0)], "USD")


def porting_usd(facts: Facts, notes: Notes | None = None) -> Estimate:
    """USD of bringing one workload to the software of another vendor, once: `prices.porting.people`, `.months` and
    `.usd_per_person_month`.

    >>> from mowich.facts import load_facts
    >>> cost = porting_usd(load_facts())
    >>> round(cost.value), cost.unit, cost.low < 200_000, cost.high > 3_000_000  # 6 people x 4 months x 32,000 USD
    (768000, 'USD', True, True)
    """
    people, time, usd = (
        of_fact(facts.fact(f"{_PORTING}.{name}"), unit)
        for name, unit in (("people", "1"), ("months", "s"), ("usd_per_person_month", "USD/s"))
    )
    return told(notes, "porting", port_cost, unit="USD")(people, time, usd)


def porting_within_years(facts: Facts) -> Estimate:
    """Years within which a port has to pay: `prices.porting.within`."""
    return of_fact(facts.fact(f"{_PORTING}.within"), "s").scaled(1.0 / YEAR_S, "year")


def chips_to_pay(cost: Estimate, saving: Estimate, years: float) -> Estimate:
    """Chips from which a cost that is paid once is earned back.

    T = cost / (saving * years)

    saving: of one chip in a year, more than nothing.

    Units: cost USD, saving USD, years 1.
    """
    return product_of([(cost, 1.0), (saving, -1.0)], "chips").scaled(1.0 / years, "chips")


def pays_from_chips(
    cost: Estimate, saving_usd_per_chip_year: Estimate, years: float, notes: Notes | None = None
) -> Estimate:
    """Chips from which a port of `cost` USD pays within `years`, at a saving of USD per chip and year.

    Unknown where nothing is saved. Where the low end of the saving is zero or a loss, the high end is unknown: there
    the port never pays.

    >>> from mowich.estimate import exact
    >>> float(pays_from_chips(exact(768_000.0, "USD"), exact(3_000.0, "USD"), 2.0))
    128.0
    >>> pays_from_chips(exact(768_000.0, "USD"), exact(-10.0, "USD"), 2.0).reason
    'nothing is saved, so it never pays'
    """
    saving = saving_usd_per_chip_year
    if cost.value is None or saving.value is None:
        return unknown_estimate("chips", cost.reason or saving.reason or "unknown")
    if saving.value <= 0 or years <= 0:
        return unknown_estimate("chips", "nothing is saved, so it never pays")
    law = told(notes, "pays_from_chips", chips_to_pay, unit="chips")
    if saving.low is None or saving.low > 0:
        return law(cost, saving, years)
    sure = Estimate(value=saving.value, unit="USD", low=saving.value, high=saving.high, grade=saving.grade)
    found = law(cost, sure, years)
    return Estimate(value=found.value, unit="chips", low=found.low, high=None, grade=found.grade)
