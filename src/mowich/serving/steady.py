"""Steady state of one serving worker: memory, then TTFT, TPOT and throughput of a closed loop of users, for columns of
cases.

A worker decodes n sequences per rank group; prompts enter as chunks mixed into decode steps (vLLM, TensorRT-LLM) or as
steps of their own (SGLang). `closed_loop` is the closed form of that system; `traffic` simulates it event by event and
agrees at low load. Memory comes first: what does not fit is not ranked. Formulas, a worked number:
docs/theory/theory-serving.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Columns, Floats
from mowich.estimate import Notes, told
from mowich.plans.memory import kv_B_per_sequence, serving_memory_B
from mowich.plans.shapes import Shapes
from mowich.serving.step import step, total
from mowich.serving.tabled import PlanKernels
from mowich.serving.waits import (
    Front,
    at_least_s,
    balanced_steps,
    burst_s,
    front_end_s,
    held_s,
    held_steps,
    interference_s,
    lockstep_s,
    prompt_s,
    queue_s,
    step_wait_s,
    together_share,
    visibility_s,
    wait_for_cache_s,
)
from mowich.software.engine import Engine, EngineCosts


@dataclass(frozen=True, slots=True)
class Load(Columns):
    """Users and lengths, columns [n]. users: in flight per rank group (concurrency / dp); prompt, output: mean
    tokens; cached: share of the prompt found in the prefix cache; verify, accepted: tokens verified and accepted
    per step (1, 1 without speculation); rounds: requests per user, for the start burst (inf: none); is_static: 1
    for a static batch that starts together and is not refilled; encode_s: of the images of a request, before its
    prompt on the same worker."""

    users: Floats
    prompt: Floats
    output: Floats
    cached: Floats
    verify: Floats
    accepted: Floats
    rounds: Floats
    is_static: Floats
    encode_s: Floats | float = 0.0

    @property
    def has_images(self) -> bool:
        return bool(np.any(np.asarray(self.encode_s) > 0))


def per_token_s(step: Floats, mtp_cost: Floats | float, accepted: Floats) -> Floats:
    """Seconds of a part of the step for each token of a sequence.

    T = step * mtp_cost / accepted

    mtp_cost: what guessing tokens adds to a step; accepted: tokens of a step that are kept.

    Units: step s.
    """
    return np.asarray(step * mtp_cost / accepted)


def token_parts(
    step_parts: dict[str, Floats], e: Engine, accepted: Floats, notes: Notes | None = None, of_step: Notes | None = None
) -> dict[str, Floats]:
    """The parts of a decode step as they are in the time of a token. of_step: the terms of the step."""
    if notes is not None and of_step is not None:
        notes.take(of_step, ".step")
    return {
        name: told(notes, name, per_token_s)(step=seconds, mtp_cost=e.mtp_cost, accepted=accepted)
        for name, seconds in step_parts.items()
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
class Settled(Columns):
    """The point at which a closed loop runs, columns [n]: its batch and its queue, without the times of their parts.
    users: that have room; running: of those, users that decode; seen: users that decode as a decoding one meets them,
    itself included; busy: share of the time that prompts take; per_request, waits, decoding: seconds of a request, of
    its first token without the least time between two answers, and of its other tokens."""

    users: Floats
    running: Floats
    seen: Floats
    busy: Floats
    per_request: Floats
    waits: Floats
    decoding: Floats


@dataclass(frozen=True, slots=True)
class Steady:
    """Answers per case [n]. ttft_parts and tpot_parts are named times that sum to ttft_s and tpot_s; running: sequences
    decoding per rank group; capacity: sequences that fit; tokens_per_s: output tokens of the whole worker; full_step:
    seconds by part of a step in which all users that fit decode, and no prompt is; settled: of a closed loop, the point
    at which the parts were computed."""

    ttft_s: Floats
    tpot_s: Floats
    ttft_parts: dict[str, Floats]
    tpot_parts: dict[str, Floats]
    running: Floats
    capacity: Floats
    tokens_per_s: Floats
    full_step: dict[str, Floats]
    settled: Settled | None = None

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
class PromptSteps(Columns):
    """Steps that carry prompts, columns [n]: n sequences decode beside `tokens` tokens of prompts, of which each prompt
    has `done` of its own in a step (above 1: a step carries several whole prompts); parts: seconds."""

    n: Floats
    tokens: Floats
    done: Floats
    parts: dict[str, Floats]

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
            if self.load.has_images:  # each step has its share of the encoding of the prompts that it carries
                parts["encoder"] = np.broadcast_to(at.load.encode_s, len(rows)) * done[rows]
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


@dataclass(frozen=True, slots=True)
class _Loop:
    """A closed loop and what holds for all of its users. capacity: sequences that fit; users: that have room; static:
    whether their batch starts together and is not refilled; share: of those that ask together; each: seconds of one
    prompt, packed with others; together: seconds that those who ask together wait for each other."""

    s: Shapes
    c: EngineCosts
    e: Engine
    load: Load
    kernels: PlanKernels | None
    prompts: Prompting
    capacity: Floats
    users: Floats
    static: NDArray[np.bool_]
    share: Floats
    each: Floats
    together: Floats

    @classmethod
    def of(
        cls,
        s: Shapes,
        c: EngineCosts,
        e: Engine,
        load: Load,
        capacity_B: Floats | float,
        known: Sequence[PromptSteps],
        kernels: PlanKernels | None,
        held: Settled | None,
        notes: Notes | None,
    ) -> _Loop:
        cap, static = max_sequences(s, load, e, capacity_B), load.is_static > 0
        users = np.where(static, load.users, np.minimum(load.users, np.maximum(cap, 1.0)))
        if held is not None:
            users = held.users
        prompts = Prompting(s, c, e, load, load.prompt + 0.5 * load.output, kernels, list(known))
        each = prompts.steps(np.zeros(len(s)), load.users).each_s
        share = together_share(e.lockstep, users, e.together)
        at = cls(s, c, e, load, kernels, prompts, cap, users, static, share, each, np.zeros(len(s)))
        wait = told(notes, "lockstep", lockstep_s)(share=at.share_of("lockstep", notes), users=users, each=each)
        return replace(at, together=np.where(static, 0.0, wait))  # who waits for others decodes no token

    def share_of(self, part: str, notes: Notes | None) -> Floats:
        """Share of the users that ask together, which is a term of a part where that is told."""
        if notes is None:
            return self.share
        law = told(notes, f"{part}.share", together_share, unit="1")
        return law(lockstep=self.e.lockstep, users=self.users, together=self.e.together)

    @property
    def in_flight(self) -> Floats:
        """Micro-batches of a pipeline."""
        return np.maximum(1.0, self.s.pp)

    def unless_static(self, seconds: Floats | float) -> Floats:
        return np.where(self.static, 0.0, seconds)


@dataclass(frozen=True, slots=True)
class _Balance:
    """Where decoding users and the times that follow from their number agree. running: users that decode; began, seen:
    users that decode, by whose number and by the view of one of them, in the round that gave the rest; dec: parts of
    their step, full: of a step in which all users decode; step, verified: its seconds, without and with what guessing
    adds; one: steps of a prompt beside them; extra: seconds that a prompt adds to the steps it rides on; interference:
    what others add to each token; tpot: seconds; noted: formulas of the step."""

    running: Floats
    began: Floats
    seen: Floats
    dec: dict[str, Floats]
    full: dict[str, Floats]
    step: Floats
    verified: Floats
    one: PromptSteps
    extra: Floats
    interference: Floats
    tpot: Floats
    noted: Notes | None


def _balance(at: _Loop, rounds: int, held: Settled | None, notes: Notes | None) -> _Balance:
    """Little's law, from all users on: a user that decodes meets (N - 1) / N of them as others. held: the point is this
    one, and not looked for."""
    s, c, e, load, prompts, N = at.s, at.c, at.e, at.load, at.prompts, at.users
    n, seen, rounds = (N, N, rounds) if held is None else (held.running, held.seen, 1)
    full: dict[str, Floats] = {}
    for i in range(rounds):
        last = notes if i == rounds - 1 else None
        noted = None if last is None else Notes(last.moved)
        began, met = n, seen
        dec = decode_step(s, c, load, seen, noted, at.kernels)
        full = full or dec
        t_dec = total(dec)
        t_verify = t_dec * e.mtp_cost
        due = at.unless_static(
            n / at.in_flight / load.output * load.accepted * (e.interval + e.wait)
        )  # that begin together
        beside = np.where(e.mixes > 0.5, seen / at.in_flight, np.zeros(len(s)))
        one = prompts.steps(beside)
        extra = prompts.steps(beside, due).added_s(e.mixes, t_dec)
        if np.any(at.share > 0):  # users who ask together begin together
            extra += at.share * (prompts.steps(beside, load.users).added_s(e.mixes, t_dec) - extra)
        waits = None if np.any(at.static) else last
        law = told(waits, "prefill_interference", interference_s)
        share = at.share_of("prefill_interference", waits)
        interference = at.unless_static(law(seen=seen, output=load.output, extra=extra, share=share))
        tpot = t_verify / load.accepted + interference
        stay = load.output * tpot
        decoding_share = stay / (stay + one.each_s + at.together)
        n = np.where(at.static, N, N * decoding_share)
        seen = np.where(at.static, N, 1.0 + (N - 1.0) * decoding_share)  # by a user that decodes, itself included
    return _Balance(n, began, met, dec, full, t_dec, t_verify, one, extra, interference, tpot, noted)


def _prefill_s(at: _Loop, of: _Balance, notes: Notes | None) -> Floats:
    """Seconds of a prompt's own steps; a static batch prefills all its prompts at once, or one by one."""
    parts = {name: seconds for name, seconds in of.one.parts.items() if name != "encoder"}
    load, own = at.load, told(notes, "prefill", prompt_s)(step=total(parts), steps=of.one.steps_each)
    if not np.any(at.static):
        return own
    at_once, new = np.where(at.e.packs > 0.5, load.users, 1.0), np.maximum(load.prompt * (1.0 - load.cached), 1.0)
    whole = step(
        at.s,
        at.c,
        n=np.zeros(len(at.s)),
        context=load.prompt + 0.5 * load.output,
        prompt=new * at_once / at.in_flight,
        prompt_context=0.5 * new + load.prompt * load.cached,
        finishing=at_once,
    )
    return np.where(at.static, total(whole) * load.users / at_once + at.c.step, own)


def _held(at: _Loop) -> Floats:
    """Steps that the scheduler leaves a new prompt waiting, beside the running one."""
    e, load = at.e, at.load
    begin = load.users / load.output * load.accepted  # prompts that come to a rank group in a step
    balanced = np.where(at.s.dp > 1, balanced_steps(e.balance, begin), 0.0)
    return held_steps(e.interval, e.wait, load.users, load.output) + balanced


def _first_token(
    at: _Loop, of: _Balance, prefill: Floats, decoding: Floats, held: Settled | None, notes: Notes | None
) -> tuple[dict[str, Floats], Settled]:
    """(the parts of the time to first token, the point at which they are computed). "queue.load": the queue without the
    least time between two answers to one user, which is what the worker takes for the prompts of all: it binds where
    answers are short."""
    e, load, N = at.e, at.load, at.users
    one_prompt = np.maximum(at.each, of.extra)
    if held is None:
        per_request = load.output * of.tpot + prefill + load.encode_s
        busy = np.minimum(1.0, at.unless_static((N - 1.0) * one_prompt / per_request))
    else:
        per_request, busy = held.per_request, held.busy
    starting = at.each
    if np.any(np.isfinite(load.rounds) & ~at.static):  # half of the users decode beside the prompts of a start
        beside = np.where(e.mixes > 0.5, 0.5 * N / at.in_flight, np.zeros(len(at.s)))
        starting = at.prompts.steps(beside, load.users).each_s
    rule = Front.of(e)
    burst = told(notes, "start_burst", burst_s)(
        burst_share=e.burst_share,
        users=load.users,
        each=starting,
        rounds=load.rounds,
        share=at.share_of("start_burst", notes),
    )
    parts = {
        "prefill": prefill,
        "step_wait": told(notes, "step_wait", step_wait_s)(share=rule.step_share, decode=of.step, users=N),
        "held": told(notes, "held", held_s)(held=_held(at), users=N, step=of.verified),
        "queue": told(notes, "queue.load", queue_s)(queue_share=e.queue_share, busy=busy, each=one_prompt),
        "start_burst": burst,
        "lockstep": at.together,
        "kv_wait": told(notes, "kv_wait", wait_for_cache_s)(
            users=load.users, capacity=at.capacity, held=N, per_request=per_request
        ),
        "front_end": told(notes, "front_end", front_end_s)(fixed=e.front_s, token=e.front_token_s, prompt=load.prompt),
        "visibility": told(notes, "visibility", visibility_s)(tokens=e.visible_tokens, step=of.verified),
    }
    if load.has_images:
        parts["encoder"] = np.broadcast_to(np.asarray(load.encode_s), np.shape(prefill))
        if notes is not None:
            notes.add(
                "encoder", parts["encoder"], "s", words="the images of a request on its worker (serving/encoding.py)"
            )
    parts = {name: x if name in ("prefill", "lockstep") else at.unless_static(x) for name, x in parts.items()}
    waits = np.asarray(sum(parts.values()))
    point = Settled(N, of.began, of.seen, busy, per_request, waits, decoding) if held is None else held
    least = at.unless_static(load.users * of.extra)
    queue = told(notes, "queue", at_least_s)(
        load=parts["queue"], least=least, waits=point.waits, decoding=point.decoding
    )
    return parts | {"queue": queue}, point


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
    held: Settled | None = None,
) -> Steady:
    """TTFT, TPOT and throughput of `users` users per rank group, each sending its next request when the last one is
    answered.

    TPOT = t_dec / a + (others / osl) D, D: what one whole prompt adds to the steps it rides on (its own steps where
    prompts do not mix); TTFT = prefill + wait for the running step + queue + start burst (N - 1) T / (2 rounds) + users
    in step + steps that the scheduler holds it + wait for cache + front end + visibility. n decoding users follow from
    Little's law; a user that decodes meets (N - 1) / N of them as others, and its own prompt does not interrupt its
    answer; users x D is the least time between two answers to one of them. Assumes lengths near their means, first
    come first served. known: steps of the same columns with prompts that were timed before; kernels: read from tables;
    held: the point at which the loop runs, where it is not looked for (the terms of `notes` are then of that point).
    """
    own = None if notes is None else Notes(notes.moved)
    of_waits = None if np.any(load.is_static > 0) else own
    at = _Loop.of(s, c, e, load, capacity_B, known, kernels, held, of_waits)
    of = _balance(at, rounds_of_fixpoint, held, own)
    decoding = np.maximum(load.output - 1.0, 0.0) * of.tpot
    prefill = _prefill_s(at, of, of_waits)
    ttft_parts, settled = _first_token(at, of, prefill, decoding, held, of_waits)
    tpot_parts = token_parts(of.dec, e, load.accepted, own, of.noted)
    if notes is not None and own is not None:
        own.drop_zeros()
        notes.take(own)
    ttft = np.asarray(sum(ttft_parts.values()))
    return Steady(
        ttft_s=ttft,
        tpot_s=of.tpot,
        ttft_parts=ttft_parts,
        tpot_parts=tpot_parts | {"prefill_interference": of.interference},
        running=of.running,
        capacity=at.capacity,
        tokens_per_s=load.users * s.dp * load.output / (ttft + decoding),
        full_step=of.full,
        settled=settled,
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
        tpot_parts=token_parts(dec, e, load.accepted),
        running=N * share,
        capacity=cap,
        tokens_per_s=N * s.dp * load.output / request_s,
        full_step=full,
    )
