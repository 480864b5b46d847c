"""How many requests per second one worker of each plan answers at most: the bounds from which a search by simulation
starts. By the same closed forms as `serving.search`, so of means: percentiles need more workers than these."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Floats
from mowich.serving.search import ServeJob, Worker, _Columns, ladder
from mowich.serving.steady import max_sequences
from mowich.serving.waits import Front

MOST_USERS = 512.0
"""Users per rank group up to which batches are tried."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """Of every plan [n]: requests per second that one worker answers within limits on means (0: none), and the seconds
    of a request there."""

    per_s: Floats
    request_s: Floats


def together_capacity(w: Worker, job: ServeJob) -> Capacity:
    """Workers that prefill and decode, at the batch that answers most."""
    rows, users = _batches(w, job)
    if not len(rows):
        return _none(w)
    everyone = _Columns.of(w, job)
    columns = everyone.take(rows)
    ttft, tpot = columns.together(columns.loop(users, everyone.prompts()), users)
    request_s = ttft + (job.output - 1.0) * tpot
    keeps = (ttft <= job.ttft_s) & (tpot <= job.tpot_s)
    return _best(w, rows, np.where(keeps, users * w.shapes.dp[rows] / request_s, 0.0), request_s)


def decode_capacity(w: Worker, job: ServeJob) -> Capacity:
    """Workers that only decode."""
    rows, users = _batches(w, job)
    if not len(rows):
        return _none(w)
    tpot = _Columns.of(w, job).take(rows).alone(users)
    request_s = np.maximum(job.output - 1.0, 1.0) * tpot
    return _best(w, rows, np.where(tpot <= job.tpot_s, users * w.shapes.dp[rows] / request_s, 0.0), request_s)


def prefill_capacity(w: Worker, job: ServeJob) -> Capacity:
    """Workers that only prefill, as busy as lets the first token keep its limit: prompts wait as in M/D/1."""
    one = np.ones(len(w.plans))
    columns = _Columns.of(w, job)
    service = columns.prompts()[0].each_s * columns.factor(w.ttft, one)
    left = job.ttft_s - Front.of(columns.around).before(one * job.prompt)  # for the prompt and its wait
    waits = 2.0 * np.maximum(left / service - 1.0, 0.0)  # without a limit endless, and workers always busy
    busy = 1.0 - 1.0 / (1.0 + waits)
    per_s = busy * w.shapes.dp * np.maximum(1.0, w.shapes.pp) / service
    room = max_sequences(w.shapes, columns.load(one), w.around, w.capacity_B)
    return Capacity(np.where(room >= 1.0, per_s, 0.0), service)


def _batches(w: Worker, job: ServeJob) -> tuple[NDArray[np.intp], Floats]:
    """(plans, users): every plan at a ladder of batches up to what its memory holds."""
    everyone = np.arange(len(w.plans))
    columns = _Columns.of(w, job)
    room = max_sequences(w.shapes, columns.load(np.ones(len(everyone))), w.around, w.capacity_B)
    steps = ladder(MOST_USERS)
    rows = np.repeat(everyone, len(steps))
    users = np.tile(steps, len(everyone))
    fits = users <= np.minimum(room, MOST_USERS)[rows]
    return rows[fits], users[fits]


def _best(w: Worker, rows: NDArray[np.intp], per_s: Floats, request_s: Floats) -> Capacity:
    """The batch of each plan that answers most."""
    order = np.lexsort((per_s, rows))
    last = order[np.append(rows[order][1:] != rows[order][:-1], True)]
    out = _none(w)
    out.per_s[rows[last]], out.request_s[rows[last]] = per_s[last], request_s[last]
    return out


def _none(w: Worker) -> Capacity:
    return Capacity(np.zeros(len(w.plans)), np.zeros(len(w.plans)))
