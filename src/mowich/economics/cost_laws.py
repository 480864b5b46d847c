"""Formulas of the cost of a chip-hour: silicon, package, machine, and their costs in an hour. Each takes numbers, or
columns of numbers (a place for each end of a range)."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from mowich.arrays import Floats

N = TypeVar("N", float, Floats)


def dies_of_wafer(wafer_m2: N, edge_m: N, die_m2: N) -> N:
    """Whole dies of a round wafer: its area over that of a die, less the dies that its edge cuts.

    T = wafer_m2 / die_m2 - edge_m / sqrt(2 * die_m2)

    Units: wafer_m2 m2, edge_m m, die_m2 m2.

    >>> round(float(dies_of_wafer(np.pi * 0.15**2, np.pi * 0.3, 814e-6)), 1)
    63.5
    """
    across: N = np.sqrt(2 * die_m2)
    return wafer_m2 / die_m2 - edge_m / across


def sold_share(die_m2: N, defects: N, salvage: N) -> N:
    """Share of the dies that are sold: dies without a defect (Poisson), and the share of the others that sell with
    units switched off.

    T = exp(-defects * die_m2) + salvage * (1 - exp(-defects * die_m2))

    Units: die_m2 m2, defects 1/m2.

    >>> round(float(sold_share(814e-6, 800.0, 0.5)), 3)
    0.761
    """
    alive: N = np.exp(-defects * die_m2)
    return alive + salvage * (1 - alive)


def silicon_usd(wafer: N, dies: N, dies_per_wafer: N, sold: N) -> N:
    """USD of the logic dies of a package.

    T = wafer * dies / (dies_per_wafer * sold)

    Units: wafer USD.
    """
    return wafer * dies / (dies_per_wafer * sold)


def packaging_usd(interposer: N, test: N, losses: N, silicon: N, hbm: N) -> N:
    """USD of interposer, substrate and test, and of the good parts lost in failed packages.

    T = interposer + test + losses * (silicon + hbm + interposer)

    Units: interposer USD, test USD, silicon USD, hbm USD.
    """
    return interposer + test + losses * (silicon + hbm + interposer)


def partner_usd(made: N, margin: N) -> N:
    """USD of a maker's margin above the cost of making a chip.

    T = made * margin / (1 - margin)

    Units: made USD.
    """
    return made * margin / (1 - margin)


def left_usd(price: N, chips: N, known: N) -> N:
    """USD per chip of a machine outside its known parts.

    T = price / chips - known

    Units: price USD, chips 1, known USD.
    """
    return price / chips - known


def worn_per_s(capital: N, residual: N, life_s: N) -> N:
    """USD per second of a purchase, spread evenly over its life.

    T = capital * (1 - residual) / life_s

    Units: capital USD, life_s s.
    """
    return capital * (1 - residual) / life_s


def left_of(rate: N, years: N) -> N:
    """Today's worth of a unit of money that is due in some years, at a yearly cost of capital.

    T = (1 + rate) ** (-years)

    >>> round(left_of(0.1, 5.0), 4)
    0.6209
    """
    kept: N = (1 + rate) ** (-years)
    return kept


def capital_cost_per_s(capital: N, residual: N, life_s: N, kept: N, rate: N, year_s: N) -> N:
    """USD per second for the capital that is still bound: equal yearly payments (an annuity) less an even spread. kept:
    `left_of` over the life.

    T = capital * ((1 - residual * kept) * rate / (1 - kept) / year_s - (1 - residual) / life_s)

    Units: capital USD, life_s s, year_s s.

    >>> year = 31557600.0
    >>> extra = capital_cost_per_s(1000.0, 0.0, 5 * year, left_of(0.1, 5.0), 0.1, year)
    >>> round((extra + 1000.0 / (5 * year)) * year, 2)
    263.8
    """
    return capital * ((1 - residual * kept) * rate / (1 - kept) / year_s - (1 - residual) / life_s)


def memory_usd(size: N, price: N) -> N:
    """USD of memory.

    T = size * price

    Units: size B, price USD/B.
    """
    return size * price


def built_usd(board: N, host: N, nic: N, rack: N) -> N:
    """USD per chip of a machine that its owner builds, less chips, memory and scale-up network.

    T = board + host + nic + rack

    Units: board USD, host USD, nic USD, rack USD.
    """
    return board + host + nic + rack


def dearer_usd(machine: N, whole: N, premium: N) -> N:
    """USD of a machine with the premium that a smaller buyer pays on all of it.

    T = machine + (premium - 1) * whole

    Units: machine USD, whole USD.
    """
    return machine + (premium - 1) * whole


def share_usd(whole: N, share: N) -> N:
    """USD as a share of other USD.

    T = whole * share

    Units: whole USD.
    """
    return whole * share


def per_watt(watts: N, usd_per_W_s: N) -> N:
    """USD per second of a cost that is paid by the watt.

    T = watts * usd_per_W_s

    Units: watts W, usd_per_W_s USD/W/s.
    """
    return watts * usd_per_W_s


def energy_per_s(watts: N, drawn: N, electricity: N) -> N:
    """USD per second of the electricity of a chip, before the building. drawn: mean over provisioned power.

    T = watts * drawn * electricity

    Units: watts W, electricity USD/J.
    """
    return watts * drawn * electricity


def cooling_per_s(energy: N, pue: N) -> N:
    """USD per second of the electricity of cooling and losses.

    T = energy * (pue - 1)

    Units: energy USD/chip/s.
    """
    return energy * (pue - 1)


def stated_usd(price: N) -> N:
    """USD of a purchase at a stated price.

    T = price

    Units: price USD.
    """
    return price


def per_hour(per_s: N) -> N:
    """USD per hour of USD per second.

    T = per_s * 3600

    Units: per_s USD/chip/s.
    """
    return per_s * 3600
