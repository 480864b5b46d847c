"""brief: the question of the project on one page."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from mowich.errors import UserError
from mowich.requests.common import FORM, Asked, asked_models
from mowich.requests.fields import Field, read_several
from mowich.requests.passes import check_decodes
from mowich.requests.schema import QuestionReader, Schema
from mowich.requests.settings import OF_FACTS, asked_of

if TYPE_CHECKING:
    from mowich.facts import Facts
    from mowich.models.model import Model

RIVALS = ("gb300", "ironwood")
"""Machines that Trainium 3 is set beside where none is named."""

BRIEF_SIZES = (64, 16_384, 500_000, 1_000_000)
"""Chips of each machine at which scale is looked at."""

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
    """Trainium 3 on one page. against: machines beside Trainium 3; models: the first is trained, all are served."""

    against: tuple[str, ...]
    models: tuple[Model, ...]


def _large_enough(facts: Facts, name: str) -> None:
    """Raises UserError for a machine that cannot be as large as those of a brief."""
    from mowich.machines.system import machine_id

    system = machine_id(facts, name)
    most = facts.number(f"systems.{system}.max_chips")
    if most < max(BRIEF_SIZES):
        raise UserError(
            f"a brief looks at up to {max(BRIEF_SIZES):,} chips, and a network of {system} joins {most:,.0f}",
            given=name,
            fix=f"--set systems.{system}.max_chips={max(BRIEF_SIZES)} lets it",
        )


def _brief(reader: QuestionReader) -> BriefRequest:
    asked = asked_of(reader, "a brief takes facts to change, and no plan")
    facts = cast("Facts", asked["facts"])
    rivals: list[str] = []
    for name in reader.get(AGAINST) or ():
        with reader.watch(AGAINST):
            if not isinstance(name, str):
                raise UserError("not the name of a system", given=name)
            _large_enough(facts, name)
            if name in rivals:
                raise UserError("is named twice", given=name)
            rivals.append(name)
    if reader.get(AGAINST) == ():
        reader.add("names no machine", AGAINST, fix=f"for example {AGAINST.example}")
    models = asked_models(reader, _MODELS)
    for model in models:
        with reader.watch(_MODELS):
            check_decodes(model, edge=reader.edge, field=None)
    reader.stop()
    return reader.fill(BriefRequest, **asked, against=tuple(rivals), models=models)


BRIEF = Schema(
    name="brief",
    fields=(AGAINST, _MODELS, *OF_FACTS, *FORM),
    make=_brief,
    help=(
        "Does scale and price make up for 144 GiB? One page about Trainium 3 for readers outside the field: what"
        " each job gives for a chip and for a dollar beside each rival and where that flips, then questions, each with"
        " a verdict, numbers with ranges, why, and the command behind it."
    ),
    short="Trainium 3 on one page: does scale and price make up for 144 GiB?",
    example="mowich brief   or   mowich brief --against gb300 --models llama-3.1-405b --out brief.json",
)
