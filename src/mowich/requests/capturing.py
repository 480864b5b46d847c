"""capture: a model from its code, in a process of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from mowich.requests.common import CSV, JSON, OUT, PLAIN, QUIET, Request, form_of
from mowich.requests.fields import TYPED, path, texts, word
from mowich.requests.kernels import GUEST_MEMORY, GUEST_TIME
from mowich.requests.schema import QuestionReader, Schema

SPEC = word(
    "spec",
    "my_model.py:build, package.module:build, transformers:config.json or CLASS, diffusers:CLASS, timm:NAME.",
    metavar="MODULE:BUILD",
    is_argument=True,
    needs=True,
    edges=TYPED,
)
CAPTURED_FILE = replace(OUT, help="The JSON to write, a model for every verb.", needs=True)
PYTHON = path(
    "python",
    "Python with PyTorch that runs the model's code (default: the one that runs Mowich).",
    metavar="FILE",
    edges=TYPED,
)
_INPUTS = word("inputs", "Function (batch, tokens) that gives the keyword tensors.", metavar="FUNCTION", edges=TYPED)
_NAME = word("name", "Name of the model (default: BUILD's).", metavar="NAME", edges=TYPED)
_KIND = word("kind", "decoder, encoder, diffusion, ... (default: by what it does).", metavar="KIND", edges=TYPED)
_CONFIG = path("config", "config.json of the model.", metavar="FILE", edges=TYPED)
_SET = texts("settings", "Keyword argument of BUILD; again for more.", metavar="KEY=VALUE", option="--set", edges=TYPED)
_VALUE = texts("value", "Value that the code reads there.", metavar="FILE:LINE=NUMBER", edges=TYPED)
_SCAN = texts(
    "scan",
    "A module taken whole: FLOP of a token, elements of the state of a sequence.",
    metavar="MODULE=FLOP,ELEMENTS",
    edges=TYPED,
)
_KERNEL = texts(
    "kernel",
    "A kernel of its own: FLOP and bytes of a token.",
    metavar="NAME=FLOP,BYTES",
    option="--kernel",
    edges=TYPED,
)
_TIME = replace(GUEST_TIME, default=600.0, shown="600")
_MEMORY = replace(
    GUEST_MEMORY, help="Most GiB of addresses that it may take (PyTorch alone takes some 5).", default=32.0, shown="32"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureRequest(Request):
    """A model whose code runs in another process. captured: the file to write; python: the interpreter, None: ours;
    options: of `python -m mowich.capture`, as they were typed; timeout_s, memory_GiB: limits."""

    spec: str
    captured: Path
    python: Path | None
    options: tuple[str, ...]
    timeout_s: float
    memory_GiB: float


def _capture(reader: QuestionReader) -> CaptureRequest:
    form, out = form_of(reader), reader.sure(CAPTURED_FILE)
    options: list[str] = []
    for one in (_INPUTS, _NAME, _KIND, _CONFIG):
        value = reader.get(one)
        options += [] if value is None else [f"{one.flag}={value}"]
    for many in (_SET, _VALUE, _SCAN, _KERNEL):
        options += [f"{many.flag}={text}" for text in reader.get(many) or ()]
    reader.stop()
    return reader.fill(
        CaptureRequest, form=replace(form, out=None), captured=out, python=reader.get(PYTHON), options=tuple(options)
    )


CAPTURE = Schema(
    name="capture",
    fields=(
        *(SPEC, CAPTURED_FILE, PYTHON, _INPUTS, _NAME, _KIND, _SET, _CONFIG, _VALUE, _SCAN, _KERNEL),
        *(_TIME, _MEMORY, JSON, CSV, PLAIN, QUIET),
    ),
    make=_capture,
    help=(
        "Capture a model from its PyTorch code: its function runs on the meta device in a process of its own, with your"
        " rights, and what it computes is written as JSON. Mowich itself runs none of it. The file is a model for every"
        " verb."
    ),
    short="A model from its PyTorch code, as a file for every verb.",
    example="mowich capture my_model.py:build --out my_model.json --python ~/venv/bin/python",
)
