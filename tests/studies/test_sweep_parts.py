"""Sweeps on disk: each point once and the same bytes, whatever was killed and whoever computed it; what is refused, and
what the axes mean."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mowich.cli import run
from mowich.errors import UserError, UserErrors
from mowich.facts import Facts
from mowich.facts.own import pack_facts
from mowich.studies import sweep_store
from mowich.studies.sweep import sweep
from mowich.studies.sweep_grid import Grid, read_sweep, values_of
from mowich.studies.sweep_store import (
    MANIFEST,
    Parts,
    part_size,
    solve_part,
    store_columns,
    sweep_to,
    task_size,
    tasks_done,
    verify_parts,
)
from mowich.studies.sweep_workers import ClusterLostError, RayExecutor

duckdb = pytest.importorskip("duckdb")

TEXT = """\
mowich: 1
models: gpt2
on: [h100, h100:4096]
chips: [8, 900k]
seq: 1024
batch: 64seqs..69seqs:6
tokens: 1T
plan: {cp: 1, pp: 1, ep: 1, precision: bf16, recompute: none, zero: 1, sp: "true"}
vary: {plan.tp: "1,2"}
"""
POINTS = 2 * 2 * 6 * 2
COMMAND = [
    *(sys.executable, "-c"),
    "import sys; from mowich import cli; from mowich.studies import sweep_store; sweep_store.PART_ROWS = 1; "
    "sys.exit(cli.run(sys.argv[1:]))",
]
"""The command in a process of its own, with parts as small as `parts_of_one_task` makes them here."""


@pytest.fixture(autouse=True, scope="module")
def parts_of_one_task() -> Iterator[None]:
    """Parts as small as tasks: so a grid of some points has several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep_store, "PART_ROWS", 1)
        yield


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    file = tmp_path / "s.yaml"
    file.write_text(TEXT)
    return file


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, facts: Facts, parts_of_one_task: None) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "s.yaml").write_text(TEXT)
    found = sweep_to(folder / "results", read_sweep(folder / "s.yaml", facts), facts)
    assert found.complete
    assert (found.points, found.done) == (POINTS, POINTS)
    return folder / "results"


@pytest.fixture(scope="module")
def facts() -> Facts:
    from mowich.facts import load_facts

    return load_facts()


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def table(folder: Path, what: str) -> list[tuple[Any, ...]]:
    return duckdb.sql(f"select {what} from '{folder}/*.parquet'").fetchall()  # type: ignore[no-any-return]


@pytest.mark.slow
def test_killed_twice_it_ends_with_every_point_once_and_the_same_bytes(undisturbed: Path, tmp_path: Path) -> None:
    """The process group dies by SIGKILL at random moments; the same command goes on."""
    draw = random.Random(20261125)
    (tmp_path / "s.yaml").write_text(TEXT)
    folder = tmp_path / "results"
    words = [*COMMAND, "sweep", "s.yaml", "--out", "results/", "--jobs", "2", "--quiet", "--json"]
    kept: set[str] = set()
    for _ in range(2):
        process = subprocess.Popen(words, cwd=tmp_path, start_new_session=True, stdout=subprocess.DEVNULL)
        wanted = len(kept) + draw.randint(1, 6)
        deadline = time.monotonic() + 60
        while (
            len(list(folder.glob("part-*.parquet"))) < wanted and process.poll() is None and time.monotonic() < deadline
        ):
            time.sleep(0.005)
        time.sleep(draw.random() * 0.1)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        parts = {p.name for p in folder.glob("part-*.parquet")}
        assert kept < parts
        kept = parts
    before = {name: (folder / name).stat().st_mtime_ns for name in kept}
    last = subprocess.run(words, cwd=tmp_path, check=True, capture_output=True, text=True)
    said = json.loads(last.stdout)
    assert (said["schema"], said["points"], said["done"], said["complete"]) == (
        "mowich/sweep-parts@1",
        POINTS,
        POINTS,
        True,
    )
    assert {name: (folder / name).stat().st_mtime_ns for name in kept} == before  # nothing is computed again
    assert table(folder, "count(*), count(distinct id)") == [(POINTS, POINTS)]
    assert contents(folder) == contents(undisturbed)


class Backwards(Executor):
    """Gives the last task's result first."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Future[Any], Any]] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.waiting.append((future, lambda: fn(*args, **kwargs)))
        if len(self.waiting) == 3:
            while self.waiting:
                waiting, call = self.waiting.pop()
                waiting.set_result(call())
        return future


def test_bytes_do_not_depend_on_the_executor(undisturbed: Path, scenario: Path, facts: Facts, tmp_path: Path) -> None:
    grid = read_sweep(scenario, facts)
    with ThreadPoolExecutor(3) as threads:
        for name, executor in (("threads", threads), ("backwards", Backwards())):
            assert sweep_to(tmp_path / name, grid, facts, executor=executor, workers=1).complete
            assert contents(tmp_path / name) == contents(undisturbed)


def test_rows_are_those_of_a_sweep_in_memory(undisturbed: Path, facts: Facts) -> None:
    grid = read_sweep(undisturbed.parent / "s.yaml", facts)
    rows = [row for _, row in sweep(grid, facts).rows]
    found = table(
        undisturbed,
        "system, chips, batch_seqs, set_plan_tp, step_s, step_s_low, step_s_gemm, reason, feasible, plan_tp",
    )
    assert [(f[0], f[1], f[2], f[3]) for f in found] == [
        (p.system, p.chips, p.job.batch_seqs, str(p.plan[0][1][0])) for p in grid.points
    ]
    assert [(f[4], f[5], f[7], f[8]) for f in found] == [
        (r.step_s.value, r.step_s.low, r.reason, r.feasible) for r in rows
    ]
    assert [f[6] for f in found] == [r.step_s.breakdown.get("gemm") for r in rows]
    refused = [f for f in found if f[9] is None]
    assert refused
    assert all(f[7] and f[4] is None and f[8] is False for f in refused)


def test_a_folder_with_other_inputs_is_refused_in_one_line(
    undisturbed: Path, scenario: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(undisturbed)
    for more, said in (
        (["--vary", "chips=8,16"], "chips [8, 900000] there, [8, 16] now"),
        (["--set", "site.pue=1.5"], "facts_hash"),
    ):
        assert run(["sweep", str(scenario), "--out", str(undisturbed), *more]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert said in error
        assert "holds another sweep" in error
    assert contents(undisturbed) == before


def test_strange_folders_are_refused(scenario: Path, facts: Facts, tmp_path: Path) -> None:
    grid = read_sweep(scenario, facts)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be made"):
        sweep_to(tmp_path / "file", grid, facts)
    other = tmp_path / "other"
    other.mkdir()
    (other / "part-000000.parquet").write_text("")
    with pytest.raises(UserError, match="no _manifest"):
        sweep_to(other, grid, facts)
    (other / MANIFEST).write_text("[]")
    with pytest.raises(UserError, match="not the manifest"):
        sweep_to(other, grid, facts)


FAULTS = {
    "flipped bit": lambda b: b[:300] + bytes([b[300] ^ 1]) + b[301:],
    "cut short": lambda b: b[:100],
    "empty": lambda b: b"",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_part_is_set_aside_and_made_again(
    undisturbed: Path, scenario: Path, facts: Facts, tmp_path: Path, fault: str
) -> None:
    folder = tmp_path / "results"
    shutil.copytree(undisturbed, folder)
    part = folder / "part-000002.parquet"
    damaged = FAULTS[fault](part.read_bytes())
    part.write_bytes(damaged)
    grid = read_sweep(scenario, facts)
    said = verify_parts(folder, grid, facts)
    assert (said.damaged, len(said.sound), said.missing) == ((part.name,), len(list(folder.glob("part-*"))) - 1, ())
    assert part.read_bytes() == damaged  # to look at is not to touch
    found = sweep_to(folder, grid, facts)
    assert (found.complete, found.set_aside) == (True, (part.name,))
    assert (folder / "_damaged" / part.name).read_bytes() == damaged
    shutil.rmtree(folder / "_damaged")
    assert contents(folder) == contents(undisturbed)
    assert verify_parts(folder, grid, facts).damaged == ()


def test_a_part_from_elsewhere_is_not_taken(undisturbed: Path, scenario: Path, facts: Facts, tmp_path: Path) -> None:
    """The rows of one part under the name of another: a whole file, and the wrong one."""
    folder = tmp_path / "results"
    shutil.copytree(undisturbed, folder)
    shutil.copyfile(folder / "part-000001.parquet", folder / "part-000002.parquet")
    assert sweep_to(folder, read_sweep(scenario, facts), facts).set_aside == ("part-000002.parquet",)


@pytest.mark.slow
def test_parts_hold_thousands_of_rows_and_tasks_are_joined(
    undisturbed: Path, scenario: Path, facts: Facts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small sweep is one file; a sweep that stops between tasks, or while it joins, ends with the same bytes."""
    monkeypatch.setattr(sweep_store, "PART_ROWS", 4000)
    grid = read_sweep(scenario, facts)
    once = sweep_to(tmp_path / "once", grid, facts)
    assert once.complete
    assert [p.name for p in sorted((tmp_path / "once").glob("*"))] == [
        "_checksums.sha256",
        "_manifest.json",
        "part-000000.parquet",
    ]
    small = Parts(
        folder=undisturbed, manifest=json.loads((undisturbed / MANIFEST).read_text()), points=0, done=0, infeasible=0
    )
    assert once.rows() == small.rows()
    for stops in (1, 5, 23):
        folder, real, calls = tmp_path / f"stopped-{stops}", sweep_store._write, itertools.count()

        def write(*args: object, stops: int = stops, real: object = real, calls: Iterator[int] = calls) -> None:
            if next(calls) == stops:
                raise KeyboardInterrupt
            real(*args)  # type: ignore[operator]

        with monkeypatch.context() as patch:
            patch.setattr(sweep_store, "_write", write)
            begun = sweep_to(folder, grid, facts)
        assert (begun.complete, begun.done) == (False, stops * task_size(POINTS))
        assert not list(folder.glob("*.parquet"))
        assert len(begun.rows()) == begun.done
        assert tasks_done(folder) == stops
        assert sweep_to(folder, grid, facts).complete
        assert contents(folder) == contents(tmp_path / "once")


def test_lines_of_checksums_are_those_of_sha256sum(undisturbed: Path) -> None:
    lines = (undisturbed / "_checksums.sha256").read_text().splitlines()
    names = [line.split("  ")[1] for line in lines]
    assert names == sorted(p.name for p in undisturbed.glob("part-*.parquet"))
    assert all(
        hashlib.sha256((undisturbed / n).read_bytes()).hexdigest() == x[:64] for x, n in zip(lines, names, strict=False)
    )


def test_a_line_that_a_kill_cut_short_costs_its_part_alone(
    undisturbed: Path, scenario: Path, facts: Facts, tmp_path: Path
) -> None:
    folder = tmp_path / "results"
    shutil.copytree(undisturbed, folder)
    sums = folder / "_checksums.sha256"
    sums.write_bytes(sums.read_bytes()[:-40])
    last = max(p.name for p in folder.glob("part-*.parquet"))
    found = sweep_to(folder, read_sweep(scenario, facts), facts)
    assert found.set_aside == (last,)
    assert sums.read_bytes() == (undisturbed / "_checksums.sha256").read_bytes()


def _fails(after: int, error: BaseException) -> Callable[..., None]:
    """A function that does nothing `after` times and then raises."""
    calls = itertools.count(1)

    def call(*_: object, **__: object) -> None:
        if next(calls) > after:
            raise error

    return call


def goes_on(folder: Path, grid: Grid, facts: Facts, undisturbed: Path) -> None:
    """A broken sweep ends whole: what it kept is not made again, and all is as if nothing had happened."""
    kept = {p.name: p.stat().st_mtime_ns for p in folder.glob("part-*.parquet")}
    assert sweep_to(folder, grid, facts).complete
    assert {n: (folder / n).stat().st_mtime_ns for n in kept} == kept
    assert contents(folder) == contents(undisturbed)


QUICK_FAULTS = {(errno.ENOSPC, "os.fsync", 0), (errno.EIO, "os.fsync", 4), (errno.ENOSPC, "os.replace", 9)}
"""Those that every run of the tests tries; `make test-slow` tries all."""


@pytest.mark.parametrize(
    ("number", "place", "after"),
    [
        pytest.param(*fault, marks=() if fault in QUICK_FAULTS else pytest.mark.slow)
        for fault in itertools.product((errno.ENOSPC, errno.EIO), ("os.fsync", "os.replace"), (0, 1, 4, 9))
    ],
)
def test_a_full_or_broken_disk_is_one_line_and_loses_nothing(
    undisturbed: Path,
    scenario: Path,
    facts: Facts,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    after: int,
    number: int,
) -> None:
    folder, grid = tmp_path / "results", read_sweep(scenario, facts)
    real = os.replace
    fails = _fails(after, OSError(number, os.strerror(number)))

    def broken(*given: Any, **more: Any) -> None:
        fails()
        if place == "os.replace":
            real(*given, **more)

    with monkeypatch.context() as patch:
        patch.setattr(place, broken)
        with pytest.raises(UserError, match=os.strerror(number)) as told:
            sweep_to(folder, grid, facts)
    assert str(folder) in told.value.where
    assert len(str(told.value).splitlines()) == 1
    kept = any(folder.glob("part-*.parquet"))
    assert verify_parts(folder, grid, facts).damaged == () if kept else True
    goes_on(folder, grid, facts, undisturbed)


def test_a_disk_that_fills_while_duckdb_writes(
    scenario: Path, facts: Facts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DuckDB's own error, with its words: the device that is always full."""
    if not Path("/dev/full").exists():
        pytest.skip("no device that is full")
    real = sweep_store._quoted
    monkeypatch.setattr(sweep_store, "_quoted", lambda path: "/dev/full" if path.suffix == ".tmp" else real(path))
    with pytest.raises(UserError, match="cannot be written") as told:
        sweep_to(tmp_path / "results", read_sweep(scenario, facts), facts)
    assert len(str(told.value).splitlines()) == 1


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    """Without the rights of root, who may write everywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_folder_that_may_not_be_written_is_one_line(undisturbed: Path, scenario: Path, facts: Facts) -> None:
    """When a sweep begins, and when it goes on."""
    grid = read_sweep(scenario, facts)
    with tempfile.TemporaryDirectory(dir="/tmp") as top:
        Path(top).chmod(0o755)
        empty, begun = Path(top) / "empty", Path(top) / "begun"
        empty.mkdir()
        shutil.copytree(undisturbed, begun)
        (begun / "part-000001.parquet").unlink()
        for folder in (empty, begun):
            folder.chmod(0o555)
            before = contents(folder)
            with nobody(), pytest.raises(UserError, match="cannot be written") as told:
                sweep_to(folder, grid, facts)
            assert len(str(told.value).splitlines()) == 1
            assert contents(folder) == before
        begun.chmod(0o755)
        assert sweep_to(begun, grid, facts).complete
        assert contents(begun) == contents(undisturbed)


@pytest.mark.parametrize(
    ("place", "after"),
    [
        ("os.replace", 3),
        *(
            pytest.param(place, after, marks=pytest.mark.slow)
            for place in ("os.fsync", "os.replace", "hashlib.file_digest")
            for after in (0, 1, 5, 8)
        ),
    ],
)
def test_ctrl_c_inside_a_write_loses_nothing(
    undisturbed: Path,
    scenario: Path,
    facts: Facts,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    after: int,
) -> None:
    """Before the bytes of a part, or its checksum, are on the disk; before it has its name."""
    folder, grid = tmp_path / "results", read_sweep(scenario, facts)
    module, name = place.split(".")
    real = getattr(sys.modules[module], name)
    fails = _fails(after, KeyboardInterrupt())

    def interrupted(*given: Any, **more: Any) -> Any:
        fails()
        return real(*given, **more)

    with monkeypatch.context() as patch:
        patch.setattr(place, interrupted)
        with contextlib.suppress(KeyboardInterrupt):  # what runs on after the interrupt is interrupted again
            assert not sweep_to(folder, grid, facts).complete
    goes_on(folder, grid, facts, undisturbed)


def test_a_clock_that_jumps_changes_nothing(
    scenario: Path, facts: Facts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every reading of every clock lies somewhere in a century; so do the times of the files."""
    draw = random.Random(7)
    grid = read_sweep(scenario, facts, vary={"chips": "8", "batch": "64seqs"})
    folder, steady = tmp_path / "jumps", tmp_path / "steady"
    assert sweep_to(steady, grid, facts).complete
    shutil.copytree(steady, folder)
    (folder / "part-000001.parquet").unlink()
    for file in folder.iterdir():
        os.utime(file, (moment := draw.uniform(0, 3e9), moment))
    with monkeypatch.context() as patch:
        for clock in ("time.time", "time.monotonic", "time.perf_counter", "time.process_time"):
            patch.setattr(clock, lambda: draw.uniform(0, 3e9))
        found = sweep_to(folder, grid, facts, progress=lambda done, computed: None)
    assert (found.complete, found.set_aside) == (True, ())
    assert contents(folder) == contents(steady)


class Dies(Executor):
    """Workers of which one dies after some tasks."""

    def __init__(self, after: int, error: BaseException) -> None:
        self.fails = _fails(after, error)

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            self.fails()
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (BrokenExecutor("gone"), "a worker process died"),
        (ClusterLostError(ConnectionError("no\nanswer")), "the Ray cluster is lost (no answer)"),
    ],
)
def test_workers_that_die_are_one_line_and_cost_what_was_under_way(
    scenario: Path, facts: Facts, tmp_path: Path, error: BaseException, said: str
) -> None:
    grid = read_sweep(scenario, facts, vary={"chips": "8", "batch": "64seqs"})
    folder = tmp_path / "results"
    with pytest.raises(UserError) as told:
        sweep_to(folder, grid, facts, executor=Dies(2, error))
    assert said in told.value.line()
    assert "the same command goes on" in told.value.line()
    assert "\n" not in told.value.line()
    assert len(list(folder.glob("part-*.parquet"))) <= 2
    assert sweep_to(folder, grid, facts).complete
    with pytest.raises(UserError) as told:
        sweep(grid, facts, executor=Dies(2, error), tasks=4)
    assert said in told.value.line()
    assert "--out DIR keeps what is done" in told.value.line()


def test_what_ray_says_when_its_head_is_gone_is_a_lost_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task whose result never comes, and one that cannot be handed over; an error of a task stays its own."""

    class RayError(Exception): ...

    class RayTaskError(RayError): ...

    class TaskUserError(RayTaskError, UserError): ...

    ends: list[BaseException | None] = []

    class Remote:
        def remote(self, fn: Any, *args: Any) -> Any:
            if isinstance(ends[0], OSError):
                raise ends[0]
            future: Future[Any] = Future()
            if ends[0] is None:
                future.set_result(fn(*args))
            else:
                future.set_exception(ends[0])
            return type("Reference", (), {"future": lambda self: future})()

    fake = ModuleType("ray")
    for name, value in {
        "init": lambda **_: None,
        "put": lambda x: x,
        "cluster_resources": lambda: {"CPU": 2},
        "remote": lambda **_: lambda call: Remote(),
        "exceptions": type("exceptions", (), {"RayError": RayError, "RayTaskError": RayTaskError}),
    }.items():
        setattr(fake, name, value)
    monkeypatch.setitem(sys.modules, "ray", fake)
    pool = RayExecutor("ray://here:1")
    for end, raised in (
        (RayError("lost"), ClusterLostError),
        (ConnectionError("gone"), ClusterLostError),
        (TaskUserError("own"), UserError),
    ):
        ends[:] = [end]
        with pytest.raises(raised):
            pool.submit(int, "3").result(1)
    ends[:] = [None]
    assert pool.submit(int, "3").result(1) == 3


@pytest.mark.slow
def test_interrupted_six_times_the_command_ends_with_130_and_loses_nothing(undisturbed: Path, tmp_path: Path) -> None:
    """SIGINT to the process group, as a terminal sends it, at moments drawn at random."""
    draw = random.Random(3)
    (tmp_path / "s.yaml").write_text(TEXT)
    folder = tmp_path / "results"
    words = [*COMMAND, "sweep", "s.yaml", "--out", "results/", "--jobs", "2", "--quiet"]
    kept: set[str] = set()
    for _ in range(6):
        process = subprocess.Popen(
            words, cwd=tmp_path, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        deadline = time.monotonic() + 120
        while len(list(folder.glob("part-*.parquet"))) <= len(kept) and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(draw.random() * 0.05)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=120)
        parts = {p.name for p in folder.glob("part-*.parquet")}
        assert process.returncode in ((130,) if len(parts) * part_size(POINTS) < POINTS else (0, 130)), said
        assert "Traceback" not in said
        assert kept <= parts
        kept = parts
    before = {name: (folder / name).stat().st_mtime_ns for name in kept}
    subprocess.run(words, cwd=tmp_path, check=True, capture_output=True)
    assert {name: (folder / name).stat().st_mtime_ns for name in kept} == before
    assert contents(folder) == contents(undisturbed)


@pytest.mark.slow
def test_two_processes_at_once_give_one_whole_sweep(undisturbed: Path, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(TEXT)
    words = [*COMMAND, "sweep", "s.yaml", "--out", "results/", "--jobs", "1", "--quiet"]
    both = [
        subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [one.communicate(timeout=300)[1] for one in both]
    assert sorted(one.returncode for one in both) == [0, 2], said
    assert sum("another sweep is writing there" in text for text in said) == 1
    assert contents(tmp_path / "results") == contents(undisturbed)


@pytest.mark.slow
def test_a_million_points_take_flat_memory(tmp_path: Path) -> None:
    """A million rows on disk, each with an id of its own, in a process that solves one of them: what a sweep holds by
    itself does not grow with its points. Prints what it measured."""
    (tmp_path / "s.yaml").write_text(TEXT.replace("batch: 64seqs..69seqs:6", "batch: 1seqs..62500seqs:62500"))
    code = """
import resource, sys
from pathlib import Path
from mowich.facts import load_facts
from mowich.studies import sweep_store
from mowich.studies.sweep_grid import MAX_STORED, read_sweep

facts = load_facts()
grid = read_sweep(Path("s.yaml"), facts, vary={"on": "h100,trn3", "chips": "8,16,32,64"}, most=MAX_STORED)
rows = {}
real = sweep_store.solve_point
sweep_store.solve_point = lambda point, *rest: rows.setdefault("one", rows.get("one") or real(point, *rest))
held = []

def told(done, computed):
    if computed % 50_000 == 0:
        held.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)

found = sweep_store.sweep_to(Path("r"), grid, facts, progress=told)
print(found.points, found.done, found.complete, held[0] // 1024, held[-1] // 1024, sep=",")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True)
    points, on_disk, complete, first, last = done.stdout.strip().split(",")
    print(f"{points} points: {first} MiB after 50,000, {last} MiB after all", end="; ")
    assert (points, on_disk, complete) == ("1000000", "1000000", "True")
    assert int(last) < int(first) + 100


def test_ctrl_c_while_duckdb_writes_ends_as_ctrl_c(
    undisturbed: Path, scenario: Path, facts: Facts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DuckDB answers an interrupt with an error of its own."""
    folder, grid = tmp_path / "results", read_sweep(scenario, facts)
    real, calls = duckdb.connect, itertools.count()

    class Interrupted:
        """A connection that is interrupted."""

        def register(self, name: str, columns: object) -> None: ...

        def execute(self, query: str) -> None:
            raise RuntimeError("Query interrupted")

        def close(self) -> None: ...

    with monkeypatch.context() as patch:
        patch.setattr(duckdb, "connect", lambda **more: Interrupted() if next(calls) == 2 else real(**more))
        found = sweep_to(folder, grid, facts)
    assert not found.complete
    assert found.done == 2 * part_size(POINTS)
    assert sweep_to(folder, grid, facts).complete
    assert contents(folder) == contents(undisturbed)


def test_verify_says_what_is_damaged(
    undisturbed: Path, scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "results"
    shutil.copytree(undisturbed, folder)
    words = ["sweep", str(scenario), "--out", str(folder), "--verify"]
    assert run(words) == 0
    assert "0 damaged, 0 not there yet" in capsys.readouterr().out
    (folder / "part-000003.parquet").unlink()
    part = folder / "part-000002.parquet"
    part.write_bytes(part.read_bytes()[:-1])
    assert run(words) == 5
    said = capsys.readouterr()
    assert "1 damaged, 1 not there yet" in said.out
    assert "damaged: part-000002.parquet" in said.out
    assert "sets them aside and makes them again" in said.err
    assert run(["sweep", str(scenario), "--verify"]) == 2
    assert "needs the directory of a sweep" in capsys.readouterr().err


def test_two_sweeps_do_not_write_to_one_folder(scenario: Path, facts: Facts, tmp_path: Path) -> None:
    grid = read_sweep(scenario, facts, vary={"chips": "8", "batch": "64seqs"})

    def again(*_: int) -> None:
        with pytest.raises(UserError, match="another sweep is writing"):
            sweep_to(tmp_path / "r", grid, facts)

    assert sweep_to(tmp_path / "r", grid, facts, progress=again).complete


def test_an_interrupt_keeps_what_is_done(scenario: Path, facts: Facts, tmp_path: Path) -> None:
    grid = read_sweep(scenario, facts, vary={"chips": "8", "batch": "64seqs"})

    def stop(done: int, computed: int) -> None:
        if computed == 2:
            raise KeyboardInterrupt

    found = sweep_to(tmp_path / "r", grid, facts, progress=stop)
    assert (found.points, found.done, found.complete) == (4, 2, False)
    seen: list[tuple[int, int]] = []
    assert sweep_to(tmp_path / "r", grid, facts, progress=lambda *told: seen.append(told)).complete
    assert seen == [(3, 1), (4, 2)]
    assert [r["set_plan_tp"] for r in sweep_to(tmp_path / "r", grid, facts).rows()] == ["1", "2", "1", "2"]


def test_a_worker_with_other_facts_or_another_version_refuses(
    scenario: Path, facts: Facts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import mowich
    from mowich.studies import sweep_store

    grid = read_sweep(scenario, facts)
    work = sweep_store.SweepWork(
        key="a",
        grid=grid,
        facts=pack_facts(facts),
        facts_hash="0" * 12,
        term="default",
        stack=None,
        version=mowich.__version__,
    )
    with pytest.raises(UserError, match="other facts"):
        solve_part(work, 0, 1)
    with pytest.raises(UserError, match="another version"):
        solve_part(
            sweep_store.SweepWork(
                key="b",
                grid=grid,
                facts=pack_facts(facts),
                facts_hash=facts.hash(),
                term="default",
                stack=None,
                version="0",
            ),
            0,
            1,
        )


def test_facts_of_the_users_own_travel_with_the_work(facts: Facts, tmp_path: Path) -> None:
    """A machine without the directory opens the same facts."""
    from mowich.facts import load_facts

    own = tmp_path / "own"
    (own / "prices").mkdir(parents=True)
    (own / "prices" / "user.yaml").write_text('trn3-gen2: {value: "$1.40/chip/h", grade: user}\n')
    known = load_facts([own]).with_values({"sites.default.pue": 1.3})
    packed, before = pack_facts(known), known.hash()
    (own / "prices" / "user.yaml").unlink()
    there = packed.open()
    assert there.hash() == before
    assert there.number("prices.user.trn3-gen2") == pytest.approx(1.4 / 3600)
    assert packed.settings == {"sites.default.pue": 1.3}


# axes
# --------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1, 2,4", ["1", "2", "4"]),
        ("64..600:x2", ["64", "128", "256", "512"]),
        ("4 TB/s..5 TB/s:3", ["4 TB/s", "4.5 TB/s", "5 TB/s"]),
        ("$1/chip/h..$3/chip/h:2", ["$1/chip/h", "$3/chip/h"]),
        ("8seqs..16seqs:x2", ["8seqs", "16seqs"]),
        ("5..5:1", ["5"]),
        ("1k..1000k:x10", ["1k", "10k", "100k", "1000k"]),
    ],
)
def test_ranges(text: str, values: list[str]) -> None:
    assert values_of(text) == values


@pytest.mark.parametrize(
    "text",
    [
        "1..",
        "1..2",
        "1..2:0",
        "2..1:x2",
        "1..2:x1",
        "1 TB/s..2 GB/s:2",
        "1,,2",
        "0..4:x2",
        "1..2:1.5",
        "1..9:200000",
        "a..b:2",
    ],
)
def test_what_is_no_range_is_said(text: str) -> None:
    with pytest.raises(UserError) as error:
        values_of(text)
    assert "64..4096:x2" in error.value.line()


@pytest.mark.share(3)
@pytest.mark.parametrize(
    ("vary", "said"),
    [
        ({"plan.tp": "1,x"}, "vary plan.tp: not a legal degree"),
        ({"chips": "8,0"}, "vary chips: must be at least 1"),
        ({"plan.tpp": "1"}, "did you mean 'tp'"),
        ({"prices.trn9": "$1/chip/h"}, "unknown system"),
        ({"chips.trainium3.memory.hbm_bandwith": "4 TB/s"}, "did you mean"),
        ({"seqs": "4"}, "did you mean 'seq'"),
        ({"prices.trn3": "1.4"}, "vary prices.trn3"),
        ({"plan.zero": "1,2"}, "both varied and fixed"),
        ({"tokens": "5"}, "less than one step"),
        ({"batch": "1seqs..200000seqs:200000"}, "more than 100000 values, got"),
        ({"batch": "1seqs..90000seqs:90000"}, "points are more than a sweep takes"),
    ],
)
def test_mistakes_in_axes_are_said(scenario: Path, facts: Facts, vary: dict[str, str], said: str) -> None:
    with pytest.raises((UserError, UserErrors)) as error:
        read_sweep(scenario, facts, vary=vary)
    assert said in error.value.line()


def test_a_varied_fact_reaches_the_model_and_stands_in_a_column(scenario: Path, facts: Facts, tmp_path: Path) -> None:
    vary = {
        "chips": "8",
        "batch": "64seqs",
        "on": "h100",
        "plan.tp": "2",
        "chips.h100_sxm.memory.hbm_bandwidth": "1 TB/s..3 TB/s:2",
    }
    grid = read_sweep(scenario, facts, vary=vary)
    assert "set_chips_h100_sxm_memory_hbm_bandwidth" in store_columns(grid)
    rows = sweep_to(tmp_path / "r", grid, facts).rows()
    assert [r["set_chips_h100_sxm_memory_hbm_bandwidth"] for r in rows] == [1e12, 3e12]
    assert rows[0]["step_s"] > rows[1]["step_s"]
    assert rows[0]["id"] != rows[1]["id"]


def test_an_id_names_the_question_and_not_its_place(scenario: Path, facts: Facts, tmp_path: Path) -> None:
    """Two sweeps that share points share their ids: they can be joined."""
    vary = {"chips": "8", "on": "h100", "batch": "64seqs"}
    small = sweep_to(tmp_path / "a", read_sweep(scenario, facts, vary=vary), facts).rows()
    large = sweep_to(tmp_path / "b", read_sweep(scenario, facts, vary={**vary, "batch": "32seqs,64seqs"}), facts).rows()
    assert [r["id"] for r in large][2:] == [r["id"] for r in small]


def test_the_verb_says_what_is_there_and_how_to_read_it(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["sweep", str(scenario), "--vary", "chips=8", "--vary", "batch=64seqs", "--jobs", "1", "--quiet"]
    assert run([*args, "--out", str(tmp_path / "r")]) == 0
    out = capsys.readouterr().out
    assert out.startswith("4 of 4 points in")
    assert "parquet" in out
    assert run([*args, "--out", str(tmp_path / "r"), "--csv"]) == 2
    assert run([*args, "--executor", "slurm"]) == 2
    assert run([*args[:-3], "--executor", "ray", "--jobs", "2"]) == 2
    assert "--executor" in capsys.readouterr().err
    assert run([*args, "--out", str(tmp_path / "x.json")]) == 0
    assert json.loads((tmp_path / "x.json").read_text())["schema"] == "mowich/sweep@1"


@pytest.mark.slow
def test_workers_end_with_the_process_that_asks_them(tmp_path: Path) -> None:
    """Whatever starts the workers: a fork of the process, or a server that forks for it."""
    code = """
import multiprocessing, os, sys, time
from mowich.studies.sweep_workers import processes
if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    pool = processes(1)
    print(pool.submit(os.getpid).result(), flush=True)
    os._exit(0)
"""
    file = tmp_path / "asks.py"
    file.write_text(code)
    for method in ("fork", "forkserver", "spawn"):
        asker = subprocess.Popen([sys.executable, str(file), method], stdout=subprocess.PIPE, text=True)
        assert asker.stdout is not None
        worker = int(asker.stdout.readline())
        assert asker.wait(60) == 0
        asker.stdout.close()
        for _ in range(100):
            if not Path(f"/proc/{worker}").exists():
                break
            time.sleep(0.1)
        assert not Path(f"/proc/{worker}").exists(), method
