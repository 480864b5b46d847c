"""Forward passes reported by engines: ForwardPassMetrics of Dynamo, which vLLM, SGLang and TensorRT-LLM workers send.

The same figures come in two forms: the trace that `--fpm-trace` writes (a JSON object on each line,
`dynamo.fpm.trace.v1`, or the metrics alone), and the table of AISimulate's and AIConfigurator's collectors (columns
`sum_prefill_tokens` to `latency_ms`). Steps of the same work are one measurement: the median, without the first, which
is cold.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import mean, median

from mowich.errors import UserError
from mowich.evidence.readers.record import FileFormat, MeasuredRecord, Reading, cell, log_figure, not_of_format
from mowich.files import parse_json

_COUNTS = {
    "num_prefill_requests": "prefill_requests",
    "sum_prefill_tokens": "prefill_new_tokens_total",
    "sum_prefill_kv_tokens": "prefill_past_kv_total",
    "num_decode_requests": "decode_requests",
    "sum_decode_kv_tokens": "decode_kv_tokens_total",
}
"""Count of scheduled requests -> column of our table."""
_CACHE_TOKENS = 128.0
"""Steps do the same work where the mean caches of their sequences lie within this many tokens."""
_COLD = 3
"""Number of steps of the same work from which the first is left out."""


@dataclass(frozen=True, slots=True)
class _Step:
    """One step. place: its line; segment: word of the load, "" where not stated; ms: wall time."""

    place: int
    segment: str
    counts: Mapping[str, float]
    ms: float

    @property
    def work(self) -> tuple[object, ...]:
        """The key that steps of the same work share."""
        *whole, cached = (self.counts[name] for name in _COUNTS.values())
        return self.segment, *whole, round(cached / max(self.counts["decode_requests"], 1.0) / _CACHE_TOKENS)


def _of_table(file: str, text: str) -> Iterator[_Step]:
    """Steps of a collector's table. Raises UserError, with its line."""
    reader = csv.DictReader(text.splitlines())
    for row in reader:
        where = f"{file}:{reader.line_num}"
        if None in row or None in row.values():
            raise UserError("wrong number of cells", where=where, allowed=str(len(reader.fieldnames or ())))
        counts = {column: log_figure(row.get(name) or "0", where, name, 0.0) for name, column in _COUNTS.items()}
        ms = log_figure(row["latency_ms"], where, "latency_ms", 0.0)
        yield _Step(reader.line_num, row.get("workload_segment", ""), counts, ms)


def _of_trace(file: str, text: str) -> Iterator[_Step]:
    """Steps of a trace. Raises UserError, with its line."""
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        where = f"{file}:{number}"
        data = parse_json("\n" * (number - 1) + line, file)
        inner = data.get("fpm", data)
        asked = inner.get("scheduled_requests") if isinstance(inner, dict) else None
        if not isinstance(inner, dict) or not isinstance(asked, dict):
            raise UserError("not the metrics of a forward pass", where=where, allowed="scheduled_requests, wall_time")
        counts = {column: log_figure(str(asked.get(name, 0)), where, name, 0.0) for name, column in _COUNTS.items()}
        yield _Step(number, "", counts, 1e3 * log_figure(str(inner.get("wall_time", 0)), where, "wall_time", 0.0))


def read_steps(file: str, text: str) -> Reading:
    """Each kind of work that was timed. Raises UserError, with file and line, for a file that is not a profile of
    forward passes."""
    found = _of_table(file, text) if _is_table(text) else _of_trace(file, text)
    groups: dict[tuple[object, ...], list[_Step]] = {}
    for one in found:
        if one.ms > 0.0 and any(one.counts.values()):  # an idle engine reports its time too
            groups.setdefault(one.work, []).append(one)
    if not groups:
        raise not_of_format("forward passes", file, "sum_prefill_tokens, num_decode_requests and a time of each step")
    records = tuple(_record(file, steps) for steps in groups.values())
    return Reading(file=file, format=FORWARD_METRICS.name, records=records)


def _record(file: str, steps: list[_Step]) -> MeasuredRecord:
    warm = steps[1:] if len(steps) >= _COLD else steps
    times = [one.ms for one in warm]
    cells = {column: cell(mean(one.counts[column] for one in warm)) for column in _COUNTS.values()}
    cells |= {"measured_ms": cell(median(times)), "min_ms": cell(min(times)), "max_ms": cell(max(times))}
    cells |= {"n_samples": str(len(times)), "segment": steps[0].segment}
    return MeasuredRecord(where=f"{file}:{steps[0].place}", kind="forward", cells=cells)


def _is_table(text: str) -> bool:
    return {"sum_decode_kv_tokens", "latency_ms"} <= set(text.split("\n", 1)[0].strip().split(","))


def _looks(text: str) -> bool:
    if _is_table(text):
        return True
    first = text.lstrip().split("\n", 1)[0]
    try:
        data = json.loads(first)
    except ValueError:
        return False
    inner = data.get("fpm", data) if isinstance(data, dict) else None
    return isinstance(inner, dict) and "scheduled_requests" in inner


FORWARD_METRICS = FileFormat(
    name="forward-passes",
    says="ForwardPassMetrics of Dynamo's workers: a trace, or a collector's table",
    looks=_looks,
    read=read_steps,
)
