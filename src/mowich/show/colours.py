"""The one colour code: a hue for each vendor, a shade for each chip, five hues for parts of a time, grey for the rest.

`colours.yaml` has the colours, each for a light and for a dark background. Pictures are made in the light ones;
`script` tells a page which dark one stands for each. Colour never stands alone: a vendor has its symbol, rows of one
colour differ in symbol and dash, an announced part is hatched.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypedDict, cast

from mowich.facts import load_facts
from mowich.files import shipped_yaml
from mowich.shown import Result
from mowich.software.vendors import vendor_id


class Colour(NamedTuple):
    """One colour on light paper and on a dark page, "#rrggbb" each."""

    light: str
    dark: str


class SystemLook(NamedTuple):
    """How a system is drawn. vendor: its id, "other" for the rest; is_announced: no such part can be had yet, its
    figures are estimates."""

    vendor: str
    colour: Colour
    symbol: str
    is_announced: bool = False


class _Pair(TypedDict):
    light: str
    dark: str


class _Generation(_Pair):
    families: list[str]


class _Vendor(TypedDict):
    symbol: str
    generations: list[_Generation]


class _File(TypedDict):
    paper: _Pair
    rest: _Pair
    mark: _Pair
    hatch: _Pair
    vendors: dict[str, _Vendor]
    groups: dict[str, _Pair]
    parts: list[_Pair]
    engines: dict[str, _Pair]
    change: dict[str, _Pair]


@cache
def _file() -> _File:
    return cast(_File, shipped_yaml(Path(__file__).with_name("colours.yaml")))


def _colour(pair: _Pair) -> Colour:
    return Colour(pair["light"], pair["dark"])


def mixed_colour(a: Colour, b: Colour, share: float) -> Colour:
    """A colour on the way from a to b."""

    def mixed(x: str, y: str) -> str:
        ends = ((int(x[i : i + 2], 16), int(y[i : i + 2], 16)) for i in (1, 3, 5))
        return "#" + "".join(f"{round(p + share * (q - p)):02x}" for p, q in ends)

    return Colour(mixed(a.light, b.light), mixed(a.dark, b.dark))


PAPER = _colour(_file()["paper"])
GREY = _colour(_file()["rest"])
"""Lines and parts that belong to no vendor."""
LIMIT_MARK = _colour(_file()["mark"])
"""Limits and marks over a picture."""
HATCH = _colour(_file()["hatch"])
"""Lines over the fill of an announced part, and where colours come round again."""
GROUPS: Mapping[str, Colour] = {name: _colour(pair) for name, pair in _file()["groups"].items()}
"""What time goes to."""
PART_COLOURS: Sequence[Colour] = [_colour(pair) for pair in _file()["parts"]]
"""Parts of a whole that is no time, and lines of no vendor, in their order."""
ENGINE_COLOURS: Mapping[str, Colour] = {name: _colour(pair) for name, pair in _file()["engines"].items()}
"""Engines of a NeuronCore, and the critical path through them."""
MORE, LESS = (_colour(_file()["change"][key]) for key in ("more", "less"))
"""Steps up and down."""
_DOWN = "path://M0 0L10 0L5 8.7Z"
"""A triangle upside down."""
OTHER = SystemLook("other", GREY, _DOWN)
SYMBOLS = (
    "circle",
    "rect",
    "triangle",
    "diamond",
    _DOWN,
    "path://M0 3L3 3L3 0L7 0L7 3L10 3L10 7L7 7L7 10L3 10L3 7L0 7Z",
    "emptyCircle",
    "emptyTriangle",
)
"""The sixth is a cross; it and the triangle upside down each have their point in the middle."""
DASHES = ("solid", "dashed", "dotted")


def engine_colour(name: str) -> Colour:
    """The colour of an engine, or of a lane of one ("DMA load"); grey for other lanes."""
    words = name.casefold().replace("_", " ").split()
    return ENGINE_COLOURS.get(words[0], GREY) if words else GREY


def vendors() -> dict[str, Colour]:
    """Each vendor's own colour, by its id, that of its middle generation; and the rest."""
    out = {
        vendor_id(name): _colour(v["generations"][len(v["generations"]) // 2]) for name, v in _file()["vendors"].items()
    }
    return {**out, OTHER.vendor: GREY}


@cache
def _chips() -> Mapping[str, SystemLook]:
    """Chip -> its look. Chips of one generation, from the least memory to the most, stand between it and the next."""
    facts = load_facts()
    found: dict[tuple[str, int], list[tuple[float, str]]] = {}
    for chip in facts.ids("chips"):
        meta = facts.meta("chips", chip)
        place = _generation(str(meta.get("vendor")), str(meta.get("family")))
        if place is not None:
            memory = facts.get(f"chips.{chip}.memory.hbm_capacity")
            size = float(memory.value) if memory is not None and isinstance(memory.value, int | float) else 0.0
            found.setdefault((str(meta["vendor"]), place), []).append((size, chip))
    out = {}
    for (vendor, place), chips in found.items():
        steps = [_colour(g) for g in _file()["vendors"][vendor]["generations"]]
        here, after = steps[place], steps[min(place + 1, len(steps) - 1)]
        for i, (_, chip) in enumerate(sorted(chips)):
            peak = facts.get(f"chips.{chip}.peak_dense.bf16")
            out[chip] = SystemLook(
                vendor_id(vendor),
                mixed_colour(here, after, i / len(chips)),
                _file()["vendors"][vendor]["symbol"],
                peak is None or peak.grade in ("D", None),
            )
    return out


def _generation(vendor: str, family: str) -> int | None:
    """Place of a family among its vendor's generations; a family that is not listed is the vendor's newest; None for
    vendors without a hue."""
    known = _file()["vendors"].get(vendor)
    if known is None:
        return None
    steps = known["generations"]
    return next((i for i, g in enumerate(steps) if family in g["families"]), len(steps) - 1)


@cache
def system_looks() -> Mapping[str, SystemLook]:
    """Every system that ships -> its look."""
    facts = load_facts()
    chips = {name: str(facts.meta("systems", name).get("chip")) for name in facts.ids("systems")}
    return {name: _chips().get(chip, OTHER) for name, chip in chips.items() if chip != "None"}


def look_of(system_id: str) -> SystemLook:
    """How a system is drawn; one that does not ship is grey."""
    return system_looks().get(system_id, OTHER)


@cache
def look_called(words: str) -> SystemLook:
    """How a system is drawn that words name ("NVIDIA's GB300", "trn3-gen2 x 8", "TPU v7"): by the longest name of a
    system or a chip in them, else by one that begins with them."""
    text = _letters(words)
    known = {_letters(n): k for n, k in (*_chips().items(), *system_looks().items())}
    found = [name for name in known if name in text]
    if found:
        return known[max(found, key=len)]
    return next((known[name] for name in sorted(known) if text and name.startswith(text)), OTHER)


def _letters(words: str) -> str:
    return "".join(c for c in words.casefold() if c.isalnum())


def looks_of(rows: Sequence[tuple[str, Result]]) -> dict[str, SystemLook]:
    """Looks of named rows of an answer. Rows of one colour get different symbols."""
    out: dict[str, SystemLook] = {}
    for name, row in rows:
        look = look_of(str(row.get("system_id") or row.get("system") or ""))
        taken = [o.symbol for o in out.values() if o.colour == look.colour]
        if look.symbol in taken:
            look = look._replace(symbol=next((s for s in SYMBOLS if s not in taken), look.symbol))
        out[name] = look._replace(is_announced=look.is_announced or bool(row.get("estimated")))
    return out


# for pages
# ----------------------------------------------------------------------------------------------------------------------


def named() -> dict[str, Colour]:
    """Every colour by the name of its CSS variable, without the dashes before it."""
    out = {f"vendor-{name}": colour for name, colour in vendors().items()}
    out |= {f"chip-{name}": look.colour for name, look in system_looks().items()}
    out |= {f"time-{name}": colour for name, colour in GROUPS.items()}
    out |= {f"engine-{name}": colour for name, colour in ENGINE_COLOURS.items()}
    return out | {f"part-{i}": colour for i, colour in enumerate(PART_COLOURS)} | {"more": MORE, "less": LESS}


_SHAPES = {
    "circle": "circle()",
    "rect": "none",
    "triangle": "polygon(50% 0,100% 100%,0 100%)",
    "diamond": "polygon(50% 0,100% 50%,50% 100%,0 50%)",
    _DOWN: "polygon(0 0,100% 0,50% 100%)",
}
"""Symbols of vendors as what CSS cuts a square to."""


def css() -> str:
    """Variables for pages: --vendor-aws, --chip-trn3-gen2, --time-compute ...; of systems also a class each
    (.chip-trn3-gen2) that sets --chip and the --shape of its vendor."""
    light, dark = (
        "".join(f"--{name}:{getattr(colour, mode)};" for name, colour in named().items()) for mode in Colour._fields
    )
    chips = "".join(
        f".chip-{name}{{--chip:var(--chip-{name});--shape:{_SHAPES[look.symbol]}}}"
        for name, look in system_looks().items()
    )
    return (
        f":root{{{light}}}@media (prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}}}}}"
        f":root[data-theme=dark]{{{dark}}}{chips}\n"
    )


def _pairs() -> Iterator[Colour]:
    yield from named().values()
    yield from (look.colour for look in _chips().values())
    yield from (GREY, HATCH, LIMIT_MARK, PAPER)


def script() -> str:
    """What tells a picture of light colours its dark ones (`darkColours`), and a page the vendor, symbol and state of
    each system (`systemLooks`)."""
    dark = {c.light: c.dark for c in _pairs()}
    looks = {n: [k.vendor, k.symbol, k.is_announced] for n, k in system_looks().items()}
    said = f"globalThis.darkColours={json.dumps(dark)};globalThis.systemLooks={json.dumps(looks)};"
    engines = {name: colour.light for name, colour in ENGINE_COLOURS.items()}
    return f"{said}globalThis.engineColours={json.dumps(engines)};\n"


__all__ = [
    "DASHES",
    "ENGINE_COLOURS",
    "GREY",
    "GROUPS",
    "HATCH",
    "LESS",
    "LIMIT_MARK",
    "MORE",
    "OTHER",
    "PAPER",
    "PART_COLOURS",
    "SYMBOLS",
    "Colour",
    "SystemLook",
    "css",
    "engine_colour",
    "look_called",
    "look_of",
    "looks_of",
    "named",
    "script",
    "system_looks",
    "vendors",
]
