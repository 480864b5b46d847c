"""explain and report of a saved result; validate and claims of what ships."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mowich.errors import UserError
from mowich.requests.common import FORM, JSON, MODEL, PLAIN, QUIET, Asked, Request, asked_model, form_of
from mowich.requests.fields import CALLED, TYPED, Edge, Field, flag, path, word
from mowich.requests.result_check import check_result
from mowich.requests.schema import QuestionReader, QuestionSource, Schema
from mowich.requests.settings import AS_OF, FACTS, OF_FACTS, SET, STALE, asked_of, read_freshness, read_settings
from mowich.requests.stated import rows_asked

if TYPE_CHECKING:
    from mowich.facts import Facts
    from mowich.facts.schema import FreshnessLimit
    from mowich.models.model import Model

RESULT = path("result", metavar="RESULT", is_argument=True, needs=True, edges=TYPED)
EXPLAINED = replace(RESULT, help="JSON of any verb (--out or --json); - reads stdin, last is the last answer.")
REPORTED = replace(RESULT, help="JSON of a verb (--out or --json), or the folder of a sweep; - reads stdin.")
GIVEN: Field[object] = Field(
    name="result",
    parse=lambda value: value,
    kind="object",
    help="What a verb returned, or its JSON object.",
    needs=True,
    edges=CALLED,
)
MADE_OF = replace(MODEL, needs=False, edges=CALLED, help="As loaded; else by the name in the result.")
METRIC = word(
    "metric",
    "trn3.step_s, trn3.step_s.ep, 1.mfu (row number), ttft_s.p99, gb300.usd_per_mtok.high; without it: fifteen names.",
    metavar="[METRIC]",
    is_argument=True,
    edges=frozenset({Edge.OPTION, Edge.KEYWORD}),
    example="trn3.step_s",
)
_ALL = flag("all", "Without METRIC: the names of all numbers, not of the fifteen that say most.", edges=TYPED)
_HTML = path("html", "Where to write it (else RESULT with .html).", metavar="FILE", edges=TYPED)
_OPEN = flag("show", "Open it in the browser.", option="--open", edges=TYPED)
ROWS = path(
    "file",
    "Measured runs of training, serving, reinforcement learning or collectives; without it, the published training runs"
    " that ship; trainium-serving, trainium-collectives: those of serving and of collectives on Trainium; energy:"
    " metered power.",
    keyword="path",
    metavar="[FILE.csv]",
    is_argument=True,
    told=rows_asked,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainRequest(Request):
    """One number of a result. data: its JSON object; where: its file, "" for one that Python gave; facts: that it was
    made with; model: as loaded, None: by the name in the result; metric: None for names; all: of all numbers, not of
    those that say most; limit: which facts are old, None: nobody asks."""

    data: Mapping[str, object]
    where: str
    facts: Facts
    model: Model | None
    metric: str | None
    all: bool
    limit: FreshnessLimit | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRequest(Request):
    """A saved result as HTML. html: the file to write, None: beside the result."""

    result: Path
    html: Path | None
    show: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidateRequest(Asked):
    """Predicted against measured. path: of rows, None: those that ship."""

    path: Path | None


def read_result(result: Path) -> Mapping[str, object]:
    """The JSON object of a file, or of stdin for "-". Raises UserError where it is none."""
    from mowich.files import parse_json, read_json, read_stream
    from mowich.kept import result_file

    where = str(result)
    result = result_file(result)
    if where == "-":
        data = parse_json(read_stream(sys.stdin, "result", where), where)
    else:
        data = read_json(result, "result", fix="mowich compare ... --out FILE writes one")
    if not _is_result(data):
        raise UserError(
            "not a result of mowich",
            where=where,
            given=data.get("schema"),
            allowed="what a verb writes with --json or --out",
        )
    check_result(data, where)
    return data


def _is_result(data: Mapping[str, object]) -> bool:
    return str(data.get("schema", "")).startswith("mowich/")


def given_result(reader: QuestionReader) -> Mapping[str, object]:
    """The JSON object of what Python gave; an empty one where it is none, which is noted."""
    value = reader.given(GIVEN)
    if value is None:
        return {}
    data = value if isinstance(value, Mapping) else value.to_dict() if hasattr(value, "to_dict") else None
    if not isinstance(data, Mapping) or not _is_result(data):
        given = value if data is None else data.get("schema") if isinstance(data, Mapping) else data
        reader.add("not a result of mowich", GIVEN, given=given, allowed="what a verb returned, or its JSON object")
        return {}
    if data is value:
        check_result(data, GIVEN.name)
    return data


def facts_of_result(data: Mapping[str, object]) -> Facts:
    """The facts that a result was made with: its directories and its settings."""
    inputs = data.get("inputs")
    given = inputs if isinstance(inputs, Mapping) else {}
    for name in ("facts_dirs", "set"):
        if not isinstance(given.get(name) or [], list | tuple):
            raise UserError("not a list", where=f"inputs.{name} of the result", given=given[name])
    values = {
        "facts": [Path(str(folder)) for folder in given.get("facts_dirs") or ()],
        "set": [str(item) for item in given.get("set") or ()],
    }
    return AGAIN.read(values, QuestionSource(edge=Edge.OPTION))


def _again(reader: QuestionReader) -> Facts:
    settings = read_settings(reader)
    reader.stop()
    return settings.facts


def _explain(reader: QuestionReader) -> ExplainRequest:
    form = form_of(reader)
    if reader.edge is Edge.OPTION:
        limit = read_freshness(reader)
        if limit is not None and not reader.has(METRIC):
            reader.add("goes with the facts of one number", STALE, fix=f"name one, for example {METRIC.example}")
        reader.stop()
        file = reader.sure(EXPLAINED)
        data = read_result(file)
        made_with = facts_of_result(data)
        return reader.fill(
            ExplainRequest, form=form, data=data, where=str(file), facts=made_with, model=None, limit=limit
        )
    data = given_result(reader)
    reader.need(METRIC)
    model = asked_model(reader) if reader.has(MADE_OF) else None
    reader.stop()
    facts = reader.source.facts
    assert facts is not None
    return reader.fill(ExplainRequest, form=form, data=data, where="", facts=facts, model=model, all=False, limit=None)


def _report(reader: QuestionReader) -> ReportRequest:
    form = form_of(reader)
    reader.stop()
    return reader.fill(ReportRequest, form=form)


def _validate(reader: QuestionReader) -> ValidateRequest:
    asked = asked_of(reader, "validate takes each row's own plan and no price")
    reader.stop()
    return reader.fill(ValidateRequest, **asked)


AGAIN = Schema(name="", fields=(SET, FACTS), make=_again, help="")
"""What a result says of its facts."""
EXPLAIN = Schema(
    name="explain",
    fields=(EXPLAINED, GIVEN, METRIC, MADE_OF, _ALL, STALE, AS_OF, JSON, PLAIN, QUIET),
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
    fields=(REPORTED, _HTML, _OPEN, QUIET),
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
    fields=(ROWS, *OF_FACTS, *FORM),
    make=_validate,
    help="Predicted against measured: errors by chip and by source.",
    short="Predicted against measured, by chip and source.",
    example="mowich validate   or   mowich validate my_runs.csv --json",
)
