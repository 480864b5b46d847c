"""forecast: numbers that are frozen before anybody measured them, and what was measured later."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from mowich.requests.calibrate import CALLED_OR_TYPED
from mowich.requests.common import FORM, Request, form_of
from mowich.requests.fields import TYPED, Field, path, word
from mowich.requests.schema import QuestionReader, Schema
from mowich.requests.settings import read_as_of

_NAME_FORM = re.compile(r"[a-z0-9][a-z0-9.-]{1,59}")
_NAMES = "2 to 60 of a-z, 0-9, '-' and '.', as in trn3-gen2-deepseek-v3-train"

LEDGER = path(
    "ledger",
    "The file of forecasts; without it forecasts/forecasts.jsonl here, and for list the one that ships.",
    metavar="FILE",
    edges=CALLED_OR_TYPED,
)
_QUESTION = word(
    "question",
    "The command that answers, in quotes, without 'mowich' and --json.",
    metavar="QUESTION",
    is_argument=True,
    needs=True,
    example="'compare deepseek-v3 --train --tokens 15T --on trn3-gen2:4096'",
    edges=TYPED,
)
_NUMBER = word(
    "number",
    "The number of the answer, as explain names it.",
    metavar="NUMBER",
    is_argument=True,
    needs=True,
    example="trn3-gen2.step_s",
    edges=TYPED,
)
_NAME = word(
    "name",
    "What the forecast is called.",
    metavar="NAME",
    needs=True,
    example="trn3-gen2-deepseek-v3-train",
    edges=TYPED,
)
SETTLES = word(
    "settles",
    "What would settle it: who would measure what.",
    metavar="TEXT",
    needs=True,
    example="'a published step of DeepSeek-V3 on Trn3 UltraServers'",
    edges=TYPED,
)
DAY = word("day", "The day it is frozen (else today).", metavar="YYYY-MM-DD", example="2026-12-02", edges=TYPED)
_FORECAST = word(
    "forecast", "Name of the forecast.", metavar="NAME", is_argument=True, needs=True, example="NAME", edges=TYPED
)
_MEASURED = word(
    "measured",
    "What was measured: with a unit, or in that of the forecast.",
    metavar="MEASURED",
    is_argument=True,
    needs=True,
    example="5.2s",
    edges=TYPED,
)
PUBLISHED = replace(
    DAY,
    name="published",
    help="The day it was published: not before the forecast was frozen.",
    needs=True,
    example="2027-03-01",
)
TRUTH_SOURCE = word("source", "Where it is published.", metavar="TEXT", needs=True, example="https://...", edges=TYPED)
_NOTE = word("note", "What differs from the question, if anything.", metavar="TEXT", edges=TYPED)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastsRequest(Request):
    """A ledger to read. ledger: None: the one of this folder, else the one that ships."""

    ledger: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FreezeRequest(Request):
    """A number to freeze. day: None: today."""

    ledger: Path | None
    question: str
    number: str
    name: str
    settles: str
    day: date | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRequest(Request):
    """What was measured of a forecast."""

    ledger: Path | None
    forecast: str
    measured: str
    published: date
    source: str
    note: str


def _list(reader: QuestionReader) -> ForecastsRequest:
    form = form_of(reader)
    reader.stop()
    return reader.fill(ForecastsRequest, form=form)


def _add(reader: QuestionReader) -> FreezeRequest:
    form, day = form_of(reader), read_as_of(reader, DAY)
    name = reader.get(_NAME)
    if name is not None and not _NAME_FORM.fullmatch(name):
        reader.add("not a name of a forecast", _NAME, given=name, allowed=_NAMES)
    _told(reader, (_QUESTION, _NUMBER, _NAME, SETTLES))
    return reader.fill(FreezeRequest, form=form, day=day)


def _score(reader: QuestionReader) -> ScoreRequest:
    form, published = form_of(reader), read_as_of(reader, PUBLISHED)
    _told(reader, (_FORECAST, _MEASURED, PUBLISHED, TRUTH_SOURCE))
    assert published is not None
    return reader.fill(ScoreRequest, form=form, published=published, note=reader.get(_NOTE) or "")


def _told(reader: QuestionReader, fields: tuple[Field[str], ...]) -> None:
    """Every one of some fields is there and holds more than blanks."""
    for field in fields:
        said = reader.get(field)
        if said is None:
            reader.missing(field)
        elif not said.strip():
            reader.add("is empty", field, given=said)
    reader.stop()


FORECAST_LIST = Schema(
    name="forecast list",
    fields=(LEDGER, *FORM),
    make=_list,
    help=(
        "Forecasts that were frozen before anybody measured, with their ranges, and what came of those that were"
        " measured since. A ledger of which a line was changed or taken out is refused."
    ),
    short="Frozen forecasts, and what came of them.",
    example="mowich forecast list",
)
FORECAST_ADD = Schema(
    name="forecast add",
    fields=(_QUESTION, _NUMBER, _NAME, SETTLES, DAY, LEDGER, *FORM),
    make=_add,
    help=(
        "Ask a question and freeze a number of its answer: the question, the range, the facts' hash, the version and"
        " the day become a line at the end of the ledger."
    ),
    short="Freeze a number of an answer.",
    example=(
        "mowich forecast add 'fit llama-3.1-70b --train --on trn3:64' memory_B --name trn3-70b-memory"
        " --settles 'a log of the allocator'"
    ),
)
FORECAST_SCORE = Schema(
    name="forecast score",
    fields=(_FORECAST, _MEASURED, TRUTH_SOURCE, PUBLISHED, _NOTE, LEDGER, *FORM),
    make=_score,
    help="Add what was measured of a forecast to the end of the ledger, and say whether it lies in the range.",
    short="Add what was measured of a forecast.",
    example="mowich forecast score trn3-70b-memory 80GB --source https://... --published 2027-03-01",
)
