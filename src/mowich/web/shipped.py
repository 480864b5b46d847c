"""The brief that ships: what a visitor sees first. `mowich brief` takes some 15 s; so its answer lies in the package.

`make docs` writes `brief.json` with docs/records/brief.md, of the same answer (tools/brief_page.py), and a test
compares both with a brief that it makes. It holds for the facts that ship and for no others: `is_current` asks by the
hash.
"""

from __future__ import annotations

import json
from pathlib import Path

from mowich.requests.brief import BriefRequest
from mowich.shown import Result

BRIEF_FILE = Path(__file__).with_name("brief.json")
"""As `mowich brief --json` prints it."""


def shipped_brief() -> Result:
    """The brief that ships."""
    found: Result = json.loads(BRIEF_FILE.read_text(encoding="utf-8"))
    return found


def is_current(shipped: Result, asked: BriefRequest) -> bool:
    """Whether it answers this request: the same facts, rivals and models."""
    inputs = shipped["inputs"]
    return bool(
        shipped["facts_hash"] == asked.facts.hash()
        and tuple(inputs["against"]) == asked.against
        and inputs["models"] == [model.name for model in asked.models]
    )
