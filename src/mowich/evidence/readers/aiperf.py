"""Results of AIPerf and GenAI-Perf: JSON and CSV, with the same names of metrics.

Formats: aiperf/exporters/metrics_json_exporter.py and metrics_csv_exporter.py of release 0.13, and
genai_perf/export_data/json_exporter.py and csv_exporter.py. Their inter-token latency is one number for each request,
(whole request - first token) / (tokens - 1): the time per output token of the other programs.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence

from mowich.errors import UserError
from mowich.evidence.readers.bench import (
    BenchCells,
    BenchResult,
    check_latencies,
    json_figure,
    json_format,
    users_kept,
    without_rate,
)
from mowich.evidence.readers.record import FileFormat, Reading, cell, log_figure, read_each
from mowich.evidence.row_checks import RefusedError

_OURS = {"time_to_first_token": "ttft_ms", "inter_token_latency": "tpot_ms", "request_latency": "e2e_ms"}
"""Metric of a request -> column."""
_PERCENTILES = ("p50", "p90", "p99")
_MILLISECONDS: Mapping[str, float] = {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "sec": 1e3, "s": 1e3, "seconds": 1e3}
_SECONDS: Mapping[str, float] = {unit: factor / 1e3 for unit, factor in _MILLISECONDS.items()}
_KEYS = ("time_to_first_token", "inter_token_latency", "output_sequence_length")
_NAME = "AIPerf or GenAI-Perf"

AiperfMetrics = Mapping[str, Mapping[str, object]]
"""Metric -> statistic (avg, p50, p99, unit) -> the printed text."""


def _stated(metrics: AiperfMetrics, name: str, where: str, statistic: str = "avg") -> float | None:
    """One statistic of a metric, in the unit of the file."""
    return json_figure(metrics.get(name, {}), f"{where}, {name}", statistic)


def _in(units: Mapping[str, float], metrics: AiperfMetrics, name: str, where: str, statistic: str) -> float | None:
    """A time in milliseconds or seconds. Raises UserError for a unit that is no time."""
    value = _stated(metrics, name, where, statistic)
    if value is None:
        return None
    unit = str(metrics[name].get("unit", "ms"))
    if unit not in units:
        raise UserError("the unit is not a time", where=f"{where}, {name}", given=unit, allowed=", ".join(units))
    return value * units[unit]


def _cells(metrics: AiperfMetrics, config: BenchResult, where: str) -> BenchCells:
    """One run. config: the load that it was asked to send; empty where the file does not state it."""
    times = {
        f"{prefix}{column}": _in(_MILLISECONDS, metrics, name, where, statistic)
        for name, column in _OURS.items()
        for statistic, prefix in (("avg", ""), *((p, f"{p}_") for p in _PERCENTILES))
    }
    isl, osl = (_stated(metrics, name, where) for name in ("input_sequence_length", "output_sequence_length"))
    ttft, tpot, whole = (times[column] for column in _OURS.values())
    if not osl or ttft is None or tpot is None:
        raise RefusedError("states no answer that was streamed: no time to the first token")
    check_latencies(ttft, tpot, whole, osl)
    made, asked = (_stated(metrics, f"{name}_throughput", where) for name in ("output_token", "request"))
    if made and asked and without_rate(made / asked, osl):
        raise RefusedError(f"{made:g} tokens/s over {asked:g} requests/s is not the {osl:g} tokens of an answer")
    cap, rate = _load(config, f"{where}, input_config")
    users = users_kept(cap, rate, asked, whole)
    return {
        "model": _model(config),
        "mode": "online",
        "isl": cell(None if isl is None else max(1, round(isl))),
        "osl": cell(max(1, round(osl))),
        "concurrency": cell(None if not users else max(1, round(users))),
        "request_rate": cell(rate),
        "output_tok_s": cell(made),
        "total_tok_s": cell(_stated(metrics, "total_token_throughput", where)),
        "requests": cell(_stated(metrics, "request_count", where)),
        "failed": cell(_stated(metrics, "error_request_count", where)),
        "duration_s": cell(_in(_SECONDS, metrics, "benchmark_duration", where, "avg")),
        **{column: cell(value) for column, value in times.items()},
    }


def _load(config: BenchResult, where: str) -> tuple[float | None, float | None]:
    """(most requests in flight, requests a second) that a run was asked to keep, from AIPerf's measured phase, the load
    generator of its first releases, or the flags of GenAI-Perf."""
    phases = config.get("phases")
    measured = [
        one
        for one in (phases if isinstance(phases, list) else [])
        if isinstance(one, dict) and "warmup" not in (one.get("kind"), one.get("name"))
    ]
    perf = config.get("perf_analyzer")
    places = [*measured[-1:], config.get("loadgen"), perf.get("stimulus") if isinstance(perf, dict) else None, config]
    for place in places:
        if isinstance(place, dict):
            users, rate = (
                next((json_figure(place, where, name) for name in names if place.get(name)), None)
                for names in (("concurrency",), ("rate", "request_rate"))
            )
            if rate or users:
                return users, rate
    return None, None


def _model(config: BenchResult) -> str:
    """The model's name, where the releases write it."""
    endpoint, models = config.get("endpoint"), config.get("models")
    for place, key in ((models, "items"), (endpoint, "model_names"), (config, "model_names"), (config, "model")):
        names = place.get(key) if isinstance(place, dict) else None
        first = names[0] if isinstance(names, list) and names else names
        if isinstance(first, dict):
            first = first.get("name")
        if isinstance(first, str) and first:
            return first
    return ""


def _result(data: BenchResult, where: str) -> BenchCells:
    """One result as JSON."""
    if data.get("was_cancelled") is True or data.get("is_complete") is False:
        why = str(data.get("incomplete_reason") or "the run was cancelled before its end")
        raise RefusedError(why)
    metrics = {name: value for name, value in data.items() if isinstance(value, dict)}
    config = data.get("input_config")
    return _cells(metrics, config if isinstance(config, dict) else {}, where)


_HEADER = re.compile(r"^Metric,avg,min,max,")
_UNIT = re.compile(r"^(?P<name>.*?)(?: \((?P<unit>[^()]+)\))?$")


def _metric_rows(file: str, text: str) -> dict[str, dict[str, object]]:
    """The two tables of a CSV: statistics of requests, and values of the whole run. A later table about the machine has
    other columns and ends the reading."""
    out: dict[str, dict[str, object]] = {}
    columns: Sequence[str] = ()
    reader = csv.reader(text.splitlines(keepends=True), strict=True)
    try:
        for row in reader:
            if not row:
                continue
            if row[0] in ("Endpoint", "Metric"):
                if row[0] == "Endpoint" or "GPU" in row:
                    break
                columns = row[1:]
                continue
            where = f"{file}:{reader.line_num}"
            if len(row) != len(columns) + 1:
                raise UserError("wrong number of cells", where=where, allowed=str(len(columns) + 1))
            match = _UNIT.match(row[0])
            assert match is not None
            name = match["name"].strip().casefold().replace(" ", "_")
            values = dict(zip(columns, row[1:], strict=True))
            stated = {key: log_figure(value, where, f"{row[0]} {key}") for key, value in values.items() if value}
            if "Value" in stated:
                stated["avg"] = stated["Value"]
            out[name] = {**stated, **({"unit": match["unit"]} if match["unit"] else {})}
    except csv.Error as error:
        raise UserError(f"not a CSV table: {error}", where=f"{file}:{reader.line_num}") from error
    return out


def read_aiperf_csv(file: str, text: str) -> Reading:
    """A run that `aiperf profile` or `genai-perf profile` exported as CSV. It does not state its load."""
    metrics = _metric_rows(file, text)
    missing = [key for key in _KEYS if key not in metrics]
    if missing:
        raise UserError(f"not a result of {_NAME}: no {missing[0]}", where=file, allowed=", ".join(_KEYS))
    return read_each(file, AIPERF_CSV.name, "serving", [(file, metrics)], lambda found, where: _cells(found, {}, where))


AIPERF = json_format("aiperf", "JSON of AIPerf or GenAI-Perf", _NAME, _KEYS, _result)
"""Runs that `aiperf profile` or `genai-perf profile` exported."""
AIPERF_CSV = FileFormat(
    name="aiperf-csv",
    says="CSV of AIPerf or GenAI-Perf",
    looks=lambda text: _HEADER.match(text) is not None and "Inter Token Latency" in text,
    read=read_aiperf_csv,
)
