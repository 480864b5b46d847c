"""`python -m mowich.capture MODULE:BUILD --out model.json`: writes what a PyTorch model computes, for Mowich to read.

It runs in the environment of the model's code and needs PyTorch alone; nothing is fetched from a network.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib.util
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

from mowich.capture import adapters, honesty, scans
from mowich.capture.cores import with_cores
from mowich.capture.dimensions import CHECKED, PROBES
from mowich.capture.document import KINDS, About, document, written
from mowich.capture.inputs import built, made_inputs, users_code
from mowich.capture.layers import generic
from mowich.capture.problem import EXIT_BAD_INPUT, EXIT_BUG, CaptureError, one_line
from mowich.capture.roles import roles
from mowich.version import VERSION

LIBRARIES = ("torch", "transformers", "diffusers", "timm")
"""Whose versions the file names, where they are loaded."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise CaptureError(message, fix="see python -m mowich.capture --help")


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    made = _Parser(prog="python -m mowich.capture", description=__doc__, allow_abbrev=False)
    made.add_argument("spec", metavar="MODULE:BUILD", help="my_model.py:build, transformers:config.json, timm:NAME ...")
    made.add_argument("--out", required=True, metavar="FILE", help="the JSON to write")
    made.add_argument("--inputs", metavar="FUNCTION", help="function (batch, tokens) -> dict of keyword tensors")
    made.add_argument("--name", help="name of the model (BUILD's)")
    made.add_argument("--kind", choices=KINDS, help="what the model is (found from what it does)")
    made.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="keyword argument of BUILD")
    made.add_argument("--config", metavar="FILE", help="config.json of the model")
    made.add_argument(
        "--value", action="append", default=[], metavar="FILE:LINE=NUMBER", help="the value that the code reads there"
    )
    made.add_argument(
        "--scan", action="append", default=[], metavar="MODULE=FLOP,ELEMENTS", help="a recurrence, of a token and layer"
    )
    made.add_argument(
        "--kernel", action="append", default=[], metavar="NAME=FLOP,BYTES", help="a kernel of one's own, of a token"
    )
    made.add_argument("--version", action="version", version=f"mowich.capture {VERSION}")
    return made


def _settings(given: Sequence[str], option: str) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for one in given:
        key, equals, text = one.partition("=")
        if not equals or not key:
            raise CaptureError("is not KEY=VALUE", where=option, given=one)
        try:
            made[key] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            made[key] = text
    return made


def _values(given: Sequence[str]) -> dict[str, float]:
    made = _settings(given, "--value")
    for key, value in made.items():
        if not isinstance(value, (bool, int, float)):
            raise CaptureError("is not a number", where=f"--value {key}", given=value)
    return made


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


def captured(
    spec: str,
    *,
    inputs: str | None = None,
    name: str | None = None,
    kind: str | None = None,
    settings: dict[str, Any] | None = None,
    config: str | None = None,
    values: dict[str, float] | None = None,
    named_scans: Sequence[str] = (),
    kernels: Sequence[str] = (),
) -> dict[str, Any]:
    """The document of a model. spec: "my_model.py:build"; the others are the options of the command.

    Raises:
        CaptureError: it cannot be captured; one line says why.
    """
    from mowich.capture.trace import building, settled, trace

    adapter = adapters.find(spec, settings or {}, config)
    stated, stated_kernels = scans.parsed(named_scans), honesty.parsed_kernels(kernels)
    with contextlib.ExitStack() as around:
        if adapter is None:
            if config is not None:
                raise CaptureError("--config is of transformers:, diffusers: and timm:", where=spec)
            model = built(spec, settings or {}, inputs, name)
        else:
            around.enter_context(adapter.installed())
            with users_code("building it", spec), building():
                model = adapter.build()
            settled(model.module)
        traces = []
        for batch, tokens in (*PROBES, CHECKED):
            _progress(f"pass of batch {batch}, {tokens} tokens")
            given = made_inputs(model, batch, tokens, spec)
            with users_code("forward", spec), scans.installed(model.module, stated):
                one = trace(model.module, given, sizes=(batch, tokens), values=values or {})
            one = honesty.with_kernels(with_cores(one), stated_kernels)
            traces.append(honesty.with_experts(one))
            _progress("")
    lone = honesty.lone_routers(traces[0])
    return document(
        traces,
        About(
            name=name or model.name,
            source=spec if adapter is not None or "/" not in spec else spec.rpartition("/")[2],
            kind=kind or model.kind,
            versions=_versions(),
            config=model.config,
            latent=model.latent,
            max_seq=model.max_seq,
            cached=model.cached,
            notes=model.notes,
            roles=roles(traces[1]),
            unknown=tuple({**row, "module": generic(row["module"])} for row in lone),
        ),
    )


def _versions() -> dict[str, str]:
    made = {"python": platform.python_version()}
    for library in LIBRARIES:
        if library in sys.modules:
            made[library] = metadata.version(library)
    return made


def _write(path: str, text: str) -> None:
    """The file as a whole or not at all."""
    target = Path(path)
    try:
        handle, temporary = tempfile.mkstemp(dir=target.resolve().parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(temporary, 0o666 & ~mask)
            os.replace(temporary, target)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise CaptureError(f"cannot be written: {error.strerror}", where=path) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code is 0, 2 for bad input, 70 for a mistake of this program."""
    try:
        given = parser().parse_args(arguments)
        if importlib.util.find_spec("torch") is None:
            raise CaptureError(
                "PyTorch is not installed in this environment",
                fix="run it with the Python of your model: /path/to/venv/bin/python -m mowich.capture ...",
            )
        made = captured(
            given.spec,
            inputs=given.inputs,
            name=given.name,
            kind=given.kind,
            settings=_settings(given.set, "--set"),
            config=given.config,
            values=_values(given.value),
            named_scans=given.scan,
            kernels=given.kernel,
        )
        _write(given.out, written(made))
    except CaptureError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return EXIT_BAD_INPUT
    except Exception as error:
        print(f"error: a mistake of mowich.capture: {type(error).__name__}: {one_line(str(error))}", file=sys.stderr)
        if os.environ.get("MOWICH_DEBUG"):
            raise
        return EXIT_BUG
    return 0


if __name__ == "__main__":
    sys.exit(main())
