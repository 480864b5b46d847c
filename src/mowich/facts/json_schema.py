"""JSON Schema of the files of facts, for editors."""

from __future__ import annotations

from mowich.estimate import GRADES
from mowich.facts import Facts
from mowich.facts.check import CHIP_FIELDS, LEVEL_FIELDS, SYSTEM_FIELDS
from mowich.facts.fields import unit_of
from mowich.facts.load import known_unit
from mowich.facts.schema import IDENTITY_KEYS, LEAF_KEYS


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
