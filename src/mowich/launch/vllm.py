"""vLLM: `vllm serve`. On Trainium 2 and 3 it is vLLM with AWS's plugin, vLLM Neuron, whose own choices stand in the
`neuron_config` of --additional-config."""

from __future__ import annotations

from collections.abc import Mapping

from mowich.launch.arguments import FieldValue, FieldValues, LaunchProgram, NoArgument, PlanArgument, cannot_say
from mowich.launch.settings import settings_arguments, settings_in, settings_out

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
    return {**settings_out("vllm", fields), "experts_apart": ep == ranks and ranks > 1, **_weights(weights)}


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
    return settings_in("vllm", own)


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
        *settings_arguments("vllm"),
    ),
    own=_own,
    plan=_plan,
    pools={
        "prefill": {"--kv-transfer-config": '{"kv_connector":"NixlConnector","kv_role":"kv_producer"}'},
        "decode": {"--kv-transfer-config": '{"kv_connector":"NixlConnector","kv_role":"kv_consumer"}'},
    },
    roles={"prefill": "kv_producer", "decode": "kv_consumer"},
)

NEURON_CONFIG = "neuron_config."
"""How names begin that stand in the `neuron_config`."""
_ON_NEURON: Mapping[FieldValue, FieldValue] = {"mxfp4": "mxfp4", "mxfp8": "mxfp8"}
"""Formats that `neuron_config` names."""
_LNC = 2
"""Cores of a device where nothing is said."""


def _neuron_own(fields: FieldValues) -> FieldValues:
    """Experts lie over the ranks of tensor parallelism, or over a part of them that `ep_degree` says; with
    data-parallel attention over all ranks. Weights in FP8 are a way of the checkpoint. No stages, no context ranks."""
    fields = settings_out("vllm-neuron", fields)
    for name in ("pp", "cp"):
        if (value := int(fields.pop(name, 1))) != 1:
            raise cannot_say(VLLM_NEURON, name, value, (1,))
    if fields.get("lnc") == _LNC:
        del fields["lnc"]
    ep, tp, dp = (int(fields.pop(name, 1)) for name in ("ep", "tp", "dp"))
    allowed = (1, tp * dp) if dp > 1 else tuple(n for n in range(1, tp + 1) if tp % n == 0)
    if ep not in allowed:
        raise cannot_say(VLLM_NEURON, "ep", ep, allowed)
    out: FieldValues = {**fields, "tp": tp, "dp": dp, "experts_apart": ep > 1}
    if dp == 1 and 1 < ep < tp:
        out["expert_ranks"] = ep
    weights = out.pop("weights", None)
    if weights is not None and weights in _ON_NEURON:
        out["format"] = weights
    elif weights is not None and weights != "bf16":
        out["weights"] = weights
    return out if weights is None else {**out, "dtype": "bf16"}


def _neuron_plan(own: FieldValues) -> FieldValues:
    tp, dp, ranks = int(own.get("tp", 1)), int(own.get("dp", 1)), int(own.pop("expert_ranks", 0))
    own |= {"pp": 1, "cp": 1, "ep": (ranks or tp * dp) if own.pop("experts_apart", False) else 1}
    dtype, form = own.pop("dtype", None), own.pop("format", None)
    if form is not None:
        own["weights"] = form
    elif dtype is not None:
        own.setdefault("weights", "bf16")
    return own


def _transfer(role: str) -> str:
    """The connector between workers of prefill and of decode, as AWS's recipe of gpt-oss has it."""
    return (
        f'{{"kv_connector":"NeuronNixlConnector","kv_role":"{role}","kv_buffer_device":"cuda",'
        '"kv_connector_extra_config":{"backends":["LIBFABRIC"]}}'
    )


VLLM_NEURON = LaunchProgram(
    name="vllm",
    title="vLLM Neuron",
    work="serve",
    vendors=("AWS",),
    chips=("trainium2", "trainium3"),
    form="options",
    arguments=(
        *(a for a in VLLM_SERVE.arguments if a.field not in ("pp", "cp", "weights") and " " not in a.field),
        PlanArgument(field="format", name=f"{NEURON_CONFIG}quantization", words=_ON_NEURON),
        PlanArgument(field="expert_ranks", name=f"{NEURON_CONFIG}ep_degree"),
    ),
    lacks=(
        NoArgument(field="weights", only=("fp8",), why="a checkpoint that was calibrated in FP8 says it"),
        NoArgument(field="lnc", why="NEURON_LOGICAL_NC_CONFIG in the environment says it"),
    ),
    own=_neuron_own,
    plan=_neuron_plan,
    pools={
        "prefill": {"--kv-transfer-config": _transfer("kv_producer")},
        "decode": {"--kv-transfer-config": _transfer("kv_consumer")},
    },
    roles={"prefill": "kv_producer", "decode": "kv_consumer"},
    only_on={
        ("weights", "mxfp4"): ("trainium3", "AWS's documentation of October 2026 has MXFP4 for gpt-oss on Trn3"),
        ("weights", "mxfp8"): ("trainium3", "MXFP8 is a format of Trn3"),
    },
    mark='"neuron_config"',
    sources=(
        "vLLM Neuron 0.29.0.1.2.0 (beta), Neuron 2.33.0: github.com/vllm-project/vllm-neuron",
        "names are of AWS's configuration reference and its recipe of gpt-oss (Neuron 2.32, read 2026-12-01); one"
        " bucket of sequences is inferred",
    ),
)
