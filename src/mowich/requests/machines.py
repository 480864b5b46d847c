"""A system as a value of Python, and how a question names one."""

from __future__ import annotations

from dataclasses import dataclass

from mowich.requests.common import Asked, form_of
from mowich.requests.fields import CALLED, word
from mowich.requests.job_fields import CHIPS
from mowich.requests.schema import QuestionReader, Schema
from mowich.requests.settings import facts_of

ONE_SYSTEM = word("on", metavar="SYSTEM", needs=True, completes="systems", example="trn3-gen2")


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineRequest(Asked):
    """One system, of some chips (None: as in its name)."""

    name: str
    chips: int | None


def _machine(reader: QuestionReader) -> MachineRequest:
    facts = facts_of(reader)
    reader.stop()
    return reader.fill(MachineRequest, form=form_of(reader), facts=facts, given={})


NAME = word("name", "A system.", needs=True, edges=CALLED, example="trn3:64")
SYSTEM = Schema(name="system", fields=(NAME, CHIPS), make=_machine, help="A system, as a value of Python.")
