"""The cost of making an accelerator package, as a wide range to compare a price with.

It covers only the package: logic, HBM, assembly, losses, test. It leaves out boards, racks, networks, design and
margin, so it is a floor and no forecast of a price.
"""

from __future__ import annotations

from mowich.economics.energy import of_fact
from mowich.estimate import Estimate, from_spreads, log_spread, product_of, worst_grade
from mowich.facts import Facts
from mowich.sums import float_sum


def unit_cost(facts: Facts, *, hbm_B: float, silicon_m2: float | None = None) -> Estimate:
    """USD for one package: (silicon x logic + hbm x price + packaging) x (1 + losses) + other; facts
    `prices.unit-cost.*`.

    hbm_B: capacity; silicon_m2: logic area (None: the fact's range of one to two reticles). The parts are taken as
    independent.

    >>> from mowich.facts import load_facts
    >>> cost = unit_cost(load_facts(), hbm_B=192e9, silicon_m2=1600e-6)
    >>> 5000 < cost.value < 7500 and cost.low < 5700 and cost.high > 7300  # B200: $5,700 to $7,300 published
    True
    """

    def fact(name: str, unit: str) -> Estimate:
        return of_fact(facts.fact(f"prices.unit-cost.{name}"), unit)

    area = (
        fact("silicon", "m2")
        if silicon_m2 is None
        else Estimate(value=silicon_m2, unit="m2", low=silicon_m2, high=silicon_m2, grade="user")
    )
    logic = product_of([(area, 1.0), (fact("logic", "USD/m2"), 1.0)], "USD")
    hbm = fact("hbm", "USD/B").scaled(hbm_B, "USD")
    packaging, other, losses = fact("packaging", "USD"), fact("other", "USD"), fact("losses", "1")
    factor = 1 + float(losses)
    parts = {"logic": (logic, factor), "hbm": (hbm, factor), "packaging": (packaging, factor), "other": (other, 1.0)}
    total = float_sum(float(e) * f for e, f in parts.values())
    downs, ups = [], []
    for estimate, scale in parts.values():  # each part moved alone, in quadrature
        down, up = log_spread(float(estimate), estimate.low or float(estimate), estimate.high or float(estimate))
        share = float(estimate) * scale / total
        downs.append(down * share)
        ups.append(up * share)
    for end, target in ((losses.low, downs), (losses.high, ups)):
        target.append(abs((end or float(losses)) - float(losses)) / factor)
    return from_spreads(
        total,
        "USD",
        downs,
        ups,
        grade=worst_grade(e.grade for e, _ in parts.values()),
        breakdown={name: float(e) * f for name, (e, f) in parts.items()},
    )
