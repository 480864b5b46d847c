"""The command line that makes a result again: the values of the question, from the inputs that the result holds, as the
fields of its verb find them (`requests.schema.Schema.stated`) and write them (`Schema.command`)."""

from __future__ import annotations

from mowich.requests import brief, calibrate, jobs, kernels, known, results, rl, scenarios, verify
from mowich.requests.room import schema_of_room
from mowich.requests.rooms import room_of
from mowich.requests.schema import Schema
from mowich.shown import Result


def command_of(result: Result) -> str:
    """ "mowich compare deepseek-v3 --train ... --on trn3,gb300"; "" where the inputs do not say (a kernel's
    arguments)."""
    schema = schema_of(result)
    return "" if schema is None else schema.command(schema.stated(result))


def schema_of(result: Result) -> Schema[object] | None:
    """What asks for such a result; None where no command line does with what it holds."""
    room = room_of(result.get("schema"))
    if room is not None:
        return schema_of_room(room)
    verb = str(result["schema"]).removeprefix("mowich/").partition("@")[0]
    return _VERBS.get(str(result["inputs"]["verb"]) if verb == "forward" else verb)


_ASKED: tuple[Schema[object], ...] = (
    *(jobs.COMPARE, jobs.PLAN, jobs.FIT, brief.BRIEF, rl.RL),
    *(scenarios.SWEEP, scenarios.TRAFFIC, scenarios.FLEET),
    *(known.MODEL_VIEW, results.VALIDATE, calibrate.CALIBRATE, verify.VERIFY_RUN, kernels.LAYER),
)
_VERBS = {**{schema.name.replace(" ", "-"): schema for schema in _ASKED}, "rates": jobs.PLAN}
"""Verb in the schema of a result -> what asks for it."""
