"""value: what more of a property of a machine is worth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mowich.errors import UserError
from mowich.requests.common import FORM, LEGEND, TRAINING_STACK, asked_models, only_of
from mowich.requests.fields import Field, read_several, whole, word
from mowich.requests.job_fields import CHIPS, FIXED, JOBS, SERVED, SERVES, TRAINED, TRAINS
from mowich.requests.jobs import JobRequest, JobWork, read_work
from mowich.requests.schema import Limit, QuestionReader, Schema, VerbOnWeb
from mowich.requests.settings import OF_FACTS, PRICE_KIND, RECIPE, TERM
from mowich.requests.stated import amount_at, has_job, models_asked, of_job
from mowich.units import parse

if TYPE_CHECKING:
    from mowich.models.model import Model

VALUE_UNITS = {
    "memory": "B",
    "bandwidth": "B/s",
    "scale-up": "B/s",
    "scale-out": "B/s",
    "compute": "FLOP/s",
    "software": "1",
}
"""What can be valued, with its unit in SI."""

_VALUED = word("on", metavar="SYSTEM", is_argument=True, needs=True, completes="systems", example="trn3:1024")
_PROPERTY = word(
    "of",
    "memory, bandwidth, scale-up, scale-out, compute or software.",
    words=tuple(VALUE_UNITS),
    what="property",
    metavar="WHAT",
    needs=True,
    example="memory",
)


_MODELS: Field[tuple[object, ...]] = Field(
    name="models",
    parse=read_several,
    kind="names",
    help="Built-in names or config.json files; commas between.",
    option="--model",
    metavar="MODELS",
    needs=True,
    completes="model",
    example="deepseek-v3,llama-3.1-405b",
    told=models_asked,
)


def _end(name: str, help: str, example: str) -> Field[object]:
    """An end of the range: its unit is that of the property."""
    own = "float | str"
    return Field(
        name=name,
        parse=lambda v: v,
        kind="object",
        help=help,
        metavar="AMOUNT",
        example=example,
        annotation=own,
        told=amount_at(name),
    )


_FROM = replace(_end("low", "Begin of the range: '96 GiB', '2 TB/s'.", "96 GiB"), option="--from")
_TO = replace(_end("high", "End of the range.", "384 GiB"), option="--to")
_POINTS = whole("points", "Amounts in the range.", low=2, high=64, metavar="N", default=7, shown="7", example="13")
_VALUE_TRAINS, _VALUE_SERVES = (replace(field, told=has_job(field.name)) for field in (TRAINS, SERVES))
_SERVED_VALUE = (*of_job("serve", *SERVED[:-1]), replace(SERVED[-1], told="engine"))
_VALUE_STACK = replace(TRAINING_STACK, told="stack")


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueRequest(JobRequest):
    """A property of one machine. models: each is asked for every job that is given; low, high: ends of the range in
    SI, None: the usual ones; points: how many amounts."""

    of: str
    models: tuple[Model, ...]
    low: float | None = None
    high: float | None = None
    points: int = 7

    def doing(self) -> str:
        """What a terminal says meanwhile."""
        return f"planning on {self.systems[0]} with more and less {self.of}"

    def again(self) -> dict[str, object]:
        """What else is needed to run a result again: the words of its models."""
        return {**self.given, "models_given": self.model_given}


def _value(reader: QuestionReader) -> ValueRequest:
    jobs: tuple[tuple[JobWork, Field[bool]], ...] = (("train", TRAINS), ("serve", SERVES))
    works = [work for work, asked in jobs if reader.given(asked) not in (None, False)]
    if not works:
        reader.add(f"give {reader.said(TRAINS)}, {reader.said(SERVES)} or both", TRAINS, given="neither")
    if works == ["serve"]:
        only_of(reader, (*TRAINED, TRAINING_STACK, RECIPE), "training", TRAINS)
    elif works == ["train"]:
        only_of(reader, SERVED, "serving", SERVES)
    of = reader.get(_PROPERTY) or "memory"
    ends = {"low": _read_end(reader, _FROM, of), "high": _read_end(reader, _TO, of)}
    models = asked_models(reader, _MODELS)
    reader.stop()
    found = [read_work(reader, _VALUED, work=work, model=models[0]) for work in works]
    work = {key: next((w[key] for w in found if w[key] is not None), None) for key in found[0]}
    work["fixed"] = {key: choice for w in found for key, choice in w["fixed"].items()}  # type: ignore[attr-defined]
    words = reader.given(_MODELS)
    work["model_given"] = words if isinstance(words, str) else ",".join(m.name for m in models)
    return reader.fill(ValueRequest, **work, models=models, **ends)


def _read_end(reader: QuestionReader, field: Field[object], of: str) -> float | None:
    """An end of the range in SI."""
    given = reader.given(field)
    if given is None:
        return None
    if of == "software":
        reader.add("software is varied by its releases, and has no amount", field, given=given, fix="leave it out")
        return None
    with reader.watch(field):
        if isinstance(given, int | float) and not isinstance(given, bool):
            amount = float(given)
        else:
            amount = parse(given, VALUE_UNITS[of]).value
        if not 0.0 < amount < float("inf"):
            raise UserError("must be above 0", given=given)
        return amount
    return None


SCHEMA = Schema(
    name="value",
    fields=(
        *(_VALUED, _PROPERTY, _MODELS, _VALUE_TRAINS, _VALUE_SERVES, *_SERVED_VALUE, *of_job("train", *TRAINED)),
        *(_FROM, _TO, _POINTS, CHIPS, _VALUE_STACK, PRICE_KIND, RECIPE, *OF_FACTS, FIXED, TERM),
        *(LEGEND, *FORM),
    ),
    make=_value,
    help=(
        "What more of one property of a machine is worth over a range: tokens per second, days and dollars for a GiB, a"
        " TB/s or a release, with the plan that uses it, and the price of memory beside it."
    ),
    short="What more memory, bandwidth, links, compute or software is worth.",
    example=(
        "mowich value trn3 --of memory --model deepseek-v3,llama-3.1-405b --train --tokens 15T --seq 4096 --batch"
        " 16384seqs --chips 16384"
    ),
    groups=JOBS,
    after="gap",
    places=("on",),
    keys={"price": "object", "rows": "array"},
    web=VerbOnWeb(
        tag="jobs",
        said="What more of one property of a machine is worth:",
        about="What more of one property of a machine is worth.",
        limits=(Limit("points", "points", 2, 16),),
    ),
)
