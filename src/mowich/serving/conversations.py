"""Users who wait for an answer before they ask again: conversations of several turns, with time to think between.

What a user asks next depends on when the last answer ended, so these requests cannot be drawn beforehand. Lengths,
turns and pauses are: they belong to the conversation, not to the order in which answers end, so that a slower machine
is asked the same questions.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Floats
from mowich.errors import UserError
from mowich.serving.arrivals import Draw
from mowich.serving.rate_curve import RateCurve
from mowich.serving.traffic.moments import earlier
from mowich.serving.traffic.requests import UserRequest
from mowich.units import parse

Pauses = Callable[[np.random.Generator, int], Floats]

LONGEST_PAUSE = 1e7
"""Most seconds of thought."""


def pauses(text: object, where: str) -> Pauses:
    """A distribution of times: "10 s", or "exponential(10 s)" of that mean.

    Raises UserError for anything else.
    """
    match = re.fullmatch(r"\s*exponential\s*\(([^)]*)\)\s*", str(text))
    mean = parse(match[1] if match else text, "s", where=where).value
    if not 0.0 <= mean <= LONGEST_PAUSE:
        raise UserError("must lie in 0 to 1e7 s", where=where, given=text)
    if match:
        return lambda rng, n: rng.exponential(mean, n)
    return lambda rng, n: np.full(n, mean)


@dataclass(slots=True, kw_only=True)
class Conversations:
    """Requests of users in turns. requests: in all; prompt: tokens that each turn adds to what was said; output:
    tokens of an answer; turns: of a conversation; think: between an answer and the next turn.

    users: that ask without end, the first time evenly over ramp_up_s; or rate: requests per second that begin
    conversations, one for each `turns` requests (None: users). until_s: nobody begins later. block: tokens that a hash
    names; shared_prefix: tokens at the start that all conversations have in common; longest: tokens of a prompt and
    its answer beyond which a conversation ends.
    """

    requests: int
    prompt: Draw
    output: Draw
    turns: Draw
    think: Pauses
    users: int = 0
    rate: float | RateCurve | None = None
    ramp_up_s: float = 0.0
    until_s: float = math.inf
    seed: int = 0
    shared_prefix: int = 0
    block: int = 512
    longest: int = 10**9
    _made: int = 0
    _prompts: list[int] = field(init=False)
    _outputs: list[int] = field(init=False)
    _pauses: list[float] = field(init=False)
    _turns: list[int] = field(init=False)
    _firsts: list[int] = field(init=False)
    _gaps: list[float] = field(init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        n = self.requests
        self._turns = [max(1, int(t)) for t in self.turns(rng, n)]
        self._firsts = np.concatenate([[0], np.cumsum(self._turns)[:-1]]).tolist()
        self._prompts = self.prompt(rng, n).astype(int).tolist()
        self._outputs = np.maximum(1, self.output(rng, n)).astype(int).tolist()
        self._pauses = self.think(rng, n).tolist()
        self._gaps = rng.exponential(1.0, n).tolist()

    def begins(self) -> Iterator[float]:
        """When those begin that do not wait for an answer, s."""
        if self.users:
            for user in range(self.users):
                at = self.ramp_up_s * user / self.users
                if earlier(at) > self.until_s:
                    return
                yield at
            return
        assert self.rate is not None
        mean = sum(self._turns) / len(self._turns)
        curve = self.rate if isinstance(self.rate, RateCurve) else RateCurve((0.0,), (self.rate,))
        begun = 0.0
        for come in itertools.count():
            begun += self._gaps[come % len(self._gaps)]
            at = curve.time_of(begun * mean)
            if earlier(at) > self.until_s or math.isinf(at):
                return
            yield at

    def starts(self) -> Iterator[UserRequest]:
        """The first turns that do not wait for an answer, in order of arrival."""
        for talk, at in enumerate(self.begins()):
            if self._made >= self.requests:
                return
            yield self._turn(talk, 0, at, 0)

    def columns(self) -> dict[str, NDArray[np.int64] | Floats]:
        """What was drawn."""
        whole = {"prompts": self._prompts, "outputs": self._outputs, "turns": self._turns, "firsts": self._firsts}
        columns: dict[str, NDArray[np.int64] | Floats] = {k: np.array(v, np.int64) for k, v in whole.items()}
        columns["pauses"] = np.array(self._pauses, np.float64)
        return columns

    def after(self, request: UserRequest) -> UserRequest | None:
        """What the user of an answered request asks next; None: nothing."""
        if self._made >= self.requests:
            return None
        talk, turn = request.conversation, request.turn
        at = request.last_token_s + self._pauses[self._at(talk, turn)]
        if earlier(at) > self.until_s:
            return None
        said = request.prompt + request.output
        last = turn + 1 >= self._turns[talk % len(self._turns)]
        after = self._at(talk, turn + 1)
        if not last and said + self._prompts[after] + self._outputs[after] <= self.longest:
            return self._turn(talk, turn + 1, at, said)
        return self._turn(talk + self.users, 0, at, 0) if self.users else None

    def _at(self, talk: int, turn: int) -> int:
        """Where the draws of a turn stand."""
        return (self._firsts[talk % len(self._firsts)] + turn) % len(self._prompts)

    def _turn(self, talk: int, turn: int, at: float, said: int) -> UserRequest:
        i = self._at(talk, turn)
        prompt, output = said + self._prompts[i], self._outputs[i]
        common, whole = self.shared_prefix // self.block, prompt // self.block
        spoken = (prompt + output) // self.block
        names = [*range(common), *(self._name(talk, k) for k in range(common, spoken))]
        out = UserRequest(str(self._made), at, prompt, output, tuple(names[:whole]))
        out.later = tuple(names[whole:spoken])
        out.conversation, out.turn = talk, turn
        self._made += 1
        return out

    def _name(self, talk: int, block: int) -> int:
        """A name for a block of a conversation, below 0: those of traces and of what all have in common are not."""
        return -1 - (talk * 1_000_003 + block)
