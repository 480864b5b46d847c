"""What less memory per chip costs in serving, by system and model: an upper bound, and what the planner finds.

The bound is decoding with memory full, from bandwidth alone. The planned figure is that of `mowich compare --serve`
with `MEMORY_JOB` on `MEMORY_CHIPS` chips of each system, from the same function, so that the two verbs cannot
differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mowich.estimate import Estimate, exact, product_of
from mowich.facts import Facts
from mowich.files import shipped_yaml
from mowich.formula import calculated
from mowich.models import load_model
from mowich.requests.jobs import CompareRequest
from mowich.serving.search import ServeJob
from mowich.shown import Keyed
from mowich.studies.serving_plan import compare_serving

MEMORY_MODELS = ("gpt-oss-120b", "llama-3.1-405b", "deepseek-v3", "kimi-k2")

MEMORY_SYSTEMS = ("trn3-gen2", "ironwood", "gb300")

MEMORY_CONTEXT = 8192
"""Tokens of a prompt, and of a sequence in the bound."""

MEMORY_JOB = ServeJob(prompt=float(MEMORY_CONTEXT), output=1024.0, ttft_s=10.0, tpot_s=0.05)
MEMORY_CHIPS = 144
MEMORY_COMMAND = (
    f"mowich compare MODEL --serve --isl {MEMORY_CONTEXT} --osl 1024 --ttft 10s --tpot 50ms --chips {MEMORY_CHIPS} --on"
    f" {','.join(MEMORY_SYSTEMS)}"
)
"""The question whose answer the planned figures are."""

CLAIM_WEIGHT_B = 1.0
"""Bytes per weight and per cached element of the bound: 8 bits on all machines, so that memory is compared and not
format."""


MemoryBound = Mapping[str, float]
"""Decoding a model on a system, by bandwidth and memory alone: `memory_B`, and the numbers of `bound` in
`memory_claim.yaml`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryRow(Keyed):
    """A model on a system. planned_tokens_per_s: per chip, of the best plan within the limits of `MEMORY_JOB`;
    price_ratio: planned over the first system's, the price per chip over the first system's at which a token costs the
    same."""

    KEYS = "model context system **bound planned_tokens_per_s price_ratio"

    model: str
    context: int
    system: str
    bound: MemoryBound
    planned_tokens_per_s: Estimate
    price_ratio: Estimate


@cache
def memory_lines() -> Mapping[str, Mapping[str, Sequence[str]]]:
    """`memory_claim.yaml`: part of the table -> number -> its unit, what it is, its formula, and its facts."""
    found: Mapping[str, Mapping[str, Sequence[str]]] = shipped_yaml(Path(__file__).with_suffix(".yaml"))
    return found


def bound_symbols(facts: Facts, name: str, system: str) -> dict[str, float]:
    """What the formulas of the bound read of a model and a system, bytes and bytes/s. unit_chips: of a scale-up unit,
    at most `MEMORY_CHIPS`."""
    model, chip = load_model(name), facts.meta("systems", system)["chip"]
    return {
        "weights": model.params * CLAIM_WEIGHT_B,
        "kv": model.kv_bytes(MEMORY_CONTEXT, CLAIM_WEIGHT_B),
        "bandwidth": facts.number(f"chips.{chip}.memory.hbm_bandwidth"),
        "memory_B": facts.number(f"chips.{chip}.memory.hbm_usable"),
        "unit_chips": min(MEMORY_CHIPS, round(facts.number(f"systems.{system}.chips_per_unit"))),
    }


def bound_of(symbols: Mapping[str, float]) -> dict[str, float]:
    """The numbers of the bound by their formulas. symbols: as of `bound_symbols`; without `first_tokens_per_s` the
    bound is the first system's.

    >>> known = {"weights": 1e12, "kv": 1e9, "bandwidth": 5e12, "memory_B": 100e9, "unit_chips": 20}
    >>> round(bound_of(known)["tokens_per_s"], 1)
    2500.0
    """
    known, out = dict(symbols), {"memory_B": symbols["memory_B"]}
    for name, (unit, _, how) in memory_lines()["bound"].items():
        value = calculated(how.removeprefix("= "), known.__getitem__)
        known[name] = out[name] = round(value) if unit == "chips" else value
        known.setdefault(f"first_{name}", value)
    return out


def memory_bounds(facts: Facts, name: str) -> dict[str, MemoryBound]:
    """System -> the bound of a model on it."""
    out: dict[str, MemoryBound] = {}
    for system in MEMORY_SYSTEMS:
        first = {"first_tokens_per_s": out[MEMORY_SYSTEMS[0]]["tokens_per_s"]} if out else {}
        out[system] = bound_of(bound_symbols(facts, name, system) | first)
    return out


def memory_table(facts: Facts) -> list[MemoryRow]:
    """Per model: what 144, 192 and 288 GB cost, and from which scale and price on they do not; searched once for the
    same facts."""
    return list(facts.once("memory claims", _searched))


def _searched(facts: Facts) -> tuple[MemoryRow, ...]:
    """As `memory_table` has them."""
    out: list[MemoryRow] = []
    for name in MEMORY_MODELS:
        bounds = memory_bounds(facts, name)
        planned = compare_serving(
            CompareRequest(
                facts=facts, model=load_model(name), systems=MEMORY_SYSTEMS, serve=MEMORY_JOB, chips=MEMORY_CHIPS
            )
        ).rows
        first = planned[0].tokens_per_s_per_chip
        for row in planned:
            mine = row.tokens_per_s_per_chip
            out.append(
                MemoryRow(
                    model=name,
                    context=MEMORY_CONTEXT,
                    system=row.system,
                    bound=bounds[row.system],
                    planned_tokens_per_s=mine,
                    price_ratio=exact(1.0, "1") if mine is first else product_of(((mine, 1.0), (first, -1.0)), "1"),
                )
            )
    return tuple(out)
