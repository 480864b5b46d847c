"""Power of machines by part, a site's cap, tokens per megawatt (`mowich power`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mowich.economics import energy, power
from mowich.estimate import Estimate, exact
from mowich.machines.system import machine_id, parse_spec, resolve
from mowich.requests.machines import PowerRequest
from mowich.shown import AnswerList, Keyed
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


def study(asked: PowerRequest) -> PowerStudy:
    """Power of each system by part. Raises UserError for a system that is not known."""
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
