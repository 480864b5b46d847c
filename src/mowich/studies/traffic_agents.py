"""The sessions of a traffic scenario: kinds of agents, or a trace of sessions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mowich.scenario import Node
from mowich.serving.agents import JOINS, AgentKind, Subagents, Tool
from mowich.serving.arrivals import Draw, lengths
from mowich.serving.conversations import PAUSES, Pauses, pauses

SHARE_MARGIN = 1e-6
"""By how much shares may miss 1 when they are added up."""

MOST_TOGETHER = 1000
"""Sub-agents that one agent starts at once, at most."""


def read_lengths(node: Node, key: str) -> Draw | None:
    """The lengths under a key; None where there are none, or they are wrong."""
    return node.parsed(key, lambda given: lengths(given, ""))


def read_pauses(node: Node, key: str) -> Pauses | None:
    """The times under a key, 0 s where there are none; None where they are wrong."""
    with node.watch(key, allowed=PAUSES, fix=None):
        return pauses(node.raw(key, "0 s"), "")
    return None


def read_agents(node: Node, shared_prefix: int) -> tuple[list[AgentKind], dict[str, object]]:
    """(the kinds of agents, sorted by name; their words, to be echoed). What is wrong is noted."""
    kinds: list[AgentKind | None] = []
    words: dict[str, object] = {}
    shares = _shares(node, "kinds of agents")
    for name, one in sorted(node.nodes(), key=lambda item: item[0]):
        one.raw("share")
        kinds.append(_kind(one, name, shares[name], shared_prefix))
        words[name] = _echo(one)
    if not node.keys():
        node.problem(None, "names no kind of agent", allowed="agents: {coder: {system: 12k, prompt: 2k, ...}}")
    return [kind for kind in kinds if kind is not None], words


def _echo(node: Node) -> dict[str, object]:
    """A mapping as it was given, all its values in words."""

    def plain(value: object) -> object:
        return {str(k): plain(v) for k, v in value.items()} if isinstance(value, dict) else str(value)

    return {key: plain(node.raw(key)) for key in node}


def _shares(node: Node, what: str) -> dict[str, float]:
    """Shares of the mappings under a node: as given, or all alike where none is given. They add up to 1."""
    found = dict(node.nodes())
    given = {name: one.number("share", 0.0, low=0.0, high=1.0) for name, one in found.items() if "share" in one}
    if not given:
        return dict.fromkeys(found, 1.0 / max(1, len(found)))
    total = math.fsum(given.values())
    if len(given) < len(found) or abs(total - 1.0) > SHARE_MARGIN:
        missing = [name for name in found if name not in given]
        told = f"{missing[0]} has none" if missing else f"{total:g}"
        node.problem(None, f"shares of {what} add up to 1", given=told)
    return {name: given.get(name, 0.0) for name in found}


def _kind(node: Node, name: str, share: float, shared_prefix: int) -> AgentKind | None:
    node.need("prompt", "turns", "output")
    system = int(node.count("system", 0, minimum=0))
    if shared_prefix > system:
        node.problem("system", "is shorter than shared_prefix", given=system, allowed=f"at least {shared_prefix}")
    prompt, turns, output = (read_lengths(node, key) for key in ("prompt", "turns", "output"))
    thinking = read_lengths(node, "thinking")
    keeps = node.flag("keep_thinking", False)
    if "thinking" not in node:
        node.refuse("needs thinking", "keep_thinking", fix="thinking: 300")
    tools = _tools(node.node("tools"))
    subagents = _subagents(node.node("subagents"))
    at, to = _compaction(node, system)
    node.done()
    if prompt is None or turns is None or output is None:
        return None
    return AgentKind(
        name=name,
        share=share,
        system=system,
        prompt=prompt,
        turns=turns,
        output=output,
        thinking=thinking,
        keeps_thinking=keeps,
        tools=tools,
        subagents=subagents,
        compact_at=at,
        compact_to=to,
    )


def _tools(node: Node) -> Sequence[Tool]:
    shares = _shares(node, "tools")
    out = []
    for name, one in sorted(node.nodes(), key=lambda item: item[0]):
        one.raw("share")
        time, tokens = read_pauses(one, "time"), read_lengths(one, "tokens")
        one.done()
        if time is not None:
            out.append(Tool(name=name, share=shares[name], time=time, tokens=tokens))
    return out


def _subagents(node: Node) -> Subagents | None:
    if not node.keys():
        return None
    node.need("chance", "count", "turns", "prompt", "output", "returns")
    chance = node.number("chance", 0.0, low=0.0, high=1.0)
    found = {key: read_lengths(node, key) for key in ("count", "turns", "prompt", "output", "returns")}
    join = node.text("join", "all", allowed=JOINS)
    system = int(node.count("system", 0, minimum=0)) if "system" in node else None
    node.done()
    drawn = {key: draw for key, draw in found.items() if draw is not None}
    if "count" in drawn and drawn["count"](np.random.default_rng(0), MOST_TOGETHER).max() > MOST_TOGETHER:
        node.wrong("count", "too many at once", allowed=f"at most {MOST_TOGETHER:,}")
    if len(drawn) < len(found):
        return None
    return Subagents(chance=chance, join=join, system=system, **drawn)


def _compaction(node: Node, system: int) -> tuple[float, int]:
    """(tokens of a context from which it is summed up, tokens of the summary)."""
    if "compact" not in node:
        return math.inf, 0
    with node.inside("compact", "at", "to") as inner:
        at, to = inner.count("at", math.inf), int(inner.count("to", 1))
        if "at" in inner and "to" in inner and at < 2 * (system + to):
            allowed = f"at least {2 * (system + to):,}: twice the system prompt and the summary"
            inner.wrong("at", "leaves no room for a task", allowed=allowed)
    return at, to
