"""What the NKI compiler would refuse in a file of kernels (`mowich kernel check`): by its text alone, and where a
kernel is given arguments by what it does when it runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mowich.errors import UserError
from mowich.nki.check import Finding, Version, check_file


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """findings: in the order of files and lines; kernels: names of those that are launched; functions: how many were
    read; older: kernels of the older interface, which is traced as Python: only a run tells of them."""

    file: str
    version: Version | None
    findings: tuple[Finding, ...]
    kernels: tuple[str, ...]
    older: tuple[str, ...]
    functions: int

    def to_dict(self) -> dict[str, object]:
        """mowich/kernel-check@1"""
        return {
            "schema": "mowich/kernel-check@1",
            "file": self.file,
            "nki": None if self.version is None else ".".join(map(str, self.version)),
            "kernels": list(self.kernels),
            "older_kernels": list(self.older),
            "functions": self.functions,
            "findings": [f.to_dict() for f in self.findings],
        }

    def lines(self) -> list[str]:
        """What a terminal shows: a line for each finding, or one that says that there is none."""
        if self.findings:
            return [f.text() for f in self.findings]
        count = len(self.kernels)
        read = f"{count} kernel{'s' * (count != 1)}, {self.functions} function{'s' * (self.functions != 1)} read"
        older = f"; {len(self.older)} of neuronxcc.nki, which only a run checks" if self.older else ""
        return [f"{self.file}: nothing found ({read}{older})"]


def study(file: Path, *, kernel: str | None = None, version: Version | None = None) -> Checked:
    """Check the kernels of a file. kernel: only this one; version: of NKI, None: the newest that parses. Raises
    UserError for a file that is not Python, or without kernels."""
    looked = check_file(file, kernel=kernel, version=version)
    if not looked.entries:
        raise UserError(
            "no kernel: no function under nki.jit, and none that issues instructions of nki.isa", where=str(file)
        )
    return Checked(
        file=str(file),
        version=version,
        findings=looked.findings,
        kernels=tuple(c.name for c in looked.kernels),
        older=tuple(c.name for c in looked.entries if c.older),
        functions=looked.functions,
    )
