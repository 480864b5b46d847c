"""Logs of training: torchtitan, Megatron-LM, MaxText.

A log has a line for each step, or for some of them; the measurement is the median over the steps after the first ones,
which compile and warm up. Formats: torchtitan/components/metrics.py, megatron/training/training.py, MaxText's
metric_logger.py. The plan comes from the log where it states it (Megatron's list of arguments, MaxText's parameters,
torchtitan's mesh and batch); the user gives the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from statistics import median

from mowich.evidence.readers.record import FileFormat, Reading, cell, log_figure, log_lines, not_of_format, read_each
from mowich.evidence.row_checks import RefusedError

_WARM_UP = 3
"""The logged steps are cut into this many parts, and the first part (at least one of several steps) is left out."""

_TITAN = re.compile(
    r"\bstep:\s*(?P<step>\d+)\b.*?\btps:\s*(?P<tps>\d+(?:,\d{3})*(?:\.\d+)?)(?:\s+tflops:\s*(?P<tflops>\d+(?:,\d{3})*(?:\.\d+)?))?"
    r"(?:.*?\bmfu:\s*(?P<mfu>[\d.]+)%)?"
)
_TITAN_MESH = re.compile(
    r"parallelism:\s*pp=(?P<PP>\d+), dp_replicate=(?P<copies>\d+), dp_shard=(?P<shards>\d+), cp=(?P<CP>\d+),"
    r" tp=(?P<TP>\d+)(?:, ep=(?P<EP>\d+))?(?:, etp=(?P<ETP>\d+))?"
)
"""parallel_dims.py, where the mesh is built."""
_TITAN_BATCH = re.compile(
    r"local batch size (?P<local>\d+), global batch size (?P<batch>\d+), gradient accumulation steps (?P<accum>\d+),"
    r" sequence length (?P<seq>\d+)"
)
_TITAN_TOKENS = re.compile(r"(?P<tokens>\d+) tokens per train step, .*?maximum context length (?P<seq>\d+)")
"""The trainer's line about its batch at the start, in releases before and after the summer of 2026."""
_TITAN_RECOMPUTE = re.compile(
    r"Applied (?P<kind>full|selective|Full\w*|Selective\w*) activation checkpointing", re.IGNORECASE
)
_MEGATRON = re.compile(
    r"iteration\s+(?P<step>\d+)/\s*\d+\s*\|.*?elapsed time per iteration \(ms\):\s*(?P<ms>[\d.eE+-]+)"
)
_MAXTEXT = re.compile(
    r"completed step:\s*(?P<step>\d+),\s*seconds:\s*(?P<s>[\d.eE+-]+)"
    r"(?:,\s*TFLOP/s/device:\s*(?P<tflops>\d+(?:,\d{3})*(?:\.\d+)?))?(?:,\s*Tokens/s/device:\s*(?P<tps>\d+(?:,\d{3})*(?:\.\d+)?))?"
)
_ARGUMENT = re.compile(r"^\s*(?:\[[^\]]*\]:?\s*|\d+:\s*)?(?P<name>[a-z][a-z_0-9]+)\s\.{3,}\s(?P<value>\S.*?)\s*$")
"""A line of Megatron's list of arguments: "  seq_length ........ 4096"."""
_PARAMETER = re.compile(r"Config param (?P<name>\w+):\s*(?P<value>\S.*?)\s*$")
"""A line of MaxText's list of parameters."""

_NEAR = 0.05
"""How far two figures of a log that must agree may lie apart."""


_Steps = Sequence[tuple[int, re.Match[str]]]
"""(number, match) of lines of steps."""


def _log_format(
    program: str,
    holds: str,
    pattern: re.Pattern[str],
    looks: Callable[[str], bool],
    cells: Callable[[str, str, _Steps], Mapping[str, str]],
) -> FileFormat:
    """The format of the log of a program, named by its first word. holds: what its log would hold; pattern: of the line
    of a step; cells: of one run, from the file, its text and the steps after the warm-up."""
    name = program.partition("-")[0].casefold()

    def read(file: str, text: str) -> Reading:
        found = [(number, m) for number, line in log_lines(text) if (m := pattern.search(line))]
        if not found:
            raise not_of_format(program, file, holds)
        settled = found[max(1, len(found) // _WARM_UP) if len(found) > 1 else 0 :]
        where = f"{file}:{settled[-1][0]}"
        return read_each(file, name, "training", [(where, settled)], lambda steps, _: cells(file, text, steps))

    return FileFormat(name=name, says=f"a log of {program}", looks=looks, read=read)


def _middle(found: _Steps, group: str, file: str) -> float | None:
    values = [log_figure(m[group], f"{file}:{n}", group) for n, m in found if m[group]]
    return median(values) if values else None


def _words(text: str, pattern: re.Pattern[str]) -> dict[str, str]:
    """The settings in a log; the last of a name counts."""
    return {m["name"]: m["value"] for _, line in log_lines(text) if (m := pattern.search(line))}


def _blank() -> dict[str, str]:
    return {"chip": "", "model_name": "", "seq_len": "", "precision": "", "global_batch_seqs": "", "TP": "", "PP": ""}


def _last(text: str, pattern: re.Pattern[str]) -> re.Match[str] | None:
    """The last line of a log that matches a pattern."""
    found = [m for _, line in log_lines(text) if (m := pattern.search(line))]
    return found[-1] if found else None


def _titan_plan(text: str) -> dict[str, str]:
    """The plan and the batch that a log of torchtitan states, by column."""
    out: dict[str, str] = {}
    mesh, batch, tokens = (_last(text, p) for p in (_TITAN_MESH, _TITAN_BATCH, _TITAN_TOKENS))
    if mesh is not None:
        degrees = {name: int(mesh[name] or 1) for name in ("PP", "CP", "TP", "EP", "ETP", "copies", "shards")}
        dp = degrees.pop("copies") * degrees["shards"]
        out |= {name: str(n) for name, n in degrees.items() if name in ("PP", "CP", "TP") or n > 1}
        out |= {"DP": str(dp), "fsdp_zero": "3" if degrees["shards"] > 1 else "0"}
        out["devices"] = str(dp * degrees["PP"] * degrees["CP"] * degrees["TP"])
        out.pop("shards", None)
    if batch is not None:
        out |= {"global_batch_seqs": batch["batch"], "seq_len": batch["seq"]}
        out |= {"micro_batch": batch["local"], "grad_accum": batch["accum"]} if out.get("PP", "1") == "1" else {}
    elif tokens is not None and int(tokens["tokens"]) % int(tokens["seq"]) == 0:
        out |= {"global_batch_seqs": str(int(tokens["tokens"]) // int(tokens["seq"])), "seq_len": tokens["seq"]}
    recompute = _last(text, _TITAN_RECOMPUTE)
    if recompute is not None:
        out["recompute"] = "full" if recompute["kind"].casefold().startswith("full") else "selective"
    if re.search(r"Float8 .*training active", text):
        out["precision"] = "fp8"
    return out


def _titan_cells(file: str, text: str, found: _Steps) -> dict[str, str]:
    """One run: its tokens per second and device, with the plan that its log states. On Trainium a device is a logical
    core, so rates become those of a chip where the system is known."""
    tps, tflops, mfu = (_middle(found, group, file) for group in ("tps", "tflops", "mfu"))
    if mfu is not None and mfu > 100.0:
        raise RefusedError(f"an MFU of {mfu:g}% is above 100%: another chip's peak, or wrong units")
    if not tps:
        raise RefusedError("no token was trained")
    return {
        **_blank(),
        **_titan_plan(text),
        "stack": "pytorch-fsdp",
        "device_tokens_per_s": cell(tps),
        "device_tflops": cell(tflops),
        "primary_metric": "tokens_per_s_per_chip",
        "flop_convention": "torchtitan: 6 N + attention without causal halving",
    }


_MEGATRON_ARGUMENTS: Mapping[str, str] = {
    "tensor_model_parallel_size": "TP",
    "pipeline_model_parallel_size": "PP",
    "context_parallel_size": "CP",
    "expert_model_parallel_size": "EP",
    "expert_tensor_parallel_size": "ETP",
    "micro_batch_size": "micro_batch",
    "global_batch_size": "global_batch_seqs",
    "seq_length": "seq_len",
    "world_size": "n_chips",
}
"""Argument of Megatron-LM -> column."""


def _megatron_cells(file: str, text: str, found: _Steps) -> dict[str, str]:
    """One run: its seconds per iteration, with the plan that its list of arguments states."""
    ms = _middle(found, "ms", file)
    if not ms:
        raise RefusedError("an iteration took no time")
    said = _words(text, _ARGUMENT)
    cells = {**_blank(), "stack": "megatron", "primary_metric": "step_time_s", "step_time_s": cell(ms / 1e3)}
    cells |= {column: said[name] for name, column in _MEGATRON_ARGUMENTS.items() if said.get(name, "None") != "None"}
    if said.get("fp8", "None") not in ("None", "False"):
        cells["precision"] = "fp8"
    elif said.get("bf16") == "True":
        cells["precision"] = "bf16"
    if said.get("sequence_parallel") in ("True", "False"):
        cells["SP"] = "yes" if said["sequence_parallel"] == "True" else "no"
    recompute = said.get("recompute_granularity")
    if recompute:
        cells["recompute"] = "none" if recompute == "None" else recompute
    virtual = said.get("virtual_pipeline_model_parallel_size")
    if virtual and virtual != "None":
        cells["VPP"] = virtual
    last = next(line for n, line in log_lines(text) if n == found[-1][0])
    batch = re.search(r"global batch size:\s*(\d+)", last)
    if batch:
        stated = cells["global_batch_seqs"]
        if stated and stated != batch[1]:
            raise RefusedError(f"global batch size {batch[1]}, and the arguments say {stated}: still ramping up")
        cells["global_batch_seqs"] = batch[1]
    tflops = re.search(r"throughput per GPU \(TFLOP/s/GPU\):\s*([\d.]+)", last)
    if tflops:
        cells["tflops_per_chip"] = tflops[1]
        cells["flop_convention"] = "Megatron-LM: 3 x forward, causal attention not halved"
    return cells


def _maxtext_cells(file: str, text: str, found: _Steps) -> dict[str, str]:
    """One run: its seconds per step, or its tokens per second and device, with the plan that its parameters state."""
    seconds, tps, said = _middle(found, "s", file), _middle(found, "tps", file), _words(text, _PARAMETER)
    if not seconds:
        raise RefusedError("a step took no time")
    seq, each = said.get("max_target_length", ""), said.get("per_device_batch_size", "")
    length, share = (
        log_figure(word, f"{file}: {name}", "the value") if word else 0.0
        for name, word in (("max_target_length", seq), ("per_device_batch_size", each))
    )
    if tps and length and share:
        made = length * share
        if abs(tps * seconds / made - 1.0) > _NEAR:
            raise RefusedError(
                f"{seconds:g} s x {tps:g} tokens/s/device is {tps * seconds:.4g} tokens, and a step has {made:g} a"
                " device: wrong units"
            )
    if not tps and not (seq and each):
        raise RefusedError("a time per step says nothing without Tokens/s/device or the batch")
    tensor = _product(said, "tensor_parallelism")
    cells = {
        **_blank(),
        "stack": "",
        "seq_len": seq,
        "device_tokens_per_s": cell(tps or length * share / seconds),
        "device_batch": each,
        "primary_metric": "tokens_per_s_per_chip",
        "TP": cell(tensor) if tensor else "",
        "fsdp_zero": "3",
    }
    devices = re.search(r"Num_devices:\s*(\d+)", text)
    if devices:
        cells["devices"] = devices[1]
    return cells


def _product(said: Mapping[str, str], what: str) -> float | None:
    """Degree inside a slice times degree between slices; None where one is not stated, or is -1 (the rest)."""
    found = [said.get(f"{where}_{what}", "") for where in ("ici", "dcn")]
    values = [float(x) for x in found if re.fullmatch(r"\d+", x)]
    return (
        None if not values or len(values) < len([x for x in found if x]) else float(values[0] * (values[1:] or [1])[0])
    )


TORCHTITAN = _log_format(
    "torchtitan",
    "lines with step: ... tps: ... as torchtitan logs them",
    _TITAN,
    lambda text: any(_TITAN.search(line) for _, line in log_lines(text)),
    _titan_cells,
)
MEGATRON = _log_format(
    "Megatron-LM",
    "lines with 'elapsed time per iteration (ms)' as Megatron-LM logs them",
    _MEGATRON,
    lambda text: bool(_MEGATRON.search(text)),
    _megatron_cells,
)
MAXTEXT = _log_format(
    "MaxText",
    "lines with 'completed step: N, seconds: ...'",
    _MAXTEXT,
    lambda text: bool(_MAXTEXT.search(text)),
    _maxtext_cells,
)
