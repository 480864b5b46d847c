"""The rules over the text of a file: nothing of it is run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mowich.errors import UserError
from mowich.nki.check.program import Code, classes_of, kernel_entries, parse_module, reached_code
from mowich.nki.check.rule import Finding, KernelRule, NkiVersion
from mowich.nki.check.syntax import CLASS_BASE, SYNTAX, class_base, compiled_nodes
from mowich.nki.check.words import WORD_RULES


@dataclass(frozen=True, slots=True)
class Looked:
    """findings: in the order of the files; functions: how many were looked at; entries: where the compiler would
    begin."""

    findings: tuple[Finding, ...]
    functions: int
    entries: tuple[Code, ...]

    @property
    def kernels(self) -> tuple[Code, ...]:
        """Those that are launched from the host."""
        return tuple(c for c in self.entries if c.kernel)


def found(file: str, line: int, rule: KernelRule, what: str) -> Finding:
    """A finding of a rule, with the rule's remedy."""
    return Finding(file, line, rule.id, what, rule.fix)


def check_text(text: str, file: str, *, kernel: str | None = None, version: NkiVersion | None = None) -> Looked:
    """What the compiler would refuse in the kernels of a file, and in the functions that they reach in files at hand.
    kernel: only this one; version: of NKI, None: the newest that parses. Raises UserError for a file that is not Python
    or has no such kernel."""
    start = kernel_entries(parse_module(text, file), kernel)
    return Looked(*_looked(start, version), tuple(start))


def check_file(path: Path, *, kernel: str | None = None, version: NkiVersion | None = None) -> Looked:
    """`check_text` of a file."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot be read: {error}", where=str(path)) from None
    return check_text(text, str(path), kernel=kernel, version=version)


def _looked(start: list[Code], version: NkiVersion | None) -> tuple[tuple[Finding, ...], int]:
    """(findings in the order of the files, functions that were looked at)."""
    # functions of the older interface are traced as Python: it is their run that tells
    codes = reached_code([c for c in start if not c.older])
    rules = [(rule, look) for rule, look in (*SYNTAX, *WORD_RULES) if rule.holds(version)]
    out: set[Finding] = set()
    for code in codes:
        nodes = compiled_nodes(code)
        for rule, look in rules:
            out |= {found(code.module.file, line, rule, what) for line, what in look(code, nodes)}
    if CLASS_BASE.holds(version):
        for module, node in classes_of(codes):
            out |= {found(module.file, line, CLASS_BASE, what) for line, what in class_base(node)}
    return tuple(sorted(out)), len(codes)
