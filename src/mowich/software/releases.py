"""Which release of a training stack or a serving engine ships, whether it is supported, and when somebody read so.

Facts `training.<stack>.*` and `serving.<engine>.*`: `release` in words, `status`, and `ended` (the release and the day)
where support ended. `version` beside them says which releases the constants were measured on.
"""

from __future__ import annotations

from mowich.errors import unknown
from mowich.facts import Facts
from mowich.facts.schema import SOFTWARE_STATUSES

SUPPORT_ENDED = "ended"


def status_of(facts: Facts, path: str) -> str | None:
    """Whether the software under a path of facts is supported, one of `SOFTWARE_STATUSES`; None where facts say
    nothing. Raises UserError for another word.

    >>> from mowich.facts import load_facts
    >>> status_of(load_facts(), "training.torchtitan-neuron")
    'beta'
    """
    fact = facts.get(f"{path}.status")
    if fact is not None and fact.value not in SOFTWARE_STATUSES:
        raise unknown("status", str(fact.value), SOFTWARE_STATUSES, where=f"{path}.status")
    return None if fact is None else str(fact.value)


def release_words(facts: Facts, path: str) -> dict[str, str]:
    """The release that ships, its status and the day on which its source was read, as "release"; empty where facts say
    nothing.

    >>> from mowich.facts import load_facts
    >>> release_words(load_facts(), "serving.vllm-neuron")["release"]
    'vLLM Neuron 0.29.0.1.2.0, Neuron 2.33.0 of 19 October 2026 (beta; read 2026-12-01)'
    """
    fact, status = facts.get(f"{path}.release"), status_of(facts, path)
    if fact is None or status is None:
        return {}
    ended = facts.get(f"{path}.ended")
    words = f"support ended with {ended.value}" if ended is not None else status
    looked = facts.sources.get(fact.source or "", {}).get("looked")
    return {"release": f"{fact.value} ({words}{f'; read {looked}' if looked else ''})"}
