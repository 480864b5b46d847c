"""Rows of disaggregated serving: their pools, the users of a decode worker, its time per token, and what is refused."""

from __future__ import annotations

import csv
import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mowich import cli
from mowich.evidence.serving_cases import gather_cases
from mowich.evidence.serving_checks import FASTEST, read_serving_cases
from mowich.evidence.serving_rows import ServingCase
from mowich.evidence.serving_validate import predict_serving, validate_serving
from mowich.facts import load_facts
from mowich.serving.steady import Steady, decode_step, per_token_s
from mowich.serving.step import total

FACTS = load_facts()
SHARED = Path(__file__).resolve().parents[3] / "shared" / "truth" / "serving_calibration.csv"
NOTE = (
    "prefill: num_workers=2 tp_size=8 pp_size=1 attention_dp_size=1 moe_tp_size=1 moe_ep_size=8 batch_size=1;"
    " decode: num_workers=3 tp_size=1 pp_size=1 attention_dp_size=16 moe_tp_size=1 moe_ep_size=16 batch_size=8"
)
ROW = {
    "id": "d",
    "source": "somebody",
    "date": "2026-10-01",
    "chip": "gb200",
    "n_chips": "64",
    "framework": "trtllm 9.9",
    "model": "deepseek-v3",
    "precision": "fp8",
    "kv_precision": "fp8",
    "mode": "online disagg",
    "parallel_note": NOTE,
    "isl": "2000",
    "osl": "500",
    "concurrency": "384",
    "ttft_ms": "400",
    "tpot_ms": "20",
    "prefill_workers": "2",
    "decode_workers": "3",
}


def read(**cells: str) -> ServingCase | str:
    return read_serving_cases([{**ROW, **cells}], FACTS)[0]


def case(**cells: str) -> ServingCase:
    got = read(**cells)
    assert isinstance(got, ServingCase), got
    return got


def steady(*cases: ServingCase) -> Steady:
    table = gather_cases(cases, FACTS)
    return table.steady(np.array([FACTS.number(path) for path in table.columns.names]))


def test_a_row_becomes_one_decode_worker_with_its_share_of_the_users() -> None:
    got = case()
    plan = got.plan
    assert (plan.tp, plan.pp, plan.dp, plan.ep, got.chips) == (1, 1, 16, 16, 16)
    assert got.users == pytest.approx(384 / 3 / 16)
    assert got.decode_only
    assert got.elsewhere_s == pytest.approx(0.4)
    assert "users=128 of each of 3 decode workers" in got.inferred
    assert set(got.skip) >= {"ttft_ms", "output_tok_s_per_chip"}


def test_columns_say_the_same_as_the_note() -> None:
    degrees = {"tp": "1", "pp": "1", "dp": "16", "moe_tp": "1", "ep": "16"}
    columns = {f"decode_{name}": value for name, value in degrees.items()}
    assert case(parallel_note="", **columns).plan == case().plan
    assert read(decode_dp="8") == "decode_dp: '8', and parallel_note says attention_dp_size=16"


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ({"decode_workers": "", "parallel_note": ""}, "does not state the workers"),
        ({"parallel_note": "decode: num_workers=3 batch_size=8"}, "does not state the workers"),
        ({"n_chips": "48"}, "n_chips: '48', and 2 prefill workers of 8 and 3 decode workers of 16 devices are 64"),
        ({"concurrency": ""}, "concurrency is not stated"),
        ({"concurrency": "1000"}, "concurrency: '1000' is more than 3 decode workers hold (batch 8 x dp 16 each)"),
        ({"decode_workers": "2"}, "decode_workers: '2', and parallel_note says num_workers=3"),
        ({"parallel_note": NOTE.replace("attention_dp_size=16", "attention_dp_size=x")}, "decode_dp: 'x'; allowed"),
        ({"output_tok_s": "90000"}, "(Little's law)"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason(cells: dict[str, str], said: str) -> None:
    got = read(**cells)
    assert isinstance(got, str)
    assert said in got


def test_rates_that_the_users_contradict_are_refused() -> None:
    """The users that decode cannot be served in less than their weights and caches take at the published rates; the
    same for workers that compute their own prompts."""
    slow = case(tpot_ms="60", ttft_ms="1")
    table = gather_cases([slow], FACTS)
    values = np.array([FACTS.number(path) for path in table.columns.names])
    least_ms = 1e3 * float(table.least_step_s(values, table.load.users)[0])
    assert isinstance(read(tpot_ms=str(1.05 * least_ms / FASTEST), ttft_ms="1"), ServingCase)
    got = read(tpot_ms=str(0.95 * least_ms / FASTEST), ttft_ms="1")
    assert isinstance(got, str)
    assert "contradicts the concurrency: by Little's law 128 users decode on a worker" in got
    # with the same TPOT far fewer decode where requests spend most of their time before the first token
    assert isinstance(read(tpot_ms=str(0.95 * least_ms / FASTEST), ttft_ms="60000"), ServingCase)
    own = {"mode": "online agg", "tp": "1", "dp": "16", "ep": "16", "n_chips": "16", "parallel_note": ""}
    alone = read(**own, concurrency="128", tpot_ms=str(0.95 * least_ms / FASTEST), ttft_ms="1", decode_workers="")
    assert isinstance(alone, str)
    assert "contradicts the concurrency" in alone


@pytest.mark.slow
def test_time_per_token_is_a_decode_step_of_the_users_that_decode() -> None:
    """No prompt interrupts an answer, and Little's law holds: users = (elsewhere + output x TPOT) x requests a
    second. 200 random rows, seeded."""
    rng = random.Random(7)
    cases = []
    for _ in range(200):
        chip = rng.choice(("h200", "b200", "gb300"))
        tp, dp = rng.choice(((8, 1), (2, 8), (1, 8), (1, 16)))
        note = f"decode: num_workers={rng.randint(1, 9)} tp_size={tp} attention_dp_size={dp} moe_ep_size={tp * dp}"
        cells = {"chip": chip, "parallel_note": note, "decode_workers": "", "prefill_workers": "", "n_chips": ""}
        cells |= {"concurrency": str(rng.randint(1, 600)), "isl": str(rng.randint(100, 9000))}
        # slow enough that no row contradicts itself
        got = case(**cells, osl=str(rng.randint(2, 3000)), tpot_ms="5000", ttft_ms=str(10 ** rng.uniform(1, 5)))
        cases.append(replace(got, engine=rng.choice(("vllm", "trtllm", "sglang"))))
    found = steady(*cases)
    table = gather_cases(cases, FACTS)
    costs, around, verified, accepted = table.columns.constants(FACTS.number)
    assert (verified == 1).all()
    users, stay = table.load.users, table.load.output * found.tpot_s
    fits = found.capacity >= users
    assert fits.sum() > 100
    assert found.running[fits] == pytest.approx((users * stay / (table.elsewhere_s + stay))[fits], rel=1e-6)
    seen = 1.0 + (users - 1.0) * stay / (table.elsewhere_s + stay)
    _, _, load = table._around(np.array([FACTS.number(path) for path in table.columns.names]))
    parts = decode_step(table.shapes, costs, load, seen)
    assert found.tpot_s[fits] == pytest.approx(per_token_s(total(parts), around.mtp_cost, accepted)[fits], rel=1e-6)
    assert "prefill_interference" not in {name for name, value in found.tpot_parts.items() if value.any()}
    assert sum(found.tpot_parts.values()) == pytest.approx(found.tpot_s)


def test_more_workers_or_longer_waits_never_slow_a_token() -> None:
    few, many = case(), case(decode_workers="6", parallel_note=NOTE.replace("=3", "=6"), n_chips="112")
    waits = case(ttft_ms="20000")
    tpot = steady(few, many, waits).tpot_s
    assert tpot[1] < tpot[0]
    assert tpot[2] < tpot[0]


def test_other_rows_of_the_table_are_predicted_as_without_it() -> None:
    own = {"mode": "online agg", "tp": "8", "dp": "1", "ep": "8", "n_chips": "8", "concurrency": "16"}
    apart, together = case(), case(**own, decode_workers="", prefill_workers="", parallel_note="")
    both, alone = steady(apart, together), steady(together)
    assert not together.decode_only
    assert both.tpot_s[1] == alone.tpot_s[0]
    assert both.ttft_s[1] == alone.ttft_s[0]
    assert both.tpot_parts["prefill_interference"][1] == alone.tpot_parts["prefill_interference"][0] > 0


def test_metrics_with_the_prompt_are_left_out_with_the_reason() -> None:
    results = {r.metric: r for r in validate_serving([ROW], FACTS)}
    assert results["tpot_ms"].status == "ok"
    assert results["ttft_ms"].status == "unsupported"
    assert "prefill workers" in str(results["ttft_ms"].reason)
    [[tpot, _]] = predict_serving([case()], FACTS)
    assert tpot.predicted == results["tpot_ms"].predicted
    assert tpot.low is not None
    assert tpot.high is not None
    assert tpot.low < float(tpot.predicted or 0) < tpot.high


def test_a_table_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "pools.csv"
    columns = [*ROW, "tp"]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows([ROW, {**ROW, "id": "e", "concurrency": "9999"}])
    assert cli.run(["validate", str(path), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [(r["id"], r["metric"], r["status"]) for r in rows if r["metric"] == "tpot_ms"] == [
        ("d", "tpot_ms", "ok"),
        ("e", "tpot_ms", "unsupported"),
    ]


@pytest.mark.skipif(not SHARED.is_file(), reason="the shared measurements are not beside the project")
def test_published_decode_workers_are_predicted_though_nothing_is_fitted_to_them() -> None:
    with SHARED.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["decode_workers"]]
    errors = [r.abs_error for r in validate_serving(rows, FACTS) if r.metric == "tpot_ms" and r.abs_error is not None]
    assert len(rows) - len(errors) <= 8
    assert np.median(errors) < 0.12
