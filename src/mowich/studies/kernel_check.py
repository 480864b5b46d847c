"""What the NKI compiler would refuse in a file of kernels (`mowich kernel check`): by its text alone, and where a
kernel is given arguments by what it does when it runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mowich.errors import UserError
from mowich.neuroncore.targets import generation_of
from mowich.nki import Kernel
from mowich.nki.check import NKI_RULES, STAGES, Finding, NkiVersion, Ran, check_file, check_run


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelsChecked:
    """findings: in the order of files and lines; kernels: names of those that are launched; functions: how many were
    read; older: kernels of the older interface, which is traced as Python: only a run tells of them; ran: the kernel
    that ran on arguments, None where the text alone was checked.

    Units: none.

    Example:
        >>> import mowich
        >>> mowich.check_kernel("@add").kernels != ()
        True
    """

    file: str
    version: NkiVersion | None
    findings: tuple[Finding, ...]
    kernels: tuple[str, ...]
    older: tuple[str, ...]
    functions: int
    ran: Ran | None = None

    def to_dict(self) -> dict[str, object]:
        """mowich/kernel-check@1"""
        return {
            "schema": "mowich/kernel-check@1",
            "file": self.file,
            "nki": None if self.version is None else ".".join(map(str, self.version)),
            "kernels": list(self.kernels),
            "older_kernels": list(self.older),
            "functions": self.functions,
            "rules": len(NKI_RULES),
            "found": self.by_stage(),
            "run": None
            if self.ran is None
            else {"instructions": self.ran.instructions, "orders": self.ran.orders, "finished": self.ran.finished},
            "findings": [f.to_dict() for f in self.findings],
        }

    def by_stage(self) -> dict[str, int]:
        """Findings of each stage."""
        count = Counter(NKI_RULES[f.rule].stage for f in self.findings)
        return {stage: count[stage] for stage in STAGES}

    def lines(self) -> list[str]:
        """What a terminal shows: a line for each finding, or one that says that there is none."""
        if self.findings:
            return [f.text() for f in self.findings]
        count = len(self.kernels)
        read = f"{count} kernel{'s' * (count != 1)}, {self.functions} function{'s' * (self.functions != 1)} read"
        older = f"; {len(self.older)} of neuronxcc.nki, which only a run checks" if self.older else ""
        ran = f"; ran in {self.ran.instructions:,} instructions" if self.ran is not None else ""
        orders = f", {self.ran.orders} orders of its cores" if self.ran is not None and self.ran.orders > 1 else ""
        return [f"{self.file}: nothing found ({read}{older}{ran}{orders})"]


def check_kernels(
    file: Path, *, kernel: str | None = None, version: NkiVersion | None = None, run: Callable[[], Ran] | None = None
) -> KernelsChecked:
    """Check the kernels of a file. kernel: only this one; version: of NKI, None: the newest that parses; run: runs it
    on arguments. Raises UserError for a file that is not Python, or without kernels."""
    looked = check_file(file, kernel=kernel, version=version)
    if not looked.entries:
        raise UserError(
            "no kernel: no function under nki.jit, and none that issues instructions of nki.isa", where=str(file)
        )
    ran = run() if run is not None else None
    return KernelsChecked(
        file=str(file),
        version=version,
        findings=tuple(_each_once([*looked.findings, *(ran.findings if ran is not None else ())])),
        ran=ran,
        kernels=tuple(c.name for c in looked.kernels),
        older=tuple(c.name for c in looked.entries if c.older),
        functions=looked.functions,
    )


def study_of(
    kernel: Callable[..., object],
    args: Sequence[object],
    kwargs: Mapping[str, object],
    *,
    target: str | None = None,
    lnc: int | None = None,
    version: NkiVersion | None = None,
) -> KernelsChecked:
    """Check a function under `nki.jit`, and run it where arguments are given. lnc: cores of the logical core."""
    k = kernel if isinstance(kernel, Kernel) else Kernel(kernel)
    generation = generation_of(target) if target else k.generation()
    if lnc is not None and lnc > 1 and k.grid is None:
        k = k[lnc]
    run = partial(check_run, k, args, kwargs, generation=generation) if args or kwargs else None
    return check_kernels(Path(k.func.__code__.co_filename), kernel=k.func.__name__, version=version, run=run)


def _each_once(found: list[Finding]) -> list[Finding]:
    """In the order of the lines; a rule once for each line, in the words of the text before those of the run."""
    first: dict[tuple[str, int, str], Finding] = {}
    many: set[Finding] = set()
    for f in found:
        key = (f.file, f.line, f.rule)
        if NKI_RULES[f.rule].stage in ("launch", "run"):
            first.setdefault(key, f)
        else:
            many.add(f)
    return sorted([*many, *first.values()])
