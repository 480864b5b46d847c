"""The place of a group on a torus: the axes that it spans, and the links between its neighbours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Floats
from mowich.machines.system import Level, System


def torus_chips(system: System, level: Level) -> float:
    """Nodes of the torus that the job occupies: chips, where a level inside joins the devices of a chip."""
    return max(1.0, min(level.devices, system.devices) / _devices_inside(system, level))


def _devices_inside(system: System, level: Level) -> int:
    """Devices of a node of a level: those that a level inside joins."""
    return max((x.devices for x in system.levels if x.devices < level.devices and not x.is_network), default=1)


def _is_made_of_cubes(level: Level, nodes: float) -> bool:
    """Whether a slice of a torus closes its axes: it is made of whole cubes of `wrap_from` nodes a side. A slice of 72
    is not, though its cube root is above 4."""
    cube = float(level.wrap_from) ** level.axes
    return nodes >= cube * (1.0 - 1e-9) and abs(nodes / cube - round(nodes / cube)) < 1e-9


def torus_ways(system: System, level: Level, r: Floats) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """(axes that a group of r members spans, members along each, whether these axes are closed to rings).

    A group next to idle chips (`Level.has_idle_links`) is laid as a near-cube, and the idle links close its axes like
    those of the whole torus: a torus has as many spanning trees without a common link as a node has links.
    """
    nodes = torus_chips(system, level)
    if level.has_idle_links and level.devices <= system.chips_per_server * system.devices_per_chip:
        nodes = level.devices / _devices_inside(system, level)  # a server is rented as a whole
    closes = _is_made_of_cubes(level, nodes)
    if level.has_idle_links:
        side = np.maximum(1.0, r ** (1.0 / level.axes))
        return np.full_like(side, level.axes), side, np.full(side.shape, closes)
    k, side = torus_span(level, r, nodes)
    return k, side, closes & (side > level.wrap_from - 1e-6)  # a cube root is not exact


def links_apart(system: System, level: Level, stride: Floats) -> Floats:
    """Links between neighbours of a group whose members are every stride-th node of a torus, counted along one axis
    after the other. Its ring runs along one axis, and so many groups share each link.

    Members 4 apart on axes of 8 are 4 links apart; those 8 apart are neighbours on the second axis, 16 apart 2 links.
    """
    side = max(2.0, torus_chips(system, level) ** (1.0 / level.axes))
    nodes = np.maximum(1.0, stride / _devices_inside(system, level))
    axis = np.floor(np.log(nodes) / np.log(side) + 1e-9)
    return np.asarray(np.round(nodes / side**axis, 6))  # a cube root is not exact


def torus_span(level: Level, r: Floats, nodes: float) -> tuple[Floats, Floats]:
    """(axes that a group of r members spans, members along each): k = ceil(ln r / ln side), side = nodes^(1/axes).

    A group is laid along as few axes as hold it, and a slice is taken as a near-cube, whatever its shape (so a group up
    to 10% above a whole number of axes counts as that number).

    >>> level = Level(name="pod", kind="torus3d", devices=4096, bandwidth_Bps=1.0, latency_s=0.0, axes=3)
    >>> [x.round(3).tolist() for x in torus_span(level, np.array([4.0, 4096.0]), 4096)]
    [[1.0, 3.0], [4.0, 16.0]]
    """
    side = max(2.0, float(nodes) ** (1.0 / level.axes))
    k = np.clip(np.ceil(np.log(np.maximum(r, 1.0 + 1e-12) / 1.1) / np.log(side)), 1.0, level.axes)
    return np.asarray(k, dtype=np.float64), np.asarray(np.maximum(1.0, r ** (1.0 / k)), dtype=np.float64)
