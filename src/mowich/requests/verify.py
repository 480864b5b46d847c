"""verify: logs of a run beside the forecast of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mowich.errors import UserError
from mowich.examples import file_or_example
from mowich.requests.calibrate import CALLED_OR_TYPED, FILES, LOG_FORMAT
from mowich.requests.common import FORM, Asked, asked_model, form_of
from mowich.requests.fields import Edge, path, word
from mowich.requests.results import GIVEN, MADE_OF, facts_of_result, given_result, read_result
from mowich.requests.schema import QuestionReader, Schema
from mowich.requests.stated import inputs_of

if TYPE_CHECKING:
    from mowich.models.model import Model

FORECAST_FILE = "forecast.json"
"""The result of a bundle (`--emit TOOL --out DIR`)."""

VERIFIED = path(
    "result",
    "The forecast: a bundle's folder, or JSON of plan or compare; - reads stdin, last is the last answer.",
    metavar="RESULT",
    is_argument=True,
    needs=True,
    edges=frozenset({Edge.OPTION}),
    told=lambda result: inputs_of(result).get("result") or "RESULT",
)
LOGS = replace(
    FILES,
    needs=False,
    help="Logs of the run: of a benchmark of serving, or of training (else that of the bundle); @NAME: one that ships.",
    metavar="[LOG...]",
    told="logs",
)
RUN_ROW = word(
    "pick",
    "Which row was run: 1, 2, or its system (a bundle says it).",
    metavar="ROW",
    edges=CALLED_OR_TYPED,
    example="gb300",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyRequest(Asked):
    """Logs beside a forecast. data: its JSON object; where: its file, "" for one that Python gave; facts: that it was
    made with; model: as loaded, None: by the name in the result; pick: the row, None: as the result says; format: of
    all logs, None: by their content."""

    data: Mapping[str, object]
    where: str
    model: Model | None
    files: tuple[Path, ...]
    pick: str | None
    format: str | None

    def again(self) -> dict[str, object]:
        """What else than its inputs is needed to verify again, where it was given."""
        return {**({"format": self.format} if self.format else {}), **self.given}


def forecast_file(named: Path) -> Path:
    """The result that is meant: the forecast of a bundle, for its folder. Raises UserError for a folder without."""
    if not named.is_dir():
        return named
    if not (named / FORECAST_FILE).is_file():
        raise UserError(
            f"holds no {FORECAST_FILE}",
            where=str(named),
            fix="mowich plan ... --emit TOOL --out DIR writes a bundle with one",
        )
    return named / FORECAST_FILE


def own_log(data: Mapping[str, object], file: Path) -> tuple[Path, ...]:
    """The log that the benchmark of a bundle wrote. Raises UserError where there is none."""
    bundle = data.get("bundle")
    if not isinstance(bundle, Mapping) or not bundle.get("log"):
        raise UserError("needs a log", where="LOG", fix=f"mowich verify {file} LOG")
    log = file.parent / str(bundle["log"])
    if not log.exists():
        raise UserError("has not been run: no log", where=str(log), fix="run benchmark/run.sh first, or name a log")
    return (log,)


def _logs(reader: QuestionReader) -> tuple[Path, ...]:
    """The files that are meant; "@NAME" is one that ships."""
    return tuple(
        file_or_example(str(named), "logs") if str(named).startswith("@") else named for named in reader.get(LOGS) or ()
    )


def _verify(reader: QuestionReader) -> VerifyRequest:
    form = form_of(reader)
    reader.stop()
    if reader.edge is Edge.OPTION:
        file = forecast_file(reader.sure(VERIFIED))
        data = read_result(file)
        files = _logs(reader) or own_log(data, file)
        facts = facts_of_result(data)
        inputs = data.get("inputs")
        stated = inputs if isinstance(inputs, Mapping) else {}
        given = {name: stated.get(name) or [] for name in ("set", "facts_dirs")}
        return reader.fill(
            VerifyRequest, form=form, data=data, where=str(file), files=files, facts=facts, given=given, model=None
        )
    data = given_result(reader)
    if not reader.get(LOGS):
        reader.missing(LOGS)
    model = asked_model(reader) if reader.has(MADE_OF) else None
    reader.stop()
    known = reader.source.facts
    assert known is not None
    return reader.fill(
        VerifyRequest, form=form, data=data, where="", files=_logs(reader), facts=known, given={}, model=model
    )


VERIFY_RUN = Schema(
    name="verify",
    fields=(VERIFIED, GIVEN, LOGS, RUN_ROW, MADE_OF, LOG_FORMAT, *FORM),
    make=_verify,
    help=(
        "A run beside its forecast: each figure of a log, measured and predicted, inside the range or not; what the log"
        " says of the setup, and whether it is that of the forecast; what would explain a figure outside; what"
        " calibrate would make of it. Ends with exit code 5 where a figure lies outside, with 0 where the log"
        " is of another setup."
    ),
    short="A log of a run beside the forecast of it.",
    example="mowich plan ... --emit vllm --out job, run it, and mowich verify job job/benchmark/result.json",
)
