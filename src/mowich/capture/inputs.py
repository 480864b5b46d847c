"""What is to be captured: the user's function or a family's helper, and the inputs of its module."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mowich.capture.adapters import Built
from mowich.capture.problem import CaptureError, one_line


def user_place(error: BaseException, default: str) -> str:
    """File and line of the user's code that raised: the innermost that is not a library's."""
    places = [
        f"{Path(frame.filename).name}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if "site-packages" not in frame.filename
        and not frame.filename.startswith("<")
        and str(Path(__file__).parent) not in frame.filename
        and "/lib/python" not in frame.filename
    ]
    return places[-1] if places else default


@contextmanager
def users_code(what: str, default: str) -> Iterator[None]:
    """An exception of the user's code becomes one line with its file and line."""
    try:
        yield
    except (CaptureError, KeyboardInterrupt):
        raise
    except BaseException as error:
        said = one_line(str(error), 300)
        kind = type(error).__name__
        fix = None
        if "meta tensor" in said or "Cannot copy out of meta" in said or "aten::" in said:
            fix = "values are not known on the meta device: the model must run on shapes alone"
        raise CaptureError(
            f"{what} raised {kind}{f': {said}' if said else ''}", where=user_place(error, default), fix=fix
        ) from error


def loaded(spec: str) -> tuple[Any, str]:
    """The Python module and the name of the function of "MODULE:BUILD"; MODULE is importable or a path of a file.

    Raises:
        CaptureError: there is no such module, or it raises.
    """
    name, colon, function = spec.rpartition(":")
    if not colon or not name or not function:
        raise CaptureError("what to capture is MODULE:BUILD", given=spec, fix="for instance my_model.py:build")
    if name.endswith(".py") or "/" in name:
        path = Path(name)
        if not path.is_file():
            raise CaptureError(
                "no such file", where=name, fix="MODULE is a path of a Python file or an importable name"
            )
        sys.path.insert(0, str(path.resolve().parent))
        found = importlib.util.spec_from_file_location(path.stem, path)
        if found is None or found.loader is None:
            raise CaptureError("is not a Python file", where=name)
        module = importlib.util.module_from_spec(found)
        sys.modules[path.stem] = module
        with users_code("importing it", name):
            found.loader.exec_module(module)
        return module, function
    sys.path.insert(0, "")
    try:
        with users_code("importing it", name):
            missing = importlib.util.find_spec(name) is None
    except CaptureError as error:
        if not isinstance(error.__cause__, ModuleNotFoundError):
            raise
        missing = True
    if missing:
        raise CaptureError(
            f"no module named {name!r}", where=spec, fix="give an importable name or a path such as my_model.py"
        )
    with users_code("importing it", name):
        return importlib.import_module(name), function


def function_of(module: Any, name: str, spec: str) -> Callable[..., Any]:
    """A function of the user's module."""
    found = getattr(module, name, None)
    if found is None:
        known = [key for key, value in vars(module).items() if inspect.isfunction(value) and not key.startswith("_")]
        raise CaptureError(f"no function {name!r}", where=spec, allowed=", ".join(sorted(known)) or "none is there")
    if not callable(found):
        raise CaptureError(f"{name!r} is not a function", where=spec, given=type(found).__name__)
    made: Callable[..., Any] = found
    return made


def token_inputs(batch: int, tokens: int) -> dict[str, Any]:
    """Inputs of a model that takes tokens: `input_ids` [batch, tokens]."""
    import torch

    return {"input_ids": torch.empty(batch, tokens, dtype=torch.int64, device="meta")}


def built(spec: str, settings: Mapping[str, Any], inputs: str | None, name: str | None) -> Built:
    """The user's module, built on the meta device. inputs: name of a function (batch, tokens) -> keyword tensors of the
    same file.

    Raises:
        CaptureError: there is no such function, it raises, or gives something else.
    """
    import torch

    from mowich.capture.trace import building, settled

    module, function = loaded(spec)
    build = function_of(module, function, spec)
    made_inputs: Callable[[int, int], Mapping[str, Any]] | None = None
    with users_code(function, spec), building():
        made = build(**settings)
    if isinstance(made, tuple) and len(made) == 2:
        made, made_inputs = made
    if not isinstance(made, torch.nn.Module):
        raise CaptureError(
            f"{function} gave no module",
            where=spec,
            given=type(made).__name__,
            allowed="an nn.Module, or (module, inputs) with a function inputs(batch, tokens)",
        )
    if inputs is not None:
        made_inputs = function_of(module, inputs, spec)
    if made_inputs is not None and not callable(made_inputs):
        raise CaptureError("inputs is not a function (batch, tokens)", where=spec, given=type(made_inputs).__name__)
    return Built(module=settled(made), inputs=made_inputs or _tokens_for(made, spec), name=name or function)


def _tokens_for(module: Any, spec: str) -> Callable[[int, int], Mapping[str, Any]]:
    """Token inputs under the name of the first argument of forward."""
    parameters = [
        one
        for one in inspect.signature(module.forward).parameters.values()
        if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
    ]
    needed = [one.name for one in parameters if one.default is one.empty]
    if len(needed) > 1:
        raise CaptureError(
            f"forward takes {', '.join(needed)}",
            where=spec,
            fix="give --inputs FUNCTION with inputs(batch, tokens) -> dict of its tensors",
        )
    named = needed[0] if needed else "input_ids"
    return lambda batch, tokens: {named: token_inputs(batch, tokens)["input_ids"]}


def made_inputs(built_: Built, batch: int, tokens: int, where: str) -> dict[str, Any]:
    """The inputs of one pass, checked.

    Raises:
        CaptureError: the function raises or gives no dictionary of tensors.
    """
    import torch

    from mowich.capture.trace import building

    with users_code("inputs", where), building():
        made = built_.inputs(batch, tokens)
    if not isinstance(made, Mapping) or not all(isinstance(key, str) for key in made):
        raise CaptureError(
            "inputs(batch, tokens) gave no dictionary of keyword tensors", where=where, given=type(made).__name__
        )
    if not any(isinstance(value, (torch.Tensor, list, tuple)) for value in made.values()):
        raise CaptureError("inputs(batch, tokens) gave no tensor", where=where, given=", ".join(made) or "{}")
    return dict(made)
