"""Users who wait for an answer before they ask again: conversations of several turns, with time to think between.

A conversation is a session (`sessions`) whose calls are a chain. Lengths, turns and pauses belong to the conversation,
not to the order in which answers end, so that a slower machine is asked the same questions.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Floats
from mowich.errors import UserError
from mowich.serving.arrivals import Draw, lognormal_sigma
from mowich.serving.rate_curve import RateCurve
from mowich.serving.sessions import CallSession, Context, SessionBlocks, SessionCall, SessionLoad
from mowich.serving.tenants import Tenants
from mowich.serving.traffic.adapters import BASE
from mowich.serving.traffic.requests import UserRequest
from mowich.units import parse

Pauses = Callable[[np.random.Generator, int], Floats]

LONGEST_PAUSE = 1e7
"""Most seconds of thought."""

PAUSES = '"10 s", "exponential(10 s)", "uniform(1 s, 5 s)", "lognormal(2 s, p95 20 s)"'
"""What a distribution of times is, in words."""


def pauses(text: object, where: str) -> Pauses:
    """A distribution of times: "10 s", "exponential(10 s)" of that mean, "uniform(1 s, 5 s)", or "lognormal(2 s, p95
    20 s)" (median and 95th percentile).

    Raises UserError for anything else.
    """
    match = re.fullmatch(r"\s*(exponential|uniform|lognormal)\s*\(([^)]*)\)\s*", str(text))
    kind, words = (match[1], match[2].split(",")) if match else ("", [text])
    if len(words) != (2 if kind in ("uniform", "lognormal") else 1):
        raise UserError("not a distribution of times", where=where, given=text, allowed=PAUSES)
    if kind == "lognormal":
        words[1] = str(words[1]).strip().removeprefix("p95")
    a, *rest = (parse(w.strip() if isinstance(w, str) else w, "s", where=where).value for w in words)
    if not all(0.0 <= x <= LONGEST_PAUSE for x in (a, *rest)):
        raise UserError("must lie in 0 to 1e7 s", where=where, given=text)
    if rest and (rest[0] < a or (kind == "lognormal" and a == 0.0)):
        raise UserError("the second time is below the first, or a median is 0", where=where, given=text)
    if kind == "exponential":
        return lambda rng, n: rng.exponential(a, n)
    if kind == "uniform":
        return lambda rng, n: rng.uniform(a, rest[0], n)
    if kind == "lognormal":
        sigma = lognormal_sigma(a, rest[0])
        return lambda rng, n: a * np.exp(sigma * rng.standard_normal(n))
    return lambda rng, n: np.full(n, a)


def begins_at(rate: float | RateCurve, gaps: list[float], requests_each: float = 1.0) -> Iterator[float]:
    """When sessions begin that bring `rate` requests per second, `requests_each` of each: gaps of mean 1, again and
    again, placed where the integral of the rate reaches them."""
    curve = rate if isinstance(rate, RateCurve) else RateCurve((0.0,), (rate,))
    begun = 0.0
    for come in itertools.count():
        begun += gaps[come % len(gaps)]
        yield curve.time_of(begun * requests_each)


@dataclass(slots=True, kw_only=True)
class DrawnSessions:
    """What is drawn of sessions of any kind. users: each with one at a time, the first evenly over ramp_up_s; or rate:
    that begins sessions (users 0); think: from the end of a session, or of an answer, until its user asks again;
    until_s: none begins later; shared_prefix: tokens at the start that all have in common; block: tokens that a hash
    names; longest: tokens of a prompt and its answer beyond which a session is cut."""

    think: Pauses
    users: int = 0
    rate: float | RateCurve | None = None
    ramp_up_s: float = 0.0
    until_s: float = math.inf
    seed: int = 0
    shared_prefix: int = 0
    block: int = 512
    longest: int = 10**9

    def begins_by(self, gaps: list[float], requests_each: float = 1.0) -> Callable[[], Iterator[float]] | None:
        """When sessions begin, at gaps of mean 1 (`begins_at`); None where users begin them."""
        return None if self.users or self.rate is None else partial(begins_at, self.rate, gaps, requests_each)


@dataclass(slots=True, kw_only=True)
class Conversations(DrawnSessions):
    """Requests of users in turns. requests: in all; prompt: tokens that each turn adds to what was said; output:
    tokens of an answer; turns: of a conversation; rate: requests per second, one conversation for each `turns` of
    them."""

    requests: int
    prompt: Draw
    output: Draw
    turns: Draw
    tenants: Tenants | None = None
    _prompts: list[int] = field(init=False)
    _outputs: list[int] = field(init=False)
    _pauses: list[float] = field(init=False)
    _turns: list[int] = field(init=False)
    _firsts: list[int] = field(init=False)
    _load: SessionLoad = field(init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        n = self.requests
        self._turns = [max(1, int(t)) for t in self.turns(rng, n)]
        self._firsts = np.concatenate([[0], np.cumsum(self._turns)[:-1]]).tolist()
        self._prompts = self.prompt(rng, n).astype(int).tolist()
        self._outputs = np.maximum(1, self.output(rng, n)).astype(int).tolist()
        self._pauses = self.think(rng, n).tolist()
        gaps = rng.exponential(1.0, n).tolist()
        mean = sum(self._turns) / len(self._turns)
        self._load = SessionLoad(
            make=self.session,
            users=self.users,
            begins=self.begins_by(gaps, mean),
            ramp_up_s=self.ramp_up_s,
            most=self.requests,
            until_s=self.until_s,
            is_whole=False,
        )

    def begins(self) -> Iterator[float]:
        """When those begin that do not wait for an answer, s."""
        return self._load.begin_times()

    def columns(self) -> dict[str, NDArray[np.int64] | Floats]:
        """What was drawn."""
        whole = {"prompts": self._prompts, "outputs": self._outputs, "turns": self._turns, "firsts": self._firsts}
        columns: dict[str, NDArray[np.int64] | Floats] = {k: np.array(v, np.int64) for k, v in whole.items()}
        columns["pauses"] = np.array(self._pauses, np.float64)
        return columns

    def starts(self) -> Iterator[UserRequest]:
        """The first turns that do not wait for an answer, in order of arrival."""
        return self._load.starts()

    def after(self, request: UserRequest) -> list[UserRequest]:
        """What the user of an answered request asks next."""
        return self._load.after(request)

    def session(self, talk: int) -> CallSession:
        """A conversation, as the chain that it is."""
        common = tuple(range(self.shared_prefix // self.block))
        said = Context(SessionBlocks(talk, self.block, len(common)), common)
        adapter = BASE if self.tenants is None else self.tenants.of(talk % self.users if self.users else talk)
        calls: list[SessionCall] = []
        i = first = self._firsts[talk % len(self._firsts)]
        for turn in range(self._turns[talk % len(self._turns)]):
            at = (first + turn) % len(self._prompts)
            if turn and said.tokens + self._prompts[at] + self._outputs[at] > self.longest:
                break
            asked = said.grown(self._prompts[at])
            said = asked.grown(self._outputs[at])
            hashes, later = asked.names, said.names[len(asked.names) :]
            if self.tenants is not None:
                hashes, later = (tuple(self.tenants.name(b, adapter) for b in names) for names in (hashes, later))
            after = ((turn - 1, self._pauses[i]),) if turn else ()
            calls.append(
                SessionCall(prompt=asked.tokens, output=self._outputs[at], hashes=hashes, later=later, after=after)
            )
            i = at
        return CallSession(calls=calls, pause_s=self._pauses[i], last=len(calls) - 1, adapter=adapter)
