"""`kernel check` over checkouts of public kernels that compile: no rule may find anything in them.

    MOWICH_PUBLIC_KERNELS=DIR[:DIR...] python tools/check_public.py [DIR ...]

Each folder is a checkout (aws-neuron/nki-library, aws-neuron/nki-samples, aws-neuron/aws-neuron-sdk ...), or holds some. Left out: tests,
and the files that `NOT_KNOWN` names. Prints what is found, and how many kernels were checked; ends with 5 where something was found.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mowich.errors import UserError
from mowich.nki.check import Finding, check_file

NOT_KNOWN = {
    "probe_mxfp8_vals.py": "a probe of the instruction's names: quantize_mx has no dst_data in any public reference",
    "test_minimal_allreduce.py": "an experiment that asks whether a collective on an argument compiles",
    "layout-violation.py": "AWS's example of a layout that is refused",
}
"""Files whose kernels are not known to compile, and why."""


@dataclass
class Counted:
    """kernels: under nki.jit, of the newer interface; older: of neuronxcc.nki, whose text has no rules: they are tried; functions: that were read."""

    kernels: int = 0
    older: int = 0
    files: int = 0


def files(folders: Sequence[Path]) -> Iterator[Path]:
    """Python files of checkouts, without their tests."""
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            inside = path.relative_to(folder).parts[:-1]
            if not {"test", "tests", ".git"} & set(inside) and path.name not in NOT_KNOWN:
                yield path


def check(folders: Sequence[Path]) -> tuple[list[Finding], Counted]:
    """Everything that is found in checkouts, each once, and how much was read."""
    found: dict[Finding, None] = {}
    counted = Counted()
    for path in files(folders):
        try:
            looked = check_file(path)
        except UserError:
            continue  # not Python of this version
        counted.files += bool(looked.entries)
        counted.kernels += sum(not code.older for code in looked.kernels)
        counted.older += sum(code.older for code in looked.kernels)
        found |= dict.fromkeys((*looked.findings, *looked.parsing))
    return list(found), counted


def main(args: Sequence[str]) -> int:
    named = args or [d for d in os.environ.get("MOWICH_PUBLIC_KERNELS", "").split(os.pathsep) if d]
    if not named:
        print("name checkouts: arguments, or MOWICH_PUBLIC_KERNELS", file=sys.stderr)
        return 2
    found, counted = check([Path(d) for d in named])
    for finding in found:
        print(finding.text())
    print(
        f"{counted.kernels} kernels of nki and {counted.older} of neuronxcc.nki in {counted.files} files checked, {len(found)} findings"
    )
    return 5 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
