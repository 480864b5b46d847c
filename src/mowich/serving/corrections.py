"""What measured serving differs by from the model, by engine, model, chip and release: shrunken factors, and the width
of a prediction.

A correction is ln(measured / predicted) that a class of cases shares beyond what its parents explain, pulled towards
zero in proportion to how little it is supported (a hierarchical, or "random effects", fit: `tools/fit_serving.py`).
Classes that the table does not hold count as zero, and widen the interval by the spread of their level. Numbers:
`facts/serving/corrections.csv`.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np

from mowich.arrays import Floats
from mowich.serving.anchors import METRICS, Class

__all__ = ["METRICS", "Class"]


def users_scale(users: Floats | float) -> Floats:
    """What corrections that grow with load are multiplied by: log2(users per rank group) / 5 - 0.7."""
    return np.asarray(np.log2(np.maximum(users, 1.0)) / 5.0 - 0.7)


def length_scale(log2_prompt: float) -> float:
    """What corrections that grow with the length of prompts are multiplied by: log2(prompt tokens / 1,024) / 3."""
    return (log2_prompt - 10.0) / 3.0


def _load(c: Class) -> float:
    return float(users_scale(c.users))


def _length(c: Class) -> float:
    return length_scale(math.log2(c.prompt))


def _ranks(c: Class) -> float:
    return math.log2(max(c.ranks, 1.0)) / 2.0 - 1.0


def _one(c: Class) -> float:
    return 1.0


LEVELS: Mapping[str, tuple[tuple[str, ...], Callable[[Class], float]]] = {
    "arch": (("engine", "arch"), _one),
    "family": (("engine", "family"), _one),
    "weights": (("engine", "model", "weights"), _one),
    "weights_ranks": (("engine", "model", "weights", "ranks"), _one),
    "version_ranks": (("version", "arch", "ranks"), _one),
    "release": (("version", "model", "chip"), _one),
    "weights_ranks*load": (("engine", "model", "weights", "ranks"), _load),
    "version_ranks*load": (("version", "arch", "ranks"), _load),
    "release*load": (("version", "model", "chip"), _load),
    "version_ranks*length": (("version", "arch", "ranks"), _length),
    "release*length": (("version", "model", "chip"), _length),
    "release*ranks": (("version", "model", "chip"), _ranks),
}
"""Level -> (what a class is named by, what multiplies its value). load, length, ranks: log2 of users, prompt tokens,
ranks, centred."""


USERS_BANDS = (4, 16, 64, 128)
"""Users per rank group up to which a band of load goes; the last one is open."""


def users_band(users: float) -> str:
    """The name of a band of load, such as 05-16."""
    low = 1
    for high in USERS_BANDS:
        if users <= high:
            return f"{low:02d}-{high}"
        low = high + 1
    return f"{low} and more"


WIDTH_KINDS: Mapping[str, Callable[[Class], str]] = {
    "users": lambda c: users_band(c.users),
    "engine": lambda c: c.engine,
    "arch": lambda c: c.arch,
    "weights": lambda c: c.weights,
    "chip": lambda c: c.chip,
}
"""What the width of an interval may differ by -> the class of a case. Where left-out errors of a class are wider or
narrower than those of the others, so are its intervals."""


def key(c: Class, level: str) -> str | None:
    """The name of a case's class on a level; None where the case leaves a part of it open. A format or a release that
    verifies guesses is a class of its own: its steps are others."""
    parts = [f"{found:g}" if isinstance(found := getattr(c, part), float) else found for part in LEVELS[level][0]]
    if c.guesses and not {"weights", "version"}.isdisjoint(LEVELS[level][0]):
        parts.append("guesses")
    return None if not all(parts) else "|".join(parts)


@dataclass(frozen=True, slots=True)
class Along:
    """ln factor of a class, open along load and length: constant + load x `users_scale` + length x `length_scale`. All
    zero where corrections are not carried over."""

    constant: float = 0.0
    load: float = 0.0
    length: float = 0.0

    def factor(self, users: float, log2_prompt: float) -> float:
        """What a time is multiplied by. users: per rank group, 1 or more; log2_prompt: mean of log2(prompt tokens)."""
        if self.load == 0.0 and self.length == 0.0:
            return math.exp(self.constant)
        grown = self.load * (math.log2(users) / 5.0 - 0.7) if self.load else 0.0  # `users_scale`, of one number
        return math.exp(self.constant + grown + self.length * length_scale(log2_prompt))


UNCORRECTED = Along()


@dataclass(frozen=True, slots=True)
class CorrectionTable:
    """Values and standard deviations by (metric, level, class); spread: of a level, by (metric, level); noise: of a
    row, by metric; width: half-width of the 90% interval in units of the standard deviation, by metric, from held-out
    groups; width_of: what it is multiplied by, by (metric, kind, class) of `WIDTH_KINDS`; families: of chips that
    serving was measured on; engines: that it holds classes of."""

    values: Mapping[tuple[str, str, str], tuple[float, float]]
    spread: Mapping[tuple[str, str], float]
    noise: Mapping[str, float]
    width: Mapping[str, float]
    width_of: Mapping[tuple[str, str, str], float]
    families: frozenset[str]
    engines: frozenset[str]

    def along(self, metric: str, one: Class) -> Along:
        """The correction of a class at any load and length (those of `one` do not matter): what a search over batches
        and a simulation need."""
        constant = load = length = 0.0
        for level, (_, covariate) in LEVELS.items():
            if self.spread.get((metric, level), 0.0) > 0.0:
                value, _ = self.values.get((metric, level, key(one, level) or ""), (0.0, 0.0))
                if covariate is _load:
                    load += value
                elif covariate is _length:
                    length += value
                else:
                    constant += value * covariate(one)
        return Along(constant, load, length)

    def knows(self, family: str) -> bool:
        """Whether serving was measured on a family of chips: elsewhere corrections are not carried over."""
        return family in self.families

    def apply(self, metric: str, cases: Sequence[Class]) -> tuple[Floats, Floats]:
        """(ln of the factor on the prediction, half-width in ln of the 90% interval) for each case."""
        shift, variance = np.zeros(len(cases)), np.full(len(cases), self.noise.get(metric, 0.0) ** 2)
        for level, (_, covariate) in LEVELS.items():
            spread = self.spread.get((metric, level), 0.0)
            if spread == 0.0:
                continue
            for i, case in enumerate(cases):
                x = covariate(case)
                name = key(case, level)
                value, sd = self.values.get((metric, level, name or ""), (0.0, spread))
                shift[i] += value * x
                variance[i] += (sd * x) ** 2
        return shift, self._widths(metric, cases) * np.sqrt(variance)

    def _widths(self, metric: str, cases: Sequence[Class]) -> Floats:
        """Half-width of the interval of each case, in units of the standard deviation."""
        out = np.full(len(cases), self.width.get(metric, 1.645))
        for kind in dict.fromkeys(kind for of, kind, _ in self.width_of if of == metric):
            name = WIDTH_KINDS[kind]
            out *= [self.width_of.get((metric, kind, name(c)), 1.0) for c in cases]
        return out


@cache
def _file(name: str) -> CorrectionTable:
    text = (resources.files("mowich.facts") / "serving" / name).read_text(encoding="utf-8")
    return read_corrections(text.splitlines())


def shipped_corrections(engine: str = "") -> CorrectionTable:
    """The table that ships for an engine. Stacks of Trainium have one of their own (`tools/fit_neuron.py`): their
    constants were fitted without corrections, and what other engines' rows differ by is not theirs."""
    own = _file("ranges_neuron.csv")
    return own if engine in own.engines else _file("corrections.csv")


def read_corrections(lines: Sequence[str]) -> CorrectionTable:
    """A table from the lines of its CSV: metric, level, class, value, sd, cases; class "*" holds the level's spread;
    levels "noise" and "width" hold those of the metric, "width of KIND" what the width is multiplied by in a class of
    that kind."""
    values, spread, single, width_of = {}, {}, {}, {}
    for row in csv.DictReader(line for line in lines if not line.startswith("#")):
        metric, level, name = row["metric"], row["level"], row["class"]
        if level in ("noise", "width"):
            single[level, metric] = float(row["value"])
        elif level.startswith("width of "):
            width_of[metric, level.removeprefix("width of "), name] = float(row["value"])
        elif name == "*":
            spread[metric, level] = float(row["sd"])
        else:
            values[metric, level, name] = (float(row["value"]), float(row["sd"]))
    return CorrectionTable(
        values=values,
        spread=spread,
        noise={m: single.get(("noise", m), 0.0) for m in METRICS},
        width={m: single.get(("width", m), 1.645) for m in METRICS},
        width_of=width_of,
        families=frozenset(name.rsplit("|", 1)[-1] for _, level, name in values if level in ("family", "model_family")),
        engines=frozenset(name.split("|", 1)[0] for _, level, name in values if level in ("arch", "family")),
    )
