"""Machines that are announced, and instances with a machine of their own: every verb answers, and says what it rests
on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mowich.cli import run
from mowich.facts import Facts
from mowich.machines.system import resolve

NEW = ("tpu-8t", "tpu-8i", "mi455x", "vera-rubin-nvl144")
OTHER_VENDORS = ("mi325x", "gaudi3", "ascend-910b", "ascend-910c", "ascend-950pr", "ascend-950dt")
"""Systems of which no step and no token was fitted: facts alone."""
RENTED = ("trn3.48xlarge", "trn3.3xlarge", "trn2.3xlarge", "p5e.48xlarge", "p6e-gb200.36xlarge")


def _answer(ask: str, capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    assert run([*ask.split(), "--json", "-q"]) == 0, capsys.readouterr().err
    answer: dict[str, object] = json.loads(capsys.readouterr().out)
    return answer


def _rows(answer: dict[str, object]) -> dict[str, dict[str, dict[str, Any]]]:
    rows = answer["rows"]
    assert isinstance(rows, list)
    return {row["system"]: row for row in rows}


def test_a_training_job_on_announced_machines(capsys: pytest.CaptureFixture[str]) -> None:
    ask = f"compare llama-3.1-8b --train --tokens 1T --seq 8192 --batch 128seqs --chips 16 --on trn3,{','.join(NEW)}"
    answer = _answer(ask, capsys)
    for name, row in _rows(answer).items():
        step = row["step_s"]
        assert 0 < step["low"] <= step["value"] <= step["high"], name
        assert step["high"] / step["low"] > 1.3, name  # nobody has measured one
        assert step["grade"] == "D", name
    inputs = answer["inputs"]
    assert isinstance(inputs, dict)
    said = {entry["system"]: entry.get("unmeasured", "") for entry in inputs["systems"]}
    assert all("published" in said[name] for name in NEW)
    assert not said["trn3"]


def test_serving_on_announced_machines_ranks_nobody_by_an_unknown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "r.json"
    ask = f"compare llama-3.1-8b --serve --isl 1k --osl 200 --chips 8 --on trn3,{','.join(NEW)} --out {file}"
    assert run(ask.split()) == 0
    page = " ".join(capsys.readouterr().out.split())
    rows = _rows(json.loads(file.read_text()))
    for name in NEW:
        rate = rows[name]["tokens_per_s_per_chip"]
        assert rate["high"] / rate["low"] > 1.4, name
    unknown = [name for name in NEW if rows[name]["usd_per_mtok"]["value"] is None]
    assert unknown == ["tpu-8t", "tpu-8i", "mi455x"]
    head = page.split(" system ")[0]
    assert "No price known: tpu-8t, tpu-8i and mi455x." in head
    assert not any(f"Cheapest: {name}" in head for name in unknown)
    assert "Not measured: tpu-8t, tpu-8i: no step or token of TPU 8 is published" in page
    assert run(["explain", str(file), "tpu-8t.tpot_s"]) == 0
    assert "chips.tpu_8t.memory.hbm_bandwidth" in capsys.readouterr().out


def test_systems_of_vendors_without_rows_answer_with_the_lowest_grade(capsys: pytest.CaptureFixture[str]) -> None:
    """Serving and training. A cost without a price is not known, and each says that nothing of it was fitted."""
    on = f"--chips 8 --on {','.join(OTHER_VENDORS)}"
    job = "--train --tokens 1T --seq 8192 --batch 128seqs"
    for ask, of in (("--serve --isl 1k --osl 200", "tokens_per_s_per_chip"), (job, "step_s")):
        answer = _answer(f"compare llama-3.1-8b {ask} {on}", capsys)
        rows, inputs = _rows(answer), answer["inputs"]
        assert list(rows) == list(OTHER_VENDORS)
        assert isinstance(inputs, dict)
        assert all("were fitted to" in e["unmeasured"] or "published" in e["unmeasured"] for e in inputs["systems"])
        for name, row in rows.items():
            assert row[of]["grade"] == "D", name
            assert row[of]["high"] / row[of]["low"] > 1.3, name
            assert row["usd_per_mtok"]["value"] is None, name


def test_a_price_of_ones_own_is_all_that_a_cost_needs(capsys: pytest.CaptureFixture[str]) -> None:
    ask = "compare llama-3.1-8b --serve --isl 1k --osl 200 --chips 8 --on gaudi3 --set prices.gaudi3=$2/chip/h"
    assert _rows(_answer(ask, capsys))["gaudi3"]["usd_per_mtok"]["value"] > 0


@pytest.mark.parametrize("name", [*NEW, *OTHER_VENDORS, *RENTED])
def test_each_is_shown(name: str, capsys: pytest.CaptureFixture[str], facts: Facts) -> None:
    assert run(["facts", "show", name]) == 0
    assert f"chips.{resolve(facts, name).chip}." in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NEW, *OTHER_VENDORS, *RENTED])
def test_each_serves_alone_and_trains(name: str, capsys: pytest.CaptureFixture[str], facts: Facts) -> None:
    on = f"{name}:{min(resolve(facts, name).chips, 8)}"
    plans = _answer(f"plan llama-3.1-8b --serve --isl 1k --osl 200 --on {on} --top 1", capsys)["plans"]
    assert isinstance(plans, list)
    assert all(plan["tpot_s"]["value"] > 0 for plan in plans)
    assert run(["plan", "llama-3.2-1b", *TRAIN, on]) == 0
    assert run(["collective", "all-reduce", "--on", on, "--bytes", "1MiB"]) == (
        0 if resolve(facts, on).chips > 1 else 2
    )


TRAIN = ("--train", "--tokens", "1G", "--seq", "1024", "--batch", "8seqs", "--on")
FLEET = """\
mowich: 1
name: announced machines in a fleet
periods: {start: 2027-Q1, count: 2, length: quarter}
workloads:
  extraction:
    batch: {model: llama-3.1-8b, isl: 1000, osl: 200, tokens: 100G}
    on_chips: 16
systems:
  tpu-8i: {rent: {price: $3/chip/h, for: 1 quarter, supply: 64}}
  mi455x: {rent: {price: $3/chip/h, for: 1 quarter, supply: 64}}
  trn3.48xlarge: {rent: {price: $1/chip/h, for: 1 quarter, supply: 64}}
"""


@pytest.mark.slow
def test_a_fleet_may_hold_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text(FLEET, encoding="utf-8")
    assert run(["fleet", str(file), "--draws", "0"]) == 0
    assert "tpu-8i" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("groq3-lpx", "an LPU has no HBM"),
        ("rubin-cpx", "cancelled in March 2026"),
        ("aws-cerebras", "no rate of arithmetic of the WSE-3"),
    ],
)
def test_a_machine_without_a_model_of_time_is_refused_with_the_reason(
    name: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["facts", "show", name]) == 0
    capsys.readouterr()
    assert run(["compare", "llama-3.1-8b", "--serve", "--isl", "1k", "--osl", "1k", "--on", name]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert reason in error
