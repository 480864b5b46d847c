"""How many requests per second one worker of each plan answers at most: the bounds from which a search by simulation
starts. By the same closed forms as `serving.search`, so of means: percentiles need more workers than these."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Floats
from mowich.serving.search import MOST_USERS, ServeJob, Worker, _Columns, ladder
from mowich.serving.waits import Front


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """Workers of every plan [n]. per_s: requests per second that one answers within limits on means (0: none);
    request_s: seconds of a request there; ttft_s, tpot_s: of a request that is alone (inf: not one fits; NaN: another
    pool decides it). rows, users, seconds: of every batch that was tried, its plan, the requests inside a worker and
    the seconds of one, by plan and users."""

    per_s: Floats
    request_s: Floats
    ttft_s: Floats
    tpot_s: Floats
    rows: NDArray[np.intp]
    users: Floats
    seconds: Floats

    def seconds_at(self, plan: int, *, per_s: float | None = None, users: float = 0.0, think_s: float = 0.0) -> float:
        """Seconds of a request where a worker gets so many requests per second, or has so many users who think between
        their requests: of the smallest batch that answers them, else of the largest."""
        first, last = np.searchsorted(self.rows, [plan, plan + 1])
        inside, seconds = self.users[first:last], self.seconds[first:last]
        enough = inside / seconds >= per_s if per_s is not None else inside * (1.0 + think_s / seconds) >= users
        return float(seconds[np.argmax(enough)] if enough.any() else seconds[-1])


def together_capacity(w: Worker, job: ServeJob) -> Capacity:
    """Workers that prefill and decode, at the batch that answers most."""
    everyone = _Columns.of(w, job)
    rows, users = _batches(everyone)
    if not len(rows):
        return _none(w)
    columns = everyone.take(rows)
    ttft, tpot = columns.together(columns.loop(users, everyone.prompts()), users)
    request_s = ttft + (job.output - 1.0) * tpot
    return _best(w, rows, users, request_s, (ttft <= job.ttft_s) & (tpot <= job.tpot_s), ttft, tpot)


def decode_capacity(w: Worker, job: ServeJob) -> Capacity:
    """Workers that only decode."""
    everyone = _Columns.of(w, job)
    rows, users = _batches(everyone)
    if not len(rows):
        return _none(w)
    tpot = everyone.take(rows).alone(users)
    request_s = np.maximum(job.output - 1.0, 1.0) * tpot
    return _best(w, rows, users, request_s, tpot <= job.tpot_s, np.full(len(rows), math.nan), tpot)


def prefill_capacity(w: Worker, job: ServeJob) -> Capacity:
    """Workers that only prefill, as busy as lets the first token keep its limit: prompts wait as in M/D/1."""
    one, plans = np.ones(len(w.plans)), np.arange(len(w.plans))
    columns = _Columns.of(w, job)
    service = columns.prompts()[0].each_s
    front = Front.of(columns.around).before(one * job.prompt)
    waits = 2.0 * np.maximum((job.ttft_s - front) / service - 1.0, 0.0)  # without a limit endless, always busy
    busy = 1.0 - 1.0 / (1.0 + waits)
    under_way = w.shapes.dp * np.maximum(1.0, w.shapes.pp)
    room = columns.room()
    return Capacity(
        per_s=np.where(room >= 1.0, busy * under_way / service, 0.0),
        request_s=service,
        ttft_s=np.where(room >= 1.0, front + service, math.inf),
        tpot_s=np.full(len(plans), math.nan),
        rows=plans,
        users=under_way,
        seconds=service,
    )


def _batches(everyone: _Columns) -> tuple[NDArray[np.intp], Floats]:
    """(plans, users): every plan at a ladder of batches, up to the largest that its memory holds."""
    steps = ladder(MOST_USERS)
    rows = np.repeat(everyone.rows, len(steps))
    users = np.tile(steps, len(everyone.rows))
    fits = users <= np.minimum(everyone.room(), MOST_USERS)[rows]
    return rows[fits], users[fits]


def _best(
    w: Worker,
    rows: NDArray[np.intp],
    users: Floats,
    request_s: Floats,
    keeps: NDArray[np.bool_],
    ttft: Floats,
    tpot: Floats,
) -> Capacity:
    """The batch of each plan that answers most. users: of a rank group; keeps: batches within the limits."""
    inside = users * w.shapes.dp[rows]
    per_s = np.where(keeps, inside / request_s, 0.0)
    order = np.lexsort((per_s, rows))
    last = order[np.append(rows[order][1:] != rows[order][:-1], True)]
    alone = np.unique(rows, return_index=True)[1]  # the smallest batch of a plan is one request
    none = _none(w)
    none.per_s[rows[last]], none.request_s[rows[last]] = per_s[last], request_s[last]
    none.ttft_s[rows[alone]], none.tpot_s[rows[alone]] = ttft[alone], tpot[alone]
    return replace(none, rows=rows, users=inside, seconds=request_s)


def _none(w: Worker) -> Capacity:
    zeros, empty = np.zeros(len(w.plans)), np.zeros(0)
    never = np.full(len(w.plans), math.inf)
    return Capacity(
        per_s=zeros,
        request_s=zeros.copy(),
        ttft_s=never,
        tpot_s=never.copy(),
        rows=np.zeros(0, dtype=np.intp),
        users=empty,
        seconds=empty,
    )
