"""The ways to spread a model over a serving worker: the legal combinations of degrees on one system."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

from mowich.machines.system import System
from mowich.models import ops
from mowich.models.model import Model, Moe
from mowich.plans.launch_settings import NOTHING_STATED, LaunchSettings
from mowich.plans.plan import KV, WEIGHTS, ServePlan, one_of
from mowich.plans.search import powers


def worker_plans(
    model: Model,
    system: System,
    *,
    weights: Sequence[str],
    kv: Sequence[str],
    fixed: Mapping[str, Sequence[int]],
    long_prompt: bool,
    launch: LaunchSettings = NOTHING_STATED,
) -> list[ServePlan]:
    """Every worker plan that can be laid out: tp divides the heads of every layer and stays in the scale-up domain; dp
    for attention with a cache that tp would copy (MLA, or fewer kv heads than ranks) or experts; ep divides experts and
    ranks; cp for long prompts; pp up to 8 stages. tp and cp stay in the scale-up domain, attention data parallelism and
    wide expert parallelism may cross it. launch: settings of all engines."""
    heads = ops.query_heads(model)
    moe = [layer.ffn for layer in model.layers if isinstance(layer.ffn, Moe)]
    experts = math.gcd(*(f.num_experts for f in moe)) if moe else 1
    domain = min(system.domain_devices, system.devices)

    def choices(name: str, options: Sequence[int]) -> list[int]:
        return [v for v in fixed[name] if v >= 1] if name in fixed else list(options)

    def expert_degrees(tp: int, ranks: int) -> list[int]:
        eps = [e for e in powers(ranks) if experts % e == 0] if moe else [1]
        eps = [max(eps)] if ranks > tp and "ep" not in fixed else eps
        return [e for e in choices("ep", eps) if ranks % e == 0 and not (moe and experts % e)]

    lengths = choices("cp", [1, 2, 4, 8] if long_prompt else [1])
    stages = [pp for pp in choices("pp", [1, 2, 4, 8]) if pp <= model.num_layers]
    formats = [
        (one_of(w, WEIGHTS, "format of weights"), one_of(k, KV, "format of the cache"))
        for w, k in itertools.product(weights, kv)
    ]
    out = []
    for tp in choices("tp", powers(domain)):
        if any(h % tp for h in heads):
            continue
        for dp in choices("dp", powers(system.devices // tp) if moe else [1]):
            ranks = tp * dp
            if ranks > system.devices:
                continue
            for ep, cp, pp in itertools.product(expert_degrees(tp, ranks), lengths, stages):
                if tp * cp <= domain and ranks * cp * pp <= system.devices:
                    degrees = {"tp": tp, "dp": dp, "ep": ep, "cp": cp, "pp": pp}
                    out += [ServePlan(**degrees, weights=w, kv=k, launch=launch) for w, k in formats]
    return out
