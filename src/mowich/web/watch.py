"""What a server counts of itself: queues, processes, refusals, connections, memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from mowich.sums import float_sum
from mowich.web.cache import AnswerCache
from mowich.web.clients import ClientLimits
from mowich.web.connections import ConnectionBook
from mowich.web.metrics import Metrics, Samples
from mowich.web.turns import Turns
from mowich.web.workers import ProcessPool, Workers, memory_now_B


def server_metrics(
    cache: AnswerCache,
    workers: Workers,
    kernels: Turns[str],
    limits: ClientLimits,
    book: ConnectionBook | None,
) -> Metrics:
    """Counts of requests, and what is read of a server when they are asked for."""
    metrics = Metrics()
    pools = workers.pools

    def queues(waiting: bool) -> Samples:
        of: Mapping[str, int] = {
            **{name: pool.turns.waiting if waiting else pool.turns.running for name, pool in pools.items()},
            "kernels": kernels.waiting if waiting else kernels.running,
        }
        return [((("queue", name),), n) for name, n in of.items()]

    def by_pool(value: Callable[[ProcessPool], float]) -> Callable[[], Samples]:
        return lambda: [((("pool", name),), value(pool)) for name, pool in pools.items()]

    def refusals() -> Samples:
        counted: Counter[str] = Counter(limits.refusals)
        for pool in pools.values():
            counted.update(pool.turns.refusals)
        counted.update(kernels.refusals)
        return [((("why", why),), counted[why]) for why in ("at once", "a minute", "share", "queue", "wait")]

    def stopped() -> Samples:
        return [
            ((("pool", name), ("why", why)), pool.stopped[why])
            for name, pool in pools.items()
            for why in ("late", "left")
        ]

    def memory() -> Samples:
        yield (("process", "server"),), memory_now_B()
        for name, pool in pools.items():
            for i, worker in enumerate(pool.workers):
                yield (("process", f"{name}-{i}"),), worker.memory_B

    def closed() -> Samples:
        return [] if book is None else [((("why", why),), n) for why, n in sorted(book.closed.items())]

    read = metrics.read
    read("mowich_queue_waiting", "gauge", "Turns that are waited for.", lambda: queues(True))
    read("mowich_queue_running", "gauge", "Turns that run.", lambda: queues(False))
    read(
        "mowich_queue_requests",
        "gauge",
        "Requests in the house, waiting or running.",
        by_pool(lambda p: p.turns.requests),
    )
    read("mowich_refused_total", "counter", "Requests answered 429, by the limit.", refusals)
    read("mowich_stopped_total", "counter", "Tasks stopped at their deadline, or because nobody waited.", stopped)
    read("mowich_workers", "gauge", "Processes that compute.", by_pool(lambda p: len(p.workers)))
    read(
        "mowich_worker_restarts_total",
        "counter",
        "Processes that were ended and started again.",
        by_pool(lambda p: float_sum(w.restarts for w in p.workers)),
    )
    read("mowich_memory_bytes", "gauge", "Memory of each process; of a worker, after its last task.", memory)
    read("mowich_cache_bytes", "gauge", "Answers that are kept.", lambda: [((), cache.size_B)])
    read("mowich_connections", "gauge", "Open connections.", lambda: [((), len(book.addresses) if book else 0)])
    read("mowich_connections_closed_total", "counter", "Connections that the server ended first, by why.", closed)
    return metrics
