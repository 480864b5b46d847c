"""`compare` end to end on shipped facts: unknown prices, ranges that decide, idle chips, overlapping rows."""

from __future__ import annotations

import pytest

from mowich.errors import UserError
from mowich.facts import Facts
from mowich.machines.system import resolve
from mowich.models import load_model
from mowich.plans.plan import TrainJob, parse_fixed
from mowich.plans.preference import margin
from mowich.requests.footing import Footing
from mowich.requests.jobs import CompareRequest, PlanRequest
from mowich.requests.settings import read_value
from mowich.studies.compare import Comparison, Row, compare
from mowich.studies.fit import fit
from mowich.studies.footing import equal_chips
from mowich.studies.plan import plan

JOB = TrainJob(tokens=1e12, seq=4096, batch_seqs=512)


def on(
    facts: Facts,
    *systems: str,
    chips: int | None = 64,
    model: str = "llama-3.1-8b",
    train: TrainJob = JOB,
    fixed: dict[str, str] | None = None,
    **more: str,
) -> Comparison:
    footing = Footing(equal=more.pop("equal", "chips"))
    return compare(
        CompareRequest(
            facts=facts,
            model=load_model(model),
            systems=systems,
            train=train,
            chips=chips,
            fixed=parse_fixed(fixed or {}),
            footing=footing,
            **more,  # type: ignore[arg-type]
        )
    )


@pytest.fixture(scope="module")
def six(facts: Facts) -> dict[str, Row]:
    job = TrainJob(tokens=15e12, seq=4096, batch_seqs=16384)
    found = on(
        facts, "trn2", "trn3", "trn3-gen1", "trn4", "ironwood", "gb300", chips=16384, model="deepseek-v3", train=job
    )
    return {row.system: row for row in found.rows}


def test_six_systems_answer(six: dict[str, Row]) -> None:
    for row in six.values():
        assert row.feasible is True
        assert row.step_s.value is not None
        assert row.step_s.low is not None
        assert row.step_s.high is not None
        assert row.step_s.low < row.step_s.value < row.step_s.high
        assert sum(row.step_s.breakdown.values()) == pytest.approx(row.step_s.value, rel=1e-9)
        assert sum(row.memory_B.values()) <= row.memory_capacity_B
        assert row.chips_used + row.chips_idle == row.chips_requested == 16384
        assert abs(row.global_batch_seqs / 16384 - 1) <= 0.05


def test_a_chip_without_a_price_gets_its_break_even(six: dict[str, Row]) -> None:
    row = six["trn3"]
    assert {r.price_label.split(", ")[1] for r in six.values()} == {"tco"}  # one kind for all
    assert row.usd_per_mtok.value is not None
    assert row.breakeven_usd_per_chip_h.value is not None
    assert row.breakeven_W_per_chip.value is not None


def test_at_its_break_even_price_a_row_costs_what_the_best_does(facts: Facts, six: dict[str, Row]) -> None:
    best = min(r.usd_per_mtok.value for r in six.values() if r.usd_per_mtok.value is not None)
    price = six["trn3"].breakeven_usd_per_chip_h.value
    assert price is not None
    job = TrainJob(tokens=15e12, seq=4096, batch_seqs=16384)
    own = facts.with_values({"prices.user.trn3-gen2": price / 3600})
    row = on(own, "trn3", chips=16384, model="deepseek-v3", train=job).rows[0]
    assert row.usd_per_mtok.value == pytest.approx(best, rel=1e-9)
    assert "yours" in row.price_label


def test_an_announced_chip_is_all_range(six: dict[str, Row]) -> None:
    row = six["trn4"]
    assert row.estimated
    assert row.step_s.grade == "D"
    assert row.mfu.grade == "D"
    assert row.step_s.high / row.step_s.low > 1.5  # type: ignore[operator]


def test_where_the_range_of_memory_decides_nobody_knows(facts: Facts) -> None:
    """Four replicas of 8B on one Trainium 4 need 291 GiB; announced figures imply 216 to 384."""
    fixed = {"tp": "1", "pp": "1", "cp": "1", "dp": "4", "zero": "1", "micro_batch": "1", "recompute": "full"}
    job = TrainJob(tokens=1e12, seq=4096, batch_seqs=64)
    row = on(facts, "trn4", chips=1, train=job, fixed=fixed).rows[0]
    assert row.feasible is None
    assert row.reason is not None
    assert "216..384 GiB" in row.reason
    assert row.plan is not None
    need = sum(row.memory_B.values()) * row.devices_per_chip / 2**30
    assert 216 < need < 384
    assert row.to_dict()["feasible"] is None


def test_more_than_any_memory_is_not_feasible(facts: Facts) -> None:
    row = on(facts, "trn3", chips=1, model="deepseek-v3", train=TrainJob(tokens=1e12, seq=4096, batch_seqs=64)).rows[0]
    assert row.feasible is False
    assert row.reason is not None
    assert all(word in row.reason for word in ("does not fit", "weights", "optimizer", "usable"))
    assert row.step_s.value is None
    assert row.step_s.reason


def test_idle_chips_are_counted_and_paid_for(facts: Facts) -> None:
    full, part = (
        on(facts, "gb300", chips=n, fixed={"dp": "64", "tp": "1", "cp": "1", "pp": "1"}).rows[0] for n in (64, 80)
    )
    assert (part.chips_used, part.chips_idle) == (64, 16)
    assert part.step_s.value == pytest.approx(full.step_s.value)
    assert part.usd_per_mtok.value == pytest.approx(full.usd_per_mtok.value * 80 / 64)  # type: ignore[operator]
    assert full.J_per_token.value < part.J_per_token.value < full.J_per_token.value * 80 / 64  # type: ignore[operator]


def test_overlapping_rows_are_marked_and_not_ranked(facts: Facts) -> None:
    from mowich.show.render.terminal import Style, terminal
    from mowich.show.verbs import page_of

    found = on(facts, "h100", "h200", "a100")
    h100, h200, a100 = found.rows
    assert h100.step_s.overlaps(h200.step_s)
    assert not h200.step_s.overlaps(a100.step_s)
    text = terminal(page_of(found.to_dict()), Style(width=100))
    assert "not ranked" in text.split("\n\n")[0]
    assert next(line for line in text.splitlines() if line.startswith("  h100")).count("~") >= 1


def test_the_hand_tuned_line_says_what_no_table_covers(facts: Facts) -> None:
    """Trainium4 has no tables, and no table reaches all of a step: the reader is told the share, and where each term is
    named."""
    from mowich.show.render.terminal import Style, terminal
    from mowich.show.verbs import page_of

    found = on(facts, "trn3", "trn4", chips=256, model="deepseek-v3")
    some, none = (row.hand_tuned_step_s for row in found.rows)
    assert some is not None
    assert none is not None
    assert 0 < some.coverage["simulated kernels"] < 1
    assert none.coverage == {"analytic": 1.0}
    text = " ".join(terminal(page_of(found.to_dict()), Style(width=100)).split())
    assert "from simulated kernels" in text
    assert "none of trn4; the rest by formulas, named under mowich explain FILE SYSTEM.hand_tuned_step_s" in text


def test_equal_footing(facts: Facts) -> None:
    units = on(facts, "trn3", "gb300", chips=2, equal="units")
    assert [r.chips_requested for r in units.rows] == [288, 144]
    usd = on(facts, "h100", "gb300", "trn3", chips=256, equal="usd")
    h100, gb300, trn3 = usd.rows
    assert 0 < gb300.chips_requested < h100.chips_requested == 256 < trn3.chips_requested
    unknown = on(facts, "h100", "l40s", chips=64, equal="usd")
    assert unknown.rows[1].chips_requested == 64
    assert any("l40s" in w and "unknown" in w for w in unknown.warnings)


def test_the_first_of_an_equal_footing_keeps_its_count(facts: Facts) -> None:
    path, price = read_value(facts, "prices.h100", "$19.98/chip/h", where="")
    assert int(price * 1000 / price) == 999  # as floats have it
    counts, _ = equal_chips(facts.with_values({path: price}), ["h100"], 1000, "usd", "default")
    assert counts == {"h100": 1000}


def test_an_unknown_footing_is_refused(facts: Facts) -> None:
    with pytest.raises(UserError, match="unknown footing"):
        on(facts, "trn3", "gb300", equal="cost")
    with pytest.raises(UserError, match="needs chips"):
        on(facts, "trn3", "gb300", chips=None, equal="usd")


def test_what_the_host_cannot_hold_does_not_fit(facts: Facts) -> None:
    fixed = parse_fixed({"offload": "optimizer"})
    small = facts.with_values({resolve(facts, "a100:16").paths["host_B"]: 1e9})
    assert fit(load_model("llama-3.1-8b"), "a100:16", train=JOB, facts=facts, fixed=fixed).fits
    found = fit(load_model("llama-3.1-8b"), "a100:16", train=JOB, facts=small, fixed=fixed)
    assert found.fits is False
    assert "memory of the host" in (found.reason or "")


def test_plans_of_one_system_are_not_each_others_break_even(facts: Facts) -> None:
    found = plan(PlanRequest(facts=facts, model=load_model("llama-3.1-8b"), systems=("trn3:64",), train=JOB, top=3))
    assert [r.breakeven_usd_per_chip_h.value for r in found.rows] == [None] * 3
    times = [r.step_s.value / r.global_batch_seqs for r in found.rows]  # type: ignore[operator]
    assert times[1:] == sorted(times[1:])
    assert times[0] <= (1.0 + margin(facts)) * min(times)  # the simplest goes first
    assert found.evaluated > found.feasible > 3


def test_an_infeasible_plan_still_says_how_many_were_tried(facts: Facts) -> None:
    job = TrainJob(tokens=1e12, seq=4096, batch_seqs=64)
    found = plan(PlanRequest(facts=facts, model=load_model("deepseek-v3"), systems=("trn3:1",), train=job))
    assert found.feasible == 0 < found.evaluated


def test_a_user_price_is_seen_as_the_users(facts: Facts) -> None:
    own = facts.with_values({"prices.user.trn3-gen2": 1.4 / 3600})
    row = on(own, "trn3").rows[0]
    assert row.usd_per_mtok.value is not None
    assert row.price_label.startswith("$1.40/chip/h")


def test_the_same_question_gives_the_same_answer(facts: Facts) -> None:
    assert on(facts, "trn3", "gb300").to_dict() == on(facts, "trn3", "gb300").to_dict()
