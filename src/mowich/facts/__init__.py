"""Numbers with sources; no formulas. `load_facts` gives `Facts`; every other layer reads hardware numbers through
it."""

from mowich.facts.load import Facts, Watched
from mowich.facts.overlay import load_facts
from mowich.facts.schema import Fact

__all__ = ["Fact", "Facts", "Watched", "load_facts"]
