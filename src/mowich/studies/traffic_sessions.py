"""Figures by session: time to a task, where it goes, what a task costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mowich.serving.sessions import TASK_PARTS, EndedSession
from mowich.serving.traffic.moments import earlier

SESSION_COLUMNS = (
    *("id", "kind", "begin_s", "end_s"),
    *(f"{part}_s" for part in TASK_PARTS),
    *("calls", "prompt", "cached", "output", "done"),
)
"""Of `--sessions-out`: a line for each session."""


def is_completed(one: EndedSession) -> bool:
    """Whether all of a task was done: one whose prompts outgrew the cache was not."""
    return one.is_done and not one.session.is_cut


@dataclass(slots=True, kw_only=True)
class SessionTally:
    """What is kept of sessions that ended. limit_s: of the time to a task; begin_s, end_s: sessions that begin between
    these stand in the figures; good_of: calls of each session under way that kept the limits of a request; good: of
    sessions that kept theirs, in all."""

    limit_s: float = math.inf
    begin_s: float = 0.0
    end_s: float = math.inf
    ended: list[EndedSession] = field(default_factory=list)
    good_of: dict[int, int] = field(default_factory=dict)
    good: int = 0
    kept: int = 0

    def saw(self, session: int, is_good: bool) -> None:
        """A request of a session was answered that stands in the figures."""
        self.good_of[session] = self.good_of.get(session, 0) + is_good

    def told(self, one: EndedSession) -> None:
        """A session ended."""
        self.ended.append(one)
        good = self.good_of.pop(one.index, 0)
        if is_completed(one) and one.end_s - one.begin_s <= self.limit_s:
            self.good += good
            self.kept += self.counts(one)

    def counts(self, one: EndedSession) -> bool:
        """Whether a session stands in the figures."""
        return earlier(self.begin_s) <= one.begin_s < earlier(self.end_s)

    def figures(self, *, is_limited: bool) -> dict[str, object]:
        """What is told of sessions, but for what they cost."""
        done = [one for one in self.ended if is_completed(one)]
        counted = [one for one in done if self.counts(one)]
        n = sum(map(self.counts, self.ended))
        out: dict[str, object] = {
            "begun": len(self.ended),
            "completed": len(done),
            "counted": len(counted),
            "cut": sum(one.session.is_cut for one in self.ended),
            "task_s": marks([one.end_s - one.begin_s for one in counted]),
            "parts_s": {part: _mean([one.parts[part] for one in counted]) for part in TASK_PARTS},
            **_lengths(counted),
            "goodput_frac": self.kept / n if is_limited and n else None,
        }
        kinds = sorted({one.session.kind for one in self.ended})
        if len(kinds) > 1:
            of = {kind: [one for one in counted if one.session.kind == kind] for kind in kinds}
            out["of"] = {
                kind: {
                    "counted": len(some),
                    "task_s": marks([one.end_s - one.begin_s for one in some]),
                    **_lengths(some),
                }
                for kind, some in of.items()
            }
        return out

    def write(self, path: Path) -> None:
        """A line for each session, in the order in which they ended."""
        with path.open("w", encoding="utf-8") as file:
            file.write(",".join(SESSION_COLUMNS) + "\n")
            for one in self.ended:
                name = one.session.name.replace(",", " ")
                times = ",".join(
                    f"{x:.6f}" for x in (one.begin_s, one.end_s, *(one.parts[part] for part in TASK_PARTS))
                )
                file.write(
                    f"{name},{one.session.kind},{times},{one.calls},{one.prompt},{one.cached},{one.output},"
                    f"{int(is_completed(one))}\n"
                )


def _lengths(some: Sequence[EndedSession]) -> dict[str, object]:
    """Means of what sessions asked."""
    prompt = sum(one.prompt for one in some)
    return {
        "calls_mean": _mean([one.calls for one in some]),
        "prompt_mean": _mean([one.prompt for one in some]),
        "output_mean": _mean([one.output for one in some]),
        "cached_frac": sum(one.cached for one in some) / prompt if prompt else None,
    }


def _mean(values: Sequence[float]) -> float | None:
    total = 0.0
    for value in values:
        total += value
    return total / len(values) if values else None


def marks(values: Sequence[float]) -> dict[str, float | None]:
    """mean, p50, p90, p99; None of nothing."""
    some = np.array(values)
    quantiles = {f"p{round(100 * q)}": float(np.quantile(some, q)) if len(some) else None for q in (0.5, 0.9, 0.99)}
    return {"mean": _mean(values), **quantiles}


def with_costs(
    found: Mapping[str, object], *, span_s: float, chips: float, joule: float | None, usd: float | None
) -> dict[str, object]:
    """The same with what a task costs: of all that ran, by the tasks that were completed. chips: paid for, on average;
    joule, usd: of all."""
    tasks = found["completed"]
    assert isinstance(tasks, int)
    return {
        **found,
        "tasks_per_h_per_chip": tasks / span_s * HOUR_S / chips,
        "usd_per_task": None if usd is None or not tasks else usd / tasks,
        "J_per_task": None if joule is None or not tasks else joule / tasks,
    }


HOUR_S = 3600.0
