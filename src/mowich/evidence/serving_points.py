"""Measured points of serving, for pictures: what a user saw and what a chip gave, of the table that ships."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache

from mowich.errors import UserError
from mowich.evidence.scores import TRAINIUM
from mowich.evidence.serving_rows import find_model
from mowich.facts import load_facts
from mowich.facts.load import shipped_folder
from mowich.software.vendors import chip_of

Dot = tuple[float, float, str]
"""(tokens per second of a user, tokens per second of a chip, its lengths, batch and source)."""


@cache
def _rows() -> tuple[Mapping[str, str], ...]:
    with (shipped_folder() / TRAINIUM).open(encoding="utf-8", newline="") as file:
        return tuple(row for row in csv.DictReader(file) if row["tpot_ms"] and row["output_tok_s_per_chip"])


@cache
def _name(model: str) -> str:
    try:
        return find_model(model).name
    except UserError:
        return ""


@cache
def _chip(system_id: str) -> str | None:
    """The chip of a system that ships."""
    facts = load_facts()
    return chip_of(facts, system_id) if system_id in facts.ids("systems") else None


def measured_points(model: str, system_id: str) -> tuple[Dot, ...]:
    """Every measured point of a model on the chip of a system; none where nothing was published or the system does not
    ship. model: the name that answers have."""
    chip = _chip(system_id)
    if chip is None:
        return ()
    return tuple(
        (
            1e3 / float(row["tpot_ms"]),
            float(row["output_tok_s_per_chip"]),
            f"measured: {row['isl']} in, {row['osl']} out, batch {row['batch']}, {row['source']}",
        )
        for row in _rows()
        if row["chip"] == chip and _name(row["model"]) == model
    )
