"""brief: the question of the project on one page."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mowich.errors import UserError
from mowich.requests.common import FORM, Asked, asked_models
from mowich.requests.fields import Field, read_several
from mowich.requests.schema import QuestionReader, Schema
from mowich.requests.settings import FACTS, SET, asked_of, facts_of

if TYPE_CHECKING:
    from mowich.models.model import Model

RIVALS = ("gb300", "ironwood")
"""Machines that Trainium 3 is set beside where none is named."""

ABOUT_MODELS = ("deepseek-v3", "gpt-oss-120b")
"""Models where none is named: the first is trained, all are served."""


AGAINST: Field[tuple[object, ...]] = Field(
    name="against",
    parse=read_several,
    kind="names",
    help="Machines to set beside Trainium 3, the first is explained by property; commas between.",
    metavar="SYSTEMS",
    default=RIVALS,
    shown=",".join(RIVALS),
    completes="systems",
    example="gb300,ironwood",
)
_MODELS = replace(
    AGAINST,
    name="models",
    help="The first is trained, all are served; built-in names or config.json files, commas between.",
    metavar="MODELS",
    default=ABOUT_MODELS,
    shown=",".join(ABOUT_MODELS),
    completes="model",
    example="llama-3.1-405b,gpt-oss-120b",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BriefRequest(Asked):
    """The eight questions. against: machines beside Trainium 3; models: the first is trained, all are served."""

    against: tuple[str, ...]
    models: tuple[Model, ...]


def _brief(reader: QuestionReader) -> BriefRequest:
    from mowich.machines.system import resolve

    asked = asked_of(reader, "a brief takes facts to change, and no plan")
    facts = facts_of(reader)
    rivals: list[str] = []
    for name in reader.get(AGAINST) or ():
        with reader.watch(AGAINST):
            if not isinstance(name, str):
                raise UserError("not the name of a system", given=name)
            resolve(facts, name)
            if name in rivals:
                raise UserError("is named twice", given=name)
            rivals.append(name)
    if reader.get(AGAINST) == ():
        reader.add("names no machine", AGAINST, fix=f"for example {AGAINST.example}")
    models = asked_models(reader, _MODELS)
    reader.stop()
    return reader.fill(BriefRequest, **asked, against=tuple(rivals), models=models)


BRIEF = Schema(
    name="brief",
    fields=(AGAINST, _MODELS, SET, FACTS, *FORM),
    make=_brief,
    help=(
        "Does scale and price make up for 144 GiB? One page about Trainium 3 for readers outside the field: eight"
        " questions, each with a verdict, numbers with ranges, why, and the command behind it."
    ),
    short="Trainium 3 on one page: does scale and price make up for 144 GiB?",
    example="mowich brief   or   mowich brief --against gb300 --models llama-3.1-405b --out brief.json",
)
