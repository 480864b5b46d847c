"""Weight synchronisation: tensors of known checkpoints, laws by hand, published syncs, and relations over drawn
cases."""

from __future__ import annotations

import csv
import math
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest

from mowich.errors import UserError
from mowich.estimate import Notes
from mowich.evidence.sync_rows import SyncCase, read_sync
from mowich.facts import Facts
from mowich.machines.system import Level, System, logical_cores, resolve
from mowich.models.builtin import load_model
from mowich.models.model import Model
from mowich.models.tensors import component_tensors, scale_tensors
from mowich.plans.plan import Plan, ServePlan
from mowich.rl.frameworks import Framework, read_framework
from mowich.rl.sync import (
    METHODS,
    SYNC_PARTS,
    WAYS,
    SyncEnd,
    SyncMethod,
    SyncTimes,
    method_of,
    sync_times,
    weight_bytes,
)

ROWS = Path(__file__).parent / "sync_rows.csv"


# tensors
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "tensors"),
    [
        ("qwen3-30b-a3b", 18867),  # vime issue 175
        ("deepseek-v3", 45395),  # NeMo RL: tensors that each rank loads in bf16
        ("llama-3.1-8b", 291),
        ("qwen3-32b", 707),
        ("qwen2.5-7b", 339),
    ],
)
def test_tensors_are_those_of_the_checkpoint(name: str, tensors: int) -> None:
    counts = component_tensors(load_model(name))
    assert sum(count.tensors for count in counts.values()) == tensors


def test_every_component_with_weights_has_tensors() -> None:
    for name in ("qwen3-30b-a3b", "deepseek-v3", "qwen3.5-397b-a17b", "gpt-oss-120b", "kimi-k2"):
        model = load_model(name)
        params, counts = model.component_params(), component_tensors(model)
        for component, weights in params.items():
            if component != "indexer":
                assert (weights > 0) == (component in counts and counts[component].tensors > 0), (name, component)
        assert all(count.matrices <= count.tensors for count in counts.values())
        assert sum(scale_tensors(counts).values()) <= sum(count.matrices for count in counts.values())


# one sync by hand
# ----------------------------------------------------------------------------------------------------------------------


def ends(facts: Facts, system: str = "h100", senders: int = 16, receivers: int = 16, tp: int = 4) -> list[SyncEnd]:
    machine = resolve(facts, system, chips=max(senders, receivers))
    plan = ServePlan(tp=tp)
    return [
        SyncEnd(system=machine, devices=senders, plan=Plan(ep=8, pp=2, dp=senders // 2), format="bf16"),
        SyncEnd(system=machine, devices=receivers, plan=plan, format="bf16", workers=receivers // tp),
    ]


def test_a_broadcast_by_hand(facts: Facts) -> None:
    source, target = ends(facts)
    found = sync_times(load_model("qwen3-30b-a3b"), source, target, "broadcast", facts=facts)
    network = source.system.levels[source.system.fabric_level].bandwidth_Bps * source.system.fabric.network_efficiency
    assert found.parts["wire"] == pytest.approx(61.064245248e9 / network)
    assert found.parts["load"] == pytest.approx(18867 * facts.number("rl.sync.common.load_tensor"))
    assert found.parts["convert"] == 0.0
    assert found.whole_s == pytest.approx(sum(found.parts[part] for part in SYNC_PARTS))


def test_a_device_takes_its_share_of_experts_by_reshard(facts: Facts) -> None:
    model = load_model("qwen3-30b-a3b")
    source, target = ends(facts, tp=4)
    by_share = sync_times(model, source, target, "reshard", facts=facts).parts["wire"]
    bytes_by = weight_bytes(model, "bf16")
    network = source.system.levels[source.system.fabric_level].bandwidth_Bps * source.system.fabric.network_efficiency
    rest = sum(bytes_by.values()) - bytes_by["experts"]
    assert by_share == pytest.approx((bytes_by["experts"] / 4 + rest) / network)


def test_a_format_below_16_bits_sends_less_and_loads_scales(facts: Facts) -> None:
    model = load_model("deepseek-v3")
    source, target = ends(facts, senders=256, receivers=32, tp=32)
    wide = sync_times(model, source, target, "rdma", facts=facts)
    narrow = sync_times(model, source, replace(target, format="fp8"), "rdma", facts=facts)
    assert narrow.sent_B < 0.6 * wide.sent_B
    assert (wide.tensors, narrow.tensors) == (45395, 45395 + 45032)
    assert narrow.parts["convert"] > 0.0 == wide.parts["convert"]


def test_a_link_between_sites_is_crossed_once_by_a_relay_and_by_each_worker_point_to_point(facts: Facts) -> None:
    model, link_Bps = load_model("qwen3-30b-a3b"), 1.25e9
    source, target = ends(facts)
    relay, rdma = (
        sync_times(model, source, target, method, facts=facts, link_Bps=link_Bps).parts["wire"]
        for method in ("relay", "rdma")
    )
    assert relay == pytest.approx(61.064245248e9 / (link_Bps * facts.number("rl.sync.relay.reached")))
    assert rdma > 61.064245248e9 / link_Bps


def test_frameworks_state_seconds_of_a_tensor_and_what_goes_on(facts: Facts, framework: Framework) -> None:
    model = load_model("qwen3-30b-a3b")
    source, target = ends(facts)
    one_by_one = sync_times(model, source, target, "tensors", facts=facts, framework=framework)
    others = 435 * facts.number("rl.sync.tensors.other")
    assert one_by_one.parts["load"] == pytest.approx(18432 * framework.tensor_s + others)
    held = sync_times(model, source, target, "broadcast", facts=facts, framework=framework)
    free = sync_times(model, source, target, "broadcast", facts=facts, framework=replace(framework, overlaps_sync=True))
    assert free.trainer_s < held.trainer_s <= held.whole_s == free.whole_s


@pytest.fixture
def framework(facts: Facts) -> Framework:
    return replace(
        read_framework(facts, ""), tensor_s=0.002, sync_colocated="ipc-tensors", sync_split="reshard", partial=True
    )


def test_the_method_is_the_stated_one_then_the_frameworks_and_spans_vendors(framework: Framework) -> None:
    assert method_of("disk", framework, is_colocated=False) == "disk"
    assert method_of("", framework, is_colocated=True) == "ipc-tensors"
    assert method_of("", framework, is_colocated=False) == "reshard"
    assert method_of("", framework, is_colocated=False, is_one_vendor=False) == "relay"
    assert method_of("", replace(framework, sync_split="host"), is_colocated=False, is_one_vendor=False) == "host"


def test_methods_that_do_not_lead_there_are_refused(facts: Facts) -> None:
    model = load_model("qwen3-30b-a3b")
    source, target = ends(facts)
    with pytest.raises(
        UserError, match=r"unknown method of weight synchronisation 'broadcst'.*did you mean 'broadcast'"
    ):
        sync_times(model, source, target, "broadcst", facts=facts)
    with pytest.raises(UserError, match="'ipc-buckets' needs trainer and workers on the same chips"):
        sync_times(model, source, replace(target, devices=8), "ipc-buckets", facts=facts)
    there = replace(target, system=resolve(facts, "trn3", chips=16))
    with pytest.raises(UserError, match="'reshard' does not span two vendors"):
        sync_times(model, source, there, "reshard", facts=facts)


def test_colocated_sides_may_group_cores_of_their_chips_in_their_own_way(facts: Facts) -> None:
    machine = resolve(facts, "trn3", chips=16)
    split = logical_cores(facts, machine, 1)
    assert split.devices > machine.devices
    source = SyncEnd(system=machine, devices=machine.devices, plan=Plan(dp=machine.devices), format="bf16")
    target = SyncEnd(system=split, devices=split.devices, plan=ServePlan(tp=8), format="bf16", workers=16)
    assert sync_times(load_model("llama-3.1-8b"), source, target, "ipc-buckets", facts=facts).whole_s > 0.0


def test_laws_are_told(facts: Facts) -> None:
    source, target = ends(facts)
    notes = Notes()
    found = sync_times(
        load_model("qwen3-30b-a3b"), source, replace(target, format="fp8"), "rdma", facts=facts, notes=notes
    )
    terms = {name.removeprefix("sync_"): term.value for name, term in notes.terms.items()}
    assert terms == pytest.approx({part: found.parts[part] for part in SYNC_PARTS})


# published syncs
# ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cases(facts: Facts) -> list[SyncCase]:
    found = []
    with ROWS.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            try:
                found.append(read_sync(row, facts))
            except UserError:
                continue
    return found


def _error(case: SyncCase, facts: Facts) -> float:
    ratio = case.predicted_s(facts) / case.measured_s
    return max(ratio, 1.0 / ratio) - 1.0


def test_published_syncs_of_a_stated_method_are_met(cases: list[SyncCase], facts: Facts) -> None:
    """The limit is that of rows that are kept aside; these rows are in sample."""
    errors = [_error(case, facts) for case in cases]
    assert len(errors) >= 35
    assert median(errors) <= 0.30
    inside = [
        abs(math.log(case.predicted_s(facts) / case.measured_s)) <= facts.number(f"rl.sync.{case.method}.residual")
        for case in cases
    ]
    assert sum(inside) / len(inside) >= 0.85


def test_each_method_of_the_network_is_met(cases: list[SyncCase], facts: Facts) -> None:
    for method in ("reshard", "rdma", "broadcast", "collective", "host"):
        errors = [_error(case, facts) for case in cases if case.method == method]
        assert median(errors) <= 0.30, method


# relations
# ----------------------------------------------------------------------------------------------------------------------

_MODELS = ("qwen3-30b-a3b", "llama-3.1-8b", "deepseek-v3", "qwen3-235b-a22b")
_SYSTEMS = ("h100", "h200", "b200", "gb300", "trn2", "trn3", "ironwood", "mi355x")


def drawn(facts: Facts, seed: int, count: int) -> Iterator[tuple[str, SyncEnd, SyncEnd, SyncMethod, float | None]]:
    """Models, two sides, a method that leads from one to the other, and a link between them or none."""
    rng = random.Random(seed)
    for _ in range(count):
        a, b = rng.choice(_SYSTEMS), rng.choice(_SYSTEMS)
        first, second = (resolve(facts, name, chips=64) for name in (a, b))
        method = rng.choice([m for m in METHODS if WAYS[m].spans_vendors or first.vendor == second.vendor])
        tp, pp = rng.choice((1, 2, 4, 8)), rng.choice((1, 2))
        workers = rng.choice((1, 2, 4))
        receivers = workers * tp * pp
        senders = rng.choice((8, 16, 64))
        if WAYS[method].is_colocated:
            second, receivers, workers = first, senders, max(1, senders // (tp * pp))
        source = SyncEnd(
            system=first,
            devices=senders,
            plan=Plan(tp=rng.choice((1, 4)), ep=rng.choice((1, 8)), dp=senders // 4, zero=rng.choice((1, 3))),
            format="bf16",
        )
        target = SyncEnd(
            system=second,
            devices=receivers,
            plan=ServePlan(tp=tp, pp=pp, ep=rng.choice((1, tp))),
            format=rng.choice(("bf16", "fp8", "nvfp4")),
            workers=workers,
        )
        yield rng.choice(_MODELS), source, target, method, rng.choice((None, 1.25e9, 12.5e9))


def faster(system: System, by: float) -> System:
    levels = tuple(replace(level, bandwidth_Bps=level.bandwidth_Bps * by) for level in system.levels)
    return replace(system, levels=levels, host_Bps=system.host_Bps * by)


def test_more_of_a_resource_never_loses(facts: Facts) -> None:
    for name, source, target, method, link_Bps in drawn(facts, 1, 300):
        model = load_model(name)

        def timed(a: SyncEnd, b: SyncEnd, link: float | None, model: Model = model, method: str = method) -> SyncTimes:
            return sync_times(model, a, b, method, facts=facts, link_Bps=link)

        now = timed(source, target, link_Bps)
        where = (name, source, target, method, link_Bps)
        assert sum(now.parts.values()) == pytest.approx(now.whole_s), where
        assert 0.0 < max(now.trainer_s, now.rollouts_s) <= now.whole_s * (1 + 1e-12), where
        least = now.whole_s * (1 + 1e-9)
        assert timed(replace(source, system=faster(source.system, 2.0)), target, link_Bps).whole_s <= least, where
        assert timed(source, replace(target, system=faster(target.system, 2.0)), link_Bps).whole_s <= least, where
        if link_Bps is not None:
            assert timed(source, target, 2.0 * link_Bps).whole_s <= least, where
            assert timed(source, target, None).parts["wire"] <= now.parts["wire"] * (1 + 1e-9) or (
                source.system.vendor != target.system.vendor
            ), where
        if not WAYS[method].is_colocated:  # more devices that send, in the same shards
            twice = replace(source, devices=2 * source.devices)
            assert timed(twice, target, link_Bps).whole_s <= least, where
        narrow = timed(source, target, link_Bps).sent_B
        wide = timed(source, replace(target, format="bf16"), link_Bps)
        assert narrow <= wide.sent_B, where
        assert now.parts["wire"] <= wide.parts["wire"] * (1 + 1e-9), where


def test_across_vendors_the_slower_side_sets_the_wire(facts: Facts) -> None:
    for name, source, target, method, _ in drawn(facts, 3, 60):
        if method not in ("relay", "host") or source.system.vendor == target.system.vendor:
            continue
        model, link = load_model(name), 1e15
        wire = sync_times(model, source, target, method, facts=facts, link_Bps=link).parts["wire"]
        free = _without_limits(source.system), _without_limits(target.system)
        for a, b in ((source, replace(target, system=free[1])), (replace(source, system=free[0]), target)):
            alone = sync_times(model, a, b, method, facts=facts, link_Bps=link).parts["wire"]
            assert wire >= alone * (1 - 1e-9), (name, source, target, method)


def _without_limits(system: System) -> System:
    def free(level: Level) -> Level:
        return replace(level, bandwidth_Bps=1e18)

    return replace(system, levels=tuple(free(level) for level in system.levels), host_Bps=1e18)
