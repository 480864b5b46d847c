"""What a setting means: the path of the fact that a short name stands for, and its value in SI.

`--set`, and the axes of a sweep, name facts by their paths or by what people call them: `prices.trn3`, `power.trn3`,
`site.pue`. A value has its unit and lies in what the field can hold (`facts.fields`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from mowich.errors import UserError, did_you_mean, placed, unknown
from mowich.facts import Facts, fields
from mowich.machines.system import machine_id
from mowich.training import longrun
from mowich.units import parse_count

KEYS = (
    "plan.tp",
    "plan.pp",
    "plan.ep",
    "plan.precision",
    "plan.recompute",
    "prices.term",
    "prices.trn3",
    "power.trn3",
    "site.pue",
    "site.electricity",
    "site.idle_power_share",
    "survival",
)
"""Names to suggest."""

TEXTS: Mapping[str, tuple[str, ...]] = {longrun.CHOSEN: longrun.CHOICES}
"""Facts that are words and can be set, with the words that they can be."""

_COUNT = re.compile(r"[+-]?[\d._]+(?:[eE][+-]?\d+)?\s*(?:[kKMGBT]|Ki|Mi)?")
"""A number without a unit, as people write counts."""


def fact_path(facts: Facts, key: str, *, where: str) -> str:
    """ "prices.trn3" -> the path of the fact that it stands for. Raises UserError, with the closest name, when there is
    none."""
    root, _, name = key.partition(".")
    if root == "prices" and name and "." not in name:
        return f"prices.user.{machine_id(facts, name)}"
    if root == "power" and name and "." not in name:
        return f"chips.{facts.meta('systems', machine_id(facts, name))['chip']}.power.all_in"
    if root == "site":
        key = f"sites.default.{name}"
    if key == "survival":
        key = longrun.CHOSEN
    if facts.get(key) is None:
        raise UserError(
            f"unknown setting '{key}'",
            where=where,
            allowed="plan.*, prices.*, power.*, site.*, survival, or a path of `mowich facts show`",
            fix=did_you_mean(key, KEYS) or _closest_fact(facts, key),
        )
    return key


def read_value(facts: Facts, key: str, value: str, *, where: str) -> tuple[str, float | str]:
    """(path of the fact, SI value) of key = "4.7 TB/s", or the word of a fact that is one of a few words. Raises
    UserError for an unknown key, a missing or wrong unit, or a value that cannot be."""
    path = fact_path(facts, key, where=where)
    fact = facts.fact(path)
    if path in TEXTS:
        if value not in TEXTS[path]:
            raise unknown("choice", value, TEXTS[path], where=where)
        return path, value
    if fact.unit == "text":
        raise UserError("this fact is a text and cannot be set", where=where)
    unit = fields.unit_of(path, fact.unit) or ""
    with placed(where):
        if fields.is_number(unit) and _COUNT.fullmatch(value):
            number, given = parse_count(value, minimum=-math.inf, whole=False), unit
        else:
            number, given = fields.quantity(path, value, unit)
        for at in dict.fromkeys((path, fact.path)):
            fields.check_unit(at, given, value, unit)
            fields.check(at, number, given)
    return path, number


def _closest_fact(facts: Facts, key: str) -> str | None:
    """The did-you-mean of the facts themselves."""
    try:
        facts.fact(key)
    except UserError as error:
        return error.fix
    return None
