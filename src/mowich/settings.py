"""What a setting means: the path of the fact that a short name stands for, and its value in SI.

`--set`, and the axes of a sweep, name facts by their paths or by what people call them: `prices.trn3`, `power.trn3`, `site.pue`. A value has its unit, lies in
what the fact can be, and is above 0.
"""

from __future__ import annotations

from collections.abc import Mapping

from mowich.errors import UserError, did_you_mean, unknown
from mowich.facts import Facts
from mowich.machines.system import machine_id
from mowich.simulate import longrun
from mowich.units import parse, parse_count

KEYS = ("plan.tp", "plan.pp", "plan.ep", "plan.precision", "plan.recompute", "prices.term", "prices.trn3", "power.trn3", "site.pue", "site.electricity",
        "site.idle_power_share", "survival")  # fmt: skip
"""Names to suggest."""

TEXTS: Mapping[str, tuple[str, ...]] = {longrun.CHOSEN: longrun.CHOICES}
"""Facts that are words and can be set, with the words that they can be."""

WHOLE = ("devices_per_chip", "chips_per_unit", "chips_per_server", "max_chips", "chips", "axes")
"""Names of facts that count things."""

SHARES = ("_efficiency", "_overlap", "_exposed", "_share", "exposed_inside", "exposed_outside")
"""Ends of the names of facts that are shares of a whole."""


def fact_path(facts: Facts, key: str, *, where: str) -> str:
    """ "prices.trn3" -> the path of the fact that it stands for. Raises UserError, with the closest name, when there is none."""
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
    """(path of the fact, SI value) of key = "4.7 TB/s", or the word of a fact that is one of a few words. Raises UserError for an unknown key, a missing or wrong unit, or a value that cannot be."""
    path = fact_path(facts, key, where=where)
    fact = facts.fact(path)
    if path in TEXTS:
        if value not in TEXTS[path]:
            raise unknown("choice", value, TEXTS[path], where=where)
        return path, value
    if fact.unit == "text":
        raise UserError("this fact is a text and cannot be set", where=where)
    if fact.unit in ("", "1") and not value.endswith("%"):
        whole = path.rsplit(".", 1)[-1] in WHOLE
        number = parse_count(value, where=where, minimum=1 if whole else 0, whole=whole)
    else:
        number = parse(value, fact.unit or "1", where=where).value
    if number <= 0:
        raise UserError("must be above 0", where=where, given=value)
    low, high = bounds(path)
    if not low <= number <= high:
        allowed = f"{low:g} to {high:g}" if high < float("inf") else f"at least {low:g}"
        raise UserError("out of range", where=where, given=value, allowed=allowed)
    return path, number


def bounds(path: str) -> tuple[float, float]:
    """What a set value may be by its meaning: a share is at most 1, a facility draws at least what its machines do."""
    name = path.rsplit(".", 1)[-1]
    if name == "pue":
        return 1.0, float("inf")
    return 0.0, 1.0 if name.endswith(SHARES) else float("inf")


def _closest_fact(facts: Facts, key: str) -> str | None:
    """The did-you-mean of the facts themselves."""
    try:
        facts.fact(key)
    except UserError as error:
        return error.fix
    return None
