"""Roles of weights by dataflow against the plans for tensor parallelism that transformers ships with its classes.

Run: `python tests/capture/check_roles.py [NAME ...]` in an environment with torch and transformers, `src` on the path.
Each text decoder whose class has a plan is built with its default configuration on the meta device, traced, and each
matrix that its plan names is compared. Exit code 1 where fewer than 99% agree.
"""

from __future__ import annotations

import re
import signal
import sys
import time
from collections import Counter

from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from mowich.capture.adapters.transformers import adapter
from mowich.capture.cores import with_cores
from mowich.capture.roles import roles
from mowich.capture.scans import installed
from mowich.capture.trace import building, settled, trace

SAME = {
    "colwise": {"column"},
    "packed_colwise": {"column"},
    "rowwise": {"row"},
    "packed_rowwise": {"row"},
    "embedding_rowwise": {"vocabulary"},
    "replicated_with_grad_allreduce": {"replicated"},
    "replicate": {"replicated"},
    "mla_kv_a_proj": {"replicated"},
    "moe_tp_experts": {"experts"},
    "ep_dispatch_experts": {"experts"},
    "grouped_gemm": {"experts"},
    "colwise_gather_output": {"column", "vocabulary"},
    "rowwise_split_input": {"row"},
}
"""Style of a plan -> roles that say the same."""

ENOUGH = 0.99

SECONDS = 60
"""Of one model, at most."""


def _too_long(number: int, frame: object) -> None:
    raise TimeoutError(f"more than {SECONDS} s")


def compared(name: str) -> tuple[int, list[tuple[str, str, str]]]:
    """How many matrices the plan of a class names, and those whose role is another: (weight, style, role)."""
    helper = adapter(name, {}, None)
    with helper.installed():
        with building():
            built = helper.build()
        styles: dict[str, str] = dict(getattr(built.module, "_tp_plan", None) or {})
        if not styles:
            return 0, []
        with installed(built.module):
            found = roles(with_cores(trace(settled(built.module), built.inputs(2, 256), sizes=(2, 256))))
    wrong, count = [], 0
    shapes = {key: value.shape for key, value in built.module.named_parameters()}
    for weight, role in found.items():
        wild = re.sub(r"(?<=\.)\d+(?=\.|$)", "*", weight)
        style = styles.get(wild) or styles.get(wild.rsplit(".", 1)[0])
        if style is None or len(shapes[weight]) < 2:
            continue
        count += 1
        allowed = SAME[style] | ({"experts"} if ".experts" in wild else set())
        if role not in allowed:
            wrong.append((weight, style, role))
    return count, wrong


def main(names: list[str]) -> int:
    signal.signal(signal.SIGALRM, _too_long)
    chosen = names or sorted(set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()))
    total, bad, models, right = 0, 0, 0, 0
    for name in chosen:
        began = time.process_time()
        signal.alarm(SECONDS)
        try:
            count, wrong = compared(name)
        except Exception as error:  # what is not captured has no roles
            print(f"{name}: not captured ({type(error).__name__}: {str(error)[:150]})", flush=True)
            continue
        if not count:
            continue
        total, bad, models, right = total + count, bad + len(wrong), models + 1, right + (not wrong)
        kinds = Counter((re.sub(r"\.\d+(?=\.|$)", ".*", w), style, role) for w, style, role in wrong)
        told = "; ".join(f"{n} x {w}: {style}, {role}" for (w, style, role), n in kinds.most_common(6))
        print(f"{name}: {count - len(wrong)} of {count}, {time.process_time() - began:.1f} CPU s. {told}", flush=True)
    share = (total - bad) / total if total else 0.0
    print(f"{total - bad} of {total} weights ({100 * share:.2f}%), {right} of {models} models wholly")
    return 0 if share >= ENOUGH else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
