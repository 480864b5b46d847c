"""`explain`: the number that it gives is the number of the result, and its formula reproduces it from what it prints."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from mowich.errors import UserError
from mowich.estimate import Term
from mowich.facts import Facts
from mowich.plans.plan import TrainJob
from mowich.report.explain import explain_text
from mowich.report.table import Style
from mowich.studies.compare import compare
from mowich.studies.explain import METRICS, TERMS_OF_PART, Explanation, check_result, explain
from mowich.workloads import load

MODEL = load("deepseek-v3")


@pytest.fixture(scope="module")
def result(facts: Facts) -> dict[str, Any]:
    job = TrainJob(tokens=15e12, seq=4096, batch_seqs=4096)
    found = compare(MODEL, ["trn3", "gb300", "h100:8"], train=job, chips=4096, facts=facts)
    return json.loads(json.dumps(found.to_dict()))  # type: ignore[no-any-return]


def ask(result: dict[str, Any], metric: str, facts: Facts) -> Explanation:
    return explain(result, metric, MODEL, facts)


def number(term: Term, name: str) -> float:
    value = term.inputs[name]
    assert isinstance(value, float)
    return value


def term(found: Explanation, name: str) -> Term:
    return next(t for t in found.terms if t.name == name)


def row(result: dict[str, Any], system: str) -> dict[str, Any]:
    return next(r for r in result["rows"] if r["system"] == system)


@pytest.mark.parametrize("metric", [m for m in METRICS if m != "memory_B"])
@pytest.mark.parametrize("system", ["trn3", "gb300"])
def test_explained_value_is_the_value_of_the_result(
    result: dict[str, Any], facts: Facts, system: str, metric: str
) -> None:
    found = ask(result, f"{system}.{metric}", facts)
    assert found.estimate.value == row(result, system)[metric]["value"]
    assert found.terms or found.estimate.value is None


def test_step_is_the_sum_of_its_parts(result: dict[str, Any], facts: Facts) -> None:
    found = ask(result, "trn3.step_s", facts)
    assert sum(found.parts.values()) == pytest.approx(found.estimate.value, rel=1e-9)
    assert term(found, "step").value == pytest.approx(found.estimate.value, rel=1e-9)


@pytest.mark.parametrize("part", sorted(TERMS_OF_PART))
def test_every_part_of_the_step_can_be_asked_for(result: dict[str, Any], facts: Facts, part: str) -> None:
    found = ask(result, f"gb300.step_s.{part}", facts)
    assert found.estimate.value == row(result, "gb300")["step_s"]["breakdown"][part]
    assert found.terms


def test_expert_traffic_adds_up_from_layer_to_step(result: dict[str, Any], facts: Facts) -> None:
    """Forward and backward of every layer with experts, the prediction block too, times micro-batches, over stages, fullest over mean."""
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
    t = term(ask(result, "gb300.days", facts), "days")
    days = number(t, "tokens") / number(t, "tokens_per_step") * number(t, "step") / number(t, "goodput") / 86400
    assert t.value == pytest.approx(days)
    t = term(ask(result, "gb300.mfu", facts), "mfu")
    assert t.value == pytest.approx(number(t, "flop") / (number(t, "chips") * number(t, "peak") * number(t, "step")))
    t = term(ask(result, "gb300.tokens_per_s_per_chip", facts), "tokens_per_s_per_chip")
    assert t.value == pytest.approx(number(t, "tokens") / (number(t, "chips") * number(t, "step")))


def test_goodput_by_hand(result: dict[str, Any], facts: Facts) -> None:
    t = term(ask(result, "gb300.goodput", facts), "goodput")
    tau, mtbf = number(t, "tau"), number(t, "mtbf")
    by_hand = tau / (mtbf * math.exp(number(t, "recovery") / mtbf) * math.expm1((tau + number(t, "stall")) / mtbf))
    assert t.value == pytest.approx(by_hand)


def test_break_even_by_hand(result: dict[str, Any], facts: Facts) -> None:
    t = term(ask(result, "trn3.breakeven_usd_per_chip_h", facts), "breakeven_usd_per_chip_h")
    by_hand = number(t, "best") * number(t, "tokens_per_s") * number(t, "goodput") / number(t, "chips") * 3600 / 1e6
    assert t.value == pytest.approx(by_hand)


def test_every_fact_that_is_named_exists_and_is_shown_with_its_source(result: dict[str, Any], facts: Facts) -> None:
    found = ask(result, "trn3.step_s", facts)
    paths = {path for t in found.terms for path in t.facts}
    assert paths
    assert all(facts.get(path) is not None for path in paths)
    text = explain_text(found, facts, Style(width=100))
    assert all(len(line) <= 100 or "http" in line for line in text.splitlines())
    assert "from " in text


def test_rows_by_number_id_and_name(result: dict[str, Any], facts: Facts) -> None:
    names = ("trn3.step_s", "trn3-gen2.step_s", "1.step_s", "trn3")
    assert len({ask(result, name, facts).estimate.value for name in names}) == 1


@pytest.mark.parametrize(("metric", "said"), [
    ("trn9.step_s", "unknown row 'trn9'"),
    ("trn3.stepp_s", "did you mean 'step_s'?"),
    ("trn3.step_s.gem", "did you mean 'gemm'?"),
    ("trn3.memory_B.kv", "unknown memory category 'kv'"),
    ("trn3.mfu.gemm", "mfu has no part 'gemm'"),
    ("trn3.step_s.ep.x", "no part"),
    ("h100:8.step_s", "no plan to explain: does not fit"),
])  # fmt: skip
def test_what_cannot_be_explained_is_said_in_one_line(
    result: dict[str, Any], facts: Facts, metric: str, said: str
) -> None:
    with pytest.raises(UserError) as error:
        ask(result, metric, facts)
    assert said in error.value.line()
    assert len(error.value.line().splitlines()) == 1


@pytest.mark.parametrize("broken", [{}, {"rows": 5, "inputs": 7}, {"rows": [], "inputs": {}}, {"rows": [3], "inputs": {}}, {"rows": [{"system": "trn3"}], "inputs": {"model": "gpt2"}}])  # fmt: skip
def test_a_result_that_is_cut_off_or_foreign_is_refused(broken: dict[str, Any]) -> None:
    with pytest.raises(UserError) as error:
        check_result(broken, "r.json")
    assert all(line.startswith("r.json: ") for line in error.value.line().splitlines())


def test_a_whole_result_passes(result: dict[str, Any]) -> None:
    check_result(result, "r.json")


def test_every_part_of_a_step_has_terms() -> None:
    from mowich.simulate.train import PARTS
    from mowich.studies.explain import TERMS_OF_PART

    assert set(TERMS_OF_PART) == set(PARTS)
