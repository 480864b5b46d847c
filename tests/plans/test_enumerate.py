"""The space of plans: what is legal, what is refused and why, and that fixed choices hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mowich.errors import EXIT_BAD_INPUT, EXIT_INFEASIBLE, UserError
from mowich.facts import Facts
from mowich.models import load_model
from mowich.plans import schedules
from mowich.plans.enumerate import every_dp, legal_plans, tp_degrees
from mowich.plans.plan import SCHEDULES, Plan, Plans, TrainJob, pack_columns, parse_fixed
from mowich.plans.search import divisors
from mowich.software.stack import equip
from mowich.training.step import micro_batches_of

JOB = TrainJob(tokens=1e12, seq=4096, batch_seqs=512)


def refusal(facts: Facts, model: str, spec: str, job: TrainJob = JOB, **fixed: str) -> UserError:
    with pytest.raises(UserError) as error:
        legal_plans(load_model(model), equip(facts, spec), job, parse_fixed(fixed))
    return error.value


@pytest.mark.parametrize(
    ("model", "spec", "batch"),
    [
        ("llama-3.1-8b", "h100:64", 256),
        ("deepseek-v3", "trn3:1152", 2048),
        ("qwen3-30b-a3b", "ironwood:100", 512),
        ("gpt2", "trn1:7", 64),
    ],
)
def test_every_plan_is_legal(facts: Facts, model: str, spec: str, batch: int) -> None:
    shapes, system = load_model(model), equip(facts, spec)
    job = TrainJob(tokens=1e12, seq=1024, batch_seqs=batch)
    p = legal_plans(shapes, system, job).plans
    assert len(p) > 0
    assert np.all(p.tp * p.pp * p.cp * p.dp <= system.devices)
    heads = int(np.gcd.reduce([layer.attention.num_heads for layer in shapes.layers]))
    assert np.all(np.mod(heads, p.tp) == 0)
    assert np.all(np.mod(p.tp * p.cp * p.dp, p.ep * p.etp) == 0)
    assert np.all((p.sp == 0) | (p.tp > 1))
    assert np.all((p.vpp == 1) | (p.pp > 1))
    assert np.all((p.zero < 3) | (p.pp == 1))
    got = micro_batches_of(job, p) * p.micro_batch * p.dp
    assert np.all(np.abs(got / batch - 1) <= job.batch_tolerance + 1e-9)
    rows = {tuple(getattr(p, name)[i] for name in Plans.__slots__) for i in range(len(p))}
    assert len(rows) == len(p), "a plan is there twice"


@pytest.mark.share(3)
@pytest.mark.parametrize(
    ("model", "spec", "batch"),
    [
        ("llama-3.1-8b", "h100:64", 40),
        ("llama-3.1-8b", "h100:64", 40.5),
        ("qwen3-30b-a3b", "trn3:36", 100),
        ("mixtral-8x7b", "a100:100", 17),
        ("deepseek-v3", "ironwood:128", 96),
    ],
)
def test_every_dp_is_listed_and_the_largest_first(facts: Facts, model: str, spec: str, batch: float) -> None:
    """Against all whole numbers up to the devices, tried one by one: those on whole servers, where there are none those
    on a part of one. Half a sequence is a batch that no plan has: there 5% are allowed."""
    shapes, system = load_model(model), equip(facts, spec)
    job = TrainJob(tokens=1e12, seq=1024, batch_seqs=batch, batch_tolerance=0.05 * (batch % 1 > 0))
    fixed = parse_fixed(
        {"precision": "bf16", "recompute": "none", "schedule": "all", "zero": "1", "sp": "off", "order": "tp-dp-pp"}
    )
    p = legal_plans(shapes, system, job, fixed).plans
    dp, of = every_dp(system, job, p, np.ones(len(p)))
    names = [name for name in Plans.__slots__ if name != "dp"]
    listed = {(*(getattr(p, name)[i] for name in names), d) for d, i in zip(dp, of, strict=True)}
    found = set()
    for d in range(1, system.devices + 1):
        try:
            one = legal_plans(shapes, system, job, {**fixed, "dp": (d,)}).plans
        except UserError:
            continue
        found |= {(*(getattr(one, name)[i] for name in names), float(d)) for i in range(len(one))}
    ranks = [names.index(name) for name in ("tp", "pp", "cp")]
    devices = {row: float(np.prod([row[i] for i in ranks])) * row[-1] for row in found}
    server = system.server_devices
    on_servers = {row for row in found if devices[row] % server == 0}
    filled = {row[:-1] for row in on_servers}
    expected = on_servers | {row for row in found if devices[row] < server and row[:-1] not in filled}
    assert listed == expected
    assert len({row[:-1] for row in listed}) == len(p)
    largest = np.zeros(len(p))
    np.maximum.at(largest, of, dp)
    assert np.array_equal(largest, p.dp)


def test_a_fixed_dp_needs_no_more_devices_than_there_are(facts: Facts) -> None:
    """tp 8 and pp 3 leave room for two data-parallel ranks on 64 devices, not for three."""
    fixed = {"tp": "8", "pp": "3", "cp": "1", "micro_batch": "1"}
    job = TrainJob(tokens=1e12, seq=4096, batch_seqs=48)
    p = legal_plans(load_model("llama-3.1-8b"), equip(facts, "h100:64"), job, parse_fixed(fixed)).plans
    assert set(p.dp) == {2.0}
    assert "no data-parallel degree left" in refusal(facts, "llama-3.1-8b", "h100:64", job, **fixed, dp="3").line()


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_fewest_micro_batches_are_legal_and_one_round_less_is_not(schedule: str) -> None:
    for pp in (1.0, 2.0, 4.0, 6.0, 16.0):
        code, stages = np.array([float(SCHEDULES.index(schedule))]), np.array([pp])
        least, step = schedules.fewest(code, stages), schedules.rounds(code, stages)
        assert all(ok[0] for _, ok in schedules.legal(code, stages, least))
        assert pp == 1 or not all(ok[0] for _, ok in schedules.legal(code, stages, least - step))


def test_a_pipeline_has_the_dp_that_leaves_it_enough_micro_batches(facts: Facts) -> None:
    """The chips and the batch allow dp 51 and more; with 5 stages only up to 53 leaves as many micro-batches."""
    job = TrainJob(tokens=1e12, seq=4096, batch_seqs=256, batch_tolerance=0.05)
    fixed = parse_fixed({"tp": "4", "pp": "5", "cp": "2", "micro_batch": "1", "schedule": "interleaved"})
    p = legal_plans(load_model("llama-3.1-70b"), equip(facts, "h100:4096"), job, fixed).plans
    assert set(p.dp) == {53.0}


def test_zero_3_with_a_pipeline_is_asked_for_by_both(facts: Facts) -> None:
    def stages(**fixed: str) -> set[float]:
        return set(legal_plans(load_model("llama-3.1-8b"), equip(facts, "h100:64"), JOB, parse_fixed(fixed)).plans.pp)

    assert stages(zero="3") == {1.0}
    assert stages(zero="3", pp="4") == {4.0}
    assert stages(zero="1,3", pp="1,4") == {1.0, 4.0}


def test_context_parallelism_goes_up_to_the_devices_of_a_sequence(facts: Facts) -> None:
    def most(spec: str, batch: float, seq: int = 4096) -> float:
        job = TrainJob(tokens=1e12, seq=seq, batch_seqs=batch)
        return float(legal_plans(load_model("llama-3.1-8b"), equip(facts, spec), job).plans.cp.max())

    assert [most("h100:256", batch) for batch in (512, 64, 16, 8)] == [4.0, 4.0, 16.0, 32.0]
    assert most("h100:256", 512, seq=16384) == 32.0


def test_fixed_choices_hold(facts: Facts) -> None:
    fixed = parse_fixed({"tp": "4,8", "pp": "2", "recompute": "full", "precision": "bf16", "dp": "4"})
    p = legal_plans(load_model("llama-3.1-8b"), equip(facts, "h100:64"), JOB, fixed).plans
    assert set(p.tp) == {4.0, 8.0}
    assert set(p.pp) == {2.0}
    assert set(p.dp) == {4.0}
    assert {plan.recompute for plan in p} == {"full"}
    assert {plan.precision for plan in p} == {"bf16"}


@pytest.mark.parametrize(
    ("model", "fixed", "said"),
    [
        ("llama-3.1-8b", {"tp": "24"}, "tp=24 does not divide the 32 query heads"),
        ("llama-3.1-8b", {"ep": "4"}, "llama-3.1-8b is dense"),
        ("llama-3.1-8b", {"etp": "2"}, "llama-3.1-8b is dense"),
        ("mixtral-8x7b", {"ep": "3"}, "ep=3 does not divide the 8 experts"),
        ("mixtral-8x7b", {"etp": "3"}, "etp=3 does not divide the expert width"),
        ("llama-3.1-8b", {"pp": "99"}, "pp=99 exceeds the 32 layers"),
        ("llama-3.1-8b", {"precision": "nvfp4"}, "has no nvfp4 matrix rate"),
        ("llama-3.1-8b", {"schedule": "1f1b", "vpp": "2"}, "plan.vpp: chunks of a stage that the pipeline schedule"),
        ("llama-3.1-8b", {"schedule": "interleaved,zb-v", "vpp": "1"}, "2 or more of interleaved; 2 of zb-v"),
    ],
)
def test_a_choice_that_no_plan_can_have_is_bad_input(
    facts: Facts, model: str, fixed: dict[str, str], said: str
) -> None:
    error = refusal(facts, model, "h100:64", **fixed)
    assert error.code == EXIT_BAD_INPUT
    assert said in error.line()
    assert "allowed: " in error.line()


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("tp", "0"),
        ("tp", "-1"),
        ("tp", "²"),
        ("tp", ""),
        ("tp", "1.5"),
        ("tp", "9" * 300),
        ("zero", "4"),
        ("sp", "2"),
        ("recompute", "some"),
        ("tpp", "4"),
    ],
)
def test_words_that_are_no_degree_are_refused(key: str, text: str) -> None:
    with pytest.raises(UserError) as error:
        parse_fixed({key: text})
    assert f"plan.{key}" in error.value.line() or f"'{key}'" in error.value.line()
    assert len(error.value.line()) < 400


def test_nothing_legal_says_which_rules_turned_plans_away(facts: Facts) -> None:
    error = refusal(facts, "llama-3.1-8b", "h100:8", dp="16")
    assert error.code == EXIT_INFEASIBLE
    assert "no legal plan for llama-3.1-8b on 8 chips" in error.line()
    assert "turned away" in error.line()


def test_chips_that_no_plan_divides_are_left_idle_not_refused(facts: Facts) -> None:
    """Whole servers, and as many as divide the batch; more of them where the batch may differ."""
    for tolerance, most in ((0.0, 32), (0.05, 56)):
        job = replace(JOB, batch_tolerance=tolerance)
        p = legal_plans(load_model("llama-3.1-8b"), equip(facts, "h100:61"), job).plans
        used = p.tp * p.pp * p.cp * p.dp
        assert used.max() == most
        assert not np.any((used > 8) & (used % 8 > 0))


def test_tp_degrees_divide_heads_and_stay_inside_a_unit(facts: Facts) -> None:
    assert tp_degrees(load_model("llama-3.1-8b"), equip(facts, "h100:64")) == [1, 2, 4, 8]
    assert tp_degrees(load_model("gpt2"), equip(facts, "trn3")) == [1, 2, 3, 4, 6, 12]
    assert divisors(1, 10) == [1]


def test_divisors_are_those_up_to_the_limit_and_cost_no_more_than_it() -> None:
    for n in range(1, 200):
        for limit in (1, 2, 7, 12, 13, 14, 50, n, 2 * n):
            assert divisors(n, limit) == [d for d in range(1, min(n, limit) + 1) if n % d == 0]
    assert divisors(10**30, 20) == [1, 2, 4, 5, 8, 10, 16, 20]


def test_tp_divides_the_feed_forward_too(facts: Facts) -> None:
    """llama2-13b: 40 heads, but a feed-forward of 13824, which 5 does not divide."""
    assert tp_degrees(load_model("llama2-13b"), equip(facts, "trn3")) == [1, 2, 4, 8]
    error = refusal(facts, "llama2-13b", "trn3", tp="5")
    assert "tp=5 does not divide the feed-forward width 13824" in error.line()


def test_sequence_parallelism_needs_a_sequence_that_it_can_cut(facts: Facts) -> None:
    p = legal_plans(
        load_model("llama-3.1-8b"), equip(facts, "h100:8"), TrainJob(tokens=1e12, seq=1001, batch_seqs=64)
    ).plans
    assert p.tp.max() > 1
    assert p.sp.max() == 0


def test_a_key_of_many_wide_columns_stays_unique() -> None:
    """Ten columns of up to 2^20: more bits than an integer has, so the key is renumbered on the way."""
    rng = np.random.default_rng(0)
    columns = [rng.integers(0, 2**20, 500).astype(np.float64) for _ in range(10)]
    doubled = [np.concatenate([c, c[:100]]) for c in columns]
    key = pack_columns(doubled)
    assert len(np.unique(key)) == 500
    assert np.array_equal(key[:100], key[500:])


def test_plans_and_their_columns_are_the_same_thing() -> None:
    plans = [
        Plan(
            tp=4, sp=True, pp=2, vpp=2, dp=8, ep=4, zero=1, recompute="full", precision="mxfp8", schedule="interleaved"
        ),
        Plan(),
    ]
    assert list(Plans.of(plans)) == plans
    assert [Plan.from_dict(p.to_dict()) for p in plans] == plans


@pytest.mark.parametrize(
    ("model", "spec", "dp", "ep", "pp"), [("kimi-k2", "gb200:256", 64, 64, 4), ("deepseek-v3", "trn3:512", 512, 256, 4)]
)
def test_chips_lie_evenly_in_racks_where_groups_of_experts_fill_a_part_of_each(
    facts: Facts, model: str, spec: str, dp: int, ep: int, pp: int
) -> None:
    """256 GPUs in racks of 72 are four times 64, as recipes have them: a rack holds a group of 64 experts' ranks."""
    job = TrainJob(tokens=1e12, seq=4096, batch_seqs=2048)
    system = equip(facts, spec)
    fixed = parse_fixed({"tp": "1", "cp": "1", "pp": str(pp), "ep": str(ep), "micro_batch": "1", "precision": "bf16"})
    p = legal_plans(load_model(model), system, job, fixed).plans
    assert system.devices % system.domain_devices
    assert set(p.dp) == {dp}
    assert set(p.devices) == {system.devices}


@pytest.mark.parametrize("spec", ["gb300", "trn3", "h100", "ironwood"])
def test_twice_the_chips_hold_as_many_ranks_at_least(facts: Facts, spec: str) -> None:
    job, rng = TrainJob(tokens=1e12, seq=4096, batch_seqs=4096), np.random.default_rng(5)
    fixed = parse_fixed({"precision": "bf16", "micro_batch": "1", "zero": "1", "recompute": "none", "cp": "1"})
    for chips in rng.integers(16, 600, 4):
        few, many = (
            legal_plans(load_model("deepseek-v3"), equip(facts, spec, chips=int(n)), job, fixed).plans
            for n in (chips, 2 * chips)
        )
        names = ("tp", "sp", "pp", "vpp", "ep", "schedule")
        most = {tuple(getattr(many, k)[i] for k in names): many.dp[i] for i in range(len(many))}
        for i in range(len(few)):
            assert most[tuple(getattr(few, k)[i] for k in names)] >= few.dp[i]
