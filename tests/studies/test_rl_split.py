"""The search for a split: who is best is a decision over estimates, and no candidate that is left out is better."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mowich.estimate import Estimate
from mowich.facts import Facts
from mowich.models import load_model
from mowich.price_terms import Quote
from mowich.rl.job import RlJob
from mowich.rl.lengths import Lengths
from mowich.rl.schedule import closed_cycle
from mowich.rl.split import Legal
from mowich.studies import rl_split, split_table
from mowich.studies.rl import without_answer
from mowich.studies.rl_row import RlAsk, RlRow, RolloutAsk, TrainerAsk
from mowich.studies.rl_split import (
    Contender,
    SplitAsk,
    find_split,
    not_told_apart,
    split_ranking,
    verdict_text,
)

TERMS = (Quote("tco", False), Quote("tco", True), Quote("1y", False), None)
METRICS = ("usd_per_mtok", "step_s")


@st.composite
def contenders(draw: st.DrawFn, least: int = 1) -> list[Contender]:
    """Rows with values, ranges, chips and prices of any kind, mostly on equal terms."""
    rows = []
    quotes = {name: draw(st.sampled_from(TERMS[:1] * 6 + TERMS)) for name in "abc"}
    for i in range(draw(st.integers(least, 6))):
        value = draw(st.floats(0.1, 10.0))
        width = draw(st.floats(1.0, 1.8))
        systems = draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=2))
        rows.append(
            Contender(
                label=f"row {i}",
                estimate=Estimate(value=value, unit="s", low=value / width, high=value * width),
                chips=draw(st.sampled_from([64, 65, 128])),
                quotes={name: quotes[name] for name in systems},
            )
        )
    return rows


@settings(max_examples=100, deadline=None)
@given(rows=contenders(2), metric=st.sampled_from(METRICS), gone=st.integers(0, 5), less=st.floats(0.3, 1.0))
def test_the_decision_is_of_pairs_and_monotone(rows: list[Contender], metric: str, gone: int, less: float) -> None:
    """A row that is not best may go or come without a word about the others changing; a best row that becomes better
    stays best, and no more rows are near it."""
    found = split_ranking(rows, metric)
    assert found.best is not None
    best, labels = rows[found.best], {rows[i].label for i in found.close}
    assert best.estimate.value == min(float(row.estimate) for row in rows)
    dropped = rows[gone % len(rows)]
    if dropped is not best:
        rest = [row for row in rows if row is not dropped]
        again = split_ranking(rest, metric)
        assert rest[again.best or 0] is best
        assert {rest[i].label for i in again.close} == labels - {dropped.label}
    better = [replace(row, estimate=row.estimate.scaled(less, "s")) if row is best else row for row in rows]
    improved = split_ranking(better, metric)
    assert improved.best == found.best
    assert set(improved.close) <= set(found.close)
    said = verdict_text(rows, found)
    assert said.startswith("No winner") == bool(found.close)
    assert all(rows[i].label in said for i in (found.best, *found.close))


@settings(max_examples=50, deadline=None)
@given(rows=contenders(2), metric=st.sampled_from(METRICS))
def test_two_rows_are_told_apart_alike_from_either_side(rows: list[Contender], metric: str) -> None:
    a, b = rows[:2]
    assert bool(not_told_apart(a, b, metric)) == bool(not_told_apart(b, a, metric))
    if a.estimate.overlaps(b.estimate):
        assert not_told_apart(a, b, metric)


def test_nothing_known_is_not_ranked() -> None:
    unknown = Contender(
        label="a", estimate=Estimate(value=None, unit="s", grade="D", reason="no plan"), chips=8, quotes={}
    )
    assert verdict_text([unknown], split_ranking([unknown], "step_s")) == "Not ranked: no row has a known value."


# ---- the search
# ----------------------------------------------------------------------------------------------------------------------


def question(facts: Facts, chips: int, systems: tuple[str, ...], *, staleness: int = 2, goal: str = "cost") -> SplitAsk:
    """A small model on few chips, with few plans."""
    lengths = Lengths.lognormal(mean=1000.0, cap=4096.0, sigma=0.7)
    job = RlJob(
        algorithm="grpo",
        prompts=64,
        samples=8,
        global_batch=512,
        lengths=lengths,
        prompt=200.0,
        most=4608.0,
        placement="split",
        staleness=staleness,
    )
    base = RlAsk(
        model=load_model("llama-3.1-8b"),
        job=job,
        rollouts=RolloutAsk(on="", system_id="", chips=0, engine="", fixed={"kv": ("bf16",), "cp": ("1",)}),
        trainer=TrainerAsk(on="", system_id="", chips=0, fixed={"cp": (1,), "precision": ("bf16",), "tp": (1, 2)}),
        facts=facts,
    )
    return SplitAsk(base=base, chips=chips, systems=systems, goal=goal)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[RlAsk]:
    """The runs that a search asks for, which are not answered."""
    runs: list[RlAsk] = []

    def note(ask: RlAsk) -> RlRow:
        runs.append(ask)
        return without_answer(ask, "not answered here")

    monkeypatch.setattr(rl_split, "assess", note)
    monkeypatch.setattr(rl_split, "play", lambda job, sides, seed: closed_cycle(job, sides))
    return runs


def test_no_candidate_that_is_left_out_is_better(
    facts: Facts, asked: list[RlAsk], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against every size of both sides and every pair: the same runs, the same front."""
    ask = question(facts, 20, ("gb300", "h100"))
    ask = replace(ask, base=replace(ask.base, link_Bps=1e9))
    quick = find_split(ask)
    found = list(asked)
    asked.clear()
    monkeypatch.setattr(split_table, "is_beaten", lambda least_s, *_: np.zeros(len(least_s), dtype=bool))
    monkeypatch.setattr(Legal, "first", lambda legal: [n for n in range(1, 21) if legal.at_most(n) == n])
    every = find_split(ask)
    assert every.evaluated > quick.evaluated
    assert [(p.label, p.step_s, p.usd_per_mtok) for p in quick.front] == [
        (p.label, p.step_s, p.usd_per_mtok) for p in every.front
    ]
    assert len(found) == 6
    for mine, best in zip(found, asked, strict=True):
        assert (mine.rollouts.chips, mine.trainer.chips) == (best.rollouts.chips, best.trainer.chips)
        assert (mine.rollouts.plan, mine.trainer.plan) == (best.rollouts.plan, best.trainer.plan)
    for run in found:
        assert (run.link_Bps is None) == (run.rollouts.on == run.trainer.on), "a link is between two systems"
        used = run.trainer.chips + (run.rollouts.chips if run.job.placement == "split" else 0)
        assert used == 20 or "h100" in (run.rollouts.on, run.trainer.on)


@pytest.mark.slow
@pytest.mark.usefixtures("asked")
def test_more_chips_and_lower_prices_never_cost_more_at_a_step_time(facts: Facts) -> None:
    """Where every size is tried, whatever a front holds, one of more chips holds as good or better."""
    cheaper = facts.with_values({"prices.user.h200": 1.0 / 3600.0})
    fronts = [
        find_split(question(known, chips, ("h100", "h200"))).front
        for known, chips in ((facts, 16), (facts, 32), (facts, 48), (cheaper, 48))
    ]
    for few, many in pairwise(fronts):
        for point in few:
            assert any(
                other.step_s <= point.step_s * (1 + 1e-9) and other.usd_per_mtok <= point.usd_per_mtok * (1 + 1e-9)
                for other in many
            )
