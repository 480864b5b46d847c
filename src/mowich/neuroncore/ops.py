"""Arithmetic of the engines: the operators of the vector engines and the functions of the Scalar Engine, in float32 on
NumPy.

Bit operators keep integer bit patterns. Comparisons and logic give 1 or 0. The Scalar Engine approximates its functions
by piecewise polynomials; here they are as exact as float32 allows.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from mowich.arrays import Array as Array
from mowich.errors import UserError, unknown


@dataclass(frozen=True, slots=True, eq=False)
class Alu:
    """An operator. apply: (a, b) -> result, or (a) for unary ones; kind: "arith", "compare", "logic", "bit" or "unary";
    identity: what a reduction starts from, None where the hardware does not reduce with it; since: first generation
    that has it."""

    name: str
    apply: Callable[..., Any]
    kind: str
    identity: float | None = None
    reduce: Callable[..., Any] | None = None
    since: int = 2


def _shift_right(a: Array, b: Array) -> Array:
    """Logical: zeros enter from the left whatever the sign."""
    a = np.asarray(a)
    if a.dtype.kind == "i":
        u = a.view(f"u{a.dtype.itemsize}")
        shifted: Array = np.right_shift(u, np.asarray(b).astype(u.dtype)).view(a.dtype)
        return shifted
    return np.right_shift(a, b)


def _logical(f: Callable[..., object]) -> Callable[..., object]:
    return lambda a, b: f(np.asarray(a) != 0, np.asarray(b) != 0)


def _table() -> dict[str, Alu]:
    one = np.float32(1)
    rows = [
        Alu("add", np.add, "arith", 0.0, np.add.reduce),
        Alu("subtract", np.subtract, "arith", 0.0, np.subtract.reduce),
        Alu("multiply", np.multiply, "arith", 1.0, np.multiply.reduce),
        Alu("divide", np.divide, "arith"),
        Alu("maximum", np.maximum, "arith", -np.inf, np.maximum.reduce),
        Alu("minimum", np.minimum, "arith", np.inf, np.minimum.reduce),
        Alu("power", np.power, "arith"),
        Alu("mod", np.mod, "arith"),
        Alu("fmod", np.fmod, "arith"),
        Alu("abs_max", lambda a, b: np.where(np.abs(a) > np.abs(b), a, b), "arith", 0.0, None),
        Alu("abs_min", lambda a, b: np.where(np.abs(a) < np.abs(b), a, b), "arith", np.inf, None),
        Alu("average", np.add, "arith", 0.0, None),
        Alu("equal", np.equal, "compare"),
        Alu("not_equal", np.not_equal, "compare"),
        Alu("greater", np.greater, "compare"),
        Alu("greater_equal", np.greater_equal, "compare"),
        Alu("less", np.less, "compare"),
        Alu("less_equal", np.less_equal, "compare"),
        Alu("logical_and", _logical(np.logical_and), "logic", 1.0, np.logical_and.reduce),
        Alu("logical_or", _logical(np.logical_or), "logic", 0.0, np.logical_or.reduce),
        Alu("logical_xor", _logical(np.logical_xor), "logic", 0.0, np.logical_xor.reduce),
        Alu("bitwise_and", np.bitwise_and, "bit", -1.0, np.bitwise_and.reduce),
        Alu("bitwise_or", np.bitwise_or, "bit", 0.0, np.bitwise_or.reduce),
        Alu("bitwise_xor", np.bitwise_xor, "bit", 0.0, np.bitwise_xor.reduce),
        Alu("left_shift", np.left_shift, "bit"),
        Alu("right_shift", _shift_right, "bit"),
        Alu("invert", np.invert, "bit-unary"),
        Alu("logical_not", lambda a: np.asarray(a) == 0, "unary"),
        Alu("abs", np.abs, "unary"),
        Alu("square", np.square, "unary"),
        Alu("relu", lambda a: np.maximum(a, np.float32(0)), "unary"),
        Alu("rsqrt", lambda a: one / np.sqrt(a), "unary"),
        Alu("sqrt", np.sqrt, "unary"),
        Alu("reciprocal", lambda a: one / a, "unary"),
        Alu("negative", np.negative, "unary"),
        Alu("exp", np.exp, "unary"),
        Alu("bypass", lambda a, b=None: a, "arith"),
        Alu("copy", lambda a, b=None: a, "unary"),
    ]
    return {r.name: r for r in rows}


ALU = _table()
_ALIASES = {
    "max": "maximum",
    "min": "minimum",
    "mult": "multiply",
    "amax": "maximum",
    "amin": "minimum",
    "sum": "add",
    "prod": "multiply",
    "true_divide": "divide",
    "remainder": "mod",
    "float_power": "power",
    "arithmetic_shift_right": "right_shift",
    "bitwise_not": "invert",
    "absolute": "abs",
    "any": "logical_or",
    "all": "logical_and",
    "rev_subtract": "subtract",
    "pow": "power",
    "logical_shift_left": "left_shift",
    "logical_shift_right": "right_shift",
    "is_gt": "greater",
    "mean": "average",
}
_FOUND: dict[object, Alu] = {}


def op_name(op: object) -> str:
    """Name of an operator given as nl.add, np.add, "add" ..."""
    name = getattr(op, "op_name", None) or getattr(op, "__name__", None) or getattr(op, "name", None) or op
    return str(name).rsplit(".", 1)[-1]


def alu(op: object) -> Alu:
    """An operator by token, NumPy function or name. Raises UserError for others."""
    try:
        return _FOUND[op]
    except (KeyError, TypeError):
        pass
    name = op_name(op)
    row = ALU.get(name) or ALU.get(_ALIASES.get(name, ""))
    if row is None:
        raise unknown("operator", name, ALU)
    with contextlib.suppress(TypeError):
        _FOUND[op] = row
    return row


# functions of the Scalar Engine
# -----------------------------------------------------------------------------------------------

_SEGMENTS, _REACH, _DEGREE = 64, 4.0, 7


@cache
def _erf_table() -> Array:
    """Coefficients of erf on 64 equal segments of [0, 4], interpolated at Chebyshev nodes of math.erf (error under
    1e-12)."""
    k = np.arange(_DEGREE + 1)
    nodes = 0.5 - 0.5 * np.cos((2 * k + 1) * np.pi / (2 * (_DEGREE + 1)))
    vander = np.vander(nodes, increasing=True)
    width = _REACH / _SEGMENTS
    rows = [np.linalg.solve(vander, [math.erf((s + t) * width) for t in nodes]) for s in range(_SEGMENTS)]
    return np.array(rows).T


def erf(x: Array) -> Array:
    """Error function, float64 inside.

    >>> bool(abs(erf(np.array([0.3], np.float32))[0] - math.erf(np.float32(0.3))) < 1e-7)
    True
    """
    a = np.abs(x.astype(np.float64))
    scaled = np.minimum(a, _REACH - 1e-9) * (_SEGMENTS / _REACH)
    seg = np.where(np.isnan(scaled), 0, scaled).astype(np.int64)
    t = scaled - seg
    table = _erf_table()
    y = table[_DEGREE][seg]
    for d in range(_DEGREE - 1, -1, -1):
        y = y * t + table[d][seg]
    y = np.where(a >= _REACH, np.where(np.isinf(a), 1.0, y), y)
    return np.copysign(y, x)


def _sigmoid(x: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-x))


def _softplus(x: Array) -> Array:
    return np.logaddexp(x, np.float32(0))


_C0, _C1 = math.sqrt(2 / math.pi), 0.044715
_SQRT2 = math.sqrt(2.0)
_PDF = 1 / math.sqrt(2 * math.pi)
_SLOPE = np.float32(1.702)


def _gelu_dx(x: Array) -> Array:
    w = x.astype(np.float64)
    return 0.5 * (1.0 + erf(x / _SQRT2)) + w * _PDF * np.exp(-0.5 * w * w)


def _gelu_sigmoid_dx(x: Array) -> Array:
    s = _sigmoid(_SLOPE * x)
    return np.asarray(s + _SLOPE * x * s * (1 - s))


def _silu_dx(x: Array) -> Array:
    s = _sigmoid(x)
    return np.asarray(s * (1 + x * (1 - s)))


@dataclass(frozen=True, slots=True, eq=False)
class Function:
    """A function of the Scalar Engine. valid: closed range of inputs outside which the hardware's result is invalid,
    None for all."""

    name: str
    apply: Callable[..., Any]
    valid: tuple[float, float] | None = None


def _functions() -> dict[str, Function]:
    one = np.float32(1)
    rows = [
        Function("copy", lambda x: x),
        Function("identity", lambda x: x),
        Function("square", np.square),
        Function("sigmoid", _sigmoid),
        Function("relu", lambda x: np.maximum(x, np.float32(0))),
        Function("prelu", lambda x, slope=0.0: np.where(x >= 0, x, x * slope)),
        Function("gelu", lambda x: 0.5 * x * (1.0 + erf(x / _SQRT2))),
        Function("gelu_dx", _gelu_dx),
        Function("gelu_apprx_tanh", lambda x: 0.5 * x * (1.0 + np.tanh(_C0 * (x + _C1 * x * x * x)))),
        Function("gelu_apprx_sigmoid", lambda x: x * _sigmoid(_SLOPE * x)),
        Function("gelu_apprx_sigmoid_dx", _gelu_sigmoid_dx),
        Function("silu", lambda x: x * _sigmoid(x)),
        Function("silu_dx", _silu_dx),
        Function("tanh", np.tanh),
        Function("softplus", _softplus),
        Function("mish", lambda x: x * np.tanh(_softplus(x))),
        Function("erf", erf),
        Function("erf_dx", lambda x: 2 / math.sqrt(math.pi) * np.exp(-x * x)),
        Function("exp", np.exp),
        Function("log", np.log, (2.0**-64, 2.0**64)),
        Function("sin", np.sin, (-math.pi * (1 + 1e-6), math.pi * (1 + 1e-6))),
        Function("cos", np.cos),
        Function("tan", np.tan),
        Function("arctan", np.arctan, (-math.pi / 2 * (1 + 1e-6), math.pi / 2 * (1 + 1e-6))),
        Function("sqrt", np.sqrt, (2.0**-116, 2.0**118)),
        Function("rsqrt", lambda x: one / np.sqrt(x), (2.0**-87, 2.0**97)),
        Function("reciprocal", lambda x: one / x),
        Function("sign", np.sign),
        Function("abs", np.abs),
        Function("negative", np.negative),
        Function("logical_not", lambda x: x == 0),
        Function("ceil", np.ceil),
        Function("floor", np.floor),
        Function("trunc", np.trunc),
    ]
    return {f.name: f for f in rows}


_FUNCTIONS = _functions()
_FUNCTION_OF: dict[object, Function] = {}
_ACT_ALIASES = {
    "gelu_tanh_approx": "gelu_apprx_tanh",
    "swish": "silu",
    "add": "copy",
    "bypass": "copy",
    "absolute": "abs",
}


def function(op: object) -> Function:
    """A function of the Scalar Engine by token, NumPy function or name."""
    try:
        return _FUNCTION_OF[op]
    except (KeyError, TypeError):
        pass
    name = op_name(op)
    found = _FUNCTIONS.get(name) or _FUNCTIONS.get(_ACT_ALIASES.get(name, ""))
    if found is None:
        if name in ALU:
            raise UserError(
                f"the Scalar Engine has no function '{name}'",
                fix="it is an operator of tensor_scalar and tensor_tensor",
            )
        raise unknown("activation function", name, _FUNCTIONS)
    with contextlib.suppress(TypeError):
        _FUNCTION_OF[op] = found
    return found


ACT_RESIDENT = frozenset({"copy", "identity", "relu", "square", "abs", "sign", "negative", "prelu", "logical_not"})
"""Functions of the Scalar Engine that need no table of their own (which functions share a table is not published)."""
