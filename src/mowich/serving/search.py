"""Search over worker plans, batches and splits of prefill and decode for one system, model and engine.

Every legal worker plan is evaluated at a ladder of batches in one set of columns and at the batch that fills its
memory: aggregated with the closed loop of `serve`, and apart as a prefill worker (prompts one after the other, waiting
as in M/D/1) and a decode worker, which is evaluated at the batch that just keeps the TPOT limit too. Of aggregated
plans the promising ones are evaluated again at batches beside their best. Workers are then matched: x prefill to y
decode such that neither starves. Memory is checked first. The result is the best plan under the limits and the Pareto
front of tokens/s per chip against tokens/s per user.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Columns, Floats, distinct
from mowich.machines.system import System
from mowich.plans.memory import kv_B_per_sequence, serving_memory_B
from mowich.plans.plan import ServePlan
from mowich.plans.preference import Preferred, preferred_workers, simplest_first
from mowich.plans.search import by_time, rising, spread_out
from mowich.plans.shapes import Shapes
from mowich.serving.anchors import Loads
from mowich.serving.encoding import ServedImages
from mowich.serving.hit_curve import HitCurve
from mowich.serving.pairs import Prefill, queued_prompt_s, worker_counts
from mowich.serving.steady import Load, Prompting, PromptSteps, Steady, closed_loop, decode_step, max_sequences
from mowich.serving.step import total
from mowich.serving.tabled import PlanKernels
from mowich.software.engine import Engine, EngineCosts
from mowich.sums import float_sum

MOST_USERS = 512.0
"""Users of a rank group up to which batches are tried, unless a question says how many."""

FRONT = 24
"""Most points of a Pareto front that are answered in full."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeJob:
    """What is to be served. prompt, output: mean tokens; ttft_s, tpot_s: limits (inf: none); cached: share of a prompt
    in the prefix cache; cached_by: a trace or a scenario that it follows from, with the memory of a plan; accept:
    tokens kept per step of speculative decoding (None: none); images: of a request, whose tokens are in `prompt` (None:
    text alone)."""

    prompt: float
    output: float
    ttft_s: float = math.inf
    tpot_s: float = math.inf
    cached: float = 0.0
    cached_by: str | None = None
    accept: float | None = None
    images: ServedImages | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerColumns:
    """Workers of plans as columns: their work, the constants of a step and those around it, and the tokens that a step
    verifies and accepts."""

    shapes: Shapes
    costs: EngineCosts
    around: Engine
    verified: Floats
    accepted: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker(WorkerColumns):
    """The arrays that a search needs of a set of plans (see `studies.serving.Deployment`). whole: shapes on one device,
    with the caches of each plan; hbm_Bps: of a device; tpot, ttft: what measured rows shift each plan by where its
    workers prefill and decode, at any load; encode_s: of each plan, for the images of a request (None: text alone)."""

    plans: tuple[ServePlan, ...]
    whole: Shapes
    hbm_Bps: float
    capacity_B: float
    tpot: Loads
    ttft: Loads
    encode_s: Floats | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One answer. prefill: index of the plan of prefill workers (-1: aggregated); decode: of the others; users: per
    rank group; prefill_workers and workers: counts; prompts_per_s, answers_per_s: what a prefill and a decode worker
    make, NaN where workers do both; speeds as named; parts: of TPOT and of TTFT; cached: share of a prompt in the
    prefix cache."""

    prefill: int
    decode: int
    users: float
    prefill_workers: int
    workers: int
    prompts_per_s: float
    answers_per_s: float
    ttft_s: float
    tpot_s: float
    tokens_per_s: float
    tokens_per_s_per_chip: float
    tpot_parts: Mapping[str, float]
    ttft_parts: Mapping[str, float]
    cached: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """best: meets the limits, cheapest first; front: Pareto front of all that fit, fastest user first, thinned to
    `FRONT` points; curve: (tokens/s per user, per chip) of all of it;
    evaluated: (plan, batch) points and pairs of
    workers; points: distinct (plan, batch) points; preferred: that `best` begins with a simpler plan than the
    fastest, which follows."""

    best: tuple[Found, ...]
    front: tuple[Found, ...]
    curve: tuple[tuple[float, float], ...] = ()
    evaluated: int
    points: int
    fitting: int
    closest: Found | None
    preferred: Preferred | None = None


def ladder(limit: float) -> Floats:
    """Users per rank group to try: every number to 12, then steps of 6%, up to `limit`."""
    steps = sorted({max(1, round(2 ** (i / 12))) for i in range(int(12 * math.log2(max(limit, 1.0))) + 1)})
    return np.array(steps, dtype=np.float64)


def left_tokens(s: Shapes, e: Engine, job: ServeJob, users: Floats, capacity_B: float) -> Floats:
    """Tokens of prompts that the cache of a worker holds beside the half-written answers of `users` users of each rank
    group. Those of prompts that are under way are among them.

    tokens = (free_B / token_B - users * output / 2) * groups

    Units: users 1.
    """
    token_B = kv_B_per_sequence(s, job.prompt + job.output + 0.0 * users) / (job.prompt + job.output)
    free_B = np.maximum(serving_memory_B(s, e, capacity_B)["kv"], 0.0)
    return np.asarray(np.maximum(free_B / np.maximum(token_B, 1e-9) - users * job.output / 2.0, 0.0) * s.dp)


def closed_load(
    job: ServeJob,
    users: Floats,
    verified: Floats,
    accepted: Floats,
    cached: Floats | None = None,
    encode_s: Floats | float = 0.0,
) -> Load:
    """A closed loop without end of so many users for each rank group. cached: share of a prompt in the prefix cache, by
    case (None: that of the job); encode_s: of the images of a request."""
    zero = 0 * users
    return Load(
        users=users,
        prompt=zero + job.prompt,
        output=zero + job.output,
        cached=zero + job.cached if cached is None else cached,
        verify=verified,
        accepted=accepted,
        rounds=zero + math.inf,
        is_static=zero,
        encode_s=encode_s,
    )


@dataclass(frozen=True, slots=True)
class _Columns:
    """Plans by their index, each ready to be evaluated at any number of users."""

    rows: NDArray[np.intp]
    shapes: Shapes
    costs: EngineCosts
    around: Engine
    verified: Floats
    accepted: Floats
    job: ServeJob
    worker: Worker
    kernels: PlanKernels | None
    copies: Floats
    curve: HitCurve | None

    @classmethod
    def of(cls, w: Worker, job: ServeJob, devices: int = 0, curve: HitCurve | None = None) -> _Columns:
        """Every plan. devices: of the system; curve: of what prompts find in the cache (None: the share of the job)."""
        kernels = PlanKernels.of(w.shapes, w.costs)
        copies = np.floor(devices / np.array([p.devices for p in w.plans], dtype=np.float64))
        every = np.arange(len(w.plans))
        return cls(every, w.shapes, w.costs, w.around, w.verified, w.accepted, job, w, kernels, copies, curve)

    def cached(self, users: Floats) -> Floats:
        """Share of a prompt that is in the prefix caches of all workers together: requests go to the worker that has
        the beginning of their prompt."""
        if self.curve is None:
            return 0.0 * users + self.job.cached
        left = left_tokens(self.shapes, self.around, self.job, users, self.worker.capacity_B)
        return np.minimum(self.curve.at(left * self.copies), MOST_CACHED)

    def take(self, rows: NDArray[np.intp]) -> _Columns:
        """The columns at `rows`."""
        return _Columns(
            rows=self.rows[rows],
            shapes=self.shapes.take(rows),
            costs=self.costs.take(rows),
            around=self.around.take(rows),
            verified=self.verified[rows],
            accepted=self.accepted[rows],
            job=self.job,
            worker=self.worker,
            kernels=self.kernels and self.kernels.take(rows),
            copies=self.copies[rows],
            curve=self.curve,
        )

    def prompts(self) -> list[PromptSteps]:
        """Steps without decodes that carry one prompt, and as many as go into a step."""
        one = np.ones(len(self.rows))
        carried = Prompting(self.shapes, self.costs, self.around, self.load(one), 0.0 * one, self.kernels)
        carried.steps(0.0 * one)
        carried.steps(0.0 * one, math.inf)
        return carried.known

    def load(self, users: Floats) -> Load:
        """So many users for each rank group, in a closed loop without end."""
        return closed_load(self.job, users, self.verified, self.accepted, self.cached(users), self.encode_s)

    def room(self) -> Floats:
        """Sequences of a rank group of each plan that its memory holds."""
        one = self.load(np.ones(len(self.rows)))
        return max_sequences(self.shapes, one, self.around, self.worker.capacity_B)

    @property
    def encode_s(self) -> Floats | float:
        """Seconds of encoding the images of a request; 0 for text alone."""
        return 0.0 if self.worker.encode_s is None else self.worker.encode_s[self.rows]

    def loop(self, users: Floats, prompts: Sequence[PromptSteps]) -> Steady:
        """The steady state of workers that prefill and decode, by the constants. prompts: steps of every plan."""
        known = [steps.take(self.rows) for steps in prompts if self.curve is None]  # else each has a prompt of its own
        at = self.shapes, self.costs, self.around, self.load(users), self.worker.capacity_B
        return closed_loop(*at, known=known, kernels=self.kernels)

    def together(self, steady: Steady, users: Floats) -> tuple[Floats, Floats]:
        """(TTFT, TPOT) of workers that prefill and decode."""
        ttft, tpot = (np.exp(metric.at(self.rows, users)) for metric in (self.worker.ttft, self.worker.tpot))
        if self.worker.encode_s is not None:  # measured rows are of text: they shift no encoder
            return (steady.ttft_s - self.encode_s) * ttft + self.encode_s, steady.tpot_s * tpot
        return steady.ttft_s * ttft, steady.tpot_s * tpot

    def alone(self, users: Floats, parts: dict[str, Floats] | None = None) -> Floats:
        """TPOT of workers that only decode. parts: of their step, where it is known."""
        if parts is None:
            parts = decode_step(self.shapes, self.costs, self.load(users), users, kernels=self.kernels)
        return np.asarray(total(parts) * self.around.mtp_cost / self.accepted)


MOST_CACHED = 0.999
"""Of a prompt: a token of each is computed."""
HALVINGS = 12
"""Of the gap between two batches, one within a limit and one beyond: 6% of a batch to 0.0015%."""
TOGETHER = 4
"""Halvings whose middles are evaluated in one set of columns: 15 for each plan take about as long as one."""

ROUNDS, FINER = 4, 16
"""How often the gaps beside a plan's best batch are filled, and with how many batches: 12% of a batch to 0.002%."""

PROMISE = 1.02
"""A batch between two others may be this much faster than the faster of them, to be safe: else its plan is not among
the best, and its gaps are not filled."""


def _at_limit(columns: _Columns, low: Floats, high: Floats, tpot: Floats) -> tuple[Floats, Floats]:
    """(users, TPOT) of each plan at the most users, between `low` that keep the TPOT limit and `high` that do not, that
    keep it. tpot: at `low`.

    `TOGETHER` halvings are looked at in one set of columns: every middle that they may come to, as a tree whose node i
    has 2 i + 1 and 2 i + 2 below it, the lower half and the upper one.
    """
    nodes, everyone = 2**TOGETHER - 1, np.arange(len(low))
    many = columns.take(np.repeat(everyone, nodes))
    for _ in range(HALVINGS // TOGETHER):
        lows, highs, middles = [low], [high], []
        for i in range(nodes):
            middles.append(0.5 * (lows[i] + highs[i]))
            lows += [lows[i], middles[i]]
            highs += [middles[i], highs[i]]
        at = many.alone(np.array(middles).T.ravel()).reshape(len(low), nodes)
        node = np.zeros(len(low), dtype=np.intp)
        for _ in range(TOGETHER):
            good = at[everyone, node] <= columns.job.tpot_s
            tpot = np.where(good, at[everyone, node], tpot)
            node = 2 * node + 1 + good
        low, high = np.array(lows)[node, everyone], np.array(highs)[node, everyone]
    return low, tpot


def _promising(
    plans: Sequence[ServePlan], rows: NDArray[np.intp], speed: Floats, keeps: NDArray[np.bool_], top: int
) -> NDArray[np.intp]:
    """Where the best batch of each plan stands that may be among the `top` that differ (`_different`: plans that differ
    in stages alone count as one). Points come by plan and users."""
    best, hope = np.zeros(len(plans)), np.zeros(len(plans))
    within = np.where(keeps, speed, 0.0)
    np.maximum.at(best, rows, within)
    follows = np.append(rows[1:] == rows[:-1], False)
    np.maximum.at(
        hope, rows, np.where(keeps, PROMISE * np.maximum(speed, np.where(follows, np.append(speed[1:], 0.0), 0.0)), 0.0)
    )
    wanted = top * len({p.pp for p in plans})
    enough = float(np.partition(best, -wanted)[-wanted]) if wanted <= len(plans) else 0.0
    at = np.nonzero(keeps & (within == best[rows]) & (hope[rows] >= enough))[0]
    return np.asarray(at[np.unique(rows[at], return_index=True)[1]])


def _batches(everyone: _Columns, most_users: float) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
    """(plans that hold a request, plan of each point, its users): the ladder of each plan, as far as its memory goes,
    and the batch that fills it."""
    room = everyone.room()
    fits = np.nonzero(room >= 1.0)[0]
    steps = ladder(most_users)
    most = np.minimum(room, most_users)
    rows = np.repeat(fits, len(steps) + 1)
    users = np.append(np.tile(steps, (len(fits), 1)), most[fits, None], axis=1)
    users = np.sort(users, axis=1).ravel()  # the batch that fills the memory among the steps
    keep = users <= most[rows]
    return fits, rows[keep], users[keep]


def search_serving(
    system: System,
    w: Worker,
    job: ServeJob,
    *,
    top: int = 5,
    apart: bool = True,
    together: bool = True,
    most_users: float = MOST_USERS,
    slack: float = 0.9,
    pair: tuple[int, int] | None = None,
    margin: float = 0.0,
    with_front: bool = True,
    curve: HitCurve | None = None,
) -> SearchResult:
    """The best plans of one system. slack: highest load of prefill workers where no TTFT limit sets it; apart,
    together: whether disaggregated and aggregated plans are among the candidates; pair: the only plans of prefill and
    of decode workers apart (None: all); margin: share of the highest rate within which the simplest plan comes
    first; with_front: whether the points of the Pareto front are answered; curve: of what prompts find in the cache, by
    its size (None: the share of the job)."""
    n = len(w.plans)
    devices = np.array([p.devices for p in w.plans], dtype=np.float64)
    everyone = _Columns.of(w, job, system.devices, curve)
    fits, rows, users = _batches(everyone, most_users)
    if not len(rows):
        return SearchResult(best=(), front=(), evaluated=n, points=n, fitting=0, closest=None)

    def kept(ttft: Floats, tpot: Floats) -> NDArray[np.bool_]:
        return (ttft <= job.ttft_s) & (tpot <= job.tpot_s)

    found: list[_Points] = []
    evaluated = len(rows)
    prompts, full_step = everyone.prompts(), None
    if together:
        points, full_step = _together(system, everyone, prompts, rows, users, devices, kept, top)
        found.append(points)
        evaluated = len(points.users)
    pairs = 0
    if apart and system.devices >= 2:
        tpot = everyone.take(rows).alone(users, full_step)
        more, pairs = _apart(system, everyone, prompts[0], rows, users, tpot, fits, devices, slack, pair)
        if more is not None:
            found.append(more)
    if not found:
        return SearchResult(
            best=(), front=(), evaluated=evaluated, points=evaluated + len(fits), fitting=0, closest=None
        )
    points = _Points.joined(found)
    per_chip = points.speed / system.chips
    meets = kept(points.ttft, points.tpot)
    stages = np.array([q.pp for q in w.plans])
    both = stages[points.decode] + np.where(points.prefill >= 0, stages[points.prefill], 0)
    order = by_time(-per_chip, both, points.tpot)
    within = order[meets[order]]
    if margin and len(within):
        within = simplest_first(points, within, w.plans, margin)
    good = _different(points, within, w.plans, top)
    preferred = preferred_workers(points, good[0], int(order[meets[order]][0]), w.plans, margin) if good else None
    front = rising(np.lexsort((-per_chip, points.tpot)), per_chip, points.ttft <= job.ttft_s, 1 + 1e-9)

    excess = np.maximum(points.ttft / job.ttft_s, points.tpot / job.tpot_s)
    thinned = [] if not with_front else spread_out(front, FRONT) if pair is None else front  # a pair: one point of it
    which = [*good, *thinned] if good else [*thinned, int(np.argmin(excess))]
    answers = _answers(system, everyone, prompts, points, which)
    return SearchResult(
        best=tuple(answers[: len(good)]),
        front=tuple(answers[len(good) : len(good) + len(thinned)]),
        curve=tuple((float(1.0 / points.tpot[i]), float(per_chip[i])) for i in front),
        evaluated=evaluated + pairs,
        points=evaluated + len(fits),
        fitting=int(meets.sum()),
        closest=None if good else answers[-1],
        preferred=preferred,
    )


def _different(p: _Points, order: NDArray[np.intp], plans: Sequence[ServePlan], top: int) -> list[int]:
    """The first `top` candidates that differ in more than pipeline stages or batch."""
    seen: set[tuple[object, ...]] = set()
    out: list[int] = []
    for i in order.tolist():
        names = [(q.tp, q.dp, q.ep, q.cp, q.weights, q.kv) for q in (plans[int(p.decode[i])], plans[int(p.prefill[i])])]
        name = (p.prefill[i] >= 0, *names[: 2 if p.prefill[i] >= 0 else 1])
        if name not in seen:
            seen.add(name)
            out.append(i)
            if len(out) == top:
                break
    return out


def _together(
    system: System,
    everyone: _Columns,
    prompts: Sequence[PromptSteps],
    rows: NDArray[np.intp],
    users: Floats,
    devices: Floats,
    kept: Callable[[Floats, Floats], NDArray[np.bool_]],
    top: int,
) -> tuple[_Points, dict[str, Floats]]:
    """Workers that prefill and decode, at these batches, and at batches ever closer to the best one of each plan that
    is among the best; and the parts of a step at the batches that were given.

    A number of users need be no whole one: it is the mean of what is in flight. On whole numbers a faster machine could
    lose: it answers sooner, users ask sooner, and the last whole number within a limit falls by one.
    """
    w, job = everyone.worker, everyone.job

    def at(rows: NDArray[np.intp], users: Floats) -> tuple[_Points, Steady]:
        columns = everyone.take(rows)
        steady = columns.loop(users, prompts)
        ttft, tpot = columns.together(steady, users)
        copies = np.floor(system.devices / devices[rows])
        return _Points(
            prefill=np.full(len(rows), -1),
            decode=rows,
            users=users,
            prefill_workers=np.zeros(len(rows)),
            workers=copies,
            prompts_per_s=np.full(len(rows), math.nan),
            answers_per_s=np.full(len(rows), math.nan),
            ttft=ttft,
            tpot=tpot,
            speed=users * w.shapes.dp[rows] * job.output / (ttft + (job.output - 1.0) * tpot) * copies,
            front=np.zeros(len(rows)),
            transfer=np.zeros(len(rows)),
            service=np.zeros(len(rows)),
            encode=np.zeros(len(rows)),
        ), steady

    points, first = at(rows, users)
    inside = np.arange(1, FINER + 1) / (FINER + 1.0)
    for _ in range(ROUNDS if math.isfinite(job.ttft_s) or math.isfinite(job.tpot_s) else 1):
        best = _promising(w.plans, points.decode, points.speed, kept(points.ttft, points.tpot), top)
        if not len(best):
            break
        plan, here = points.decode, points.users
        low = here[np.where((best > 0) & (plan[best - 1] == plan[best]), best - 1, best)]
        after = np.minimum(best + 1, len(plan) - 1)
        high = here[np.where(plan[after] == plan[best], after, best)]
        more = (low[:, None] + (high - low)[:, None] * inside).ravel()
        points = _Points.joined([points, at(np.repeat(plan[best], FINER), more)[0]])
        points = points.take(np.lexsort((points.users, points.decode)))
    return points, first.full_step


@dataclass(frozen=True, slots=True)
class _Points(Columns):
    """Candidates as columns. front, transfer, service: parts of the TTFT where prefill has workers of its own, seconds:
    the front end, the transfer of the cache, the prompt's own steps (encoding, `encode`, among them); the rest of it is
    the queue."""

    prefill: NDArray[np.int_]
    decode: NDArray[np.intp]
    users: Floats
    prefill_workers: Floats
    workers: Floats
    prompts_per_s: Floats
    answers_per_s: Floats
    ttft: Floats
    tpot: Floats
    speed: Floats
    front: Floats
    transfer: Floats
    service: Floats
    encode: Floats


def _with_edges(
    everyone: _Columns, rows: NDArray[np.intp], users: Floats, tpot: Floats
) -> tuple[NDArray[np.intp], Floats, Floats]:
    """(rows, users, TPOT) of workers that only decode, and of each plan at the most users that keep the TPOT limit."""
    limit = everyone.job.tpot_s
    last = np.nonzero((tpot[:-1] <= limit) & (tpot[1:] > limit) & (rows[:-1] == rows[1:]))[0]
    if not len(last):
        return rows, users, tpot
    edge = everyone.take(rows[last])
    most, at_most = _at_limit(edge, users[last], users[last + 1], tpot[last])
    return np.append(rows, edge.rows), np.append(users, most), np.append(tpot, at_most)


def _apart(
    system: System,
    everyone: _Columns,
    lone: PromptSteps,
    rows: NDArray[np.intp],
    users: Floats,
    tpot: Floats,
    fits: NDArray[np.intp],
    devices: Floats,
    slack: float,
    pair: tuple[int, int] | None,
) -> tuple[_Points | None, int]:
    """Prefill and decode on workers of their own. Decode: steps without prompts. Prefill: prompts in order of arrival
    on all workers together, so TTFT = `queued_prompt_s` of the time of one prompt, after the front end and before the
    transfer of what it left (`serving.transfer`); the TTFT limit gives the highest load. tpot: of the plans `rows` at
    these users; lone: steps with one prompt of every plan."""
    w, job = everyone.worker, everyone.job
    rows, users, tpot = _with_edges(everyone, rows, users, tpot)
    rate_d = users * w.shapes.dp[rows] / (job.output * tpot)  # requests per second of one decode worker
    each = everyone.take(fits)
    every = Prefill.of(fits, each.shapes, each.costs, each.around, lone.take(fits), job.prompt)

    def sends(made: Prefill, to: NDArray[np.intp]) -> Floats:
        return made.transfer(w.whole.take(made.plan), w.whole.take(to), w.shapes.take(to), job.prompt, w.hbm_Bps)

    # the best prefill worker of each size, sending to its like, and the decode points on the front of their size
    alone = every.load(every.front + sends(every, fits), job.ttft_s, slack)[1]
    size = devices[fits]
    best_p = [int(np.nonzero(size == z)[0][np.argmax(alone[size == z])]) for z in distinct(size)]
    if pair is not None:
        best_p = [int(i) for i in np.nonzero(fits == pair[0])[0]]
    best_p = [i for i in best_p if alone[i] > 0]
    picks = []
    for z in distinct(devices[rows]):
        here = np.nonzero(devices[rows] == z)[0]
        if pair is not None:
            here = here[rows[here] == pair[1]]
        picks += rising(here[np.lexsort((-rate_d[here], tpot[here]))], rate_d)
    if not best_p or not picks:
        return None, 0
    p, d = (v.ravel() for v in np.meshgrid(np.array(best_p), np.array(picks, dtype=np.intp), indexing="ij"))
    made = every.take(p)
    transfer = sends(made, rows[d])
    fixed = made.front + transfer
    x, y, rate, rate_p = _matched(system, made, fixed, size[p], devices[rows][d], rate_d[d], job.ttft_s, slack)
    live = rate > 0
    if not live.any():
        return None, len(live)
    load_p = (rate * made.service)[live] / (x * made.under_way)[live]
    ttft = fixed[live] + queued_prompt_s(made.service[live], load_p, x[live], made.under_way[live])
    # decode workers that are not full run smaller batches: same tpot kept, which errs on the slow side
    share = rate[live] / (y * rate_d[d])[live]
    return _Points(
        prefill=fits[p][live],
        decode=rows[d][live],
        users=users[d][live] * share,
        prefill_workers=x[live],
        workers=y[live],
        prompts_per_s=rate_p[live],
        answers_per_s=rate_d[d][live],
        ttft=np.minimum(ttft, job.ttft_s),  # rho keeps the limit; rounding must not break it
        tpot=tpot[d][live],
        speed=rate[live] * job.output,
        front=made.front[live],
        transfer=transfer[live],
        service=made.service[live],
        encode=np.zeros(int(live.sum())) if w.encode_s is None else w.encode_s[fits[p][live]],
    ), len(live)


def _matched(
    system: System, made: Prefill, fixed: Floats, zp: Floats, zd: Floats, rate_d: Floats, ttft_s: float, slack: float
) -> tuple[Floats, Floats, Floats, Floats]:
    """(prefill workers, decode workers, requests per second of all, prompts per second of one) of pairs: how busy
    prefill workers may be hangs on how many share the queue. fixed: seconds of a TTFT beside prompts; zp, zd: devices
    of a worker; rate_d: of a decode worker."""
    workers, best = 0.0 * fixed + 1.0, None
    for _ in range(SHARED_QUEUE):
        rate_p = made.load(fixed, ttft_s, slack, workers)[1]
        x, y, _ = worker_counts(float(system.devices), zp, zd, rate_p, rate_d)
        workers = np.maximum(x, 1.0)
        rate_p = made.load(fixed, ttft_s, slack, workers)[1]
        rate = np.where((y >= 1.0) & (x * zp < system.devices), np.minimum(x * rate_p, y * rate_d), 0.0)
        found = x, y, rate, rate_p
        best = found if best is None else _faster(best, found)
    assert best is not None
    return best


SHARED_QUEUE = 2
"""Times that the number of prefill workers is looked for: with the queue of one worker, then with that of the number
found."""


def _faster(
    one: tuple[Floats, Floats, Floats, Floats], other: tuple[Floats, Floats, Floats, Floats]
) -> tuple[Floats, Floats, Floats, Floats]:
    """Of each pair the answer with more requests per second."""
    first = one[2] >= other[2]
    x, y, rate, rate_p = (np.where(first, a, b) for a, b in zip(one, other, strict=True))
    return x, y, rate, rate_p


def _answers(
    system: System, everyone: _Columns, prompts: Sequence[PromptSteps], p: _Points, which: Sequence[int]
) -> list[Found]:
    """Those candidates, with the parts of their times."""
    at = np.array(which, dtype=np.intp)
    columns = everyone.take(p.decode[at])
    got = columns.loop(p.users[at], prompts)
    first = np.where(p.prefill[at] >= 0, p.prefill[at], p.decode[at])
    cached = everyone.take(first).cached(np.where(p.prefill[at] >= 0, 1.0, p.users[at]))
    cost = np.ones(len(at)) * columns.around.mtp_cost / columns.accepted

    def row(parts: Mapping[str, Floats], j: int) -> dict[str, float]:
        return {name: float(column[j]) for name, column in parts.items()}

    apart = {name: column * cost for name, column in got.full_step.items()}
    return [
        _answer(system, p, i, row(apart, j), {}, float(cached[j]))
        if p.prefill[i] >= 0
        else _answer(system, p, i, row(got.tpot_parts, j), row(got.ttft_parts, j), float(cached[j]))
        for j, i in enumerate(which)
    ]


def _answer(
    system: System, p: _Points, i: int, tpot_parts: dict[str, float], ttft_parts: dict[str, float], cached: float
) -> Found:
    """Candidate i; what its times have beyond their parts is a part of its own. Where prefill has workers of its own a
    prompt waits there for those before it: the queue, what the limit leaves beside the other parts."""
    tpot, ttft = float(p.tpot[i]), float(p.ttft[i])
    tpot_parts["correction"] = tpot - float_sum(tpot_parts.values())
    if ttft_parts:
        ttft_parts["correction"] = ttft - float_sum(ttft_parts.values())
    else:
        known = {"front_end": p.front[i], "prefill": p.service[i] - p.encode[i], "kv_transfer": p.transfer[i]}
        if p.encode[i] > 0:
            known["encoder"] = p.encode[i]
        ttft_parts = {name: float(seconds) for name, seconds in known.items()}
        ttft_parts["queue"] = ttft - float_sum(ttft_parts.values())
    return Found(
        prefill=int(p.prefill[i]),
        decode=int(p.decode[i]),
        users=float(p.users[i]),
        prefill_workers=int(p.prefill_workers[i]),
        workers=int(p.workers[i]),
        prompts_per_s=float(p.prompts_per_s[i]),
        answers_per_s=float(p.answers_per_s[i]),
        ttft_s=ttft,
        tpot_s=tpot,
        tokens_per_s=float(p.speed[i]),
        tokens_per_s_per_chip=float(p.speed[i]) / system.chips,
        tpot_parts=tpot_parts,
        ttft_parts=ttft_parts,
        cached=cached,
    )
