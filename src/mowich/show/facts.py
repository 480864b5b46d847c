"""Text of `mowich facts`: lists, one thing with all its numbers and sources, two things side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mowich.errors import UserError, did_you_mean
from mowich.estimate import GRADES
from mowich.facts import Fact, Facts
from mowich.facts.load import KINDS
from mowich.facts.schema import IDENTITY_KEYS, LEAF_KEYS
from mowich.show.explain import fact_lines
from mowich.show.table import UNKNOWN, Column, Style, table, wrap

CELL, FIELD = 22, 48
"""Widths of a value and of a field name in a table of two things side by side."""


def leaves(facts: Facts, prefix: str) -> Iterator[Fact]:
    """Every fact at or below a path, in file order."""
    fact = facts.get(prefix)
    if fact is not None:
        yield fact
        return
    for key in facts.children(prefix):
        yield from leaves(facts, f"{prefix}.{key}")


def locate(facts: Facts, name: str) -> list[str]:
    """The paths that a name means: a path of facts, "kind.id", a chip, a system (with its chip), or a file of any
    kind."""
    kind = name.split(".")[0]
    if kind in KINDS and "." in name:
        if facts.get(name) is None and not facts.children(name):
            facts.fact(name)  # raises, with the closest path
        return [name]
    for kind in KINDS:
        if name in facts.ids(kind):
            return [f"{kind}.{name}"] + (
                [f"chips.{facts.meta('systems', name)['chip']}"]
                if kind == "systems" and facts.meta("systems", name).get("chip")
                else []
            )
    try:
        system = facts.resolve_system(name)
    except UserError as error:
        known = [i for k in KINDS for i in facts.ids(k)]
        raise UserError(
            f"unknown name '{name}'",
            allowed=(
                "a path such as chips.trainium3.memory.hbm_capacity, a chip, a system, or an id of `mowich facts list`"
            ),
            fix=did_you_mean(name, known) or error.fix,
        ) from error
    return [f"systems.{system}", f"chips.{facts.meta('systems', system)['chip']}"]


def list_text(facts: Facts, kinds: Sequence[str], style: Style) -> str:
    """Ids of each kind with what they are."""
    lines: list[str] = []
    for kind in kinds:
        body = []
        for name in facts.ids(kind):
            meta = facts.meta(kind, name)
            what = str(meta.get("display") or meta.get("name") or meta.get("title") or "")
            count = sum(1 for _ in leaves(facts, f"{kind}.{name}")) if len(kinds) == 1 else None
            body.append([name, what or "-", *([str(count)] if count is not None else [])])
        columns = [
            Column(name=kind, right=False),
            Column(name="what", right=False),
            *([Column(name="facts")] if len(kinds) == 1 else []),
        ]
        lines += [*table(columns, body, style)[0], ""] if body else []
    lines.append("Next: mowich facts show trn3  |  mowich facts diff trn3 gb300  |  mowich facts list chips")
    return "\n".join(lines) + "\n"


def show_text(facts: Facts, name: str, style: Style) -> str:
    """Every fact of what `name` means, with its source."""
    lines: list[str] = []
    for path in locate(facts, name):
        parts = path.split(".")
        if len(parts) == 2:
            meta = facts.meta(parts[0], parts[1])
            title = str(meta.get("display") or meta.get("name") or parts[1])
            lines += [style.bold(f"{title} ({path})")]
            lines += fabric_lines(facts, path, style)
        for fact in leaves(facts, path):
            lines += fact_lines(fact, style)
        lines.append("")
    return "\n".join(lines)


def fabric_lines(facts: Facts, path: str, style: Style) -> list[str]:
    """A system level by level, with hops and cuts, of one scale-up unit; nothing for what is not a machine that can be
    simulated."""
    kind, name = path.split(".")
    if kind != "systems" or facts.get(f"{path}.chips_per_unit") is None or "chip" not in facts.meta(kind, name):
        return []
    from mowich.machines.system import resolve
    from mowich.machines.topology import describe
    from mowich.show.machines import levels_lines

    rows = describe(resolve(facts, name))
    return [*levels_lines(rows, style), ""] if rows else []


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
        left, right = ({f.path[len(root) + 1 :]: f for f in leaves(facts, root)} for root in (a[kind], b[kind]))
        out += [(field, left.get(field), right.get(field)) for field in dict.fromkeys([*left, *right])]
    if not out:
        raise UserError(
            f"'{one}' and '{two}' are not of the same kind", allowed="two chips, two systems, or two ids of one kind"
        )
    return out


def diff_text(facts: Facts, one: str, two: str, style: Style) -> str:
    """Two chips or systems side by side; "*" marks fields that differ."""
    rows = diff_paths(facts, one, two)
    body = [
        [("*" if short(x) != short(y) else " ") + " " + cut(field, FIELD - 2), short(x), short(y)]
        for field, x, y in rows
    ]
    lines = table([Column(name="  field", right=False), Column(name=one), Column(name=two)], body, style, indent=0)[0]
    lines += [
        "",
        *wrap(
            "* differs; - not a fact of this one; ? unknown; the letter is the grade. Sources: mowich facts show NAME",
            style,
            indent=0,
        ),
    ]
    return "\n".join(lines) + "\n"


def json_schema() -> dict[str, Any]:
    """JSON Schema of a fact file: identity keys, and facts in groups of any depth. Editors complete and check by it."""
    quantity_or_count: dict[str, Any] = {
        "type": ["string", "number"],
        "description": 'a count, or a number with its unit: "4.9 TB/s"',
    }
    words: dict[str, Any] = {"type": "string"}
    special: dict[str, Any] = {
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
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Mowich facts",
        "type": "object",
        "properties": {k: {} for k in IDENTITY_KEYS},
        "additionalProperties": {"$ref": "#/$defs/node"},
        "$defs": {"fact": leaf, "node": node},
    }
