"""Time of a collective on a hierarchy of fabric levels, in closed form, for floats or arrays of groups alike.

A group is (size n, stride s): its members are every s-th device, so level l holds m_l = min(n, devices_l / s) of them. A
collective runs level by level, innermost first; what an inner level has already reduced is not sent again outside.
On a torus a group spans k of the axes and drives 2k of the links; elsewhere it drives the device's whole bandwidth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mowich.machines.system import Level, System

Floats = NDArray[np.float64]


def members(level_devices: float, n: Floats, stride: Floats) -> Floats:
    """How many of a group's n members fall in one domain of `level_devices` devices.

    m = the largest divisor-like share: min(n, max(1, floor(devices / stride))). A group that the domain does not hold in
    whole parts is spread as evenly as it goes.

    >>> float(members(72.0, np.array([64.0]), np.array([2.0]))[0])
    32.0
    """
    fit = np.maximum(1.0, np.floor(level_devices / stride))
    whole = np.minimum(n, fit)
    # spread evenly over the domains that it needs: n = 64 over a domain of 72 / 2 = 36 takes two domains of 32
    return n / np.ceil(n / whole)


@dataclass(frozen=True, slots=True)
class Hop:
    """One level's part of a group: members inside (m), members inside the level below (below), bandwidth that one device of
    this group drives (Bps, efficiency included), and latency (0 where the group does not reach this level)."""

    level: Level
    m: Floats
    below: Floats
    Bps: Floats
    latency_s: Floats


def hops(system: System, n: Floats, stride: Floats) -> list[Hop]:
    """The levels that a group of n devices at a stride crosses, innermost first."""
    out: list[Hop] = []
    below = np.ones_like(n)
    for level in system.levels:
        m = n if level.is_network else np.maximum(below, members(float(level.devices), n, stride))
        efficiency = system.efficiency.nic_efficiency if level.is_network else system.efficiency.link_efficiency
        Bps = np.full_like(n, level.bandwidth_Bps * efficiency)
        if level.axes > 1:
            Bps = Bps * torus_share(level, m / below, torus_chips(system, level))
        latency = np.where(m > below, level.latency_s, 0.0)
        out.append(Hop(level, m, below, Bps, latency))
        below = m
    return out


def torus_chips(system: System, level: Level) -> float:
    """Nodes of the torus that the job occupies: chips, where a level inside joins the devices of a chip."""
    inner = max((x.devices for x in system.levels if x.devices < level.devices and not x.is_network), default=1)
    return max(1.0, min(level.devices, system.devices) / inner)


def torus_share(level: Level, ratio: Floats, nodes: float) -> Floats:
    """Share of a torus device's links that a group of `ratio` members drives: k / axes with
    k = ceil(ln(ratio) / ln(side)), side = nodes^(1/axes): a group is laid along as few axes as hold it, and a slice is taken as a near-cube,
    whatever its shape (so a group up to 10% above a whole number of axes counts as that number).

    >>> level = Level(name="pod", kind="torus3d", devices=4096, bandwidth_Bps=1.0, latency_s=0.0, axes=3)
    >>> torus_share(level, np.array([4.0, 4096.0]), 4096).round(3).tolist()
    [0.333, 1.0]
    """
    side = max(2.0, float(nodes) ** (1.0 / level.axes))
    k = np.ceil(np.log(np.maximum(ratio, 1.0 + 1e-12) / 1.1) / np.log(side))
    return np.asarray(np.clip(k, 1.0, level.axes) / level.axes, dtype=np.float64)


def linear(system: System, n: Floats, stride: Floats, *, all_reduce: bool = False) -> tuple[Floats, Floats]:
    """(seconds per byte, latency) of a reduce-scatter, or of an all-reduce; evaluated once per distinct (n, stride)."""
    if len(n) > 1:
        key = n.astype(np.int64) << 32 | stride.astype(np.int64)
        _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
        per_B, latency = _linear(system, n[first], stride[first], all_reduce)
        return per_B[inverse], latency[inverse]
    return _linear(system, n, stride, all_reduce)


def _linear(system: System, n: Floats, stride: Floats, all_reduce: bool) -> tuple[Floats, Floats]:
    per_B, latency = np.zeros_like(n), np.zeros_like(n)
    for hop in hops(system, n, stride):
        r = hop.m / hop.below
        factor = (r - 1.0) / r
        if all_reduce:
            factor = np.minimum(2.0 * factor, np.where(r > 1, 1.0, 0.0)) if hop.level.reduces else 2.0 * factor
        per_B = per_B + factor / hop.below / hop.Bps
        latency = latency + hop.latency_s * (2.0 if all_reduce else 1.0)
    return per_B, latency


def reduce_scatter_s(system: System, data_B: Floats, n: Floats, stride: Floats) -> Floats:
    """Time to reduce-scatter (or, equal, all-gather) `data_B` bytes, the full unsharded size, over a group.

    T = sum over levels of data / m_below x (r - 1) / r / Bps + latency, r = m / m_below. Ring on each level, levels in turn.
    """
    per_B, latency = linear(system, n, stride)
    return data_B * per_B + latency


def all_reduce_s(system: System, data_B: Floats, n: Floats, stride: Floats) -> Floats:
    """Time to all-reduce `data_B` bytes: reduce-scatter and all-gather, 2 (r-1)/r per level; a switch that adds in the network
    sends each byte once, so there the factor is at most 1."""
    per_B, latency = linear(system, n, stride, all_reduce=True)
    return data_B * per_B + latency


@dataclass(frozen=True, slots=True)
class AllToAll:
    """Time of one all-to-all, split into the part inside the scale-up domain and the part over the network."""

    inside_s: Floats
    outside_s: Floats


def all_to_all_s(system: System, send_B: Floats, n: Floats, stride: Floats, *, top_k: Floats | float | None = None,
                 row_B: Floats | float | None = None, rows: Floats | float | None = None) -> AllToAll:  # fmt: skip
    """Time of an all-to-all in which each device sends `send_B` bytes in all, evenly over the n members.

    A level carries the share that leaves the level below and stays inside this one. With top_k, rows and row_B (MoE
    dispatch) a row goes once to each remote domain of the network, not once per expert: N (1 - (1-1/N)^top_k) domains. On a torus the
    bisection binds: bytes x side / 8 per link and axis, in units of the device's share.
    """
    shape = np.broadcast(send_B, n).shape
    inside, outside = np.zeros(shape), np.zeros(shape)
    walk = hops(system, n, stride)
    for i, hop in enumerate(walk):
        share = (hop.m - hop.below) / n
        bytes_ = send_B * share
        if hop.level.is_network and top_k is not None and rows is not None and row_B is not None:
            domains = np.maximum(1.0, n / hop.below)
            reached = (domains - 1.0) * (1.0 - (1.0 - 1.0 / np.maximum(domains, 1.0 + 1e-12)) ** top_k)
            bytes_ = np.minimum(bytes_, rows * row_B * reached)
        seconds = bytes_ / hop.Bps
        if hop.level.axes > 1:
            side = np.maximum(1.0, (hop.m / hop.below) ** (1.0 / np.maximum(1.0, _spanned(system, hop))))
            seconds = seconds * np.maximum(1.0, side / 4.0 * _spanned(system, hop))
        if hop.level.via_inner and i:
            seconds = seconds + bytes_ / walk[i - 1].Bps
        seconds = seconds + hop.latency_s
        if hop.level.is_network:
            outside = outside + seconds
        else:
            inside = inside + seconds
    return AllToAll(inside, outside)


def _spanned(system: System, hop: Hop) -> Floats:
    """Number of torus axes that the group spans at this level."""
    share = torus_share(hop.level, hop.m / hop.below, torus_chips(system, hop.level))
    return share * hop.level.axes


def transfer_s(system: System, data_B: Floats, stride: Floats) -> Floats:
    """Time to send `data_B` bytes to the device `stride` places on: the innermost level that holds both carries it."""
    total = np.zeros(np.broadcast(data_B, stride).shape)
    done = np.zeros(total.shape, dtype=bool)
    for level in system.levels:
        efficiency = system.efficiency.nic_efficiency if level.is_network else system.efficiency.link_efficiency
        here = ~done & ((stride < level.devices) | level.is_network)
        share = 1.0 / level.axes if level.axes > 1 else 1.0
        seconds = data_B / (level.bandwidth_Bps * efficiency * share) + level.latency_s
        total = np.where(here, seconds, total)
        done = done | here
    return total
