"""kernel advise: the edits of a kernel that gain most."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mowich.requests.common import CSV, JSON, OUT, PLAIN, QUIET, form_of
from mowich.requests.fields import CALLED, TYPED, flag, whole
from mowich.requests.kernels import (
    CHECKED_FILE,
    FIT_TOLERANCE,
    GUEST_MEMORY,
    GUEST_TIME,
    KERNEL,
    LNC,
    NKI_VERSION,
    OF_TARGET,
    RANDOM,
    RUN_ON,
    KernelRequest,
)
from mowich.requests.schema import QuestionReader, Schema

_EDGES = TYPED | CALLED
ADVISED_FILE = replace(CHECKED_FILE, help="A file with kernels.", edges=_EDGES)
ADVISED_ON = replace(
    RUN_ON,
    help="NAME=float32[128,512] (random), NAME=FILE.npy, NAME=literal; default: what inputs() of the file gives.",
    edges=_EDGES,
)
EDITS_OFFERED = whole("top", "Edits to offer.", high=100, metavar="N", default=3, shown="3", edges=_EDGES)
SHOWS_ALL = flag(
    "all", "Show all edits that were looked at, and why they are not offered.", keyword="shows_all", edges=_EDGES
)
RUNS_EDITS = flag(
    "run",
    "Apply what is mechanical to a copy of the file, run it, and compare its outputs.",
    negative="--no-run",
    default=True,
    keyword="runs",
    edges=_EDGES,
)
EDIT_TOLERANCE = replace(
    FIT_TOLERANCE,
    help=(
        "Most that an output of an edited kernel may differ from the kernel as it is, as a share of the element and the"
        " output's root mean square (default: by the narrowest format); from 0.02 on bf16 is offered."
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdviseRequest(KernelRequest):
    """A kernel to advise on. nki: its version, None: by the names it uses; kernel: None: the only one of the file; top:
    edits to offer; shows_all: whether the others are shown; runs: whether edits are run; tolerance: of their outputs,
    None: by the formats; seed: of random arrays; timeout_s, memory_GiB: limits, None: none."""

    nki: tuple[int, int] | None
    top: int
    shows_all: bool
    runs: bool
    tolerance: float | None
    seed: int
    timeout_s: float | None
    memory_GiB: float | None


def _advise(reader: QuestionReader) -> AdviseRequest:
    file = reader.get(ADVISED_FILE)
    if file is not None and not file.is_file():
        reader.problems.add("no such file", where=str(file))
    form = form_of(reader)
    reader.stop()
    return reader.fill(AdviseRequest, form=form)


ADVISE = Schema(
    name="kernel advise",
    fields=(
        *(
            ADVISED_FILE,
            ADVISED_ON,
            replace(KERNEL, help="The kernel (default: the only one of the file).", edges=_EDGES),
            replace(OF_TARGET, edges=_EDGES),
            replace(LNC, edges=_EDGES),
            replace(NKI_VERSION, keyword="", edges=_EDGES),
        ),
        *(
            EDITS_OFFERED,
            SHOWS_ALL,
            RUNS_EDITS,
            EDIT_TOLERANCE,
            replace(RANDOM, edges=_EDGES),
            GUEST_TIME,
            GUEST_MEMORY,
        ),
        *(replace(JSON, help="One JSON object on stdout (mowich/kernel-advise@1)."), CSV, PLAIN, QUIET, OUT),
    ),
    make=_advise,
    help="Advise on a kernel: the edits that gain most, with predicted times, run where they are mechanical.",
    example='mowich kernel advise @softmax -k softmax "x=float32[256,1000]" --target trn2',
)
