"""`nki.isa`: the instructions with AWS's names and arguments, each handed to `mowich.neuroncore`.

The functions of most instructions are made from the table of instructions (`faces`), so that a new row has its function
here. Those that stand here do more than hand over: DMAs by flags, and registers, which are values of the program.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, IntEnum
from types import FunctionType
from typing import SupportsInt

from mowich.errors import did_you_mean
from mowich.neuroncore import core as machine
from mowich.neuroncore.core import NkiValidationError as NkiValidationError
from mowich.neuroncore.core import fail
from mowich.neuroncore.instructions import TABLE, dma, sync
from mowich.neuroncore.registers import NkiScalar as NkiScalar
from mowich.neuroncore.registers import Register
from mowich.neuroncore.views import Tile
from mowich.nki import faces, language, words
from mowich.nki.objects import NKIObject
from mowich.nki.sizes import default_generation

__path__: list[str] = []
constants = sys.modules[__name__]
"""`from nki.isa import constants`: the enumerations are here."""


class engine(Enum):
    """Engines of a NeuronCore."""

    unknown = 0
    tensor = 1
    scalar = 2
    gpsimd = 3
    dma = 4
    vector = 5
    sync = 6


tensor_engine = engine.tensor
vector_engine = engine.vector
scalar_engine = engine.scalar
gpsimd_engine = engine.gpsimd
unknown_engine = engine.unknown
activation_engine = engine.scalar
pool_engine = engine.gpsimd


class reduce_cmd(Enum):
    """What an instruction does to the accumulators."""

    idle = 0
    reset = 1
    reduce = 2
    reset_reduce = 3
    load_reduce = 4


class dge_mode(Enum):
    """Who makes the descriptors of a DMA."""

    unknown = 0
    swdge = 1
    hwdge = 2
    none = 3


class oob_mode(Enum):
    """What a run-time index out of bounds does."""

    error = 0
    skip = 1
    disable = 2


class matmul_perf_mode(Enum):
    """Modes of the Tensor Engine."""

    none = "none"
    double_row = "double_row"
    double_column = "double_column"
    double_pixel = "double_pixel"
    double_row_gen3 = "double_row_gen3"


class nc_version(IntEnum):
    """Generations of the NeuronCore."""

    gen2 = 2
    gen3 = 3
    gen4 = 4


class dma_engine(Enum):
    """Which DMA moves data between the cores of a pair."""

    dma = 1
    gpsimd_dma = 2


VirtualRegister = Register


class NkiInstruction(NKIObject):
    """Handle of an instruction that was issued. prepared: where the prepare of a collective stands."""

    prepared = ""

    def __init__(self, handle: int = 0) -> None:
        self.handle = handle

    def depends_on(self, *producers: NkiInstruction) -> NkiInstruction:
        """This instruction runs after the producers; recorded for the scheduler."""
        trace = machine.active().trace
        if trace is not None:
            trace.edges += [(p.handle, self.handle) for p in producers]
        return self


def _done() -> NkiInstruction:
    made = object.__new__(NkiInstruction)
    made.handle = machine.active().clock
    return made


def _spelled(kind: type[Enum]) -> dict[object, str]:
    """What names a member of an enumeration -> its name: the member, its number, its name. None stands for the first
    one."""
    members: list[Enum] = list(kind)
    return {None: members[0].name} | {word: m.name for m in members for word in (m, m.value, m.name)}


_ENGINE, _COMMAND, _DGE, _OOB, _PERF, _PAIR_DMA = (
    _spelled(kind) for kind in (engine, reduce_cmd, dge_mode, oob_mode, matmul_perf_mode, dma_engine)
)


def _member(kind: type[Enum], spelled: Mapping[object, str], given: object) -> str:
    """Name of the member that is given as itself, as its number or as its name: older kernels pass numbers. Raises for
    anything else."""
    try:
        if type(given) is not bool:
            return spelled[given]
    except (KeyError, TypeError):
        pass
    names = {m.name: m.value for m in kind}
    raise fail(
        f"no such {kind.__name__}",
        given=given,
        allowed=", ".join(n if n == v else f"{n} ({v})" for n, v in names.items()),
        fix=did_you_mean(str(given), names),
    )


def _engine(e: object) -> str:
    if e is None or e is engine.unknown:
        return ""
    name = _member(engine, _ENGINE, e)
    return "" if name == "unknown" else name


def _cmd(c: object) -> str:
    return _member(reduce_cmd, _COMMAND, c)


# what most calls leave as it is, for the members of an enumeration are slow to look up
_NO_OOB, _NO_DGE, _NO_PERF = oob_mode.error, dge_mode.unknown, matmul_perf_mode.none
_PLAIN_DMA: dict[str, object] = {"dge": "unknown", "priority": None, "queue": ""}


def _oob(mode: object) -> str:
    if mode is _NO_OOB:
        return "error"
    return "error" if _member(oob_mode, _OOB, mode) == "error" else "skip"


def _perf(mode: object) -> str:
    if mode is _NO_PERF:
        return "none"
    return _member(matmul_perf_mode, _PERF, mode).removesuffix("_gen3")


def _pair_dma(which: object) -> str:
    return _member(dma_engine, _PAIR_DMA, which)


def get_nc_version() -> nc_version:
    """Generation that the kernel runs on."""
    core = machine.running()
    return nc_version(core.generation if core is not None else default_generation())


def get_nc_sub_version() -> int:
    """Silicon revision: 0."""
    return 0


def _dma_flags(dge: object, priority: SupportsInt | None, eng: object) -> dict[str, object]:
    """Flags of a DMA. Raises where the generation does not have what is asked for."""
    if dge is _NO_DGE and priority is None and eng is None:
        return _PLAIN_DMA
    generation = machine.active().generation
    if priority is None or isinstance(priority, int):
        with contextlib.suppress(TypeError):  # what cannot be a key is judged below
            return _known_dma_flags(dge, priority, eng, generation)
    return _judged_dma_flags(dge, priority, eng, generation)


def _judged_dma_flags(dge: object, priority: SupportsInt | None, eng: object, generation: int) -> dict[str, object]:
    name = _member(dge_mode, _DGE, dge)
    if name == "hwdge" and generation < 3:
        raise fail("hardware descriptor generation needs NeuronCore-v3", fix="use dge_mode.swdge or dge_mode.none")
    if priority is not None:
        if generation < 4:
            raise fail("DMA priority needs NeuronCore-v4")
        if not 0 <= int(priority) <= 3:
            raise fail("DMA priority", given=priority, allowed="0 .. 3")
    trigger = _engine(eng)
    if name == "hwdge" and trigger not in ("", "scalar", "sync"):
        raise fail("hwdge: the engine that triggers a DMA", given=trigger, allowed="scalar, sync")
    return {"dge": name, "priority": priority, "queue": trigger}


_known_dma_flags = functools.lru_cache(256, typed=True)(_judged_dma_flags)
"""The same, judged once: nothing changes the dict."""


@faces.shown_without("dst_rmw_op", "unique_indices")
def dma_copy(
    dst: Tile,
    src: Tile,
    priority: int | None = None,
    oob_mode: oob_mode | int | str = oob_mode.error,
    dge_mode: dge_mode | int | str = dge_mode.unknown,
    engine: engine | int | str | None = None,
    name: str | None = None,
    dst_rmw_op: object = None,
    unique_indices: bool = True,
) -> NkiInstruction:
    """dst = src between HBM and SBUF."""
    if dst_rmw_op is not None:
        dma.compute(dst, [dst, src], dst_rmw_op, None, _oob(oob_mode))
    else:
        dma.copy(dst, src, _oob(oob_mode), "dma_copy", _dma_flags(dge_mode, priority, engine))
    return _done()


@faces.shown_without("engine")
def dma_transpose(
    dst: Tile,
    src: Tile,
    axes: Sequence[int] | None = None,
    priority: int | None = None,
    dge_mode: dge_mode | int | str = dge_mode.unknown,
    oob_mode: oob_mode | int | str = oob_mode.error,
    name: str | None = None,
    engine: engine | int | str | None = None,
) -> NkiInstruction:
    """dst = src transposed by the DMA engines."""
    dma.transpose(dst, src, axes, _oob(oob_mode), _dma_flags(dge_mode, priority, engine))
    return _done()


# registers
# ------------------------------------------------------------------------------------------------------------------


def register_alloc(x: int | Register | Tile | None = None) -> Register:
    """A new register, loaded with an integer, another register or a one-element tile if given."""
    register = Register()
    if isinstance(x, Tile):
        sync.register_load(register, x)
    elif x is not None:
        register.follow(int, x)
    return register


def register_move(dst: Register, src: int | Register) -> None:
    """dst = an integer or a register."""
    dst.follow(int, src)


def register_load(dst: Register, src: Tile) -> None:
    """dst = a one-element tile."""
    sync.register_load(dst, src)


def register_store(dst: Tile, src: int | Register) -> None:
    """A one-element tile = src."""
    sync.register_store(dst, src)


def scalar_load(src: Tile) -> NkiScalar:
    """A scalar of the device from a one-element tensor of nl.int32 or nl.int64 in SBUF or HBM."""
    if not isinstance(src, Tile):
        raise fail("scalar_load reads a tensor of one element", given=type(src).__name__)
    made = NkiScalar(None, src.dtype)
    sync.scalar_load(made, src)
    return made


def scalar_store(dst: Tile, value: NkiScalar) -> None:
    """A one-element tensor = a scalar of the same width."""
    sync.scalar_store(dst, value)


# all other instructions
# ------------------------------------------------------------------------------------------------------

VOCABULARIES = {
    "engine": faces.Vocabulary(kind=engine, word=_engine, absent=""),
    "reduce_cmd": faces.Vocabulary(kind=reduce_cmd, word=_cmd),
    "oob_mode": faces.Vocabulary(kind=oob_mode, word=_oob),
    "perf_mode": faces.Vocabulary(kind=matmul_perf_mode, word=_perf),
    "dma_engine": faces.Vocabulary(kind=dma_engine, word=_pair_dma),
}
"""Arguments that are members of an enumeration, in every instruction that has them."""

_unknown = words.missing(__name__)


def _made(name: str) -> FunctionType:
    """The function of a row of the table, which the module has from now on."""
    function = faces.face(TABLE[name], __name__, VOCABULARIES, vars(language), _done, "NkiInstruction")
    globals()[name] = function
    return function


def __getattr__(name: str) -> Callable[..., NkiInstruction]:
    """The function of an instruction that entered the table after this module was loaded. Raises for any other name."""
    row = TABLE.get(name)
    return _made(name) if row is not None and row.face else _unknown(name)


for _name, _row in TABLE.items():
    if _row.face:
        _made(_name)
