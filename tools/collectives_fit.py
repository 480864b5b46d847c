"""Fits the constants of facts/networks/collectives.yaml again, and prints them beside those that ship.

    pip install aiconfigurator-core==0.12.* pandas pyarrow scipy
    python tools/collectives_fit.py
    python tools/collectives_fit.py --trainium      (calls of the framework on Trainium; writes facts/published/left_out.json)

Data: NCCL tables of aiconfigurator (half precision; NCCL 2.29.2, A100 2.27.3; 2, 4 and 8 GPUs) and the multi-node rows
of facts/published/collectives.csv, which count four times. Loss: soft L1 of the log of predicted over measured, cut at
a factor of 1.8. One constant per mechanism and chip family; none for a row.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from statistics import NormalDist

import numpy as np
from accuracy import kept

from mowich.evidence.collective_rows import BULK_B, MeasuredCollective, read_collective_row, validate_collectives
from mowich.evidence.collective_times import times
from mowich.evidence.measured_tables import TRAINIUM_COLLECTIVES, published, read_csv
from mowich.evidence.row_checks import PublishedRow
from mowich.evidence.scores import FITTED_TO, RowResult, left_out_file, summarise
from mowich.facts import Fact, Facts, load_facts
from mowich.machines import collectives
from mowich.machines.system import resolve
from mowich.machines.topology import on_network, per_chip
from mowich.studies.rooms.collective.published import measured

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


CALLS = f"{ROOT}.calls.neuron.framework"


def _device_s(facts: Facts, case: MeasuredCollective, share: float) -> float:
    """Seconds of a measured collective without the call, at a share of the rate of cores."""
    known = facts.with_values(
        {f"{CALLS}.{name}": 1e-9 for name in ("call", "host_call")} | {f"{CALLS}.rate_share": share}
    )
    return float(times(case.runs_on.system(known), case.kind, np.array([case.data_B]), case.ranks, 1.0)[0][0])


FLOOR_B = 2**20
"""Bytes up to which a call is most of the time: what such rows take beside the device shows how far calls differ."""


FEW_FLOORS = 3
"""Measured calls up to which their spread tells nothing: then the range of the fact stays."""


def _call_range(value: float, floors: Sequence[float]) -> tuple[float, float]:
    """The 90% range of one more call: log-normal, of the spread of those that were measured."""
    logs = np.log(floors)
    width = NormalDist().inv_cdf(0.95) * float(np.std(logs, ddof=1)) * (1.0 + 1.0 / len(logs)) ** 0.5
    return value * np.exp(-width), value * np.exp(width)


def fit_calls(facts: Facts, cases: Sequence[MeasuredCollective]) -> Mapping[str, Fact]:
    """Constants of calls of the framework from measured ones: the geometric mean of what the smallest take beside the
    device, of few ranks and of a whole host, with the range that small ones show where there are a few; the median
    share of the rate of cores that large ones reach."""
    whole = facts.number(f"{CALLS}.host_ranks")
    out: dict[str, Fact] = {}
    for name, found in (
        ("call", [c for c in cases if c.ranks < whole]),
        ("host_call", [c for c in cases if c.ranks >= whole]),
    ):
        small = [c.time_s - _device_s(facts, c, 1.0) for c in found if c.data_B <= 2**13]
        if small:
            path, value = f"{CALLS}.{name}", float(np.exp(np.mean(np.log(small))))
            floors = [c.time_s - _device_s(facts, c, 1.0) for c in found if c.data_B <= FLOOR_B * c.ranks]
            low, high = facts.fact(path).low, facts.fact(path).high
            if len(floors) > FEW_FLOORS:
                low, high = _call_range(value, floors)
            out[path] = replace(facts.fact(path), value=value, low=low, high=high)
    known = facts.with_values(out)
    shares = []
    for c in cases:
        if c.data_B >= BULK_B:
            call = known.number(f"{CALLS}.{'call' if c.ranks < whole else 'host_call'}")
            shares.append(_device_s(facts, c, 1.0) / (c.time_s - call))
    path = f"{CALLS}.rate_share"
    return out | ({path: replace(facts.fact(path), value=float(np.median(shares)))} if shares else {})


def framework_series(facts: Facts) -> dict[str, list[tuple[PublishedRow, MeasuredCollective]]]:
    """Calls of the framework that were measured together: collective and ranks -> rows."""
    out: dict[str, list[tuple[PublishedRow, MeasuredCollective]]] = {}
    for row in read_csv(published(TRAINIUM_COLLECTIVES), facts):
        case = read_collective_row(row, facts)
        if case.runs_on.layer == "framework":
            out.setdefault(f"{row['kind']} of {case.ranks}", []).append((row, case))
    return out


def series_left_out(facts: Facts) -> Iterator[tuple[str, RowResult]]:
    """(series, row) of calls of the framework, predicted with constants from the other series. A call of a whole host
    was measured in one series alone: it keeps its constant."""
    series = framework_series(facts)
    for name, rows in series.items():
        others = [case for other, found in series.items() if other != name for _, case in found]
        known = facts.with_values(fit_calls(facts, others))
        yield from ((name, r) for r in validate_collectives([row for row, _ in rows], known))


def figures(facts: Facts) -> list[dict[str, object]]:
    """The entries of `mowich.evidence.scores.LeftOut`: rows whose series was left out."""
    rows = [r for _, r in series_left_out(facts)]
    out: list[dict[str, object]] = []
    for what, found in (
        ("64 MiB and more", [r for r in rows if r.stack.endswith("and more")]),
        ("less than 64 MiB", [r for r in rows if not r.stack.endswith("and more")]),
    ):
        of = summarise(found)
        own = {"rows": of.n, "median": of.median_abs_error, "p90": of.p90_abs_error, "in_range": of.interval_coverage}
        words = {"work": FITTED_TO[TRAINIUM_COLLECTIVES], "what": what, "unit": "series"}
        out.append({**words, **{k: round(v, 6) if isinstance(v, float) else v for k, v in own.items()}})
    return out


def trainium() -> None:
    """Prints the constants of calls of the framework beside those that ship, and writes the errors of rows left out."""
    facts = load_facts()
    left_out_file().write_text(kept(FITTED_TO[TRAINIUM_COLLECTIVES], figures(facts)), encoding="utf-8")
    cases = [case for rows in framework_series(facts).values() for _, case in rows]
    for path, found in fit_calls(facts, cases).items():
        ends = f"{found.low:.4g} to {found.high:.4g}"
        print(f"{path.removeprefix(ROOT + '.'):45s} {facts.number(path):.4g} -> {found.value:.4g} ({ends})")


def main() -> None:
    from scipy.optimize import least_squares

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
    trainium() if "--trainium" in sys.argv else main()
