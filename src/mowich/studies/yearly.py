"""What a row of a comparison comes to in a year: tokens, money, energy, what it saves beside the first row, and from
how many chips a port to it pays.

Everything is at work all the time. A saving is of the tokens that both rows make, so it is the same in both directions
with the other sign. Its range moves each cause once, on both sides: a fact that both prices rest on (the price of
electricity, the cost of capital), or both speeds, is not counted twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from mowich.economics import energy, money, power
from mowich.economics.depreciation import residual_share
from mowich.economics.ownership import YEAR_S, owned
from mowich.economics.porting import pays_from_chips, porting_usd, porting_within_years
from mowich.estimate import (
    Estimate,
    difference_of,
    exact,
    from_spreads,
    log_spread,
    product_of,
    unknown_estimate,
    worst_grade,
)
from mowich.facts import Facts
from mowich.price_terms import OWN, quote, term_words
from mowich.requests.footing import YearAsk
from mowich.software.vendors import ported_stack, vendor_of
from mowich.studies.system_row import Beside, SystemRow, Yearly
from mowich.sums import float_sum

GW = 1e9
"""W of a gigawatt."""
_MTOK = 1e6


def _within(ask: YearAsk, facts: Facts) -> Estimate:
    """Years in which a port has to pay."""
    return porting_within_years(facts) if ask.within_s is None else exact(ask.within_s / YEAR_S, "year", "user")


R = TypeVar("R", bound=SystemRow)


def with_year(rows: Sequence[R], facts: Facts, ask: YearAsk, speed: Callable[[R], Estimate]) -> tuple[R, ...]:
    """Rows that run and keep their limits, with what a year of each comes to. speed: tokens per second of all chips."""
    first: _Side | None = None
    out = []
    for place, row in enumerate(rows):
        if row.feasible is False or not row.chips_used:
            out.append(row)
            continue
        side = _side(row, facts, speed(row))
        first = side if place == 0 else first
        beside = _beside(first, side, facts, ask) if place and first is not None else None
        out.append(replace(row, yearly=replace(_year(side, facts, ask), beside=beside)))
    return tuple(out)


# ---- one row
# ----------------------------------------------------------------------------------------------------------------------

RowEnds = tuple[float, float]
"""Change of a logarithm where a cause is at its low end, and at its high end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    """A row, and what moves its price of a token, its speed and its power. cost: USD of a million tokens; tokens_per_s:
    of all chips; provisioned: W of all chips; price, speed, watts: cause -> change of the logarithm at its ends."""

    row: SystemRow
    tokens_per_s: Estimate
    provisioned: Estimate
    price: Mapping[str, RowEnds]
    speed: Mapping[str, RowEnds]
    watts: Mapping[str, RowEnds]

    @property
    def kind(self) -> str:
        """The kind of price, "" where it is not known."""
        found = quote(self.row.price_label)
        return "" if found is None else found.term


def _side(row: SystemRow, facts: Facts, tokens_per_s: Estimate) -> _Side:
    found = quote(row.price_label)
    kind = "" if found is None else found.term
    chip = str(facts.meta("systems", row.system_id)["chip"])
    per_chip = power.by_part(facts, row.system_id, energy.read_site(facts)).total
    spread: Sequence[tuple[str, float, float]] = getattr(row, "spread", ())
    return _Side(
        row=row,
        tokens_per_s=tokens_per_s,
        provisioned=per_chip.scaled(row.chips_requested, "W"),
        price=_price_causes(facts, row, kind),
        speed=_speed_causes(row, tokens_per_s, spread),
        watts=_fact_causes(facts, (f"chips.{chip}.power.all_in", "sites.default.pue")),
    )


def _fact_causes(facts: Facts, paths: Iterable[str]) -> dict[str, RowEnds]:
    """Facts with a range that a number is proportional to."""
    out = {}
    for path in paths:
        fact = facts.get(path)
        if fact is not None and isinstance(fact.value, float) and fact.low and fact.high:
            out[path] = (math.log(fact.low / fact.value), math.log(fact.high / fact.value))
    return out


def _price_causes(facts: Facts, row: SystemRow, kind: str) -> dict[str, RowEnds]:
    """What moves the price of a row: facts of a cost of ownership and of electricity, which other rows may rest on too;
    else the price itself, which rows of one system share."""
    if kind == "tco":
        return {path: (low, high) for path, low, high in owned(facts, row.system_id).moves}
    if kind == "electricity":
        chip = str(facts.meta("systems", row.system_id)["chip"])
        paths = [energy.drawn_share_path(facts, chip), "sites.default.pue", "sites.default.electricity"]
        if energy.power_basis(facts, row.system_id) == "assumed":
            paths.append(f"chips.{chip}.power.all_in")
        return _fact_causes(facts, paths)
    rate = _rate(facts, row, kind)
    if rate.value is None:
        return {}
    down, up = log_spread(rate.value, rate.low or rate.value, rate.high or rate.value)
    return {f"price of {row.system_id}": (-down, up)}


def _rate(facts: Facts, row: SystemRow, kind: str) -> Estimate:
    """USD per chip and second at the kind of price that a row has; a user's own stands under every kind."""
    term = {OWN: "default", "": "default"}.get(kind, kind)
    return money.price(facts, row.system_id, term=term).rate


def _speed_causes(row: SystemRow, rate: Estimate, spread: Sequence[tuple[str, float, float]]) -> dict[str, RowEnds]:
    """What moves the speed of a row: facts that were moved for its range, and the rest of that range, its own."""
    if rate.value is None:
        return {}
    out = {path: (-low, -high) for path, low, high in spread}  # of the time of a token
    down, up = log_spread(rate.value, rate.low or rate.value, rate.high or rate.value)
    downs = [min(0.0, *ends) ** 2 for ends in out.values()]
    ups = [max(0.0, *ends) ** 2 for ends in out.values()]
    rest = (-math.sqrt(max(0.0, down**2 - float_sum(downs))), math.sqrt(max(0.0, up**2 - float_sum(ups))))
    return out | {f"speed of {row.system}": rest}


def _year(side: _Side, facts: Facts, ask: YearAsk) -> Yearly:
    """What a row alone comes to."""
    row, period = side.row, ask.period_s
    tokens = replace(side.tokens_per_s, breakdown={}, coverage={}).scaled(period, "1")
    cost = _cost(side, facts, period)
    draw, site = energy.drawn_power(facts, row.system_id), energy.read_site(facts)
    powered = energy.powered_chips(row.chips_used, row.chips_idle, draw.idle_share)
    drawn = product_of([(draw.power, 1.0), (site.pue, 1.0), (powered, 1.0)], "W")
    revenue = margin = None
    if ask.sells is not None:
        low, value, high = ask.sells
        price = Estimate(value=value, unit=money.PER_MTOK, low=low, high=high, grade="user")
        revenue = product_of([(tokens, 1.0), (price, 1.0)], "USD").scaled(1.0 / _MTOK, "USD")
        margin = difference_of(revenue, cost)
    within = _within(ask, facts)
    return Yearly(
        tokens=tokens,
        cost_usd=cost,
        energy_J=drawn.scaled(period, "J"),
        provisioned_W=side.provisioned,
        within_years=within,
        revenue_usd=revenue,
        margin_usd=margin,
        residual_usd=_residual(facts, row, within) if side.kind == "tco" else None,
    )


def _cost(side: _Side, facts: Facts, period_s: float) -> Estimate:
    """USD of all chips, at work and idle."""
    row = side.row
    if row.usd_per_mtok.value is None:
        return unknown_estimate("USD", row.usd_per_mtok.reason or "no known price")
    rate = _rate(facts, row, side.kind)
    return replace(rate, breakdown={}, coverage={}).scaled(row.chips_requested * period_s, "USD")


def _residual(facts: Facts, row: SystemRow, years: Estimate) -> Estimate:
    """What the machines of a row are worth after some years, with the next generations of their maker out."""
    share = residual_share(facts, row.system_id, float(years))
    ends = [residual_share(facts, row.system_id, end).value for end in (years.high, years.low) if end is not None]
    known = [float(share), *(float(end) for end in ends if end is not None)]
    when = from_spreads(
        1.0, "1", [math.log(float(share) / min(known))], [math.log(max(known) / float(share))], grade=years.grade
    )
    capital = owned(facts, row.system_id).capital_total
    found = product_of([(capital, 1.0), (share, 1.0), (when, 1.0)], "USD").scaled(row.chips_requested, "USD")
    paid = capital.scaled(row.chips_requested, "USD")
    return replace(found, high=min(found.high or math.inf, paid.high or math.inf)) if found.value is not None else found


# ---- beside the first
# ----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Point:
    """Cost of a million tokens, tokens per second and watts of two rows."""

    cost: tuple[float, float]
    speed: tuple[float, float]
    watts: tuple[float, float]

    @property
    def each(self) -> float:
        """USD that a token costs less on the second."""
        return (self.cost[0] - self.cost[1]) / _MTOK

    @property
    def both(self) -> float:
        """USD a second, of the tokens that both make."""
        return self.each * min(self.speed)

    @property
    def of_watt(self) -> float:
        """USD a second and watt, of the tokens that a watt of either makes."""
        return self.each * min(speed / watts for speed, watts in zip(self.speed, self.watts, strict=True))

    @property
    def of_second(self) -> float:
        """USD a second, of the tokens that the second makes."""
        return self.each * self.speed[1]


def _why_unlike(first: _Side, side: _Side) -> str:
    """Why a saving cannot be told, "" where it can."""
    for one in (first, side):
        if one.row.usd_per_mtok.value is None:
            return f"{one.row.system}: {one.row.usd_per_mtok.reason or 'no known price'}"
    if first.kind != side.kind:
        return f"prices are on different terms ({term_words(first.kind)}, {term_words(side.kind)})"
    return ""


def _beside(first: _Side, side: _Side, facts: Facts, ask: YearAsk) -> Beside:
    """A row beside the first."""
    is_ported = _software(facts, first.row) != _software(facts, side.row)
    port = porting_usd(facts) if is_ported else None
    why = _why_unlike(first, side)
    if why:
        none = unknown_estimate("USD", why)
        return Beside(
            row=first.row.system,
            saving_usd=none,
            saving_usd_per_GW=unknown_estimate("USD/GW", why),
            saving_usd_per_chip_year=none,
            porting_usd=port,
            pays_from_chips=unknown_estimate("chips", why) if is_ported else None,
        )
    chips = side.row.chips_requested
    each = _moved(first, side, lambda p: p.of_second * YEAR_S / chips, "USD")
    per_GW = unknown_estimate("USD/GW", first.provisioned.reason or side.provisioned.reason or "no known power")
    if first.provisioned.value is not None and side.provisioned.value is not None:
        per_GW = _moved(first, side, lambda p: p.of_watt * GW * ask.period_s, "USD/GW")
    pays = None
    if port is not None:
        years = product_of([(port, 1.0), (_within(ask, facts), -1.0)], "USD")
        pays = pays_from_chips(years, each, 1.0)
    return Beside(
        row=first.row.system,
        saving_usd=_moved(first, side, lambda p: p.both * ask.period_s, "USD"),
        saving_usd_per_GW=per_GW,
        saving_usd_per_chip_year=each,
        porting_usd=port,
        pays_from_chips=pays,
    )


def _software(facts: Facts, row: SystemRow) -> str:
    return ported_stack(facts, vendor_of(facts, row.system_id))


def _moved(first: _Side, second: _Side, value: Callable[[_Point], float], unit: str) -> Estimate:
    """A number of two rows with its range: each cause at its ends, on both sides at once, the changes in quadrature."""
    sides = (first, second)
    costs = [float(side.row.usd_per_mtok) for side in sides]
    speeds = [float(side.tokens_per_s) for side in sides]
    watts = [side.provisioned.value or 1.0 for side in sides]
    causes = dict.fromkeys(path for side in sides for part in (side.price, side.speed, side.watts) for path in part)

    def at(cause: str, end: int) -> float:
        def move(part: Mapping[str, RowEnds]) -> float:
            return part[cause][end] if cause in part else 0.0

        moved = [(move(side.price), move(side.speed), move(side.watts)) for side in sides]
        cost = [c * math.exp(price - speed) for c, (price, speed, _) in zip(costs, moved, strict=True)]
        fast = [s * math.exp(speed) for s, (_, speed, _) in zip(speeds, moved, strict=True)]
        much = [w * math.exp(by) for w, (_, _, by) in zip(watts, moved, strict=True)]
        return value(_Point((cost[0], cost[1]), (fast[0], fast[1]), (much[0], much[1])))

    now = at("", 0)
    changes = [[at(cause, end) - now for end in (0, 1)] for cause in causes]
    down = math.sqrt(float_sum(min(0.0, *ends) ** 2 for ends in changes))
    up = math.sqrt(float_sum(max(0.0, *ends) ** 2 for ends in changes))
    grade = worst_grade(side.row.usd_per_mtok.grade for side in sides)
    return Estimate(value=now, unit=unit, low=now - down, high=now + up, grade=grade)
