"""Sessions: requests that wait for one another's answers, as a graph.

A session is a list of calls of the model. Each call names the calls that it waits for and how long after them it comes:
the time of a tool, the thought of a user. It may wait for all of them or for the first ones: so sub-agents branch and
join. A chat is the special case of a chain (`conversations`); agents are drawn in `agents`, traces of sessions are read
in `session_traces`. When a call comes depends on answers; what it asks does not, so that a slower machine is asked the
same questions.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from mowich.arrays import Floats
from mowich.serving.traffic.adapters import BASE
from mowich.serving.traffic.columns import Counts
from mowich.serving.traffic.moments import Agenda, earlier
from mowich.serving.traffic.requests import UserRequest

Edges = Sequence[tuple[int, float]]
"""(call of the same session, seconds after it)."""

NAMES_APART = 1_000_003
"""Blocks of one session that have names of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionCall:
    """One request of a session. after: calls whose answers it waits for; need: for how many of them (0: all); beside:
    calls that it follows from the moment that they are asked; at_s: not sooner than this after the session began (0 for
    one of those that wait for none); hashes: names of the prompt's blocks; later: of those that the answer fills.

    Units: prompt, output in tokens; seconds.
    """

    prompt: int
    output: int
    hashes: tuple[int, ...] = ()
    later: tuple[int, ...] = ()
    after: Edges = ()
    beside: Edges = ()
    need: int = 0
    at_s: float = 0.0
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSession:
    """Calls, each behind those that it waits for. at_s: when it began, as recorded; pause_s: from its end until its
    user begins another; last: the call whose answer ends it (None: the last answer of all); is_cut: whether calls were
    left out because a prompt outgrew the cache; adapter: the LoRA adapter that its calls ask for."""

    calls: Sequence[SessionCall]
    name: str = ""
    kind: str = ""
    at_s: float = 0.0
    pause_s: float = 0.0
    last: int | None = None
    is_cut: bool = False
    adapter: int = BASE


TASK_PARTS = ("model", "queue", "loads", "tools")
"""Of the time to a task, along its critical path: prompts and answers, waiting in the engine's queue, loading cache
from other tiers, tools and thought between an answer and the next prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedSession:
    """What happened to a session. name, kind, is_cut: as of `CallSession`; parts: seconds of the critical path by
    `TASK_PARTS`; their sum is end_s - begin_s."""

    name: str
    kind: str
    is_cut: bool
    begin_s: float
    end_s: float
    parts: dict[str, float]
    calls: int
    prompt: int
    cached: int
    output: int


class AnsweredCall(Protocol):
    """What is known of a call that was answered: a request, or a row of answers."""

    @property
    def arrival_s(self) -> float: ...
    @property
    def scheduled_s(self) -> float: ...
    @property
    def last_token_s(self) -> float: ...
    @property
    def loads_s(self) -> float: ...
    @property
    def prompt(self) -> int: ...
    @property
    def cached(self) -> int: ...
    @property
    def output(self) -> int: ...


def ended_session(session: CallSession, answered: Mapping[int, AnsweredCall]) -> EndedSession:
    """A session whose calls were answered, with the parts of its critical path: from its last answer back, each call
    with what it came after."""
    parts = dict.fromkeys(TASK_PARTS, 0.0)
    begin = min(answered[i].arrival_s - call.at_s for i, call in enumerate(session.calls) if not _waits(call))
    i = session.last
    if i is None:
        i = max(answered, key=lambda k: (answered[k].last_token_s, k))
    end, from_start = answered[i].last_token_s, False
    while True:
        one = answered[i]
        if not from_start:
            before_s = one.scheduled_s - one.arrival_s
            loads_s = min(one.loads_s, before_s)  # those beside the prompt's own steps are in these
            parts["queue"] += before_s - loads_s
            parts["loads"] += loads_s
            parts["model"] += one.last_token_s - one.scheduled_s
        before = _brought(session.calls[i], one.arrival_s, answered)
        if before is None:
            parts["tools"] += one.arrival_s - begin
            break
        i, from_start = before
        parts["tools"] += one.arrival_s - (answered[i].arrival_s if from_start else answered[i].last_token_s)
    some = answered.values()
    return EndedSession(
        name=session.name,
        kind=session.kind,
        is_cut=session.is_cut,
        begin_s=begin,
        end_s=end,
        parts=parts,
        calls=len(answered),
        prompt=sum(one.prompt for one in some),
        cached=sum(one.cached for one in some),
        output=sum(one.output for one in some),
    )


def _waits(call: SessionCall) -> int:
    """Of how many calls one waits for the answer, or the start."""
    return (call.need or len(call.after)) + len(call.beside)


def _brought(call: SessionCall, at_s: float, answered: Mapping[int, AnsweredCall]) -> tuple[int, bool] | None:
    """(the call that one came after, whether after its start); None where it came at its own moment."""
    found = ((other, False, answered[other].last_token_s + seconds) for other, seconds in call.after)
    started = ((other, True, answered[other].arrival_s + seconds) for other, seconds in call.beside)
    return next(((other, starts) for other, starts, ready in (*found, *started) if ready == at_s), None)


@dataclass(slots=True)
class _Live:
    """A session under way. waits: answers that each call still waits for; ready: when what it has waited for so far is
    over; asked: how many calls were asked; open: of these, not answered."""

    session: CallSession
    waits: list[int]
    ready: list[float]
    followers: list[list[tuple[int, float]]]
    beside: list[list[tuple[int, float]]]
    asked: int = 0
    open: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionColumns:
    """Sessions as columns, for the compiled code. users, until_s: as of `SessionLoad`; first [sessions + 1]: the number
    of the first call of each; last: the place in a session of the call whose answer ends it (-1: the last answer of
    all); pauses: from its end until its user begins another; starts: when those begin that wait for no other. Of each
    call: prompts, outputs, waits (calls that it waits for), at_s, names_at [calls + 1] and whole (where its names
    begin, how many are of the prompt); edges_at [calls + 1]: where those begin that follow it: edges (their place in
    the session), edge_s (seconds after it), from_start (whether after its start); ids: what calls are called."""

    sessions: int
    users: int
    until_s: float
    first: Counts
    last: Counts
    pauses: Floats
    starts: Floats
    prompts: Counts
    outputs: Counts
    waits: Counts
    at_s: Floats
    names_at: Counts
    whole: Counts
    names: Sequence[int]
    edges_at: Counts
    edges: Counts
    edge_s: Floats
    from_start: Counts
    ids: list[str]


MOST_NAMES = 20_000_000
"""Names of blocks that are held for the compiled code, 160 MB: sessions with more are played by the Python code."""


@dataclass(slots=True, kw_only=True)
class SessionLoad:
    """Sessions in the order of their number, and what follows each answer. make: the session of a number (None: no
    more). users: each begins one session after another, its first evenly over ramp_up_s: user u has the numbers u,
    u + users, ...; or begins: when each session begins (users 0). most: requests in all; until_s: nobody begins later;
    is_whole: a session that has begun is finished (else until_s and most stop it too).
    """

    make: Callable[[int], CallSession | None]
    users: int = 0
    begins: Callable[[], Iterator[float]] | None = None
    ramp_up_s: float = 0.0
    most: float = math.inf
    until_s: float = math.inf
    is_whole: bool = True
    _made: int = 0
    _live: dict[int, _Live] = field(default_factory=dict)
    _scripts: dict[int, CallSession] = field(default_factory=dict)

    def script(self, number: int) -> CallSession | None:
        """The session of a number, made once."""
        found = self._scripts.get(number)
        if found is None and (found := self.make(number)) is not None:
            self._scripts[number] = found
        return found

    def forget(self, number: int) -> None:
        """A session that is over is not asked for again."""
        self._scripts.pop(number, None)

    def begin_times(self) -> Iterator[float]:
        """When the sessions begin that wait for no other, s."""
        if self.begins is None:
            times: Iterator[float] = (self.ramp_up_s * user / self.users for user in range(self.users))
        else:
            times = self.begins()
        return itertools.takewhile(lambda at: earlier(at) <= self.until_s and not math.isinf(at), times)

    def starts(self) -> Iterator[UserRequest]:
        """Requests that wait for no answer, in order of arrival."""
        beside: Agenda[UserRequest] = Agenda()
        for number, at in enumerate(self.begin_times()):
            while beside.next_s < at:
                yield beside.pop()[1]
            found = self._begin(number, at)
            if not found:
                break
            for request in found:
                if request is found[0] and request.arrival_s <= at and not beside:
                    yield request
                else:
                    beside.put(request.arrival_s, request)
        while beside:
            yield beside.pop()[1]

    def after(self, request: UserRequest) -> list[UserRequest]:
        """What is asked because a request was answered."""
        number, turn, end = request.conversation, request.turn, request.last_token_s
        live = self._live[number]
        live.open -= 1
        out: list[UserRequest] = []
        for other, seconds in live.followers[turn]:
            self._wait_less(live, number, other, end + seconds, out)
        last = live.session.last
        if self.users and (turn == last or (last is None and not live.open)):
            out += self._begin(number + self.users, end + live.session.pause_s)
        if not live.open:
            del self._live[number]
            if not self.is_whole:  # nobody tallies these
                self.forget(number)
        return out

    def _begin(self, number: int, at: float) -> list[UserRequest]:
        """Begin a session: the requests that wait for no answer."""
        out: list[UserRequest] = []
        if self._made >= self.most or earlier(at) > self.until_s:
            return out
        session = self.script(number)
        if session is None:
            return out
        n = len(session.calls)
        live = self._live[number] = _Live(
            session,
            [_waits(call) for call in session.calls],
            [at + call.at_s for call in session.calls],
            [[] for _ in range(n)],
            [[] for _ in range(n)],
        )
        for i, call in enumerate(session.calls):
            for other, seconds in call.after:
                live.followers[other].append((i, seconds))
            for other, seconds in call.beside:
                live.beside[other].append((i, seconds))
        for i in [i for i, wait in enumerate(live.waits) if not wait]:  # those beside them are asked with them
            self._ask(live, number, i, out)
        return out

    def _wait_less(self, live: _Live, number: int, i: int, ready: float, out: list[UserRequest]) -> None:
        """A call has one thing less to wait for; asked when that was the last."""
        live.waits[i] -= 1
        if live.waits[i] >= 0:
            live.ready[i] = max(live.ready[i], ready)
        if live.waits[i] == 0:
            self._ask(live, number, i, out)

    def _ask(self, live: _Live, number: int, i: int, out: list[UserRequest]) -> None:
        """Ask a call, and those that follow its start."""
        at = live.ready[i]
        if self._made >= self.most or (not self.is_whole and earlier(at) > self.until_s):
            return
        call = live.session.calls[i]
        request = UserRequest(call.name or str(self._made), at, call.prompt, call.output, call.hashes)
        request.later = call.later
        request.conversation, request.turn = number, i
        request.adapter = live.session.adapter
        self._made += 1
        live.open += 1
        out.append(request)
        for other, seconds in live.beside[i]:
            self._wait_less(live, number, other, at + seconds, out)

    def columns(self) -> SessionColumns | None:
        """All sessions as columns; None where they are too many."""
        sessions: list[CallSession] = []
        left = MOST_NAMES
        while left >= 0 and (one := self.script(len(sessions))) is not None:
            sessions.append(one)
            left -= sum(len(call.hashes) + len(call.later) for call in one.calls)
        if left < 0:
            return None
        calls = [call for one in sessions for call in one.calls]
        follow = [followers for one in sessions for followers in _followers(one.calls)]
        edges = [edge for some in follow for edge in some]
        return SessionColumns(
            sessions=len(sessions),
            users=self.users,
            until_s=self.until_s,
            first=_offsets(len(one.calls) for one in sessions),
            last=np.array([-1 if one.last is None else one.last for one in sessions], np.int64),
            pauses=np.array([one.pause_s for one in sessions], np.float64),
            starts=np.array(list(itertools.islice(self.begin_times(), len(sessions))), np.float64),
            prompts=np.array([call.prompt for call in calls], np.int64),
            outputs=np.array([call.output for call in calls], np.int64),
            waits=np.array([_waits(call) for call in calls], np.int64),
            at_s=np.array([call.at_s for call in calls], np.float64),
            names_at=_offsets(len(call.hashes) + len(call.later) for call in calls),
            whole=np.array([len(call.hashes) for call in calls], np.int64),
            names=[name for call in calls for name in (*call.hashes, *call.later)],
            edges_at=_offsets(map(len, follow)),
            edges=np.array([i for i, _, _ in edges], np.int64),
            edge_s=np.array([seconds for _, seconds, _ in edges], np.float64),
            from_start=np.array([starts for _, _, starts in edges], np.int64),
            ids=[call.name or str(i) for i, call in enumerate(calls)],
        )


def _followers(calls: Sequence[SessionCall]) -> list[list[tuple[int, float, bool]]]:
    """For each call: (call that follows it, seconds, whether after its start)."""
    out: list[list[tuple[int, float, bool]]] = [[] for _ in calls]
    for i, call in enumerate(calls):
        for other, seconds in call.after:
            out[other].append((i, seconds, False))
        for other, seconds in call.beside:
            out[other].append((i, seconds, True))
    return out


def _offsets(counts: Iterable[int]) -> Counts:
    return np.array([0, *itertools.accumulate(counts)], np.int64)


# names of blocks
# ----------------------------------------------------------------------------------------------------------------------


class SessionBlocks:
    """Names for the blocks of one session, below 0: those of traces and of what sessions have in common are not."""

    __slots__ = ("_next", "block")

    def __init__(self, session: int, block: int, first: int = 0) -> None:
        self.block = block
        self._next = -1 - (session * NAMES_APART + first)

    def fresh(self) -> int:
        self._next -= 1
        return self._next + 1


class Context:
    """Tokens that stand before an answer, and the names of their whole blocks. Two contexts have the same names as far
    as they have the same tokens.

    Example:
        >>> names = SessionBlocks(0, 16)
        >>> start = Context(names).grown(40)
        >>> a, b = start.grown(20), start.grown(20)
        >>> a.tokens, a.names[:2] == b.names[:2], a.names[2] == b.names[2]
        (60, True, False)
    """

    __slots__ = ("_common", "_of", "names", "tokens")

    def __init__(
        self, of: SessionBlocks, common: tuple[int, ...] = (), tokens: int = 0, names: tuple[int, ...] = ()
    ) -> None:
        self._of, self._common, self.tokens, self.names = of, common, tokens, names

    def grown(self, tokens: int) -> Context:
        """With so many tokens more, that no other context has (but for those that sessions have in common)."""
        whole = (self.tokens + tokens) // self._of.block
        held, common = len(self.names), self._common
        names = (*self.names, *common[held:whole])
        more = tuple(self._of.fresh() for _ in range(whole - len(names)))
        return Context(self._of, common, self.tokens + tokens, names + more)
