"""Steady state of one serving worker: memory, then TTFT, TPOT and throughput of a closed loop of users, for columns of
cases.

A worker decodes n sequences per rank group; prompts enter as chunks mixed into decode steps (vLLM, TensorRT-LLM) or as
steps of their own (SGLang). `closed_loop` is the closed form of that system; `traffic` simulates it event by event and
agrees at low load. Memory comes first: what does not fit is not ranked. Formulas, a worked number: docs/serving.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Columns, Floats
from mowich.estimate import Notes
from mowich.formula import Law
from mowich.plans.memory import kv_B_per_sequence, serving_memory_B
from mowich.plans.shapes import Shapes
from mowich.serving.step import step, total
from mowich.serving.tabled import PlanKernels
from mowich.software.engine import Engine, EngineCosts

V = TypeVar("V", float, Floats)


@dataclass(frozen=True, slots=True)
class Load(Columns):
    """Users and lengths, columns [n]. users: in flight per rank group (concurrency / dp); prompt, output: mean tokens;
    cached: share of the prompt found in the prefix cache; verify, accepted: tokens verified and accepted per step (1, 1
    without speculation); held: steps that the scheduler leaves a new prompt waiting, beside the running one, because it
    looks for new prompts only now and then or waits for more of them; gathers: steps whose new prompts begin together;
    rounds: requests per user, for the start burst (inf: none); is_static: 1 for a static batch that starts together and
    is not refilled."""

    users: Floats
    prompt: Floats
    output: Floats
    cached: Floats
    verify: Floats
    accepted: Floats
    held: Floats
    gathers: Floats
    rounds: Floats
    is_static: Floats


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


def per_token_s(step: Floats, mtp_cost: Floats | float, accepted: Floats) -> Floats:
    """Seconds of a part of the step for each token of a sequence.

    T = step * mtp_cost / accepted

    mtp_cost: what guessing tokens adds to a step; accepted: tokens of a step that are kept.

    Units: step s.
    """
    return np.asarray(step * mtp_cost / accepted)


def note_decode(notes: Notes, parts: dict[str, Floats], of_step: Notes, e: Engine, accepted: Floats) -> None:
    """Record the parts of a decode step as they are in the time of a token. of_step: the terms of the step."""
    notes.take(of_step, ".step")
    for name, seconds in parts.items():
        if seconds[0] > 0:
            given = {"step": seconds, "mtp_cost": e.mtp_cost, "accepted": accepted}
            notes.add(name, per_token_s(seconds, e.mtp_cost, accepted), "s", per_token_s, given=given)


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


def max_sequences(s: Shapes, load: Load, e: Engine, capacity_B: Floats | float) -> Floats:
    """Sequences per rank group whose caches fit with their prompts and the part of their answers that the engine keeps
    room for (0.7 of it where sequences are of all ages and some may be put out, all of it where none is).

    Below 1 a single sequence does not fit.
    """
    free = serving_memory_B(s, e, capacity_B)["kv"]
    each = kv_B_per_sequence(s, load.prompt + e.answer_held * load.output)
    return np.asarray(np.maximum(free, 0.0) / np.maximum(each, 1.0))


@dataclass(frozen=True, slots=True)
class Steady:
    """Answers per case [n]. ttft_parts and tpot_parts are named times that sum to ttft_s and tpot_s; running: sequences
    decoding per rank group; capacity: sequences that fit; tokens_per_s: output tokens of the whole worker; full_step:
    seconds by part of a step in which all users that fit decode, and no prompt is."""

    ttft_s: Floats
    tpot_s: Floats
    ttft_parts: dict[str, Floats]
    tpot_parts: dict[str, Floats]
    running: Floats
    capacity: Floats
    tokens_per_s: Floats
    full_step: dict[str, Floats]

    def where(self, at: NDArray[np.bool_], other: Steady) -> Steady:
        """The cases of `other` at `at`, of this elsewhere; a part that a case has not is 0."""

        def parts(own: dict[str, Floats], its: dict[str, Floats]) -> dict[str, Floats]:
            return {name: np.where(at, its.get(name, 0.0), own.get(name, 0.0)) for name in own | its}

        return Steady(
            ttft_s=np.where(at, other.ttft_s, self.ttft_s),
            tpot_s=np.where(at, other.tpot_s, self.tpot_s),
            ttft_parts=parts(self.ttft_parts, other.ttft_parts),
            tpot_parts=parts(self.tpot_parts, other.tpot_parts),
            running=np.where(at, other.running, self.running),
            capacity=np.where(at, other.capacity, self.capacity),
            tokens_per_s=np.where(at, other.tokens_per_s, self.tokens_per_s),
            full_step=parts(self.full_step, other.full_step),
        )


def decode_step(
    s: Shapes,
    c: EngineCosts,
    load: Load,
    users: Floats,
    notes: Notes | None = None,
    kernels: PlanKernels | None = None,
) -> dict[str, Floats]:
    """Seconds of one step without a prompt by part. users: sequences that decode, of a rank group; their caches are
    half way through the answer."""
    n, context = users / np.maximum(1.0, s.pp), load.prompt + 0.5 * load.output
    return step(s, c, n=n, context=context, verify=load.verify, notes=notes, kernels=kernels)


@dataclass(frozen=True, slots=True)
class PromptSteps:
    """Steps that carry prompts, columns [n]: n sequences decode beside `tokens` tokens of prompts, of which each prompt
    has `done` of its own in a step (above 1: so many whole prompts); parts: seconds."""

    n: Floats
    tokens: Floats
    done: Floats
    parts: dict[str, Floats]

    def take(self, rows: NDArray[np.intp]) -> PromptSteps:
        """The columns at `rows`."""
        return PromptSteps(self.n[rows], self.tokens[rows], self.done[rows], pick_parts(self.parts, rows))

    def are(self, n: Floats, tokens: Floats, done: Floats) -> NDArray[np.bool_]:
        """Whether these are the same steps [n]."""
        return np.asarray((n == self.n) & (tokens == self.tokens) & (done == self.done))

    @property
    def steps_each(self) -> Floats:
        """Steps of one prompt."""
        return np.asarray(1.0 / self.done)

    @property
    def each_s(self) -> Floats:
        """Seconds of all steps of one prompt."""
        return np.asarray(total(self.parts) * self.steps_each)

    def added_s(self, mixes: Floats, decode_s: Floats) -> Floats:
        """What each prompt adds to steps of `decode_s` seconds that it mixes with, else its share of steps apart."""
        whole = total(self.parts)
        return np.asarray(np.maximum(np.where(mixes > 0.5, whole - decode_s, whole), 0.0) * self.steps_each)


def pick_parts(parts: dict[str, Floats], rows: NDArray[np.intp]) -> dict[str, Floats]:
    """The columns of each part at `rows`."""
    return {name: seconds[rows] for name, seconds in parts.items()}


@dataclass(frozen=True, slots=True)
class Prompting:
    """Steps of workers [n] that carry prompts beside decodes with caches of `context` tokens. What was timed is not
    timed again: `known` grows by what `steps` finds. Where no decode is in the step, as in engines that keep prompts
    apart, it is the same step for any number of users."""

    s: Shapes
    c: EngineCosts
    e: Engine
    load: Load
    context: Floats
    kernels: PlanKernels | None = None
    known: list[PromptSteps] = field(default_factory=list)

    def steps(self, n: Floats, per_step: Floats | float = 1.0) -> PromptSteps:
        """A prompt of p new tokens takes ceil(p / budget) steps; `per_step` prompts that are due together share a step
        up to the budget. n: sequences that decode in it."""
        new = np.maximum(self.load.prompt * (1.0 - self.load.cached), 1.0)
        chunks = np.maximum(1.0, np.ceil(new / self.e.budget - 1e-9))
        share = np.where(self.e.packs > 0.5, np.clip(per_step, 1.0, np.maximum(1.0, self.e.budget / new)), 1.0)
        tokens = np.where(chunks > 1, new / chunks, new * share)
        done = np.where(chunks > 1, 1.0 / chunks, share)
        rows = np.arange(len(tokens))
        found: list[tuple[NDArray[np.intp], dict[str, Floats]]] = []
        for steps in self.known:
            same = steps.are(n, tokens, done)[rows]
            if same.all() and not found:
                return steps
            found.append((rows[same], pick_parts(steps.parts, rows[same])))
            rows = rows[~same]
        if 2 * len(rows) > len(tokens):  # choosing takes about as long as timing
            rows, found = np.arange(len(tokens)), []
        at = self._take(rows) if found else self
        if len(rows):
            parts = step(
                at.s,
                at.c,
                n=n[rows],
                context=at.context,
                verify=at.load.verify,
                prompt=tokens[rows],
                prompt_context=at.load.prompt * at.load.cached + 0.5 * new[rows],
                finishing=done[rows],
                kernels=at.kernels,
            )
            found.append((rows, parts))
        self.known.append(PromptSteps(n, tokens, done, _whole(found)))
        return self.known[-1]

    def _take(self, rows: NDArray[np.intp]) -> Prompting:
        s, c, e = self.s.take(rows), self.c.take(rows), self.e.take(rows)
        return Prompting(s, c, e, self.load.take(rows), self.context[rows], self.kernels and self.kernels.take(rows))


def _whole(found: Sequence[tuple[NDArray[np.intp], dict[str, Floats]]]) -> dict[str, Floats]:
    """The parts of all columns from those of some at a time: (which, their parts)."""
    if len(found) == 1:
        return found[0][1]
    out = {}
    for name in found[0][1]:
        out[name] = np.empty(sum(len(rows) for rows, _ in found))
        for rows, parts in found:
            out[name][rows] = parts[name]
    return out


def closed_loop(
    s: Shapes,
    c: EngineCosts,
    e: Engine,
    load: Load,
    capacity_B: Floats | float,
    *,
    rounds_of_fixpoint: int = 2,
    notes: Notes | None = None,
    known: Sequence[PromptSteps] = (),
    kernels: PlanKernels | None = None,
) -> Steady:
    """TTFT, TPOT and throughput of `users` users per rank group, each sending its next request when the last one is
    answered.

    TPOT = t_dec / a + (others / osl) D, D: what one whole prompt adds to the steps it rides on (its own steps where
    prompts do not mix); TTFT = prefill + wait for the running step + queue + start burst (N - 1) T / (2 rounds) + users
    in step + steps that the scheduler holds it + wait for cache + front end + visibility. n decoding users follow from
    Little's law; a user that decodes meets (N - 1) / N of them as others, and its own prompt does not interrupt its
    answer; users x D is the least time between two answers to one of them. Assumes lengths near their means, first
    come first served. known: steps of the same columns with prompts that were timed before; kernels: read from tables.
    """
    cap, static = max_sequences(s, load, e, capacity_B), load.is_static > 0
    N = np.where(static, load.users, np.minimum(load.users, np.maximum(cap, 1.0)))
    new = np.maximum(load.prompt * (1.0 - load.cached), 1.0)
    context = load.prompt + 0.5 * load.output
    micro, nobody = np.maximum(1.0, s.pp), np.zeros(len(s))
    prompts = Prompting(s, c, e, load, context, kernels, list(known))
    n = seen = N
    share = together_share(e.lockstep, N, e.together)
    full: dict[str, Floats] = {}
    each = prompts.steps(nobody, load.users).each_s
    together = np.where(static, 0.0, lockstep_s(share, N, each))  # users who wait for each other decode no token
    for _ in range(rounds_of_fixpoint):
        here = None if notes is None else Notes()  # of the last round
        dec = decode_step(s, c, load, seen, here, kernels)
        full = full or dec
        t_dec = total(dec)
        t_verify = t_dec * e.mtp_cost
        due = np.where(static, 0.0, n / micro / load.output * load.accepted * load.gathers)  # that begin together
        beside = np.where(e.mixes > 0.5, seen / micro, nobody)
        one = prompts.steps(beside)
        own = one.each_s
        extra = prompts.steps(beside, due).added_s(e.mixes, t_dec)
        if np.any(share > 0):  # users who ask together begin together
            extra += share * (prompts.steps(beside, load.users).added_s(e.mixes, t_dec) - extra)
        others = seen  # that a user meets, itself included, as this round counts them
        interference = np.where(static, 0.0, interference_s(seen, load.output, extra, share))
        tpot = t_verify / load.accepted + interference
        stay = load.output * tpot
        decoding_share = stay / (stay + own + together)
        n = np.where(static, N, N * decoding_share)
        seen = np.where(static, N, 1.0 + (N - 1.0) * decoding_share)  # by a user that decodes, itself included
    parts = {name: per_token_s(value, e.mtp_cost, load.accepted) for name, value in dec.items()}
    parts["prefill_interference"] = interference
    pre = own
    if np.any(static):  # a static batch prefills all its prompts at once
        at_once = np.where(e.packs > 0.5, load.users, 1.0)  # else one by one
        whole = step(
            s,
            c,
            n=nobody,
            context=context,
            prompt=new * at_once / micro,
            prompt_context=0.5 * new + load.prompt * load.cached,
            finishing=at_once,
        )
        pre = np.where(static, total(whole) * load.users / at_once + c.step, own)
    per_request = load.output * tpot + pre
    busy = np.minimum(1.0, np.where(static, 0.0, (N - 1.0) * np.maximum(each, extra) / per_request))
    one_prompt = np.maximum(each, extra)
    queue = np.where(static, 0.0, queue_s(e.queue_share, busy, one_prompt))
    starting = each
    if np.any(np.isfinite(load.rounds) & ~static):  # half of the users decode beside the prompts of a start
        starting = prompts.steps(np.where(e.mixes > 0.5, 0.5 * N / micro, nobody), load.users).each_s
    burst = np.where(static, 0.0, burst_s(e.burst_share, load.users, starting, load.rounds, share))
    wait_kv = np.where(static, 0.0, wait_for_cache_s(load.users, cap, N, per_request))
    rule = Front.of(e)
    front = rule.parts(prompt=load.prompt, prefill_s=pre, decode_s=t_dec, step_s=t_verify)
    ttft_parts = {
        "prefill": pre,
        "step_wait": np.where(static, 0.0, step_wait_s(rule.step_share, t_dec, N)),
        "held": np.where(static, 0.0, held_s(load.held, N, t_verify)),
        "queue": queue,
        "start_burst": burst,
        "lockstep": together,
        "kv_wait": wait_kv,
        "front_end": np.where(static, 0.0, front["front_end"]),
        "visibility": np.where(static, 0.0, front["visibility"]),
    }
    decoding = np.maximum(load.output - 1.0, 0.0) * tpot
    # what the worker takes for the prompts of all users is the least time between two answers to one of them: it binds
    # where answers are short
    least = np.where(static, 0.0, load.users * extra)
    all_waits = np.asarray(sum(ttft_parts.values()))
    ttft_parts["queue"] = at_least_s(queue, least, all_waits, decoding)
    if notes is not None and here is not None:
        note_decode(notes, dec, here, e, load.accepted)
        told: dict[str, tuple[Floats, Law, dict[str, Floats]]] = {
            "prefill_interference": (
                interference,
                interference_s,
                {"seen": others, "output": load.output, "extra": extra, "share": share},
            ),
            "prefill": (pre, prompt_s, {"step": total(one.parts), "steps": one.steps_each}),
            "queue.load": (queue, queue_s, {"queue_share": e.queue_share, "busy": busy, "each": one_prompt}),
            "queue": (
                ttft_parts["queue"],
                at_least_s,
                {"load": queue, "least": least, "waits": all_waits, "decoding": decoding},
            ),
            "start_burst": (
                burst,
                burst_s,
                {"burst_share": e.burst_share, "users": load.users, "each": starting}
                | {"rounds": load.rounds, "share": share},
            ),
            "lockstep": (together, lockstep_s, {"share": share, "users": N, "each": each}),
            "kv_wait": (
                wait_kv,
                wait_for_cache_s,
                {"users": load.users, "capacity": cap, "held": N, "per_request": per_request},
            ),
            "step_wait": (
                ttft_parts["step_wait"],
                step_wait_s,
                {"share": rule.step_share, "decode": t_dec, "users": N},
            ),
            "held": (ttft_parts["held"], held_s, {"held": load.held, "users": N, "step": t_verify}),
            "front_end": (
                ttft_parts["front_end"],
                front_end_s,
                {"fixed": e.front_s, "token": e.front_token_s, "prompt": load.prompt},
            ),
            "visibility": (
                ttft_parts["visibility"],
                visibility_s,
                {"tokens": e.visible_tokens, "step": t_verify},
            ),
        }
        of_share = {"lockstep": e.lockstep, "users": N, "together": e.together}
        for name, (seconds, law, symbols) in told.items():
            if seconds[0] > 0 and not static[0]:
                if symbols.get("share") is share and share[0] > 0:
                    notes.add(f"{name}.share", share, "1", together_share, given=of_share)
                notes.add(name, seconds, "s", law, given=symbols)
    ttft = np.asarray(sum(ttft_parts.values()))
    tokens = load.users * s.dp * load.output / (ttft + decoding)
    return Steady(
        ttft_s=ttft,
        tpot_s=tpot,
        ttft_parts=ttft_parts,
        tpot_parts=parts,
        running=n,
        capacity=cap,
        tokens_per_s=tokens,
        full_step=full,
    )


SHARE_HALVINGS = 30
"""Of the range in which the share of users that decode lies: to 1e-9 of them."""


def decode_pool(
    s: Shapes, c: EngineCosts, e: Engine, load: Load, elsewhere_s: Floats, capacity_B: Floats | float
) -> Steady:
    """A worker of a disaggregated deployment that only decodes: `users` users per rank group belong to it, and each of
    their requests is with the prefill workers for `elsewhere_s` seconds first.

    TPOT = t_dec / a, with the users that decode by Little's law: a user that decodes meets the others for the share
    output TPOT / (elsewhere + output TPOT) of their time. No prompt interrupts an answer.
    """
    cap = max_sequences(s, load, e, capacity_B)
    N = np.minimum(load.users, np.maximum(cap, 1.0))
    low, share, high = 0.0 * N, 0.0 * N + 1.0, 0.0 * N + 1.0
    full: dict[str, Floats] = {}
    for _ in range(SHARE_HALVINGS):
        dec = decode_step(s, c, load, 1.0 + (N - 1.0) * share)
        full = full or dec
        tpot = total(dec) * e.mtp_cost / load.accepted
        found = load.output * tpot / (elsewhere_s + load.output * tpot)
        low, high = np.where(found < share, low, share), np.where(found < share, share, high)
        share = 0.5 * (low + high)
    request_s = elsewhere_s + np.maximum(load.output - 1.0, 0.0) * tpot
    return Steady(
        ttft_s=elsewhere_s,
        tpot_s=tpot,
        ttft_parts={"elsewhere": elsewhere_s},
        tpot_parts={name: per_token_s(value, e.mtp_cost, load.accepted) for name, value in dec.items()},
        running=N * share,
        capacity=cap,
        tokens_per_s=N * s.dp * load.output / request_s,
        full_step=full,
    )
