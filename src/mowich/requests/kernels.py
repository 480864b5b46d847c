"""kernel run, check, profile, layer, diff and tables: NKI kernels on a simulated NeuronCore."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mowich.errors import UserError
from mowich.neuroncore.targets import TARGET_HELP, generation_of
from mowich.requests.common import (
    AS,
    CSV,
    JSON,
    MODEL,
    OUT,
    PLAIN,
    QUIET,
    SEED,
    Asked,
    Request,
    asked_model,
    form_of,
    words_of_model,
)
from mowich.requests.debugging import (
    FIRST_DIFFERENCE,
    PRINT,
    STOP,
    WATCH,
    ReferenceFile,
    SourceLine,
    TileName,
    check_debugging,
    check_line,
)
from mowich.requests.fields import (
    TYPED,
    Field,
    count,
    flag,
    names,
    number,
    path,
    quantity,
    read_kernels_file,
    read_word,
    texts,
    whole,
    word,
)
from mowich.requests.schema import QuestionReader, Schema
from mowich.requests.settings import OF_FACTS, asked_of
from mowich.requests.stated import inputs_of
from mowich.units import is_digits

if TYPE_CHECKING:
    from mowich.facts import Facts
    from mowich.models.model import Model

_FILE = replace(
    path("file", "A script, or a file with kernels.", metavar="FILE.py", is_argument=True, needs=True, edges=TYPED),
    parse=read_kernels_file,
)
"""A file, or @NAME: one that ships (`mowich example`)."""
_ARGUMENTS = texts(
    "arguments",
    "Of the script (after --), or with -k: NAME=float32[128,512] (random), NAME=FILE.npy, NAME=literal.",
    metavar="[ARGS]...",
    is_argument=True,
    edges=TYPED,
)
KERNEL = word("kernel", "Run this kernel of the file.", short="-k", metavar="NAME", edges=TYPED)


def read_target_name(value: object) -> str:
    """ "trn3", as a kernel's target."""
    name = read_word(value)
    generation_of(name)
    return name


OF_TARGET = replace(word("target", TARGET_HELP, metavar="NAME", edges=TYPED), parse=read_target_name)
LNC = whole(
    "lnc",
    "Cores of a logical core, 1 or 2: of launches that name no grid; one that names another is refused.",
    high=2,
    allowed="1 or 2",
    metavar="N",
    edges=TYPED,
)
STRICT = flag(
    "strict",
    "With -k: a read of uninitialised bytes is an error, and so are infinities and NaN in an output from finite"
    " arguments.",
    edges=TYPED,
)
FIT_TOLERANCE: Field[float] = number(
    "tolerance",
    "Most that an output may differ from reference(), as a share of the element and the output's root mean square"
    " (default: by the narrowest format).",
    low=0.0,
    metavar="X",
)
RANDOM = replace(SEED, help="Of the random arrays of -k.", edges=TYPED)
SAVED = replace(OUT, help="With -k: save what the kernel returned.", metavar="FILE.npz")
RUN_JSON = replace(JSON, help="With -k: one JSON object on stdout.")
RUN_CSV = replace(CSV, help="With -k: a table on stdout.")
GUEST_TIME: Field[float] = number(
    "timeout",
    "Most seconds that it may take, in a process of its own.",
    low=0.0,
    above=True,
    high=1e7,
    metavar="S",
    keyword="timeout_s",
    edges=TYPED,
)
GUEST_MEMORY: Field[float] = number(
    "memory",
    "Most GiB that it may take beside Mowich, in a process of its own.",
    low=0.0,
    above=True,
    high=1e6,
    metavar="GIB",
    keyword="memory_GiB",
    edges=TYPED,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelRequest(Request):
    """A kernel of a file, or a script. kernel: None: the file is run as a script; lnc: cores of the logical core."""

    file: Path
    arguments: tuple[str, ...]
    kernel: str | None
    target: str | None
    lnc: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest(KernelRequest):
    """A kernel to run. version: of NKI, None: by the names it uses; strict: a read of uninitialised bytes is an error,
    and so are infinities and NaN that it makes; tolerance: of a difference from the reference, None: by the formats;
    seed: of random arrays; timeout_s, memory_GiB: limits, None: none; saved: the file of the arrays that it returned;
    stop: the line to stop at, tiles, watch: what to show of values, first_difference: what to compare with, None or
    empty: not asked."""

    version: tuple[int, int] | None
    strict: bool
    tolerance: float | None
    seed: int
    timeout_s: float | None
    memory_GiB: float | None
    saved: Path | None
    stop: SourceLine | None
    tiles: tuple[TileName, ...]
    watch: TileName | None
    first_difference: ReferenceFile | None

    @property
    def is_debugging(self) -> bool:
        """Whether something is asked of the run beside its outputs."""
        return bool(self.stop or self.tiles or self.watch or self.first_difference)


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelCheckRequest(KernelRequest):
    """A file with kernels to check. version: of NKI, None: the newest that parses; seed: of random arrays."""

    version: tuple[int, int] | None
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileRequest(KernelRequest):
    """A kernel to time. version: of NKI, None: by the names it uses; values: compute too; active_cores: that share HBM;
    window: instructions an engine looks ahead; throttle: the Tensor Engine starts at half rate; disable_dge:
    descriptors are made before the launch; trace, html, parquet: files to write; html_from_s: where the page begins;
    path: print the critical path; timeout_s, memory_GiB: limits, None: none."""

    version: tuple[int, int] | None
    values: bool
    active_cores: int | None
    window: int | None
    throttle: bool
    disable_dge: bool
    trace: Path | None
    html: Path | None
    html_from_s: float
    parquet: Path | None
    path: bool
    timeout_s: float | None
    memory_GiB: float | None
    facts: Facts
    given: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffRequest(Request):
    """Two versions of a kernel, or two folders of profiles (kernel: None). kernel: one name, or that of A and that of
    B with a comma; arguments: of both; version: of NKI, None: by the names that each uses."""

    a: Path
    b: Path
    arguments: tuple[str, ...]
    kernel: str | None
    target: str | None
    lnc: int | None
    version: tuple[int, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TablesRequest(Request):
    """Tables of operator times to make or to check. ops, chips: empty: all; kernels, folder: None: the ones that ship;
    sample: shapes of each table that are checked."""

    ops: tuple[str, ...]
    chips: tuple[str, ...]
    kernels: Path | None
    folder: Path | None
    check: bool
    sample: int


def _kernel(reader: QuestionReader) -> None:
    """Note what is wrong with the file and the target."""
    file = reader.get(_FILE)
    if file is not None and not file.is_file():
        reader.problems.add("no such file", where=str(file))


def _writable(reader: QuestionReader, *fields: Field[Path], folder: bool = False) -> None:
    """Note files that cannot be made: in a folder that is not there, or where a folder is. folder: it is one to make.
    So a kernel does not run for nothing."""
    for field in fields:
        to = reader.get(field)
        if to is None:
            continue
        if not to.absolute().parent.is_dir():
            reader.add("no such folder", field, given=str(to.parent))
        elif folder and to.exists() and not to.is_dir():
            reader.add("is a file", field, given=str(to), allowed="a folder")
        elif not folder and to.is_dir():
            reader.add("is a folder", field, given=str(to), allowed="a file")


def read_version(value: object) -> tuple[int, int]:
    """A version of NKI: "0.4" or "0.4.0"."""
    parts = str(value).split(".")
    if not 2 <= len(parts) <= 3 or not all(is_digits(part) and len(part) < 4 for part in parts):
        raise UserError("not a version of NKI", given=value, fix="for example 0.4")
    made = (int(parts[0]), int(parts[1]))
    if made < FIRST_VERSION:
        raise UserError(
            "a version before the compiler of the package nki",
            given=value,
            allowed=_VERSIONS,
            fix="for example 0.4",
        )
    if made > NEWEST_VERSION:
        raise UserError("a version of NKI whose rules are not known here", given=value, allowed=_VERSIONS)
    return made


FIRST_VERSION = (0, 2)
"""The first with a compiler of its own; 0.1 is `neuronxcc.nki`."""
NEWEST_VERSION = (0, 7)
"""The last whose rules were read."""
_VERSIONS = "0.2 to 0.7"
NKI_VERSION: Field[tuple[int, int]] = Field(
    name="nki",
    parse=read_version,
    kind="word",
    help=f"Version of NKI, {_VERSIONS} (default: 0.7 where the kernel uses a name that came with it).",
    metavar="VERSION",
    keyword="version",
    edges=TYPED,
)


def _run(reader: QuestionReader) -> RunRequest:
    _kernel(reader)
    _writable(reader, SAVED)
    form = replace(form_of(reader), out=None)  # it is of arrays here, not of the result
    if not reader.has(KERNEL):
        for field in (STRICT, FIT_TOLERANCE, SAVED, RUN_JSON, RUN_CSV, STOP, PRINT, WATCH, FIRST_DIFFERENCE):
            if reader.given(field) not in (None, False, ()):
                reader.problems.found.append(UserError(f"{reader.said(field)} goes with -k"))
    check_debugging(reader, FIRST_DIFFERENCE)
    file, place = reader.get(_FILE), reader.get(STOP)
    if place is not None and file is not None and place.file in ("", file.name):
        with reader.watch():
            check_line(place, file, reader.said(STOP))
    if reader.has(SAVED) and (place is not None or reader.has(FIRST_DIFFERENCE)):
        reader.add("goes with a run to the end that is not compared", SAVED)
    reader.stop()
    return reader.fill(RunRequest, form=form, saved=reader.get(SAVED))


RUN = Schema(
    name="kernel run",
    fields=(
        *(_FILE, _ARGUMENTS, KERNEL, OF_TARGET, LNC, NKI_VERSION, STRICT, FIT_TOLERANCE, RANDOM),
        *(GUEST_TIME, GUEST_MEMORY, SAVED, STOP, PRINT, WATCH, FIRST_DIFFERENCE, RUN_JSON, RUN_CSV, PLAIN, QUIET),
    ),
    make=_run,
    help="Run a script or a kernel, unmodified, and check every instruction.",
    example='mowich kernel run @softmax -k softmax "x=float32[256,1000]" --target trn2',
)

RULES_OF = replace(
    NKI_VERSION,
    help=f"Version of NKI, {_VERSIONS}: its rules alone (default: what every one from 0.6 on refuses).",
)
CHECKED_FILE = replace(_FILE, help="A file with kernels; what they import from beside it is checked too.")
ONE_CHECKED = replace(KERNEL, help="Only this kernel of the file.")
RUN_ON = replace(
    _ARGUMENTS,
    help="With -k: run it on these, not on drawn shapes: NAME=float32[128,512] (random), NAME=FILE.npy, NAME=literal.",
)


def _check(reader: QuestionReader) -> KernelCheckRequest:
    _kernel(reader)
    if not reader.has(ONE_CHECKED) and reader.given(RUN_ON):
        reader.problems.found.append(UserError("arguments go with -k, which names the kernel that takes them"))
    reader.stop()
    return reader.fill(KernelCheckRequest, form=form_of(reader))


CHECK = Schema(
    name="kernel check",
    fields=(
        *(CHECKED_FILE, RUN_ON, ONE_CHECKED, OF_TARGET, LNC, RULES_OF, RANDOM),
        *(replace(JSON, help="One JSON object on stdout (mowich/kernel-check@1)."), QUIET),
    ),
    make=_check,
    help="Say what the NKI compiler would refuse, without a compiler: file and line, what, and how to mend it.",
    example='mowich kernel check @softmax -k softmax "x=float32[256,1000]" --target trn2',
)

_TIMED = replace(_FILE, help="A file with kernels, or a script that launches one.")
_GIVEN = replace(
    _ARGUMENTS,
    help=(
        "With -k: NAME=float32[128,512], NAME=FILE.npy, NAME=literal; default: what inputs() of the file gives."
        " Of the script after --."
    ),
)
ONE_KERNEL = replace(KERNEL, help="The kernel; else the last one that the script launches.")
VALUES = flag("values", "Compute as well: for kernels whose control flow reads data.", edges=TYPED)
ACTIVE_CORES = whole(
    "active_cores", "Cores of the chip that share HBM (default: those of the launch).", metavar="N", edges=TYPED
)
WINDOW = whole("window", "Instructions that an engine may look ahead; 1: strictly in order.", metavar="N", edges=TYPED)
THROTTLE = flag(
    "throttle",
    "The Tensor Engine starts at half rate (trn2, trn3).",
    negative="--no-throttle",
    default=True,
    edges=TYPED,
)
DISABLE_DGE = flag(
    "disable_dge",
    "DMA descriptors are made before the launch, as with the compiler's option of this name.",
    edges=TYPED,
)
TRACE = path("trace", "Write a trace for Perfetto.", metavar="FILE.json", edges=TYPED)
_HTML = path("html", "Write one page: the source beside a timeline, offline.", metavar="FILE.html", edges=TYPED)
HTML_FROM = quantity(
    "html_from",
    "s",
    "With --html: where the page begins, as 200us. It draws up to 20,000 instructions.",
    metavar="TIME",
    above=False,
    default=0.0,
    keyword="html_from_s",
    edges=TYPED,
)
PARQUET = path("parquet", "Write the tables of Neuron Explorer.", metavar="DIR", edges=TYPED)
CRITICAL = flag("path", "Print the critical path by cost.", edges=TYPED)


def _profile(reader: QuestionReader) -> ProfileRequest:
    _kernel(reader)
    _writable(reader, TRACE, _HTML, OUT)
    _writable(reader, PARQUET, folder=True)
    if reader.has(HTML_FROM) and not reader.has(_HTML):
        reader.problems.found.append(UserError(f"{reader.said(HTML_FROM)} goes with {reader.said(_HTML)}"))
    asked = asked_of(reader, "a kernel takes no plan and no price")
    reader.stop()
    return reader.fill(ProfileRequest, **asked)


PROFILE = Schema(
    name="kernel profile",
    fields=(
        *(
            _TIMED,
            _GIVEN,
            ONE_KERNEL,
            OF_TARGET,
            LNC,
            NKI_VERSION,
            VALUES,
            ACTIVE_CORES,
            WINDOW,
            THROTTLE,
            DISABLE_DGE,
            TRACE,
            _HTML,
            HTML_FROM,
            PARQUET,
            CRITICAL,
            GUEST_TIME,
            GUEST_MEMORY,
            *OF_FACTS,
        ),
        *(replace(JSON, help="One JSON object on stdout (mowich/kernel@1)."), CSV, PLAIN, QUIET, OUT),
    ),
    make=_profile,
    help="Time a kernel, and say what binds.",
    example='mowich kernel profile @softmax -k softmax "x=float32[4096,2048]" --target trn2',
)

A = replace(
    _FILE,
    name="a",
    help="FILE.py of a kernel, or a folder with Neuron Explorer's Parquet tables.",
    metavar="A",
)
B = replace(A, name="b", help="The other one, of the same kind.", metavar="B")
BOTH = replace(_ARGUMENTS, help="Of both kernels, as for profile; default: what inputs() of a file gives.")
_NAMED = replace(KERNEL, help="The kernel of the files, or that of A and that of B.", metavar="NAME[,NAME]")
OF_KERNELS = replace(OF_TARGET, help=f"Of kernels: {TARGET_HELP}")


def _diff(reader: QuestionReader) -> DiffRequest:
    sides = [folder for folder in (reader.get(A), reader.get(B)) if folder is not None]
    if sides and all(side.suffix == ".py" for side in sides):
        for side in sides:
            if not side.is_file():
                reader.problems.add("no such file", where=str(side))
        if not reader.has(_NAMED):
            reader.problems.add("two files need the name of their kernel", fix="-k NAME, or -k NAME_OF_A,NAME_OF_B")
    else:
        for side in sides:
            if not side.is_dir():
                reader.problems.add(
                    "no such folder" if not side.is_file() else "a file beside a folder of tables",
                    where=str(side),
                    fix="`mowich kernel profile ... --parquet DIR` writes one; or compare two FILE.py with -k NAME",
                )
        for field in (_NAMED, OF_KERNELS, LNC, NKI_VERSION, BOTH):
            if reader.given(field):
                reader.add("goes with two FILE.py", field)
    form = form_of(reader)
    reader.stop()
    return reader.fill(DiffRequest, form=form)


KERNEL_DIFF = Schema(
    name="kernel diff",
    fields=(
        *(A, B, BOTH, _NAMED, OF_KERNELS, LNC, NKI_VERSION),
        *(replace(JSON, help="One JSON object on stdout (mowich/kernel-diff@1)."), CSV, PLAIN, QUIET, OUT),
    ),
    make=_diff,
    help=(
        "Compare two versions of a kernel by figure, engine, cause, opcode and line, matched by what it says and does."
    ),
    example=(
        "mowich kernel diff before.py after.py -k softmax x=float32[4096,2048]   or   mowich kernel diff"
        " before/ after/   (folders that --parquet wrote, or of a measured profile)"
    ),
)

OPS = names("op", "Only these operators, commas between.", metavar="OPS", keyword="ops", default=(), edges=TYPED)
_CHIPS = names(
    "chip", "Only these: trainium1, trainium2, trainium3.", metavar="CHIPS", keyword="chips", default=(), edges=TYPED
)
_SOURCES = path("kernels", "Where the kernels are.", metavar="DIR", shown="the ones that ship", edges=TYPED)
_FOLDER = replace(OUT, help="Where tables go, or are with --check; else the ones that ship.", metavar="DIR")
CHECKED = flag("check", "Time a few shapes of each table again and compare; write nothing.", edges=TYPED)
SAMPLE = whole(
    "sample",
    "With --check: shapes of each table and chip.",
    tells_bounds=True,
    metavar="N",
    default=1,
    shown="1",
    edges=TYPED,
)


def _tables(reader: QuestionReader) -> TablesRequest:
    reader.stop()
    return reader.fill(TablesRequest, form=form_of(reader), folder=reader.get(_FOLDER))


KERNEL_TABLES = Schema(
    name="kernel tables",
    fields=(OPS, _CHIPS, _SOURCES, _FOLDER, CHECKED, SAMPLE, QUIET),
    make=_tables,
    help="Time our kernels over many shapes and write tables of operator times; takes some minutes.",
    example=("mowich kernel tables --op matmul --chip trainium2 --out tables   or   mowich kernel tables --check"),
)


# ---- kernel layer
# ----------------------------------------------------------------------------------------------------------------------

LAYER_ON = word(
    "on",
    "Chips that the group of ranks takes: trn3:1, trn2:16.",
    metavar="SYSTEM",
    needs=True,
    completes="systems",
    example="trn3:1",
)
TENSOR_RANKS = whole(
    "tp", "Ranks that share each layer (default: all cores of the chips).", high=1e5, metavar="N", example="4"
)
RANK_CORES = replace(
    LNC, help="Cores of a rank: 1 or 2.", default=2, shown="2", edges=LAYER_ON.edges, keyword="", option=""
)
SEQUENCES = whole("batch", "Sequences.", high=1e5, metavar="N", default=1, shown="1", example="8")
CONTEXT_TOKENS = count(
    "context",
    "Tokens of each sequence: in its cache, or with --prefill of its prompt.",
    high=2**24,
    metavar="N",
    default=2048.0,
    shown="2048",
    example="8k",
)
PREFILL = flag(
    "prefill",
    "A prompt of --context tokens instead of one new token of each sequence.",
    told=lambda result: inputs_of(result).get("phase") == "prefill",
)
DECODE = flag("decode", "One new token of each sequence: what is done without --prefill.", edges=TYPED)
CHECKOUT = path(
    "library",
    "A checkout of aws-neuron/nki-library, whose kernels are taken where it has one (default: ours alone).",
    metavar="DIR",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRequest(Asked):
    """A step of a model on a group of ranks. model_given: the model in the words of the question; tp: None: all cores;
    lnc: cores of a rank; context: tokens; library: a checkout of nki-library, None: our kernels."""

    model: Model
    model_given: str
    on: str
    tp: int | None
    lnc: int
    batch: int
    context: float
    prefill: bool
    library: Path | None


def _layer(reader: QuestionReader) -> LayerRequest:
    asked = asked_of(reader, "a layer takes its plan from --tp and --lnc, and no price")
    model = asked_model(reader)
    if reader.flag(PREFILL) and reader.given(DECODE):
        reader.problems.add("choose one of --prefill and --decode")
    reader.stop()
    assert model is not None
    return reader.fill(LayerRequest, model=model, model_given=words_of_model(reader), **asked)


LAYER = Schema(
    name="kernel layer",
    fields=(
        *(MODEL, AS, LAYER_ON, TENSOR_RANKS, RANK_CORES, SEQUENCES, CONTEXT_TOKENS, PREFILL, DECODE, CHECKOUT),
        *(*OF_FACTS, replace(JSON, help="One JSON object on stdout (mowich/kernel-layer@1)."), CSV, PLAIN, QUIET, OUT),
    ),
    make=_layer,
    help=(
        "Time decoder layers and a whole decode or prefill step of a model, made of kernels on simulated NeuronCores:"
        " each part, each engine, what binds."
    ),
    short="Time decoder layers and a whole step, made of kernels: parts, engines, what binds.",
    example="mowich kernel layer qwen3-30b-a3b --on trn3:1 --tp 4 --lnc 2 --context 2k",
)
