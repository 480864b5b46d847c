"""The command line that makes a result again: the values of the question, from the inputs that the result holds, as the
schema of its verb writes them (`requests.schema.Schema.command`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mowich.examples import names_of
from mowich.requests import brief, calibrate, gaps, jobs, kernels, known, machines, results, rl, scenarios, verify
from mowich.requests.room import schema_of_room, values_asked
from mowich.requests.rooms import room_of
from mowich.requests.schema import Schema, Values
from mowich.requests.settings import OPTIMIZER, RECIPE
from mowich.shown import Result
from mowich.software.stack import OPTIMIZER_CHOSEN, RECIPE_CHOSEN
from mowich.software.vendors import default_stacks
from mowich.units import write_value


def command_of(result: Result) -> str:
    """ "mowich compare deepseek-v3 --train ... --on trn3,gb300"; "" where the inputs do not say (a kernel's
    arguments)."""
    inputs: Result = result.get("inputs") or {}
    verb = str(result["schema"]).removeprefix("mowich/").partition("@")[0]
    asked = _VERBS.get(str(inputs["verb"]) if verb == "forward" else verb)
    room = room_of(result.get("schema"))
    if room is not None:
        settings = {"set": inputs.get("set"), "facts": inputs.get("facts_dirs")}
        return schema_of_room(room).command({**values_asked(room, inputs), **settings})
    if asked is None:
        return ""
    schema, values_of = asked
    settings = {**_settings(schema, inputs.get("set") or ()), "facts": inputs.get("facts_dirs")}
    values = values_of(inputs, result)
    own = values.get("set")
    if isinstance(own, list):  # choices that came by keywords
        settings["set"] = [*own, *(item for item in inputs.get("set") or () if item not in own)]
    return schema.command({**values, **settings})


def _settings(schema: Schema[object], said: Sequence[str]) -> Values:
    """What changed facts, as options: recipe and optimizer by their own, where the verb has them."""
    out: dict[str, object] = {"set": list(said)}
    for field, path in ((RECIPE, RECIPE_CHOSEN), (OPTIMIZER, OPTIMIZER_CHOSEN)):
        if field in schema.fields:
            short, left = f"{path}=", list(out["set"])  # type: ignore[call-overload]
            out[field.name] = next((item.removeprefix(short) for item in left if item.startswith(short)), None)
            out["set"] = [item for item in left if not item.startswith(short)]
    return out


def _work(inputs: Result, result: Result) -> Values:
    """A job on systems. A bare name without --chips is one unit: its size is said, so that the command stands alone."""
    first = inputs["systems"][0]
    is_compared = inputs.get("verb", "compare") == "compare" and "rows" in result and "plans" not in result
    sized = inputs.get("chips") if is_compared else None if any(c in first["system"] for c in ":*") else first["chips"]
    values = {
        "model": str(inputs.get("model_given") or inputs.get("model") or ""),
        "on": [s["system"] for s in inputs["systems"] if not s.get("there")],
        "have": [s["system"] for s in inputs["systems"] if s.get("there")],
        "power": inputs.get("power_W"),
        "per": inputs.get("per"),
        "sells": token_price_words(inputs["sells"]) if inputs.get("sells") else None,
        "within": inputs.get("within_s"),
        "chips": sized,
        "equal": inputs.get("equal"),
        "budget": inputs.get("budget_usd"),
        "days": inputs.get("days"),
    }
    told = {"serve": _served, "diffuse": _passes, "encode": _passes}.get(str(inputs.get("task")), _trained)
    return values | told(inputs, result)


def token_price_words(price: Result) -> str:
    """What tokens are sold at, as it is asked.

    >>> token_price_words({"low": 0.3, "value": 0.42, "high": 0.6})
    '$0.3..$0.6/Mtok'
    """
    ends = dict.fromkeys(f"${price[end]:.12g}" for end in ("low", "high"))
    return f"{'..'.join(ends)}/Mtok"


def _passes(inputs: Result, result: Result) -> dict[str, object]:
    """Forward passes: sizes where they were given, else tokens."""
    sizes = ("height", "width", "frames") if inputs.get("height") else ("tokens",)
    own = ("steps", "branches") if inputs["task"] == "diffuse" else ()
    names = {"branches": "guidance", "latency_s": "latency"}
    told = {names.get(key, key): inputs.get(key) for key in ("task", *sizes, *own, "batch", "latency_s", "stack")}
    return {**told, "top": len(result["rows"])}


def _served(inputs: Result, result: Result) -> dict[str, object]:
    engines = {s.get("engine") for s in inputs["systems"]}
    images = inputs.get("images")
    width, height = (images[side] for side in ("width", "height")) if images else (0.0, 0.0)
    return {
        "serve": True,
        **{name: inputs.get(name) for name in ("isl", "osl", "accept")},
        "ttft": inputs.get("ttft_s"),
        "tpot": inputs.get("tpot_s"),
        "kv": inputs.get("kv_tokens"),
        **({} if images is None else {"images": images["count"], "image_size": f"{width:.0f}x{height:.0f}"}),
        "cached": inputs.get("cached") or None,
        "engine": inputs.get("software")
        or (engines.pop() if len(engines) == 1 and result["schema"] != "mowich/compare@1" else None),
    }


def _rates(inputs: Result, result: Result) -> Values:
    """A job of serving under a load, on one system or several."""
    load = {"rate": "rate", "users": "users", "think": "think_s", "p99_ttft": "p99_ttft_s", "p99_tpot": "p99_tpot_s"}
    return {
        **_work(inputs, result),
        **{name: inputs.get(key) or None for name, key in load.items()},
        "seed": inputs.get("seed"),
    }


def _trained(inputs: Result, result: Result) -> dict[str, object]:
    task = str(inputs.get("train_task", "pretrain"))
    if inputs.get("lora_rank"):
        task = f"lora:{inputs['lora_rank']}:{'+'.join(inputs['lora_targets'])}"
    stacks = {s.get("stack") for s in inputs["systems"]}
    return {
        "train": True,
        **{name: inputs.get(name) for name in ("tokens", "seq", "document", "fill", "sites", "outer_every")},
        "site_link": inputs.get("site_Bps"),
        "batch": f"{inputs['batch_seqs']:.12g}seqs"
        + (f"~{inputs['batch_within'] * 100:.12g}%" if inputs.get("batch_within") else ""),
        "task": None if task == "pretrain" else task,
        "stack": inputs.get("software")
        or (stacks.pop() if len(stacks) == 1 and not stacks & default_stacks() else None),
        "neighbours": "why" in result,
        "pareto": "pareto" in result,
        "top": len(result.get("plans", ())) or None,
    }


def _brief(inputs: Result, result: Result) -> Values:
    return {"against": ",".join(inputs["against"]), "models": ",".join(inputs["models"])}


def _gap(inputs: Result, result: Result) -> Values:
    first, second = (s["system"] for s in inputs["systems"])
    return {
        **_work(inputs, result),
        "first": first,
        "second": second,
        "chips": inputs.get("chips"),
        "metric": inputs["metric"],
        "seed": inputs["seed"] or None,
    }


def _value(inputs: Result, result: Result) -> Values:
    jobs: dict[str, object] = {}
    for task, told in (("train", _trained), ("serve", _served)):
        if inputs[task] is not None:
            own = {**inputs[task], "systems": [{"stack": inputs["stack"], "engine": inputs["engine"]}]}
            jobs |= told(own, {"schema": result["schema"]})
    return {
        **jobs,
        **{name: inputs.get(name) for name in ("on", "of", "chips", "points", "stack", "engine")},
        **{end: None if inputs[end] is None else write_value(inputs[end], result["unit"]) for end in ("low", "high")},
        "models": inputs.get("models_given") or inputs["models"],
    }


def _collective(inputs: Result, result: Result) -> Values:
    if inputs["kind"] == machines.WEIGHTS_KIND:
        own = ("kind", "on", "to", "method", "worker", "weights")
        return {**{name: inputs.get(name) for name in own}, "model": inputs["model"], "link": inputs["link_Bps"]}
    return {
        **{name: inputs.get(name) for name in ("kind", "on", "group", "network", "oversubscription", "beside")},
        "sizes": [f"{r['bytes']}B" for r in result["rows"]],
        "fail": inputs["faults"],
    }


def _goodput(inputs: Result, result: Result) -> Values:
    return {
        **{name: inputs.get(name) for name in ("on", "days", "samples", "seed")},
        "step": inputs["step_s"],
        "strategy": [r["strategy"] for r in result["rows"]],
        "spares": inputs["spare_share"],
        "replica": inputs["replica_chips"],
        "checkpoint": inputs.get("checkpoint_s"),
    }


def _power(inputs: Result, result: Result) -> Values:
    return {
        "on": [r["system"] for r in result["rows"]],
        "cap": inputs["cap_W"],
        "spares": inputs["spares"],
        "tokens_per_s": inputs["tokens_per_s_per_chip"],
    }


def _fleet(inputs: Result, result: Result) -> Values:
    return {
        **{name: inputs.get(name) for name in ("relaxed", "gap", "draws", "seed")},
        **_scenario(inputs, result),
        "flips": bool(result.get("flips")),
        "tenant": "{name}={share:.12g}".format(**inputs["tenant"]) if inputs.get("tenant") else None,
    }


def scenario_word(path: str) -> str:
    """A scenario for a command: one that ships by its name, which works in any folder; another by its path.

    >>> scenario_word(str(names_of("scenarios")["rainier"])), scenario_word("mine.yaml")
    ('rainier', 'mine.yaml')
    """
    ships = names_of("scenarios").get(Path(path).stem)
    return Path(path).stem if ships is not None and Path(path).resolve() == ships.resolve() else path


def _scenario(inputs: Result, result: Result) -> Values:
    return {"scenario": scenario_word(str(inputs["scenario"]))}


def _sweep(inputs: Result, result: Result) -> Values:
    """A scenario, or models with a job, and the axes that were given."""
    asked = inputs.get("asked") or {}
    values: dict[str, object] = dict(asked.get("axes") or {})
    values["vary"] = [f"{key}={text}" for key, text in (asked.get("vary") or {}).items()]
    if "scenario" in inputs:
        return {**values, **_scenario(inputs, result)}
    fixed = [f"plan.{key}={text}" for key, text in (asked.get("fixed") or {}).items()]
    work = "serve" if inputs.get("task") == "serve" else "train"
    return {**values, "scenario": ",".join(inputs["models"]), work: True, "set": fixed}


def _traffic(inputs: Result, result: Result) -> Values:
    rules = {"autoscale": inputs.get("rules", ()), "regret": bool(inputs.get("regret"))}
    return {**_scenario(inputs, result), "draws": inputs.get("draws"), **rules}


def _rl(inputs: Result, result: Result) -> Values:
    """As it was asked; an algorithm by its flag, choices of a plan as the command line writes them."""
    asked = dict(inputs["asked"])
    algorithm = asked.pop("algorithm", None)
    if "yaml" in asked:
        asked["model"] = "scenario.yaml"
    pairs = {
        name: ",".join(f"{key}={'|'.join(map(str, x if isinstance(x, list) else [x]))}" for key, x in value.items())
        for name, value in asked.items()
        if isinstance(value, Mapping)
    }
    flag = {algorithm: True} if algorithm not in (None, "distill") else {}
    return {**asked, **pairs, **flag, "model": scenario_word(str(asked.get("model")))}


def _model(inputs: Result, result: Result) -> Values:
    return {"model": str(result["name"]), "seq": result["seq"], "kv_bytes": result["bytes_per_element"]}


def _validate(inputs: Result, result: Result) -> Values:
    return {"file": None if result.get("file") == "published/training.csv" else result["file"]}


def _calibrate(inputs: Result, result: Result) -> Values:
    plan = ",".join(f"{key}={value}" for key, value in inputs["plan"].items())
    return {
        **{name: inputs.get(name) for name in ("files", "on", "model", "software", "scenario")},
        "overlay": inputs.get("out"),
        "ran": plan or None,
    }


def _verify(inputs: Result, result: Result) -> Values:
    return {"result": inputs["result"] or "RESULT", "files": inputs["logs"], "pick": str(inputs["pick"])}


def _layer(inputs: Result, result: Result) -> Values:
    return {
        "model": str(inputs.get("model_given") or inputs["model"]),
        **{name: inputs.get(name) for name in ("on", "tp", "lnc", "batch", "context")},
        "prefill": inputs["phase"] == "prefill",
        "library": inputs["library"] or None,
    }


def _claims(inputs: Result, result: Result) -> Values:
    return {"word": inputs.get("word")}


_VERBS: Mapping[str, tuple[Schema[object], Callable[[Result, Result], Values]]] = {
    "compare": (jobs.COMPARE, _work),
    "plan": (jobs.PLAN, _work),
    "rates": (jobs.PLAN, _rates),
    "fit": (jobs.FIT, _work),
    "brief": (brief.BRIEF, _brief),
    "gap": (gaps.GAP, _gap),
    "value": (gaps.VALUE, _value),
    "sweep": (scenarios.SWEEP, _sweep),
    "traffic": (scenarios.TRAFFIC, _traffic),
    "rl": (rl.RL, _rl),
    "fleet": (scenarios.FLEET, _fleet),
    "collective": (machines.COLLECTIVE, _collective),
    "goodput": (machines.GOODPUT, _goodput),
    "power": (machines.POWER, _power),
    "model": (known.MODEL_VIEW, _model),
    "validate": (results.VALIDATE, _validate),
    "claims": (results.CLAIMS, _claims),
    "calibrate": (calibrate.CALIBRATE, _calibrate),
    "verify": (verify.VERIFY_RUN, _verify),
    "kernel-layer": (kernels.LAYER, _layer),
}
"""Verb -> its schema, and the values of its question from a result's inputs."""
