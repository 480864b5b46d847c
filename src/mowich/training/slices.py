"""The part of a machine that a plan asks for. Only a torus tells parts of different sizes apart: its rings are those of
the slice that a job occupies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Floats, distinct
from mowich.plans.plan import Plans
from mowich.software.stack import Platform


def slices(system: Platform) -> list[int]:
    """Chips of the parts of a system that a job may ask for, descending: all, half of them, half of that. Only a torus
    tells them apart: its sides, and so its rings, are those of the slice that the job occupies. So halves that hold a
    whole torus, and those of other fabrics, are left out.
    """
    torus = max((level.devices for level in system.levels if level.axes), default=0)
    halves = [system.chips >> k for k in range(1, system.chips.bit_length())]
    return [system.chips, *(chips for chips in halves if chips * system.devices_per_chip < torus)]


def slice_chips(system: Platform, devices: Floats) -> NDArray[np.int64]:
    """Chips of the smallest of `slices` that holds so many devices. So a plan takes the same time on twice the chips,
    where it leaves half of them idle."""
    sizes = np.array(slices(system)[::-1])
    if len(sizes) == 1:
        return np.broadcast_to(sizes, devices.shape)
    return np.asarray(sizes[np.searchsorted(sizes * system.devices_per_chip, devices).clip(max=len(sizes) - 1)])


def by_slice(system: Platform, p: Plans, on: Callable[[Platform, Plans], dict[str, Floats]]) -> dict[str, Floats]:
    """Columns that `on` makes of plans and of the slice of the system that they run on, in the order of the plans."""
    chips = slice_chips(system, p.devices)
    sizes = distinct(chips) if chips.strides != (0,) else chips[:1]
    if len(sizes) == 1:
        return on(system if sizes[0] == system.chips else replace(system, chips=int(sizes[0])), p)
    places = [np.flatnonzero(chips == size) for size in sizes]
    found = [on(replace(system, chips=int(size)), p.take(place)) for size, place in zip(sizes, places, strict=True)]
    back = np.argsort(np.concatenate(places))
    return {name: np.concatenate([part[name] for part in found], axis=-1)[..., back] for name in found[0]}
