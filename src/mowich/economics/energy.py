"""What a chip draws, and the energy of a token.

Power is per chip with its share of host, network and cooling, before PUE. What a site must provide is provisioned
(`chip_power`). The mean draw of a working chip is less (`drawn_power`): metered where its machines were metered, else
the share of provisioned power that metered machines draw. Idle chips of a job draw the share of provisioned power in
the site's facts. `joule_per_token` counts time lost to failures as work, because chips wait and are not switched off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mowich.estimate import (
    Estimate,
    Notes,
    exact,
    from_spreads,
    log_spread,
    product_of,
    told,
    unknown_estimate,
    worst_grade,
)
from mowich.facts import Fact, Facts

PER_TOKEN = "J/token"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """pue: facility power over IT power. electricity: USD per J. idle_share: power of an idle chip over its provisioned
    power."""

    name: str
    pue: Estimate
    electricity: Estimate
    idle_share: Estimate


def of_fact(fact: Fact, unit: str) -> Estimate:
    """A numeric fact as an estimate; unknown with its reason when the fact has no value."""
    if fact.value is None:
        return unknown_estimate(unit, fact.reason or f"no source of ours states {fact.path}")
    value = float(fact.value)
    return Estimate(
        value=value,
        unit=unit,
        low=fact.low if fact.low is not None else value,
        high=fact.high if fact.high is not None else value,
        grade=fact.grade or "A",
    )


def chip_power(facts: Facts, system_id: str, *, notes: Notes | None = None) -> Estimate:
    """Watts per chip of a system, all-in, before PUE: fact `chips.<chip>.power.all_in`."""
    fact = facts.fact(f"chips.{facts.meta('systems', system_id)['chip']}.power.all_in")
    estimate = of_fact(fact, "W")
    if notes is not None and estimate.value is not None:
        note = "per chip, with host, network and cooling, before PUE"
        notes.add("provisioned", estimate.value, "W", note=note)
    return estimate


PowerBasis = Literal["metered", "assumed"]
"""How the draw of a chip is known: by meters on its own machines, or as the share of other metered machines."""


def drawn_share_path(facts: Facts, chip: str) -> str:
    """The fact with the share of provisioned power that a working chip draws: its own where its machines were metered,
    else that of all metered machines."""
    own = f"chips.{chip}.power.drawn_share"
    return own if facts.get(own) is not None else "sites.parts.drawn_share"


def power_basis(facts: Facts, system_id: str) -> PowerBasis:
    """How the drawn power of a system is known.

    >>> from mowich.facts import load_facts
    >>> power_basis(load_facts(), "trn3-gen2")
    'assumed'
    """
    chip = str(facts.meta("systems", system_id)["chip"])
    return "metered" if drawn_share_path(facts, chip).startswith("chips.") else "assumed"


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnPower:
    """What a chip of a system draws. power: W in the mean while it works, with host, network and cooling, before PUE;
    share: that over its provisioned power; idle_share: power of an idle chip over `power`; basis: how it is known."""

    power: Estimate
    share: Estimate
    idle_share: Estimate
    basis: PowerBasis


def drawn_power(facts: Facts, system_id: str, *, notes: Notes | None = None) -> DrawnPower:
    """What a chip of a system draws: its provisioned power times the share of it that is drawn.

    A metered share is of this provisioned power, so that the range is the share's alone; an assumed one has both.
    """
    chip, basis = str(facts.meta("systems", system_id)["chip"]), power_basis(facts, system_id)
    provisioned = chip_power(facts, system_id, notes=notes)
    share = of_fact(facts.fact(drawn_share_path(facts, chip)), "1")
    note = "metered: nodes of this chip at work" if basis == "metered" else "assumed: the share that metered nodes draw"
    base = provisioned if basis == "assumed" or provisioned.value is None else exact(provisioned.value, "W")
    power = told(notes, "power", drawn_W, unit="W", note=note)(base, share)
    idle = of_fact(facts.fact("sites.default.idle_power_share"), "1")
    return DrawnPower(power=power, share=share, idle_share=product_of([(idle, 1.0), (share, -1.0)], "1"), basis=basis)


def drawn_W(provisioned: Estimate, share: Estimate) -> Estimate:
    """Watts that a chip draws in the mean while it works, with its share of host and network, before PUE.

    T = provisioned * share

    share: of provisioned power that is drawn.

    Units: provisioned W.

    >>> drawn_W(exact(1000.0, "W"), exact(0.5, "1")).value
    500.0
    """
    return product_of([(provisioned, 1.0), (share, 1.0)], "W")


def read_site(facts: Facts, name: str = "default") -> Site:
    """The facts of a site: `sites.<name>.*`."""
    return Site(
        name=name,
        pue=of_fact(facts.fact(f"sites.{name}.pue"), "1"),
        electricity=of_fact(facts.fact(f"sites.{name}.electricity"), "USD/J"),
        idle_share=of_fact(facts.fact(f"sites.{name}.idle_power_share"), "1"),
    )


def powered_chips(used: float, idle: float, idle_share: Estimate) -> Estimate:
    """Busy chips that would draw what `used` busy and `idle` idle ones draw: used + share x idle.

    >>> from mowich.estimate import exact
    >>> powered_chips(90, 10, exact(0.3, "1")).value
    93.0
    """
    if idle_share.value is None:
        return unknown_estimate("chips", idle_share.reason or "idle power unknown")
    low, high = idle_share.low or idle_share.value, idle_share.high or idle_share.value
    return Estimate(
        value=used + idle_share.value * idle,
        unit="chips",
        low=used + low * idle,
        high=used + high * idle,
        grade=idle_share.grade if idle else "A",
    )


def joule_per_token(
    power: Estimate,
    *,
    used: int,
    idle: int,
    step_s: Estimate,
    tokens: float,
    goodput: Estimate,
    pue: Estimate,
    idle_share: Estimate,
) -> Estimate:
    """Energy at the meter per trained token.

    T = pue * power * (used + idle_share * idle) * step_s / (tokens * goodput)

    power: drawn by a busy chip; used, idle: chips; idle_share: power of an idle chip over that of a busy one; tokens:
    of a step. Chips draw as much while they recover.

    Units: power W, step_s s, used chips, idle chips, tokens tokens.

    >>> from mowich.estimate import exact
    >>> site = {"pue": exact(1.2, "1"), "idle_share": exact(0.25, "1")}
    >>> step, kept = exact(2.0, "s"), exact(0.97, "1")
    >>> e = joule_per_token(exact(1000.0, "W"), used=96, idle=4, step_s=step, tokens=1e6, goodput=kept, **site)
    >>> round(e.value, 9)
    0.24
    """
    chips = powered_chips(used, idle, idle_share)
    return product_of([(pue, 1.0), (power, 1.0), (chips, 1.0), (step_s, 1.0), (goodput, -1.0)], PER_TOKEN).scaled(
        1 / tokens, PER_TOKEN
    )


def breakeven_W_per_chip(
    best: Estimate,
    *,
    tokens_per_s: Estimate,
    goodput: Estimate,
    pue: Estimate,
    powered_chips: Estimate,
    drawn_share: Estimate,
) -> Estimate:
    """The provisioned watts per chip, before PUE, at which a row uses the energy per token of the best row.

    T = best * tokens_per_s * goodput / (pue * drawn_share * powered_chips)

    best: of the best row; tokens_per_s: of this row, all chips; powered_chips: those used, and of those idle the share
    of power that they draw (`powered_chips`); drawn_share: of provisioned power, by a busy chip. PUE is the same in
    both rows and cancels, so its range is taken out of `best`'s, not added a second time.

    Units: best J/token, tokens_per_s 1/s, powered_chips chips.

    >>> from mowich.estimate import exact
    >>> rate, kept, chips = exact(5e5, "1/s"), exact(0.97, "1"), powered_chips(96, 4, exact(0.25, "1"))
    >>> site = {"pue": exact(1.2, "1"), "powered_chips": chips, "drawn_share": exact(0.5, "1")}
    >>> w = breakeven_W_per_chip(exact(0.24, "J/token"), tokens_per_s=rate, goodput=kept, **site)
    >>> round(w.value, 6)
    2000.0
    """
    if best.value is None or pue.value is None:
        return unknown_estimate("W", best.reason or pue.reason or "no row with a known power")
    down, up = log_spread(best.value, best.low or best.value, best.high or best.value)
    pue_down, pue_up = log_spread(pue.value, pue.low or pue.value, pue.high or pue.value)
    without = from_spreads(
        best.value / pue.value,
        PER_TOKEN,
        [max(0.0, down**2 - pue_down**2) ** 0.5],
        [max(0.0, up**2 - pue_up**2) ** 0.5],
        grade=worst_grade((best.grade,)),
    )
    return product_of(
        [(without, 1.0), (tokens_per_s, 1.0), (goodput, 1.0), (powered_chips, -1.0), (drawn_share, -1.0)], "W"
    )
