"""What one device does per second: the rates of a chip times what a training stack reaches of them.

`rates` is the product of a system and its software; the laws of `operators.law` take what it gives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from mowich.arrays import Floats
from mowich.machines.system import PRECISIONS
from mowich.operators.kernels import Kernels
from mowich.operators.tables.schema import FORMAT_B
from mowich.software.stack import Platform

WIDTHS = np.array([FORMAT_B[name] for name in PRECISIONS])
"""Bytes of an operand's element with its scales, by recipe."""

BF16 = float(PRECISIONS.index("bf16"))

IS_LOW = np.array([name != "bf16" for name in PRECISIONS])

IS_FOUR = np.array([name.endswith("fp4") for name in PRECISIONS])

IS_BLOCK = np.array([name in ("mxfp8", "mxfp4", "nvfp4") for name in PRECISIONS])
"""Recipes with a scale for each block of elements: those that fused kernels of experts are written for."""


@dataclass(frozen=True, slots=True)
class ProductRates:
    """What products of one format reach. P: FLOP/s of large ones; B: bytes/s at which operands are read; w: bytes of an
    operand's element; m_half: tokens."""

    P: Floats
    B: Floats
    w: Floats
    m_half: Floats


@dataclass(frozen=True, slots=True)
class DeviceRates:
    """What one device does per second under each plan's recipe. recipe: products in its format; wide: in
    16 bits; P16: FLOP/s of the 16-bit peak; B: bytes/s of passes over memory; quantise_B: bytes moved per GEMM input
    element; n_half, narrow_columns, misaligned: of the shape of products; precision: index of the recipe; kernels:
    tables that operators are read from."""

    recipe: ProductRates
    wide: ProductRates
    P16: float
    B: float
    quantise_B: Floats
    n_half: float
    narrow_columns: float
    misaligned: float
    precision: Floats
    kernels: Kernels | None

    def tabled(
        self, operator: str, *given: object
    ) -> tuple[Callable[[Floats], Floats], Callable[[Floats], str]] | None:
        """For `estimate.told`: an operator by the tables; None without."""
        if self.kernels is None:
            return None
        return partial(getattr(self.kernels, operator), *given), self.kernels.source


def rates(system: Platform, precision: Floats, kernels: Kernels | None = None, element_B: float = 2.0) -> DeviceRates:
    """Rates by column of precision indices. A precision that the chip lacks has rate 0 and never gets here. Products in
    a step keep `sustained` of what they reach alone, and none runs above the published peak of its format. Boards with
    less power than others have less of the 16-bit peak. element_B: bytes of an element between products, which those in
    16 bit read."""
    e, index = system.efficiency, precision.astype(np.intp)
    low, four = IS_LOW[index], IS_FOUR[index]
    peaks = np.broadcast_arrays(*(np.atleast_1d(system.peak_flops.get(name, 0.0)) for name in PRECISIONS))
    peak = np.concatenate(peaks, axis=-1)[..., index]
    share = np.where(four, e.product_4, np.where(low, e.product_8, e.product_16 * system.power_share))
    read = np.where(four, e.weights_4, np.where(low, e.weights_8, e.weights_16))
    P16 = system.peak_flops["bf16"] * system.power_share
    one = np.ones(np.shape(precision))
    return DeviceRates(
        recipe=ProductRates(
            P=peak * np.minimum(share * e.sustained, 1.0),
            B=system.hbm_Bps * read,
            w=np.where(low, WIDTHS[index], element_B),
            m_half=e.rows_half * np.where(low, e.low_rows, 1.0),
        ),
        wide=ProductRates(
            P=one * (P16 * e.product_16 * e.sustained),
            B=one * (system.hbm_Bps * e.weights_16),
            w=2.0 * one,
            m_half=one * e.rows_half,
        ),
        P16=P16,
        B=system.hbm_Bps * e.memory,
        quantise_B=np.where(four, e.quantise_4_B, np.where(low, e.quantise_B, 0.0)),
        n_half=e.columns_half,
        narrow_columns=e.narrow_columns,
        misaligned=e.misaligned,
        precision=precision,
        kernels=kernels,
    )
