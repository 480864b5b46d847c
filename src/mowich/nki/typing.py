"""`nki.typing`: annotations of kernel arguments. They carry no meaning at run time."""

from __future__ import annotations

from typing import Any

__path__: list[str] = []


class _Annotation:
    """`tensor`, `tensor[128, 512]`, `mutable_tensor`."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getitem__(self, shape: Any) -> _Annotation:
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> _Annotation:
        return self

    def __repr__(self) -> str:
        return self._name


tensor = _Annotation("tensor")
mutable_tensor = _Annotation("mutable_tensor")
