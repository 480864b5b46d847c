"""What less memory per chip costs: decoding with memory full, by system and model."""

from __future__ import annotations

from dataclasses import dataclass

from mowich.facts import Facts
from mowich.models import load_model

MEMORY_MODELS = ("gpt-oss-120b", "llama-3.1-405b", "deepseek-v3", "kimi-k2")


MEMORY_CONTEXTS = (8_192, 131_072, 1_048_576)


MEMORY_SYSTEMS = ("trn3-gen2", "ironwood", "gb300")


CLAIM_WEIGHT_B = 1.0
"""Bytes per weight and per cached element: 8 bits on all three machines, so that memory is compared and not format."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryRow:
    """Decoding with full memory. chips_min: chips that hold the weights and one sequence; tokens_per_s: per chip, on
    `chips`; loss: share of the bandwidth that reads weights; left_at_8: share of the bandwidth that is left for
    sequences on 8 chips; offset_chips: chips from which that loss is below 10%; price_ratio: price per chip over the
    first system's at which a token costs the same."""

    model: str
    context: int
    system: str
    memory_B: float
    chips_min: int
    chips: int
    tokens_per_s: float | None
    loss: float | None
    left_at_8: float
    offset_chips: int
    price_ratio: float | None


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
    """Chips of a scale-up unit, at most 144."""
    return 72 if system == "gb300" else min(144, round(facts.number(f"systems.{system}.chips_per_unit")))


def memory_table(facts: Facts) -> list[MemoryRow]:
    """Per model and context: what 144, 192 and 288 GB cost, and from which scale and price on they do not."""
    out = []
    for name in MEMORY_MODELS:
        model = load_model(name)
        weights = model.params * CLAIM_WEIGHT_B
        for context in MEMORY_CONTEXTS:
            kv = model.kv_bytes(context, CLAIM_WEIGHT_B)
            best: float | None = None
            for system in MEMORY_SYSTEMS:
                chip = facts.meta("systems", system)["chip"]
                memory, bandwidth = (
                    facts.number(f"chips.{chip}.memory.hbm_usable"),
                    facts.number(f"chips.{chip}.memory.hbm_bandwidth"),
                )
                least = max(1, -int(-(weights + kv) // memory))
                chips = max(least, unit_chips(facts, system))
                rate = decode_bound(bandwidth, kv, weights, memory, chips)
                best = rate if best is None else best
                out.append(
                    MemoryRow(
                        model=name,
                        context=context,
                        system=system,
                        memory_B=memory,
                        chips_min=least,
                        chips=chips,
                        tokens_per_s=rate,
                        loss=weights / (chips * memory),
                        left_at_8=max(0.0, 1.0 - weights / (8.0 * memory)),
                        offset_chips=max(1, -int(-10.0 * weights // memory)),
                        price_ratio=rate / best if best else None,
                    )
                )
    return out
