"""Facts for tests that need a handful of numbers and no files."""

from __future__ import annotations

from dataclasses import dataclass, field

from mowich.facts import Fact


@dataclass
class FakeFacts:
    """The part of `Facts` that economics reads."""

    facts: dict[str, Fact] = field(default_factory=dict)

    def get(self, path: str) -> Fact | None:
        return self.facts.get(path)

    def fact(self, path: str) -> Fact:
        return self.facts[path]

    def number(self, path: str) -> float:
        return float(self.facts[path].value)  # type: ignore[arg-type]

    def meta(self, kind: str, name: str) -> dict[str, str]:
        return {"chip": f"{name}-chip", "vendor": "AWS"}


def fact(
    path: str,
    value: float | str | None,
    unit: str = "USD/chip/s",
    low: float | None = None,
    high: float | None = None,
    grade: str = "A",
) -> Fact:
    return Fact(
        path=path,
        value=value,
        unit=unit,
        low=low,
        high=high,
        grade=grade,
        source="s",
        title="t",
        address="",
        locator="",
        date="2026-10-08",
        reason=None if value is not None else "not published",
        formula=None,
        note=None,
        shown=str(value),
    )
