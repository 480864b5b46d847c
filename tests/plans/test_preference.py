"""Which of plans that the model cannot tell apart is taken, against plain loops, and what says how near that is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mowich.arrays import Floats
from mowich.cli import run
from mowich.facts import Facts
from mowich.models import load_model
from mowich.plans.plan import Plan, Plans, ServePlan, TrainJob, parse_fixed
from mowich.plans.preference import (
    PLAN_MARGIN,
    complexity,
    is_odd,
    margin,
    preferred_workers,
    simplest,
    simplest_first,
    why_simpler,
    worker_complexity,
)
from mowich.requests.jobs import PlanRequest
from mowich.serving.search import ServeJob
from mowich.software.stack import equip
from mowich.studies.serving_plan import plan_serving
from mowich.training.search import search, survey

FIXED = parse_fixed({"cp": "1", "micro_batch": "1,2,3"})


@pytest.mark.parametrize(
    ("simpler", "odder", "why"),
    [
        ({"tp": 8, "pp": 2}, {"offload": "optimizer"}, "nothing lives with the host"),
        ({"tp": 8, "pp": 8}, {"tp": 16}, "tensor ranks stay in a scale-up domain"),
        ({"tp": 8, "pp": 4, "cp": 2, "ep": 8}, {"pp": 5}, "fewer degrees that are no powers of two"),
        ({"tp": 8, "recompute": "full"}, {"tp": 4, "pp": 2}, "fewer kinds of parallelism"),
        ({"pp": 2}, {"pp": 2, "recompute": "selective"}, "less is computed again"),
        ({"recompute": "experts"}, {"recompute": "full"}, "less is computed again"),
        ({"pp": 4, "vpp": 2, "schedule": "interleaved"}, {"pp": 4, "schedule": "zb-h1"}, "a plainer pipeline schedule"),
        (
            {"pp": 4, "vpp": 2, "schedule": "interleaved"},
            {"pp": 4, "vpp": 4, "schedule": "interleaved"},
            "fewer chunks",
        ),
    ],
)
def test_rules_by_weight(simpler: dict[str, int | str], odder: dict[str, int | str], why: str) -> None:
    """The simpler plan is chosen though it is the slower, for the reason that is told; the other way round nothing is
    told."""
    first, second = Plan(**simpler), Plan(**odder)  # type: ignore[arg-type]
    plans = Plans.of([second, first])
    assert simplest(plans, 8, np.array([1.0, 1.01]), np.zeros(2)) == 1
    assert why_simpler(first, second, 8).startswith(why)
    assert why_simpler(second, first, 8) == ""
    assert why_simpler(first, first, 8) == ""


def test_of_equally_simple_plans_the_fastest() -> None:
    plans = Plans.of([Plan(tp=2, dp=4), Plan(tp=4, dp=2), Plan(tp=8), Plan(tp=4, dp=2)])
    assert simplest(plans, 8, np.array([1.0, 0.9, 1.1, 0.9]), np.array([1.0, 5.0, 1.0, 4.0])) == 3
    assert simplest(plans, 8, np.array([1.0, 0.9 - 1e-16, 1.1, 0.9]), np.array([1.0, 5.0, 1.0, 4.0])) == 3  # a last bit
    assert np.array_equal(is_odd(np.array([1.0, 2.0, 3.0, 6.0, 128.0])), [False, False, True, True, False])
    assert all(len(column) == 4 for column in complexity(plans, 8))


@pytest.mark.parametrize(
    ("model", "on", "chips", "batch"),
    [("llama-3.1-8b", "h100", 16, 64.0), ("llama-3.1-70b", "trn2", 24, 96.0), ("mixtral-8x7b", "h200", 32, 96.0)],
)
def test_the_preferred_plan_is_the_simplest_of_all_within_the_margin(
    facts: Facts, model: str, on: str, chips: int, batch: float
) -> None:
    """Beside every plan of the space; and the fastest stay what they are without a margin, so that a restriction never
    wins: what is shown first is at most the margin behind it."""
    shape, system = load_model(model), equip(facts, on, chips=chips)
    job = TrainJob(tokens=1e12, seq=4096, batch_seqs=batch)
    for near in (margin(facts), 0.04):
        found = survey(shape, system, job, fixed=FIXED, within=near)
        assert found.best is not None
        least = found.seconds_per_token[found.best]
        close = np.flatnonzero(found.fits & (found.seconds_per_token <= least * (1.0 + near)))
        some = found.plans.take(close)
        expected = some.plan(
            min(
                range(len(close)),
                key=lambda i: (
                    *(float(column[i]) for column in complexity(some, system.domain_devices)),
                    found.seconds_per_token[close[i]],
                    found.need_B[close[i]],
                ),
            )
        )
        for top in (1, 3):
            got = search(shape, system, job, fixed=FIXED, top=top, margin=near)
            assert got.preferred is not None
            assert got.preferred.plan == expected
            assert got.preferred.seconds_per_token <= got.best[0].seconds_per_token * (1.0 + near)
            plain = search(shape, system, job, fixed=FIXED, top=top)
            assert got.best == plain.best
            assert plain.preferred == plain.best[0]


def test_plan_puts_the_preferred_plan_first_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = "plan llama-3.1-8b --train --tokens 1T --seq 16384 --batch 128seqs --on trn3:128 --top 3"
    out = tmp_path / "plan.json"
    run([*asked.split(), "--out", str(out)])
    shown = " ".join(capsys.readouterr().out.split())
    result = json.loads(out.read_text())
    told, rows = result["preferred"], result["plans"]
    per_token = [row["step_s"]["value"] / row["global_batch_seqs"] for row in rows]
    assert len(rows) == 3
    assert per_token[0] / min(per_token) - 1.0 == pytest.approx(told["slower"])
    assert 0.0 < told["slower"] <= told["within"] == 0.01
    assert str(Plan.from_dict(rows[1]["plan"])) == told["fastest"]
    assert f"simplest plan within 1% of the fastest, {told['fastest']}" in shown
    for name in ("preferred.slower", "preferred.within"):
        run(["explain", str(out), name])
        assert "plan" in capsys.readouterr().out
    run(["compare", *asked.split()[1:-2], "--json"])  # systems are compared by their fastest plans
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert str(Plan.from_dict(row["plan"])) == told["fastest"]


@dataclass(frozen=True)
class Points:
    """Candidates of a serving search, made up."""

    decode: NDArray[np.intp]
    prefill: NDArray[np.int_]
    ttft: Floats
    tpot: Floats
    speed: Floats


def test_serving_prefers_fewer_kinds_of_workers_and_stages() -> None:
    """Of plans within the margin in rate, TTFT and TPOT; one that is slower in any of them is not taken, however simple
    it is."""
    both = ServePlan(tp=8)
    assert worker_complexity(both, None) < worker_complexity(both, both)
    assert worker_complexity(both, None) < worker_complexity(ServePlan(tp=6), None)
    plans = [ServePlan(tp=4, pp=2), ServePlan(dp=8, ep=8), ServePlan(tp=8), ServePlan()]
    points = Points(
        decode=np.array([0, 1, 2, 3, 1]),
        prefill=np.array([0, -1, -1, -1, -1]),
        ttft=np.array([1.0, 1.005, 1.2, 1.0, 1.0]),
        tpot=np.array([0.02, 0.02, 0.02, 0.02, 0.02]),
        speed=np.array([100.0, 99.5, 99.4, 98.0, 99.2]),
    )
    order = np.array([0, 1, 2, 4, 3])
    assert simplest_first(points, order, plans, 0.01).tolist() == [1, 0, 2, 4, 3]
    assert simplest_first(points, order, plans, 0.03).tolist() == [3, 0, 1, 2, 4]
    assert simplest_first(points, order, plans, 0.001).tolist() == [0, 1, 2, 4, 3]
    told = preferred_workers(points, 1, 0, plans, 0.01)
    assert told is not None
    assert told.slower == pytest.approx(100.0 / 99.5 - 1.0)
    assert told.fastest == f"prefill {plans[0]}, decode {plans[0]}"
    assert preferred_workers(points, 0, 0, plans, 0.01) is None


def test_a_served_plan_put_first_is_within_the_margin(facts: Facts) -> None:
    model, job = load_model("qwen3-30b-a3b"), ServeJob(prompt=2000, output=500, tpot_s=0.02)
    plain = plan_serving(PlanRequest(facts=facts, model=model, systems=("h200:16",), serve=job))
    got = plan_serving(
        PlanRequest(facts=facts.with_values({PLAN_MARGIN: 0.05}), model=model, systems=("h200:16",), serve=job),
        prefer=True,
    )
    assert plain.preferred is None
    first, best = (rows[0].tokens_per_s_per_chip.value or 0.0 for rows in (got.rows, plain.rows))
    assert best / 1.05 <= first <= best
    assert (got.preferred is None) == (got.rows[0].decode == plain.rows[0].decode and first == best)
