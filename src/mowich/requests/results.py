"""explain and report of a saved result; validate and claims of what ships."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mowich.requests.common import CSV, JSON, OUT, PLAIN, QUIET, Asked, Request, form_of
from mowich.requests.fields import TYPED, Edge, flag, path, word
from mowich.requests.schema import Reader, Schema, Source
from mowich.requests.settings import FACTS, SET, asked_of, read_settings

if TYPE_CHECKING:
    from mowich.facts import Facts

RESULT = path("result", metavar="RESULT", is_argument=True, needs=True, edges=TYPED)
EXPLAINED = replace(RESULT, help="JSON of any verb (--out or --json); - reads stdin.")
REPORTED = replace(RESULT, help="JSON of a verb (--out or --json); - reads stdin.")
METRIC = word(
    "metric",
    "trn3.step_s, trn3.step_s.ep, 1.mfu (row number), ttft_s.p99, gb300.usd_per_mtok.high; without it: fifteen names.",
    metavar="[METRIC]",
    is_argument=True,
)
ALL = flag("all", "Without METRIC: the names of all numbers, not of the fifteen that say most.", edges=TYPED)
HTML = path("html", "Where to write it (else RESULT with .html).", metavar="FILE", edges=TYPED)
OPEN = flag("show", "Open it in the browser.", option="--open", edges=TYPED)
ROWS = path(
    "file",
    "Measured training runs; without it, the published ones that ship.",
    keyword="path",
    metavar="[FILE.csv]",
    is_argument=True,
)
WORD = word(
    "word",
    "Only claims whose id holds this: trainium3, ironwood, gb300.",
    metavar="[WORD]",
    is_argument=True,
    edges=TYPED,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explain(Request):
    """One number of a saved result. metric: None for names; all: of all numbers, not of those that say most."""

    result: Path
    metric: str | None
    all: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Report(Request):
    """A saved result as HTML. html: the file to write, None: beside the result."""

    result: Path
    html: Path | None
    show: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Validate(Asked):
    """Predicted against measured. path: of rows, None: those that ship."""

    path: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims(Asked):
    """Public claims. word: of their ids, None: all."""

    word: str | None


def facts_of_result(data: Mapping[str, object]) -> Facts:
    """The facts that a result was made with: its directories and its settings."""
    inputs = data.get("inputs")
    given = inputs if isinstance(inputs, Mapping) else {}
    values = {
        "facts": [Path(str(folder)) for folder in given.get("facts_dirs") or ()],
        "set": [str(item) for item in given.get("set") or ()],
    }
    return AGAIN.read(values, Source(edge=Edge.OPTION))


def _again(reader: Reader) -> Facts:
    settings = read_settings(reader)
    reader.stop()
    return settings.facts


def _explain(reader: Reader) -> Explain:
    form = form_of(reader)
    reader.stop()
    return reader.fill(Explain, form=form)


def _report(reader: Reader) -> Report:
    form = form_of(reader)
    reader.stop()
    return reader.fill(Report, form=form)


def _validate(reader: Reader) -> Validate:
    asked = asked_of(reader, "validate takes each row's own plan and no price")
    reader.stop()
    return reader.fill(Validate, **asked)


def _claims(reader: Reader) -> Claims:
    asked = asked_of(reader)
    reader.stop()
    return reader.fill(Claims, **asked)


AGAIN = Schema(name="", fields=(SET, FACTS), make=_again, help="")
"""What a result says of its facts."""
EXPLAIN = Schema(
    name="explain",
    fields=(EXPLAINED, METRIC, ALL, JSON, PLAIN, QUIET),
    make=_explain,
    help=(
        "Any number of any result: its formula with the numbers put in, the facts and sources behind it, and what"
        " would change it most."
    ),
    short="Formula, numbers and sources of one number.",
    example="mowich explain r.json trn3-gen2.step_s.ep   (r.json from mowich compare ... --out r.json)",
)
REPORT = Schema(
    name="report",
    fields=(REPORTED, HTML, OPEN, QUIET),
    make=_report,
    help=(
        "One self-contained file: headline, table, charts, sources, inputs. It needs no network, prints, and can be"
        " mailed."
    ),
    short="A saved result as one HTML file.",
    example="mowich compare ... --out r.json && mowich report r.json --html r.html",
)
VALIDATE = Schema(
    name="validate",
    fields=(ROWS, SET, FACTS, JSON, CSV, PLAIN, QUIET, OUT),
    make=_validate,
    help="Predicted against measured: errors by chip and by source.",
    short="Predicted against measured, by chip and source.",
    example="mowich validate   or   mowich validate my_runs.csv --json",
)
CLAIMS = Schema(
    name="claims",
    fields=(WORD, SET, FACTS, JSON, CSV, PLAIN, QUIET, OUT),
    make=_claims,
    help=(
        "Each public claim: formula, inputs, result and verdict; then what memory per chip costs by model and context."
    ),
    short="Each public claim, derived again, with a verdict.",
    example="mowich claims trainium3 --json",
)
