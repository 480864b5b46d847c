"""What the NKI compiler would refuse, without a compiler: rules over the text of a kernel, and over what it does when
it runs.

A rule is one small function under its `Rule`: `syntax` holds the subset of Python that the parsing front end takes,
`words` names, arguments and launches, `running` what only a run shows, `orders` races. `docs/kernel-check.md` is made
of the table `RULES`.
"""

from mowich.nki.check.rule import RULES, STAGES, Finding, Rule, Version
from mowich.nki.check.running import Ran, check_run
from mowich.nki.check.static import Looked, check_file, check_text

__all__ = [
    "RULES",
    "STAGES",
    "Finding",
    "Looked",
    "Ran",
    "Rule",
    "Version",
    "check_file",
    "check_run",
    "check_text",
]
