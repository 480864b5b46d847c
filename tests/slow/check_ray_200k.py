"""200,000 points, each solved on a real Ray cluster of two nodes of one processor, one of which is killed on the way.

    python tests/slow/check_ray_200k.py [SCENARIO] [--keep DIR]

Runs in the environment of check_ray.py. The cluster is on this machine: a head without processors for tasks, and two
nodes. At a third of the points the processes of one node are killed and a fresh node joins. At the end some parts are
computed again in one process here and compared byte for byte. Prints wall and processor seconds, rows, bytes and points
a second; ends with an AssertionError when something does not hold. It takes most of an hour on two processors.
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
import threading
import time
from pathlib import Path

import duckdb
from check_ray import CLIENT_PORT, PORT
from check_sweep import same

from mowich.facts import load_facts
from mowich.studies.sweep_grid import MAX_STORED, read_sweep
from mowich.studies.sweep_store import MANIFEST, tasks_done

SCENARIO = Path(__file__).with_name("sweep_200k.yaml")
OBJECTS_B = 200 * 2**20
"""Bytes of shared memory of each node for objects of Ray."""
LOOK_S = 2.0
"""Seconds between two readings of the processor time of all processes."""
TELL_S = 120.0
"""Seconds between two lines on how far it is."""


class ProcessorTime:
    """Processor seconds of all processes below this one, also of those that were killed: read every few seconds."""

    def __init__(self) -> None:
        self._most: dict[tuple[int, str], tuple[str, float]] = {}
        self._ended = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while not self._ended.wait(LOOK_S):
            self._read()

    def _read(self) -> None:
        parents, found = {}, {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                after = (folder / "stat").read_text().rpartition(")")[2].split()
                name = (folder / "cmdline").read_bytes().partition(b"\0")[0].decode(errors="replace")
            except OSError:  # it has ended
                continue
            process = int(folder.name)
            parents[process] = int(after[1])
            seconds = (int(after[11]) + int(after[12])) / os.sysconf("SC_CLK_TCK")
            found[process] = ((process, after[19]), (name, seconds))
        for process, (key, read) in found.items():
            above = process
            while above > 1 and above != os.getpid():
                above = parents.get(above, 0)
            if above == os.getpid():
                name, before = self._most.get(key, ("", 0.0))
                self._most[key] = (name if name.startswith("ray::") else read[0], max(before, read[1]))

    def end(self) -> tuple[float, float]:
        """Seconds of all processes, and of the workers of Ray among them."""
        self._read()
        self._ended.set()
        return (
            sum(s for _, s in self._most.values()),
            sum(s for name, s in self._most.values() if name.startswith("ray::")),
        )


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("scenario", nargs="?", type=Path, default=SCENARIO)
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    os.environ.setdefault("RAY_worker_niceness", "0")
    from ray.cluster_utils import Cluster

    folder = (given.keep or Path(tempfile.mkdtemp())) / "results"
    points = len(read_sweep(given.scenario, load_facts(), most=MAX_STORED))
    node = {"num_cpus": 1, "object_store_memory": OBJECTS_B}
    time_of = ProcessorTime()
    cluster = Cluster(
        initialize_head=True,
        head_node_args={**node, "num_cpus": 0, "gcs_server_port": PORT, "ray_client_server_port": CLIENT_PORT},
    )
    nodes = [cluster.add_node(**node) for _ in range(2)]
    cluster.wait_for_nodes()
    words = ["sweep", str(given.scenario), "--out", f"{folder}/", "--executor", f"ray://127.0.0.1:{CLIENT_PORT}"]
    start = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "mowich", *words, "--json"], stdout=subprocess.PIPE, text=True)
    killed, told = False, start
    try:
        while process.poll() is None:
            time.sleep(1.0)
            if not (folder / MANIFEST).is_file():
                continue
            done = tasks_done(folder) * json.loads((folder / MANIFEST).read_text())["points_per_task"]
            now = time.monotonic()
            if now - told > TELL_S:
                told = now
                print(f"{done} points after {now - start:.0f} s", flush=True)
            if not killed and done >= points / 3:
                for info in nodes[0].all_processes.values():
                    for one in info:
                        os.kill(one.process.pid, signal.SIGKILL)
                print(f"killed one of two nodes after {done} points, {now - start:.0f} s", flush=True)
                cluster.add_node(**node)
                killed = True
        out, _ = process.communicate()
    finally:
        if process.poll() is None:
            process.kill()
        seconds = time.monotonic() - start
        everything, workers = time_of.end()
        cluster.shutdown()
    assert process.returncode == 0, process.returncode
    said = json.loads(out)
    assert killed, "ended before a node was killed"
    assert said["complete"], said
    rows, ids, feasible = duckdb.sql(
        f"select count(*), count(distinct id), count(*) filter (plan_tp is not null) from '{folder}/*.parquet'"
    ).fetchall()[0]
    assert rows == ids == points, (rows, ids, points)
    sizes = [p.stat().st_size for p in folder.glob("*.parquet")]
    print(
        f"{rows} points, {ids} distinct, {feasible} with a plan, in {len(sizes)} parts of {sum(sizes) / 1e6:.1f} MB;"
        f" {seconds:.0f} s, {rows / seconds:.0f} points/s; {everything:.0f} s of processors, {workers:.0f} of them of"
        f" the workers, {1e3 * workers / rows:.1f} ms a point",
        flush=True,
    )
    same(folder, given.scenario, random.Random(20261202))
    return 0


if __name__ == "__main__":
    sys.exit(main())
