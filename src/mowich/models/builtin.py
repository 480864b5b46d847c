"""Built-in models by name, and `load_model`, the one way in.

`facts/models/*.yaml` hold the shapes in the words of a Hugging Face config, with where they come from; entries under
`aliases` are other names for them, entries under `captured` are models that were captured from code, each in a file of
its own. Names compare without case, and dots, underscores and hyphens are alike.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TypedDict

from mowich.errors import UserError, did_you_mean
from mowich.files import exists, shipped_yaml
from mowich.models.config import model_from_config
from mowich.models.given import model_from_json, read_config
from mowich.models.model import Model

_EXAMPLES = ("deepseek-v3", "llama-3.1-405b", "qwen3-235b-a22b", "kimi-k2", "gpt-oss-120b", "gpt3-175b")
"""A few names for the error that shows what a name looks like; `model_names()` has them all."""


_URL = re.compile(r"https?://(?:www\.)?(?:huggingface\.co|hf\.co)/(?P<id>[^/\s]+/[^/\s?#]+)\S*")
"""A page of a model on the hub."""
_READ_AS = re.compile(r"(?P<path>\S.*?)\s+as\s+(?P<like>[\w.-]+)\s*")
"""A config.json with the architecture that it is to be read as."""


def load_model(name_or_path: str) -> Model:
    """A Model from a built-in name, a `config.json`, a directory that holds one, or what `mowich.capture` wrote.

    A path is what exists on disk, ends in .json, or starts with "." or "/"; anything else is a name
    ("deepseek-v3", "meta-llama/Llama-3.1-8B", or the address of its page on the hub). "config.json as llama" reads a
    config whose model_type is not known as that of a Llama. Raises UserError with the closest names.
    """
    read_as = _READ_AS.fullmatch(name_or_path)
    if read_as:
        if builtin_name(read_as["path"]):
            raise UserError("is for a config.json: a built-in name says what it is", field="as", given=read_as["like"])
        return read_config(Path(read_as["path"]).expanduser(), read_as["like"])
    page = _URL.fullmatch(name_or_path.strip())
    if page:
        entry = builtin_name(page["id"])
        if entry is None:
            raise UserError(
                f"no built-in model '{page['id']}', and nothing is fetched from the network",
                fix=f"download https://huggingface.co/{page['id']}/raw/main/config.json and give the file",
            )
        return builtin(entry)
    try:
        path = Path(name_or_path).expanduser()
    except RuntimeError:
        raise UserError("no such home directory", given=name_or_path) from None
    looks_like_path = name_or_path.endswith(".json") or name_or_path[:1] in {".", "/", "~"}
    entry = None if looks_like_path else builtin_name(name_or_path)
    if entry is not None:
        return builtin(entry)
    if looks_like_path or (name_or_path and exists(path)):
        return read_config(path)
    reason = refused().get(_key(name_or_path))
    if reason:
        raise UserError(f"model '{name_or_path}' is not supported: {reason}")
    close = did_you_mean(name_or_path.rsplit("/", 1)[-1], [*model_names(), *aliases()])
    allowed = f"a config.json, a directory with one, or a built-in name such as {', '.join(_EXAMPLES)}"
    raise UserError(f"unknown model '{name_or_path}'", allowed=allowed, fix=close)


@cache
def builtin(name: str) -> Model:
    """The built-in model of this exact name."""
    config, where = dict(config_of(name)), f"built-in model {name}"
    source = str(config.pop("source", ""))
    if "captured" not in config:
        return model_from_config(config, name=name, where=where, source=source)
    data = json.loads((_folder() / str(config["captured"])).read_text(encoding="utf-8"))
    found = model_from_json(data, name=name, where=where, source=source)
    remark = str(config.get("remark", ""))
    return replace(found, remarks=(*found.remarks, remark)) if remark else found


def config_of(name: str) -> Mapping[str, object]:
    """What is stored of a built-in model, with its `source`: a config in the words of Hugging Face, or of one that was
    captured from code its file (`captured`), the class and the config that it was made from."""
    file = _file_of(name)
    return _entries(file)[name] if file else _tables()[0][name]


def captured_names() -> list[str]:
    """Built-in models that were captured from code, sorted."""
    return sorted(name for name, config in _tables()[0].items() if "captured" in config)


def builtin_name(name: str) -> str | None:
    """The built-in name that `name` means, or None."""
    if _file_of(name):
        return name
    for candidate in (name, name.rsplit("/", 1)[-1]):
        found = _index().get(_key(candidate))
        if found:
            return found
    return None


def model_names() -> list[str]:
    """Built-in names, sorted, without aliases."""
    return sorted(_tables()[0])


def aliases() -> Mapping[str, str]:
    """Other names -> built-in name."""
    return _tables()[1]


def refused() -> Mapping[str, str]:
    """Names that are known and not supported (as compared) -> why."""
    return {_key(name): reason for name, reason in _tables()[2].items()}


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())


@cache
def _index() -> dict[str, str]:
    models, others, _ = _tables()
    return {**{_key(alias): name for alias, name in others.items()}, **{_key(name): name for name in models}}


def _folder() -> Path:
    return Path(str(resources.files("mowich.facts"))) / "models"


@cache
def _texts() -> dict[str, str]:
    """File name -> text."""
    return {file.name: file.read_text(encoding="utf-8") for file in sorted(_folder().glob("*.yaml"))}


class _File(TypedDict, total=False):
    """A file of models. models: name -> config; captured: name -> what its capture was made from; aliases: other name
    -> name; refused: name -> why there is none."""

    source: str
    models: dict[str, dict[str, object]] | None
    captured: dict[str, dict[str, object]] | None
    aliases: dict[str, str] | None
    refused: dict[str, str] | None


@cache
def _content(file: str) -> _File:
    found: _File | None = shipped_yaml(_folder() / file)
    return found or {}


@cache
def _entries(file: str) -> dict[str, dict[str, object]]:
    """Models of one file, each with the file's source."""
    content = _content(file)
    folder = file.removesuffix(".yaml")
    captured = {
        name: {"captured": f"{folder}/{name}.json", **entry} for name, entry in (content.get("captured") or {}).items()
    }
    return {
        name: {"source": content.get("source", ""), **config}
        for name, config in {**(content.get("models") or {}), **captured}.items()
    }


@cache
def _file_of(name: str) -> str | None:
    """The file of a model by its exact name, found without parsing the others; None where no file has it, written as
    YAML keys are."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name):
        return None
    key = re.compile(rf"^ +{re.escape(name)}:", re.MULTILINE)
    return next((file for file, text in _texts().items() if key.search(text) and name in _entries(file)), None)


@cache
def _tables() -> tuple[dict[str, dict[str, object]], dict[str, str], dict[str, str]]:
    """(models, aliases, refused) over all files."""
    models: dict[str, dict[str, object]] = {}
    others: dict[str, str] = {}
    reasons: dict[str, str] = {}
    for file in _texts():
        content = _content(file)
        models |= _entries(file)
        others.update(content.get("aliases") or {})
        reasons.update(content.get("refused") or {})
    return models, others, reasons
