"""next: which measurements would narrow the range of an answer most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mowich.requests.calibrate import CALLED_OR_TYPED
from mowich.requests.common import FORM, Request, form_of
from mowich.requests.fields import whole, word
from mowich.requests.schema import QuestionReader, Schema

if TYPE_CHECKING:
    from mowich.facts import Facts
    from mowich.models.model import Model

_NEXT_ON = word(
    "on",
    "Where you can measure: trn3:4 (chips).",
    metavar="SYSTEM",
    edges=CALLED_OR_TYPED,
    needs=True,
    completes="systems",
    example="trn3:4",
)
_NEXT_FOR = word(
    "question",
    "The command whose answer is too wide, in quotes.",
    option="--for",
    keyword="question",
    metavar="QUESTION",
    edges=CALLED_OR_TYPED,
    needs=True,
    example="'plan llama-3.1-8b --serve --isl 2k --osl 500 --on trn3:4'",
)
_NEXT_NUMBER = word(
    "number",
    "The number of the answer (else the one that ranks), as explain names it.",
    metavar="NUMBER",
    edges=CALLED_OR_TYPED,
    example="1.tokens_per_s_per_chip",
)
_BUDGET = whole(
    "budget",
    "Measurements to choose, at most.",
    high=10,
    metavar="N",
    default=3,
    shown="3",
    example="2",
    edges=CALLED_OR_TYPED,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NextRequest(Request):
    """What to measure next for a question. on: a system; number: None: the one that ranks; facts, model: that the
    question is asked of, in the place of those that it names (None: as it says)."""

    on: str
    question: str
    number: str | None
    budget: int
    facts: Facts | None = None
    model: Model | None = None


def _next(reader: QuestionReader) -> NextRequest:
    form = form_of(reader)
    for field in (_NEXT_ON, _NEXT_FOR):
        said = reader.get(field)
        if said is None:
            reader.missing(field)
        elif not said.strip():
            reader.add("is empty", field, given=said)
    reader.stop()
    return reader.fill(NextRequest, form=form)


NEXT_MEASURE = Schema(
    name="next",
    fields=(_NEXT_ON, _NEXT_FOR, _NEXT_NUMBER, _BUDGET, *FORM),
    make=_next,
    help=(
        "Which measurements would narrow the range of an answer most: a served load, a training step, a collective, a"
        " quoted price, a power. Each with the commands that make it, and how its result comes back. The ranges are"
        " those that the question would have if each came out as is predicted today."
    ),
    short="Which measurements narrow a range most.",
    example=(
        "mowich next --on h200:1 --for 'plan llama-3.1-8b --serve --isl 2k --osl 500 --tpot 20ms --on h200:1'"
        " --budget 2"
    ),
)
