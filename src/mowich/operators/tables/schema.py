"""What a timing table holds: the operators with their dimensions and their work, the columns of a row, and its CSV.

One file per operator. The dimensions come first, by name, then the time with its 90% interval, what it moved and what
it was bound by, and where it comes from. A file is written sorted, with six significant digits, so that it has the same
bytes on every machine.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from operator import itemgetter
from pathlib import Path

from mowich.arrays import Floats
from mowich.errors import UserError, unknown
from mowich.writing import replace_file

FOLDER = Path(__file__).parent / "data"
"""The tables that ship."""

SCOPES = {
    "core": "one core, the others of the chip idle",
    "pair": "a logical core of two (LNC 2), the others of the chip idle",
    "chip": (
        "every device of the chip runs this shape at the same time, and they share HBM: one core on Trainium 1, a pair"
        " later"
    ),
    "chip_lnc1": (
        "every core of the chip runs this shape for itself at the same time (LNC 1), and they share HBM: Trainium 2 and"
        " later"
    ),
}
"""Who runs the operator. The shape of a row is that of one device: a core, or a pair."""


FORMAT_B = {"bf16": 2.0, "fp8": 1.0, "mxfp8": 1.03125, "int8": 1.0, "nvfp4": 0.5625, "mxfp4": 0.53125, "int4": 0.53125}
"""Bytes per element with its scales: 8 bits per 32 (mx), 8 bits per 16 (nvfp4), 16 bits per 64 or less (int4):
definitions."""

SizeWork = Callable[..., Floats]
"""Of the sizes, by name and as arrays, in the order of an operator's dimensions; bytes take `w`, bytes per element of
the dtype, before them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """One operator. dims: name -> what it counts; repeats: dims beyond whose largest size the kernel repeats the same
    work, so that time grows by the same amount for each unit; blocks: of these, the dims whose units the kernel takes
    in blocks of so many: beyond the largest size a whole block more takes what the last one took, and part of a block
    what that part took there; copies: the dim whose units each do the same blocks; tiles: dims that the kernel takes in
    tiles of so many, of which a part takes as long as a whole one: sizes above one tile count as whole tiles; curved:
    dims along which work does not simply add up, interpolated in logarithms; from_zero: dims that may be 0. flop: the
    least arithmetic, FLOP; least_B: the least bytes that must cross HBM, each input read once and each output written
    once. No kernel does with less, whatever its order of work, so `lookup` answers no time below them."""

    name: str
    does: str
    dims: Mapping[str, str]
    flop: SizeWork
    least_B: SizeWork
    repeats: tuple[str, ...] = ()
    blocks: Mapping[str, float] = field(default_factory=dict)
    copies: str = ""
    tiles: Mapping[str, float] = field(default_factory=dict)
    curved: tuple[str, ...] = ()
    from_zero: tuple[str, ...] = ()


def _products() -> list[Operator]:
    """Products are written in 16 bit whatever their inputs are."""
    gemm = {"m": "rows of the input (tokens)", "n": "columns of the weight", "k": "contraction"}
    return [
        Operator(
            name="matmul",
            does="out[m, n] = x[m, k] w[k, n], x given transposed",
            dims=gemm,
            repeats=("m", "n"),
            flop=lambda m, n, k: 2.0 * m * n * k,
            least_B=lambda w, m, n, k: w * (m * k + k * n) + 2.0 * m * n,
        ),
        Operator(
            name="moe_gemm",
            does="out[e] = x[e] w[e] for each expert, m rows each",
            dims={"experts": "experts on the device", **gemm, "m": "rows of each expert"},
            repeats=("experts", "m", "n"),
            blocks={"m": 1024},
            copies="experts",
            tiles={"m": 128},
            flop=lambda e, m, n, k: 2.0 * e * m * n * k,
            least_B=lambda w, e, m, n, k: e * (w * (m * k + k * n) + 2.0 * m * n),
        ),
        Operator(
            name="swiglu_mlp",
            does="y = (silu(x w_gate) * (x w_up)) w_down, x and y transposed",
            dims={"m": "rows of the input (tokens)", "hidden": "width of x", "ffn": "width between"},
            repeats=("m",),
            flop=lambda m, h, f: 6.0 * m * h * f,
            least_B=lambda w, m, h, f: w * (2.0 * m * h + 3.0 * h * f),
        ),
    ]


def _attentions() -> list[Operator]:
    """Attention cores."""
    return [
        # a query sees the prefix and what is before it in the prompt; the least of keys and values is one head's, which
        # all query heads share
        Operator(
            name="attention_prefill",
            does="causal attention of `queries` tokens on themselves and on `prefix` tokens before them",
            dims={
                "heads": "query heads x sequences",
                "queries": "tokens of the prompt",
                "prefix": "tokens cached before",
                "head_dim": "width of a head",
            },
            repeats=("heads", "prefix"),
            curved=("queries",),
            from_zero=("prefix",),
            flop=lambda h, q, p, d: 4.0 * h * d * q * (p + (q + 1.0) / 2.0),
            least_B=lambda w, h, q, p, d: 2.0 * w * d * (h * q + p + q),
        ),
        Operator(
            name="attention_decode",
            does="attention of one token of each sequence on its cache",
            dims={
                "sequences": "sequences x key-value heads",
                "group": "query heads per key-value head",
                "context": "tokens in the cache",
                "head_dim": "width of a head",
            },
            repeats=("sequences", "context"),
            flop=lambda s, g, c, d: 4.0 * s * g * c * d,
            least_B=lambda w, s, g, c, d: 2.0 * w * s * d * (g + c),
        ),
    ]


def _elementwise() -> list[Operator]:
    """Elementwise work reads and writes 16 bit."""
    rows = {"rows": "rows (tokens)", "columns": "elements of a row"}
    return [
        # square, sum, scale by the root, times the weight
        Operator(
            name="rmsnorm",
            does="x / sqrt(mean(x^2) + eps) * weight",
            dims=rows,
            repeats=("rows",),
            flop=lambda r, c: 4.0 * r * c,
            least_B=lambda w, r, c: w * (2.0 * r + 1.0) * c,
        ),
        # maximum, difference, exponential, sum, quotient
        Operator(
            name="softmax",
            does="softmax over the columns",
            dims=rows,
            repeats=("rows",),
            flop=lambda r, c: 5.0 * r * c,
            least_B=lambda w, r, c: 2.0 * w * r * c,
        ),
        Operator(
            name="add",
            does="x + y, element by element",
            dims=rows,
            repeats=("rows",),
            flop=lambda r, c: 1.0 * r * c,
            least_B=lambda w, r, c: 3.0 * w * r * c,
        ),
        # largest of a group, scale; the scales of rows (fp8) are too few to count
        Operator(
            name="quantise",
            does="bf16 to the dtype, with one scale per row (fp8) or per block of 32 (mxfp8)",
            dims=rows,
            repeats=("rows",),
            flop=lambda r, c: 2.0 * r * c,
            least_B=lambda w, r, c: (2.0 + w) * r * c,
        ),
        # two moments 3 + 4, root, quotient, decay and update 5; gradient in, weight out, master and two moments in and
        # out
        Operator(
            name="adamw",
            does="one AdamW step: bf16 gradient, fp32 master and moments, bf16 weight",
            dims={"elements": "parameters on the device"},
            repeats=("elements",),
            flop=lambda n: 12.0 * n,
            least_B=lambda w, n: (2.0 * w + 2.0 * 3.0 * 4.0) * n,
        ),
    ]


OPERATORS = {o.name: o for o in (*_products(), *_attentions(), *_elementwise())}
"""Every operator by name."""


def operator(name: str) -> Operator:
    """The operator of that name. Raises UserError for a name that no operator has."""
    if name not in OPERATORS:
        raise unknown("operator", name, OPERATORS)
    return OPERATORS[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRow:
    """One timed shape. chip: id in facts/chips; lnc: physical cores of the device that ran it; cores: physical cores at
    work; seconds with its 90% interval; grade: of
    the weakest cost that matters; hbm_B: bytes that one device moves to and from HBM; dma_busy, tensor_busy: share of
    the time that the DMA and Tensor engines of a core are busy; kind: "simulated" or "measured"; kernel: file:name;
    hash: of the kernel and the costs."""

    op: str
    chip: str
    dtype: str
    scope: str
    lnc: int
    cores: int
    shape: tuple[int, ...]
    seconds: float
    low_s: float
    high_s: float
    grade: str
    hbm_B: float
    dma_busy: float
    tensor_busy: float
    kind: str
    kernel: str
    hash: str
    source: str

    def key(self) -> tuple[str, str, str, tuple[int, ...]]:
        """What the row is of."""
        return (self.chip, self.dtype, self.scope, self.shape)


_NUMBERS = ("seconds", "low_s", "high_s", "hbm_B", "dma_busy", "tensor_busy")
_BEFORE = ("op", "chip", "dtype", "scope", "lnc", "cores")
_AFTER = tuple(f.name for f in fields(TableRow) if f.name not in (*_BEFORE, "shape"))


def table_header(op: Operator) -> tuple[str, ...]:
    """Header of an operator's file."""
    return (*_BEFORE, *op.dims, *_AFTER)


def dump(op: Operator, rows: Iterable[TableRow]) -> str:
    """The text of an operator's file: rows sorted by chip, dtype, scope and shape."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(table_header(op))
    for r in sorted(rows, key=TableRow.key):
        after = (f"{getattr(r, name):.6g}" if name in _NUMBERS else getattr(r, name) for name in _AFTER)
        writer.writerow((*(getattr(r, name) for name in _BEFORE), *r.shape, *after))
    return out.getvalue()


def write_table(folder: Path, op: str, rows: Iterable[TableRow]) -> Path:
    """Write `folder/<op>.csv`; gives its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{op}.csv"
    replace_file(path, dump(operator(op), rows))
    return path


def read_table(op: str, folder: Path = FOLDER, **only: str) -> tuple[TableRow, ...]:
    """Rows of an operator's file, of them those whose columns have the words in `only` (chip, dtype, scope); none where
    there is no file. Raises UserError, with file and line, for a file that is not such a table."""
    path = folder / f"{op}.csv"
    known = operator(op)
    wanted = table_header(known)
    if not path.is_file():
        return ()
    stat = path.stat()
    lines = _lines(path, stat.st_mtime_ns, stat.st_size)
    if not lines or tuple(lines[0]) != wanted:
        raise UserError(
            "not a timing table: its columns differ",
            where=f"{path}:1",
            given=",".join(lines[0] if lines else []),
            allowed=",".join(wanted),
        )
    cells = itemgetter(*(wanted.index(name) for name in only)) if only else tuple
    words = cells([only.get(name, "") for name in wanted])
    return tuple(
        _row(known, dict(zip(wanted, line, strict=False)), f"{path}:{i}")
        for i, line in enumerate(lines[1:], 2)
        if len(line) < len(wanted) or not only or cells(line) == words
    )


@lru_cache(maxsize=32)
def _lines(path: Path, changed_ns: int, size: int) -> list[list[str]]:
    """The cells of a file as it was at that time of change, with that many bytes: of one file many tables are read."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def _row(op: Operator, text: Mapping[str, str], where: str) -> TableRow:
    try:
        shape = tuple(int(text[d]) for d in op.dims)
        numbers = {name: float(text[name]) for name in _NUMBERS}
        words = {
            name: text[name] for name in ("op", "chip", "dtype", "scope", "grade", "kind", "kernel", "hash", "source")
        }
        counts = {name: int(text[name]) for name in ("lnc", "cores")}
        row = TableRow(shape=shape, **counts, **numbers, **words)  # type: ignore[arg-type]
    except (KeyError, ValueError) as error:
        raise UserError(f"a row that does not read: {error}", where=where) from None
    if row.scope not in SCOPES:
        raise unknown("scope", row.scope, SCOPES, where=where)
    if row.dtype not in FORMAT_B:
        raise unknown("dtype", row.dtype, FORMAT_B, where=where)
    if not 0 < row.low_s <= row.seconds <= row.high_s:
        raise UserError(
            "times are positive and low <= seconds <= high",
            where=where,
            given=f"{row.low_s}, {row.seconds}, {row.high_s}",
        )
    return row
