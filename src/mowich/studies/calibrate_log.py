"""`mowich calibrate LOG --scenario FILE`: a log of requests with their times -> factors of the steps of its engine.

The scenario is replayed with the requests of the log. Two factors, of steps that only decode and of steps with prompts,
are fitted to what the first half of the requests saw (by time). The second half is held out: the factors are written
only where they bring it nearer to what was measured.
"""

from __future__ import annotations

import csv
import json
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Floats
from mowich.errors import UserError
from mowich.evidence.fitting.overlay import FittedFact, overlay_text, write_fitted
from mowich.evidence.fitting.points import MeasuredPoint
from mowich.evidence.readers.setup import Setup
from mowich.facts import Facts
from mowich.files import open_lines
from mowich.requests.calibrate import CalibrateRequest
from mowich.serving.engines import PROFILE_FACTORS, PROFILES, architecture, profile_path
from mowich.shown import Rows
from mowich.studies.calibrate import CalibratedPoint, Calibration, CountedFile, ErrorSummary, calibrate
from mowich.studies.heard import heard
from mowich.studies.traffic import simulate_traffic
from mowich.studies.traffic_scenario import TrafficScenario, read_traffic

TIMES = ("queued_ts", "first_token_ts", "last_token_ts")
"""Columns of a log, in seconds of one clock."""
_LEAST = 20
"""Requests of a log."""
OF_PROMPTS = tuple(name for name in PROFILE_FACTORS if name.startswith(("prompt", "launches")))
OF_DECODES = tuple(name for name in PROFILE_FACTORS if name not in OF_PROMPTS and name != "sweep_attention")
_FITTED = ("mean TTFT", "mean TPOT", "mean end to end")
_SHOWN = (*_FITTED, "p99 end to end")
_NOISE, PULL = 0.02, 0.3
"""Spreads, ln: of a figure that no factor explains, and of a factor before the log."""
_ROUNDS, _DELTA, _ENDS = 6, 0.05, (math.log(0.4), math.log(2.5))
WORSE = "factors that fit the first half of the requests make the second half worse: today's constants are kept"


@dataclass(frozen=True, slots=True)
class _Seen:
    """Seconds of requests in order of arrival, columns [n]: to the first token, of a later one, end to end."""

    ttft: Floats
    tpot: Floats
    e2e: Floats

    def figures(self, half: slice) -> Floats:
        """What a half of the requests saw: `_SHOWN`."""
        e2e = self.e2e[half]
        return np.array([self.ttft[half].mean(), self.tpot[half].mean(), e2e.mean(), np.quantile(e2e, 0.99)])


@heard()
def calibrated(asked: CalibrateRequest, tell: Callable[[str], None] = lambda text: None) -> Calibration:
    """What measurements say of the constants: of all files together, or of a log that a scenario replays. Writes the
    overlay that was asked for. tell: is told what goes on."""
    return calibrate(asked, tell=tell) if asked.scenario is None else calibrate_log(asked, tell)


def calibrate_log(asked: CalibrateRequest, tell: Callable[[str], None] = lambda text: None) -> Calibration:
    """Fit the factors to one log. Its scenario says what its engine was, with a trace in its traffic. Raises UserError
    for a log without times, and for a scenario that plays no trace."""
    facts, scenario = asked.facts, asked.scenario
    assert scenario is not None
    if len(asked.files) != 1:
        raise UserError("one log is replayed at a time", field="files", given=len(asked.files), allowed="1")
    log = asked.files[0]
    ids, measured = _measured(log)
    played = read_traffic(scenario, facts)
    if not played.requests.get("trace"):
        raise UserError("plays no trace", where=f"{scenario}, key traffic", fix=f"traffic: {{trace: {log.name}}}")
    one = played.serve.deployment
    named = (one.engine, one.system.chip, architecture(one.model))
    paths = [[profile_path(name, *named) for name in group] for group in (OF_DECODES, OF_PROMPTS)]
    facts = facts.with_values(
        {
            path: replace(facts.fact(f"{PROFILES}.{name}"), path=path)
            for group, names in zip(paths, (OF_DECODES, OF_PROMPTS), strict=True)
            for path, name in zip(group, names, strict=True)
            if facts.get(path) is None
        }
    )
    start = [facts.number(group[0]) for group in paths]

    def replayed(theta: Floats) -> _Seen:
        tell("replaying the log")
        values = {
            path: value * math.exp(x) for group, value, x in zip(paths, start, theta, strict=True) for path in group
        }
        known = facts.with_values(values)
        return _replayed(read_traffic(scenario, known), known, log, ids)

    halves = slice(None, len(ids) // 2), slice(len(ids) // 2, None)
    theta = _fitted(lambda x: replayed(x).figures(halves[0]), measured.figures(halves[0]))
    before, after = replayed(np.zeros(2)), replayed(theta)
    seen = [np.concatenate([one.figures(half) for half in halves]) for one in (measured, before, after)]
    logs = [np.array([math.log(x) for x in made / seen[0]]) for made in seen[1:]]
    is_held = np.repeat([False, True], len(_SHOWN))
    off_before, off_after = logs
    unseen = off_after[is_held]
    helps = float(np.abs(unseen).mean()) < float(np.abs(off_before[is_held]).mean())
    spread = max(_NOISE, float(np.sqrt((unseen**2).mean())))
    fitted = [
        FittedFact.of(facts, path, spread, value=value * math.exp(x), verdict="identified")
        for group, value, x in zip(paths, start, theta, strict=True)
        for path in group
        if helps
    ]
    rows = _points(log, len(ids), named[1], seen, is_held)
    text = overlay_text(fitted, asked.out, [str(log)], len(rows), facts)
    written = write_fitted(asked.out, text, fitted)
    return Calibration(
        files=(CountedFile(file=str(log), format="log of requests", points=len(ids), refused=0),),
        rows=Rows(rows),
        refused=(),
        constants=tuple(fitted),
        asked=tuple(path for group in paths for path in group),
        anchors=0,
        before=ErrorSummary.of(off_before),
        after=ErrorSummary.of(off_after),
        left_out=ErrorSummary.of(unseen),
        scale=1.0,
        overlay=text,
        written=written,
        warnings=() if helps else (WORSE,),
        setup=Setup(model=one.model.name, on=one.system.id, software=one.engine),
        facts_hash=facts.hash(),
        scenario=str(scenario),
    )


def _points(
    log: Path, requests: int, machine: str, seen: Sequence[Floats], is_held: NDArray[np.bool_]
) -> list[CalibratedPoint]:
    """The figures of both halves of a log. seen: as measured, as replayed with today's factors, and with the fitted
    ones; is_held: whether a figure is of the half that the fit left out."""
    halves = ["second half" if held else "first half" for held in is_held]
    return [
        CalibratedPoint(
            point=MeasuredPoint(
                where=f"{log}, {half}",
                kind="requests",
                what=f"{half} of {requests} requests",
                metric=f"{what}, s",
                measured=float(m),
                is_rate=False,
                machine=machine,
                setting=half,
            ),
            before=float(b),
            after=float(a),
            left_out=float(a) if held else None,
        )
        for half, held, what, m, b, a in zip(halves, is_held, (*_SHOWN, *_SHOWN), *seen, strict=True)
    ]


def _fitted(figures: Callable[[Floats], Floats], measured: Floats) -> Floats:
    """ln of both factors: least squares of the figures that are fitted, each factor pulled to today's."""
    n, theta = len(_FITTED), np.zeros(2)
    best, least = theta, math.inf
    for _ in range(_ROUNDS):
        here = np.log(figures(theta)[:n])
        cost = float((((np.log(measured[:n]) - here) / _NOISE) ** 2).sum() + ((theta / PULL) ** 2).sum())
        if cost < least:
            best, least = theta, cost
        slopes = np.array([(np.log(figures(theta + step)[:n]) - here) / _DELTA for step in _DELTA * np.eye(2)]).T
        rows = np.vstack([slopes / _NOISE, np.eye(2) / PULL])
        right = np.concatenate([(np.log(measured[:n]) - here) / _NOISE, -theta / PULL])
        theta = np.clip(theta + np.linalg.lstsq(rows, right, rcond=None)[0], *_ENDS)
    return best


def _replayed(scenario: TrafficScenario, facts: Facts, log: Path, ids: Sequence[str]) -> _Seen:
    """The requests of a log as the scenario serves them, in the order of `ids`."""
    scenario = replace(scenario, requests={**scenario.requests, "trace": str(log)})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "requests.csv"
        simulate_traffic(scenario, facts, requests_out=path)
        with path.open(encoding="utf-8") as file:
            rows = {row["id"]: row for row in csv.DictReader(file)}
    lost = next((one for one in ids if one not in rows), None)
    if lost is not None:
        raise UserError(
            "a request of the log is not played", where=str(log), given=lost, fix="leave out traffic.requests"
        )
    found = [[float(rows[one][f"{name}_s"]) for name in ("arrival", "first_token", "last_token")] for one in ids]
    return _seen(np.array(found), np.array([float(rows[one]["output"]) for one in ids]))


def _seen(times: Floats, output: Floats) -> _Seen:
    """times: of the arrival, of the first token and of the last [n, 3]."""
    asked, first, last = times.T
    return _Seen(first - asked, (last - first) / np.maximum(output - 1.0, 1.0), last - asked)


def _measured(log: Path) -> tuple[list[str], _Seen]:
    """(names of the requests of a log in order of arrival, what they saw)."""
    found: list[tuple[float, float, float, float, str]] = []
    with open_lines(log) as file:
        for line, text in enumerate(file, start=1):
            if not text.strip():
                continue
            where = f"{log}:{line}"
            try:
                row = json.loads(text)
                times = [float(row[name]) for name in TIMES]
                output = float(row["output_toks"])
            except (ValueError, TypeError, KeyError):
                allowed = f"one JSON object with {', '.join(TIMES)}, output_toks, input_toks"
                raise UserError("not a request with its times", where=where, given=text[:40], allowed=allowed) from None
            if not times[0] <= times[1] <= times[2] < math.inf:
                raise UserError("its times are not in order", where=where, given=times, allowed=" <= ".join(TIMES))
            found.append((times[0], times[1], times[2], output, str(row.get("request_id", len(found)))))
    if len(found) < _LEAST:
        raise UserError(
            "too few requests to hold half of them out", where=str(log), given=len(found), allowed=f"{_LEAST}"
        )
    found.sort(key=lambda one: one[0])
    numbers = np.array([one[:4] for one in found])
    return [one[4] for one in found], _seen(numbers[:, :3], numbers[:, 3])
