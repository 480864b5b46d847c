"""A schedule as the Parquet tables of AWS's Neuron Explorer (profile schema 7.4.0): same table and field names, same
units.

So one query serves a simulated and a measured profile, and a join compares them. Three tables are our own: the
statements of the source (`NkiSource`), the critical path (`CriticalPath`) and how engines spent their time
(`EngineUse`). Fields that only a real device has (program counters of the binary, checksums) are left out;
`Metadata.is_simulation` says what the tables are. Writing and joining need DuckDB.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from mowich.errors import UserError
from mowich.neuroncore.changes import FigureRow, Version, changed_lines, changes_between, figure_row
from mowich.neuroncore.clock.schedule import stack_Bps
from mowich.neuroncore.core import limits
from mowich.neuroncore.instructions.rates import (
    COLLECTIVE_QUEUE,
    DMA_QUEUES,
    QUEUES,
    SCALAR_LOAD,
    SCALAR_STORE,
    SOFTWARE,
    Cost,
)
from mowich.neuroncore.profile import Profile, merged_spans, union
from mowich.neuroncore.source import statement
from mowich.writing import whole_file

SCHEMA_VERSION = "7.4.0"
_Table = dict[str, list[Any]]
"""Columns of equal length by field name."""
_Row = dict[str, Any]


def _duckdb() -> Any:
    """The DuckDB module, or one line that says how to get it."""
    try:
        import duckdb as module
    except ImportError:
        raise UserError("Parquet tables need DuckDB", fix="pip install 'mowich[tables]'") from None
    return module


_TRIGGERS = {SOFTWARE: "gpsimd", SCALAR_LOAD: "scalar", SCALAR_STORE: "scalar", COLLECTIVE_QUEUE: "cc"}


def _engine_name(queue: int) -> str:
    """The engine of an instruction: of a DMA, the one that triggers it."""
    return _TRIGGERS.get(queue) or ("sync" if queue in DMA_QUEUES else QUEUES[queue])


def _stores(k: Cost) -> bool:
    return k.hbm_write_B > 0 and not k.hbm_read_B


def _ns(ps: int) -> int:
    return round(ps / 1000)


def _instructions(p: Profile) -> Iterator[_Row]:
    s = p.schedule
    counter: dict[tuple[int, int], int] = {}
    for i, k in enumerate(p.cost):
        file, line = p.site(i)
        key = (s.core[i], k.queue)
        counter[key] = counter.get(key, 0) + 1
        is_dma = k.queue in DMA_QUEUES
        # a DMA's instruction is its trigger; the transfer is a row of DmaPacketAggregated
        end = s.begin[i] + k.issue if is_dma else s.end[i]
        yield {
            "start_ts": _ns(s.begin[i]),
            "end_ts": _ns(end),
            "duration_ns": _ns(end) - _ns(s.begin[i]),
            "engine": _engine_name(k.queue),
            "pcore_idx": s.core[i],
            "opcode": k.opcode.upper(),
            "operands": k.dtype,
            "id": i,
            "pc": counter[key] - 1,
            "bir_id": f"sim:{i}",
            "evt_wait_time_ns": max(0, _ns(s.begin[i]) - _ns(s.ready[i])),
            "nki_source_location": f"{file}:{line}" if file else "",
            "dma_trigger_start_ts": _ns(s.data[i]) if is_dma else None,
            "dma_trigger_end_ts": _ns(s.end[i]) if is_dma else None,
            "hbm_read_bytes": k.hbm_read_B,
            "hbm_write_bytes": k.hbm_write_B,
            "spill_save_bytes": k.sbuf_B if k.opcode == "spill" else 0,
            "spill_reload_bytes": k.sbuf_B if k.opcode == "reload" else 0,
            "raw_flops": k.flop,
        }


def _queue_type(k: Cost) -> str:
    if k.queue == SOFTWARE:
        return "software_dynamic"
    return "output" if _stores(k) else "input"


def _transfers(p: Profile) -> Iterator[_Row]:
    s = p.schedule
    for i, k in enumerate(p.cost):
        if not k.transfer:
            continue
        time = max(1, _ns(s.end[i]) - _ns(s.data[i]))
        c = s.core[i]
        origin = s.programs[c].origin[i - s.offset[c]]
        name = ""
        if origin < -1:
            name = s.programs[c].trace.storages[-1 - origin].name
        yield {
            "start_ts": _ns(s.data[i]),
            "end_ts": _ns(s.end[i]),
            "duration_ns": time,
            "id": i,
            "pcore_idx": c,
            "block_id": i,
            "queue_idx": k.queue,
            "queue_name": (
                f"q{'Store' if _stores(k) else 'Load'}" + ("SpillReload0" if k.opcode in ("spill", "reload") else "IO0")
            ),
            "queue_type": _queue_type(k),
            "op": k.opcode,
            "variable": name,
            "read_bytes": k.sbuf_B,
            "write_bytes": k.sbuf_B,
            "transfer_bytes": k.sbuf_B,
            "throughput": k.sbuf_B / (time * 1e-9),
            "trigger": i,
        }


def _packets(p: Profile) -> Iterator[_Row]:
    """One row per DMA and DMA engine: what of the transfer falls to the engine."""
    s = p.schedule
    number = itertools.count()
    for i, k in enumerate(p.cost):
        used = [e for e, t in enumerate(k.transfer) if t]
        total = sum(k.transfer)
        for n, e in enumerate(used):
            moved = round(k.sbuf_B * k.transfer[e] / total)
            time = max(1, _ns(k.transfer[e]))
            yield {
                "start_ts": _ns(s.end[i]) - time,
                "end_ts": _ns(s.end[i]),
                "duration_ns": time,
                "pcore_idx": s.core[i],
                "id": next(number),
                "packet_idx": n,
                "packet_aggregation_id": i,
                "engine_idx": e,
                "read_bytes": moved,
                "write_bytes": moved,
                "transfer_bytes": moved,
                "throughput": moved / (time * 1e-9),
                "queue_type": _queue_type(k),
                "queue_idx": k.queue,
            }


def summary_row(p: Profile) -> _Row:
    """The fields of the table `Summary`."""
    read, written = p.hbm_B
    out: dict[str, Any] = {
        "total_time": p.total_s,
        "model_flops": p.flop,
        "hardware_flops": p.hardware_flop,
        "mfu_estimated_percent": 100 * p.mfu,
        "hfu_estimated_percent": 100 * p.hfu,
        "mbu_estimated_percent": 100 * p.mbu,
        "mm_arithmetic_intensity": p.intensity,
        "hbm_read_bytes": read,
        "hbm_write_bytes": written,
        "dma_active_time": p.engines["dma"].busy_s,
        "dma_active_time_percent": 100 * p.engines["dma"].busy_s / p.total_s if p.total_s else 0.0,
        "dma_packet_time": sum(sum(k.transfer) for k in p.cost) / 1e12,
        "dma_transfer_count": sum(1 for k in p.cost if k.transfer),
        "dma_transfer_total_bytes": sum(k.sbuf_B for k in p.cost if k.transfer),
        "spill_save_bytes": sum(k.sbuf_B for k in p.cost if k.opcode == "spill"),
        "spill_reload_bytes": sum(k.sbuf_B for k in p.cost if k.opcode == "reload"),
    }
    for name in ("tensor", "vector", "scalar", "gpsimd", "sync"):
        use = p.engines[name]
        out[f"{name}_engine_active_time"] = use.busy_s
        out[f"{name}_engine_active_time_percent"] = 100 * use.busy_s / p.total_s if p.total_s else 0.0
        out[f"{name}_engine_instruction_count"] = use.instructions
    return out


def _summary(p: Profile) -> Iterator[_Row]:
    yield summary_row(p)


def _metadata(p: Profile) -> Iterator[_Row]:
    n = p.costs.number
    yield {
        "profile_schema_version": SCHEMA_VERSION,
        "num_physical_cores": p.cores,
        "vnc_enabled": p.cores > 1,
        "first_hw_timestamp": 0,
        "last_hw_timestamp": _ns(p.schedule.total),
        "num_dma_engines_per_neuroncore": int(n("dma.engines")),
        "hbm_ddr_bandwidth": stack_Bps(p.costs),
        "tensor_engine_num_rows": 128,
        "tensor_engine_num_cols": 128,
        "tensor_engine_clock_freq": n("tensor_engine.clock"),
        "vector_engine_clock_freq": n("vector_engine.clock"),
        "scalar_engine_clock_freq": n("scalar_engine.clock"),
        "gpsimd_engine_clock_freq": n("gpsimd_engine.clock"),
        "is_simulation": True,
    }


def _opcodes(p: Profile) -> Iterator[_Row]:
    s = p.schedule
    found: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for i, k in enumerate(p.cost):
        found.setdefault((_engine_name(k.queue), k.opcode.upper()), []).append((s.begin[i], s.end[i]))
    for (engine, opcode), spans in sorted(found.items()):
        active = _ns(union(spans))
        yield {
            "engine": engine,
            "opcode": opcode,
            "instruction_count": len(spans),
            "instruction_time_ns": _ns(sum(b - a for a, b in spans)),
            "active_time_ns": active,
            "active_time_percent": 100 * active / max(1, _ns(s.total)),
        }


def _usage(p: Profile, space: str) -> Iterator[_Row]:
    limit = limits(p.schedule.generation)
    room = limit.sbuf_B if space == "S" else limit.psum_B
    for c in range(p.cores):
        for t, level in p.occupancy(space, c):
            yield {"timestamp": _ns(t), "avg_util_percent": 100 * level / room, "pcore_idx": c}


def _active(p: Profile) -> Iterator[_Row]:
    s = p.schedule
    spans: dict[tuple[int, str], list[tuple[int, int]]] = {}
    for i, k in enumerate(p.cost):
        if k.queue not in DMA_QUEUES:
            spans.setdefault((s.core[i], _engine_name(k.queue)), []).append((s.begin[i], s.end[i]))
    for (core, engine), found in sorted(spans.items()):
        for a, b in merged_spans(sorted(found)):
            begin, end = _ns(a), _ns(b)
            yield {"start_ts": begin, "end_ts": end, "engine": engine, "pcore_idx": core, "duration_ns": end - begin}


def _flow(p: Profile) -> Iterator[_Row]:
    """What decided the begin of each instruction."""
    s = p.schedule
    for i in range(len(p.cost)):
        if s.by[i] >= 0:
            yield {
                "in_id": s.by[i],
                "out_id": i,
                "in_table": "Instruction",
                "out_table": "Instruction",
                "gap_time": max(0, _ns(s.begin[i]) - _ns(s.end[s.by[i]])),
            }


_LEVELS = 16
"""Largest n of a share k/n."""
_THROTTLE_TYPE = "activity_0"
"""What Neuron Explorer calls throttling by the activity of the Tensor Engine."""


def _throttle(p: Profile) -> Iterator[_Row]:
    """When the Tensor Engine was held to a share k/n of its rate."""
    limit = Fraction(p.throttle_rate).limit_denominator(_LEVELS)
    for c in range(p.cores):
        for start, end in p.throttled(c):
            yield {
                "timestamp": _ns(start),
                "duration": _ns(end) - _ns(start),
                "type": _THROTTLE_TYPE,
                "k": limit.numerator,
                "n": limit.denominator,
                "pcore_idx": c,
            }


def _throttle_summary(p: Profile) -> Iterator[_Row]:
    """Of each core, for the one type that the clock knows and for all. The largest rate is that of the throttled time,
    a share of 1 as Neuron Explorer has it."""
    total = max(1, _ns(p.schedule.total))
    for c in range(p.cores):
        active = sum(_ns(end) - _ns(start) for start, end in p.throttled(c))
        for name in ("all", _THROTTLE_TYPE):
            yield {
                "nc_idx": c,
                "throttle_type": name,
                "throttle_active_time_ns": active,
                "throttle_active_time_percent": 100 * active / total,
                "max_achievable_util_with_throttling_percent": p.throttle_rate if active else 1.0,
            }


def _source(p: Profile) -> Iterator[_Row]:
    """The statement at each place of the source that an instruction comes from."""
    for file, line in dict.fromkeys(p.site(i) for i in range(len(p))):
        if file:
            at = statement(file, line)
            yield {"nki_source_location": f"{file}:{line}", "line": at.line, "text": at.text}


def _path(p: Profile) -> Iterator[_Row]:
    """The critical path from its begin, each part with the fact that it is made of."""
    for step in reversed(p.path):
        for cause, ps in step.parts:
            yield {
                "instruction_id": step.instruction,
                "pcore_idx": p.schedule.core[step.instruction] if step.instruction >= 0 else 0,
                "start_ts": _ns(step.start),
                "end_ts": _ns(step.end),
                "cause": cause,
                "duration_ns": ps / 1000,
            }


def _uses(p: Profile) -> Iterator[_Row]:
    """How engines spent their time, mean over the cores."""
    for n, u in p.engines.items():
        if u.instructions:
            yield {
                "engine": n,
                "busy_ns": u.busy_s * 1e9,
                "wait_ns": u.wait_s * 1e9,
                "idle_ns": u.idle_s * 1e9,
                "instructions": u.instructions,
            }


_TABLES: dict[str, Callable[[Profile], Iterator[_Row]]] = {
    "Summary": _summary,
    "Metadata": _metadata,
    "Instruction": _instructions,
    "DmaPacketAggregated": _transfers,
    "DmaPacket": _packets,
    "OpcodeSummary": _opcodes,
    "SbufUsage": functools.partial(_usage, space="S"),
    "PsumUsage": functools.partial(_usage, space="P"),
    "ActiveTime": _active,
    "Flow": _flow,
    "Throttle": _throttle,
    "ThrottleSummary": _throttle_summary,
    "NkiSource": _source,
    "CriticalPath": _path,
    "EngineUse": _uses,
}
"""Table -> what gives its rows."""


def tables(profile: Profile) -> dict[str, _Table]:
    """Every table by name, empty where it has no row. Times are integer nanoseconds from the first trigger."""
    out = {}
    for table, rows_of in _TABLES.items():
        rows = [*rows_of(profile)]
        out[table] = {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}
    return out


def write_parquet(profile: Profile, folder: Path) -> list[Path]:
    """Write every table as FOLDER/Table.parquet."""
    db = _duckdb()
    folder.mkdir(exist_ok=True)  # not the folders above it: a misspelt path is an error
    made = []
    with contextlib.closing(db.connect()) as connection:
        for name, table in tables(profile).items():
            if table:
                path = folder / f"{name}.parquet"
                columns = {k: _array(v) for k, v in table.items()}  # noqa: F841 - DuckDB reads it by its name
                with whole_file(path) as new:
                    connection.execute(f"copy (select * from columns) to '{_quoted(new)}' (format parquet)")
                made.append(path)
    return made


def _array(values: list[object]) -> object:
    if any(v is None for v in values):
        return np.ma.array([0 if v is None else v for v in values], mask=[v is None for v in values])
    if isinstance(values[0], str):
        return np.array(values, dtype=object)
    return np.array(values)


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def compare_profiles(a: Path, b: Path) -> dict[str, list[FigureRow]]:
    """Two profiles (folders of Parquet tables), simulated or measured: "summary" by field, "engines" and "causes" (of
    the critical path) where both are simulated, "opcodes" by engine and opcode (time in ns), "lines" matched by content
    (`changes.LineRow`). Rows: what, a, b, ratio b / a."""
    with contextlib.closing(_duckdb().connect()) as connection:
        found: dict[str, list[FigureRow]] = {"summary": _summaries(connection, a, b)}
        sides = [_version(connection, folder) for folder in (a, b)]
        changed = changes_between(*sides)
        found |= {"engines": changed["engines"], "causes": changed["causes"]}
        found["opcodes"] = _joined(
            connection, a, b, "OpcodeSummary", "lower(engine) || ' ' || upper(opcode)", "sum(instruction_time_ns)"
        )
        return found | {"lines": changed["lines"]}


def _version(connection: Any, folder: Path) -> Version:
    """A folder as a version of a kernel. Statements come from its own table, or from the source files where they
    lie."""
    instructions, source, path, uses = (
        folder / f"{name}.parquet" for name in ("Instruction", "NkiSource", "CriticalPath", "EngineUse")
    )
    if not instructions.is_file():
        return Version(lines=[], has_path=False)

    def query(fields: str, table: Path, more: str = "") -> list[Any]:
        return list(connection.execute(f"select {fields} from '{_quoted(table)}' {more}").fetchall())

    texts: dict[str, tuple[int, str]] = {}
    if source.is_file():
        texts = {place: (line, text) for place, line, text in query("nki_source_location, line, text", source)}
    entries: list[tuple[str, int, str, str, str, float]] = []
    places: dict[object, int] = {}
    fields = (
        "id, regexp_extract(nki_source_location, '([^\\[\\]\"'' ]+:[0-9]+)', 1), lower(engine), upper(opcode),"
        " duration_ns"
    )
    for number, place, engine, opcode, ns in query(fields, instructions, "order by start_ts, id"):
        file, _, line = str(place or "").rpartition(":")
        if not file:
            known: tuple[int, str] = (0, "added by the compiler")
        elif place in texts:
            known = texts[place]
        else:
            at = statement(file, int(line))
            known = (at.line, at.text)
        places[number] = len(entries)
        entries.append((file, known[0], known[1], engine, opcode, float(ns or 0)))
    lines, of = changed_lines(entries)
    engines: dict[str, float] = {}
    causes: dict[str, float] = {}
    if uses.is_file():
        for engine, busy, wait in query("engine, busy_ns, wait_ns", uses):
            engines |= {f"{engine} busy": busy, f"{engine} waiting": wait}
    if path.is_file():
        for number, cause, ns in query("instruction_id, cause, duration_ns", path):
            causes[cause] = causes.get(cause, 0.0) + ns
            if number in places:
                mine = of[places[number]].path
                mine[cause] = mine.get(cause, 0.0) + ns
    return Version(lines=lines, engines=engines, causes=causes, has_path=path.is_file())


def _summaries(connection: Any, a: Path, b: Path) -> list[FigureRow]:
    sides = [_first_row(connection, folder, "Summary") for folder in (a, b)]
    both = [(n, v, sides[1][n]) for n, v in sides[0].items() if n in sides[1]]
    return [
        figure_row(n, float(v), float(w))
        for n, v, w in both
        if isinstance(v, int | float) and isinstance(w, int | float)
    ]


def _first_row(connection: Any, folder: Path, table: str) -> dict[str, object]:
    """The first row of a table of a folder. Raises UserError where the table is not there, is none, or is empty."""
    path = folder / f"{table}.parquet"
    if not path.is_file():
        raise UserError(f"no {table}.parquet: not a folder of Neuron Explorer tables", where=str(folder))
    try:
        found = connection.execute(f"select * from '{_quoted(path)}' limit 1")
        rows = found.fetchall()
    except Exception as error:  # DuckDB has a class of its own for each way in which a file can be broken
        raise UserError("not a Parquet table", where=str(path)) from error
    if not rows:
        raise UserError("the table is empty", where=str(path))
    return dict(zip((d[0] for d in found.description), rows[0], strict=False))


def total_time_s(folder: Path) -> float:
    """Seconds of a profile, measured or simulated. Raises UserError for a folder that is none."""
    with contextlib.closing(_duckdb().connect()) as connection:
        total = _first_row(connection, folder, "Summary").get("total_time")
    if isinstance(total, bool) or not isinstance(total, int | float) or not total > 0:
        raise UserError("no total_time above 0", where=str(folder / "Summary.parquet"), given=total)
    return float(total)


def path_parts_s(folder: Path) -> dict[str, float]:
    """Seconds of the critical path of a simulated profile by the fact that makes them. Raises UserError for a folder
    without one: a profile that was measured has none."""
    with contextlib.closing(_duckdb().connect()) as connection:
        _first_row(connection, folder, "CriticalPath")
        found = connection.execute(
            f"select cause, sum(duration_ns) from '{_quoted(folder / 'CriticalPath.parquet')}' group by 1 order by 1"
        ).fetchall()
    return {str(cause): float(ns) * 1e-9 for cause, ns in found}


def _joined(connection: Any, a: Path, b: Path, table: str, key: str, value: str) -> list[FigureRow]:
    paths = [folder / f"{table}.parquet" for folder in (a, b)]
    if not all(p.is_file() for p in paths):
        return []
    one, two = (f"(select {key} as what, {value} as v from '{_quoted(p)}' group by 1)" for p in paths)
    found = connection.execute(
        f"select coalesce(x.what, y.what), x.v, y.v from {one} x full join {two} y on x.what = y.what order by"
        " greatest(coalesce(x.v, 0), coalesce(y.v, 0)) desc, 1"
    )
    return [
        figure_row(w, None if v is None else float(v), None if u is None else float(u))
        for w, v, u in found.fetchall()
        if w
    ]
