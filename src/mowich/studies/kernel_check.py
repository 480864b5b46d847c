"""What the NKI compiler would refuse in a file of kernels (`mowich kernel check`): by its text alone, and where a
kernel is given arguments by what it does when it runs."""

from __future__ import annotations

import linecache
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mowich.errors import UserError
from mowich.neuroncore.targets import generation_of
from mowich.nki import Kernel
from mowich.nki.check import NKI_RULES, STAGES, Finding, NkiVersion, Ran, check_run, check_text, code_of, kernels_text
from mowich.shown import Keyed


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelsChecked(Keyed):
    """findings: in the order of files and lines; parsing: what only the parsing front end (NKI 0.6 and before) refuses,
    where no version was named; kernels: names of those that are launched; functions: how many were read; older: kernels
    of the older interface, which is traced as Python: what they do tells of them, not their text; ran: the kernel that
    ran on arguments, None where kernels were tried on drawn shapes.

    Units: none.

    Example:
        >>> import mowich
        >>> mowich.check_kernel("@add").kernels != ()
        True
    """

    SCHEMA = "mowich/kernel-check@1"
    KEYS = "file nki kernels older_kernels=older functions rules found run=ran findings parsing_front_end=parsing"

    file: str
    version: NkiVersion | None
    findings: tuple[Finding, ...]
    kernels: tuple[str, ...]
    older: tuple[str, ...]
    functions: int
    parsing: tuple[Finding, ...] = ()
    ran: Ran | None = None

    @property
    def nki(self) -> str | None:
        """The version of NKI that it was checked against."""
        return None if self.version is None else ".".join(map(str, self.version))

    @property
    def rules(self) -> int:
        """How many there are."""
        return len(NKI_RULES)

    @property
    def found(self) -> dict[str, int]:
        """Findings of each stage."""
        count = Counter(NKI_RULES[f.rule].stage for f in self.findings)
        return {stage: count[stage] for stage in STAGES}

    def lines(self) -> list[str]:
        """What a terminal shows: a line for each finding, or one that says that there is none; and a note where only
        the parsing front end refuses something."""
        out = [f.text() for f in self.findings] or [self._nothing()]
        if self.parsing:
            rules = ", ".join(dict.fromkeys(f.rule for f in self.parsing))
            count = len(self.parsing)
            out.append(
                f"note: NKI 0.6 and before, which parse a kernel, refuse {count} place{'s' * (count != 1)} of it"
                f" ({rules}): --nki 0.6 lists them"
            )
        return out

    def _nothing(self) -> str:
        count = len(self.kernels)
        read = f"{count} kernel{'s' * (count != 1)}, {self.functions} function{'s' * (self.functions != 1)} read"
        older = f"; {len(self.older)} of neuronxcc.nki" if self.older else ""
        ran = f"; ran in {self.ran.instructions:,} instructions" if self.ran is not None else ""
        orders = f", {self.ran.orders} orders of its cores" if self.ran is not None and self.ran.orders > 1 else ""
        more = "" if self.ran is not None else f"; its values: mowich kernel run {self.file}"
        return f"{self.file}: nothing found ({read}{older}{ran}{orders}){more}"


def check_kernels(
    file: Path,
    *,
    kernel: str | None = None,
    version: NkiVersion | None = None,
    generation: int | None = None,
    run: Callable[[], Ran] | None = None,
    text: str | None = None,
) -> KernelsChecked:
    """Check the kernels of a file. kernel: only this one; version: of NKI, None: what every compiler refuses;
    generation: of the NeuronCore that kernels are tried on where `run` does not run one on arguments; text: what the
    file holds, where it is at no place on disk. Raises UserError for a file that is not Python, or without kernels."""
    looked = check_text(
        kernels_text(file) if text is None else text,
        str(file),
        kernel=kernel,
        version=version,
        generation=generation,
        tries=run is None,
    )
    if not looked.entries:
        raise UserError(
            "no kernel found: no function is under nki.jit, and none issues instructions of nki.isa", where=str(file)
        )
    ran = run() if run is not None else None
    return KernelsChecked(
        file=str(file),
        version=version,
        findings=tuple(_each_once([*looked.findings, *(ran.findings if ran is not None else ())])),
        parsing=looked.parsing,
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
    code = code_of(k)
    if code is None:
        if run is None:
            raise UserError(
                "a kernel that is not a function has no source text to read", given=kernel, fix="give arrays too"
            )
        return _without_text(Path("<kernel>"), type(k.func).__name__, version, k.older, run())
    file, text = Path(code.co_filename), None
    if not file.is_file():
        text = "".join(linecache.getlines(code.co_filename))
        if not text:  # made of a text that nobody kept
            if run is None:
                raise UserError(
                    f"the text of '{code.co_name}' is not at hand",
                    where=code.co_filename,
                    fix="give arrays: what it does on them is checked; or write it to a file",
                )
            return _without_text(file, code.co_name, version, k.older, run())
    return check_kernels(file, kernel=code.co_name, version=version, generation=generation, run=run, text=text)


def _without_text(file: Path, name: str, version: NkiVersion | None, older: bool, ran: Ran) -> KernelsChecked:
    """A kernel whose text is not at hand: what its run shows."""
    names = (name,)
    found = tuple(_each_once(list(ran.findings)))
    return KernelsChecked(
        file=str(file), version=version, findings=found, kernels=names, older=names * older, functions=0, ran=ran
    )


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
