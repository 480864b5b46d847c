"""Kubernetes manifests: a Deployment of workers that fit an instance, a LeaderWorkerSet of those that do not, each with
a Service; a JobSet that trains. Pods run the lines that the scripts of a bundle hold."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mowich.facts import Facts
from mowich.launch.arguments import LaunchProgram
from mowich.launch.bundle import BundleFile
from mowich.launch.checkpoints import checkpoint_of
from mowich.launch.pinned import IMAGE_ASKED, pinned
from mowich.launch.plans import LaunchedPool, PlanLaunch
from mowich.launch.rented import RESOURCES, Rented, rented_as
from mowich.launch.routers import FIRST_PORT, GUIDE_LABEL, ServedModel
from mowich.launch.serving_bundle import MASTER_PORT, WorkerStart, rank_lines
from mowich.launch.training_start import TrainingStart, nodes_of, start_lines, training_start, written_configs
from mowich.launch.write import head

_ROLE_LABEL = "llm-d.ai/role"
_EFA = "vpc.amazonaws.com/efa"
_HF_TOKEN = "{secretKeyRef: {name: hf-token, key: token, optional: true}}"
"""Where a token of the hub would stand, for models whose license is agreed to there."""
_CONFIG_DIR = "/tmp/mowich"
_PROBE = {"trtllm": "/health"}
_START_MINUTES = 60
"""How long a worker may take to load and compile before it is started again."""


def kubernetes_text(program: LaunchProgram, launch: PlanLaunch, facts: Facts) -> str:
    """All manifests, as documents of one file."""
    return "".join(file.text for file in kubernetes_files(program, launch, facts))


def kubernetes_files(program: LaunchProgram, launch: PlanLaunch, facts: Facts) -> list[BundleFile]:
    """The manifests as files of a bundle: kubectl apply -f takes them."""
    if launch.work == "train":
        text, kind = job_set(program, launch, facts), "a JobSet of all nodes"
        return [BundleFile(path="kubernetes/job.yaml", text=text, about=kind)]
    text = _workers(program, launch, facts)
    return [BundleFile(path="kubernetes/workers.yaml", text=text, about="the workers, and a Service before each kind")]


def _top(program: LaunchProgram, launch: PlanLaunch, facts: Facts, needs: Sequence[str]) -> list[str]:
    """The comments of a file."""
    rented = rented_as(launch, facts)
    image = _image(program, launch, facts)
    asked = [f"{IMAGE_ASKED} stands for your image"] if image == IMAGE_ASKED else []
    return [f"# {line}" for line in (*head(program, launch), rented.line(launch), *needs, *asked)]


def _image(program: LaunchProgram, launch: PlanLaunch, facts: Facts) -> str:
    return pinned(program, launch.system.vendor, facts).image or IMAGE_ASKED


def kubernetes_name(*parts: str) -> str:
    """A name that Kubernetes takes, and that leaves room for the numbers of pods.

    >>> kubernetes_name("llama-3.1-70b", "megatron")
    'llama-3-1-70b-megatron'
    """
    text = "-".join(part for part in parts if part)
    return re.sub(r"[^a-z0-9]+", "-", text.casefold()).strip("-")[:44].strip("-") or "model"


def _in(lines: Sequence[str], spaces: int) -> list[str]:
    return [" " * spaces + line if line else line for line in lines]


# pods
# -----------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class _Pod:
    """What a pod runs. chips: that it takes; env: variables with their values; labels: variables with the value of a
    label of the pod; port: that it listens on, 0: none; probe: a path that answers when the worker is ready."""

    image: str
    lines: Sequence[str]
    chips: int
    env: Mapping[str, str]
    labels: Mapping[str, str] = field(default_factory=dict)
    port: int = 0
    probe: str = ""


def _resources(launch: PlanLaunch, rented: Rented, chips: int, facts: Facts) -> dict[str, object]:
    """Chips, and the network interfaces of an instance that is taken whole."""
    out: dict[str, object] = {RESOURCES.get(launch.system.vendor, "nvidia.com/gpu"): chips}
    efa = facts.get(f"launch.clusters.efa.{rented.instance.replace('.', '-')}") if rented.instance else None
    if chips == rented.chips and efa is not None and efa.value is not None:
        out[_EFA] = round(facts.number(efa.path))
    return out


def _selector(rented: Rented, topology: str = "") -> list[str]:
    """Which nodes of the cluster will do."""
    if rented.tpu:
        lines = [f"  cloud.google.com/gke-tpu-accelerator: {rented.tpu}"]
        lines += [f'  cloud.google.com/gke-tpu-topology: "{topology}"'] if topology else []
        return ["nodeSelector:", *lines]
    return ["nodeSelector:", f"  node.kubernetes.io/instance-type: {rented.instance}"] if rented.instance else []


def _pod_lines(pod: _Pod, launch: PlanLaunch, rented: Rented, facts: Facts, topology: str = "") -> list[str]:
    """The spec of a pod."""
    limits = _resources(launch, rented, pod.chips, facts)
    said = ", ".join(f"{name}: {count}" for name, count in limits.items())
    env = [f"  - {{name: {name}, value: {json.dumps(value)}}}" for name, value in pod.env.items()]
    of_label = "valueFrom: {fieldRef: {fieldPath: \"metadata.labels['%s']\"}}"
    env += [f"  - {{name: {name}, {of_label % label}}}" for name, label in pod.labels.items()]
    env.append(f"  - {{name: HF_TOKEN, valueFrom: {_HF_TOKEN}}}")
    port = [f"  ports: [{{name: http, containerPort: {pod.port}}}]"] if pod.port else []
    probes = []
    if pod.probe:
        ask = f"httpGet: {{path: {pod.probe}, port: http}}"
        probes = [
            f"  startupProbe: {{{ask}, periodSeconds: 10, failureThreshold: {_START_MINUTES * 6}}}",
            f"  readinessProbe: {{{ask}, periodSeconds: 10}}",
        ]
    # a transfer over EFA, and workers of one node over shared memory, need more than a container gets by itself
    rights = ["  securityContext: {capabilities: {add: [IPC_LOCK]}}"] if _EFA in limits else []
    return [
        *_selector(rented, topology),
        *(["tolerations: [{key: nvidia.com/gpu, operator: Exists}]"] if launch.system.vendor == "NVIDIA" else []),
        "containers:",
        "- name: worker",
        f"  image: {pod.image}",
        f"  resources: {{limits: {{{said}}}}}",
        *rights,
        "  env:",
        *env,
        *port,
        *probes,
        "  volumeMounts: [{name: shm, mountPath: /dev/shm}]",
        '  command: ["bash", "-c"]',
        "  args:",
        "  - |",
        *_in([line for text in pod.lines for line in text.split("\n")], 4),
        "volumes:",
        "- {name: shm, emptyDir: {medium: Memory}}",
    ]


# serving
# -----------------------------------------------------------------------------------------------------------------
def _workers(program: LaunchProgram, launch: PlanLaunch, facts: Facts) -> str:
    rented = rented_as(launch, facts)
    weights = str(launch.pools[-1].fields.get("weights", "bf16"))
    model = ServedModel(
        name=launch.model, checkpoint=checkpoint_of(program, launch.model, weights, facts), weights=weights
    )
    several = any(rented.per_worker(launch, pool) > 1 for pool in launch.pools)
    lws = facts.get("launch.clusters.lws")
    needs = [f"LeaderWorkerSet {lws.value} is installed in the cluster"] if several and lws is not None else []
    needs += [] if model.checkpoint else ["MODEL has no value: set it to a path, or to a name in the hub"]
    documents = [
        document
        for pool in launch.pools
        for document in (_worker_set(program, launch, pool, rented, model, facts), _service(model, pool))
    ]
    return "\n".join(_top(program, launch, facts, needs)) + "\n" + "---\n".join(documents)


def _service(model: ServedModel, pool: LaunchedPool) -> str:
    """A Service before the workers of a pool; with the name of the model where they are of one kind."""
    picked = {GUIDE_LABEL: model.label} | ({_ROLE_LABEL: pool.role} if pool.role else {})
    chosen = ", ".join(f"{key}: {value}" for key, value in picked.items())
    return (
        f"apiVersion: v1\nkind: Service\nmetadata: {{name: {kubernetes_name(model.label, pool.role)}}}\nspec:\n"
        f"  selector: {{{chosen}}}\n  ports: [{{name: http, port: {FIRST_PORT}, targetPort: http}}]\n"
    )


def _worker_set(
    program: LaunchProgram,
    launch: PlanLaunch,
    pool: LaunchedPool,
    rented: Rented,
    model: ServedModel,
    facts: Facts,
) -> str:
    """The workers of a pool."""
    nodes = rented.per_worker(launch, pool)
    name = kubernetes_name(launch.model, program.name, pool.role)
    labels = {"app": name, GUIDE_LABEL: model.label} | ({_ROLE_LABEL: pool.role} if pool.role else {})
    said = ", ".join(f"{key}: {value}" for key, value in labels.items())
    pods = [
        _pod_lines(_served(program, launch, pool, model, facts, rank, nodes), launch, rented, facts)
        for rank in range(min(nodes, 2))
    ]
    if nodes > 1:
        head_lines = ["leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet"]
        # only the leader of a worker answers requests
        plain = f"app: {name}"
        body = [
            f"replicas: {pool.copies}",
            "leaderWorkerTemplate:",
            f"  size: {nodes}",
            "  restartPolicy: RecreateGroupOnPodRestart",
            "  leaderTemplate:",
            f"    metadata: {{labels: {{{said}}}}}",
            "    spec:",
            *_in(pods[0], 6),
            "  workerTemplate:",
            f"    metadata: {{labels: {{{plain}}}}}",
            "    spec:",
            *_in(pods[1], 6),
        ]
    else:
        head_lines = ["apps/v1", "Deployment"]
        body = [f"replicas: {pool.copies}", "selector:", f"  matchLabels: {{app: {name}}}", "template:"]
        body += [f"  metadata: {{labels: {{{said}}}}}", "  spec:", *_in(pods[0], 4)]
    opening = [f"apiVersion: {head_lines[0]}", f"kind: {head_lines[1]}", f"metadata: {{name: {name}}}", "spec:"]
    return "\n".join([*opening, *_in(body, 2)]) + "\n"


def _served(
    program: LaunchProgram,
    launch: PlanLaunch,
    pool: LaunchedPool,
    model: ServedModel,
    facts: Facts,
    rank: int,
    nodes: int,
) -> _Pod:
    """A pod with a worker, or with one rank of it. Its devices are those that the cluster gives it, from 0."""
    devices = pool.devices // nodes
    start = WorkerStart(pool=pool, kind=1, times=1, first=0, devices=devices, rank=rank, ranks=nodes, place=0)
    lines, remarks = rank_lines(program, launch, model, start)
    if rank:
        lines = [re.sub(r"--node-rank 1\b", '--node-rank "$LWS_WORKER_INDEX"', text) for text in lines]
    rendezvous = ['export MASTER_ADDR="$LWS_LEADER_ADDRESS"'] if nodes > 1 else []
    env = {"MODEL": model.checkpoint or "MODEL"}
    if nodes > 1:
        env["MASTER_PORT"] = str(MASTER_PORT)
    return _Pod(
        image=_image(program, launch, facts),
        lines=["set -euo pipefail", *(f"# {text}" for text in remarks), *rendezvous, *lines],
        chips=math.ceil(devices / launch.system.devices_per_chip),
        env=env,
        port=0 if rank else FIRST_PORT,
        probe="" if rank else _PROBE.get(program.name, "/health"),
    )


# training
# -----------------------------------------------------------------------------------------------------------------
def job_set(
    program: LaunchProgram,
    launch: PlanLaunch,
    facts: Facts,
    given: Mapping[str, str] | None = None,
    words: Sequence[str] = (),
    behind: str = "",
) -> str:
    """A JobSet that trains. given: values of variables that the job asks for; words: behind the arguments of the plan;
    behind: the end of its name."""
    rented = rented_as(launch, facts)
    start = training_start(program, launch, facts)
    nodes, per_node = nodes_of(launch)
    slices = int(launch.pools[0].fields.get("slices", 1)) if rented.tpu else 1
    slices = slices if nodes % slices == 0 else 1
    name = kubernetes_name(launch.model, program.name)[:34].strip("-") + behind
    pod = _Pod(
        image=_image(program, launch, facts),
        lines=_node_lines(start, name, nodes, nodes // slices, words),
        chips=per_node // launch.system.devices_per_chip,
        env={**_asked(start), **(given or {})},
        labels={"JOB_INDEX": "jobset.sigs.k8s.io/job-index"} if slices > 1 else {},
    )
    topology = _topology(launch, nodes // slices * pod.chips) if rented.tpu else ""
    version = facts.get("launch.clusters.jobset")
    needs = [f"JobSet {version.value} is installed in the cluster"] if version is not None else []
    open_ones = [key for key, value in pod.env.items() if not value]
    needs += [f"set the value of {', '.join(open_ones)}"] if open_ones else []
    needs += ["gke-tpu-topology is that of a whole slice: set the one that you reserved"] if topology else []
    lines = [
        *_top(program, launch, facts, needs),
        "apiVersion: jobset.x-k8s.io/v1alpha2",
        "kind: JobSet",
        f"metadata: {{name: {name}}}",
        "spec:",
        f"  network: {{enableDNSHostnames: true, subdomain: {name}}}",
        "  failurePolicy: {maxRestarts: 0}" if behind else "  failurePolicy: {maxRestarts: 3}",
        "  replicatedJobs:",
        "  - name: node",
        f"    replicas: {slices}",
        "    template:",
        "      spec:",
        f"        parallelism: {nodes // slices}",
        f"        completions: {nodes // slices}",
        "        completionMode: Indexed",
        "        backoffLimit: 0",
        "        template:",
        "          spec:",
        "            restartPolicy: Never",
        *_in(_pod_lines(pod, launch, rented, facts, topology), 12),
    ]
    return "\n".join(lines) + "\n"


def _asked(start: TrainingStart) -> dict[str, str]:
    return {name: value for name, value, _ in start.asks}


def _node_lines(start: TrainingStart, name: str, nodes: int, of_slice: int, words: Sequence[str]) -> list[str]:
    """What a pod of a JobSet runs: its number and the address of the first from the names that JobSet gives."""
    rank = '"$JOB_COMPLETION_INDEX"'
    if nodes > of_slice:
        rank = f'"$((JOB_INDEX * {of_slice} + JOB_COMPLETION_INDEX))"'
    lines = ["set -euo pipefail", f"export NODE_RANK={rank}"]
    lines += [f'export MASTER_ADDR="{name}-node-0-0.{name}"' if nodes > 1 else "export MASTER_ADDR=localhost"]
    lines += [f"CONFIG_DIR={_CONFIG_DIR}", *written_configs(start)]
    lines += [f"set -- {' '.join(words)}"] if words else []
    return [*lines, *start_lines(start, nodes)]


def _topology(launch: PlanLaunch, chips: int) -> str:
    """The shape of a slice of TPUs, as near to a cube, or to a square, as its chips allow.

    Chips of a slice of more than four count up along the axes: 2x2x1, 2x2x2, 2x2x4, 2x4x4.
    """
    axes = max(level.axes for level in launch.system.levels) or 2
    sides = [1] * axes
    left = chips
    while left > 1:
        factor = next(n for n in range(2, left + 1) if left % n == 0)
        sides[sides.index(min(sides))] *= factor
        left //= factor
    return "x".join(map(str, sorted(sides, reverse=chips <= 4)))
