"""Mowich, with the row left out of what it was fitted to: its honest forecast, not the one that a user of a fitted row
gets.

Serving, known, model or release: the constants are fitted again without the group (chip, model, release), the model
or the release of the row, and none of those rows is among its anchors (tools/fit_serving.py). Training: the error that
tools/held_out.csv keeps, by constants fitted without the row's group or publication. Disaggregated rows and MI300X:
as it ships, because no such row is fitted. Own profile: calibrated with every second row of the profile, asked the
others. Processor time is that of the answers alone, by the constants that ship; the fits are not in it.
"""

from __future__ import annotations

import csv
import math
import tempfile
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fit_serving
import numpy as np
from benchmarks.accuracy.rows import CHIP, KNOWN, MODEL, RELEASE, TABLES, cells_of, serving_cases
from fit_training import HELD_OUT
from protocol import Answers, Row, main

from mowich.evidence.measured_tables import read_csv
from mowich.evidence.rows import read_cases
from mowich.evidence.serving_validate import predict_serving
from mowich.evidence.validate import predict, validate_rows
from mowich.facts import load_facts
from mowich.studies.calibrate import calibrate
from mowich.version import VERSION

NAME = "Mowich"
NEEDS = "the folder of published rows"
FOLDS = 30
"""Of groups, as the page of serving's accuracy has them."""
Ranges = dict[str, dict[str, float]]


def by_left_out(cases: Sequence[Any], asked: Mapping[str, str]) -> Answers:
    """Forecasts of rows of serving, each without what its class says. asked: row -> class."""
    p = fit_serving.Problem(cases)
    theta, _ = fit_serving.constants(p, np.ones(len(cases), dtype=bool))
    slopes = p.slopes(theta)
    group = [f"{c.chip}, {one.model}, {c.version}" for c, one in zip(cases, p.classes, strict=True)]
    names = {
        KNOWN: fit_serving.folds_of(group, FOLDS),
        MODEL: [one.model for one in p.classes],
        RELEASE: [one.version or one.engine for one in p.classes],
    }
    requests, out = p.requests(), {}
    for kind, of in names.items():
        rows = [i for i, case in enumerate(cases) if asked.get(case.id) == kind]
        # only the folds that are asked for
        here = {of[i] for i in rows}
        left = fit_serving.left_out(p, theta, slopes, [name if name in here else "" for name in of])
        for i in rows:
            out[cases[i].id] = served(cases[i], i, left, p, requests)
    return out


def served(case: Any, i: int, left: Mapping[str, Any], p: Any, requests: Any) -> dict[str, dict[str, float]]:
    """One forecast from its errors: value, low, high of every metric that the row states."""
    out, half = {}, {}
    for metric in ("ttft", "tpot"):
        error, half[metric] = float(left[metric].error[i]), float(left[metric].half[i])
        if not math.isnan(error):
            out[f"{metric}_ms"] = ranged(1e3 * math.exp(error + float(p.measured[metric][i])), half[metric])
    error, tokens = float(left["tok/s"].error[i]), float(p.table.load.output[i])
    if not math.isnan(error):
        rate = case.users * case.plan.dp * tokens / math.exp(error + float(requests[i])) / case.chips
        share = out["ttft_ms"]["value"] / 1e3 / math.exp(error + float(requests[i])) if "ttft_ms" in out else 0.0
        out["output_tok_s_per_chip"] = ranged(rate, math.hypot(share * half["ttft"], (1.0 - share) * half["tpot"]))
    return out


def ranged(value: float, half: float) -> dict[str, float]:
    """half: ln half-width of the range."""
    return {"value": value, "low": value * math.exp(-half), "high": value * math.exp(half)}


def as_shipped(results: Sequence[Any]) -> dict[str, dict[str, float]]:
    return {r.metric: {"value": r.predicted, "low": r.low, "high": r.high} for r in results if r.predicted is not None}


def answer_serving(rows: Sequence[Row], truth: Path) -> tuple[Answers, dict[str, str], float]:
    facts, out, reasons, seconds = load_facts(), {}, {}, 0.0
    for table in ("serving", "mi300x"):
        mine = {row["id"]: row["kind"] for row in rows if row["table"] == table}
        if not mine:
            continue
        start = time.process_time()
        cases = serving_cases(truth, table)
        seconds += (time.process_time() - start) * len(mine) / len(cases)
        ids = [row["id"] for row in cells_of(truth, table)]
        reasons |= {at: case for at, case in zip(ids, cases, strict=True) if at in mine and isinstance(case, str)}
        read = [case for case in cases if not isinstance(case, str)]
        start = time.process_time()
        now = [case for case in read if case.id in mine]
        shipped = dict(zip([case.id for case in now], predict_serving(now, facts), strict=True)) if now else {}
        seconds += time.process_time() - start
        left = {at: kind for at, kind in mine.items() if kind in (KNOWN, MODEL, RELEASE)}
        out |= {at: as_shipped(found) for at, found in shipped.items() if at not in left}
        if left:
            out |= by_left_out([case for case in read if not case.decode_only], left)
    return out, reasons, seconds


def answer_training(rows: Sequence[Row], truth: Path) -> tuple[Answers, dict[str, str], float]:
    mine, facts = {row["id"]: row["kind"] for row in rows if row["table"] == "training"}, load_facts()
    if not mine:
        return {}, {}, 0.0
    cells = [row for row in read_csv(truth / TABLES["training"], facts) if row["id"] in mine]
    start, out, reasons = time.process_time(), {}, {}
    cases = read_cases(cells, facts)
    for case in cases:
        if not isinstance(case, str):
            predict(case, facts)
    seconds = time.process_time() - start
    with HELD_OUT.open(newline="", encoding="utf-8") as file:
        held = {row["id"]: row for row in csv.DictReader(file)}
    for row, case in zip(cells, cases, strict=True):
        at = row["id"]
        if isinstance(case, str):
            reasons[at] = case
        elif at not in held:
            reasons[at] = "read, but not among the rows that were left out"
        else:
            without = "source" if mine[at] in (RELEASE, CHIP) else "group"
            step = case.measured_step_s * math.exp(float(held[at][f"error_{without}"]))
            out[at] = {"step_s": {"value": step, "inside": held[at][f"inside_{without}"] == "1"}}
    return out, reasons, seconds


def answer_profile(rows: Sequence[Row], truth: Path) -> tuple[Answers, dict[str, str], float]:
    """Calibrated with one half of the profile, asked of the other, and the other way round."""
    mine = {row["id"] for row in rows if row["table"] == "profile"}
    if not mine:
        return {}, {}, 0.0
    every, out, reasons, seconds = cells_of(truth, "profile"), {}, {}, 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = [folder / f"half{i}.csv" for i in (0, 1)]
        for i, file in enumerate(files):
            write_rows(file, every[i::2])
        for i, own in enumerate(files):
            overlay = folder / f"own{i}.yaml"
            facts = load_facts([overlay]) if calibrate([own], load_facts(), out=overlay).written else load_facts()
            asked = folder / f"asked{i}.csv"
            write_rows(asked, [row for row in every[1 - i :: 2] if row["id"] in mine])
            start = time.process_time()
            for r in validate_rows(asked, facts).rows:
                if r.predicted is None:
                    reasons[r.id] = r.reason or "refused"
                else:
                    out[r.id] = {"pass_ms": {"value": r.predicted, "low": r.low, "high": r.high}}
            seconds += time.process_time() - start
    return out, reasons, seconds


def write_rows(file: Path, rows: Sequence[Mapping[str, str]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as out:
        table = csv.DictWriter(out, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def version(options: Namespace) -> str:
    return f"{VERSION}, facts {load_facts().hash()[:12]}"


def answer(rows: list[Row], options: Namespace) -> tuple[Answers, dict[str, str], float]:
    truth = Path(options.truth)
    parts = [of(rows, truth) for of in (answer_serving, answer_training, answer_profile)]
    out: Answers = {}
    reasons: dict[str, str] = {}
    for answers, why, _ in parts:
        out |= answers
        reasons |= why
    return out, reasons, sum(seconds for _, _, seconds in parts)


if __name__ == "__main__":
    main(version, answer)
