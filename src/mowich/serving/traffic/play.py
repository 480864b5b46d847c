"""A fleet that serves a load from beginning to end, by the compiled code or by the Python code: one answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from mowich.readback import record_of
from mowich.serving.conversations import Conversations
from mowich.serving.sessions import SessionLoad
from mowich.serving.traffic.autoscale import ScaledPool
from mowich.serving.traffic.columns import RequestColumns
from mowich.serving.traffic.compiled import (
    ANSWER,
    TRAFFIC_LIBRARY,
    AnswerColumns,
    CompiledFleet,
    FleetSetup,
    ReplicaGroup,
    compiled_library,
)
from mowich.serving.traffic.encoders import EncoderWorker
from mowich.serving.traffic.replica import Replica
from mowich.serving.traffic.requests import UserRequest
from mowich.serving.traffic.routing import ReplicaFleet
from mowich.serving.traffic.tiers import stores_of, tiering_of

Tell = Callable[[AnswerColumns, Callable[[int], str]], None]
"""What is done with answered requests, in the order of their ends: the requests, what one of them is called by its
number."""

_AT_ONCE = 4096
"""Answered requests that the Python code tells of at once."""


@dataclass(slots=True, kw_only=True)
class Cutoff:
    """When a traffic need not be played to its end: as soon as so many requests are beyond a limit that its 99th
    percentile is, whatever comes. Those of the warm-up stand among them: workers that began empty are less full than in
    the steady state. most: requests that can come; late, slow: those beyond ttft_s, tpot_s."""

    ttft_s: float
    tpot_s: float
    most: float
    late: int = 0
    slow: int = 0

    def saw(self, r: UserRequest) -> None:
        """A request was answered."""
        self.late += r.first_token_s - r.arrival_s > self.ttft_s
        self.slow += r.output > 1 and (r.last_token_s - r.first_token_s) / (r.output - 1) > self.tpot_s

    @property
    def enough(self) -> float:
        """Requests beyond a limit that break it."""
        return 1.0 + 0.01 * self.most

    @property
    def broken(self) -> tuple[bool, bool]:
        """Whether the limit on the first token, and that on later ones, is broken for certain."""
        return self.late > self.enough, self.slow > self.enough


class ReplicaRecord(Protocol):
    """What is asked of a replica in the end."""

    @property
    def busy_s(self) -> float: ...
    @property
    def steps(self) -> int: ...
    @property
    def events(self) -> int: ...
    @property
    def moved_B(self) -> list[tuple[float, float]]: ...
    @property
    def adapter_loads(self) -> tuple[int, int]: ...


@dataclass(slots=True, kw_only=True)
class PlayedFleet:
    """What was played. taken: requests that came; first_s: when the first came (None: none did); scaled,
    scaled_decoders: those that came and went; timelines: replicas with their steps, where these were kept; encoders:
    that images and sound were encoded by, apart or with the replicas."""

    replicas: Sequence[ReplicaRecord]
    decoders: Sequence[ReplicaRecord]
    taken: int
    first_s: float | None
    scaled: ScaledPool | None
    scaled_decoders: ScaledPool | None
    timelines: Sequence[Replica] = field(default_factory=list)
    encoders: Sequence[EncoderWorker] = ()


PlayedLoad = Iterable[RequestColumns] | Conversations | SessionLoad
"""Requests in order of arrival, or what comes after answers."""


def play_fleet(setup: FleetSetup, load: PlayedLoad, tell: Tell, cutoff: Cutoff | None = None) -> PlayedFleet:
    """Serve a load to its end, or until the cutoff. Raises CacheTooSmallError; UserError for a bad trace."""
    library = compiled_library(setup)
    follow = load.columns() if isinstance(load, SessionLoad) else load if isinstance(load, Conversations) else None
    if library is None or (follow is None and isinstance(load, SessionLoad)):
        return _python(setup, load, tell, cutoff)
    limit = None if cutoff is None else (cutoff.ttft_s, cutoff.tpot_s, cutoff.enough)
    fleet = CompiledFleet(library, setup, follow, limit)
    for answers in fleet.run(() if isinstance(load, Conversations | SessionLoad) else load):
        tell(answers, fleet.id_of)
    if cutoff is not None:
        cutoff.late, cutoff.slow = fleet.beyond
    return record_of(PlayedFleet, fleet)


def _python(setup: FleetSetup, load: PlayedLoad, tell: Tell, cutoff: Cutoff | None) -> PlayedFleet:
    answered: list[UserRequest] = []
    media = setup.media

    def flush() -> None:
        tell(as_answers(answered), [r.id for r in answered].__getitem__)
        answered.clear()

    def done(r: UserRequest) -> None:
        answered.append(r)
        if media is not None:
            media.see(r)
        if cutoff is not None:
            cutoff.saw(r)
        if len(answered) >= _AT_ONCE:
            flush()

    fleet = python_fleet(setup, done)
    starts: Iterator[UserRequest]
    if isinstance(load, Conversations | SessionLoad):
        fleet.follow = load.after if media is None else media.draws.of_next(load.after)
        starts = load.starts()
    else:
        starts = _one_by_one(load)
    if media is not None:
        starts = media.draws.of_all(starts, by_user=fleet.follow is not None)
    count, first = 0, None
    try:
        for request in fleet.run(starts):
            first = request.arrival_s if first is None else first
            count += 1
            if count == TRAFFIC_LIBRARY.worth_saying:
                TRAFFIC_LIBRARY.library(count)
            if cutoff is not None and any(cutoff.broken):
                break
    finally:
        flush()
    return record_of(
        PlayedFleet,
        fleet,
        taken=count,
        first_s=first,
        timelines=[*fleet.replicas, *fleet.decoders],
        encoders=[r.encoder for r in fleet.replicas if r.encoder is not None]
        if fleet.encoders is None
        else fleet.encoders.workers,
    )


def _one_by_one(chunks: Iterable[RequestColumns]) -> Iterator[UserRequest]:
    for columns in chunks:
        yield from columns.requests()


def python_fleet(setup: FleetSetup, done: Callable[[UserRequest], None]) -> ReplicaFleet:
    """The fleet of the Python code. done: what is done with an answered request."""

    def pool(w: ReplicaGroup, word: str) -> list[Replica]:
        tiering = tiering_of(w.scheduler, w.times.kv_B) if w.tiering is None else w.tiering
        stores = stores_of(tiering, w.scheduler.hash_block * w.times.kv_B, w.count)
        return [
            Replica(
                i,
                w.times,
                w.scheduler,
                on_done=done,
                trace=setup.is_traced,
                name=f"{word} {i}",
                seen=w.seen,
                tiering=tiering,
                stores=stores[i],
            )
            for i in range(w.count)
        ]

    seen, media = setup.serve.seen, setup.media
    serve = pool(setup.serve, "prefill" if setup.decode else "replica")
    decoders = pool(setup.decode, "decode") if setup.decode else []
    rule, behind = setup.rule, setup.decode_rule
    apart = None if media is None else media.pool()
    if media is not None and apart is None:
        for replica in serve:
            replica.encoder = EncoderWorker(media.times)
    return ReplicaFleet(
        replicas=serve,
        decoders=decoders,
        route=setup.route,
        front=None if seen is None else seen.front,
        failures=setup.failures,
        chance=setup.chance,
        recovery=setup.recovery,
        transfer_s=(lambda tokens: 0.0) if setup.way is None else setup.way.seconds,
        scaled=None if rule is None else ScaledPool(rule=rule, replicas=serve),
        scaled_decoders=None if behind is None else ScaledPool(rule=behind, replicas=decoders),
        encoders=apart,
    )


def as_answers(requests: Sequence[UserRequest]) -> AnswerColumns:
    """Answered requests as columns; the number of each is its place among them."""
    out = np.empty(len(requests), ANSWER)
    for name in ANSWER.names or ():
        out[name] = range(len(requests)) if name == "id" else [getattr(r, name) for r in requests]
    return out
