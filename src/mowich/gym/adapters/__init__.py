"""Mowich in the place of a device, for programs that write kernels: AccelOpt and autocomp, as they are.

Each of the two asks a device through one class. In `adapters_installed()` the module of that class is ours, with the
same name and the same answers, so that nothing of theirs changes. `python -m mowich.gym.adapters SCRIPT` runs a script
of theirs so. Their own files (references, harnesses) run with the rights of who starts them, in a process beside; the
kernels that a model wrote run in the closed processes of the judge.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType

try:
    from mowich.gym.adapters.accelopt import AcceloptKernel, AcceloptProperties
except ModuleNotFoundError as missing:
    if missing.name != "pydantic":
        raise
    raise ImportError(
        f"{__name__} needs the extra [web] (pydantic is not installed): pip install 'mowich[web]'", name=__name__
    ) from None
from mowich.gym.adapters.autocomp import AutocompBackend

__all__ = ["ADAPTED", "AcceloptKernel", "AcceloptProperties", "AutocompBackend", "adapters_installed"]

ADAPTED: Mapping[str, Mapping[str, object]] = {
    "accelopt.kernel_wrapper": {"NKIKernel": AcceloptKernel, "KernelProperties": AcceloptProperties},
    "autocomp.backend.trn.trn_eval": {"TrnEvalBackend": AutocompBackend},
}
"""Module of another program -> names in it that are ours."""


@contextmanager
def adapters_installed() -> Iterator[None]:
    """AccelOpt and autocomp ask Mowich: `from accelopt.kernel_wrapper import NKIKernel` gives ours.

    Modules that took the names before keep theirs: enter it first.

    Units: none.

    Example:
        >>> from mowich.gym.adapters import adapters_installed
        >>> with adapters_installed():
        ...     import sys
        ...     sys.modules["accelopt.kernel_wrapper"].NKIKernel.__name__
        'AcceloptKernel'
    """
    before = {name: sys.modules.get(name) for name in ADAPTED}
    for name, ours in ADAPTED.items():
        module = ModuleType(name)
        vars(module).update(ours)
        sys.modules[name] = module
    try:
        yield
    finally:
        for name, module_before in before.items():
            if module_before is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module_before
