"""Captures one model after another, each in a process of its own with limits; libraries are imported once.

Run by check_families.py with the interpreter of an environment that has torch, transformers, diffusers and timm: a line
of JSON {"family", "spec", "settings", "config"} on its input, a line of JSON on its output.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CPU_S = 60
MEMORY_B = 8 << 30


def _decoders() -> dict[str, str]:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return dict(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def _captured(asked: dict[str, Any]) -> dict[str, Any]:
    from mowich.capture.__main__ import captured
    from mowich.capture.document import written

    config = None
    if asked.get("config") is not None:
        path = Path(tempfile.mkdtemp()) / "config.json"
        path.write_text(json.dumps(asked["config"]), encoding="utf-8")
        config = str(path)
    start = time.process_time()
    made = captured(asked["spec"], settings=asked.get("settings") or {}, config=config)
    text = written(made)
    seconds = time.process_time() - start
    return {
        "document": json.loads(text),
        "seconds": seconds,
        "peak_B": _peak(),
        "parameters": _parameters(asked, config),
    }


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _parameters(asked: dict[str, Any], config: str | None) -> int:
    """Parameters as PyTorch counts them of a module that was built again."""
    from mowich.capture import adapters
    from mowich.capture.trace import building

    helper = adapters.find(asked["spec"], asked.get("settings") or {}, config)
    assert helper is not None
    with helper.installed(), building():
        module = helper.build().module
    return sum(parameter.numel() for parameter in module.parameters())


def _one(asked: dict[str, Any]) -> dict[str, Any]:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S + 5))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_B, MEMORY_B))
    try:
        return _captured(asked)
    except Exception as error:
        return {"refused": f"{error}" if type(error).__name__ == "CaptureError" else f"{type(error).__name__}: {error}"}


def main() -> int:
    """Answers lines until its input ends."""
    import diffusers  # noqa: F401
    import timm  # noqa: F401
    import transformers.modeling_utils

    import mowich.capture.adapters.diffusers
    import mowich.capture.adapters.timm
    import mowich.capture.adapters.transformers
    import mowich.capture.document  # noqa: F401

    print(json.dumps({"decoders": _decoders(), "transformers": transformers.__version__}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            with os.fdopen(writer, "w") as pipe:
                pipe.write(json.dumps(_one(asked)))
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            text = pipe.read()
        _, status = os.waitpid(child, 0)
        print(text or json.dumps({"refused": f"stopped after {CPU_S} CPU seconds (status {status})"}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
