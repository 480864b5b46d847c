"""The command line that makes a result again, from the inputs that the result holds."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from mowich.show.page import Result
from mowich.software.vendors import default_stacks
from mowich.units import parse, parse_count, show, show_count


def command_of(result: Result) -> str:
    """ "mowich compare deepseek-v3 --train ... --on trn3,gb300"; "" where the inputs do not say (a kernel's
    arguments)."""
    inputs: Mapping[str, Any] = result.get("inputs") or {}
    verb = str(result["schema"]).removeprefix("mowich/").partition("@")[0]
    words = _words(verb, inputs, result)
    if not words:
        return ""
    words += [w for s in inputs.get("set") or () for w in ("--set", str(s))]
    words += [w for d in inputs.get("facts_dirs") or () for w in ("--facts", str(d))]
    return " ".join(["mowich", verb, *map(shlex.quote, words)])


def _given(inputs: Mapping[str, Any], **flags: str) -> list[str]:
    """Flags whose input is there and is not a neutral value."""
    out: list[str] = []
    for key, flag in flags.items():
        value = inputs.get(key)
        if value is not None and value != "":
            out += [flag, f"{value:.12g}" if isinstance(value, float) else str(value)]
    return out


def _tokens(value: float) -> str:
    """ "15T" where that says it exactly."""
    words = show_count(value)
    return words if parse_count(words, minimum=0) == value else f"{value:.12g}"


def _words(verb: str, inputs: Mapping[str, Any], result: Result) -> list[str]:
    model = str(inputs.get("model_given") or inputs.get("model") or "")
    if verb in ("compare", "plan", "fit"):
        on = ",".join(s["system"] for s in inputs["systems"])
        # a bare name without --chips is one unit: its size is said, so that the command stands alone
        first = inputs["systems"][0]
        chips = (
            inputs.get("chips")
            if verb == "compare"
            else None
            if any(c in first["system"] for c in ":*")
            else first["chips"]
        )
        size = [] if chips is None else ["--chips", str(chips)]
        if inputs.get("task") == "serve":
            engine = {s.get("engine") for s in inputs["systems"]}
            flags = _given(inputs, isl="--isl", osl="--osl", kv_tokens="--kv", accept="--accept") + [
                w
                for key, flag in (("ttft_s", "--ttft"), ("tpot_s", "--tpot"))
                if inputs.get(key) is not None
                for w in (flag, f"{1e3 * inputs[key]:g} ms")
            ]
            flags += ["--cached", f"{inputs['cached']:g}"] if inputs.get("cached") else []
            flags += ["--engine", str(engine.pop())] if len(engine) == 1 and verb != "compare" else []
            return [model, "--serve", *flags, "--on", on, *size]
        batch = f"{inputs['batch_seqs']:.12g}seqs"
        tokens = [] if verb == "fit" else ["--tokens", _tokens(float(inputs["tokens"]))]
        task = str(inputs.get("train_task", "pretrain"))
        if inputs.get("lora_rank"):
            task = f"lora:{inputs['lora_rank']}:{'+'.join(inputs['lora_targets'])}"
        more = [] if task == "pretrain" else ["--task", task]
        more += _given(inputs, document="--document", fill="--fill")
        stacks = {s.get("stack") for s in inputs["systems"]}
        more += ["--stack", str(stacks.pop())] if len(stacks) == 1 and not stacks & default_stacks() else []
        more += ["--equal", str(inputs["equal"])] if inputs.get("equal", "chips") != "chips" else []
        more += [f"--{extra}" for extra, key in (("neighbours", "why"), ("pareto", "pareto")) if key in result]
        more += ["--top", str(len(result["plans"]))] if verb == "plan" and len(result["plans"]) != 5 else []
        return [model, "--train", *tokens, "--seq", str(inputs["seq"]), "--batch", batch, "--on", on, *size, *more]
    if verb in ("traffic", "sweep"):
        return [str(inputs["scenario"])]
    if verb == "fleet":
        return [
            str(inputs["scenario"]),
            *(["--lp"] if inputs.get("relaxed") else []),
            *_given(inputs, gap="--gap", draws="--draws", seed="--seed"),
            *(["--flips"] if result.get("flips") else []),
        ]
    if verb == "collective":
        sizes = ",".join(f"{r['bytes']}B" for r in result["rows"])
        fails = [w for f in inputs["faults"] for w in ("--fail", f)] + [
            w for b in inputs["beside"] for w in ("--beside", b)
        ]
        over = inputs.get("oversubscription", 1.0)
        return [
            inputs["kind"],
            "--on",
            inputs["on"],
            "--bytes",
            sizes,
            *_given(inputs, group="--group", network="--network"),
            *([] if over == 1.0 else ["--oversubscription", f"{over:g}"]),
            *fails,
        ]
    if verb == "goodput":
        names = ",".join(r["strategy"] for r in result["rows"])
        every = [] if inputs.get("checkpoint_s") is None else ["--checkpoint", f"{inputs['checkpoint_s']:g} s"]
        return [
            "--on",
            inputs["on"],
            "--days",
            f"{inputs['days']:g}",
            "--step",
            f"{inputs['step_s']:g} s",
            "--strategy",
            names,
            "--spares",
            f"{inputs['spare_share']:g}",
            "--replica",
            str(inputs["replica_chips"]),
            "--samples",
            str(inputs.get("samples", 1000)),
            "--seed",
            str(inputs.get("seed", 0)),
            *every,
        ]
    if verb == "power":
        watts = inputs["cap_W"]
        cap = (
            []
            if watts is None
            else ["--cap", words if parse(words := show(watts, "W"), "W").value == watts else f"{watts:.12g} W"]
        )
        tokens = (
            []
            if inputs["tokens_per_s_per_chip"] is None
            else ["--tokens-per-s", f"{inputs['tokens_per_s_per_chip']:g}"]
        )
        return [
            "--on",
            ",".join(r["system"] for r in result["rows"]),
            *cap,
            *([] if not inputs["spares"] else ["--spares", f"{inputs['spares']:g}"]),
            *tokens,
        ]
    if verb == "model":
        return [str(result["name"]), "--seq", str(result["seq"]), "--kv-bytes", f"{result['bytes_per_element']:g}"]
    if verb == "validate":
        return [] if result.get("file") == "published/training.csv" else [str(result["file"])]
    return []
