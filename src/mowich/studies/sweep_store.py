"""A sweep on disk: part files of Parquet in a directory, written whole or not at all, so that a killed sweep goes on
where it was.

The grid is cut into tasks of consecutive points, and these are joined to parts of some thousand rows, by its size
alone. A task's rows are written under a name that readers skip, and when all tasks of a part are there, the part is
written in their place; every file gets its name when it is safe on the disk. What is there, with the checksum that was
noted for it, is done: a second run sets damaged files aside and computes what is missing. `_manifest.json` keeps the
inputs, the facts' hash and the version; a run with others is refused. Rows stand in the order of the grid, and the
bytes do not depend on who computed them, in which order, or on kills. Names of columns: those of `--csv` with `_` for
`.`; numbers are SI as there, unknown is null.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from mowich.errors import UserError
from mowich.facts import Facts
from mowich.facts.own import PackedFacts, pack_facts
from mowich.models.model import Model
from mowich.plans.plan import TrainJob
from mowich.shown import Result, Shown
from mowich.studies.heard import note_heard
from mowich.studies.sweep import digest, first_points, solve_point
from mowich.studies.sweep_columns import SQL, record, store_columns
from mowich.studies.sweep_files import (
    CHECKSUMS,
    DAMAGED,
    LOCK,
    SWEEP_REPORT,
    checksum_of,
    is_sound,
    locked,
    note_checksum,
    order_checksums,
    read_checksums,
    set_aside,
    written,
)
from mowich.studies.sweep_grid import Grid, Point
from mowich.studies.sweep_workers import workers_live
from mowich.version import VERSION
from mowich.writing import replace_file, settle

MANIFEST = "_manifest.json"  # readers of directories of Parquet skip names that begin with an underscore
_SCHEMA = "mowich/sweep-parts@1"
PART_ROWS = 4000
"""Rows of a part at least, where there are as many points."""
MAX_TASK = 250
"""Points of a task at most: what a kill can cost each worker."""
MIN_TASKS = 32
"""Tasks of a sweep at least, where it has as many points: enough to even out points of different size."""
WAITING = 3
"""Tasks handed to an executor per worker: enough that none waits, few enough that results are written as they come."""


# work
# ----------------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class SweepWork:
    """What a worker needs, on this machine or another. Two are equal when they have the same key, so that a process
    opens one once."""

    key: str
    grid: Grid = field(compare=False)
    facts: PackedFacts = field(compare=False)
    facts_hash: str = field(compare=False)
    term: str = field(compare=False)
    stack: str | None = field(compare=False)
    version: str = field(compare=False)


@lru_cache(maxsize=4)
def _open(work: SweepWork) -> Facts:
    """The facts of a work, in this process. Raises UserError where this installation would give other numbers."""
    if work.version != VERSION:
        raise UserError("a worker has another version of mowich", given=VERSION, allowed=work.version)
    facts = work.facts.open()
    if facts.hash() != work.facts_hash:
        raise UserError("a worker has other facts", given=facts.hash(), allowed=work.facts_hash)
    return facts


@lru_cache(maxsize=64)
def _model_digest(model: Model) -> str:
    return hashlib.sha256(repr(model).encode()).hexdigest()[:12]


def job_id(point: Point) -> list[object]:
    """What the id of a point holds of its job."""
    if isinstance(point.job, TrainJob):
        return [point.job.inputs(), point.job.tokens]
    return [{"task": "serve", **point.job_words}, point.engine]


def point_id(point: Point, work: SweepWork) -> str:
    """16 hex digits of the point's resolved inputs: the model itself and not its name, the system, the job, choices,
    and every value set by the user. Facts as shipped and the version are not in it, so that two sweeps can be
    joined."""
    fixed = {k: list(v) for k, v in {**work.grid.fixed, **dict(point.plan)}.items()}
    return digest(
        [
            _model_digest(work.grid.models[point.model]),
            point.system,
            point.chips,
            *job_id(point),
            fixed,
            work.facts.settings | dict(point.facts),
            work.term,
            work.stack,
        ]
    )


def solve_part(work: SweepWork, low: int, high: int) -> list[dict[str, object]]:
    """Rows of the points low .. high - 1: one task of an executor."""
    facts = _open(work)
    points = [work.grid.point(i) for i in range(low, high)]
    return [record(p, solve_point(p, work.grid, facts, work.term, work.stack), point_id(p, work)) for p in points]


# directory
# ----------------------------------------------------------------------------------------------------------------------
def _duckdb() -> ModuleType:
    """The DuckDB module, or one line that says how to get it."""
    try:
        import duckdb as module
    except ImportError:
        raise UserError("Parquet files need DuckDB", fix="pip install 'mowich[tables]'") from None
    found: ModuleType = module
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts(Shown):
    """A sweep in a directory. points: in the grid; done: on disk; complete: False when interrupted; set_aside: damaged
    parts that were moved away and made again.

    Units: SI (seconds, bytes, joules, watts), dollars; each number an `Estimate` with its 90% range and grade.

    Example:
        >>> import mowich
        >>> text = (
        ...     "{mowich: 1, models: llama-3.1-8b, on: [trn3, h100], chips: [64], seq: 4096,"
        ...     " batch: 256seqs, tokens: 1T, plan: {precision: bf16}}"
        ... )
        >>> mowich.sweep(text, out="results").points  # doctest: +SKIP
        2
    """

    KEYS = "**manifest folder done infeasible complete set_aside"

    folder: Path
    manifest: Result
    points: int
    done: int
    infeasible: int
    set_aside: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        return self.done == self.points

    def rows(self) -> list[dict[str, object]]:
        """Every row, in the order of the grid."""
        return _rows(_duckdb(), _files(self.folder, self.manifest))


def task_size(points: int) -> int:
    """Points of a task, by the size of the grid alone.

    >>> task_size(18), task_size(1000), task_size(100_000)
    (1, 32, 250)
    """
    return max(1, min(MAX_TASK, -(-points // MIN_TASKS)))


MOST_PROBED = 12
"""Pairs of a model and a system; of a larger sweep nobody looks which given facts it reads."""


def part_size(points: int) -> int:
    """Points of a part: those of whole tasks.

    >>> part_size(18), part_size(1000), part_size(100_000)
    (4000, 4000, 4000)
    """
    task = task_size(points)
    return task * max(1, -(-PART_ROWS // task))


def sweep_to(
    folder: Path,
    grid: Grid,
    facts: Facts,
    *,
    term: str = "default",
    stack: str | None = None,
    executor: Executor | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Parts:
    """Compute the parts that are missing in `folder`. executor: any of `concurrent.futures` with that many workers
    (None: here); progress: told (points on disk, points computed by this run). A KeyboardInterrupt ends it with what is
    on disk. Raises UserError where the folder holds another sweep, is in use, or cannot be written to.
    """
    db = _duckdb()
    manifest = _manifest_of(grid, facts, term, stack)
    names = store_columns(grid)
    work = SweepWork(
        key=digest(manifest),
        grid=grid,
        facts=pack_facts(facts),
        facts_hash=str(manifest["facts_hash"]),
        term=term,
        stack=stack,
        version=VERSION,
    )
    with locked(folder):
        with written(folder):
            _claim(folder, manifest)
            aside = tuple(set_aside(path).name for path in _damaged(folder, manifest))
        missing = {
            task: ends
            for part, tasks in _tasks(manifest).items()
            if not _part(folder, part).is_file()
            for task, ends in tasks.items()
            if not _task(folder, task).is_file()
        }
        on_disk = len(grid) - sum(high - low for low, high in missing.values())
        computed = 0
        with contextlib.suppress(KeyboardInterrupt):
            for part in _tasks(manifest):
                _join(db, folder, manifest, part, names)  # what a kill left to be joined
            for task, rows in _solved(missing, work, executor, workers * WAITING):
                part = missing[task][0] // part_size(len(grid))
                alone = len(_tasks(manifest)[part]) == 1
                _write(db, _part(folder, part) if alone else _task(folder, task), rows, names)
                _join(db, folder, manifest, part, names)
                computed += len(rows)
                if progress:
                    progress(on_disk + computed, computed)
        with written(folder):
            order_checksums(folder, [path.name for path in _files(folder, manifest)])
        found = _count(db, folder, manifest, aside)
    facts = facts.heard(grid.facts)
    if facts.ledger is None or not facts.ledger.said or len(grid.models) * len(grid.systems) > MOST_PROBED:
        return found
    for point in first_points(grid):  # parts that were there before do not say what they read
        solve_point(point, grid, facts, term, stack)
    return note_heard(found, facts, question=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified(Shown):
    """The parts of a directory against their checksums. sound, damaged, missing: names of parts, in order; strays:
    files that are none of this sweep, and left-over ones of its own."""

    SCHEMA = "mowich/sweep-verify@1"
    KEYS = "folder sound:count damaged missing strays"

    folder: Path
    sound: tuple[str, ...]
    damaged: tuple[str, ...]
    missing: tuple[str, ...]
    strays: tuple[str, ...] = ()

    @property
    def misread(self) -> tuple[str, ...]:
        """The strays that a reader of the directory takes for rows of the sweep."""
        return tuple(name for name in self.strays if not name.startswith(("_", ".")))


def verify_parts(
    folder: Path, grid: Grid, facts: Facts, *, term: str = "default", stack: str | None = None
) -> Verified:
    """Read every part of a sweep and compare it with its checksum; nothing is written. Raises UserError where the
    folder holds no sweep, or another one."""
    manifest = _manifest_of(grid, facts, term, stack)
    if not (folder / MANIFEST).is_file():
        raise UserError(f"has no {MANIFEST}: no sweep was written there", field=f"out {folder}")
    _refuse_other(folder, folder / MANIFEST, manifest)
    damaged = _damaged(folder, manifest)
    return Verified(
        folder=folder,
        sound=tuple(path.name for path in _files(folder, manifest) if path not in damaged),
        damaged=tuple(path.name for path in damaged),
        missing=tuple(_part(folder, i).name for i in _tasks(manifest) if not _part(folder, i).is_file()),
        strays=tuple(_strays(folder, manifest)),
    )


def _strays(folder: Path, manifest: Result) -> list[str]:
    """Names of files that are no part of a sweep: of another one, half-written, or rows that stand in a part too."""
    own = {MANIFEST, CHECKSUMS, DAMAGED, SWEEP_REPORT, LOCK, *(path.name for path in _files(folder, manifest))}
    return sorted(path.name for path in folder.iterdir() if path.name not in own)


def _manifest_of(grid: Grid, facts: Facts, term: str, stack: str | None) -> dict[str, object]:
    """What a directory says that it holds. term: the kind of price."""
    inputs = {
        **{
            k: v for k, v in grid.inputs.items() if k not in ("scenario", "asked")
        },  # what was asked, not the file that asked it
        "fixed": dict(sorted((str(k), list(v)) for k, v in grid.fixed.items())),  # the order of choices decides nothing
        "price_term": term,
        "stack": stack,
        "models_hash": {k: _model_digest(m) for k, m in grid.models.items()},
    }
    return {
        "schema": _SCHEMA,
        "version": VERSION,
        "facts_hash": facts.hash(),
        "inputs": json.loads(json.dumps(inputs)),
        "points": len(grid),
        "points_per_part": part_size(len(grid)),
        "points_per_task": task_size(len(grid)),
        "columns": list(store_columns(grid)),
    }


def _tasks(manifest: Result) -> dict[int, dict[int, tuple[int, int]]]:
    """Part -> task -> its first point and the one after its last."""
    points, part, task = (int(manifest[key]) for key in ("points", "points_per_part", "points_per_task"))
    return {
        i: {low // task: (low, min(points, low + task)) for low in range(i * part, min(points, (i + 1) * part), task)}
        for i in range(-(-points // part))
    }


def tasks_done(folder: Path) -> int:
    """Tasks of a sweep's folder whose rows are on disk, also while it runs; 0 before it has begun."""
    path = folder / MANIFEST
    if not path.is_file():
        return 0
    parts = _tasks(json.loads(path.read_text(encoding="utf-8")))
    return sum(
        len(tasks) if _part(folder, part).is_file() else sum(_task(folder, task).is_file() for task in tasks)
        for part, tasks in parts.items()
    )


def _files(folder: Path, manifest: Result) -> list[Path]:
    """What is on disk, in the order of the grid: parts, and in the place of a part that is not there its tasks."""
    out = []
    for part, tasks in _tasks(manifest).items():
        whole = _part(folder, part)
        out += [whole] if whole.is_file() else [path for task in tasks if (path := _task(folder, task)).is_file()]
    return out


def _damaged(folder: Path, manifest: Result) -> list[Path]:
    """Files on disk whose bytes are not those that were written."""
    known = read_checksums(folder)
    return [path for path in _files(folder, manifest) if not is_sound(folder, path.name, known)]


def _rows(db: ModuleType, files: Sequence[Path]) -> list[dict[str, object]]:
    """The rows of files, in their order."""
    out: list[dict[str, object]] = []
    connection = db.connect()
    try:
        for path in files:
            found = connection.execute("select * from read_parquet(?)", [str(path)])
            names = [d[0] for d in found.description]
            out += [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    finally:
        connection.close()
    return out


def _join(db: ModuleType, folder: Path, manifest: Result, part: int, names: Mapping[str, type]) -> None:
    """Write a part in the place of its tasks, where all of them are there. A kill leaves either or both, and the part
    counts."""
    tasks = [_task(folder, task) for task in _tasks(manifest)[part]]
    there = [path for path in tasks if path.is_file()]
    if len(there) == len(tasks) and not _part(folder, part).is_file():
        _write(db, _part(folder, part), _rows(db, tasks), names)
    if there and _part(folder, part).is_file():
        with written(folder):
            for path in there:
                path.unlink()


def _solved(
    missing: Mapping[int, tuple[int, int]], work: SweepWork, executor: Executor | None, ahead: int
) -> Iterator[tuple[int, list[dict[str, object]]]]:
    """(task, its rows) as they are ready."""
    if executor is None:
        yield from ((i, solve_part(work, *ends)) for i, ends in missing.items())
        return
    todo = iter(missing.items())
    running: dict[Future[list[dict[str, object]]], int] = {}
    try:
        with workers_live("the same command goes on where it was"):
            while True:
                for i, ends in todo:
                    running[executor.submit(solve_part, work, *ends)] = i
                    if len(running) >= ahead:
                        break
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
    finally:
        for future in running:
            future.cancel()


def _part(folder: Path, i: int) -> Path:
    return folder / f"part-{i:06d}.parquet"


def _task(folder: Path, i: int) -> Path:
    return folder / f"_task-{i:06d}"  # readers of "*.parquet" and of directories skip it


def _claim(folder: Path, manifest: Mapping[str, object]) -> None:
    """Note in a folder what it is for; what a killed run left half-written is removed."""
    path = folder / MANIFEST
    if path.is_file():
        _refuse_other(folder, path, manifest)
    elif any(folder.glob("part-*.parquet")):
        raise UserError(f"has part files and no {MANIFEST}", field=f"out {folder}", fix="choose another directory")
    else:
        replace_file(path, json.dumps(manifest, indent=1).encode() + b"\n")
    for stale in folder.glob(".*.tmp"):
        stale.unlink()


def _refuse_other(folder: Path, path: Path, manifest: Result) -> None:
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
        old, new = {**there, **there["inputs"]}, {**manifest, **manifest["inputs"]}
    except (OSError, ValueError, TypeError, KeyError):
        raise UserError("is not the manifest of a sweep", where=str(path)) from None
    if there == manifest:
        return
    key = next(
        (k for k in (*manifest["inputs"], "version", "facts_hash", *manifest) if old.get(k) != new.get(k)), "inputs"
    )
    raise UserError(
        f"holds another sweep: {key} {_short(old.get(key))} there, {_short(new.get(key))} now",
        field=f"out {folder}",
        fix="choose another directory, or remove it",
    )


def _short(value: object, most: int = 60) -> str:
    text = json.dumps(value)
    return text if len(text) <= most else text[: most - 3] + "..."


def _write(db: ModuleType, path: Path, rows: Sequence[Mapping[str, object]], names: Mapping[str, type]) -> None:
    """One part, in the order of its rows. Ctrl-C while DuckDB works ends as Ctrl-C does."""
    temporary = path.parent / f".{path.name}.tmp"
    part = {name: _column(rows, name, kind) for name, kind in names.items()}
    casts = ", ".join(
        f'"{name}"::{SQL[kind]} as "{name}"' for name, kind in names.items()
    )  # a part without a value has its type too
    connection = db.connect(config={"threads": 1})
    try:
        # named, and not found as a variable: DuckDB does not find one while a Ctrl-C arrives
        connection.register("part", part)
        connection.execute(
            f"copy (select {casts} from part) to '{_quoted(temporary)}' (format parquet, compression zstd)"
        )
    except db.IOException as error:
        with written(path.parent):
            raise OSError(_reason(str(error))) from error
    except (db.Error, RuntimeError) as error:  # which of them depends on where in DuckDB the Ctrl-C arrives
        if "nterrupt" not in str(error):
            raise
        raise KeyboardInterrupt from None
    finally:
        connection.close()
    with written(path.parent):
        note_checksum(path.parent, path.name, checksum_of(temporary))
        settle(temporary, path)


def _reason(text: str) -> str:
    """The last part of DuckDB's words: "No space left on device".

    >>> _reason('IO Error: {"exception_type":"IO","exception_message":"Could not write: No space left","errno":"28"}')
    'No space left'
    """
    return " ".join(text.split()).rpartition(": ")[2].strip('"').partition('"')[0]


def _column(rows: Sequence[Mapping[str, object]], name: str, kind: type) -> NDArray[np.generic]:
    values = [row.get(name) for row in rows]
    if kind is str:
        return np.array(values, dtype=object)
    none = [v is None for v in values]
    dtype: type[np.generic] = {int: np.int64, bool: np.bool_, float: np.float64}[kind]
    filled = np.array([kind(0) if v is None else kind(v) for v in values], dtype=dtype)
    return np.ma.array(filled, mask=none) if any(none) else filled


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def _count(db: ModuleType, folder: Path, manifest: Result, aside: tuple[str, ...]) -> Parts:
    """What is on disk, counted in the files themselves."""
    done = infeasible = 0
    files = _files(folder, manifest)
    if files:
        connection = db.connect()
        try:
            plan = "plan_tp" if "plan_tp" in manifest["columns"] else "decode_tp"
            query = f"select count(distinct id), count(*), count(*) filter ({plan} is null) from read_parquet(?)"
            done, rows, infeasible = connection.execute(query, [[str(path) for path in files]]).fetchone()
        finally:
            connection.close()
        if done != rows:
            raise UserError(
                f"{rows - done} points are there twice",
                where=str(folder),
                fix="axes that name the same thing in two ways?",
            )
    points = int(manifest["points"])
    return Parts(folder=folder, manifest=manifest, points=points, done=done, infeasible=infeasible, set_aside=aside)
