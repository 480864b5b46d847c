"""The rules over the text of a file, and what its kernels do on shapes that are drawn: the file itself is not run."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mowich.errors import UserError, unknown
from mowich.nki.check.program import (
    Code,
    classes_of,
    kernel_entries,
    may_be_called,
    parse_module,
    reached_code,
    texts_within,
)
from mowich.nki.check.rule import NKI_RULES, Finding, KernelRule, NkiVersion
from mowich.nki.check.running import NO_INSTRUCTION
from mowich.nki.check.syntax import CLASS_BASE, SYNTAX, class_base, compiled_nodes
from mowich.nki.check.trial import tried
from mowich.nki.check.words import WORD_RULES


@dataclass(frozen=True, slots=True)
class Looked:
    """findings: in the order of the files; parsing: what only the parsing front end refuses, where no version was
    named; functions: how many were looked at; entries: where the compiler would begin."""

    findings: tuple[Finding, ...]
    parsing: tuple[Finding, ...]
    functions: int
    entries: tuple[Code, ...]

    @property
    def kernels(self) -> tuple[Code, ...]:
        """Those that are launched from the host."""
        return tuple(c for c in self.entries if c.kernel)


def found(file: str, line: int, rule: KernelRule, what: str) -> Finding:
    """A finding of a rule, with the rule's remedy."""
    return Finding(file, line, rule.id, what, rule.fix)


def check_text(
    text: str,
    file: str,
    *,
    kernel: str | None = None,
    version: NkiVersion | None = None,
    generation: int | None = None,
    tries: bool = True,
) -> Looked:
    """What the compiler would refuse in the kernels of a file and of texts in it, and in the functions that they reach
    in files at hand. kernel: only this one; version: of NKI, None: what every compiler refuses; generation: of the
    NeuronCore that kernels are tried on, None: of the default target; tries: whether they are tried on drawn shapes.
    Raises UserError for a file that is not Python or has no such kernel."""
    module = parse_module(text, file)
    modules = [module, *texts_within(module)]
    if kernel is not None:
        named = [m for m in modules if kernel in m.functions]
        if not named:
            every = {c.name: c for m in modules for c in kernel_entries(m)}
            raise unknown("kernel", kernel, every or module.functions, where=file)
        modules = named[:1]
    start = [code for m in modules for code in kernel_entries(m, kernel)]
    findings, parsing, functions = _looked(start, version, generation, tries)
    return Looked(findings, parsing, functions, tuple(start))


def kernels_text(path: Path) -> str:
    """The text of a file of kernels. Raises UserError where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot be read: {error}", where=str(path)) from None


def check_file(path: Path, *, kernel: str | None = None, version: NkiVersion | None = None) -> Looked:
    """`check_text` of a file."""
    return check_text(kernels_text(path), str(path), kernel=kernel, version=version)


def _looked(
    start: Sequence[Code], version: NkiVersion | None, generation: int | None, tries: bool
) -> tuple[tuple[Finding, ...], tuple[Finding, ...], int]:
    """(findings in the order of the files, those of the parsing front end alone, functions that were looked at)."""
    # functions of the older interface are traced as Python: what they do tells
    newer = reached_code([c for c in start if not c.older])
    rules = [(rule, look) for rule, look in (*SYNTAX, *WORD_RULES) if rule.holds(version) or rule.is_parsing(version)]
    out: set[Finding] = set()
    wrong: set[ast.AST] = set()
    for code in newer:
        nodes = compiled_nodes(code)
        for rule, look in rules:
            made = {found(code.module.file, line, rule, what) for line, what in look(code, nodes)}
            out |= made
            if made and rule.holds(version):
                wrong.add(code.node)
    for module, node in classes_of(newer):
        out |= {found(module.file, line, CLASS_BASE, what) for line, what in class_base(node)}
    functions = len(newer)
    for code in start:
        reached = reached_code([code]) if code.older or (tries and code.kernel) else []
        functions += len(reached) * code.older
        if tries and code.kernel and not any(c.node in wrong for c in reached):
            out |= {f for f in tried(code, reached, generation) if not may_be_called(code) or not _is_of_host(f)}
    told = sorted(f for f in out if NKI_RULES[f.rule].holds(version))
    parsing = sorted(f for f in out if NKI_RULES[f.rule].is_parsing(version))
    return tuple(told), tuple(parsing), functions


def _is_of_host(finding: Finding) -> bool:
    """Whether a finding holds only where a kernel is launched from the host: another one may give it tiles of SBUF,
    and write to what it returns."""
    is_of_hbm = "is in HBM" in finding.what and "an argument" in finding.what
    return finding.rule == "returned-tile" or NO_INSTRUCTION in finding.what or is_of_hbm
