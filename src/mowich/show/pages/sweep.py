"""The page of a sweep."""

from __future__ import annotations

from mowich.show import charts
from mowich.show.headline import sweep_headline, terms_cell
from mowich.show.page import Cell, Page, Result, Table, cell, estimate, plan_words


def sweep_page(result: Result) -> Page:
    """Every point of a grid: cost against time, time against chips, and the table."""
    rows = [r for r in result["rows"] if estimate(r["step_s"]).value is not None]
    several = [k for k in ("model", "seq", "batch_seqs") if len({r[k] for r in result["rows"]}) > 1]

    def group(r: Result) -> str:
        return ", ".join([str(r["system"]), *(str(r[k]) if k == "model" else f"{k} {r[k]:g}" for k in several)])

    def grouped(x: str, y: str) -> dict[str, list[tuple[float, float, str]]]:
        out: dict[str, list[tuple[float, float, str]]] = {}
        for r in rows:
            a = float(r[x]) if x == "chips_requested" else estimate(r[x]).value
            b = estimate(r[y]).value
            if a is not None and b is not None:
                out.setdefault(group(r), []).append((a, b, f"{r['chips_requested']} chips, {plan_words(r['plan'])}"))
        return {k: sorted(v) for k, v in list(out.items())[:24]}

    pictures = []
    for title, note, x, y, names in (
        ("Cost against time", "Down and left is better.", "days", "usd_per_mtok", ("days", "$ per million tokens")),
        ("Time of the run against chips", "Both axes logarithmic.", "chips_requested", "days", ("chips", "days")),
        ("MFU against chips", "Of the published dense peak.", "chips_requested", "mfu", ("chips", "MFU")),
    ):
        dots = grouped(x, y)
        if dots:
            pictures.append(
                charts.points(
                    title, note, dots, x=names[0], y=names[1], log_x=True, log_y=y != "mfu", line=x == "chips_requested"
                )
            )
    head = ["model", "seq", "batch", "system", "chips", "step, s", "MFU, %", "days", "$/Mtok", "price", "binds", "plan"]
    table: list[list[Cell]] = [
        [
            str(r["model"]),
            str(r["seq"]),
            f"{r['batch_seqs']:g}",
            str(r["system"]),
            str(r["chips_requested"]),
            cell(r["step_s"], metric=f"{i}.step_s"),
            cell(r["mfu"], 100.0, f"{i}.mfu"),
            cell(r["days"], metric=f"{i}.days"),
            cell(r["usd_per_mtok"], metric=f"{i}.usd_per_mtok"),
            (terms_cell(str(r.get("price") or ""), short=True), str(r.get("price") or "")),
            str(r["binds"]),
            (plan_words(r["plan"]), r.get("reason") or ""),
        ]
        for i, r in enumerate(result["rows"][:1000], start=1)
    ]
    more = "" if len(result["rows"]) <= 1000 else f" The table shows the first 1,000 of {len(result['rows']):,}."
    inputs = result["inputs"]
    return Page(
        title=f"Sweep of {len(result['rows']):,} points",
        headline=str(sweep_headline(result)),
        charts=pictures,
        assumptions=[
            ("scenario", str(inputs.get("scenario", ""))),
            ("price term", str(inputs.get("price_term", ""))),
            ("facts", str(result.get("facts_hash", ""))),
        ],
        tables=[
            Table(title="Points", head=head, rows=table, note=f"Hover or focus a number for its grade and range.{more}")
        ],
        inputs=inputs,
    )
