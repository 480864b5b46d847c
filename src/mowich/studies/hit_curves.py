"""The share of prompts that a cache finds, of a trace or of the load of a scenario."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from mowich.errors import UserError
from mowich.scenario import read_scenario
from mowich.serving.arrivals import read_trace
from mowich.serving.conversations import Conversations
from mowich.serving.hit_curve import HitCurve, hit_curve
from mowich.serving.sessions import SessionLoad
from mowich.serving.traffic.columns import RequestColumns
from mowich.serving.traffic.policies import Scheduler
from mowich.serving.traffic.requests import UserRequest
from mowich.studies.serving import BLOCK
from mowich.studies.traffic_load import read_load, requests_of

TOKEN_S = 0.03
"""Seconds of a token of an answer, for the order in which users ask who wait for it. Their order hardly depends on it.
"""
SCENARIO_FILES = (".yaml", ".yml")


def read_hit_curve(path: str) -> HitCurve:
    """The curve of a trace, or of the load of a scenario. Raises UserErrors for what cannot be read."""
    place = Path(path)
    try:
        known = place.stat()
    except OSError:
        raise UserError("no such trace or scenario", where="--cached", given=path, allowed="60%, or a file") from None
    return _read(path, known.st_mtime_ns, known.st_size)


@lru_cache(maxsize=4)
def _read(path: str, changed: int, size: int) -> HitCurve:
    """changed, size: of the file, so that one which was written again is read again."""
    place = Path(path)
    if place.suffix not in SCENARIO_FILES:
        return hit_curve(read_trace(place), Scheduler().hash_block)
    root = read_scenario(place)
    load = read_load(root.node("traffic"), place.parent)
    scheduler = root.node("scheduler")
    block = int(scheduler.count("block_size", BLOCK))
    block = int(scheduler.count("hash_block", Scheduler().hash_block if load["trace"] else block))
    if load.get("media"):
        root.node("traffic").problem(None, "has images or sound: the share of their prompts is not known", fix="60%")
    root.node("traffic").stop()
    return hit_curve(arrival_order(requests_of(load, block, 10**9)), block)


def arrival_order(load: Iterable[RequestColumns] | Conversations | SessionLoad) -> Iterator[UserRequest]:
    """The requests of a load in the order of their arrival; those that follow an answer come after its time."""
    if not isinstance(load, Conversations | SessionLoad):
        for columns in load:
            yield from columns.requests()
        return
    starts = load.starts()
    coming: list[tuple[float, int, UserRequest]] = []
    start, count = next(starts, None), 0
    while start is not None or coming:
        if start is not None and (not coming or start.arrival_s <= coming[0][0]):
            one, start = start, next(starts, None)
        else:
            one = heapq.heappop(coming)[2]
        yield one
        one.last_token_s = one.arrival_s + TOKEN_S * one.output
        for more in load.after(one):
            count += 1
            heapq.heappush(coming, (more.arrival_s, count, more))
