"""vLLM: `vllm serve`."""

from __future__ import annotations

from collections.abc import Mapping

from mowich.launch.arguments import FieldValue, FieldValues, LaunchProgram, PlanArgument, cannot_say

_WEIGHTS: Mapping[FieldValue, FieldValue] = {
    "fp8": "fp8",
    "mxfp8": "mxfp8",
    "nvfp4": "modelopt_fp4",
    "mxfp4": "mxfp4",
    "int4": "awq_marlin",
}


def _own(fields: FieldValues) -> FieldValues:
    """ep is a switch: experts over all ranks of a stage, or none of them apart."""
    ep, ranks = fields.pop("ep", 1), int(fields.get("tp", 1)) * int(fields.get("dp", 1))
    if ep not in (1, ranks):
        raise cannot_say(VLLM_SERVE, "ep", ep, (1, ranks))
    weights = fields.pop("weights", None)
    return {**fields, "experts_apart": ep == ranks and ranks > 1, **_weights(weights)}


def _weights(weights: object) -> FieldValues:
    """bf16 is the type of the checkpoint; other formats are a way of quantization."""
    if weights is None:
        return {}
    return {"dtype": "bf16"} if weights == "bf16" else {"dtype": "bf16", "weights": str(weights)}


def _plan(own: FieldValues) -> FieldValues:
    ranks = int(own.get("tp", 1)) * int(own.get("dp", 1))
    own["ep"] = ranks if own.pop("experts_apart", False) else 1
    if own.pop("dtype", None) is not None:
        own.setdefault("weights", "bf16")
    return own


VLLM_SERVE = LaunchProgram(
    name="vllm",
    title="vLLM",
    work="serve",
    vendors=("NVIDIA", "AMD", "Google"),
    form="options",
    arguments=(
        PlanArgument(field="tp", name="--tensor-parallel-size", absent=1, also=("-tp",)),
        PlanArgument(field="pp", name="--pipeline-parallel-size", absent=1, also=("-pp",)),
        PlanArgument(field="dp", name="--data-parallel-size", absent=1, also=("-dp",)),
        PlanArgument(field="cp", name="--prefill-context-parallel-size", absent=1, also=("-pcp",)),
        PlanArgument(
            field="experts_apart",
            name="--enable-expert-parallel",
            words={True: True, False: False},
            absent=False,
            also=("-ep",),
        ),
        PlanArgument(field="dtype", name="--dtype", words={"bf16": "bfloat16"}),
        PlanArgument(field="weights", name="--quantization", words=_WEIGHTS, also=("-q",)),
        PlanArgument(field="kv", name="--kv-cache-dtype", words={"bf16": "auto", "fp8": "fp8"}, absent="bf16"),
        PlanArgument(field="sequences", name="--max-num-seqs"),
        PlanArgument(field="context", name="--max-model-len"),
    ),
    own=_own,
    plan=_plan,
    pools={
        "prefill": {"--kv-transfer-config": '{"kv_connector":"NixlConnector","kv_role":"kv_producer"}'},
        "decode": {"--kv-transfer-config": '{"kv_connector":"NixlConnector","kv_role":"kv_consumer"}'},
    },
    roles={"prefill": "kv_producer", "decode": "kv_consumer"},
)
