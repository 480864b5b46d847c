"""What rows and questions do not say of an engine: the means of measured rows, and a cache whose format is a guess."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mowich.evidence.serving_cases import gather_cases
from mowich.evidence.serving_checks import read_serving_cases
from mowich.evidence.serving_rows import GUESSED_CACHE, ServingCase
from mowich.evidence.serving_validate import predict_serving
from mowich.facts import load_facts

FACTS = load_facts()
SHARED = Path(__file__).resolve().parents[3] / "shared" / "truth" / "serving_calibration.csv"
ROW = {
    "id": "l",
    "source": "InferenceX db dump",
    "date": "2026-03-25",
    "chip": "b200",
    "n_chips": "8",
    "framework": "sglang 0.5.9",
    "model": "deepseek-r1",
    "precision": "fp4",
    "mode": "online agg",
    "tp": "8",
    "isl": "1024",
    "osl": "1024",
    "concurrency": "16",
    "ttft_ms": "400",
    "tpot_ms": "15",
    "output_tok_s_per_chip": "120",
}


def case(**cells: str) -> ServingCase:
    (got,) = read_serving_cases([{**ROW, **cells}], FACTS)
    assert isinstance(got, ServingCase), got
    return got


@pytest.mark.parametrize("users", ["8", "64", "300", "2048"])
def test_both_formats_of_a_guessed_cache_lie_in_the_range(users: str) -> None:
    """Where the cache of 16 bits holds everybody the guess changes little; where it does not its users wait, and the
    range says so. A format that is stated has its own range."""
    cells = {"concurrency": users, "output_tok_s_per_chip": "", "isl": "8192", "ttft_ms": "", "tpot_ms": "20"}
    guess, stated = case(**cells), case(**cells, kv_precision="fp8")
    assert GUESSED_CACHE in guess.inferred
    assert (guess.other_cache, stated.other_cache) == ("bf16", None)
    asked = [replace(one, measured=dict.fromkeys(("tpot_ms", "ttft_ms"), 1.0)) for one in (guess, stated)]
    asked.append(replace(asked[1], plan=replace(stated.plan, kv="bf16")))
    wide, own, other = ({r.metric: r for r in results} for results in predict_serving(asked, FACTS))
    for metric in ("tpot_ms", "ttft_ms"):
        assert wide[metric].predicted == own[metric].predicted
        assert wide[metric].low <= other[metric].predicted * (1.0 + 1e-9)  # type: ignore[operator]
        assert other[metric].predicted <= wide[metric].high * (1.0 + 1e-9)  # type: ignore[operator]
        assert wide[metric].low <= own[metric].low <= own[metric].high <= wide[metric].high  # type: ignore[operator]
    if users == "300":
        assert wide["ttft_ms"].high > 2.0 * own["ttft_ms"].high  # type: ignore[operator]


def shared_cases() -> list[ServingCase]:
    with SHARED.open(newline="", encoding="utf-8") as file:
        return [c for c in read_serving_cases(list(csv.DictReader(file)), FACTS) if isinstance(c, ServingCase)]


def experts_s(backend: str | None) -> float:
    return 0.0 if backend == "trtllm" else FACTS.number(f"serving.common.experts_{backend}")


OF_ROWS: dict[str, Callable[[ServingCase], float | None]] = {
    "sglang_interval": lambda c: c.plan.launch.interval,
    "sglang_graphs": lambda c: None if c.plan.launch.graphs is None else float(c.plan.launch.graphs == "piecewise"),
    "trtllm_balance": lambda c: c.plan.launch.balance if c.plan.dp > 1 else None,
    "trtllm_moe": lambda c: None if c.arch == "dense" or c.plan.launch.moe is None else experts_s(c.plan.launch.moe),
}


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="the shared table of measured rows is not here")
def test_the_means_of_settings_are_those_of_measured_rows() -> None:
    """Within what a new fit of the constants moves them by; and the ends hold nine rows of ten."""
    cases = shared_cases()
    for name, of in OF_ROWS.items():
        fact, engine = FACTS.fact(f"serving.unstated.{name}"), name.partition("_")[0]
        stated = [
            v for c in cases if c.engine == engine and c.plan.launch.interval is not None and (v := of(c)) is not None
        ]
        assert np.mean(stated) == pytest.approx(fact.value, rel=0.25, abs=1e-7), name
        assert fact.low is not None
        assert fact.high is not None
        assert np.mean([fact.low <= v <= fact.high * 1.3 for v in stated]) >= 0.9, name


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="the shared table of measured rows is not here")
def test_a_mean_is_nearer_than_what_an_engine_does_that_is_not_told() -> None:
    """Rows whose scheduler interval is hidden: their mean is nearer to what was measured than one step."""
    known = [c for c in shared_cases() if c.engine == "sglang" and c.plan.launch.interval is not None]
    known = [c for c in known if "ttft_ms" in c.measured and "ttft_ms" not in c.skip]

    def error(interval: int | None) -> float:
        asked = [replace(c, plan=replace(c.plan, launch=replace(c.plan.launch, interval=interval))) for c in known]
        table = gather_cases(asked, FACTS)
        found = table.steady(np.array([FACTS.number(path) for path in table.columns.names])).ttft_s
        return float(
            np.median([abs(math.log(1e3 * t / c.measured["ttft_ms"])) for t, c in zip(found, known, strict=True)])
        )

    assert error(None) < 0.9 * error(1)
