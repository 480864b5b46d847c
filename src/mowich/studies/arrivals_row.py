"""What random arrivals do to a plan, as it stands in its row, and where each of its times stands in what was played."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mowich.estimate import Estimate
from mowich.shown import Keyed

PLAYED_TIMES: Mapping[str, tuple[str, str]] = {
    "ttft_s": ("ttft_s", "mean"),
    "tpot_s": ("tpot_s", "mean"),
    "p99_ttft_s": ("ttft_s", "p99"),
    "p99_tpot_s": ("tpot_s", "p99"),
}
"""Time of a deployment -> the time of its traffic, and the mark of that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomArrivals(Keyed):
    """A plan under Poisson arrivals. share: of its steady rate; requests_per_s: that arrive; ttft_s, tpot_s: means;
    p99_ttft_s, p99_tpot_s: 99th percentiles; is_overloaded: they came to no steady state, and the times are unknown;
    command: that plays the same."""

    share: float
    requests_per_s: float
    ttft_s: Estimate
    tpot_s: Estimate
    p99_ttft_s: Estimate
    p99_tpot_s: Estimate
    is_overloaded: bool
    command: str
