"""Writes docs/records/claims.md: each public claim, derived again. Run by `make accuracy`."""

from __future__ import annotations

from pathlib import Path

from pages import write

from mowich.facts import load_facts
from mowich.show.rooms.claims import document
from mowich.studies.memory_claim import memory_table
from mowich.studies.rooms.claims import claims

PAGE = Path(__file__).resolve().parents[1] / "docs" / "records" / "claims.md"


def pages() -> dict[Path, str]:
    """The page and its text."""
    facts = load_facts()
    return {PAGE: document(claims(facts), memory_table(facts))}


if __name__ == "__main__":
    write(pages())
