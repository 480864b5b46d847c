"""`neuronxcc.nki.nccl`: exchanges between ranks in the older interface, on `mowich.nki.collectives`."""

from __future__ import annotations

from collections.abc import Sequence

from mowich.neuroncore.core import fail
from mowich.neuroncore.dtypes import as_dtype
from mowich.neuroncore.views import Tile
from mowich.nki import collectives as now
from mowich.nki.beta1.tensor import operand

__path__: list[str] = []


def _tiles(given: Sequence[object]) -> list[Tile]:
    out = []
    for x in given:
        tile = operand(x)
        assert isinstance(tile, Tile)
        out.append(tile)
    return out


def all_reduce(
    op: object,
    srcs: Sequence[object],
    dsts: Sequence[object],
    replica_groups: object,
    dtype: object = None,
    **_: object,
) -> None:
    """Every rank gets the reduction over its group."""
    sources = _tiles(srcs)
    wrong = [t for t in sources if dtype is not None and t.dtype is not as_dtype(dtype)]
    if wrong:
        raise fail("nccl.all_reduce: dtype is the format of the sources", tile=wrong[0], given=as_dtype(dtype).name)
    now.all_reduce(sources, _tiles(dsts), now.ReplicaGroup(replica_groups), op)
