"""Timing tables of the simulated NeuronCore: our kernels over the shapes of `kernel_sweep.yaml`, timed without values.

A kernel is traced once for one core and once for the two of a logical core, and each trace is scheduled with the share
of HBM that its scope leaves. A time is derived, so its grade is C at best. Nothing depends on the machine that runs it:
`check_tables` times a few shapes of each table again and expects the same text.
"""

from __future__ import annotations

import hashlib
import itertools
import runpy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mowich.errors import UserError, did_you_mean
from mowich.estimate import worst_grade
from mowich.facts import Facts, load_facts
from mowich.files import shipped_yaml
from mowich.operators.tables import OPERATORS, TableRow, read_table, schema, write_table
from mowich.progress import steps, tell
from mowich.software.vendors import kernel_target

if TYPE_CHECKING:
    from mowich.neuroncore.clock.records import Schedule

SOURCE = "mowich kernel tables"
_SWEEP = Path(__file__).with_name("kernel_sweep.yaml")

_Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSweep:
    """One table to be: an operator in a format, its kernel (file:name), the chips that can run it, sizes along each
    dimension."""

    op: str
    dtype: str
    kernel: str
    chips: tuple[str, ...]
    sizes: Mapping[str, tuple[int, ...]]

    def shapes(self) -> list[_Shape]:
        """Every combination of sizes."""
        return list(itertools.product(*(self.sizes[d] for d in OPERATORS[self.op].dims)))


@cache
def generations() -> Mapping[str, int]:
    """Chip -> generation of its NeuronCores, of the chips that a simulated one runs kernels for."""
    from mowich.neuroncore.targets import generation_of

    facts = load_facts()
    targets = {chip: kernel_target(facts, chip) for chip in facts.ids("chips")}
    return {chip: generation_of(target) for chip, target in targets.items() if target is not None}


def sweeps(ops: Sequence[str] = (), chips: Sequence[str] = ()) -> list[TableSweep]:
    """The tables of `kernel_sweep.yaml`, of the operators and chips asked for. Raises UserError for names that are
    none."""
    for kind, given, known in (("operator", ops, list(OPERATORS)), ("chip", chips, list(generations()))):
        for name in given:
            if name not in known:
                raise UserError(f"unknown {kind} '{name}'", allowed=known, fix=did_you_mean(name, known))
    found = []
    for item in shipped_yaml(_SWEEP):
        some = tuple(c for c in item["chips"] if not chips or c in chips)
        if some and (not ops or item["op"] in ops):
            sizes = {d: tuple(v) for d, v in item["sizes"].items()}
            found.append(TableSweep(op=item["op"], dtype=item["dtype"], kernel=item["kernel"], chips=some, sizes=sizes))
    return found


# arguments of the kernels, without values: NumPy does not touch the memory of zeros
# ----------------------------------------------------------------------------------------------------------------------


def _zeros(dtype: str, *shape: int) -> object:
    from mowich.neuroncore.dtypes import as_dtype

    return np.zeros(shape, as_dtype(dtype).dtype)


_ELEMENT = {"bf16": "bfloat16", "fp8": "float8_e4m3"}


def _matmul(dtype: str, m: int, n: int, k: int, *experts: int) -> dict[str, object]:
    if dtype == "mxfp8":
        words, scale = "float8_e4m3fn_x4", "uint8"
        return {
            "lhsT": _zeros(words, *experts, k // 4, m),
            "lhsT_scale": _zeros(scale, *experts, k // 32, m),
            "rhs": _zeros(words, *experts, k // 4, n),
            "rhs_scale": _zeros(scale, *experts, k // 32, n),
        }
    t = _ELEMENT[dtype]
    return {"lhsT": _zeros(t, *experts, k, m), "rhs": _zeros(t, *experts, k, n)}


def _swiglu(_: str, m: int, hidden: int, ffn: int) -> dict[str, object]:
    shapes = {"xT": (hidden, m), "w_gate": (hidden, ffn), "w_up": (hidden, ffn), "w_down": (ffn, hidden)}
    return {name: _zeros("bfloat16", *shape) for name, shape in shapes.items()}


def _prefill(_: str, heads: int, queries: int, prefix: int, head_dim: int) -> dict[str, object]:
    context = prefix + queries
    shapes = {"q": (heads, head_dim, queries), "k": (1, head_dim, context), "v": (1, context, head_dim)}
    return {name: _zeros("bfloat16", *shape) for name, shape in shapes.items()}


def _decode(_: str, sequences: int, group: int, context: int, head_dim: int) -> dict[str, object]:
    shapes = {
        "q": (sequences, head_dim, group),
        "k": (sequences, head_dim, context),
        "v": (sequences, context, head_dim),
    }
    return {name: _zeros("bfloat16", *shape) for name, shape in shapes.items()}


def _quantise(dtype: str, rows: int, columns: int) -> dict[str, object]:
    return {"x": _zeros("bfloat16", columns // 4, rows, 4) if dtype == "mxfp8" else _zeros("bfloat16", rows, columns)}


def _adamw(_: str, elements: int) -> dict[str, object]:
    return {"g": _zeros("bfloat16", elements), **{name: _zeros("float32", elements) for name in "wmv"}}


ARGUMENTS: Mapping[str, Callable[..., dict[str, Any]]] = {
    "matmul": _matmul,
    "moe_gemm": lambda dtype, experts, m, n, k: _matmul(dtype, m, n, k, experts),
    "swiglu_mlp": _swiglu,
    "attention_prefill": _prefill,
    "attention_decode": _decode,
    "rmsnorm": lambda _, r, c: {"x": _zeros("bfloat16", r, c), "weight": _zeros("bfloat16", 1, c)},
    "softmax": lambda _, r, c: {"x": _zeros("bfloat16", r, c)},
    "add": lambda _, r, c: {name: _zeros("bfloat16", r, c) for name in "xy"},
    "quantise": _quantise,
    "adamw": _adamw,
}
"""Operator -> arguments of its kernel for a dtype and a shape."""


# timing
# ----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CoreScope:
    """name; cores: that run one shape together; active: cores of the chip that use HBM meanwhile; working: cores that a
    row counts as at work."""

    name: str
    cores: int
    active: int

    @property
    def working(self) -> int:
        return self.active if self.name.startswith("chip") else self.cores


def scopes(chip: str) -> list[CoreScope]:
    """Who may run an operator on a chip: a core, a logical core of two, or every device of the chip at once, devices of
    two cores as they ship and of one."""

    cores = int(load_facts().number(f"neuroncore.timing-v{generations()[chip]}.memory.cores"))
    if generations()[chip] == 2:
        return [CoreScope("core", 1, 1), CoreScope("chip", 1, cores)]
    alone = [CoreScope("core", 1, 1), CoreScope("chip_lnc1", 1, cores)]
    return [*alone, CoreScope("pair", 2, 2), CoreScope("chip", 2, cores)]


def costs_hash(kernel: bytes, facts: Facts, generation: int) -> str:
    """Of a kernel's text and of the values that a generation of NeuronCores has: 12 hexadecimal digits. What is said of
    a value beside it, its source and its range, moves no time and is left out."""
    made = hashlib.sha256(kernel)
    for name in (f"v{generation}", f"timing-v{generation}"):
        for path in facts.paths(f"neuroncore.{name}"):
            made.update(f"{path} {facts.fact(path).value!r}\n".encode())
    return made.hexdigest()[:12]


class Timer:
    """Times the kernels of a folder. Kernels and hashes are read once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._loaded: dict[str, Mapping[str, object]] = {}
        if not folder.is_dir():
            raise UserError(
                "no folder of kernels", where=str(folder), fix="run in a checkout, or name the folder with --kernels"
            )

    def kernel(self, name: str) -> Any:
        """The kernel "file.py:name"."""
        import mowich.nki

        file, _, function = name.partition(":")
        if file not in self._loaded:
            if not (self.folder / file).is_file():
                raise UserError("no such kernel", where=str(self.folder / file))
            with mowich.nki.installed(replace=True):
                self._loaded[file] = runpy.run_path(str(self.folder / file))
        return self._loaded[file][function]

    def hash(self, kernel: str, chip: str) -> str:
        """Of the kernel's file, line ends aside, and of the numbers that its costs come from."""
        text = (self.folder / kernel.partition(":")[0]).read_bytes().replace(b"\r\n", b"\n")
        return costs_hash(text, load_facts(), generations()[chip])

    def rows(self, sweep: TableSweep, chip: str, shape: _Shape) -> list[TableRow]:
        """The shape in every scope of the chip; none where it does not fit the memories."""
        from mowich.neuroncore.core import NkiValidationError

        try:
            return list(self._rows(sweep, chip, shape))
        except NkiValidationError as error:
            if "SBUF" in str(error) and "capacity" in str(error):
                return []
            raise

    def _rows(self, sweep: TableSweep, chip: str, shape: _Shape) -> Iterator[TableRow]:
        from mowich.neuroncore.clock.costs import costs
        from mowich.neuroncore.clock.latency import latency_estimate
        from mowich.neuroncore.clock.records import ClockOptions
        from mowich.neuroncore.clock.schedule import hbm_Bps, schedule
        from mowich.nki import run_kernel

        kernel, digest = self.kernel(sweep.kernel), self.hash(sweep.kernel, chip)
        generation = generations()[chip]
        for cores, some in itertools.groupby(scopes(chip), key=lambda s: s.cores):
            arguments = ARGUMENTS[sweep.op](sweep.dtype, *shape)
            result = run_kernel(kernel, target=f"v{generation}", lnc=cores, values=False, spill=False, **arguments)
            assert not isinstance(result, list)
            traces = [c.trace for c in result.cores if c.trace is not None]
            for _, same in itertools.groupby(some, key=lambda s: hbm_Bps(costs(generation), s.cores, s.active)):
                alike = list(same)
                s = schedule(traces, costs(generation), ClockOptions(active_cores=alike[0].active))
                time = latency_estimate(s)
                assert time.value is not None
                assert time.low is not None
                assert time.high is not None
                hbm_B, dma, tensor = _use(s)
                for scope in alike:
                    yield TableRow(
                        op=sweep.op,
                        chip=chip,
                        dtype=sweep.dtype,
                        scope=scope.name,
                        lnc=scope.cores,
                        cores=scope.working,
                        shape=shape,
                        seconds=time.value,
                        low_s=time.low,
                        high_s=time.high,
                        grade=worst_grade((time.grade, "C")),
                        hbm_B=hbm_B,
                        dma_busy=dma,
                        tensor_busy=tensor,
                        kind="simulated",
                        kernel=sweep.kernel,
                        hash=digest,
                        source=SOURCE,
                    )


def _use(s: Schedule) -> tuple[float, float, float]:
    """(bytes to and from HBM, of all cores; share of the time that core 0's DMA engines and its Tensor Engine are
    busy)."""
    from mowich.neuroncore.instructions.rates import TENSOR

    hbm_B, dma = 0, 0
    for core, program in enumerate(s.programs):
        for cost, times in zip(
            program.costs, np.bincount(np.asarray(program.cost), minlength=len(program.costs)), strict=True
        ):
            hbm_B += int(times) * (cost.hbm_read_B + cost.hbm_write_B)
            if core == 0:
                dma += int(times) * sum(cost.transfer)
    first = s.programs[0]
    on_tensor = np.array([c.queue == TENSOR for c in first.costs])[np.asarray(first.cost)]
    begin, end = (np.asarray(a)[: len(on_tensor)][on_tensor] for a in (s.data, s.end))
    order = np.argsort(begin, kind="stable")
    begin, until = begin[order], np.maximum.accumulate(end[order])
    busy = int(
        (until - np.maximum(begin, np.concatenate([begin[:1], until[:-1]]))).clip(0).sum()
    )  # side by side counts once
    return float(hbm_B), dma / int(s.costs.number("dma.engines")) / s.total, busy / s.total


# the study
# ----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TablesMade:
    """What a run did. files: written, with their number of rows; missing: tables and shapes that do not fit a chip."""

    files: Mapping[Path, int]
    missing: tuple[str, ...]


def make(
    kernels: Path,
    out: Path = schema.FOLDER,
    ops: Sequence[str] = (),
    chips: Sequence[str] = (),
) -> TablesMade:
    """Time every shape and write the tables, operator by operator; rows of chips that are not asked for stay."""
    timer, files, missing = Timer(kernels), {}, []
    chosen = sweeps(ops, chips)
    for op in dict.fromkeys(s.op for s in chosen):
        some = [s for s in chosen if s.op == op]
        rows = [r for r in read_table(op, out) if chips and r.chip not in chips]
        for sweep in some:
            shapes = sweep.shapes()
            for chip in sweep.chips:
                for shape in steps(shapes, f"{op} {sweep.dtype} {chip}"):
                    found = timer.rows(sweep, chip, shape)
                    rows += found
                    if not found:
                        missing.append(f"{op} {sweep.dtype} {'x'.join(map(str, shape))} on {chip}")
        files[write_table(out, op, rows)] = len(rows)
    return TablesMade(files=files, missing=tuple(missing))


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsChecked:
    """What a check found. rows: timed again; wrong: one line for each difference."""

    rows: int
    wrong: tuple[str, ...]


def check_tables(
    kernels: Path,
    folder: Path = schema.FOLDER,
    ops: Sequence[str] = (),
    chips: Sequence[str] = (),
    sample: int = 1,
) -> RowsChecked:
    """Time `sample` small shapes of each table and chip again and compare them with the file, to the digit; look at
    every row's hash."""
    timer, wrong, count = Timer(kernels), [], 0
    for sweep in sweeps(ops, chips):
        have = {r.key(): r for r in read_table(sweep.op, folder) if r.dtype == sweep.dtype}
        for chip in sweep.chips:
            tell(f"{sweep.op} {sweep.dtype} {chip}")
            name, digest = f"{sweep.op} {sweep.dtype} {chip}", timer.hash(sweep.kernel, chip)
            mine = [r for r in have.values() if r.chip == chip]
            if not mine:
                wrong.append(f"{name}: no rows in {sweep.op}.csv")
                continue
            if any(r.hash != digest for r in mine):
                wrong.append(
                    f"{name}: made of another kernel or other costs than {sweep.kernel} and today's facts: make it"
                    " again"
                )
            for shape in _some(sweep.shapes(), sample):
                for row in timer.rows(sweep, chip, shape):
                    count += 1
                    wrong += _differences(row, have.get(row.key()))
    return RowsChecked(rows=count, wrong=tuple(wrong))


def _some(shapes: Sequence[_Shape], sample: int) -> Iterable[_Shape]:
    """Shapes spread over the cheaper half, by the product of their sizes."""
    ordered = sorted(shapes, key=lambda s: (float(np.prod([max(x, 1) for x in s])), s))
    return [ordered[len(ordered) * (i + 1) // (2 * (sample + 1))] for i in range(sample)]


def _differences(now: TableRow, before: TableRow | None) -> list[str]:
    op = OPERATORS[now.op]
    what = f"{now.op} {now.dtype} {now.chip} {now.scope} {'x'.join(map(str, now.shape))}"
    if before is None:
        return [f"{what}: not in the table"]
    lines = [schema.dump(op, [r]).splitlines()[1].split(",") for r in (now, before)]
    return [
        f"{what}: {name} is {b}, now {a}" for name, a, b in zip(schema.table_header(op), *lines, strict=True) if a != b
    ]
