"""What one device does per second: the rates of a chip times what a training stack reaches of them.

`rates` is the product of a system and its software; the laws of `operators.law` take what it gives.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mowich.arrays import Floats
from mowich.machines.system import PRECISIONS
from mowich.operators.kernels import Kernels
from mowich.software.stack import Platform

WIDTH_B = {"bf16": 2.0, "fp8": 1.0, "mxfp8": 1.0, "nvfp4": 0.5, "mxfp4": 0.5, "int8": 1.0}
"""Bytes per element of a GEMM operand, by recipe (a definition, not a measurement)."""

WIDTHS = np.array([WIDTH_B[name] for name in PRECISIONS])

BF16 = float(PRECISIONS.index("bf16"))

IS_LOW = np.array([name != "bf16" for name in PRECISIONS])

IS_FOUR = np.array([name.endswith("fp4") for name in PRECISIONS])

IS_BLOCK = np.array([name in ("mxfp8", "mxfp4", "nvfp4") for name in PRECISIONS])
"""Recipes with a scale for each block of elements: those that fused kernels of experts are written for."""


@dataclass(frozen=True, slots=True)
class DeviceRates:
    """What one device does per second under each plan's recipe. P, P16: FLOP/s after efficiency, before shape; m_half:
    tokens; B: bytes/s; width_B: bytes per GEMM operand; quantise_B: bytes moved per GEMM input element; units, tile,
    wave_share: see `waves`;
    power: of the roofline's rounding; precision: index of the recipe; kernels: tables that operators are read from."""

    P: Floats
    P16: float
    m_half: Floats
    n_half: float
    B: float
    width_B: Floats
    quantise_B: Floats
    units: float
    tile: float
    wave_share: float
    misaligned: float
    power: float
    precision: Floats
    kernels: Kernels | None

    def by(self, seconds: Floats) -> str:
        """What a recorded term of so many seconds says of where its time is from."""
        return "" if self.kernels is None else self.kernels.source(seconds)


def rates(system: Platform, precision: Floats, kernels: Kernels | None = None) -> DeviceRates:
    """Rates by column of precision indices. A precision that the chip lacks has rate 0 and never gets here. No recipe
    runs above the published peak of its format, whatever efficiency and gain make together (both at the high ends of
    their ranges would)."""
    e, index = system.efficiency, precision.astype(np.intp)
    low, four = IS_LOW[index], IS_FOUR[index]
    peaks = np.broadcast_arrays(*(np.atleast_1d(system.peak_flops.get(name, 0.0)) for name in PRECISIONS))
    peak = np.concatenate(peaks, axis=-1)[..., index]
    gain = np.where(four, e.fp4_gain, np.where(low, e.low_precision_gain, system.power_share))
    return DeviceRates(
        P=peak * np.minimum(e.gemm_efficiency * gain, 1.0),
        P16=system.peak_flops["bf16"] * system.power_share,
        m_half=e.gemm_m_half * np.where(low, e.low_precision_m_half, 1.0),
        n_half=e.gemm_n_half,
        B=system.hbm_Bps * e.hbm_efficiency,
        width_B=WIDTHS[index],
        quantise_B=np.where(four, e.fp4_quantise_B, np.where(low, e.quantise_B, 0.0)),
        units=e.gemm_units,
        tile=system.stack.gemm_tile,
        wave_share=e.wave_share,
        misaligned=system.stack.misaligned,
        power=system.stack.roofline_power,
        precision=precision,
        kernels=kernels,
    )
