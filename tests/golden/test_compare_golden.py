"""The numbers of the six-system comparison, kept: a value that moves by more than 1% fails and is printed old, new, difference.

A change that is meant is kept with `python tests/golden/test_compare_golden.py`, and told in CHANGELOG.md under "Numbers that moved".
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mowich

FILE = Path(__file__).with_name("compare.json")
SYSTEMS = ("trn2", "trn3", "trn3-gen1", "trn4", "ironwood", "gb300")
METRICS = (
    "step_s",
    "mfu",
    "usd_per_mtok",
    "J_per_token",
    "breakeven_usd_per_chip_h",
    "breakeven_W_per_chip",
    "goodput",
    "days",
)
TOLERANCE = 0.01


def numbers() -> dict[str, dict[str, Any]]:
    """What the comparison says now: system -> metric -> value; low and high of the step; the plan for a reader."""
    found = mowich.compare(
        "deepseek-v3", SYSTEMS, train={"tokens": "15T", "seq": 4096, "batch": "16384seqs"}, chips=16384
    )
    out: dict[str, dict[str, Any]] = {}
    for row in found.rows:
        values: dict[str, Any] = {name: getattr(row, name).value for name in METRICS}
        values |= {"step_s.low": row.step_s.low, "step_s.high": row.step_s.high, "memory_B": sum(row.memory_B.values())}
        values |= {
            f"step_s.{part}": value
            for part, value in row.step_s.breakdown.items()
            if value > TOLERANCE * (row.step_s.value or 0.0)
        }
        values |= {"chips_used": row.chips_used, "feasible": row.feasible, "binds": row.binds, "plan": str(row.plan)}
        out[row.system] = {k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in values.items()}
    return out


def moved(old: dict[str, Any], new: dict[str, Any], system: str) -> list[str]:
    """One line per value that is no longer what it was."""
    lines = []
    for name in dict.fromkeys((*old, *new)):
        a, b = old.get(name), new.get(name)
        if (
            isinstance(a, int | float)
            and isinstance(b, int | float)
            and not isinstance(a, bool)
            and not isinstance(b, bool)
        ):
            change = b / a - 1 if a else float("inf") if b else 0.0
            if abs(change) > TOLERANCE:
                lines.append(f"{system}.{name}: {a:g} -> {b:g} ({change:+.1%})")
        elif a != b:
            lines.append(f"{system}.{name}: {a} -> {b}")
    return lines


def test_the_numbers_of_the_main_comparison_stay() -> None:
    old, new = json.loads(FILE.read_text(encoding="utf-8")), numbers()
    lines = [
        line
        for system in dict.fromkeys((*old, *new))
        for line in moved(old.get(system, {}), new.get(system, {}), system)
    ]
    assert not lines, "numbers that moved:\n" + "\n".join(lines)


def test_a_moved_number_is_told_with_its_difference() -> None:
    assert moved({"step_s": 2.0, "binds": "host"}, {"step_s": 2.1, "binds": "host"}, "trn3") == [
        "trn3.step_s: 2 -> 2.1 (+5.0%)"
    ]
    assert moved({"mfu": 0.5}, {"mfu": 0.5001}, "trn3") == []
    assert moved({"usd_per_mtok": None}, {"usd_per_mtok": 1.0}, "trn3") == ["trn3.usd_per_mtok: None -> 1.0"]


if __name__ == "__main__":
    FILE.write_text(json.dumps(numbers(), indent=1) + "\n", encoding="utf-8")
