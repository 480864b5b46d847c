"""Operator timing tables against fitted constants, on measured Trainium serving.

    python tools/serving_tables.py CSV        (../shared/truth/serving_calibration.csv, or rows of your own in that
    form)

For each row of Trainium 1, Inferentia2 (the same NeuronCore) and Trainium 2 with 16-bit weights, a step is predicted
twice without corrections: matrix products and decode attention from the constants of `facts/serving`, and from
`mowich.operators.tables`. Each side gets the factor on these operators, and then also on the fixed time per layer, that
suits it
best: what is left is what its shape gets wrong. Prompts: measured TTFT over the tables' time of the prompt's matrix
products and attention.
"""

from __future__ import annotations

import argparse
import csv
import itertools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mowich.evidence.serving_cases import Cases, gather_cases
from mowich.evidence.serving_checks import read_serving_cases
from mowich.evidence.serving_rows import ServingCase
from mowich.facts import load_facts
from mowich.models import ops
from mowich.operators.tables import operator_s
from mowich.serving.steady import Steady

CHIPS = {"trainium1": "trainium1", "inferentia2": "trainium1", "trainium2": "trainium2"}
"""Chip of a row -> chip of the tables."""
FACTORS, LAYERS = np.linspace(0.3, 3.0, 28), np.linspace(0.0, 2.0, 21)


def tabled(case: ServingCase, n: float, context: float, prompt: float) -> tuple[float, float]:
    """(seconds of a decode step's, of a prompt's products and attention) on one device; nan where a table does not
    reach."""
    chip, tp = CHIPS[case.chip], float(case.plan.tp)
    decode = whole = 0.0
    for layer in case.model.layers:
        for gemm in ops.dense_gemms(layer, case.model.hidden):
            cols, rows = gemm.local(np.array([tp]))
            both = operator_s(chip, "matmul", "bf16", {"m": [n, prompt], "n": cols, "k": rows}).seconds
            decode, whole = decode + layer.count * float(both[0]), whole + layer.count * float(both[1])
        a = layer.attention
        caches, heads = max(1.0, a.num_kv_heads / tp), max(1.0, a.num_heads / tp)
        shape = {
            "sequences": n * caches,
            "group": max(1.0, heads / caches),
            "context": min(context, a.window or context),
            "head_dim": a.head_dim,
        }
        decode += layer.count * float(operator_s(chip, "attention_decode", "bf16", shape).seconds)
        shape = {"heads": heads, "queries": prompt, "prefix": 0, "head_dim": a.head_dim}
        whole += layer.count * float(operator_s(chip, "attention_prefill", "bf16", shape).seconds)
    return decode, whole


def best(
    operators: NDArray[np.float64],
    layers: NDArray[np.float64],
    rest: NDArray[np.float64],
    measured: NDArray[np.float64],
    scales: NDArray[np.float64],
) -> str:
    """Median and 90th percentile of the error at the factors that make their sum least."""
    found = (np.inf, 0.0, 0.0, 0.0, 0.0)
    for f, g in itertools.product(FACTORS, scales):
        error = np.expm1(np.abs(np.log((rest + f * operators + g * layers) / measured)))
        median, high = float(np.median(error)), float(np.quantile(error, 0.9))
        found = min(found, (median + high, median, high, float(f), float(g)))
    _, median, high, f, g = found
    return f"{median:.1%} / {high:.1%} (operators x {f:.1f}, layers x {g:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path)
    with parser.parse_args().csv.open(encoding="utf-8") as file:
        rows = [{k: v.strip() for k, v in row.items()} for row in csv.DictReader(file)]
    facts = load_facts()
    cases = [
        c
        for c in read_serving_cases(rows, facts)
        if not isinstance(c, str) and not c.decode_only and c.chip in CHIPS and c.plan.weights == "bf16"
    ]
    table: Cases = gather_cases(cases, facts)
    steady: Steady = table.steady(np.array([facts.number(path) for path in table.columns.names]))
    columns = []
    for i, case in enumerate(cases):
        context = float(table.load.prompt[i] + 0.5 * table.load.output[i])
        decode, whole = tabled(
            case, float(steady.running[i]) / max(1, case.plan.pp), context, max(1.0, float(table.load.prompt[i]))
        )
        parts = {k: float(v[i]) for k, v in steady.tpot_parts.items()}
        own = parts["linear"] + parts["attention"]
        measured = [case.measured.get(k) or np.nan for k in ("tpot_ms", "ttft_ms")]
        columns.append(
            [
                own,
                decode,
                parts["layers"],
                float(steady.tpot_s[i]) - own - parts["layers"],
                measured[0] / 1e3,
                whole,
                measured[1] / 1e3,
            ]
        )
    data = np.array(columns)
    known = data[np.isfinite(data[:, :5]).all(axis=1)]
    print(
        f"{len(known)} rows with TPOT of {len(cases)}; the others are mixtures of experts, or shapes beyond the tables"
    )
    for name, scales in (("one factor on operators", np.ones(1)), ("and one on layers", LAYERS)):
        for side, column in (("constants", 0), ("tables", 1)):
            print(f"  {name}, {side}: {best(known[:, column], known[:, 2], known[:, 3], known[:, 4], scales)}")
    ratio = (data[:, 6] / data[:, 5])[np.isfinite(data[:, 5:]).all(axis=1)]
    low, median, high = np.quantile(ratio, [0.1, 0.5, 0.9])
    print(f"measured TTFT over the tables' time of a prompt: median {median:.1f}, 10% to 90% {low:.1f} to {high:.0f}")


if __name__ == "__main__":
    main()
