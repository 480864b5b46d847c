"""A transformer layer spread over the chips of a machine: tensor-parallel attention, expert-parallel feed-forward, run
rank by rank in NumPy.

`single` is the layer on one device; `spread_layer` runs the same layer on tp x (ranks / tp) ranks, each holding its
heads and its experts, with collectives between them, and gives the bytes and the time of each collective on the
machine's fabric, by level. The two agree to the rounding of sums in another order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from mowich.arrays import Array, distinct
from mowich.errors import UserError
from mowich.machines import collectives, steps
from mowich.machines.system import System
from mowich.sums import float_sum


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerWeights:
    """One layer. q, k, v: [heads, hidden, head]; o: [heads, head, hidden]; router: [hidden, experts]; up: [experts,
    hidden, ffn]; down: [experts, ffn, hidden]."""

    q: Array
    k: Array
    v: Array
    o: Array
    router: Array
    up: Array
    down: Array
    top_k: int


def weights(
    *,
    hidden: int,
    heads: int,
    head: int,
    experts: int,
    ffn: int,
    top_k: int,
    seed: int = 0,
    dtype: DTypeLike = np.float32,
) -> LayerWeights:
    """Random weights of a small layer, scaled so that activations stay of order one."""
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> Array:
        return np.asarray(rng.standard_normal(shape) / np.sqrt(shape[-2]), dtype=dtype)

    return LayerWeights(
        q=draw(heads, hidden, head),
        k=draw(heads, hidden, head),
        v=draw(heads, hidden, head),
        o=draw(heads, head, hidden) / heads**0.5,
        router=draw(hidden, experts),
        up=draw(experts, hidden, ffn),
        down=draw(experts, ffn, hidden),
        top_k=top_k,
    )


def _attention(w: LayerWeights, x: Array, heads: Sequence[int]) -> Array:
    """The part of some heads of causal attention for one sequence x [tokens, hidden], summed over them."""
    tokens = len(x)
    mask = np.triu(np.full((tokens, tokens), -np.inf, dtype=x.dtype), 1)
    out = np.zeros_like(x)
    for h in heads:
        scores = (x @ w.q[h]) @ (x @ w.k[h]).T / np.sqrt(w.q.shape[2]).astype(x.dtype) + mask
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        out += scores / scores.sum(axis=1, keepdims=True) @ (x @ w.v[h]) @ w.o[h]
    return out


def _route(w: LayerWeights, x: Array) -> tuple[Array, Array]:
    """(experts [tokens, top_k], gates [tokens, top_k]) of each token."""
    logits = x @ w.router
    chosen = np.argsort(-logits, axis=1, kind="stable")[:, : w.top_k]
    gates = np.exp(np.take_along_axis(logits, chosen, axis=1) - logits.max(axis=1, keepdims=True))
    return chosen, gates / gates.sum(axis=1, keepdims=True)


def _expert(w: LayerWeights, e: int, x: Array) -> Array:
    return np.asarray(np.maximum(x @ w.up[e], 0.0) @ w.down[e], dtype=x.dtype)


def single(w: LayerWeights, x: Array) -> Array:
    """The layer on one device. x: [sequences, tokens, hidden]."""
    out = np.empty_like(x)
    for i, s in enumerate(x):
        s = s + _attention(w, s, range(len(w.q)))
        chosen, gates = _route(w, s)
        y = s.copy()
        for e in range(len(w.up)):
            token, slot = np.nonzero(chosen == e)
            if len(token):
                y[token] += gates[token, slot, None] * _expert(w, e, s[token])
        out[i] = y
    return out


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One collective of the layer: its purpose, kind, members of a group, bytes as `collectives.choose` counts them,
    seconds by level."""

    name: str
    kind: str
    group: int
    data_B: float
    by_level_s: dict[str, float]

    @property
    def time_s(self) -> float:
        """Seconds of the collective."""
        return float_sum(self.by_level_s.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Result of a layer on ranks. output: [sequences, tokens, hidden]; sent: its collectives in order; by_level_s:
    their seconds summed by level."""

    output: Array
    sent: tuple[Sent, ...]

    @property
    def by_level_s(self) -> dict[str, float]:
        """Seconds of communication by level, and "latency"."""
        out: dict[str, float] = {}
        for s in self.sent:
            for name, value in s.by_level_s.items():
                out[name] = out.get(name, 0.0) + value
        return out


def spread_layer(w: LayerWeights, x: Array, system: System, *, ranks: int, tp: int, algorithm: str = "ring") -> Spread:
    """The layer on `ranks` chips of a machine whose ranks are chips (`topology.per_chip`), in groups of tp neighbours.

    Group g computes sequence g: each rank its heads, a reduce-scatter leaves it tokens/tp of the sum; experts lie
    experts/ranks to a rank, and tokens go to theirs and back by all-to-all over all ranks; an all-gather in the group
    ends the layer. Raises UserError where heads, tokens, experts or sequences do not divide.
    """
    _check_divides(w, x, system, ranks, tp)
    _, tokens, hidden = x.shape
    groups, per = ranks // tp, tokens // tp
    shares: list[Array] = []  # by rank: its tokens after attention [tokens / tp, hidden]
    plan = steps.all_reduce(tp, algorithm) if tp > 1 else []
    for g in range(groups):
        parts = [_attention(w, x[g], range(r * len(w.q) // tp, (r + 1) * len(w.q) // tp)) for r in range(tp)]
        summed = steps.play_steps(plan, parts) if plan else parts
        shares += [x[g, r * per : (r + 1) * per] + summed[r][r * per : (r + 1) * per] for r in range(tp)]
    results, most = _through_experts(w, shares)
    output = np.stack([np.concatenate(results[g * tp : (g + 1) * tp]) for g in range(groups)])
    whole, most_B = (float(count * hidden * x.dtype.itemsize) for count in (tokens, most))
    sent = [
        ("sum of heads", "reduce-scatter", tp, whole),
        ("tokens to experts", "all-to-all", ranks, most_B),
        ("tokens back", "all-to-all", ranks, most_B),
        ("tokens of the group", "all-gather", tp, whole),
    ]
    told = [
        Sent(name=name, kind=kind, group=n, data_B=data, by_level_s=collectives.by_level(system, kind, data, n))
        for name, kind, n, data in sent
        if n > 1
    ]
    return Spread(output=output, sent=tuple(told))


def _check_divides(w: LayerWeights, x: Array, system: System, ranks: int, tp: int) -> None:
    """Raise UserError where heads, tokens, experts or sequences do not divide over ranks, or ranks are too many."""
    sequences, tokens, _ = x.shape
    checks = [("ranks", ranks, tp), ("heads", len(w.q), tp), ("tokens", tokens, tp), ("experts", len(w.up), ranks)]
    for what, count, by in checks:
        if by < 1 or count % by:
            raise UserError(f"{what} do not divide", given=f"{count} over {by}")
    if sequences != ranks // tp:
        raise UserError("one sequence per group of tp ranks", given=sequences, allowed=str(ranks // tp))
    if ranks > system.chips:
        raise UserError("more ranks than chips", given=ranks, allowed=str(system.chips))


def _through_experts(w: LayerWeights, shares: Sequence[Array]) -> tuple[list[Array], int]:
    """The tokens of each rank after the experts that they visit, which lie evenly on all ranks; and how many visits to
    other ranks the rank with the most of them sends. shares: by rank, [tokens, hidden]."""
    mine = len(w.up) // len(shares)
    # at the rank of an expert: (from, tokens, expert, gates, rows)
    inbox: list[list[tuple[int, Array, int, Array, Array]]] = [[] for _ in shares]
    most = 0
    for r, share in enumerate(shares):
        chosen, gates = _route(w, share)
        leaving = 0
        for e in map(int, distinct(chosen)):
            token, slot = np.nonzero(chosen == e)
            inbox[e // mine].append((r, token, e, gates[token, slot, None], share[token]))
            leaving += len(token) if e // mine != r else 0
        most = max(most, leaving)
    results = [share.copy() for share in shares]
    back = [(r, e, token, gate * _expert(w, e, rows)) for box in inbox for r, token, e, gate, rows in box]
    # a token adds its experts in the order of their numbers, wherever they lie
    for r, _, token, rows in sorted(back, key=lambda b: b[:2]):
        results[r][token] += rows
    return results, most
