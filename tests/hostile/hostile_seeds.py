"""Kept cases: hostile input that once crashed, hung, or was accepted in silence. One that must be refused says so."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from hostile_cases import COMPARED, KERNEL, SWEEP, TRACES, TRAFFIC, acme, launches, published, results
from hostile_judge import ANSWERED, REFUSED, Case

import mowich
from measured_files import GOOD
from mowich import facts

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
}
MIXTRAL = {**LLAMA, "model_type": "mixtral", "vocab_size": 32000, "num_local_experts": 8, "num_experts_per_tok": 2}
DEEPSEEK: dict[str, Any] = {
    **{k: v for k, v in LLAMA.items() if k != "num_key_value_heads"},
    "model_type": "deepseek_v2",
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "moe_intermediate_size": 1408,
    "n_routed_experts": 64,
    "num_experts_per_tok": 6,
    "n_shared_experts": 2,
    "first_k_dense_replace": 1,
}
CONFIGS: tuple[dict[str, Any], ...] = (
    {**MIXTRAL, "num_experts_per_tok": 64},
    {**MIXTRAL, "num_experts_per_tok": 9},
    *({**LLAMA, "tie_word_embeddings": value} for value in ("false", "no", [], {})),
    *({**LLAMA, "max_position_embeddings": value} for value in ("abc", -1, 1.5)),
    {**LLAMA, "num_nextn_predict_layers": -3},
    *({**LLAMA, "hidden_size": value} for value in (1e18, -4096, 0, 0.5, "4096x", True, None)),
    *({**LLAMA, "num_hidden_layers": value} for value in (1e30, -1, float("inf"), float("nan"))),
    {**LLAMA, "head_dim": -1},
    {**LLAMA, "num_attention_heads": -1},
)
DEEP = "[" * 200_000 + "]" * 200_000
LONG = "9" * 5000
TEXTS = (
    json.dumps(LLAMA)[:-1] + f', "x": {DEEP}}}',
    json.dumps(LLAMA)[:-1] + f', "vocab_size": {LONG}}}',
    json.dumps(LLAMA)[:-1] + ', "hidden_size": 8192}',
    json.dumps(LLAMA)[:-1],
    "[]",
    "",
    "\x00",
)


def configs() -> Iterator[Case]:
    for data in CONFIGS:
        yield Case("config", ("model", "m.json", "--json"), {"m.json": json.dumps(data)}, REFUSED)
    for text in TEXTS:
        yield Case("config text", ("model", "m.json", "--json"), {"m.json": text}, REFUSED)
    for layers in (28, 9999):
        dense = {**DEEPSEEK, "first_k_dense_replace": layers}
        said = "'first_k_dense_replace' is above the number of layers"
        yield Case(
            f"config dense {layers}", ("model", "m.json", "--json"), {"m.json": json.dumps(dense)}, REFUSED, said
        )
    misspelt = {k: v for k, v in LLAMA.items() if k != "num_key_value_heads"} | {"num_key_value_head": 8}
    said = "did you mean 'num_key_value_heads'?"
    yield Case("config misspelt", ("model", "m.json", "--json"), {"m.json": json.dumps(misspelt)}, REFUSED, said)
    for constant in (
        float("inf"),
        float("-inf"),
        float("nan"),
    ):  # where no shape is read, as configs of Mamba 2 have it
        unread = {**LLAMA, "time_step_limit": [0.0, constant]}
        words = ("fit", "m.json", "--train", "--seq", "1Ki", "--batch", "8seqs", "--on", "h100:8", "--json")
        yield Case("config without end", words, {"m.json": json.dumps(unread)}, ANSWERED | {3})
    for device in ("/dev/zero", "/dev/stdin", ".", "/proc/self/mem"):
        yield Case("config device", ("model", device, "--json"), codes=REFUSED)


def overlays() -> Iterator[Case]:
    text = acme()
    price, hbm, power = '"$2.10/chip/h"', '"6 TB/s"', '"1500 W"'
    changes = (
        *((price, shown) for shown in ('"$2.10/h"', '"2 W"', '"$-2.10/chip/h"', '"$0/chip/h"')),
        *(
            (hbm, shown)
            for shown in ('"1e300 TB/s"', '"-6 TB/s"', '"0 TB/s"', '"6 W"', ".inf", ".nan", LONG, '""', '" "')
        ),
        ('{value: "6 TB/s", grade: user}', "{ref: chips.acme1.power.tdp}"),
        ('"178 GiB"', '"1780 GiB"'),
        (power, '"1 W"'),
        ("devices_per_chip: {value: 1,", "devices_per_chip: {value: 1.5,"),
        ("devices_per_chip: {value: 1,", "devices_per_chip: {value: 0,"),
        ("devices_per_chip: {value: 1,", "devices_per_chip: {value: -1,"),
        ("max_chips: {value: 4096,", "max_chips: {value: .inf,"),
        ("max_chips: {value: 4096,", "max_chips: {value: .nan,"),
        ("chips: {value: 16,", "chips: {value: 0,"),
        ('"1200 TFLOP/s"', '"1200 FLOP/s"'),
        ('{value: "1200 TFLOP/s", grade: user}', "{value:  , grade: user}"),
        ('latency: {value: "10 us"', 'latency: {value: "10 d"'),
        ("      hbm_bandwidth:", '      hbm_bandwidth: {value: "60 TB/s", grade: user}\n      hbm_bandwidth:'),
        ("    name: Acme One", "    name: Acme One\n    date: 2026-99-99"),
        ("    vendor: Acme", f"    vendor: {LONG}"),
        ("chips:\n  acme1:", "chips: &c\n  acme2: *c\n  acme1:"),
    )
    for old, new in changes:
        assert old in text, old
        files = {"acme.yaml": text.replace(old, new, 1)}
        yield Case(f"overlay {new[:40]}", (*COMPARED, "--json", "--facts", "acme.yaml"), files, REFUSED)
    for files in ({"d/chips/trainium3.yml": "memory: {}\n"}, {"d/chips": "memory: {}\n"}):
        yield Case("overlay folder", ("facts", "check", "--facts", "d"), files, frozenset({5}))


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


def scenarios() -> Iterator[Case]:
    values = ("2026-99-99", "!!int abc", "!!float x", "!!timestamp x", LONG, "!!python/object:os.system x", "1" * 400)
    for value in values:
        text = SWEEP.replace("tokens: 1B", f"tokens: {value}")
        yield Case(f"sweep {value[:30]}", ("sweep", "s.yaml", "--jobs", "1", "--json"), {"s.yaml": text}, REFUSED)
    for verb, text in (("sweep", SWEEP), ("traffic", TRAFFIC)):
        bomb = BOMB + text.replace("models: gpt2", "models: *i").replace("model: gpt2", "model: *i")
        for files in ({"s.yaml": bomb}, {"s.yaml": text + text}, {"s.yaml": "x: " + "{a: " * 5000}, {"s.yaml": ""}):
            yield Case(f"{verb} file", (verb, "s.yaml", "--json"), files, REFUSED)
        yield Case(f"{verb} device", (verb, "/dev/zero", "--json"), codes=REFUSED)
    named = TRAFFIC.replace("name: chat", "name: " + "n" * 400)
    yield Case("traffic name", ("traffic", "s.yaml", "--json"), {"s.yaml": named})


def tables() -> Iterator[Case]:
    row = next(r for r in published() if r["n_chips"] == "64")
    cells = {
        "DP": ("7",),
        "TP": ("3", "0.5"),
        "precision": ("foo",),
        "task": ("foo",),
        "recompute": ("foo",),
        "fsdp_zero": ("foo",),
        "n_layers": ("0.5",),
        "seq_len": ("1.5",),
        "global_batch_seqs": ("8.5",),
        "micro_batch": ("1e-300",),
        "params_total": ("..", "9" * 400),
        "head_dim": ("9" * 400,),
        "step_time_s": ("1e300",),
    }
    for column, spoiled in cells.items():
        for cell in spoiled:
            data = {**row, column: cell}
            lines = (",".join(data), ",".join(f'"{v}"'.replace("\n", " ") for v in data.values()))
            text = "\n".join(lines) + "\n"
            yield Case(f"table {column}={cell[:9]}", ("validate", "one.csv", "--json"), {"one.csv": text})
    row = next(r for r in published() if not r["global_batch_seqs"] and not r["step_time_s"])
    data = {**row, "per_device_batch_stated": "9" * 400}
    text = "".join(",".join(f'"{v}"'.replace("\n", " ") for v in line) + "\n" for line in (list(data), data.values()))
    yield Case("table batch a device", ("validate", "one.csv", "--json"), {"one.csv": text})


def kernels() -> Iterator[Case]:
    results = ("3", "'a'", "{1}", "x.dtype", "{'a': {'b': 3}}", "lambda: 0")
    bodies = (
        *(f"return {value}" for value in results),
        *(
            "import sys; sys.exit(0)",
            "import sys; sys.exit([1])",
            "yield x",
            "raise BaseException",
            "raise GeneratorExit",
        ),
        *("return kernel.func(x)", "return nl.ndarray((128, 4.5), dtype=nl.float32, buffer=nl.shared_hbm)"),
        "return nl.ndarray((True, 4), dtype=nl.float32, buffer=nl.shared_hbm)",
        "return nl.ndarray((10**7, 10**7), dtype=nl.float32, buffer=nl.shared_hbm)",
        "for i in nl.affine_range(2.5): pass",
    )
    head = KERNEL.split("    out =", 1)[0]
    for verb in ("run", "profile"):
        words = ("kernel", verb, "k.py", "-k", "kernel", "x=float32[8,4]", "--json")
        for body in bodies:
            yield Case(f"kernel {body[:30]}", words, {"k.py": f"{head}    {body}\n"}, REFUSED)
        for operand in ("nl.psum", "(1, 2)", "'a'"):
            yield Case(f"kernel {operand}", words, {"k.py": KERNEL.replace("2.0", operand)}, REFUSED)
        for index in ("True", "2.5", "'a'", "None, None", "object()"):
            text = KERNEL.replace("src=tile[0:8, 0:4]", f"src=tile[{index}, 0:4]")
            yield Case(f"kernel index {index}", words, {"k.py": text}, REFUSED)
        for kind in ("x", "'('", "'9,9'", "object()", "(1, 2)", "[1]"):
            text = KERNEL.replace("dtype=x.dtype, buffer=nl.sbuf", f"dtype={kind}, buffer=nl.sbuf")
            yield Case(f"kernel dtype {kind}", words, {"k.py": text}, REFUSED)
        for argument in ("x=float32[100000000,100000]", "x=float32[0]", "x=float32[,]", "x=", "x"):
            yield Case(f"kernel {argument}", (*words[:5], argument, "--json"), {"k.py": KERNEL}, REFUSED)
    for more in (("--seed", "-1"), ("--out", "."), ("--out", "absent/a.npz"), ("--timeout", "0"), ("--memory", "-1")):
        yield Case(
            f"kernel {more}",
            ("kernel", "run", "k.py", "-k", "kernel", "x=float32[8,4]", *more),
            {"k.py": KERNEL},
            REFUSED,
        )


TRAIN = {"tokens": "1B", "seq": 1024, "batch": "8seqs"}


def _priced(path: str, value: float) -> object:
    changed = facts.load_facts().with_values({path: value})
    return mowich.plan("gpt2", "h100:2", train=TRAIN, top=1, facts=changed)


def calls() -> Iterator[Case]:
    asked: tuple[tuple[str, Any], ...] = (
        *((f"price {v}", lambda v=v: _priced("prices.user.h100", v)) for v in (-1.0, float("nan"), float("inf"))),
        *((f"pue {v}", lambda v=v: _priced("sites.default.pue", v)) for v in (-1.0, 0.5, float("nan"))),
        ("tokens", lambda: mowich.plan("gpt2", "h100:2", train={**TRAIN, "tokens": "1k"}, top=1)),
        *((f"top {v}", lambda v=v: mowich.plan("gpt2", "h100:2", train=TRAIN, top=v)) for v in (0, -1, 1.5, "x", [1])),
        *((f"chips {v}", lambda v=v: mowich.plan("gpt2", "h100", train=TRAIN, chips=v)) for v in (True, 1.5, "x", -1)),
        *((f"sizes {v}", lambda v=v: mowich.collective("all-reduce", "trn3-gen2", sizes=[v])) for v in (-1, 1.5, "x")),
        ("group", lambda: mowich.collective("all-reduce", "trn3-gen2", sizes=[1024], group=0)),
        *((f"replica {v}", lambda v=v: mowich.goodput("h100:1024", replica=v, samples=10, days=5)) for v in (0, -1)),
        ("seed", lambda: mowich.goodput("h100:1024", seed=-1, samples=10, days=5)),
        *((f"spares {v}", lambda v=v: mowich.power(["h100"], spares=v)) for v in (-0.5, 1.5)),
        *((f"systems {v!r}", lambda v=v: mowich.compare("gpt2", v, train=TRAIN)) for v in ([], "h100", 3, None, [3])),
        *(
            (f"ttft {v!r}", lambda v=v: mowich.plan("gpt2", "h100:1", serve={"isl": 8, "osl": 8, "ttft": v}))
            for v in (True, [1], "x")
        ),
        *(
            (f"accept {v!r}", lambda v=v: mowich.plan("gpt2", "h100:1", serve={"isl": 8, "osl": 8, "accept": v}))
            for v in (True, "abc")
        ),
    )
    for name, call in asked:
        yield Case(f"python {name}", call=call, codes=REFUSED)


def options() -> Iterator[Case]:
    base = ("compare", "gpt2", "--train", "--seq", "1Ki", "--tokens", "1B", "--on", "h100:2", "--json")
    for word in ("1_", "1__0", "½", "nan", "-1", "0", "1e400", "a" * 5000, ""):
        yield Case(f"batch {word[:9]}", (*base, "--batch", word), codes=REFUSED)
    for name in ("--set", "--on", "--batch", "--seq", "--chips", "--facts", "--price"):
        yield Case(f"batch long {name}", (*base, "--batch", "8seqs", f"{name}", "a" * 5000), codes=REFUSED)
        yield Case(f"batch long {name}=", (*base, "--batch", "8seqs", f"{name}{'a' * 5000}"), codes=REFUSED)


def logs() -> Iterator[Case]:
    """Logs of collectives in which a figure is none."""
    for name, old in (("nccl-tests", "244.67"), ("nccl-tests", "139.81"), ("nccom-test", "262.14")):
        text, setup, _ = GOOD[name]
        assert old in text, (name, text)
        for word in ("/", "{}", "\u00e9", "nan", "inf"):
            files = {"m.log": text.replace(old, word, 1)}
            words = ("calibrate", "m.log", "--on", str(setup.on), "--json")
            yield Case(f"log {name} {word}", words, files, REFUSED, "is not a number")
    for size, time in ((1073741824, 0), (0, 4200), (0, 0)):
        files = {"m.log": f"system,kind,group,bytes,time_us\nh100,all-reduce,8,{size},{time}\n"}
        yield Case(f"log csv {size} {time}", ("calibrate", "m.log"), files, said="nothing was measured")
    text, setup, _ = GOOD["forward-passes"]
    made = re.sub(r'("num_decode_requests": )\d+', r"\g<1>-1", text, count=1)
    assert made != text
    words = ("calibrate", "m.log", "--on", str(setup.on), "--model", str(setup.model), "--json")
    yield Case("log count", words, {"m.log": made}, REFUSED, "num_decode_requests is below 0")
    files = {"m.log": 'system,kind,group,bytes,time_us\n"h100,all-reduce,8,1073741824,4200\n'}
    yield Case("log csv quote", ("calibrate", "m.log", "--format", "csv"), files, REFUSED, "not a CSV table")


def below_zero() -> Iterator[Case]:
    """Latencies below zero: their logarithm went into an answer."""
    text, setup, _ = GOOD["llmperf"]
    for key in ("results_ttft_s_mean", "results_inter_token_latency_s_mean", "results_end_to_end_latency_s_mean"):
        changed = re.sub(rf'("{key}": )[0-9.]+', r"\g<1>-1", text)
        assert changed != text
        words = ("calibrate", "m.log", "--on", setup.on, "--software", setup.software, "--plan", "tp=1")
        yield Case(f"log {key}", (*words, "--format", "llmperf"), {"m.log": changed}, said="is -1000 ms")


def headers() -> Iterator[Case]:
    """Logs of collectives whose header has no time, or no size; parameters of MaxText that are no numbers."""
    text, setup, _ = GOOD["maxtext"]
    for old in ("length: 8192", "batch_size: 2.0"):
        assert old in text
        for word in ("h100", "nan", "{}"):
            words = ("calibrate", "m.log", "--on", str(setup.on), "--model", str(setup.model), "--format", "maxtext")
            made = text.replace(old, f"{old.partition(' ')[0]} {word}")
            yield Case(f"log maxtext {word}", (*words, "--json"), {"m.log": made}, REFUSED)
    for name in ("nccl-tests", "nccom-test"):
        text, setup, _ = GOOD[name]
        for old, new in (("time", "x"), ("size", "x")):
            words = ("calibrate", "m.log", "--on", str(setup.on), "--format", name, "--json")
            yield Case(f"log {name} {old}", words, {"m.log": text.replace(old, new)}, REFUSED)


def names() -> Iterator[Case]:
    """Names of files that no file can have."""
    long = "a" * 400
    for words in (
        *(("sweep", long), ("traffic", long), ("fleet", long), ("calibrate", long), ("kernel", "run", long)),
        *(("kernel", "check", long), ("kernel", "profile", long), ("kernel", "diff", long, long)),
        *(("report", long), ("explain", long), ("validate", long), ("model", f"{long}.json"), ("model", f"{long}/x")),
        ("kernel", "run", "k.py", "-k", "kernel", "x=float32[8,4]", "--out", long),
        (*COMPARED, "--facts", long),
        (*COMPARED, "--out", long),
        (*COMPARED, "--plan", long),
    ):
        yield Case(f"name {' '.join(words)[:30]}", words, {"k.py": KERNEL}, REFUSED)
    for verb in (mowich.sweep, mowich.traffic, mowich.fleet, mowich.calibrate, mowich.validate):
        yield Case(f"name {verb.__name__} zero byte", call=lambda verb=verb: verb("\x00"), codes=REFUSED)  # type: ignore[misc]


def launch_files() -> Iterator[Case]:
    """Counts of launch files that are none: one crashed, fractions were cut off."""
    for name, old in (
        ("kubernetes", "--max-num-seqs 1 "),
        ("vllm", "--tensor-parallel-size "),
        ("sglang", "--tp-size "),
        ("megatron", "--tensor-model-parallel-size "),
        ("torchtitan", "--parallelism.data_parallel_shard_degree "),
        ("maxtext", "ici_fsdp_parallelism:"),
    ):
        words, text = launches()[name]
        for value in ("$0/chip/h", "1.5", "x", "-1", "0", "nan"):
            quoted = f"'{value}'"
            made = re.sub(rf"({re.escape(old.rstrip('1 '))})([ =]*)[\w\"']+", rf"\1\g<2>{quoted}", text, count=1)
            assert made != text, (name, text)
            yield Case(f"launch {name} {value}", words, {"launch": made}, REFUSED)

    words, text = launches()["torchtitan"]
    made = re.sub(r"(--nproc-per-node)[ =]*\d+", r"\1 null", text, count=1)
    assert made != text
    yield Case("launch null", words, {"launch": made})
    left_out = text.replace("--compile.enable", "'--compile\nenable'")
    assert left_out != text
    yield Case("launch of two lines", words, {"launch": left_out})


def saved() -> Iterator[Case]:
    """Results whose settings are no lists, or whose spread is beyond all numbers."""
    huge = json.loads(json.dumps(results()[0]))
    huge["rows"][0]["spread"][0]["at_high"] = 1e12
    yield Case("saved spread", ("report", "r.json", "--html", "r.html", "-q"), {"r.json": json.dumps(huge)})
    nothing = json.loads(json.dumps(results()[0]))
    nothing["rows"][0]["chips_used"] = 1e-300
    yield Case("saved zero", ("report", "r.json", "--html", "r.html", "-q"), {"r.json": json.dumps(nothing)}, REFUSED)
    for name in ("facts_dirs", "set"):
        for value in (7, "x", {"a": 1}, True, 1.5):
            data = {**results()[3], "inputs": {**results()[3]["inputs"], name: value}}
            words = ("explain", "r.json", "memory_B.weights", "--json")
            yield Case(f"saved {name}", words, {"r.json": json.dumps(data)}, REFUSED, "not a list")
    for key, value, said in (
        ("vpp", "1e400", "vpp of the plan: not a legal degree"),
        ("micro_batch", None, "micro_batch of the plan: not a legal degree"),
        ("dp", 0, "dp of the plan: not a legal degree"),
        ("sp", "yes", "sp of the plan: true or false"),
        ("schedule", "1f1c", "unknown schedule of a plan"),
    ):
        data = {**results()[3], "plan": {**results()[3]["plan"], key: value}}
        yield Case(f"saved plan {key}", ("explain", "r.json", "memory_B"), {"r.json": json.dumps(data)}, REFUSED, said)


def loads() -> Iterator[Case]:
    """Answers and prompts that no cache holds: such a request was sent back at the end of the cache for ever."""
    for length in ("10M", "1e300", "uniform(10M, 20M)", "lognormal(1e200, p95 1e250)", "exponential(1e300)"):
        for old in ('output: "lognormal(20, p95 60)"', "prompt: 100"):
            assert old in TRAFFIC
            text = TRAFFIC.replace(old, f'{old.partition(":")[0]}: "{length}"')
            yield Case(f"load {length}", ("traffic", "s.yaml", "--json"), {"s.yaml": text}, REFUSED | {3})
    text = TRAFFIC.replace('output: "lognormal(20, p95 60)"', "output: null")
    assert text != TRAFFIC
    yield Case("load null", ("traffic", "s.yaml", "--json"), {"s.yaml": text}, REFUSED, "has no value")
    for limit in ("max_num_seqs: 16", "max_num_batched_tokens: 1024"):
        for count in ("1e300", "2M"):
            text = TRAFFIC.replace(limit, f"{limit.partition(':')[0]}: {count}")
            yield Case(f"load {limit}", ("traffic", "s.yaml", "--json"), {"s.yaml": text}, REFUSED, "1 to 1,048,576")
    for cv in ("1e300", "1e160", "101"):
        text = TRAFFIC.replace("cv: 1.5", f"cv: {cv}")
        assert text != TRAFFIC
        yield Case(
            f"load cv {cv}", ("traffic", "s.yaml", "--json"), {"s.yaml": text}, REFUSED, "must lie in 0.01 to 100"
        )
    for count in ("1T", "1e18", "1e300", "101M"):
        text = TRAFFIC.replace("requests: 40", f"requests: {count}")
        yield Case(f"load requests {count}", ("traffic", "s.yaml", "--json"), {"s.yaml": text}, REFUSED)
    for trace in TRACES:
        for length in ("9" * 400, "1e300", "10" * 12):
            text = re.sub(r"(,|: )(48|67)\b", rf"\g<1>{length}", trace, count=1)
            assert text != trace
            load = TRAFFIC.replace(TRAFFIC[TRAFFIC.index("traffic: ") :].partition("\n")[0], "traffic: {trace: t.csv}")
            files = {"s.yaml": load, "t.csv": text}
            yield Case(f"load trace {length[:9]}", ("traffic", "s.yaml", "--json"), files, REFUSED)


KEPT = (
    *(configs, overlays, scenarios, tables, logs, below_zero, headers, loads, launch_files, saved, names),
    *(kernels, calls, options),
)
"""What makes each kind of them; some need answers, so they are made when they are asked for."""
