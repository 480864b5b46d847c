"""Routers that can stand before the workers of a served plan, as scripts and manifests.

Which there are depends on the engine, and on whether workers of prefill and of decode are apart: those that cannot
hand a request from one to the other are left out. The forecast sends each request to the worker with the fewest; where
a router has no such policy, the nearest one is written.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from mowich.facts import Facts
from mowich.launch.arguments import LaunchProgram
from mowich.launch.bundle import BundleFile
from mowich.launch.nxdi import NXDI_SERVE
from mowich.launch.pinned import pinned_named
from mowich.launch.plans import LaunchedPool, PlanLaunch
from mowich.launch.rented import RESOURCES, rented_as
from mowich.launch.scripts import broken, script, variable
from mowich.launch.sglang import SGLANG_SERVER
from mowich.launch.trtllm import TRTLLM_SERVE
from mowich.launch.vllm import VLLM_NEURON, VLLM_SERVE
from mowich.launch.write import command

FIRST_PORT = 8000
"""Port of the first worker of a server."""
ROUTER_PORT = 9000
"""Port of the router."""
BOOTSTRAP_PORT = 8998
"""Where a prefill worker of SGLang tells others of itself; each worker of a server takes one more."""
SIDECAR_PORT = 8200
"""Where a decode worker listens behind the sidecar of llm-d, which has its port."""
GUIDE_LABEL = "mowich.bundle/model"
"""Label of the pods that llm-d's router picks from."""
_DYNAMO_WORKERS = {"vLLM": "dynamo.vllm", "SGLang": "dynamo.sglang", "TensorRT-LLM": "dynamo.trtllm"}
"""Title of a program -> the worker of Dynamo that runs it."""
_DYNAMO_IMAGES = {"vLLM": "vllm", "SGLang": "sglang", "TensorRT-LLM": "trtllm"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """What is served. name: as Mowich knows it; checkpoint: in the hub, "" where none is known; weights: their
    format."""

    name: str
    checkpoint: str
    weights: str

    @property
    def label(self) -> str:
        """A name that Kubernetes takes.

        >>> ServedModel(name="llama-3.1-70b", checkpoint="", weights="bf16").label
        'llama-3-1-70b'
        """
        return re.sub(r"[^a-z0-9]+", "-", self.name.casefold()).strip("-")[:40] or "model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """How many workers there are. both: that do prompts and answers."""

    prefill: int
    decode: int
    both: int

    @property
    def is_apart(self) -> bool:
        return self.prefill > 0

    @property
    def needs_router(self) -> bool:
        return self.prefill + self.decode + self.both > 1


def router_files(
    program: LaunchProgram, launch: PlanLaunch, model: ServedModel, workers: Workers, facts: Facts
) -> list[BundleFile]:
    """A file for each router that can stand before the workers; none before a single worker."""
    if not workers.needs_router:
        return []
    out = []
    if program in (VLLM_SERVE, VLLM_NEURON) or (program is NXDI_SERVE and not workers.is_apart):
        out.append(_vllm_router(workers, facts))
    if program in (VLLM_NEURON, NXDI_SERVE) and workers.is_apart:
        out.append(_neuron_proxy(program))
    if program is SGLANG_SERVER:
        out.append(_sglang_router(workers, facts))
    if program is TRTLLM_SERVE and workers.is_apart:
        out.append(_trtllm_server())
    if program in (VLLM_SERVE, SGLANG_SERVER) and launch.system.vendor in ("NVIDIA", "AMD"):
        out.append(_llm_d(program, model, workers))
    if program.title in _DYNAMO_WORKERS and launch.system.vendor == "NVIDIA":
        out.append(_dynamo(program, launch, model, facts))
    return out


def routers_told(program: LaunchProgram, launch: PlanLaunch, workers: Workers) -> list[str]:
    """What is left out of the routers, and why, a line each."""
    if not workers.needs_router:
        return []
    out = [
        "The forecast sends each request to the worker with the fewest. Routers of vLLM and SGLang look at two only."
    ]
    if program is TRTLLM_SERVE and not workers.is_apart:
        out.append("trtllm-serve has a router for prefill and decode alone: Dynamo stands before workers that do both.")
    if workers.is_apart and program is VLLM_SERVE:
        out.append(
            "The router of vLLM's production stack is left out: its tutorial hands the cache over with LMCache, these"
            " workers with NIXL."
        )
    if program.title in _DYNAMO_WORKERS and launch.system.vendor == "NVIDIA":
        out.append(
            "router/dynamo.yaml starts workers too, with the engine that its release holds. Apply it in the place of"
            " the scripts in launch/."
        )
    return out


# scripts
# -----------------------------------------------------------------------------------------------------------------
_WORKERS_ASKED = "addresses of all of them, http://HOST:PORT, with a space between"


def _listed(name: str, of: str) -> list[str]:
    """A variable with several addresses as an array `of`."""
    return [variable(name, "", _WORKERS_ASKED), f'read -r -a {of} <<< "${name}"']


def _each(of: str, words: str, to: str = "words") -> str:
    """An option again for each address of an array."""
    return f'for url in "${{{of}[@]}}"; do {to}+=({words}); done'


def _vllm_router(workers: Workers, facts: Facts) -> BundleFile:
    release = pinned_named("serving.vllm-router", "", facts).version
    about = [f"vLLM's router: pip install vllm-router{f'=={release}' if release else ''}"]
    start = 'exec vllm-router --host 0.0.0.0 --port "$ROUTER_PORT" --policy power_of_two'
    port = variable("ROUTER_PORT", str(ROUTER_PORT))
    if workers.is_apart:
        body = [*_listed("PREFILL", "prefill"), *_listed("DECODE", "decode"), port]
        body += [
            "words=(--vllm-pd-disaggregation)",
            _each("prefill", '--prefill "$url"'),
            _each("decode", '--decode "$url"'),
        ]
        body.append(f'{start} "${{words[@]}}"')
    else:
        body = [*_listed("WORKERS", "workers"), port, f'{start} --worker-urls "${{workers[@]}}"']
    return BundleFile(path="router/vllm-router.sh", text=script(about, *body), is_script=True, about=about[0])


def _sglang_router(workers: Workers, facts: Facts) -> BundleFile:
    release = pinned_named("serving.sglang-router", "", facts).version
    about = [f"SGLang's router: pip install sglang-router{f'=={release}' if release else ''}"]
    start = 'exec python3 -m sglang_router.launch_router --host 0.0.0.0 --port "$ROUTER_PORT" --policy power_of_two'
    port = variable("ROUTER_PORT", str(ROUTER_PORT))
    if workers.is_apart:
        about.append(
            "the n-th worker of prefill on a server tells of itself at port 8998 + n, from 0: BOOTSTRAP, in order"
        )
        body = [*_listed("PREFILL", "prefill"), *_listed("DECODE", "decode"), port]
        body += [
            f': "${{BOOTSTRAP:={BOOTSTRAP_PORT}}}"',
            'read -r -a ports <<< "$BOOTSTRAP"',
            "words=(--pd-disaggregation)",
            'for i in "${!prefill[@]}"; do words+=(--prefill "${prefill[$i]}" "${ports[$i]:-${ports[0]}}"); done',
            _each("decode", '--decode "$url"'),
            f'{start} "${{words[@]}}"',
        ]
    else:
        body = [*_listed("WORKERS", "workers"), port, f'{start} --worker-urls "${{workers[@]}}"']
    return BundleFile(path="router/sglang-router.sh", text=script(about, *body), is_script=True, about=about[0])


def _neuron_proxy(program: LaunchProgram) -> BundleFile:
    """What AWS's tutorials put before workers of prefill and of decode."""
    if program is NXDI_SERVE:
        about = ["the proxy of NxD Inference (beta), in its container; workers register with etcd"]
        body = [variable("ETCD", "", "HOST:PORT of etcd, the same as the workers have")]
        body.append('exec neuron-proxy-server --etcd "$ETCD"')
    else:
        about = [
            "the proxy of vllm-project/vllm-neuron, which AWS's tutorial uses; it calls it no router for production"
        ]
        body = [*_listed("PREFILL", "prefill"), *_listed("DECODE", "decode"), variable("ROUTER_PORT", str(ROUTER_PORT))]
        body.append(variable("VLLM_NEURON", "", "folder of a clone of github.com/vllm-project/vllm-neuron"))
        body += ["words=()", "addresses() {  # option, address...", '  local kind="$1" url; shift']
        body += ['  words+=("--$kind-hosts")', '  for url in "$@"; do url="${url#*://}"; words+=("${url%%:*}"); done']
        body += ['  words+=("--$kind-ports")', '  for url in "$@"; do words+=("${url##*:}"); done', "}"]
        body += ['addresses prefiller "${prefill[@]}"', 'addresses decoder "${decode[@]}"']
        path = '"$VLLM_NEURON/examples/vllm_neuron/vllm/disaggregated_inference/toy_proxy_server.py"'
        body.append(broken([f"exec python3 {path}", '--port "$ROUTER_PORT"', '"${words[@]}"']))
    return BundleFile(path="router/neuron-proxy.sh", text=script(about, *body), is_script=True, about=about[0])


def _trtllm_server() -> BundleFile:
    """TensorRT-LLM's own server before workers of prefill and of decode. It reads their addresses from a file."""
    about = ["TensorRT-LLM's own server before workers of prefill and of decode"]
    body = [*_listed("PREFILL", "prefill"), *_listed("DECODE", "decode"), variable("ROUTER_PORT", str(ROUTER_PORT))]
    body += [
        'config="$(mktemp)"',
        "servers() {  # name, address...",
        '  local name="$1" url; shift',
        '  printf \'%s:\\n  num_instances: %s\\n  urls:\\n\' "$name" "$#"',
        '  for url in "$@"; do printf \'    - "%s"\\n\' "${url#*://}"; done',
        "}",
        "{",
        "  printf 'hostname: 0.0.0.0\\nport: %s\\nbackend: pytorch\\n' \"$ROUTER_PORT\"",
        '  servers context_servers "${prefill[@]}"',
        '  servers generation_servers "${decode[@]}"',
        '} > "$config"',
        'exec trtllm-serve disaggregated -c "$config"',
    ]
    return BundleFile(path="router/trtllm-disaggregated.sh", text=script(about, *body), is_script=True, about=about[0])


# manifests
# -----------------------------------------------------------------------------------------------------------------
def _llm_d(program: LaunchProgram, model: ServedModel, workers: Workers) -> BundleFile:
    """Values of llm-d's router. Pods that it picks from have the label; with prefill and decode apart they say which
    they are, and decode workers stand behind its sidecar."""
    top = [
        "# values of llm-d's router (guides of llm-d, read 2026-12-02). Its chart and the CRDs of the Gateway API come"
        " first:",
        f"#   helm install {model.label} oci://ghcr.io/llm-d/charts/llm-d-router-standalone --version v0 -f THIS FILE",
        f'# all pods of workers have the label {GUIDE_LABEL}: "{model.label}"',
    ]
    if workers.is_apart:
        connector = "nixlv2" if program is VLLM_SERVE else "sglang"
        top += [
            "# pods of prefill have the label llm-d.ai/role: prefill, those of decode llm-d.ai/role: decode",
            f"# a decode worker listens on port {SIDECAR_PORT} (PORT={SIDECAR_PORT}); llm-d's routing sidecar has its"
            " port:",
            f"#   --port={FIRST_PORT} --kv-connector={connector} --secure-serving=false",
        ]
    plugins = _APART if workers.is_apart else _TOGETHER
    lines = [
        *top,
        "router:",
        "  extraServicePorts:",
        f"  - {{name: http, port: {ROUTER_PORT}, protocol: TCP, targetPort: 8081}}",
        "  epp:",
        "    replicas: 1",
        "    pluginsConfigFile: config.yaml",
        "    pluginsCustomConfig:",
        "      config.yaml: |",
        *(f"        {line}" for line in plugins),
        "  modelServers:",
        f'    matchLabels: {{{GUIDE_LABEL}: "{model.label}"}}',
    ]
    return BundleFile(path="router/llm-d.values.yaml", text="\n".join(lines) + "\n", about="values of llm-d's router")


_TOGETHER = (
    "apiVersion: llm-d.ai/v1",
    "kind: EndpointPickerConfig",
    "plugins:",
    "- {type: active-request-scorer}",
    "- {type: max-score-picker}",
    "schedulingProfiles:",
    "- name: default",
    "  plugins:",
    "  - {pluginRef: active-request-scorer}",
    "  - {pluginRef: max-score-picker}",
)
_APART = (
    "apiVersion: llm-d.ai/v1",
    "kind: EndpointPickerConfig",
    "plugins:",
    "- {type: always-disagg-pd-decider}",
    "- type: disagg-profile-handler",
    "  parameters: {deciders: {prefill: always-disagg-pd-decider}}",
    "- {type: prefill-filter}",
    "- {type: decode-filter}",
    "- {type: active-request-scorer}",
    "- {type: max-score-picker}",
    "schedulingProfiles:",
    "- name: prefill",
    "  plugins:",
    "  - {pluginRef: prefill-filter}",
    "  - {pluginRef: active-request-scorer}",
    "  - {pluginRef: max-score-picker}",
    "- name: decode",
    "  plugins:",
    "  - {pluginRef: decode-filter}",
    "  - {pluginRef: active-request-scorer}",
    "  - {pluginRef: max-score-picker}",
)


def _dynamo(program: LaunchProgram, launch: PlanLaunch, model: ServedModel, facts: Facts) -> BundleFile:
    """The graph of Dynamo's operator: its frontend, and workers of its own that run the same engine."""
    release = pinned_named(f"serving.dynamo-{_DYNAMO_IMAGES[program.title]}", "", facts)
    image = release.image
    lines = [
        f"# Dynamo {release.version}: kubectl apply -f THIS FILE, where its operator runs",
        "# the secret hf-token-secret holds HF_TOKEN, for models that ask for one",
        "apiVersion: nvidia.com/v1beta1",
        "kind: DynamoGraphDeployment",
        f"metadata: {{name: {model.label}}}",
        "spec:",
        "  components:",
        "  - name: frontend",
        "    type: frontend",
        "    replicas: 1",
        "    podTemplate:",
        "      spec:",
        "        containers:",
        "        - name: main",
        f"          image: {image}",
        "          command: [python3, -m, dynamo.frontend]",
        f'          args: ["--router-mode", "least-loaded", "--http-port", "{FIRST_PORT}"]',
        "          envFrom: [{secretRef: {name: hf-token-secret}}]",
    ]
    for pool in launch.pools:
        lines += _component(program, launch, pool, model, image, facts)
    return BundleFile(
        path="router/dynamo.yaml", text="\n".join(lines) + "\n", about="Dynamo: frontend and workers as one graph"
    )


def _component(
    program: LaunchProgram, launch: PlanLaunch, pool: LaunchedPool, model: ServedModel, image: str, facts: Facts
) -> list[str]:
    """One kind of worker: the command of the program with Dynamo's worker in the place of its server."""
    rented = rented_as(launch, facts)
    nodes = rented.per_worker(launch, pool)
    chips = -(-pool.devices // (launch.system.devices_per_chip * nodes))
    name = pool.role or "worker"
    start = "--model-path" if program is not VLLM_SERVE else "--model"
    words, remarks = command(program, launch, pool, is_inside=True)
    text = "\n".join(words)
    rest = text[text.index('"$MODEL"') + len('"$MODEL"') :]
    if program is TRTLLM_SERVE:
        rest = rest.replace("--config ", "--extra-engine-args ")
    rest = re.sub(r" \\\n  --(disaggregation-mode|server_role) \S+", "", rest)
    role = [f"--disaggregation-mode {pool.role}"] if pool.role else []
    role += ["--disaggregation-transfer-backend nixl"] if pool.role and program is SGLANG_SERVER else []
    more = "".join(f" \\\n  {word}" for word in role)
    run = f'exec python3 -m {_DYNAMO_WORKERS[program.title]} {start} "$MODEL"{rest}{more}'
    return [
        f"  - name: {name}",
        f"    type: {name}",
        f"    replicas: {pool.copies}",
        *([f"    multinode: {{nodeCount: {nodes}}}"] if nodes > 1 else []),
        "    podTemplate:",
        "      spec:",
        "        containers:",
        "        - name: main",
        f"          image: {image}",
        f"          env: [{{name: MODEL, value: {json.dumps(model.checkpoint or 'MODEL')}}}]",
        "          envFrom: [{secretRef: {name: hf-token-secret}}]",
        f'          resources: {{limits: {{{RESOURCES["NVIDIA"]}: "{chips}"}}}}',
        "          command: [bash, -c]",
        "          args:",
        "          - |",
        *(f"            {line}" for line in [*(f"# {remark}" for remark in remarks), *run.split("\n")]),
    ]
