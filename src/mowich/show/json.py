"""Results as JSON: one object, keys in the order of the contract, the same bytes for the same result."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from mowich.version import VERSION


def with_inputs(result: Mapping[str, Any], inputs: Mapping[str, Any] | None) -> dict[str, Any]:
    """A result with more inputs: what else is needed to run it again."""
    return {**result, "inputs": {**result.get("inputs", {}), **inputs}} if inputs else dict(result)


def to_json(result: Mapping[str, Any], *, inputs: Mapping[str, Any] | None = None, indent: int | None = 1) -> str:
    """The text of a result's `to_dict()`; indent None: in one line. `inputs` are added to its inputs: what else is
    needed to run it again."""
    out: dict[str, Any] = {"schema": result["schema"], "version": VERSION, **with_inputs(result, inputs)}
    return (
        json.dumps(
            out,
            indent=indent,
            separators=None if indent else (",", ":"),
            ensure_ascii=False,
            allow_nan=False,
            default=_plain,
        )
        + "\n"
    )


def finite(x: Any) -> Any:
    """A result whose numbers may be NaN or infinite, as JSON has it: null stands for those."""
    if isinstance(x, Mapping):
        return {k: finite(v) for k, v in x.items()}
    if isinstance(x, list | tuple):
        return [finite(v) for v in x]
    return None if isinstance(x, float) and not math.isfinite(x) else x


def _plain(value: Any) -> Any:
    """NumPy scalars and tuples of other libraries as plain numbers."""
    item = getattr(value, "item", None)
    if item is None:
        raise TypeError(f"not JSON: {type(value).__name__}")
    return item()
