"""Instructions of the sequencers: registers, and barriers between the cores of a pair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mowich.neuroncore import core as machine
from mowich.neuroncore.core import Core, fail
from mowich.neuroncore.instructions.issue import issue
from mowich.neuroncore.instructions.rates import sequencer
from mowich.neuroncore.instructions.table import instruction
from mowich.neuroncore.registers import Register
from mowich.neuroncore.views import Tile, known_to_host, read_tile, static_view, write_tile

if TYPE_CHECKING:
    from mowich.neuroncore.communicator import Group

register_cost = sequencer("sync.register")


@instruction(engines=("sync",), cost=register_cost, spaces={"src": "SHP"}, face="")
def register_load(register: Register, src: Tile) -> None:
    """register = a one-element tile."""
    if not issue("register_load", "", (), (("src", src),)):
        known_to_host(src)
    found = static_view(src)
    if found is None or found.size != 1:
        raise fail("register_load reads one element", tile=src)
    register.value = int(read_tile(found).reshape(-1)[0])


@instruction(engines=("sync",), cost=register_cost, spaces={"dst": "SHP"}, face="")
def register_store(dst: Tile, register: Any) -> None:
    """A one-element tile = register."""
    if issue("register_store", "", (("dst", dst),), ()):
        write_tile(dst, np.full(dst.shape, int(register), np.int64))


def pair(name: str) -> tuple[Core, Group]:
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
