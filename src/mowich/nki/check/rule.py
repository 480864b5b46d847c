"""What a rule of `kernel check` is, and what it finds."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from mowich.nki.check.program import Code
from mowich.shown import Keyed

NkiVersion = tuple[int, int]
"""A version of NKI: (0, 6) is 0.6."""

PARSER: NkiVersion = (0, 6)
"""The newest version whose default front end parses the kernel's source; later ones trace it."""
TRACER: NkiVersion = (0, 7)
"""The newest version whose rules were read."""

KLR = "leanprover/KLR"
GUIDE = "NKI language guide"
MIGRATION = "NKI migration guide"


STAGES = ("syntax", "words", "launch", "run")
"""What a rule looks at: the Python of a kernel, its names and arguments, its launch, what only a run shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelRule:
    """id: how findings name it; stage: one of `STAGES`; what: what is refused, in general;
    fix: what to write instead; source: who says so; since, until: versions of NKI that have it (until None: the newest
    too); only_named: looked for where the user names a version, since public kernels of earlier ones break it; example:
    the shortest text that breaks it."""

    id: str
    stage: str
    what: str
    fix: str
    source: str
    since: NkiVersion = (0, 2)
    until: NkiVersion | None = None
    only_named: bool = False
    example: str = ""

    def holds(self, version: NkiVersion | None) -> bool:
        """Whether a version of NKI has this rule. None: whether the newest that parses and the newest that traces both
        have it, and public kernels of earlier ones keep it."""
        if version is None:
            return not self.only_named and self.holds(PARSER) and self.holds(TRACER)
        return self.since <= version and (self.until is None or version <= self.until)

    def is_parsing(self, version: NkiVersion | None) -> bool:
        """Where no version is named: whether only compilers that parse have it."""
        return version is None and not self.only_named and self.holds(PARSER) and not self.holds(TRACER)

    @property
    def versions(self) -> str:
        """The versions that have it, for people: "0.2 to 0.6", "from 0.4"."""
        first = ".".join(map(str, self.since))
        return f"from {first}" if self.until is None else f"{first} to {'.'.join(map(str, self.until))}"


@dataclass(frozen=True, slots=True, order=True)
class Finding(Keyed):
    """One mistake. file, line: where; rule: id; what: what stands there; fix: what is allowed or how to mend it."""

    file: str
    line: int
    rule: str
    what: str
    fix: str

    def text(self) -> str:
        """The finding in one line."""
        return f"{self.file}:{self.line}: {self.what}; instead: {self.fix} [{self.rule}]"


FoundAt = tuple[int, str]
"""(line, what stands there) of a mistake in a file."""

Look = Callable[[Code, list[ast.AST]], Iterator[FoundAt]]
"""Looks for a mistake: (one compiled function, the nodes of its tree that are compiled) -> where it stands."""

NKI_RULES: dict[str, KernelRule] = {}
"""All rules, by id, in the order in which they are declared."""


def declare(rule: KernelRule) -> KernelRule:
    """Enter a rule in the table."""
    assert rule.id not in NKI_RULES, rule.id
    NKI_RULES[rule.id] = rule
    return rule


def known_as(
    table: list[tuple[KernelRule, Look]], id: str, what: str, fix: str, source: str, example: str, **more: Any
) -> Callable[[Look], Look]:
    """A decorator that enters a rule and the function that looks for it. more: the other fields of the rule."""
    rule = declare(KernelRule(id=id, what=what, fix=fix, source=source, example=example, **more))

    def enter(look: Look) -> Look:
        table.append((rule, look))
        return look

    return enter
