"""What a setting means: the path of the fact that a short name stands for, its value in SI, and the facts it leads to.

`--set`, and the axes of a sweep, name facts by their paths or by what people call them: `prices.trn3`, `power.trn3`,
`site.pue`. A value has its unit and lies in what the field can hold (`facts.fields`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from mowich.errors import UserError, did_you_mean, placed, unknown
from mowich.requests.common import TRAINING_STACK, form_of
from mowich.requests.fields import CALLED, TYPED, Edge, Field, paths, quantity, texts, word
from mowich.requests.footing import price_asked
from mowich.requests.schema import QuestionReader
from mowich.requests.stated import at_keys, settings_asked
from mowich.units import NUMBER, is_digits, parse_count

if TYPE_CHECKING:
    from mowich.facts import Facts
    from mowich.facts.schema import FreshnessLimit

KEYS = (
    "plan.tp",
    "plan.pp",
    "plan.ep",
    "plan.precision",
    "plan.recompute",
    "plan.lnc",
    "plan.graphs",
    "plan.interval",
    "plan.budget",
    "prices.term",
    "prices.trn3",
    "power.trn3",
    "site.pue",
    "site.electricity",
    "site.idle_power_share",
    "survival",
)
"""Names to suggest."""


def texts_of(facts: Facts) -> Mapping[str, tuple[str, ...]]:
    """Facts that are words and can be set, with the words that they can be."""
    from mowich.economics.ownership import quarters
    from mowich.price_terms import BUYERS, COST_RULES
    from mowich.software import stack
    from mowich.training import longrun

    asked = "prices.ownership.asked"
    return {
        longrun.SURVIVAL_CHOSEN: longrun.CHOICES,
        stack.RECIPE_CHOSEN: stack.RECIPES,
        stack.OPTIMIZER_CHOSEN: stack.optimizers(facts),
        f"{asked}.quarter": quarters(facts),
        f"{asked}.rule": COST_RULES,
        f"{asked}.buyer": BUYERS,
    }


def _releases(facts: Facts, path: str) -> Sequence[str] | None:
    """Releases of training software, where the fact is the one of NVIDIA's machines; None for another fact."""
    from mowich.software.recipes import RELEASE, releases

    return releases(facts) if path == f"vendors.nvidia.{RELEASE}" else None


SET = texts(
    "set",
    "Change one thing: plan.tp=4,8, prices.trn3='$1.40/chip/h', power.trn3='900 W', site.pue=1.1, or any fact."
    " Repeatable.",
    metavar="PATH=VALUE",
    edges=frozenset({Edge.OPTION, Edge.KEY}),
    example="prices.term=3y",
    told=settings_asked,
)
FACTS = paths(
    "facts",
    "Your own chips, systems and prices: a directory or file.",
    metavar="DIR",
    edges=TYPED,
    told="facts_dirs",
)

STALE = quantity(
    "stale",
    "s",
    "Name facts read whose last look is older: 90d.",
    metavar="TIME",
    example="90d",
    edges=TYPED,
    told=at_keys("stale.older_than_s"),
)
AS_OF = word(
    "as_of",
    "With it: the day of their age, 2026-12-01.",
    metavar="DAY",
    example="2026-12-01",
    edges=TYPED,
    told=at_keys("stale.as_of"),
)

OF_FACTS = (SET, FACTS, STALE, AS_OF)
"""What a question says of the facts that its answer reads."""


def _price_kinds() -> Sequence[str]:
    from mowich.economics.money import PRICE_KINDS

    return PRICE_KINDS


CORES_OF_PLAN = ("lnc",)
"""Fields of a plan that make another machine of a system: the search has no choice of them."""

PRICE_KIND = replace(
    word(
        "price",
        "Kind: tco, rent, on-demand, capacity-block, 1y, 3y, spot.",
        metavar="KIND",
        example="tco",
        told=price_asked,
    ),
    words=_price_kinds,
)
TERM = word("term", "The same as price.", edges=CALLED, default="default")
RECIPE = word(
    "recipe",
    "Of training: a release, bridge-26-06; shipped, future.",
    metavar="NAME",
    example="future",
    shortens="training.common.recipe",
)
"""The short form of a setting: of the release by which NVIDIA's training software is set, or of the fact that it names,
whether formats that no software ships are taken."""
OPTIMIZER = word(
    "optimizer",
    "adamw, adamw-bf16, adamw-8bit, muon.",
    metavar="NAME",
    group="train",
    example="muon",
    shortens="training.common.optimizer",
)


@dataclass(slots=True)
class Settings:
    """What the settings of a question say, and the facts they lead to. lnc: cores of a device, where it was asked
    for."""

    facts: Facts
    plan: dict[str, str] = field(default_factory=dict)
    term: str = "default"
    lnc: int | None = None


def dirs_of(reader: QuestionReader) -> tuple[Path, ...]:
    """The user's directories of facts; one that is not there is a problem."""
    from mowich.files import exists

    dirs = reader.get(FACTS) or ()
    for folder in dirs:
        if not exists(folder):
            reader.add("no such directory or file", FACTS, given=str(folder))
    return dirs


def facts_of(reader: QuestionReader) -> Facts:
    """The facts of a question: those of its source, else those that ship with the user's directories over them. Stops
    at once when one is missing: nothing else can be checked."""
    from mowich.facts import load_facts

    if reader.source.facts is not None:
        return reader.source.facts
    before = len(reader.problems.found)
    dirs = dirs_of(reader)
    if len(reader.problems.found) > before:
        reader.stop()
    return load_facts(dirs)


def read_settings(reader: QuestionReader) -> Settings:
    """The facts of a question with its settings: applied to the facts, or kept for the search (plan.*) or the prices
    (prices.term)."""
    from mowich.facts.own import given_facts

    out = Settings(facts=facts_of(reader))
    changes: dict[str, float | str] = {}
    seen, said = set[str](), list[str]()
    before = len(reader.problems.found)
    short = _short_forms(reader, out.facts)
    changes |= {path: value for path, (value, _) in short.items()}
    for item in reader.get(SET) or ():
        where = f"{reader.said(SET)} {item}"
        with reader.watch(SET):
            key, equals, value = (part.strip() for part in item.partition("="))
            if not equals or not key or not value:
                raise UserError(
                    "not a setting", given=item, allowed="path=value, as in plan.tp=8 or prices.trn3='$1.40/chip/h'"
                )
            value = value.strip("\"'")
            if "." not in key and key in _plan_choices():  # as Python's `fixed` writes them
                key = f"plan.{key}"
            if key in seen:
                raise UserError(f"{key} is set twice", fix="several choices of a plan are written plan.tp=4,8")
            seen.add(key)
            if key == "plan.lnc":
                out.lnc = read_lnc(value, where=where)
                changes |= lnc_facts(out.facts, out.lnc)
            elif key.startswith("plan."):
                out.plan[key.removeprefix("plan.")] = value
            elif key == "prices.term":
                out.term = read_term(value, where=where)
            else:
                path, number = read_value(out.facts, key, value, where=where)
                other, field = short.get(path, (number, RECIPE))
                if other != number:
                    raise UserError(f"{path} is {value}, and {reader.said(field)} is {other}")
                changes[path] = number
                said.append(out.facts.fact(path).path)
    own = () if reader.edge is Edge.KEY else given_facts(out.facts)  # over HTTP they are the server's
    if changes and len(reader.problems.found) == before:
        change = reader.source.change
        out.facts = change(out.facts, changes) if change else out.facts.with_values(changes)
    out.facts = out.facts.heard((*said, *own), read_freshness(reader))
    return out


def _short_forms(reader: QuestionReader, facts: Facts) -> dict[str, tuple[str, Field[str]]]:
    """Facts that fields of their own stand for, where these were given: path -> (word, field)."""
    from mowich.software.stack import OPTIMIZER_CHOSEN, optimizers

    out: dict[str, tuple[str, Field[str]]] = {
        path: (word, RECIPE) for path, word in _asked_recipe(reader, facts).items()
    }
    name = reader.get(OPTIMIZER)
    if name is not None:
        with reader.watch(OPTIMIZER):
            if name not in optimizers(facts):
                raise unknown("optimizer", name, optimizers(facts))
            out[OPTIMIZER_CHOSEN] = name, OPTIMIZER
    return out


def _asked_recipe(reader: QuestionReader, facts: Facts) -> dict[str, str]:
    """The fact that the field `recipe` stands for, where it was given: path -> word. A release must be known, and be
    one of the stack where that is named."""
    word = reader.get(RECIPE)
    if word is None:
        return {}
    from mowich.software.recipes import RELEASE, releases, stack_of_release
    from mowich.software.stack import RECIPE_CHOSEN, RECIPES

    with reader.watch(RECIPE):
        if word in RECIPES:
            return {RECIPE_CHOSEN: word}
        release = word.replace(".", "-")
        if release not in releases(facts):
            raise unknown("recipe", word, (*RECIPES, *releases(facts)))
        stack, named = stack_of_release(facts, release), reader.get(TRAINING_STACK)
        if named not in (None, stack):
            reader.add(f"is of the stack {stack}", RECIPE, given=word, fix=f"leave {named} out")
        return {f"vendors.nvidia.{RELEASE}": release}
    return {}


def read_freshness(reader: QuestionReader) -> FreshnessLimit | None:
    """Which facts the question calls old; None where it does not ask. An age without its day is a problem: an answer
    has no clock."""
    from mowich.facts.schema import FreshnessLimit

    stale, day = reader.get(STALE), read_as_of(reader, AS_OF)
    if reader.has(STALE) and not reader.has(AS_OF):
        fix = f"add {reader.example(AS_OF)}"
        reader.add("needs a day to count from: an answer does not depend on the clock", STALE, fix=fix)
    elif reader.has(AS_OF) and not reader.has(STALE):
        reader.add("goes with an age of facts", AS_OF, fix=f"add {reader.example(STALE)}")
    return None if stale is None or day is None else FreshnessLimit(older_than_s=stale, as_of=day)


def read_as_of(reader: QuestionReader, field: Field[str]) -> date | None:
    """The day of a field; other text is a problem."""
    from mowich.facts.freshness import read_day

    said, day = reader.get(field), None
    if said is not None:
        with suppress(ValueError):
            day = read_day(said)
        if day is None:
            reader.add("not a day of the calendar", field, given=said, allowed="YYYY-MM-DD")
    return day


def _plan_choices() -> set[str]:
    """Choices of a plan: of training, of serving and of forward passes."""
    from mowich.plans.forward import FORWARD_FIXABLE
    from mowich.plans.plan import FIXABLE
    from mowich.plans.serving_choices import SERVE_FIXABLE

    return {*FIXABLE, *SERVE_FIXABLE, *FORWARD_FIXABLE, *CORES_OF_PLAN}


def read_lnc(value: object, *, where: str) -> int:
    """Cores of a device. Raises UserError for what is not one whole number: another grouping is another machine, so a
    search has one."""
    words = str(value).strip()
    if not is_digits(words):
        raise UserError("cores per device", where=where, given=words, allowed="one whole number, as in plan.lnc=1")
    return int(words)


def lnc_facts(facts: Facts, physical: int) -> dict[str, float]:
    """The facts that `plan.lnc` stands for: path -> value."""
    from mowich.machines.system import with_lnc

    return with_lnc(facts, physical)


def read_term(value: str, *, where: str | None = None) -> str:
    """A price term. Raises UserError for one that is not known."""
    from mowich.economics.money import TERMS

    if value not in TERMS:
        raise unknown("price term", value, TERMS, where=where)
    return value


def asked_kind(reader: QuestionReader, settings: Settings) -> str:
    """The kind of price that a question asks for, by its field or by a setting; "default" where it asks for none."""
    term = settings.term
    if reader.edge is Edge.KEYWORD:
        with reader.watch(TERM):
            term = read_term(reader.get(TERM) or "default")
    kind = reader.get(PRICE_KIND)
    if kind is None:
        return term
    with reader.watch(PRICE_KIND):
        read_term(kind)
    if term not in ("default", kind):
        reader.add(f"is {kind}, and the price term is {term}", PRICE_KIND, fix="give one of the two")
    return kind


def only_facts(reader: QuestionReader, why: str) -> Settings:
    """Settings of a verb that takes no plan and no price term; `why` says so."""
    out = read_settings(reader)
    if out.plan or out.lnc is not None or out.term != "default":
        reader.add(why, SET, allowed="paths of facts")
    return out


def asked_of(reader: QuestionReader, only: str) -> dict[str, object]:
    """What every question of the facts has: form, facts, and what changed them. only: why it takes no plan and no price
    term; a setting that changes nothing is refused."""
    form, settings = form_of(reader), only_facts(reader, only)
    return {"form": form, "facts": settings.facts, "given": given_of(reader)}


def has_cores(reader: QuestionReader, systems: Sequence[str], facts: Facts) -> None:
    """A problem where no machine of a question has logical cores."""
    from mowich.machines.system import resolve

    if systems and not any(resolve(facts, name).lnc for name in systems):
        reader.add(
            "no system here has logical cores", SET, given="plan.lnc", allowed="systems of Trainium2 and Trainium3"
        )


def given_of(reader: QuestionReader) -> dict[str, object]:
    """What the facts of a result were changed by, as it was given: `explain` reads the same facts again."""
    is_short = any(reader.get(field) is not None for field in (RECIPE, OPTIMIZER))
    short = _short_forms(reader, facts_of(reader)) if is_short else {}
    said = [*(reader.get(SET) or ()), *(f"{path}={word}" for path, (word, _) in short.items())]
    return {"set": list(dict.fromkeys(said)), "facts_dirs": [str(d) for d in reader.get(FACTS) or ()]}


_COUNT = re.compile(rf"[+-]?{NUMBER}\s*(?:[kKMGBT]|Ki|Mi)?")
"""A number without a unit, as people write counts."""


def fact_path(facts: Facts, key: str, *, where: str) -> str:
    """ "prices.trn3" -> the path of the fact that it stands for. Raises UserError, with the closest name, when there is
    none."""
    from mowich.machines.system import machine_id
    from mowich.training import longrun

    root, _, name = key.partition(".")
    if root == "prices" and name and "." not in name:
        return f"prices.user.{machine_id(facts, name)}"
    if root == "power" and name and "." not in name:
        return f"chips.{facts.meta('systems', machine_id(facts, name))['chip']}.power.all_in"
    if root == "site":
        key = f"sites.default.{name}"
    if key == "survival":
        key = longrun.SURVIVAL_CHOSEN
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
    from mowich.facts import fields

    path = fact_path(facts, key, where=where)
    fact, words = facts.fact(path), texts_of(facts).get(path) or _releases(facts, path)
    if words is not None:
        if value not in words:
            raise unknown("choice", value, words, where=where)
        return path, value
    if fact.unit == "text":
        raise UserError("this fact is a text and cannot be set", where=where)
    unit = fields.unit_of(path, fact.unit) or ""
    with placed(where):
        if fields.is_plain_number(unit) and _COUNT.fullmatch(value):
            number, given = parse_count(value, minimum=-math.inf, whole=False), unit
        else:
            number, given = fields.read_fact_quantity(path, value, unit)
        for at in dict.fromkeys((path, fact.path)):
            fields.check_unit(at, given, value, unit)
            fields.check_value(at, number, given)
    return path, number


def _closest_fact(facts: Facts, key: str) -> str | None:
    """The did-you-mean of the facts themselves."""
    try:
        facts.fact(key)
    except UserError as error:
        return error.fix
    return None
