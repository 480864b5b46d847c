"""50 clients at once for a minute, each moving sliders: no request is lost, and small requests are not held up by large
ones. Exits 1 where one was lost."""

from __future__ import annotations

import asyncio
import collections
import random
import statistics
import sys
import time
from typing import Any

import httpx

from serving import server

CLIENTS, SECONDS = 50, 60
SYSTEMS = ["trn2", "trn3", "trn4", "ironwood", "gb300", "h200", "tpu-v5p"]


def some(draw: random.Random) -> tuple[str, str, dict[str, Any] | None]:
    """What one client asks next: mostly comparisons of all sizes, some of everything else."""
    kind = draw.random()
    model = draw.choice(["llama-3.1-8b", "llama-3.1-70b", "llama-3.1-405b", "deepseek-v3", "gpt-oss-120b"])
    on = draw.sample(SYSTEMS, draw.randint(2, 5))
    if kind < 0.55:
        train = {"tokens": "15T", "seq": draw.choice([4096, 8192]), "batch": f"{draw.choice([1024, 2048, 4096])}seqs"}
        return (
            "POST",
            "/api/compare",
            {"model": model, "on": on, "chips": draw.choice([256, 512, 1024, 2048, 4096]), "train": train},
        )
    if kind < 0.75:
        return (
            "POST",
            "/api/compare",
            {
                "model": model,
                "on": on,
                "chips": draw.choice([16, 32, 64]),
                "serve": {"isl": draw.choice(["1k", "4k", "8k"]), "osl": "1k"},
            },
        )
    if kind < 0.8:
        return "POST", "/api/fit", {"model": model, "on": "trn3", "kv": "64k"}
    if kind < 0.85:
        return (
            "POST",
            "/api/collective",
            {"kind": "all-reduce", "on": "trn3-gen2", "sizes": [f"{draw.randint(1, 64)}MiB"]},
        )
    if kind < 0.9:
        return (
            "POST",
            "/api/compare",
            {"model": model, "on": ["trn33"], "chips": 64, "train": {"tokens": "1T", "seq": 4096, "batch": "256seqs"}},
        )
    return (
        "GET",
        draw.choice(
            [
                "/",
                "/static/main.js",
                "/api/facts/trn3",
                "/api/systems",
                "/first.json",
                "/api/facts/side?name=trn3&name=gb300",
            ]
        ),
        None,
    )


async def client(base: str, seed: int, end: float, seen: list[tuple[str, int, float]]) -> None:
    draw = random.Random(seed)
    async with httpx.AsyncClient(base_url=base, timeout=120) as http:
        while time.monotonic() < end:
            method, path, body = some(draw)
            begin = time.monotonic()
            try:
                answer = await http.request(method, path, json=body)
                status = answer.status_code
                if status == 200 and path == "/api/compare":
                    status = 200 if answer.json()["result"]["complete"] else 599
            except httpx.HTTPError as error:
                print(f"lost: {type(error).__name__} {path}")
                status = 0
            seen.append((path if path.startswith("/api") else "page", status, time.monotonic() - begin))


async def storm(base: str) -> list[tuple[str, int, float]]:
    seen: list[tuple[str, int, float]] = []
    end = time.monotonic() + SECONDS
    await asyncio.gather(*(client(base, seed, end, seen) for seed in range(CLIENTS)))
    return seen


def main() -> int:
    with server() as base:
        httpx.get(f"{base}/first.json", timeout=120)
        begin = time.monotonic()
        seen = asyncio.run(storm(base))
        took = time.monotonic() - begin
        alive = httpx.get(f"{base}/api/about", timeout=10).status_code
    codes = collections.Counter(status for _, status, _ in seen)
    lost = [s for s in seen if s[1] == 0 or s[1] >= 500]
    times = collections.defaultdict(list)
    for path, _, seconds in seen:
        times[path.split("?")[0]].append(seconds)
    print(
        f"{CLIENTS} clients, {took:.0f} s: {len(seen)} requests, {len(seen) / took:.0f}/s, by status"
        f" {dict(sorted(codes.items()))}; lost or 5xx: {len(lost)}"
    )
    for path, all_s in sorted(times.items(), key=lambda item: -len(item[1])):
        print(
            f"  {path:<18} {len(all_s):>6}  median {1e3 * statistics.median(all_s):8.0f} ms   worst"
            f" {1e3 * max(all_s):8.0f} ms"
        )
    return 1 if lost or alive != 200 else 0


if __name__ == "__main__":
    sys.exit(main())
