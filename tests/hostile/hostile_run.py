"""Hostile cases, many: `make fuzz`, or `python tests/hostile/hostile_run.py --count 10000 --first 0`.

Ends with exit code 1 where a case went wrong, and says the seed, which makes the case again: `--first SEED --count 1`.
A run that was interrupted says where to go on. `--accepted` asks right questions instead and judges their answers;
then `--count` is how many, and a seed makes several.
"""

from __future__ import annotations

import argparse
import collections
import random
import sys
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # what tests share

import accepted_cases
import hostile_guided
from hostile_cases import all_from
from hostile_judge import problems, say, told


def main() -> int:
    parser = argparse.ArgumentParser(description="Run hostile cases and judge how each ends.")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="seed of the first case")
    parser.add_argument("--accepted", action="store_true", help="right questions, whose answers are judged")
    parser.add_argument("--guided", action="store_true", help="files that are led by the branches of their readers")
    parser.add_argument("--keep", action="store_true", help="with it: write the corpus anew")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    if asked.guided:
        return _guided(asked.first, asked.count, is_kept=asked.keep)
    return _accepted(asked.first, asked.count) if asked.accepted else _hostile(asked.first, asked.count)


def _accepted(first: int, count: int) -> int:
    """Asks `count` right questions and a few more, to the end of a seed."""
    began, kinds, seed = time.process_time(), collections.Counter[str](), first
    made = accepted = wrong = 0
    try:
        while made < count:
            kind, ask = accepted_cases.drawn(seed)
            made, accepted = made + ask.asked, accepted + ask.accepted
            kinds[kind] += ask.asked
            wrong += bool(ask.wrong)
            for line in (*ask.wrong, *ask.refusals):
                say(f"seed {seed} {kind}: {line}")
            seed += 1
    except KeyboardInterrupt:
        say(f"interrupted: go on with --accepted --first {seed} --count {count - made}")
    took = time.process_time() - began
    print(f"{made} questions of seeds {first} to {seed - 1}: {accepted} accepted ({accepted / max(1, made):.1%})")
    print(f"  {wrong} seeds wrong; {took:.0f} s of processor time")
    _print(kinds)
    return 130 if made < count else 1 if wrong else 0


def _guided(first: int, count: int, *, is_kept: bool) -> int:
    """Looks for files that take readers along new ways, `count` times; those of the corpus come first."""
    began, search = time.process_time(), hostile_guided.Search(rng=random.Random(f"guided {first}"))
    search.know(hostile_guided.kept())
    known = len(search.known)
    for number in range(count):
        found = len(search.wrong)
        search.step(number)
        for case, wrong in search.wrong[found:]:
            say(f"step {number}: {told(case, wrong)}")
    took = time.process_time() - began
    print(f"{count} files led by {known} ways of the corpus: {len(search.known) - known} new ways", end="; ")
    print(f"{len(search.wrong)} wrong; {took:.0f} s of processor time")
    if is_kept:
        hostile_guided.keep(search.fewest())
    return 1 if search.wrong else 0


def _print(kinds: collections.Counter[str]) -> None:
    print("  " + ", ".join(f"{name} {count}" for name, count in sorted(kinds.items())))


def _hostile(first: int, count: int) -> int:
    """Judges `count` hostile cases."""
    began, wrong, kinds, seed = time.process_time(), 0, collections.Counter[str](), first
    try:
        for seed, case in all_from(first, count):
            found = problems(case)
            kinds[case.name.split()[0].split("(")[0]] += 1
            if found:
                wrong += 1
                say(f"seed {seed}: {told(case, found)}")
    except KeyboardInterrupt:
        say(f"interrupted: go on with --first {seed} --count {first + count - seed}")
        return 130
    took = time.process_time() - began
    print(f"{count} cases from seed {first}: {wrong} wrong; {took:.0f} s of processor time")
    _print(kinds)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
