"""How long a new replica takes before it serves: a machine, its weights, its engine, part by part.

Parts follow each other, as an engine starts. What several published starts of one engine measured is in facts
`serving.startup`; a scenario that knows better states the whole time (docs/records/autoscaling.md).
"""

from __future__ import annotations

from dataclasses import dataclass

from mowich.errors import UserError
from mowich.estimate import Estimate, worst_grade
from mowich.facts import Facts
from mowich.sums import float_sum

WEIGHTS_FROM = ("store", "disk", "host")
"""Where a new replica reads its weights: an object store, a disk of its machine, the memory of its host."""

_KINDS = {
    "neuroncore": "neuron",
    **dict.fromkeys(("hopper", "blackwell", "ampere", "ada", "l40s", "rtx", "rubin"), "gpu"),
}
"""How the family of a chip begins -> whose engines start in that way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartupAsk:
    """How a replica starts. weights: one of `WEIGHTS_FROM`; rate_Bps: at which they are read (None: as published);
    machine_s: until there is a machine; compiled: whether compiled graphs lie ready."""

    weights: str
    rate_Bps: float | None
    machine_s: float
    compiled: bool


def reading_s(weights_B: float, rate_Bps: float) -> float:
    """Time to read the weights of a replica once.

    T = weights_B / rate_Bps

    Units: weights_B B, rate_Bps B/s.

    Example:
        >>> reading_s(16e9, 0.5e9)
        32.0
    """
    return weights_B / rate_Bps


def startup_s(facts: Facts, family: str, weights_B: float, ask: StartupAsk, where: str) -> Estimate:
    """Seconds from the order of a replica to its first request, with its parts. family: of the chip; weights_B: of the
    whole replica. Raises UserError for a chip whose engines' start nobody has published."""
    kind = next((kind for begin, kind in _KINDS.items() if family.startswith(begin)), None)
    if kind is None:
        raise UserError(
            "the start of an engine is published for GPUs of NVIDIA and for Trainium",
            where=where,
            given=family,
            allowed="a time, such as start: 4 min",
        )
    rates, grade = [ask.rate_Bps or 0.0] * 3, "user"
    if ask.rate_Bps is None:
        rates, grade = _ends(facts, f"{ask.weights}_rate")
    values = {"machine": [ask.machine_s] * 3, "weights": [reading_s(weights_B, rates[i]) for i in (0, 2, 1)]}
    grades = [grade]
    for name, part in (
        ("engine", "engine"),
        ("compile", "cached" if ask.compiled else "compile"),
        ("graphs", "graphs"),
    ):
        values[name], grade = _ends(facts, f"{kind}.{part}")
        grades.append(grade)
    value, low, high = (float_sum(part[i] for part in values.values()) for i in range(3))
    return Estimate(
        value=value,
        unit="s",
        low=low,
        high=high,
        grade=worst_grade(grades),
        breakdown={name: part[0] for name, part in values.items()},
    )


def _ends(facts: Facts, name: str) -> tuple[list[float], str]:
    """([value, low, high], grade) of a fact of a start."""
    fact = facts.fact(f"serving.startup.{name}")
    value = facts.number(fact.path)
    return [
        value,
        value if fact.low is None else fact.low,
        value if fact.high is None else fact.high,
    ], fact.grade or "A"
