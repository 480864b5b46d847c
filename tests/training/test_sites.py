"""Several sites that train one model (DiLoCo): what the exchange takes, what it keeps, and what an answer says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mowich
from mowich import cli
from mowich.errors import UserError
from mowich.facts import Facts, load_facts
from mowich.models import load_model
from mowich.models.model import as_trained
from mowich.plans.memory import dense_params_per_device, memory_B
from mowich.plans.plan import Plan, Plans, TrainJob
from mowich.software.stack import equip
from mowich.training.search import search
from mowich.training.step import micro_batches_of, predict_step

JOB = TrainJob(tokens=1e12, seq=4096, batch_seqs=256)
ASKED = {"tokens": "1T", "seq": 4096, "batch": "256seqs"}
FIXED = {"tp": "1", "pp": "1", "precision": "bf16"}
PLANS = [Plan(dp=64, zero=1), Plan(tp=4, sp=True, dp=16, zero=3), Plan(pp=4, dp=16, zero=1), Plan(dp=64, zero=0)]


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 64), st.floats(1e8, 1e12), st.integers(1, 1000), st.sampled_from(PLANS))
def test_an_exchange_sends_the_model_once_in_so_many_steps(sites: int, Bps: float, every: int, plan: Plan) -> None:
    model, system = as_trained(load_model("llama-3.1-8b")), equip(load_facts(), "h100:64")
    one = predict_step(model, system, JOB, plan)
    job = replace(JOB, sites=sites, site_Bps=Bps, outer_every=every)
    found = predict_step(model, system, job, plan)
    took = (found.breakdown["dp"] - one.breakdown["dp"]) * every
    sent = 2.0 * (sites - 1) / sites * 4.0 * model.params / Bps
    assert sent <= took * (1 + 1e-9)
    assert took <= sent + 28.0 * model.params / system.hbm_Bps / (64 if plan.zero else 1) * 4.0
    assert found.tokens == one.tokens
    for part, seconds in found.breakdown.items():
        if part not in ("dp", "jitter", "software"):
            assert seconds == one.breakdown[part]
    later = predict_step(model, system, replace(job, outer_every=every + 1), plan)
    assert later.total_s < found.total_s


def test_the_outer_optimizer_keeps_eight_bytes_a_parameter(facts: Facts) -> None:
    model, system = as_trained(load_model("llama-3.1-8b")), equip(facts, "h100:64")
    p = Plans.of(PLANS)
    g = micro_batches_of(JOB, p)
    one, more = (
        memory_B(model, system, job, p, g) for job in (JOB, replace(JOB, sites=2, site_Bps=1e9, outer_every=10))
    )
    ranks = np.where(p.zero >= 1, p.dp, 1.0)
    assert more["optimizer"] - one["optimizer"] == pytest.approx(
        8.0 * dense_params_per_device(model, p) / ranks, rel=1e-9
    )
    assert all(np.array_equal(one[name], more[name]) for name in one if name != "optimizer")


def test_the_search_counts_the_exchange_and_stays_exact(facts: Facts) -> None:
    """No plan without sites is slower than with them, and the best with sites is the best of them all."""
    model, system = as_trained(load_model("llama-3.1-8b")), equip(facts, "trn3:64")
    job = replace(JOB, sites=4, site_Bps=1e9, outer_every=20)
    alone, found = (search(model, system, one, top=3) for one in (JOB, job))
    assert found.best[0].step_s > alone.best[0].step_s
    for candidate in (*alone.best, *found.best):
        again = predict_step(model, system, job, candidate.plan)
        assert again.total_s / again.tokens >= found.best[0].seconds_per_token * (1 - 1e-12)


def test_the_command_line_says_that_quality_is_not_predicted(capsys: pytest.CaptureFixture[str]) -> None:
    job = "--tokens 1T --seq 4096 --batch 256seqs --set plan.tp=1 --set plan.pp=1 --top 1"
    sites = "--sites 2 --site-link 12.5GB/s --outer-every 100"
    assert cli.run(["plan", "llama-3.1-8b", "--train", "--on", "h100:64", *job.split(), *sites.split()]) == 0
    said = capsys.readouterr()
    assert "quality is not predicted" in said.err
    assert "2 sites that exchange every 100 steps at 12.5 GB/s" in " ".join(said.out.split())


def test_an_answer_counts_what_the_sites_cost() -> None:
    sites = {"sites": 2, "site_link": "100 Gbit/s", "outer_every": 100}
    one = mowich.plan("llama-3.1-8b", "h100:64", train=ASKED, fixed=FIXED, top=1)
    two = mowich.plan("llama-3.1-8b", "h100:64", train={**ASKED, **sites}, fixed=FIXED, top=1)
    assert two.inputs["sites"] == 2
    assert two.inputs["site_Bps"] == 12.5e9
    slower = float(two[0].step_s) / float(one[0].step_s)
    assert float(two[0].days) == pytest.approx(float(one[0].days) * slower / 2.0, rel=1e-2)
    assert float(two[0].usd_per_mtok) == pytest.approx(float(one[0].usd_per_mtok) * slower, rel=2e-2)
    assert TrainJob.from_inputs(two.inputs) == replace(JOB, sites=2, site_Bps=12.5e9, outer_every=100)
    with pytest.raises(UserError, match="site_link"):
        mowich.plan("llama-3.1-8b", "h100:64", train={**ASKED, "sites": 2, "outer_every": 100})
    with pytest.raises(UserError, match="at least 2"):
        mowich.plan("llama-3.1-8b", "h100:64", train={**ASKED, **sites, "sites": 1})
