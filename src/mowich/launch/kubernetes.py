"""Kubernetes manifests: a Deployment of workers that fit an instance, a LeaderWorkerSet of those that do not, an
indexed Job that trains."""

from __future__ import annotations

import math

from mowich.facts import Facts
from mowich.launch.arguments import LaunchProgram
from mowich.launch.bundle import BundleFile
from mowich.launch.plans import LaunchedPool, PlanLaunch
from mowich.launch.rented import RESOURCES, Rented, rented_as
from mowich.launch.write import command, head

IMAGE = "IMAGE"
"""Stands for the image, which is the user's."""
_RANK = '--node-rank "$JOB_COMPLETION_INDEX" --master-addr "$MASTER_ADDR" '


def kubernetes_text(program: LaunchProgram, launch: PlanLaunch, facts: Facts) -> str:
    """One manifest for each pool, as documents of one file."""
    rented = rented_as(launch, facts)
    top = [*head(program, launch), rented.line(launch), f"{IMAGE} stands for your image"]
    return (
        "\n".join(f"# {line}" for line in top)
        + "\n"
        + "---\n".join(_manifest(program, launch, pool, rented) for pool in launch.pools)
    )


def _manifest(program: LaunchProgram, launch: PlanLaunch, pool: LaunchedPool, rented: Rented) -> str:
    nodes = rented.per_worker(launch, pool)
    name = "-".join(x for x in (launch.model.replace(".", "-"), program.name, pool.role) if x).lower()
    pod = _pod(program, launch, pool, rented, nodes)
    if launch.work == "train":
        spec = [f"completions: {nodes}", f"parallelism: {nodes}", "completionMode: Indexed", "template:"]
        kind, version = "Job", "batch/v1"
        body = [*spec, "  spec:", "    restartPolicy: Never", *_in(pod, 4)]
    elif nodes > 1:
        kind, version = "LeaderWorkerSet", "leaderworkerset.x-k8s.io/v1"
        spec = [f"replicas: {pool.copies}", "leaderWorkerTemplate:", f"  size: {nodes}", "  workerTemplate:"]
        body = [*spec, "    spec:", *_in(pod, 6)]
    else:
        kind, version = "Deployment", "apps/v1"
        label = f"    matchLabels: {{app: {name}}}"
        spec = [f"replicas: {pool.copies}", "selector:", label.removeprefix("  "), "template:"]
        body = [*spec, "  metadata:", f"    labels: {{app: {name}}}", "  spec:", *_in(pod, 4)]
    opening = [f"apiVersion: {version}", f"kind: {kind}", f"metadata: {{name: {name}}}", "spec:"]
    return "\n".join([*opening, *_in(body, 2)]) + "\n"


def _pod(program: LaunchProgram, launch: PlanLaunch, pool: LaunchedPool, rented: Rented, nodes: int) -> list[str]:
    vendor = launch.system.vendor
    words, remarks = command(program, launch, pool, is_inside=True, rank=_RANK)
    chips = math.ceil(pool.devices / launch.system.devices_per_chip) if nodes == 1 else rented.chips
    chosen = [f"  node.kubernetes.io/instance-type: {rented.instance}"] if rented.instance else []
    if rented.tpu:
        chosen.append(f"  cloud.google.com/gke-tpu-accelerator: {rented.tpu}")
    return [
        *(["nodeSelector:", *chosen] if chosen else []),
        "containers:",
        "- name: worker",
        f"  image: {IMAGE}",
        f"  resources: {{limits: {{{RESOURCES.get(vendor, 'nvidia.com/gpu')}: {chips}}}}}",
        '  command: ["bash", "-c"]',
        "  args:",
        "  - |",
        *_in([*(f"# {text}" for text in remarks), *"\n".join(words).split("\n")], 4),
    ]


def _in(lines: list[str], spaces: int) -> list[str]:
    return [" " * spaces + line for line in lines]


def kubernetes_files(program: LaunchProgram, launch: PlanLaunch, facts: Facts) -> list[BundleFile]:
    """The manifests as files of a bundle."""
    return [BundleFile(path="kubernetes/workers.yaml", text=kubernetes_text(program, launch, facts))]
