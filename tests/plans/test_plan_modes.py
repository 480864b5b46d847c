"""What orders of ranks, offload, overlap and schedules do to memory and time, and that the search stays exact over
them."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import product
from typing import Any

import numpy as np
import pytest

from mowich.errors import EXIT_BAD_INPUT, UserError
from mowich.facts import Facts
from mowich.machines.collectives import linear
from mowich.machines.system import System
from mowich.models import load_model
from mowich.models.model import Model, as_trained
from mowich.plans import schedules
from mowich.plans.enumerate import legal_plans
from mowich.plans.memory import (
    MEMORY_FIELDS,
    TIME_FIELDS,
    dense_params_per_device,
    expert_params_per_device,
    gathered_params,
    host_memory_B,
    memory_B,
)
from mowich.plans.plan import ORDERS, SCHEDULES, Plan, Plans, TrainJob, parse_fixed
from mowich.software.stack import equip
from mowich.training.search import memory_of_plans, search
from mowich.training.step import micro_batches_of, predict_step

JOB = TrainJob(tokens=1e12, seq=4096, batch_seqs=64)


def memory_of(model: Model, system: System, job: TrainJob, plan: Plan) -> dict[str, float]:
    """Bytes per device of one plan, by category."""
    one = Plans.of([plan])
    return {k: float(v[0]) for k, v in memory_B(model, system, job, one, micro_batches_of(job, one)).items()}


@pytest.mark.parametrize("order", ORDERS)
def test_strides_are_those_of_the_layout(order: str) -> None:
    """Number the devices as the words say, the first word fastest, and measure how far apart neighbours of each group
    lie."""
    sizes = {"tp": 4, "dp": 3, "pp": 2}
    words = order.split("-")
    table = {}
    for device, place in enumerate(product(*(range(sizes[w]) for w in reversed(words)))):
        table[tuple(dict(zip(reversed(words), place, strict=True))[w] for w in ("tp", "dp", "pp"))] = device
    p = Plans.of([Plan(tp=4, dp=3, pp=2, order=order)])
    for i, name in enumerate(("tp", "dp", "pp")):
        one = tuple(int(j == i) for j in range(3))
        assert p.stride(name)[0] == table[one] - table[0, 0, 0]


def needs(system: System, model: Model, plan: Plan) -> tuple[dict[str, float], float, float]:
    """(bytes by category, bytes in the host's memory, seconds) of a plan."""
    p = Plans.of([plan])
    g = micro_batches_of(JOB, p)
    held = {k: float(v[0]) for k, v in memory_B(model, system, JOB, p, g).items()}
    return held, float(host_memory_B(model, system, JOB, p, g)[0]), predict_step(model, system, JOB, plan).total_s


@pytest.mark.parametrize(
    ("what", "categories"),
    [
        ("optimizer", {"optimizer"}),
        ("activations", {"activations"}),
        ("weights", {"weights", "gradients"}),
        ("optimizer+weights", {"optimizer", "weights", "gradients"}),
    ],
)
def test_offload_frees_its_part_and_never_speeds_up(facts: Facts, what: str, categories: set[str]) -> None:
    model, system = load_model("llama-3.1-8b"), equip(facts, "a100:16")
    base = Plan(tp=2, sp=True, pp=2, dp=4)
    plain, none, fast = needs(system, model, base)
    held, host, slow = needs(system, model, replace(base, offload=what))
    assert none == 0.0
    assert {k for k in held if held[k] < plain[k]} - {"reserve"} == categories  # whose waste is a share of what moves
    freed = sum(plain[k] - held[k] for k in categories)
    assert host >= freed > 0  # two layers' worth stays as a copy
    assert slow >= fast
    assert predict_step(
        model, replace(system, host_Bps=1e30), JOB, replace(base, offload=what)
    ).total_s == pytest.approx(fast, rel=1e-6)


def test_offload_needs_a_known_link(facts: Facts) -> None:
    with pytest.raises(UserError) as error:
        legal_plans(load_model("llama-3.1-8b"), equip(facts, "trn3"), JOB, parse_fixed({"offload": "optimizer"}))
    assert error.value.code == EXIT_BAD_INPUT
    assert "host's memory is not known" in error.value.line()


def test_what_does_not_fit_in_the_host_does_not_fit(facts: Facts) -> None:
    model, system = load_model("llama-3.1-8b"), equip(facts, "a100:16")
    p = Plans.of([Plan(dp=16, offload="optimizer+weights")])
    assert memory_of_plans(model, system, JOB, p)[1][0]
    assert not memory_of_plans(model, replace(system, host_B=1e9), JOB, p)[1][0]


def test_inputs_that_are_kept_cost_memory_and_save_a_gather(facts: Facts) -> None:
    model, system = load_model("llama-3.1-8b"), equip(facts, "h100:16")
    again, _, _ = needs(system, model, Plan(tp=8, sp=True, dp=2))
    kept, _, _ = needs(system, model, Plan(tp=8, sp=True, dp=2, regather=False))
    assert kept["activations"] > again["activations"]
    costly = replace(system, stack=replace(system.stack, backward_tp=1.5))  # where gathering again is not hidden
    for machine, saves in ((system, False), (costly, True)):
        steps = [predict_step(model, machine, JOB, Plan(tp=8, sp=True, dp=2, regather=r)) for r in (True, False)]
        one, two = (step.breakdown["tp"] for step in steps)
        assert two < one if saves else two <= one


def test_switches_only_do_what_they_say(facts: Facts) -> None:
    model, system = load_model("llama-3.1-8b"), equip(facts, "h100:16")
    base = Plan(tp=2, pp=2, dp=4)

    def parts(**changes: bool) -> dict[str, float]:
        return predict_step(model, system, JOB, replace(base, **changes)).breakdown

    plain = parts()
    assert parts(pp_scatter=True)["pp_transfer"] < plain["pp_transfer"]
    assert (
        parts(sp=True, tp_overlap=False)["tp"] > parts(sp=True)["tp"]
    )  # only with sequence parallelism can a product hide it
    assert parts(tp_overlap=False)["tp"] == plain["tp"]
    assert parts(dp_overlap=False)["dp"] > plain["dp"]
    assert parts(pp_scatter=True, sp=True)["pp_transfer"] == parts(sp=True)["pp_transfer"]


WIDE = {
    "cp": "1",
    "micro_batch": "1,2",
    "tp": "1,2",
    "pp": "2,4",
    "precision": "bf16",
    "zero": "1",
    "schedule": "all",
    "order": "all",
    "vpp": "1,2",
}


@pytest.mark.parametrize("extra", [{}, {"offload": "none,optimizer,activations", "split": "all", "regather": "on,off"}])
def test_the_search_is_exact_over_all_modes(facts: Facts, extra: dict[str, str]) -> None:
    """Little host bandwidth and memory, so that recomputing can spare the link."""
    model, system = load_model("llama-3.1-8b"), replace(equip(facts, "a100:16"), host_Bps=2e9, hbm_usable_B=24e9)
    fixed = parse_fixed({**WIDE, **extra, **({"schedule": "1f1b,zb-h1", "order": "tp-dp-pp"} if extra else {})})
    plans = legal_plans(model, system, JOB, fixed).plans
    _, fits = memory_of_plans(model, system, JOB, plans)
    times = [predict_step(model, system, JOB, plan) for i, plan in enumerate(plans) if fits[i]]
    best = min(step.total_s / step.tokens for step in times)
    found = search(model, system, JOB, fixed=fixed)
    assert found.feasible == len(times) > 20
    assert found.best[0].seconds_per_token == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize(
    ("name", "spec", "fixed"),
    [
        ("deepseek-v3", "trn3:512", {"micro_batch": "1,2", "tp": "1,8"}),
        ("deepseek-v3", "gb300:256", {"recompute": "none,experts,full", "micro_batch": "1"}),
        ("llama-3.1-70b", "h100:64", {"regather": "off", "schedule": "all"}),
        ("mixtral-8x7b", "trn2:64", {"precision": "bf16", "recompute": "full", "zero": "0,2,3", "pp": "1"}),
    ],
)
def test_what_no_mode_changes_is_computed_once_to_the_same_bytes(
    facts: Facts, name: str, spec: str, fixed: dict[str, str]
) -> None:
    """Memory of shapes with every mode beside each, and of the same plans written out one below the other."""
    model, system = as_trained(load_model(name)), equip(facts, spec)
    job = TrainJob(tokens=1e12, seq=4096, batch_seqs=2048)
    space = legal_plans(model, system, job, parse_fixed(fixed))
    plans, n, m = space.plans, len(space.shapes), space.num_modes
    assert m == len(np.unique(plans.precision)) * space.num_recompute
    assert len(space) == len(plans) == n * m > 30
    assert len(set(plans)) == len(plans)
    beside = memory_B(model, system, job, space.shapes, micro_batches_of(job, space.shapes), modes=space.modes)
    below = memory_B(model, system, job, plans, micro_batches_of(job, plans))
    for category, column in beside.items():
        assert np.array_equal(np.broadcast_to(column, (n, m)).ravel(), below[category]), category
    rows = np.random.default_rng(5).integers(0, len(space), 20)
    assert list(space.take(rows)) == [plans.plan(int(i)) for i in rows]
    assert space.dp(rows).tolist() == plans.dp[rows].tolist()


def test_every_legal_pipeline_can_be_played(facts: Facts) -> None:
    plans = legal_plans(
        load_model("llama-3.1-8b"),
        equip(facts, "h100:64"),
        TrainJob(tokens=1e12, seq=4096, batch_seqs=128),
        parse_fixed({"schedule": "all", "cp": "1"}),
    ).plans
    g = micro_batches_of(TrainJob(tokens=1e12, seq=4096, batch_seqs=128), plans)
    shapes = {
        (SCHEDULES[int(s)], int(pp), int(v), int(n))
        for s, pp, v, n in zip(plans.schedule, plans.pp, plans.vpp, g, strict=True)
        if pp > 1
    }
    assert {name for name, *_ in shapes} == set(SCHEDULES)
    assert not [shape for shape in shapes if schedules.needs(*shape)]
    assert np.all(plans.pp[plans.schedule == schedules.DUALPIPE] % 2 == 0)


def test_memory_of_many_plans_is_that_of_each_and_is_evaluated_once(
    facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drawn plans, many of which differ in time alone: the same bytes as one by one, from fewer rows."""
    model, system = load_model("llama-3.1-8b"), equip(facts, "h100:64")
    draw, n = np.random.default_rng(7), 3000
    ranges = {f.name: (1.0, 2.0, 4.0) for f in fields(Plans)}
    ranges |= dict.fromkeys(("sp", *TIME_FIELDS, "regather", "precision", "split"), (0.0, 1.0))
    ranges |= {"zero": (0.0, 1.0, 3.0), "recompute": (0.0, 1.0, 2.0), "schedule": (0.0,), "offload": (0.0, 3.0, 7.0)}
    ranges |= {"order": tuple(range(len(ORDERS))), "ep": (1.0,), "etp": (1.0,), "cp": (1.0, 2.0), "dp": (2.0,)}
    plans = Plans(**{name: draw.choice(np.array(values, dtype=float), n) for name, values in ranges.items()})
    rows: list[int] = []

    def counted(*given: Any, **more: Any) -> dict[str, Any]:
        rows.append(len(given[3]))
        return memory_B(*given, **more)

    monkeypatch.setattr("mowich.training.search.memory_B", counted)
    need, fits = memory_of_plans(model, system, JOB, plans)
    assert sum(rows) == len(plans.unique(*MEMORY_FIELDS)[0]) < n
    one_by_one = sum(memory_B(model, system, JOB, plans, micro_batches_of(JOB, plans)).values())
    assert need.tolist() == np.asarray(one_by_one).tolist()
    host = host_memory_B(model, system, JOB, plans, micro_batches_of(JOB, plans))
    assert fits.tolist() == ((need <= system.hbm_usable_B) & (host <= system.host_B)).tolist()


GROUPS = [
    ("llama-3.1-70b", "h100:512", Plan(dp=512, zero=3), 8),
    ("llama-3.1-70b", "h100:512", Plan(tp=2, sp=True, cp=2, dp=128, zero=2), 16),
    ("llama-3.1-8b", "trn2:64", Plan(dp=128, zero=1), 32),
    ("mixtral-8x7b", "h100:64", Plan(dp=64, ep=8, zero=3), 16),
    ("mixtral-8x7b", "gb300:144", Plan(tp=2, dp=64, ep=4, zero=1), 32),
]
"""A model, a system, a plan whose data ranks all share, and the size of groups of them."""


@pytest.mark.parametrize(("name", "spec", "plan", "shards"), GROUPS)
def test_a_sharding_group_holds_what_a_plan_of_its_ranks_holds(
    facts: Facts, name: str, spec: str, plan: Plan, shards: int
) -> None:
    """Of weights, gradients and optimizer. What it sends is between that of a group alone and that of all ranks that
    shard and sum; two groups of all but one size are the two ends of it."""
    model, system = load_model(name), equip(facts, spec)
    job = TrainJob(tokens=1e12, seq=4096, batch_seqs=plan.dp)
    grouped, alone = replace(plan, shards=shards), replace(plan, dp=shards)
    held, of_group = (memory_of(model, system, job, one) for one in (grouped, alone))
    for state in ("weights", "gradients", "optimizer"):
        assert held[state] == pytest.approx(of_group[state], rel=1e-12)
    assert sum(held.values()) > sum(memory_of(model, system, job, plan).values())
    inside = predict_step(model, system, replace(job, batch_seqs=shards), alone).breakdown["dp"]
    with_sums = predict_step(model, system, job, grouped).breakdown["dp"]
    assert with_sums > inside
    one_group = replace(plan, shards=plan.dp)
    assert predict_step(model, system, job, one_group) == predict_step(model, system, job, plan)
    assert Plan.from_dict(grouped.to_dict()) == grouped
    assert f"z{plan.zero}s{shards} " in str(grouped)
    assert "shards" not in plan.to_dict()


def test_between_groups_travels_an_all_reduce_of_what_a_rank_is_left_with(facts: Facts) -> None:
    """8B parameters, 64 servers of 8: 2 (bytes b + L), with b and L of a reduce-scatter over 64 ranks, one a server."""
    model, system = load_model("llama-3.1-8b"), replace(equip(facts, "h100:512"))
    system = replace(system, stack=replace(system.stack, fsdp_overlap=0.0))
    job = TrainJob(tokens=1e12, seq=8192, batch_seqs=512)
    plan = Plan(dp=512, zero=3, shards=8)
    alone = replace(plan, dp=8, shards=0)
    grouped_s, alone_s = (predict_step(model, system, replace(job, batch_seqs=p.dp), p) for p in (plan, alone))
    per_B, latency = linear(system, np.array([64.0]), np.array([8.0]))
    params = dense_params_per_device(model, Plans.of([plan]))[0]
    expected = 2.0 * (system.stack.gather_B * params / 8 * per_B[0] + latency[0])
    assert grouped_s.breakdown["dp"] - alone_s.breakdown["dp"] == pytest.approx(expected, rel=1e-9)


def test_groups_that_are_no_groups_are_refused_with_the_rule(facts: Facts) -> None:
    model, system, job = load_model("mixtral-8x7b"), equip(facts, "h100:64"), replace(JOB, batch_seqs=64)
    for words, rule in (
        ({"zero": "0", "shards": "8"}, "shard something"),
        ({"dp": "48", "shards": "9"}, "several sharding groups"),
        ({"ep": "8", "shards": "4"}, "whole groups of experts"),
    ):
        alone = {"tp": "1", "cp": "1", "pp": "1", "ep": "1", "micro_batch": "1"}
        with pytest.raises(UserError, match="no legal plan") as error:
            legal_plans(model, system, job, parse_fixed({**alone, **words}))
        assert rule in error.value.line()
    with pytest.raises(UserError, match="whole numbers from 0"):
        parse_fixed({"shards": "-1"})


def test_groups_of_a_unit_are_searched_where_the_software_has_them(facts: Facts) -> None:
    """On 64 servers of 8, FSDP also in groups of 8 / tp; Megatron of 2021 in none, unless they are asked for."""
    model, job = load_model("llama-3.1-8b"), replace(JOB, batch_seqs=512)

    def sizes(stack: str, **fixed: str) -> set[tuple[int, int]]:
        system = equip(facts, "h100:512", stack=stack)
        p = legal_plans(model, system, job, parse_fixed({"cp": "1", "pp": "1", **fixed})).plans
        return {(int(tp), int(s)) for tp, s in zip(p.tp, p.shards, strict=True) if s}

    assert sizes("pytorch-fsdp", tp="1,2,4") == {(1, 8), (2, 4), (4, 2)}
    assert sizes("megatron-2021", tp="1,2,4") == set()
    assert sizes("megatron-2021", tp="2", zero="1", shards="16") == {(2, 16)}


@pytest.mark.parametrize("ep", [1, 4, 16, 64])
def test_experts_inside_ep_are_sharded_over_the_data_ranks_that_hold_the_same(facts: Facts, ep: int) -> None:
    """FSDP of a mixture: its dense parameters over all 64 ranks, its experts over 64 / ep, gathered by those alone.
    With as many groups of experts as ranks nothing of them is gathered, or reduced."""
    model, system = load_model("qwen3-30b-a3b"), equip(facts, "h100:64", stack="pytorch-fsdp")
    job = replace(JOB, batch_seqs=64)
    plan = Plan(dp=64, ep=ep, zero=3)
    columns = Plans.of([plan])
    dense, experts = (float(of(model, columns)[0]) for of in (dense_params_per_device, expert_params_per_device))
    held = memory_of(model, system, job, plan)
    assert held["weights"] == pytest.approx(system.stack.weight_B * (dense / 64 + experts * ep / 64), rel=1e-12)
    gathered = dense + (experts if ep < 64 else 0.0)
    assert float(gathered_params(columns, np.array([dense]), np.array([experts]))[0]) == gathered
    wide = predict_step(model, system, job, replace(plan, ep=64)).breakdown["dp"]
    assert predict_step(model, system, job, plan).breakdown["dp"] >= wide
    assert len(legal_plans(model, system, job, parse_fixed({"zero": "3", "ep": str(ep), "tp": "1"})).plans)
