"""Processes that compute: stopped at a deadline or when nobody waits, and the same process answers on."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from mowich.web import asks, workers
from mowich.web.turns import RefusedRequestError
from mowich.web.workers import ProcessPool, StopError, _Worker

TRAIN = {"tokens": "1T", "seq": 4096, "batch": "256seqs"}
PLAN = asks.PlanBody.model_validate({"model": "gpt2", "on": "h100:8", "train": TRAIN, "top": 1})
LONG = asks.GoodputBody.model_validate({"on": "h100:16384", "days": 3650, "samples": 1000, "step": "5 s"})


def test_a_process_lives_on_after_a_deadline_and_after_who_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """One process through all that may happen to a task; to start one takes a second."""

    async def scene() -> None:
        worker = _Worker("heavy", (), 3 * 2**30, False)
        pool = ProcessPool([worker], most=9, share=9, most_long=1, most_wait_s=60, limit_s=60)
        try:
            pid = worker._process.pid

            async def plan() -> Any:
                body = await pool.call("plan", (PLAN,), None)
                return json.loads(body)["result"]

            first = await plan()
            # a deadline
            with pytest.raises(RefusedRequestError, match=r"took longer than the 0\.1 s") as late:
                await pool.call("goodput", (LONG,), 0.1)
            assert late.value.status == 422
            assert late.value.lines[0]["line"].count("\n") == 0
            # nobody waits
            left = asyncio.create_task(pool.call("goodput", (LONG,), None))
            while not worker._busy:
                await asyncio.sleep(0.01)
            queued = asyncio.create_task(pool.call("goodput", (LONG,), None))
            await asyncio.sleep(0.01)
            for task in (queued, left):
                task.cancel()
            assert await plan() == first
            assert pool.stopped == {"late": 1, "left": 1}
            assert worker._process.pid == pid
            assert worker.restarts == 0
            assert worker.memory_B > 2**20
            # a process that does not hear
            monkeypatch.setattr(workers, "GRACE_S", 0.3)
            os.kill(pid or 0, signal.SIGSTOP)
            with pytest.raises(RefusedRequestError, match="took longer"):
                await pool.call("plan", (PLAN,), 0.1)
            assert worker.restarts == 1
            assert worker._process.pid != pid
            # its start counts against no request: the clock of this one begins when all is imported
            begin = time.monotonic()
            assert await pool.call("facts_show", (["h100"],), 30.0)
            assert worker._until - 30.0 - workers.GRACE_S > begin + 0.05
            os.kill(worker._process.pid or 0, signal.SIGKILL)
            with pytest.raises(RefusedRequestError, match="memory"):
                await pool.call("plan", (PLAN,), None)
            assert pool.turns.running == pool.turns.waiting == 0
            pool.end()
            with pytest.raises(RefusedRequestError) as ending:
                await plan()
            assert ending.value.status == 503
        finally:
            pool.close()

    asyncio.run(scene())


def test_verbs_are_quick_or_long_by_names_that_exist() -> None:
    from mowich.web.verbs import VERBS

    assert set(VERBS) | {"kernel"} >= workers.QUICK | workers.LONG
    assert not workers.QUICK & workers.LONG


def test_a_quick_task_that_is_not_quick_is_asked_again_as_a_heavy_one() -> None:
    asked: list[tuple[str, object]] = []

    class Told(ProcessPool):
        def __init__(self, name: str) -> None:
            self.name = name

        async def call(self, name: str, arguments: tuple[object, ...], limit_s: float | None) -> object:
            asked.append((self.name, limit_s))
            if self.name == "quick":
                raise workers.LateError(limit_s or 0)
            return b"{}"

    pools = workers.Workers.__new__(workers.Workers)
    pools.pools = {"quick": Told("quick"), "heavy": Told("heavy")}
    assert asyncio.run(pools.call("fit", PLAN)) == b"{}"
    assert asyncio.run(pools.call("plan", PLAN)) == b"{}"
    assert asked == [("quick", workers.QUICK_S), ("heavy", None), ("heavy", None)]


def test_an_alarm_waits_for_imports_and_rings_again(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that was half imported would stay so; and what keeps all errors is told again."""
    (tmp_path / "slow_to_import.py").write_text("import time\ntime.sleep(0.3)\nwhole = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(workers, "AGAIN_S", 0.05)
    kept = [signal.getsignal(s) for s in (signal.SIGALRM, signal.SIGUSR1)]
    alarm = workers.Alarm()
    try:
        heard = 0
        alarm.arm(0.05)
        try:
            import slow_to_import

            while True:
                pass
        except StopError:
            heard += 1
        assert heard == 1
        assert slow_to_import.whole
        alarm.arm(0.05)
        while heard < 3:
            try:
                while True:
                    pass
            except BaseException:
                heard += 1
        alarm.disarm()
        os.kill(os.getpid(), signal.SIGUSR1)  # nothing runs: nothing to stop
        time.sleep(0.02)
    finally:
        alarm.disarm()
        for which, handler in zip((signal.SIGALRM, signal.SIGUSR1), kept, strict=True):
            signal.signal(which, handler)


INTERRUPTED = """
import hashlib, random, re, sys
from mowich.web import asks, workers
seed, stops = int(sys.argv[1]), int(sys.argv[2])
draw, alarm = random.Random(seed), workers.Alarm()
train = {"tokens": "1T", "seq": 4096, "batch": "256seqs"}
serve = {"isl": "2k", "osl": 200, "ttft": "2s", "tpot": "50ms"}
compare = {"model": "llama-3.1-8b", "on": ["trn3", "h100", "ironwood"], "chips": 64}
questions = [
    ("plan", asks.PlanBody(model="gpt2", on="h100:8", train=train, top=2)),
    ("plan", asks.PlanBody(model="mixtral-8x7b", on="trn3:64", train=train, set=("prices.term=3y",))),
    ("plan", asks.PlanBody(model="llama-3.1-8b", on="gb300:8", serve=serve)),
    ("fit", asks.FitBody(model="llama-3.1-8b", on="h100:8", train={"seq": 4096, "batch": "64seqs"})),
    ("gap", asks.ROOM_BODIES["gap"](model="llama-3.1-8b", first="h100", second="h200", chips=8, serve=serve)),
    ("collective", asks.ROOM_BODIES["collective"](kind="all-reduce", on="trn3-gen2", sizes=("1MiB", "1GiB"))),
    *((("row", asks.CompareBody(**compare, train=train), i)) for i in range(3)),
    ("models",), ("systems",),
]
def run(question, limit_s):
    name, *arguments = question
    return workers._compute(alarm, name, tuple(arguments), limit_s, ())
stopped = 0
for _ in range(stops):
    kind, _value = run(draw.choice(questions), draw.choice([0.002, 0.01, 0.03, 0.1, 0.3]) * draw.random())
    stopped += kind == "stopped"
    assert kind in ("ok", "stopped"), (kind, _value)
answers = [run(q, 100.0) for q in questions]
assert all(kind == "ok" for kind, _ in answers), answers
said = re.sub(r"'seconds': [^}]*", "", repr([v for _, v in answers]))  # how long a search took
print(stopped, hashlib.sha256(said.encode()).hexdigest())
"""


@pytest.mark.slow
def test_stopped_tasks_leave_nothing_wrong_behind() -> None:
    """Processes whose tasks were stopped at random moments, from the first import on, answer as one that was left
    alone."""

    def answers(seed: int, stops: int) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-c", INTERRUPTED, str(seed), str(stops)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        count, found = done.stdout.split()
        return int(count), found

    _, right = answers(0, 0)
    draw = random.Random(5)
    for seed in range(1, 13):
        stopped, found = answers(seed, draw.randint(20, 60))
        assert stopped > 5, seed
        assert found == right, seed
