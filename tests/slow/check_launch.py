"""vLLM's own parser and torchtitan's own config take what `--emit` writes: `python tests/slow/check_launch.py`.

Needs torch for CPU, vllm and torchtitan without what they need for their devices (requirements-launch.txt, installed
with `--no-deps` for these two). vLLM asks for its device when it is imported: it is told that it is a CPU. Packages
that its modules import and its parser does not use are stood in for.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import shlex
import sys
import types
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import MagicMock

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "src"))
STOOD_IN = ("mistral_common", "cv2", "python_multipart", "llguidance", "partial_json_parser", "watchfiles", "xgrammar")
QUESTIONS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("llama-3.1-70b", "h100:8", {}),
    ("deepseek-v3", "h200:16", {"tpot": "100ms"}),
)


class _Stand(types.ModuleType):
    __path__: ClassVar[list[str]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        found = type(name, (), {}) if name[:1].isupper() else MagicMock()
        setattr(self, name, found)
        return found


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        known = name.split(".")[0] in STOOD_IN
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if known else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _Stand(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing: the stand-in makes what is asked of it."""


def check_vllm() -> None:
    """Each plan's command is read by vLLM's parser, with the same degrees."""
    import mowich

    platforms = importlib.import_module("vllm.platforms")
    platforms._current_platform = importlib.import_module("vllm.platforms.cpu").CpuPlatform()
    arguments = importlib.import_module("vllm.engine.arg_utils")
    parser = arguments.EngineArgs.add_cli_args(
        importlib.import_module("vllm.utils.argparse_utils").FlexibleArgumentParser()
    )
    for model, system, limits in QUESTIONS:
        serve: dict[str, object] = {"isl": "2k", "osl": "300", **limits}
        text = mowich.plan(model, system, serve=serve).rows[0].emit("vllm").replace("\\\n", " ")
        read = parser.parse_args(shlex.split(text, comments=True)[3:])
        print(f"vllm reads the plan of {model} on {system}: tp {read.tensor_parallel_size}")


def check_torchtitan() -> None:
    """Each option of the table is a field of torchtitan's config."""
    from mowich.launch.emitted import PROGRAMS

    configs = importlib.import_module("torchtitan.config.configs")
    own = {
        "parallelism": configs.ParallelismConfig,
        "training": configs.TrainingConfig,
        "compile": configs.CompileConfig,
    }
    names = [a.name for a in PROGRAMS["torchtitan"].arguments if "." in a.name and not a.is_read_only]
    missing = [name for name in names if name.split(".")[1] not in {f.name for f in fields(own[name.split(".")[0]])}]
    assert not missing, f"torchtitan has no {missing}"
    print(f"torchtitan has all {len(names)} options")


if __name__ == "__main__":
    sys.meta_path.append(_Finder())
    check_torchtitan()
    check_vllm()
