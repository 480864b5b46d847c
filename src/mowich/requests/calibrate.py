"""calibrate: your own measurements, and what they do not state of themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mowich.errors import UserError
from mowich.requests.common import CSV, JSON, PLAIN, QUIET, Asked
from mowich.requests.fields import Edge, Field, flag, path, read_paths, word
from mowich.requests.schema import QuestionReader, Schema
from mowich.requests.settings import OF_FACTS, asked_of

CALLED_OR_TYPED = frozenset({Edge.OPTION, Edge.KEYWORD})
"""Files of the user's are read on his machine only."""


def read_choices(value: object) -> Mapping[str, str]:
    """ "tp=8,batch=512", or a mapping from Python, as words and values; which words there are depends on what was
    measured.

    >>> read_choices("tp=8, micro_batch=1")
    {'tp': '8', 'micro_batch': '1'}
    """
    if isinstance(value, Mapping):
        value = ",".join(f"{key}={text}" for key, text in value.items())
    if not isinstance(value, str):
        raise UserError("not a plan", given=value, allowed="word=value, as in tp=8,batch=512")
    out: dict[str, str] = {}
    for item in value.split(",") if value.strip() else ():
        key, equals, text = (part.strip() for part in item.partition("="))
        if not equals or not key or not text:
            raise UserError("not a choice of a plan", given=item.strip(), allowed="word=value, as in tp=8,batch=512")
        if key in out:
            raise UserError(f"{key} is given twice", given=value)
        out[key] = text
    return out


def _paths(value: object) -> tuple[Path, ...]:
    from mowich.examples import file_or_example

    return tuple(
        file_or_example(str(path), "logs") for path in read_paths([value] if isinstance(value, str) else value)
    )


FILES: Field[tuple[Path, ...]] = Field(
    name="files",
    parse=_paths,
    kind="files",
    help="Logs, JSON results or tables, as programs write them; @NAME: one that ships.",
    metavar="FILE...",
    is_argument=True,
    needs=True,
    edges=CALLED_OR_TYPED,
    example="bench.json",
)
OVERLAY = path(
    "overlay",
    "The overlay of facts to write, for --facts.",
    option="--out",
    keyword="out",
    metavar="FILE.yaml",
    edges=CALLED_OR_TYPED,
    example="my.yaml",
    told="out",
)
RAN_ON = word(
    "on",
    "Where it ran, if the files do not say: trn3:64 (chips).",
    metavar="SYSTEM",
    edges=CALLED_OR_TYPED,
    completes="systems",
    example="trn3:64",
)
RAN_MODEL = word(
    "model",
    "The model, if the files do not say: a built-in name.",
    metavar="MODEL",
    edges=CALLED_OR_TYPED,
    completes="model",
    example="llama-3.1-8b",
)
_SOFTWARE = word(
    "software",
    "Training stack or serving engine, if the files do not say.",
    metavar="NAME",
    edges=CALLED_OR_TYPED,
    example="vllm",
)
RAN_PLAN: Field[Mapping[str, str]] = Field(
    name="ran",
    parse=read_choices,
    kind="word",
    option="--plan",
    keyword="plan",
    annotation="str | Mapping[str, str]",
    help="The plan and the load, if the files do not say: tp=8,pp=2,batch=512,seq=8192; isl=1024,concurrency=64;"
    " kind=all-reduce,ranks=32.",
    metavar="WORD=VALUE,...",
    edges=CALLED_OR_TYPED,
    example="tp=8",
    told="plan",
)
LOG_FORMAT = word(
    "format",
    "The format of all files, where their content does not tell it.",
    metavar="NAME",
    edges=CALLED_OR_TYPED,
    example="vllm",
)
REPLAYED = path(
    "scenario",
    "Replay a log of requests with this traffic scenario; half of its requests are held out.",
    metavar="FILE.yaml",
    edges=CALLED_OR_TYPED,
    example="s.yaml",
)
WIDEN = flag(
    "widen", "Let a constant pass the end of today's range; each one that does is told.", edges=CALLED_OR_TYPED
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrateRequest(Asked):
    """Measurements to fit constants to. overlay: the file to write, None: none; on, model, software, plan: what the
    files do not state; format: of all files, None: by their content; scenario: with which a log of requests is
    replayed."""

    files: tuple[Path, ...]
    out: Path | None = None
    on: str | None = None
    model: str | None = None
    software: str | None = None
    plan: Mapping[str, str] | None = None
    format: str | None = None
    scenario: Path | None = None
    widen: bool = False

    def again(self) -> dict[str, object]:
        """What else than its inputs is needed to calibrate again, where it was given."""
        said = {"format": self.format, "widen": self.widen}
        return {**{key: value for key, value in said.items() if value}, **self.given}


def _calibrate(reader: QuestionReader) -> CalibrateRequest:
    asked = asked_of(reader, "calibrate takes the plan of each file and no price")
    if reader.get(FILES) == ():
        reader.missing(FILES)
    reader.stop()
    return reader.fill(CalibrateRequest, **asked)


CALIBRATE = Schema(
    name="calibrate",
    fields=(
        *(FILES, OVERLAY, RAN_ON, RAN_MODEL, _SOFTWARE, RAN_PLAN, LOG_FORMAT, REPLAYED, WIDEN, *OF_FACTS),
        *(JSON, CSV, PLAIN, QUIET),
    ),
    make=_calibrate,
    help=(
        "Your own measurements as an overlay of facts: which constants they identify, their values with narrower"
        " ranges, rows that stand beside those that ship, errors before and after, and with each point left out. Reads"
        " our CSV, vllm bench, SGLang, AIPerf, InferenceX and llmperf JSON, logs of vLLM servers, profiles of passes,"
        " nccl-tests, nccom-test, logs of torchtitan, Megatron-LM and MaxText, Neuron Explorer."
    ),
    short="Your own measurements as facts with narrower ranges.",
    example="mowich calibrate bench.json --on h200:8 --plan tp=8 --out my.yaml",
)
