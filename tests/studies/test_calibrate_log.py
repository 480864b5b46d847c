"""A log of requests replayed: what fits its first half is held against the second."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from mowich import cli
from mowich.errors import UserError
from mowich.facts import load_facts
from mowich.requests.calibrate import CALIBRATE
from mowich.studies.calibrate_log import OF_DECODES, OF_PROMPTS, WORSE, calibrate_log
from mowich.studies.traffic import simulate_traffic
from mowich.studies.traffic_scenario import read_traffic

FACTS = load_facts()
NAMED = "vllm_h100_sxm_dense"
SCENARIO = {"mowich": 1, "model": "llama-3.1-8b", "on": "h100:1", "engine": "vllm", "front_end": False}
LOAD = {"rate": 12, "requests": 60, "prompt": "uniform(200, 3000)", "output": "uniform(20, 200)", "seed": 3}


def times_of(folder: Path, decodes: float, prompts: float) -> list[dict[str, float | str]]:
    """The log of an engine whose steps take so many times what today's constants say."""
    made = {
        f"serving.profiles.{name}_{NAMED}": replace(
            FACTS.fact(f"serving.profiles.{name}"), path=f"serving.profiles.{name}_{NAMED}", value=by
        )
        for names, by in ((OF_DECODES, decodes), (OF_PROMPTS, prompts))
        for name in names
    }
    facts, out = FACTS.with_values(made), folder / "played.csv"
    simulate_traffic(read_traffic(json.dumps({**SCENARIO, "traffic": LOAD}), facts), facts, requests_out=out)
    return [
        {
            "request_id": r["id"],
            "input_toks": int(r["prompt"]),
            "output_toks": int(r["output"]),
            "queued_ts": float(r["arrival_s"]),
            "first_token_ts": float(r["first_token_s"]),
            "last_token_ts": float(r["last_token_s"]),
        }
        for r in csv.DictReader(out.open())
    ]


def written(folder: Path, rows: list[dict[str, float | str]]) -> tuple[Path, Path]:
    """(a log, the scenario that replays it)."""
    log, scenario = folder / "log.jsonl", folder / "s.yaml"
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    scenario.write_text(json.dumps({**SCENARIO, "traffic": {"trace": str(log)}}))
    return log, scenario


def test_the_factors_of_a_log_are_found_and_hold_for_the_half_that_was_held_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, scenario = written(tmp_path, times_of(tmp_path, 1.3, 0.85))
    out = tmp_path / "my.yaml"
    assert cli.run(["calibrate", str(log), "--scenario", str(scenario), "--out", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["summary"]["left_out"]["n"] == 4
    assert found["summary"]["left_out"]["median"] < 0.02
    assert found["summary"]["before"]["median"] > 0.05
    fitted = {one["path"].split(".")[-1].removesuffix(f"_{NAMED}"): one["fitted"] for one in found["constants"]}
    assert fitted["products"] == pytest.approx(1.3, rel=0.06)
    assert fitted["prompt_products"] == pytest.approx(0.85, rel=0.15)
    assert load_facts([out]).number(f"serving.profiles.products_{NAMED}") == pytest.approx(fitted["products"], rel=1e-4)


def test_factors_that_make_the_half_that_was_held_out_worse_are_not_written(tmp_path: Path) -> None:
    """An engine that is slow for the first half of its requests and as predicted from then on."""
    slow, usual = times_of(tmp_path, 1.4, 1.4), times_of(tmp_path, 1.0, 1.0)
    ids = {row["request_id"] for row in sorted(slow, key=lambda row: float(row["queued_ts"]))[:30]}
    rows = [row for row in slow if row["request_id"] in ids] + [row for row in usual if row["request_id"] not in ids]
    log, scenario = written(tmp_path, rows)
    found = calibrate_log(CALIBRATE.of(FACTS, files=[log], scenario=scenario, out=tmp_path / "my.yaml"))
    assert found.warnings == (WORSE,)
    assert not found.constants
    assert not found.written
    assert not (tmp_path / "my.yaml").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"last_token_ts": None}, "log.jsonl:1: not a request with its times"),
        ({"first_token_ts": 1e9}, "log.jsonl:1: its times are not in order"),
        (None, "too few requests to hold half of them out"),
    ],
)
def test_a_log_that_cannot_be_replayed_says_where(
    change: dict[str, float | None] | None, words: str, tmp_path: Path
) -> None:
    row = {"input_toks": 9, "output_toks": 9, "queued_ts": 0.0, "first_token_ts": 0.1, "last_token_ts": 0.2}
    rows = [{**row, **change} if change and not i else row for i in range(40 if change else 5)]
    log, scenario = written(tmp_path, rows)  # type: ignore[arg-type]
    with pytest.raises(UserError) as caught:
        calibrate_log(CALIBRATE.of(FACTS, files=[log], scenario=scenario))
    assert words in caught.value.line()


def test_a_scenario_without_a_trace_replays_nothing(tmp_path: Path) -> None:
    log, scenario = written(tmp_path, times_of(tmp_path, 1.0, 1.0))
    scenario.write_text(json.dumps({**SCENARIO, "traffic": LOAD}))
    with pytest.raises(UserError, match="plays no trace"):
        calibrate_log(CALIBRATE.of(FACTS, files=[log], scenario=scenario))
