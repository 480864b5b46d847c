"""The load of a serving plan: requests per second, or users, and limits on percentiles."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from mowich.errors import UserError
from mowich.requests.fields import Field, quantity, read_share, share, whole
from mowich.requests.schema import QuestionReader
from mowich.requests.stated import given_at
from mowich.units import NUMBER


def read_rate(value: object) -> float:
    """Requests per second: 20rps, 20/s, 90/min, or a number. Raises UserError."""
    match = _RATE.fullmatch(str(value).strip())
    rate = float(match[1].replace("_", "")) / _PER[match[2] or ""] if match else 0.0
    if not 0.0 < rate <= MOST_PER_S:
        raise UserError("not a rate of requests", given=value, allowed=f"20rps, 20/s, 90/min, up to {MOST_PER_S:.0g}/s")
    return rate


_RATE = re.compile(rf"({NUMBER})\s*(rps|req/s|requests/s|1?/s|1?/min|rpm|)")
_PER = {
    **dict.fromkeys(("", "rps", "req/s", "requests/s", "/s", "1/s"), 1.0),
    **dict.fromkeys(("/min", "1/min", "rpm"), 60.0),
}
MOST_PER_S = 1e5
"""Most requests per second."""


LOAD_RATE: Field[float] = Field(
    name="rate",
    parse=read_rate,
    kind="quantity",
    help="Serving: a load, 20rps: the smallest and the cheapest.",
    metavar="RATE",
    group="serve",
    example="20rps",
)
USERS = whole("users", "Serving: users who ask without end, not a rate.", high=1e6, metavar="N", group="serve")
THINK = quantity(
    "think",
    "s",
    "With users: time between an answer and what follows.",
    metavar="TIME",
    group="serve",
    example="30s",
    told=given_at("think_s"),
)
P99_TTFT = quantity(
    "p99_ttft", "s", "A load: 99 of 100 see their first token within.", metavar="TIME", group="serve", example="2s"
)
P99_TPOT = quantity(
    "p99_tpot",
    "s",
    "Serving a load: 99 of 100 wait at most this per token.",
    metavar="TIME",
    group="serve",
    example="50ms",
)
LOAD_HEADROOM = replace(
    share(
        "headroom",
        "A load: capacity kept free.",
        default=0.2,
        shown="20%",
        metavar="SHARE",
        group="serve",
        example="30%",
    ),
    parse=partial(read_share, most=0.9),
    high=0.9,
)
"""How much of a deployment the load leaves free: its limits are kept at load / (1 - headroom) too."""

LOADED = (LOAD_RATE, USERS, THINK, P99_TTFT, P99_TPOT, LOAD_HEADROOM)
"""Further fields of a plan of serving: a load, and limits on percentiles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeLoad:
    """What a deployment has to serve: rate requests per second, or users who ask without end and think between (None:
    the other). p99_ttft_s, p99_tpot_s: limits on 99th percentiles (inf: none); headroom: share of the capacity that
    stays free."""

    rate: float | None = None
    users: int | None = None
    think_s: float = 0.0
    p99_ttft_s: float = math.inf
    p99_tpot_s: float = math.inf
    headroom: float = 0.0

    def at_peak(self) -> ServeLoad:
        """The load that leaves nothing free: load / (1 - headroom), in whole users."""
        more = 1.0 / (1.0 - self.headroom)
        users = None if self.users is None else math.ceil(round(self.users * more, 9))
        return replace(self, rate=None if self.rate is None else self.rate * more, users=users, headroom=0.0)


def read_serve_load(
    reader: QuestionReader, means: Sequence[Field[float]], cached: Field[float | str]
) -> ServeLoad | None:
    """The load of a serving plan; None where none is asked for. means: the fields of limits on means; cached: that of
    cached prompts, which a load does not take."""
    rate, users = reader.given(LOAD_RATE), reader.given(USERS)
    if rate is None and users is None:
        need = f"needs {reader.said(LOAD_RATE)} or {reader.said(USERS)}"
        reader.refuse(need, THINK, P99_TTFT, P99_TPOT, LOAD_HEADROOM)
        return None
    if rate is not None and users is not None:
        reader.add("give either a rate or users", USERS, given="both")
    if users is None:
        reader.refuse(f"needs {reader.said(USERS)}: a rate does not wait", THINK)
    reader.refuse("is not for a load", cached, fix="mowich traffic has a prefix cache")
    if all(not reader.has(f) for f in (P99_TTFT, P99_TPOT, *means)):
        reader.add(
            f"needs a limit: {reader.said(P99_TTFT)}, {reader.said(P99_TPOT)}", USERS if rate is None else LOAD_RATE
        )
    return ServeLoad(
        rate=reader.get(LOAD_RATE),
        users=reader.get(USERS),
        think_s=reader.get(THINK) or 0.0,
        p99_ttft_s=reader.get(P99_TTFT) or math.inf,
        p99_tpot_s=reader.get(P99_TPOT) or math.inf,
        headroom=reader.get(LOAD_HEADROOM) or 0.0,
    )
