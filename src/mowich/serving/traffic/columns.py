"""Requests as columns: many at a time, as they are drawn or read, before the simulation makes anything of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ParamSpec

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Floats
from mowich.serving.traffic.encoders import Media
from mowich.serving.traffic.requests import UserRequest

Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestColumns:
    """Requests in order of arrival [n]. first: how many came before them; arrival_s: s; prompt, output: tokens;
    priority: lower goes first; names: of the blocks of their prompts, one after the other; names_at [n + 1]: where
    those of each begin, and where the last end; ids: what they are called (None: by their number);
    adapter: LoRA adapters that they ask for (None: the base model); images: how many they have (None: none has any)."""

    first: int
    arrival_s: Floats
    prompt: Counts
    output: Counts
    priority: Counts
    names_at: Counts
    names: Sequence[int]
    ids: Sequence[str] | None = None
    adapter: Counts | None = None
    images: Counts | None = None

    def __len__(self) -> int:
        return len(self.arrival_s)

    def requests(self) -> Iterator[UserRequest]:
        """The same, one by one."""
        ids = self.ids or [str(self.first + i) for i in range(len(self))]
        ends = self.names_at.tolist()
        columns = (self.arrival_s, self.prompt, self.output, self.priority)
        for i, (at, prompt, output, rank) in enumerate(zip(*(c.tolist() for c in columns), strict=True)):
            one = UserRequest(ids[i], at, prompt, output, tuple(self.names[ends[i] : ends[i + 1]]), rank)
            if self.adapter is not None:
                one.adapter = int(self.adapter[i])
            if self.images is not None and self.images[i]:
                one.media = Media(((0, -1),) * int(self.images[i]))
            yield one


def added(total: float, values: Floats) -> float:
    """A total and more, one after the other."""
    return float(np.cumsum(np.concatenate([[total], values]))[-1])


_P = ParamSpec("_P")


def one_by_one(columns: Callable[_P, Iterator[RequestColumns]]) -> Callable[_P, Iterator[UserRequest]]:
    """A function that gives the same requests one by one."""

    def requests(*args: _P.args, **kwargs: _P.kwargs) -> Iterator[UserRequest]:
        for chunk in columns(*args, **kwargs):
            yield from chunk.requests()

    return requests
