"""Workers that only prefill beside workers that only decode: what the first take, and how many of each match."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Columns, Floats
from mowich.estimate import Notes, told
from mowich.plans.memory import kv_B_per_sequence
from mowich.plans.shapes import Shapes
from mowich.serving.steady import PromptSteps
from mowich.serving.step import total
from mowich.serving.transfer import cache_transfer_s, convert_s, handed_s
from mowich.serving.waits import front_end_s
from mowich.software.engine import Engine, EngineCosts


def paired_tokens_per_s(
    prefill_workers: float, prompts_per_s: Floats, decode_workers: float, answers_per_s: Floats, osl: float
) -> Floats:
    """Output tokens per second of prefill and decode workers of their own: the slower kind sets the pace.

    T = min(prefill_workers * prompts_per_s, decode_workers * answers_per_s) * osl

    Units: prompts_per_s 1/s, answers_per_s 1/s, osl tokens.
    """
    return np.asarray(np.minimum(prefill_workers * prompts_per_s, decode_workers * answers_per_s) * osl)


def prefill_s(step: Floats, steps: Floats) -> Floats:
    """Seconds of the steps of one prompt on a worker that only prefills.

    T = step * steps

    Units: step s.
    """
    return np.asarray(step * steps)


def queued_prompt_s(service: Floats, load: Floats, workers: Floats, each: Floats) -> Floats:
    """Seconds of a prompt with its wait for those before it, which come at random and take as long as it does. Workers
    share one queue, as a router that knows the fewest makes them (Sakasegawa's law of many servers; M/D/1 with one).
    One that takes several prompts at a time begins them together: half a step passes where all workers are in one.

    T = service * (1 + load ** (sqrt(2 * (workers * each + 1)) - 1) / (2 * workers * each * (1 - load))
    + min(each - 1, 1) / 2 * (load * each / (load * each + exp(-load * each))) ** workers)

    load: of what the workers can prefill, below 1; each: prompts that a worker takes at a time.

    Units: service s.
    """
    servers, met = workers * each, load * each
    queue = load ** (np.sqrt(2.0 * (servers + 1.0)) - 1.0) / (2.0 * servers * (1.0 - load))
    step = np.minimum(each - 1.0, 1.0) / 2.0 * (met / (met + np.exp(-met))) ** workers
    return np.asarray(service * (1.0 + queue + step))


def prompts_queue_s(queued: Floats, service: Floats) -> Floats:
    """Seconds that a prompt waits for those before it.

    T = queued - service

    queued: of the prompt with its wait.

    Units: queued s, service s.
    """
    return np.asarray(queued - service)


LOAD_HALVINGS = 30
"""Of the range in which the load of prefill workers lies: to 1e-9."""


@dataclass(frozen=True, slots=True)
class Prefill(Columns):
    """Workers that only prefill. plan: their index; front, service: seconds of the front end and of one prompt's steps;
    under_way: prompts in a worker at a time; group: devices of a rank group; link_Bps: of a device that sends."""

    plan: NDArray[np.intp]
    front: Floats
    service: Floats
    under_way: Floats
    group: Floats
    link_Bps: Floats

    @classmethod
    def of(
        cls,
        plan: NDArray[np.intp],
        s: Shapes,
        c: EngineCosts,
        e: Engine,
        lone: PromptSteps,
        prompt: float,
        notes: Notes | None = None,
    ) -> Prefill:
        """Workers of the plans `plan`. lone: steps with one prompt alone."""
        ones = np.ones(len(plan))
        return cls(
            plan=plan,
            front=told(notes, "front_end", front_end_s)(fixed=e.front_s, token=e.front_token_s, prompt=ones * prompt),
            service=told(notes, "prefill", prefill_s)(step=total(lone.parts), steps=lone.steps_each),
            under_way=s.dp * np.maximum(1.0, s.pp),
            group=s.tp * s.cp * s.pp,
            link_Bps=ones * c.link_Bps,
        )

    def transfer(
        self,
        from_: Shapes,
        to: Shapes,
        held: Shapes,
        prompt: float,
        hbm_Bps: Floats | float,
        notes: Notes | None = None,
    ) -> Floats:
        """Seconds of a prompt's cache and recurrent state to workers that decode. from_, to: shapes on one device with
        the caches of either side; held: of a rank that decodes; hbm_Bps: of a device."""
        tokens = np.full(len(self.plan), prompt)
        state, state_held = from_.state_B, held.state_B / held.pp
        whole, received = (kv_B_per_sequence(x, tokens) - x.state_B for x in (from_, to))
        part = (kv_B_per_sequence(held, tokens) - state_held) * np.minimum(from_.b_kv, to.b_kv) / to.b_kv
        cache, recurrent = (
            handed_s(sent, on_one, self.group, self.link_Bps, self.link_Bps)
            for sent, on_one in ((np.minimum(whole, received), part), (state, state_held))
        )
        convert = convert_s(whole, received, hbm_Bps * self.group, hbm_Bps * held.tp * held.cp * held.pp)
        law = told(notes, "kv_transfer", cache_transfer_s)
        return law(cache=cache + convert, state=recurrent, latency_s=0.0)

    def load(self, fixed: Floats, ttft_s: float, slack: float, workers: Floats | float = 1.0) -> tuple[Floats, Floats]:
        """(highest rho, prompts per second of a worker) that keep a limit of the TTFT, 0 where none does: prompts in
        order of arrival, TTFT = fixed + `queued_prompt_s`. fixed: seconds beside that; slack: rho at most; workers:
        that share the queue."""
        low, high = 0.0 * fixed, 0.0 * fixed + slack
        if math.isfinite(ttft_s):
            room, at = ttft_s - fixed, (0.0 * fixed + workers, self.under_way)
            low = np.where(queued_prompt_s(self.service, high, *at) <= room, high, low)
            for _ in range(LOAD_HALVINGS):
                rho = 0.5 * (low + high)
                keeps = queued_prompt_s(self.service, rho, *at) <= room
                low, high = np.where(keeps, rho, low), np.where(keeps, high, rho)
        else:
            low = high
        return low, low * self.under_way / self.service


def worker_counts(devices: float, zp: Floats, zd: Floats, rp: Floats, rd: Floats) -> tuple[Floats, Floats, Floats]:
    """(prefill workers, decode workers, requests per second) of pairs, whole numbers: balance x rp = y rd on all
    devices, then the neighbours of x. zp, zd: devices of a worker; rp, rd: its requests per second."""
    ideal = devices * rd / (zp * rd + zd * rp)
    counts = []
    for shift in (0.0, 1.0):
        x = np.maximum(1.0, np.floor(ideal) + shift)
        y = np.floor((devices - x * zp) / zd)
        counts.append((x, y, np.where((y >= 1) & (x * zp < devices), np.minimum(x * rp, y * rd), 0.0)))
    better = counts[0][2] >= counts[1][2]
    x, y, rate = (np.where(better, a, b) for a, b in zip(*counts, strict=True))
    return x, y, rate
