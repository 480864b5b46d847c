"""Break-even of rows that are compared: the price and the power at which a row equals the best other one, for training
and for serving alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from mowich.economics import energy, money
from mowich.estimate import Estimate
from mowich.facts import Facts
from mowich.studies.system_row import SystemRow

R = TypeVar("R", bound=SystemRow)


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
                row = replace(row, breakeven_usd_per_chip_h=rate)
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
                row = replace(row, breakeven_W_per_chip=watts)
        out.append(row)
    return tuple(out)
