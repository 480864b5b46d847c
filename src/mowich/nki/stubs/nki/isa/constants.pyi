"""The enumerations of `nki.isa`.

Written by `tools/nki_stubs.py` from what `help` shows. Do not edit."""

from . import dge_mode as dge_mode
from . import dma_engine as dma_engine
from . import engine as engine
from . import matmul_perf_mode as matmul_perf_mode
from . import nc_version as nc_version
from . import oob_mode as oob_mode
from . import reduce_cmd as reduce_cmd
