"""Arrays of the host as HBM tensors of a kernel, and what it returns as arrays.

Arrays of NumPy, torch and jax share their bytes with the tensors where the memory allows it, so that a kernel that
writes to an argument changes the caller's array; a device has memory of its own otherwise.
"""

from __future__ import annotations

import copy as shallow
import mmap
import os
import tempfile
from collections.abc import Callable, Container, Sequence
from dataclasses import is_dataclass

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Array
from mowich.errors import UserError
from mowich.neuroncore import core as machine
from mowich.neuroncore import memory as mem
from mowich.neuroncore import placement
from mowich.neuroncore.access import static_view, storage_of, tile_elements
from mowich.neuroncore.boxes import row_major
from mowich.neuroncore.core import Core
from mowich.neuroncore.memory import MemoryRegion
from mowich.neuroncore.registers import DeviceNumber
from mowich.neuroncore.views import Tile, view_of
from mowich.nki import frameworks
from mowich.nki.hollows import Hollow
from mowich.nki.objects import NKIObject


def values_in(value: object) -> list[object]:
    """What containers hold, those within others as well, in order; None is left out."""
    return [leaf for leaf in frameworks.leaves_of(value) if leaf is not None]


def _place(array: Array) -> tuple[int, int]:
    """Where an array of the host begins, and its bytes."""
    return int(array.__array_interface__["data"][0]), array.nbytes


class HostArrays:
    """Host arrays of one launch as HBM tensors, each array once, and how to bring results back."""

    def __init__(self, cores: Sequence[Core]) -> None:
        self.cores = cores
        self.region = MemoryRegion.private_hbm if len(cores) == 1 else MemoryRegion.shared_hbm
        self.by_id: dict[int, mem.Storage] = {}
        self.back: list[tuple[Array, mem.Storage]] = []
        self.keep: list[Array] = []
        self.framework = "numpy"

    def tile(self, array: Array, name: str) -> Tile:
        """An HBM tensor over an array, until it has memory of its own (`own_memory`); a copy where its bytes do not
        follow each other."""
        key = id(array)
        if key not in self.by_id:
            data = array
            if not (array.flags.c_contiguous and array.flags.writeable) or array.ndim == 0:
                data = np.array(array, order="C", copy=True)
                if array.ndim == 0:
                    data = data.reshape(1)
            self.keep.append(array)
            made = self.by_id[key] = storage_of(placement.wrap_array(self.cores[0], data, self.region, name))
            made.is_fed = True
            if isinstance(array, Hollow):
                if self.cores[0].values:
                    raise UserError(f"argument '{name}' has no values", fix="run with values=False, or pass an array")
                made.owner = None
            elif array.flags.writeable:
                self.back.append((array, made))
        s = self.by_id[key]
        return view_of(s, s.dtype, s.shape, row_major(s.shape))

    def convert(self, x: object, name: str = "") -> object:
        """Arrays anywhere in lists, dicts and configuration objects -> tensors; the rest as it is."""
        if isinstance(x, np.ndarray):
            return self.tile(x, name)
        kind = frameworks.framework(x)
        if kind is not None:
            self.framework = kind
            return self.tile(frameworks.from_torch(x) if kind == "torch" else np.array(x), name)
        if isinstance(x, list):
            return [self.convert(v, name) for v in x]
        if isinstance(x, tuple):
            made = [self.convert(v, name) for v in x]
            kind_of: Callable[..., object] = type(x)
            return kind_of(*made) if hasattr(x, "_fields") else tuple(made)
        if isinstance(x, dict):
            return {k: self.convert(v, str(k)) for k, v in x.items()}
        if isinstance(x, NKIObject) or (is_dataclass(x) and not isinstance(x, type)):
            return self._object(x)
        return x

    def _object(self, x: object) -> object:
        values = getattr(x, "__dict__", None)
        if not values:
            return x
        made = {k: self.convert(v, k) for k, v in values.items()}
        if all(made[k] is values[k] for k in values):
            return x
        out = shallow.copy(x)
        for k, v in made.items():
            object.__setattr__(out, k, v)
        return out

    def storages(self) -> dict[tuple[int, int], list[mem.Storage]]:
        """By where arrays lie in the host's memory, the tensors that share bytes with them."""
        found: dict[tuple[int, int], list[mem.Storage]] = {}
        for array in self.keep:
            storage = self.by_id[id(array)]
            found.setdefault(_place(array), []).extend([storage] if storage.owner is array else [])
        return found

    def leave(self, places: Container[tuple[int, int]]) -> None:
        """Write nothing back to the arrays that lie there."""
        self.back = [(array, storage) for array, storage in self.back if _place(array) not in places]

    def finish(self) -> None:
        """Bring what instructions wrote to tensors back to the arrays that they stand for."""
        for array, storage in self.back:
            if storage.is_made:
                array[...] = storage.bytes.view(array.dtype).reshape(array.shape)


RETURNED = (MemoryRegion.shared_hbm,)
"""Memories of the tensors that a kernel returns, beside its own arguments, as AWS's documentation has it."""


def _check_returned(s: mem.Storage, core: Core, regions: Sequence[MemoryRegion]) -> None:
    """Whether a kernel may return this. The host cannot read SBUF and PSUM: an error in strict runs, otherwise a
    warning, since AWS's simulator takes them. Another HBM than the documented one is a warning: published kernels
    return `nl.hbm` and run on hardware."""
    if s.region in regions or not s.site[0]:  # an argument was allocated at no place of the kernel
        return
    what, at = f"the kernel returns {s.describe()}: its buffer is nl.{s.region.value}", f"{s.site[0]}:{s.site[1]}"
    if s.space == "H":
        asked = " or ".join(f"nl.{r.value}" for r in regions)
        core.warn(
            f"returned {s.number}",
            f"{what}, AWS's documentation asks for {asked}; make it with buffer=nl.shared_hbm",
            at=at,
        )
        return
    fix = "copy it to a tensor made with buffer=nl.shared_hbm, and return that"
    if core.strict:
        raise machine.NkiValidationError(
            what, where=at, allowed="a tensor in HBM (nl.shared_hbm), or an argument of the kernel", fix=fix
        )
    core.warn(f"returned tile {s.number}", f"{what}, which AWS's compiler refuses; {fix}", at=at)


def _check_made(s: mem.Storage) -> None:
    """Raise for an output that no instruction made. An argument may come back as it went in."""
    if s.is_made or s.is_fed:
        return
    filled = s.state != mem.NONE
    raise machine.NkiValidationError(
        f"the kernel returns {s.describe()}, which no instruction wrote"
        + (": it was filled before the kernel starts" if filled else ""),
        where=f"{s.site[0]}:{s.site[1]}" if s.site[0] else None,
        fix="write to it with nisa.dma_copy, or with nl.store",
    )


def outputs_of(value: object, framework: str, cores: Sequence[Core], regions: Sequence[MemoryRegion]) -> object:
    """What a kernel returned, with tensors as arrays. regions: where these may lie."""
    given: set[int] = set()
    return frameworks.each_value(value, lambda x: _output(x, framework, cores, regions, given))


def _output(
    x: object, framework: str, cores: Sequence[Core], regions: Sequence[MemoryRegion], given: set[int]
) -> object:
    """A tensor as an array, a number of the device as that of the host. given: storages whose memory an array has
    already."""
    if isinstance(x, Tile):
        _check_returned(storage_of(x), cores[0], regions)
        if not cores[0].values:
            return np.broadcast_to(np.zeros((), x.dtype.dtype).view(x.dtype.dtype), x.shape)
        _check_made(storage_of(x))
        tile = static_view(x)
        assert tile is not None
        if storage_of(tile).state != mem.ALL and cores[0].values:
            before = machine.set_current(cores[0])
            try:
                storage_of(tile).check(tile, returned=True)
            # an error here must not leave a core running: the next launch would be taken for a call from a kernel
            finally:
                machine.set_current(before)
        s, found = storage_of(tile), tile_elements(tile)
        # a tensor of the kernel's own is nobody's any more, so its memory is given away
        is_own = (
            s.owner is None and s.address is None and found.nbytes == s.parts * s.row_B and found.flags.c_contiguous
        )
        if not is_own or s.number in given:
            found = found.copy()
        given.add(s.number)
        return frameworks.to_framework(found, framework)
    return x.value if isinstance(x, DeviceNumber) else x


MAPPED_FROM_B = 1 << 20
"""Bytes from which copies of an array share memory until they are written to: below, a copy costs less than a file."""


def _copies(data: NDArray[np.uint8], count: int) -> list[NDArray[np.uint8]]:
    """Copies of bytes. Several large ones share memory until something is written to them."""
    if count == 1 or data.size < MAPPED_FROM_B:
        return [data.copy() for _ in range(count)]
    with (
        os.fdopen(os.memfd_create("ranks"), "w+b") if hasattr(os, "memfd_create") else tempfile.TemporaryFile() as file
    ):
        file.write(data.data)
        file.flush()
        maps = [mmap.mmap(file.fileno(), data.size, access=mmap.ACCESS_COPY) for _ in range(count)]
    return [np.frombuffer(made, np.uint8) for made in maps]


def own_memory(launches: Sequence[HostArrays]) -> None:
    """A device has memory of its own: what a kernel does to the caller's arrays on the host does not reach it. An
    array that several ranks were given is copied for each of them, and the caller's stays as it is."""
    ranks: dict[tuple[int, int], list[list[mem.Storage]]] = {}
    for arguments in launches:
        for place, storages in arguments.storages().items():
            ranks.setdefault(place, []).append(storages)
    for given in ranks.values():
        using = [storages for storages in given if storages]
        for storages, own in zip(using, _copies(using[0][0].bytes, len(using)) if using else [], strict=True):
            for storage in storages:
                storage.bytes = own
    shared = {place for place, given in ranks.items() if len(given) > 1}
    for arguments in launches:
        arguments.leave(shared)
