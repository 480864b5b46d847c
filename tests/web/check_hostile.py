"""Malformed, huge and hostile requests get 4xx, never 5xx: schemathesis on the OpenAPI, then requests that are nearly
right. Exits 1 where one was not.

schemathesis mostly sends names that do not exist; the second part starts from requests that are answered and spoils a
field or two, so that it gets past the reader and into the models.
"""

from __future__ import annotations

import collections
import copy
import json
import random
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from serving import BUILD, server

NEARLY = 1500
EXAMPLES = 8
"""Requests that schemathesis makes up for each operation, beside those of its coverage phase, which takes every border
of every field once."""
MOST_SECONDS = 1500
SEED = 9

WORDS: list[Any] = [
    0,
    -1,
    1,
    2,
    3,
    7,
    1e-300,
    1e300,
    2**63,
    10**30,
    0.1,
    True,
    None,
    "",
    " ",
    "0",
    "-0",
    "1e400",
    "NaN",
    "inf",
    "1T",
    "15Ti",
    "0.5seqs",
    "1seqs",
    "16384 seqs",
    "4k",
    "4Ki",
    "999999999",
    "1e18",
    "é",
    "\u0000",
    "a" * 33,
    "a" * 5000,
    "..",
    "/etc/passwd",
    "../../x",
    "config.json",
    "~",
    "%00",
    "${x}",
    "'; --",
    "<script>",
    [],
    {},
    [1],
    {"a": 1},
    "trn3",
    "trn3:0",
    "trn3:1",
    "trn3:7",
    "trn3*0",
    "trn3*99999999",
    "ironwood:4x4x8",
    "ironwood:1x1x1",
    "ironwood:0x4x4",
    "gb300:1",
    "trn4",
    "h100:3",
    "all-reduce",
    "plan.tp=3",
    "plan.zero=9",
    "plan.tp=all",
    "prices.term=3y",
    "site.pue=1",
    "chips.trainium3.memory.hbm_capacity=1 GiB",
    "chips.trainium3.memory.hbm_bandwidth=1 B/s",
    "systems.trn3-gen2.max_chips=1",
    "prices.trn3=$0.0000001/chip/h",
    "100%",
    "99.9%",
    "0.999999",
    "1ns",
    "1e9 s",
    "lora:1",
    "lora:99999999",
    "sft",
    "link:3",
    "chip:5",
    "link:999999",
]

AMOUNTS = [
    "1",
    "2",
    "3",
    "7",
    "63",
    "64",
    "100",
    "1000",
    "4099",
    "65536",
    "1000000",
    "1M",
    "1G",
    "1T",
    "100T",
    "1e15",
    "1seqs",
    "3seqs",
    "1000000seqs",
    "100000000seqs",
    "1ns",
    "1us",
    "1ms",
    "100 s",
    "1e6 s",
    "0%",
    "50%",
    "1B",
    "1PiB",
    "0.001",
]

TRAIN = {"tokens": "15T", "seq": 4096, "batch": "1024seqs"}
CONFIG = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
}
MOE = {
    "model_type": "mixtral",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 32000,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
}
YAML = (
    "mowich: 1\nworkload:\n  model: llama-3.1-8b\n  train: {tokens: 1T, seq: 4096, batch: 256seqs}\nsystems: [trn3,"
    " h100]\nchips: 64\n"
)
FLEET = Path(__file__).parents[2] / "scenarios" / "startup.yaml"


def right() -> list[tuple[str, dict[str, Any]]]:
    """Requests that are answered."""
    fleet = FLEET.read_text(encoding="utf-8")
    base = {
        "model": "llama-3.1-8b",
        "on": ["trn3", "h100"],
        "chips": 64,
        "train": TRAIN,
        "set": ["site.pue=1.1"],
        "equal": "usd",
    }
    serve = {
        "model": "llama-3.1-8b",
        "on": ["trn3", "h100"],
        "chips": 16,
        "serve": {"isl": "8k", "osl": "1k", "ttft": "2s", "tpot": "50ms", "cached": "60%", "accept": 2},
    }
    near = {"h100": {"tp": 2, "pp": 1, "ep": 1, "cp": 1, "precision": "fp8"}}
    return [
        ("compare", base),
        ("compare", {**base, "equal": None, "near": near}),
        ("compare", serve),
        ("compare", {**base, "model": CONFIG, "equal": "power"}),
        ("compare", {**base, "model": MOE}),
        ("serve", {**serve, "model": MOE}),
        (
            "plan",
            {k: v for k, v in base.items() if k != "equal"}
            | {"on": "h100", "top": 3, "pareto": True, "neighbours": True},
        ),
        ("fit", {"model": CONFIG, "on": "trn3", "kv": "64k"}),
        ("fit", {"model": MOE, "on": "h100:8", "train": TRAIN}),
        (
            "collective",
            {
                "kind": "all-reduce",
                "on": "trn3-gen2",
                "sizes": ["1MiB"],
                "group": 64,
                "fail": ["link:3"],
                "beside": ["all-to-all:72-143"],
                "oversubscription": 2,
            },
        ),
        ("goodput", {"on": "h100:1024", "days": 90, "step": "5 s", "samples": 10}),
        ("explain", {"ask": {k: v for k, v in base.items() if k != "equal"}, "metric": "h100.step_s.dp"}),
        ("model", {"model": CONFIG}),
        ("scenario", {"yaml": YAML}),
        ("fleet", {"yaml": fleet, "relaxed": True}),
        ("report", {k: v for k, v in base.items() if k != "equal"}),
    ]


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of everything inside a request."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [p for k, v in inner for p in [(*at, k), *places(v, (*at, k))]]


def spoiled(body: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    """One or two fields replaced, removed or doubled; in a text a word or a line."""
    out = copy.deepcopy(body)
    for _ in range(draw.choice([1, 1, 2])):
        path = draw.choice(places(out))
        holder = out
        for key in path[:-1]:
            holder = holder[key]
        old = holder[path[-1]]
        if isinstance(old, str) and "\n" in old:
            lines = old.splitlines()
            i = draw.randrange(len(lines))
            what = draw.random()
            word = draw.choice(WORDS)
            if what < 0.4:
                parts = lines[i].split(": ", 1)
                lines[i] = f"{parts[0]}: {word}"
            elif what < 0.7:
                lines[i] = lines[i].replace(draw.choice(lines[i].split() or [""]), str(word)[:200])
            elif what < 0.85:
                del lines[i]
            else:
                lines.insert(i, lines[i])
            holder[path[-1]] = "\n".join(lines)
        elif draw.random() < 0.12:
            if isinstance(holder, dict):
                del holder[path[-1]]
            else:
                holder.append(copy.deepcopy(old))
        elif isinstance(old, int | float) and not isinstance(old, bool) and draw.random() < 0.5:
            holder[path[-1]] = draw.choice([old * 2, old + 1, old - 1, old * 1000, old / 3, -old])
        elif isinstance(old, str) and old[:1].isdigit() and draw.random() < 0.7:
            holder[path[-1]] = draw.choice(AMOUNTS)
        else:
            holder[path[-1]] = copy.deepcopy(draw.choice(WORDS))
    return out


def nearly(base: str) -> int:
    """Spoiled requests; how many were not answered with 200 or 4xx."""
    draw, codes, bad, slow = random.Random(SEED), collections.Counter(), 0, 0.0
    with httpx.Client(base_url=base, timeout=90) as http:
        for path, body in right():
            answer = http.post(f"/api/{path}", json=body)
            if answer.status_code != 200:
                print(f"FAILED the unspoiled {path} is answered {answer.status_code}: {answer.text[:300]}")
                bad += 1
        for _ in range(NEARLY):
            path, body = draw.choice(right())
            sent = spoiled(body, draw)
            begin = time.monotonic()
            try:
                answer = http.post(
                    f"/api/{path}", content=json.dumps(sent), headers={"content-type": "application/json"}
                )
                code, text = answer.status_code, answer.text
            except httpx.HTTPError as error:
                code, text = 0, repr(error)
            slow = max(slow, time.monotonic() - begin)
            codes[code] += 1
            if code == 0 or code >= 500 or (code >= 400 and not json.loads(text)["errors"]):
                bad += 1
                print(f"FAILED {code} /api/{path} {json.dumps(sent)[:600]}\n       {text[:300]}")
        raw = [
            b"",
            b"null",
            b"[]",
            b"{",
            b"\xff\xfe",
            b"[" * 50_000,
            b'{"a":' * 5_000,
            b"x" * 300_000,
            b'{"model": "' + b"a" * 250_000 + b'"}',
            b'{"chips": ' + b"9" * 9_000 + b"}",
            b'{"model": "gpt2", "model": "gpt2"}',
        ]
        for path in ("compare", "plan", "fleet", "explain", "scenario", "model"):
            for content in raw:
                answer = http.post(f"/api/{path}", content=content, headers={"content-type": "application/json"})
                codes[answer.status_code] += 1
                if answer.status_code >= 500 or answer.status_code == 200:
                    bad += 1
                    print(f"FAILED {answer.status_code} /api/{path} {content[:60]!r}")
        if http.get("/api/about").status_code != 200:
            bad += 1
    print(
        f"nearly right, seed {SEED}: {sum(codes.values())} requests, by status {dict(sorted(codes.items()))}; slowest"
        f" {slow:.1f} s; failed {bad}"
    )
    return bad


def fuzzed(base: str) -> int:
    """schemathesis on every operation of the OpenAPI, bounded so that it ends; 1 where it found something, ran out of
    time or left an operation out."""
    tool = Path(sys.executable).with_name("schemathesis")
    words = [
        str(tool),
        "run",
        f"{base}/openapi.json",
        "--url",
        base,
        "--phases",
        "examples,coverage,fuzzing",
        "--max-examples",
        str(EXAMPLES),
        "--seed",
        str(SEED),
        "--request-timeout",
        "120",
        "--no-shrink",
        "--generation-database",
        "none",
        "--workers",
        "1",
        "--checks",
        "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
    ]
    httpx.get(f"{base}/api/validate", timeout=300)  # predicted once, then kept
    operations = sum(len(verbs) for verbs in httpx.get(f"{base}/openapi.json").json()["paths"].values())
    begin = time.monotonic()
    try:
        BUILD.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=MOST_SECONDS, cwd=BUILD)
    except subprocess.TimeoutExpired:
        print(f"FAILED schemathesis was not done after {MOST_SECONDS} s")
        return 1
    took = time.monotonic() - begin
    found = re.search(r"Tested: (\d+)", done.stdout)
    tested = int(found[1]) if found else 0
    cases = re.search(r"(\d[\d,]*) generated", done.stdout)
    good = done.returncode == 0 and tested == operations
    print(
        f"{'ok    ' if good else 'FAILED'} schemathesis, seed {SEED}: {tested} of {operations} operations,"
        f" {cases[1] if cases else '?'} requests in {took:.0f} s"
    )
    if not good:
        print(done.stdout[:4000], "...", done.stdout[-4000:], sep="\n")
    return 0 if good else 1


PARTS = {"nearly": nearly, "fuzzed": fuzzed}


def main() -> int:
    """Both parts, or those that are named."""
    chosen = sys.argv[1:] or list(PARTS)
    with server() as base:
        httpx.get(f"{base}/first.json", timeout=120)
        bad = sum(PARTS[part](base) for part in chosen)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
