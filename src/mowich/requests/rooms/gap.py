"""gap: why one machine beats another at a job."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mowich.requests.common import AS, FORM, LEGEND, MODEL, SEED, TRAINING_STACK, only_of
from mowich.requests.fields import word
from mowich.requests.job_fields import CHIPS, FIXED, JOBS, SERVED, SERVES, TRAINED, TRAINS
from mowich.requests.jobs import JobRequest, read_work, serves_job
from mowich.requests.schema import QuestionReader, Schema, VerbOnWeb
from mowich.requests.settings import OF_FACTS, PRICE_KIND, RECIPE, TERM
from mowich.requests.stated import system_at

OF_GAP = ("tokens_per_s_per_chip", "usd_per_mtok", "usd_total")
"""What two machines may be compared by: tokens/s and chip, dollars per million tokens, dollars of the whole run."""

_FIRST = word(
    "first",
    metavar="A",
    is_argument=True,
    needs=True,
    completes="systems",
    example="trn3",
    told=system_at(
        0,
    ),
)
_SECOND = word(
    "second",
    metavar="B",
    is_argument=True,
    needs=True,
    completes="systems",
    example="gb300",
    told=system_at(
        1,
    ),
)
JOB_MODEL = replace(MODEL, is_argument=False)
_METRIC = word(
    "metric",
    "tokens_per_s_per_chip, usd_per_mtok, or usd_total of a whole run.",
    words=OF_GAP,
    what="metric",
    metavar="NAME",
    default="tokens_per_s_per_chip",
    example="usd_per_mtok",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GapRequest(JobRequest):
    """One job on two machines. metric: what they are compared by; seed: of the orders that are drawn where not all can
    be tried."""

    metric: str = OF_GAP[0]

    def doing(self) -> str:
        """What a terminal says meanwhile."""
        return f"planning on machines between {' and '.join(self.systems)}"


def _gap(reader: QuestionReader) -> GapRequest:
    serving = serves_job(reader, SERVES)
    if serving:
        only_of(reader, (*TRAINED, TRAINING_STACK, RECIPE), "training", TRAINS)
    else:
        only_of(reader, SERVED, "serving", SERVES)
    return reader.fill(GapRequest, **read_work(reader, _FIRST, _SECOND, work="serve" if serving else "train"))


SCHEMA = Schema(
    name="gap",
    fields=(
        *(_FIRST, _SECOND, JOB_MODEL, AS, TRAINS, SERVES, *SERVED, *TRAINED, CHIPS, _METRIC, TRAINING_STACK, SEED),
        *(PRICE_KIND, RECIPE, *OF_FACTS, FIXED, TERM, LEGEND, *FORM),
    ),
    make=_gap,
    help=(
        "Why machine B beats machine A at a job: factors for compute, bandwidth, capacity, links, network, software and"
        " price that multiply to the whole ratio."
    ),
    short="Why one machine beats another, as factors that multiply.",
    example="mowich gap trn3 gb300 --model deepseek-v3 --train --tokens 15T --seq 4096 --batch 16384seqs --chips 16384",
    groups=JOBS,
    after="brief",
    places=("first", "second"),
    keys={"ratio": "object", "rows": "array"},
    web=VerbOnWeb(
        tag="jobs",
        said="Why one machine beats another, as factors:",
        about="Why one machine beats another.",
        is_long=True,
    ),
)
