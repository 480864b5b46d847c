"""The batch that is asked is the batch of every row, on whole servers; a better one and the critical one are told."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mowich.facts import Facts, load_facts
from mowich.machines.system import resolve
from mowich.models.builtin import load_model
from mowich.plans.plan import TrainJob
from mowich.requests.footing import Footing
from mowich.requests.jobs import CompareRequest, PlanRequest
from mowich.studies.batches import beyond_critical, critical_tokens
from mowich.studies.compare import Comparison, compare
from mowich.studies.plan import plan as plan_of
from mowich.units import StepBatch

MODEL = load_model("llama-3.1-8b")
JOB = TrainJob(tokens=1e12, seq=4096, batch_seqs=512)


def compared(names: Sequence[str], **more: Any) -> Comparison:
    return compare(CompareRequest(facts=load_facts(), model=MODEL, systems=tuple(names), **more))


@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.sampled_from(["trn2", "trn3", "h100", "gb300", "ironwood", "tpu-v5p"]), min_size=2, max_size=2),
    st.integers(8, 300),
    st.integers(48, 2048),
)
def test_every_row_trains_the_batch_on_whole_servers(names: list[str], chips: int, batch: int) -> None:
    facts, names = load_facts(), sorted(set(names))
    found = compared(names, train=replace(JOB, batch_seqs=float(batch)), chips=chips)
    for row in found.rows:
        if row.plan is None:
            continue
        server = resolve(facts, row.system, chips=chips).chips_per_server
        assert row.global_batch_seqs == batch
        assert row.chips_used % server == 0 or row.chips_used < server


def test_a_better_batch_is_told_and_holds(facts: Facts) -> None:
    """144 chips do not divide 1,024 sequences: a batch near it is named, and is as fast as it is said to be."""
    found = compared(["h100"], train=replace(JOB, batch_seqs=1024), chips=144)
    [said] = [note for note in found.warnings if "divides better" in note]
    gain, seqs = re.findall(r"trains faster: (\d+%) on h100 \(16 of 144 chips idle\). Ask for (\d+)seqs", said)[0]
    other = compared(["h100"], train=replace(JOB, batch_seqs=int(seqs)), chips=144)
    before, after = (float(c.rows[0].tokens_per_s_per_chip) * c.rows[0].chips_used for c in (found, other))
    assert f"{after / before - 1.0:.0%}" == gain
    assert not [note for note in other.warnings if "divides better" in note]


def test_chips_that_are_counted_take_a_batch_near_the_one_asked(facts: Facts) -> None:
    """Equal power gives numbers of chips that divide no batch: the answer says that rows may differ by 5%."""
    found = compared(["trn3", "gb300"], train=JOB, chips=64, footing=Footing(equal="power"))
    assert found.inputs["batch_within"] == 0.05
    assert all(abs(row.global_batch_seqs / JOB.batch_seqs - 1.0) <= 0.05 for row in found.rows)


def test_a_batch_that_may_differ_is_nowhere_slower(facts: Facts) -> None:
    exact, near = (
        compared(["h100", "trn3"], train=replace(JOB, batch_seqs=batch, batch_tolerance=within), chips=72)
        for batch, within in ((x.of(4096), x.within) for x in map(StepBatch.read, ("1000seqs", "1000seqs~5%")))
    )
    for a, b in zip(exact.rows, near.rows, strict=True):
        assert a.global_batch_seqs == 1000
        assert abs(b.global_batch_seqs - 1000) <= 50
        assert float(b.days) <= float(a.days) * (1.0 + 1e-12)


@given(st.floats(1e9, 1e14), st.floats(1.0, 1e3))
def test_the_critical_batch_grows_with_the_tokens(tokens: float, times: float) -> None:
    one, more = (critical_tokens(tokens=t, run=14.8e12, batch=62.9e6, x=0.47) for t in (tokens, tokens * times))
    assert one <= more <= one * times * (1.0 + 1e-12)


def test_a_batch_beyond_the_critical_one_is_told(facts: Facts) -> None:
    job = TrainJob(tokens=15e12, seq=4096, batch_seqs=16384)
    assert beyond_critical(facts, job) is None
    assert "beyond the critical batch" in str(beyond_critical(facts, replace(job, batch_seqs=4e6)))
    assert beyond_critical(facts, replace(job, batch_seqs=4e6, task="sft")) is None


def test_a_degree_that_fills_no_whole_servers_says_what_the_next_ones_give(facts: Facts) -> None:
    """134 chips are 33 and a half servers of Trainium 3; the note holds what a plan of the next degree gives."""
    job = replace(JOB, batch_seqs=134)
    fixed: dict[str, tuple[int | str, ...]] = {"dp": (134,), "tp": (4,), "pp": (1,), "cp": (1,), "micro_batch": (1,)}
    found = compared(["trn3"], train=job, chips=144, fixed=fixed)
    [said] = [note for note in found.warnings if "servers" in note]
    assert said.startswith("trn3: dp134 fills 33.5 servers of 4 chips: dp136 fills 34 and trains +")
    assert "dp132 fills 33 and trains -" in said
    gain = float(re.findall(r"dp136 fills 34 and trains \+([\d.]+)%", said)[0]) / 100.0
    plan = found.rows[0].plan
    assert plan is not None
    more = replace(job, batch_seqs=136)
    fixed |= {"dp": (136,), "zero": (plan.zero,), "sp": (plan.sp,), "recompute": (plan.recompute,)}
    whole = compared(["trn3"], train=more, chips=144, fixed=fixed)
    assert not [note for note in whole.warnings if "servers" in note]
    a, b = (float(c.rows[0].tokens_per_s_per_chip) * c.rows[0].chips_used for c in (found, whole))
    assert b / a - 1.0 == pytest.approx(gain, abs=1e-3)


def test_the_critical_batch_names_its_source_in_plans_too(facts: Facts) -> None:
    job = replace(JOB, batch_seqs=65536)
    fixed = {"precision": ("bf16",)}
    rows = plan_of(PlanRequest(facts=facts, model=MODEL, systems=("h100",), train=job, chips=4096, fixed=fixed))
    [said] = [note for note in rows.warnings if "critical" in note]
    assert "deepseek-v3-report" in said
    assert "training.common.critical_batch" in said
