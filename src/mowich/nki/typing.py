"""`nki.typing`: annotations of kernel arguments. They carry no meaning at run time, but that `tensor[[128, 512],
nl.float32]` may be given to a kernel that is only measured (`nki.benchmark`), in place of an array."""

from __future__ import annotations

import numpy as np

from mowich.neuroncore.dtypes import as_dtype

__path__: list[str] = []


class _Annotation:
    """`tensor`, `tensor[128, 512]`, `tensor[[128, 512], nl.float32]`, `mutable_tensor`; spec: the shape and the format,
    where both are said."""

    def __init__(self, name: str, spec: tuple[tuple[int, ...], object] | None = None) -> None:
        self._name, self.spec = name, spec

    def __getitem__(self, key: object) -> _Annotation:
        if isinstance(key, tuple) and len(key) == 2 and isinstance(key[0], tuple | list):
            return _Annotation(self._name, (tuple(int(n) for n in key[0]), key[1]))
        return self

    def __call__(self, *args: object, **kwargs: object) -> _Annotation:
        return self

    def __repr__(self) -> str:
        return self._name


def drawn(x: object) -> object:
    """Random numbers in [0, 1) for an annotation with shape and format, the same each time; anything else as it is."""
    if not isinstance(x, _Annotation) or x.spec is None:
        return x
    shape, dtype = x.spec
    return np.random.default_rng(0).random(shape, np.float32).astype(as_dtype(dtype).dtype)


tensor = _Annotation("tensor")
mutable_tensor = _Annotation("mutable_tensor")
