"""goodput: which way of surviving failures keeps how much of a long run."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mowich.errors import unknown
from mowich.requests.common import FORM, SEED, Asked
from mowich.requests.fields import names, number, quantity, share, whole
from mowich.requests.machines import ONE_SYSTEM
from mowich.requests.schema import Limit, QuestionReader, Schema, VerbOnWeb
from mowich.requests.settings import OF_FACTS, asked_of
from mowich.requests.stated import in_rows

_RUN = replace(ONE_SYSTEM, help="trn3:1000000 (chips), h100:16384, ironwood*4.", example="trn3:100000")
DAYS = number("days", "Length of the run.", low=0.0, above=True, metavar="N", default=90.0, shown="90.0", example="90")
_STEP = quantity(
    "step",
    "s",
    "Time of a training step: '5 s'.",
    keyword="step_s",
    metavar="TIME",
    default=5.0,
    shown="5 s",
    example="5 s",
)
STRATEGY = names(
    "strategy",
    "sync, async, memory, elastic; commas between (default: all).",
    keyword="strategies",
    metavar="NAMES",
    example="async",
    told=in_rows("strategy"),
)
SPARES = share(
    "spares",
    "Spare chips over chips of the job: 2%.",
    keyword="spare_share",
    metavar="SHARE",
    default=0.02,
    shown="2%",
    example="2%",
    told="spare_share",
)
REPLICA = whole(
    "replica",
    "Chips of a data-parallel replica (elastic), default 1024.",
    metavar="N",
    example="1024",
    told="replica_chips",
)
CHECKPOINT = quantity(
    "checkpoint",
    "s",
    "Time between checkpoints (default: Young/Daly).",
    keyword="checkpoint_s",
    metavar="TIME",
    example="10 min",
)
SAMPLES = whole(
    "samples", "Runs of the Monte Carlo.", low=10, high=1e6, metavar="N", default=1000, shown="1000", example="200"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GoodputRequest(Asked):
    """A long run. days; step_s, checkpoint_s: seconds; spare_share: of the chips of the job; replica: chips."""

    on: str
    days: float
    step_s: float
    strategies: tuple[str, ...]
    spare_share: float
    replica: int | None
    checkpoint_s: float | None
    samples: int
    seed: int

    def doing(self) -> str:
        """What a terminal says meanwhile."""
        return "simulating failures"


def _goodput(reader: QuestionReader) -> GoodputRequest:
    from mowich.training.faults import STRATEGIES

    asked = asked_of(reader, "goodput takes no plan and no price")
    strategies = STRATEGIES if reader.given(STRATEGY) in (None, "") else reader.get(STRATEGY) or ()
    if not strategies:
        reader.add("names no strategy", STRATEGY, allowed=STRATEGIES)
    for name in strategies:
        with reader.watch(STRATEGY):
            if name not in STRATEGIES:
                raise unknown("strategy", name, STRATEGIES)
    reader.stop()
    return reader.fill(GoodputRequest, strategies=tuple(strategies), **asked)


SCHEMA = Schema(
    name="goodput",
    fields=(
        *(_RUN, DAYS, _STEP, STRATEGY, SPARES, REPLICA, CHECKPOINT, SAMPLES, SEED, *OF_FACTS),
        *FORM,
    ),
    make=_goodput,
    help=(
        "Goodput of a long run by way of surviving failures: formula, Monte Carlo, range, where the time goes, and the"
        " recovery that 90% would need."
    ),
    short="Which way of surviving failures keeps how much of a long run.",
    example="mowich goodput --on trn3:1000000 --days 90",
    after="collective",
    keys={"rows": "array", "survival": "string", "warnings": "array"},
    web=VerbOnWeb(
        tag="machines",
        said="Which way of surviving failures keeps how much of a long run:",
        about="Which way of surviving failures keeps how much of a long run.",
        defaults={"samples": "200"},
        limits=(
            Limit("days", "days", 0.1, 3650.0),
            Limit("step", "step_s", 1e-3, 1e5),
            Limit("replica", "replica", 1, 1e6),
            Limit("samples", "samples", 1, 1000),
        ),
        is_long=True,
    ),
)
