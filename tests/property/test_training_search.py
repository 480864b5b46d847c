"""What must hold between searches of training plans, whatever the job: a restriction never wins, and more of anything
never loses.

Times are seconds per token, for the batch of a plan may lie within the tolerance of the one asked for.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

import pytest

from mowich.errors import EXIT_INFEASIBLE, UserError
from mowich.facts import Facts, load_facts
from mowich.machines.system import System
from mowich.models import load_model
from mowich.models.model import Model, Moe, as_trained
from mowich.plans.enumerate import MICRO_BATCHES, tp_degrees
from mowich.plans.plan import RECOMPUTE, TrainJob, parse_fixed
from mowich.plans.search import divisors
from mowich.software.stack import equip
from mowich.training.search import Candidate, search

MODELS = (
    "llama-3.1-8b",
    "llama-3.1-70b",
    "llama-3.1-405b",
    "mixtral-8x7b",
    "qwen3-30b-a3b",
    "deepseek-v3",
    "gpt-oss-120b",
    "qwen3-next-80b-a3b",
)
"""Dense, mixtures of experts, latent attention, recurrent layers."""
SYSTEMS = (
    "trn2",
    "trn3",
    "trn3-gen1",
    "trn4",
    "h100",
    "h200",
    "b200",
    "gb300",
    "ironwood",
    "tpu-v5p",
    "a100",
    "mi300x",
)
SAME = 1.0 + 1e-9
"""Rounding of floats."""


@cache
def facts() -> Facts:
    return load_facts()


@cache
def model_of(name: str) -> Model:
    return as_trained(load_model(name))


def seeds(first: int, *more: int) -> pytest.MarkDecorator:
    """One seed with every run, the others with `make test-slow`."""
    return pytest.mark.parametrize("seed", [first, *(pytest.param(n, marks=pytest.mark.slow) for n in more)])


@dataclass(frozen=True)
class Case:
    """One job. frame: choices that both searches of a comparison share, so that many jobs take little time."""

    model: Model
    system: System
    job: TrainJob
    frame: dict[str, str]

    @property
    def said(self) -> str:
        return (
            f"{self.model.name} {self.system.id}:{self.system.chips} batch {self.job.batch_seqs} seq"
            f" {self.job.seq} {self.frame}"
        )

    def best(self, *, system: System | None = None, job: TrainJob | None = None, **fixed: object) -> Candidate | None:
        """The best plan of this case with something else in it; None where nothing is legal or fits."""
        choices = parse_fixed({**self.frame, **{k: str(v) for k, v in fixed.items()}})
        try:
            found = search(self.model, system or self.system, job or self.job, fixed=choices)
        except UserError as error:
            if error.code != EXIT_INFEASIBLE:
                raise
            return None
        return found.best[0] if found.best else None


def cases(seed: int, count: int) -> Iterator[tuple[random.Random, Case, Candidate]]:
    """`count` random jobs that have a plan, each with its best one."""
    rng = random.Random(seed)
    while count:
        spec = rng.choice(SYSTEMS)
        if rng.random() < 0.5:
            chips, batch = 2 ** rng.randint(3, 14), rng.choice([16, 64, 128, 256, 512, 1000, 1024, 4096, 16384])
        else:  # many chips for each sequence
            chips, batch = rng.randint(512, 16384), rng.choice([16, 32, 64, 100, 128])
        system = equip(facts(), spec, chips=chips)
        job = TrainJob(tokens=1e12, seq=2 ** rng.randint(11, 15), batch_seqs=batch)
        recipe = rng.choice([r for r in system.recipes if r in system.peak_flops])
        case = Case(model_of(rng.choice(MODELS)), system, job, {"precision": recipe})
        best = case.best()
        if best is not None:
            count -= 1
            yield rng, case, best


def fixable(rng: random.Random, case: Case) -> dict[str, object]:
    """A value of each field that the search tries; dp and the recipe have tests of their own."""
    model, system = case.model, case.system
    moe = next((layer.ffn for layer in model.layers if isinstance(layer.ffn, Moe)), None)
    layers = model.num_layers
    return {
        "tp": rng.choice(tp_degrees(model, system)),
        "pp": rng.choice([d for d in range(1, min(64, layers) + 1) if d & (d - 1) == 0 or layers % d == 0]),
        "cp": rng.choice([1, 2, 4]),
        "ep": rng.choice(divisors(moe.num_experts, 1024) if moe else [1]),
        "zero": rng.choice([1, 3]),
        "shards": 0,
        "micro_batch": rng.choice(MICRO_BATCHES),
        "recompute": rng.choice(RECOMPUTE[:3]),
        "schedule": rng.choice(system.schedules),
    }


@seeds(0, 1, 2, 3)
def test_a_restriction_never_wins(seed: int) -> None:
    for rng, case, best in cases(seed, 10):
        degrees = {*(max(1, best.plan.dp // n) for n in (2, 4, 8)), rng.randint(1, 2 * best.plan.dp), 7}
        tried = fixable(rng, case)
        name = rng.choice(tuple(tried))
        for field, value in [*(("dp", dp) for dp in sorted(degrees)), (name, tried[name])]:
            restricted = case.best(**{field: value})
            assert restricted is None or restricted.seconds_per_token * SAME >= best.seconds_per_token, (
                case.said,
                field,
                value,
                best.plan,
                restricted.plan,
            )


def test_a_fixed_recipe_never_wins() -> None:
    for _, case, best in cases(5, 15):
        free = replace(case, frame={}).best()
        assert free is not None
        assert free.seconds_per_token <= best.seconds_per_token * SAME, (case.said, free.plan, best.plan)


def test_the_best_plan_fixed_gives_itself() -> None:
    for _, case, best in cases(10, 20):
        again = case.best(dp=best.plan.dp)
        assert again is not None
        assert again.seconds_per_token == pytest.approx(best.seconds_per_token, rel=1e-9, abs=0.0), case.said


@seeds(20, 21, 22, 23)
def test_twice_the_chips_are_never_slower(seed: int) -> None:
    for _, case, best in cases(seed, 10):
        twice = case.best(system=replace(case.system, chips=2 * case.system.chips))
        assert twice is not None, case.said
        assert twice.seconds_per_token <= best.seconds_per_token * SAME, (case.said, best.plan, twice.plan)


@seeds(30, 31, 32, 33)
def test_more_of_a_resource_never_loses(seed: int) -> None:
    for rng, case, best in cases(seed, 10):
        paths = case.system.paths
        levels = [path for name, path in paths.items() if name.endswith(".bandwidth")]
        path = rng.choice(
            [
                paths["hbm_Bps"],
                f"chips.{case.system.chip}.memory.hbm_capacity",
                paths[f"peak_flops.{best.plan.precision}"],
                *levels,
            ]
        )
        better = facts().with_values({path: facts().number(path) * rng.choice([1.1, 2.0, 5.0])})
        more = case.best(system=equip(better, case.system.id, chips=case.system.chips))
        assert more is not None, (case.said, path)
        assert more.seconds_per_token <= best.seconds_per_token * SAME, (case.said, path, best.plan, more.plan)


def test_faster_products_do_not_lose_where_the_step_waits_for_its_host() -> None:
    """What the products no longer hide runs during the wait."""
    system = equip(facts(), "gb300", chips=4096)
    case = Case(model_of("llama-3.1-8b"), system, TrainJob(tokens=1e12, seq=4096, batch_seqs=16), {"precision": "fp8"})
    best = case.best()
    path = system.paths["peak_flops.fp8"]
    twice = case.best(system=equip(facts().with_values({path: 2.0 * facts().number(path)}), "gb300", chips=4096))
    assert best is not None
    assert twice is not None
    assert best.parts["host"] > 0
    assert twice.seconds_per_token <= best.seconds_per_token * SAME, (best.plan, twice.plan)


@seeds(40, 41, 42, 43)
def test_a_step_of_twice_the_batch_never_takes_less_time(seed: int) -> None:
    """Half of a plan's micro-batches, where they are even and the pipeline can do with so few, is half of its batch in
    no more time. Of another plan nothing follows: a pipeline as deep as its micro-batches are many has no half."""
    halved = 0
    for _, case, best in cases(seed, 10):
        job = replace(case.job, batch_seqs=2 * case.job.batch_seqs)
        twice = case.best(job=job)
        if twice is None:
            continue
        plan = twice.plan
        micro_batches = round(twice.tokens / job.seq) // (plan.micro_batch * plan.dp)
        deep = 1 if plan.pp == 1 else 2 * plan.pp
        if micro_batches % (2 * (plan.pp if plan.vpp > 1 else 1)) or micro_batches // 2 < deep:
            continue
        halved += 1
        assert best.seconds_per_token <= 2.0 * twice.seconds_per_token * SAME, (case.said, best.plan, twice.plan)
    assert halved


@seeds(50, 51, 52, 53)
def test_twice_the_length_at_equal_tokens_is_never_faster(seed: int) -> None:
    """A plan of the long sequences cuts each over half of the context ranks and twice the data ranks, or takes two of
    the short ones at a time: the same tokens on each device, and less attention."""
    for _, case, best in cases(seed, 10):
        longer = case.best(job=replace(case.job, seq=2 * case.job.seq, batch_seqs=case.job.batch_seqs / 2))
        assert longer is None or longer.seconds_per_token * SAME >= best.seconds_per_token, (
            case.said,
            best.plan,
            longer.plan,
        )
