"""The speed and the memory of the traffic simulation, whole processes with their start.

    python benchmarks/traffic_speed.py [--rounds 5] [--trace mooncake_conversation_trace.jsonl] [--python]

Drawn: 1,000,000 requests of chat (median 1,000 in and 200 out) at 2 a second to Llama-2-70B on four A100. Trace: one
with block hashes (shared/traces), every line of it, to Llama-3.1-70B on eight workers of four H200 with a prefix cache,
host memory behind it, and the route `prefix`. The least processor time of the rounds is printed, and the most memory.
--python plays the same with the Python code, once.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

DRAWN = """mowich: 1
model: llama2-70b
on: a100:4
engine: vllm
plan: {tp: 4}
scheduler: {max_num_batched_tokens: 2048}
traffic: {rate: 2, requests: 1000000, prompt: "lognormal(1k, p95 4k)", output: "lognormal(200, p95 600)"}
slo: {ttft: 2 s, tpot: 100 ms}
"""
TRACED = """mowich: 1
model: llama-3.1-70b
on: h200:32
engine: vllm
plan: {tp: 4, weights: fp8}
route: prefix
scheduler: {prefix_cache: true, host_blocks: 100000, host_bandwidth: 50 GB/s}
traffic: {trace: "%s"}
"""
RUN = """
import json, resource, sys
from mowich.facts import load_facts
from mowich.studies.traffic import simulate_traffic
from mowich.studies.traffic_scenario import read_traffic
facts = load_facts()
result = simulate_traffic(read_traffic(sys.argv[1], facts), facts)
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([used.ru_utime + used.ru_stime, result.seconds, used.ru_maxrss / 1e3, result.requests, result.events]))
"""


def timed(scenario: Path, code: str, rounds: int) -> str:
    """One line: of the round that took least."""
    runs = []
    for _ in range(rounds):
        done = subprocess.run(
            [sys.executable, "-c", RUN, str(scenario)],
            env=os.environ | {"MOWICH_TRAFFIC": code},
            capture_output=True,
            text=True,
            check=True,
        )
        runs.append(json.loads(done.stdout))
    whole, played, _, requests, events = min(runs)
    memory = max(run[2] for run in runs)
    return (
        f"{code}: {whole:.2f} s of processor time, {played:.2f} s of it from the first request on:"
        f" {requests / played:,.0f} requests a second ({events:,} events); {memory:.0f} MB at most"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--trace", type=Path, help="a trace with hashes of blocks")
    parser.add_argument("--python", action="store_true", help="with the Python code too")
    options = parser.parse_args()
    loads = {"drawn": DRAWN} | ({"trace": TRACED % options.trace.resolve()} if options.trace else {})
    with tempfile.TemporaryDirectory() as folder:
        for name, text in loads.items():
            path = Path(folder) / f"{name}.yaml"
            path.write_text(text, encoding="utf-8")
            for code, rounds in (("compiled", options.rounds), ("python", int(options.python))):
                if rounds:
                    print(f"{name}, {timed(path, code, rounds)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
