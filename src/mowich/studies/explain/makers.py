"""Which source makes a number of a result again: by the schema of the result and the place of the number in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mowich.facts import Facts
from mowich.models.model import Model
from mowich.shown import Result
from mowich.studies.explain import (
    brief,
    fit,
    fleet,
    kernel,
    passes,
    rl,
    rooms,
    serving,
    traffic,
    training,
    tree,
    validate,
)
from mowich.studies.explain.source import Source
from mowich.studies.explain.tree import ResultPath
from mowich.studies.rl_answer import FIRST_ROW


def place_of(result: Result, path: ResultPath) -> ResultPath | None:
    """The part of a result that one source stands for, of the number at a path; None: nothing makes it again."""
    schema = str(result["schema"])
    if schema in ("mowich/traffic@1", "mowich/fleet@1", "mowich/kernel@1"):
        return ()
    if schema in ("mowich/calibrate@1", "mowich/verify@1", "mowich/forecasts@1", "mowich/next@1"):
        return None  # its files may have moved, and a fit is no single formula; the result explains its own predictions
    if schema == "mowich/rl@1" and path[0] != "rows":
        return () if path[0] in FIRST_ROW and result["rows"] else None
    if schema == "mowich/fit@1":
        return path[:2] if path[0] == "smallest_by_weights" else ()
    listed = ("rows", "plans", "pareto", "front", "claims", "memory")
    if (path[0] in listed or (path[0] == "table" and schema == "mowich/brief@1")) and len(path) > 1:
        return path[:2]
    return None


def make_source(
    result: Result,
    place: ResultPath,
    facts: Facts,
    model: Callable[[str | None], Model],
    measured: Callable[[], Mapping[str, Mapping[str, str]]],
) -> Source | None:
    """What makes the numbers at a place again; None for a row without a plan. facts: those of the place; model: the
    model of the result (None) or of a name; measured: cells of the measured rows of validate, by id."""
    row, schema = tree.at(result, place), str(result["schema"])
    if schema in ("mowich/compare@1", "mowich/plan@1", "mowich/sweep@1"):
        named = str(row["model"]) if schema == "mowich/sweep@1" else None
        if result["inputs"].get("task") == "serve":
            return serving.serve_row(result, place, row, model(named), facts) if row.get("decode") else None
        if not row.get("plan"):
            return None
        return training.train_row(result, place, row, model(named), facts)
    if schema == "mowich/fit@1":
        if result["inputs"].get("task") == "serve":
            return serving.serve_fit(result, place, row, model(None), facts) if row and row.get("plan") else None
        return fit.train_fit(result, model(None), facts) if result["plan"] else None
    if schema == "mowich/validate@1":
        cells = measured().get(row["id"])
        return None if cells is None else validate.validated(place, row, cells, facts)
    if schema == "mowich/forward@1":
        return passes.forward_row(result, place, row, facts, model(None))
    if schema == "mowich/rl@1":
        return rl.rl_row(result, place, row if place else row["rows"][0], facts, model(None))
    if schema == "mowich/rates@1":
        return traffic.rate_row(place, row, facts)
    whole = {
        "mowich/traffic@1": traffic.traffic_source,
        "mowich/fleet@1": fleet.fleet_source,
        "mowich/kernel@1": kernel.kernel,
    }
    if schema in whole:
        return whole[schema](result, facts)
    if schema == "mowich/brief@1":
        return brief.brief_section(result, place, row, facts)
    return rooms.room_row(result, place, row, facts, lambda: model(None))
