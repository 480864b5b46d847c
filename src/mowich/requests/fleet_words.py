"""A fleet asked in words: chips that are there, and work for them, in the place of a scenario file.

`--have trn2:512,h100:64 --work 'serve llama-3.1-70b isl=2000 osl=500'` becomes the text of a scenario of one month,
whose goal is the most work from what is there. Work without an amount is welcome in any amount.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from mowich.errors import UserError, unknown
from mowich.requests.fields import Edge, Field, read_names, read_texts, texts
from mowich.requests.schema import QuestionReader

_OPEN = frozenset({Edge.OPTION, Edge.KEYWORD})

WORK_KEYS: Mapping[str, Mapping[str, str | None]] = {
    "serve": {"isl": None, "osl": None, "ttft": None, "tpot": None, "tokens_per_s": "100", "peak": None},
    "batch": {"isl": None, "osl": None, "tokens": "1G"},
    "train": {"seq": None, "batch": None, "tokens": "1G"},
}
"""Kind of work -> its keys, each with the amount that stands for "any amount"; None: no amount."""

_NEEDED: Mapping[str, Sequence[str]] = {"serve": ("isl", "osl"), "batch": ("isl", "osl"), "train": ("seq", "batch")}
_OF_ANY = ("on_chips", "worth", "tenant")
"""Keys of a workload that every kind takes."""

_EXAMPLE = "'serve llama-3.1-70b isl=2000 osl=500 ttft=2s'"


def read_there(value: object) -> tuple[tuple[str, int], ...]:
    """Systems and the chips of each that are there: "trn2:512,h100:64".

    >>> read_there("trn2:512, h100:64")
    (('trn2', 512), ('h100', 64))
    """
    out: dict[str, int] = {}
    for word in read_names(value):
        name, _, count = word.strip().rpartition(":")
        if not name or not (count.isascii() and count.isdigit()) or int(count) < 1:
            raise UserError("how many chips are there?", given=word.strip(), allowed="SYSTEM:CHIPS, as in trn2:512")
        if name in out:
            raise UserError(f"{name} is there twice", given=value, fix=f"{name}:{out[name] + int(count)}")
        out[name] = int(count)
    return tuple(out.items())


def read_fleet_work(value: object) -> tuple[str, str, dict[str, str]]:
    """One kind of work: its kind, its model and its keys.

    >>> read_fleet_work("serve llama-3.1-8b isl=1k osl=100")
    ('serve', 'llama-3.1-8b', {'isl': '1k', 'osl': '100'})
    """
    words = str(value).split()
    if len(words) < 2:
        raise UserError(
            "a kind of work and a model", given=value, allowed=f"KIND MODEL KEY=VALUE ..., as in {_EXAMPLE}"
        )
    kind, model, *pairs = words
    if kind not in WORK_KEYS:
        raise unknown("kind of work", kind, tuple(WORK_KEYS))
    known = (*WORK_KEYS[kind], *_OF_ANY)
    keys: dict[str, str] = {}
    for pair in pairs:
        key, equals, said = pair.partition("=")
        if key not in known:
            raise unknown(f"key of {kind}", key, known)
        if not equals or not said:
            raise UserError("a key has a value", given=pair, allowed=f"{key}=VALUE")
        keys[key] = said
    if missing := [key for key in _NEEDED[kind] if key not in keys]:
        raise UserError(f"{kind} needs {' and '.join(missing)}", given=value, fix=f"add {missing[0]}=VALUE")
    return kind, model, keys


THERE: Field[tuple[tuple[str, int], ...]] = Field(
    name="have",
    parse=read_there,
    kind="names",
    metavar="SYSTEM:CHIPS,...",
    help="Without a scenario: chips that are there, for the most work of --work in a month: trn2:512,h100:64.",
    edges=_OPEN,
)
FLEET_WORK = replace(
    texts(
        "work",
        "With --have: serve, batch or train, a model, and keys (mowich help fleet). Repeatable.",
        metavar="'KIND MODEL KEY=VALUE ...'",
        edges=_OPEN,
    ),
    parse=lambda value: (value,) if isinstance(value, str) else read_texts(value),
    annotation="str | Sequence[str]",
)


def scenario_in_words(reader: QuestionReader, scenario: Field[object]) -> str | None:
    """The text of the scenario that --have and --work describe; None where neither was given. Notes what is wrong."""
    given = [field for field in (THERE, FLEET_WORK) if reader.given(field)]
    if not given:
        return None
    if reader.has(scenario):
        reader.add("is in the place of a scenario", given[0], fix="leave one of them out")
    if len(given) == 1:
        other = FLEET_WORK if given[0] is THERE else THERE
        reader.missing(other, f" with {reader.said(given[0])}")
        return None
    there = reader.get(THERE) or ()
    works: dict[str, object] = {}
    for text in reader.get(FLEET_WORK) or ():
        with reader.watch(FLEET_WORK):
            kind, model, keys = read_fleet_work(text)
            works[_name(f"{kind}-{model}", works)] = _workload(kind, model, keys)
    return json.dumps(
        {
            "mowich": 1,
            "name": "the most from what is there",
            "periods": {"start": "2027-M01", "count": 1, "length": "month"},
            "workloads": works,
            "systems": {name: {"have": {"cloud": f"{chips} chips"}} for name, chips in there},
            "goals": ["tokens", "cost"],
            "demand": "ordered",
        }
    )


def _name(name: str, taken: Mapping[str, object]) -> str:
    """A name that no other work has."""
    number = next(n for n in range(1, len(taken) + 2) if (name if n == 1 else f"{name}-{n}") not in taken)
    return name if number == 1 else f"{name}-{number}"


def _workload(kind: str, model: str, keys: Mapping[str, str]) -> dict[str, object]:
    """A workload of a scenario: any amount is welcome where none is given."""
    amounts = {key: least for key, least in WORK_KEYS[kind].items() if least is not None}
    is_open = not set(amounts) & set(keys)
    own: dict[str, object] = {key: said for key, said in keys.items() if key not in _OF_ANY}
    more: dict[str, object] = {key: said for key, said in keys.items() if key in _OF_ANY}
    return {
        kind: {"model": model, **amounts, **own},
        **({"most": "any"} if is_open else {}),
        **({} if kind == "serve" else {"any_hour": True}),
        **more,
    }
