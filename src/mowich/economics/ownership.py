"""What a chip-hour costs the owner of the machine: a build-up from wafers, memory, machines, networks, sites, power,
people and capital. Never from a published cost per hour.

Every part is a formula on facts (`prices.parts`, `prices.memory`, `prices.machines`, `prices.ownership`, `sites`). The
bill of a system (`prices.machines.bill.<system>`) says which numbers its machine is made of. A machine bought whole has
the price of a server or rack; `machine` is that price less chips, memory and scale-up network. A machine built by its
owner has boards, host, network cards and racks instead, and a chip price: the cost of making it over one less the
margin of the design partner.

Memory prices moved two to three times within 2026, so each cost belongs to the quarter of the purchase. A rule says how
an analyst spreads capital; compare with an analyst under his own rule only. All costs are per installed chip and hour
of the calendar.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mowich.arrays import Floats, constant
from mowich.economics.cost_laws import (
    built_usd,
    capital_cost_per_s,
    cooling_per_s,
    dearer_usd,
    dies_of_wafer,
    energy_per_s,
    left_of,
    left_usd,
    memory_usd,
    packaging_usd,
    partner_usd,
    per_hour,
    per_watt,
    share_usd,
    silicon_usd,
    sold_share,
    stated_usd,
    worn_per_s,
)
from mowich.economics.energy import drawn_share_path
from mowich.errors import unknown as unknown_word
from mowich.estimate import Estimate, Notes, from_spreads, told, unknown_estimate, worst_grade
from mowich.facts import Fact, Facts
from mowich.price_terms import BUYERS, COST_RULES
from mowich.sums import float_sum
from mowich.units import UNITS

BOUGHT = ("silicon", "hbm", "packaging", "chip_maker", "host_memory", "machine", "scale_up", "network", "storage")
"""Parts of the capital of a chip, in print order: USD paid once. chip_maker: margin of the maker of the chip; machine:
boards, host, rack, and its maker's margin."""

RUNNING = ("spares", "capital_cost", "site", "energy", "cooling", "operation")
"""Parts of a chip-hour besides the capital that it uses up. capital_cost: of the bound money; site: building or lease;
cooling: power beyond that of the machine, by PUE."""

OWNED = (*BOUGHT, *RUNNING)
"""Parts of the cost of a chip-hour; they sum to it."""

OF_AN_HOUR = " of an hour"
"""Suffix of a part's name: its cost in an hour."""

PER_CHIP_S = "USD/chip/s"
_ASKED = "prices.ownership.asked"
YEAR_S = UNITS["year"].value
_MATTERS = 0.01
"""A fact that moves a number by less than this share does not decide its grade."""
_NEAR_CHIPS = 8192
"""Chips that a network of two layers joins; a larger network has another layer (`prices.machines.scale_out`)."""

Read = Callable[[str], Floats]
"""Path of a fact -> its numbers in SI: a column with a place for each tried end of a range."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """quarter: in which the machine is bought ("2026Q2"); rule, buyer: of `COST_RULES` and `BUYERS`; life_s: of the
    machine, None: as the rule says; chips: that share one network."""

    quarter: str
    rule: str
    buyer: str
    life_s: float | None
    chips: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ownership:
    """Cost of one chip of a system. parts: `OWNED` -> USD per chip and second; total: their sum; capital: `BOUGHT` ->
    USD per chip, paid once; capital_total: their sum; moves: (fact, change of ln total at its low end, at its high
    end), the largest first."""

    terms: Terms
    parts: Mapping[str, Estimate]
    total: Estimate
    capital: Mapping[str, Estimate]
    capital_total: Estimate
    moves: tuple[tuple[str, float, float], ...] = ()

    @property
    def operating(self) -> float:
        """USD per chip and second of site, energy, cooling and operation: an analyst's operating part."""
        return float_sum(float(self.parts[name]) for name in ("site", "energy", "cooling", "operation"))


def quarters(facts: Facts) -> tuple[str, ...]:
    """Quarters that have memory prices, the earliest first."""
    return tuple(facts.children("prices.memory.hbm3e"))


def read_terms(facts: Facts) -> Terms:
    """The terms of `prices.ownership.asked`. Raises UserError for an unknown word."""
    quarter, rule, buyer = (str(facts.fact(f"{_ASKED}.{name}").value) for name in ("quarter", "rule", "buyer"))
    for what, word, known in (
        ("quarter", quarter, quarters(facts)),
        ("rule", rule, COST_RULES),
        ("buyer", buyer, BUYERS),
    ):
        if word not in known:
            raise unknown_word(what, word, known, field=what)
    life = facts.fact(f"{_ASKED}.life").value
    return Terms(
        quarter=quarter,
        rule=rule,
        buyer=buyer,
        life_s=None if life is None else float(life),
        chips=facts.number(f"{_ASKED}.chips"),
    )


# ---- the build-up
# ----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Bill:
    """Reads the numbers of a system's bill; notes: records the formulas."""

    facts: Facts
    system: str
    chip: str
    terms: Terms
    read: Read
    notes: Notes | None = None

    def path(self, name: str) -> str:
        return f"prices.machines.bill.{self.system}.{name}"

    def has(self, name: str) -> bool:
        fact = self.facts.get(self.path(name))
        return fact is not None and fact.value is not None

    def of(self, name: str) -> Floats:
        return self.read(self.path(name))

    def word(self, name: str) -> str:
        return str(self.facts.fact(self.path(name)).value)

    def put(self, name: str, unit: str, law: Callable[..., Floats], **given: str | float | Floats) -> Floats:
        """The numbers that `law` makes of its symbols, each a number, a column or the path of a fact; notes record the
        first under a name."""
        values = {key: self.read(x) if isinstance(x, str) else x for key, x in given.items()}
        return told(self.notes, name, law, unit=unit)(**values)

    # -- once

    def stated(self, name: str, entry: str) -> Floats:
        """USD per chip that the bill states."""
        return self.put(f"{name} bought", "USD", stated_usd, price=self.path(entry))

    @property
    def network(self) -> str:
        """The entry of the bill with the scale-out network for that many chips."""
        return "network_8k" if self.terms.chips <= _NEAR_CHIPS else "network_100k"

    def made(self, quarter: str, when: str = "") -> dict[str, Floats]:
        """USD of making the package at the memory prices of a quarter: silicon, hbm, packaging. when: suffix of the
        recorded names."""
        parts, dies = "prices.parts", self.of("dies")
        area = self.of("logic_area") / dies
        across = self.read(f"{parts}.wafer_diameter")
        wafer, edge = math.pi * across**2 / 4, math.pi * across
        whole = self.put(f"dies_of_wafer{when}", "1", dies_of_wafer, wafer_m2=wafer, edge_m=edge, die_m2=area)
        sold = self.put(
            f"sold_share{when}",
            "1",
            sold_share,
            die_m2=area,
            defects=self.path("defects"),
            salvage=f"{parts}.silicon.salvage_of_cores",
        )
        silicon = self.put(
            f"silicon bought{when}",
            "USD",
            silicon_usd,
            wafer=self.path("wafer"),
            dies=self.path("dies"),
            dies_per_wafer=whole,
            sold=sold,
        )
        hbm = self.memory("hbm", quarter, when)
        packaging = self.put(
            f"packaging bought{when}",
            "USD",
            packaging_usd,
            interposer=self.path("packaging"),
            test=f"{parts}.test_and_substrate",
            losses=f"{parts}.losses",
            silicon=silicon,
            hbm=hbm,
        )
        return {"silicon": silicon, "hbm": hbm, "packaging": packaging}

    def memory(self, name: str, quarter: str, when: str = "") -> Floats:
        """USD of the memory of a chip, or of its share of a host, in a quarter."""
        price = f"prices.memory.{self.word(f'{name}_kind')}.{quarter}"
        return self.put(f"{name} bought{when}", "USD", memory_usd, size=self.path(name), price=price)

    def capital(self) -> dict[str, Floats]:
        """USD per chip that are paid once, by part of `BOUGHT`. The margin of the chip's maker and the rest of a bought
        machine are those of the quotation's quarter: dearer memory is passed on at cost."""
        now, then = self.terms.quarter, self.word("quoted")
        out, when = self.made(now), f" in {then}"
        if self.has("chip_price"):
            before = _sum(self.made(then, when))
            price = self.path("chip_price")
            out["chip_maker"] = self.put("chip_maker bought", "USD", left_usd, price=price, chips=1.0, known=before)
        else:
            made = _sum(out)
            margin = self.path("maker_margin")
            out["chip_maker"] = self.put("chip_maker bought", "USD", partner_usd, made=made, margin=margin)
        out["host_memory"] = self.memory("host_memory", now)
        out["scale_up"] = self.stated("scale_up", "scale_up") if self.has("scale_up") else 0.0 * out["silicon"]
        if self.has("machine"):
            known = self.of("chip_price") + self.memory("host_memory", then, when) + out["scale_up"]
            price, chips = self.path("machine"), self.path("machine_chips")
            out["machine"] = self.put("machine bought", "USD", left_usd, price=price, chips=chips, known=known)
        else:
            names = ("board", "host", "nic", "rack")
            own: dict[str, str | float] = {name: self.path(name) if self.has(name) else 0.0 for name in names}
            out["machine"] = self.put("machine bought", "USD", built_usd, **own)
        if self.terms.buyer == "neocloud":
            out["machine"] = self.put(
                "machine of a neocloud",
                "USD",
                dearer_usd,
                machine=out["machine"],
                whole=_sum(out),
                premium="prices.ownership.neocloud_premium",
            )
        out["network"] = self.stated("network", self.network)
        share = "prices.machines.storage.share_of_capital"
        out["storage"] = self.put("storage bought", "USD", share_usd, whole=_sum(out), share=share)
        return out

    # -- each second

    def rule(self, name: str) -> str:
        return f"prices.ownership.rules.{self.terms.rule}.{name}"

    def capital_cost(self, name: str, rate: Floats, capital: Floats, spread: Mapping[str, str | float]) -> Floats:
        """USD per chip and second of the bound money; 0 where the rule does not count it."""
        if not rate.any():
            return 0.0 * capital
        life = spread["life_s"]
        years = (self.read(life) if isinstance(life, str) else life) / YEAR_S
        kept = self.put(f"{name}, left", "1", left_of, rate=rate, years=years)
        return self.put(
            name, PER_CHIP_S, capital_cost_per_s, capital=capital, kept=kept, rate=rate, year_s=YEAR_S, **spread
        )

    def counted(self, name: str, path: str) -> Floats:
        """The numbers of a fact; 0 where the rule does not count its cost."""
        flag = self.read(self.rule(name))
        return self.read(path) if flag.any() else flag

    def hourly(self, bought: Mapping[str, Floats]) -> dict[str, Floats]:
        """USD per chip and second by part of `OWNED`. bought: from `capital`."""
        own = "prices.ownership"
        life: str | float = self.terms.life_s or self.rule("life")
        spread: dict[str, str | float] = {"residual": self.rule("residual"), "life_s": life}
        out = {name: self.put(name, PER_CHIP_S, worn_per_s, capital=usd, **spread) for name, usd in bought.items()}
        machine = _sum({name: usd for name, usd in bought.items() if name not in ("network", "storage")})
        share = self.counted("spares", f"{own}.operation.spares")
        spares = self.put("spares bought", "USD", share_usd, whole=machine, share=share)
        out["spares"] = self.put("spares", PER_CHIP_S, worn_per_s, capital=spares, **spread)
        rate = self.counted("cost_of_capital", f"{own}.capital.cost.{self.terms.buyer}_wacc")
        capital = _sum(bought) + spares
        out["capital_cost"] = self.capital_cost("capital_cost", rate, capital, spread)
        watts = f"chips.{self.chip}.power.all_in"
        if self.read(self.rule("builds")).any() and self.terms.buyer == "hyperscaler":
            building = self.read(watts) * self.read(f"{own}.facility.capital")
            given: dict[str, str | float] = {"residual": 0.0, "life_s": self.rule("building_life")}
            out["site"] = self.put("site", PER_CHIP_S, worn_per_s, capital=building, **given)
            of_building = self.capital_cost("capital_cost of the building", rate, building, given)
            out["capital_cost"] = out["capital_cost"] + of_building
        else:
            lease = {"hyperscaler": "hyperscale", "neocloud": "asking_250_500kw_h2_2025"}[self.terms.buyer]
            rent = f"{own}.facility.colocation.{lease}"
            out["site"] = self.put("site", PER_CHIP_S, per_watt, watts=watts, usd_per_W_s=rent)
        out["energy"] = self.put(
            "energy",
            PER_CHIP_S,
            energy_per_s,
            watts=watts,
            drawn=drawn_share_path(self.facts, self.chip),
            electricity="sites.default.electricity",
        )
        out["cooling"] = self.put("cooling", PER_CHIP_S, cooling_per_s, energy=out["energy"], pue="sites.default.pue")
        people = f"{own}.operation.other_than_energy_per_kw"
        out["operation"] = self.put("operation", PER_CHIP_S, per_watt, watts=watts, usd_per_W_s=people)
        if self.notes is not None:
            for name in OWNED:
                self.put(f"{name}{OF_AN_HOUR}", "USD/chip/h", per_hour, per_s=out[name])
        return {name: out[name] for name in OWNED}


def _sum(columns: Mapping[str, Floats]) -> Floats:
    return sum(columns.values(), np.zeros(1))


def cost_per_s(facts: Facts, system_id: str, terms: Terms, notes: Notes | None = None) -> float | None:
    """USD per chip and second of `owned` at the facts' values; None where it is not known. `notes` records every
    formula of it."""
    chip = str(facts.meta("systems", system_id).get("chip", ""))
    if _missing(facts, system_id, chip):
        return None
    bill = _Bill(facts, system_id, chip, terms, lambda path: _number(facts.fact(path)), notes)
    bought = bill.capital()
    total = float(_sum(bill.hourly(bought))[0])
    return total if bought["machine"][0] >= 0.0 else None


def _number(fact: Fact) -> Floats:
    return constant(float(fact.value or 0.0), 1)


def owned(facts: Facts, system_id: str, terms: Terms | None = None) -> Ownership:
    """The cost of a chip of a system, with the 90% range: each fact with a range is moved to its ends alone, and the
    moves are added in quadrature. The prices of a bought machine and its chips move together, so that board, host and
    rack never get a low price of the machine less a high price of chips. terms: None for those of the facts. Unknown
    with its reason where a needed number is unknown, and where the chips and memory of a machine cost more than the
    machine."""
    return facts.once(("ownership", system_id, terms), lambda known: _owned(known, system_id, terms))


def _owned(facts: Facts, system_id: str, asked: Terms | None) -> Ownership:
    terms = asked or read_terms(facts)
    chip = str(facts.meta("systems", system_id).get("chip", ""))
    missing = _missing(facts, system_id, chip)
    if missing:
        return _unknown(terms, missing)
    used: dict[str, Fact] = {}

    def read(path: str) -> Floats:
        fact = facts.fact(path)
        used[fact.path] = fact
        return _number(fact)

    def found(reader: Read) -> dict[str, dict[str, Floats]]:
        bill = _Bill(facts, system_id, chip, terms, reader)
        bought = bill.capital()
        return {PER_CHIP_S: bill.hourly(bought), "USD": bought}

    if found(read)["USD"]["machine"][0] < 0.0:
        return _unknown(terms, "the chips and memory of its machine cost more than the machine")
    ranged = [f for f in used.values() if f.low is not None and f.high is not None and f.low < f.high]
    machine, chips = (facts.get(f"prices.machines.bill.{system_id}.{name}") for name in ("machine", "chip_price"))
    tied: dict[str, Fact] = {}
    if machine in ranged and chips in ranged and machine is not None and chips is not None:
        tied = {machine.path: chips}
        ranged.remove(chips)
    at = found(_ends(facts, ranged, tied))

    def spread(column: Floats) -> tuple[float, Floats]:
        """A number at today's facts, and [fact, end] of it at each end."""
        return float(column[0]), column[1:].reshape(-1, 2)

    def grade(moves: Floats, least: float) -> str:
        return worst_grade(f.grade for f, most in zip(ranged, np.abs(moves).max(axis=1), strict=True) if most > least)

    def one(unit: str, name: str) -> Estimate:
        """A part, which may be 0; its interval is the quadrature of differences."""
        value, ends = spread(at[unit][name])
        moves = ends - value
        down, up = moves.min(axis=1).clip(max=0.0), moves.max(axis=1).clip(min=0.0)
        return Estimate(
            value=value,
            unit=unit,
            low=value - math.sqrt(down @ down),
            high=value + math.sqrt(up @ up),
            grade=grade(moves, _MATTERS * abs(value)),
        )

    def whole(unit: str) -> tuple[Estimate, Floats]:
        """The sum, and [fact, end] of how each end moves its logarithm."""
        value, ends = spread(_sum(at[unit]))
        moves = np.log(ends / value)
        estimate = from_spreads(
            value,
            unit,
            -moves.min(axis=1).clip(max=0.0),
            moves.max(axis=1).clip(min=0.0),
            grade=grade(moves, _MATTERS),
            breakdown={name: float(column[0]) for name, column in at[unit].items()},
        )
        return estimate, moves

    total, moves = whole(PER_CHIP_S)
    by_size = np.argsort(-np.abs(moves).max(axis=1), kind="stable")
    return Ownership(
        terms=terms,
        parts={name: one(PER_CHIP_S, name) for name in OWNED},
        total=total,
        capital={name: one("USD", name) for name in BOUGHT},
        capital_total=whole("USD")[0],
        moves=tuple((ranged[i].path, float(moves[i, 0]), float(moves[i, 1])) for i in by_size),
    )


def _unknown(terms: Terms, why: str) -> Ownership:
    """An unknown cost with its reason."""
    none, nothing = unknown_estimate(PER_CHIP_S, why), unknown_estimate("USD", why)
    return Ownership(
        terms=terms,
        parts=dict.fromkeys(OWNED, none),
        total=none,
        capital=dict.fromkeys(BOUGHT, nothing),
        capital_total=nothing,
    )


def _ends(facts: Facts, ranged: Sequence[Fact], tied: Mapping[str, Fact]) -> Read:
    """Columns of numbers: today's, then for each fact of `ranged` with it at its low end and at its high end. tied:
    path of a fact -> the fact that moves with it."""
    n, place = 1 + 2 * len(ranged), {fact.path: 1 + 2 * i for i, fact in enumerate(ranged)}
    place |= {fact.path: place[path] for path, fact in tied.items()}

    def read(path: str) -> Floats:
        fact = facts.fact(path)
        column, at = np.full(n, float(fact.value or 0.0)), place.get(fact.path)
        if at is not None:
            column[at : at + 2] = fact.low, fact.high
        return column

    return read


def _missing(facts: Facts, system_id: str, chip: str) -> str:
    """Why the cost of a system cannot be built up; "" where it can."""
    bill = f"prices.machines.bill.{system_id}"
    if not facts.paths(bill):
        return "no bill of its parts"
    for path in (f"{bill}.machine", f"chips.{chip}.power.all_in"):
        fact = facts.get(path)
        if fact is not None and fact.value is None:
            return fact.reason or f"{path} is not known"
    return ""
