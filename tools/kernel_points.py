"""Published kernels that were measured on hardware, run unmodified and without values: what `kernel_accuracy.py` scores.

A file of points (JSON) names each kernel, its chip, its measured time and how it is called; the kernels themselves lie in checkouts of the
repositories that published them. Points whose checkout is not named are left out.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import logging
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import yaml

import mowich
import mowich.nki
from mowich.errors import UserError
from mowich.neuroncore.trace import Trace
from mowich.nki import Result, hollow
from mowich.nki.runtime import LOGICAL_CORES

ENGINES = {"pe": "tensor", "dve": "vector", "act": "scalar", "pool": "gpsimd", "dma": "dma"}
"""Prefix of a profiler's active time in a point -> the unit here."""
LEFT_OUT = {
    "kev_moeb_trn2_v20b": "its 144 indirect loads would cost under 0.4 us each, those of every other kernel 1.1 to 1.4 us",
}
"""Points that are not scored, and why."""
OLDER_HEAD = """import numpy as np
import neuronxcc.nki as nki
import neuronxcc.nki.language as nl
import neuronxcc.nki.isa as nisa
import neuronxcc.nki.typing as nt
from neuronxcc.nki import trace
from neuronxcc.nki.language import par_dim
"""
"""What files of the older interface expect to be imported before them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A measured kernel. family: kernels that are fitted and ordered together; chart: read off a bar; active_us: unit -> time at work as the
    profiler counts it; static: compiled with --disable-dge; row: the entry of the file."""

    id: str
    chip: str
    family: str
    us: float
    older: bool
    chart: bool
    static: bool
    active_us: Mapping[str, float] = field(default_factory=dict)
    row: Mapping[str, Any] = field(default_factory=dict, repr=False)


COUNTS = Path(__file__).with_name("kernel_counts.yaml")
"""What profiles of the points count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What a profile on hardware counts. figures: "read", "write" and "spill" in bytes, "matmuls" -> (count, half a unit
    of its last printed digit); active: unit -> share of the time at work; why: the reason of a known difference."""

    figures: Mapping[str, tuple[float, float]]
    active: Mapping[str, float]
    why: str


_UNITS = {"B": 1, "KiB": 1024, "MB": 1_000_000}


def _figure(given: str | int) -> tuple[float, float]:
    number, unit = str(given).split() if isinstance(given, str) else (given, "")
    return float(number) * _UNITS.get(unit, 1), 0.5 * _UNITS[unit] if unit and unit != "B" else 0.0


def published_counts() -> dict[str, Counts]:
    """Point -> what its published profile counts."""
    rows = yaml.safe_load(COUNTS.read_text(encoding="utf-8"))
    return {
        name: Counts(
            figures={what: _figure(row[what]) for what in ("read", "write", "spill", "matmuls") if what in row},
            active={unit: share / 100 for unit, share in row.get("active", {}).items()},
            why=row.get("why", ""),
        )
        for name, row in rows.items()
    }


def unit_factor(work_us: float, share: float, printed_us: float) -> int:
    """How many times the printed time a kernel took: once where the work of its busiest engine fits into the published
    share of the printed time, twice where it does not. Work cannot take less than it does: 10% are left to the clock
    and to rounding.

    >>> unit_factor(571.0, 0.97, 588.9), unit_factor(1110.0, 0.95, 618.0), unit_factor(26_700.0, 0.85, 26_188.0)
    (1, 2, 2)
    """
    return 1 if work_us <= 1.1 * share * printed_us else 2


@dataclass(frozen=True, slots=True)
class Checkouts:
    """Folders of repositories; None: not there. points: the file, beside which shapes of older kernels may lie (`kda_shapes.json`)."""

    points: Path
    megakernel: Path | None = None
    nkilib: Path | None = None
    kda: Path | None = None
    accelopt: Path | None = None

    def has(self, point: Point) -> bool:
        """Whether the repository of a point is there."""
        return (self.older_folder(point.row) if point.older else self.megakernel) is not None

    def older_folder(self, row: Mapping[str, Any]) -> Path | None:
        """The checkout that a kernel of the older interface comes from."""
        return self.accelopt if "AccelOpt" in row["kernel"] else self.kda


def read(file: Path) -> list[Point]:
    """The points of a file that can be run: those that say how, without those that are not scored."""
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"no points can be read: {error}", where=str(file)) from None
    found = []
    for row in rows:
        older = row["id"].startswith("kda")
        if row["id"] in LEFT_OUT or not (older or row.get("runner")):
            continue
        words = row["id"].split("_")
        name = (words[2] if words[1] == "base" else words[1]) if older else words[1]
        chart = not older and name.endswith("c")
        name = "attn" if name == "attnkv" else name
        active = {unit: row[f"{short}_active_us"] for short, unit in ENGINES.items() if f"{short}_active_us" in row}
        found.append(
            Point(
                id=row["id"], chip=row["chip"], family=f"{name.removesuffix('c') if chart else name} {row['chip']}", us=row["us"],
                older=older, chart=chart, static=older, active_us=active, row=row,
            )
        )  # fmt: skip
    return found


def run(point: Point, checkouts: Checkouts, file: Path | None = None) -> Result:
    """The kernel of a point, without values. file: a copy of its file that is run in its place. Raises what the kernel or its file raises.

    Files of kernels set the environment of their own benchmark. A point says on how many cores it ran, and one file
    says nothing of the next: what they set ends with the run.
    """
    with (
        mock.patch.dict(os.environ),
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        mowich.nki.installed(),
    ):
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            kernel, arguments = (_older if point.older else _newer)(point, checkouts, file)
            os.environ.pop(LOGICAL_CORES, None)
            cores = int(point.row.get("lnc", 1))
            made = mowich.run_kernel(
                kernel[cores] if cores > 1 else kernel, *arguments, target=point.chip, values=False
            )
        finally:
            logging.disable(logging.NOTSET)
    assert isinstance(made, Result)
    return made


def traces(result: Result) -> list[Trace]:
    """The traces of the cores of a run."""
    return [c.trace for c in result.cores if c.trace is not None]


def _module(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("point_" + re.sub(r"\W", "_", str(file)), file)
    if spec is None or spec.loader is None:
        raise UserError("no Python file", where=str(file))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def text_of(point: Point, checkouts: Checkouts) -> tuple[str, str]:
    """(Name of the file of a point, its text with the imports that it expects)."""
    if not point.older:
        assert checkouts.megakernel is not None
        newer = checkouts.megakernel / point.row["path"]
        return newer.name, newer.read_text(encoding="utf-8")
    folder = checkouts.older_folder(point.row)
    found = re.match(r"github:\S+/\S+ (\S+)", point.row["kernel"])
    assert folder is not None
    if found is None:
        raise UserError("the point names no file", where=point.id, given=point.row["kernel"])
    file = folder / found[1]
    text = file.read_text(encoding="utf-8")
    return file.name, text if "neuronxcc" in text.split("def ")[0] else OLDER_HEAD + text


def _older(point: Point, checkouts: Checkouts, copy: Path | None) -> tuple[Any, list[Any]]:
    """A kernel of the older interface with the arguments of its operator."""
    is_base = point.id.startswith("kda_base_")
    operator = point.id.removeprefix("kda_base_") if is_base else point.row["kernel"].split()[1].split("/")[1]
    if copy is None:
        name, text = text_of(point, checkouts)
        copy = Path(tempfile.mkdtemp()) / name
        copy.write_text(text, encoding="utf-8")
    shapes = json.loads((checkouts.points.parent / "kda_shapes.json").read_text(encoding="utf-8"))[operator]
    return _module(copy).kernel, [hollow(tuple(s), kind) if s is not None else kind for s, kind in shapes]


# fused kernels of the newer interface: Qwen3-30B-A3B, one token, tensor parallel over 4
_EXPERTS, _HIDDEN, _INNER, _HEAD, _CONTEXT, _QUERIES = 128, 2048, 192, 128, 640, 8
_B = "bfloat16"


def _moe(*weights: tuple[tuple[int, ...], str]) -> list[Any]:
    first = [
        hollow((1, 1, _HIDDEN), _B),
        hollow((1, _HIDDEN), _B),
        hollow((_HIDDEN, _EXPERTS), _B),
    ]
    return first + [hollow(shape, kind) for shape, kind in weights]


def _moe_fp8(_: Mapping[str, Any]) -> list[Any]:
    return _moe(
        ((_EXPERTS, _HIDDEN, 2 * _INNER), "int8"), ((_EXPERTS, 2 * _INNER), "float32"),
        ((_EXPERTS, _INNER, _HIDDEN), "int8"), ((_EXPERTS, _HIDDEN), "float32"),
    )  # fmt: skip


def _moe_packed(_: Mapping[str, Any]) -> list[Any]:
    return _moe(((_EXPERTS, 17, 128, 384), "int8"), ((_EXPERTS, _INNER, _HIDDEN), "int8"), ((_EXPERTS, _HIDDEN), "float32"))  # fmt: skip


def _moe_bf16(row: Mapping[str, Any]) -> list[Any]:
    """Kernels before the fourteenth version keep gate and up apart, padded to 256 columns."""
    version = re.search(r"kernel_v(\d+)", row["path"])
    if version is not None and int(version[1]) < 14:
        return _moe(((_EXPERTS, _HIDDEN, 2, 256), _B), ((_EXPERTS, 256, _HIDDEN), _B))
    rows = 256 if row["runner"].get("pad") else _INNER
    return _moe(((_EXPERTS, _HIDDEN, 2 * _INNER), _B), ((_EXPERTS, rows, _HIDDEN), _B))


def _attention(row: Mapping[str, Any]) -> list[Any]:
    head = [
        hollow((1, 1, _HIDDEN), _B), hollow((_QUERIES * _HEAD, _HIDDEN), _B), hollow((_HEAD, _HIDDEN), _B),
        hollow((_HEAD, _HIDDEN), _B), hollow((_QUERIES * _HEAD, _HIDDEN), _B), hollow((_HEAD,), _B), hollow((_HEAD,), _B),
    ]  # fmt: skip
    tail = [
        hollow((1, 1, _CONTEXT, _HEAD), _B), hollow((1, 1, _CONTEXT, _HEAD), _B), hollow((1, _HEAD), _B),
        hollow((1, _HEAD), _B), hollow((1, 1), "int32"),
    ]  # fmt: skip
    if row["runner"].get("args", "attn12") == "attn12":
        return head + tail
    return [*head, hollow((_HIDDEN,), _B), *tail, hollow((1, 1, _HIDDEN), _B)]


_ARGUMENTS: Mapping[str, Callable[[Mapping[str, Any]], list[Any]]] = {
    "moe_q": _moe_fp8, "moe_packed": _moe_packed, "moe_bf16": _moe_bf16, "attn_direct": _attention, "attn_bench": _attention,
}  # fmt: skip


def _newer(point: Point, checkouts: Checkouts, copy: Path | None) -> tuple[Any, list[Any]]:
    """A fused kernel of the newer interface with its arguments."""
    folder = checkouts.megakernel
    assert folder is not None
    _import_from(
        [folder / d for d in ("kernels/attn_tkg/agents", "kernels/moe_fused_tkg/quantized", "kernels/moe_fused_tkg/versions", ".")],
        checkouts.nkilib,
    )  # fmt: skip
    row, how = point.row, point.row["runner"]
    if how["kind"] not in _ARGUMENTS:
        raise UserError(
            "no such way to call a kernel", where=point.id, given=how["kind"], allowed=", ".join(_ARGUMENTS)
        )
    if how["kind"] == "attn_bench":
        kernel = _wrapper(folder / how["bench"], how["wrapper"])
    else:
        kernel = getattr(_module(copy or folder / row["path"]), how["func"])
    return kernel, _ARGUMENTS[how["kind"]](row)


def _import_from(folders: Sequence[Path], nkilib: Path | None) -> None:
    for folder in (*folders, *([nkilib] if nkilib else [])):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))


def _wrapper(bench: Path, name: str) -> Any:
    """A kernel that stands inside a benchmark: its function, with the imports of kernels around it and nothing else of the file."""
    text = bench.read_text(encoding="utf-8")
    found = re.search(r"@nki\.jit\s*\n(?:\s*#[^\n]*\n)*def " + re.escape(name) + r"\(.*?(?=\n[^\s)])", text, re.S)
    if found is None:
        raise UserError("no such kernel", where=str(bench), given=name)
    imports = "\n".join(line for line in text.splitlines() if re.match(r"from (v\d|nkilib)", line))
    file = Path(tempfile.mkdtemp()) / bench.name
    head = "import math\nimport nki\nimport nki.language as nl\nimport nki.isa as nisa\n"
    file.write_text(f"{head}{imports}\nPMAX = 128\n{found[0]}\n", encoding="utf-8")
    return getattr(_module(file), name)
