"""A played traffic over time: the numbers of replicas, and the steps of each as a file that viewers read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from mowich.serving.traffic.autoscale import PoolLook, ScaledPool
from mowich.serving.traffic.replica import Replica
from mowich.writing import write_file

TIMELINE_POINTS = 400
"""Of replicas over time, beside those at which their number changed."""


def looks_told(looks: Sequence[PoolLook]) -> list[dict[str, float]]:
    """The looks at which the number of replicas changed, and others evenly, about `TIMELINE_POINTS` of these: requests
    that came since the point before, and the most replicas wanted since then; the rest as it is at the look."""
    step = max(1, math.ceil(len(looks) / TIMELINE_POINTS))
    out: list[dict[str, float]] = []
    came = wanted = 0
    before = (-1, -1)
    for i, look in enumerate(looks):
        came, wanted = came + look.came, max(wanted, look.wanted)
        if (look.up, look.paid) != before or i % step == step - 1 or i == len(looks) - 1:
            out.append(
                {
                    "at_s": look.at_s,
                    "came": came,
                    "inside": look.inside,
                    "wanted": wanted,
                    "up": look.up,
                    "paid": look.paid,
                }
            )
            came = wanted = 0
            before = (look.up, look.paid)
    return out


def write_timeline(
    path: Path, replicas: Sequence[Replica], scaled: Mapping[str, ScaledPool | None] | None = None
) -> None:
    """Steps of every replica as Chrome trace events (ui.perfetto.dev reads them); a leap over an unchanged batch is one
    slice. scaled: pools by name, of which those that come and go have their numbers as counters."""
    import json

    lines = [
        json.dumps({"ph": "M", "pid": 1, "tid": i, "name": "thread_name", "args": {"name": r.name}})
        for i, r in enumerate(replicas)
    ]
    for i, r in enumerate(replicas):
        for start, seconds, n, prompt, k in r.spans or ():
            name = f"{prompt} prompt + {n} decode" if prompt else f"{n} decode"
            lines.append(
                json.dumps(
                    {
                        "ph": "X",
                        "pid": 1,
                        "tid": i,
                        "name": name,
                        "ts": start * 1e6,
                        "dur": seconds * 1e6,
                        "args": {"steps": k},
                    }
                )
            )
    for name, pool in (scaled or {}).items():
        for look in () if pool is None else pool.log:
            numbers = {"wanted": look.wanted, "up": look.up, "paid": look.paid}
            lines.append(json.dumps({"ph": "C", "pid": 1, "name": f"{name}s", "ts": look.at_s * 1e6, "args": numbers}))
    begin, end = '{"displayTimeUnit":"ms","traceEvents":[\n', "\n]}\n"
    write_file(path, begin + ",\n".join(lines) + end, where=str(path))
