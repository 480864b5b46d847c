"""Sizes of the hardware and of float32 as kernels read them: `nl.tile_size`, `nl.fp32`."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np

from mowich.neuroncore import core as machine
from mowich.neuroncore.targets import DEFAULT_TARGET, generation_of


def default_generation() -> int:
    """Generation of a kernel that names no target: the environment's, else that of the default target."""
    for variable in ("NEURON_PLATFORM_TARGET_OVERRIDE", "NKI_NC_VERSION"):
        value = os.environ.get(variable)
        if value:
            return generation_of(value)
    return generation_of(DEFAULT_TARGET)


def _limits() -> machine.Limits:
    core = machine.running()
    return core.limits if core is not None else machine.limits(default_generation())


class _Size:
    """A size of the core that runs, else of the default target. doc: what it is."""

    def __init__(self, doc: str, of: Callable[[machine.Limits], int]) -> None:
        self.__doc__, self._of = doc, of

    def __get__(self, instance: object, owner: object = None) -> int:
        return self._of(_limits())

    def __set__(self, instance: object, value: object) -> None:
        raise AttributeError("a size of the hardware is not set")


class _TileSize:
    """Sizes of the hardware: partitions, elements of float32, bytes per partition."""

    pmax = _Size("Partitions of a tile.", lambda limits: limits.partitions)
    psum_fmax = _Size("float32 elements in one PSUM bank of a partition.", lambda limits: limits.psum_bank_B // 4)
    psum_bank_fmax = psum_fmax
    psum_bank_fmax_bytes = _Size("Bytes in one PSUM bank of a partition.", lambda limits: limits.psum_bank_B)
    gemm_stationary_fmax = _Size("Columns of a stationary tile.", lambda limits: limits.stationary_columns)
    gemm_moving_fmax = _Size("Columns of a moving tile that one bank takes.", lambda limits: limits.moving_columns)
    bn_stats_fmax = _Size("Elements per partition that bn_stats takes.", lambda limits: limits.bn_stats_elements)
    psum_min_align = _Size("Bytes of which an address in PSUM is a multiple.", lambda limits: limits.psum_align_B)
    sbuf_min_align = _Size("Bytes of which an address in SBUF is a multiple.", lambda limits: limits.sbuf_align_B)
    psum_num_banks = _Size("PSUM banks.", lambda limits: limits.psum_banks)
    sbuf_fmax_bytes = _Size("Bytes of a partition that a kernel may use.", lambda limits: limits.sbuf_usable_B)
    total_available_sbuf_size = sbuf_fmax_bytes
    sbuf_fmax = _Size("The same in float32 elements.", lambda limits: limits.sbuf_usable_B // 4)
    sbuf_size_bytes = _Size("All of SBUF.", lambda limits: limits.sbuf_B * limits.partitions)


tile_size = _TileSize()


class _Fp32:
    """Numbers of float32."""

    min = float(np.finfo(np.float32).min)
    max = float(np.finfo(np.float32).max)
    tiny = float(np.finfo(np.float32).tiny)
    eps = float(np.finfo(np.float32).eps)


fp32 = _Fp32()
