"""What a worker of an engine takes in reinforcement learning: its steps as a table, the room of its cache, and the time
of a batch whose samples are all there at the start.

Every running sequence gains the same tokens in a step, so a batch is played by the tokens that its oldest sequence has:
how many still run after y tokens is the share of answers that are longer. Times are integrals over y, whole curves at
once. The steps themselves are those of `serving.step`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Floats
from mowich.plans.memory import kv_B_per_sequence, serving_memory_B
from mowich.rl.lengths import Lengths
from mowich.rl.sides import TokenTimes
from mowich.serving.search import Worker
from mowich.serving.step import step, total

_SEQUENCES, _CONTEXTS = 20, 8
"""Places of the table of a worker's steps: running sequences by tokens of their caches."""
_LEAST_CONTEXT = 64.0
"""The shortest cache in that table, tokens."""
_WIRES = ("tp", "ep", "cp", "pp")
"""Parts of a worker's step that are transfers."""
CELLS = 64
"""Cells into which the tokens of the longest answer are cut."""


def token_times(
    w: Worker, plans: NDArray[np.intp], *, prompt: float, longest: float, most: float, slower: float = 1.0
) -> tuple[TokenTimes, ...]:
    """Steps of a worker of each of `plans` (places in `w`). prompt: mean tokens of a prompt; longest: tokens of the
    longest sequence; most: sequences that a rank group of a worker runs at once; slower: the engine's software over
    that of its benchmarks, which makes no transfer longer.

    With attention data parallelism the groups share the sequences evenly, and at least one runs in each. Measured rows
    near a plan shift its steps, as they do in `plan --serve`. Prompts are read in steps of the engine's budget.
    """
    groups = w.shapes.dp[plans]
    n = np.geomspace(1.0, np.maximum(most, 2.0), _SEQUENCES)  # of a rank group
    context = np.geomspace(_LEAST_CONTEXT, max(longest, 2.0 * _LEAST_CONTEXT), _CONTEXTS)
    cells = len(n) * len(context)
    rows = np.repeat(plans, cells)
    s, c = w.shapes.take(rows), w.costs.take(rows)
    users = np.tile(np.repeat(n, len(context)), len(plans))
    held = np.tile(context, len(n) * len(plans))
    verified, accepted = (np.broadcast_to(x, len(w.plans)) for x in (w.verified, w.accepted))
    parts = step(s, c, n=users / np.maximum(1.0, s.pp), context=held, verify=verified[rows])
    decode = total({name: x * (1.0 if name in _WIRES else slower) for name, x in parts.items()})
    seconds = decode * w.around.take(rows).mtp_cost * np.exp(w.tpot.at(rows, users))
    per_prompt = _prompt_token_s(w, plans, prompt)
    shape = (len(plans), len(n), len(context))
    return tuple(
        TokenTimes(
            sequences=n * groups[i],
            context=context,
            seconds=seconds.reshape(shape)[i],
            prompt_s=float(per_prompt[i]) * slower,
            tokens_per_step=float(accepted[plan]),
        )
        for i, plan in enumerate(plans)
    )


def _prompt_token_s(w: Worker, plans: NDArray[np.intp], prompt: float) -> Floats:
    """Seconds of a prompt token on a worker of each plan, in steps as full as the engine makes them."""
    s, c, e = w.shapes.take(plans), w.costs.take(plans), w.around.take(plans)
    tokens = np.where(e.packs > 0.5, e.budget, np.minimum(prompt, e.budget)) + np.zeros(len(plans))
    parts = step(
        s,
        c,
        n=np.zeros(len(plans)),
        context=0.0,
        prompt=tokens / np.maximum(1.0, s.pp),
        prompt_context=0.5 * prompt,
        finishing=tokens / max(prompt, 1.0) / np.maximum(1.0, s.pp),
    )
    return np.asarray(total(parts) / tokens / s.dp)


def room_tokens(w: Worker, plans: NDArray[np.intp], tokens: float) -> Floats:
    """Tokens that the caches of a worker of each plan hold, for sequences of about `tokens` tokens (windows keep less
    of each); 0 where the weights do not fit."""
    s = w.shapes.take(plans)
    free = serving_memory_B(s, w.around.take(plans), w.capacity_B)["kv"]
    each = kv_B_per_sequence(s, np.full(len(plans), tokens)) / tokens
    return np.asarray(np.where(free > 0, free / np.maximum(each, 1e-9), 0.0) * s.dp)


@dataclass(frozen=True, slots=True, eq=False)
class StepColumns:
    """`TokenTimes` of several workers at once, a row each [n, ...]: sequences [n, a], context [n, b], seconds
    [n, a, b], prompt_s and tokens_per_step [n]. Shorter tables repeat their last place."""

    sequences: Floats
    context: Floats
    seconds: Floats
    prompt_s: Floats
    tokens_per_step: Floats

    @classmethod
    def of(cls, times: Sequence[TokenTimes]) -> StepColumns:
        """A row for each."""
        a, b = (max(len(getattr(t, name)) for t in times) for name in ("sequences", "context"))
        return cls(
            sequences=np.stack([_to(t.sequences, a) for t in times]),
            context=np.stack([_to(t.context, b) for t in times]),
            seconds=np.stack([_to(_to(t.seconds, a).T, b).T for t in times]),
            prompt_s=np.array([t.prompt_s for t in times]),
            tokens_per_step=np.array([t.tokens_per_step for t in times]),
        )

    def take(self, rows: NDArray[np.intp]) -> StepColumns:
        """The rows at these places."""
        return StepColumns(*(getattr(self, f.name)[rows] for f in fields(self)))

    def step_s(self, sequences: Floats, context: Floats) -> Floats:
        """Seconds of a step of each worker at several points [n, points]; as `TokenTimes.step_s`."""
        i, u = _cells(self.sequences, sequences)
        j, v = _cells(self.context, context)
        rows = np.arange(len(self.seconds))[:, None]
        i1, j1 = np.minimum(i + 1, self.seconds.shape[1] - 1), np.minimum(j + 1, self.seconds.shape[2] - 1)
        low = (1.0 - v) * self.seconds[rows, i, j] + v * self.seconds[rows, i, j1]
        high = (1.0 - v) * self.seconds[rows, i1, j] + v * self.seconds[rows, i1, j1]
        return np.asarray((1.0 - u) * low + u * high)


def _to(table: Floats, places: int) -> Floats:
    """A table with `places` places, its last one repeated."""
    return table if len(table) == places else table[np.minimum(np.arange(places), len(table) - 1)]


def _cells(knots: Floats, at: Floats) -> tuple[NDArray[np.intp], Floats]:
    """(place of the knot below each point, share of the way to the next one) [n, points]; knots: [n, a], ascending."""
    x = np.clip(at, knots[:, :1], knots[:, -1:])
    last = max(0, knots.shape[1] - 2)
    place = np.minimum((knots[:, 1:, None] <= x[:, None, :]).sum(axis=1), last)
    below = np.take_along_axis(knots, place, axis=1)
    above = np.take_along_axis(knots, np.minimum(place + 1, knots.shape[1] - 1), axis=1)
    return place, (x - below) / np.maximum(above - below, 1e-300)


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """How a batch runs off, by tokens. edges: of the cells [CELLS + 1]; running: answers that run in a cell, share of
    all; later: of all that run in the long run, those that have so much left; fuller: by how much more run than in the
    mean where a worker has one standard deviation more tokens, for the root of its samples [CELLS]; mean, age: of an
    answer, and of what a running sequence has behind it in the long run; below, weighed: integrals of the share running
    to each edge, and of that times tokens [CELLS + 1]."""

    edges: Floats
    running: Floats
    later: Floats
    fuller: Floats
    mean: float
    age: float
    below: Floats
    weighed: Floats

    @property
    def width(self) -> float:
        """Tokens of a cell."""
        return float(self.edges[1])

    @property
    def middle(self) -> Floats:
        """Tokens at the middle of each cell."""
        return 0.5 * (self.edges[1:] + self.edges[:-1])

    @classmethod
    def of(cls, lengths: Lengths) -> Curve:
        """The curve of a table of lengths.

        >>> curve = Curve.of(Lengths(np.full(4, 100.0), 100.0))
        >>> float(curve.running.min()), curve.mean, curve.age
        (1.0, 100.0, 50.0)
        """
        table = lengths.table
        edges = np.linspace(0.0, float(table[-1]), CELLS + 1)
        shares, summed, squares = (
            np.concatenate(([0.0], np.cumsum(x))) for x in (np.ones_like(table), table, table**2)
        )
        at = np.searchsorted(table, edges, side="right")
        size, mean = len(table), float(table.mean())
        below = (summed[at] + edges * (size - shares[at])) / size
        weighed = 0.5 * (squares[at] + edges**2 * (size - shares[at])) / size
        running = np.diff(below) / np.diff(edges)
        later = 1.0 - below / mean
        middle = 0.5 * (edges[1:] + edges[:-1])
        above = np.searchsorted(table, middle, side="right")
        of_longer = (summed[-1] - summed[above]) / size
        spread = float(table.std())
        fuller = (of_longer - mean * (size - above) / size) / spread if spread > 0 else np.zeros(CELLS)
        return cls(
            edges=edges,
            running=running,
            later=0.5 * (later[1:] + later[:-1]),
            fuller=np.asarray(fuller),
            mean=mean,
            age=float((table**2).mean() / mean / 2.0),
            below=below,
            weighed=weighed,
        )


@dataclass(frozen=True, slots=True)
class BatchTimes:
    """A batch on workers of one kind, columns [n]. makespan_s: until the last answer of all workers; running: mean
    sequences of a worker until then; places: most that it runs; longest_s: of the longest answer from its start."""

    makespan_s: Floats
    running: Floats
    places: Floats
    longest_s: Floats


def fullest_worker(workers: Floats) -> Floats:
    """By how many standard deviations the fullest of so many workers lies above the mean (Blom).

    >>> fullest_worker(np.array([1.0, 16.0])).round(2).tolist()
    [0.0, 1.77]
    """
    inverse = NormalDist().inv_cdf
    known = {x: inverse((x - 0.375) / (x + 0.25)) if x > 1 else 0.0 for x in np.unique(workers).tolist()}
    return np.array([known[x] for x in np.ravel(workers).tolist()]).reshape(np.shape(workers))


def fitting_sequences(curve: Curve, samples: Floats, prompt: float, room_tokens: Floats, most: Floats) -> Floats:
    """Sequences that a worker runs at once, of so many samples that wait for it: those whose caches fit. Samples that
    begin together are old together; later they are of all ages."""
    fill = float(np.max(curve.running * (prompt + curve.edges[1:])))
    together, mixed = room_tokens / fill, room_tokens / (prompt + curve.age)
    share = np.maximum(0.0, 1.0 - together / np.maximum(samples, 1e-9))
    held = together + share * (np.maximum(mixed, together) - together)
    return np.asarray(np.minimum(np.minimum(samples, most), np.maximum(held, 1.0)))


def batch_times(
    times: StepColumns,
    curve: Curve,
    *,
    samples: Floats,
    workers: Floats,
    prompt: float,
    room_tokens: Floats,
    most: Floats,
    call_s: float = 0.0,
) -> BatchTimes:
    """A batch of which every worker has `samples`, all there at the start. times: a row for each column; call_s:
    seconds that each sample waits for calls of tools in all, without gaining tokens.

    While more wait than fit, `places` run: their work is what is left of all tokens when the last has begun. Then the
    worker runs off. In a cell the time of a step counts as often as anyone still runs, at as many as run then. The last
    of all workers is the fullest one, and has the longest answer.
    """
    n, w = (np.asarray(x, dtype=np.float64)[:, None] for x in (samples, workers))
    places = fitting_sequences(curve, np.asarray(samples), prompt, np.asarray(room_tokens), np.asarray(most))[:, None]
    renewed = np.clip((n - places) / places, 0.0, 1.0)
    left = (1.0 - renewed) * curve.running + renewed * curve.later  # share of the places that still run
    # tokens of each place until the last has begun
    queued = np.maximum(n * curve.mean / places - left.sum(axis=1, keepdims=True) * curve.width, 0.0)
    own = places * left
    someone, anyone = (-np.expm1(_none_left(left, x)) for x in (places, places * w))
    extra = fullest_worker(w) * np.sqrt(places) * np.maximum(curve.fuller, 0.0)
    beside = np.maximum(own / np.maximum(someone, 1e-300), 1.0) + extra
    context = np.minimum(prompt + renewed * curve.age + curve.middle, prompt + curve.edges[-1])
    read_s, k = n * prompt * times.prompt_s[:, None], times.tokens_per_step[:, None]
    decodes: Floats = np.ones_like(n)  # share of the running sequences that wait for no call
    for _ in range(1 + (call_s > 0)):
        full_s = times.step_s(np.maximum(places * decodes, 1.0), np.full_like(n, prompt + curve.age)) / k * queued
        pace = times.step_s(np.maximum(beside * decodes, 1.0), context) / k
        mine = times.step_s(np.maximum(own * decodes, 1.0), context) / k
        tail_s = (pace * anyone).sum(axis=1, keepdims=True) * curve.width
        worked = full_s * places + (mine * own).sum(axis=1, keepdims=True) * curve.width
        each_s = worked / n
        decodes = each_s / (each_s + call_s)
    makespan = full_s + tail_s + read_s + call_s * np.maximum(1.0, n / places)
    return BatchTimes(
        makespan_s=makespan[:, 0],
        running=((worked + n * call_s) / np.maximum(makespan, 1e-300))[:, 0],
        places=places[:, 0],
        longest_s=(tail_s + call_s)[:, 0],
    )


def _none_left(left: Floats, samples: Floats) -> Floats:
    """ln of the chance that none of the samples still runs, where a share `left` of each does."""
    return np.asarray(samples * np.log1p(-np.minimum(left, 1.0 - 1e-15)))


def answers_per_s(running: Floats, answer: Floats, calls: Floats | float, read: Floats) -> Floats:
    """Answers per second of a worker that always runs so many sequences, of all ages [n].

    T = running / (answer + calls + running * read)

    answer: all steps of an answer; calls: it waits for tools; read: its prompt, while no sequence gains tokens.

    Units: answer s, calls s, read s.

    >>> float(answers_per_s(running=100.0, answer=20.0, calls=0.0, read=0.05))
    4.0
    """
    return np.asarray(running / (answer + calls + running * read))


def steady_rate(times: StepColumns, curve: Curve, *, prompt: float, running: Floats, call_s: float = 0.0) -> Floats:
    """`answers_per_s` of workers whose sequences are as old as they are in the long run [n]."""
    context = np.full((len(running), 1), prompt + curve.age)
    step = times.step_s(running[:, None], context)[:, 0] / times.tokens_per_step
    return answers_per_s(running, curve.mean * step, call_s, prompt * times.prompt_s)
