"""Megatron-LM: `torchrun pretrain_gpt.py`."""

from __future__ import annotations

from collections.abc import Mapping

from mowich.launch.arguments import FieldValue, FieldValues, LaunchProgram, NoArgument, PlanArgument, cannot_say

_RECIPE: Mapping[FieldValue, FieldValue] = {"fp8": "tensorwise", "mxfp8": "mxfp8"}
_MODULES: Mapping[FieldValue, FieldValue] = {
    "experts": "moe",
    "norms": "layernorm",
    "all norms": "layernorm moe_act mla_up_proj",
}
"""What of a layer backward computes again. The last is read; whether a model has these modules is its own."""

_RECOMPUTE: Mapping[str, FieldValues] = {
    "full": {"recompute_method": "uniform", "recompute_layers": 1},
    "selective": {"recompute_what": "norms"},
    "experts": {"recompute": "selective", "recompute_what": "experts"},
}
"""What its arguments say beside of how much backward computes again."""


def _own(fields: FieldValues) -> FieldValues:
    fields.pop("layers", None)
    dp, group = int(fields.pop("dp", 1)), int(fields.pop("shards", 0))  # dp is what torchrun's ranks leave
    fields |= {"instances": dp // group} if group else {}
    tp, zero, sp = int(fields.get("tp", 1)), int(fields.pop("zero", 0)), bool(fields.get("sp"))
    fields |= {"is_sharded": zero > 0, "is_fsdp": zero > 1} | ({"sharding": zero} if zero > 1 else {})
    schedule, vpp = fields.pop("schedule", "1f1b"), int(fields.get("vpp", 1))
    if schedule not in ("1f1b", "interleaved"):
        raise cannot_say(MEGATRON_RUN, "schedule", schedule, ("1f1b", "interleaved"))
    fields |= _RECOMPUTE.get(str(fields.get("recompute")), {})
    precision = str(fields.pop("precision", "bf16"))
    if precision not in ("bf16", "nvfp4", *_RECIPE):
        raise cannot_say(MEGATRON_RUN, "precision", precision, ("bf16", "nvfp4", *_RECIPE))
    fields["is_bf16"] = True
    if precision in _RECIPE:
        fields |= {"fp8": "hybrid", "recipe": precision}
    if precision == "nvfp4":
        fields["fp4"] = "e2m1"
    if fields.get("dp_overlap") and zero == 1:
        fields["gathers_early"] = True
    if tp == 1:
        fields.pop("tp_overlap", None)
    if not (tp > 1 and int(fields.get("pp", 1)) > 1 and not sp):
        fields.pop("pp_scatter", None)
    if vpp > 1 and schedule == "1f1b":
        raise cannot_say(MEGATRON_RUN, "vpp", vpp, (1,))
    if not sp and fields.pop("tp_overlap", False):
        raise cannot_say(MEGATRON_RUN, "tp_overlap", True, (False,))
    return fields


def _plan(own: FieldValues) -> FieldValues:
    tp, pp, cp = (int(own.get(name, 1)) for name in ("tp", "pp", "cp"))
    nodes, per_node = int(own.pop("nodes", 0)), int(own.pop("per_node", 0))
    if nodes * per_node and "dp" not in own:
        own["dp"] = max(1, nodes * per_node // (tp * pp * cp))
    is_sharded, is_fsdp = own.pop("is_sharded", False), own.pop("is_fsdp", False)
    instances = int(own.pop("instances", 1))
    dp = int(own.get("dp", 1))
    own["shards"] = dp // instances if 1 < instances < dp else 0
    sharding = own.pop("sharding", 3 if is_fsdp else None)
    own["zero"] = sharding if is_fsdp and sharding is not None else int(is_sharded)
    own["schedule"] = "interleaved" if int(own.get("vpp", 1)) > 1 else "1f1b"
    if own.pop("recompute_what", None) == "experts":
        own["recompute"] = "experts"
    fp8, recipe, fp4 = own.pop("fp8", None), own.pop("recipe", "fp8"), own.pop("fp4", None)
    own["precision"] = "nvfp4" if fp4 else recipe if fp8 else "bf16"
    sp = bool(own.get("sp"))
    if "etp" not in own and int(own.get("ep", 1)) > 1:
        own["etp"] = tp
    if tp == 1:
        own.pop("tp_overlap", None)
    if not (tp > 1 and pp > 1 and not sp):
        own.pop("pp_scatter", None)
    for name in ("is_bf16", "recompute_method", "recompute_layers", "gathers_early", "layers"):
        own.pop(name, None)
    return own


def _switch(field: str, name: str, *, absent: bool = False) -> PlanArgument:
    """An argument without a value, written where the field differs from its default."""
    return PlanArgument(field=field, name=name, words={not absent: True, absent: False}, absent=absent)


MEGATRON_RUN = LaunchProgram(
    name="megatron",
    title="Megatron-LM",
    work="train",
    vendors=("NVIDIA", "AMD"),
    form="options",
    arguments=(
        PlanArgument(field="nodes", name="--nnodes"),
        PlanArgument(field="per_node", name="--nproc-per-node", also=("--nproc_per_node",)),
        PlanArgument(field="tp", name="--tensor-model-parallel-size", absent=1),
        _switch("sp", "--sequence-parallel"),
        PlanArgument(field="pp", name="--pipeline-model-parallel-size", absent=1),
        PlanArgument(field="vpp", name="--num-virtual-stages-per-pipeline-rank", absent=1),
        PlanArgument(field="cp", name="--context-parallel-size", absent=1),
        PlanArgument(field="ep", name="--expert-model-parallel-size", absent=1),
        PlanArgument(field="etp", name="--expert-tensor-parallel-size"),
        _switch("is_sharded", "--use-distributed-optimizer"),
        _switch("is_fsdp", "--use-megatron-fsdp"),
        PlanArgument(
            field="sharding",
            name="--data-parallel-sharding-strategy",
            words={0: "no_shard", 1: "optim", 2: "optim_grads", 3: "optim_grads_params"},
        ),
        PlanArgument(field="instances", name="--num-distributed-optimizer-instances", absent=1),
        PlanArgument(field="micro_batch", name="--micro-batch-size"),
        PlanArgument(field="batch", name="--global-batch-size"),
        PlanArgument(field="seq", name="--seq-length"),
        PlanArgument(field="steps", name="--train-iters"),
        PlanArgument(
            field="recompute",
            name="--recompute-granularity",
            words={"none": False, "selective": "selective", "full": "full"},
            absent="none",
        ),
        PlanArgument(
            field="recompute_method", name="--recompute-method", words={"uniform": "uniform", "block": "block"}
        ),
        PlanArgument(field="recompute_layers", name="--recompute-num-layers"),
        PlanArgument(field="recompute_what", name="--recompute-modules", words=_MODULES),
        _switch("is_bf16", "--bf16"),
        PlanArgument(field="fp8", name="--fp8-format", words={"hybrid": "hybrid", "e4m3": "e4m3"}),
        PlanArgument(field="recipe", name="--fp8-recipe", words=_RECIPE),
        PlanArgument(field="fp4", name="--fp4-format", words={"e2m1": "e2m1"}),
        _switch("dp_overlap", "--overlap-grad-reduce"),
        _switch("gathers_early", "--overlap-param-gather"),
        _switch("tp_overlap", "--tp-comm-overlap"),
        _switch("pp_scatter", "--no-scatter-gather-tensors-in-pipeline", absent=True),
        PlanArgument(
            field="order",
            name="--use-tp-pp-dp-mapping",
            words={"tp-pp-dp": True, "tp-dp-pp": False},
            absent="tp-dp-pp",
        ),
        PlanArgument(
            field="offload", name="--optimizer-cpu-offload", words={"optimizer": True, "none": False}, absent="none"
        ),
    ),
    lacks=(NoArgument(field="split", only=("even",)), NoArgument(field="regather")),
    own=_own,
    plan=_plan,
)
