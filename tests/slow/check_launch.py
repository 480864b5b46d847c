"""The tools' own parsers take what bundles hold: `python tests/slow/check_launch.py`.

vLLM's parser, SGLang's, torchtitan's config manager with the config that a bundle writes, Megatron-LM's parser and its
checks, MaxText's config, and the schemas of Kubernetes. Needs torch for CPU and the packages of
requirements-launch.txt; vllm, sglang and torchtitan are installed with `--no-deps`. What is not there is told and left
out: Megatron-LM's parser is in its repository alone (`MEGATRON=DIR`, a checkout), MaxText needs Python 3.12
(`MAXTEXT_PYTHON=FILE`, a Python with maxtext), schemas of JobSet and LeaderWorkerSet are those of their CRDs
(`CRDS=FILE,FILE`).
vLLM asks for its device when it is imported: it is told that it is a CPU. Packages that its modules import and its
parser does not use are stood in for.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import shlex
import subprocess
import sys
import tempfile
import types
import typing
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import MagicMock

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "src"))
STOOD_IN = ("mistral_common", "cv2", "python_multipart", "llguidance", "partial_json_parser", "watchfiles", "xgrammar")
SERVED: tuple[tuple[str, str, str, dict[str, str]], ...] = (
    ("vllm", "llama-3.1-70b", "h100:8", {}),
    ("vllm", "llama-3.1-405b", "h100:32", {"tp": "8", "pp": "2", "mode": "aggregated"}),
    ("vllm", "deepseek-v3", "h200:16", {}),
    ("sglang", "deepseek-v3", "h200:16", {}),
    ("sglang", "llama-3.1-70b", "h100:8", {"mode": "aggregated"}),
)
TRAINED: tuple[tuple[str, str, str, str, dict[str, str]], ...] = (
    ("torchtitan", "llama-3.1-8b", "h100:64", "512seqs", {"recompute": "full"}),
    ("torchtitan", "llama-3.1-70b", "h100:64", "512seqs", {"pp": "2", "precision": "bf16"}),
    ("torchtitan", "qwen3-30b-a3b", "h100:64", "512seqs", {"precision": "bf16"}),
    ("megatron", "llama-3.1-70b", "h100:64", "512seqs", {}),
    ("megatron", "deepseek-v3", "h200:512", "2048seqs", {}),
    ("megatron", "gpt-oss-120b", "h100:64", "512seqs", {}),
    ("maxtext", "llama-3.1-70b", "ironwood:64", "512seqs", {"pp": "1"}),
    ("maxtext", "llama-3.2-1b", "ironwood:16", "512seqs", {"pp": "1"}),
)
VERSION = "1.36"
"""Of Kubernetes, whose schemas are asked."""


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


# what is written
# -----------------------------------------------------------------------------------------------------------------
def bundles(root: Path) -> dict[str, list[Path]]:
    """Program -> folders of bundles."""
    import mowich

    out: dict[str, list[Path]] = {}
    for program, model, system, fixed in SERVED:
        job = {"isl": "2k", "osl": "300", **({"tpot": "100ms"} if model == "deepseek-v3" else {})}
        row = mowich.plan(model, system, serve=job, fixed=fixed, emit=program, top=1).rows[0]
        out.setdefault(program, []).append(_bundle(row, program, root))
    for program, model, system, batch, fixed in TRAINED:
        job = {"tokens": "1T", "seq": 8192, "batch": batch}
        row = mowich.plan(model, system, train=job, fixed=fixed, emit=program, top=1).rows[0]
        out.setdefault(program, []).append(_bundle(row, program, root))
    return out


def _bundle(row: Any, program: str, root: Path) -> Path:
    folder = Path(tempfile.mkdtemp(prefix=f"{program}-", dir=root))
    row.bundle(program, folder)
    return folder


PORTS = {"$PORT": "8000", "$MASTER_PORT": "29500"}
"""Variables of scripts that a parser takes as numbers."""


def commands(folder: Path, mark: str, behind: str = "") -> list[list[str]]:
    """Words of the commands of scripts that hold a mark, with what the script is given behind."""
    out = []
    for file in sorted((folder / "launch").glob("*.sh")):
        for line in file.read_text(encoding="utf-8").replace("\\\n", " ").split("\n"):
            if mark in line and not line.lstrip().startswith(("#", "export")):
                words = shlex.split(line.replace('"$@"', behind))
                out.append([PORTS.get(word, word) for word in words])
    assert out, f"{folder} has no command with {mark}"
    return out


def title(folder: Path) -> str:
    return str(json.loads((folder / "bundle.json").read_text(encoding="utf-8"))["title"])


# serving
# -----------------------------------------------------------------------------------------------------------------
def check_vllm(folders: list[Path]) -> None:
    """Each script's command is read by the parser of vllm serve."""
    platforms = importlib.import_module("vllm.platforms")
    platforms._current_platform = importlib.import_module("vllm.platforms.cpu").CpuPlatform()
    arguments = importlib.import_module("vllm.engine.arg_utils")
    make = importlib.import_module("vllm.utils.argparse_utils").FlexibleArgumentParser
    for folder in folders:
        for words in commands(folder, "vllm serve"):
            parser = arguments.EngineArgs.add_cli_args(make())
            parser.add_argument("--host")
            parser.add_argument("--port")
            parser.add_argument("--headless", action="store_true")
            read = parser.parse_args(words[words.index("serve") + 2 :])
            print(f"vllm reads {title(folder)}: tp {read.tensor_parallel_size}, rank {read.node_rank} of {read.nnodes}")


def check_sglang(folders: list[Path]) -> None:
    """Each script's command is read by SGLang's parser."""
    import argparse

    server = importlib.import_module("sglang.srt.server_args").ServerArgs
    for folder in folders:
        for words in commands(folder, "sglang.launch_server"):
            parser = argparse.ArgumentParser()
            server.add_cli_args(parser)
            read = parser.parse_args(words[words.index("sglang.launch_server") + 1 :])
            print(f"sglang reads {title(folder)}: tp {read.tp_size}, dp {read.dp_size}, ep {read.ep_size}")


# training
# -----------------------------------------------------------------------------------------------------------------
def check_torchtitan(folders: list[Path]) -> None:
    """Each option of the table is a field of torchtitan's config, and its own manager takes the whole command with the
    config that the bundle writes."""
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
    importlib.import_module("torchtitan.components.quantization.float8").has_cuda_capability = lambda *_: True
    os.environ |= {"HF_ASSETS": ".", "DATASET": "c4"}
    for folder in folders:
        sys.modules.pop("mowich_job", None)
        sys.path.insert(0, str(folder / "config"))
        behind = "--training.steps 20 --metrics.log-freq 1 --checkpoint.no-enable"
        words = commands(folder, "torchtitan.train", behind)[0]
        words = [{"$MODULE": "mowich_job", "$CONFIG": "job"}.get(word, word) for word in words]
        read = (
            importlib.import_module("torchtitan.config.manager")
            .ConfigManager()
            .parse_args(words[words.index("torchtitan.train") + 1 :])
        )
        sys.path.pop(0)
        assert read.training.steps == 20
        print(
            f"torchtitan reads {title(folder)}: shards {read.parallelism.data_parallel_shard_degree},"
            f" pp {read.parallelism.pipeline_parallel_degree}, {type(read.activation_checkpoint).__qualname__}"
        )


def check_megatron(folders: list[Path], checkout: str) -> None:
    """Megatron-LM's parser reads each command with its MODEL_ARGS, and its checks pass."""
    if not hasattr(typing, "override"):
        typing.override = importlib.import_module("typing_extensions").override  # type: ignore[attr-defined]
    sys.path.insert(0, checkout)
    torch = importlib.import_module("torch")
    torch.cuda.get_device_capability = lambda *_: (9, 0)
    torch.cuda.get_device_properties = lambda *_: types.SimpleNamespace(major=9, minor=0)
    arguments = importlib.import_module("megatron.training.arguments")
    for folder in folders:
        script = (folder / "launch" / "node.sh").read_text(encoding="utf-8")
        shape = (folder / "config" / "model_args.sh").read_text(encoding="utf-8").partition("MODEL_ARGS=(")[2]
        drawn = next(line for line in script.split("\n") if "--mock-data" in line).partition("+=(")[2]
        words = commands(folder, "torchrun", "--train-iters 20 --log-throughput")[0]
        ranks = [int(words[words.index(name) + 1]) for name in ("--nnodes", "--nproc-per-node")]
        os.environ |= {"WORLD_SIZE": str(ranks[0] * ranks[1]), "RANK": "0", "CUDA_DEVICE_MAX_CONNECTIONS": "1"}
        plan = words[words.index("pretrain_gpt.py") + 2 :]
        sys.argv = ["pretrain_gpt.py", *shlex.split(shape.rstrip().removesuffix(")"))]
        sys.argv += [*shlex.split(drawn.removesuffix(")")), "--lr", "1e-5", "--log-interval", "1", "--eval-iters", "0"]
        sys.argv += plan
        read = arguments.parse_args()
        print_args, arguments._print_args = arguments._print_args, lambda *_: None
        arguments.validate_args(read, {"tokenizer_type": "GPT2BPETokenizer"})
        arguments._print_args = print_args
        print(
            f"megatron reads {title(folder)}: tp {read.tensor_model_parallel_size},"
            f" pp {read.pipeline_model_parallel_size}, dp {read.data_parallel_size}"
        )


_MAXTEXT = """
import os, sys
os.environ["JAX_PLATFORMS"] = "cpu"
import jax
many, words = int(sys.argv[1]), sys.argv[2:]
one = lambda i: type("Device", (), dict(platform="tpu", device_kind="TPU v7", slice_index=0, process_index=0, id=i))()
jax.devices = lambda *_, **__: [one(i) for i in range(many)]
jax.device_count = lambda *_: many
jax.local_device_count = lambda *_: 4
from maxtext.utils import max_utils
max_utils.maybe_initialize_jax_distributed_system = lambda *_: None
from maxtext.configs import pyconfig
read = pyconfig.initialize_pydantic(["train.py", *words])
print(read.steps, int(read.global_batch_size_to_train_on), read.ici_fsdp_parallelism)
"""


def check_maxtext(folders: list[Path], python: str) -> None:
    """MaxText's config takes each command, and makes the batch of the plan of it."""
    for folder in folders:
        words = commands(folder, "maxtext.trainers", "steps=20 enable_checkpointing=false")[0]
        known = {"$CONFIG": str(folder / "config" / "maxtext.yml"), "base_output_directory=$OUTPUT": ""}
        words = [known.get(word, word) for word in words[words.index("maxtext.trainers.pre_train.train") + 1 :]]
        words = [word for word in words if word and word != "${DATA[@]}"]
        words += ["base_output_directory=/tmp/out", "dataset_type=synthetic"]
        forecast = json.loads((folder / "forecast.json").read_text(encoding="utf-8"))
        row = forecast["plans"][forecast["bundle"]["pick"] - 1]
        devices = row["chips_used"] * row["devices_per_chip"]
        done = subprocess.run(
            [python, "-c", _MAXTEXT, str(devices), *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
        steps, batch, fsdp = done.stdout.split("\n")[-2].split()
        print(f"maxtext reads {title(folder)}: batch {batch}, fsdp {fsdp}")
        assert (int(steps), int(batch)) == (20, row["global_batch_seqs"])


# Kubernetes
# -----------------------------------------------------------------------------------------------------------------
def check_kubernetes(folders: list[Path], crds: list[str]) -> None:
    """Kubernetes' own schemas take each manifest, with no unknown field; of a JobSet and a LeaderWorkerSet the Jobs and
    pods in it, and all of it where their CRDs are given."""
    import yaml

    validate = importlib.import_module("kubernetes_validate").validate
    schemas = _schemas(crds)
    told = 0
    for folder in folders:
        for file in sorted(folder.glob("*/*.yaml")):
            for document in yaml.safe_load_all(file.read_text(encoding="utf-8")):
                kind = (document or {}).get("kind")
                if kind in schemas:
                    importlib.import_module("jsonschema").validate(document, schemas[kind])
                for one in _core(document or {}):
                    validate(one, VERSION, strict=True)
                    told += 1
    crd = f" and {', '.join(schemas)}" if schemas else "; CRDS=FILE,FILE checks JobSet and LeaderWorkerSet whole"
    print(f"kubernetes {VERSION} takes {told} manifests{crd}")


def _core(document: dict[str, Any]) -> list[dict[str, Any]]:
    """What Kubernetes itself knows of a document."""
    kind, spec = document.get("kind"), document.get("spec", {})
    if kind in ("Deployment", "Service", "Job"):
        return [document]
    if kind == "JobSet":
        jobs = [one["template"] for one in spec["replicatedJobs"]]
        return [{"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}, **job} for job in jobs]
    if kind == "LeaderWorkerSet":
        pods = [spec["leaderWorkerTemplate"][name] for name in ("leaderTemplate", "workerTemplate")]
        return [{"apiVersion": "v1", "kind": "Pod", **pod} for pod in pods]
    return []


def _schemas(crds: list[str]) -> dict[str, Any]:
    import yaml

    out = {}
    for file in crds:
        crd = yaml.safe_load(Path(file).read_text(encoding="utf-8"))["spec"]
        schema = crd["versions"][0]["schema"]["openAPIV3Schema"]
        schema["properties"]["metadata"] = {"type": "object"}
        out[crd["names"]["kind"]] = _closed(schema)
    return out


def _closed(schema: Any) -> Any:
    """A schema that takes no unknown fields."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    out = {key: _closed(value) for key, value in schema.items()}
    if schema.get("x-kubernetes-int-or-string"):
        out = {key: value for key, value in out.items() if key not in ("type", "anyOf", "pattern")}
    if "properties" in schema and "additionalProperties" not in schema:
        out["additionalProperties"] = False
    return out


def has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def main() -> None:
    sys.meta_path.append(_Finder())
    with tempfile.TemporaryDirectory() as root:
        made = bundles(Path(root))
        check_kubernetes([folder for group in made.values() for folder in group], _listed("CRDS"))
        check_torchtitan(made["torchtitan"])
        check_sglang(made["sglang"]) if has("sglang") else print("sglang is not installed: left out")
        python, checkout = os.environ.get("MAXTEXT_PYTHON", ""), os.environ.get("MEGATRON", "")
        check_maxtext(made["maxtext"], python) if python else print("MAXTEXT_PYTHON is not set: maxtext is left out")
        check_vllm(made["vllm"])
        check_megatron(made["megatron"], checkout) if checkout else print("MEGATRON is not set: megatron is left out")


def _listed(name: str) -> list[str]:
    return [word for word in os.environ.get(name, "").split(",") if word]


if __name__ == "__main__":
    main()
