"""Profiles of forward passes: the forms that they come in, what is dropped, and the factors that they give."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from mowich import cli
from mowich.errors import UserError
from mowich.evidence.fitting.choice import used_of
from mowich.evidence.fitting.forward_passes import ForwardPredictor, with_factors
from mowich.evidence.forward_passes import ForwardCase, Forwards, read_forward
from mowich.evidence.readers.read import read_measurements
from mowich.evidence.readers.setup import Setup
from mowich.evidence.validate import validate_rows
from mowich.facts import Facts, load_facts
from mowich.requests.calibrate import CalibrateRequest
from mowich.serving.engines import profile_path, stated_facts
from mowich.studies.calibrate import calibrate

FACTS = load_facts()
ASKED = Setup(on="b300:8", model="qwen3-32b", software="vllm", plan={"tp": "4", "precision": "bf16"})


def steps(count: int, seed: int, segment: str = "served") -> list[dict[str, str]]:
    """Work of drawn steps, as cells of our table without their times."""
    draw, out = random.Random(seed), []
    for _ in range(count):
        n, context = draw.choice([1, 2, 4, 8, 16, 32, 64]), draw.choice([512, 2048, 8192])
        tokens = draw.choice([0, 0, 0, 256, 2048, 8192])
        work = {"decode_requests": n, "decode_kv_tokens_total": n * context, "prefill_new_tokens_total": tokens}
        work |= {"prefill_requests": int(tokens > 0), "prefill_past_kv_total": 0, "tp": draw.choice([1, 2, 4, 8])}
        cells = {name: str(value) for name, value in work.items()}
        out.append(cells | {"chip": "b300", "n_chips": "8", "framework": "vllm", "model": "qwen3-32b"})
        out[-1] |= {"precision": "bf16", "segment": segment, "measured_ms": "1"}
    return out


def cases_of(rows: Sequence[Mapping[str, str]], facts: Facts = FACTS) -> list[ForwardCase]:
    found = [read_forward(dict(row), facts) for row in rows]
    assert all(isinstance(case, ForwardCase) for case in found), found
    return [case for case in found if isinstance(case, ForwardCase)]


def timed(
    rows: Sequence[dict[str, str]], factors: Mapping[str, float], noise: float, seed: int
) -> list[dict[str, str]]:
    """Rows with the times that an engine with these factors takes, and a scatter."""
    known = with_factors(FACTS, cases_of(rows))
    known = known.with_values({profile_path(k, "vllm", "b300_sxm", "dense"): v for k, v in factors.items()})
    columns = Forwards.of(cases_of(rows, known))
    seconds = columns.seconds(np.array([known.number(path) for path in columns.columns.names]))
    scatter = np.exp(np.random.default_rng(seed).normal(0.0, noise, len(rows)))
    return [{**row, "measured_ms": f"{1e3 * s:.6g}"} for row, s in zip(rows, seconds * scatter, strict=True)]


def table(rows: Sequence[Mapping[str, str]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


@pytest.mark.parametrize("seed", [1])
def test_a_profile_gives_the_factors_of_the_engine_that_ran(seed: int, tmp_path: Path) -> None:
    """Drawn factors on reading weights, fixed times and arithmetic are found, and steps that are left out with them; an
    answer for this engine, chip and class of models moves as its steps do, another's does not."""
    draw = random.Random(seed)
    drawn = {name: draw.uniform(1.15, 1.8) for name in ("products", "prompt_products")}
    drawn["fixed"] = draw.choice([0.6, 0.75, 1.35, 1.6])
    file, out = tmp_path / "steps.csv", tmp_path / "my.yaml"
    file.write_text(table(timed(steps(60, seed), drawn, 0.01, seed)))
    found = calibrate(CalibrateRequest(facts=FACTS, files=(file,), out=out))
    kept = {one.path: one for one in found.constants}
    for name, value in drawn.items():
        assert kept[profile_path(name, "vllm", "b300_sxm", "dense")].value == pytest.approx(value, rel=0.12)
    assert found.left_out.median is not None
    assert found.before.median is not None
    assert found.left_out.median < 0.03 < found.before.median
    mine = load_facts([out])
    other = tmp_path / "other.csv"
    rows = timed(steps(30, seed + 50), drawn, 0.01, seed + 50)
    other.write_text(table([{"id": str(i), **row} for i, row in enumerate(rows)]))
    now, then = (validate_rows(other, facts).summary()["all"] for facts in (FACTS, mine))
    assert then.median_abs_error is not None
    assert now.median_abs_error is not None
    assert then.median_abs_error < 0.03 < now.median_abs_error
    for system, moves in (("b300", True), ("h200", False)):
        now, then = (read_forward({**steps(1, 9)[0], "chip": system}, facts) for facts in (FACTS, mine))
        assert isinstance(now, ForwardCase)
        assert isinstance(then, ForwardCase)
        seconds = []
        for facts, case in ((FACTS, now), (mine, then)):
            columns = Forwards.of([case])
            seconds.append(columns.seconds(np.array([facts.number(path) for path in columns.columns.names]))[0])
        assert (seconds[0] != seconds[1]) == moves


@pytest.mark.parametrize("seed", [4])
def test_what_says_nothing_is_not_used(seed: int, tmp_path: Path) -> None:
    """Times that are noise give no factor: points that are left out would be predicted worse, and this is said."""
    file = tmp_path / "noise.csv"
    file.write_text(table(timed(steps(14, seed), {}, 0.5, seed)))
    assert cli.run(["calibrate", str(file), "--out", str(tmp_path / "my.yaml"), "--plain"]) == 3
    found = calibrate(CalibrateRequest(facts=FACTS, files=(file,), out=tmp_path / "my.yaml"))
    assert (found.constants, found.anchors, found.written, found.overlay) == ((), 0, "", "")
    assert any("14 points are not used" in text for text in found.warnings)
    assert found.after == found.before


def forms(rows: Sequence[Mapping[str, str]]) -> dict[str, bytes]:
    """The same steps as each program writes them, three times over, the first one cold."""
    names = {
        "num_prefill_requests": "prefill_requests",
        "sum_prefill_tokens": "prefill_new_tokens_total",
        "sum_prefill_kv_tokens": "prefill_past_kv_total",
        "num_decode_requests": "decode_requests",
        "sum_decode_kv_tokens": "decode_kv_tokens_total",
    }
    listed, traced, bare = [], [], []
    for row in rows:
        counts = {name: int(row[column]) for name, column in names.items()}
        for warm in (3.0, 1.0, 1.0):
            ms = warm * float(row["measured_ms"])
            listed.append({"phase": "", "workload_segment": "served", **counts, "latency_ms": ms})
            inner = {"version": 1, "dp_rank": 0, "wall_time": ms / 1e3, "scheduled_requests": counts}
            bare.append(json.dumps(inner))
            traced.append(json.dumps({"schema": "dynamo.fpm.trace.v1", "source": {}, "fpm": inner}))
    idle = json.dumps({"schema": "dynamo.fpm.trace.v1", "fpm": {"wall_time": 0.0, "scheduled_requests": {}}})
    trace = "\n".join([idle, *traced]).encode()
    return {
        "a.csv": table(listed).encode(),
        "b.jsonl": trace,
        "c.jsonl.gz": gzip.compress(trace),
        "d.json": "\n".join(bare).encode(),
    }


def test_every_form_says_the_same(tmp_path: Path) -> None:
    drawn = [{**row, "tp": "4"} for row in timed(steps(12, 3), {}, 0.05, 3)]
    rows = list({tuple(row.values())[:4]: row for row in drawn}.values())  # each work once
    seen = []
    for name, data in forms(rows).items():
        (tmp_path / name).write_bytes(data)
        reading = read_measurements(tmp_path / name, ASKED)
        found = cases_of([record.cells for record in reading.records])
        seen.append(sorted((c.tokens, c.decoding, c.context, round(c.measured_s, 9)) for c in found))
    assert all(one == seen[0] for one in seen)
    want = {(float(r["prefill_new_tokens_total"]), float(r["decode_requests"])) for r in rows}
    assert {one[:2] for one in seen[0]} == want


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"min_ms": "4", "max_ms": "7", "n_samples": "5"}, "more than 1.5 times apart"),
        ({"measured_ms": "0.01"}, "booked on another"),
        ({"decode_requests": "0", "prefill_new_tokens_total": "0"}, "no work"),
    ],
)
def test_steps_that_measure_something_else_are_refused(change: dict[str, str], said: str, tmp_path: Path) -> None:
    rows = timed(steps(8, 4), {}, 0.01, 4)
    blank = {"min_ms": "", "max_ms": "", "n_samples": ""}
    file = tmp_path / "steps.csv"
    file.write_text(table([{**blank, **row} for row in rows[:-1]] + [{**blank, **rows[-1], **change}]))
    found = calibrate(CalibrateRequest(facts=FACTS, files=(file,)))
    assert [said in one.reason for one in found.refused] == [True]
    assert found.refused[0].where.endswith(":9")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"schema": "dynamo.fpm.trace.v1", "fpm": {"scheduled_requests": {}}}', "holds no measurement"),
        ('{"scheduled_requests": {"num_decode_requests": "x"}, "wall_time": 1}', "is not a number"),
    ],
)
def test_a_broken_trace_is_one_line(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(text + "\n")
    with pytest.raises(UserError, match=said):
        read_measurements(tmp_path / "t.jsonl", ASKED)


def test_an_overlay_with_a_factor_of_nothing_known_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("serving:\n  profiles:\n    fixed_vlm_b300_sxm_dense: {value: 1.2, grade: user}\n")
    with pytest.raises(UserError, match="unknown fact"):
        load_facts([file])


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "median", "tail"), [("dense", 0.035, 0.10), ("hybrid", 0.045, 0.11)])
def test_one_half_of_a_measured_profile_predicts_the_other(arch: str, median: float, tail: float, shared: Path) -> None:
    """Decodes of served load; of dense models all steps. Before: 12/30% and 26/34%."""
    file = shared / "truth" / "forward_profiles.csv"
    if not file.exists():
        pytest.skip("no measured profile beside the project")
    records = read_measurements(file, Setup()).records
    read = [(r.where, read_forward(dict(r.cells), FACTS)) for r in records]
    mine = [(where, c) for where, c in read if isinstance(c, ForwardCase) and c.served.arch == arch]
    logs = []
    for i in (0, 1):
        own, other = ForwardPredictor(mine[i::2], FACTS), ForwardPredictor(mine[1 - i :: 2], FACTS)
        found, (choice,) = used_of([own], own.facts)
        values = found.problem.values(found.solution.theta) if choice.constants else {}
        rows = list(own.rows_of(values).values()) if choice.beside else []
        errors = other.errors_beside(values, rows)
        served = [(c.kind == "decode" and not c.served.is_sweep) or arch == "dense" for c in other.cases]
        logs += errors[served].tolist()
    off = np.expm1(np.abs(logs))
    assert np.median(off) < median
    assert np.quantile(off, 0.9) < tail


def test_factors_stand_only_where_they_were_measured() -> None:
    (case,) = cases_of(steps(1, 1))
    known = with_factors(FACTS, [case])
    path = profile_path("fixed", "vllm", "b300_sxm", "dense")
    assert path in stated_facts(known, "vllm", case.served.system)
    assert path not in stated_facts(FACTS, "vllm", case.served.system)
    assert path not in stated_facts(known, "sglang", case.served.system)
