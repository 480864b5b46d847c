"""`explain`: the number that it gives is the number of the result, and its formula reproduces it from what it
prints."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import mowich
from mowich.errors import UserError
from mowich.estimate import Term
from mowich.facts import Facts
from mowich.models import load_model
from mowich.plans.plan import TrainJob
from mowich.requests.jobs import CompareRequest
from mowich.show.explain import explain_text
from mowich.show.render.terminal import Style
from mowich.studies.compare import compare
from mowich.studies.explain import Explainer, Explanation, explain, metrics
from mowich.studies.explain.formula import evaluate, names_in
from mowich.studies.explain.training import TERMS_OF_PART
from mowich.studies.sweep import sweep
from mowich.studies.sweep_grid import read_sweep

MODEL = load_model("deepseek-v3")
METRICS = (
    "step_s",
    "memory_B",
    "mfu",
    "tokens_per_s_per_chip",
    "usd_per_mtok",
    "J_per_token",
    "days",
    "goodput",
    "breakeven_usd_per_chip_h",
    "breakeven_W_per_chip",
)


@pytest.fixture(scope="module")
def result(facts: Facts) -> dict[str, Any]:
    job = TrainJob(tokens=15e12, seq=4096, batch_seqs=4096)
    found = compare(
        CompareRequest(facts=facts, model=MODEL, systems=("trn3", "gb300", "h100:8"), train=job, chips=4096)
    )
    return json.loads(json.dumps(found.to_dict()))  # type: ignore[no-any-return]


EXPLAINERS: dict[int, Explainer] = {}
"""id of a result, which its explainer holds -> the explainer, which keeps what it made of the row for the next
metric."""


def ask(result: dict[str, Any], metric: str, facts: Facts) -> Explanation:
    explainer = EXPLAINERS.setdefault(id(result), Explainer(result, facts, MODEL))
    return explainer.explain(metric, sensitivity=False)


def number(term: Term, name: str) -> float:
    value = term.inputs[name]
    assert isinstance(value, float)
    return value


def term(found: Explanation, name: str) -> Term:
    return next(t for t in found.terms if t.name == name)


def row(result: dict[str, Any], system: str) -> dict[str, Any]:
    return next(r for r in result["rows"] if r["system"] == system)


@pytest.mark.share(3)
@pytest.mark.parametrize("metric", [m for m in METRICS if m != "memory_B"])
@pytest.mark.parametrize("system", ["trn3", "gb300"])
def test_explained_value_is_the_value_of_the_result(
    result: dict[str, Any], facts: Facts, system: str, metric: str
) -> None:
    found = ask(result, f"{system}.{metric}", facts)
    assert found.estimate.value == row(result, system)[metric]["value"]
    assert found.formula or found.words
    assert found.inputs or found.estimate.value is None


def test_step_is_the_sum_of_its_parts(result: dict[str, Any], facts: Facts) -> None:
    found = ask(result, "trn3.step_s", facts)
    assert sum(found.parts.values()) == pytest.approx(found.estimate.value, rel=1e-9)
    assert term(found, "step").value == pytest.approx(found.estimate.value, rel=1e-9)


@pytest.mark.share(4)
@pytest.mark.parametrize("part", sorted(TERMS_OF_PART))
def test_every_part_of_the_step_can_be_asked_for(result: dict[str, Any], facts: Facts, part: str) -> None:
    found = ask(result, f"gb300.step_s.{part}", facts)
    assert found.estimate.value == row(result, "gb300")["step_s"]["breakdown"][part]
    assert found.terms


def test_expert_traffic_adds_up_from_layer_to_step(result: dict[str, Any], facts: Facts) -> None:
    """Forward and backward of every layer with experts, the prediction block too, times micro-batches, over stages,
    fullest over mean."""
    found = ask(result, "trn3.step_s.ep", facts)
    layers = [t for t in found.terms if t.name.startswith("ep.all_to_all")]
    counts = [int(t.name.split(" x ")[1].split()[0]) for t in layers]
    assert sorted(counts) == [1, 58]
    total = term(found, "ep.step")
    assert number(total, "all_layers") == pytest.approx(
        2 * sum(n * t.value for n, t in zip(counts, layers, strict=True))
    )
    by_hand = (
        number(total, "micro_batches")
        * number(total, "all_layers")
        / number(total, "pp")
        * number(total, "fullest_over_mean")
    )
    assert found.estimate.value == pytest.approx(by_hand)


def test_memory_is_the_sum_of_its_categories(result: dict[str, Any], facts: Facts) -> None:
    found = ask(result, "trn3.memory_B", facts)
    assert dict(found.parts) == pytest.approx(row(result, "trn3")["memory_B"])
    assert found.estimate.value == pytest.approx(sum(found.parts.values()))
    one = ask(result, "trn3.memory_B.activations", facts)
    assert one.estimate.value == pytest.approx(row(result, "trn3")["memory_B"]["activations"])
    assert [t.name for t in one.terms] == ["memory.activations"]


def test_weights_by_hand(result: dict[str, Any], facts: Facts) -> None:
    t = term(ask(result, "trn3.memory_B.weights", facts), "memory.weights")
    shard, experts = (number(t, "dense_ranks"), number(t, "expert_ranks")) if number(t, "zero") == 3 else (1.0, 1.0)
    by_hand = number(t, "bytes") * (number(t, "dense") / shard + number(t, "experts") / experts)
    assert t.value == pytest.approx(by_hand)


def test_cost_energy_and_days_by_hand(result: dict[str, Any], facts: Facts) -> None:
    t = term(ask(result, "gb300.usd_per_mtok", facts), "usd_per_mtok")
    usd = (
        number(t, "chips")
        * number(t, "price")
        * number(t, "step_s")
        / (number(t, "tokens") * number(t, "goodput"))
        * 1e6
    )
    assert t.value == pytest.approx(usd)
    t = term(ask(result, "gb300.J_per_token", facts), "J_per_token")
    chips = number(t, "used") + number(t, "idle_share") * number(t, "idle")
    joule = (
        number(t, "pue")
        * number(t, "power")
        * chips
        * number(t, "step_s")
        / (number(t, "tokens") * number(t, "goodput"))
    )
    assert t.value == pytest.approx(joule)
    for metric in ("days", "mfu", "tokens_per_s_per_chip"):
        by_formula = Explainer(result, facts, MODEL).evaluate(("rows", 1, metric))
        assert by_formula == pytest.approx(row(result, "gb300")[metric]["value"])


def test_goodput_by_hand(result: dict[str, Any], facts: Facts) -> None:
    told = ask(result, "gb300.goodput", facts)
    t = term(told, "useful")
    tau, mtbf = number(t, "tau"), number(t, "mtbf")
    useful = tau / (mtbf * math.exp(number(t, "recovery") / mtbf) * math.expm1((tau + number(t, "stall")) / mtbf))
    assert t.value == pytest.approx(useful)
    t = term(told, "goodput")
    by_hand = useful * (1 - number(t, "missing")) * (1 - number(t, "silent")) * (1 - number(t, "slow"))
    assert t.value == pytest.approx(by_hand)
    assert t.value == row(result, "gb300")["goodput"]["value"]


def test_break_even_by_hand(result: dict[str, Any], facts: Facts) -> None:
    t = term(ask(result, "trn3.breakeven_usd_per_chip_h", facts), "breakeven_usd_per_chip_h")
    by_hand = number(t, "best") * number(t, "tokens_per_s") * number(t, "goodput") / number(t, "chips") * 3600 / 1e6
    assert t.value == pytest.approx(by_hand)


def test_every_fact_that_is_named_exists_and_is_shown_with_its_source(result: dict[str, Any], facts: Facts) -> None:
    found = ask(result, "trn3.step_s", facts)
    paths = {path for t in found.terms for path in t.facts}
    assert paths
    assert all(facts.get(path) is not None for path in paths)
    text = explain_text(found, Style(width=100))
    assert all(len(line) <= 100 or "http" in line for line in text.splitlines())
    assert "from " in text


def test_what_moves_it_most_is_the_spread_of_the_row(result: dict[str, Any], facts: Facts) -> None:
    """The facts that `compare` moved for its interval, by the same amounts, largest first; fitted constants are in the
    residual."""
    found = explain(result, "trn3.step_s", facts, model=MODEL)
    spread = {s["fact"]: s for s in row(result, "trn3")["spread"]}
    assert found.moves
    for m in found.moves[:3]:
        assert math.log1p(m.at_low) == pytest.approx(spread[m.fact.path]["at_low"], abs=1e-9)
        assert math.log1p(m.at_high) == pytest.approx(spread[m.fact.path]["at_high"], abs=1e-9)
    sizes = [m.size for m in found.moves]
    assert sizes == sorted(sizes, reverse=True)


def test_a_price_that_changes_the_winner_is_said_so(facts: Facts) -> None:
    """Two machines at nearly the same cost: the range of one price alone decides, and `explain` says who wins then."""
    job = TrainJob(tokens=1e12, seq=4096, batch_seqs=256)
    small = load_model("llama-3.1-8b")

    def asked(known: Facts) -> dict[str, Any]:
        rows = compare(
            CompareRequest(facts=known, model=small, systems=("h100:64", "b200:64"), train=job, term="on-demand")
        )
        return dict(json.loads(json.dumps(rows.to_dict())))

    made = asked(facts)
    cost = [r["usd_per_mtok"]["value"] for r in made["rows"]]
    path = explain(made, "b200:64.usd_per_mtok", facts, model=small, sensitivity=False).terms[0].facts[0]
    price = facts.number(path) * cost[0] / cost[1]  # as dear as the other
    even = facts.with_values({path: replace(facts.fact(path), value=price * 0.99, low=price * 0.9, high=price * 1.2)})
    made = asked(even)
    moves = {m.fact.path: m for m in explain(made, "b200:64.usd_per_mtok", even, model=small).moves}
    assert moves[path].at_high == pytest.approx(1.2 / 0.99 - 1)
    assert moves[path].flips == "h100:64 at its high end"


def test_rows_by_number_id_and_name(result: dict[str, Any], facts: Facts) -> None:
    names = ("trn3.step_s", "trn3-gen2.step_s", "1.step_s", "trn3")
    assert len({ask(result, name, facts).estimate.value for name in names}) == 1


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("trn9.step_s", "unknown metric 'trn9'"),
        ("trn3.stepp_s", "did you mean 'step_s'?"),
        ("trn3.step_s.gem", "did you mean 'gemm'?"),
        ("trn3.memory_B.kv", "unknown metric 'kv' of trn3.memory_B"),
        ("trn3.mfu.gemm", "unknown metric 'gemm' of trn3.mfu"),
        ("trn3.step_s.ep.x", "no part"),
        ("h100:8.step_s", "no plan to explain: does not fit"),
    ],
)
def test_what_cannot_be_explained_is_said_in_one_line(
    result: dict[str, Any], facts: Facts, metric: str, said: str
) -> None:
    with pytest.raises(UserError) as error:
        ask(result, metric, facts)
    assert said in error.value.line()
    assert len(error.value.line().splitlines()) == 1


def test_every_name_leads_to_its_number(result: dict[str, Any], facts: Facts) -> None:
    names_ = metrics(result)
    assert len(set(names_)) == len(names_) > 150
    assert {"trn3.step_s", "trn3.step_s.ep", "gb300.memory_B.weights", "h100:8.chips_requested"} <= set(names_)


def test_a_result_of_other_facts_says_so(result: dict[str, Any], facts: Facts) -> None:
    other = facts.with_values({"chips.trainium3.memory.hbm_bandwidth": 5e12})
    told = explain({**result, "version": "0.0.1"}, "trn3.step_s", other, model=MODEL, sensitivity=False)
    assert any("facts have changed" in w for w in told.warnings)
    assert any("made by mowich 0.0.1" in w for w in told.warnings)


def test_a_point_of_a_sweep_is_explained_with_what_it_sets(tmp_path: Path, facts: Facts) -> None:
    path = "chips.trainium3.memory.hbm_bandwidth"
    file = tmp_path / "s.yaml"
    file.write_text(
        "mowich: 1\nmodels: llama-3.1-8b\non: trn3\nchips: 64\nseq: 4096\nbatch: 1024seqs\ntokens: 1T\nvary:\n "
        f" {path}: 2 TB/s,4 TB/s\n"
    )
    made = json.loads(json.dumps(sweep(read_sweep(file, facts), facts).to_dict()))
    for place, bandwidth in (("1", 2e12), ("2", 4e12)):
        told = explain(made, f"{place}.step_s", facts)
        assert not told.warnings  # made again it is what the result says
        assert next(f for f in told.facts if f.path == path).value == bandwidth
        assert told.estimate.value == pytest.approx(sum(told.parts.values()))


def test_the_json_of_an_explanation_is_whole(result: dict[str, Any], facts: Facts) -> None:
    told = json.loads(json.dumps(explain(result, "gb300.usd_per_mtok", facts, model=MODEL).to_dict(), allow_nan=False))
    assert told["schema"] == "mowich/explain@1"
    assert told["value"] == row(result, "gb300")["usd_per_mtok"]["value"]
    assert {"chips_used", "price", "step_s"} <= told["inputs"].keys()
    assert any(f["title"] and f["grade"] for f in told["facts"])
    assert told["moves"]


def test_formulas_are_arithmetic_and_nothing_else() -> None:
    lookup = {"a": 2.0, "b": 3.0}.__getitem__
    assert evaluate("max(a, b) ** 2 - -a", lookup) == 11.0
    assert names_in("a.c / (b + ceil(d))") == ("a.c", "b", "d")
    for hostile in ("__import__('os')", "a if b else a", "open(a)", "[a]", "a.b()", "lambda: a"):
        with pytest.raises((SyntaxError, TypeError, KeyError)):
            evaluate(hostile, lookup)


def test_every_part_of_a_step_has_terms() -> None:
    from mowich.training.step import STEP_PARTS

    assert set(TERMS_OF_PART) == set(STEP_PARTS)


def test_where_a_fact_stands_at_an_end_no_split_of_workers_may_serve(facts: Facts) -> None:
    """Prefill and decode apart, close to the limits: an end of a range leaves no room, and the number is explained all
    the same."""
    serve = {"isl": 8000, "osl": 1000}
    fixed = {"mode": "disaggregated"}
    result = mowich.compare("deepseek-v3", ["trn2"], chips=64, serve=serve, fixed=fixed).to_dict()
    assert result["rows"][0]["mode"] == "disaggregated"
    found = Explainer(result, facts, None).explain("trn2.usd_per_mtok")
    assert found.moves
    assert all(math.isfinite(m.at_low) and math.isfinite(m.at_high) for m in found.moves)
