"""How tensor parallelism splits the weights of a module, from the graph of one forward pass.

The columns of each product are followed (`axes`) to what reads them. Columns that reach the rows of another product,
and meet nothing before that needs all of them at once, are split: the first weight by columns, the second by rows.
What needs all: a softmax over them, a product of two activations that sums over them, an operation that is not
understood. A norm or a mean over them is healed by an exchange of one number per row: such columns are split where
nothing that is split without one stands against it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from mowich.capture.axes import LOST, MIXED, NORMED, Axes, Dim, Dims, merged, plain
from mowich.capture.graph import Op, Trace

Role = Literal["column", "row", "vocabulary", "experts", "replicated", "unknown"]

_PRODUCTS = frozenset(("mm", "addmm", "bmm", "baddbmm", "addbmm", "mv", "addmv", "dot", "_grouped_mm", "linear"))
_SAME = frozenset(("clone", "_to_copy", "alias", "detach", "lift_fresh", "contiguous", "native_dropout", "copy"))
_RESHAPES = frozenset(("view", "_unsafe_view", "_reshape_alias", "reshape", "unsqueeze", "squeeze", "flatten"))
_NORMS = frozenset(("native_layer_norm", "_fused_rms_norm", "rms_norm", "layer_norm", "native_group_norm"))
_SUMS = frozenset(("sum", "mean", "var", "var_mean", "std", "std_mean", "linalg_vector_norm", "norm"))
_WHOLES = frozenset(
    (
        *("_softmax", "_safe_softmax", "_log_softmax", "cumsum", "cumprod", "logcumsumexp", "sort", "topk", "flip"),
        *("roll", "amax", "amin", "max", "min", "argmax", "argmin", "prod", "logsumexp", "any", "all", "aminmax"),
        *("kthvalue", "median", "constant_pad_nd", "cummax", "cummin", "argsort", "unfold"),
    )
)
"""Operations that need the whole of the dimensions that they name."""
_ROWS = frozenset(
    (
        *("index", "index_select", "gather", "index_put", "index_put_", "index_add", "index_add_", "scatter"),
        *("scatter_", "scatter_add", "scatter_add_", "index_copy", "index_copy_", "scatter_reduce", "take_along_dim"),
    )
)
"""Operations that pick rows, and leave the last dimension as it is where its size says so."""
_MADE = frozenset(
    f"{how}_{what}"
    for how, what in (
        *(("new", what) for what in ("empty", "zeros", "ones", "full", "empty_strided")),
        *((what, "like") for what in ("empty", "zeros", "ones", "full", "rand", "randn")),
    )
)
"""Operations that take no more than a shape."""
_SHUFFLED = frozenset(("fft_fft", "fft_ifft", "_fft_r2c", "_fft_c2r", "_fft_c2c", "tril_", "renorm"))

NEAR = 0.01
"""A head whose columns are as many as the rows of a table of tokens, within this share, is one of its vocabulary."""


def _is_followed(dim: Dim) -> bool:
    """Whether columns that a weight made lie along a dimension."""
    return any(factor >= 0 for factor in dim)


@dataclass(slots=True)
class _Use:
    """One reading of a weight by a product. rows: the dimension that it sums over; columns: that it makes; at: index of
    the operation; kind: what is known at once."""

    weight: str
    rows: Dim
    columns: Dim
    at: int
    kind: Role | None = None


def _summed(shape: tuple[int, ...], operand: tuple[int, ...], out: tuple[int, ...]) -> int | None:
    """Which dimension of an activation a product with a weight sums over, from the end: the last one, or the one before
    where the weight stands first. None where the sizes are of neither."""
    if len(operand) >= 2 and shape[-1] == operand[-2] and out[-1] == operand[-1]:
        return -1
    if len(shape) >= 2 and len(operand) >= 2 and shape[-2] == operand[-1] and out[-2] == operand[-2]:
        return -2
    return -1 if shape[-1] in operand and out[-1] in operand else None


@dataclass(slots=True)
class _Flow:
    """What is known while the operations are followed. tables: of tokens, and their rows; asked: activations that are
    inputs, or made of these alone; choices: of how many a router takes the best."""

    trace: Trace
    axes: Axes = field(default_factory=Axes)
    dims: dict[int, Dims] = field(default_factory=dict)
    uses: list[_Use] = field(default_factory=list)
    vectors: list[tuple[str, Dim]] = field(default_factory=list)
    tables: dict[str, int] = field(default_factory=dict)
    asked: set[int] = field(default_factory=set)
    choices: set[int] = field(default_factory=set)

    # ---- reading and writing activations

    def read(self, op: Op) -> list[Dims]:
        return [self.dims.get(number) or plain(shape) for number, shape in zip(op.inputs, op.shapes, strict=False)]

    def write(self, op: Op, *made: Dims) -> None:
        for place, (number, shape) in enumerate(zip(op.outputs, op.out_shapes, strict=False)):
            dims = made[place] if place < len(made) else plain(shape)
            if any(map(_is_followed, dims)):
                self.dims[number] = dims

    def lose(self, op: Op, dims: Iterable[Dim] | None = None) -> None:
        for dim in dims if dims is not None else (dim for given in self.read(op) for dim in given):
            self.axes.mark(dim, LOST)

    # ---- one operation

    def follow(self, at: int, op: Op) -> None:
        if not op.weights and op.inputs and self.asked.issuperset(op.inputs) and op.name != "aten.cumsum":
            self.asked.update(op.outputs)
        space, _, name = op.name.partition(".")
        if op.name == "attention":
            self.attention(op)
        elif op.name == "experts":
            self.whole_experts(op)
        elif op.name == "scan":
            self.scan(op)
        elif op.name == "update":
            self.update(op)
        elif name in _MADE:
            return
        elif space != "aten":
            self.lose(op)
        elif name == "embedding":
            self.embedding(at, op)
        elif name in _PRODUCTS:
            self.product(at, op, name)
        elif name == "convolution":
            self.convolution(at, op)
        elif name in _NORMS:
            self.norm(op)
        elif name in _SAME and op.shapes and op.shapes[0] == op.out_shapes[0]:
            self.write(op, self.read(op)[0])
        elif name in _RESHAPES and len(op.inputs) == 1:
            self.reshape(op)
        else:
            self.other(op, name)

    def other(self, op: Op, name: str) -> None:
        given = self.read(op)
        if not given:
            return
        if name in _LAYOUTS:
            _LAYOUTS[name](self, op, given[0])
        elif name in ("slice", "split", "split_with_sizes", "chunk", "narrow"):
            self.slices(op, name, given[0], _dim_of(op))
        elif name in ("cat", "stack"):
            self.join(op, name, given)
        elif name in _SUMS or name in _WHOLES or name in _SHUFFLED:
            self.reduce(op, name, given)
        elif name in _ROWS:
            self.pick_rows(op, given)
        else:
            self.elementwise(op, given)

    def transpose(self, op: Op, first: Dims) -> None:
        rank = len(first)
        order = list(range(rank))
        if rank > 1:
            a, b = (_position(op.attributes.get(key, default), rank) for key, default in (("dim0", 0), ("dim1", 1)))
            order[a], order[b] = order[b], order[a]
        self.write(op, tuple(first[place] for place in order))

    def permute(self, op: Op, first: Dims) -> None:
        places = _integers(op.attributes.get("dims"))
        self.write(op, tuple(first[_position(place, len(first))] for place in places))

    def select(self, op: Op, first: Dims) -> None:
        """One element of a dimension: no other is taken with it, so the dimension is not split."""
        dim = _dim_of(op)
        index = _integer(op.attributes.get("index", 0)) % max(1, op.shapes[0][dim])
        self.axes.cut(first[dim], index, index + 1)
        self.write(op, first[:dim] + first[dim + 1 :])

    def unbind(self, op: Op, first: Dims) -> None:
        dim = _dim_of(op)
        for index in range(op.shapes[0][dim]):
            self.axes.cut(first[dim], index, index + 1)
        self.write(op, *[first[:dim] + first[dim + 1 :]] * len(op.outputs))

    def pair(self, op: Op, first: Dims) -> None:
        self.axes.mark(first[-1], MIXED)
        self.write(op, first[:-1])

    def unpair(self, op: Op, first: Dims) -> None:
        self.write(op, (*first, (-2,)))

    def expand(self, op: Op, first: Dims) -> None:
        out, more = op.out_shapes[0], len(op.out_shapes[0]) - len(first)
        padded: Dims = ((),) * more + first
        sizes = (1,) * more + op.shapes[0]
        self.write(op, tuple(d if s == o else plain((o,))[0] for d, s, o in zip(padded, sizes, out, strict=True)))

    def repeat(self, op: Op, first: Dims) -> None:
        repeats = _integers(op.attributes.get("repeats"))
        padded: Dims = ((),) * (len(repeats) - len(first)) + first
        self.write(op, tuple((*plain((count,))[0], *d) for count, d in zip(repeats, padded, strict=True)))

    def reshape(self, op: Op) -> None:
        dims = self.read(op)[0]
        if not any(map(_is_followed, dims)):
            return
        flat = [factor for dim in dims for factor in self.axes.factors(dim)]
        laid = self.axes.lay(list(merged(flat)), op.out_shapes[0])
        if laid is None:
            self.lose(op)
        else:
            self.write(op, tuple(laid))

    def slices(self, op: Op, name: str, first: Dims, dim: int) -> None:
        axes, size = self.axes, op.shapes[0][dim] if op.shapes[0] else 1
        pieces: list[Dim] = []
        if name == "slice":
            start = _clamped(op.attributes.get("start"), 0, size)
            stop = _clamped(op.attributes.get("end"), size, size)
            step = _integer(op.attributes.get("step", 1))
            if step == 1:
                pieces = [axes.cut(first[dim], start, stop)]
            else:  # every n-th column: both halves of a column's pair stay together
                pieces = [self.strided(first[dim], size, step, op.out_shapes[0][dim])]
        else:
            ends = [0]
            for out in op.out_shapes:
                ends.append(ends[-1] + out[dim])
            pieces = [axes.cut(first[dim], begin, end) for begin, end in pairwise(ends)]
        self.write(op, *[(*first[:dim], piece, *first[dim + 1 :]) for piece in pieces])

    def strided(self, dim: Dim, size: int, step: int, count: int) -> Dim:
        laid = self.axes.cut_outer(dim, count) if size == step * count else None
        if laid is None:
            self.axes.mark(dim, LOST)
            return plain((count,))[0]
        return laid[0]

    def join(self, op: Op, name: str, given: list[Dims]) -> None:
        axes, out = self.axes, op.out_shapes[0]
        dim = _position(op.attributes.get("dim", 0), len(out))
        if name == "stack":
            given = [(*one[:dim], (), *one[dim:]) for one in given]
            sizes = [1] * len(given)
        else:
            kept = [(one, shape) for one, shape in zip(given, op.shapes, strict=False) if len(shape) == len(out)]
            given, sizes = [one for one, _ in kept], [shape[dim] for _, shape in kept]
        if sum(sizes) != out[dim] or not given:
            missing = out[dim] - sum(sizes)
            operands = str(op.attributes.get("operands", "a" * len(given)))
            if missing <= 0 or set(operands[len(given) :]) - {"w", "c"} or set(operands[: len(given)]) != {"a"}:
                for one in given:
                    axes.mark(one[dim], LOST)
                given, sizes = [(*one[:dim], (), *one[dim + 1 :]) for one in given], []
            else:
                sizes.append(missing)
        result = list(given[0]) if given else list(plain(out))
        for one in given[1:]:
            for place in range(len(out)):
                if place != dim:
                    result[place] = self.met(result[place], one[place])
        parts = [one[dim] for one in given][: len(sizes)]
        if len(parts) < len(sizes):  # a part that is no activation
            parts.append(plain((sizes[-1],))[0])
        result[dim] = axes.chain(parts, sizes) if sizes else plain((out[dim],))[0]
        self.write(op, tuple(result))

    def met(self, one: Dim, other: Dim) -> Dim:
        """The dimension of two that meet element by element."""
        if not one or not other:
            return one or other
        if _is_followed(one) and _is_followed(other):
            self.axes.unite(one, other)
        return one if _is_followed(one) else other

    def elementwise(self, op: Op, given: list[Dims]) -> None:
        out = op.out_shapes[0] if op.out_shapes else ()
        fits = all(
            len(shape) <= len(out) and all(s in (1, o) for s, o in zip(shape[::-1], out[::-1], strict=False))
            for shape in op.shapes
        )
        if not fits:
            self.lose(op)
            return
        result: list[Dim] = [()] * len(out)
        for dims in given:
            for back, dim in enumerate(reversed(dims), 1):
                result[-back] = self.met(result[-back], dim)
        filled = tuple(d if d or size == 1 else plain((size,))[0] for d, size in zip(result, out, strict=True))
        self.vector(op, filled)
        self.write(op, *[filled for shape in op.out_shapes if shape == out])

    def vector(self, op: Op, dims: Dims) -> None:
        """Weights that an elementwise operation reads lie along the last dimension of their size."""
        for weight in op.weights:
            sizes = [size for size in self.shape_of(weight) if size > 1]
            for dim in reversed(dims):
                if len(sizes) == 1 and self.axes.width(dim) == sizes[0]:
                    self.vectors.append((weight, dim))
                    break

    def reduce(self, op: Op, name: str, given: list[Dims]) -> None:
        first, rank = given[0], len(op.shapes[0])
        chosen = _reduced(op, name, rank)
        if name == "topk" and rank:
            self.choices.add(op.shapes[0][-1])
        for place in chosen:
            if place < rank:
                self.axes.mark(first[place], NORMED if name in _SUMS else MIXED)
        results = []
        for shape in op.out_shapes:
            if len(shape) == rank:
                results.append(
                    tuple(d if s == o else plain((o,))[0] for d, s, o in zip(first, op.shapes[0], shape, strict=True))
                )
            elif len(shape) == rank - len(chosen):
                results.append(tuple(d for place, d in enumerate(first) if place not in chosen))
            else:
                self.lose(op)
                results.append(plain(shape))
        self.write(op, *results)

    def pick_rows(self, op: Op, given: list[Dims]) -> None:
        """Rows chosen by number: the last dimension stays where it is as wide as it was."""
        out = op.out_shapes[0]
        last: Dim = ()
        for dims, shape in zip(given, op.shapes, strict=True):
            keeps = bool(shape) and bool(out) and shape[-1] == out[-1] and len(shape) > 1
            if keeps:
                last = self.met(last, dims[-1])
            for dim in dims[: -1 if keeps else len(dims)]:
                self.axes.mark(dim, LOST)
        self.write(op, (*plain(out[:-1]), last or plain(out[-1:])[0]) if out else ())

    def update(self, op: Op) -> None:
        """A part was written: dimensions that the part has whole are those of what was written."""
        shape, known = op.out_shapes[0], [self.dims[number] for number in op.inputs if number in self.dims]
        result = list(plain(shape))
        for dims in known:
            if len(dims) != len(shape):
                self.lose(op, dims)
                continue
            for place, dim in enumerate(dims):
                if self.axes.width(dim) == shape[place]:
                    result[place] = self.met(result[place], dim)
                else:  # it lies beside other columns from now on
                    self.axes.mark(dim, MIXED)
        self.write(op, tuple(result))

    # ---- products

    def embedding(self, at: int, op: Op) -> None:
        weight = op.weights[0] if op.weights else ""
        columns = self.axes.new(op.out_shapes[0][-1], MIXED)
        if weight:
            is_asked = bool(op.inputs) and op.inputs[-1] in self.asked
            self.uses.append(_Use(weight, (), columns, at, "vocabulary" if is_asked else "replicated"))
            if is_asked:
                self.tables[weight] = self.shape_of(weight)[0] if self.shape_of(weight) else 0
        self.write(op, (*plain(op.out_shapes[0][:-1]), columns))

    def product(self, at: int, op: Op, name: str) -> None:
        given, shapes = self.read(op), list(op.shapes)
        out = op.out_shapes[0]
        matrix = op.weights[-1] if op.weights else None
        if matrix is None and len(given) >= 2:
            self.activations(op, given[-2:], shapes[-2:], given[:-2])
            return
        if not given or not out or name in ("dot", "mv", "addmv"):
            self.lose(op)
            return
        x, shape = (given[-1], shapes[-1]) if name != "_grouped_mm" else (given[0], shapes[0])
        operand = _operand(op) or self.shape_of(matrix or "")
        if len(operand) >= 3 and operand[0] > 1 and (name == "_grouped_mm" or len(shape) == len(out) == 3):
            self.batched(at, op, matrix or "", x, shape, operand)
            return
        if len(operand) == 3:
            operand = operand[1:]
        place = _summed(shape, operand, out)
        if place is None:
            self.lose(op)
            return
        columns = self.axes.new(out[place])
        rows, made = x[place], (*x[:place], columns, *x[len(x) + place + 1 :])
        self.uses.append(_Use(matrix or "", rows, columns, at))
        for bias in op.weights[:-1]:
            self.vectors.append((bias, columns))
        if len(given) > 1 and len(given[0]) == len(made):  # added by the product itself
            made = tuple(self.met(a, b) for a, b in zip(made, given[0], strict=True))
        self.write(op, made)

    def batched(self, at: int, op: Op, matrix: str, x: Dims, shape: tuple[int, ...], operand: tuple[int, ...]) -> None:
        """A product by several matrices at once: of experts, or one of each head."""
        out = op.out_shapes[0]
        columns = self.axes.new(out[-1])
        heads = x[0] if len(shape) == 3 and shape[0] == operand[0] else ()
        kind: Role | None = "experts" if operand[0] in self.choices or op.name == "aten._grouped_mm" else None
        self.uses.append(_Use(matrix, x[-1], columns, at, kind))
        if self.axes.leaves(heads):
            self.vectors.append((matrix, heads))
        self.write(op, (*x[:-1], columns))

    def activations(self, op: Op, pair: list[Dims], shapes: list[tuple[int, ...]], added: list[Dims]) -> None:
        """A product of two activations sums over what both have."""
        a, b = pair
        if len(a) < 2 or len(b) < 2 or len(op.out_shapes[0]) != len(a):
            self.lose(op)
            return
        self.axes.mark(a[-1], MIXED)
        self.axes.mark(b[-2], MIXED)
        batch = tuple(self.met(x, y) for x, y in zip(a[:-2], b[:-2], strict=True))
        made: Dims = (*batch, a[-2], b[-1])
        for more in added:
            if len(more) == len(made):
                made = tuple(self.met(x, y) for x, y in zip(made, more, strict=True))
        self.write(op, made)

    def convolution(self, at: int, op: Op) -> None:
        given, operand = self.read(op), _operand(op)
        out = op.out_shapes[0]
        if not given or len(given[0]) < 2 or not op.weights:
            self.lose(op)
            return
        x, channels = given[0], op.shapes[0][1]
        groups = _integer(op.attributes.get("groups", 1))
        for dim in x[2:]:
            self.axes.mark(dim, MIXED)
        rest = plain(out[2:])
        matrix = next((w for w in op.weights if len(self.shape_of(w)) > 1), op.weights[0])
        if groups == channels == out[1] or (groups > 1 and operand[1:2] == (1,)):
            columns = x[1] if channels == out[1] else plain(out[1:2])[0]
            self.vectors += [(weight, columns) for weight in op.weights]
        else:
            columns = self.axes.new(out[1])
            self.uses.append(_Use(matrix, x[1], columns, at))
            self.vectors += [(weight, columns) for weight in op.weights if weight != matrix]
            if groups > 1:
                self.axes.mark(x[1], MIXED)
        self.write(op, (x[0], columns, *rest))

    def norm(self, op: Op) -> None:
        given = self.read(op)
        if not given:
            return
        x = given[0]
        width = len(_integers(op.attributes.get("normalized_shape"))) or 1
        places = [1] if op.name == "aten.native_group_norm" else list(range(len(x) - width, len(x)))
        for place in places:
            self.axes.mark(x[place], NORMED)
            self.vectors += [(weight, x[place]) for weight in op.weights]
        self.write(op, x)

    # ---- what is taken whole

    def attention(self, op: Op) -> None:
        axes, given = self.axes, self.read(op)
        if len(given) < 3 or any(len(one) < 3 for one in given[:3]):
            self.lose(op)
            return
        q, k, v = given[:3]
        if op.attributes.get("eager"):
            self.eager_attention(op, q, k, v)
            return
        for dims in (q, k):
            axes.mark(dims[-1], MIXED)
        for dims in (q, k, v):
            axes.mark(dims[-2], MIXED)
        heads, out = q[-3], op.out_shapes[0]
        for dims in (k, v):
            if _is_followed(heads) and _is_followed(dims[-3]):
                axes.unite_outer(heads, dims[-3])
            elif not _is_followed(heads) and dims[-3] and axes.width(dims[-3]) == axes.width(heads):
                heads = dims[-3]
        numbers = op.shapes[0][-3], op.shapes[0][-2]
        is_turned = op.attributes.get("out_layout") == "bshd" or (out[-3:-1] != numbers and out[-3:-1] == numbers[::-1])
        middle = (q[-2], heads) if is_turned else (heads, q[-2])
        for weight in op.weights:
            if self.shape_of(weight)[:1] == (numbers[0],):
                self.vectors.append((weight, heads))
        self.write(op, (*q[:-3], *middle, v[-1]))

    def eager_attention(self, op: Op, q: Dims, k: Dims, v: Dims) -> None:
        """Attention that was written as two batched products."""
        turned = op.shapes[0][2] != op.shapes[1][1] or op.shapes[1][2] != op.shapes[2][1]
        self.axes.mark(q[2], MIXED)
        self.axes.mark(k[2] if turned else k[1], MIXED)
        heads = self.met(self.met(q[0], k[0]), v[0])
        self.write(op, (heads, q[1], v[2]))

    def whole_experts(self, op: Op) -> None:
        for dims in self.read(op):
            for dim in dims[-1:]:
                self.axes.mark(dim, MIXED)
        self.uses += [_Use(weight, (), (), 0, "experts") for weight in op.weights]
        out = op.out_shapes[0]
        self.write(op, (*plain(out[:-1]), self.axes.new(out[-1], MIXED)))

    def scan(self, op: Op) -> None:
        """Heads of a recurrence do not meet; all else of it does."""
        axes, count = self.axes, _integer(op.attributes.get("heads", 0))
        groups = _integer(op.attributes.get("groups", 0)) or count
        heads: Dim = ()
        for dims, shape in zip(self.read(op), op.shapes, strict=False):
            place = _heads_at(shape, count, groups)
            for other, dim in enumerate(dims):
                if other != place:
                    axes.mark(dim, MIXED)
            if place is None:
                continue
            mine = dims[place]
            outer = count if shape[place] % count == 0 else groups
            pair = axes.cut_outer(mine, outer) if axes.leaves(mine) else None
            if pair is None:
                continue
            axes.mark(pair[1], MIXED)
            if not heads:
                heads = pair[0]
            else:
                axes.unite_outer(heads, pair[0])
                heads = max(heads, pair[0], key=axes.width)
        made: list[Dims] = []
        for shape in op.out_shapes:
            place = _heads_at(shape, count, count)
            out = list(plain(shape))
            if place is not None and axes.width(heads) == count:
                out[place] = (*heads, *plain((shape[place] // count,))[0])
            made.append(tuple(out))
        for weight in op.weights:
            if self.shape_of(weight)[:1] == (count,):
                self.vectors.append((weight, heads))
        self.write(op, *made)

    def shape_of(self, weight: str) -> tuple[int, ...]:
        known = self.trace.weights.get(weight)
        return known.shape if known else ()


_LAYOUTS: Mapping[str, Callable[[_Flow, Op, Dims], None]] = {
    "t": _Flow.transpose,
    "transpose": _Flow.transpose,
    "permute": _Flow.permute,
    "select": _Flow.select,
    "unbind": _Flow.unbind,
    "view_as_complex": _Flow.pair,
    "view_as_real": _Flow.unpair,
    "expand": _Flow.expand,
    "repeat": _Flow.repeat,
}
"""Operations that place dimensions anew."""


def _dim_of(op: Op) -> int:
    """The dimension that an operation names."""
    return _position(op.attributes.get("dim", 0), len(op.shapes[0]))


def _reduced(op: Op, name: str, rank: int) -> list[int]:
    """The dimensions that an operation needs the whole of: those that it names, else all."""
    if name == "constant_pad_nd":
        pads = _integers(op.attributes.get("pad"))
        return [rank - 1 - i // 2 for i in range(0, len(pads), 2) if any(pads[i : i + 2])]
    if name in ("topk", "sort", "kthvalue", "argsort", "median", "unfold"):
        return [_position(op.attributes.get("dim", op.attributes.get("dimension", -1)), rank)]
    places = _integers(op.attributes.get("dim", op.attributes.get("dims")))
    return [_position(place, rank) for place in places] or list(range(rank))


def _heads_at(shape: tuple[int, ...], heads: int, groups: int) -> int | None:
    """Where the heads of a scan's tensor lie: [batch, tokens, heads, ...], [batch, heads, tokens, ...], or columns that
    are heads x width."""
    for count in (heads, groups):
        for place in (2, 1):
            if place < len(shape) and shape[place] == count > 1:
                return place
    return 2 if heads > 1 and len(shape) == 3 and shape[2] % heads == 0 else None


def _operand(op: Op) -> tuple[int, ...]:
    """Shape of the matrix as the product reads it, () where it is not written down."""
    shapes = op.attributes.get("weight_shapes")
    wide = [tuple(shape) for shape in shapes if len(shape) > 1] if isinstance(shapes, (list, tuple)) else []
    return wide[-1] if wide else ()


def _integer(value: object) -> int:
    return value if isinstance(value, int) else 0


def _integers(value: object) -> list[int]:
    if isinstance(value, int):
        return [value]
    return [one for one in value if isinstance(one, int)] if isinstance(value, (list, tuple)) else []


def _position(value: object, rank: int) -> int:
    place = value[0] if isinstance(value, (list, tuple)) and len(value) == 1 else value
    return place % max(1, rank) if isinstance(place, int) else 0


def _clamped(value: object, default: int, size: int) -> int:
    if not isinstance(value, int):
        return default
    return min(size, value + size if value < 0 else value)


# ---- which axes are split


@dataclass(slots=True)
class _Parts:
    """A use of a weight in terms of axes: (axis, elements) of the parts of its rows and columns."""

    use: _Use
    rows: list[tuple[int | None, int]]
    columns: list[tuple[int | None, int]]


def _chosen(flow: _Flow, barred: set[int]) -> tuple[set[int], list[_Parts]]:
    """The axes that are split, and the uses in terms of axes. barred: axes that may not be."""
    axes = flow.axes
    all_parts = [_Parts(use, axes.leads(use.rows), axes.leads(use.columns)) for use in flow.uses]
    free = [parts for parts in all_parts if parts.use.kind in (None, "vocabulary")]
    makers, readers = _by_axis(free, "columns"), _by_axis(free, "rows")
    possible = {
        axis for axis in makers if axis in readers and axis not in barred and not axes.marks[axis] & (MIXED | LOST)
    }
    own = _depends_on_itself(flow, all_parts, possible)
    order = sorted(possible, key=lambda a: (bool(axes.marks[a] & NORMED), a in own, makers[a][0].use.at))
    split: set[int] = set()
    for axis in order:
        group = None if axis in split else _split_together(axis, readers, possible)
        if group is None:
            continue
        taken = split | group
        clashes = any(one in taken for axis_ in group for parts in makers[axis_] for one, _ in parts.rows) or any(
            one in taken for axis_ in group for parts in readers[axis_] for one, _ in parts.columns
        )
        if not clashes:
            split = taken
    return split, all_parts


def _by_axis(all_parts: Sequence[_Parts], side: Literal["rows", "columns"]) -> dict[int, list[_Parts]]:
    """Axis -> the uses that have it on a side of their weight."""
    out: dict[int, list[_Parts]] = {}
    for parts in all_parts:
        for axis, _ in getattr(parts, side):
            if axis is not None:
                out.setdefault(axis, []).append(parts)
    return out


def _split_together(axis: int, readers: Mapping[int, Sequence[_Parts]], possible: set[int]) -> set[int] | None:
    """The axes that are split where one is: a weight that reads a split axis has only split rows. None where one of
    them cannot be split."""
    group, todo = {axis}, [axis]
    while todo:
        for parts in readers[todo.pop()]:
            rows = {one for one, _ in parts.rows}
            if None in rows or not rows - group <= possible:
                return None
            new = {one for one in rows - group if one is not None}
            group |= new
            todo += new
    return group


def _depends_on_itself(flow: _Flow, all_parts: list[_Parts], possible: set[int]) -> set[int]:
    """Axes whose columns are made again out of what read them: a residual stream."""
    bit = {axis: 1 << place for place, axis in enumerate(sorted(possible))}
    at: dict[int, list[_Parts]] = {}
    for parts in all_parts:
        at.setdefault(parts.use.at, []).append(parts)
    behind: dict[int, int] = {}
    found: set[int] = set()
    for index, op in enumerate(flow.trace.ops):
        mask = 0
        for number in op.inputs:
            mask |= behind.get(number, 0)
        for parts in at.get(index, ()):
            for axis, _ in parts.rows:
                mask |= bit.get(axis, 0) if axis is not None else 0
            found |= {axis for axis, _ in parts.columns if axis is not None and mask & bit.get(axis, 0)}
        if mask:
            for number in op.outputs:
                behind[number] = mask
    return found


def _role(parts: _Parts, split: set[int], axes: Axes) -> Role:
    if parts.use.kind is not None:
        return parts.use.kind
    total = sum(size for _, size in parts.columns)
    if 2 * sum(size for axis, size in parts.columns if axis in split) >= total:
        return "column"
    if parts.rows and all(axis in split for axis, _ in parts.rows):
        return "row"
    ends = [axis for axis, _ in (*parts.columns, *parts.rows) if axis is not None]
    return "unknown" if any(axes.marks[axis] & LOST for axis in ends) else "replicated"


def roles(trace: Trace) -> dict[str, Role]:
    """How tensor parallelism splits each parameter: "column" (its columns, and the vectors along them), "row" (what it
    sums over), "vocabulary" (a table of tokens and the head that reads it), "experts", "replicated", or "unknown": an
    operation on its way is not understood, count it as replicated.

    trace: one forward pass; take one whose tokens are not as many as a core has heads.

    Example: `roles(trace)["layers.0.mlp.up.weight"]` is "column" where `down` sums over what `up` makes.
    """
    flow = _Flow(trace, asked=set(trace.inputs.values()))
    for at, op in enumerate(trace.ops):
        flow.follow(at, op)
    axes, heads = flow.axes, _heads(flow)
    for use in heads:  # split by vocabulary, so it reads whole rows
        axes.mark(use.rows, MIXED)
    split, found = _settled(flow)
    vectors = {name for name, dim in flow.vectors if any(axis in split for axis, _ in axes.leads(dim))}
    whole = {name for name, dim in flow.vectors if not any(axis in split for axis, _ in axes.leads(dim))}
    order: tuple[Role, ...] = ("experts", "vocabulary", "column", "row", "unknown", "replicated")
    result: dict[str, Role] = {}
    for name, weight in trace.weights.items():
        if weight.is_buffer:
            continue
        kinds = found.get(name, set())
        if kinds and not (kinds == {"replicated"} and name in vectors):
            result[name] = next(kind for kind in order if kind in kinds)
        else:
            result[name] = "column" if name in vectors and name not in whole else "replicated"
    for use in heads:
        if result[use.weight] in ("replicated", "unknown", "column"):
            result[use.weight] = "vocabulary"
    return result


def _settled(flow: _Flow) -> tuple[set[int], dict[str, set[Role]]]:
    """(The axes that are split, the roles in which each weight is used). Where the uses of a weight have different
    roles, its axes are barred and all is chosen again."""
    axes, barred = flow.axes, set[int]()
    while True:
        split, all_parts = _chosen(flow, barred)
        found: dict[str, set[Role]] = {}
        for parts in all_parts:
            found.setdefault(parts.use.weight, set()).add(_role(parts, split, axes))
        clash = {
            axis
            for parts in all_parts
            if len(found[parts.use.weight]) > 1 and not found[parts.use.weight] & {"vocabulary", "experts"}
            for axis, _ in (*parts.rows, *parts.columns)
            if axis in split
        }
        if not clash:
            return split, found
        barred |= {axis for axis in clash if axis is not None}


def _heads(flow: _Flow) -> list[_Use]:
    """Uses of weights whose columns nothing reads but the caller, as many as a table of tokens has rows."""
    axes = flow.axes
    out = {leaf for number in flow.trace.outputs for dim in flow.dims.get(number, ()) for leaf in axes.leaves(dim)}
    rows = [size for size in flow.tables.values() if size]
    return [
        use
        for use in flow.uses
        if use.kind is None
        and use.weight in flow.trace.weights
        and any(abs(axes.width(use.columns) - size) <= NEAR * size for size in rows)
        and out & set(axes.leaves(use.columns))
    ]
