"""Writes docs/claims.md, which tests/unit/test_claims.py compares with what the facts give. Run by `make accuracy`."""

from __future__ import annotations

from pathlib import Path

from mowich.facts import load
from mowich.report.claims import page
from mowich.studies.claims import claims, memory_table

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    facts = load()
    found = claims(facts)
    (ROOT / "docs" / "claims.md").write_text(page(found, memory_table(facts)), encoding="utf-8")
    print(f"wrote docs/claims.md: {len(found)} claims")


if __name__ == "__main__":
    main()
