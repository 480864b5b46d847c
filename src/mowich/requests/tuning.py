"""kernel tune: a kernel with other constants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mowich.errors import UserError
from mowich.requests.common import CSV, JSON, OUT, PLAIN, QUIET, SEED, Request, form_of
from mowich.requests.debugging import ReferenceFile
from mowich.requests.fields import (
    CALLED,
    TYPED,
    Field,
    flag,
    path,
    read_kernels_file,
    read_names,
    read_texts,
    texts,
    whole,
)
from mowich.requests.judging import CANDIDATES_AT_ONCE, JUDGE_REFERENCE, SEEDS, SHAPES
from mowich.requests.kernels import FIT_TOLERANCE, GUEST_MEMORY, GUEST_TIME, KERNEL, LNC, NKI_VERSION, read_target_name
from mowich.requests.schema import QuestionReader, Schema

_EDGES = TYPED | CALLED

_FILE = replace(
    path("file", "A file with kernels.", metavar="FILE.py", is_argument=True, needs=True, edges=_EDGES),
    parse=read_kernels_file,
)


def read_varied(value: object) -> tuple[str, ...]:
    """Constants with their values, as texts or as a mapping.

    >>> read_varied({"TILE": [128, 256]}), read_varied(["TILE=128,256"])
    (('TILE=128,256',), ('TILE=128,256',))
    """
    if isinstance(value, Mapping):
        return tuple(f"{name}={','.join(map(str, values))}" for name, values in value.items())
    return read_texts(value)


VARIED = replace(
    texts(
        "vary",
        "A constant of the file, or an argument of the kernel that has a default, and the values that it takes:"
        " TILE=128,256 or TILE=64..512:x2; may be given more than once.",
        metavar="NAME=VALUES",
        needs=True,
        edges=_EDGES,
    ),
    parse=read_varied,
    annotation="Mapping[str, Sequence[object]] | Sequence[str]",
)


def read_targets(value: object) -> tuple[str, ...]:
    """ "trn2,trn3", each once."""
    names = dict.fromkeys(read_target_name(name) for name in read_names(value))
    if not names:
        raise UserError("no target", given=value, allowed="trn1, trn2, trn3")
    return tuple(names)


TUNED_ON: Field[tuple[str, ...]] = Field(
    name="on",
    parse=read_targets,
    kind="names",
    help="Chips: trn1, trn2, trn3, with commas.",
    metavar="NAMES",
    default=("trn3",),
    shown="trn3",
    edges=_EDGES,
)
MOST_VARIANTS = whole(
    "limit",
    "Most variants to try; of more, half are spread over all, then neighbours of the fastest.",
    high=100_000,
    metavar="N",
    default=1000,
    shown="1000",
    edges=_EDGES,
)
ALL_VALUES = flag(
    "all_values",
    "With --reference: compute the values of all variants, not only of those that could be the answer.",
    edges=_EDGES,
)
_REFERENCE = replace(JUDGE_REFERENCE, needs=False, help=f"{JUDGE_REFERENCE.help} Without it values are not computed.")
_SHAPES = replace(
    SHAPES,
    help='Arguments, "x=float32[256,1000] scale=2.0"; may be given more than once, the last is timed (default: what'
    " inputs() of the reference's file, or of the file, gives).",
)
_LIMIT_S = replace(GUEST_TIME, help="Most seconds that a variant may take.", default=20.0, shown="20", edges=_EDGES)
_ROOM = replace(GUEST_MEMORY, help="Most GiB that a variant may take.", default=4.0, shown="4", edges=_EDGES)
_AT_ONCE = replace(CANDIDATES_AT_ONCE, help="Variants that run at a time.")
_DRAWN = replace(SEED, help="Of what is drawn, beside the variant's text.", edges=_EDGES)


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneRequest(Request):
    """A kernel to tune. vary: values of each constant; on: targets; reference: None: values are not computed; shapes:
    sets of arguments, empty: those of the reference's file or of the file; limit: most variants."""

    file: Path
    vary: tuple[str, ...]
    on: tuple[str, ...]
    kernel: str | None
    reference: ReferenceFile | None
    shapes: tuple[str, ...]
    seeds: int
    seed: int
    tolerance: float | None
    limit: int
    all_values: bool
    processes: int
    timeout_s: float
    memory_GiB: float
    lnc: int | None
    nki: tuple[int, int] | None


def _tune(reader: QuestionReader) -> TuneRequest:
    if not reader.has(JUDGE_REFERENCE):
        for field in (FIT_TOLERANCE, ALL_VALUES):
            if reader.given(field):
                reader.problems.found.append(
                    UserError(f"{reader.said(field)} goes with {reader.said(JUDGE_REFERENCE)}")
                )
    if not reader.get(VARIED):
        reader.add("nothing to vary", VARIED, given="nothing", allowed="TILE=128,256")
    form = form_of(reader)
    reader.stop()
    return reader.fill(TuneRequest, form=form)


TUNE = Schema(
    name="kernel tune",
    fields=(
        *(
            _FILE,
            VARIED,
            TUNED_ON,
            replace(KERNEL, help="The kernel (default: the only one of the file).", edges=_EDGES),
        ),
        *(_SHAPES, _REFERENCE, SEEDS, FIT_TOLERANCE, MOST_VARIANTS, ALL_VALUES),
        *(replace(LNC, edges=_EDGES), replace(NKI_VERSION, keyword="", edges=_EDGES)),
        *(_AT_ONCE, _LIMIT_S, _ROOM, _DRAWN),
        *(replace(JSON, help="One JSON object on stdout (mowich/kernel-tune@1)."), CSV, PLAIN, QUIET),
        replace(OUT, help="Write the rows there: FILE.parquet, or any other name as JSON.", metavar="FILE"),
    ),
    make=_tune,
    help="Tune a kernel: time it with other constants, show the fastest, the front and what was refused.",
    example='mowich kernel tune @rmsnorm --vary BUFFERS=1..4:4 --on trn2,trn3 --shapes "x=float32[1024,2048]"',
)
