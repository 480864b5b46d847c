"""A sweep of 100,000 points that is killed three times: every point once, nothing computed again, and the bytes of an
undisturbed run.

    python tests/slow/check_sweep.py [SCENARIO] [--folder DIR] [--jobs N]

The process group is killed by SIGKILL at moments drawn at random; the same command goes on. At the end some parts are
computed again elsewhere and compared byte for byte. Prints what it measured; ends with an AssertionError when something
does not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb

from mowich.studies.sweep_store import tasks_done

SCENARIO = Path(__file__).with_name("sweep_100k.yaml")
POINTS = 100_000
KILLS = 3
AGAIN = 1
"""Parts that are computed a second time."""


def parts(folder: Path) -> dict[str, int]:
    return {p.name: p.stat().st_mtime_ns for p in folder.glob("part-*.parquet")}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("scenario", nargs="?", type=Path, default=SCENARIO)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    given = parser.parse_args()
    folder = (given.folder or Path(tempfile.mkdtemp())) / "results"
    words = [
        sys.executable,
        "-m",
        "mowich",
        "sweep",
        str(given.scenario),
        "--out",
        f"{folder}/",
        "--jobs",
        str(given.jobs),
        "--json",
    ]
    draw = random.Random(20261125)
    seconds, done, kept = 0.0, 0, {}
    for kill in range(KILLS):
        start = time.monotonic()
        process = subprocess.Popen(words, start_new_session=True, stdout=subprocess.DEVNULL)
        wanted = done + draw.randint(20, 110)
        while tasks_done(folder) < wanted and process.poll() is None:
            time.sleep(0.2)
        time.sleep(draw.random() * 2)
        assert process.poll() is None, "ended before it was killed"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        seconds += time.monotonic() - start
        now = parts(folder)
        assert kept.items() <= now.items(), "a part was written twice"
        assert tasks_done(folder) >= wanted, "rows were lost"
        kept, done = now, tasks_done(folder)
        print(f"kill {kill + 1}: {done} tasks, {len(kept)} parts on disk after {seconds:.0f} s", flush=True)
    start = time.monotonic()
    last = subprocess.run(words, check=True, capture_output=True, text=True)
    seconds += time.monotonic() - start
    said = json.loads(last.stdout)
    assert kept.items() <= parts(folder).items(), "a part was written twice"
    assert said["complete"]
    assert not list(folder.glob(".*")), "half-written files are left"
    rows, ids, feasible = duckdb.sql(
        f"select count(*), count(distinct id), count(*) filter (plan_tp is not null) from '{folder}/*.parquet'"
    ).fetchall()[0]
    assert rows == ids == said["points"], (rows, ids, said["points"])
    if given.scenario == SCENARIO:
        assert rows == POINTS
    size = sum(p.stat().st_size for p in folder.glob("*.parquet"))
    print(
        f"{rows} points, {ids} distinct, {feasible} with a plan; {seconds:.0f} s, {rows / seconds:.0f} points/s with"
        f" {given.jobs} processes; {size / 1e6:.1f} MB"
    )
    same(folder, given.scenario, draw)
    return 0


def same(folder: Path, scenario: Path, draw: random.Random) -> None:
    """Some parts computed again, here and in one process."""
    from mowich.facts import load_facts
    from mowich.studies import sweep_store as study
    from mowich.studies.sweep_grid import MAX_STORED, read_sweep

    facts = load_facts()
    grid = read_sweep(scenario, facts, most=MAX_STORED)
    names = sorted(p.name for p in folder.glob("part-*.parquet"))
    chosen = sorted(draw.sample(names, min(AGAIN, len(names))))
    with tempfile.TemporaryDirectory() as other:
        there = Path(other)
        for name in ["_manifest.json", *(n for n in names if n not in chosen)]:
            (there / name).symlink_to(folder / name)
        assert study.sweep_to(there, grid, facts).complete
        for name in chosen:
            assert (there / name).read_bytes() == (folder / name).read_bytes(), name
    print(f"computed again and equal byte for byte: {', '.join(chosen)}")


if __name__ == "__main__":
    sys.exit(main())
