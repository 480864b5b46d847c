"""Models that a user gives: a `config.json`, or what was captured of a model's code; from a file, from text that was
pasted, from the inputs of a result."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from mowich.errors import UserError
from mowich.files import read_json
from mowich.models.config import model_from_config
from mowich.models.model import Model


def model_from_json(data: Mapping[str, object], *, name: str, where: str, source: str = "", read_as: str = "") -> Model:
    """The Model of a parsed config, or of what was captured (it has a `schema`, and its own name); `read_as` is for a
    config. Raises UserError as `model_from_config` and `model_from_captured` do."""
    if "schema" not in data:
        return model_from_config(data, name=name, where=where, source=source, read_as=read_as)
    if read_as:
        raise UserError("is for a config.json: a captured file says what it is", field="as", given=read_as)
    from mowich.models.captured_model import model_from_captured  # most commands read none

    return model_from_captured(data, where=where, source=source)


def read_config(path: Path, read_as: str = "") -> Model:
    """Read a `config.json`, the one in a directory, or a captured file. Raises UserError, with
    file:line:column for broken JSON."""
    file = path / "config.json" if os.path.isdir(path) else path
    data = read_json(file, "config", infinite=True)
    name = file.parent.name if file.name == "config.json" and file.parent.name else file.stem
    says = f"{file}, read as {read_as} (grade D)" if read_as else str(file)
    name = name.removesuffix("_config").rsplit("--", 1)[-1]
    model = model_from_json(data, name=name or file.stem, where=str(file), source=says, read_as=read_as)
    return replace(model, config=data)


def model_of_inputs(inputs: Mapping[str, object]) -> Model | None:
    """The model whose config the inputs of a result hold (`Model.inputs`), None where they hold none. Raises UserError
    where it describes none."""
    config = inputs.get("model_config")
    if config is None:
        return None
    where = "model_config of the result"
    if not isinstance(config, Mapping):
        raise UserError("not a mapping", where=where, given=config)
    read_as = str(inputs.get("model_read_as") or "")
    model = model_from_json(config, name=str(inputs.get("model")), where=where, source=where, read_as=read_as)
    return replace(model, config=config)
