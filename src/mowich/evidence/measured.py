"""Measured operator tables of GPUs -> serving constants of a chip, as an overlay of facts.

Reads the Parquet files of `aiconfigurator-core` (extra `[measured]`, Apache-2.0) directly, without its SDK, whose
import path changes between releases:

    python -m mowich.evidence.measured h200 --engine vllm --out my-facts
    mowich plan llama-3.1-70b --serve --on h200:8 --isl 4k --osl 1k --facts my-facts

Each constant is the median share of a published rate that kernels reach: few-token matrices for reading weights,
many-token matrices for multiplying, decode attention over more than 64 MB of cache, prefill attention of 4,096 tokens
or more. One framework per chip, never mixed; the fp8_block tables of vLLM 0.24.0, which host launches bound, are left
out. Results with these constants say "operator tables". Host and layer constants stay those of the fit.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from mowich.arrays import Array, Floats
from mowich.errors import UserError
from mowich.facts import Facts, load_facts
from mowich.machines.system import System, resolve
from mowich.operators.tables.schema import FORMAT_B, OPERATORS
from mowich.writing import write_file

ROOT = "MOWICH_OPERATOR_TABLES"
"""Environment variable: a folder `systems` of aiconfigurator-core, where it is not installed."""

FRAMEWORKS = {"vllm": "vllm", "trtllm": "trtllm", "sglang": "sglang"}
_FORMATS = {"16": ("bfloat16", "bf16"), "8": ("fp8", "fp8"), "4": ("nvfp4", "nvfp4")}
"""Suffix of a constant -> (format's name in the tables, precision of the peak)."""
_FEW, MANY, _WIDE = 32, 2048, 4096
"""Tokens of a skinny and of a large matrix product, and its least width."""
_CACHE_B, PROMPT = 64e6, 4096
BAD = {("vllm", "0.24.0", "fp8_block")}
"""(framework, version, format) of tables that measure the host's launches instead of kernels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """A median share of a published rate. points: rows behind it; source: file, version and hash."""

    field: str
    value: float
    low: float
    high: float
    points: int
    source: str


def root() -> Path:
    """The folder of the tables. Raises UserError without one."""
    given = os.environ.get(ROOT)
    if given:
        if not Path(given).is_dir():
            raise UserError("no such directory", where=ROOT, given=given)
        return Path(given)
    found = find_spec("aiconfigurator_core")
    if found is None or found.origin is None:
        raise UserError(
            "the measured operator tables are not installed",
            fix=f"pip install 'mowich[measured]', or point {ROOT} at a folder `systems`",
        )
    return Path(found.origin).parent / "systems"


def table(folder: Path, name: str, framework: str) -> tuple[dict[str, Array], str]:
    """(columns of the newest version of a table, where it came from). Raises UserError when a chip has none."""
    import pyarrow.parquet as parquet

    files = sorted(
        folder.glob(f"*/{framework}/*/{name}.parquet"),
        key=lambda p: [int(x) if x.isdigit() else 0 for x in p.parent.name.replace("rc", ".").split(".")],
    )
    if not files:
        raise UserError(f"no table {name} of {framework}", where=str(folder))
    data = parquet.read_table(files[-1]).to_pydict()
    digest = hashlib.sha256(files[-1].read_bytes()).hexdigest()[:12]
    return {k: np.array(v) for k, v in data.items()}, f"{framework} {files[-1].parent.name}, {name}, sha256 {digest}"


def _median(field: str, shares: Sequence[float] | Floats, source: str) -> Reached | None:
    """The median share with the middle 90% as its range, capped at 1."""
    if len(shares) < 5:
        return None
    low, value, high = (min(1.0, float(np.quantile(shares, q))) for q in (0.05, 0.5, 0.95))
    return Reached(field=field, value=value, low=low, high=max(high, value), points=len(shares), source=source)


def rates_reached(system: System, engine: str) -> list[Reached]:
    """The share of the published rate that measured kernels reach, for each constant in the tables. Raises UserError
    without a table."""
    framework = FRAMEWORKS.get(engine)
    folder = root() / "data" / system.chip
    if framework is None or not folder.is_dir():
        known = sorted(p.name for p in (root() / "data").iterdir() if p.is_dir())
        raise UserError(
            f"no operator tables of {system.chip} under {engine}",
            allowed=f"chips {', '.join(known)}; engines {', '.join(FRAMEWORKS)}",
        )
    out: list[Reached | None] = []
    t, source = table(folder, "gemm_perf", framework)
    version = source.split(",")[0].split(" ")[1]
    work = OPERATORS["matmul"].flop
    m, n, k, seconds = t["m"], t["n"], t["k"], t["latency"] * 1e-3
    wide = (n >= _WIDE) & (k >= _WIDE) & (n <= 8 * _WIDE) & (k <= 8 * _WIDE)
    for suffix, (name, precision) in _FORMATS.items():
        peak = system.peak_flops.get(precision)
        if peak is None or (framework, version, name) in BAD:
            continue
        here = wide & (t["gemm_dtype"] == name)
        few, many = here & (m <= _FEW), here & (m >= MANY)
        out.append(
            _median(f"weights_{suffix}", n[few] * k[few] * FORMAT_B[precision] / seconds[few] / system.hbm_Bps, source)
        )
        out.append(_median(f"product_{suffix}", work(m[many], n[many], k[many]) / seconds[many] / peak, source))
    t, source = table(folder, "generation_attention_perf", framework)
    plain = (
        (t["kv_cache_dtype"] == "bfloat16")
        & (t["head_dim"] == 128)
        & (t.get("window_size", np.zeros(len(t["isl"]))) == 0)
    )
    moved = 2.0 * 2.0 * t["batch_size"] * (t["isl"] + t["step"]) * t["num_key_value_heads"] * t["head_dim"]
    big = plain & (moved > _CACHE_B) & (t["isl"] + t["step"] >= 512)
    out.append(_median("decode_attention", moved[big] / (t["latency"][big] * 1e-3) / system.hbm_Bps, source))
    t, source = table(folder, "context_attention_perf", framework)
    plain = (
        (t["attn_dtype"] == "bfloat16")
        & (t["head_dim"] == 128)
        & (t["step"] == 0)
        & (t.get("window_size", np.zeros(len(t["isl"]))) == 0)
    )
    long = plain & (t["isl"] >= PROMPT)
    flop = 2.0 * t["batch_size"] * t["isl"].astype(float) ** 2 * t["num_heads"] * t["head_dim"]
    out.append(_median("attention", flop[long] / (t["latency"][long] * 1e-3) / system.peak_flops["bf16"], source))
    return [r for r in out if r is not None]


def write_overlay(system: System, engine: str, facts: Facts, folder: Path) -> Path:
    """Write `devices/<chip>.yaml` and `serving/<chip>.yaml` into a directory for --facts: measured constants, and the
    family's where the tables have none. Returns the file of the device."""
    found = {r.field: r for r in rates_reached(system, engine)}
    _write_constants("serving", system, found, facts, folder)
    return _write_constants("devices", system, found, facts, folder)


def _write_constants(kind: str, system: System, found: Mapping[str, Reached], facts: Facts, folder: Path) -> Path:
    """One of the two files."""
    lines = [f"id: {system.chip}"]
    for path in facts.paths(f"{kind}.{system.family}"):
        field = path.rsplit(".", 1)[-1]
        if field in found:
            r = found[field]
            lines.append(
                f'{field}: {{value: {r.value:.4g}, low: {r.low:.4g}, high: {r.high:.4g}, grade: B, note: "median of'
                f' {r.points} measured kernels: {r.source}"}}'
            )
        elif field == "attention_half" and "attention" in found:
            lines.append(f'{field}: {{value: "0 tokens", grade: B, note: "in the share that measured prompts reach"}}')
        else:
            lines.append(f'{field}: {{ref: "{path}"}}')
    file = folder / kind / f"{system.chip}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_file(file, "\n".join(lines) + "\n", where=str(file))
    return file


def _main() -> int:
    """Command line of the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("system")
    parser.add_argument("--engine", default="vllm", choices=sorted(FRAMEWORKS))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    try:
        facts = load_facts()
        file = write_overlay(resolve(facts, options.system, chips=1), options.engine, facts, options.out)
    except UserError as error:
        print(f"error: {error.line()}", file=sys.stderr)
        return error.code
    print(file.read_text(encoding="utf-8"), end="")
    return 0


if __name__ == "__main__":
    sys.exit(_main())
