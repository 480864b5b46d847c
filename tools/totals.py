"""Chip-hours of whole runs as published (tools/totals.yaml) against what Mowich predicts.

A total is no step: the maker counts restarts, evaluation, the ramp of the batch and the software of the day. So the
published hours over those of our best 16-bit plan are a factor with its own spread, and only a run whose layout is
stated in full is compared by its step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from mowich.facts import Facts, load_facts
from mowich.models import load_model
from mowich.models.model import as_trained
from mowich.plans.plan import Plan, TrainJob
from mowich.software.stack import equip
from mowich.studies.batches import NEAR_BATCH
from mowich.training.search import search
from mowich.training.step import predict_step
from mowich.units import StepBatch, parse_count

TOTALS = Path(__file__).with_name("totals.yaml")

HEAD = """
## Whole runs

Chip-hours as their makers state them, against those that we predict for as many chips: of our best 16-bit plan with the software of today, or of the run's own layout where it is
stated in full (`python tools/totals.py`). A total is no step: it holds restarts, evaluation, the ramp of the batch and the software of its day. So the quotient is a factor to
plan with, not an error. What the source does not state of chips, sequence and batch was assumed.

| model | chips | tokens | published, h | ours, h | of | published / ours | assumed | source |
|--|--:|--:|--:|--:|--|--:|--|--|"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """One run. hours, our_hours: published, and predicted; stack: the software of a run whose own layout is stated in
    full, "" where the plan is our best; step_s, our_step_s: seconds a step, as the hours say and as we predict."""

    entry: Mapping[str, object]
    hours: float
    our_hours: float
    stack: str
    step_s: float
    our_step_s: float

    @property
    def factor(self) -> float:
        return self.hours / self.our_hours


def entries() -> list[dict[str, object]]:
    """The runs of the file."""
    loaded = yaml.safe_load(TOTALS.read_text(encoding="utf-8"))
    assert isinstance(loaded, list)
    return loaded


def total(entry: Mapping[str, object], facts: Facts) -> Total:
    """A run with its predictions."""
    model = as_trained(load_model(str(entry["model"])))
    seq, chips = parse_count(str(entry["seq"])), int(parse_count(str(entry["chips"])))
    tokens, hours = parse_count(str(entry["tokens"])), parse_count(str(entry["chip_hours"]))
    batch = StepBatch.read(entry["batch"]).of(seq)
    job = TrainJob(tokens=tokens, seq=int(seq), batch_seqs=batch, batch_tolerance=NEAR_BATCH)  # reports round it
    own = entry.get("step")
    stack = str(own["stack"]) if isinstance(own, Mapping) else ""
    system = equip(facts, str(entry["system"]), chips=chips, stack=stack or None)
    if isinstance(own, Mapping):
        step = predict_step(model, system, job, Plan.from_dict(own["plan"]))
        step_s, step_tokens = step.total_s, step.tokens
    else:
        best = search(model, system, job, fixed={"precision": ("bf16",)}, smaller_dp=False).best[0]
        step_s, step_tokens = best.step_s, best.tokens
    return Total(
        entry=entry,
        hours=hours,
        our_hours=tokens / step_tokens * step_s * chips / 3600.0,
        stack=stack,
        step_s=step_tokens * hours * 3600.0 / (tokens * chips),
        our_step_s=step_s,
    )


def section(facts: Facts) -> list[str]:
    """The section of docs/records/accuracy.md."""
    found = [total(entry, facts) for entry in entries()]
    lines = [*HEAD.splitlines()]
    for t in found:
        e, of = t.entry, f"own layout, {t.stack}" if t.stack else "best plan"
        lines.append(
            f"| {e['model']} | {e['chips']} {e['system']} | {e['tokens']} | {t.hours:,.0f} | {t.our_hours:,.0f} | {of} |"
            f" {t.factor:.2f} | {e['assumed'] or '-'} | [{e['source']}]({e['address']}), {e['date']} |"
        )
    factors = np.array([t.factor for t in found if not t.stack])
    lines += [
        "",
        (
            f"Of our best plans the median factor is {np.median(factors):.2f}, {factors.min():.2f} to"
            f" {factors.max():.2f}. To plan a whole run, multiply the chip-hours of a best plan by it."
        ),
    ]
    for t in found:
        if t.stack:
            lines += [
                "",
                (
                    f"**{t.entry['model']} in its own layout** (nothing fitted to it): the hours say {t.step_s:.1f} s a"
                    f" step, we predict {t.our_step_s:.1f} s ({t.our_step_s / t.step_s - 1.0:+.0%})."
                ),
            ]
    return lines


if __name__ == "__main__":
    print("\n".join(section(load_facts())))
