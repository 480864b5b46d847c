"""NxD Inference, served by vLLM's Neuron plugin: the neuron config in --additional-config."""

from __future__ import annotations

from mowich.launch.arguments import FieldValues, LaunchProgram, PlanArgument, cannot_say
from mowich.launch.settings import settings_out


def _own(fields: FieldValues) -> FieldValues:
    """tp_degree counts all ranks of a stage: attention data parallelism and context parallelism cut it.
    batch_size counts the sequences of all groups."""
    fields = settings_out("nxdi", fields)
    tp, dp, cp, ep = (int(fields.pop(name, 1)) for name in ("tp", "dp", "cp", "ep"))
    if dp > 1 and cp > 1:
        raise cannot_say(NXDI_SERVE, "cp", cp, (1,))
    ranks = tp * dp * cp
    kept: FieldValues = {**fields, "ranks": ranks, "attention_dp": dp, "cp": cp}
    kept |= {"expert_ranks": ep, "expert_tp": ranks // ep} if ep > 1 else {}
    if "sequences" in kept:
        kept["sequences"] = int(kept["sequences"]) * dp
    weights = kept.pop("weights", "bf16")
    if weights == "mxfp4":
        kept["is_mxfp4"] = True
    elif weights != "bf16":
        kept |= {"is_quantized": True, "weights": weights}
    return kept


def _plan(own: FieldValues) -> FieldValues:
    dp, cp = int(own.pop("attention_dp", 1)), int(own.get("cp", 1))
    ranks, ep = int(own.pop("ranks", 1)), own.pop("expert_ranks", 1)
    own.pop("expert_tp", None)
    if "sequences" in own:
        own["sequences"] = max(1, int(own["sequences"]) // dp)
    if not own.pop("is_quantized", False):
        own["weights"] = "bf16"
    if own.pop("is_mxfp4", False):
        own["weights"] = "mxfp4"
    return {**own, "tp": max(1, ranks // (dp * cp)), "dp": dp, "ep": ep}


NXDI_SERVE = LaunchProgram(
    name="nxdi",
    title="NxD Inference",
    work="serve",
    vendors=("AWS",),
    form="keys",
    arguments=(
        PlanArgument(field="ranks", name="tp_degree", absent=1),
        PlanArgument(field="pp", name="pp_degree", absent=1),
        PlanArgument(field="attention_dp", name="attention_dp_degree", absent=1),
        PlanArgument(field="cp", name="cp_degree", absent=1),
        PlanArgument(field="expert_ranks", name="moe_ep_degree", absent=1),
        PlanArgument(field="expert_tp", name="moe_tp_degree"),
        PlanArgument(field="is_quantized", name="quantized", words={True: True, False: False}, absent=False),
        PlanArgument(field="weights", name="quantization_dtype", words={"fp8": "f8e4m3", "int8": "int8"}),
        PlanArgument(field="is_mxfp4", name="is_mxfp4_compute", words={True: True, False: False}, absent=False),
        PlanArgument(field="kv", name="kv_cache_quant", words={"bf16": False, "fp8": True}, absent="bf16"),
        PlanArgument(field="sequences", name="batch_size"),
        PlanArgument(field="context", name="seq_len"),
        PlanArgument(field="lnc", name="logical_nc_config", also=("logical_neuron_cores",)),
    ),
    own=_own,
    plan=_plan,
    pools={
        "prefill": {"--kv-transfer-config": '{"kv_connector":"NeuronConnector","kv_role":"kv_producer"}'},
        "decode": {"--kv-transfer-config": '{"kv_connector":"NeuronConnector","kv_role":"kv_consumer"}'},
    },
    roles={"prefill": "kv_producer", "decode": "kv_consumer"},
    fixed={"is_continuous_batching": True},
    only_on={("weights", "mxfp4"): ("trainium3", "AWS's documentation of August 2026 has MXFP4 for gpt-oss on Trn3")},
)
