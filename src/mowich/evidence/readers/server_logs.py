"""What vLLM prints: the table of `vllm bench serve`, and a server's own log lines, on Trainium too.

Formats: vllm/benchmarks/serve.py and vllm/v1/metrics/loggers.py. The plugin for Trainium changes neither. A server logs
how many tokens it makes and how many requests run; the user gives lengths of prompts and answers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from statistics import median

from mowich.errors import UserError
from mowich.evidence.readers.bench import bench_cells
from mowich.evidence.readers.record import FileFormat, Reading, cell, log_figure, log_lines, not_of_format, read_each
from mowich.evidence.row_checks import RefusedError

_TITLE = re.compile(r"=+ Serving Benchmark Result =+")
_ROWS: Mapping[str, str] = {
    "Successful requests": "completed",
    "Maximum request concurrency": "max_concurrency",
    "Benchmark duration (s)": "duration",
    "Total input tokens": "total_input_tokens",
    "Total generated tokens": "total_output_tokens",
    "Request throughput (req/s)": "request_throughput",
    "Output token throughput (tok/s)": "output_throughput",
    "Total token throughput (tok/s)": "total_token_throughput",
    "Failed requests": "failed",
    "Request rate configured (RPS)": "request_rate",
    **{
        f"{said} {name} (ms)": f"{key}_{name.casefold()}_ms"
        for said, key in (("Mean", "mean"), ("Median", "median"), ("P50", "p50"), ("P90", "p90"), ("P99", "p99"))
        for name in ("TTFT", "TPOT", "ITL", "E2EL")
    },
}
"""Row of the printed table -> its name in the JSON of the same run."""
_NEEDED = ("completed", "total_input_tokens", "total_output_tokens")
_ROW = re.compile(r"^\s*(?P<name>[A-Z][^:]*):\s+(?P<value>[\d.,]+)\s*$")


def read_bench_table(file: str, text: str) -> Reading:
    """Every table of results in what `vllm bench serve` printed."""
    found: list[tuple[int, dict[str, object]]] = []
    for number, line in log_lines(text):
        row = _ROW.match(line)
        if _TITLE.search(line):
            found.append((number, {}))
        elif found and row is not None and row["name"] in _ROWS:
            found[-1][1][_ROWS[row["name"]]] = log_figure(row["value"], f"{file}:{number}", row["name"])
    if not found:
        raise not_of_format("vllm bench", file, "a table under 'Serving Benchmark Result'")
    return read_each(file, VLLM_TABLE.name, "serving", ((f"{file}:{n}", data) for n, data in found), _table_cells)


def _table_cells(data: Mapping[str, object], where: str) -> Mapping[str, str]:
    """The cells of one table. Raises UserError for a table without its main rows."""
    missing = [name for name, key in _ROWS.items() if key in _NEEDED and key not in data]
    if missing:
        raise UserError(f"a table of vllm bench serve without {missing[0]}", where=where)
    return bench_cells(data, where)


_STATS = re.compile(
    r"(?:Engine (?P<engine>\d+): )?Avg prompt throughput: (?P<prompt>[\d.]+) tokens/s,"
    r" Avg generation throughput: (?P<made>[\d.]+) tokens/s, Running: (?P<running>\d+) reqs,"
    r" Waiting: (?P<waiting>\d+) reqs"
)
_STEADY = 0.9
"""A line shows the full load where at least this share of the most concurrent requests runs."""
_ARGUMENTS: Mapping[str, str] = {
    "tp": r"'tensor_parallel_size': (\d+)",
    "dp": r"'data_parallel_size': (\d+)",
    "pp": r"'pipeline_parallel_size': (\d+)",
    "kv_precision": r"'kv_cache_dtype': '(\w+)'",
    "precision": r"'quantization': '(\w+)'",
}
"""Column -> its name in the line of non-default arguments."""


def read_server(file: str, text: str) -> Reading:
    """One run: a server's tokens per second under full load, over all its engines, with the plan in its line of
    arguments. The first line of the full load is left out."""
    lines: dict[str, list[tuple[int, re.Match[str]]]] = {}
    for number, line in log_lines(text):
        if (m := _STATS.search(line)) is not None:
            lines.setdefault(m["engine"] or "", []).append((number, m))
    if not lines:
        raise not_of_format("vllm server", file, "lines with 'Avg generation throughput: ... Running: ...'")
    where = f"{file}:{max(found[-1][0] for found in lines.values())}"
    return read_each(
        file, VLLM_SERVER.name, "serving", [(where, lines)], lambda lines, _: {**_load(file, lines), **_stated(text)}
    )


def _load(file: str, lines: Mapping[str, Sequence[tuple[int, re.Match[str]]]]) -> dict[str, str]:
    """The cells of the full load of all engines. lines: engine -> its lines."""
    made = users = 0.0
    for found in lines.values():
        steady = _full(found)
        rate, running, waiting = (
            median(log_figure(m[name], f"{file}:{n}", name) for n, m in steady)
            for name in ("made", "running", "waiting")
        )
        made, users = made + rate, users + running + waiting
    if made <= 0.0 or users < 1.0:
        raise RefusedError("no token was generated under a load")
    return {
        "model": "",
        "framework": "vllm",
        "mode": "online",
        "concurrency": cell(round(users)),
        "output_tok_s": cell(made),
    }


def _full(found: Sequence[tuple[int, re.Match[str]]]) -> Sequence[tuple[int, re.Match[str]]]:
    """The lines of an engine's full load, without the first, which includes the start."""
    most = max(int(m["running"]) for _, m in found)
    full = [(n, m) for n, m in found if int(m["running"]) >= _STEADY * most]
    return full[1:] or full


def _stated(text: str) -> dict[str, str]:
    """The plan of the last line of arguments; the format of the cache is left open where it is the model's own."""
    said = [line for _, line in log_lines(text) if "non-default args" in line]
    if not said:
        return {}
    out = {column: m[1] for column, pattern in _ARGUMENTS.items() if (m := re.search(pattern, said[-1])) is not None}
    if out.get("kv_precision") == "auto":
        del out["kv_precision"]
    if "'enable_expert_parallel': True" in said[-1]:
        out["ep"] = str(int(out.get("tp", "1")) * int(out.get("dp", "1")))
    ranks = re.search(r"\"?'?ep_degree\"?'?: (\d+)", said[-1])
    return out | ({"ep": ranks[1]} if ranks is not None else {})


VLLM_TABLE = FileFormat(
    name="vllm-table",
    says="what vllm bench serve prints",
    looks=lambda text: _TITLE.search(text) is not None,
    read=read_bench_table,
)
VLLM_SERVER = FileFormat(
    name="vllm-server",
    says="a log of a vLLM server",
    looks=lambda text: _STATS.search(text) is not None,
    read=read_server,
)
