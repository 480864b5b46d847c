"""What a fact is called where a person reads it in a picture: words, and whose it is in brackets."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from mowich.facts import load_facts
from mowich.files import shipped_yaml

_OWNED = ("chips", "systems", "training", "devices", "serving", "networks")
"""Kinds whose second word is a chip, a system, a family of chips or an engine."""

_GROUPS = {
    "prices.machines.system": "price of a machine, {}",
    "prices.machines.scale_out": "price of the network, {}",
    "prices.memory": "price of memory, {}",
}
"""Beginnings of paths whose facts are many of one kind -> what each is called, of the rest of its path."""

_ALL = ("common", "collectives", "measured", "ownership", "scale_out")
"""Second words that are nobody's."""


@cache
def _labels() -> Mapping[str, str]:
    found: Mapping[str, str] = shipped_yaml(Path(__file__).with_name("fact_labels.yaml"))
    return found


@cache
def _families() -> Mapping[str, str]:
    """Family of chips -> its only chip, or the family in words."""
    facts = load_facts()
    used = {str(facts.meta("systems", s).get("chip")) for s in facts.ids("systems")}
    chips: dict[str, list[str]] = {}
    for chip in facts.ids("chips"):
        if chip in used:
            meta = facts.meta("chips", chip)
            chips.setdefault(str(meta["family"]), []).append(str(meta["name"]).partition(" (")[0])
    return {f: names[0] if len(names) == 1 else _family_words(f) for f, names in chips.items()}


def _family_words(family: str) -> str:
    """ "Blackwell Ultra", "TPU v7"."""
    first, _, rest = family.partition("-")
    if first == "tpu":
        return f"TPU {rest}"
    return family.upper() if family.startswith("cdna") else family.replace("-", " ").title()


def fact_label(path: str) -> str:
    """A fact in words.

    >>> fact_label("training.neuroncore-v4.framework_carry")
    'software speed against the chip it was learned on (Trainium3)'
    >>> fact_label("training.common.router_skew"), fact_label("sites.default.pue")
    ('uneven routing of experts', 'overhead of the site (PUE)')
    >>> fact_label("prices.machines.system.h200_hgx8"), fact_label("prices.memory.ddr5.2026Q4")
    ('price of a machine, h200 hgx8', 'price of memory, ddr5, 2026Q4')
    >>> fact_label("systems.trn3-gen2.levels.rack.latency")
    'latency of a link, level rack (trn3-gen2)'
    """
    kind, _, rest = path.partition(".")
    steps = rest.split(".")
    for begin, words in _GROUPS.items():
        if path.startswith(f"{begin}."):
            return words.format(path.removeprefix(f"{begin}.").replace("_", " ").replace(".", ", "))
    ends = (".".join(steps[i:]) for i in range(len(steps)))
    words = next((_labels()[end] for end in ends if end in _labels()), steps[-1].replace("_", " "))
    if "levels" in steps[1:-2]:  # of the levels of a machine, each has its own
        words = f"{words}, level {steps[steps.index('levels') + 1].replace('_', '-')}"
    owner = _owner(kind, steps)
    return f"{words} ({owner})" if owner else words


def kernel_label(name: str) -> str:
    """A part of a kernel's time, by the fact that sets it.

    >>> kernel_label("dma.first_byte"), kernel_label("tensor_engine.clock"), kernel_label("scalar_engine.latency")
    ('DMA: wait for the first byte', 'tensor engine: work at its clock', 'scalar engine: latency of an instruction')
    """
    unit, _, rest = name.partition(".")
    words = _labels().get(f"kernel.{rest}") or _labels().get(rest, rest.replace("_", " "))
    return f"{unit.replace('_', ' ').replace('dma', 'DMA')}: {words}" if rest else unit.replace("_", " ")


def _owner(kind: str, steps: list[str]) -> str:
    """Whose a fact is; "" where it is nobody's or all words are said."""
    facts = load_facts()
    if kind == "chips":
        if steps[0] not in facts.ids("chips"):  # of the user's
            return steps[0]
        return str(facts.meta("chips", steps[0]).get("name") or steps[0]).partition(" (")[0]
    if kind == "prices":
        return next((s for s in steps[:-1] if s in facts.ids("systems")), "")
    if kind not in _OWNED or len(steps) < 2:
        return ""
    named = next((s for s in steps[:-1] if s not in _ALL), "")
    return _families().get(named, named)


__all__ = ["fact_label", "kernel_label"]
