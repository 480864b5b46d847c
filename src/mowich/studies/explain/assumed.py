"""The facts behind the main numbers of a result, and the assumptions among them that decide costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mowich.economics.money import price
from mowich.errors import UserError
from mowich.facts import Fact
from mowich.machines.system import machine_id, parse_spec
from mowich.studies.explain import tree
from mowich.studies.explain.explainer import Explainer

SOURCED = (
    "step_s",
    "usd_per_mtok",
    "J_per_token",
    "goodput",
    "mfu",
    "memory_capacity_B",
    "memory_B",
    "tpot_s",
    "ttft_s",
    "time_s",
    "total_W",
    "it_W",
    "parts_W",
    "lost",
    "derived",
    "objective",
    "requests",
    "factor",
)
"""Numbers whose facts a page lists: the others are made of them."""

MAX_ROWS = 12
"""Rows of a result whose facts are listed."""


def _places(explainer: Explainer) -> Iterable[tree.ResultPath]:
    """Numbers of the result whose facts are listed: of each kind, in the first rows."""
    for path in tree.numbers(explainer.result):
        if len(path) > 1 and isinstance(path[1], int) and path[1] >= MAX_ROWS:
            continue
        if (
            "breakdown" not in path
            and path[0] not in ("pareto", "why", "front", "split")
            and any(step in SOURCED for step in path)
        ):
            yield path


def facts_behind(explainer: Explainer) -> list[Fact]:
    """Every fact behind the main numbers of a result, by path."""
    found: dict[str, Fact] = {}
    for path in _places(explainer):
        for fact in explainer.at(path, sensitivity=False).facts:
            found[fact.path] = fact
    return [found[p] for p in sorted(found)]


def costs_assumed(explainer: Explainer, facts: Sequence[Fact]) -> list[tuple[str, str, str]]:
    """The assumptions that decide costs, each with its fact: price and power of each system, the site."""
    known = {f.path: f for f in facts}
    out: dict[str, tuple[str, str, str]] = {}
    rows = explainer.result.get("rows") or explainer.result.get("plans") or ()
    for row in rows[:MAX_ROWS] if isinstance(rows, list) else ():
        named = row.get("system_id") or row.get("system")
        if not isinstance(named, str):
            continue
        try:
            system = machine_id(explainer.facts, parse_spec(named)[0])
            chip = explainer.facts.meta("systems", system)["chip"]
        except UserError:
            continue
        power = known.get(f"chips.{chip}.power.all_in")
        if row.get("price") and "usd_per_mtok" in row:
            term = str(explainer.result["inputs"].get("price_term", "default"))
            path = price(explainer.facts, system, term=term).fact_path
            what = f"price, {row['system']}"
            out.setdefault(what, (what, str(row["price"]).split(",")[0], path if path in known else ""))
        if power is not None and power.value is not None:
            out.setdefault(
                power.path, (f"power of a chip, {row['system']}", f"{power.as_written} [{power.grade}]", power.path)
            )
    pue = known.get("sites.default.pue")
    if pue is not None:
        out["pue"] = ("PUE", f"{pue.as_written} [{pue.grade}]", pue.path)
    return list(out.values())[:16]
