"""What a config may state whatever its architecture: words and numbers that a build reads late, in part, or not at all.

A value that no checkpoint has is a slip or a damaged file, so the rest of it is not to be believed either. A key that
is absent or null states nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from mowich.errors import UserError

_DTYPE = re.compile(
    r"(torch\.)?(float64|float32|float16|bfloat16|float8_e4m3fn|float8_e4m3fnuz|float8_e5m2|float8_e8m0fnu|int8|uint8)"
    r"|auto|double|float|half"
)
"""Formats of PyTorch that weights are stored in, as transformers writes them."""

_BITS = (2, 3, 4, 5, 6, 8, 16)
"""Bits of a quantised weight."""

Test = Callable[[object], bool]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: object, least: int) -> bool:
    return _is_number(value) and value % 1 == 0 and value >= least  # type: ignore[operator]


def _is_positive(value: object) -> bool:
    return _is_number(value) and value > 0  # type: ignore[operator]


def _is_list_of(value: object, test: Test) -> bool:
    return isinstance(value, list | tuple) and all(test(x) for x in value)


def _is_block(value: object) -> bool:
    return _is_list_of(value, lambda x: _is_whole(x, 1)) and len(value) == 2  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class _Rule:
    """test: of a value that is stated; allowed: what it must be, in words."""

    test: Test
    allowed: str


_WORD = _Rule(lambda v: isinstance(v, str), "a word")
_POSITIVE = _Rule(_is_positive, "a number above 0")
_MAPPING = _Rule(lambda v: isinstance(v, Mapping), "a mapping")
_FORMAT = _Rule(
    lambda v: isinstance(v, str) and _DTYPE.fullmatch(v) is not None,
    "a format of PyTorch, such as bfloat16, float8_e4m3fn or auto",
)
_TOP: Mapping[str, _Rule] = {
    "torch_dtype": _FORMAT,
    "dtype": _FORMAT,
    "hidden_act": _WORD,
    "hidden_activation": _WORD,
    "architectures": _Rule(lambda v: _is_list_of(v, lambda x: isinstance(x, str)), "a list of words"),
    "rope_theta": _POSITIVE,
    "rope_scaling": _MAPPING,
    "rope_parameters": _MAPPING,
    "quantization_config": _MAPPING,
    "sliding_window": _Rule(lambda v: v is False or _is_whole(v, 0), "a whole number, at least 0"),
}
_ROPE: Mapping[str, _Rule] = {
    "factor": _POSITIVE,
    "rope_theta": _POSITIVE,
    "original_max_position_embeddings": _POSITIVE,
    "rope_type": _WORD,
    "type": _WORD,
}
_QUANTISED: Mapping[str, _Rule] = {
    "quant_method": _WORD,
    "bits": _Rule(lambda v: _is_number(v) and v in _BITS, f"one of {' '.join(map(str, _BITS))}"),
    "num_bits": _Rule(lambda v: _is_number(v) and v in _BITS, f"one of {' '.join(map(str, _BITS))}"),
    "group_size": _Rule(lambda v: v == -1 or _is_whole(v, 1), "a whole number, at least 1, or -1: a whole column"),
    "weight_block_size": _Rule(_is_block, "two whole numbers, at least 1"),
}
_LISTS = ("layer_types", "mlp_layer_types", "layers_block_type")
_AHEAD = ("num_nextn_predict_layers", "mtp_num_hidden_layers")
"""How many prediction layers there are, which lists of layers may go on to."""

HEAD_MOST = 8192
"""Longest head that a config may state: none has a tenth of it."""


def stated_errors(data: Mapping[str, object], where: str) -> Iterator[UserError]:
    """What is wrong in a parsed config, one line each.

    >>> [str(e) for e in stated_errors({"torch_dtype": "bfloat16", "rope_theta": -1}, "config.json")]
    ["config.json: 'rope_theta' must be a number above 0, got -1"]
    """
    yield from _wrong(data, _TOP, where, "")
    for name in ("rope_scaling", "rope_parameters"):
        yield from _wrong_inside(data.get(name), _ROPE, where, name)
    yield from _wrong_inside(data.get("quantization_config"), _QUANTISED, where, "quantization_config")
    layers = data.get("num_hidden_layers")
    if not _is_whole(layers, 1):
        return
    ahead = next((data[k] for k in _AHEAD if _is_whole(data.get(k), 1)), 0)
    most = int(layers) + int(ahead)  # type: ignore[call-overload]
    for name in _LISTS:
        given = data.get(name)
        if isinstance(given, list | tuple | str) and len(given) > most:
            yield UserError(
                f"'{name}' has more places than layers", where=where, given=len(given), allowed=f"at most {most}"
            )


def _wrong_inside(group: object, rules: Mapping[str, _Rule], where: str, path: str) -> Iterator[UserError]:
    """What is wrong with the keys of a group, and of the groups inside it."""
    if not isinstance(group, Mapping):
        return
    yield from _wrong(group, rules, where, f"{path}.")
    for name, inside in group.items():
        yield from _wrong_inside(inside, rules, where, f"{path}.{name}")


def _wrong(data: Mapping[str, object], rules: Mapping[str, _Rule], where: str, path: str) -> Iterator[UserError]:
    for name, rule in rules.items():
        value = data.get(name)
        if value is not None and not rule.test(value):
            yield UserError(f"'{path}{name}' must be {rule.allowed}", where=where, given=value)
