"""Sessions: requests that wait for one another's answers, as a graph.

A session is a list of calls of the model. Each call names the calls that it waits for and how long after them it comes:
the time of a tool, the thought of a user. It may wait for all of them or for the first ones: so sub-agents branch and
join. A chat is the special case of a chain (`conversations`); agents are drawn in `agents`, traces of sessions are read
in `session_traces`. When a call comes depends on answers; what it asks does not, so that a slower machine is asked the
same questions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from mowich.serving.traffic.moments import Agenda, earlier
from mowich.serving.traffic.requests import UserRequest

Edges = Sequence[tuple[int, float]]
"""(call of the same session, seconds after it)."""

NAMES_APART = 1_000_003
"""Blocks of one session that have names of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionCall:
    """One request of a session. after: calls whose answers it waits for; need: for how many of them (0: all); beside:
    calls that it follows from the moment that they are asked; at_s: not sooner than this after the session began;
    hashes: names of the prompt's blocks; later: of those that the answer fills.

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
    left out because a prompt outgrew the cache."""

    calls: Sequence[SessionCall]
    name: str = ""
    kind: str = ""
    at_s: float = 0.0
    pause_s: float = 0.0
    last: int | None = None
    is_cut: bool = False


TASK_PARTS = ("model", "queue", "loads", "tools")
"""Of the time to a task, along its critical path: prompts and answers, waiting in the engine's queue, loading cache
from other tiers, tools and thought between an answer and the next prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedSession:
    """What happened to a session. parts: seconds of the critical path by `TASK_PARTS`; their sum is end_s - begin_s.
    is_done: whether its last call was answered."""

    index: int
    session: CallSession
    begin_s: float
    end_s: float
    parts: dict[str, float]
    calls: int
    prompt: int
    cached: int
    output: int
    is_done: bool


@dataclass(slots=True)
class _Live:
    """A session under way. waits: answers that each call still waits for; ready: when what it has waited for so far is
    over; asked: its requests; brought: (call, whether it is its start) that each call came after; open: asked and not
    answered."""

    session: CallSession
    begin_s: float
    waits: list[int]
    ready: list[float]
    asked: dict[int, UserRequest]
    brought: dict[int, tuple[int, bool]]
    followers: list[list[tuple[int, float]]]
    beside: list[list[tuple[int, float]]]
    open: int = 0
    end_s: float = -1.0
    is_done: bool = False

    @classmethod
    def of(cls, session: CallSession, begin_s: float) -> _Live:
        n = len(session.calls)
        followers: list[list[tuple[int, float]]] = [[] for _ in range(n)]
        beside: list[list[tuple[int, float]]] = [[] for _ in range(n)]
        for i, call in enumerate(session.calls):
            for other, seconds in call.after:
                followers[other].append((i, seconds))
            for other, seconds in call.beside:
                beside[other].append((i, seconds))
        return cls(
            session=session,
            begin_s=begin_s,
            waits=[(call.need or len(call.after)) + len(call.beside) for call in session.calls],
            ready=[begin_s + call.at_s for call in session.calls],
            asked={},
            brought={},
            followers=followers,
            beside=beside,
        )


@dataclass(slots=True, kw_only=True)
class SessionLoad:
    """Sessions in the order of their number, and what follows each answer. make: the session of a number (None: no
    more). users: each begins one session after another, its first evenly over ramp_up_s: user u has the numbers u,
    u + users, ...; or begins: when each session begins (users 0). most: requests in all; until_s: nobody begins later;
    is_whole: a session that has begun is finished (else until_s stops it too); told: is told of each that ended.
    """

    make: Callable[[int], CallSession | None]
    users: int = 0
    begins: Iterator[float] | None = None
    ramp_up_s: float = 0.0
    most: float = math.inf
    until_s: float = math.inf
    is_whole: bool = True
    told: Callable[[EndedSession], None] | None = None
    _made: int = 0
    _live: dict[int, _Live] = field(default_factory=dict)

    def starts(self) -> Iterator[UserRequest]:
        """Requests that wait for no answer, in order of arrival."""
        beside: Agenda[UserRequest] = Agenda()
        for number, at in enumerate(self._begins()):
            while beside.next_s < at:
                yield beside.pop()[1]
            if self._made >= self.most or earlier(at) > self.until_s or math.isinf(at):
                break
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

    def _begins(self) -> Iterator[float]:
        """When the sessions begin that wait for no other."""
        if self.begins is not None:
            return self.begins
        return (self.ramp_up_s * user / self.users for user in range(self.users))

    def after(self, request: UserRequest) -> list[UserRequest]:
        """What is asked because a request was answered."""
        live = self._live[request.conversation]
        turn, end = request.turn, request.last_token_s
        live.open -= 1
        live.end_s = end if live.session.last is None else live.end_s
        out: list[UserRequest] = []
        for other, seconds in live.followers[turn]:
            self._wait_less(live, request.conversation, other, end + seconds, (turn, False), out)
        if turn == live.session.last or (live.session.last is None and not live.open):
            live.end_s, live.is_done = end, len(live.asked) == len(live.session.calls) or live.session.last is not None
            if self.users and live.is_done:
                out += self._begin(request.conversation + self.users, end + live.session.pause_s)
        if not live.open:
            del self._live[request.conversation]
            if self.told is not None:
                self.told(_ended(request.conversation, live))
        return out

    def _begin(self, number: int, at: float) -> list[UserRequest]:
        """Begin a session: the requests that wait for no answer."""
        out: list[UserRequest] = []
        if self._made >= self.most or earlier(at) > self.until_s:
            return out
        session = self.make(number)
        if session is None:
            return out
        live = self._live[number] = _Live.of(session, at)
        for i in [i for i, wait in enumerate(live.waits) if not wait]:  # those beside them are asked with them
            self._ask(live, number, i, out)
        return out

    def _wait_less(
        self, live: _Live, number: int, i: int, ready: float, by: tuple[int, bool], out: list[UserRequest]
    ) -> None:
        """A call has one thing less to wait for; asked when that was the last."""
        live.waits[i] -= 1
        if live.waits[i] >= 0 and ready >= live.ready[i]:
            live.ready[i], live.brought[i] = ready, by
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
        self._made += 1
        live.asked[i] = request
        live.open += 1
        out.append(request)
        for other, seconds in live.beside[i]:
            self._wait_less(live, number, other, at + seconds, (i, True), out)


def _ended(number: int, live: _Live) -> EndedSession:
    """A session that is over, with the parts of its critical path: from its last answer back, each call with what it
    came after."""
    parts = dict.fromkeys(TASK_PARTS, 0.0)
    session = live.session
    i = session.last if session.last is not None and session.last in live.asked else None
    if i is None:
        i = max(live.asked, key=lambda k: (live.asked[k].last_token_s, k))
    end, from_start = live.asked[i].last_token_s, False
    while True:
        request = live.asked[i]
        if not from_start:
            parts["queue"] += request.scheduled_s - request.arrival_s
            parts["loads"] += request.load_s
            parts["model"] += request.last_token_s - request.scheduled_s - request.load_s
        before = live.brought.get(i)
        if before is None:
            parts["tools"] += request.arrival_s - live.begin_s
            break
        i, from_start = before
        parent = live.asked[i]
        parts["tools"] += request.arrival_s - (parent.arrival_s if from_start else parent.last_token_s)
    some = live.asked.values()
    return EndedSession(
        index=number,
        session=session,
        begin_s=live.begin_s,
        end_s=end,
        parts=parts,
        calls=len(live.asked),
        prompt=sum(r.prompt for r in some),
        cached=sum(r.cached for r in some),
        output=sum(r.output for r in some),
        is_done=live.is_done,
    )


# names of blocks
# ----------------------------------------------------------------------------------------------------------------------


class BlockNames:
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
        >>> names = BlockNames(0, 16)
        >>> start = Context(names).grown(40)
        >>> a, b = start.grown(20), start.grown(20)
        >>> a.tokens, a.names[:2] == b.names[:2], a.names[2] == b.names[2]
        (60, True, False)
    """

    __slots__ = ("_common", "_of", "names", "tokens")

    def __init__(
        self, of: BlockNames, common: tuple[int, ...] = (), tokens: int = 0, names: tuple[int, ...] = ()
    ) -> None:
        self._of, self._common, self.tokens, self.names = of, common, tokens, names

    def grown(self, tokens: int) -> Context:
        """With so many tokens more, that no other context has (but for those that sessions have in common)."""
        whole = (self.tokens + tokens) // self._of.block
        held, common = len(self.names), self._common
        names = (*self.names, *common[held:whole])
        more = tuple(self._of.fresh() for _ in range(whole - len(names)))
        return Context(self._of, common, self.tokens + tokens, names + more)
