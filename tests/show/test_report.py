"""Text, JSON and CSV reports: they fit their width, hide nothing, and name what is unknown."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from typing import Any

import pytest

from mowich.estimate import Estimate, Term, exact, unknown_estimate
from mowich.facts import Fact, load_facts
from mowich.models import load_model
from mowich.plans.plan import Plan
from mowich.show import formats
from mowich.show.explain import moves_said, tree_words
from mowich.show.headline import Headline, headline
from mowich.show.json import to_json
from mowich.show.page import Run
from mowich.show.render import terminal as t
from mowich.show.render.csv import flatten, to_csv
from mowich.show.verbs import page_of
from mowich.shown import plain_row
from mowich.studies.breakeven import with_breakeven
from mowich.studies.compare import Comparison, PlanList, Row
from mowich.studies.explain import Move

WIDE = Plan(
    tp=8,
    sp=True,
    pp=16,
    vpp=4,
    dp=128,
    ep=64,
    etp=2,
    zero=1,
    micro_batch=1,
    recompute="selective",
    precision="mxfp8",
    schedule="interleaved",
)


def ranged(value: float, unit: str, by: float = 1.2, grade: str = "C", **more: Any) -> Estimate:
    return Estimate(value=value, unit=unit, low=value / by, high=value * by, grade=grade, **more)


def row(name: str, *, step: float = 4.0, cost: float | None = 0.3, by: float = 1.05, **more: Any) -> Row:
    parts = {"gemm": 0.5 * step, "ep": 0.3 * step, "pp_bubble": 0.2 * step}
    given: dict[str, Any] = {
        "system": name,
        "system_id": name,
        "display": f"The {name}",
        "chips_requested": 16384,
        "chips_used": 16272,
        "chips_idle": 112,
        "devices_per_chip": 4,
        "global_batch_seqs": 16272,
        "feasible": True,
        "plan": WIDE,
        "step_s": ranged(step, "s", by, breakdown=parts, coverage={"analytic": 1.0}),
        "tokens_per_s_per_chip": exact(1000, "1/s"),
        "mfu": ranged(0.38, "1"),
        "memory_B": {"weights": 50 * 2**30, "activations": 60.5 * 2**30},
        "memory_capacity_B": 144 * 2**30,
        "usd_per_mtok": unknown_estimate("USD/Mtok", "no price in the facts")
        if cost is None
        else ranged(cost, "USD/Mtok", by),
        "J_per_token": ranged(0.51, "J/token"),
        "breakeven_usd_per_chip_h": ranged(1.95, "USD/chip/h"),
        "breakeven_W_per_chip": ranged(1100.0, "W"),
        "goodput": ranged(0.93, "1", 1.02),
        "days": ranged(2 * step, "d", by),
        "binds": "expert all-to-all",
        "price_label": "no price in the facts"
        if cost is None
        else "$2.24/chip/h, capacity-block, 2026-05-21, us-east-2",
    }
    return Row(**{**given, **more})


def infeasible(name: str) -> Row:
    nothing = {
        k: unknown_estimate(u, "no plan fits")
        for k, u in (
            ("step_s", "s"),
            ("tokens_per_s_per_chip", "1/s"),
            ("mfu", "1"),
            ("usd_per_mtok", "USD/Mtok"),
            ("J_per_token", "J/token"),
            ("breakeven_usd_per_chip_h", "USD/chip/h"),
            ("breakeven_W_per_chip", "W"),
            ("goodput", "1"),
            ("days", "d"),
        )
    }
    return row(
        name,
        feasible=False,
        plan=None,
        binds="hbm capacity",
        reason="does not fit: 31.2 GiB short per device at best (weights 61.0)",
        **nothing,
    )


INPUTS = {
    "model": "deepseek-v3",
    "tokens": 1.5e13,
    "seq": 4096,
    "batch_seqs": 16384.0,
    "chips": 16384,
    "equal": "chips",
    "systems": [{"system": "trn3", "id": "trn3-gen2", "chips": 16384, "stack": "neuron"}],
}


def comparison(*rows: Row) -> Comparison:
    return Comparison(
        inputs=INPUTS, facts_hash="0123456789ab", rows=rows, warnings=("trn2: the range of a link moves the step",)
    )


ROWS = (
    row("trn2", cost=0.24),
    row("trn3-gen2", cost=None, step=3.0),
    row("ironwood", cost=0.25),
    row("gb300", cost=0.6, step=2.0),
    row("trn4", cost=None, feasible=None, estimated=True, by=3.0, reason="fits only if a chip has at least 230 GiB"),
    infeasible("trn2-server"),
)


def head(*rows: Row) -> Headline:
    return headline(comparison(*rows).to_dict())


def text(*rows: Row, style: t.Style | None = None) -> str:
    return t.terminal(page_of(comparison(*rows).to_dict(), Run(model=load_model("deepseek-v3"))), style or t.Style())


@pytest.mark.parametrize("style", [t.Style(), t.Style(unicode=False), t.Style(width=80)])
def test_no_line_is_wider_than_its_width(style: t.Style) -> None:
    report = text(*ROWS, style=style)
    assert max(map(len, report.splitlines())) <= style.width
    assert "\x1b" not in report
    if not style.unicode:
        report.encode("ascii")


def test_answer_first_and_overlaps_are_not_ranked() -> None:
    first = str(head(*ROWS))
    assert first.startswith("Cheapest: trn2 or ironwood, about $0.240 per million tokens. ")
    assert "Cheapest: trn2, $0.240 (0.23-0.25) per million tokens (capacity block)" in first
    assert "ironwood overlaps with it and is not ranked" in first
    assert "Fastest: gb300" in first
    assert "No price known: trn3-gen2 and trn4 (est.)" in first
    assert "Cannot run it: trn2-server" in first


def test_marks_stand_behind_the_best_and_what_overlaps() -> None:
    body = text(*ROWS).split("Plans and where")[0].splitlines()
    lines = {line.split()[0]: line for line in body if line.startswith("  ")}
    assert "(0.23-0.25) ←" in lines["trn2"]
    assert "~" in lines["ironwood"]
    assert "~" not in lines["gb300"]


def test_unknown_is_a_question_mark_never_zero_or_blank() -> None:
    report = text(*ROWS)
    main = next(line for line in report.splitlines() if line.lstrip().startswith("trn3-gen2"))
    assert " ? " in main
    assert " 0 " not in main
    assert "(est.)" in report


def test_infeasible_rows_stay_with_their_reason() -> None:
    report = text(*ROWS)
    assert "trn2-server: does not fit: 31.2 GiB short" in report
    main = next(line for line in report.splitlines() if line.lstrip().startswith("trn2-server"))
    assert "does not fit" in main


def test_breakeven_of_a_row_without_a_price() -> None:
    report = " ".join(text(*ROWS).split())
    assert (
        "trn3-gen2 has no price in the facts: equal to trn2 (capacity block) at $1.95 (1.6-2.3) per chip-hour" in report
    )
    assert "--set prices.trn3-gen2='$1.40/chip/h'" in report


def test_a_breakeven_names_the_row_that_it_was_made_against() -> None:
    """That of the least cost, also where it is not known whether it fits."""
    given = (row("trn2", cost=0.5), row("h100", cost=0.2, feasible=None), row("trn4", cost=None))
    even: Any = {
        "speed": lambda r: r.tokens_per_s_per_chip.scaled(r.chips_used, "1/s"),
        "kept": lambda r: r.goodput,
    }
    made = with_breakeven(given, load_facts(), **even)
    only_b = with_breakeven(given[1:], load_facts(), **even)
    assert made[2].breakeven_usd_per_chip_h == only_b[1].breakeven_usd_per_chip_h
    assert "trn4 has no price in the facts: equal to h100 (capacity block)" in " ".join(text(*made).split())


def test_idle_chips_and_warnings_are_shown() -> None:
    report = " ".join(text(*ROWS).split())
    assert "16272 of 16384 chips (112 idle, paid for)" in report
    assert "the range of a link" in report


def test_nothing_runs() -> None:
    report = text(infeasible("h100"), infeasible("gb300"))
    assert report.startswith("None of the 2 systems can run this job")


def test_best_ignores_rows_whose_fit_is_not_known() -> None:
    cost = head(*ROWS).rankings["usd_per_mtok"]
    assert cost.best == 0
    assert [ROWS[i].system for i in cost.close] == ["ironwood"]
    assert head(ROWS[4]).rankings["days"].best is None


def test_plan_report_says_what_plans_trade() -> None:
    rows = (row("trn3", step=3.0), row("trn3", step=3.3))
    plans = PlanList(
        inputs={**INPUTS, "chips": None}, facts_hash="", evaluated=412960, feasible=999, seconds=0.4, rows=rows
    )
    report = t.terminal(page_of(plans.to_dict()), t.Style())
    assert "+10.0%/token, +0.0 GiB" in report
    assert max(map(len, report.splitlines())) <= 100


def test_json_is_the_contract_and_refuses_nan() -> None:
    data = json.loads(to_json(comparison(*ROWS).to_dict(), inputs={"seed": 0}))
    assert data["schema"] == "mowich/compare@1"
    assert data["inputs"]["seed"] == 0
    assert data["rows"][1]["usd_per_mtok"]["value"] is None
    assert data["rows"][1]["usd_per_mtok"]["reason"]
    with pytest.raises(ValueError, match="Out of range"):
        to_json({"schema": "x", "bad": float("nan")})


def test_rows_and_csv_have_the_same_columns() -> None:
    """One rule spreads a row over columns; names of CSV are joined with dots."""
    for told in comparison(*ROWS).to_dict()["rows"]:  # type: ignore[attr-defined]
        row, written = plain_row(told), flatten(told)
        assert [name.replace(".", "_") for name in written] == list(row)
        for value, cell in zip(row.values(), written.values(), strict=True):
            assert cell in (value, "?" if value is None else value, str(value).lower())


def test_csv_has_a_line_per_row_and_question_marks() -> None:
    lines = list(csv.DictReader(io.StringIO(to_csv(comparison(*ROWS).to_dict()["rows"]))))  # type: ignore[arg-type]
    assert len(lines) == len(ROWS)
    assert lines[1]["usd_per_mtok"] == "?"
    assert lines[0]["plan.tp"] == "8"
    assert lines[4]["feasible"] == "?"


def test_tree_draws_each_term_once_below_what_reads_it() -> None:
    terms = [
        Term(name="a", value=2.0, unit="s"),
        Term(name="b", value=3.0, unit="s", formula="a + 1", inputs={"a": 2.0}),
        Term(
            name="total",
            value=5.0,
            unit="s",
            formula="a + b",
            inputs={"a": 2.0, "b": 3.0},
            facts=("chips.x.y",),
            note="why",
        ),
    ]
    lines = [w.text for w in tree_words(terms)]
    assert lines[0].strip().startswith("total  5.00 s")
    assert sum(line.strip().startswith("a  2.00") for line in lines) == 1
    assert any("facts: chips.x.y" in line for line in lines)


def test_moves_say_the_range_and_who_wins_then() -> None:
    fact = Fact(path="prices.x.rent", value=2.0, unit="USD", low=1.0, high=3.0, shown_range="1 USD .. 3 USD")
    lines = moves_said([Move(fact=fact, low=1.0, high=3.0, at_low=-0.5, at_high=0.5, flips="trn3 at its high end")])
    assert (
        " ".join(" ".join(lines).split())
        == "prices.x.rent, 1 USD .. 3 USD: -50% at its low end, +50% at its high end; best then: trn3 at its high end"
    )
    nudged = Move(fact=replace(fact, low=None, high=None, shown_range=""), low=2.0, high=2.02, at_low=0.0, at_high=0.01)
    assert moves_said([nudged]) == ["prices.x.rent: +1% for +1%"]


def test_colour_only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not t.style_for_stdout().colour
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert t.style_for_stdout().colour
    assert not t.style_for_stdout(plain=True).colour
    monkeypatch.setenv("NO_COLOR", "1")
    assert not t.style_for_stdout().colour


def test_formats() -> None:
    assert formats.interval(Estimate(value=None, unit="s", reason="x")) == "?"
    assert formats.spread(Estimate(value=2.0, unit="s", low=1.0, high=4.0)) == "2.00 (1.0-4.0)"
    assert formats.spread(Estimate(value=2.0, unit="s", low=1.8, high=2.3)) == "2.00 ±15%"
    assert formats.number_text(float("inf")) == "?"
