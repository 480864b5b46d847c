"""Sizes of the hardware and of float32 as kernels read them: `nl.tile_size`, `nl.fp32`."""

from __future__ import annotations

import os

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


class _TileSize:
    """Sizes of the hardware: partitions, elements of float32, bytes per partition."""

    @property
    def pmax(self) -> int:
        """Partitions of a tile."""
        return _limits().partitions

    @property
    def psum_fmax(self) -> int:
        """float32 elements in one PSUM bank of a partition."""
        return _limits().psum_bank_B // 4

    psum_bank_fmax = psum_fmax

    @property
    def psum_bank_fmax_bytes(self) -> int:
        """Bytes in one PSUM bank of a partition."""
        return _limits().psum_bank_B

    @property
    def gemm_stationary_fmax(self) -> int:
        """Columns of a stationary tile."""
        return _limits().stationary_columns

    @property
    def gemm_moving_fmax(self) -> int:
        """Columns of a moving tile that one bank takes."""
        return _limits().moving_columns

    @property
    def bn_stats_fmax(self) -> int:
        """Elements per partition that bn_stats takes."""
        return _limits().bn_stats_elements

    @property
    def psum_min_align(self) -> int:
        """Bytes of which an address in PSUM is a multiple."""
        return _limits().psum_align_B

    @property
    def sbuf_min_align(self) -> int:
        """Bytes of which an address in SBUF is a multiple."""
        return _limits().sbuf_align_B

    @property
    def psum_num_banks(self) -> int:
        """PSUM banks."""
        return _limits().psum_banks

    @property
    def sbuf_fmax_bytes(self) -> int:
        """Bytes of a partition that a kernel may use."""
        return _limits().sbuf_usable_B

    total_available_sbuf_size = sbuf_fmax_bytes

    @property
    def sbuf_fmax(self) -> int:
        """The same in float32 elements."""
        return _limits().sbuf_usable_B // 4

    @property
    def sbuf_size_bytes(self) -> int:
        """All of SBUF."""
        limits = _limits()
        return limits.sbuf_B * limits.partitions


tile_size = _TileSize()


class _Fp32:
    """Numbers of float32."""

    min = float(np.finfo(np.float32).min)
    max = float(np.finfo(np.float32).max)
    tiny = float(np.finfo(np.float32).tiny)
    eps = float(np.finfo(np.float32).eps)


fp32 = _Fp32()
