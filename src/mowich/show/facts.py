"""Pages of `mowich facts`: lists, one thing with all its numbers and sources, two things side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace

from mowich.errors import UserError, did_you_mean
from mowich.estimate import GRADES
from mowich.facts import Fact, Facts
from mowich.facts.check import CHIP_FIELDS, LEVEL_FIELDS, SYSTEM_FIELDS
from mowich.facts.fields import unit_of
from mowich.facts.freshness import confirmed_on
from mowich.facts.load import FACT_KINDS, known_unit
from mowich.facts.schema import IDENTITY_KEYS, LEAF_KEYS
from mowich.show.explain import fact_words
from mowich.show.formats import UNKNOWN
from mowich.show.page import Cell, Column, Page, Part, Table, Words, paragraphs
from mowich.shown import Result
from mowich.units import sig

CELL, FIELD = 22, 48
"""Widths of a value and of a field name in a table of two things side by side."""


def facts_below(facts: Facts, prefix: str) -> Iterator[Fact]:
    """Every fact at or below a path, in file order."""
    fact = facts.get(prefix)
    if fact is not None:
        yield fact
        return
    for key in facts.children(prefix):
        yield from facts_below(facts, f"{prefix}.{key}")


def fact_rows(facts: Facts, paths: Iterable[str]) -> list[dict[str, object]]:
    """Facts below paths, each with the day on which it was last confirmed."""
    found = [fact for path in paths for fact in facts_below(facts, path)]
    days = [confirmed_on(facts.leaf(fact.path), facts.sources) for fact in found]
    return [
        {**asdict(fact), "confirmed": day.isoformat() if day else None} for fact, day in zip(found, days, strict=True)
    ]


def locate(facts: Facts, name: str) -> list[str]:
    """The paths that a name means: a path of facts, "kind.id", a chip, a system (with its chip), or a file of any
    kind."""
    kind = name.split(".")[0]
    if kind in FACT_KINDS and "." in name:
        if facts.get(name) is None and not facts.children(name):
            facts.fact(name)  # raises, with the closest path
        return [name]
    for kind in FACT_KINDS:
        if name in facts.ids(kind):
            return [f"{kind}.{name}"] + (
                [f"chips.{facts.meta('systems', name)['chip']}"]
                if kind == "systems" and facts.meta("systems", name).get("chip")
                else []
            )
    try:
        system = facts.resolve_system(name)
    except UserError as error:
        known = [i for k in FACT_KINDS for i in facts.ids(k)]
        raise UserError(
            f"unknown name '{name}'",
            allowed=(
                "a path such as chips.trainium3.memory.hbm_capacity, a chip, a system, or an id of `mowich facts list`"
            ),
            fix=did_you_mean(name, known) or error.fix,
        ) from error
    return [f"systems.{system}", f"chips.{facts.meta('systems', system)['chip']}"]


def list_page(facts: Facts, kinds: Sequence[str], names: Sequence[str], entries: Sequence[Result]) -> Page:
    """Ids of each kind with what they are. names: of models, which are files of their own; entries: for CSV."""
    tables: list[Part] = []
    if names:
        tables += [
            Words(text="models (mowich model NAME)", kind="caption", gap=True),
            Words(text=", ".join(names), kind="caption", hang=0),
        ]
    for kind in kinds:
        if kinds == ["systems"]:
            tables += [_machines(facts), *_called(facts), _other_systems(facts)]
            continue
        rows = [_entry(facts, kind, name, counted=len(kinds) == 1) for name in facts.ids(kind)]
        columns = [Column(name=kind, right=False), Column(name="what", right=False)]
        columns += [Column(name="facts")] if len(kinds) == 1 else []
        tables += [Table(title=kind, columns=columns, rows=rows, elsewhere="--json")] if rows else []
    said = "Next: mowich facts show trn3  |  mowich facts diff trn3 gb300  |  mowich facts list chips"
    if kinds:
        tables.append(Words(text=said, kind="next", indent=0, gap=True))
    return Page(title="Facts", sentences=(), parts=tables, records=entries)


def system_entry(facts: Facts, name: str) -> dict[str, object]:
    """What a list says of a system, beside its identity: names, instances, chips of a unit, and of a chip its memory in
    bytes and as written, its bandwidth in B/s and the price in USD/chip/s (None: not known) with its kind."""
    from mowich.economics.money import price
    from mowich.price_terms import quote

    meta = facts.meta("systems", name)
    own = facts.aliases().get(name)
    chip, unit = str(meta.get("chip", "")), facts.get(f"systems.{name}.chips_per_unit")
    if not chip or unit is None:
        return {"aliases": list(own.aliases) if own else []}
    memory, bandwidth = (facts.get(f"chips.{chip}.memory.{what}") for what in ("hbm_capacity", "hbm_bandwidth"))
    asked = price(facts, name, term="rent")
    quoted = quote(asked.label)
    return {
        "aliases": list(own.aliases) if own else [],
        "instances": [
            f"{one.name} ({one.chips or UNKNOWN})" for one in facts.instances().values() if one.system == name
        ],
        "chips_per_unit": unit.value,
        "hbm_capacity_B": None if memory is None else memory.value,
        "hbm_capacity": None if memory is None else memory.shown,
        "hbm_Bps": None if bandwidth is None else bandwidth.value,
        "price": asked.rate.value,
        "price_term": quoted.short if quoted else None,
        "price_grade": asked.rate.grade if quoted else None,
    }


def _names(entry: Mapping[str, object]) -> str:
    """Instances with their chips, then other names: "p5.48xlarge (8), p5"."""
    found = (entry.get(key) for key in ("instances", "aliases"))
    return ", ".join(str(name) for names in found if isinstance(names, list) for name in names)


def _machines(facts: Facts) -> Table:
    """Systems that a job can run on, with what a reader compares them by."""
    from mowich.machines.system import machines

    rows: list[list[Cell]] = []
    for name in machines(facts):
        entry = system_entry(facts, name)
        numbers = [entry[key] for key in ("chips_per_unit", "hbm_Bps", "price")]
        unit, bandwidth, usd = (n if isinstance(n, float) else None for n in numbers)
        rows.append(
            [
                name,
                str(facts.meta("systems", name)["display"]),
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


def _called(facts: Facts) -> list[Words]:
    """Names and instances of each system."""
    said = {name: _names(system_entry(facts, name)) for name in facts.ids("systems")}
    lines = [f"{name}: {names}" for name, names in said.items() if names]
    heading = "Instances (chips of one; NAME*4 is four of them) and other names"
    return paragraphs(lines, "note", heading=heading, gap=True)


def _other_systems(facts: Facts) -> Table:
    """Facts of what is no machine to run on: networks, fleets, machines without a law here."""
    from mowich.machines.system import machines

    rest = [name for name in facts.ids("systems") if name not in machines(facts)]
    columns = [Column(name="facts only", right=False), Column(name="what", right=False)]
    return Table(title="facts only", columns=columns, rows=[_entry(facts, "systems", n, counted=False) for n in rest])


def _entry(facts: Facts, kind: str, name: str, *, counted: bool) -> list[Cell]:
    meta = facts.meta(kind, name)
    what = str(meta.get("display") or meta.get("name") or meta.get("title") or "-")
    return [name, what, *([str(sum(1 for _ in facts_below(facts, f"{kind}.{name}")))] if counted else [])]


def show_page(facts: Facts, names: Sequence[str], records: Sequence[Result]) -> Page:
    """Every fact of what each name means, with its source. records: for CSV."""
    parts: list[Part] = []
    for path in (p for name in names for p in locate(facts, name)):
        kind, _, name = path.partition(".")
        machine = [] if "." in name else _fabric(facts, path)
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


def _fabric(facts: Facts, path: str) -> list[Part]:
    """A system level by level, with hops and cuts, of one scale-up unit; nothing for what is not a machine that can be
    simulated."""
    kind, name = path.split(".")
    if kind != "systems" or facts.get(f"{path}.chips_per_unit") is None or "chip" not in facts.meta(kind, name):
        return []
    from mowich.machines.system import resolve
    from mowich.machines.topology import describe
    from mowich.show.collective import levels_notes, levels_table

    levels = describe(resolve(facts, name))
    return [levels_table(levels, gap=False), *paragraphs(levels_notes(levels), "note")] if levels else []


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


def diff_paths(facts: Facts, one: str, two: str) -> list[tuple[str, Fact | None, Fact | None]]:
    """Fields of two things side by side: chips of systems, then the systems; fields in order of first appearance."""
    a, b = (
        dict(zip([p.split(".")[0] for p in paths], paths, strict=True))
        for paths in (locate(facts, one), locate(facts, two))
    )
    out: list[tuple[str, Fact | None, Fact | None]] = []
    for kind in ("chips", *[k for k in a if k != "chips"]):
        if kind not in a or kind not in b:
            continue
        left, right = ({f.path[len(root) + 1 :]: f for f in facts_below(facts, root)} for root in (a[kind], b[kind]))
        out += [(field, left.get(field), right.get(field)) for field in dict.fromkeys([*left, *right])]
    if not out:
        raise UserError(
            f"'{one}' and '{two}' are not of the same kind", allowed="two chips, two systems, or two ids of one kind"
        )
    return out


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


def json_schema(facts: Facts, kind: str | None = None) -> dict[str, object]:
    """JSON Schema of a fact file: identity keys, and facts in groups of any depth; of one kind, also the fields that
    its shipped files have, with units, and those that a chip or a system needs. Editors complete and check by it."""
    quantity_or_count: dict[str, object] = {
        "type": ["string", "number"],
        "description": 'a count, or a number with its unit: "4.9 TB/s"',
    }
    words: dict[str, object] = {"type": "string"}
    special: dict[str, object] = {
        "value": {"type": ["string", "number", "null"], "description": "null when unknown (then say the reason)"},
        "low": quantity_or_count,
        "high": quantity_or_count,
        "grade": {"enum": list(GRADES)},
        "date": {"type": ["string", "number"]},
    }
    leaf = {
        "type": "object",
        "properties": {k: special.get(k, words) for k in LEAF_KEYS},
        "additionalProperties": False,
        "anyOf": [{"required": [k]} for k in ("value", "text", "ref")],
    }
    node = {"anyOf": [{"$ref": "#/$defs/fact"}, {"type": "object", "additionalProperties": {"$ref": "#/$defs/node"}}]}
    whole: dict[str, object] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Mowich facts: {kind}" if kind else "Mowich facts",
        "type": "object",
        "properties": {k: {} for k in IDENTITY_KEYS},
        "additionalProperties": {"$ref": "#/$defs/node"},
        "$defs": {"fact": leaf, "node": node},
    }
    if kind is None:
        return whole
    groups = _schema_of(facts, kind)
    return {**whole, **groups, "properties": {**{k: {} for k in IDENTITY_KEYS}, **_properties(groups)}}


def _properties(schema: dict[str, object]) -> dict[str, dict[str, object]]:
    """The properties of a JSON Schema of a group, to be added to."""
    found = schema.setdefault("properties", {})
    assert isinstance(found, dict)
    return found


def _schema_of(facts: Facts, kind: str) -> dict[str, object]:
    """The fields of a kind as nested properties, with the SI unit of each, and which are required."""
    needed = {"chips": CHIP_FIELDS, "systems": (*SYSTEM_FIELDS, *(f"levels.scale_out.{f}" for f in LEVEL_FIELDS))}
    root: dict[str, object] = {}
    for name in facts.ids(kind):
        for path in facts.paths(f"{kind}.{name}"):
            keys = path.split(".")[2:]
            if keys[0] in ("levels", "also_rented") and keys[1] != "scale_out":
                continue  # named by whoever writes the file
            node = root
            for key in keys[:-1]:
                node = _properties(node).setdefault(key, {"type": "object"})
            unit = unit_of(path, known_unit(facts, path))
            said: dict[str, object] = {"$ref": "#/$defs/fact", **({"description": f"SI unit: {unit}"} if unit else {})}
            _properties(node).setdefault(keys[-1], said)
    for field in needed.get(kind, ()):
        node = root
        for key in field.split("."):
            required = node.setdefault("required", [])
            assert isinstance(required, list)
            required += [] if key in required else [key]
            node = _properties(node)[key]
    return root
