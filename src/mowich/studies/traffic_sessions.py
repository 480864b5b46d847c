"""Figures by session: time to a task, where it goes, what a task costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mowich.serving.sessions import TASK_PARTS, CallSession, EndedSession, SessionLoad, ended_session
from mowich.serving.traffic.compiled import AnswerColumns
from mowich.serving.traffic.moments import earlier
from mowich.writing import write_file

SESSION_COLUMNS = (
    *("id", "kind", "begin_s", "end_s"),
    *(f"{part}_s" for part in TASK_PARTS),
    *("calls", "prompt", "cached", "output", "done"),
)
"""Of `--sessions-out`: a line for each session."""


class _AnsweredRow(NamedTuple):
    """A row of answers, as far as sessions need it."""

    arrival_s: float
    scheduled_s: float
    last_token_s: float
    loads_s: float
    prompt: int
    cached: int
    output: int


@dataclass(slots=True, kw_only=True)
class SessionTally:
    """What is kept of sessions. load: where they are from; limit_s: of the time to a task; begin_s, end_s: sessions
    that begin between these stand in the figures; ended: those whose calls were all answered; good: calls that kept the
    limits of a request, of tasks that were done in time; kept: tasks in time."""

    load: SessionLoad
    limit_s: float = math.inf
    begin_s: float = 0.0
    end_s: float = math.inf
    ended: list[EndedSession] = field(default_factory=list)
    good: int = 0
    kept: int = 0
    _open: dict[int, tuple[CallSession, dict[int, _AnsweredRow], list[bool]]] = field(default_factory=dict)

    def add(self, answers: AnswerColumns, is_good: NDArray[np.bool_]) -> None:
        """Answered requests, in the order of their ends; is_good: of those that stand in the figures, whether they kept
        their limits."""
        columns = (answers[name].tolist() for name in ("conversation", "turn", *_AnsweredRow._fields))
        for number, turn, *row, good in zip(*columns, is_good.tolist(), strict=True):
            if number not in self._open:
                session = self.load.script(number)
                assert session is not None
                self._open[number] = session, {}, []
            session, rows, goods = self._open[number]
            rows[turn] = _AnsweredRow(*row)
            goods.append(good)
            if len(rows) == len(session.calls):
                del self._open[number]
                self.load.forget(number)
                self._end(ended_session(session, rows), goods.count(True))

    def _end(self, one: EndedSession, good: int) -> None:
        self.ended.append(one)
        if not one.is_cut and one.end_s - one.begin_s <= self.limit_s:
            self.good += good
            self.kept += self.counts(one)

    def counts(self, one: EndedSession) -> bool:
        """Whether a session stands in the figures."""
        return earlier(self.begin_s) <= one.begin_s < earlier(self.end_s)

    def figures(self, *, is_limited: bool) -> dict[str, object]:
        """What is told of sessions, but for what they cost."""
        done = [one for one in self.ended if not one.is_cut]
        counted = [one for one in done if self.counts(one)]
        n = sum(map(self.counts, self.ended))
        out: dict[str, object] = {
            "begun": len(self.ended),
            "completed": len(done),
            "counted": len(counted),
            "cut": sum(one.is_cut for one in self.ended),
            "task_s": marks([one.end_s - one.begin_s for one in counted]),
            "parts_s": {part: _mean([one.parts[part] for one in counted]) for part in TASK_PARTS},
            **_lengths(counted),
            "goodput_frac": self.kept / n if is_limited and n else None,
        }
        kinds = sorted({one.kind for one in self.ended})
        if len(kinds) > 1:
            of = {kind: [one for one in counted if one.kind == kind] for kind in kinds}
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
        lines = [",".join(SESSION_COLUMNS)]
        for one in self.ended:
            name = one.name.replace(",", " ")
            times = ",".join(f"{x:.6f}" for x in (one.begin_s, one.end_s, *(one.parts[part] for part in TASK_PARTS)))
            counts = f"{one.calls},{one.prompt},{one.cached},{one.output},{int(not one.is_cut)}"
            lines.append(f"{name},{one.kind},{times},{counts}")
        write_file(path, "\n".join(lines) + "\n", where=str(path))


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
    """What was found, and the cost of a task: that of all that ran, over the tasks that were completed. chips: paid
    for, on average; joule, usd: of all that ran."""
    tasks = found["completed"]
    assert isinstance(tasks, int)
    return {
        **found,
        "tasks_per_h_per_chip": tasks / span_s * HOUR_S / chips,
        "usd_per_task": None if usd is None or not tasks else usd / tasks,
        "J_per_task": None if joule is None or not tasks else joule / tasks,
    }


HOUR_S = 3600.0
