"""Pages of `mowich facts`: lists, one thing with all its numbers and sources, two things side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mowich.facts import Fact, Facts
from mowich.facts.find import diff_paths, facts_below
from mowich.show.explain import fact_words
from mowich.show.formats import UNKNOWN
from mowich.show.page import Cell, Column, Page, Part, Table, Words, paragraphs
from mowich.show.rooms.collective import levels_notes, levels_table
from mowich.shown import Result
from mowich.units import sig

CELL, FIELD = 22, 48
"""Widths of a value and of a field name in a table of two things side by side."""


def list_page(facts: Facts, kinds: Sequence[str], entries: Sequence[Result]) -> Page:
    """Ids of each kind with what they are. entries: of `fact_list.fact_entries`, those of systems with what
    `fact_list.system_entry` says where they are listed alone."""
    tables: list[Part] = []
    of = {kind: [entry for entry in entries if entry["kind"] == kind] for kind in (*kinds, "models")}
    if names := [str(entry["id"]) for entry in of["models"]]:
        tables += [
            Words(text="models (mowich model NAME)", kind="caption", gap=True),
            Words(text=", ".join(names), kind="caption", hang=0),
        ]
    for kind in kinds:
        if kinds == ["systems"]:
            tables += [_machines(of[kind]), *_called(of[kind]), _other_systems(of[kind])]
            continue
        rows = [_entry(entry) for entry in of[kind]]
        if len(kinds) == 1:
            for row, entry in zip(rows, of[kind], strict=True):
                row.append(str(sum(1 for _ in facts_below(facts, f"{kind}.{entry['id']}"))))
        columns = [Column(name=kind, right=False), Column(name="what", right=False)]
        columns += [Column(name="facts")] if len(kinds) == 1 else []
        tables += [Table(title=kind, columns=columns, rows=rows, elsewhere="--json")] if rows else []
    said = "Next: mowich facts show trn3  |  mowich facts diff trn3 gb300  |  mowich facts list chips"
    if kinds:
        tables.append(Words(text=said, kind="next", indent=0, gap=True))
    return Page(title="Facts", sentences=(), parts=tables, records=entries)


def _names(entry: Result) -> str:
    """Instances with their chips, then other names: "p5.48xlarge (8), p5"."""
    found = (entry.get(key) for key in ("instances", "aliases"))
    return ", ".join(str(name) for names in found if isinstance(names, list) for name in names)


def _machines(systems: Sequence[Result]) -> Table:
    """Systems that a job can run on, with what a reader compares them by."""
    rows: list[list[Cell]] = []
    for entry in systems:
        if "chips_per_unit" not in entry:
            continue
        numbers = [entry[key] for key in ("chips_per_unit", "hbm_Bps", "price")]
        unit, bandwidth, usd = (n if isinstance(n, float) else None for n in numbers)
        rows.append(
            [
                str(entry["id"]),
                str(entry["display"]),
                UNKNOWN if unit is None else f"{unit:g}",
                str(entry["hbm_capacity"] or UNKNOWN),
                UNKNOWN if bandwidth is None else sig(bandwidth / 1e12),
                UNKNOWN if usd is None else f"${sig(usd * 3600)}",
                str(entry["price_term"] or "-"),
            ]
        )
    columns = [
        Column(name="systems", right=False),
        Column(name="what", right=False, keep=30),
        Column(name="chips", keep=90),
        Column(name="memory", keep=80),
        Column(name="TB/s", keep=70),
        Column(name="$/chip/h", keep=60),
        Column(name="price", right=False, keep=50),
    ]
    said = (
        "chips: of one unit; memory and TB/s: of a chip; prices stand on unlike terms, mowich prices puts them on one"
    )
    return Table(title="systems", columns=columns, rows=rows, elsewhere="--json", legend=(said,))


def _called(systems: Sequence[Result]) -> list[Words]:
    """Names and instances of each system."""
    lines = [f"{entry['id']}: {names}" for entry in systems if (names := _names(entry))]
    heading = "Instances (chips of one; NAME*4 is four of them) and other names"
    return paragraphs(lines, "note", heading=heading, gap=True)


def _other_systems(systems: Sequence[Result]) -> Table:
    """Facts of things that nothing is run on: networks, fleets, machines without a law here."""
    rows = [_entry(entry) for entry in systems if "chips_per_unit" not in entry]
    columns = [Column(name="facts only", right=False), Column(name="what", right=False)]
    return Table(title="facts only", columns=columns, rows=rows)


def _entry(entry: Result) -> list[Cell]:
    return [str(entry["id"]), str(entry.get("display") or entry.get("name") or entry.get("title") or "-")]


def show_page(
    facts: Facts, names: Sequence[str], fabrics: Sequence[tuple[str, Sequence[Result]]], records: Sequence[Result]
) -> Page:
    """Every fact of what each name means, with its source. fabrics: (path that a name means, levels of the machine
    as `fact_list.fabric_levels` gives them); records: for CSV."""
    parts: list[Part] = []
    for path, levels in fabrics:
        kind, _, name = path.partition(".")
        machine: list[Part] = (
            [levels_table(levels, gap=False), *paragraphs(levels_notes(levels), "note")] if levels else []
        )
        said: list[Part] = []
        if "." not in name:
            meta = facts.meta(kind, name)
            title = str(meta.get("display") or meta.get("name") or name)
            said.append(Words(text=f"{title} ({path})", kind="heading", indent=0))
        found = [w for fact in facts_below(facts, path) for w in fact_words(fact)]
        if machine and found:
            found[0] = replace(found[0], gap=True)
        said += [*machine, *found]
        parts += [replace(said[0], gap=True), *said[1:]] if said else []
    return Page(title=", ".join(names), sentences=(), parts=parts, records=records)


def short(fact: Fact | None) -> str:
    """Value, range mark and grade of a fact in a narrow cell; "-" where a chip has no such fact, "?" where it is
    unknown."""
    if fact is None:
        return "-"
    if fact.value is None:
        return UNKNOWN
    text = fact.shown
    if fact.shown_range:
        low, high = fact.shown_range.split(" .. ")
        text = f"{low.split(' ')[0]}..{high}" if low.split(" ")[1:] == high.split(" ")[1:] else f"{low}..{high}"
    return f"{cut(text, CELL)} {fact.grade}"


def cut(text: str, width: int) -> str:
    """`text`, its end left out when it is longer than `width`."""
    return text if len(text) <= width else text[: width - 2] + ".."


def facts_diff_page(facts: Facts, one: str, two: str, records: Sequence[Result]) -> Page:
    """Two chips or systems side by side; "*" marks fields that differ. records: for CSV."""
    rows: list[list[Cell]] = [
        [("*" if short(x) != short(y) else " ") + " " + cut(field, FIELD - 2), short(x), short(y)]
        for field, x, y in diff_paths(facts, one, two)
    ]
    columns = [Column(name="  field", right=False), Column(name=one), Column(name=two)]
    said = "* differs; - not a fact of this one; ? unknown; the letter is the grade. Sources: mowich facts show NAME"
    return Page(
        title=f"{one} and {two}",
        sentences=(),
        parts=(
            Table(title=f"{one} and {two}", columns=columns, rows=rows, indent=0, elsewhere="--json"),
            Words(text=said, kind="note", indent=0, gap=True),
        ),
        records=records,
    )
