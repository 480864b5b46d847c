"""Hostile cases, many: `make fuzz`, or `python tests/hostile/hostile_run.py --count 10000 --first 0`.

Ends with exit code 1 where a case went wrong, and says the seed, which makes the case again: `--first SEED --count 1`.
A run that was interrupted says where to go on.
"""

from __future__ import annotations

import argparse
import collections
import sys
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # what tests share

from hostile_cases import all_from
from hostile_judge import problems, say, told


def main() -> int:
    parser = argparse.ArgumentParser(description="Run hostile cases and judge how each ends.")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="seed of the first case")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    began, wrong, kinds, seed = time.process_time(), 0, collections.Counter[str](), asked.first
    try:
        for seed, case in all_from(asked.first, asked.count):
            found = problems(case)
            kinds[case.name.split()[0].split("(")[0]] += 1
            if found:
                wrong += 1
                say(f"seed {seed}: {told(case, found)}")
    except KeyboardInterrupt:
        say(f"interrupted: go on with --first {seed} --count {asked.first + asked.count - seed}")
        return 130
    took = time.process_time() - began
    print(f"{asked.count} cases from seed {asked.first}: {wrong} wrong; {took:.0f} s of processor time")
    print("  " + ", ".join(f"{name} {count}" for name, count in sorted(kinds.items())))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
