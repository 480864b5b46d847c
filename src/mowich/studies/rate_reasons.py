"""Why a system has no deployment for a load: which limit fails, by how much, and what would serve. What was not
searched is never told as what cannot be."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from mowich.plans.memory import serving_memory_B
from mowich.requests.jobs import PlanRequest
from mowich.requests.loads import ServeLoad
from mowich.shown import Keyed
from mowich.studies.arrivals_row import PLAYED_TIMES
from mowich.studies.rate_search import RateFindings, RateSearch
from mowich.studies.rate_sides import Side, candidates_of, could_serve, means_asked, side_of
from mowich.studies.traffic import TrafficResult
from mowich.units import show, show_gib, sig

LIMITS = (("p99_ttft_s", "TTFT p99"), ("p99_tpot_s", "TPOT p99"), ("ttft_s", "TTFT mean"), ("tpot_s", "TPOT mean"))
"""Limits of a load, as inputs name them, and for a reader."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unserved(Keyed):
    """A system that has no deployment of its own in the answer. why: "layout" (no plan is legal), "memory", "limit" (of
    one request alone), "chips", "played" (what was played breaks a limit), "cut" (not searched to the end), "costlier"
    (not played: by its bounds it costs more than the answer). limit: which one fails; asked, least: its value, and what
    comes closest to it; chips: that would be needed at least, as far as bounds know."""

    system: str
    why: str
    reason: str
    limit: str | None = None
    asked: float | None = None
    least: float | None = None
    chips: float | None = None


def limits_of(asked: PlanRequest) -> dict[str, float]:
    """The limits that were asked, by name."""
    job, load = asked.serve_job, asked.serve_load
    named = {
        "p99_ttft_s": load.p99_ttft_s,
        "p99_tpot_s": load.p99_tpot_s,
        "ttft_s": job.ttft_s,
        "tpot_s": job.tpot_s,
    }
    return {name: limit for name, limit in named.items() if math.isfinite(limit)}


def seen(result: TrafficResult, limit: str) -> float | None:
    """What a traffic shows of a limit."""
    time, mark = PLAYED_TIMES[limit]
    found: float | None = getattr(result, time)[mark]
    return found


def worst_limit(s: RateSearch, result: TrafficResult) -> tuple[str, float, float | None]:
    """(the limit that is broken most, its value, what the traffic shows of it)."""

    def excess(item: tuple[str, float]) -> float:
        found = seen(result, item[0])
        return math.inf if found is None else found / item[1]

    name, limit = max(limits_of(s.asked).items(), key=excess)
    return name, limit, seen(result, name)


def closest(s: RateSearch, spec: str | None = None) -> tuple[int, tuple[int, int]] | None:
    """(candidate, workers) of what was played on a system, or on any, and is least beyond its limits."""

    def excess(key: tuple[int, tuple[int, int]]) -> tuple[float, float]:
        result, most = s.played[key].result, -s.candidates[key[0]].cost(key[1], "chips")
        if result is None:
            return math.inf, most
        _, limit, found = worst_limit(s, result)
        return math.inf if found is None else found / limit, most

    here = [
        key
        for key, played in s.played.items()
        if played.result is not None and (spec is None or s.candidates[key[0]].systems == frozenset({spec}))
    ]
    return min(here, key=excess, default=None)


def unserved(s: RateSearch, spec: str, side: Side | None, engine: str, found: RateFindings) -> Unserved:
    """Why a system has no deployment of its own."""
    if spec in found.costlier:
        chips, usd = found.costlier[spec]
        price = f", ${sig(usd * 3600.0)}/h" if math.isfinite(usd) else ""
        reason = f"not played: by its bounds at least {_chips(chips)}{price}, more than the answer"
        return Unserved(system=spec, why="costlier", reason=reason, chips=chips)
    if side is None:
        reason = "no worker plan is legal here (heads, experts, devices)"
        return Unserved(system=spec, why="layout", reason=reason, chips=_open_bound(s, spec, engine)[1])
    names = frozenset({spec})
    mine = [i for i, c in enumerate(s.candidates) if c.systems == names]
    played = [key for key in s.played if key[0] in mine]
    if names in s.cut and not mine:
        reason = "not played: a steady state of this load is too many requests there; ask for a part of it"
        return Unserved(system=spec, why="cut", reason=reason)
    if names in s.cut:
        reason = (
            f"not searched to the end: {len({i for i, _ in played})} of {len(mine)} candidates were played, so one may"
            " keep the limits; --set plan.tp=8 or plan.mode=aggregated narrows the search"
        )
        return Unserved(system=spec, why="cut", reason=reason)
    if mine and played:
        return _of_played(s, spec, side)
    if could_serve(side):
        return _of_chips(s, spec, side, engine)
    return _of_limits(s, spec, side, engine)


def _chips(chips: float) -> str:
    return f"{chips:,.0f} {'chip' if chips == 1 else 'chips'}"


def _open_bound(s: RateSearch, spec: str, engine: str) -> tuple[Side | None, float | None]:
    """(the system with any number of chips, how many its bounds need at least: None where none would do)."""
    side = side_of(s.asked, spec, engine, is_open=True)
    if side is None:
        return None, None
    side = replace(side, most_chips=side.system.max_chips)
    chips = [c.cost(c.least, "chips") for c in candidates_of(s.asked, [side])]
    return side, min(chips, default=None)


def _of_chips(s: RateSearch, spec: str, side: Side, engine: str) -> Unserved:
    """The bounds need more chips than there are."""
    _, chips = _open_bound(s, spec, engine)
    name = spec.split(":")[0].split("*")[0]
    if chips is None:
        reason = f"its bounds need more than its {_chips(side.most_chips)}"
    else:
        reason = (
            f"its bounds need at least {_chips(chips)}, and it has {side.most_chips:,}: --on {name} takes as many as it"
            " needs"
        )
    return Unserved(system=spec, why="chips", reason=reason, chips=chips)


def _of_limits(s: RateSearch, spec: str, side: Side, engine: str) -> Unserved:
    """No plan keeps the limits even for one request alone: memory, or the limit that is missed most."""
    alone = side.together
    if not np.isfinite(alone.ttft_s).any():
        d = side.deployment
        short = max(0.0, float(-serving_memory_B(d.shapes, d.around, side.system.hbm_usable_B)["kv"].max()))
        _, chips = _open_bound(s, spec, engine) if side.is_sized else (None, None)
        more = "" if chips is None else f"; {_chips(chips)} could do"
        what = f"{show_gib(short)} short per device at best" if short else "no room for the cache of one request"
        return Unserved(system=spec, why="memory", reason=f"does not fit: {what}{more}", chips=chips)
    means = means_asked(s.asked)
    pairs = [(alone.ttft_s, means.ttft_s), (alone.tpot_s, means.tpot_s)]
    excess = np.maximum(*(times / limit for times, limit in pairs))
    plan = int(np.argmin(excess))
    times, limit = max(pairs, key=lambda pair: float(pair[0][plan]) / pair[1])
    what = "TTFT" if times is alone.ttft_s else "TPOT"
    least = float(times[plan])
    name = next(n for n, v in limits_of(s.asked).items() if v == limit and what.lower() in n)
    reason = (
        f"{what} of one request alone is {show(least, 's')} at best, {_beyond(least, limit)} its limit of"
        f" {show(limit, 's')}: no number of chips keeps it; a limit above {show(least, 's')} could be kept"
    )
    return Unserved(system=spec, why="limit", reason=reason, limit=name, asked=limit, least=least)


def _beyond(found: float, limit: float) -> str:
    """ "29% above", "3.1 times"."""
    return f"{found / limit - 1.0:.0%} above" if found < 2.0 * limit else f"{sig(found / limit, 2)} times"


def broken_words(s: RateSearch, result: TrafficResult) -> str:
    """Which limits a traffic breaks, and by how much."""
    words = []
    titles = dict(LIMITS)
    for name, limit in limits_of(s.asked).items():
        found = seen(result, name)
        if found is None:
            words.append(f"{titles[name]}: no request was answered")
        elif found > limit:
            words.append(
                f"{titles[name]} is {show(found, 's')}, {_beyond(found, limit)} its limit of {show(limit, 's')}"
            )
    return " and ".join(words)


def _of_played(s: RateSearch, spec: str, side: Side) -> Unserved:
    """What comes closest of what was played breaks a limit."""
    at = closest(s, spec)
    if at is None:
        reason = "one request does not fit in the cache of a worker"
        return Unserved(system=spec, why="memory", reason=reason)
    result = s.answer(*at, s.asked.peak).result
    assert result is not None
    name, limit, least = worst_limit(s, result)
    chips = s.candidates[at[0]].cost(at[1], "chips")
    ways = _ways_out(s, side, result)
    reason = (
        f"the closest that was played, {_chips(chips)}, breaks a limit{peak_words(s)}: {broken_words(s, result)}{ways}"
    )
    return Unserved(system=spec, why="played", reason=reason, limit=name, asked=limit, least=least)


def peak_words(s: RateSearch) -> str:
    """At which load the limits are looked at, where that is not the one that was asked."""
    return f" at {load_words(s.asked.peak)}" if s.asked.serve_load.headroom else ""


def load_words(load: ServeLoad) -> str:
    """A load for a reader."""
    return f"{load.users} users" if load.rate is None else f"{sig(load.rate)} requests/s"


def _ways_out(s: RateSearch, side: Side, result: TrafficResult) -> str:
    """What would serve."""
    ways = []
    if side.is_sized:
        name = side.spec.split(":")[0].split("*")[0]
        ways.append(f"more chips (--on {name} takes as many as it needs)")
    for name, limit in limits_of(s.asked).items():
        found = seen(result, name)
        if found is not None and limit < found < 3.0 * limit:
            option = "--" + name.removesuffix("_s").replace("_", "-")
            ways.append(f"{option} {_rounded_up(found)}")
    if s.asked.serve_load.headroom:
        ways.append("less --headroom")
    return f"; what could serve: {', '.join(ways)}" if ways else ""


def _rounded_up(value: float) -> str:
    """A limit that a time keeps, with two digits."""
    unit, shown = ("s", value) if value >= 1.0 else ("ms", 1e3 * value)
    step = 10.0 ** (math.floor(math.log10(shown)) - 1)
    return f"{math.ceil(shown / step) * step:g}{unit}"
