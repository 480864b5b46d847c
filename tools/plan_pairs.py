"""Prints how often measured runs follow the order predicted for their plans, by how far apart they are predicted: the
evidence of `training.residuals.plan_margin`.

    python tools/plan_pairs.py [--plans N]

--plans: beside that, of N published runs whose plan is stated, how many choices the fastest plan and the preferred one
(`plans.preference`) share with the one that ran.
"""

from __future__ import annotations

import argparse
import itertools
import random
import time

from mowich import facts as facts_module
from mowich.evidence.plan_order import in_order, plan_pairs
from mowich.evidence.rows import Case
from mowich.evidence.scores import Validation
from mowich.evidence.validate import validate_rows
from mowich.facts import Facts
from mowich.plans.preference import margin
from mowich.training.search import search

EDGES = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 9.0)
COMPARED = ("tp", "pp", "vpp", "cp", "ep", "zero", "micro_batch", "recompute", "offload")


def by_distance(validation: Validation) -> None:
    """Prints the shares."""
    found = plan_pairs(validation.rows)
    print(f"{len(found)} pairs of measured plans of one job")
    for low, high in [*itertools.pairwise(EDGES), (0.0, 0.01), (0.0, 0.02)]:
        count, share = in_order(found, low, high)
        print(f"predicted {low:.1%} to {high:.1%} apart: {count} pairs, {share:.0%} in the order predicted")


def beside_published(validation: Validation, facts: Facts, most: int) -> None:
    """Prints the agreement with published plans, of each job the fastest that was measured."""
    best: dict[object, Case] = {}
    for row in validation.rows:
        case = row.case
        if case is None or not case.fully_specified or case.job.frozen_base:
            continue
        key = (
            case.system.id,
            case.system.chips,
            case.model.name,
            case.job.seq,
            case.job.batch_seqs,
            case.plan.precision,
        )
        if key not in best or case.measured_step_s < best[key].measured_step_s:
            best[key] = case
    cases = list(best.values())
    random.Random(0).shuffle(cases)
    shares, changed, took = {"fastest": 0, "preferred": 0}, [0, 0, 0], 0.0
    cases = cases[:most]
    for case in cases:
        begin = time.process_time()
        precision = {"precision": (case.plan.precision,)}
        found = search(case.model, case.system, case.job, fixed=precision, margin=margin(facts))
        took += time.process_time() - begin
        if not found.best or found.preferred is None:
            continue
        both = found.best[0].plan, found.preferred.plan
        same = [sum(getattr(plan, name) == getattr(case.plan, name) for name in COMPARED) for plan in both]
        for name, count in zip(shares, same, strict=True):
            shares[name] += count
        if both[0] != both[1]:
            changed = [n + more for n, more in zip(changed, (1, *same), strict=True)]
    print(f"{len(cases)} published plans, {len(COMPARED)} choices each; {took:.1f} s of CPU")
    print(", ".join(f"{name}: {count / len(cases):.2f} as published" for name, count in shares.items()))
    if changed[0]:
        print(
            f"of the {changed[0]} whose preferred plan is not the fastest: fastest {changed[1] / changed[0]:.2f},"
            f" preferred {changed[2] / changed[0]:.2f}"
        )


def main() -> None:
    """Run as a script."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plans", type=int, default=0)
    asked = parser.parse_args()
    facts = facts_module.load_facts()
    validation = validate_rows(None, facts)
    by_distance(validation)
    if asked.plans:
        beside_published(validation, facts, asked.plans)


if __name__ == "__main__":
    main()
