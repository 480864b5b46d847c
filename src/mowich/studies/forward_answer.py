"""The answer of compare, plan and fit for forward passes: images and clips in `steps` passes, encoders in one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mowich.economics import money
from mowich.errors import UserError
from mowich.machines.system import resolve
from mowich.plans.forward import ForwardJob
from mowich.progress import steps
from mowich.readback import record_of
from mowich.requests.jobs import JobRequest
from mowich.shown import Rows, Shown
from mowich.software.stack import stack_words
from mowich.studies.forward import best_forward, forward_platform
from mowich.studies.forward_row import ForwardAsk, ForwardRow

ForwardVerb = Literal["compare", "plan", "fit"]
MOST_FIT_CHIPS = 4096
"""Chips up to which the fewest that fit are looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardAnswer(Shown):
    """What forward passes come to. rows: the best plan of each system (compare, fit), or the best plans of one (plan);
    smallest_chips: of fit alone: the fewest chips that hold a replica, of those that were tried, None where none does.

    Units: seconds, items/s, dollars and joules of an item: an image, a clip, a text.

    Example:
        >>> import mowich
        >>> job = {"task": "encode", "tokens": 512, "batch": 32}
        >>> found = mowich.compare("llama-3.1-8b", ["trn3", "h100"], forward=job, chips=4)
        >>> found.rows[0].item_s.unit
        's'
    """

    SCHEMA = "mowich/forward@1"
    KEYS = "inputs facts_hash **fit rows warnings"

    verb: ForwardVerb
    inputs: Mapping[str, object]
    rows: Rows[ForwardRow]
    facts_hash: str
    smallest_chips: int | None = None
    warnings: tuple[str, ...] = ()

    @property
    def fit(self) -> dict[str, object] | None:
        """What fit says beside its row."""
        return {"fits": self.rows[0].feasible, "smallest_chips": self.smallest_chips} if self.verb == "fit" else None

    @property
    def is_feasible(self) -> bool:
        """Whether any row has an answer."""
        return any(row.feasible for row in self.rows)


def forward_answer(asked: JobRequest, verb: ForwardVerb, *, top: int = 1) -> ForwardAnswer:
    """What a question of forward passes comes to. top: plans of each system."""
    asks = {name: _ask_of(asked, name) for name in asked.systems}
    found = [row for name in steps(asked.systems, "searching {}") for row in best_forward(asks[name], top)]
    smallest = _fewest_chips(next(iter(asks.values()))) if verb == "fit" else None
    return ForwardAnswer(
        verb=verb,
        inputs=_inputs(asked, verb, list(asks.values())),
        rows=Rows(found),
        facts_hash=asked.facts.hash(),
        smallest_chips=smallest,
    )


def _ask_of(asked: JobRequest, name: str) -> ForwardAsk:
    """The question of one system."""
    assert asked.forward is not None
    system = resolve(asked.facts, name, chips=asked.chips)
    own = {"job": asked.forward, "on": name, "system_id": system.id, "chips": system.chips, "stack": asked.stack or ""}
    return record_of(ForwardAsk, asked, **own)


def _fewest_chips(ask: ForwardAsk) -> int | None:
    """The fewest chips, of 1, 2, 4 and so on, on which a replica of one item fits, whatever its time."""
    job = replace(ask.job, batch=ask.job.batch or 1, latency_s=0.0)
    chips = 1
    while chips <= MOST_FIT_CHIPS:
        try:
            system = resolve(ask.facts, ask.system_id, chips=chips)
            on = f"{ask.system_id}:{system.chips}"
            tried = replace(ask, job=job, on=on, chips=system.chips)
            if best_forward(tried)[0].feasible:
                return system.chips
        except UserError:  # no such number of chips of this system
            pass
        chips *= 2
    return None


def _inputs(asked: JobRequest, verb: ForwardVerb, asks: Sequence[ForwardAsk]) -> dict[str, object]:
    """The question, as the result states it."""
    return {
        **asked.model.inputs(),
        "verb": verb,
        **asks[0].job.to_dict(),
        "chips": asked.chips,
        "stack": asked.stack,
        "fixed": {key: list(values) for key, values in asked.fixed.items()},
        "price_term": asked.term,
        "systems": [
            {
                "system": ask.on,
                "id": ask.system_id,
                "chips": ask.chips,
                **stack_words(ask.facts, forward_platform(ask)),
                "price_terms": money.quoted_terms(ask.facts, ask.system_id),
            }
            for ask in asks
        ],
    }


def forward_job_of(inputs: Mapping[str, object]) -> ForwardJob:
    """The job that a result states. Raises UserError for inputs that are not such a job."""
    values: dict[str, int] = {}
    for name in ("tokens", "batch", "steps", "branches", "height", "width", "frames"):
        value = inputs.get(name) or 0
        if isinstance(value, bool) or not isinstance(value, int):
            raise UserError("not a whole number", where=f"inputs.{name} of the result", given=value)
        values[name] = value
    latency = inputs.get("latency_s") or 0.0
    if isinstance(latency, bool) or not isinstance(latency, int | float):
        raise UserError("not a number", where="inputs.latency_s of the result", given=latency)
    task: Literal["diffuse", "encode"] = "encode" if inputs.get("task") == "encode" else "diffuse"
    return ForwardJob(task=task, latency_s=float(latency), **values)
