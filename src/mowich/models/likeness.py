"""Decoders of transformers that are not read by their own structure: what they may be read as, or why not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from mowich.files import shipped_yaml


@dataclass(frozen=True, slots=True)
class Likeness:
    """like: the architecture that a model_type may be read as; why: instead, why it cannot be."""

    like: str
    why: str = ""


@cache
def others() -> Mapping[str, Likeness]:
    """Every model_type of a text decoder in transformers that has no row of its own (models/likeness.yaml)."""
    data = shipped_yaml(Path(str(resources.files("mowich.models"))) / "likeness.yaml")
    assert isinstance(data, dict)
    out = {name: Likeness(str(like)) for like, names in data["like"].items() for name in names}
    return out | {name: Likeness("", str(why)) for why, names in data["refused"].items() for name in names}


def looks_like(model_type: str) -> Likeness:
    """What a model_type without a row of its own may be read as: as listed, else as a Llama."""
    return others().get(model_type, Likeness("llama"))
