"""What a brief says of money besides prices: what porting costs and saves, what a chip is worth once its successor
sells, and how many chips of a fleet of several tenants stand idle or are missing."""

from __future__ import annotations

import math
from collections.abc import Mapping

from mowich.economics.depreciation import residual_share
from mowich.economics.energy import chip_power, read_site
from mowich.economics.ownership import YEAR_S, owned
from mowich.economics.porting import pays_from_chips, porting_usd, porting_within_years
from mowich.estimate import Estimate, exact, product_of
from mowich.fleets.supply import SUPPLY_ENDS
from mowich.machines.system import resolve
from mowich.software.vendors import ported_stack
from mowich.studies.brief.decisions import (
    Fall,
    Verdict,
    port_verdict,
    supply_verdict,
    tenant_verdict,
    worth_verdict,
)
from mowich.studies.brief.known import AT, NEXT, SUBJECT, Known
from mowich.studies.brief.verdicts import BriefNumber
from mowich.sums import float_sum

GIGAWATT = 1e9
BILLION = 1e-9
MILLION = 1e-6
_RUNNING = ("energy", "cooling", "operation")
"""Costs of a chip-hour that stop when a paid chip is switched off."""

TENANTS, LARGE_TENANT, FALLS_TO = "trainium-tenants", "anthropic", 0.3
"""The scenario of a fleet of several tenants, its largest tenant, and the share that this tenant falls to."""

TENANT_WORDS = f"fleet {TENANTS} --lp --tenant {LARGE_TENANT}={FALLS_TO:.0%}"
"""The command of the fleet of several tenants."""


# ---- porting
# ----------------------------------------------------------------------------------------------------------------------


def port_parts(known: Known) -> tuple[Verdict | None, tuple[BriefNumber, ...]]:
    """What the cheaper of Trainium 3 and the cheapest rival saves in training, and what a port costs; nothing where
    both run the same software."""
    rows = {s: known.trained(AT, s) for s in known.systems}
    costs = {s: row.usd_per_mtok for s, row in rows.items() if row.usd_per_mtok.value is not None}
    rival = min((s for s in costs if s != SUBJECT), key=lambda s: float(costs[s]), default=None)
    if rival is None or SUBJECT not in costs:
        return None, ()
    machines = {s: resolve(known.facts, s) for s in (SUBJECT, rival)}
    if len({ported_stack(known.facts, m.vendor) for m in machines.values()}) == 1:
        return None, ()
    cheaper, dearer = sorted((SUBJECT, rival), key=lambda s: float(costs[s]))
    tokens, mine, best = rows[dearer].tokens_per_s_per_chip, costs[dearer], costs[cheaper]
    per_Mtok = _less(mine, best)
    saving = per_Mtok.scaled(float(tokens) * YEAR_S * MILLION, "USD/chip/year")
    watts, pue = chip_power(known.facts, machines[dearer].id), read_site(known.facts).pue
    chips_of_GW = GIGAWATT / (float(watts) * float(pue))
    gigawatt = saving.scaled(chips_of_GW * BILLION, "billion USD/year")
    cost, years = porting_usd(known.facts), float(porting_within_years(known.facts))
    chips = pays_from_chips(cost, saving, years)
    told = port_verdict(
        known.name(cheaper),
        known.name(dearer),
        gigawatt=gigawatt,
        cost=cost.scaled(MILLION, "million USD"),
        chips=chips,
        years=years,
    )
    fact = known.facts.number
    between = f"{known.name(cheaper)} over {known.name(dearer)}"
    return told, (
        BriefNumber(
            name="saving.chip",
            what=f"what {between} saves in training, for each chip of the second in a year",
            estimate=saving,
            formula=f"tokens * {YEAR_S:.0f} * (dear - cheap) / 1e6",
            symbols={"tokens": float(tokens), "dear": float(mine), "cheap": float(best)},
            of=f"{known.to_train(AT, known.systems)}; tokens_per_s_per_chip, usd_per_mtok",
        ),
        BriefNumber(
            name="saving.gigawatt",
            what=f"the same for each gigawatt that {known.name(dearer)} is provided with",
            estimate=gigawatt,
            formula="saving / (watts * pue)",
            symbols={"saving": float(saving), "watts": float(watts), "pue": float(pue)},
            of=f"{known.facts_command(f'facts show {_power_path(known, dearer)}')}; watts at the meter",
        ),
        BriefNumber(
            name="port.cost",
            what="what it costs to bring one workload to another vendor's software",
            estimate=cost.scaled(MILLION, "million USD"),
            formula="people * months * usd / 1e6",
            symbols={
                "people": fact("prices.porting.people"),
                "months": fact("prices.porting.months"),
                "usd": fact("prices.porting.usd_per_person_month"),
            },
            of=f"{known.facts_command('facts show prices.porting')}; in seconds, and dollars a second",
        ),
        BriefNumber(
            name="port.chips",
            what="chips from which that pays",
            estimate=chips,
            formula="" if chips.value is None else "cost * 1e6 / (saving * years)",
            symbols={}
            if chips.value is None
            else {"cost": float(cost) * MILLION, "saving": float(saving), "years": years},
            of=f"{known.facts_command('facts show prices.porting.within')}; years within which it has to pay",
        ),
    )


def _power_path(known: Known, system: str) -> str:
    return f"chips.{resolve(known.facts, system).chip}.power.all_in"


def _less(a: Estimate, b: Estimate) -> Estimate:
    """a - b of two independent estimates; its low end may be a loss."""
    value = float(a) - float(b)
    (a_low, a_high), (b_low, b_high) = ((e.low or float(e), e.high or float(e)) for e in (a, b))
    down = math.hypot(float(a) - a_low, b_high - float(b))
    up = math.hypot(a_high - float(a), float(b) - b_low)
    return Estimate(value=value, unit=a.unit, low=value - down, high=value + up, grade=a.grade)


# ---- what a chip is worth once the next one is there
# ----------------------------------------------------------------------------------------------------------------------


def worth_parts(known: Known, gain: Mapping[str, Estimate]) -> tuple[Verdict, tuple[BriefNumber, ...]]:
    """gain: work -> tokens of a chip of Trainium 4 over those of Trainium 3."""
    now, then = known.price(SUBJECT), known.price(NEXT)
    if now.value is None or then.value is None:
        return worth_verdict({}, today=1.0, running=0.0, residual=exact(1.0, "1"), years=1.0), ()
    system = resolve(known.facts, SUBJECT).id
    parts = owned(known.facts, system).parts
    running = float_sum(float(parts[name]) for name in _RUNNING) * 3600.0
    every = known.facts.fact("prices.depreciation.next_generation.every.aws")
    years = float(every.value or 0.0) / YEAR_S
    residual = residual_share(known.facts, system, years)
    hours = {work: product_of([(then, 1.0), (e, -1.0)], "USD/chip/h") for work, e in gain.items()}
    told = worth_verdict(
        {work: float(e) for work, e in hours.items()},
        today=float(now),
        running=running,
        residual=residual,
        years=years,
    )
    prices = known.command(f"prices --on {SUBJECT},{NEXT}")
    return told, (
        *(
            BriefNumber(
                name=f"worth.{work}",
                what="dollars of a chip-hour of Trainium 3 at which a token costs as much as on Trainium 4,"
                f" {'training' if work == 'training' else f'serving {work}'}",
                estimate=e,
                formula="next / gain",
                symbols={"next": float(then), "gain": float(gain[work])},
                of=f"gain.{work} above, and {prices}; usd_per_chip_h",
            )
            for work, e in hours.items()
        ),
        BriefNumber(
            name="running",
            what="energy, cooling and people of a chip-hour of Trainium 3",
            estimate=exact(running, "USD/chip/h", "D"),
            of=f"parts of {prices}; energy, cooling, operation",
        ),
        BriefNumber(
            name="residual",
            what=f"share of its price that such a machine has kept after {years:.2g} years, when the next one is out",
            estimate=residual,
            of=f"{known.facts_command('facts show prices.depreciation')}; falls by the year and by the generation",
        ),
    )


# ---- a fleet of several tenants
# ----------------------------------------------------------------------------------------------------------------------


def tenant_parts(known: Known) -> tuple[str, tuple[BriefNumber, ...]]:
    """The chips that stand idle when the largest tenant of a Trainium fleet shrinks, and whether chips limit the
    fleet."""
    found = known.tenants
    fall, at = found.fall, found.at_supply
    low, value, high = (at.get(end) for end in SUPPLY_ENDS)
    if fall is None or value is None or high is None:
        return "", ()
    periods = {row.period for row in fall.rows} or set(found.problem.labels)
    stand = float_sum(u.there for u in found.answer.uses if u.period in periods) / len(periods)
    usd = fall.usd * BILLION
    numbers = {
        "share": ("share of the chip-hours of the largest tenant of a fleet of Trainium", fall.share, "1"),
        "stranded": ("chips needed no more where it falls to 30%", fall.chips, "chips"),
        "stand": ("chips that stand in these periods", stand, "chips"),
        "stranded.usd": ("what these cost, net present", usd, "billion USD"),
        "stranded.idle": ("chips that stand idle once others have taken what they may", fall.idle, "chips"),
    }
    command = known.command(TENANT_WORDS)
    supplied = {end: x for end, x in at.items() if end != "value" and x is not None}
    text = " ".join(
        v.text
        for v in (
            tenant_verdict(
                Fall(share=fall.share, asked=fall.asked, chips=fall.chips, stand=stand, usd=usd, idle=fall.idle)
            ),
            supply_verdict(low, value, high),
        )
    )
    return text, (
        *(
            BriefNumber(name=f"tenant.{name}", what=what, estimate=exact(x, unit, "D"), of=f"{command}; tenant")
            for name, (what, x, unit) in numbers.items()
        ),
        *(
            BriefNumber(
                name=f"supply.{end}",
                what=f"its work with as {'few' if end == 'low' else 'many'} chips as may be made, over that of now",
                estimate=exact(x / value, "1", "D"),
                formula="then / now",
                symbols={"then": x, "now": value},
                of=f"{command}; supply",
            )
            for end, x in supplied.items()
        ),
    )
