"""MaxText: a config whose mesh axes are inside a slice (ici_) and across slices (dcn_)."""

from __future__ import annotations

import math

from mowich.launch.arguments import FieldValues, LaunchProgram, NoArgument, PlanArgument, cannot_say

AXES = {
    "data": "data",
    "fsdp": "fsdp",
    "pipeline": "pp",
    "expert": "ep",
    "context": "cp",
    "tensor": "tp",
    "tensor_sequence": "tp_sp",
}
"""Mesh axis -> field that holds its size; those that may cross slices come first."""
_FILLED = (("dcn", "data"), ("ici", "fsdp"))
"""Axes that are always written: MaxText's base config gives them the devices that the others leave (-1)."""
_CROSSING = ("data", "fsdp", "pipeline", "expert")


def _own(fields: FieldValues) -> FieldValues:
    """The expert axis is a part of the data-parallel ranks, and the tensor axis cuts experts too."""
    dp, tp, pp, ep = (int(fields.pop(name, 1)) for name in ("dp", "tp", "pp", "ep"))
    zero, etp = int(fields.pop("zero", 3)), int(fields.pop("etp", 1))
    if zero == 2:
        raise cannot_say(MAXTEXT_RUN, "zero", zero, (0, 1, 3))
    if dp % ep:
        raise cannot_say(MAXTEXT_RUN, "ep", ep, tuple(n for n in range(1, dp + 1) if dp % n == 0)[:16])
    if ep > 1 and etp != tp:
        raise cannot_say(MAXTEXT_RUN, "etp", etp, (tp,))
    schedule, vpp = fields.pop("schedule", "1f1b"), fields.pop("vpp", 1)
    layers = int(fields.pop("layers", 0))
    sp = bool(fields.pop("sp", False))
    cp, micro = int(fields.pop("cp", 1)), int(fields.pop("micro_batch", 1))
    batch = int(fields.get("batch", micro * dp))
    sizes = dict.fromkeys(AXES, 1) | {"pipeline": pp, "expert": ep, "context": cp}
    group = int(fields.pop("shards", 0)) or dp
    if group < dp and zero != 3:
        raise cannot_say(MAXTEXT_RUN, "shards", group, (0,))
    sizes |= {"data": dp // group, "fsdp": group // ep} if zero == 3 else {"data": dp // ep}
    sizes["tensor_sequence" if sp else "tensor"] = tp
    slices = int(fields.pop("slices", 1))
    for axis in AXES:
        across = math.gcd(sizes[axis], slices) if axis in _CROSSING else 1
        slices //= across
        fields |= {f"dcn_{axis}": across, f"ici_{axis}": sizes[axis] // across}
    if slices > 1:
        raise cannot_say(MAXTEXT_RUN, "tp", tp, tuple(n for n in (1, 2, 4, 8) if n < tp))
    devices = dp * tp * pp * cp
    if pp > 1:
        if schedule not in ("gpipe", "1f1b", "interleaved"):
            raise cannot_say(MAXTEXT_RUN, "schedule", schedule, ("1f1b", "interleaved"))
        fields |= {"stage_layers": math.ceil(layers / (pp * int(vpp))), "micro_batches": batch // (micro * dp)}
        fields |= {"device_batch": batch / devices, "schedule": schedule}
    else:
        accumulated = max(1, batch // (micro * dp))
        if accumulated > 1 and fields.get("precision") == "fp8":  # its config refuses the two together
            raise cannot_say(MAXTEXT_RUN, "precision", "fp8", ("bf16", "int8"))
        fields |= {"device_batch": micro * dp / devices, "accumulated": accumulated}
    return fields | {"is_sharded": zero == 1}


def _plan(own: FieldValues) -> FieldValues:
    sizes = {axis: int(own.pop(f"ici_{axis}", 1)) * int(own.pop(f"dcn_{axis}", 1)) for axis in AXES}
    tp, cp, pp, ep = (
        sizes["tensor"] * sizes["tensor_sequence"],
        sizes["context"],
        sizes["pipeline"],
        sizes["expert"],
    )
    dp = sizes["data"] * sizes["fsdp"] * ep
    is_sharded = own.pop("is_sharded", False)
    zero = 3 if sizes["fsdp"] > 1 or (ep > 1 and not is_sharded and sizes["data"] == 1) else 1 if is_sharded else 0
    layers, stage = int(own.pop("layers", 0)), int(own.pop("stage_layers", 0))
    device_batch, accumulated = float(own.pop("device_batch", 0)), own.pop("accumulated", 1)
    count = int(own.pop("micro_batches", pp if pp > 1 else 1))
    own |= {"tp": tp, "sp": sizes["tensor_sequence"] > 1, "cp": cp, "pp": pp, "ep": ep, "dp": dp, "zero": zero}
    own["shards"] = sizes["fsdp"] * ep if zero == 3 and sizes["data"] > 1 else 0
    if ep > 1:
        own["etp"] = tp
    if device_batch:
        own["micro_batch"] = max(1, round(device_batch * dp * tp * cp * pp / (dp * count)))
        own["batch"] = round(device_batch * dp * tp * cp * pp * int(accumulated))
    if pp > 1 and stage and layers:
        own["vpp"] = max(1, round(layers / (stage * pp)))
    return own


MAXTEXT_RUN = LaunchProgram(
    name="maxtext",
    title="MaxText",
    work="train",
    vendors=("Google", "NVIDIA", "AMD"),
    form="keys",
    arguments=(
        *(
            PlanArgument(
                field=f"{level}_{axis}",
                name=f"{level}_{axis}_parallelism",
                absent=None if (level, axis) in _FILLED else 1,
            )
            for level in ("dcn", "ici")
            for axis in AXES
        ),
        PlanArgument(
            field="is_sharded", name="shard_optimizer_over_data", words={True: True, False: False}, absent=False
        ),
        PlanArgument(field="device_batch", name="per_device_batch_size", is_whole=False),
        PlanArgument(field="accumulated", name="gradient_accumulation_steps", absent=1),
        PlanArgument(field="micro_batches", name="num_pipeline_microbatches"),
        PlanArgument(field="stage_layers", name="num_layers_per_pipeline_stage"),
        PlanArgument(field="seq", name="max_target_length"),
        PlanArgument(field="steps", name="steps"),
        PlanArgument(
            field="precision", name="quantization", words={"bf16": "", "fp8": "fp8", "int8": "int8"}, absent="bf16"
        ),
        PlanArgument(
            field="recompute",
            name="remat_policy",
            words={"none": "none", "selective": "minimal_with_context", "full": "full"},
            absent="full",
        ),
        PlanArgument(
            field="offload",
            name="optimizer_memory_host_offload",
            words={"none": False, "optimizer": True},
            absent="none",
        ),
    ),
    lacks=(
        NoArgument(field="batch", why="it is per_device_batch_size on all devices, times what is accumulated"),
        NoArgument(field="schedule", only=("1f1b", "interleaved", "gpipe"), why="its pipeline is a circular one"),
        NoArgument(field="order", only=("tp-dp-pp",)),
        NoArgument(field="split", only=("even",)),
        *(NoArgument(field=name) for name in ("tp_overlap", "dp_overlap", "pp_scatter", "regather")),
    ),
    own=_own,
    plan=_plan,
)
