"""The load of a traffic scenario: the requests of a trace, requests drawn at a rate, or users who wait for answers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal, Required, TypedDict, TypeVar

import numpy as np

from mowich.errors import UserError
from mowich.models.encoder import MediaKind
from mowich.scenario import Node
from mowich.serving.adapters import ADAPTER_TARGETS
from mowich.serving.agents import AgentKind, Agents
from mowich.serving.arrivals import ARRIVALS, Draw, draw_columns, lengths, read_trace_columns
from mowich.serving.conversations import Conversations, Pauses, begins_at, pauses
from mowich.serving.media import MediaLoad
from mowich.serving.rate_curve import RateCurve
from mowich.serving.session_traces import SessionForm, read_sessions, session_form
from mowich.serving.sessions import SessionLoad
from mowich.serving.tenants import MOST_ADAPTERS, Tenants, popularity
from mowich.serving.traffic.columns import RequestColumns
from mowich.studies.traffic_agents import read_agents, read_lengths, read_pauses
from mowich.units import parse, parse_pixels

D = TypeVar("D", Conversations, Agents)

UNSEEN = ("prompt_lengths", "output_lengths", "turn_counts", "pauses", "curve", "kinds", "form", "media")
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
    """Where requests come from, as it was asked: a trace, or what requests are drawn from."""

    trace: Required[str | None]
    """Its path, or None: requests are drawn."""
    limit: int | None
    """The first so many requests of the trace; None: all."""
    speed: float
    """How many times as fast as the trace they come."""
    rate: float | dict[str, str]
    """Requests per second, or along time, in words."""
    curve: RateCurve | None
    """The rate along time, read."""
    period: float
    """After which the rate comes again, s."""
    users: int
    """That ask without end."""
    ramp_up: float
    """In which the users come, s."""
    requests: int
    """In all."""
    duration: float
    """Nobody comes later, s."""
    arrivals: str
    """Their process, in a word."""
    cv: float
    """Standard deviation of the time between arrivals over its mean."""
    seed: int
    """Of what is drawn."""
    shared_prefix: int
    """Tokens at the start of every prompt."""
    priorities: int
    """Classes of requests."""
    prompt_lengths: Draw
    """`prompt`, read."""
    output_lengths: Draw
    """`output`, read."""
    turn_counts: Draw | None
    """`turns`, read."""
    pauses: Pauses | None
    """`think`, read."""
    prompt: str
    """Tokens of new prompts, in words."""
    output: str
    """Tokens of answers, in words."""
    turns: str
    """Of a conversation, in words."""
    think: str
    """Seconds between turns, in words."""
    counted: list[float]
    """Arrivals between these times stand in the figures, s."""
    max_tokens: int
    """The limit on an answer that requests state."""
    sessions: int | None
    """Of agents, or of a trace of sessions, in all."""
    agents: dict[str, object]
    """Their kinds, in words."""
    kinds: list[AgentKind]
    """`agents`, read."""
    form: SessionForm | None
    """The format of a trace of sessions."""
    deltas: bool
    """Whether its lines hold what a turn adds."""
    adapters: AdapterLoad
    """LoRA adapters that requests ask for."""
    images: dict[str, object]
    """In words."""
    audio: dict[str, object]
    """In words."""
    media: tuple[MediaLoad, ...]
    """What `images` and `audio` were read into."""


MOST_ANSWERED = 2**20
"""Tokens of an answer that a request may state as its limit."""
MOST_SESSIONS = 1_000_000
"""Of agents."""
MOST_RANK = 1024
"""Of an adapter."""
MOST_REQUESTS = 100_000_000
"""Of a load that is drawn: an hour of work and more."""


def read_load(node: Node, folder: Path) -> Traffic:
    """Where the requests come from, checked."""
    trace = node.text("trace")
    out: Traffic = {"trace": str(folder / trace)} if trace else {"trace": None}
    if trace:
        out["speed"] = node.count("speed", 1.0, minimum=1e-6, whole=False)
        form = session_form(folder / trace)
        if form is None:
            out["limit"] = int(node.count("requests")) if "requests" in node else None
        else:
            _recorded(node, out, form)
    elif "agents" in node:
        _agents(node, out)
    else:
        _drawn(node, out)
    _media(node, out)
    if "max_tokens" in node:
        out["max_tokens"] = int(node.count("max_tokens", 1, maximum=MOST_ANSWERED))
    if "counted" in node:
        with node.inside("counted") as window:
            begin, end = window.quantity("from", "s", 0.0) or 0.0, window.quantity("to", "s")
            if end is not None and end <= begin:
                window.wrong("to", "must be after from")
            out["counted"] = [begin, math.inf if end is None else end]
    if "adapters" in node:
        out["adapters"] = _adapters(node.node("adapters"))
        if is_sessions(out):
            node.refuse("is not for sessions of agents", "adapters")
    node.done()
    return out


def _adapters(node: Node) -> AdapterLoad:
    """LoRA adapters that the requests ask for."""
    node.need("count", "rank", "targets")
    count = int(node.count("count", 1, maximum=MOST_ADAPTERS))
    node.parsed("popularity", lambda words: popularity(str(words), 1))
    out: AdapterLoad = {
        "count": count,
        "popularity": node.text("popularity", "uniform"),
        "base": node.number("base", 0.0, low=0.0, high=1.0),
        "rank": int(node.count("rank", 16, minimum=0, maximum=MOST_RANK)),
        "targets": node.text("targets", ADAPTER_TARGETS[0], allowed=ADAPTER_TARGETS),
    }
    node.done()
    return out


def is_sessions(r: Traffic) -> bool:
    """Whether a load is of sessions that end, so that there is a time to a task."""
    return "kinds" in r or r.get("form") is not None


def _recorded(node: Node, out: Traffic, form: SessionForm) -> None:
    """A trace of sessions: as they were recorded, or begun at a rate or by users."""
    out["form"] = form
    out["sessions"] = int(node.count("sessions")) if "sessions" in node else None
    out["deltas"] = node.flag("deltas", False)
    node.refuse("this is a trace of sessions", "requests", fix="sessions: 100")
    if "users" in node or "rate" in node:
        _begun(node, out, "tasks/s")
        out["seed"] = int(node.count("seed", 0, minimum=0))
    elif not form.has_moments:
        node.problem("trace", "this trace does not say when sessions begin", fix="users: 32, or rate: 0.5 (tasks/s)")


def _agents(node: Node, out: Traffic) -> None:
    """Sessions of agents, drawn."""
    _sized(node, out, "sessions", MOST_SESSIONS, "tasks/s")
    if "users" in out:
        out["think"] = str(node.raw("think", "0 s"))
    out["pauses"] = read_pauses(node, "think") if "users" in out else pauses("0 s", "")
    out["kinds"], out["agents"] = read_agents(node.node("agents"), out["shared_prefix"])
    for key in ("prompt", "output", "turns"):
        node.refuse("is stated for each kind of agent", key, fix=f"agents: {{coder: {{{key}: ...}}}}")
    node.refuse("agents have sessions", "requests", fix="sessions: 100")
    _bounded(node, out, "sessions")


def _begun(node: Node, out: Traffic, unit: str) -> None:
    """How requests or sessions begin: at a rate, or by users."""
    both = node.raw("rate") is not None and node.raw("users") is not None
    if both:
        allowed = f"rate: 12 ({unit}), or users: 64"
        node.problem("users", "give either a rate or users", given="both", allowed=allowed)
    elif "users" not in node:
        node.raw("users")  # so that a misspelt one is told
        node.need("rate")
    if "users" in node:
        out["users"] = int(node.count("users", 1))
        out["ramp_up"] = node.quantity("ramp_up", "s", 0.0) or 0.0
    if "rate" in node and not both:
        _rate(node, out)


def _sized(node: Node, out: Traffic, what: Literal["requests", "sessions"], most: int, unit: str, *needs: str) -> None:
    """What all that is drawn has: how it begins, for how long or how many of them, the seed, and the start that all
    prompts share. needs: other keys that it needs."""
    _begun(node, out, unit)
    node.need(*needs, *(() if "duration" in node and "rate" in node else (what,)))
    if "duration" in node:
        out["duration"] = node.quantity("duration", "s", minimum=1e-9) or math.inf
    if what in node:
        out[what] = int(node.count(what, 1, maximum=most))
    out["seed"] = int(node.count("seed", 0, minimum=0))
    out["shared_prefix"] = int(node.count("shared_prefix", 0, minimum=0))


def _drawn(node: Node, out: Traffic) -> None:
    """A load that is drawn: at a rate, or of users."""
    _sized(node, out, "requests", MOST_REQUESTS, "requests/s", "prompt", "output")
    _arrivals(node, out)
    out["priorities"] = int(node.count("priorities", 1))
    prompt, output = read_lengths(node, "prompt"), read_lengths(node, "output")
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
    if talks:
        node.refuse("is not for conversations (users, turns)", "arrivals", "cv", "priorities")
    else:
        out["arrivals"] = node.text("arrivals", "poisson", allowed=ARRIVALS)
        out["cv"] = node.count("cv", 1.0, minimum=0.01, maximum=MAX_CV, whole=False)


def _turns(node: Node, out: Traffic) -> None:
    """Turns of a conversation and the time between them."""
    talks = "users" in node or "turns" in node
    if not talks:
        node.refuse("needs users or turns", "think", fix="turns: 4")
        return
    out["turns"], out["think"] = str(node.raw("turns", 1)), str(node.raw("think", "0 s"))
    out["turn_counts"] = read_lengths(node, "turns") if "turns" in node else lengths(1, "")
    out["pauses"] = read_pauses(node, "think")


def _rate(node: Node, out: Traffic) -> None:
    """A rate: one number, or a mapping of times to rates, which may repeat."""
    raw = node.raw("rate")
    if not isinstance(raw, dict):
        out["rate"] = (
            node.quantity("rate", "1/s") or 0.0
            if isinstance(raw, str)
            else node.count("rate", 1.0, minimum=1e-9, whole=False)
        )
        node.refuse("needs a rate along time", "period", fix="rate: {0 h: 2, 12 h: 20}")
        return
    points = node.node("rate")
    times, rates, words = [], [], {}
    for key in points:
        with points.watch(key, given=key, allowed='times with their unit, such as "10 min"', fix=None):
            times.append(parse(key, "s", where=points.name(key)).value)
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
        node.wrong("period", "is before the last time of the rate")
    elif not any(rates):
        node.problem("rate", "is 0 at all times", given=", ".join(words.values()))
    else:
        out["rate"], out["period"] = words, period
        out["curve"] = RateCurve(tuple(times), tuple(rates), period)


def _bounded(node: Node, out: Traffic, key: Literal["requests", "sessions"] = "requests") -> None:
    """Fill in how many of them there are at most, and complain where there cannot be as many as were asked for."""
    curve = out.get("curve")
    until = out.get("duration", math.inf)
    if curve is not None:
        most = curve.expected(until)
        asked = out.get(key)
        if asked is not None and asked > most:
            node.problem(key, "more requests than the rate brings", given=asked, allowed=f"at most {most:.0f}")
        elif math.isinf(most) and asked is None:
            node.problem(None, f"traffic.{key} is missing")
    else:
        rate = out.get("rate", 0.0)
        most = rate * until if isinstance(rate, float) and rate else math.inf
    if out.get(key) is None and math.isfinite(most):  # a Poisson count lies within this of its mean
        out[key] = max(1, math.ceil(most + SIGMAS * math.sqrt(most) - REQUEST_MARGIN))


REQUEST_MARGIN = 1e-6
"""Of a request: one more is not drawn for it."""
SIGMAS = 6.0
"""How far above its mean the number of arrivals is allowed to be, in standard deviations: never reached in practice."""


MOST_SOUND_S = 86_400.0
"""Of a piece of sound: a day."""


def _media(node: Node, out: Traffic) -> None:
    """The images and the sound of requests."""
    found: list[MediaLoad] = []
    keys: tuple[Literal["images", "audio"], ...] = ("images", "audio")
    for key in keys:
        if key not in node:
            continue
        if "turns" in node:
            node.problem(key, "is not for conversations of several turns", fix="leave turns out")
        elif is_sessions(out):
            node.problem(key, "is not for sessions", fix="leave it out")
        load = _media_load(node.node(key), "image" if key == "images" else "audio", is_trace=out["trace"] is not None)
        if load is not None:
            out[key] = load.words
            found.append(load)
    if found:
        out["media"] = tuple(found)


def _media_load(node: Node, kind: MediaKind, *, is_trace: bool) -> MediaLoad | None:
    """The images or the sound of requests, whose number a trace says for images; None: they have none."""
    is_image = kind == "image"
    node.need("size" if is_image else "length")
    is_none = str(node.raw("per_request")) == "0"
    draw = None
    if not (is_trace and is_image):
        draw = read_lengths(node, "per_request") if "per_request" in node and not is_none else lengths(1, "")
    elif "per_request" in node:
        node.problem("per_request", "is a column of the trace (NumImages)", fix="leave it out")
    size = node.parsed("size", parse_pixels) if is_image else None
    seconds = None if is_image else node.quantity("length", "s", minimum=1e-3)
    if seconds is not None and seconds > MOST_SOUND_S:
        node.wrong("length", "is too long", allowed="at most 24 h")
    share = node.number("share", 1.0, low=0.0, high=1.0)
    distinct = int(node.count("distinct", 1)) if "distinct" in node else None
    in_prompt = node.flag("in_prompt", False)
    node.done(("per_request", "distinct"))
    if share == 0.0 or is_none:  # text alone
        return None
    return MediaLoad(
        kind=kind,
        size=size or (seconds or 1.0, 0.0),
        per_request=draw,
        share=share,
        distinct=distinct,
        in_prompt=in_prompt,
        words={name: node.raw(name) for name in node},
    )


def _without_images(chunks: Iterator[RequestColumns]) -> Iterator[RequestColumns]:
    """The requests of a trace, none of which has images. Raises UserError for one that has some."""
    for columns in chunks:
        if columns.images is not None:
            raise UserError(
                "a request of the trace has images, and the scenario does not say how large they are",
                given=f"{columns.images.sum()} in requests {columns.first} to {columns.first + len(columns) - 1}",
                fix="traffic.images: {size: 1024x1024}",
            )
        yield columns


def requests_of(r: Traffic, block: int, longest: int) -> Iterator[RequestColumns] | Conversations | SessionLoad:
    """Requests in order of arrival; or conversations or sessions, where what comes depends on answers. block: tokens
    that a hash names; longest: tokens of a request that the cache still holds."""
    if is_sessions(r):
        return _sessions(r, block, longest)
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
        found = read_trace_columns(Path(r["trace"]), limit=r["limit"], speed=r["speed"])
        return found if any(load.kind == "image" for load in r.get("media", ())) else _without_images(found)
    if "turn_counts" in r and r["turn_counts"] is not None:
        return _asked_by_users(Conversations, r, block, longest)(
            requests=r["requests"],
            prompt=r["prompt_lengths"],
            output=r["output_lengths"],
            turns=r["turn_counts"],
        )
    rate = _rate_of(r)
    assert rate is not None
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


def _rate_of(r: Traffic) -> float | RateCurve | None:
    """The rate of a load; None of one of users."""
    rate = r.get("curve") or r.get("rate")
    assert not isinstance(rate, dict)
    return rate


def _asked_by_users(kind: type[D], r: Traffic, block: int, longest: int) -> partial[D]:
    """What conversations and agents have in common."""
    assert r["pauses"] is not None
    return partial(
        kind,
        think=r["pauses"],
        users=r.get("users", 0),
        rate=_rate_of(r),
        ramp_up_s=r.get("ramp_up", 0.0),
        until_s=r.get("duration", math.inf),
        seed=r["seed"],
        shared_prefix=r["shared_prefix"],
        block=block,
        longest=longest,
    )


def _sessions(r: Traffic, block: int, longest: int) -> SessionLoad:
    """Sessions of agents, or of a trace."""
    if "kinds" in r:
        assert r["sessions"] is not None
        return _asked_by_users(Agents, r, block, longest)(kinds=r["kinds"], sessions=r["sessions"]).load()
    rate, form, trace = _rate_of(r), r["form"], r["trace"]
    assert form is not None
    assert trace is not None
    found = read_sessions(
        Path(trace),
        form,
        block=block,
        longest=longest,
        limit=r["sessions"],
        speed=r["speed"],
        deltas=r["deltas"],
    )
    users = r.get("users", 0)
    begins: Callable[[], Iterator[float]] | None = None
    if rate is not None:
        gaps = np.random.default_rng(r["seed"]).exponential(1.0, len(found)).tolist()
        begins = partial(begins_at, rate, gaps)
    elif not users:
        begins = partial(iter, [one.at_s for one in found])
    return SessionLoad(
        make=lambda number: found[number] if number < len(found) else None,
        users=users,
        begins=begins,
        ramp_up_s=r.get("ramp_up", 0.0),
    )
