"""Collectives against sums done by hand on machines with round numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mowich.facts import Facts
from mowich.machines import collectives
from mowich.machines.system import Level, System, resolve

GB = 1e9
ONE = np.array([1.0])


def machine(facts: Facts, *levels: Level) -> System:
    """A machine with these levels and perfect links."""
    system = resolve(facts, "h100", chips=512)
    return replace(
        system, levels=levels, efficiency=replace(system.efficiency, link_efficiency=1.0, nic_efficiency=1.0)
    )


def switch(devices: int, gbps: float, *, latency: float = 0.0, reduces: bool = False, via_inner: bool = False) -> Level:
    return Level(
        name=f"switch{devices}",
        kind="switch",
        devices=devices,
        bandwidth_Bps=gbps * GB,
        latency_s=latency,
        reduces=reduces,
        via_inner=via_inner,
    )


def network(gbps: float, *, latency: float = 0.0, devices: int = 10**6) -> Level:
    return Level(
        name="scale_out", kind="network", devices=devices, bandwidth_Bps=gbps * GB, latency_s=latency, is_network=True
    )


def at(x: float) -> np.ndarray:
    return np.array([x])


def test_ring_all_reduce_on_one_switch(facts: Facts) -> None:
    """2 (n-1)/n D / B and two latencies: 8 devices, 100 GB/s, 1 GB: 17.5 ms + 2 x 10 us."""
    system = machine(facts, switch(8, 100, latency=10e-6), network(10))
    assert collectives.all_reduce_s(system, at(1e9), at(8.0), ONE)[0] == pytest.approx(17.5e-3 + 20e-6)
    assert collectives.reduce_scatter_s(system, at(1e9), at(8.0), ONE)[0] == pytest.approx(8.75e-3 + 10e-6)


def test_a_group_of_one_costs_nothing(facts: Facts) -> None:
    system = machine(facts, switch(8, 100, latency=10e-6), network(10, latency=1e-3))
    assert collectives.all_reduce_s(system, at(1e9), ONE, ONE)[0] == 0.0
    both = collectives.all_to_all_s(system, at(1e9), ONE, ONE)
    assert both.inside_s[0] == both.outside_s[0] == 0.0


def test_a_switch_that_adds_sends_each_byte_once(facts: Facts) -> None:
    """With reduction in the network the factor is min(2 (n-1)/n, 1): 1 GB at 100 GB/s takes 10 ms for 8, 10 ms for 2."""
    system = machine(facts, switch(8, 100, reduces=True), network(10))
    assert collectives.all_reduce_s(system, at(1e9), at(8.0), ONE)[0] == pytest.approx(10e-3)
    assert collectives.all_reduce_s(system, at(1e9), at(2.0), ONE)[0] == pytest.approx(10e-3)


def test_reduce_scatter_on_two_levels(facts: Facts) -> None:
    """32 devices, 8 to a switch. Inside 7/8 of 1 GB at 100 GB/s; outside 3/4 of the eighth that is left at 10 GB/s."""
    system = machine(facts, switch(8, 100, latency=10e-6), network(10, latency=30e-6))
    by_hand = 1e9 * (7 / 8) / 100e9 + 10e-6 + (1e9 / 8) * (3 / 4) / 10e9 + 30e-6
    assert collectives.reduce_scatter_s(system, at(1e9), at(32.0), ONE)[0] == pytest.approx(by_hand)


def test_a_stride_leaves_fewer_members_in_a_domain(facts: Facts) -> None:
    """Every 4th device: 2 of a group in each switch of 8, so 16 members need 8 switches."""
    system = machine(facts, switch(8, 100), network(10))
    by_hand = 1e9 * (1 / 2) / 100e9 + (1e9 / 2) * (7 / 8) / 10e9
    assert collectives.reduce_scatter_s(system, at(1e9), at(16.0), at(4.0))[0] == pytest.approx(by_hand)


def test_a_group_that_one_domain_does_not_hold_is_spread_evenly() -> None:
    """64 devices over domains of 72 at stride 2 (36 places): two domains of 32, not one of 36 and one of 28."""
    assert collectives.members(72.0, at(64.0), at(2.0))[0] == 32.0
    assert collectives.members(72.0, at(64.0), at(1.0))[0] == 64.0


def test_a_torus_group_drives_the_links_of_the_axes_that_it_spans() -> None:
    level = Level(name="pod", kind="torus3d", devices=4096, bandwidth_Bps=1.0, latency_s=0.0, axes=3)
    share = collectives.torus_share(level, np.array([2.0, 16.0, 17.0, 18.0, 256.0, 300.0, 4096.0]), 4096)
    assert (share * 3).round(6).tolist() == [1, 1, 1, 2, 2, 3, 3]


def test_all_to_all_on_a_torus_is_bound_by_its_bisection(facts: Facts) -> None:
    """16^3 devices with 6 links of b: bisection 2 x 16^2 links, so n S / 4 bytes take 16 S / (8 b) = 0.75 x 16 S / (6 b)."""
    level = Level(name="pod", kind="torus3d", devices=4096, bandwidth_Bps=600 * GB, latency_s=0.0, axes=3)
    system = replace(machine(facts, level, network(10)), chips=4096, devices_per_chip=1)
    n, send = 4096.0, 1e9
    by_hand = 16 * send * ((n - 1) / n) / (8 * 100 * GB)
    assert collectives.all_to_all_s(system, at(send), at(n), ONE).inside_s[0] == pytest.approx(by_hand)


def test_all_to_all_splits_by_where_a_byte_goes(facts: Facts) -> None:
    """32 devices, 8 to a switch: 7/32 of the bytes stay inside, 24/32 cross the network."""
    system = machine(facts, switch(8, 100, latency=10e-6), network(10, latency=30e-6))
    both = collectives.all_to_all_s(system, at(1e9), at(32.0), ONE)
    assert both.inside_s[0] == pytest.approx(1e9 * 7 / 32 / 100e9 + 10e-6)
    assert both.outside_s[0] == pytest.approx(1e9 * 24 / 32 / 10e9 + 30e-6)


def test_expert_rows_cross_once_to_each_remote_domain(facts: Facts) -> None:
    """top-8 over 4 domains: 3 (1 - (3/4)^8) = 2.7 remote domains see a row, not 8 x 3/4 = 6 copies of it."""
    system = machine(facts, switch(8, 100), network(10))
    rows, row_B = 4096.0, 14336.0
    both = collectives.all_to_all_s(system, at(8 * rows * row_B), at(32.0), ONE, top_k=8.0, rows=rows, row_B=row_B)
    by_hand = rows * row_B * 3 * (1 - 0.75**8) / 10e9
    assert both.outside_s[0] == pytest.approx(by_hand)
    top1 = collectives.all_to_all_s(system, at(rows * row_B), at(32.0), ONE, top_k=1.0, rows=rows, row_B=row_B)
    assert top1.outside_s[0] == pytest.approx(rows * row_B * 0.75 / 10e9)


def test_same_position_links_load_the_level_inside_too(facts: Facts) -> None:
    """Two racks of 4 joined by same-position links: half of the bytes cross them and travel once more inside a rack."""
    plain = machine(facts, switch(4, 100), switch(8, 50), network(10))
    via = machine(facts, switch(4, 100), switch(8, 50, via_inner=True), network(10))
    one, two = (collectives.all_to_all_s(s, at(1e9), at(8.0), ONE).inside_s[0] for s in (plain, via))
    assert one == pytest.approx(1e9 * 3 / 8 / 100e9 + 1e9 / 2 / 50e9)
    assert two - one == pytest.approx(1e9 / 2 / 100e9)


def test_a_transfer_takes_the_innermost_level_that_joins_both(facts: Facts) -> None:
    system = machine(facts, switch(8, 100, latency=10e-6), network(10, latency=30e-6))
    near, far = (collectives.transfer_s(system, at(1e9), at(stride))[0] for stride in (4.0, 8.0))
    assert near == pytest.approx(10e-3 + 10e-6)
    assert far == pytest.approx(100e-3 + 30e-6)


def test_arrays_and_single_groups_agree(facts: Facts) -> None:
    system = resolve(facts, "trn3", chips=1152)
    n, stride = np.array([1.0, 4.0, 64.0, 288.0, 576.0, 64.0]), np.array([1.0, 1.0, 4.0, 1.0, 8.0, 4.0])
    per_B, latency = collectives.linear(system, n, stride)
    for i in range(len(n)):
        one_B, one_latency = collectives.linear(system, n[i : i + 1], stride[i : i + 1])
        assert (per_B[i], latency[i]) == (one_B[0], one_latency[0])
