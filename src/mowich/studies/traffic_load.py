"""The load of a traffic scenario: the requests of a trace, requests drawn at a rate, or users who wait for answers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Required, TypedDict

from mowich.errors import UserError
from mowich.scenario import Node
from mowich.serving.adapters import ADAPTER_TARGETS
from mowich.serving.arrivals import ARRIVALS, Draw, draw_columns, lengths, read_trace_columns
from mowich.serving.conversations import Conversations, Pauses, pauses
from mowich.serving.rate_curve import RateCurve
from mowich.serving.tenants import MOST_ADAPTERS, Tenants, popularity
from mowich.serving.traffic.columns import RequestColumns
from mowich.units import parse

UNSEEN = ("prompt_lengths", "output_lengths", "turn_counts", "pauses", "curve")
"""Keys of a load that hold what its words were read into, not the words."""


class AdapterLoad(TypedDict):
    """LoRA adapters of a load: how many, in words how the requests are spread over them, the share of requests without
    one, the rank, and the products that have one."""

    count: int
    popularity: str
    base: float
    rank: int
    targets: str


class Traffic(TypedDict, total=False):
    """Where requests come from, as it was asked: a trace (its path, the first `limit` of it, how many times as fast),
    or None and what requests are drawn from. rate: requests per second, or along time, in words; users: that ask
    without end; prompt, output, turns, think: in words; duration: nobody comes later, s; counted: arrivals between
    these times stand in the figures, s."""

    trace: Required[str | None]
    limit: int | None
    speed: float
    rate: float | dict[str, str]
    curve: RateCurve | None
    period: float
    users: int
    ramp_up: float
    requests: int
    duration: float
    arrivals: str
    cv: float
    seed: int
    shared_prefix: int
    priorities: int
    prompt_lengths: Draw
    output_lengths: Draw
    turn_counts: Draw | None
    pauses: Pauses | None
    prompt: str
    output: str
    turns: str
    think: str
    counted: list[float]
    adapters: AdapterLoad


MOST_RANK = 1024
"""Of an adapter."""
MOST_REQUESTS = 100_000_000
"""Of a load that is drawn: an hour of work and more."""


def read_load(node: Node, folder: Path) -> Traffic:
    """Where the requests come from, checked."""
    trace = node.text("trace")
    out: Traffic = {"trace": str(folder / trace)} if trace else {"trace": None}
    if trace:
        out["limit"] = int(node.count("requests")) if "requests" in node else None
        out["speed"] = node.count("speed", 1.0, minimum=1e-6, whole=False)
    else:
        _drawn(node, out)
    if "counted" in node:
        window = node.node("counted")
        begin, end = window.quantity("from", "s", 0.0) or 0.0, window.quantity("to", "s")
        if end is not None and end <= begin:
            window.problem("to", "must be after from", given=window.raw("to"))
        out["counted"] = [begin, math.inf if end is None else end]
        window.done()
    if "adapters" in node:
        out["adapters"] = _adapters(node.node("adapters"))
    node.done()
    return out


def _adapters(node: Node) -> AdapterLoad:
    """LoRA adapters that the requests ask for."""
    node.need("count", "rank", "targets")
    count = int(node.count("count", 1, maximum=MOST_ADAPTERS))
    words = node.text("popularity", "uniform")
    try:
        popularity(words, 1)
    except UserError as error:
        node.problem("popularity", error.what, given=words, allowed=error.allowed)
    out: AdapterLoad = {
        "count": count,
        "popularity": words,
        "base": node.number("base", 0.0, low=0.0, high=1.0),
        "rank": int(node.count("rank", 16, minimum=0, maximum=MOST_RANK)),
        "targets": node.text("targets", ADAPTER_TARGETS[0], allowed=ADAPTER_TARGETS),
    }
    node.done()
    return out


def _drawn(node: Node, out: Traffic) -> None:
    """A load that is drawn: at a rate, or of users."""
    both = node.raw("rate") is not None and node.raw("users") is not None
    if both:
        allowed = "rate: 12 (requests/s), or users: 64"
        node.problem("users", "give either a rate or users", given="both", allowed=allowed)
    elif "users" not in node:
        node.raw("users")  # so that a misspelt one is told
        node.need("rate")
    node.need("prompt", "output", *(() if "duration" in node and "rate" in node else ("requests",)))
    if "users" in node:
        out["users"] = int(node.count("users", 1))
        out["ramp_up"] = node.quantity("ramp_up", "s", 0.0) or 0.0
    if "rate" in node and not both:
        _rate(node, out)
    if "duration" in node:
        out["duration"] = node.quantity("duration", "s", minimum=1e-9) or math.inf
    if "requests" in node:
        out["requests"] = int(node.count("requests", 1, maximum=MOST_REQUESTS))
    _arrivals(node, out)
    out["seed"] = int(node.count("seed", 0, minimum=0))
    out["shared_prefix"] = int(node.count("shared_prefix", 0, minimum=0))
    out["priorities"] = int(node.count("priorities", 1))
    prompt, output = _lengths(node, "prompt"), _lengths(node, "output")
    if prompt is not None:
        out["prompt_lengths"], out["prompt"] = prompt, str(node.raw("prompt"))
    if output is not None:
        out["output_lengths"], out["output"] = output, str(node.raw("output"))
    _turns(node, out)
    _bounded(node, out)


MAX_CV = 100
"""Coefficient of variation of the gaps between arrivals. Beyond it nearly all of them come at once."""


def _arrivals(node: Node, out: Traffic) -> None:
    """The gaps between arrivals; those of conversations are exponential."""
    talks = "users" in node or "turns" in node
    for key in ("arrivals", "cv", "priorities") if talks else ():
        if key in node:
            node.problem(key, "is not for conversations (users, turns)", given=node.raw(key), fix="leave it out")
    if not talks:
        out["arrivals"] = node.text("arrivals", "poisson", allowed=ARRIVALS)
        out["cv"] = node.count("cv", 1.0, minimum=0.01, maximum=MAX_CV, whole=False)


def _turns(node: Node, out: Traffic) -> None:
    """Turns of a conversation and the time between them."""
    talks = "users" in node or "turns" in node
    if not talks:
        if "think" in node:
            node.problem("think", "needs users or turns", given=node.raw("think"), fix="turns: 4")
        return
    out["turns"], out["think"] = str(node.raw("turns", 1)), str(node.raw("think", "0 s"))
    out["turn_counts"] = _lengths(node, "turns") if "turns" in node else lengths(1, "")
    try:
        out["pauses"] = pauses(out["think"], "")
    except UserError as error:
        node.problem("think", error.what, given=error.given, allowed='"10 s", "exponential(10 s)"')


def _rate(node: Node, out: Traffic) -> None:
    """A rate: one number, or a mapping of times to rates, which may repeat."""
    raw = node.raw("rate")
    if not isinstance(raw, dict):
        out["rate"] = (
            node.quantity("rate", "1/s") or 0.0
            if isinstance(raw, str)
            else node.count("rate", 1.0, minimum=1e-9, whole=False)
        )
        if "period" in node:
            node.problem("period", "needs a rate along time", given=node.raw("period"), fix="rate: {0 h: 2, 12 h: 20}")
        return
    points = node.node("rate")
    times, rates, words = [], [], {}
    for key in points:
        try:
            times.append(parse(key, "s", where=points.name(key)).value)
        except UserError as error:
            points.problem(key, error.what, given=key, allowed='times with their unit, such as "10 min"')
        word = points.raw(key)
        rate = (
            points.quantity(key, "1/s") if isinstance(word, str) else points.count(key, 0.0, minimum=0.0, whole=False)
        )
        rates.append(rate or 0.0)
        words[key] = str(word)
    period = node.quantity("period", "s", minimum=1e-9) or math.inf
    rises = all(a < b for a, b in itertools.pairwise(times))
    if len(times) != len(rates):
        return  # a time is wrong, and is told of
    if not times or times[0] != 0.0 or not rises:
        node.problem("rate", "times begin at 0 s and rise", given=", ".join(words))
    elif times[-1] > period:
        node.problem("period", "is before the last time of the rate", given=node.raw("period"))
    elif not any(rates):
        node.problem("rate", "is 0 at all times", given=", ".join(words.values()))
    else:
        out["rate"], out["period"] = words, period
        out["curve"] = RateCurve(tuple(times), tuple(rates), period)


def _bounded(node: Node, out: Traffic) -> None:
    """Fill in how many requests there are at most, and complain where there cannot be as many as were asked for."""
    curve = out.get("curve")
    until = out.get("duration", math.inf)
    if curve is not None:
        most = curve.expected(until)
        if "requests" in out and out["requests"] > most:
            node.problem("requests", "more than the rate brings", given=out["requests"], allowed=f"at most {most:.0f}")
        elif math.isinf(most) and "requests" not in out:
            node.problem(None, "traffic.requests is missing")
    else:
        rate = out.get("rate", 0.0)
        most = rate * until if isinstance(rate, float) and rate else math.inf
    if "requests" not in out and math.isfinite(most):  # a Poisson count lies within this of its mean
        out["requests"] = max(1, math.ceil(most + SIGMAS * math.sqrt(most) - REQUEST_MARGIN))


REQUEST_MARGIN = 1e-6
"""Of a request: one more is not drawn for it."""
SIGMAS = 6.0
"""How far above its mean the number of arrivals is allowed to be, in standard deviations: never reached in practice."""


def _lengths(node: Node, key: str) -> Draw | None:
    """The lengths under a key; None where there are none, or they are wrong."""
    try:
        return lengths(node.raw(key), f"traffic.{key}") if key in node else None
    except UserError as error:
        node.problem(key, error.what, given=error.given, allowed=error.allowed)
        return None


def requests_of(r: Traffic, block: int, longest: int) -> Iterator[RequestColumns] | Conversations:
    """Requests in order of arrival; or conversations, where what comes depends on answers. block: tokens that a hash
    names; longest: tokens of a request that the cache still holds."""
    load = _requests(r, block, longest)
    if "adapters" not in r or not r["adapters"]["rank"]:
        return load
    of = r["adapters"]
    tenants = Tenants(popularity(of["popularity"], of["count"]), of["base"], r.get("seed", 0))
    if isinstance(load, Conversations):
        load.tenants = tenants
        return load
    return map(tenants.columns, load)


def _requests(r: Traffic, block: int, longest: int) -> Iterator[RequestColumns] | Conversations:
    """The same before adapters are given."""
    if r["trace"]:
        return read_trace_columns(Path(r["trace"]), limit=r["limit"], speed=r["speed"])
    if "turn_counts" in r and r["turn_counts"] is not None:
        think = r["pauses"]
        assert think is not None
        rate = r.get("curve") or r.get("rate")
        return Conversations(
            requests=r["requests"],
            prompt=r["prompt_lengths"],
            output=r["output_lengths"],
            turns=r["turn_counts"],
            think=think,
            users=r.get("users", 0),
            rate=None if isinstance(rate, dict) else rate,
            ramp_up_s=r.get("ramp_up", 0.0),
            until_s=r.get("duration", math.inf),
            seed=r["seed"],
            shared_prefix=r["shared_prefix"],
            block=block,
            longest=longest,
        )
    rate = r.get("curve") or r["rate"]
    assert not isinstance(rate, dict)
    return draw_columns(
        rate=rate,
        requests=r["requests"],
        prompt=r["prompt_lengths"],
        output=r["output_lengths"],
        arrivals=r["arrivals"],
        cv=r["cv"],
        seed=r["seed"],
        shared_prefix=r["shared_prefix"],
        priorities=r["priorities"],
        block=block,
        until_s=r.get("duration", math.inf),
    )
