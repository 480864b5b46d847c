"""headroom: the memory of systems that a job may take."""

from __future__ import annotations

from dataclasses import dataclass

from mowich.requests.common import Asked
from mowich.requests.fields import count, share
from mowich.requests.rooms.power import POWERED
from mowich.requests.room import room_schema

_KEPT = share("kept", "Share of the memory that is kept free: 10%.", metavar="SHARE", default=0.1, shown="10%")
_TOKENS = count("tokens", "Tokens of a cache.", high=1e8, metavar="N", keyword="cache_tokens", example="128k")


@dataclass(frozen=True, slots=True, kw_only=True)
class Headroom(Asked):
    """Memory of systems' chips. kept: share that stays free; cache_tokens: of a cache."""

    systems: tuple[str, ...]
    kept: float
    cache_tokens: float | None


SCHEMA = room_schema(
    "headroom",
    Headroom,
    *(POWERED, _KEPT, _TOKENS),
    help="Memory that a job may take.",
    short="Memory that a job may take.",
    example="mowich headroom --on trn3:4 --kept 10%",
)
