"""The bundle of a training plan: a script for every node, the configs that it reads, and a short run that checks the
forecast."""

from __future__ import annotations

from collections.abc import Mapping

from mowich.estimate import Estimate
from mowich.facts import Facts
from mowich.launch.arguments import LaunchProgram
from mowich.launch.bundle import COMMANDS_FILE, Benchmark, BundleFile, Prediction, predicted_numbers
from mowich.launch.kubernetes import job_set
from mowich.launch.maxtext import MAXTEXT_RUN
from mowich.launch.megatron import MEGATRON_RUN
from mowich.launch.pinned import IMAGE_ASKED, pinned
from mowich.launch.plans import PlanLaunch
from mowich.launch.scripts import HERE, broken, shell_script, variable
from mowich.launch.training_start import MOCK, TrainingStart, nodes_of, start_lines, training_start
from mowich.launch.write import head, program_text
from mowich.shown import Result
from mowich.sums import float_sum

NODE = "launch/node.sh"
LOG = "benchmark/train.log"
MEASURED_STEPS = 20
"""Steps of the benchmark: readers of logs leave out the first third."""


def training_files(
    program: LaunchProgram, launch: PlanLaunch, inputs: Result, row: Result, facts: Facts
) -> tuple[list[BundleFile], Benchmark]:
    """Files of a training plan, and its benchmark. inputs, row: as their JSON states them."""
    start = training_start(program, launch, facts)
    nodes, per_node = nodes_of(launch)
    several = f"one of {nodes} nodes, {per_node} devices each: NODE_RANK says which" if nodes > 1 else "the one node"
    body = [HERE, 'CONFIG_DIR="$here/../config"', *start_lines(start, nodes)]
    about = [*head(program, launch)[: 1 + len(program.sources)], several]
    files = [
        BundleFile(
            path=COMMANDS_FILE, text=program_text(program, launch), about="the command alone; mowich plan --plan"
        ),
        *start.configs,
        BundleFile(path=NODE, text=shell_script(about, *body), is_script=True, about=several),
    ]
    return files, _benchmark(program, launch, row, facts, start)


# the benchmark
# -----------------------------------------------------------------------------------------------------------------
def short_run(program: LaunchProgram) -> tuple[dict[str, str], list[str]]:
    """(variables, arguments) of a run of $STEPS steps on drawn data, with a line in the log for each."""
    if program is MEGATRON_RUN:
        return {"DATA_PATH": MOCK, "TOKENIZER": MOCK, "LR": "1e-5"}, ['--train-iters "$STEPS"', "--log-throughput"]
    if program is MAXTEXT_RUN:
        return {"DATASET": MOCK, "TOKENIZER": MOCK}, ['steps="$STEPS"', "enable_checkpointing=false"]
    return {}, ['--training.steps "$STEPS"', "--metrics.log-freq 1", "--checkpoint.no-enable"]


def _benchmark(
    program: LaunchProgram, launch: PlanLaunch, row: Result, facts: Facts, start: TrainingStart
) -> Benchmark:
    nodes, _ = nodes_of(launch)
    given, words = short_run(program)
    logs = nodes - 1 if program is MEGATRON_RUN else 0  # Megatron prints on the last rank, the others on the first
    where = f"on each of {nodes} nodes, with NODE_RANK 0 to {nodes - 1} and MASTER_ADDR" if nodes > 1 else "on the node"
    about = f"{where}: {MEASURED_STEPS} steps" + (f"; the log of node {logs} is the one to read" if nodes > 1 else "")
    body = [
        HERE,
        variable("STEPS", str(MEASURED_STEPS)),
        variable("NODE_RANK", "" if nodes > 1 else "0", "number of this node"),
    ]
    body += [f"export {name}={value}" for name, value in given.items()] + ["export NODE_RANK"]
    body += ['log="$here/train.log"']
    body += [f'if [ "$NODE_RANK" != {logs} ]; then log="$here/train-node-$NODE_RANK.log"; fi'] if nodes > 1 else []
    body.append(broken(['"$here/../launch/node.sh"', *words]) + ' 2>&1 | tee "$log"')
    run = BundleFile(path="benchmark/run.sh", text=shell_script([about], *body), is_script=True, about=about)
    job = BundleFile(
        path="benchmark/job.yaml",
        text=job_set(program, launch, facts, {"STEPS": str(MEASURED_STEPS), **given}, words, "-benchmark"),
        about=f"the same as a JobSet of Kubernetes: kubectl logs of its pod {logs} > {LOG}",
    )
    release = pinned(program, launch.system.vendor, facts)
    notes = list(start.notes)
    if release.version:
        notes.insert(0, f"The names of arguments are those of {program.title} {release.version}.")
    if not release.image:
        notes.append(
            f"No image of {program.title} for {launch.system.display} is pinned here: {IMAGE_ASKED} stands for yours."
        )
    return Benchmark(
        program=f"{program.title}, {MEASURED_STEPS} steps",
        log=LOG,
        files=[run, job],
        predictions=training_predictions(row),
        after=[(NODE, f"{where}: the whole run")],
        notes=notes,
    )


def training_predictions(row: Result) -> list[Prediction]:
    """What the log of a run shows: time of a step, speed, share of the peak, memory of the fullest device."""
    named = {
        "step_s": "time of a step",
        "tokens_per_s_per_chip": "tokens per second and chip",
        "mfu": "model FLOP utilisation",
    }
    out = predicted_numbers(row, named)
    parts, ends = row.get("memory_B"), row.get("memory_range_B")
    ends = ends if isinstance(ends, Mapping) else {}
    if isinstance(parts, Mapping) and parts:
        whole = float_sum(parts.values())
        held = Estimate(value=whole, unit="B", low=ends.get("low"), high=ends.get("high"), grade="C")
        out.append(Prediction(name="memory_B", what="memory of the fullest device", estimate=held))
    return out
