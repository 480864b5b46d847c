"""The variables of a kernel: the frames that run it, the tiles that they hold, and the tile that a name stands for.

Tiles seldom have a name of their own. What their author calls them stands in the frames of the kernel's Python, while
it runs and, as long as somebody holds a frame, after it has returned.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType, ModuleType

from mowich.errors import UserError, unknown
from mowich.neuroncore.access import storage_of
from mowich.neuroncore.core import is_ours
from mowich.neuroncore.turns import TURN, KernelFrame
from mowich.neuroncore.views import Tile
from mowich.nki import runtime
from mowich.nki.beta1.tensor import PendingProduct, Tensor, TileBlocks
from mowich.requests.debugging import Step, TileName

_DEPTH, _MOST = 3, 64
"""How deep in lists and objects tiles are looked for, and most entries of each that are looked at."""

Variables = Mapping[str, object]
"""Variables by name."""


def _frames_of(frame: FrameType, line: int) -> list[KernelFrame]:
    """The frame itself; where it does again what the body of a loop did, those that ran when the body was traced."""
    if frame.f_code.co_name == TURN:
        return list(frame.f_locals["frames"])
    return [KernelFrame(frame, line, frame.f_locals)]


def kernel_frames() -> list[KernelFrame]:
    """The frames of the kernel that runs in this thread, innermost first. Called from what an instruction calls."""
    frame: FrameType | None = sys._getframe(1)
    out: list[KernelFrame] = []
    is_inside = False  # our own frames up to the instruction
    while frame is not None and frame.f_code is not runtime.KERNEL_CALL:
        ours = is_ours(frame.f_code.co_filename)
        is_inside |= ours
        if is_inside and not ours:
            out += _frames_of(frame, frame.f_lineno)
        frame = frame.f_back
    return out


def failed_frames(error: BaseException) -> list[KernelFrame]:
    """The kernel's frames that an error went through, innermost first; none where the error is not of the kernel."""
    out: list[KernelFrame] = []
    is_inside, step = False, error.__traceback__
    while step is not None:
        if is_inside and not is_ours(step.tb_frame.f_code.co_filename):
            out += _frames_of(step.tb_frame, step.tb_lineno)[::-1]
        is_inside |= step.tb_frame.f_code is runtime.KERNEL_CALL
        step = step.tb_next
    return out[::-1]


def as_tile(value: object) -> Tile | None:
    """The tile of either interface; None for other values, and for a tile without elements of its own. Runs nothing."""
    if isinstance(value, Tile):
        return value
    if isinstance(value, TileBlocks):
        value = value.whole
    if not isinstance(value, Tensor) or not value.is_box:
        return None
    return None if isinstance(value, PendingProduct) and not value.done else value.tile


def _inner(value: object) -> Iterator[tuple[str, object]]:
    """What a list, a dict or an object holds, by what is written behind its name."""
    if isinstance(value, dict):
        for key, inner in [*value.items()][:_MOST]:
            if isinstance(key, str | int):
                yield f"[{key!r}]", inner
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value[:_MOST]):
            yield f"[{i}]", inner
    elif (blocks := _blocks(value)) is not None:
        for at, inner in [*blocks.items()][:_MOST]:
            yield f"[{', '.join(map(str, at))}]", inner
    elif _has_fields(value):
        for name, inner in [*vars(value).items()][:_MOST]:
            yield f".{name}", inner


def _has_fields(value: object) -> bool:
    """Whether a value is an object of the kernel's own, as of a configuration."""
    return hasattr(value, "__dict__") and not isinstance(value, type | ModuleType) and not callable(value)


def _blocks(value: object) -> Mapping[tuple[int, ...], object] | None:
    """The blocks of a tensor of the older interface that were made, by their numbers."""
    return value.made() if isinstance(value, TileBlocks) else None


def held_tiles(name: str, value: object, depth: int = _DEPTH) -> Iterator[tuple[str, Tile]]:
    """The tiles that a variable holds, itself or within, each with how the kernel writes it."""
    tile = as_tile(value)
    if tile is not None:
        yield name, tile
    elif depth:
        for behind, inner in _inner(value):
            yield from held_tiles(name + behind, inner, depth - 1)


def named_tiles(scopes: Sequence[Variables]) -> dict[str, Tile]:
    """Tiles by how the kernel writes them; of one name the first scope's. Names that a kernel gave at allocation come
    after its variables."""
    found: dict[str, Tile] = {}
    for scope in scopes:
        for name, value in scope.items():
            if name.isidentifier():
                for written, tile in held_tiles(name, value):
                    found.setdefault(written, tile)
    for tile in [*found.values()]:
        if tile.name:
            found.setdefault(tile.name, tile)
    return found


def find_tile(asked: TileName, scopes: Sequence[Variables]) -> tuple[Tile, tuple[Step, ...]] | None:
    """(A tile, the indices into its values) that a name stands for; None where no variable of this name holds one."""
    for scope in scopes:
        if asked.root in scope:
            found = _walked(scope[asked.root], asked.steps)
            if found is not None:
                return found
    if any(step.kind == "attribute" for step in asked.steps):
        return None
    held = [tile for scope in scopes for name, value in scope.items() for _, tile in held_tiles(name, value)]
    mine = [tile for tile in held if tile.name == asked.root]
    # of several allocations of this name the latest
    return (max(mine, key=lambda tile: storage_of(tile).number), asked.steps) if mine else None


def _walked(value: object, steps: tuple[Step, ...]) -> tuple[Tile, tuple[Step, ...]] | None:
    for i, step in enumerate(steps):
        blocks = _blocks(value)
        if blocks is not None and step.kind == "index" and as_tile(value) is None:
            count = len(next(iter(blocks), ()))
            value = blocks.get(tuple(key for key in step.at[:count] if isinstance(key, int)))
            tile = as_tile(value)
            if step.at[count:]:
                return None if tile is None else (tile, (Step("index", at=step.at[count:]), *steps[i + 1 :]))
            continue
        tile = as_tile(value)
        if tile is not None:
            return (tile, steps[i:]) if all(s.kind == "index" for s in steps[i:]) else None
        try:
            value = _stepped(value, step)
        except Exception:  # the code of the kernel's own objects
            return None
    tile = as_tile(value)
    return None if tile is None else (tile, ())


def _stepped(value: object, step: Step) -> object:
    """An attribute, or what stands in a list or under a key. Raises whatever the kernel's own objects raise."""
    if step.kind == "attribute":
        return getattr(value, step.name)
    if isinstance(value, Mapping):
        return value[step.name if step.kind == "key" else step.at[0]]
    at = step.at[0] if len(step.at) == 1 else None
    return value[at] if isinstance(value, Sequence) and isinstance(at, int) else None


def no_tile(asked: TileName, scopes: Sequence[Variables], where: str, when: str) -> UserError:
    """The error for a name that stands for no tile."""
    known = named_tiles(scopes)
    error = unknown("tile", asked.text if asked.root in known else asked.root, known, where=where)
    error.what = f"{error.what} {when}".strip()
    if not known:
        error.allowed, error.fix = None, "no variable of the kernel holds a tile there"
    return error


def written_name(tile: Tile, named: Mapping[str, Tile]) -> str:
    """How the kernel writes a tile: the variable that holds it, else one that holds its allocation."""
    s = storage_of(tile)
    near = ""
    for name, other in named.items():
        if storage_of(other) is s:
            if (other.shape, other.strides, other.offset) == (tile.shape, tile.strides, tile.offset):
                return name
            near = near or name
    return f"part of {near}" if near else tile.name
