"""What a user waits for beside the steps of an engine: formulas of the parts of a time to first token, and of what
prompts add to the time of a token. Columns [n], or plain numbers where a simulation asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from mowich.arrays import Floats
from mowich.software.engine import Engine

V = TypeVar("V", float, Floats)

ALONE = 0.25
"""What a request that is alone waits for the running step, as a share of what one among many waits."""


def front_end_s(fixed: V, token: V, prompt: V) -> V:
    """Seconds between the arrival of a request and its place in the queue.

    T = fixed + token * prompt

    Units: fixed s, token s, prompt tokens.
    """
    return fixed + token * prompt


def visibility_s(tokens: V, step: V) -> V:
    """Seconds between the first token and its arrival at the user.

    T = tokens * step

    tokens: steps of the engine, each of which may give several; step: of one.

    Units: tokens tokens, step s.
    """
    return tokens * step


def together_share(lockstep: Floats | float, users: Floats, together: Floats | float = 0.0) -> Floats:
    """Share of a campaign's users that ask together.

    T = together + (1 - together) * lockstep / max(lockstep + max(users - 1, 0) / 2, 1e-9)

    lockstep: the most prompts that one finds before it, on average; (users - 1) / 2 where all ask together. together:
    share of those who do so however many they are.
    """
    before = np.maximum(users - 1.0, 0.0) / 2.0
    return np.asarray(together + (1.0 - together) * lockstep / np.maximum(lockstep + before, 1e-9))


def interference_s(seen: Floats, output: Floats, extra: Floats, share: Floats) -> Floats:
    """Seconds that prompts of others add to each output token.

    T = max(seen - 1, 0) / output * extra * (1 - share / 2)

    seen: users that decode, this one included; output: tokens of an answer; extra: what a prompt adds to the steps that
    it rides on; share: of the users that ask together: their prompts do not interrupt each other's answers.

    Units: output tokens, extra s.
    """
    return np.asarray(np.maximum(seen - 1.0, 0.0) / output * extra * (1.0 - share / 2.0))


def prompt_s(step: Floats, steps: Floats) -> Floats:
    """Seconds of the steps of one prompt, beside the sequences that decode.

    T = step * steps

    Units: step s.
    """
    return np.asarray(step * steps)


def queue_s(queue_share: Floats | float, busy: Floats, each: Floats) -> Floats:
    """Seconds that a prompt waits for others.

    T = queue_share * busy * each * 0.5 / max(1 - 0.7 * busy, 0.1)

    busy: share of the time that prompts take; each: of one prompt.

    Units: each s.
    """
    return np.asarray(queue_share * busy * each * 0.5 / np.maximum(1.0 - 0.7 * busy, 0.1))


def at_least_s(load: Floats, least: Floats, waits: Floats, decoding: Floats) -> Floats:
    """Seconds in the queue where the prompts of all users are the least time between two answers to one of them.

    T = load + max(least - waits - decoding, 0)

    load: the wait for other prompts; waits: all parts of the time to first token.

    Units: load s, least s, waits s, decoding s.
    """
    return np.asarray(load + np.maximum(least - waits - decoding, 0.0))


def burst_s(burst_share: Floats | float, users: Floats, each: Floats, rounds: Floats, share: Floats) -> Floats:
    """Seconds that users wait who all begin together; 0 for an endless run, and for those who ask together again.

    T = burst_share * (1 - share) * max(users - 1, 0) * each / (2 * rounds)

    Units: each s.
    """
    return np.asarray(burst_share * (1.0 - share) * np.maximum(users - 1.0, 0.0) * each / (2.0 * rounds))


def lockstep_s(share: Floats, users: Floats, each: Floats) -> Floats:
    """Seconds that a prompt waits for those that were sent at the same moment: half of them are before it.

    T = share * max(users - 1, 0) / 2 * each

    share: of the users that ask together; each: of one prompt, packed with others.

    Units: each s.
    """
    return np.asarray(share * np.maximum(users - 1.0, 0.0) / 2.0 * each)


def held_steps(interval: Floats, wait: Floats, users: Floats, output: Floats) -> Floats:
    """Steps that a new prompt is left waiting, on average.

    T = interval / 2 - 1 / 2 + wait * (1 + wait * users / output / 2) / (1 + wait * users / output)

    interval: steps between two looks for new requests, half of which pass; wait: that the first prompt waits for
    others, half of it for those that join it; users: of a rank group, of whom users / output begin anew in a step;
    output: tokens of an answer.

    Units: output tokens.
    """
    joined = wait * users / output
    return np.asarray(interval / 2.0 - 0.5 + wait * (1.0 + joined / 2.0) / (1.0 + joined))


def balanced_steps(limit: Floats, rate: Floats) -> Floats:
    """Steps that a new prompt waits where ranks begin prompts together: when each rank has one, or after `limit` steps.

    T = min(limit, 1 / rate) * (1 + min(rate * limit, 1)) / 2

    rate: prompts that come to a rank in a step, so that each has one after 1 / rate. A prompt waits half of the time
    between two beginnings; each takes one prompt of a rank, so it waits as long again for one that came before.
    """
    busy = np.minimum(rate * limit, 1.0)
    return np.asarray(np.minimum(limit, 1.0 / np.maximum(rate, 1e-9)) * (1.0 + busy) / 2.0)


def held_s(held: Floats, users: Floats, step: Floats) -> Floats:
    """Seconds that the scheduler leaves a new prompt waiting while others decode; a lone user waits for nobody.

    T = held * min(users - 1, 1) * step

    held: steps on average; step: of decoding users.

    Units: step s.
    """
    return np.asarray(held * np.clip(users - 1.0, 0.0, 1.0) * step)


def wait_for_cache_s(users: Floats, capacity: Floats, held: Floats, per_request: Floats) -> Floats:
    """Seconds that users wait for whom there is no room.

    T = max(users - max(capacity, 1), 0) / max(held, 1) * per_request

    Units: per_request s.
    """
    return np.asarray(np.maximum(users - np.maximum(capacity, 1.0), 0.0) / np.maximum(held, 1.0) * per_request)


def step_wait_s(share: Floats, decode: Floats, users: Floats) -> Floats:
    """Seconds that an arriving prompt waits for the running step: a quarter of a share of it where it is alone, with
    more users the whole share.

    T = 0.25 * share * decode + share * decode * min(max(users - 1, 0), 0.75)

    Units: decode s.
    """
    return np.asarray(ALONE * share * decode + share * decode * np.clip(users - 1.0, 0.0, 1.0 - ALONE))


@dataclass(frozen=True, slots=True)
class Front(Generic[V]):
    """From a request to its first token at the user while no other prompt is before it: the one rule of the steady
    state (columns [n]) and of the simulated traffic (plain numbers). step_share: of a decode step that a request among
    many waits for; the rest as in `Engine`."""

    step_share: V
    front_s: V
    front_token_s: V
    visible_tokens: V

    @classmethod
    def of(cls, e: Engine) -> Front[Floats]:
        """Of an engine's constants. Where prompts share steps with decodes, the wait for the running step is longer."""
        return Front(0.5 + 0.25 * np.asarray(e.mixes), e.front_s, e.front_token_s, e.visible_tokens)

    def before(self, prompt: V) -> V:
        """Seconds between the arrival of a request with a prompt of so many tokens and its place in the queue."""
        return front_end_s(self.front_s, self.front_token_s, prompt)

    def parts(self, *, prompt: V, prefill_s: V, decode_s: V, step_s: V) -> dict[str, V]:
        """Seconds by name, without corrections. prefill_s: of the prompt's own steps; decode_s: of a decode step of the
        batch that it joins; step_s: of such a step with what guessing adds."""
        return {
            "prefill": prefill_s,
            "step_wait": ALONE * self.step_share * decode_s,
            "front_end": self.before(prompt),
            "visibility": visibility_s(self.visible_tokens, step_s),
        }
