"""A plugin of mypy: `sum` over floats is refused, as its last bits hang on the release of Python (src/mowich/sums.py)."""

from __future__ import annotations

from collections.abc import Callable

from mypy.plugin import FunctionContext, Plugin
from mypy.types import Instance, Type, UnionType, get_proper_type


class SumsOfFloats(Plugin):
    """Hears the type of every call of `sum`."""

    def get_function_hook(self, fullname: str) -> Callable[[FunctionContext], Type] | None:
        return _refused if fullname == "builtins.sum" else None


def _refused(context: FunctionContext) -> Type:
    if _has_float(context.default_return_type):
        context.api.fail(
            "sum of floats: other last bits from Python 3.12 on; use mowich.sums.float_sum", context.context
        )
    return context.default_return_type


def _has_float(of: Type) -> bool:
    proper = get_proper_type(of)
    if isinstance(proper, UnionType):
        return any(_has_float(part) for part in proper.items)
    return isinstance(proper, Instance) and proper.type.fullname == "builtins.float"


def plugin(version: str) -> type[Plugin]:
    """What mypy asks for."""
    return SumsOfFloats
