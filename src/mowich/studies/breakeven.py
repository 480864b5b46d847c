"""Break-even of rows that are compared: the price and the power at which a row equals the best other one, for training
and for serving alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from mowich.economics import energy, money
from mowich.estimate import Estimate, unknown_estimate
from mowich.facts import Facts


class Rival(Protocol):
    """What a break-even needs of a row. tokens_per_s_per_chip is of training without failures."""

    @property
    def system_id(self) -> str: ...
    @property
    def feasible(self) -> bool | None: ...
    @property
    def chips_used(self) -> int: ...
    @property
    def chips_idle(self) -> int: ...
    @property
    def tokens_per_s_per_chip(self) -> Estimate: ...
    @property
    def usd_per_mtok(self) -> Estimate: ...
    @property
    def J_per_token(self) -> Estimate: ...


NO_PRICE = unknown_estimate("USD/chip/h", "no other row with a known price")
NO_POWER = unknown_estimate("W", "no other row with a known power")
"""The values of a row that is not set against others, or has no others."""

R = TypeVar("R", bound=Rival)


def with_breakeven(
    rows: Sequence[R], facts: Facts, *, speed: Callable[[R], Estimate], kept: Callable[[R], Estimate]
) -> tuple[R, ...]:
    """Add to every row with a plan the price per chip-hour and the provisioned watts per chip at which it equals the
    best other row that is known, and that keeps its limits.

    speed: tokens per second of all its chips; kept: the share of the time in which they are made.
    """
    site = energy.read_site(facts)
    out = []
    for row in rows:
        others = [r for r in rows if r is not row and r.chips_used and r.feasible is not False]
        priced = [r.usd_per_mtok for r in others if r.usd_per_mtok.value is not None]
        powered = [r.J_per_token for r in others if r.J_per_token.value is not None]
        if row.chips_used:
            paid = row.chips_used + row.chips_idle
            if priced:
                rate = money.breakeven_usd_per_chip_h(
                    min(priced, key=float), chips=paid, tokens_per_s=speed(row), goodput=kept(row)
                )
                row = replace(row, breakeven_usd_per_chip_h=rate)  # type: ignore[type-var]
            if powered:
                draw = energy.drawn_power(facts, row.system_id)
                watts = energy.breakeven_W_per_chip(
                    min(powered, key=float),
                    tokens_per_s=speed(row),
                    goodput=kept(row),
                    pue=site.pue,
                    powered_chips=energy.powered_chips(row.chips_used, row.chips_idle, draw.idle_share),
                    drawn_share=draw.share,
                )
                row = replace(row, breakeven_W_per_chip=watts)  # type: ignore[type-var]
        out.append(row)
    return tuple(out)
