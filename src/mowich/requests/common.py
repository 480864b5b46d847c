"""Fields that many verbs have, and what their requests share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mowich.errors import UserError, unknown
from mowich.requests.fields import TYPED, Field, flag, path, whole, word
from mowich.requests.schema import QuestionReader
from mowich.requests.stated import model_words, nowhere, stack_asked

if TYPE_CHECKING:
    from mowich.facts import Facts
    from mowich.models.model import Model

JSON = flag("as_json", "One JSON object on stdout.", option="--json", edges=TYPED)
CSV = flag("as_csv", "A table on stdout.", option="--csv", edges=TYPED)
PLAIN = flag("plain", "ASCII, no colour.", edges=TYPED)
QUIET = flag("quiet", "Nothing on stderr but errors.", short="-q", edges=TYPED)
OUT = path("out", "Also save the result as JSON (for explain).", metavar="FILE", edges=TYPED, told=nowhere)
CHART = flag("chart", "Serving: draw the front in a pipe too.", edges=TYPED, told=nowhere)
LEGEND = flag("legend", "Say what tp8, z3, 6P x mean.", edges=TYPED, told=nowhere)
KEPT_SEED = whole(
    "seed",
    "Kept with the result; nothing is drawn.",
    low=0,
    metavar="N",
    default=0,
    shown="0",
    edges=TYPED,
)
SEED = whole("seed", "Of the random draws.", low=0, metavar="N", default=0, shown="0")

MODEL: Field[object] = Field(
    name="model",
    parse=lambda value: value,
    kind="object",
    help="Built-in name, config.json, or its directory.",
    metavar="MODEL",
    is_argument=True,
    needs=True,
    example="deepseek-v3",
    completes="model",
    told=model_words,
)
AS = word(
    "read_as",
    "Read a config.json of an unknown model_type as this.",
    option="--as",
    metavar="TYPE",
    example="llama",
    edges=TYPED,
)
TRAINING_STACK = word(
    "stack",
    "Training software; in compare also hand-tuned kernels.",
    metavar="NAME",
    example="megatron",
    told=stack_asked,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How an answer is given on the command line. as_json, as_csv: instead of text; out: also saved there; legend:
    short names of plans are told in words; chart: what a terminal draws is drawn in a pipe too."""

    as_json: bool = False
    as_csv: bool = False
    plain: bool = False
    quiet: bool = False
    out: Path | None = None
    legend: bool = False
    chart: bool = False


FORM = (JSON, CSV, PLAIN, QUIET, OUT)
"""The fields of `Form` that every verb with an answer to show has."""


def form_of(reader: QuestionReader) -> Form:
    """The form that the command line asks for; JSON and CSV at once are a problem."""
    form = Form(
        as_json=reader.flag(JSON),
        as_csv=reader.flag(CSV),
        plain=reader.flag(PLAIN),
        quiet=reader.flag(QUIET),
        out=reader.get(OUT),
        legend=reader.flag(LEGEND),
        chart=reader.flag(CHART),
    )
    if form.as_json and form.as_csv:
        reader.problems.add("choose one of --json and --csv")
    return form


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What every request has. form: how to print its answer; notes: to tell beside it."""

    form: Form = Form()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked(Request):
    """A question of the facts. facts: with the settings applied; given: what changed them, as it was given."""

    facts: Facts
    given: Mapping[str, object] = field(default_factory=dict)

    def doing(self) -> str:
        """What a terminal says of a room (`requests/rooms`) while it looks for the answer; "": nothing."""
        return ""


def loaded_model(reader: QuestionReader, value: object) -> Model:
    """A model that is named, or that Python gave. Raises UserError."""
    model = _load(reader, value)
    for doubt in model.doubts:
        reader.note(f"{model.name}: {doubt}: all has grade D")
    for remark in model.remarks:
        reader.note(f"{model.name}: {remark}")
    return model


def _load(reader: QuestionReader, value: object) -> Model:
    from mowich.models import load_model
    from mowich.models.model import Model

    if isinstance(value, Model):
        return value
    if reader.source.load is not None:
        return reader.source.load(value)
    return load_model(model_name(value))


def model_name(value: object) -> str:
    """What names a model, as text. Raises UserError for anything but text and a path.

    >>> model_name(Path("config.json"))
    'config.json'
    """
    if not isinstance(value, str | Path):
        raise UserError("not a model", given=value, allowed="a built-in name, config.json, a directory with one")
    return str(value)


def asked_model(reader: QuestionReader) -> Model | None:
    """The model that is named, or that Python gave."""
    with reader.watch(MODEL):
        return loaded_model(reader, as_asked(reader, reader.given(MODEL)))
    return None


def asked_models(reader: QuestionReader, field: Field[tuple[object, ...]]) -> tuple[Model, ...]:
    """Every model that a field names; an unknown name is noted, and so is a field without a name."""
    out: list[Model] = []
    for value in reader.get(field) or ():
        with reader.watch(field):
            out.append(loaded_model(reader, as_asked(reader, value)))
    if reader.get(field) == ():
        reader.add("names no model", field, fix=f"for example {reader.example(field)}")
    return tuple(out)


def as_asked(reader: QuestionReader, value: object) -> object:
    """What names a model, with what it is to be read as: "config.json as llama"."""
    like = reader.get(AS)
    return f"{value} as {like}" if like is not None and isinstance(value, str | Path) else value


def words_of_model(reader: QuestionReader) -> str:
    """The model in the words of a question; a pasted config is in the file config.json."""
    model = as_asked(reader, reader.given(MODEL))
    return model if isinstance(model, str) else str(getattr(model, "name", "config.json"))


def asked_software(
    reader: QuestionReader, field: Field[str], what: str, known: Callable[[], Sequence[str]]
) -> str | None:
    """Software that was named, of those that are `known`; None where none was, or another one, which is a problem."""
    name = reader.get(field)
    if name is None or name in (names := known()):
        return name
    with reader.watch(field):
        raise unknown(what, name, names)
    return None


def asked_timeline(reader: QuestionReader, field: Field[Path]) -> Path | None:
    """The file that a timeline is drawn into; one of another kind is a problem."""
    file = reader.get(field)
    if file is not None and file.suffix not in (".json", ".svg"):
        reader.add("not a kind of timeline", field, given=str(file), allowed="FILE.json, FILE.svg")
    return file


def only_of(reader: QuestionReader, others: Sequence[Field[object]], job: str, use: Field[object]) -> None:
    """Note every field of the other job that was given."""
    for other in others:
        if reader.has(other) and reader.get(other) != other.default:
            reader.add(f"is an option of {job}", other, fix=f"leave it out, or use {reader.said(use)}")
