"""Plans written as launch commands and configs."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence

from mowich.launch.arguments import FieldValue, FieldValues, LaunchProgram, write_arguments
from mowich.launch.maxtext import MAXTEXT_RUN
from mowich.launch.nxdi import NXDI_SERVE
from mowich.launch.plans import LaunchedPool, PlanLaunch, check_program
from mowich.launch.trtllm import TRTLLM_SERVE, trtllm_words
from mowich.launch.vllm import NEURON_CONFIG, VLLM_NEURON

_STARTS: Mapping[str, str] = {
    "vllm": 'vllm serve "$MODEL"',
    "nxdi": 'vllm serve "$MODEL"',
    "sglang": 'python -m sglang.launch_server --model-path "$MODEL"',
    "trtllm": 'trtllm-serve "$MODEL"',
    "torchtitan": '-m torchtitan.train --module "$MODULE" --config "$CONFIG"',
    "megatron": 'pretrain_gpt.py "${MODEL_ARGS[@]}"',
}
_SETS: Mapping[str, str] = {
    "vllm": "$MODEL is the path of the checkpoint, or its name in the hub",
    "nxdi": "$MODEL is the path of the checkpoint, or its name in the hub",
    "sglang": "$MODEL is the path of the checkpoint, or its name in the hub",
    "trtllm": "$MODEL is the path of the checkpoint, or its name in the hub",
    "torchtitan": "$MODULE and $CONFIG name the model and its function of torchtitan's config_registry",
    "megatron": "MODEL_ARGS holds the shape of the model, its tokenizer and its data",
    "maxtext": "model_name, base_output_directory and the data set are yours to add; $CONFIG is a config with them",
}
LAUNCHER = ("--nnodes", "--nproc-per-node")
"""Arguments of torchrun, before the program."""


def program_text(program: LaunchProgram, launch: PlanLaunch) -> str:
    """All commands of a plan, with comments."""
    check_program(program, launch)
    parts = []
    for pool in launch.pools:
        lines, remarks = command(program, launch, pool)
        parts.append("\n".join([*(f"# {text}" for text in remarks), *lines]))
    return "\n\n".join(["\n".join(f"# {text}" for text in head(program, launch)), *parts]) + "\n"


def head(program: LaunchProgram, launch: PlanLaunch) -> list[str]:
    """What the text is of."""
    plural = "s" if launch.system.chips > 1 else ""
    model = " ".join(launch.model.split())  # the name of a file may hold ends of lines, and comments end there
    return [
        f"{model} on {launch.system.chips} chip{plural} of {launch.system.display}, for {program.title}",
        *program.sources,
        _SETS[program.name],
    ]


def command(
    program: LaunchProgram,
    launch: PlanLaunch,
    pool: LaunchedPool,
    more: Sequence[str] = (),
    *,
    is_inside: bool = False,
    rank: str = "",
) -> tuple[list[str], list[str]]:
    """(lines of the command or config of one worker, remarks). more: words behind its arguments; is_inside: for a file
    that holds commands only; rank: words that tell torchrun which node it is on."""
    fields = dict(pool.fields)
    for name in ("nodes", "per_node") if program is MAXTEXT_RUN or launch.work == "serve" else ():
        fields.pop(name, None)
    if program is not MAXTEXT_RUN:
        fields.pop("slices", None)
    arguments, remarks = write_arguments(program, fields)
    if pool.role or pool.copies > 1:
        many = f"{pool.copies} workers" if pool.copies > 1 else "1 worker"
        what = f" of {pool.role}" if pool.role else ""
        remarks.insert(0, f"{many}{what} of {pool.devices} devices each; a router stands before them")
    servers = -(-pool.devices // launch.per_server)
    if servers > 1:
        remarks.append(f"runs on {servers} servers: start it on each, with its rank and one address for all")
    if program is NXDI_SERVE and int(pool.fields.get("dp", 1)) > 1:
        remarks.append(
            f"batch_size {arguments.get('batch_size', 1)} is compiled into the graph, for {pool.fields['dp']} groups of"
            " attention together; --tpot, or --set plan.sequences=N for one group, asks for fewer"
        )
    arguments |= program.fixed
    role = program.pools.get(pool.role, {})
    if program is MAXTEXT_RUN and not is_inside:
        return [f"{name}: {json.dumps(value)}" for name, value in arguments.items()], remarks
    if program is MAXTEXT_RUN:
        words = [f"{name}={shlex.quote(_plain_text(value))}" for name, value in arguments.items()]
        return [" \\\n  ".join(['python3 -m maxtext.trainers.pre_train.train "$CONFIG"', *words, *more])], remarks
    own_words = _OWN_WORDS.get(program.title)
    in_config = {name: value for name, value in role.items() if not name.startswith("--")}
    words = own_words(arguments | in_config) if own_words else written_words(program, arguments)
    words += written_words(program, {name: value for name, value in role.items() if name not in in_config})
    first = _STARTS[program.name]
    if launch.work == "train":
        torchrun = " ".join(f"{name} {arguments[name]}" for name in LAUNCHER if name in arguments)
        first = f"torchrun {torchrun} {rank}{first}"
        words = [w for w in words if not w.startswith(LAUNCHER)]
    return [" \\\n  ".join([first, *words, *more])], remarks


def _plain_text(value: FieldValue) -> str:
    return str(value)


def written_words(program: LaunchProgram, arguments: FieldValues) -> list[str]:
    """Arguments as a command line has them, name and value together."""
    return [_written(program, name, value) for name, value in arguments.items()]


def plugin_words(arguments: FieldValues) -> list[str]:
    """Arguments of vLLM Neuron: its own stand in the neuron config. The graph of decoding is compiled for one batch,
    the most sequences."""
    sequences = arguments.get("--max-num-seqs", 1)
    inner = {name: value for name, value in arguments.items() if name.startswith(NEURON_CONFIG)}
    outer = {name: value for name, value in arguments.items() if name not in inner} | {"--max-num-seqs": sequences}
    config = {
        **{name.removeprefix(NEURON_CONFIG): value for name, value in inner.items()},
        "num_seqs_buckets": [sequences],
    }
    return [
        *written_words(VLLM_NEURON, outer),
        f"--additional-config {shlex.quote(json.dumps({'neuron_config': config}))}",
    ]


def _written(program: LaunchProgram, name: str, value: FieldValue) -> str:
    if program.form == "dotted" and not name.startswith("--"):
        section, _, key = name.rpartition(".")
        return f"--{section}.{'no-' if value is False else ''}{key}" + (
            "" if isinstance(value, bool) else f" {shlex.quote(str(value))}"
        )
    return name if value is True else f"{name} {shlex.quote(str(value))}"


def neuron_words(arguments: FieldValues) -> list[str]:
    """The plugin of vLLM takes ranks, sequences and length as vLLM does, and the rest as overrides of the neuron
    config."""
    ranks, sequences = arguments.get("tp_degree", 1), arguments.get("batch_size", 1)
    config = json.dumps({"override_neuron_config": arguments})
    return [
        f"--tensor-parallel-size {ranks}",
        f"--max-num-seqs {sequences}",
        f"--max-model-len {arguments['seq_len']}",
        f"--additional-config {shlex.quote(config)}",
    ]


_OWN_WORDS: Mapping[str, Callable[[FieldValues], list[str]]] = {
    NXDI_SERVE.title: neuron_words,
    VLLM_NEURON.title: plugin_words,
    TRTLLM_SERVE.title: trtllm_words,
}
"""Program -> how its arguments are written, where they stand in a config inside the command."""
