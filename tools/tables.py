"""Renews the figures of docs/records/operator-tables.md from the tables that ship: shares of the array's and HBM's rates, what a large
matmul is bound by, and how far interpolation is from the clock at shapes of real models, which are not in the tables.

    python tools/tables.py
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from mowich.facts import load_facts
from mowich.operators.tables import OPERATORS, operator_s
from mowich.studies.kernel_tables import TableSweep, Timer, generations, scopes, sweeps

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "records" / "operator-tables.md"
CHIPS = tuple(generations())
SHORT = {"trainium1": "trn1", "trainium2": "trn2", "trainium3": "trn3"}
PEAK = {"bf16": 1, "fp8": 2, "mxfp8": 4}
"""Rows of K in one pass of the array."""

OFF_GRID: Mapping[str, list[tuple[int, ...]]] = {
    "matmul": [
        (m, n, k)
        for m in (8, 32, 96, 384, 1536, 4096)
        for n, k in ((1280, 8192), (8192, 1024), (7168, 8192), (8192, 3584), (3072, 1536), (5120, 5120))
    ],
    "moe_gemm": [(e, m, n, k) for e in (2, 6, 24) for m in (4, 48, 300, 2177) for n, k in ((1536, 3584), (3584, 768))],
    "swiglu_mlp": [(m, h, f) for m in (16, 256, 2048) for h, f in ((4096, 3584), (8192, 1024), (5120, 4096))],
    "attention_prefill": [
        (h, q, p, 128) for h, q, p in ((1, 256, 0), (2, 1536, 0), (4, 3072, 0), (1, 1024, 2048), (2, 512, 6144))
    ],
    "attention_decode": [(n, g, c, 128) for n in (2, 6, 24) for g, c in ((4, 1024), (8, 4096), (16, 12288))],
    "rmsnorm": [(r, c) for r in (32, 256, 4096) for c in (1536, 5120, 7168)],
    "add": [(r, c) for r in (32, 256, 4096) for c in (1536, 5120, 7168)],
    "adamw": [(262144,), (3145728,), (16777216,)],
}


def flop(op: str, shape: tuple[int, ...]) -> float:
    """Least arithmetic of an operator."""
    return float(OPERATORS[op].flop(*map(np.float64, shape)))


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """Lines of a Markdown table, numbers to the right."""
    head = list(head)
    return [
        "| " + " | ".join(head) + " |",
        "|--|" + "--:|" * (len(head) - 1),
        *("| " + " | ".join(r) + " |" for r in rows),
    ]


def rate(chip: str, dtype: str, cores: int) -> float:
    """FLOP/s of the arrays of so many cores: their size, clock and rows in one pass."""
    facts, g = load_facts(), generations()[chip]
    size = facts.number(f"neuroncore.v{g}.sbuf.partitions") * facts.number(
        f"neuroncore.v{g}.tensor_engine.stationary_columns"
    )
    return 2 * size * facts.number(f"neuroncore.timing-v{g}.tensor_engine.clock") * PEAK[dtype] * cores


def seconds(chip: str, op: str, dtype: str, shape: tuple[int, ...], scope: str) -> float:
    """From the shipped tables."""
    return float(operator_s(chip, op, dtype, dict(zip(OPERATORS[op].dims, shape, strict=True)), scope=scope).seconds)


def device_cores(chip: str) -> int:
    """Cores of one device in scope "chip"."""
    return scopes(chip)[-1].cores


def matmul_shares() -> list[str]:
    """Share of the arrays' rate by rows, of a 4096 x 4096 weight, all devices of the chip at work."""
    ms = (1, 16, 64, 128, 256, 512, 1024, 2048, 8192)
    lines = []
    for dtype in PEAK:
        for s in (s for s in sweeps(["matmul"]) if s.dtype == dtype):
            for chip in s.chips:
                shares = [
                    flop("matmul", (m, 4096, 4096))
                    / rate(chip, dtype, device_cores(chip))
                    / seconds(chip, "matmul", dtype, (m, 4096, 4096), "chip")
                    for m in ms
                ]
                lines.append([f"{SHORT[chip]} {dtype}", *(f"{100 * x:.1f}%" for x in shares)])
    return table(("m", *map(str, ms)), lines)


def others() -> list[str]:
    """Other operators at one shape each: microseconds, share of the arrays' rate, share of the device's part of HBM
    bandwidth."""
    chosen = [
        ("swiglu_mlp", (1024, 4096, 8192)),
        ("swiglu_mlp", (64, 4096, 8192)),
        ("moe_gemm", (8, 2048, 4096, 4096)),
        ("moe_gemm", (8, 512, 4096, 4096)),
        ("moe_gemm", (8, 16, 4096, 4096)),
        ("attention_prefill", (2, 2048, 0, 128)),
        ("attention_prefill", (2, 2048, 4096, 128)),
        ("attention_decode", (16, 8, 8192, 128)),
        ("attention_decode", (16, 8, 512, 128)),
        ("rmsnorm", (2048, 4096)),
        ("softmax", (2048, 4096)),
        ("add", (2048, 4096)),
        ("adamw", (8388608,)),
    ]
    from mowich.operators.tables import read_table

    lines = []
    for op, shape in chosen:
        cells = []
        for chip in CHIPS:
            row = next(
                r for r in read_table(op) if (r.chip, r.dtype, r.scope, r.shape) == (chip, "bf16", "chip", shape)
            )
            cores = device_cores(chip)
            hbm = load_facts().number(f"chips.{chip}.memory.hbm_bandwidth") * cores / row.cores
            share = flop(op, shape) / rate(chip, "bf16", cores) / row.seconds
            cells.append(
                f"{row.seconds * 1e6:.1f} us,"
                f" {f'{100 * share:.0f}% array, ' if share > 0.1 else ''}{100 * row.hbm_B / hbm / row.seconds:.0f}% HBM"
            )
        lines.append([f"{op}({', '.join(f'{d} {x}' for d, x in zip(OPERATORS[op].dims, shape, strict=True))})", *cells])
    return table(("bf16, on a full chip", *(SHORT[c] for c in CHIPS)), lines)


def gap() -> list[str]:
    """Of the large bf16 matmul on one core of Trainium 2: its share of the array's rate, and where the rest goes."""
    import mowich.nki
    from mowich.neuroncore.dtypes import bfloat16

    timer = Timer(ROOT / "kernels")
    size = 4096
    zeros = np.zeros((size, size), bfloat16.dtype)
    lines = []
    for chip in CHIPS:
        result = mowich.nki.run_kernel(
            timer.kernel("matmul.py:matmul"), zeros, zeros.copy(), target=SHORT[chip], values=False
        )
        time = result.time_s  # type: ignore[union-attr]
        ideal = flop("matmul", (size,) * 3) / rate(chip, "bf16", 1)
        parts = sorted(time.breakdown.items(), key=lambda x: -float(x[1]))
        rest = {k: float(v) - (ideal if k == "tensor_engine.clock" else 0.0) for k, v in parts}
        told = ", ".join(f"{name} {s * 1e6:.1f}" for name, s in sorted(rest.items(), key=lambda x: -x[1]) if s > 0.3e-6)
        lines.append(
            [SHORT[chip], f"{float(time) * 1e6:.0f}", f"{ideal * 1e6:.0f}", f"{100 * ideal / float(time):.1f}%", told]
        )
    return table(
        ("4096 x 4096 x 4096, bf16, one core", "us", "array alone, us", "share", "the rest of the critical path, us"),
        lines,
    )


def errors() -> list[str]:
    """Interpolated and extended times against the clock, at shapes outside the tables."""
    timer = Timer(ROOT / "kernels")
    lines = []
    for op, shapes in OFF_GRID.items():
        found, outside = [], 0
        for chip in ("trainium2", "trainium3"):
            s: TableSweep = next(s for s in sweeps([op]) if s.dtype == "bf16")
            for shape in shapes:
                row = next(r for r in timer.rows(s, chip, shape) if r.scope == "pair")
                guess = seconds(chip, op, "bf16", shape, "pair")
                outside += not np.isfinite(guess)
                if np.isfinite(guess):
                    found.append(guess / row.seconds - 1)
        off = np.abs(found)
        lines.append(
            [
                op,
                str(len(found)),
                str(outside),
                f"{100 * np.median(off):.1f}%",
                f"{100 * np.quantile(off, 0.9):.1f}%",
                f"{100 * max(found, key=abs):+.1f}%",
            ]
        )
    return table(("operator, bf16, pair, trn2 and trn3", "shapes", "outside", "median error", "p90", "largest"), lines)


def main() -> None:
    """Replace what lies between `<!-- name -->` and `<!-- end -->`."""
    text = PAGE.read_text(encoding="utf-8")
    for name, lines in (("gap", gap()), ("matmul", matmul_shares()), ("others", others()), ("errors", errors())):
        text = re.sub(
            rf"(<!-- {name} -->\n).*?(<!-- end -->)",
            lambda m, lines=lines: m[1] + "\n".join(lines) + "\n" + m[2],
            text,
            flags=re.S,
        )  # type: ignore[misc]
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
