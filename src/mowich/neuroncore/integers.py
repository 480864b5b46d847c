"""Where 32-bit integers stay exact. The facts `neuroncore.integers-v*` say, for an instruction and an engine, which
operators do; everything else computes in float32, which holds every whole number up to 2^24 and rounds those above.

An instruction without an engine has the row `unnamed`: what runs exactly because of the engine that AWS's compiler then
chooses.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from mowich.arrays import Array
from mowich.neuroncore.dtypes import DType

if TYPE_CHECKING:
    from mowich.neuroncore.core import Core
    from mowich.neuroncore.trace import AnyTile

SAME_FORMAT = "same format"
"""What a copy keeps bit by bit, in the words of the facts."""


def is_wide(dtype: DType) -> bool:
    """True for integers of 32 bits: the others fit float32.

    >>> from mowich.neuroncore.dtypes import int32, int16
    >>> is_wide(int32), is_wide(int16)
    (True, False)
    """
    return dtype.is_int and dtype.itemsize == 4


@cache
def exact_operators(generation: int, instruction: str, engine: str) -> frozenset[str]:
    """Operators of an instruction on an engine ("" where none is named) that are exact on 32-bit integers.

    >>> sorted(exact_operators(4, "tensor_tensor", ""))
    ['add', 'multiply', 'subtract']
    >>> exact_operators(4, "tensor_scalar", "")
    frozenset()
    """
    from mowich.facts import load_facts

    fact = load_facts().get(f"neuroncore.integers-v{generation}.{instruction}.{engine or 'unnamed'}")
    words = str(fact.value) if fact is not None else ""
    return frozenset(w.strip() for w in words.split(",")) - {"", "none"}


def keeps(core: Core, instruction: str, engine: str, operator: str, tiles: tuple[AnyTile, ...]) -> bool:
    """True where an operator on these tiles is exact: all are 32-bit integers, and none lies in PSUM, which GpSimd does
    not reach."""
    return all(is_wide(t.dtype) and t.space != "P" for t in tiles) and operator in exact_operators(
        core.generation, instruction, engine
    )


def keeps_bits(core: Core, instruction: str, engine: str, source: DType, target: DType) -> bool:
    """True where a copy keeps the bits: the formats are equal, and the engine has no float32 on its way."""
    return source is target and (
        not is_wide(source) or SAME_FORMAT in exact_operators(core.generation, instruction, engine)
    )


def note_rounding(core: Core, what: str, true: Array, got: Array, tile: AnyTile | None = None) -> None:
    """Warn where float32 rounded whole numbers of a tile; strict runs ask. true: what they are (int64); got: what
    float32 made of them."""
    bad = true.reshape(-1) != got.reshape(-1).astype(np.float64)
    if bad.any():
        at = int(np.argmax(bad))
        of = f" of {tile.describe()}" if tile is not None else ""
        core.warn(
            "rounded",
            f"{what}: float32 rounded {int(bad.sum()):,} of {bad.size:,} integers above 2^24"
            f" ({int(true.reshape(-1)[at])} to {int(got.reshape(-1)[at])}){of}; exact are add, subtract and multiply of"
            " tensor_tensor on GpSimd, with int32 or uint32 tiles in SBUF",
        )
