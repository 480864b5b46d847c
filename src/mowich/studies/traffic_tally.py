"""What is kept of the requests that a played traffic answered: times, counts and sums.

The times take bounded memory: exact percentiles up to `EXACT` requests, then a histogram of 0.25% bins, so that a trace
of any length streams through.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, TypedDict

import numpy as np

from mowich.arrays import Floats
from mowich.serving.traffic.columns import added
from mowich.serving.traffic.compiled import TIER_COLUMNS, AnswerColumns, counted_in_bins
from mowich.serving.traffic.moments import earlier
from mowich.serving.traffic.play import ReplicaRecord
from mowich.serving.traffic.requests import UserRequest
from mowich.serving.traffic.tiers import Tiering
from mowich.studies.traffic_adapters import TenantTally
from mowich.studies.traffic_sessions import SessionTally

EXACT = 200_000
BIN = math.log(1.0025)
FLOOR = 1e-7
LIMIT_MARGIN = 1e-9
"""Share of a limit by which a time may be above it and keep it: the rounding of a time."""
REQUEST_COLUMNS = (
    "id",
    "arrival_s",
    "scheduled_s",
    "first_token_s",
    "last_token_s",
    "prompt",
    "output",
    "replica",
    "cached",
    "preemptions",
)
_REQUEST_LINE = "%s,%.6f,%.6f,%.6f,%.6f,%d,%d,%d,%d,%d\n"


class Figures:
    """Mean and percentiles of positive numbers in bounded memory."""

    def __init__(self) -> None:
        self.count, self.total = 0, 0.0
        self._exact: list[Floats] | None = []
        self._bins = np.zeros(0, np.int64)

    def add(self, values: Floats) -> None:
        """A column of them."""
        self.count += len(values)
        self.total = added(self.total, values)
        if self._exact is not None:
            self._exact.append(values)
            if self.count > EXACT:
                values, self._exact = np.concatenate(self._exact), None
        if self._exact is None:
            self._bins = counted_in_bins(self._bins, values, FLOOR, BIN)

    def quantile(self, share: float) -> float | None:
        """Linear between ranks while exact, to 0.25% afterwards; None when empty."""
        if not self.count:
            return None
        if self._exact is not None:
            return float(np.quantile(np.concatenate(self._exact), share))
        at = int(np.searchsorted(np.cumsum(self._bins), share * (self.count - 1), side="right"))
        return FLOOR * math.exp((at + 0.5) * BIN)

    def to_dict(self) -> dict[str, float | None]:
        """mean, p50, p90, p99."""
        mean = self.total / self.count if self.count else None
        return {"mean": mean, **{f"p{round(100 * q)}": self.quantile(q) for q in (0.5, 0.9, 0.99)}}


MEDIA_SUMS = (
    *("requests", "items", "tokens", "counted"),
    *("encoder_queue", "encoder", "embedding_transfer", "queue", "prompt"),
)
"""What is summed over the requests of a load with images or sound; the last five are parts of a time to first token."""


@dataclass(slots=True)
class Tally:
    """What is kept of answered requests. slo: limits by name, s; counted: between which arrivals they stand in the
    times, s; file: where each has a line (None: nowhere); tasks: of a load of sessions, what is kept of these; bins: by
    width in s, requests that stand in the times and those of them within the limits, by bin of arrival."""

    slo: Mapping[str, float]
    counted: Sequence[float] = (0.0, math.inf)
    file: IO[str] | None = None
    tasks: SessionTally | None = None
    has_tenants: bool = False
    ttft: Figures = field(default_factory=Figures)
    tpot: Figures = field(default_factory=Figures)
    e2e: Figures = field(default_factory=Figures)
    queue: Figures = field(default_factory=Figures)
    loads: Figures = field(default_factory=Figures)
    of_tiers: Sequence[int] = (0,) * len(TIER_COLUMNS)
    good: int = 0
    answered: int = 0
    inside_s: float = 0.0
    tokens: int = 0
    prompt: int = 0
    cached: int = 0
    preemptions: int = 0
    failures: int = 0
    moves: int = 0
    disturbed_ttft: Figures = field(default_factory=Figures)
    disturbed_e2e: Figures = field(default_factory=Figures)
    tenants: TenantTally = field(default_factory=TenantTally)
    last_s: float = 0.0
    bins: dict[float, dict[int, list[int]]] = field(default_factory=dict)
    media: dict[str, float] = field(default_factory=lambda: dict.fromkeys(MEDIA_SUMS, 0.0))

    def saw_media(self, r: UserRequest) -> None:
        """Add the media of a finished request of a load that has some, and the parts of its time to first token."""
        sums, media = self.media, r.media
        if media is not None:
            sums["requests"] += 1
            sums["items"] += len(media.items)
            sums["tokens"] += media.tokens
        begin, end = map(earlier, self.counted)
        if not begin <= r.arrival_s < end:
            return
        apart = media is not None and media.ready_s >= 0
        parts = {
            "encoder_queue": media.wait_s if media is not None else 0.0,
            "encoder": media.encode_s if media is not None else 0.0,
            "embedding_transfer": media.travel_s if media is not None else 0.0,
            "queue": r.scheduled_s - (media.ready_s if media is not None and apart else r.arrival_s),
        }
        sums["counted"] += 1
        sums["prompt"] += r.first_token_s - r.arrival_s
        for name, seconds in parts.items():
            sums[name] += seconds
            sums["prompt"] -= seconds

    def disturbed(self) -> dict[str, object]:
        """What users felt of replicas that went."""
        felt = self.disturbed_e2e.count
        return {
            "requests": felt,
            "frac": felt / max(1, self.e2e.count),
            "moves": self.moves,
            "ttft_s": self.disturbed_ttft.to_dict(),
            "e2e_s": self.disturbed_e2e.to_dict(),
        }

    def add(self, answers: AnswerColumns, id_of: Callable[[int], str]) -> None:
        """Answered requests, in the order of their ends. id_of: what one is called, by its number."""
        if not len(answers):
            return
        arrival, first, last = (answers[name] for name in ("arrival_s", "first_token_s", "last_token_s"))
        output = answers["output"]
        ttft, e2e = first - arrival, last - arrival
        tpot = np.where(output > 1, (last - first) / np.maximum(output - 1, 1), 0.0)
        begin, end = map(earlier, self.counted)
        stands = (arrival >= begin) & (arrival < end)
        is_good = stands
        for name, time_s in (("ttft", ttft), ("tpot", tpot), ("e2e", e2e)):
            is_good = is_good & (time_s <= self.slo.get(name, math.inf) * (1.0 + LIMIT_MARGIN))
        self.ttft.add(ttft[stands])
        self.e2e.add(e2e[stands])
        self.queue.add((answers["scheduled_s"] - arrival)[stands])
        self.loads.add(answers["loads_s"][stands])
        self.of_tiers = [n + int(answers[name].sum()) for n, name in zip(self.of_tiers, TIER_COLUMNS, strict=True)]
        self.tpot.add(tpot[stands & (output > 1)])
        self.good += int(is_good.sum())
        if self.tasks is not None:
            self.tasks.add(answers, is_good)
        for width_s, bins in self.bins.items():
            places = (arrival[stands] / width_s).astype(np.int64)
            for count, some in ((0, places), (1, places[is_good[stands]])):
                for k, n in zip(*(column.tolist() for column in np.unique(some, return_counts=True)), strict=True):
                    bins.setdefault(k, [0, 0])[count] += n
        self.answered += len(answers)
        self.inside_s = added(self.inside_s, e2e)
        self.tokens += int(output.sum())
        felt = stands & ((answers["failures"] > 0) | (answers["moves"] > 0))
        self.disturbed_ttft.add(ttft[felt])
        self.disturbed_e2e.add(e2e[felt])
        if self.has_tenants:
            self.tenants.add(answers["adapter"][stands], ttft[stands], e2e[stands])
        for name in ("prompt", "cached", "preemptions", "failures", "moves"):
            setattr(self, name, getattr(self, name) + int(answers[name].sum()))
        self.last_s = max(self.last_s, float(last.max()))
        if self.file is not None:
            names = [id_of(number) for number in answers["id"].tolist()]
            columns = (answers[name].tolist() for name in REQUEST_COLUMNS[1:])
            self.file.writelines(map(_REQUEST_LINE.__mod__, zip(names, *columns, strict=True)))


class TierFigures(TypedDict, total=False):
    """Those fields of a result that tell of tiers."""

    cached_of: Mapping[str, float]
    tier_read_B: Mapping[str, float]
    tier_written_B: Mapping[str, float]
    load_wait_s: Mapping[str, float | None]


def tier_figures(tally: Tally, tiering: Tiering, replicas: Sequence[ReplicaRecord]) -> TierFigures:
    """What is told of the tiers of prefix caches; nothing where there are none. replicas: those with the tiers."""
    if not tiering.tiers:
        return {}
    found = dict(zip((tier.name for tier in tiering.tiers), tally.of_tiers, strict=False))
    prompts = max(1, tally.prompt)
    read, written = {}, {}
    for k, tier in enumerate(tiering.tiers):
        told = [r.moved_B[k] for r in (replicas[:1] if tier.has_one_link else replicas)]
        read[tier.name] = added(0.0, np.array([x for x, _ in told]))
        written[tier.name] = added(0.0, np.array([x for _, x in told]))
    return {
        "cached_of": {
            "memory": (tally.cached - sum(found.values())) / prompts,
            **{name: tokens / prompts for name, tokens in found.items()},
        },
        "tier_read_B": read,
        "tier_written_B": written,
        "load_wait_s": tally.loads.to_dict(),
    }
