"""The command line that makes a result again: the values of the question, from the inputs that the result holds, as the
schema of its verb writes them (`requests.schema.Schema.command`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mowich.examples import names_of
from mowich.requests import brief, calibrate, gaps, jobs, kernels, known, results, rl, scenarios, verify
from mowich.requests.room import schema_of_room
from mowich.requests.rooms import room_of
from mowich.requests.schema import Schema, Values
from mowich.requests.settings import OPTIMIZER, RECIPE
from mowich.shown import Result
from mowich.software.stack import OPTIMIZER_CHOSEN, RECIPE_CHOSEN
from mowich.units import write_value


def command_of(result: Result) -> str:
    """ "mowich compare deepseek-v3 --train ... --on trn3,gb300"; "" where the inputs do not say (a kernel's
    arguments)."""
    inputs: Result = result.get("inputs") or {}
    verb = str(result["schema"]).removeprefix("mowich/").partition("@")[0]
    verb = str(inputs["verb"]) if verb == "forward" else verb
    room = room_of(result.get("schema"))
    schema, own_values = (schema_of_room(room), None) if room is not None else _VERBS.get(verb, (None, None))
    if schema is None:
        return ""
    settings = {**_settings(schema, inputs.get("set") or ()), "facts": inputs.get("facts_dirs")}
    values = schema.stated(result) if own_values is None else own_values(inputs, result)
    own = None if own_values is None else values.get("set")
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


def _value(inputs: Result, result: Result) -> Values:
    jobs: dict[str, object] = {}
    for task in ("train", "serve"):
        if inputs[task] is not None:
            own = gaps.VALUE.stated({**result, "inputs": {"task": task, **inputs[task]}})
            jobs |= {name: value for name, value in own.items() if value is not None}
    return {
        **jobs,
        **{name: inputs.get(name) for name in ("on", "of", "chips", "points", "stack", "engine")},
        **{end: None if inputs[end] is None else write_value(inputs[end], result["unit"]) for end in ("low", "high")},
        "models": inputs.get("models_given") or inputs["models"],
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


_VERBS: Mapping[str, tuple[Schema[object], Callable[[Result, Result], Values] | None]] = {
    "compare": (jobs.COMPARE, None),
    "plan": (jobs.PLAN, None),
    "rates": (jobs.PLAN, None),
    "fit": (jobs.FIT, None),
    "brief": (brief.BRIEF, None),
    "gap": (gaps.GAP, None),
    "value": (gaps.VALUE, _value),
    "sweep": (scenarios.SWEEP, _sweep),
    "traffic": (scenarios.TRAFFIC, _traffic),
    "rl": (rl.RL, _rl),
    "fleet": (scenarios.FLEET, _fleet),
    "model": (known.MODEL_VIEW, _model),
    "validate": (results.VALIDATE, _validate),
    "calibrate": (calibrate.CALIBRATE, _calibrate),
    "verify": (verify.VERIFY_RUN, _verify),
    "kernel-layer": (kernels.LAYER, _layer),
}
"""Verb -> its schema, and what makes the values of its question of the inputs and the result; None: its fields say
where they stand (`Schema.stated`)."""
