"""Numbers with sources; no formulas. `load` gives `Facts`; every other layer reads hardware numbers through it."""

from mowich.facts.load import Facts, PackedFacts, Watched
from mowich.facts.overlay import load
from mowich.facts.schema import Fact

__all__ = ["Fact", "Facts", "PackedFacts", "Watched", "load"]
