"""SGLang: `python -m sglang.launch_server`."""

from __future__ import annotations

from collections.abc import Mapping

from mowich.launch.arguments import FieldValue, FieldValues, LaunchProgram, NoArgument, PlanArgument

_WEIGHTS: Mapping[FieldValue, FieldValue] = {
    "bf16": "unquant",
    "fp8": "fp8",
    "mxfp8": "mxfp8",
    "int8": "w8a8_int8",
    "nvfp4": "modelopt_fp4",
    "mxfp4": "mxfp4",
    "int4": "awq",
}


def _own(fields: FieldValues) -> FieldValues:
    """--tp-size counts all ranks of a stage; with data-parallel attention each of its groups has tp-size / dp-size.
    --max-running-requests counts those of all groups."""
    dp = int(fields.pop("dp", 1))
    fields["ranks"] = int(fields.pop("tp", 1)) * dp
    if "sequences" in fields:
        fields["sequences"] = int(fields["sequences"]) * dp
    return {**fields, "attention_dp": dp, "is_dp_attention": dp > 1}


def _plan(own: FieldValues) -> FieldValues:
    """Without data-parallel attention --dp-size counts copies of the worker, which a plan leaves to the chips."""
    dp = int(own.pop("attention_dp", 1)) if own.pop("is_dp_attention", False) else 1
    own.pop("attention_dp", None)
    ranks = int(own.pop("ranks", 1))
    if "sequences" in own:
        own["sequences"] = max(1, int(own["sequences"]) // dp)
    return {**own, "tp": max(1, ranks // dp), "dp": dp}


SGLANG_SERVER = LaunchProgram(
    name="sglang",
    title="SGLang",
    work="serve",
    vendors=("NVIDIA", "AMD"),
    form="options",
    arguments=(
        PlanArgument(field="ranks", name="--tp-size", absent=1, also=("--tp", "--tensor-parallel-size")),
        PlanArgument(field="pp", name="--pp-size", absent=1, also=("--pp", "--pipeline-parallel-size")),
        PlanArgument(field="attention_dp", name="--dp-size", absent=1, also=("--dp", "--data-parallel-size")),
        PlanArgument(
            field="is_dp_attention", name="--enable-dp-attention", words={True: True, False: False}, absent=False
        ),
        PlanArgument(field="ep", name="--ep-size", absent=1, also=("--ep", "--expert-parallel-size")),
        PlanArgument(field="weights", name="--quantization", words=_WEIGHTS),
        PlanArgument(field="kv", name="--kv-cache-dtype", words={"bf16": "auto", "fp8": "fp8_e4m3"}, absent="bf16"),
        PlanArgument(field="sequences", name="--max-running-requests"),
        PlanArgument(field="context", name="--context-length"),
    ),
    lacks=(NoArgument(field="cp", only=(1,)),),
    own=_own,
    plan=_plan,
    pools={"prefill": {"--disaggregation-mode": "prefill"}, "decode": {"--disaggregation-mode": "decode"}},
    roles={"prefill": "prefill", "decode": "decode"},
)
