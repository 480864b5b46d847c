"""The page of forward passes, of rows made by hand: who is best, that nobody is, and that every surface shows it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mowich import cli
from mowich.errors import UserErrors
from mowich.estimate import Estimate, unknown_estimate
from mowich.facts import Facts, load_facts
from mowich.models.builtin import builtin
from mowich.plans.forward import ForwardJob, ForwardPlan
from mowich.requests.command import command_of
from mowich.requests.result_check import check_result
from mowich.show.json import to_json
from mowich.show.page import Page
from mowich.show.render.csv import csv_of
from mowich.show.render.html import render_html
from mowich.show.verbs import page_of
from mowich.shown import Rows
from mowich.studies.forward import forward_platform
from mowich.studies.forward_answer import ForwardAnswer, ForwardVerb, forward_job_of
from mowich.studies.forward_row import ForwardAsk, ForwardRow

FACTS = load_facts()
MODEL = builtin("llama-3.2-1b")
IMAGE = ForwardJob(task="diffuse", tokens=4096, steps=28, height=1024, width=1024)
TEXTS = ForwardJob(task="encode", tokens=512, batch=32)


def estimate(value: float, unit: str, spread: float) -> Estimate:
    return Estimate(value=value, unit=unit, low=value / spread, high=value * spread, grade="D")


def row(
    on: str, pass_s: float, usd: float, spread: float, *, job: ForwardJob = IMAGE, facts: Facts = FACTS, chips: int = 4
) -> ForwardRow:
    """A row of a plan, with numbers of its own."""
    ask = ForwardAsk(model=MODEL, job=job, on=on, system_id=on, chips=chips, facts=facts)
    item = pass_s * job.steps
    return ForwardRow(
        ask=ask,
        platform=forward_platform(ask),
        plan=ForwardPlan(tp=4, batch=job.batch or 1),
        replicas=chips,
        chips_used=chips,
        pass_s=replace(estimate(pass_s, "s", spread), breakdown={"gemm": pass_s * 0.75, "attention": pass_s * 0.25}),
        binds="compute",
        item_s=estimate(item, "s", spread),
        items_per_s_per_chip=estimate(1.0 / item, "1/s", spread),
        usd_per_item=estimate(usd, "USD", spread),
        J_per_item=estimate(500.0 * item, "J", spread),
        mfu=Estimate(value=0.4, unit="1", low=0.3, high=0.5, grade="D"),
        memory_B={"weights": 2e9, "activations": 1e9},
        evaluated=9,
        assumed=("the VAE is left out",),
    )


def without(on: str, reason: str) -> ForwardRow:
    """A row on which nothing runs."""
    none = unknown_estimate("s", reason)
    estimates = ("pass_s", "item_s", "items_per_s_per_chip", "usd_per_item", "J_per_item", "mfu")
    gone: dict[str, Any] = dict.fromkeys(estimates, none)
    return replace(row(on, 1.0, 1.0, 1.1), plan=None, replicas=0, chips_used=0, memory_B={}, reason=reason, **gone)


def answer(rows: list[ForwardRow], verb: ForwardVerb = "compare", smallest: int | None = None) -> dict[str, Any]:
    """The JSON of an answer of these rows."""
    inputs = {
        "model": MODEL.name,
        "verb": verb,
        **rows[0].ask.job.to_dict(),
        "chips": 4,
        "stack": None,
        "fixed": {},
        "price_term": "default",
        "systems": [
            {"system": name, "id": name, "chips": 4, "stack": "diffusers-eager", "price_terms": {}}
            for name in dict.fromkeys(r.ask.on for r in rows)
        ],
    }
    found = ForwardAnswer(verb=verb, inputs=inputs, rows=Rows(rows), facts_hash=FACTS.hash(), smallest_chips=smallest)
    return dict(json.loads(to_json(found.to_dict())))


NUMBERS = st.floats(1e-3, 1e3)


@given(
    sizes=st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=4),
    spread=st.floats(1.01, 2.0),
    job=st.sampled_from([IMAGE, TEXTS, replace(IMAGE, frames=81)]),
    verb=st.sampled_from(["compare", "plan", "fit"]),
)
def test_the_headline_is_short_and_no_winner_is_said_where_ranges_overlap(
    sizes: list[tuple[float, float]], spread: float, job: ForwardJob, verb: ForwardVerb
) -> None:
    names = ["trn3-gen2", "trn2", "h100", "b300"]
    rows = [row(n, s, u, spread, job=job) for n, (s, u) in zip(names, sizes, strict=False)]
    rows = [replace(r, ask=replace(r.ask, on="trn2", system_id="trn2")) for r in rows] if verb == "plan" else rows
    result = answer(rows, verb, 1)
    check_result(result, "r.json")
    page = page_of(result)
    assert len(page.headline.split()) <= 12
    assert all(text for text in page.said("job", "basis", "next"))
    if verb != "compare" or len(rows) < 2:
        assert page.marks == {}
        return
    least = min(u for _, u in sizes)
    close = sum(u / spread <= least * spread for _, u in sizes) - 1
    ranked = page.marks["usd_per_item"]
    if "best" in ranked:  # prices of these systems stand on one term
        assert ranked.count("close") == close
        assert page.headline.startswith("No winner") == bool(close)
        assert any("no order is known" in note for note in page.said("note")) or not close


def tables(page: Page) -> dict[str, list[list[str]]]:
    return {t.title: [[c[0] if isinstance(c, tuple) else c for c in line] for line in t.cells()] for t in page.tables}


def test_parts_sum_memory_is_told_and_a_row_without_a_plan_says_why() -> None:
    rows = [row("trn2", 0.1, 0.002, 1.2), row("h100", 0.05, 0.02, 1.2), without("trn3-gen2", "weights need 3 GiB more")]
    page = page_of(answer(rows))
    shown = tables(page)
    assert shown["Where a forward pass goes, ms"][0] == ["matrix products", "75.0", "37.5"]
    assert [line[0] for line in shown["Memory of a device, GiB"]] == ["weights", "activations", "sum", "usable"]
    assert "trn3-gen2: weights need 3 GiB more" in page.said("note")
    assert page.headline.startswith("Cheapest: trn2, $2.00")
    assert len(page.charts) == 3
    assert page_of(answer([without("trn2", "no")])).headline.startswith("This is not possible")
    late = replace(row("trn2", 0.1, 0.002, 1.2), reason="no plan makes an item in 1 s; the fastest takes 2.8 s")
    for verb in ("compare", "plan"):
        page = page_of(answer([late], verb))
        assert page.headline.startswith("Too slow: ")
        assert len(page.headline.split()) <= 12


@pytest.mark.parametrize("verb", ["compare", "plan", "fit"])
def test_html_and_csv_show_the_same_rows(verb: ForwardVerb) -> None:
    result = answer([row("trn2", 0.1, 0.002, 1.2), row("trn2", 0.2, 0.001, 1.2)], verb, 2)
    html = render_html(result, command=command_of(result), explainer=None)
    assert "Where a forward pass goes" in html
    assert f"mowich {verb} llama-3.2-1b" in html
    lines = csv_of(page_of(result)).splitlines()
    assert len(lines) == 3
    assert "item_s" in lines[0]


def test_what_a_forged_result_says_is_refused() -> None:
    good = answer([row("trn2", 0.1, 0.002, 1.2)])
    check_result(good, "r.json")
    for path, value in ((("mfu", "value"), 1.5), (("item_s", "low"), 99.0), (("pass_s", "value"), 0.2)):
        bad = json.loads(json.dumps(good))
        bad["rows"][0][path[0]][path[1]] = value
        with pytest.raises(UserErrors, match=r"rows\.0"):
            check_result(bad, "r.json")


@given(
    job=st.builds(
        ForwardJob,
        task=st.sampled_from(["diffuse", "encode"]),
        tokens=st.integers(1, 10**6),
        batch=st.integers(0, 64),
        steps=st.integers(1, 99),
        branches=st.integers(1, 2),
        height=st.integers(0, 4096),
        latency_s=st.sampled_from([0.0, 2.5]),
    )
)
def test_a_job_survives_its_result(job: ForwardJob) -> None:
    assert forward_job_of(job.to_dict()) == job


def test_a_question_goes_the_whole_way(capsys: pytest.CaptureFixture[str], tmp_path: Any) -> None:
    """Answer, its command, and the same answer from that command; in Python the same rows."""
    import mowich

    words = "compare llama-3.2-1b --task encode --tokens 512 --batch 4 --on trn2,h100 --chips 2"
    assert cli.run([*words.split(), "--json", "-q"]) == 0
    result = json.loads(capsys.readouterr().out)
    check_result(result, "r.json")
    assert result["schema"] == "mowich/forward@1"
    assert result["facts_read"]
    assert result["digest"]
    assert cli.run([*command_of(result).split()[1:], "--json", "-q"]) == 0
    assert json.loads(capsys.readouterr().out) == result
    job: mowich.Forward = {"task": "encode", "tokens": 512, "batch": 4}
    found = mowich.compare("llama-3.2-1b", ["trn2", "h100"], forward=job, chips=2)
    assert [one.item_s.to_dict() for one in found.rows] == [r["item_s"] for r in result["rows"]]
    for r in result["rows"]:
        assert math.fsum(r["pass_s"]["breakdown"].values()) == pytest.approx(r["pass_s"]["value"])
    assert cli.run([*words.split(), "--set", "chips.trainium3.power.tdp=900 W", "--json", "-q"]) == 0
    assert json.loads(capsys.readouterr().out)["unread"] == ["chips.trainium3.power.tdp"]
