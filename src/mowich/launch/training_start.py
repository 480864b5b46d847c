"""How a node of a training plan is started: the configs that a program needs beside its plan, and the lines of a shell
that run it. Scripts of bundles, pods of Kubernetes and tasks of SkyPilot hold the same lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mowich.facts import Facts
from mowich.launch.arguments import LaunchProgram, no_argument_line
from mowich.launch.bundle import BundleFile
from mowich.launch.checkpoints import checkpoint_key
from mowich.launch.maxtext import MAXTEXT_RUN
from mowich.launch.megatron import MEGATRON_RUN
from mowich.launch.pinned import fact_name
from mowich.launch.plans import LaunchedPool, PlanLaunch
from mowich.launch.scripts import MASTER_PORT, variable
from mowich.launch.shapes import maxtext_shape, megatron_layout, megatron_shape
from mowich.launch.torchtitan import TORCHTITAN_NEURON
from mowich.launch.write import command
from mowich.models import load_model
from mowich.models.given import model_of_inputs
from mowich.models.model import Model

MOCK = "mock"
"""The value of a variable that stands for drawn data in the place of a data set."""
ADDRESS_ASKED = "address of node 0"
_JOB = "mowich_job"
_CONFIG_FOLDER = '"$CONFIG_DIR"'
_TOKENIZER_ASKED = "name of the tokenizer in the hub, or its folder"
_DATA_ASKED = f"the data set; {MOCK}: drawn tokens"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingStart:
    """configs: files that the lines read, in the folder $CONFIG_DIR; asks: variables that the lines need, each with
    what it is; lines: of the shell, "$@" behind the arguments of the plan; notes: what is left to the user."""

    configs: tuple[BundleFile, ...]
    asks: tuple[tuple[str, str, str], ...]
    lines: tuple[str, ...]
    notes: tuple[str, ...]


def nodes_of(launch: PlanLaunch) -> tuple[int, int]:
    """(nodes, devices of each) of a training plan."""
    fields = launch.pools[0].fields
    return int(fields["nodes"]), int(fields["per_node"])


def trained_model(launch: PlanLaunch) -> Model:
    """The model of a plan, its multi-token-prediction blocks apart."""
    return model_of_inputs(launch.inputs) or load_model(launch.model)


def training_start(program: LaunchProgram, launch: PlanLaunch, facts: Facts) -> TrainingStart:
    """What starts a node of a plan."""
    make = {MEGATRON_RUN.title: _megatron, MAXTEXT_RUN.title: _maxtext}.get(program.title, _torchtitan)
    return make(program, launch, facts)


def start_lines(start: TrainingStart, nodes: int) -> list[str]:
    """All lines behind those that set $CONFIG_DIR. $NODE_RANK and $MASTER_ADDR are of the environment."""
    rank = variable("NODE_RANK", "" if nodes > 1 else "0", f"number of this node, 0 to {nodes - 1}")
    address = variable("MASTER_ADDR", "" if nodes > 1 else "localhost", ADDRESS_ASKED)
    asks = [variable(*one) for one in start.asks]
    return [rank, address, variable("MASTER_PORT", str(MASTER_PORT)), *asks, *start.lines]


def written_configs(start: TrainingStart) -> list[str]:
    """Lines that write the configs into $CONFIG_DIR, for where no folder of a bundle is."""
    out = [f"mkdir -p {_CONFIG_FOLDER}"] if start.configs else []
    for file in start.configs:
        name = file.path.rpartition("/")[2]
        out += [f"cat > {_CONFIG_FOLDER}/{name} <<'END'", *file.text.rstrip("\n").split("\n"), "END"]
    return out


def _command(program: LaunchProgram, launch: PlanLaunch, pool: LaunchedPool, rank: str) -> list[str]:
    """The command with its remarks, and the arguments of the script behind it."""
    words, remarks = command(program, launch, pool, ['"$@"'], is_inside=True, rank=rank)
    return [*(f"# {text}" for text in remarks), *words]


_RANK = '--node-rank "$NODE_RANK" --master-addr "$MASTER_ADDR" --master-port "$MASTER_PORT" '


# torchtitan
# -----------------------------------------------------------------------------------------------------------------
_CONVERTERS = {
    "fp8": ("Float8LinearConverter", 'filter_fqns=["lm_head", "router.gate"], '),
    "mxfp8": ("MXFP8LinearConverter", ""),
    "nvfp4": ("NVFP4LinearConverter", 'fqns=["layers"], '),
}
"""Precision -> torchtitan's converter of a model, and its arguments."""
_RECOMPUTE = {"none": "None", "selective": "SelectiveAC.Config()", "full": "FullAC.Config()"}


def _torchtitan(program: LaunchProgram, launch: PlanLaunch, facts: Facts) -> TrainingStart:
    """A module of the user's beside torchtitan: a function of its registry with what is computed again, the precision
    and the data of the job."""
    known = facts.get(f"launch.{fact_name(program)}.models.{checkpoint_key(launch.model)}")
    asks = [("HF_ASSETS", "", "folder with the tokenizer, as download_hf_assets.py of torchtitan writes it")]
    asks.append(("DATASET", "c4", ""))
    launcher = f"{_RANK}--local-ranks-filter 0 --role rank --tee 3 "
    lines = [f'export PYTHONPATH={_CONFIG_FOLDER}"${{PYTHONPATH:+:$PYTHONPATH}}"', f"MODULE={_JOB} CONFIG=job"]
    if known is None or known.value is None:
        asks += [("MODULE", "", "module of the model"), ("CONFIG", "", "its function of config_registry")]
        notes = [f"{program.title} has no config of {launch.model} that is known here: MODULE and CONFIG name yours."]
        lines = _command(program, launch, launch.pools[0], launcher)
        return TrainingStart(configs=(), asks=tuple(asks[2:]), lines=tuple(lines), notes=tuple(notes))
    config = BundleFile(
        path=f"config/{_JOB}.py",
        text=_registry(program, launch, *str(known.value).split()),
        about="the model, what is computed again, the precision and the data, as torchtitan takes them",
    )
    lines += ["export HF_ASSETS DATASET", *_command(program, launch, launch.pools[0], launcher)]
    notes = ["DATASET is a name of torchtitan's data sets (c4 is read from the hub; c4_test is in its repository)."]
    notes += ["The learning rate and its schedule are those of torchtitan's config: they do not move a step's time."]
    if _converts(launch) and trained_model(launch).has_experts:
        notes.append(f"config/{_JOB}.py converts linear layers to {launch.pools[0].fields['precision']}, not experts.")
    return TrainingStart(configs=(config,), asks=tuple(asks), lines=tuple(lines), notes=tuple(notes))


def _converts(launch: PlanLaunch) -> bool:
    return launch.pools[0].fields.get("precision") in _CONVERTERS


def _registry(program: LaunchProgram, launch: PlanLaunch, module: str, function: str, flavor: str) -> str:
    """The module with the function that `--config` names."""
    fields = launch.pools[0].fields
    package = "torchtitan_neuron" if program is TORCHTITAN_NEURON else "torchtitan"
    recompute = _RECOMPUTE.get(str(fields.get("recompute")), "SelectiveAC.Config()")
    lines = [f'"""{launch.model} on {launch.spec}, for {program.title}."""', "", "import os", ""]
    lines += [f"from {package}.models.{module}.config_registry import {function}"]
    policy = recompute.partition(".")[0]
    lines += [f"from torchtitan.distributed.activation_checkpoint import {policy}"] if policy != "None" else []
    body = [f"    config = {function}()"]
    if _converts(launch):
        converter, arguments = _CONVERTERS[str(fields["precision"])]
        lines += [f"from {package}.models.{module} import model_registry"]
        lines += [f"from torchtitan.components.quantization import {converter}"]
        body += [
            f"    converter = {converter}.Config({arguments}model_compile_enabled=True)",
            f'    config.model_spec = model_registry("{flavor}", converters=[converter])',
        ]
    body += [
        f"    config.activation_checkpoint = {recompute}",
        '    config.hf_assets_path = os.environ["HF_ASSETS"]',
        '    config.dataloader.dataset = os.environ["DATASET"]',
        "    config.profiler.enable_profiling = False",
        "    return config",
    ]
    return "\n".join([*lines, "", "", "def job():", *body]) + "\n"


# Megatron-LM
# -----------------------------------------------------------------------------------------------------------------
def _megatron(program: LaunchProgram, launch: PlanLaunch, facts: Facts) -> TrainingStart:
    """A checkout of Megatron-LM with MODEL_ARGS: the shape of the model, its tokenizer and its data."""
    model, pool = trained_model(launch), launch.pools[0]
    commit = facts.get(f"launch.{fact_name(program)}.commit")
    at = f" at {str(commit.value)[:12]}" if commit is not None and commit.value is not None else ""
    asks = [
        ("MEGATRON_DIR", "", f"a checkout of github.com/NVIDIA/Megatron-LM{at}"),
        ("DATA_PATH", "", f"prefix of the preprocessed data, or a blend of them; {MOCK}: drawn tokens"),
        ("TOKENIZER", "", f"{_TOKENIZER_ASKED}; {MOCK}: none"),
        ("LR", "", "highest learning rate"),
    ]
    shape = megatron_shape(model, int(pool.fields["seq"]))
    if shape.why:
        asks.append(("MODEL_CONFIG", "", "a file that sets the array MODEL_ARGS to the shape of the model"))
    pool, layout, remarks = _laid_out(program, pool, model)
    words = [*shape.words, *layout]
    config = BundleFile(
        path="config/model_args.sh",
        text="\n".join([f"# the shape of {model.name}, for {program.title}", "MODEL_ARGS=(", *_in(words), ")"]) + "\n",
        about="the shape of the model in Megatron's arguments",
    )
    source = '"$MODEL_CONFIG"' if shape.why else f"{_CONFIG_FOLDER}/model_args.sh"
    fsdp = int(pool.fields.get("zero", 0)) > 1
    lines = [
        f"source {source}",
        'if [ "$DATA_PATH" = mock ]; then',
        f"  MODEL_ARGS+=(--mock-data --tokenizer-type NullTokenizer --vocab-size {model.vocab - 1})",
        "else",
        '  MODEL_ARGS+=(--data-path $DATA_PATH --tokenizer-type HuggingFaceTokenizer --tokenizer-model "$TOKENIZER")',
        "fi",
        'MODEL_ARGS+=(--lr "$LR" --log-interval 1 --eval-iters 0)',
        "unset CUDA_DEVICE_MAX_CONNECTIONS" if fsdp else "export CUDA_DEVICE_MAX_CONNECTIONS=1",
        'cd "$MEGATRON_DIR"',
        *(f"# {text}" for text in remarks),
        *_command(program, launch, pool, _RANK),
    ]
    notes = []
    if shape.why:
        notes.append(f"Megatron's arguments do not say {shape.why} of {model.name}: MODEL_CONFIG names your own.")
    notes += [
        "Checkpoints are yours to add: --save FOLDER --save-interval N --load FOLDER behind launch/node.sh.",
        "The base of rotary positions, the schedule of the learning rate and the router's loss are Megatron's defaults:"
        " they do not move a step's time.",
    ]
    return TrainingStart(
        configs=() if shape.why else (config,), asks=tuple(asks), lines=tuple(lines), notes=tuple(notes)
    )


def _laid_out(program: LaunchProgram, pool: LaunchedPool, model: Model) -> tuple[LaunchedPool, list[str], list[str]]:
    """(pool, arguments, remarks): a pipeline whose stages hold different numbers of layers says which, in the place of
    the number of virtual stages."""
    pp, vpp = int(pool.fields.get("pp", 1)), int(pool.fields.get("vpp", 1))
    stages = pp * vpp
    if pp == 1 or (not model.mtp_layers and model.num_layers % stages == 0):
        return pool, [], []
    layout = megatron_layout(model.num_layers, model.mtp_layers, stages)
    remark = no_argument_line(program, "vpp", vpp, "the layout of the pipeline in MODEL_ARGS says it")
    fields = {name: value for name, value in pool.fields.items() if name != "vpp"}
    return replace(pool, fields=fields), [f"--pipeline-model-parallel-layout '{layout}'"], [remark]


def _in(words: Sequence[str]) -> list[str]:
    return [f"  {word}" for word in words]


# MaxText
# -----------------------------------------------------------------------------------------------------------------
def _maxtext(program: LaunchProgram, launch: PlanLaunch, facts: Facts) -> TrainingStart:
    """A config with the model and the hardware; axes, batch and steps stand in the command."""
    model = trained_model(launch)
    known = facts.get(f"launch.{fact_name(program)}.models.{checkpoint_key(launch.model)}")
    is_known = known is not None and known.value is not None
    shape = maxtext_shape(model)
    asks = [
        ("OUTPUT", "", "folder or bucket for checkpoints and logs, the same for all nodes"),
        ("DATASET", "", f"{_DATA_ASKED}; else its name in the hub"),
        ("TOKENIZER", "", f"{_TOKENIZER_ASKED}; {MOCK}: none"),
    ]
    notes = ["The learning rate and its schedule are MaxText's defaults: they do not move a step's time."]
    if is_known:
        assert known is not None
        of_model = [f'model_name: "{known.value}"']
    elif not shape.why:
        of_model = ['model_name: "default"', *shape.words]
    else:
        of_model = ['model_name: "MODEL"']
        notes.append(f"MaxText has no file of {model.name}, and its keys do not say {shape.why}: put yours in config.")
    is_gpu = launch.system.vendor != "Google"
    name = checkpoint_key(launch.model).replace("_", "-")
    config = [
        f"# {launch.model} on {launch.spec}, for {program.title}; axes, batch and steps stand in the command",
        'base_config: "base.yml"',
        *of_model,
        f'run_name: "{name}"',
        f'hardware: "{"gpu_multiprocess" if is_gpu and nodes_of(launch)[0] > 1 else "gpu" if is_gpu else "tpu"}"',
    ]
    lines = [
        'if [ "$DATASET" = mock ]; then',
        "  DATA=(dataset_type=synthetic)",
        "else",
        '  DATA=(dataset_type=hf hf_path="$DATASET" tokenizer_type=huggingface tokenizer_path="$TOKENIZER")',
        "fi",
        f"CONFIG={_CONFIG_FOLDER}/maxtext.yml",
    ]
    if is_gpu:
        lines.append(
            f'export JAX_COORDINATOR_IP="$MASTER_ADDR" JAX_COORDINATOR_PORT="$MASTER_PORT" NNODES={nodes_of(launch)[0]}'
        )
        lines.append("export NODE_RANK")
    words, remarks = command(
        program, launch, launch.pools[0], ['base_output_directory="$OUTPUT"', '"${DATA[@]}"', '"$@"'], is_inside=True
    )
    lines += [*(f"# {text}" for text in remarks), *words]
    about = "the model, in MaxText's keys"
    file = BundleFile(path="config/maxtext.yml", text="\n".join(config) + "\n", about=about)
    return TrainingStart(configs=(file,), asks=tuple(asks), lines=tuple(lines), notes=tuple(notes))
