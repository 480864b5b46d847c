"""Power of machines by part, a site's cap, tokens per megawatt (`mowich power`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from mowich.economics import energy, power
from mowich.estimate import Estimate, exact
from mowich.facts import Facts
from mowich.machines.system import machine_id, parse_spec, resolve
from mowich.models.model import Model
from mowich.requests.rooms.power import SCHEMA, PowerRequest
from mowich.shown import AnswerList, Keyed, Result
from mowich.studies.explain.rules.rule import R, of
from mowich.studies.explain.source import Numbers, Source
from mowich.studies.explain.tree import ResultPath, flat_numbers
from mowich.sums import float_sum


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerRow(Keyed):
    """One machine. chips: as named; power: per chip; machine_W: of all its chips at the meter; chips_under_cap,
    tokens_per_MW: None where not asked for."""

    KEYS = (
        "system chips parts_W=power.parts it_W total_W idle_W=power.idle drawn_W=power.drawn "
        "drawn_system_W=power.drawn_system power_basis=power.basis machine_W chips_under_cap "
        "tokens_per_s_per_MW=tokens_per_MW"
    )

    system: str
    display: str
    chips: int
    power: power.Power
    machine_W: Estimate
    chips_under_cap: Estimate | None
    tokens_per_MW: Estimate | None

    @property
    def it_W(self) -> Estimate:
        """Before PUE, with its parts."""
        return _summed(self.power.it, self.power, ("chip", "server", "network"))

    @property
    def total_W(self) -> Estimate:
        """At the meter, with its parts."""
        return _summed(self.power.total, self.power, power.POWER_PARTS)


def _summed(whole: Estimate, found: power.Power, names: Sequence[str]) -> Estimate:
    """An estimate with the parts that it is the sum of."""
    parts = {name: value for name in names if (value := found.parts[name].value) is not None}
    complete = whole.value is not None and abs(float_sum(parts.values()) - whole.value) <= 1e-9 * whole.value
    return replace(whole, breakdown=parts if complete else {})


class PowerStudy(AnswerList[PowerRow]):
    """Power of machines by part, a row each, in watts.

    Units: watts; tokens/s per MW.

    Example:
        >>> import mowich
        >>> mowich.power(["trn3"])[0].machine_W.unit
        'W'
    """

    SCHEMA = "mowich/power@1"
    KEYS = "facts_hash inputs rows"

    def __init__(self, rows: Sequence[PowerRow], *, facts_hash: str, inputs: Mapping[str, object]) -> None:
        super().__init__(rows)
        self.facts_hash, self.inputs = facts_hash, dict(inputs)


def answer(asked: PowerRequest) -> PowerStudy:
    """Power of machines by part, and what a site's power feeds.

    Args:
        systems: names, at least one.
        cap_W: power of a site, watts: how many chips it feeds.
        spares: share of chips that are idle.
        tokens_per_s: of one chip, for tokens per megawatt.
        facts: other facts than the shipped ones.

    Returns: a `PowerStudy`, a list of rows that prints itself. Units: watts; tokens/s per MW.

    Example:
        >>> import mowich
        >>> mowich.power(["trn3"], cap_W=1e6)[0].chips_under_cap.unit
        'chips'
    """
    facts, cap_W, tokens_per_s = asked.facts, asked.cap_W, asked.tokens_per_s
    site = energy.read_site(facts)
    rows = []
    for spec in asked.systems:
        machine = resolve(facts, spec)
        found = power.by_part(facts, machine_id(facts, parse_spec(spec)[0]), site)
        rows.append(
            PowerRow(
                system=spec,
                display=machine.display,
                chips=machine.chips,
                power=found,
                machine_W=found.total.scaled(machine.chips, "W"),
                chips_under_cap=power.chips_under(cap_W, found, spares=asked.spares) if cap_W else None,
                tokens_per_MW=power.tokens_per_MW(exact(tokens_per_s, "1/s", "user"), found) if tokens_per_s else None,
            )
        )
    inputs = {"cap_W": cap_W, "spares": asked.spares, "tokens_per_s_per_chip": tokens_per_s}
    return PowerStudy(rows, facts_hash=facts.hash(), inputs=inputs)


RULES = (
    R("rows * chips", "chips", "chips of the machine", "lookup: as named"),
    R(
        "rows * parts_W chip",
        "W",
        "the package",
        of(power.package_W, network_W="parts_W.network"),
    ),
    R("rows * parts_W server", "W", "host, fans and scale-up switches", "= it_W - parts_W.chip - parts_W.network"),
    R(
        "rows * parts_W network",
        "W",
        "ports of the scale-out network",
        of(power.network_W),
    ),
    R("rows * parts_W cooling", "W", "cooling and losses of the building", of(power.cooling_W)),
    R(
        "rows * it_W",
        "W",
        "power of a chip with its share of host and network, before the building",
        "lookup: as published or estimated",
        "chips.{chip}.power.all_in",
    ),
    R("rows * total_W", "W", "power of a busy chip at the meter", "= it_W * pue"),
    R("rows * total_W breakdown *", "W", "a part of it", "terms: see parts_W"),
    R("rows * it_W breakdown *", "W", "a part of it", "terms: see parts_W"),
    R("rows * idle_W", "W", "power of an idle chip at the meter", "= total_W * idle_share"),
    R(
        "rows * drawn_W",
        "W",
        "what a node draws of a busy chip in the mean: without network, before PUE",
        of(power.node_drawn_W, drawn_W="it_W * drawn_share", network_W="parts_W.network"),
    ),
    R(
        "rows * drawn_system_W",
        "W",
        "what a busy chip draws in the mean with its network, before PUE: the power behind the joules of a token",
        of(energy.drawn_W, provisioned="it_W", share="drawn_share"),
    ),
    R("rows * machine_W", "W", "power of the whole machine at the meter", "= total_W * chips"),
    R(
        "rows * chips_under_cap",
        "chips",
        "chips that the cap feeds",
        of(power.fed_chips, busy_W="total_W"),
    ),
    R(
        "rows * tokens_per_s_per_MW",
        "1/s/MW",
        "tokens per second and megawatt",
        of(power.tokens_per_MW, power_W="total_W"),
    ),
)
"""What each number is."""


def source(result: Result, at: ResultPath, row: Result, facts: Facts, model: Callable[[], Model]) -> Source:
    """A row of power made again."""
    inputs = result["inputs"]
    tokens_per_s = inputs["tokens_per_s_per_chip"]
    asked = SCHEMA.of(
        facts, systems=[row["system"]], cap_W=inputs["cap_W"], spares=inputs["spares"], tokens_per_s=tokens_per_s
    )

    def numbers(known: Facts, wanted: ResultPath) -> Numbers:
        return flat_numbers(answer(replace(asked, facts=known))[0].to_dict())

    system = resolve(facts, row["system"])

    def symbols(known: Facts) -> dict[str, float]:
        given = {
            "pue": known.get("sites.default.pue"),
            "drawn_share": known.get(energy.drawn_share_path(known, system.chip)),
            "idle_share": known.get("sites.default.idle_power_share"),
            "it_W": known.get(f"chips.{system.chip}.power.all_in"),
            "bandwidth": known.get(f"systems.{system.id}.levels.scale_out.bandwidth"),
            "port_bandwidth": known.get("sites.parts.network_port_bandwidth"),
            "port_W": known.get("sites.parts.network_port"),
            "tdp": power.tdp_of(known, system.chip),
        }
        return {name: fact.value for name, fact in given.items() if fact is not None and isinstance(fact.value, float)}

    return Source(at=at, numbers=numbers, symbols=symbols, title=row["system"])
