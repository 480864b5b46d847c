"""What the search for a split of reinforcement learning costs, and what it finds: python benchmarks/rl_split.py

GRPO of Qwen3-235B-A22B, 4,096 answers a step, staleness 4, two systems, cost of ownership: processor seconds of one
search in this process, facts and models loaded, least of some rounds, beside those of an empty loop; candidates that
were evaluated in closed form; the cheapest run of each pair of systems at a cap of 8,192 and of 32,768 tokens.
"""

from __future__ import annotations

import argparse
import time

from mowich.facts import load_facts
from mowich.models import load_model
from mowich.requests.fields import Edge
from mowich.requests.rl import RL
from mowich.requests.schema import QuestionSource
from mowich.studies.rl_answer import rl
from mowich.studies.rl_split import RlSplit

TURNS = 20_000_000
GOAL_S = 10.0
"""Processor seconds that a search over two systems and 1,024 chips may take."""


def split(systems: str, chips: int, cap: int) -> RlSplit:
    """One search."""
    asked = {
        "model": load_model("qwen3-235b-a22b"),
        "algorithm": "grpo",
        "prompts": 256,
        "samples": 16,
        "mean": round(0.4 * cap),
        "cap": cap,
        "staleness": 4,
        "chips": chips,
        "on": systems.split(","),
        "price": "tco",
    }
    found = rl(RL.read(asked, QuestionSource(edge=Edge.KEYWORD, facts=load_facts()))).split
    assert found is not None
    return found


def loop_s() -> float:
    """Processor seconds of an empty loop: how fast this machine is now."""
    start, i = time.process_time(), 0
    while i < TURNS:
        i += 1
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chips", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--on", nargs="*", default=["gb300,trn3", "gb300,h200"])
    options = parser.parse_args()
    print(f"empty loop of {TURNS:,} turns: {loop_s():.2f} s")
    for systems in options.on:
        for cap in (8192, 32768):
            best, found = float("inf"), None
            for _ in range(options.rounds):
                start = time.process_time()
                found = split(systems, options.chips, cap)
                best = min(best, time.process_time() - start)
            assert found is not None
            print(
                f"\n{systems}, {options.chips} chips, cap {cap}: {best:.2f} s of {GOAL_S:.0f} s,"
                f" {found.evaluated:,} candidates"
            )
            for row in found.rows:
                print(f"  {row.label}: {row.row.step_s}, {row.row.usd_per_mtok}")
            print(f"  {found.verdict}\n  {found.cheaper}")


if __name__ == "__main__":
    main()
