"""Step times of one worker as tables, and what users see beyond them."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from mowich.arrays import Floats
from mowich.plans.memory import kv_B_per_sequence
from mowich.plans.shapes import Shapes
from mowich.serving.anchors import NO_SHIFT, ShiftAlong
from mowich.serving.step import step, total
from mowich.serving.traffic.adapters import AdapterCosts
from mowich.serving.traffic.policies import Scheduler
from mowich.serving.traffic.unevenness import Unevenness
from mowich.serving.waits import Front
from mowich.software.engine import Engine, EngineCosts
from mowich.sums import float_sum

USUAL_USERS, USUAL_TOKENS = 16.0, 2048.0
"""Sequences of a batch, and tokens of a cache and of a prompt, at which kernels' times per token are read."""
READ_TOKENS, ASKED_FROM, SPREAD = (7, 17), 7, (0, 11)
"""Powers of two: tokens of a cache; least tokens of a prompt at once; attended tokens over half of these."""


@dataclass(frozen=True, slots=True)
class StepTimes:
    """Step times of one worker as plain floats, made once, by the constants. A rank group holds its tokens in all its
    pipeline stages together."""

    tokens: list[float]
    """[m] seconds of a group's m tokens: matrices, collectives and fixed layers, and experts of one group."""
    sampled: list[float]
    """[n] seconds of the head for n sequences, and of the host."""
    per_context: float
    """Seconds per context token of a decoding sequence in layers without a window."""
    windows: tuple[tuple[float, float], ...]
    """(tokens, seconds per token) of layers with a window."""
    prefill_step: float
    """Seconds that prompt tokens add to a step."""
    pair: float
    """Seconds per (prompt token, attended token) of long prompts in one batch."""
    window_pairs: tuple[tuple[float, float], ...]
    """(tokens, seconds per pair) of layers with a window."""
    kv_B: float
    """Bytes per cached token on the worker."""
    experts: tuple[float, ...] = ()
    """[m] seconds of experts where all groups together hold m tokens for each group; empty with one group."""
    launches: tuple[float, float] = (0.0, 0.0)
    """Least seconds of a step with a prompt by the host's launches, of up to `capture` tokens and of more."""
    capture: float = 0.0
    """Tokens of the largest captured graph."""
    half: float = 0.0
    """Tokens at which a prompt's attention reaches half of the rate of long prompts."""
    prompt_token: float = 0.0
    """Seconds per prompt token of recurrent layers."""
    verify: float = 1.0
    """Time of a step that verifies several tokens over that of a plain one."""
    tpot: ShiftAlong = NO_SHIFT
    """What measured rows shift steps by."""
    reading: Unevenness | None = None
    """Attention of decodes by operator tables, by sequences and mean context; None: in proportion."""
    asking: Unevenness | None = None
    """Of prompts by operator tables, by tokens and twice the attended tokens over them; None: in proportion."""
    adapters: AdapterCosts | None = None
    """What LoRA adapters take; None: there are none."""

    @classmethod
    def of(
        cls, s: Shapes, c: EngineCosts, e: Engine, scheduler: Scheduler, tpot: ShiftAlong | None = None
    ) -> StepTimes:
        """Tables of one case (`s`, `c`, `e` of length 1): of the batch of the fullest rank group. Pipeline stages share
        a group's sequences evenly. Those of the last cases are kept: a search plays a plan with many numbers of
        workers, and the rows of an answer share workers."""
        return _kept_times(pickle.dumps((s, c, e, scheduler, tpot)))

    @classmethod
    def _made(cls, s: Shapes, c: EngineCosts, e: Engine, scheduler: Scheduler, tpot: ShiftAlong | None) -> StepTimes:
        v, stages = scheduler.verified, scheduler.stages
        most = -(-scheduler.max_sequences // scheduler.groups)
        limit = scheduler.budget // scheduler.groups + math.ceil(most * v) + stages + 1
        m = np.arange(limit + 1, dtype=np.float64)
        every = np.zeros(len(m), dtype=np.intp)
        share = 1.0 / stages
        plain = replace(
            c,
            prefill_layer=np.ones_like(c.prefill_layer),
            prefill_kernel=np.zeros_like(c.prefill_kernel),
            expert_launch=np.zeros_like(c.expert_launch),
        )
        ones = step(s.take(every), plain.take(every), n=0.0, context=0.0, prompt=m * share)
        apart = {"experts"} if scheduler.groups > 1 else set()
        body = total({k: x for k, x in ones.items() if k not in {"head", "host", "prefill_attention", *apart}})
        n = np.arange(most + 1, dtype=np.float64)
        every = np.zeros(len(n), dtype=np.intp)
        decode = step(s.take(every), c.take(every), n=n * share, context=0.0, verify=v)
        unattended = step(s.take(every), _closed(c).take(every), n=n * share, context=0.0, verify=v)["attention"]
        sampled = decode["head"] + decode["host"] + unattended
        one = np.zeros(1)
        host, launch = (float(np.asarray(x).ravel()[0]) for x in (c.step, c.prefill_kernel))
        few, many = (float(kernels[0]) for kernels in (s.uncaptured, s.uncaptured + s.kernels))
        longer = [step(s, costs, n=one, context=0.0, prompt=one + 1) for costs in (c, plain)]
        fixed = float_sum(float(longer[0][part][0] - longer[1][part][0]) for part in ("layers", "tp"))
        attention = _attention(s, c, most=most, share=share, verify=v)
        reading = asking = None
        if _is_tabled(c) and attention.per_context > 0 and attention.pair > 0:
            reads_s, asks_s = _by_tables(s, c, attention, share=share, verify=v)
            mosts = (max(1, math.ceil(math.log2(most))), max(ASKED_FROM + 1, math.ceil(math.log2(limit))))
            reading = Unevenness.of(reads_s, attention.per_context, (0, mosts[0]), READ_TOKENS)
            asking = Unevenness.of(asks_s, attention.pair, (ASKED_FROM, mosts[1]), SPREAD)
        return cls(
            reading=reading,
            asking=asking,
            tokens=body.tolist(),
            sampled=sampled.tolist(),
            per_context=attention.per_context,
            windows=attention.windows,
            prefill_step=float(np.asarray(c.prefill_step).ravel()[0]) + fixed,
            pair=attention.pair,
            window_pairs=attention.window_pairs,
            launches=(host + few * launch, host + many * launch),
            capture=float(np.asarray(c.capture).ravel()[0]),
            kv_B=float(kv_B_per_sequence(s, one + 1.0)[0] - s.state_B[0] / s.pp[0])
            * float(s.tp[0] * s.cp[0] * s.pp[0]),
            experts=tuple(ones["experts"].tolist()) if apart else (),
            half=attention.half,
            prompt_token=attention.prompt_token,
            verify=float(np.asarray(e.mtp_cost).ravel()[0]) if v > 1 else 1.0,
            tpot=tpot or NO_SHIFT,
        )

    def with_draft(self, draft: StepTimes, tokens: int) -> StepTimes:
        """These times, with a draft model on the same devices. Before each step it makes `tokens` tokens one after the
        other, and it reads every prompt too. The step itself holds the time to verify them."""
        last = len(draft.tokens) - 1
        each = (draft.tokens[last] - draft.tokens[1]) / max(1, last - 1)
        windows, pairs = [
            (*own, *((width, many * seconds) for width, seconds in other))
            for own, other, many in (
                (self.windows, draft.windows, tokens),
                (self.window_pairs, draft.window_pairs, 1),
            )
        ]
        n = min(len(self.sampled), len(draft.sampled))
        return replace(
            self,
            sampled=[self.sampled[i] + tokens * (draft.tokens[min(i, last)] + draft.sampled[i]) for i in range(n)],
            per_context=self.per_context + tokens * draft.per_context,
            windows=windows,
            window_pairs=pairs,
            prefill_step=self.prefill_step + draft.prefill_step + draft.tokens[1],
            prompt_token=self.prompt_token + draft.prompt_token + each,
            pair=self.pair + draft.pair,
            launches=(self.launches[0] + draft.launches[0], self.launches[1] + draft.launches[1]),
            kv_B=self.kv_B + draft.kv_B,
            verify=1.0,
        )

    def scaled(self, log: float) -> StepTimes:
        """All step times times e^log."""
        return replace(self, tpot=replace(self.tpot, constant=self.tpot.constant + log))

    def of_tokens(self, fullest: float, mean: float) -> float:
        """Time of a batch that holds so many tokens in its fullest rank group and in the mean of all."""
        seconds = _between(self.tokens, fullest)
        return seconds + _between(self.experts, mean) if self.experts else seconds

    def reading_s(self, n: int, context: float) -> float:
        """Time of reading the caches of n sequences that hold `context` tokens together, in layers without a window."""
        seconds = self.per_context * context
        return seconds if self.reading is None or n < 1 else seconds * self.reading.at(n, context / n)

    def launched_s(self, tokens: float) -> float:
        """The least time of a step with a prompt that holds so many tokens: that of the host's launches."""
        return self.launches[tokens > self.capture]

    def prompt_s(self, start: int, tokens: int) -> float:
        """Attention time of `tokens` prompt tokens after `start` earlier ones: pairs x seconds per pair, windows
        honoured on average."""
        mean = max(start + 0.5 * tokens, 0.5)
        short = 1.0 + self.half / (2.0 * mean)  # a sequence is twice as long as what its tokens attend to
        pair = self.pair if self.asking is None else self.pair * self.asking.at(tokens, 2.0 * mean / max(tokens, 1))
        seconds = tokens * (self.prompt_token + mean * pair * short)
        for width, each in self.window_pairs:
            seconds += tokens * min(mean, width) * each * short
        return seconds


@lru_cache(maxsize=32)
def _kept_times(case: bytes) -> StepTimes:
    """case: what `StepTimes.of` is given, whole."""
    return StepTimes._made(*pickle.loads(case))


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What lies between the engine's time of a first token and the user's: the rule of the steady state, and the
    shift of TTFT by measured rows."""

    front: Front[float]
    ttft: ShiftAlong

    @classmethod
    def of(cls, e: Engine, ttft: ShiftAlong) -> Seen:
        """Of one case (`e` of length 1)."""
        front = Front.of(e)
        names = ("step_share", "front_s", "front_token_s", "visible_tokens")
        return cls(front=Front(*(float(np.asarray(getattr(front, name)).ravel()[0]) for name in names)), ttft=ttft)


def _between(table: Sequence[float], m: float) -> float:
    """Entry m of a table, between two where m is no whole number; in proportion beyond its end (a prompt that may not
    be cut)."""
    whole = int(m)
    if whole >= len(table) - 1:
        return table[-1] * m / (len(table) - 1)
    if whole == m:
        return table[whole]
    return table[whole] + (m - whole) * (table[whole + 1] - table[whole])


def _only(s: Shapes, k: int) -> Shapes:
    """The shapes with one kind of attention layer left."""
    from dataclasses import replace

    mask = np.zeros_like(s.att_layers)
    mask[k] = 1.0
    return replace(s, att_layers=s.att_layers * mask)


class _Attention(NamedTuple):
    """What the attention of a step is in proportion to: fields of `StepTimes`."""

    per_context: float
    windows: tuple[tuple[float, float], ...]
    pair: float
    window_pairs: tuple[tuple[float, float], ...]
    half: float
    prompt_token: float


def _is_tabled(c: EngineCosts) -> bool:
    """Whether operator tables say how long kernels take."""
    return bool(np.any(np.asarray(c.kernel_tables * c.tables) > 0))


def _closed(c: EngineCosts) -> EngineCosts:
    """The costs without operator tables."""
    return replace(c, kernel_tables=np.zeros_like(c.kernel_tables))


def _attention(s: Shapes, c: EngineCosts, *, most: int, share: float, verify: float) -> _Attention:
    """The slopes of attention, window by window. The closed form is in proportion to tokens, so any point gives its
    slope; kernels take as long for few tokens as for a tile of them: there the slope is that of a usual batch."""
    one, is_tabled, closed = np.zeros(1), _is_tabled(c), _closed(c)
    users = one + (max(1.0, min(most * share, USUAL_USERS)) if is_tabled else 1.0)
    seen, asked = (one + x for x in ((USUAL_TOKENS, USUAL_TOKENS) if is_tabled else (1.0, 1.0)))
    mean = asked / 2.0 if is_tabled else asked
    long = replace(c, attention_half=np.zeros_like(c.attention_half))
    whole_s = long_s = 0.0  # of a usual prompt, and without what the closed form adds to short ones
    base = float(step(s, closed, n=users, context=0.0, verify=verify)["attention"][0])
    recurrence = float(step(s, closed, n=one, context=0.0, prompt=asked, prompt_context=0.0)["prefill_attention"][0])
    open_layers, windows, pair, window_pairs = 0.0, [], 0.0, []
    for k in range(s.window.shape[0]):
        alone = _only(s, k)
        width = float(s.window[k, 0])
        attended = float(step(alone, c, n=users, context=seen, verify=verify)["attention"][0]) - base
        each = attended / float(users[0] * min(float(seen[0]), width)) * share
        prefill = step(alone, long, n=one, context=0.0, prompt=asked, prompt_context=mean)
        pairs = float(prefill["prefill_attention"][0]) - recurrence
        short = step(alone, c, n=one, context=0.0, prompt=asked, prompt_context=mean)
        whole_s, long_s = whole_s + float(short["prefill_attention"][0]) - recurrence, long_s + pairs
        per_pair = pairs / float(asked[0] * min(float(mean[0]), width))
        if math.isinf(width):
            open_layers, pair = open_layers + each, pair + per_pair
        elif each > 0:
            windows.append((width, each))
            window_pairs.append((width, per_pair))
    return _Attention(
        per_context=open_layers,
        windows=tuple(windows),
        pair=pair,
        window_pairs=tuple(window_pairs),
        half=2.0 * float(mean[0]) * (whole_s / long_s - 1.0) if long_s > 0 else 0.0,
        prompt_token=recurrence / float(asked[0]),
    )


def _by_tables(
    s: Shapes, c: EngineCosts, attention: _Attention, *, share: float, verify: float
) -> tuple[Callable[[Floats, Floats], Floats], Callable[[Floats, Floats], Floats]]:
    """Seconds by operator tables of the attention that sees all: of a decode for each token that it sees, by sequences
    and context; of a prompt for each pair, by tokens and twice the attended tokens over them."""
    whole, closed = replace(s, att_layers=s.att_layers * np.isinf(s.window)), _closed(c)

    def reads_s(n: Floats, context: Floats) -> Floats:
        every = np.zeros(len(n), dtype=np.intp)
        took = step(whole.take(every), c.take(every), n=n * share, context=context, verify=verify)
        state = step(whole.take(every), closed.take(every), n=n * share, context=0.0, verify=verify)
        return (took["attention"] - state["attention"]) / (n * context)

    def asks_s(tokens: Floats, spread: Floats) -> Floats:
        every = np.zeros(len(tokens), dtype=np.intp)
        mean = tokens * spread / 2.0
        took = step(whole.take(every), c.take(every), n=0.0, context=0.0, prompt=tokens, prompt_context=mean)
        return (took["prefill_attention"] / tokens - attention.prompt_token) / mean

    return reads_s, asks_s
