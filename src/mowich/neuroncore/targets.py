"""Names of the chips whose NeuronCore runs a kernel, and the one that runs where nobody names one.

Every way to run or time a kernel (Python, command line, web page, both interfaces) takes the default from here: what
the user says comes first, then what the kernel says (`platform_target=`), then the environment
(`NEURON_PLATFORM_TARGET_OVERRIDE`, `NKI_NC_VERSION`), then this.
"""

from __future__ import annotations

from mowich.errors import unknown

DEFAULT_TARGET = "trn3"
"""The chip of a kernel for which nobody names one."""
TARGETS = {
    "trn1": 2,
    "inf2": 2,
    "gen2": 2,
    "v2": 2,
    "trn2": 3,
    "gen3": 3,
    "v3": 3,
    "trn3": 4,
    "gen4": 4,
    "v4": 4,
    "trn2-server": 3,
    "trn3-gen1": 4,
    "trn3-gen2": 4,
}
"""Names of targets -> generation of the NeuronCore."""
TARGET_HELP = f"trn1, trn2 or trn3 (else the kernel's own, or {DEFAULT_TARGET})."
"""What an option for a target says of itself."""


def generation_of(target: str) -> int:
    """ "trn3", "gen4", "v4" -> 4. Raises UserError for a name that is none of the targets.

    >>> generation_of(DEFAULT_TARGET)
    4
    """
    name = target.strip().lower().split(":")[0]
    if name not in TARGETS:
        raise unknown("target", target, TARGETS)
    return TARGETS[name]
