"""A quoted price and a measured power, as measurements that would tell of a number."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

import numpy as np

from mowich.estimate import Estimate
from mowich.evidence.prospects import Prospect
from mowich.facts import Facts
from mowich.machines.system import System
from mowich.price_terms import quote
from mowich.shown import Result
from mowich.studies.next_offers import MeasuringOffer, MeasuringOffers
from mowich.studies.ranking import COSTS

PRICE_QUOTE, POWER_METER = "quoted price", "measured power"
_RATE_OF_COST = ("step_s", "tokens_per_s_per_chip", "item_s")
"""What a cost has in it beside a price, by task."""
_OWNED = "tco"
"""Term of a price that is the cost of ownership, in which watts are."""


def squared(estimate: Result | Estimate) -> float:
    """Squared half-width of a range in ln; 0 for a number without one."""
    low, high = (estimate.low, estimate.high) if isinstance(estimate, Estimate) else (estimate["low"], estimate["high"])
    return (0.5 * math.log(high / low)) ** 2 if low and high else 0.0


def price_offers(
    row: Result, facts: Facts, system: System, number: str, ask: Callable[[Sequence[str]], Result | None]
) -> MeasuringOffers:
    """What a quote for a chip hour, and a power meter, would tell of a number of a row. ask: the number with such
    settings; None where there is none."""
    now = squared(row[number])
    power = f"power.{system.id}={facts.number(f'chips.{system.chip}.power.all_in'):g} W"
    offers: list[MeasuringOffer] = []
    told: list[float] = []
    label = str(row.get("price", ""))
    if number in COSTS and quote(label) is not None:
        rate = next((squared(row[name]) for name in _RATE_OF_COST if row.get(name)), now)
        amount = re.match(r"\$([\d.]+)", label)
        offers.append(
            MeasuringOffer(
                what=f"a quote in writing for a chip hour of {system.display}, today {label}",
                kind=PRICE_QUOTE,
                where="who sells it",
                commands=(),
                reads=f"--set prices.{system.id}='$PRICE/chip/h' on the question",
                sets=(f"prices.{system.id}=${amount[1] if amount else 0}/chip/h",),
            )
        )
        told.append(max(0.0, now - rate))
    if number == "J_per_token" or (number in COSTS and label and quote(label).term == _OWNED):  # type: ignore[union-attr]
        after = ask([power])
        if after is not None:
            offers.append(
                MeasuringOffer(
                    what=f"the watts of a chip with its share of the server, under this load, of {system.display}",
                    kind=POWER_METER,
                    where=system.id,
                    commands=(),
                    reads=f"--set power.{system.id}='WATTS W' on the question",
                    sets=(power,),
                )
            )
            told.append(max(0.0, now - squared(after[number])))
    if not told:
        return MeasuringOffers()
    return MeasuringOffers(offers=tuple(offers), parts=(_of_sum(told),))


def _of_sum(told: Sequence[float]) -> Prospect:
    """One part, which the first offer tells wholly and the second by a share."""
    covariance = np.zeros((1 + len(told), 1 + len(told)))
    for i, one in enumerate((max(told), *told)):
        for j, other in enumerate((max(told), *told)):
            covariance[i, j] = min(one, other)
    return Prospect(
        mean=np.zeros(len(covariance)), covariance=covariance, noise=np.zeros(len(told)), before=float(covariance[0, 0])
    )
