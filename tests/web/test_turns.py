"""Who has the next turn, who is refused, and what an address may ask."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Coroutine
from contextvars import copy_context
from typing import Any

import pytest

from mowich.web.clients import ClientLimits, counted_as
from mowich.web.metrics import BOUNDS_S, Metrics
from mowich.web.turns import CLIENT, RefusedRequestError, Turns


def turns(count: int = 2, **more: Any) -> Turns[int]:
    given = {"most": 1000, "share": 1000, "most_long": max(1, count - 1), "most_wait_s": 60.0, **more}
    return Turns(range(count), **given)


def by(client: str, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """A task of a client."""
    context = copy_context()
    context.run(CLIENT.set, client)
    return asyncio.get_running_loop().create_task(work, context=context)


def test_one_client_delays_another_by_no_more_than_what_runs() -> None:
    async def scene() -> None:
        line, order = turns(1), []

        async def one(name: str) -> None:
            thing = await line.take(is_long=False)
            order.append(name)
            await asyncio.sleep(0.002)
            line.give(thing, is_long=False)

        many = [by("a", one(f"a{i}")) for i in range(6)]
        await asyncio.sleep(0)
        await asyncio.gather(*many, by("b", one("b0")), by("c", one("c0")), by("b", one("b1")))
        assert order == ["a0", "b0", "c0", "a1", "b1", "a2", "a3", "a4", "a5"]
        assert line.waiting == line.running == line.requests == 0
        assert not line._clients

    asyncio.run(scene())


def test_a_client_that_has_a_turn_leaves_the_next_to_one_that_has_none() -> None:
    async def scene() -> None:
        line = turns(2)
        held = [await by("a", line.take(is_long=False)) for _ in range(2)]
        again, other = by("a", line.take(is_long=False)), by("b", line.take(is_long=False))
        await asyncio.sleep(0)

        async def end() -> None:
            line.give(held[0], is_long=False)

        await by("a", end())
        assert await other == held[0]
        assert not again.done()
        again.cancel()

    asyncio.run(scene())


def test_long_turns_leave_one_thing_free() -> None:
    async def scene() -> None:
        line = turns(3)
        long = [by(f"a{i}", line.take(is_long=True)) for i in range(6)]
        await asyncio.sleep(0)
        assert [t.done() for t in long] == [True, True, False, False, False, False]
        short = by("b", line.take(is_long=False))
        await asyncio.sleep(0)
        assert short.done()
        only = turns(1)  # where there is but one thing, long turns have it too
        assert await only.take(is_long=True) == 0

    asyncio.run(scene())


@pytest.mark.parametrize("seed", range(20))
def test_turns_are_never_lost_nor_given_twice(seed: int) -> None:
    """Clients that come, leave while they wait, leave while they work, and wait too long."""
    draw = random.Random(seed)

    async def scene() -> None:
        count = draw.randint(1, 4)
        line, held, seen = turns(count, most_wait_s=0.01), Counter[int](), Counter[str]()

        async def one(is_long: bool, work_s: float) -> None:
            try:
                with line.request():
                    thing = await line.take(is_long=is_long)
                    held[thing] += 1
                    assert held[thing] == 1
                    try:
                        await asyncio.sleep(work_s)
                    finally:
                        held[thing] -= 1
                        line.give(thing, is_long=is_long)
                    seen["done"] += 1
            except RefusedRequestError as error:
                seen["refused" if error.status == 429 and 1 <= (error.retry_s or 0) <= 60 else "wrong"] += 1

        tasks = []
        for _ in range(80):
            work_s = draw.choice([0, 0, 0.0005, 0.002])
            tasks.append(by(draw.choice("abcd"), one(draw.random() < 0.3, work_s)))
            if draw.random() < 0.4:
                await asyncio.sleep(draw.choice([0, 0, 0.001]))
            if draw.random() < 0.3:
                draw.choice(tasks).cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert not [t for t in tasks if not t.cancelled() and t.exception()]
        assert line.waiting == line.running == line.requests == line.long == 0
        assert not line._clients
        assert seen["done"]
        assert not seen["wrong"]
        assert sorted([await line.take(is_long=False) for _ in range(count)]) == list(range(count))

    asyncio.run(scene())


def test_a_share_and_a_queue_are_bounded() -> None:
    async def scene() -> None:
        line = turns(1, most=4, share=2)

        async def stay(gone: asyncio.Event) -> None:
            with line.request():
                await gone.wait()

        gone = asyncio.Event()
        inside = [by("a", stay(gone)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(RefusedRequestError, match="2 requests of this address") as share:
            await by("a", stay(gone))
        inside += [by("b", stay(gone)), by("c", stay(gone))]
        await asyncio.sleep(0)
        with pytest.raises(RefusedRequestError, match="too many requests") as full:
            await by("d", stay(gone))
        for refusal in (share, full):
            assert refusal.value.status == 429
            assert refusal.value.retry_s is not None
        gone.set()
        await asyncio.gather(*inside)
        await by("a", stay(gone))
        assert line.refusals == {"share": 1, "queue": 1}

    asyncio.run(scene())


def test_only_an_ending_server_answers_503() -> None:
    async def scene() -> None:
        line = turns(1)
        await line.take(is_long=False)
        waits = by("a", line.take(is_long=False))
        await asyncio.sleep(0)
        line.end()
        with pytest.raises(RefusedRequestError) as told:
            await waits
        assert told.value.status == 503
        with pytest.raises(RefusedRequestError), line.request():
            pass

    asyncio.run(scene())


# ---- addresses
# ----------------------------------------------------------------------------------------------------------------------


def test_an_address_has_so_many_requests_a_minute() -> None:
    clock = [0.0]
    limits = ClientLimits(a_minute=60, now=lambda: clock[0])
    refusals: list[tuple[int, int | None]] = []

    def asked(client: str = "a") -> bool:
        try:
            with limits.request(client):
                return True
        except RefusedRequestError as error:
            refusals.append((error.status, error.retry_s))
            return False

    assert [asked() for _ in range(61)] == [True] * 60 + [False]
    assert asked("b")
    clock[0] += 1
    assert [asked(), asked()] == [True, False]
    clock[0] += 1e6
    assert sum(asked() for _ in range(100)) == 60
    assert set(refusals) == {(429, 1)}
    assert counted_as("2001:db8::1") == counted_as("2001:db8::ffff:2") != counted_as("2001:db9::1")


def test_an_address_has_so_many_requests_at_once() -> None:
    limits = ClientLimits(at_once=2)
    full = pytest.raises(RefusedRequestError, match="2 requests of this address")
    with limits.request("a"), limits.request("a"), limits.request("b"), full, limits.request("a"):
        pass
    files = [limits.request("a", is_light=True) for _ in range(30)]
    with contextlib.ExitStack() as all_files:
        for file in files:
            all_files.enter_context(file)
        with limits.request("a"):
            pass
    assert not limits._under_way


def test_metrics_are_read_by_prometheus() -> None:
    metrics = Metrics()
    metrics.answered("GET", "/api/models", 200, 0.02)
    metrics.answered("GET", "/api/models", 200, 500.0)
    metrics.answered("BREW", 'a"b\\c', 404, 0.0)
    metrics.read("mowich_x", "gauge", "A number.", lambda: [((), 3), ((("k", "v"),), 0.5)])
    text = metrics.text()
    lines = text.splitlines()
    assert text.endswith("\n")
    assert 'mowich_requests_total{method="GET",route="/api/models",status="200"} 2' in lines
    assert 'mowich_requests_total{method="other",route="a\\"b\\\\c",status="404"} 1' in lines
    assert 'mowich_request_seconds_bucket{route="/api/models",le="0.01"} 0' in lines
    assert 'mowich_request_seconds_bucket{route="/api/models",le="0.025"} 1' in lines
    assert 'mowich_request_seconds_bucket{route="/api/models",le="+Inf"} 2' in lines
    assert 'mowich_request_seconds_count{route="/api/models"} 2' in lines
    assert 'mowich_request_seconds_sum{route="/api/models"} 500.02' in lines
    assert len([line for line in lines if "_bucket" in line]) == 2 * (len(BOUNDS_S) + 1)
    assert lines[-2:] == ["mowich_x 3", 'mowich_x{k="v"} 0.5']
    heads = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(heads) == len(set(heads))
