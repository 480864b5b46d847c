"""The test modules captured on the meta device and run for real: parameters and FLOP exact, bad input one line.

`make test-capture` runs it. FLOP are compared with `torch.utils.flop_counter`, which counts both halves of causal
attention and every expert.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mowich.capture.__main__ import captured
from mowich.capture.dimensions import at
from mowich.capture.document import digest, written
from mowich.capture.inputs import loaded, token_inputs
from mowich.capture.problem import CaptureError

MODULES = Path(__file__).parent / "modules"
SIZES = (4, 96)
"""Batch and tokens that no probe has."""


def flop_of(document: Mapping[str, Any], batch: int, tokens: int) -> int:
    """Forward FLOP as the counter has them: products, both halves of causal cores, experts as they run."""
    total = 0
    for layer in [*document["layers"], document["outside"]]:
        work = sum(2 * p["n"] * p["k"] * at(p["rows"], batch, tokens) * p["times"] for p in layer["products"])
        for core in layer["cores"]:
            sequences, queries, keys = (at(core[key], batch, tokens) for key in ("sequences", "queries", "keys"))
            work += 2 * sequences * queries * keys * core["heads"] * (core["qk"] + core["v"])
        for one in layer["experts"]:
            count = one["number"] if one["run"] == "all" else one["top_k"]
            work += 2 * at(one["rows"], batch, tokens) * count * (2 + one["gated"]) * one["ffn"] * one["width"]
        total += work * layer["count"]
    return total


def check_counts(name: str, inputs: str | None = None, function: str = "build") -> dict[str, Any]:
    """Parameters and FLOP of a module against PyTorch's own counts."""
    spec = f"{MODULES / name}.py:{function}"
    start = time.process_time()
    document = captured(spec, inputs=inputs)
    seconds = time.process_time() - start
    code, _ = loaded(spec)
    made = getattr(code, function)()
    model, given = made if isinstance(made, tuple) else (made, getattr(code, inputs or "", token_inputs))
    params = sum(one.numel() for one in model.parameters())
    assert document["params"] == params == sum(document["components"].values()), (name, document["params"], params)
    of_layers = sum(layer["count"] * layer["params"] for layer in document["layers"])
    assert document["components"]["layers"] == of_layers, name
    for layer in [*document["layers"], document["outside"]]:
        own = [p["n"] * p["k"] + p["biases"] for p in layer["products"] if p["weight"] and not p["shared"]]
        assert layer["params"] >= sum(own) + sum(one["params"] for one in layer["experts"]), (name, layer["module"])
    assert len(document["pattern"]) == sum(layer["count"] for layer in document["layers"]), name
    values = [torch.zeros(one.shape, dtype=one.dtype) for one in given(*SIZES).values()]
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        model.eval().requires_grad_(False)(*values)
    counted, found = counter.get_total_flops(), flop_of(document, *SIZES)
    assert counted == found, f"{name}: {found:,} FLOP captured, {counted:,} counted"
    assert document["digest"] == digest(json.loads(written(document))), name
    assert seconds < 10, f"{name}: {seconds:.1f} CPU s"
    print(f"{name:14} {params:>12,} parameters {found:>18,} FLOP {seconds:5.2f} CPU s")
    return document


def refused(run: Callable[[], Any]) -> str:
    """The one line with which something is refused."""
    try:
        run()
    except CaptureError as error:
        line = str(error)
        assert line.isprintable(), line
        return line
    raise AssertionError("it was not refused")


def fails(words: str, *arguments: str) -> None:
    """The command refuses bad input in a line with these words."""
    code, line = command(*arguments)
    assert code == 2, line
    assert words in line, line


def command(*arguments: str) -> tuple[int, str]:
    """Exit code and error of the command line."""
    done = subprocess.run(
        [sys.executable, "-m", "mowich.capture", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", "src")},
    )
    assert done.stdout == ""
    assert done.stderr.count("\n") <= 1, done.stderr
    return done.returncode, done.stderr.strip()


def check_forms(documents: Mapping[str, dict[str, Any]]) -> None:
    """What each module is understood as."""
    llama = documents["llama_like"]
    (layer,) = llama["layers"]
    (core,) = layer["cores"]
    assert (core["heads"], core["kv_heads"], core["causal"], core["eager"]) == (8, 2, True, False)
    assert (llama["kind"], llama["vocab"], layer["count"], layer["blocks"], layer["norms"]) == (
        "decoder",
        1000,
        4,
        2,
        2,
    )
    assert layer["cached_elements"] == 2 * 2 * 32
    assert not llama["tied"]
    gpt2 = documents["gpt2_like"]
    (layer,) = gpt2["layers"]
    (core,) = layer["cores"]
    assert core["eager"]
    assert core["causal"]
    assert not core["masked"]
    assert gpt2["tied"]
    assert gpt2["components"]["head"] == 0
    assert [p["n"] for p in layer["products"]] == [384, 128, 512, 128]
    assert [(p["shared"], p["role"]) for p in gpt2["outside"]["products"]] == [(True, "vocabulary")]
    (layer,) = documents["experts_loop"]["layers"]
    (experts,) = layer["experts"]
    assert (experts["number"], experts["top_k"], experts["run"]) == (8, 2, "all")
    dit = documents["dit"]["layers"][0]
    assert dit["cores"][0]["queries"] == [77, 0, 1, 0]
    assert dit["blocks"] == 3
    assert {p["module"]: p["rows"] for p in dit["products"]}["modulation"] == [0, 1, 0, 0]
    seq2seq = documents["seq2seq"]
    assert seq2seq["kind"] == "encoder-decoder"
    assert seq2seq["pattern"] == [0, 0, 1, 1]
    assert [core["causal"] for core in seq2seq["layers"][1]["cores"]] == [True, False]
    assert documents["shared"]["pattern"] == [0, 1, 1, 1]
    assert documents["window"]["layers"][0]["cores"][0]["window"] == 64
    assert documents["stages"]["pattern"] == [0, 0, 1, 1]
    (note,) = documents["shared"]["notes"]
    assert "compares positions with 4096, more than the 384 tokens of a pass" in note
    assert not documents["window"]["notes"]


def check_refusals() -> None:
    """Each way to go wrong is one line that names the place."""
    for spec, words in {
        "reads_value.py:build": ("reads_value.py:15", "item", "--value"),
        "raises.py:build": ("raises.py:8", "ValueError: no such checkpoint in two lines"),
        "raises.py:runs_badly": ("raises.py:13", "forward raised RuntimeError"),
        "raises.py:no_module": ("gave no module, got 'dict'",),
        "raises.py:loop": ("its operations grow with tokens", "--scan"),
        "raises.py:cubes": ("module cube", "aten.", "is not a + b*batch"),
        "raises.py:nothing": ("no function 'nothing'", "build"),
        "no_file.py:build": ("no such file",),
    }.items():
        line = refused(lambda spec=spec: captured(str(MODULES / spec)))
        assert all(word in line for word in words), line
    assert "MODULE:BUILD" in refused(lambda: captured("build"))
    assert "no module named" in refused(lambda: captured("no_such_module:build"))
    early = captured(str(MODULES / "reads_value.py:build"), values={"reads_value.py:15": 0})
    assert early["reads"] == [{"module": "", "what": "item", "where": "reads_value.py:15", "count": 2}]
    picked = captured(str(MODULES / "reads_value.py:picked"))
    assert [read["what"] for read in picked["reads"]] == ["nonzero"]


def check_command() -> None:
    """The command writes the same bytes each time, and nothing where it fails."""
    spec = str(MODULES / "gpt2_like.py:build")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model.json"
        for _ in range(2):
            before = out.read_bytes() if out.exists() else None
            assert command(spec, "--out", str(out), "--set", "layers=2", "--name", "small") == (0, "")
        assert out.read_bytes() == before
        assert json.loads(out.read_text())["pattern"] == [0, 0]
        assert [one.name for one in Path(folder).iterdir()] == ["model.json"]
        fails("cannot be written", spec, "--out", str(Path(folder) / "none" / "model.json"))
        fails("--out", spec)
        fails("KEY=VALUE", spec, "--out", str(out), "--set", "no equals")
        fails("nothing", spec, "--out", str(out), "--inputs", "nothing")


def main() -> int:
    sys.path.insert(0, str(MODULES))
    torch.backends.mha.set_fastpath_enabled(False)  # it would hide products from the counter
    documents = {name: check_counts(name) for name in ("llama_like", "gpt2_like", "experts_loop", "dit", "seq2seq")}
    documents["vit"] = check_counts("vit", inputs="inputs")
    documents |= {name: check_counts("variants", function=name) for name in ("shared", "window", "stages", "unusual")}
    before = copy.deepcopy(documents)
    check_forms(documents)
    assert before == documents
    check_refusals()
    check_command()
    return 0


if __name__ == "__main__":
    sys.exit(main())
