"""power: what machines draw, part by part, and what a site's cap feeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mowich.requests.common import Asked
from mowich.requests.fields import number, quantity, share
from mowich.requests.job_fields import ON
from mowich.requests.room import room_schema
from mowich.requests.schema import QuestionReader
from mowich.requests.stated import in_rows

POWERED = replace(ON, keyword="systems", told=in_rows("system"))
_CAP = quantity("cap", "W", "Power of the site at the meter: 100MW.", keyword="cap_W", metavar="POWER", example="100MW")
_IDLE = share(
    "spares", "Share of the chips that is idle: 0.02.", metavar="SHARE", default=0.0, shown="0.0", example="0.02"
)
_SPEED = number(
    "tokens_per_s",
    "Tokens per second of one chip, for tokens per megawatt.",
    low=0.0,
    above=True,
    metavar="N",
    example="1000",
    told="tokens_per_s_per_chip",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerRequest(Asked):
    """Machines under a cap. cap_W: at the meter; spares: idle share of the chips; tokens_per_s: of one chip."""

    systems: tuple[str, ...]
    cap_W: float | None
    spares: float
    tokens_per_s: float | None


def _has_systems(reader: QuestionReader) -> Mapping[str, object]:
    if reader.get(POWERED) == ():
        reader.add("names no system", POWERED, fix=f"for example {POWERED.example}")
    return {}


SCHEMA = room_schema(
    "power",
    PowerRequest,
    *(POWERED, _CAP, _IDLE, _SPEED),
    help="Provisioned power of a chip by part (chip, server, network, cooling), of the machine, and what a cap feeds.",
    short="Power by part, chips under a site's cap, tokens per megawatt.",
    example="mowich power --on trn3,gb300 --cap 100MW",
    after="claims",
    read=_has_systems,
)
