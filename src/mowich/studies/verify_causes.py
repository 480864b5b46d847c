"""What would explain a figure that lies outside of its range: settings that nobody stated, parts of the time, facts at
the ends of their ranges."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mowich.errors import UserError
from mowich.estimate import Estimate
from mowich.facts import Facts
from mowich.models.model import Model
from mowich.requests.command import schema_of
from mowich.shown import Result
from mowich.studies.explain import explain
from mowich.studies.explain.explanation import Explanation
from mowich.studies.verified import MORE_IS_FASTER, Cause, Forecast, VerifiedFigure

LEAST_PART = 0.05
"""Share of a time below which a part does not explain a figure by itself."""
MOST_TIMES = 5.0
"""What a part would have to be, or what it is now, at most, over the other."""
MOST_OF_EACH = 3
"""Causes of a kind that are told."""
LEAST_TOLD = 0.01
"""Share of a time below which what moves it is not told."""


def causes_of(forecast: Forecast, outside: Sequence[VerifiedFigure], facts: Facts, model: Model | None) -> list[Cause]:
    """What would explain figures outside, each alone, the nearest first. A rate is told with the time that it follows
    from, where both are outside."""
    first = {row.name: row for row in outside}
    named = [row for row in first.values() if row.name not in MORE_IS_FASTER] or list(first.values())
    out: list[Cause] = []
    for row in named:
        if row.predicted is None or row.ratio is None:
            continue
        out += _unstated(forecast, row)
        try:
            found = explain(forecast.data, forecast.metric(row.name), facts, model=model)
        except UserError:
            continue  # a row that nothing makes again: its numbers are there, and no parts
        out += _parts(forecast, row, found)
        out += _moves(forecast, row, found)
    return out


def _reaches(row: VerifiedFigure, factor: float) -> bool:
    """Whether the range of a figure, with its time moved by a factor, holds what was measured."""
    found = row.predicted
    assert found is not None
    return _holds(found, row.measured, 1.0 / factor if row.name in MORE_IS_FASTER else factor)


def _holds(found: Estimate, measured: float, factor: float) -> bool:
    return found.low is not None and found.high is not None and found.low * factor <= measured <= found.high * factor


def _command(forecast: Forecast, name: str) -> str:
    return f"mowich explain {forecast.where or 'RESULT'} {forecast.metric(name)}"


def _unstated(forecast: Forecast, row: VerifiedFigure) -> list[Cause]:
    """Settings of the engine that nobody stated, at the end that leads to what was measured."""
    kind = "ttft" if "ttft" in row.name else "tpot"
    out = []
    for setting in forecast.row.get("unstated") or ():
        ends = dict(zip((setting["low"], setting["high"]), setting[kind], strict=True))
        end, factor = (max if row.slower > 1.0 else min)(ends.items(), key=lambda pair: pair[1])
        if (factor > 1.0) != (row.slower > 1.0) or abs(factor - 1.0) < LEAST_TOLD:
            continue
        out.append(
            Cause(
                of=row.name,
                name=str(setting["setting"]),
                what=f"was not stated: with {end} the time is {factor:.3g} times as long",
                factor=float(factor),
                reaches=_reaches(row, float(factor)),
                command=_asked_with(forecast.data, f"{setting['setting']}={end}"),
            )
        )
    return out


def _asked_with(data: Result, setting: str) -> str:
    """The command that asks for a result again, with one setting more."""
    schema = schema_of(data)
    assert schema is not None
    values = schema.stated(data)
    said = values["set"]
    assert isinstance(said, list)
    return schema.command({**values, "set": [*said, setting]})


def _parts(forecast: Forecast, row: VerifiedFigure, found: Explanation) -> list[Cause]:
    """How many times as long a part would have to take, all others as predicted: those that are nearest to 1."""
    total = found.estimate.value
    if row.name in MORE_IS_FASTER or not total:
        return []
    needed: dict[str, float] = {}
    for name, part in found.parts.items():
        times = (row.measured - (total - part)) / part if part >= LEAST_PART * total else 0.0
        if 1.0 / MOST_TIMES <= times <= MOST_TIMES:
            needed[name] = times
    ranked = sorted(needed, key=lambda name: (abs(math.log(needed[name])), name))[:MOST_OF_EACH]
    return [
        Cause(
            of=row.name,
            name=name,
            what=f"would have to take {needed[name]:.3g} times as long as predicted, alone",
            factor=needed[name],
            reaches=True,
            command=f"{_command(forecast, row.name)}.{name}",
        )
        for name in ranked
    ]


def _moves(forecast: Forecast, row: VerifiedFigure, found: Explanation) -> list[Cause]:
    """Facts that lead to what was measured at an end of their range, the largest first."""
    is_slower = row.slower > 1.0
    told: list[tuple[float, Cause]] = []
    for move in (m for m in found.moves if not m.is_nudge):
        ends = {move.low: 1.0 + move.at_low, move.high: 1.0 + move.at_high}
        times = {end: 1.0 / x if row.name in MORE_IS_FASTER else x for end, x in ends.items() if x > 0.0}
        if not times:
            continue
        end, factor = (max if is_slower else min)(times.items(), key=lambda pair: pair[1])
        if (factor > 1.0) != is_slower or abs(factor - 1.0) < LEAST_TOLD:
            continue
        said = f"{end:.4g} {move.fact.unit}".removesuffix(" 1").strip()
        cause = Cause(
            of=row.name,
            name=move.fact.path,
            what=f"at the end of its range, {said}, the time is {factor:.3g} times as long",
            factor=factor,
            reaches=_reaches(row, factor),
            command=_command(forecast, row.name),
        )
        told.append((abs(math.log(factor)), cause))
    return [cause for _, cause in sorted(told, key=lambda pair: (-pair[0], pair[1].name))[:MOST_OF_EACH]]
