"""Measured times of NKI kernels beside the clock's: the tables of docs/records/clock-points.md.

    python tools/kernel_timing.py [CHECKOUT of aws-neuron-sdk [CHECKOUT of nki-library]]

Without a checkout only the single instructions and the structures of our own are timed. Measured values: AWS's
documentation, as cited. `MAMBA=all` times longer mamba runs too, a minute more.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
for folder in ("tests/neuroncore", "tests/fixtures"):
    sys.path.insert(0, str(ROOT / folder))
if len(sys.argv) > 1:
    os.environ["NEURON_SDK"] = sys.argv[1]

import clock_kernels  # noqa: E402
import test_clock_collectives as chip  # noqa: E402
import test_clock_facts as facts  # noqa: E402
import test_clock_kernels as kernels  # noqa: E402

import mowich  # noqa: E402


def row(what: str, chip: str, role: str, measured: float, predicted: float, unit: str) -> None:
    print(
        f"| {what} | {chip} | {role} | {measured:g} {unit} | {predicted:.4g} {unit} | {predicted / measured - 1:+.1%} |"
    )


def instructions() -> None:
    p, q = facts.exp_example((4, 4096)), facts.exp_example((128, 128))
    load, act = facts.only(p, "dma_copy")[0], facts.only(p, "activation")[0]
    s = p.schedule
    row("DMA trigger to first byte", "trn2", "calibration", 0.9, p.cost[load].first_byte / 1e6, "us")
    row("32 KiB on one DMA engine", "trn2", "check", 1.416, (s.end[load] - s.data[load]) / 1e6, "us")
    row("2 KiB on each DMA engine", "trn2", "check", 0.097, (q.schedule.end[0] - q.schedule.data[0]) / 1e6, "us")
    row("DMA end to ACTIVATE", "trn2", "calibration", 0.3, (s.begin[act] - s.end[load]) / 1e6, "us")
    row(
        "load of an activation table",
        "trn2",
        "calibration",
        1.28,
        facts.ns(p, facts.only(p, "act_table_load")[0]) / 1e3,
        "us",
    )
    row(
        "ACTIVATE of 4,096 elements, as drawn",
        "trn2",
        "calibration",
        3.70,
        (s.end[act] - s.begin[act] + p.cost[act].latency) / 1e6,
        "us",
    )
    a = facts.only(q, "activation")[0]
    row(
        "ACTIVATE of 128 elements, as drawn",
        "trn2",
        "check",
        0.397,
        (q.schedule.end[a] - q.schedule.begin[a] + q.cost[a].latency) / 1e6,
        "us",
    )

    def dependent() -> None:
        import mowich.nki.isa as nisa
        import mowich.nki.language as nl

        t = facts.sbuf(128, 1)
        for _ in range(20):
            nisa.activation(t, nl.relu, t)

    row(
        "dependent one-element ACTIVATE, interval",
        "trn1",
        "calibration",
        0.189,
        facts.interval_ns(facts.timed(dependent, "trn1"), "activation") / 1e3,
        "us",
    )


def recurrences() -> None:
    shapes = ((256, 512), (256, 512), (256, 16), (16, 512), (16, 512))
    r = kernels.run(clock_kernels.recurrence, *shapes, target="trn1")
    row(
        "mamba v1, structure that was profiled, with 17 us of launch",
        "trn1",
        "prediction",
        172.93,
        r.device_s * 1e6,
        "us",
    )
    row("the same without launch, against 156 us of kernel", "trn1", "prediction", 156.0, float(r.time_s) * 1e6, "us")


def published() -> None:
    shapes: Any = ((8192, 4096), (8192, 8192))
    with tempfile.TemporaryDirectory() as folder:
        first, hoisted, blocked, last = (
            kernels.run(kernels.ladder(n, Path(folder)), *shapes).profile for n in (1, 2, 3, 4)
        )
    row("matmul, tiled (4096 x 8192 x 8192, fp32)", "trn2", "calibration (issue)", 39.89, first.total_s * 1e3, "ms")
    row("- TensorE active", "trn2", "calibration (load latency)", 34.82, first.engines["tensor"].busy_s * 1e3, "ms")
    row("- MFU", "trn2", "check", 17.52, 100 * first.mfu, "%")
    row("- MBU", "trn2", "check", 38.06, 100 * first.mbu, "%")
    row("matmul, loads hoisted", "trn2", "check (figure)", 28.20, hoisted.total_s * 1e3, "ms")
    row("matmul, free dimensions blocked", "trn2", "check (figure)", 28.41, blocked.total_s * 1e3, "ms")
    row("matmul, final", "trn2", "prediction", 28.30, last.total_s * 1e3, "ms")
    row("- TensorE active", "trn2", "calibration (7 cycles)", 28.16, last.engines["tensor"].busy_s * 1e3, "ms")
    row("- DMA active", "trn2", "prediction", 6.10, last.engines["dma"].busy_s * 1e3, "ms")
    row("- VectorE active", "trn2", "prediction", 2.99, last.engines["vector"].busy_s * 1e3, "ms")
    mamba = kernels.module(kernels.MAMBA, "mamba")
    r = scan(mamba.mamba_v1, 256, 512)
    row("mamba v1, file as published, with launch", "trn1", "prediction", 172.93, r.device_s * 1e6, "us")
    row("the same without launch, against 156 us of kernel", "trn1", "prediction", 156.0, float(r.time_s) * 1e6, "us")
    for version, length, measured in MAMBA_MS if os.environ.get("MAMBA") == "all" else MAMBA_MS[:2]:
        r = scan(getattr(mamba, f"mamba_{version}"), 4096, length)
        row(f"mamba {version}, 4096 channels, {length}", "trn1", "check", measured, r.device_s * 1e3, "ms")


MAMBA_MS = (
    ("v1", 512, 2.34),
    ("v2", 512, 1.61),
    ("v2", 1024, 4.4),
    ("v3", 1024, 3.3),
    ("v2", 2048, 8.9),
    ("v3", 2048, 6.6),
    ("v2", 4096, 17.6),
    ("v3", 4096, 13.3),
    ("v2", 8192, 53.33),
    ("v3", 8192, 27.8),
)
"""Version, length, ms: fused_mamba.rst, text and table of scaling. Of two figures for v2 at 8,192 the text's."""


def scan(kernel: Any, channels: int, length: int) -> Any:
    shapes = ((1, channels, length), (1, channels, length), (channels, 16), (1, 16, length), (1, 16, length))
    return kernels.run(kernel, *shapes, target="trn1")


def library(checkout: str) -> None:
    """Row quantisation after a norm, 160 x 16384 on a pair of cores: read off the figures of design-rmsnorm-quant.rst,
    0.3 us at best."""
    from mowich.nki import hollow, installed

    sys.path.insert(0, str(Path(checkout) / "src/nkilib_src"))
    with installed(replace=True):
        from nkilib.core.rmsnorm.rmsnorm_quant import RmsNormQuantKernelArgs, rmsnorm_quant_kernel

        x, w = hollow((1, 160, 16384), "bfloat16"), hollow((1, 16384), "bfloat16")
        r: Any = mowich.run_kernel(
            rmsnorm_quant_kernel, x, w, RmsNormQuantKernelArgs(), target="trn2", lnc=2, values=False, strict=False
        )
    p = r.profile
    row("RMSNorm and quantise, 160 x 16384, pair", "trn2", "check (figure)", 86.0, p.total_s * 1e6, "us")

    def longest(opcode: str) -> float:
        return max(facts.ns(p, i) for i in facts.only(p, opcode)) / 1e3

    row("- ACTIVATE with a sum, 16,384", "trn2", "check (figure)", 15.3, longest("activation_reduce"), "us")
    row("- absolute maximum, 16,384 bf16", "trn2", "check (figure)", 17.2, longest("tensor_scalar_reduce"), "us")
    row("- product with two operands, 512", "trn2", "check (figure)", 0.64, longest("scalar_tensor_tensor"), "us")
    row("- scale to fp8, 16,384", "trn2", "check (figure)", 8.8, longest("tensor_scalar"), "us")


ROLES = {
    "kernel": "calibration (bandwidth), kernel",
    "nccom-test": "calibration (copies), nccom-test",
    "profile": "calibration (base), profile",
    "framework": "check, framework",
}
"""Layer of a row of collectives -> what it was used for."""


def collectives() -> None:
    """Exchanges inside a chip, each beyond the smallest size of its series: that is the floor of dispatch."""
    for p in chip.points():
        size = int(p.row["bytes"])
        shown = f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} KiB"
        who = f"{p.row['ranks']} {'cores' if int(p.row['cores']) == 1 else 'pairs of cores'}"
        row(
            f"{p.row['kind']}, {who}, {shown}{', beyond 4 KiB' if p.beyond_B else ''}",
            p.row["chip"],
            ROLES[p.row["layer"]],
            p.measured_s * 1e6,
            p.predicted_s * 1e6,
            "us",
        )


if __name__ == "__main__":
    print("| what | chip | role | measured | clock | difference |\n|--|--|--|--:|--:|--:|")
    instructions()
    recurrences()
    collectives()
    if kernels.TUTORIAL.is_file():
        published()
    if len(sys.argv) > 2:
        library(sys.argv[2])
