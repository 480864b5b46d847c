"""A sweep on a real Ray cluster of two nodes on this machine, one of which is killed in the middle, gives the bytes of
a sweep on local processes. One whose head is killed ends with one line, and goes on without loss.

    python tests/slow/check_ray.py [SCENARIO] [--local DIR] [--address client]

Runs in an environment of its own that has Ray (requirements-ray.txt). Two `ray start`s make the cluster: a head without
processors of its own for tasks, so that all work is on the two other nodes; when a third of the parts is there, the
processes of one node are killed and a fresh node joins. --local: the finished folder of the same sweep, else it is
computed here. Prints what it measured; ends with an AssertionError when something does not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mowich.facts import load_facts
from mowich.studies.sweep_grid import MAX_STORED, read_sweep
from mowich.studies.sweep_store import MANIFEST, sweep_to, tasks_done

SCENARIO = Path(__file__).with_name("sweep_small.yaml")
PORT, CLIENT_PORT = 26379, 26001


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("scenario", nargs="?", type=Path, default=SCENARIO)
    parser.add_argument("--local", type=Path)
    parser.add_argument("--cpus", type=int, default=1, help="processors of each node")
    given = parser.parse_args()
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray makes its workers yield to everything else on a machine
    from ray.cluster_utils import Cluster

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "results"
        cluster = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 0, "gcs_server_port": PORT, "ray_client_server_port": CLIENT_PORT},
        )
        nodes = [cluster.add_node(num_cpus=given.cpus) for _ in range(2)]
        cluster.wait_for_nodes()
        words = [
            sys.executable,
            "-m",
            "mowich",
            "sweep",
            str(given.scenario),
            "--out",
            f"{folder}/",
            "--executor",
            f"ray://127.0.0.1:{CLIENT_PORT}",
            "--json",
        ]
        facts = load_facts()
        points = len(read_sweep(given.scenario, facts, most=MAX_STORED))
        start = time.monotonic()
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        try:
            size = None
            while process.poll() is None:
                if size is None and (folder / MANIFEST).is_file():
                    size = json.loads((folder / MANIFEST).read_text())["points_per_task"]
                if size is not None and tasks_done(folder) * size >= points / 3:
                    break
                time.sleep(0.2)
            assert process.poll() is None, "ended before a node was killed"
            done = tasks_done(folder)
            for info in nodes[0].all_processes.values():
                for one in info:
                    os.kill(one.process.pid, signal.SIGKILL)
            print(f"killed one of two nodes after {done} tasks, {time.monotonic() - start:.0f} s", flush=True)
            cluster.add_node(num_cpus=given.cpus)
            out, _ = process.communicate()
        finally:
            if process.poll() is None:
                process.kill()
            cluster.shutdown()
        seconds = time.monotonic() - start
        assert process.returncode == 0, process.returncode
        said = json.loads(out)
        assert said["complete"], said
        assert said["done"] == points, said
        print(
            f"Ray, two nodes of {given.cpus} processors: {points} points, {seconds:.0f} s,"
            f" {points / seconds:.0f} points/s",
            flush=True,
        )
        local = given.local
        if local is None:
            start = time.monotonic()
            local = Path(temporary) / "local"
            assert sweep_to(local, read_sweep(given.scenario, facts, most=MAX_STORED), facts).complete
            print(f"one process here: {points / (time.monotonic() - start):.0f} points/s")
        names = sorted(p.name for p in local.iterdir())
        assert names == sorted(p.name for p in folder.iterdir())
        for name in names:
            assert (folder / name).read_bytes() == (local / name).read_bytes(), name
        print(f"{len(names)} files, equal byte for byte to those of local processes", flush=True)
        head_lost(given.scenario, local, given.cpus)
    return 0


ENDS_S = 300.0
"""Most seconds between the death of the head and the end of the command."""


def head_lost(scenario: Path, local: Path, cpus: int) -> None:
    """The head of the cluster is killed in the middle: the command ends with one line and an exit code of the contract,
    and goes on here without loss."""
    from ray.cluster_utils import Cluster

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "results"
        cluster = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": cpus, "gcs_server_port": PORT + 1, "ray_client_server_port": CLIENT_PORT + 1},
        )
        words = [sys.executable, "-m", "mowich", "sweep", str(scenario), "--out", f"{folder}/", "--quiet"]
        process = subprocess.Popen(
            [*words, "--executor", f"ray://127.0.0.1:{CLIENT_PORT + 1}"], stderr=subprocess.PIPE, text=True
        )
        try:
            while process.poll() is None and tasks_done(folder) < 5:
                time.sleep(0.1)
            assert process.poll() is None, "ended before the head was killed"
            for info in cluster.head_node.all_processes.values():
                for one in info:
                    os.kill(one.process.pid, signal.SIGKILL)
            start = time.monotonic()
            _, said = process.communicate(timeout=ENDS_S)
        finally:
            if process.poll() is None:
                process.kill()
            cluster.shutdown()
        seconds = time.monotonic() - start
        kept = tasks_done(folder)
        lines = [line for line in said.splitlines() if line.startswith("error: ")]
        assert process.returncode == 2, (process.returncode, said)
        assert len(lines) == 1, said
        assert "Traceback" not in said, said
        print(f"head killed: after {seconds:.0f} s the command ended with {lines[0]!r}", flush=True)
        subprocess.run([*words, "--jobs", "1"], check=True)
        assert kept >= 5, "rows were lost"
        names = sorted(p.name for p in local.iterdir())
        assert names == sorted(p.name for p in folder.iterdir())
        assert all((folder / name).read_bytes() == (local / name).read_bytes() for name in names)
        print(f"{kept} tasks were there and stayed; {len(names)} files are equal byte for byte after going on here")


if __name__ == "__main__":
    sys.exit(main())
