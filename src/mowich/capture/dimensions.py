"""Sizes as functions of batch B and tokens S, found by probing: a + b*B + c*S + d*B*S from four passes, checked by a
fifth. Batch 1 is no probe: PyTorch treats it in a way of its own."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cache

from mowich.capture.graph import Op, Trace
from mowich.capture.problem import CaptureError

Dimension = tuple[int, int, int, int]
"""(a, b, c, d): a + b*B + c*S + d*B*S."""

PROBES = ((2, 128), (2, 256), (3, 128), (3, 256))
CHECKED = (5, 384)

Ratios = tuple[Fraction, Fraction, Fraction, Fraction]
"""A `Dimension` in fractions, for sizes that count parts of tokens: half of them after a convolution of stride 2."""

Shapes = tuple[tuple[Ratios, ...], ...]
"""The shapes of what an operation makes."""


def at(dimension: Dimension, batch: int, tokens: int) -> int:
    """The size at a batch and a number of tokens.

    >>> at((1, 0, 2, 0), 3, 128)
    257
    """
    a, b, c, d = dimension
    return a + b * batch + c * tokens + d * batch * tokens


def fit(values: Sequence[int]) -> Dimension | None:
    """The dimension that has these values at `PROBES` and `CHECKED`; None where none in whole numbers has.

    >>> fit([128, 256, 128, 256, 384])
    (0, 0, 1, 0)
    >>> fit([2 * 128**2, 2 * 256**2, 3 * 128**2, 3 * 256**2, 5 * 384**2]) is None
    True
    """
    found = ratios(values)
    if found is None or any(one.denominator > 1 for one in found):
        return None
    a, b, c, d = (int(one) for one in found)
    return a, b, c, d


def ratios(values: Sequence[int]) -> Ratios | None:
    """`fit`, in fractions.

    >>> [str(one) for one in ratios([64, 128, 64, 128, 192])]
    ['0', '0', '1/2', '0']
    """
    return _fitted(tuple(values))


@cache
def _fitted(values: tuple[int, ...]) -> Ratios | None:
    (b0, s0), (_, s1), (b1, _), _ = PROBES
    f00, f01, f10, f11, checked = values
    tokens, rows = s1 - s0, b1 - b0
    d = Fraction(f11 - f10 - f01 + f00, tokens * rows)
    c = Fraction(f01 - f00, tokens) - d * b0
    b = Fraction(f10 - f00, rows) - d * s0
    a = f00 - b * b0 - c * s0 - d * b0 * s0
    batch, many = CHECKED
    return (a, b, c, d) if a + b * batch + c * many + d * batch * many == checked else None


def place(op: Op) -> str:
    """Where an operation stands, for a message."""
    return f"module {op.module or '(the root)'}, operation {op.name}"


def aligned(traces: Sequence[Trace]) -> None:
    """Refuse passes that did other things at other sizes.

    Raises:
        CaptureError: the count of operations varies with batch or tokens, or an operation is another one.
    """
    first = traces[0]
    for other in traces[1:]:
        for one, two in zip(first.ops, other.ops, strict=False):
            if one.name != two.name or one.module != two.module or len(one.out_shapes) != len(two.out_shapes):
                raise _differs(traces, one, other)
        if len(first.ops) != len(other.ops):
            raise _differs(traces, (first if len(first.ops) > len(other.ops) else other).ops[-1], other)


def _differs(traces: Sequence[Trace], op: Op, other: Trace) -> CaptureError:
    """A loop over tokens is told as such, with the module whose operations grow."""
    counts = [_counted(trace) for trace in traces[:2]]
    grown = [path for path in counts[0] if counts[1].get(path, 0) > counts[0][path]]
    if grown:
        most = max(grown, key=lambda path: counts[1][path] - counts[0][path])
        return CaptureError(
            f"its operations grow with tokens ({counts[0][most]:,} at {PROBES[0][1]}, "
            f"{counts[1][most]:,} at {PROBES[1][1]}): a loop over tokens",
            where=f"module {most or '(the root)'}",
            fix="name it as a scan: --scan MODULE=FLOP,ELEMENTS (of a token)",
        )
    return CaptureError(
        f"the code does something else at batch {other.sizes[0]} and {other.sizes[1]} tokens",
        where=place(op),
        fix="a captured model does the same operations at every size",
    )


def _counted(trace: Trace) -> dict[str, int]:
    counts: dict[str, int] = {}
    for op in trace.ops:
        counts[op.module] = counts.get(op.module, 0) + 1
    return counts


def shape_of(traces: Sequence[Trace], index: int) -> Shapes | None:
    """The shapes of what an operation makes, as dimensions; None where one of them is none."""
    found = []
    for shapes in zip(*(trace.ops[index].out_shapes for trace in traces), strict=True):
        if len({len(shape) for shape in shapes}) > 1:
            return None
        fits = [ratios(sizes) for sizes in zip(*shapes, strict=True)]
        if any(one is None for one in fits):
            return None
        found.append(tuple(one for one in fits if one is not None))
    return tuple(found)


def checked(traces: Sequence[Trace]) -> tuple[Shapes, ...]:
    """The shapes of what every operation makes, as dimensions that the fifth pass has too.

    Raises:
        CaptureError: a size is not a + b*B + c*S + d*B*S; it names module and operation.
    """
    aligned(traces)
    shapes = []
    for index, op in enumerate(traces[0].ops):
        shape = shape_of(traces, index)
        if shape is None:
            sizes = ", ".join(
                f"{'x'.join(map(str, trace.ops[index].out_shapes[0]))} at {trace.sizes[0]} x {trace.sizes[1]}"
                for trace in traces
            )
            raise CaptureError(f"a size is not a + b*batch + c*tokens + d*batch*tokens: {sizes}", where=place(op))
        shapes.append(shape)
    return tuple(shapes)
