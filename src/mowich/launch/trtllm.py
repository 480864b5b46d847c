"""TensorRT-LLM: `trtllm-serve` with its options in one config, as YAML has them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping

from mowich.launch.arguments import FieldValues, LaunchProgram, NoArgument, PlanArgument, cannot_say
from mowich.launch.settings import settings_arguments, settings_in, settings_out

_PIECEWISE = "graphs torch_compile_config.enable_piecewise_cuda_graph"
_SIZES = "graphs number"
_BALANCED = "attention_dp_config.enable_balance"
_BALANCE = "balance number"
_TRANSFER = "cache_transceiver_config.backend"
_BALANCE_STEPS = 50
"""Steps of `attention_dp_config.timeout_iters` where it is not said."""


def _own(fields: FieldValues) -> FieldValues:
    """tensor_parallel_size counts all ranks of a stage; data-parallel attention is over all of them or none. Sizes of
    captured steps are those of graphs in pieces, which are switched on, as the balance of ranks is."""
    fields = settings_out("trtllm", fields)
    tp, dp, ep = (int(fields.pop(name, 1)) for name in ("tp", "dp", "ep"))
    if dp > 1 and tp > 1:
        raise cannot_say(TRTLLM_SERVE, "tp", tp, (1,))
    if _SIZES in fields:
        fields[_PIECEWISE] = "true"
    if int(fields.get(_BALANCE, 0)):
        fields["is_balanced"] = True
    return {**fields, "ranks": tp * dp, "ep": ep, "is_dp_attention": dp > 1}


def _plan(own: FieldValues) -> FieldValues:
    ranks, is_apart = int(own.pop("ranks", 1)), own.pop("is_dp_attention", False)
    steps = int(own.get(_BALANCE, 0)) or _BALANCE_STEPS
    own[_BALANCE] = steps if own.pop("is_balanced", False) else 0
    return {**settings_in("trtllm", own), "tp": 1 if is_apart else ranks, "dp": ranks if is_apart else 1}


TRTLLM_SERVE = LaunchProgram(
    name="trtllm",
    title="TensorRT-LLM",
    work="serve",
    vendors=("NVIDIA",),
    form="keys",
    arguments=(
        PlanArgument(field="ranks", name="tensor_parallel_size", absent=1, also=("--tp_size",)),
        PlanArgument(field="pp", name="pipeline_parallel_size", absent=1, also=("--pp_size",)),
        PlanArgument(
            field="is_dp_attention", name="enable_attention_dp", words={True: True, False: False}, absent=False
        ),
        PlanArgument(field="ep", name="moe_expert_parallel_size", absent=1, also=("--ep_size",)),
        PlanArgument(field="kv", name="kv_cache_config.dtype", words={"bf16": "auto", "fp8": "fp8"}, absent="bf16"),
        PlanArgument(field="sequences", name="max_batch_size", also=("--max_batch_size",)),
        PlanArgument(field="context", name="max_seq_len", also=("--max_seq_len",)),
        PlanArgument(field="is_balanced", name=_BALANCED, words={True: True, False: False}, absent=False),
        *settings_arguments("trtllm"),
    ),
    lacks=(
        NoArgument(field="cp", only=(1,)),
        NoArgument(field="weights", why="the checkpoint says it"),
    ),
    own=_own,
    plan=_plan,
    pools={
        # a context server runs without overlap: it is not supported there (examples/disaggregated of TensorRT-LLM)
        "prefill": {"--server_role": "CONTEXT", _TRANSFER: "DEFAULT", "disable_overlap_scheduler": "true"},
        "decode": {"--server_role": "GENERATION", _TRANSFER: "DEFAULT"},
    },
    roles={"prefill": "CONTEXT", "decode": "GENERATION"},
    sources=("names are of TensorRT-LLM 1.4.0rc4 (TorchLlmArgs); the config wins over options of the command",),
)
_COMMAND_NAMES: Mapping[str, str] = {
    "--max_num_tokens": "max_num_tokens",
    "--kv_cache_free_gpu_memory_fraction": "kv_cache_config.free_gpu_memory_fraction",
    "--free_gpu_memory_fraction": "kv_cache_config.free_gpu_memory_fraction",
}
"""Options of the command for settings -> their keys in the config."""
CONFIG_OPTIONS = ("--config", "--extra_llm_api_options")
"""Options that name a config."""
_JSON: Mapping[object, object] = {"true": True, "false": False, "null": None}


def trtllm_words(arguments: FieldValues) -> list[str]:
    """The config, as JSON, which YAML holds, from the shell itself."""
    nested: dict[str, object] = {}
    for name, value in arguments.items():
        *groups, key = name.split(".")
        inside = nested
        for group in groups:
            inside = inside.setdefault(group, {})  # type: ignore[assignment]
        inside[key] = [value] if key == "capture_num_tokens" else _JSON.get(value, value)
    return [f"--config <(echo {shlex.quote(json.dumps(nested))})"]


def trtllm_given(data: Mapping[str, object], before: str = "") -> dict[str, object]:
    """A config with its groups as "group.key"; of the sizes of graphs the largest."""
    out: dict[str, object] = {}
    for key, value in data.items():
        name = f"{before}{_COMMAND_NAMES.get(key, key)}"
        if isinstance(value, Mapping):
            out |= trtllm_given(value, f"{name}.")
        elif isinstance(value, list) and key == "capture_num_tokens" and value:
            out[name] = max(value)
        else:
            out[name] = value
    return out
