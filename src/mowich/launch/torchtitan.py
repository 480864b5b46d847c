"""torchtitan: `torchrun -m torchtitan.train`, options as section.key; a TOML of the same sections is read too. On
Trainium 2 and 3 it is AWS's fork of it, TorchTitan Neuron."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from mowich.launch.arguments import FieldValue, FieldValues, LaunchProgram, NoArgument, PlanArgument, cannot_say

_RESHARD: Mapping[FieldValue, FieldValue] = {2: "never", 3: "always"}
_STAGED = 1
"""The level of sharding that `never` is in a pipeline: PyTorch's stages reduce gradients once a step."""


def _own(fields: FieldValues) -> FieldValues:
    """zero 0 is replication alone, sharding groups replicate and shard (HSDP); 2 is FSDP that keeps the gathered
    weights (1 in a pipeline, which reduces gradients once a step), 3 FSDP that gathers them again; micro-batches are
    those of the pipeline, or the local batch without one. CUDA graphs take no pipelines, and of experts over ranks only
    some ways of sending tokens."""
    dp, pp, zero = int(fields.pop("dp", 1)), int(fields.get("pp", 1)), fields.pop("zero", 3)
    kept = _STAGED if pp > 1 else 2
    if zero not in (0, kept, 3):
        raise cannot_say(TORCHTITAN_RUN, "zero", zero, (0, kept, 3))
    group = int(fields.pop("shards", 0)) or dp
    sharded: FieldValues = {"replicas": dp // group, "shards": group, "reshard": 2 if zero == kept else zero}
    fields |= {"replicas": dp} if zero == 0 else sharded
    ep, whole = int(fields.get("ep", 1)), int(fields.get("cp", 1)) * int(fields.get("tp", 1))
    if ep > 1 and ep % whole:  # its groups of experts take all context and tensor ranks (torchtitan-mesh)
        raise cannot_say(TORCHTITAN_RUN, "ep", ep, tuple(n * whole for n in (1, 2, 4, 8, 16)))
    micro, batch = int(fields.pop("micro_batch", 1)), int(fields.get("batch", dp))
    fields |= {"local_batch": batch // dp, "stage_batch": micro} if pp > 1 else {"local_batch": micro}
    layers, vpp = int(fields.pop("layers", 0)), int(fields.pop("vpp", 1))
    if pp > 1:
        fields["stage_layers"] = math.ceil(layers / (pp * vpp))
    else:
        fields.pop("schedule", None)
    if int(fields.get("tp", 1)) == 1:
        fields.pop("sp", None)
        fields.pop("tp_overlap", None)
    if pp > 1 or ep > 1:
        fields["no_graphs"] = True
    return fields


def _plan(own: FieldValues) -> FieldValues:
    replicas, shards = int(own.pop("replicas", 1)), int(own.pop("shards", 0))
    own.pop("no_graphs", None)
    is_staged = int(own.get("pp", 1)) > 1
    reshard = own.pop("reshard", 2 if is_staged else 3)  # the default policy keeps weights in a pipeline
    out = {**own, "zero": 0 if not shards else _STAGED if is_staged and reshard == 2 else reshard}
    layers, pp, stage = int(out.pop("layers", 0)), int(out.get("pp", 1)), int(out.pop("stage_layers", 0))
    local, micro = out.pop("local_batch", None), out.pop("stage_batch", None)
    if pp > 1:
        out |= {"micro_batch": micro or 1}
        out |= {"vpp": max(1, round(layers / (stage * pp)))} if stage and layers else {}
    else:
        out |= {"micro_batch": local} if local is not None else {}
        out.pop("schedule", None)
    if int(out.get("tp", 1)) == 1:
        for name in ("sp", "tp_overlap"):
            out.pop(name, None)
    nodes, per_node = int(out.pop("nodes", 0)), int(out.pop("per_node", 0))
    others = int(out.get("tp", 1)) * pp * int(out.get("cp", 1)) * replicas
    if not shards and nodes * per_node and "dp" not in out:
        shards = max(1, nodes * per_node // others)
        out["zero"] = 3 if shards > 1 else out["zero"]
    if shards:
        out["dp"] = replicas * shards
    out["shards"] = shards if replicas > 1 and shards > 1 else 0
    return out


TORCHTITAN_RUN = LaunchProgram(
    name="torchtitan",
    title="torchtitan",
    work="train",
    vendors=("NVIDIA", "AMD"),
    form="dotted",
    arguments=(
        PlanArgument(field="nodes", name="--nnodes"),
        PlanArgument(field="per_node", name="--nproc-per-node", also=("--nproc_per_node",)),
        PlanArgument(field="replicas", name="parallelism.data_parallel_replicate_degree", absent=1),
        PlanArgument(field="shards", name="parallelism.data_parallel_shard_degree"),
        PlanArgument(field="reshard", name="parallelism.fsdp_reshard_after_forward", words=_RESHARD),
        PlanArgument(field="tp", name="parallelism.tensor_parallel_degree", absent=1),
        PlanArgument(
            field="sp", name="parallelism.enable_sequence_parallel", words={True: True, False: False}, absent=True
        ),
        PlanArgument(field="pp", name="parallelism.pipeline_parallel_degree", absent=1),
        PlanArgument(field="cp", name="parallelism.context_parallel_degree", absent=1),
        PlanArgument(field="ep", name="parallelism.expert_parallel_degree", absent=1),
        PlanArgument(
            field="schedule",
            name="parallelism.pipeline_parallel_schedule",
            words={
                "1f1b": "1F1B",
                "interleaved": "Interleaved1F1B",
                "gpipe": "GPipe",
                "zb-v": "ZBVZeroBubble",
                "dualpipe-v": "DualPipeV",
            },
            absent="1f1b",
        ),
        PlanArgument(field="stage_layers", name="parallelism.pipeline_parallel_layers_per_stage"),
        PlanArgument(field="stage_batch", name="parallelism.pipeline_parallel_microbatch_size"),
        PlanArgument(field="local_batch", name="training.local_batch_size"),
        PlanArgument(field="batch", name="training.global_batch_size"),
        PlanArgument(field="seq", name="training.seq_len"),
        PlanArgument(field="steps", name="training.steps"),
        PlanArgument(
            field="no_graphs", name="training.disable_cuda_graphs", words={True: True, False: False}, absent=False
        ),
        PlanArgument(
            field="offload",
            name="training.enable_cpu_offload",
            words={"none": False, "optimizer+weights": True},
            absent="none",
        ),
        PlanArgument(
            field="tp_overlap",
            name="compile.enable_async_tensor_parallel",
            words={True: True, False: False},
            absent=False,
        ),
        PlanArgument(
            field="recompute",
            name="activation_checkpoint.mode",
            words={"none": "none", "selective": "selective", "full": "full"},
            is_read_only=True,
        ),
    ),
    lacks=(
        NoArgument(field="recompute", only=("none", "selective", "full"), why="the function of --config chooses it"),
        NoArgument(field="precision", why="the function of --config chooses it"),
        NoArgument(field="etp", only=(1,)),
        NoArgument(field="order", only=("tp-dp-pp",)),
        NoArgument(field="split", only=("even",)),
        NoArgument(field="dp_overlap", only=(True,), why="FSDP always overlaps"),
        NoArgument(field="pp_scatter", only=(False,)),
        NoArgument(field="regather"),
    ),
    own=_own,
    plan=_plan,
    fixed={"compile.enable": True},
)

_BY_COMPILER = ("tp_overlap", "offload", "no_graphs")
"""Fields that have an argument on GPUs alone."""


def _neuron_own(fields: FieldValues) -> FieldValues:
    own = _own(fields)
    own.pop("no_graphs", None)
    return own


TORCHTITAN_NEURON = replace(
    TORCHTITAN_RUN,
    title="TorchTitan Neuron",
    vendors=("AWS",),
    chips=("trainium2", "trainium3"),
    arguments=tuple(one for one in TORCHTITAN_RUN.arguments if one.field not in _BY_COMPILER),
    lacks=(
        *(one for one in TORCHTITAN_RUN.lacks if one.field != "precision"),
        NoArgument(field="precision", only=("bf16",), why="the only recipe that ships on Trainium"),
        NoArgument(field="tp_overlap", only=(True,), why="the compiler orders collectives"),
        NoArgument(field="offload", only=("none",)),
    ),
    own=_neuron_own,
    fixed={"compile.enable": True, "compile.backend": "neuron"},
    mark="--compile.backend neuron",
    sources=(
        "TorchTitan Neuron 0.2.2+neuron.1 (beta), Neuron 2.33.0: github.com/aws-neuron/torchtitan-neuron",
        "--module, --config and --compile.* are as AWS's tutorials have them (read 2026-12-01); the other names are"
        " torchtitan's, inferred for the fork",
        "$MODULE is torchtitan_neuron.models.qwen3, or inferred from it: llama3, deepseek_v3, gpt_oss",
        "a rank is a logical core of two NeuronCores (LNC 2)",
    ),
)
