"""SGLang: `python -m sglang.launch_server`."""

from __future__ import annotations

from collections.abc import Mapping

from mowich.launch.arguments import FieldValue, FieldValues, LaunchProgram, NoArgument, PlanArgument
from mowich.launch.settings import settings_arguments, settings_in, settings_out

_WEIGHTS: Mapping[FieldValue, FieldValue] = {
    "bf16": "unquant",
    "fp8": "fp8",
    "mxfp8": "mxfp8",
    "int8": "w8a8_int8",
    "nvfp4": "modelopt_fp4",
    "mxfp4": "mxfp4",
    "int4": "awq",
}


_OF_ALL_GROUPS = ("sequences", "budget number")
"""Fields whose arguments count all groups of data-parallel attention."""


def _own(fields: FieldValues) -> FieldValues:
    """--tp-size counts all ranks of a stage; with data-parallel attention each of its groups has tp-size / dp-size.
    --max-running-requests and --chunked-prefill-size are of all groups together."""
    fields = settings_out("sglang", fields)
    dp = int(fields.pop("dp", 1))
    fields["ranks"] = int(fields.pop("tp", 1)) * dp
    for name in _OF_ALL_GROUPS:
        if name in fields:
            fields[name] = int(fields[name]) * dp
    return {**fields, "attention_dp": dp, "is_dp_attention": dp > 1}


def _plan(own: FieldValues) -> FieldValues:
    """Without data-parallel attention --dp-size counts copies of the worker, which a plan leaves to the chips."""
    dp = int(own.pop("attention_dp", 1)) if own.pop("is_dp_attention", False) else 1
    own.pop("attention_dp", None)
    ranks = int(own.pop("ranks", 1))
    for name in _OF_ALL_GROUPS:
        if name in own:
            own[name] = max(1, int(own[name]) // dp)
    return {**settings_in("sglang", own), "tp": max(1, ranks // dp), "dp": dp}


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
        *settings_arguments("sglang"),
    ),
    lacks=(NoArgument(field="cp", only=(1,)),),
    own=_own,
    plan=_plan,
    pools={"prefill": {"--disaggregation-mode": "prefill"}, "decode": {"--disaggregation-mode": "decode"}},
    roles={"prefill": "prefill", "decode": "decode"},
)
