"""A fleet that serves a load from beginning to end, by the compiled code or by the Python code: one answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from mowich.serving.conversations import Conversations
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


@dataclass(slots=True, kw_only=True)
class PlayedFleet:
    """What was played. taken: requests that came; first_s: when the first came (None: none did); scaled: replicas that
    came and went; timelines: replicas with their steps, where these were kept; encoders: that images and sound were
    encoded by, apart or with the replicas."""

    replicas: Sequence[ReplicaRecord]
    decoders: Sequence[ReplicaRecord]
    taken: int
    first_s: float | None
    scaled: ScaledPool | None
    timelines: Sequence[Replica] = field(default_factory=list)
    encoders: Sequence[EncoderWorker] = ()


def play_fleet(
    setup: FleetSetup, load: Iterable[RequestColumns] | Conversations, tell: Tell, cutoff: Cutoff | None = None
) -> PlayedFleet:
    """Serve a load to its end, or until the cutoff. Raises CacheTooSmallError; UserError for a bad trace."""
    library = compiled_library(setup)
    if library is None:
        return _python(setup, load, tell, cutoff)
    talks, chunks = (load, ()) if isinstance(load, Conversations) else (None, load)
    limit = None if cutoff is None else (cutoff.ttft_s, cutoff.tpot_s, cutoff.enough)
    fleet = CompiledFleet(library, setup, talks, limit)
    for answers in fleet.run(chunks):
        tell(answers, fleet.id_of)
    if cutoff is not None:
        cutoff.late, cutoff.slow = fleet.beyond
    return PlayedFleet(
        replicas=fleet.replicas,
        decoders=fleet.decoders,
        taken=fleet.taken,
        first_s=fleet.first_s,
        scaled=fleet.scaled,
    )


def _python(
    setup: FleetSetup, load: Iterable[RequestColumns] | Conversations, tell: Tell, cutoff: Cutoff | None
) -> PlayedFleet:
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
    talks = load if isinstance(load, Conversations) else None
    requests = _one_by_one(load) if not isinstance(load, Conversations) else load.starts()
    if talks is not None:
        fleet.follow = talks.after if media is None else media.draws.of_next(talks.after)
    if media is not None:
        requests = media.draws.of_all(requests, by_user=talks is not None)
    count, first = 0, None
    try:
        for request in fleet.run(requests):
            first = request.arrival_s if first is None else first
            count += 1
            if count == TRAFFIC_LIBRARY.worth_saying:
                TRAFFIC_LIBRARY.library(count)
            if cutoff is not None and any(cutoff.broken):
                break
    finally:
        flush()
    return PlayedFleet(
        replicas=fleet.replicas,
        decoders=fleet.decoders,
        taken=count,
        first_s=first,
        scaled=fleet.scaled,
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
        return [
            Replica(i, w.times, w.scheduler, on_done=done, trace=setup.is_traced, name=f"{word} {i}", seen=w.seen)
            for i in range(w.count)
        ]

    seen, media = setup.serve.seen, setup.media
    serve = pool(setup.serve, "prefill" if setup.decode else "replica")
    apart = None if media is None else media.pool()
    if media is not None and apart is None:
        for replica in serve:
            replica.encoder = EncoderWorker(media.times)
    return ReplicaFleet(
        replicas=serve,
        decoders=pool(setup.decode, "decode") if setup.decode else [],
        route=setup.route,
        front=None if seen is None else seen.front,
        failures=setup.failures,
        transfer_s=(lambda tokens: 0.0) if setup.way is None else setup.way.seconds,
        scaled=None if setup.rule is None else ScaledPool(rule=setup.rule, replicas=serve),
        encoders=apart,
    )


def as_answers(requests: Sequence[UserRequest]) -> AnswerColumns:
    """Answered requests as columns; the number of each is its place among them."""
    out = np.empty(len(requests), ANSWER)
    for name in ANSWER.names or ():
        out[name] = range(len(requests)) if name == "id" else [getattr(r, name) for r in requests]
    return out
