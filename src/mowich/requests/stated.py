"""Where a result states what was asked, for fields whose value is not one key of its inputs (`Field.told`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mowich.plans.forward import FORWARD_TASKS
from mowich.requests.fields import Field
from mowich.shown import Result
from mowich.units import StepBatch, exact_words


def inputs_of(result: Result) -> Result:
    """What a result says of its question."""
    return result.get("inputs") or {}


def nowhere(result: Result) -> object:
    """Of a field that a result does not state: the form of its answer, what shares a key with another field."""
    return None


def stated_where(is_so: Callable[[Result], bool], key: str) -> Callable[[Result], object]:
    """A key of the inputs, in the results that it is a part of."""
    return lambda result: inputs_of(result).get(key) if is_so(result) else None


def given_at(key: str) -> Callable[[Result], object]:
    """A key of the inputs, where 0 and "" stand for what was not given."""
    return lambda result: inputs_of(result).get(key) or None


def in_rows(key: str) -> Callable[[Result], object]:
    """What each row has under a key."""
    return lambda result: [row[key] for row in result["rows"]]


def sizes_asked(result: Result) -> object:
    """The sizes of a collective, a row each; weights have none."""
    return [f"{row['bytes']}B" for row in result["rows"]] if is_among_chips(result) else None


def is_among_chips(result: Result) -> bool:
    """Whether a collective is one of chips, and no weights that are sent."""
    return not inputs_of(result).get("model")


def at_keys(keys: str) -> Callable[[Result], object]:
    """What a result has under keys in keys, "inputs.asked.vary"; None where one of them is not there."""
    return lambda result: _within(result, keys)


def _within(result: Result, keys: str) -> object:
    found: object = result
    for key in keys.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def kept_in(keys: str, *fields: Field[object]) -> tuple[Field[object], ...]:
    """Fields whose values a result keeps as they were given, by their names, in a mapping of its inputs."""
    return tuple(replace(field, told=at_keys(f"inputs.{keys}.{field.name}")) for field in fields)


def of_job(job: str, *fields: Field[object]) -> tuple[Field[object], ...]:
    """Fields of one job of a result that may have two, each a mapping of its inputs."""

    def told(field: Field[object]) -> Callable[[Result], object]:
        return lambda result: field.stated({"inputs": {"task": job, **(inputs_of(result).get(job) or {})}})

    return tuple(replace(field, told=told(field)) for field in fields)


def scenario_word(path: str) -> str:
    """A scenario for a command: one that ships by its name, which works in any folder; another by its path.

    >>> from mowich.examples import names_of
    >>> scenario_word(str(names_of("scenarios")["rainier"])), scenario_word("mine.yaml")
    ('rainier', 'mine.yaml')
    """
    from mowich.examples import names_of

    ships = names_of("scenarios").get(Path(path).stem)
    return Path(path).stem if ships is not None and Path(path).resolve() == ships.resolve() else path


def scenario_asked(result: Result) -> object:
    """The scenario of a question that has one."""
    return scenario_word(str(inputs_of(result)["scenario"]))


def has_scenario(result: Result) -> bool:
    """Whether a scenario was asked, and not a model."""
    return "scenario" in inputs_of(result)


def swept_words(result: Result) -> object:
    """What is swept: a scenario, or models."""
    return scenario_asked(result) if has_scenario(result) else ",".join(inputs_of(result)["models"])


def axes_varied(result: Result) -> object:
    """`--vary`: an axis each.

    >>> axes_varied({"inputs": {"asked": {"vary": {"plan.tp": "1,2"}}}})
    ['plan.tp=1,2']
    """
    axes = _within(result, "inputs.asked.vary")
    return [f"{key}={text}" for key, text in axes.items()] if isinstance(axes, Mapping) else None


def settings_asked(result: Result) -> object:
    """`--set`: what was set, and the choices of the plan that came by keywords or from a file.

    >>> settings_asked({"inputs": {"fixed": {"tp": [4, 8], "pp": [1]}, "set": ["plan.pp=1"]}})
    ['plan.pp=1', 'plan.tp=4,8']
    """
    said, fixed = inputs_of(result).get("set") or (), inputs_of(result).get("fixed") or {}
    plan = {f"plan.{key}": ",".join(map(str, values)) for key, values in fixed.items()}
    set_there = {str(item).partition("=")[0] for item in said}
    return [*said, *(f"{key}={text}" for key, text in plan.items() if key not in set_there)]


def swept_settings(result: Result) -> object:
    """`--set` of a sweep: choices of the plan that came by keywords, and what else was set."""
    said, fixed = inputs_of(result).get("set") or (), _within(result, "inputs.asked.fixed")
    own = [f"plan.{key}={text}" for key, text in fixed.items()] if isinstance(fixed, Mapping) else []
    return [*own, *(item for item in said if item not in own)]


def asks_flips(result: Result) -> bool:
    """Whether a fleet looks for what flips it; without a word of that, whether something was found."""
    return bool(inputs_of(result).get("flips") or result.get("flips"))


def what_if_words(result: Result) -> object:
    """`--what-if`; without a word of that, the system that the answer is about."""
    return inputs_of(result).get("what_if") or _within(result, "what_if.system")


def tenant_words(result: Result) -> object:
    """`--tenant`: its name and share."""
    tenant = inputs_of(result).get("tenant")
    return tenant and "{name}={share:.12g}".format(**tenant)


def rows_asked(result: Result) -> object:
    """The file of measured rows; None for the one that ships and needs no name."""
    return None if result.get("file") == "published/training.csv" else result.get("file")


def has_job(job: str) -> Callable[[Result], bool]:
    """Whether a result that may have two jobs has this one."""
    return lambda result: bool(inputs_of(result).get(job))


def has_key(key: str) -> Callable[[Result], bool]:
    """Whether a result has a part that a flag asks for."""
    return lambda result: key in result


# ---- the job
# ----------------------------------------------------------------------------------------------------------------------


def is_served(result: Result) -> bool:
    """Whether the job is serving."""
    return inputs_of(result).get("task") == "serve"


def asks_passes(result: Result) -> bool:
    """Whether the job is forward passes."""
    return inputs_of(result).get("task") in FORWARD_TASKS


def is_trained(result: Result) -> bool:
    """Whether the job is training."""
    return not is_served(result) and not asks_passes(result)


def is_drawn(result: Result) -> bool:
    """Whether the job is images or clips."""
    return inputs_of(result).get("task") == "diffuse"


def has_sizes(result: Result) -> bool:
    """Whether an image is given in pixels, not in tokens."""
    return bool(inputs_of(result).get("height"))


def task_words(result: Result) -> object:
    """`--task`: the forward passes, or the kind of training."""
    inputs = inputs_of(result)
    if asks_passes(result):
        return inputs["task"]
    if inputs.get("lora_rank"):
        return f"lora:{inputs['lora_rank']}:{','.join(inputs['lora_targets'])}"
    task = inputs.get("train_task", "pretrain")
    return None if task == "pretrain" else task


def batch_words(result: Result) -> object:
    """`--batch`: items, or sequences with how far a plan may be off.

    >>> batch_words({"inputs": {"batch_seqs": 512.0, "batch_within": 0.05}})
    '512seqs~5%'
    """
    inputs = inputs_of(result)
    if inputs.get("batch_seqs") is None:
        return inputs.get("batch")
    return str(StepBatch(sequences=inputs["batch_seqs"], within=inputs.get("batch_within") or 0.0))


def images_asked(result: Result) -> object:
    """How many images a request has."""
    images = inputs_of(result).get("images")
    return images["count"] if images else None


def image_words(result: Result) -> object:
    """Pixels of an image: "1024x768"."""
    images = inputs_of(result).get("images")
    return "{width:.0f}x{height:.0f}".format(**images) if images else None


def token_price_words(result: Result) -> object:
    """What tokens are sold at, as it is asked.

    >>> token_price_words({"inputs": {"sells": {"low": 0.3, "value": 0.42, "high": 0.6}}})
    '$0.3..$0.6/Mtok'
    """
    price = inputs_of(result).get("sells")
    return price and f"{'..'.join(dict.fromkeys(f'${price[end]:.12g}' for end in ('low', 'high')))}/Mtok"


def trained_words(result: Result) -> object:
    """The model or the scenario of a run of reinforcement learning; a text of a scenario stands in scenario.yaml."""
    asked = inputs_of(result)["asked"]
    return scenario_word("scenario.yaml" if "yaml" in asked else str(asked.get("model")))


def asks_for(name: str) -> Callable[[Result], bool]:
    """Whether an algorithm was named, by its flag or as a word."""

    def told(result: Result) -> bool:
        asked = inputs_of(result)["asked"]
        return bool(asked.get("algorithm") == name or asked.get(name))

    return told


def amount_at(key: str) -> Callable[[Result], object]:
    """A key of the inputs in the unit of what a result values."""

    def told(result: Result) -> object:
        value = inputs_of(result).get(key)
        return None if value is None else exact_words(value, result["unit"])

    return told


# ---- the systems
# ----------------------------------------------------------------------------------------------------------------------


def model_words(result: Result) -> object:
    """The model in the words of the question; of a result that does not have them, its name."""
    inputs = inputs_of(result)
    return str(inputs.get("model_given") or inputs.get("model") or "")


def models_asked(result: Result) -> object:
    """The models in the words of the question; of a result that does not have them, their names."""
    inputs = inputs_of(result)
    return inputs.get("models_given") or inputs["models"]


def systems_asked(result: Result) -> object:
    """The systems that are not there already; where a question has one, its name."""
    inputs = inputs_of(result)
    return [s["system"] for s in inputs["systems"] if not s.get("there")] if "systems" in inputs else inputs.get("on")


def systems_there(result: Result) -> object:
    """The systems that are there already."""
    return [s["system"] for s in inputs_of(result).get("systems", ()) if s.get("there")]


def system_at(place: int) -> Callable[[Result], object]:
    """One of the systems that are set beside each other."""
    return lambda result: inputs_of(result)["systems"][place]["system"]


def chips_asked(result: Result) -> object:
    """`--chips`. A bare name without it is one unit: its size is said, so that the command stands alone."""
    inputs = inputs_of(result)
    is_compared = inputs.get("verb", "compare") == "compare" and "rows" in result and "plans" not in result
    if is_compared or "chips" in inputs or not inputs.get("systems"):
        return inputs.get("chips")
    first = inputs["systems"][0]
    return None if any(c in first["system"] for c in ":*") else first["chips"]


def plans_asked(result: Result) -> object:
    """`--top`: as many plans as the answer has."""
    return len(result["rows"] if asks_passes(result) else result.get("plans", ())) or None


def engine_asked(result: Result) -> object:
    """The engine that was named, or that all systems have where a question is of one."""
    inputs = inputs_of(result)
    if not is_served(result):
        return None
    engines = _named(inputs.get("systems", ()), "engine")
    is_one = len(engines) == 1 and result["schema"] != "mowich/compare@1"
    return inputs.get("software") or (engines[0] if is_one else None)


def stack_asked(result: Result) -> object:
    """The training software that was named, or that all systems have where it is not what their makers ship."""
    from mowich.software.vendors import ships_with

    inputs = inputs_of(result)
    if not is_trained(result):
        return inputs.get("stack")
    systems = inputs.get("systems", ())
    stacks = _named(systems, "stack")
    is_one = len(stacks) == 1 and not all(ships_with(s.get("id"), stacks[0]) for s in systems)
    return inputs.get("software") or (stacks[0] if is_one else None)


def _named(systems: Sequence[Result], key: str) -> list[object]:
    return list(dict.fromkeys(s.get(key) for s in systems))
