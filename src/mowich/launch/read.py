"""Launch commands and configs as plans: what `write` writes, and what people write by hand with the same names."""

from __future__ import annotations

import itertools
import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mowich.errors import UserError
from mowich.files import parse_json, parse_yaml, read_text
from mowich.launch.arguments import FieldValue, FieldValues, LaunchProgram, PlanInFile, positive, read_arguments
from mowich.launch.maxtext import MAXTEXT_RUN
from mowich.launch.megatron import MEGATRON_RUN
from mowich.launch.nxdi import NXDI_SERVE
from mowich.launch.sglang import SGLANG_SERVER
from mowich.launch.torchtitan import TORCHTITAN_NEURON, TORCHTITAN_RUN
from mowich.launch.trtllm import CONFIG_OPTIONS, TRTLLM_SERVE, trtllm_given
from mowich.launch.vllm import NEURON_CONFIG, VLLM_NEURON, VLLM_SERVE

_SAID = re.compile(r"^\s*#\s*plan\.(\w+)=(\S+) has no argument in ", re.MULTILINE)
_COMMANDS: Mapping[str, LaunchProgram] = {
    "sglang.launch_server": SGLANG_SERVER,
    "dynamo.sglang": SGLANG_SERVER,
    "torchtitan": TORCHTITAN_RUN,
    "run_train.sh": TORCHTITAN_RUN,
    "--parallelism.": TORCHTITAN_RUN,
    "--tensor-model-parallel-size": MEGATRON_RUN,
    "pretrain_": MEGATRON_RUN,
    "MaxText": MAXTEXT_RUN,
    "maxtext": MAXTEXT_RUN,
    "trtllm-serve": TRTLLM_SERVE,
    "vllm": VLLM_SERVE,
}
"""What a command contains -> its program; the first that is there counts."""
_LOADS = "vllm bench"
"""What a command contains that loads a server, and serves nothing."""
_NAMESAKES: Mapping[str, LaunchProgram] = {one.name: one for one in (VLLM_NEURON, TORCHTITAN_NEURON)}
"""Program -> what it is on Trainium, where a command has its mark."""


def read_plan_file(path: Path, *, layers: int) -> PlanInFile:
    """What a file says of a plan. layers: of the model that it is asked for. Raises UserError, with the place."""
    text = read_text(path, "config")
    where = str(path)
    found = [one for part in _texts(text, where) for one in _parts(part, where, layers)]
    if not found:
        raise UserError(
            "no launch command and no config of a program",
            where=where,
            allowed="commands of vllm, sglang, torchtitan, megatron; a neuron config (JSON); configs of torchtitan"
            " (TOML) and MaxText (YAML); SkyPilot and Kubernetes files with such a command",
        )
    if len({one.program.name for one in found}) > 1:
        raise UserError(
            "commands of several programs", where=where, given=", ".join(sorted({o.program.name for o in found}))
        )
    return _joined(found, where)


def _joined(found: Sequence[PlanInFile], where: str) -> PlanInFile:
    """The commands of a file as one plan: all alike, or pools of prefill and of decode."""
    first = found[0]
    roles = {str(one.plan.pop("role", "")): one for one in found}
    kinds: list[FieldValues] = []
    kinds += [one.plan for one in found if one.plan not in kinds]
    for one in found[1:]:
        first.unknown += [name for name in one.unknown if name not in first.unknown]
        first.job |= one.job
    if set(roles) >= {"prefill", "decode"}:
        first.pools = {role: roles[role].plan for role in ("prefill", "decode")}
        first.plan = {}
    elif len(kinds) > 1 and any(one.plan != kinds[0] for one in found):
        raise UserError("several commands with different plans", where=where, fix="keep the workers of one plan")
    return first


def _texts(text: str, where: str) -> Iterator[str]:
    """The commands in a file: the file itself, or what SkyPilot or Kubernetes would run."""
    if not re.search(r"^(apiVersion|resources|run):", text, re.MULTILINE):
        yield text
        return
    for part in re.split(r"^---\s*$", text, flags=re.MULTILINE):
        if part.strip() and not all(line.startswith("#") for line in part.split("\n") if line.strip()):
            data = parse_yaml(part, where).data
            yield from (t for t in _strings(data) if any(word in t for word in _COMMANDS))


def _strings(data: object) -> Iterator[str]:
    """Texts of a YAML document that are longer than a word; a list of words is one command."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            if key in ("command", "args") and isinstance(value, list) and len(value) > 3:
                yield shlex.join(str(word) for word in value)
            else:
                yield from _strings(value)
    elif isinstance(data, list):
        for value in data:
            yield from _strings(value)
    elif isinstance(data, str) and " " in data:
        yield data


def _parts(text: str, where: str, layers: int) -> Iterator[PlanInFile]:
    said: FieldValues = {name: _word(value.rstrip(":")) for name, value in _SAID.findall(text)}
    helped: FieldValues = {**said, "layers": layers}
    if text.lstrip().startswith("{"):
        yield _neuron(parse_json(text, where), helped, where)
    elif re.search(r"^\s*\[parallelism\]", text, re.MULTILINE):
        yield read_arguments(TORCHTITAN_RUN, _sections(text, where), helped, where)
    elif re.search(r"^(ici_|dcn_|per_device_batch_size)\w*\s*:", text, re.MULTILINE):
        data = parse_yaml(text, where).data
        values = data if isinstance(data, Mapping) else {}
        yield read_arguments(MAXTEXT_RUN, {str(k): v for k, v in values.items()}, helped, where)
    elif re.search(r"^(tensor_parallel_size|kv_cache_config|moe_config|cuda_graph_config)\s*:", text, re.MULTILINE):
        data = parse_yaml(text, where).data
        yield read_arguments(TRTLLM_SERVE, trtllm_given(data if isinstance(data, Mapping) else {}), helped, where)
    else:
        yield from _shell(text, helped, where)


def _word(text: str) -> FieldValue:
    """A value of a comment."""
    if text in ("true", "false"):
        return text == "true"
    return int(text) if text.isdigit() else text


def _sections(text: str, where: str) -> dict[str, object]:
    """ "section.key" -> value, of TOML."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"not valid TOML: {error}", where=where) from None
    out: dict[str, object] = {}
    for section, values in data.items():
        for key, value in values.items() if isinstance(values, Mapping) else ():
            out[f"{section}.{key}"] = value
        if not isinstance(values, Mapping):
            out[section] = values
    return out


def _neuron(data: Mapping[str, object], said: FieldValues, where: str) -> PlanInFile:
    """A neuron config, by itself or inside the files that hold one."""
    for key in ("neuron_config", "override_neuron_config"):
        inner = data.get(key)
        if isinstance(inner, Mapping):
            return read_arguments(NXDI_SERVE, {str(k): v for k, v in inner.items()}, said, where)
    return read_arguments(NXDI_SERVE, data, said, where)


def _shell(text: str, said: FieldValues, where: str) -> Iterator[PlanInFile]:
    """Commands of a shell script. Lines that only set variables are left out, those for other commands too."""
    lines = re.sub(r"\\\n", " ", text).split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith(("#", "export ")):
            continue
        words = _words(line, f"{where}:{number}")
        joined = " ".join(words)
        program = next((p for mark, p in _COMMANDS.items() if mark in joined), None)
        if program is None or _LOADS in joined or not any(w.startswith("-") or "=" in w for w in words):
            continue
        other = _NAMESAKES.get(program.name)
        program = other if other is not None and other.mark in joined.replace("=", " ") else program
        yield _command(program, [w for w in words if w != "&"], said, where)


def _words(line: str, where: str) -> list[str]:
    """The words of a line of a shell, without the variables that it sets and without what it pipes a config through."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError as error:
        raise UserError(f"not a command of a shell: {str(error).lower()}", where=where, given=line) from None
    words = list(itertools.dropwhile(re.compile(r"\w+=.*").fullmatch, words))
    return [w.rstrip(")") if w.startswith("{") and w.endswith("})") else w for w in words if w != "<(echo"]


def _command(program: LaunchProgram, words: Sequence[str], said: FieldValues, where: str) -> PlanInFile:
    """One command."""
    given, loose = _arguments(program, words)
    role = _role(program, given)
    pool_names = {name for marks in program.pools.values() for name in marks}
    _open_configs(program, given, where)
    config = given.pop("--additional-config", None) if program.name == VLLM_SERVE.name else None
    if isinstance(config, str) and "override_neuron_config" in config:
        found = _neuron(parse_json(config, f"{where}: --additional-config"), said, where)
        found.unknown += [n for n in given if n not in {*_TWICE, *pool_names}]
        found.plan |= _plain(given, found, where)
    else:
        if program is VLLM_NEURON and isinstance(config, str):
            inner, config = parse_json(config, f"{where}: --additional-config").get("neuron_config"), None
            given |= {f"{NEURON_CONFIG}{n}": v for n, v in (inner if isinstance(inner, Mapping) else {}).items()}
            given.pop(f"{NEURON_CONFIG}num_seqs_buckets", None)  # the graphs that are compiled, not the most sequences
        kept = {n: v for n, v in given.items() if not (role and n in pool_names)}
        found = read_arguments(program, kept, said, where)
        found.unknown += ["--additional-config"] if config is not None else []
    found.unknown += loose
    if role:
        found.plan["role"] = role
    return found


def _arguments(program: LaunchProgram, words: Sequence[str]) -> tuple[dict[str, object], list[str]]:
    """(arguments of a command by name, words that are of none). Words before its first argument are the program; words
    behind it without an argument are named."""
    given: dict[str, object] = {}
    loose: list[str] = []
    switches = {n for n, one in program.by_name().items() if True in one.words.values()}
    several = {n for n, one in program.by_name().items() if any(" " in str(w) for w in one.words.values())}
    place = 0
    while place < len(words):
        word = words[place]
        place += 1
        if program is MAXTEXT_RUN and re.fullmatch(r"\w+=.*", word):
            name, _, value = word.partition("=")
            given[name] = value
        elif word.startswith("-") and not re.fullmatch(r"-\d.*|-m", word):
            name, equals, value = word.partition("=")
            name = _spelled(program, name)
            if not equals and name not in switches and place < len(words) and not words[place].startswith("--"):
                value = words[place]
                place += 1
            while name in several and place < len(words) and not words[place].startswith("-"):
                value += f" {words[place]}"
                place += 1
            if program.form == "dotted" and ".no-" in name:
                name, value = name.replace(".no-", "."), "false"
            given[name] = value
        elif given and not any(mark in word for mark in _COMMANDS):
            loose.append(word)
    return given, loose


def _open_configs(program: LaunchProgram, given: dict[str, object], where: str) -> None:
    """Arguments that are written in JSON inside others, as arguments of their own: the compilation of vLLM, the config
    of TensorRT-LLM where the command holds it."""
    if program is VLLM_SERVE:
        for name in ("--compilation-config", "-cc", "-O"):
            if str(given.get(name, "")).startswith("{"):
                data = parse_json(str(given.pop(name)), f"{where}: {name}")
                sizes = data.pop("cudagraph_capture_sizes", None)
                given |= {f"--compilation-config.{key}": value for key, value in data.items()}
                given |= {"--max-cudagraph-capture-size": max(sizes)} if isinstance(sizes, list) and sizes else {}
            for key in [k for k in given if k.startswith(f"{name}.")]:
                given[f"--compilation-config.{key.removeprefix(f'{name}.')}"] = given.pop(key)
    elif program is TRTLLM_SERVE:
        for name in [n for n in CONFIG_OPTIONS if str(given.get(n, "")).startswith("{")]:
            given |= parse_json(str(given.pop(name)), f"{where}: {name}")
        opened = trtllm_given(given)
        given.clear()
        given |= opened


_TWICE = ("--tensor-parallel-size", "--max-num-seqs", "--max-model-len")
"""Arguments of vLLM that the neuron config repeats."""


def _role(program: LaunchProgram, given: Mapping[str, object]) -> str:
    """Whether a command is of workers of prefill or of decode; "" for workers that do both."""
    names = {name for marks in program.pools.values() for name in marks}
    said = " ".join(str(given[name]) for name in names if name in given)
    return next((role for role, mark in program.roles.items() if mark in said), "")


def _plain(given: Mapping[str, object], found: PlanInFile, where: str) -> FieldValues:
    """What vLLM's arguments say where the neuron config does not."""
    if "sequences" not in found.plan and "--max-num-seqs" in given:
        return {"sequences": int(positive(given["--max-num-seqs"], f"{where}: --max-num-seqs"))}
    return {}


def _spelled(program: LaunchProgram, name: str) -> str:
    """An argument as the table spells it: sections without dashes, keys with underscores."""
    if program.form == "dotted" and "." in name:
        head, _, tail = name.removeprefix("--").partition(".")
        negative = tail.startswith(("no-", "no_"))
        tail = tail[3:] if negative else tail
        return f"{head}.{'no-' if negative else ''}{tail}".replace("-", "_").replace(".no_", ".no-")
    return name
