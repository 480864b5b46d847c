"""The bundle of a served plan: a start script for each rank of each worker, routers that can stand before the workers,
and a benchmark that checks the forecast.

Workers stand where `rented.py` puts them: those that fit a server share it, each with devices and ports of its own; a
larger one takes several servers, with a script for each of its ranks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mowich.errors import UserError
from mowich.facts import Facts
from mowich.launch.arguments import LaunchProgram
from mowich.launch.bundle import COMMANDS_FILE, Benchmark, BundleFile
from mowich.launch.checkpoints import checkpoint_of
from mowich.launch.nxdi import NXDI_SERVE
from mowich.launch.pinned import pinned
from mowich.launch.plans import LaunchedPool, PlanLaunch
from mowich.launch.rented import Placed, rented_as
from mowich.launch.routers import BOOTSTRAP_PORT, FIRST_PORT, ServedModel, WorkerCounts, router_files, routers_told
from mowich.launch.scripts import HERE, MASTER_PORT, option, shell_script, variable
from mowich.launch.serving_benchmark import served_benchmark
from mowich.launch.sglang import SGLANG_SERVER
from mowich.launch.trtllm import TRTLLM_SERVE
from mowich.launch.vllm import VLLM_NEURON, VLLM_SERVE
from mowich.launch.write import command, head, program_text
from mowich.shown import Result

SIDE_PORT = 5600
"""Where vLLM's NIXL connector hands out what a transfer needs; each data-parallel rank takes one more."""
_ADDRESS_ASKED = "address of the server that runs rank 0 of this worker"
_MODEL_ASKED = "path of the checkpoint, or its name in the hub"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStart:
    """A worker on one server, or a rank of one that takes several. pool: what it is; kind, times: the servers that run
    it, by number from 1, and how many such; first: of its devices on a server; devices: of this rank; rank, ranks: this
    one, and all; place: among the workers of its server."""

    pool: LaunchedPool
    kind: int
    times: int
    first: int
    devices: int
    rank: int
    ranks: int
    place: int

    @property
    def path(self) -> str:
        """Its script, which workers of the same pool share."""
        return f"launch/{self.pool.role or 'worker'}-rank-{self.rank}.sh"

    def given(self, program: LaunchProgram) -> str:
        """What a worker that shares its server is started with."""
        is_told = program is SGLANG_SERVER and self.pool.role == "prefill"
        told = f" BOOTSTRAP={BOOTSTRAP_PORT + self.place}" if is_told else ""
        return f"FIRST={self.first} PORT={FIRST_PORT + self.place}{told}"


def serving_files(
    program: LaunchProgram, launch: PlanLaunch, inputs: Result, row: Result, facts: Facts
) -> tuple[list[BundleFile], Benchmark]:
    """Files of a served plan, and its benchmark. inputs, row: as their JSON states them."""
    weights = str(launch.pools[-1].fields.get("weights", "bf16"))
    model = ServedModel(
        name=launch.model,
        checkpoint=checkpoint_of(program, launch.model, weights, facts),
        weights=weights,
    )
    starts = worker_starts(program, launch, facts)
    workers = WorkerCounts(prefill=_count(launch, "prefill"), decode=_count(launch, "decode"), both=_count(launch, ""))
    files = [
        BundleFile(path=COMMANDS_FILE, text=program_text(program, launch), about="all commands; mowich plan --plan")
    ]
    own = [one for one in starts if not (one.rank and program is TRTLLM_SERVE)]  # MPI runs one script as every rank
    files += {one.path: _rank_file(program, launch, model, one) for one in own}.values()
    files += _server_files(program, starts)
    routers = router_files(program, launch, model, workers, facts)
    benchmark = served_benchmark(program, launch, model, workers, inputs, row, facts)
    notes = [*_notes(program, launch, model, inputs, facts), *routers_told(program, launch, workers), *benchmark.notes]
    steps = [*_steps(program, starts), *_router_steps(routers, workers)]
    return [*files, *routers], replace(benchmark, steps=steps, notes=notes)


def _count(launch: PlanLaunch, role: str) -> int:
    return sum(pool.copies for pool in launch.pools if pool.role == role)


# where workers stand
# -----------------------------------------------------------------------------------------------------------------
def worker_starts(program: LaunchProgram, launch: PlanLaunch, facts: Facts) -> list[WorkerStart]:
    """What runs on which devices of which servers. Raises UserError for a worker whose devices cannot be divided evenly
    over servers."""
    out: list[WorkerStart] = []
    for kind, one in enumerate(rented_as(launch, facts).placed(launch), 1):
        first = 0
        for place, pool in enumerate(_pools_of(launch, one)):
            if pool.devices % one.nodes:
                raise UserError(
                    f"{one.nodes} servers cannot share the {pool.devices} devices of a worker evenly",
                    field="emit",
                    given=program.name,
                    fix="choose another plan with --pick, or fix its degrees with --set plan.tp",
                )
            devices = pool.devices // one.nodes
            out += [
                WorkerStart(
                    pool=pool,
                    kind=kind,
                    times=one.times,
                    first=first,
                    devices=devices,
                    rank=rank,
                    ranks=one.nodes,
                    place=place,
                )
                for rank in range(one.nodes)
            ]
            first += devices
    return out


def _pools_of(launch: PlanLaunch, one: Placed) -> list[LaunchedPool]:
    """The workers of one server, in the order of the pools."""
    return [pool for pool in launch.pools for _ in range(one.workers.get(pool.role, 0))]


# scripts
# -----------------------------------------------------------------------------------------------------------------
def _rank_file(program: LaunchProgram, launch: PlanLaunch, model: ServedModel, one: WorkerStart) -> BundleFile:
    body, remarks = rank_lines(program, launch, model, one)
    each = f"{one.devices} device{'s' if one.devices > 1 else ''}"
    about = f"a worker{f' of {one.pool.role}' if one.pool.role else ''}"
    about += f": rank {one.rank} of {one.ranks}, on {each} of a server" if one.ranks > 1 else f" on {each}"
    text = shell_script([*head(program, launch), about, *remarks], *body)
    return BundleFile(path=one.path, text=text, is_script=True, about=about)


def rank_lines(
    program: LaunchProgram, launch: PlanLaunch, model: ServedModel, one: WorkerStart
) -> tuple[list[str], list[str]]:
    """(lines of a shell, remarks) that start a rank of a worker."""
    lines, remarks = command(program, launch, one.pool, more=_words(program, one))
    body = [variable("MODEL", model.checkpoint, _MODEL_ASKED), variable("PORT", str(FIRST_PORT))]
    if one.ranks > 1 and program is not TRTLLM_SERVE:
        body += [variable("MASTER_ADDR", "", _ADDRESS_ASKED), variable("MASTER_PORT", str(MASTER_PORT))]
    body += _environment(program, launch, one)
    start = "trtllm-llmapi-launch " if program is TRTLLM_SERVE and one.ranks > 1 else ""
    text = f"exec {start}" + "\n".join(lines)
    if program is NXDI_SERVE and one.pool.role:
        body.append(variable("ETCD", "", "HOST:PORT of etcd, where workers of NxD Inference find each other"))
        text = _with_etcd(text, program.roles[one.pool.role])
    body.append(text)
    return body, remarks


def _with_etcd(text: str, role: str) -> str:
    """The command with a transfer that finds the other workers through etcd, whose address the shell fills in."""
    given = f'{{\\"kv_connector\\":\\"NeuronConnector\\",\\"kv_role\\":\\"{role}\\",\\"etcd\\":\\"$ETCD\\"}}'
    return re.sub(r"--kv-transfer-config '[^']*'", lambda _: f'--kv-transfer-config "{given}"', text)


_SEEN = {"NVIDIA": "CUDA_VISIBLE_DEVICES", "AMD": "HIP_VISIBLE_DEVICES", "Google": "TPU_VISIBLE_CHIPS"}
"""Vendor -> the variable with the numbers of a worker's devices."""


def _environment(program: LaunchProgram, launch: PlanLaunch, one: WorkerStart) -> list[str]:
    """Variables of a worker: its devices, and what a transfer of the cache needs."""
    out = [variable("FIRST", "0"), f"last=$((FIRST + {one.devices - 1}))"]
    if launch.system.vendor == "AWS":
        cores = "NEURON_VISIBLE_DEVICES" if program is VLLM_NEURON else "NEURON_RT_VISIBLE_CORES"
        out.append(f'export {cores}="$FIRST-$last"')
        if one.pool.fields.get("lnc"):
            out.append(f"export NEURON_LOGICAL_NC_CONFIG={one.pool.fields['lnc']}")
    else:
        name = _SEEN.get(launch.system.vendor, _SEEN["NVIDIA"])
        out += [f'{name}=$(seq -s , "$FIRST" "$last")', f"export {name}"]
    if one.pool.role and program in (VLLM_SERVE, VLLM_NEURON):
        out += [
            ': "${HOST_IP:=$(hostname -I | cut -d" " -f1)}"',
            'export VLLM_NIXL_SIDE_CHANNEL_HOST="$HOST_IP"',
            f"export VLLM_NIXL_SIDE_CHANNEL_PORT=$(({SIDE_PORT} + FIRST))",
        ]
        # over shared memory the cache of engines on one server may arrive wrong: AWS's tutorial
        out.append("export FI_EFA_ENABLE_SHM_TRANSFER=0" if program is VLLM_NEURON else "export UCX_NET_DEVICES=all")
    if one.pool.role == "prefill" and program is SGLANG_SERVER:
        out.append(variable("BOOTSTRAP", str(BOOTSTRAP_PORT)))
    return out


def _words(program: LaunchProgram, one: WorkerStart) -> list[str]:
    """Arguments of a worker that say nothing of its plan: addresses, ports, ranks."""
    out = [option("--host", "0.0.0.0"), '--port "$PORT"']
    if program is SGLANG_SERVER:
        if one.ranks > 1:
            out += [f"--nnodes {one.ranks}", f"--node-rank {one.rank}", '--dist-init-addr "$MASTER_ADDR:$MASTER_PORT"']
        if one.pool.role:
            out.append("--disaggregation-transfer-backend nixl")
        if one.pool.role == "prefill":
            out.append('--disaggregation-bootstrap-port "$BOOTSTRAP"')
    elif program is not TRTLLM_SERVE and one.ranks > 1:
        out += [f"--nnodes {one.ranks}", f"--node-rank {one.rank}"]
        out += ['--master-addr "$MASTER_ADDR"', '--master-port "$MASTER_PORT"']
        out += ["--headless"] if one.rank else []
    return out


def _server_files(program: LaunchProgram, starts: Sequence[WorkerStart]) -> list[BundleFile]:
    """A script for each kind of server with several workers: it starts them beside each other."""
    out = []
    for kind in dict.fromkeys(one.kind for one in starts):
        mine = [one for one in starts if one.kind == kind]
        if len({one.place for one in mine}) < 2:
            continue
        path, times = f"launch/server-{kind}.sh", mine[0].times
        about = f"all {len(mine)} workers of a server, on {times} server{'s' if times > 1 else ''}"
        body = [HERE, "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT"]
        body += [f'{one.given(program)} "$here/{one.path.removeprefix("launch/")}" &' for one in mine]
        # the first worker that ends takes the others with it, so that whoever watches the script sees it
        out.append(BundleFile(path=path, text=shell_script([about], *body, "wait -n"), is_script=True, about=about))
    return out


# what to do with them
# -----------------------------------------------------------------------------------------------------------------
def _steps(program: LaunchProgram, starts: Sequence[WorkerStart]) -> list[tuple[str, str]]:
    """Commands that start the workers, in order."""
    out = []
    for kind in dict.fromkeys(one.kind for one in starts):
        mine = [one for one in starts if one.kind == kind]
        servers, each = ("1 server", "") if mine[0].times == 1 else (f"{mine[0].times} servers", " on each")
        if len({one.place for one in mine}) > 1:
            out.append((f"launch/server-{kind}.sh", f"on {servers}: {len(mine)} workers{each}"))
        elif mine[0].ranks == 1:
            out.append((mine[0].path, f"on {servers}: one worker{each}"))
        elif program is TRTLLM_SERVE:
            run = f"srun -N {mine[0].ranks} --ntasks-per-node {mine[0].devices} --mpi=pmix {mine[0].path}"
            many = f", for each of {mine[0].times} workers" if mine[0].times > 1 else ""
            out.append((run, f"MPI runs it as every rank of a worker{many}"))
        else:
            path = mine[0].path.replace("-rank-0", "-rank-R")
            many = f"for each of {mine[0].times} workers " if mine[0].times > 1 else ""
            out.append((path, f"{many}on {mine[0].ranks} servers, a rank on each; MASTER_ADDR: where its rank 0 runs"))
    return out


def _router_steps(routers: Sequence[BundleFile], workers: WorkerCounts) -> list[tuple[str, str]]:
    if not workers.needs_router:
        return []
    if not routers:
        return [("# a router of your own", "it stands before all workers")]
    one = ", one of them" if len(routers) > 1 else ""
    return [(" or ".join(file.path for file in routers), f"a router before all workers{one}")]


def _notes(program: LaunchProgram, launch: PlanLaunch, model: ServedModel, inputs: Result, facts: Facts) -> list[str]:
    """What is left to the user, a line each."""
    out = []
    if not model.checkpoint:
        out.append(
            f"MODEL has no value: no checkpoint of {launch.model} with weights in {model.weights} is known here. Set it"
            " to a path, or to a name in the hub."
        )
    release = pinned(program, launch.system.vendor, facts)
    if release.version:
        out.append(f"The names of arguments are those of {program.title} {release.version}.")
    if not release.image:
        out.append(f"No image of {program.title} for {launch.system.display} is pinned here: IMAGE stands for yours.")
    if inputs.get("accept"):
        out.append(
            f"The forecast has {inputs['accept']:g} accepted tokens a step, and the commands hold no draft. Add the one"
            " that accepts so many."
        )
    several = any(pool.devices > launch.per_server for pool in launch.pools)
    if several and launch.system.vendor == "AWS":
        out.append(
            "A worker takes several servers. AWS documents none that does (searched 2026-12: vLLM Neuron, NxD"
            " Inference): its ranks are written with vLLM's own options."
        )
    if several and program is TRTLLM_SERVE:
        out.append(
            "TensorRT-LLM starts the ranks of a worker with MPI, which the manifests in kubernetes/ do not bring: use"
            " the scripts, or an operator of MPI."
        )
    if program is NXDI_SERVE and launch.pools[0].role:
        out.append("NxD Inference moves the cache over EFA and finds its workers through etcd: see AWS's tutorial.")
    return out
