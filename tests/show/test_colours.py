"""The colour code: seen on both backgrounds, told apart by colour-blind readers, one for pills, rows and pictures."""

from __future__ import annotations

import itertools
import json
import re

import numpy as np
import pytest
from numpy.typing import NDArray

from mowich.facts import Facts
from mowich.show import colours
from mowich.show.colours import GROUPS, PAPER, PART_COLOURS, Colour

MODES = Colour._fields

SEEN = {
    "all": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}
"""What is left of linear RGB: Machado, Oliveira and Fernandes 2009, severity 1."""

Array = NDArray[np.float64]


def linear(colour: str) -> Array:
    s = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(s <= 0.04045, s / 12.92, ((s + 0.055) / 1.055) ** 2.4)


def luminance(colour: str) -> float:
    return float(linear(colour) @ [0.2126, 0.7152, 0.0722])


def contrast(a: str, b: str) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def oklab(rgb: Array) -> Array:
    """Ottosson 2020: a distance of 0.02 is just seen side by side."""
    to_lms = np.array(
        [
            [0.41222147, 0.53633254, 0.05144599],
            [0.21190350, 0.68069955, 0.10739696],
            [0.08830246, 0.28171884, 0.62997870],
        ]
    )
    to_lab = np.array(
        [
            [0.21045426, 0.79361779, -0.00407205],
            [1.97799850, -2.42859221, 0.45059371],
            [0.02590404, 0.78277177, -0.80867577],
        ]
    )
    return to_lab @ np.cbrt(np.clip(to_lms @ rgb, 0, None))


def apart(a: str, b: str) -> float:
    """The least distance of two colours over all kinds of sight."""
    views = [np.array(m) for m in SEEN.values()]
    return min(
        float(np.linalg.norm(oklab(np.clip(m @ linear(a), 0, 1)) - oklab(np.clip(m @ linear(b), 0, 1)))) for m in views
    )


@pytest.mark.parametrize("mode", MODES)
def test_every_colour_is_seen_on_its_background(mode: str) -> None:
    faint = {
        n: c for n, colour in colours.named().items() if contrast(c := getattr(colour, mode), getattr(PAPER, mode)) < 3
    }
    assert faint == {}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["groups", "parts", "vendors", "newest"])
def test_colours_of_one_kind_stay_apart_for_the_colour_blind(mode: str, kind: str) -> None:
    chips = colours.system_looks()
    newest = {n: chips[n].colour for n in ("trn3-gen2", "ironwood", "gb300", "mi355x")}
    found = {
        "groups": dict(GROUPS),
        "parts": {str(i): c for i, c in enumerate(PART_COLOURS)},
        "vendors": colours.vendors(),
        "newest": newest,
    }[kind]
    least = {"groups": 0.08, "parts": 0.05, "vendors": 0.04, "newest": 0.035}[kind]
    close = {
        (a, b): round(d, 3)
        for a, b in itertools.combinations(found, 2)
        if (d := apart(getattr(found[a], mode), getattr(found[b], mode))) < least
    }
    assert close == {}


def test_every_vendor_has_its_own_symbol_and_no_two_vendors_share_a_colour() -> None:
    looks = colours.system_looks().values()
    assert len({k.symbol for k in looks}) == len({k.vendor for k in looks})
    assert len({(k.colour, k.vendor) for k in looks}) == len({k.colour for k in looks})


def test_a_vendor_has_one_hue_and_newer_chips_are_darker_on_paper_and_brighter_in_the_dark() -> None:
    looks = colours.system_looks()
    for old_to_new in (
        ("trn1", "trn2", "trn3-gen2", "trn4"),
        ("a100", "h100", "h200", "b200", "gb300"),
        ("tpu-v4", "ironwood"),
    ):
        found = [looks[name] for name in old_to_new]
        assert len({f.vendor for f in found}) == 1
        light, dark = ([luminance(getattr(f.colour, mode)) for f in found] for mode in MODES)
        assert light == sorted(light, reverse=True), old_to_new
        assert dark == sorted(dark), old_to_new
    hues = {
        v: np.degrees(np.arctan2(*reversed(oklab(linear(c.light))[1:]))) % 360 for v, c in colours.vendors().items()
    }
    assert 40 < hues["aws"] < 75
    assert 230 < hues["google"] < 270
    assert 140 < hues["nvidia"] < 165
    assert hues["amd"] < 35 or hues["amd"] > 345


def test_times_are_no_vendors_hue() -> None:
    for mode in MODES:
        for group, own in GROUPS.items():
            for vendor, colour in colours.vendors().items():
                if vendor != "other":
                    a, b = oklab(linear(getattr(own, mode))), oklab(linear(getattr(colour, mode)))
                    assert float(np.linalg.norm(a - b)) > 0.07, (mode, group, vendor)


def test_systems_of_one_chip_are_of_one_shade_and_announced_parts_are_marked(facts: Facts) -> None:
    looks = colours.system_looks()
    assert looks["trn3-gen1"].colour == looks["trn3-gen2"].colour
    assert looks["trn4"].is_announced
    assert not looks["trn3-gen2"].is_announced
    assert colours.look_of("mine").vendor == "other"
    rows = [("a", {"system_id": "trn3-gen1"}), ("b", {"system_id": "trn3-gen2"}), ("c", {"system_id": "h100"})]
    found = colours.looks_of(rows)
    assert found["a"].colour == found["b"].colour
    assert found["a"].symbol != found["b"].symbol
    assert {facts.meta("systems", n).get("chip") is not None for n in looks} == {True}


def test_pages_get_every_colour_in_both_forms() -> None:
    css, script = colours.css(), colours.script()
    for name, colour in colours.named().items():
        assert css.count(f"--{name}:{colour.light};") == 1, name
        assert css.count(f"--{name}:{colour.dark};") == 2, name
    assert "--vendor-aws:" in css
    dark = json.loads(re.findall(r"darkColours=(\{.*?\});", script)[0])
    assert all(dark[c.light] == c.dark for c in colours.named().values())


def test_an_engine_has_one_colour_that_is_no_vendors() -> None:
    """Lanes, waits and the page's timeline take it by the first word of a lane."""
    vendors = {c.light for c in colours.named().values()} & {
        c.light for name, c in colours.named().items() if name.startswith(("vendor-", "chip-"))
    }
    own = {name: c.light for name, c in colours.ENGINE_COLOURS.items()}
    assert colours.engine_colour("DMA load") == colours.engine_colour("dma") == colours.ENGINE_COLOURS["dma"]
    assert not {x for name, x in own.items() if name != "sync"} & vendors
    assert json.dumps(own) in colours.script()


def test_every_system_has_the_shape_of_its_vendor_on_a_page() -> None:
    """p5e and gh200 are NVIDIA's, whatever their names begin with."""
    text = colours.css()
    shapes: dict[str, set[str]] = {}
    for name, look in colours.system_looks().items():
        found = re.search(rf"\.chip-{re.escape(name)}{{[^}}]*--shape:([^}}]+)}}", text)
        assert found, name
        shapes.setdefault(look.vendor, set()).add(found[1])
    assert all(len(own) == 1 for own in shapes.values())
    assert len({min(own) for own in shapes.values()}) == len(shapes)
