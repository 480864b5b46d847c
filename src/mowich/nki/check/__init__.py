"""What the NKI compiler would refuse, without a compiler: rules over the text of a kernel, and over what it does when
it runs.

A rule is one small function under its `KernelRule`: `syntax` holds the subset of Python that the parsing front end
takes, `words` names, arguments and launches, `running` what only a run shows, `orders` races.
`docs/records/kernel-check.md` is made of the table `NKI_RULES`.
"""

from mowich.nki.check.program import text_with_kernel
from mowich.nki.check.rule import NKI_RULES, STAGES, Finding, KernelRule, NkiVersion
from mowich.nki.check.running import Ran, check_run, code_of
from mowich.nki.check.static import Looked, check_file, check_text, kernels_text

__all__ = [
    "NKI_RULES",
    "STAGES",
    "Finding",
    "KernelRule",
    "Looked",
    "NkiVersion",
    "Ran",
    "check_file",
    "check_run",
    "check_text",
    "code_of",
    "kernels_text",
    "text_with_kernel",
]
