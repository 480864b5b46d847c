"""Writes docs/claims.md and tests/golden/claims.json (the verdicts, which a test holds). Run by `make accuracy`."""

from __future__ import annotations

import json
from pathlib import Path

from mowich.facts import load
from mowich.report.claims import page
from mowich.studies.claims import claims, memory_table

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    facts = load()
    found = claims(facts)
    (ROOT / "docs" / "claims.md").write_text(page(found, memory_table(facts)), encoding="utf-8")
    verdicts = {c.id: c.verdict for c in found}
    (ROOT / "tests" / "golden" / "claims.json").write_text(json.dumps(verdicts, indent=1) + "\n", encoding="utf-8")
    print(f"wrote docs/claims.md: {len(found)} claims")


if __name__ == "__main__":
    main()
