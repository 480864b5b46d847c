"""A run played in continuous time: samples on workers, a trainer, and weights between them. This Python code is the
rule; `c/run.c` does the same to the last bit.

Nothing is played token by token. All running sequences of a worker gain tokens together, so a worker has a clock that
counts its steps; a sequence ends when that clock comes to where it shall end. Between two events the number of running
sequences stays and the mean context grows straight, so the time is an integral of `StepTable` and exact.

- **Workers.** A new sample goes to the worker that has the fewest (the first of equals), each by itself: samples of a
  group are spread. A worker runs `most` at once and holds `places` in its cache; the others wait in order. Prompts are
  read before decoding goes on. A cache that is full puts the newest sequence back into the queue, before all others; it
  is read again later. A sequence that waits for a call keeps its cache but no place among those that run.
- **Admission.** Groups are started as long as they are for a step that lies at most `staleness` ahead of the weights
  that the workers have.
- **Batches.** Groups that were started for the step; or those that are finished first, but with them all whose weights
  would be too old for the next step.
- **New weights.** Partial: all workers are held for `rollouts_s`, and go on with the new ones. Else a worker finishes
  what it began, takes the weights, and only then begins more. The trainer goes on while weights travel, up to the next
  sync. Where both sides take turns, all wait for the weights.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush, heapreplace

import numpy as np

from mowich.rl.setup import STEP, RunRecord, RunSetup, StepTable

_WORKER, _RETURN, _GROUP, _TRAINED, _FREE, _HOLD, _LOADED, _DELIVERED = range(8)
"""Kinds of events."""


@dataclass(slots=True, eq=False)
class RolloutWorker:
    """A worker that generates answers, while it is played: its batch, what waits and its next event."""

    number: int
    """Of the worker."""
    steps: float = 0.0
    """Its clock."""
    at_s: float = 0.0
    """The time of its clock."""
    free_s: float = 0.0
    """It decodes from then on."""
    offset: float = 0.0
    """Tokens in the caches of its running sequences less what all gained by the clock."""
    running: int = 0
    """Sequences that decode."""
    held: float = 0.0
    """Tokens of sequences that wait for a call."""
    calls: int = 0
    """Sequences that wait for a call."""
    ends: list[tuple[float, int, int]] = field(default_factory=list)
    """A heap of (clock at its end, order of admission, sample)."""
    newest: list[tuple[int, int]] = field(default_factory=list)
    """Of (order, sample), the newest last."""
    back: deque[int] = field(default_factory=deque)
    """Samples that come from a call."""
    queue: deque[int] = field(default_factory=deque)
    """Samples that wait."""
    in_hand: int = 0
    """All its samples."""
    version: int = 0
    """Of its weights."""
    made: float = 0.0
    """What turns version times clock into the sum of versions over steps."""
    busy_s: float = 0.0
    """Seconds of all its sequences."""
    gained: float = 0.0
    """Steps of all its sequences."""
    stamp: int = 0
    """Of its next event."""
    until: float = 0.0
    """The clock where that event is."""
    is_over: bool = False
    """Whether the cache is full there."""
    is_loading: bool = False
    """Whether it runs empty to take new weights."""


@dataclass(slots=True, eq=False)
class RunStep:
    """A step while it is played: `STEP`."""

    free_s: float = 0.0
    ready_s: float = 0.0
    answered_s: float = 0.0
    enough_s: float = -1.0
    slack_free_s: float = 0.0
    slack_enough_s: float = 0.0
    passed_s: float = 0.0
    trained_s: float = 0.0
    sent_s: float = 0.0
    held_s: float = 0.0
    delivered_s: float = 0.0
    busy_s: float = 0.0
    tokens: float = 0.0
    most_running: int = 0


class StepClock:
    """`StepTable` as lists: seconds of steps, and steps of seconds."""

    def __init__(self, table: StepTable, gain: float) -> None:
        self.context: list[float] = table.context.tolist()
        self.step_s: list[list[float]] = table.step_s.tolist()
        self.slope: list[list[float]] = table.slope.tolist()
        self.spent: list[list[float]] = table.spent.tolist()
        self.gain = gain

    def spent_to(self, row: int, context: float) -> float:
        """Integral of the seconds of a step from context 0."""
        j = bisect_right(self.context, context) - 1
        d = context - self.context[j]
        return self.spent[row][j] + d * (self.step_s[row][j] + 0.5 * self.slope[row][j] * d)

    def seconds(self, running: int, context: float, steps: float) -> float:
        """Seconds that `steps` steps take, from a mean context on."""
        row = running - 1
        spent = self.spent_to(row, context + self.gain * steps) - self.spent_to(row, context)
        return max(spent, 0.0) / self.gain

    def steps(self, running: int, context: float, seconds: float) -> float:
        """Steps that end within `seconds`, from a mean context on."""
        row = running - 1
        goal = self.spent_to(row, context) + self.gain * seconds
        j = bisect_right(self.context, context) - 1
        spent = self.spent[row]
        while j + 1 < len(spent) and goal >= spent[j + 1]:
            j += 1
        rest, step_s = goal - spent[j], self.step_s[row][j]
        root = math.sqrt(max(step_s * step_s + 2.0 * self.slope[row][j] * rest, 0.0))
        return max(self.context[j] + 2.0 * rest / (step_s + root) - context, 0.0) / self.gain


class RlRun:
    """One run. `play` plays it to its end."""

    def __init__(self, setup: RunSetup) -> None:
        s, draws = setup, setup.draws
        self.setup = setup
        self.clock = StepClock(s.table, s.gain)
        self.workers = [RolloutWorker(number) for number in range(s.workers)]
        samples, groups, n_steps = len(draws.tokens), len(draws.kept), len(draws.ends)
        self.kept: list[int] = draws.kept.tolist()
        self.ends: list[int] = draws.ends.tolist()
        self.step_of: list[int] = draws.step_of.tolist()
        self.turns: list[int] = draws.turns.tolist()
        self.turn_steps: list[float] = setup.turn_steps.tolist()
        self.rest = list(self.turn_steps)
        self.context = [s.prompt] * samples
        self.entered = [0.0] * samples
        self.end_at = [0.0] * samples
        self.made_before = [0.0] * samples
        self.order_of = [0] * samples  # of its admission, 0 where it does not run
        self.worker = [-1] * samples
        self.version_of = [-1] * samples
        self.start_s = [-1.0] * samples
        self.end_s = [-1.0] * samples
        self.made = [0.0] * samples
        self.left = [draws.samples] * groups
        self.last_s = [0.0] * groups
        self.there_s = [0.0] * groups
        self.trained = [-1] * groups
        self.started_by = [0] * groups
        self.step_left = [0] * n_steps
        for step in self.step_of:
            self.step_left[step] += 1
        self.unfinished = [0] * (s.steps + 1)
        self.started = self.version = self.step = self.overdue = self.queued = self.order = self.loading = 0
        self.due = -1
        self.is_waiting = self.is_syncing = self.is_pending = self.is_done = False
        self.now = self.slack_s = self.judge_s = 0.0
        self.most_running = 0
        self.finished: list[int] = []
        self.agenda: list[tuple[float, int, int, int, int]] = []
        self.put = 0
        self.steps = [RunStep() for _ in range(s.steps + 1)]

    def play(self) -> RunRecord:
        """All steps, from the first sample to the moment at which the trainer is free after the last update."""
        self.start_groups()
        self.trainer_free()
        while not self.is_done:
            at_s, _, kind, who, stamp = heappop(self.agenda)
            if kind == _WORKER and stamp != self.workers[who].stamp:
                continue
            if at_s > self.now:
                if not self.queued:
                    self.slack_s += at_s - self.now
                self.now = at_s
            if kind == _WORKER:
                self.reached(self.workers[who])
            elif kind == _RETURN:
                self.returned(who)
            elif kind == _GROUP:
                self.group_done(who)
            elif kind == _TRAINED:
                self.update_done()
            elif kind == _FREE:
                self.trainer_free()
            elif kind == _HOLD:
                self.hold()
            elif kind == _LOADED:
                self.loaded(self.workers[who])
            else:
                self.delivered()
        return RunRecord(
            worker=np.array(self.worker, np.int64),
            version=np.array(self.version_of, np.int64),
            start_s=np.array(self.start_s),
            end_s=np.array(self.end_s),
            made=np.array(self.made),
            trained=np.array(self.trained, np.int64),
            steps=np.array([[float(getattr(step, name)) for name in STEP] for step in self.steps]),
        )

    def put_event(self, at_s: float, kind: int, who: int = 0, stamp: int = 0) -> None:
        self.put += 1
        heappush(self.agenda, (at_s, self.put, kind, who, stamp))

    # workers -------------------------------------------------------------------------------------------------------

    def mean_context(self, w: RolloutWorker) -> float:
        return max((w.offset + w.running * self.setup.gain * w.steps) / w.running, 0.0)

    def advance(self, w: RolloutWorker) -> None:
        """Bring a worker's clock to now."""
        if self.now > w.at_s:
            if w.running:
                w.busy_s += w.running * (self.now - w.at_s)
                begin = max(w.at_s, w.free_s)
                if self.now > begin:
                    gained = self.clock.steps(w.running, self.mean_context(w), self.now - begin)
                    gained = min(gained, w.until - w.steps)
                    w.gained += w.running * gained
                    w.steps += gained
            w.at_s = self.now

    def plan_next(self, w: RolloutWorker) -> None:
        """The next event of a worker: its first sequence ends, or its cache is full."""
        w.stamp += 1
        if not w.running:
            return
        while w.ends[0][1] != self.order_of[w.ends[0][2]]:
            heappop(w.ends)
        w.until, w.is_over = w.ends[0][0], False
        if w.running > 1:
            full = (self.setup.room_tokens - w.held - w.offset) / (w.running * self.setup.gain)
            if full < w.until:
                w.until, w.is_over = max(full, w.steps), True
        seconds = self.clock.seconds(w.running, self.mean_context(w), w.until - w.steps)
        self.put_event(max(w.at_s, w.free_s) + seconds, _WORKER, w.number, w.stamp)

    def admit(self, w: RolloutWorker) -> None:
        """Let samples run that wait on a worker, as many as there is room for."""
        s, read = self.setup, 0.0
        while w.running < s.most:
            if w.back:
                i = w.back.popleft()
                w.calls -= 1
                w.held -= self.context[i]
            elif w.queue and not w.is_loading:
                i = w.queue[0]
                filled = w.running + w.calls
                if filled:
                    cached = w.offset + w.running * s.gain * w.steps + w.held + self.context[i]
                    if filled >= s.places or cached + (w.running + 1) * s.gain > s.room_tokens:
                        break
                w.queue.popleft()
                self.queued -= 1
                read += self.context[i]
                if self.version_of[i] < 0:
                    self.version_of[i], self.start_s[i] = w.version, self.now
            else:
                break
            self.entered[i] = w.steps
            self.made_before[i] = w.made + w.version * w.steps
            self.order += 1
            self.order_of[i] = self.order
            self.end_at[i] = w.steps + self.rest[i]
            heappush(w.ends, (self.end_at[i], self.order, i))
            w.newest.append((self.order, i))
            w.offset += self.context[i] - s.gain * w.steps
            w.running += 1
        self.most_running = max(self.most_running, w.running)
        if read:
            w.free_s = max(w.free_s, self.now) + read * s.prompt_s

    def leave(self, w: RolloutWorker, i: int) -> None:
        """A sequence stops running."""
        gain = self.setup.gain
        w.offset -= self.context[i] - gain * self.entered[i]
        w.running -= 1
        self.order_of[i] = 0
        if not w.running:
            w.offset = 0.0
            w.newest.clear()
        self.context[i] += gain * (w.steps - self.entered[i])
        self.made[i] += (w.made + w.version * w.steps) - self.made_before[i]

    def reached(self, w: RolloutWorker) -> None:
        """What a worker planned has come."""
        w.busy_s += w.running * (self.now - w.at_s)
        w.gained += w.running * (w.until - w.steps)
        w.steps, w.at_s = w.until, self.now
        if w.is_over:
            order, i = w.newest.pop()
            while order != self.order_of[i]:
                order, i = w.newest.pop()
            self.leave(w, i)
            self.rest[i] = self.end_at[i] - w.steps
            w.queue.appendleft(i)
            self.queued += 1
        else:
            while w.ends and w.ends[0][0] <= w.steps:
                _, order, i = heappop(w.ends)
                if order == self.order_of[i]:
                    self.turn_done(w, i)
            self.admit(w)
            self.load_if_empty(w)
        self.plan_next(w)

    def turn_done(self, w: RolloutWorker, i: int) -> None:
        """A sequence calls a tool, or is finished and goes to its reward."""
        s = self.setup
        self.leave(w, i)
        self.turns[i] -= 1
        if self.turns[i]:
            self.rest[i] = self.turn_steps[i]
            w.held += self.context[i]
            w.calls += 1
            self.put_event(self.now + s.call_s, _RETURN, i)
            return
        w.in_hand -= 1
        self.end_s[i] = self.now
        self.judge_s = max(self.judge_s, self.now) + s.judge_s
        group = i // s.draws.samples
        self.left[group] -= 1
        self.last_s[group] = self.now
        if not self.left[group]:
            self.put_event(self.judge_s + s.reward_s, _GROUP, group)

    def returned(self, i: int) -> None:
        """A call is over."""
        w = self.workers[self.worker[i]]
        self.advance(w)
        w.back.append(i)
        self.admit(w)
        self.plan_next(w)

    def start_groups(self) -> None:
        """Start all groups that the weights of the workers allow."""
        s = self.setup
        end = self.ends[min(self.version + s.staleness, len(self.ends) - 1)]
        fewest = [(w.in_hand, w.number) for w in self.workers]
        heapify(fewest)
        for group in range(self.started, end):
            self.started_by[group] = self.version
            self.unfinished[self.version] += self.kept[group]
            for i in range(group * s.draws.samples, (group + 1) * s.draws.samples):
                in_hand, number = fewest[0]
                heapreplace(fewest, (in_hand + 1, number))
                w = self.workers[number]
                w.in_hand += 1
                w.queue.append(i)
                self.worker[i] = number
                self.queued += 1
        self.started = end
        for w in self.workers:
            self.admit(w)
            self.plan_next(w)

    # trainer -------------------------------------------------------------------------------------------------------

    def trainer_free(self) -> None:
        """The trainer waits for the batch of the next step."""
        s, step = self.setup, self.steps[self.step]
        step.free_s, step.slack_free_s, step.most_running = self.now, self.slack_s, self.most_running
        self.most_running = 0
        for w in self.workers:
            self.advance(w)
            step.busy_s += w.busy_s
            step.tokens += w.gained * s.gain
            self.most_running = max(self.most_running, w.running)
        if self.step == s.steps:
            self.is_done = True
            return
        self.due = self.step - s.staleness
        if self.due >= 0:
            self.overdue += self.unfinished[self.due]
        self.is_waiting = True
        self.train_if_ready()

    def group_done(self, group: int) -> None:
        """All rewards of a group are there."""
        self.step_left[self.step_of[group]] -= 1
        if self.kept[group]:
            by = self.started_by[group]
            self.unfinished[by] -= 1
            if by <= self.due:
                self.overdue -= 1
            self.there_s[group] = self.now
            self.finished.append(group)
        self.train_if_ready()

    def batch_of(self, k: int) -> tuple[list[int], list[int]] | None:
        """The groups that a step waits for, and those of them that it trains on; None while some are not there."""
        s = self.setup
        if s.waits_started:
            if self.step_left[k]:
                return None
            waited = list(range(self.ends[k - 1] if k else 0, self.ends[k]))
            return waited, [group for group in waited if self.kept[group]]
        if self.overdue or len(self.finished) < s.prompts:
            return None
        due = [group for group in self.finished if self.started_by[group] <= self.due]
        others = [group for group in self.finished if self.started_by[group] > self.due]
        batch = (due + others)[: s.prompts]
        return batch, batch

    def train_if_ready(self) -> None:
        """Begin the trainer's next step where it waits for one and its batch is there."""
        if not self.is_waiting:
            return
        s, k = self.setup, self.step
        step = self.steps[k]
        if step.enough_s < 0.0 and len(self.finished) >= s.prompts:
            step.enough_s, step.slack_enough_s = self.now, self.slack_s
        found = self.batch_of(k)
        if found is None:
            return
        waited, batch = found
        self.is_waiting = False
        step.ready_s = self.now
        for group in waited:
            step.answered_s = max(step.answered_s, self.last_s[group])
        for group in batch:
            self.trained[group] = k
        self.finished = [group for group in self.finished if self.trained[group] < 0]
        step.passed_s = self.now + s.passes_s
        if s.hides_passes:
            step.passed_s = step.free_s
            for there_s in sorted(self.there_s[group] for group in batch):
                step.passed_s = max(step.passed_s, there_s) + s.passes_s / s.prompts
        step.trained_s = step.passed_s + s.update_s + s.other_s
        self.put_event(step.trained_s, _TRAINED)

    def update_done(self) -> None:
        if self.is_syncing:
            self.is_pending = True
        else:
            self.send_weights()

    def send_weights(self) -> None:
        """Begin the sync of the step's weights."""
        s, step = self.setup, self.steps[self.step]
        step.sent_s = self.now
        self.is_syncing, self.is_pending = True, False
        self.step += 1
        if s.takes_turns:
            self.put_event(self.now + s.whole_s + s.switch_s, _DELIVERED)
        else:
            self.put_event(self.now + s.trainer_s, _FREE)
            self.put_event(self.now + (s.whole_s - s.rollouts_s), _HOLD)

    def hold(self) -> None:
        """The workers take new weights."""
        s = self.setup
        self.steps[self.version].held_s = self.now
        if not s.is_partial:
            self.loading = len(self.workers)
            for w in self.workers:
                w.is_loading = True
                self.load_if_empty(w)
            return
        for w in self.workers:
            self.advance(w)
            w.free_s = max(w.free_s, self.now) + s.rollouts_s
            w.busy_s -= w.running * s.rollouts_s
            self.plan_next(w)
        self.put_event(self.now + s.rollouts_s, _DELIVERED)

    def load_if_empty(self, w: RolloutWorker) -> None:
        if w.is_loading and not w.running and not w.calls:
            self.put_event(self.now + self.setup.rollouts_s, _LOADED, w.number)

    def loaded(self, w: RolloutWorker) -> None:
        """A worker that was empty has the new weights."""
        self.advance(w)
        self.use_version(w)
        w.is_loading = False
        self.loading -= 1
        if not self.loading:
            self.delivered()
            return
        self.admit(w)
        self.plan_next(w)

    def use_version(self, w: RolloutWorker) -> None:
        version = self.version + 1
        w.made += (w.version - version) * w.steps
        w.version = version

    def delivered(self) -> None:
        """All workers have the new weights."""
        s = self.setup
        self.steps[self.version].delivered_s = self.now
        for w in self.workers:
            self.advance(w)
            if s.is_partial or s.takes_turns:
                self.use_version(w)
        self.version += 1
        self.is_syncing = False
        self.start_groups()
        if self.is_pending:
            self.send_weights()
        if s.takes_turns:
            self.trainer_free()
