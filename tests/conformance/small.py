"""Small shapes for kernels of nki-library whose own cases are all large: further rows in its tests' own tables, against
their own references."""

from typing import Any

import pytest

MOE = {"hidden": 512, "tokens": 512, "intermediate": 512, "expert": 2, "block_size": 256, "top_k": 2}
SMALL: dict[str, list[tuple[dict[str, str], dict[str, Any]]]] = {
    "test_moe_blockwise_mm_kernel_lnc2": [({"bwmm_func": "DROPPING"}, MOE | {"tokens": 2048, "block_size": 1024})],
    "test_moe_bwmm_mx_cte_unit": [({"weight_dtype": "float4"}, MOE), ({"weight_dtype": "float8_e4m3fn"}, MOE)],
    "test_moe_bwmm_mx_shard_I_unit": [
        ({"weight_dtype": "float4", "is_dynamic": "False"}, MOE | {"intermediate": 1024}),
        ({"weight_dtype": "float4", "is_dynamic": "True"}, MOE | {"intermediate": 1024}),
    ],
    "test_moe_blockwise_mm_bwd_shardH_affinityH_dropless_lnc2": [({}, MOE | {"intermediate": 128})],
}
"""For a test, parts of the row of its table that is changed, and what is changed in it."""


def add(metafunc: pytest.Metafunc) -> None:
    """Add the rows of a test to its table; their ids begin with `small`."""
    for parts, changes in SMALL.pop(metafunc.function.__name__, []):
        mark = next(m for m in metafunc.definition.iter_markers("parametrize") if "hidden" in m.args[0])
        names, rows = [n.strip() for n in mark.args[0].split(",")], mark.args[1]
        given = [dict(zip(names, getattr(row, "values", row), strict=True)) for row in rows]
        row = next((row for row in given if all(part in str(row[name]) for name, part in parts.items())), None)
        if row is None:  # another snapshot's table
            continue
        row |= changes
        rows.append(pytest.param(*(row[name] for name in names), id="-".join(["small", *parts.values()])))
        if isinstance(mark.kwargs.get("ids"), list):
            mark.kwargs["ids"].append(None)
