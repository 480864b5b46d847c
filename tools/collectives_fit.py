"""Fits the constants of facts/networks/collectives.yaml again, and prints them beside those that ship.

    pip install aiconfigurator-core==0.12.* pandas pyarrow scipy
    python tools/collectives_fit.py

Data: NCCL tables of aiconfigurator (half precision; NCCL 2.29.2, A100 2.27.3; 2, 4 and 8 GPUs) and the multi-node rows
of facts/published/collectives.csv, which count four times. Loss: soft L1 of the log of predicted over measured, cut at
a factor of 1.8. One constant per mechanism and chip family; none for a row.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares

from mowich.facts import load_facts
from mowich.machines import collectives
from mowich.machines.system import resolve
from mowich.machines.topology import on_network, per_chip
from mowich.studies.collectives import measured

ROOT = "networks.collectives"
SYSTEMS = {
    "a100_sxm": "a100",
    "h100_sxm": "h100",
    "h200_sxm": "h200",
    "b200_sxm": "b200",
    "b300_sxm": "b300",
    "gb200": "gb200",
    "gb300": "gb300",
}
KINDS = {
    "all_reduce": "all-reduce",
    "all_gather": "all-gather",
    "reduce_scatter": "reduce-scatter",
    "alltoall": "all-to-all",
}
FITTED = [
    *(
        f"{ROOT}.{family}.{name}"
        for family in ("ampere", "hopper", "blackwell")
        for name in ("base", "step", "ring_efficiency", "all_to_all_efficiency")
    ),
    *(f"{ROOT}.{family}.switch_reduce_efficiency" for family in ("hopper", "blackwell")),
    *(
        f"{ROOT}.common.{name}"
        for name in (
            "pipeline",
            "pipeline_limit",
            "local_step",
            "all_to_all_steps",
            "switch_reduce_latency",
            "large_network_latency",
            "network_channels",
        )
    ),
    *(f"{ROOT}.scale_out.{name}.step" for name in ("efa", "efa_v1", "infiniband")),
]


def points() -> list[tuple[str, str, str, int, float, float, float]]:
    """(system, network, kind, ranks, bytes, seconds, weight)."""
    import pandas as pd

    origin = find_spec("aiconfigurator_core")
    if origin is None or origin.origin is None:
        raise SystemExit("needs aiconfigurator-core, pandas, pyarrow and scipy")
    root = Path(origin.origin).parent / "systems" / "data"
    out = []
    for name, system in SYSTEMS.items():
        version = "2.27.3" if name == "a100_sxm" else "2.29.2"
        table = pd.read_parquet(root / name / "comm" / "nccl" / version / "nccl_perf.parquet")
        for r in table[table.nccl_dtype == "half"].itertuples():
            out.append((system, "", KINDS[r.op_name], int(r.num_gpus), 2.0 * r.message_size, r.latency * 1e-3, 1.0))
    for m in measured():
        if m.source in ("mlen", "cwnccl", "h200i", "azgb") or (m.source == "awsnt" and m.group <= 16):
            out.append((m.system, m.network, m.kind, m.group, float(m.data_B), m.time_s, 4.0))
    return out


def main() -> None:
    facts = load_facts()
    groups: dict[tuple[str, str, str, int], list[tuple[float, float, float]]] = {}
    for system, network, kind, n, data, seconds, weight in points():
        groups.setdefault((system, network, kind, n), []).append((data, seconds, weight))
    arrays = {k: tuple(np.array(x) for x in zip(*v, strict=True)) for k, v in groups.items()}
    start = np.log([facts.number(p) for p in FITTED])

    def errors(x: np.ndarray) -> np.ndarray:
        known = facts.with_values(dict(zip(FITTED, np.exp(x).tolist(), strict=True)))
        out = []
        for (name, network, kind, n), (data, seconds, weight) in arrays.items():
            system = resolve(known, name, chips=max(n, 2))
            system = per_chip(on_network(known, system, network) if network else system)
            predicted = collectives.choose(system, kind, data, np.full(len(data), float(n)), np.ones(len(data))).time_s
            out.append(weight * np.clip(np.log(predicted / seconds), -0.6, 0.6))
        return np.concatenate(out)

    def report(title: str, x: np.ndarray) -> None:
        weights = np.concatenate([w for _, _, w in arrays.values()])
        e = np.exp(np.abs(errors(x) / weights)) - 1
        print(f"{title}: {len(e)} points, median error {np.median(e):.1%}, 90th percentile {np.quantile(e, 0.9):.1%}")

    report("as shipped", start)
    found = least_squares(errors, start, loss="soft_l1", f_scale=0.1, max_nfev=12)
    report("fitted again", found.x)
    for path, old, new in zip(FITTED, np.exp(start), np.exp(found.x), strict=True):
        print(f"{path.removeprefix(ROOT + '.'):45s} {old:.4g} -> {new:.4g}")


if __name__ == "__main__":
    main()
