"""What less memory per chip costs in serving, by system and model: an upper bound, and what the planner finds.

The bound is decoding with memory full, from bandwidth alone. The planned figure is that of `mowich compare --serve`
with `MEMORY_JOB` on `MEMORY_CHIPS` chips of each system, from the same function, so that the two verbs cannot
differ.
"""

from __future__ import annotations

from dataclasses import dataclass

from mowich.estimate import Estimate, exact, product_of
from mowich.facts import Facts
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


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryBound:
    """Decoding a model on a system, by bandwidth and memory alone. chips_min: chips that hold the weights and one
    sequence; tokens_per_s: per chip, of `decode_bound` on `chips`; loss: share of the bandwidth that reads weights;
    left_at_8: share of the bandwidth that is left for sequences on 8 chips; offset_chips: chips from which that loss is
    below 10%; bound_ratio: tokens_per_s over the first system's."""

    memory_B: float
    chips_min: int
    chips: int
    tokens_per_s: float
    loss: float
    left_at_8: float
    offset_chips: int
    bound_ratio: float


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


def decode_bound(bandwidth_Bps: float, kv_B: float, weights_B: float, memory_B: float, chips: float) -> float:
    """Tokens per second and chip of decoding with memory full: (B / k) (1 - W / (n m)).

    A step reads all of the memory, n m bytes at n B bytes/s; (n m - W) / k sequences get a token each. k: bytes of one
    sequence's keys and values (one token is read once per step for each of them); W: weights; n chips of m bytes and B
    bytes/s. Weights cost only through W / (n m): more chips buy memory back.

    >>> round(decode_bound(5e12, 1e9, 1e12, 100e9, 20.0), 1)
    2500.0
    """
    return bandwidth_Bps / kv_B * max(0.0, 1.0 - weights_B / (chips * memory_B))


def unit_chips(facts: Facts, system: str) -> int:
    """Chips of a scale-up unit, at most `MEMORY_CHIPS`."""
    return min(MEMORY_CHIPS, round(facts.number(f"systems.{system}.chips_per_unit")))


def memory_bounds(facts: Facts, name: str) -> dict[str, MemoryBound]:
    """System -> the bound of a model on it."""
    model = load_model(name)
    weights, kv = model.params * CLAIM_WEIGHT_B, model.kv_bytes(MEMORY_CONTEXT, CLAIM_WEIGHT_B)
    out: dict[str, MemoryBound] = {}
    for system in MEMORY_SYSTEMS:
        chip = facts.meta("systems", system)["chip"]
        memory, bandwidth = (facts.number(f"chips.{chip}.memory.{x}") for x in ("hbm_usable", "hbm_bandwidth"))
        least = max(1, -int(-(weights + kv) // memory))
        chips = max(least, unit_chips(facts, system))
        rate = decode_bound(bandwidth, kv, weights, memory, chips)
        out[system] = MemoryBound(
            memory_B=memory,
            chips_min=least,
            chips=chips,
            tokens_per_s=rate,
            loss=weights / (chips * memory),
            left_at_8=max(0.0, 1.0 - weights / (8.0 * memory)),
            offset_chips=max(1, -int(-10.0 * weights // memory)),
            bound_ratio=rate / out[MEMORY_SYSTEMS[0]].tokens_per_s if out else 1.0,
        )
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
