"""Instructions of the sequencers: registers, and barriers between the cores of a pair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mowich.neuroncore import core as machine
from mowich.neuroncore.access import Place, read_tile, scalar_value, storage_of, write_tile
from mowich.neuroncore.core import Core, fail
from mowich.neuroncore.instructions.issue import issue
from mowich.neuroncore.instructions.rates import sequencer
from mowich.neuroncore.instructions.table import instruction
from mowich.neuroncore.registers import DeviceNumber, NkiScalar
from mowich.neuroncore.views import Tile

if TYPE_CHECKING:
    from mowich.neuroncore.core import ProgramGroup

register_cost = sequencer("sync.register")


def _load(name: str, number: DeviceNumber, src: Tile) -> None:
    """A number = a one-element tile; not known in a run without values, unless the host gave it."""
    issued = issue(name, "", (), (("src", src),))
    if src.size != 1:
        raise fail(f"{name} reads one element", tile=src)
    s = storage_of(src)
    if issued or (s.owner is not None and src.dynamic is None):
        number.value, number.source = int(read_tile(src).reshape(-1)[0]), ""
    else:
        number.value, number.source = None, src.describe()


@instruction(engines=("sync",), cost=register_cost, spaces={"src": "SHP"}, face="")
def register_load(register: DeviceNumber, src: Tile) -> None:
    """register = a one-element tile."""
    _load("register_load", register, src)


@instruction(engines=("sync",), cost=register_cost, spaces={"dst": "SHP"}, face="")
def register_store(dst: Tile, register: Place) -> None:
    """A one-element tile = register."""
    if issue("register_store", "", (("dst", dst),), ()):
        write_tile(dst, np.full(dst.shape, scalar_value(register), np.int64))


SCALARS = ("int32", "int64")


@instruction(engines=("sync",), cost=register_cost, spaces={"src": "SH", "dst": "SH"}, dtypes={"src": SCALARS}, face="")
def scalar_load(scalar: NkiScalar, src: Tile) -> None:
    """A scalar of the device = a one-element tile of nl.int32 or nl.int64."""
    _load("scalar_load", scalar, src)


@instruction(engines=("sync",), cost=register_cost, spaces={"dst": "SH"}, dtypes={"dst": SCALARS}, face="")
def scalar_store(dst: Tile, value: NkiScalar) -> None:
    """A one-element tile = a scalar of its width."""
    issued = issue("scalar_store", "", (("dst", dst),), ())
    if dst.size != 1:
        raise fail("scalar_store writes one element", tile=dst)
    if not isinstance(value, NkiScalar) or value.is_comparison or value.dtype is not dst.dtype:
        kind = f"a scalar of {value.dtype}" if isinstance(value, NkiScalar) else type(value).__name__
        if isinstance(value, NkiScalar) and value.is_comparison:
            kind = "the result of a comparison"
        raise fail(
            "scalar_store takes a scalar of the width of dst",
            tile=dst,
            given=kind,
            allowed=f"an NkiScalar of {dst.dtype}",
            fix="nisa.memset writes a constant",
        )
    if issued:
        write_tile(dst, np.full(dst.shape, value.read(), np.int64))


@instruction(engines=("sync",), cost=sequencer("sync.loop_turn"), face="")
def loop_turn() -> None:
    """The end of a turn of a loop on the device: all engines and DMAs are done, then all go on."""
    issue("loop_turn", "", (), ())


def pair(name: str) -> tuple[Core, ProgramGroup]:
    """The running core and the group that joins it to the other core of its pair."""
    core = machine.active()
    if core.programs < 2 or core.group is None:
        raise fail(f"{name} needs two cores", fix="launch the kernel with kernel[2](...)")
    return core, core.group


@instruction(
    engines=("gpsimd", "vector", "scalar", "tensor", "sync"),
    cost=sequencer("links.pair"),
    since=3,
    spaces={"data": "HSP"},
)
def core_barrier(data: Tile, cores: Sequence[int] = (0, 1), engine: str = "gpsimd") -> None:
    """Wait until all the cores are here."""
    core, group = pair("core_barrier")
    issue("core_barrier", engine, (), (("data", data),))
    members = [int(c) for c in cores]
    if core.program in members:
        turn = core.serial.get("barrier", 0)
        core.serial["barrier"] = turn + 1
        group.exchange(
            core.scratch["base"] + core.program,
            ("barrier", core.scratch["base"], turn),
            [core.scratch["base"] + m for m in members],
            None,
            "core_barrier",
        )
