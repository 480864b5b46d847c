"""A `ServePlan`: how one worker (one copy of a model) is spread over devices to serve. No times and no hardware in it.

A worker has tp x dp x cp ranks in each of pp stages. dp is attention data parallelism: each dp rank holds whole
attention weights and its own sequences, while experts are spread over all tp x dp ranks of the stage, ep groups of
them, the rest of the ranks cutting each expert (etp). cp cuts one sequence's tokens and cache. `ServePlans` is the same
thing as columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mowich.operators.tables.schema import FORMAT_B

Column = NDArray[np.float64]

WEIGHTS = ("bf16", "fp8", "mxfp8", "int8", "nvfp4", "mxfp4", "int4")
"""Formats that weights can be served in; "int4" is weight-only (group-scaled), as in AWQ and Kimi K2.5."""

WEIGHT_B = FORMAT_B
"""Bytes per weight with its scales, by format."""

KV = ("bf16", "fp8")
"""Formats of the cache."""

KV_B = {"bf16": 2.0, "fp8": 1.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServePlan:
    """One worker. weights: format of the matrices; kv: format of the cache."""

    tp: int = 1
    pp: int = 1
    dp: int = 1
    cp: int = 1
    ep: int = 1
    weights: str = "bf16"
    kv: str = "bf16"

    @property
    def devices(self) -> int:
        """Devices of one worker: tp x dp x cp x pp."""
        return self.tp * self.pp * self.dp * self.cp

    @property
    def etp(self) -> int:
        """Ranks that cut one expert: tp x dp / ep."""
        return max(1, self.tp * self.dp // self.ep)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ServePlan:
        """The plan that `to_dict` wrote. Raises KeyError for a field that is not there."""
        degrees = {name: int(data[name]) for name in ("tp", "pp", "dp", "cp", "ep")}
        return cls(**degrees, weights=str(data["precision"]), kv=str(data["kv"]))

    def to_dict(self) -> dict[str, int | bool | str]:
        """The JSON contract of a plan; fields that serving has no use for keep their neutral values."""
        return {
            "tp": self.tp,
            "sp": False,
            "pp": self.pp,
            "vpp": 1,
            "dp": self.dp,
            "cp": self.cp,
            "ep": self.ep,
            "etp": self.etp,
            "zero": 0,
            "micro_batch": 1,
            "recompute": "none",
            "precision": self.weights,
            "schedule": "1f1b",
            "kv": self.kv,
        }

    def __str__(self) -> str:
        """ "tp4 dp2 ep8 fp8/bf16": degrees above 1, then weights / cache format."""
        parts = [f"{name}{getattr(self, name)}" for name in ("tp", "pp", "dp", "cp", "ep") if getattr(self, name) > 1]
        return " ".join([*(parts or ["tp1"]), f"{self.weights}/{self.kv}"])


@dataclass(frozen=True, slots=True)
class ServePlans:
    """Columns of worker plans, float64 of shape [n]; weights and kv are indices into WEIGHTS and KV."""

    tp: Column
    pp: Column
    dp: Column
    cp: Column
    ep: Column
    weights: Column
    kv: Column

    def __len__(self) -> int:
        return len(self.tp)

    @classmethod
    def of(cls, plans: Iterable[ServePlan]) -> ServePlans:
        """Columns from plans."""
        rows = list(plans)
        code = {"weights": WEIGHTS.index, "kv": KV.index}
        return cls(
            *(
                np.array([code.get(f.name, float)(getattr(p, f.name)) for p in rows], dtype=np.float64)
                for f in fields(cls)
            )
        )

    def take(self, index: NDArray[np.intp] | NDArray[np.bool_]) -> ServePlans:
        """The rows at `index`."""
        return ServePlans(*(getattr(self, f.name)[index] for f in fields(self)))

    def plan(self, i: int) -> ServePlan:
        """Row i."""
        return ServePlan(
            tp=int(self.tp[i]),
            pp=int(self.pp[i]),
            dp=int(self.dp[i]),
            cp=int(self.cp[i]),
            ep=int(self.ep[i]),
            weights=WEIGHTS[int(self.weights[i])],
            kv=KV[int(self.kv[i])],
        )

    @property
    def devices(self) -> Column:
        """Devices of one worker."""
        return self.tp * self.pp * self.dp * self.cp
