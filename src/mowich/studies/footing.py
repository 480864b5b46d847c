"""How many chips each system of a comparison has: an equal footing with the first, what is there already, what money
pays for or a site's power feeds, and how many tokens those chips make."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mowich.economics import energy, money, power
from mowich.errors import unknown as unknown_word
from mowich.estimate import Estimate, product_of
from mowich.facts import Facts
from mowich.machines.system import resolve
from mowich.requests.footing import EQUAL, has_size
from mowich.shown import Keyed

if TYPE_CHECKING:
    from mowich.requests.jobs import CompareRequest


def equal_chips(
    facts: Facts, names: Sequence[str], chips: int, equal: str, term: str
) -> tuple[dict[str, int], list[str]]:
    """Chips of each system for an equal footing with the first system's `chips`.

    chips: the same count. units: `chips` counts scale-up units. usd, power: as many chips as cost, or draw, what the
    first one's do; a system whose price or power is unknown keeps the count and gets its break-even instead.
    """
    if equal not in EQUAL:
        raise unknown_word("footing", equal, EQUAL, field="equal")
    out: dict[str, int] = {}
    notes: list[str] = []
    reference: float | None = None
    for name in names:
        system = resolve(facts, name, chips=None)
        if equal == "chips":
            out[name] = chips
            continue
        if equal == "units":
            out[name] = chips * system.chips_per_unit
            continue
        known = money.price(facts, system.id, term=term).rate if equal == "usd" else energy.chip_power(facts, system.id)
        if known.value is None:
            out[name] = chips
            notes.append(f"{name}: {equal} per chip is unknown, so it keeps {chips} chips and shows its break-even")
            continue
        if reference is None:
            reference = known.value * chips
        out[name] = max(1, math.floor(reference / known.value * (1.0 + 1e-12)))  # the first keeps its count
    return out, notes


DAY_S = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PaidRun:
    """usd: for the chips of a run, all of it spent; days: how long they are paid for; has_tokens: the tokens of the run
    are asked, and so whether it ends in that time. more: the kind of price at which more chips are rented where those
    of the run are there already, "" where they are rented; asked_days: of the question, where the money pays the
    electricity of fewer."""

    usd: float
    days: float
    has_tokens: bool
    more: str = ""
    asked_days: float = 0.0


def paid_chips(usd: float, rate_usd_per_s: float, days: float) -> int:
    """Whole chips that money pays for.

    chips = floor(usd / (rate * days * 86400)); usd: dollars; rate: USD per chip and second, as `money.price` gives it.

    $2M for 30 days at $2.50 an hour of a chip:

    >>> paid_chips(2e6, 2.5 / 3600, 30)
    1111
    """
    return math.floor(usd / (rate_usd_per_s * days * DAY_S) * (1.0 + 1e-12))


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedChips(Keyed):
    """Chips that are there already. days: of which the budget pays their electricity (electricity_usd); chip_usd: the
    rent of one chip more for the days of the question, at `price`; rest_chips: that what is left of the budget rents
    for those days; missing_chips: that the tokens of the run lack in those days at this speed per chip, 0 where they
    are trained, None where they are not asked."""

    days: float
    electricity_usd: Estimate
    chip_usd: Estimate
    price: str
    rest_chips: int | None
    missing_chips: int | None


def powered(facts: Facts, system_id: str, chips: int, paid: PaidRun, more: str) -> PaidRun:
    """The money of a system whose chips are there already: the days in which it pays their electricity.

    days = min(days, usd / (rate * chips * 86400)); rate: USD of electricity per chip and second
    """
    rate = money.price(facts, system_id, term="electricity").rate.value
    days = paid.days if rate is None else min(paid.days, paid.usd / (rate * chips * DAY_S))
    return replace(paid, days=days, more=more, asked_days=paid.days)


def owned_chips(
    facts: Facts, system_id: str, chips: int, trained: Estimate, tokens: float, paid: PaidRun
) -> OwnedChips:
    """What the electricity of chips costs that are there, and what more chips would. trained: tokens in the days that
    are paid for; tokens: of the run; paid: as `powered` gives it."""
    electricity = money.price(facts, system_id, term="electricity").rate.scaled(chips * paid.days * DAY_S, "USD")
    more = money.price(facts, system_id, term=paid.more)
    each = replace(more.rate, breakdown={}).scaled(paid.asked_days * DAY_S, "USD")
    left = paid.usd - (electricity.value or 0.0)
    missing = None
    if paid.has_tokens and trained.value:
        missing = max(0, math.ceil(chips * (tokens * paid.days / paid.asked_days / trained.value - 1.0) - 1e-9))
    return OwnedChips(
        days=paid.days,
        electricity_usd=electricity,
        chip_usd=each,
        price=more.label,
        rest_chips=None if not each.value else max(0, math.floor(left / each.value)),
        missing_chips=missing,
    )


def affordable_chips(
    facts: Facts, names: Sequence[str], paid: PaidRun, term: str
) -> tuple[dict[str, int], dict[str, str], list[str]]:
    """(chips of each system that the budget rents at a kind of price, why it rents none of the others, what is to be
    said of it). Each system is looked at alone."""
    out, none, notes = dict[str, int](), dict[str, str](), []
    for name in names:
        system = resolve(facts, name, chips=None)
        rate = money.price(facts, system.id, term=term).rate
        if rate.value is None:
            own = f"--set prices.{system.id}='$2.50/chip/h'"
            none[name] = f"the budget rents an unknown number of chips: {rate.reason}; yours: {own}"
            continue
        chips = paid_chips(paid.usd, rate.value, paid.days)
        if chips < 1:
            none[name] = f"the budget rents no chip: the least is ${rate.value * paid.days * DAY_S:,.0f}"
            continue
        if chips > system.max_chips:
            notes.append(f"{name}: the budget pays for {chips:,} chips; the largest machine has {system.max_chips:,}")
        out[name] = min(chips, system.max_chips)
    return out, none, notes


def fed_by_power(
    facts: Facts, names: Sequence[str], power_W: float
) -> tuple[dict[str, int], dict[str, str], list[str]]:
    """(chips of each system that a site's power feeds, why it feeds none of the others, what is to be said of it). A
    chip counts with its provisioned power at the meter, as in `mowich power --cap`."""
    out, none, notes = dict[str, int](), dict[str, str](), []
    site = energy.read_site(facts)
    for name in names:
        system = resolve(facts, name, chips=None)
        fed = power.chips_under(power_W, power.by_part(facts, system.id, site))
        if fed.value is None:
            own = f"--set power.{system.id}='900 W'"
            none[name] = f"the power feeds an unknown number of chips: {fed.reason}; yours: {own}"
        elif fed.value < 1:
            none[name] = "the power feeds no chip"
        else:
            chips = min(int(fed.value), system.max_chips)
            if chips < fed.value:
                notes.append(f"{name}: the power feeds {fed.value:,.0f} chips; the largest machine has {chips:,}")
            out[name] = chips
    return out, none, notes


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedSystem:
    """One system of a comparison. chips: that it is resolved with (None: its name or its unit says); term: kind of its
    price; paid: what pays for its chips; no_chips: why it has none; is_there: not to be bought or rented."""

    name: str
    chips: int | None
    term: str
    paid: PaidRun | None
    no_chips: str
    is_there: bool

    def inputs(self) -> dict[str, object]:
        """As a result states it, where it is another than the question's."""
        own: dict[str, object] = {"there": True} if self.is_there else {}
        if self.term == "electricity" and (self.is_there or self.paid is not None):
            own["price_term"] = self.term
            own |= {"days": self.paid.days} if self.paid is not None else {}
        return own


def placed_systems(asked: CompareRequest) -> tuple[list[PlacedSystem], list[str]]:
    """The systems of a comparison with the chips and the kind of price of each, and what is to be said of them."""
    facts, on, chips = asked.facts, asked.footing, asked.chips
    money_of_run = None
    if on.budget is not None and on.days is not None:
        money_of_run = PaidRun(usd=on.budget, days=on.days, has_tokens=on.has_tokens)
    kind = on.kind(asked.term)
    open_names = [name for name in asked.systems if name not in on.have]
    none, notes = dict[str, str](), list[str]()
    counts: dict[str, int]
    if money_of_run is not None:
        unsized = [name for name in open_names if not has_size(name, chips)]
        counts, none, notes = affordable_chips(facts, unsized, money_of_run, kind)
    elif on.power is not None:
        unsized = [name for name in open_names if not has_size(name, None)]
        counts, none, notes = fed_by_power(facts, unsized, on.power)
    else:
        counts, notes = ({}, []) if chips is None else equal_chips(facts, open_names, chips, on.equal, kind)
    out = []
    for name in asked.systems:
        is_there = name in on.have
        is_powered = is_there or (money_of_run is not None and has_size(name, chips))
        size = (None if is_there else chips) if is_powered else counts.get(name)
        paid = money_of_run
        if paid is not None and is_powered:
            system = resolve(facts, name, chips=size)
            paid = powered(facts, system.id, system.chips, paid, kind)
        out.append(
            PlacedSystem(
                name=name,
                chips=size,
                term="electricity" if is_powered else kind,
                paid=paid,
                no_chips=none.get(name, ""),
                is_there=is_there,
            )
        )
    return out, notes


def tokens_trained(tokens_per_s_per_chip: Estimate, chips_used: int, goodput: Estimate, paid: PaidRun) -> Estimate:
    """Tokens that chips train in the days that are paid for, failures included.

    tokens = tokens_per_s_per_chip * chips_used * goodput * days * 86400
    """
    rate = product_of([(tokens_per_s_per_chip, 1.0), (goodput, 1.0)], "1")
    return rate.scaled(chips_used * paid.days * DAY_S, "1")


def tokens_served(tokens_per_s_per_chip: Estimate, chips: int, paid: PaidRun) -> Estimate:
    """Tokens that chips serve in the days that are paid for, at work all the time.

    tokens = tokens_per_s_per_chip * chips * days * 86400
    """
    return tokens_per_s_per_chip.scaled(chips * paid.days * DAY_S, "1")
