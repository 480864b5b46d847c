"""Mowich beside Calculon, in one run: the same model, system and space; how fast each evaluates it and what each finds
best.

    CALCULON=../calculon python tools/beside_calculon.py [--sample 3000] [--top 300] [--json FILE]

CALCULON is a checkout of github.com/calculon-ai/calculon (Apache-2.0); without it only Mowich runs. Calculon's logging
is disabled, which makes it four to seven times faster than as shipped, so that the comparison is with its arithmetic.
Times are CPU seconds of one process.

Calculon's options as columns of a plan: tensor, pipeline, data -> tp, pp, dp; interleaving -> vpp; recompute full,
attn_only, none -> full, selective, none (the stack is megatron-2021, where selective recomputes the attention core);
optimizer sharding -> zero 1 or 0; ar -> sp off; p2p_rs_ag -> sp off, pp_scatter; rs_ag -> sp; seq_par_ag_redo ->
regather; overlap of tensor or data parallelism -> tp_overlap, dp_overlap ("ring" and "pipe" differ only in Calculon,
which has a formula for each); offload of weights, activations, optimizer -> offload; network tier of each dimension ->
order, that which puts the dimensions on the first tier inside the others. One value each in its search, and no column:
fused activation, attention type.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mowich import facts, models
from mowich.arrays import constant
from mowich.errors import UserError
from mowich.models.model import Model
from mowich.plans import schedules
from mowich.plans.plan import OFFLOADS, ORDERS, Plan, Plans, TrainJob
from mowich.software.stack import Platform, equip
from mowich.training.search import memory_of_plans, search, step_s_per_token
from mowich.training.step import micro_batches_of

CASES = (("turing-530B", "megatron-530b", 5128, 2520), ("megatron-1T", "megatron-1t", 4096, 4096))
"""(Calculon's name, ours, A100s, largest batch in sequences)."""

SEQ = 2048

HOST_B, HOST_BPS = 512 * 2**30, 32e9
"""The second memory tier of Calculon's A100 system file; our own facts give a GPU a third of that."""

TIERS = {(0, 1, 1): 0, (0, 1, 0): 0, (0, 0, 1): 1, (1, 1, 0): 2, (1, 0, 1): 4, (1, 0, 0): 5, (0, 0, 0): 0, (1, 1, 1): 0}
"""Network tier of (tensor, pipeline, data) -> order of ranks. All on the second tier has no counterpart: some dimension
is always innermost."""


def divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


def blocks(model: Model, num: int, most: int) -> Iterator[tuple[int, int, int, int]]:
    """(tp, pp, dp, batch) of Calculon's outer loops."""
    heads, L = model.layers[0].attention.num_heads, model.num_layers
    for tp in divisors(num):
        if model.hidden % tp or heads % tp:
            continue
        for pp in divisors(min(num // tp, L)):
            if num % (tp * pp) or L % pp:
                continue
            dp = num // (tp * pp)
            if dp <= most:
                yield tp, pp, dp, most // dp * dp


FIELDS = (
    "vpp",
    "recompute",
    "zero",
    "comm",
    "regather",
    "dp_overlap",
    "tp_overlap",
    "weights",
    "activations",
    "optimizer",
    "micro_batch",
    "tier_tp",
    "tier_pp",
    "tier_dp",
)
"""Calculon's inner loops, in its order. comm: ar, p2p_rs_ag, rs_ag; tp_overlap: none, ring, pipe."""


def inner(model: Model, tp: int, pp: int, dp: int, batch: int) -> dict[str, np.ndarray]:
    """Columns of Calculon's inner loops under one (tp, pp, dp)."""
    both, off = (1, 0), (0,)
    axes: dict[str, tuple[int, ...]] = {
        "vpp": tuple(divisors(model.num_layers // pp)) if pp > 1 else (1,),
        "recompute": (2, 1, 0),
        "zero": both if dp > 1 else off,
        "comm": (0, 1, 2),
        "regather": both,
        "dp_overlap": both if dp > 1 else off,
        "tp_overlap": (0, 1, 2) if tp > 1 else off,
        "weights": both,
        "activations": both,
        "optimizer": both,
        "micro_batch": tuple(m for m in divisors(batch // dp) if m * SEQ % tp == 0),
        "tier_tp": (0, 1) if tp > 1 else off,
        "tier_pp": (0, 1) if pp > 1 else off,
        "tier_dp": (0, 1) if dp > 1 else off,
    }
    mesh = np.meshgrid(*[np.array(v, dtype=np.int64) for v in axes.values()], indexing="ij", sparse=True)
    out = dict(zip(axes, mesh, strict=True))
    keep = (out["regather"] == 0) | ((out["comm"] == 2) & (out["recompute"] != 2))
    keep = keep & ((out["activations"] == 0) | (out["recompute"] != 2))
    shape = np.broadcast_shapes(*(column.shape for column in mesh))
    kept = np.broadcast_to(keep, shape)
    # a column of one value takes no memory
    return {
        name: np.broadcast_to(column, shape)[kept] if column.size > 1 else np.broadcast_to(column.ravel(), kept.sum())
        for name, column in out.items()
    }


def as_plans(rows: dict[str, np.ndarray], tp: int, pp: int, dp: int) -> Plans:
    """The same configurations as columns of plans."""
    n = len(rows["vpp"])
    order = np.zeros((2, 2, 2))
    for tiers, code in TIERS.items():
        order[tiers] = code
    return Plans(
        tp=constant(tp, n),
        sp=(rows["comm"] == 2) * 1.0,
        pp=constant(pp, n),
        vpp=rows["vpp"] * 1.0,
        dp=constant(dp, n),
        cp=constant(1, n),
        ep=constant(1, n),
        etp=constant(1, n),
        zero=rows["zero"] * 1.0,
        micro_batch=rows["micro_batch"] * 1.0,
        recompute=rows["recompute"] * 1.0,
        precision=constant(0, n),
        schedule=(rows["vpp"] > 1) * 1.0,
        order=order[rows["tier_tp"], rows["tier_pp"], rows["tier_dp"]],
        split=constant(0, n),
        offload=1.0 * rows["optimizer"] + 2.0 * rows["activations"] + 4.0 * rows["weights"],
        tp_overlap=(rows["tp_overlap"] > 0) * 1.0,
        dp_overlap=rows["dp_overlap"] * 1.0,
        pp_scatter=(rows["comm"] == 1) * 1.0,
        # without sequence parallelism, or with full recompute, there is nothing to keep
        regather=((rows["regather"] == 1) | (rows["comm"] < 2) | (rows["recompute"] == 2)) * 1.0,
    )


def of_calculon(
    rows: dict[str, np.ndarray], i: int, num: int, tp: int, pp: int, dp: int, batch: int
) -> tuple[Any, ...]:
    """Row i as the arguments of Calculon's Execution."""
    r = {name: int(column[i]) for name, column in rows.items()}
    return (
        num,
        tp,
        pp,
        dp,
        r["tier_tp"],
        r["tier_pp"],
        r["tier_dp"],
        batch,
        r["micro_batch"],
        "float16",
        True,
        "multihead",
        ("none", "attn_only", "full")[r["recompute"]],
        r["vpp"],
        bool(r["zero"]),
        ("ar", "p2p_rs_ag", "rs_ag")[r["comm"]],
        ("none", "ring", "pipe")[r["tp_overlap"]],
        bool(r["regather"]),
        bool(r["dp_overlap"]),
        bool(r["weights"]),
        bool(r["activations"]),
        bool(r["optimizer"]),
        True,
    )


class Calculon:
    """Calculon's own model and system files and its evaluation of one configuration."""

    def __init__(self, root: Path, app: str) -> None:
        sys.path.insert(0, str(root))
        logging.disable(logging.CRITICAL)
        import calculon.io
        from calculon.llm import Llm
        from calculon.llm.all_executions import AllExecutions
        from calculon.system import System as Machine

        self.llm, self.all = Llm, AllExecutions
        self.app = Llm.Application(calculon.io.read_json_file(str(root / "models" / f"{app}.json")))
        self.machine = Machine(calculon.io.read_json_file(str(root / "systems" / "a100_80g.json")))
        self.log = logging.Logger("silent")
        self.log.disabled = True

    def count(self, num: int, most: int) -> int:
        """Configurations that its exhaustive search enumerates."""
        return sum(1 for _ in self.all.all_executions(self.app, self.machine, num, most, "float16", [True]))

    def rate(self, execution: tuple[Any, ...]) -> float | None:
        """Samples per second, or None where it refuses the configuration."""
        try:
            model = self.llm(self.app, self.log)
            model.compile(self.machine, self.llm.Execution(*execution))
            model.run(self.machine)
            return float(model.get_sample_rate())
        except self.llm.Error:
            return None


def runs(job: TrainJob, plans: Plans) -> np.ndarray:
    """Which plans have the micro-batches that their schedule needs at the batch asked for: interleaved ones run in
    whole rounds here, not in Calculon."""
    g = micro_batches_of(job, plans)
    ok = np.abs(g * plans.micro_batch * plans.dp / job.batch_seqs - 1.0) <= job.batch_tolerance
    for _, legal in schedules.legal(plans.schedule, plans.pp, g):
        ok &= legal
    return ok


def mowich_space(model: Model, system: Platform, num: int, most: int) -> dict[str, Any]:
    """Evaluate Calculon's space with Mowich's formulas: rows, CPU seconds, the best that fits, and where each row
    was."""
    start, count, fitting = time.process_time(), 0, 0
    tops: list[tuple[float, int, tuple[int, int, int, int], int]] = []
    for tp, pp, dp, batch in blocks(model, num, most):
        rows = inner(model, tp, pp, dp, batch)
        plans = as_plans(rows, tp, pp, dp)
        job = TrainJob(tokens=1e12, seq=SEQ, batch_seqs=batch)
        good = np.flatnonzero(memory_of_plans(model, system, job, plans)[1])
        good = good[runs(job, plans.take(good))]
        count, fitting = count + len(plans), fitting + len(good)
        times = step_s_per_token(model, system, job, plans.take(good))
        if len(good) > 2000:
            first = np.argpartition(times, 2000)[:2000]
            good, times = good[first], times[first]
        # of equal times the plainest order of ranks comes first
        orders = plans.order[good].tolist()
        rows = zip(times.tolist(), orders, good.tolist(), strict=True)
        tops += [(time_s, int(order), (tp, pp, dp, batch), i) for time_s, order, i in rows]
    tops.sort()
    return {"count": count, "fitting": fitting, "seconds": time.process_time() - start, "tops": tops}


def row_of(model: Model, at: tuple[int, int, int, int], i: int) -> tuple[dict[str, np.ndarray], Plan]:
    """(Calculon's columns, our plan) of one row."""
    rows = {name: column[i : i + 1] for name, column in inner(model, *at).items()}
    return rows, as_plans(rows, *at[:3]).plan(0)


def compare(name: str, ours: str, num: int, most: int, root: Path | None, sample: int, top: int) -> dict[str, Any]:
    """One case: counts, rates, optima."""
    known = facts.load_facts()
    model = models.load_model(ours)
    system = replace(equip(known, "a100", chips=num, stack="megatron-2021"), host_Bps=HOST_BPS, host_B=HOST_B)
    mowich_space(model, system, num, 64)  # warm
    found = mowich_space(model, system, num, most)
    if found["count"] < 10**6:  # a space of milliseconds is timed over many rounds
        found["seconds"] = sum(mowich_space(model, system, num, most)["seconds"] for _ in range(50)) / 50
    out: dict[str, Any] = {
        "case": name,
        "chips": num,
        "configurations": found["count"],
        "fit": found["fitting"],
        "mowich_cpu_s": found["seconds"],
        "mowich_per_s": found["count"] / found["seconds"],
    }
    seconds_per_token, _, at, index = found["tops"][0]
    out |= {"mowich_best": str(row_of(model, at, index)[1]), "mowich_best_seqs_per_s": 1.0 / (seconds_per_token * SEQ)}
    own_start = time.process_time()
    wide = {
        "schedule": ("1f1b", "interleaved", "zb-h1", "zb-v"),
        "order": ORDERS,
        "vpp": (1, 2, 4, 8, 16, 32),
        "offload": OFFLOADS,
        "regather": (0, 1),
        "zero": (0, 1, 3),
    }
    try:
        own = search(model, system, TrainJob(tokens=1e12, seq=SEQ, batch_seqs=most), fixed=wide)
        out |= {
            "own_space": own.evaluated,
            "own_cpu_s": time.process_time() - own_start,
            "own_best": str(own.best[0].plan),
            "own_best_seqs_per_s": 1.0 / (own.best[0].seconds_per_token * SEQ),
        }
    except UserError as error:
        out["own_best"] = error.line()
    if root is None:
        return out
    theirs = Calculon(root, name)
    out["calculon_enumerates"] = theirs.count(num, most)
    chosen = random.Random(0)
    table = list(blocks(model, num, most))
    sizes = [len(inner(model, *at)["vpp"]) for at in table]
    picks = chosen.sample(range(sum(sizes)), min(sample, sum(sizes)))
    places = np.searchsorted(np.cumsum(sizes), picks, side="right")
    starts = np.concatenate([[0], np.cumsum(sizes)])
    cases = [(table[k], int(i - starts[k])) for k, i in zip(places, picks, strict=True)]
    executions = [of_calculon(row_of(model, at, i)[0], 0, num, *at) for at, i in cases]
    start = time.process_time()
    rates = [theirs.rate(execution) for execution in executions]
    spent = time.process_time() - start
    out |= {
        "sampled": len(executions),
        "accepted": sum(r is not None for r in rates),
        "calculon_cpu_s": spent,
        "calculon_per_s": len(executions) / spent,
    }
    out["times_faster"] = out["mowich_per_s"] / out["calculon_per_s"]
    ranked = [
        (theirs.rate(of_calculon(row_of(model, at, i)[0], 0, num, *at)), at, i)
        for _, _, at, i in found["tops"][:: max(1, len(found["tops"]) // top)]
    ]
    pool = [(r, at, i) for (at, i), r in zip(cases, rates, strict=True)] + ranked
    good = sorted(((r, at, i) for r, at, i in pool if r is not None), reverse=True)
    if good:
        rate, at, i = good[0]
        plan = row_of(model, at, i)[1]
        columns = Plans.of([plan])
        job = TrainJob(tokens=1e12, seq=SEQ, batch_seqs=at[3])
        _, fits = memory_of_plans(model, system, job, columns)
        fits &= runs(job, columns)
        ours_of_it = 1.0 / (float(step_s_per_token(model, system, job, columns)[0]) * SEQ)
        out |= {
            "calculon_best": str(plan),
            "calculon_best_seqs_per_s": rate,
            "under_mowich_seqs_per_s": ours_of_it,
            "under_mowich_fits": bool(fits[0]),
            "calculon_says_of_mowich_best": theirs.rate(
                of_calculon(row_of(model, found["tops"][0][2], index)[0], 0, num, *found["tops"][0][2])
            ),
        }
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--sample", type=int, default=3000, help="configurations that Calculon evaluates for its rate")
    parser.add_argument(
        "--top", type=int, default=300, help="of our ranking, how many Calculon evaluates to look for its optimum"
    )
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    where = os.environ.get("CALCULON")
    results = [compare(*case, Path(where) if where else None, args.sample, args.top) for case in CASES]
    for result in results:
        print(f"\n{result.pop('case')}")
        for key, value in result.items():
            print(
                f"  {key:32} {value:,.2f}"
                if isinstance(value, float)
                else f"  {key:32} {value:,}"
                if type(value) is int
                else f"  {key:32} {value}"
            )
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
