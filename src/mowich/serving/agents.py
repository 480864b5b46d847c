"""Agents: sessions that call a model, run a tool, and call it again, drawn from what is said of each kind of them.

Everything that a session asks, and how long its tools take, is drawn by the number of the session. It does not depend
on when answers end, or on how many sub-agents there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Floats
from mowich.serving.arrivals import Draw
from mowich.serving.conversations import DrawnSessions, Pauses
from mowich.serving.sessions import CallSession, Context, SessionBlocks, SessionCall, SessionLoad
from mowich.sums import float_sum

JOINS = ("all", "first")
"""When the agent goes on: after the answers of all its sub-agents, or after the first. Those that it does not wait for
are answered to their end all the same."""

SYSTEMS_APART = 10**9
"""Names of blocks for the system prompt of each kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """What happens between an answer and the next prompt. share: of the turns; time: seconds; tokens: that it
    returns."""

    name: str
    share: float
    time: Pauses
    tokens: Draw | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Subagents:
    """Agents that an agent starts at once. chance: that it does so after a turn, in the place of a tool; count: how
    many; turns, prompt, output: of each; returns: tokens of each that go into the agent's next prompt; join: `JOINS`;
    system: tokens of their own system prompt (None: they begin with all that their agent has said)."""

    chance: float
    count: Draw
    turns: Draw
    prompt: Draw
    output: Draw
    returns: Draw
    join: str
    system: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentKind:
    """One kind of agent. share: of the sessions; system: tokens of system prompt and tool definitions, the same in all
    its sessions; prompt: tokens of a task; turns: calls of the model; output: tokens of an answer; thinking: tokens
    before it, that stay in later prompts where keeps_thinking says so; compact_at, compact_to: tokens of a context from
    which it is summed up, and of the summary."""

    name: str
    share: float
    system: int
    prompt: Draw
    turns: Draw
    output: Draw
    thinking: Draw | None
    keeps_thinking: bool
    tools: Sequence[Tool]
    subagents: Subagents | None
    compact_at: float
    compact_to: int


@dataclass(slots=True, kw_only=True)
class _Drawn:
    """What the sessions of one kind ask: by session, and by turn from `firsts` on."""

    turns: list[int]
    firsts: list[int]
    prompts: list[int]
    outputs: list[int]
    tool_s: list[float]
    thinking: list[int]
    returned: list[int]
    pauses: list[float]
    gaps: list[float]
    branches: list[bool]


def _whole(values: np.ndarray) -> list[int]:
    return [max(1, int(v)) for v in values.tolist()]


def _chosen(shares: list[float], draws: Floats) -> NDArray[np.int64]:
    """Which of some kinds each draw of 0 to 1 is, by their shares of the whole."""
    bounds = np.cumsum(shares)
    return np.minimum(np.searchsorted(bounds / bounds[-1], draws, side="right"), len(shares) - 1)


@dataclass(slots=True, kw_only=True)
class Agents(DrawnSessions):
    """Sessions of agents. sessions: in all; rate: sessions that begin per second; shared_prefix: of the system prompts
    of all kinds.

    With one kind of one turn and no tools this is `Conversations` of one turn.
    """

    kinds: Sequence[AgentKind]
    sessions: int
    _kind_of: list[tuple[int, int]] = field(init=False)
    _drawn: list[_Drawn] = field(init=False)

    def __post_init__(self) -> None:
        n, kinds = self.sessions, self.kinds
        if len(kinds) == 1:
            chosen = [0] * n
        else:
            chosen = _chosen([kind.share for kind in kinds], np.random.default_rng([self.seed, 0]).random(n)).tolist()
        counts = [0] * len(kinds)
        self._kind_of = []
        for k in chosen:
            self._kind_of.append((k, counts[k]))
            counts[k] += 1
        self._drawn = [self._draws(k, count) for k, count in enumerate(counts)]

    def _draws(self, k: int, count: int) -> _Drawn:
        kind = self.kinds[k]
        rng = np.random.default_rng(self.seed if len(self.kinds) == 1 else [self.seed, 1, k])
        more = np.random.default_rng([self.seed, 2, k])
        turns = _whole(kind.turns(rng, count))
        total = sum(turns)
        prompts, outputs = _whole(kind.prompt(rng, count)), _whole(kind.output(rng, total))
        tool_s, returned = np.zeros(total), np.zeros(total)
        used = np.zeros(total, dtype=int)
        if len(kind.tools) > 1:
            used = _chosen([tool.share for tool in kind.tools], more.random(total))
        for i, tool in enumerate(kind.tools):
            here = used == i
            own = rng if len(kind.tools) == 1 else more
            tool_s[here] = tool.time(own, int(here.sum()))
            if tool.tokens is not None:
                returned[here] = tool.tokens(more, int(here.sum()))
        pauses = self.think(rng, count).tolist()
        gaps = rng.exponential(1.0, max(1, count)).tolist()
        chance = 0.0 if kind.subagents is None else kind.subagents.chance
        branches = np.random.default_rng([self.seed, 5, k]).random(total) < chance
        thinking = [0] * total if kind.thinking is None else _whole(kind.thinking(more, total))
        return _Drawn(
            turns=turns,
            firsts=np.concatenate([[0], np.cumsum(turns)[:-1]]).astype(int).tolist() if turns else [],
            prompts=prompts,
            outputs=outputs,
            tool_s=tool_s.tolist(),
            thinking=thinking,
            returned=returned.astype(int).tolist(),
            pauses=pauses,
            gaps=gaps,
            branches=branches.tolist(),
        )

    def load(self) -> SessionLoad:
        """The sessions, to be played."""
        return SessionLoad(
            make=self.session,
            users=self.users,
            begins=self.begins_by(self._gaps()),
            ramp_up_s=self.ramp_up_s,
            until_s=self.until_s,
        )

    def _gaps(self) -> list[float]:
        if len(self.kinds) == 1:
            return self._drawn[0].gaps
        gaps: list[float] = np.random.default_rng([self.seed, 3]).exponential(1.0, self.sessions).tolist()
        return gaps

    def session(self, number: int) -> CallSession | None:
        """The session of a number; None: there are no more."""
        if number >= self.sessions:
            return None
        return _Script(self, number).session()

    def common(self, k: int, system: int, of: int = 0) -> tuple[int, ...]:
        """Names of the blocks of a system prompt: of kind k, of its sub-agents (of 1)."""
        shared, whole = self.shared_prefix // self.block, system // self.block
        own = (2 * k + of) * SYSTEMS_APART
        return tuple(range(min(shared, whole))) + tuple(own + b for b in range(shared, whole))


class _Script:
    """The calls of one session, as they are written down."""

    __slots__ = ("agents", "calls", "drawn", "is_cut", "k", "kind", "names", "nth", "number")

    def __init__(self, agents: Agents, number: int) -> None:
        self.agents, self.number = agents, number
        self.k, self.nth = agents._kind_of[number]
        self.kind, self.drawn = agents.kinds[self.k], agents._drawn[self.k]
        self.names = SessionBlocks(number, agents.block, agents.shared_prefix // agents.block)
        self.calls: list[SessionCall] = []
        self.is_cut = False

    def _call(
        self, context: Context, output: int, after: Sequence[tuple[int, float]], need: int = 0
    ) -> tuple[int, Context] | None:
        """A call behind a context: (its number, the context with its answer). None, and the session is cut, where the
        cache could not hold it."""
        if self.calls and context.tokens + output > self.agents.longest:
            self.is_cut = True
            return None
        said = context.grown(output)
        later = said.names[len(context.names) :]
        self.calls.append(
            SessionCall(
                prompt=context.tokens,
                output=output,
                hashes=context.names,
                later=later,
                after=tuple(after),
                need=need,
                name=f"{self.number}.{len(self.calls)}",
            )
        )
        return len(self.calls) - 1, said

    def session(self) -> CallSession:
        kind, drawn = self.kind, self.drawn
        first, turns = drawn.firsts[self.nth], drawn.turns[self.nth]
        start = Context(self.names, self.agents.common(self.k, kind.system))
        context = start.grown(kind.system + drawn.prompts[self.nth])
        after: Sequence[tuple[int, float]] = ()
        need, last = 0, 0
        for i in range(first, first + turns):
            think, answer = drawn.thinking[i], drawn.outputs[i]
            if self.calls and context.tokens + think + answer > kind.compact_at:
                found = self._call(context, kind.compact_to, after, need)
                if found is None:
                    break
                after, need = ((found[0], 0.0),), 0
                context = start.grown(kind.system + kind.compact_to)
            found = self._call(context, think + answer, after, need)
            if found is None:
                break
            last, said = found
            context = said if kind.keeps_thinking or not think else context.grown(answer)
            after, need = ((last, drawn.tool_s[i]),), 0
            starts = drawn.branches[i] and i + 1 < first + turns
            branches = self._branches(i - first, last, context) if starts else None
            if branches is None:
                context = context.grown(drawn.returned[i]) if drawn.returned[i] else context
            else:
                ends, returned = branches
                context = context.grown(returned)
                after = tuple((end, 0.0) for end in ends)
                need = 1 if kind.subagents is not None and kind.subagents.join == "first" else 0
        return CallSession(
            calls=self.calls,
            name=str(self.number),
            kind=kind.name,
            last=last,
            pause_s=drawn.pauses[self.nth],
            is_cut=self.is_cut,
        )

    def _branches(self, turn: int, asked: int, context: Context) -> tuple[list[int], int] | None:
        """Sub-agents: (their last calls, tokens that go into the next prompt); None where none has room."""
        subs = self.kind.subagents
        assert subs is not None
        seeds = (self.agents.seed, 4, self.number, turn)
        rng = np.random.default_rng(seeds)
        ends, returns = [], []
        for branch in range(int(subs.count(rng, 1)[0])):
            own = np.random.default_rng((*seeds, branch))
            turns = int(subs.turns(own, 1)[0])
            prompt, returned = int(subs.prompt(own, 1)[0]), int(subs.returns(own, 1)[0])
            end = self._branch(own, turns, asked, context, prompt)
            if end is not None:
                ends.append(end)
                returns.append(returned)
        if not ends:
            return None
        return ends, sum(returns) if subs.join == "all" else returns[0]

    def _branch(self, rng: np.random.Generator, turns: int, asked: int, context: Context, prompt: int) -> int | None:
        """One sub-agent: its last call; None where not even its first has room."""
        subs, tools = self.kind.subagents, self.kind.tools
        assert subs is not None
        if subs.system is not None:
            context = Context(self.names, self.agents.common(self.k, subs.system, 1)).grown(subs.system)
        context = context.grown(prompt)
        end, pause = None, 0.0
        for _ in range(turns):
            found = self._call(context, max(1, int(subs.output(rng, 1)[0])), ((asked, pause),))
            if found is None:
                break
            asked, context = found
            end = asked
            if tools:
                at = np.searchsorted(
                    np.cumsum([t.share for t in tools]), rng.random() * float_sum(t.share for t in tools)
                )
                tool = tools[min(int(at), len(tools) - 1)]
                pause = float(tool.time(rng, 1)[0])
                if tool.tokens is not None:
                    context = context.grown(int(tool.tokens(rng, 1)[0]))
        return end
