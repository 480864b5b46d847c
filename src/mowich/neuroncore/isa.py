"""The instructions of a NeuronCore: one row each, with the engines that run it, the memories and formats of its operands, the generations
that have it, and the name of its cost (the scheduler's table). What an instruction computes is the function of the same name in `engines`
or `dma`. Source of the rows: the reference of `nki.isa` (fact source `nkiisa`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

ENGINES = ("tensor", "vector", "scalar", "gpsimd", "sync", "dma")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One instruction. engines: that can run it, first one by default; since: first generation; engine_since: first generation in which an
    engine runs it, where later; spaces: operand -> letters of the memories it may lie in (S SBUF, P PSUM, H HBM), "SP" where not listed;
    dtypes: operand -> the formats it may have, any where not listed; cost: key of the cost table; note: what to know."""

    name: str
    engines: tuple[str, ...]
    since: int = 2
    engine_since: dict[str, int] = field(default_factory=dict)
    spaces: dict[str, str] = field(default_factory=dict)
    dtypes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    cost: str = ""
    note: str = ""


_UNSIGNED = ("uint8", "uint16", "uint32")
_BOOL = "bool_"  # a byte of 0 or 1
_INTEGERS = ("int8", "int16", "int32", *_UNSIGNED)
_FLOATS = ("float32", "tfloat32", "bfloat16", "float16", "float8_e4m3", "float8_e4m3fn", "float8_e5m2", "float8_e3m4")
_SCALES = ("float8_e8m0fnu", "uint8")
_PACKED = ("float8_e4m3fn_x4", "float8_e5m2_x4", "float4_e2m1fn_x4")


def _rows() -> dict[str, Row]:
    v, s, g, t = "vector", "scalar", "gpsimd", "tensor"
    sbuf = {"dst": "S", "src": "S", "data": "S"}
    dma = {"dst": "SH", "src": "SH"}
    rows = [
        Row(name="nc_matmul", engines=(t,), spaces={"dst": "P", "stationary": "S", "moving": "S"}, cost="matmul"),
        Row(
            name="nc_matmul_mx",
            engines=(t,),
            since=4,
            spaces={"dst": "P", "stationary": "S", "moving": "S", "stationary_scale": "S", "moving_scale": "S"},
            dtypes={
                "dst": ("float32", "bfloat16"),
                "stationary": _PACKED,
                "moving": _PACKED,
                "stationary_scale": _SCALES,
                "moving_scale": _SCALES,
            },
            cost="matmul_mx",
        ),
        Row(name="nc_transpose", engines=(t, v), cost="transpose"),
        Row(name="tensor_copy", engines=(v, s, g), cost="elementwise"),
        Row(name="tensor_copy_predicated", engines=(v,), dtypes={"predicate": (_BOOL, *_UNSIGNED)}, cost="elementwise"),
        Row(name="tensor_tensor", engines=(v, g), cost="elementwise"),
        Row(name="tensor_scalar", engines=(v, s, g), engine_since={s: 3}, cost="elementwise"),
        Row(name="scalar_tensor_tensor", engines=(v,), cost="elementwise"),
        Row(name="tensor_scalar_reduce", engines=(v,), cost="elementwise"),
        Row(name="tensor_scalar_cumulative", engines=(v,), cost="elementwise"),
        Row(name="tensor_tensor_scan", engines=(v,), cost="scan"),
        Row(name="tensor_reduce", engines=(v,), cost="reduce"),
        Row(name="tensor_partition_reduce", engines=(g,), spaces=sbuf, cost="partition_reduce"),
        Row(name="activation", engines=(s,), cost="activation"),
        Row(name="activation_reduce", engines=(s,), cost="activation"),
        Row(name="activate2", engines=(s,), since=4, cost="activation"),
        Row(name="exponential", engines=(v,), since=4, cost="elementwise"),
        Row(name="reciprocal", engines=(v,), cost="reciprocal"),
        Row(name="memset", engines=(v, g), cost="memset"),
        Row(name="iota", engines=(g,), spaces={"dst": "S"}, cost="gpsimd"),
        Row(name="affine_select", engines=(g,), spaces={"dst": "S", "on_true_tile": "S"}, cost="gpsimd"),
        Row(
            name="range_select",
            engines=(v,),
            since=3,
            dtypes={"on_true_tile": _FLOATS, "bound0": ("float32",), "bound1": ("float32",)},
            cost="elementwise",
        ),
        Row(
            name="select_reduce",
            engines=(v,),
            dtypes={"predicate": (_BOOL, "int8", "uint8", "int16", "uint16"), "reduce_res": _FLOATS},
            cost="elementwise",
        ),
        Row(name="bn_stats", engines=(v,), cost="bn_stats"),
        Row(name="bn_aggr", engines=(v,), cost="bn_aggr"),
        Row(name="max8", engines=(v,), cost="max8"),
        Row(name="nc_find_index8", engines=(v,), dtypes={"dst": ("uint16", "uint32")}, cost="find_index8"),
        Row(name="nc_match_replace8", engines=(v,), cost="match_replace8"),
        Row(name="nc_stream_shuffle", engines=(v,), cost="shuffle"),
        Row(
            name="local_gather",
            engines=(g,),
            spaces={"dst": "S", "src_buffer": "S", "index": "S"},
            dtypes={"index": ("uint16",)},
            cost="local_gather",
        ),
        Row(
            name="nc_n_gather",
            engines=(g,),
            spaces={"dst": "S", "data": "S", "indices": "S"},
            dtypes={"indices": ("uint32",)},
            cost="n_gather",
        ),
        Row(
            name="nonzero_with_count",
            engines=(g,),
            since=3,
            spaces={"dst": "S", "src": "S"},
            dtypes={"dst": ("int32",), "src": ("float32", "int32")},
            cost="gpsimd",
        ),
        Row(
            name="topk",
            engines=(g,),
            spaces={"val_dst": "S", "idx_dst": "S", "src": "S"},
            dtypes={"val_dst": ("bfloat16",), "idx_dst": ("uint32",), "src": ("bfloat16",)},
            cost="topk",
        ),
        Row(
            name="sequence_bounds",
            engines=(g,),
            dtypes={"dst": ("float32", "int32"), "segment_ids": ("float32", "int32")},
            cost="gpsimd",
        ),
        Row(
            name="quantize_mx",
            engines=(v,),
            since=4,
            spaces={"dst": "S", "src": "S", "dst_scale": "S"},
            dtypes={
                "dst": ("float8_e4m3fn_x4", "float8_e5m2_x4"),
                "src": ("float16", "bfloat16"),
                "dst_scale": _SCALES,
            },
            cost="quantize_mx",
        ),
        Row(name="dropout", engines=(v,), cost="elementwise"),
        Row(name="rng", engines=(v, g), engine_since={g: 3}, dtypes={"dst": _INTEGERS}, cost="rng"),
        Row(name="rand2", engines=(v,), since=4, cost="rng"),
        Row(name="set_rng_seed", engines=(v,), dtypes={"src_seeds": ("int32", "uint32", "float32")}, cost="rng_state"),
        Row(
            name="rand_set_state",
            engines=(g, v),
            since=3,
            engine_since={v: 4},
            spaces={"src_seeds": "S"},
            dtypes={"src_seeds": ("uint32",)},
            cost="rng_state",
        ),
        Row(
            name="rand_get_state",
            engines=(g, v),
            since=3,
            engine_since={v: 4},
            dtypes={"dst": ("uint32",)},
            cost="rng_state",
        ),
        Row(name="dma_copy", engines=("dma",), spaces=dma, cost="dma"),
        Row(name="dma_transpose", engines=("dma",), spaces=dma, cost="dma_transpose"),
        Row(name="dma_compute", engines=("dma",), spaces=dma, cost="dma_compute"),
        Row(name="sendrecv", engines=("dma", g), since=3, spaces={"dst": "S", "src": "S"}, cost="sendrecv"),
        Row(name="core_barrier", engines=(g, v, s, t, "sync"), since=3, spaces={"data": "HSP"}, cost="barrier"),
        Row(name="register_load", engines=("sync",), spaces={"src": "SHP"}, cost="register"),
        Row(name="register_store", engines=("sync",), spaces={"dst": "SHP"}, cost="register"),
        Row(name="collective", engines=("dma",), spaces={"dst": "SH", "src": "SH"}, cost="collective"),
    ]
    return {r.name: r for r in rows}


TABLE = _rows()
"""Every instruction by its name in `nki.isa`."""
