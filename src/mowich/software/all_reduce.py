"""All-reduces of serving engines as they were measured: three lines a chip, engine, release and number of ranks.

An engine adds up with kernels of its own where it has some and with the library's elsewhere, and chooses by release,
link, ranks and bytes. On NVLink one law with few constants holds for all of them (`serving.common.tp_graph`,
`tp_wires`). Over PCIe, and on racks for more ranks than a tray has, times of releases differ by up to six times: these
are read from `facts/serving/all_reduce.csv`, which `tools/all_reduce_fit.py` writes from measured tables.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources

NUM_LINES = 3
FILE = resources.files("mowich") / "facts" / "serving" / "all_reduce.csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredAllReduce:
    """One table. ranks: that were measured; link_Bps: of a device, one way, as published; from_B: size at which each
    line begins; latency_s, per_B: of the lines, s and s/B.

    Example:
        >>> found = measured_all_reduce("l40s", "vllm", "vllm 0.19.0", 8)
        >>> found.release, found.ranks, round(found.seconds(1 << 20) * 1e6)
        ('0.14.0', 8, 583)
    """

    release: str
    ranks: int
    link_Bps: float
    from_B: tuple[float, ...]
    latency_s: tuple[float, ...]
    per_B: tuple[float, ...]

    def seconds(self, data_B: float) -> float:
        """Seconds of a message, on the links that were measured."""
        i = sum(data_B >= first for first in self.from_B) - 1
        return self.latency_s[i] + self.per_B[i] * data_B


def release_order(text: str) -> tuple[float, ...]:
    """Where a release stands among others of its engine: its numbers, and candidates before the release itself.

    >>> release_order("vllm 0.9.2") < release_order("0.19.0rc1") < release_order("0.19.0") < release_order("0.19.1")
    True
    >>> release_order("vllm")
    ()
    """
    found = re.search(r"(\d+(?:\.\d+)*)(?:\.?(rc|post|dev)(\d+))?", text)
    if found is None:
        return ()
    numbers = tuple(float(x) for x in found[1].split("."))
    after = {"rc": -2.0, "dev": -1.0, None: 0.0, "post": 1.0}[found[2]]
    return (*numbers, *[0.0] * (3 - len(numbers)), after, float(found[3] or 0))


def measured_all_reduce(chip: str, engine: str, release: str, ranks: int) -> MeasuredAllReduce | None:
    """The table of an all-reduce among `ranks` devices of a chip: that of the nearest older release, of the oldest one
    where none is older, and of the newest where no release is said ("vllm 0.19.0", "0.5.10", ""). For a number of ranks
    that was not measured the next larger one, up to twice as many; beyond the largest, that one with latencies that
    grow as the depth of a tree does. None where there is no such table: the library's law holds."""
    tables = _tables().get((chip, engine), ())
    asked = release_order(release) or (math.inf,)
    most = max((t.ranks for t in tables), default=0)
    enough = [t for t in tables if ranks <= t.ranks < 2 * ranks or t.ranks == most < ranks]
    if not enough:
        return None
    older = [t for t in enough if release_order(t.release) <= asked]
    of = max(older, key=lambda t: release_order(t.release)) if older else enough[0]
    found = min((t for t in enough if t.release == of.release), key=lambda t: t.ranks)
    deeper = max(1.0, math.log2(ranks) / math.log2(found.ranks))
    return replace(found, latency_s=tuple(L * deeper for L in found.latency_s)) if deeper > 1.0 else found


@cache
def _tables() -> Mapping[tuple[str, str], tuple[MeasuredAllReduce, ...]]:
    """All tables by chip and engine, in the order of releases."""
    out: dict[tuple[str, str], tuple[MeasuredAllReduce, ...]] = {}
    with FILE.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):

            def numbers(name: str, scale: float, row: Mapping[str, str] = row) -> tuple[float, ...]:
                return tuple(float(row[f"{name}_{i + 1}"]) * scale for i in range(NUM_LINES))

            key = (row["chip"], row["engine"])
            table = MeasuredAllReduce(
                release=row["release"],
                ranks=int(row["ranks"]),
                link_Bps=float(row["link_GBps"]) * 1e9,
                from_B=numbers("from_B", 1.0),
                latency_s=numbers("latency_us", 1e-6),
                per_B=numbers("ns_per_kB", 1e-12),
            )
            out[key] = (*out.get(key, ()), table)
    return out
