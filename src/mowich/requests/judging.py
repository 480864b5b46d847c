"""kernel judge: candidates of a kernel beside one another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mowich.errors import UserError
from mowich.neuroncore.targets import DEFAULT_TARGET
from mowich.requests.common import CSV, JSON, OUT, PLAIN, QUIET, SEED, Request, form_of
from mowich.requests.debugging import ReferenceFile, read_reference_file
from mowich.requests.fields import CALLED, TYPED, Field, flag, path, read_quantity, read_texts, texts, whole
from mowich.requests.kernels import FIT_TOLERANCE, GUEST_MEMORY, GUEST_TIME, KERNEL, LNC, NKI_VERSION, OF_TARGET
from mowich.requests.schema import QuestionReader, Schema

_EDGES = TYPED | CALLED


CANDIDATES = replace(
    texts(
        "candidates",
        'Files with a kernel each, folders of them, patterns as "tries/*.py"; - reads JSON lines with name and text.',
        metavar="CANDIDATES...",
        is_argument=True,
        needs=True,
        edges=_EDGES,
    ),
    annotation="Sequence[str | Path]",
)
JUDGE_REFERENCE: Field[ReferenceFile] = Field(
    name="reference",
    parse=read_reference_file,
    kind="word",
    help=(
        "A file with reference(), of the kernel's arguments; FILE.py:NAME names another function or a kernel; task:NAME"
        " is a task that ships (`mowich kernel tasks`)."
    ),
    metavar="FILE.py",
    needs=True,
    edges=_EDGES,
    annotation="str | Path",
)
JUDGED_ON = replace(OF_TARGET, name="on", default=DEFAULT_TARGET, shown=DEFAULT_TARGET, edges=_EDGES)
SHAPES = texts(
    "shapes",
    'Arguments, "x=float32[256,1000] scale=2.0", or sizes that inputs() of the reference\'s file takes, "M=4096 N=512";'
    " may be given more than once, the last is timed (default: what inputs() gives).",
    metavar="ARGS",
    edges=_EDGES,
)
SEEDS = whole(
    "seeds", "Draws of each set of arguments, 1 to 8.", high=8, metavar="N", default=2, shown="2", edges=_EDGES
)


def read_measured(value: object) -> dict[str, float]:
    """Candidate -> seconds, of texts or of a mapping.

    >>> read_measured(["tries/a.py=12.3us"]), read_measured({"tries/a.py": 12.3e-6})
    ({'tries/a.py': 1.23e-05}, {'tries/a.py': 1.23e-05})
    """
    pairs: list[tuple[object, object]] = []
    if isinstance(value, Mapping):
        pairs += value.items()
    else:
        for text in read_texts(value):
            name, _, time = text.rpartition("=")
            if not name:
                raise UserError("not a measured time", given=text, allowed="NAME=12.3us")
            pairs.append((name, time))
    out: dict[str, float] = {}
    for key, given in pairs:
        if str(key) in out:
            raise UserError("is measured twice", given=key)
        out[str(key)] = read_quantity(given, "s", 0.0, 1e6, above=True, example="12.3us")
    return out


MEASURED: Field[dict[str, float]] = Field(
    name="measured",
    parse=read_measured,
    kind="texts",
    help="A time that a device gave, NAME=12.3us, of the last shape; may be given more than once. It stands for what is"
    " predicted, and moves what it shares with the others.",
    metavar="NAME=TIME",
    default={},
    edges=_EDGES,
    annotation="Mapping[str, float | str]",
)
MEASURED_AT_MOST = whole(
    "measure_budget",
    "Candidates that may be measured on a device, with those that were.",
    high=1000,
    metavar="N",
    shown="a fifth of those that are right, at least 2",
    edges=_EDGES,
)
CANDIDATES_AT_ONCE = whole(
    "processes", "Candidates that run at a time.", high=1024, metavar="N", default=1, shown="1", edges=_EDGES
)
CACHE = path("cache", "Keep what each candidate gave in this folder, by its content.", metavar="DIR", edges=_EDGES)
_TIME_ALONE = flag("time_alone", "Compute no values: times without a word on whether they are right.", edges=_EDGES)
LINES = flag("lines", "One JSON object a line as each candidate is known, then the whole answer.", edges=TYPED)
_LIMIT = replace(GUEST_TIME, help="Most seconds that a candidate may take.", default=20.0, shown="20", edges=_EDGES)
_ROOM = replace(GUEST_MEMORY, help="Most GiB that a candidate may take.", default=4.0, shown="4", edges=_EDGES)
_DRAWN = replace(SEED, help="Of what is drawn, beside the candidate's text.", edges=_EDGES)


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeRequest(Request):
    """Candidates to judge. shapes: sets of arguments, empty: those of the reference's file; lines: whether each is told
    as soon as it is known."""

    candidates: tuple[str, ...]
    reference: ReferenceFile
    on: str
    kernel: str | None
    shapes: tuple[str, ...]
    seeds: int
    seed: int
    tolerance: float | None
    measured: dict[str, float]
    measure_budget: int | None
    processes: int
    timeout_s: float
    memory_GiB: float
    cache: Path | None
    time_alone: bool
    lines: bool
    lnc: int | None
    nki: tuple[int, int] | None


def _judge(reader: QuestionReader) -> JudgeRequest:
    folder = reader.get(CACHE)
    if folder is not None and folder.exists() and not folder.is_dir():
        reader.add("is a file", CACHE, given=str(folder), allowed="a folder")
    if reader.get(_TIME_ALONE) and reader.has(FIT_TOLERANCE):
        reader.problems.found.append(
            UserError(f"{reader.said(FIT_TOLERANCE)} goes with values", fix=f"leave out {reader.said(_TIME_ALONE)}")
        )
    form = form_of(reader)
    reader.stop()
    return reader.fill(JudgeRequest, form=form)


JUDGE = Schema(
    name="kernel judge",
    fields=(
        *(
            CANDIDATES,
            JUDGE_REFERENCE,
            JUDGED_ON,
            replace(KERNEL, help="The kernel (default: the only one of a file).", edges=_EDGES),
        ),
        *(
            SHAPES,
            SEEDS,
            FIT_TOLERANCE,
            MEASURED,
            MEASURED_AT_MOST,
            _TIME_ALONE,
            replace(LNC, edges=_EDGES),
            replace(NKI_VERSION, keyword="", edges=_EDGES),
        ),
        *(CANDIDATES_AT_ONCE, _LIMIT, _ROOM, CACHE, _DRAWN, LINES),
        *(replace(JSON, help="One JSON object on stdout (mowich/judge@1)."), CSV, PLAIN, QUIET, OUT),
    ),
    make=_judge,
    help="Judge candidates of a kernel: values beside a reference, time, order, what to measure next.",
    example='mowich kernel judge "tries/*.py" --reference ref.py --on trn3 --shapes "x=float32[256,1000]"',
)
