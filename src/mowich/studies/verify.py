"""`mowich verify RESULT LOG`: what was measured beside what was predicted.

A log is of the forecast where nothing that it states is otherwise: lengths, load, batch, plan. What a log of another
setup measured is shown, and is no verdict. Where a figure lies outside of its range, `verify_causes.py` says what would
explain it, and `calibrate` what the log makes of the constants.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from mowich.errors import ProblemList, UserError, UserErrors
from mowich.estimate import Estimate
from mowich.evidence.readers.read import read_stated
from mowich.evidence.readers.record import MeasuredRecord, RefusedRecord
from mowich.evidence.readers.setup import (
    LENGTHS_NEAR,
    PLAN_COLUMNS,
    Setup,
    planned_cells,
    setup_beside,
    with_cells,
)
from mowich.examples import example_name
from mowich.facts import Facts
from mowich.launch.serving_benchmark import sent_load
from mowich.machines.system import parse_spec, resolve
from mowich.requests.calibrate import CalibrateRequest
from mowich.requests.result_check import whole_result
from mowich.requests.verify import VerifyRequest
from mowich.shown import Result, Rows, Shown
from mowich.studies.calibrate import Calibration, calibrate
from mowich.studies.heard import heard
from mowich.studies.verified import MORE_IS_FASTER, Cause, FigureStatus, Forecast, SetupItem, VerifiedFigure

RunVerdict = Literal["inside", "outside", "another setup", "nothing to compare"]

FORECAST_FIGURES: Mapping[str, Mapping[str, str]] = {
    "train": {"step_s": "time of a step", "tokens_per_s_per_chip": "tokens per second and chip"},
    "serve": {
        "ttft_s": "time to first token, median",
        "tpot_s": "time per output token, mean",
        "tokens_per_s_per_chip": "output tokens per second and chip",
    },
    "load": {
        "ttft_s": "time to first token, mean",
        "tpot_s": "time per output token, mean",
        "p99_ttft_s": "time to first token, 99th percentile",
        "p99_tpot_s": "time per output token, 99th percentile",
    },
}
"""Kind of forecast -> number of its row that a log measures -> its name in words. A steady load is predicted without
its start, when all requests come together: the mean of a run holds it, the median does not."""

LOAD_NEAR = 0.02
"""Share by which requests at a time, or requests per second, may differ from those of the forecast."""


class Verification(Shown):
    """Measured beside predicted. rows: a figure of a log each; setup: what both state of the run; causes: what would
    explain figures outside; calibration: what the logs make of the constants, or why not.

    Units: SI; ratios are predicted over measured time.

    Example:
        >>> import mowich
        >>> answer = mowich.plan("llama-3.1-8b", "h100:8", serve={"isl": "1k", "osl": "200"}, top=1)
        >>> mowich.verify(answer, "result.json").verdict  # doctest: +SKIP
        'inside'
    """

    SCHEMA = "mowich/verify@1"
    KEYS = (
        "inputs.result=forecast.where inputs.logs=files inputs.pick=forecast.place facts_hash of.verb=forecast.verb "
        "of.work=forecast.work of.system=forecast.system of.chips=forecast.chips of.model=forecast.model "
        "of.software=forecast.software of.program=forecast.program of.row=forecast.place verdict rows setup refused "
        "causes calibrate"
    )

    def __init__(
        self,
        forecast: Forecast,
        *,
        rows: Sequence[VerifiedFigure],
        setup: Sequence[SetupItem],
        refused: Sequence[RefusedRecord],
        causes: Sequence[Cause],
        calibration: Calibration | str,
        command: str,
        files: Sequence[str],
        facts_hash: str,
    ) -> None:
        self.forecast, self.rows, self.setup = forecast, Rows(rows), tuple(setup)
        self.refused, self.causes, self.calibration = tuple(refused), tuple(causes), calibration
        self.command, self.files, self.facts_hash = command, tuple(files), facts_hash

    @property
    def verdict(self) -> RunVerdict:
        """ "inside" where every figure lies in its range, "outside" where one does not."""
        states = {row.status for row in self.rows}
        if states & {"above", "below"}:
            return "outside"
        if "inside" in states:
            return "inside"
        return "another setup" if "another setup" in states else "nothing to compare"

    @property
    def calibrate(self) -> dict[str, object]:
        """What the logs make of the constants; the reason where they say nothing."""
        found = self.calibration
        if isinstance(found, str):
            return {"command": self.command or None, "reason": found}
        return {
            "command": self.command,
            "would_move": [
                {"path": one.path, "unit": one.unit, "before": one.today, "after": one.value} for one in found.constants
            ],
            "anchors": found.anchors,
            "error_before": found.before.median,
            "error_after": found.after.median,
        }


# ---- the forecast
# ----------------------------------------------------------------------------------------------------------------------

_SCHEMAS = ("mowich/plan@1", "mowich/compare@1", "mowich/rates@1")


def forecast_of(data: Result, where: str, pick: str | None) -> Forecast:
    """The row of a result that a log is of. pick: its number or its system; None: that of a bundle, or the only one
    with a plan, or the first of one system. Raises UserError for a result that no log measures."""
    schema = str(data["schema"])
    inputs = data.get("inputs")
    if schema not in _SCHEMAS or not isinstance(inputs, Mapping):
        raise UserError(
            "no log measures this result",
            where=where,
            given=schema.removeprefix("mowich/"),
            allowed="what plan, compare and plan --rate answer, and their bundles",
        )
    rows: Sequence[Result] = data["plans"] if "plans" in data else data["rows"]
    place = _picked(data, rows, pick, where)
    row = rows[place - 1]
    work = "load" if schema == "mowich/rates@1" else "train" if inputs.get("task") == "train" else "serve"
    if row.get("plan" if work == "train" else "decode") is None:
        raise UserError(f"row {place} has no plan", where=where, given=str(row.get("system")), fix=str(row["reason"]))
    about: Result = next((s for s in inputs["systems"] if s["system"] == row["system"]), {})
    return Forecast(
        where=where,
        data=data,
        row=row,
        place=place,
        work=work,
        system=str(row["system"]),
        chips=int(row["chips_used"]),
        software=str(row["engine"] if work != "train" else about.get("stack", "")),
        figures={name: Estimate.from_dict(row[name]) for name in FORECAST_FIGURES[work]},
        plan=_trained_plan(inputs, row) if work == "train" else _served_plan(inputs, row, work),
    )


def _picked(data: Result, rows: Sequence[Result], pick: str | None, where: str) -> int:
    """The place of a row, from 1."""
    names = [str(row["system"]) for row in rows]
    if pick is None and data.get("bundle"):
        return int(data["bundle"]["pick"])
    if pick is None:
        planned = [i for i, row in enumerate(rows, 1) if row.get("plan") or row.get("decode")]
        if len(planned) == 1 or (planned and len(set(names)) == 1):
            return planned[0]
        raise UserError(
            "the result has several rows: say which of them was run",
            where=where,
            field="pick",
            allowed=", ".join([f"1 to {len(rows)}", *dict.fromkeys(names)]) if rows else "none: it has no row",
        )
    if pick.isdigit() and 1 <= int(pick) <= len(rows):
        return int(pick)
    if names.count(pick) == 1:
        return names.index(pick) + 1
    allowed = ", ".join([f"1 to {len(rows)}", *(name for name in dict.fromkeys(names) if names.count(name) == 1)])
    raise UserError("is not a row of the result", where=where, field="pick", given=pick, allowed=allowed)


def _trained_plan(inputs: Result, row: Result) -> dict[str, str]:
    plan = row["plan"]
    out = {name: str(plan[name]) for name in ("tp", "pp", "dp", "cp", "ep", "zero", "micro_batch", "precision")}
    out |= {"recompute": str(plan["recompute"]), "batch": f"{row['global_batch_seqs']:g}", "seq": f"{inputs['seq']:g}"}
    return out


def _served_plan(inputs: Result, row: Result, work: str) -> dict[str, str]:
    plan, load = row["decode"], sent_load(inputs, row, "")
    out = {name: str(plan[name]) for name in ("tp", "pp", "dp", "ep", "precision", "kv")}
    out |= {"isl": f"{inputs['isl']:g}", "osl": f"{inputs['osl']:g}"}
    if load.rate is not None:
        return out | {"rate": f"{load.rate:g}"}
    return out | {"concurrency": str(load.users)}


# ---- the log
# ----------------------------------------------------------------------------------------------------------------------


def _number(cells: Mapping[str, str], name: str) -> float | None:
    return float(cells[name]) if cells.get(name) else None


def measured_figures(record: MeasuredRecord, forecast: Forecast, devices_per_chip: int) -> dict[str, float]:
    """What a record measured, by the names of the row, SI. Rates of devices become those of chips."""
    if forecast.work == "train":
        return _trained_figures(record, forecast, devices_per_chip)
    cells = record.cells

    def times(*names: str) -> dict[str, float]:
        stated = ((name, _number(cells, f"{name}_ms")) for name in names)
        return {f"{name}_s": value / 1e3 for name, value in stated if value is not None}

    out = times("ttft", "tpot")
    whole, each = _number(cells, "output_tok_s"), _number(cells, "output_tok_s_per_chip")
    if whole or each:
        out["tokens_per_s_per_chip"] = whole / forecast.chips if whole else float(each or 0.0)
    out |= times(*(f"{share}_{what}" for share in LOG_PERCENTILES for what in ("ttft", "tpot")))
    if forecast.work == "serve" and "ttft_s" in out:
        mean, median = out.pop("ttft_s"), out.pop("p50_ttft_s", None)
        out = {**({} if median is None else {"ttft_s": median}), **out, "mean_ttft_s": mean}
    return out


def _trained_figures(record: MeasuredRecord, forecast: Forecast, devices_per_chip: int) -> dict[str, float]:
    """The step and the rate of a record of training; the one that it lacks follows from the batch."""
    cells = record.cells
    batch = _number(cells, "global_batch_seqs") or float(forecast.plan["batch"])
    seq = _number(cells, "seq_len") or float(forecast.plan["seq"])
    per_step = batch * seq / (_chips(record, devices_per_chip) or forecast.chips)
    rate, step = _number(cells, "device_tokens_per_s"), _number(cells, "step_time_s")
    rate = rate * devices_per_chip if rate else _number(cells, "tokens_per_s_per_chip")
    if step is None and rate:
        step = per_step / rate
    return {"step_s": step, "tokens_per_s_per_chip": rate or per_step / step} if step else {}


LOG_PERCENTILES: Mapping[str, str] = {"p50": "median", "p90": "90th percentile", "p99": "99th percentile"}
"""How a column of a log begins -> the percentile in words."""
_OF_START = "mean, which holds the start of the run"


def _words_of(name: str, work: str) -> str:
    if name in FORECAST_FIGURES[work]:
        return FORECAST_FIGURES[work][name]
    share, _, what = name.partition("_")
    words = {"ttft_s": "time to first token", "tpot_s": "time per output token"}.get(what, what)
    if share in LOG_PERCENTILES:
        return f"{words}, {LOG_PERCENTILES[share]}"
    return f"{words}, {_OF_START}" if share == "mean" else FORECAST_FIGURES["serve"].get(name, name)


def setup_items(record: MeasuredRecord, forecast: Forecast, devices_per_chip: int, beside: Setup) -> list[SetupItem]:
    """What the forecast and a record state of the run, word by word. beside: what a file beside the log says."""
    columns = PLAN_COLUMNS["training" if forecast.work == "train" else "serving"]
    out = []
    for word, mine in forecast.plan.items():
        stated = record.cells.get(columns.get(word, ""), "")
        if word == "rate":
            stated = record.cells.get("request_rate", "")
        out.append(_item(word, mine, stated, record.where))
    chips = _chips(record, devices_per_chip)
    if forecast.work == "train" or chips is not None:
        out.append(_item("chips", str(forecast.chips), "" if chips is None else f"{chips:g}", record.where))
    return out + _beside_items(record, forecast, beside)


def _item(name: str, mine: str, stated: str, where: str) -> SetupItem:
    agrees = _agree(name, mine, stated) if stated else None
    return SetupItem(name=name, forecast=mine, log=stated or None, where=where, agrees=agrees)


def _beside_items(record: MeasuredRecord, forecast: Forecast, beside: Setup) -> list[SetupItem]:
    """System, model and software, where a file beside the log says them: logs call them by other names."""
    system = beside.on.partition(":")[0]
    mine = {
        "system": forecast.system.partition(":")[0] if system else "",
        "model": forecast.model,
        "software": forecast.software,
    }
    if system == forecast.row["system_id"]:
        mine["system"] = system  # one of its other names
    stated = {"system": system, "model": beside.model, "software": beside.software}
    return [_item(name, mine[name], word, record.where) for name, word in stated.items() if word]


def _chips(record: MeasuredRecord, devices_per_chip: int) -> float | None:
    """Chips of a run, where its log states them."""
    devices = _number(record.cells, "devices")
    return devices / devices_per_chip if devices else _number(record.cells, "n_chips")


def with_beside(record: MeasuredRecord, beside: Setup) -> MeasuredRecord | RefusedRecord:
    """A record with what the file beside its log says of the plan, where the log does not; refused where the two
    contradict each other. Raises UserError for a system that is not known."""
    given = planned_cells(record.kind, beside)
    size = parse_spec(beside.on)[1] if beside.on else None
    if size is not None and size.isdigit() and not record.cells.get("devices"):
        given["n_chips"] = size
    return with_cells(record, given, beside.said)


def _agree(word: str, mine: str, stated: str) -> bool:
    """Whether two words of a setup say the same."""
    try:
        a, b = float(mine), float(stated)
    except ValueError:
        mine, stated = mine.casefold(), stated.casefold()
        return mine == stated or (word == "precision" and mine.endswith(stated))  # "fp8" of a log is any of them
    if word in ("isl", "osl"):
        return abs(a - b) <= max(1.0, LENGTHS_NEAR * a)
    if word in ("concurrency", "rate"):
        return abs(a - b) <= max(1.0 if word == "concurrency" else 0.0, LOAD_NEAR * a)
    return a == b


# ---- the study
# ----------------------------------------------------------------------------------------------------------------------


@heard()
def verify(asked: VerifyRequest, tell: Callable[[str], None] = lambda text: None) -> Verification:
    """Hold logs beside a row of a result. Raises UserError or UserErrors, each one line, for logs that cannot be read,
    that are of other work, and for a result that no log measures."""
    from mowich.studies.verify_causes import causes_of

    facts, files = asked.facts, asked.files
    with whole_result(asked.where):
        forecast = forecast_of(asked.data, asked.where, asked.pick)
    tell("reading")
    records, refused = _records(files, asked.format, forecast)
    per_chip = int(forecast.row.get("devices_per_chip") or resolve(facts, forecast.system).devices_per_chip)
    rows: list[VerifiedFigure] = []
    setup: list[SetupItem] = []
    same: list[tuple[MeasuredRecord, Setup]] = []
    for stated, beside in records:
        record = with_beside(stated, beside)
        if isinstance(record, RefusedRecord):
            refused.append(record)
            continue
        items = setup_items(record, forecast, per_chip, beside)
        is_other = any(item.agrees is False for item in items)
        same += [] if is_other else [(record, beside)]
        setup += items
        rows += _figures(record, forecast, per_chip, is_other)
    tell("looking for causes")
    outside = [row for row in rows if row.is_outside]
    found: Calibration | str = "no log is of this setup"
    command = ""
    if same:
        tell("calibrating")
        logs = list(dict.fromkeys(_file_of(record, files) for record, _ in same))
        said = {word for _, beside in same for word in beside.plan}
        found, command = _made_of(logs, said, forecast, facts, asked.format)
    return Verification(
        forecast,
        rows=rows,
        setup=setup,
        refused=refused,
        causes=causes_of(forecast, outside, facts, asked.model),
        calibration=found,
        command=command,
        files=[str(path) for path in files],
        facts_hash=facts.hash(),
    )


def _records(
    files: Sequence[Path], name: str | None, forecast: Forecast
) -> tuple[list[tuple[MeasuredRecord, Setup]], list[RefusedRecord]]:
    """What logs state, of the work of the forecast, each with the setup beside its file."""
    records: list[tuple[MeasuredRecord, Setup]] = []
    refused: list[RefusedRecord] = []
    problems = ProblemList()
    kind = "training" if forecast.work == "train" else "serving"
    for path in files:
        with problems.watch():
            reading, beside = read_stated(path, name), setup_beside(path)
            refused += reading.refused
            records += [(record, beside) for record in reading.records if record.kind == kind]
            other = next((record for record in reading.records if record.kind != kind), None)
            if other is not None:
                said = other.kind if other.kind in ("training", "serving") else f"a {other.kind}"
                what = f"measures {said}, and the forecast is of {kind}"
                raise UserError(what, where=other.where, given=reading.format)
    problems.stop()
    return records, refused


def _figures(record: MeasuredRecord, forecast: Forecast, devices_per_chip: int, is_other: bool) -> list[VerifiedFigure]:
    out = []
    for name, measured in measured_figures(record, forecast, devices_per_chip).items():
        if not measured > 0.0 or not math.isfinite(measured):
            continue
        predicted = forecast.figures.get(name)
        out.append(
            VerifiedFigure(
                name=name,
                what=_words_of(name, forecast.work),
                log=record.where,
                measured=measured,
                unit="1/s" if name in MORE_IS_FASTER else "s",
                predicted=predicted,
                ratio=None if is_other else _ratio(name, predicted, measured),
                status=_status(predicted, measured, is_other),
            )
        )
    return out


def _ratio(name: str, predicted: Estimate | None, measured: float) -> float | None:
    """Predicted over measured, as times."""
    if predicted is None or not predicted.value:
        return None
    return measured / predicted.value if name in MORE_IS_FASTER else predicted.value / measured


def _status(predicted: Estimate | None, measured: float, is_other: bool) -> FigureStatus:
    if predicted is None or predicted.value is None:
        return "not predicted"
    if is_other:
        return "another setup"
    if predicted.low is None or predicted.high is None:
        return "no range"
    if measured > predicted.high:
        return "above"
    return "below" if measured < predicted.low else "inside"


def _file_of(record: MeasuredRecord, files: Sequence[Path]) -> Path:
    """The file that a record stands in: the longest name that its place begins with."""
    return max((path for path in files if record.where.startswith(str(path))), key=lambda path: len(str(path)))


_OF_LOAD = ("rate", "concurrency", "isl", "osl")
"""Words of a load, which each log states."""


def _made_of(
    logs: Sequence[Path], said_beside: set[str], forecast: Forecast, facts: Facts, name: str | None
) -> tuple[Calibration | str, str]:
    """What `calibrate` makes of logs with the setup of a forecast, and its command. said_beside: words of the plan that
    files beside the logs say."""
    copies = 1 if forecast.work == "train" else int(forecast.row["replicas"]["decode"])
    if copies > 1 or (forecast.work != "train" and forecast.row["mode"] == "disaggregated"):
        what = "workers of prefill and of decode" if copies == 1 else f"{copies} workers together"
        return f"calibrate takes a log of one worker, and this run has {what}", ""
    setup = forecast.setup()
    plan = {word: value for word, value in setup.plan.items() if word not in {*_OF_LOAD, *said_beside}}
    setup = replace(setup, plan=plan)
    words = ",".join(f"{word}={value}" for word, value in plan.items())
    named = f" --format {name}" if name else ""
    files = " ".join(example_name(log, "logs") or str(log) for log in logs)
    said = (
        f"mowich calibrate {files}{named} --on {setup.on} --model {setup.model}"
        f" --software {setup.software} --plan {words} --out my.yaml"
    )
    try:
        return calibrate(CalibrateRequest(facts=facts, files=tuple(logs), format=name), setup=setup), said
    except UserErrors as errors:
        return "; ".join(error.what for error in errors.errors), said
    except UserError as error:
        return error.what, said
