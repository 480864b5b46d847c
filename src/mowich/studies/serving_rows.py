"""One row of serving measurements -> one `ServingCase`: what served, how it was spread, under which load, and what was measured.

Tables fold plans (tp already multiplied by ep), leave the cache format, the rounds and speculation open, and mix campaigns. Each rule here
names what it repaired or filled in (`inferred`); a row that cannot be read honestly is refused with a reason, by rule or by id
(`facts/published/serving_notes.yaml`). Nothing here looks at a prediction.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from mowich.errors import UserError
from mowich.facts import Facts
from mowich.machines.system import System, resolve
from mowich.plans.serving import ServePlan
from mowich.simulate.engines import architecture
from mowich.workloads import load as load_model
from mowich.workloads.model import Model, Moe

Row = Mapping[str, str]

METRICS = ("tpot_ms", "ttft_ms", "output_tok_s_per_chip")
"""What a row may state; each gives one result."""

REQUIRED = ("id", "chip", "n_chips", "framework", "model", "precision", "mode", "tp", "isl", "osl", "concurrency")
"""Columns without which a file is not a table of serving measurements."""

NUMBERS = ("n_chips", "tp", "pp", "dp", "ep", "isl", "osl", "concurrency", "batch", "ttft_ms", "tpot_ms", "output_tok_s",
           "output_tok_s_per_chip", "moe_tp")  # fmt: skip


class RefusedError(Exception):
    """A row that cannot be modelled; the text is the reason shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingCase:
    """A row, read. users: requests in flight per rank group; chips: of the worker; mean_length: mean over nominal length; rounds: requests
    per user; speculates: whether several tokens are verified per step, accept: tokens per step if stated; skip: metrics not to score."""

    id: str
    chip: str
    source: str
    campaign: str
    engine: str
    version: str
    date: str
    model: Model
    arch: str
    system: System
    chips: int
    plan: ServePlan
    prompt: float
    output: float
    users: float
    mean_length: float
    rounds: float
    is_static: bool
    speculates: bool
    accept: float | None
    cached: float
    measured: Mapping[str, float]
    inferred: tuple[str, ...]
    skip: Mapping[str, str]
    fully_specified: bool


@cache
def notes() -> Mapping[str, Any]:
    """`serving_notes.yaml`."""
    import yaml

    text = (resources.files("mowich.facts") / "published" / "serving_notes.yaml").read_text(encoding="utf-8")
    loaded: Mapping[str, Any] = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return loaded


def _within(row_id: str, ids: Iterable[str]) -> bool:
    """Whether an id is listed, alone or inside a range "m00010-m00020"."""
    for item in ids:
        first, _, last = str(item).partition("-")
        if row_id == first or (last and len(row_id) == len(first) and first <= row_id <= last):
            return True
    return False


_SUFFIX = re.compile(r"[-_](fp8|nvfp4|fp4|mxfp4|bf16|int4|awq|gptq|w8a8|hf|v0\.\d)([-_].*)?$", re.IGNORECASE)


@cache
def find_model(name: str) -> Model:
    """A model by the name that a table uses, with suffixes of precision taken off. Raises UserError."""
    tried = name
    while True:
        try:
            return load_model(tried)
        except UserError as error:
            shorter = _SUFFIX.sub("", tried)
            if shorter == tried:
                other = notes().get("models", {}).get(name.rsplit("/", 1)[-1].casefold())
                if other and other != tried:
                    tried = other
                    continue
                raise error
            tried = shorter


def engine_of(framework: str) -> str:
    """The engine whose constants a framework's name asks for. Raises RefusedError for one that is not known."""
    for entry in notes()["engines"]:
        if re.search(entry["pattern"], framework, re.IGNORECASE):
            return str(entry["engine"])
    raise RefusedError(f"engine '{framework}' is not known")


def _number(row: Row, key: str) -> float | None:
    text = (row.get(key) or "").strip()
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _degree(row: Row, key: str) -> int:
    return max(1, int(_number(row, key) or 1))


def unfold(tp: int, dp: int, ep: int, moe_tp: int) -> tuple[int, int, int, str]:
    """(tp, dp, ep, what was repaired): undoes plans whose tp or dp was already multiplied by ep or dp.

    (16, 1, 4, 4) is TP4 with EP4 on 4 chips; (1, 64, 8, 8) attention DP 8 with EP8; (4, 4, 16, 1) attention DP 4 with EP4.
    """
    if ep > 1 and moe_tp == ep:
        if dp == 1 and tp == ep * moe_tp:
            return ep, 1, ep, f"tp={ep} (folded: tp {tp} counts ep {ep} twice)"
        if tp == 1 and dp == ep * moe_tp:
            return 1, ep, ep, f"dp={ep} (folded: dp {dp} counts ep {ep} twice)"
    if tp == dp > 1 and ep == tp * dp:
        return 1, dp, dp, f"tp=1, ep={dp} (folded: attention is data-parallel over {dp})"
    return tp, dp, ep, ""


def weights_of(row: Row, model: Model, system: System) -> tuple[str, str]:
    """(format of the weights, how it was read, "" when stated)."""
    word = (row.get("precision") or "").casefold()
    note = (row.get("notes") or "").casefold()
    tail = word.partition("weights ")[2] or word
    native = "mxfp4" if model.architecture.startswith("gpt_oss") or "gpt-oss" in model.name else ""
    if "int4" in tail or "int4_wo" in note:
        return "int4", ""
    if "int8" in tail:
        return "int8", ""
    if native and ("fp4" in tail or not word):
        return native, "" if word else "precision not stated: the checkpoint's own"
    if "mxfp4" in tail:
        return "mxfp4", ""
    if "fp4" in tail:
        name = "nvfp4" if "nvfp4" in system.peak_flops or system.vendor == "NVIDIA" else "mxfp4"
        return name, ""
    if "mxfp8" in tail:
        return "mxfp8", ""
    if "fp8" in tail:
        return "fp8", ""
    if not word:
        return "bf16", "precision not stated: 16 bit, the checkpoint's own"
    return "bf16", ""


def kv_of(row: Row, weights: str, campaign: str, engine: str, model: Model, system: System) -> tuple[str, str]:
    """(format of the cache, how it was read)."""
    word = (row.get("kv_precision") or "").casefold()
    if word:
        return ("fp8" if "8" in word else "bf16"), ""
    if campaign == "ix" and weights != "bf16":
        hopper_vllm = engine == "vllm" and architecture(model) != "dense" and system.family == "hopper"
        if not hopper_vllm:
            return "fp8", "kv=fp8 (quantised checkpoints of this campaign saturate as with 8-bit caches)"
    return "bf16", "kv=bf16 (not stated)"


def read_case(row: Row, facts: Facts, systems: dict[tuple[str, int], System] | None = None) -> ServingCase:
    """One row. Raises RefusedError with the reason."""
    table = notes()
    row_id, mode = row["id"], row.get("mode") or ""
    skip: dict[str, str] = {}
    for entry in table["rows"]:
        if _within(row_id, entry["ids"]):
            if "exclude" in entry:
                raise RefusedError(f"excluded: {entry['exclude']}")
            skip |= dict.fromkeys(entry["skip"], str(entry["reason"]))
    for entry in table["rules"]:
        hit = all(
            re.search(entry.get(key, ""), row.get(key) or "", re.IGNORECASE)
            for key in ("chip", "mode", "framework", "model", "date")
        )
        if hit and _degree(row, "tp") >= entry.get("min_tp", 0):
            if "exclude" in entry:
                raise RefusedError(f"excluded: {entry['exclude']}")
            skip |= dict.fromkeys(entry["skip"], str(entry["reason"]))
    if "disagg" in mode:
        raise RefusedError(
            "disaggregated, and the row does not state the workers of each pool, their batch and transfer path"
        )
    if mode.startswith("MLPerf"):
        raise RefusedError("the row states no plan and no concurrency")
    if any(word in mode for word in ("agentic", "trace", "embedding", "prefix caching", "workload", "offline")):
        raise RefusedError(f"the load ({mode}) is not stated as lengths and concurrency")
    prompt, output = _number(row, "isl"), _number(row, "osl")
    if not prompt or not output:
        raise RefusedError("the lengths are not stated")
    if not (row.get("tp") or "").strip():
        raise RefusedError("the plan is not stated")
    engine = engine_of(row["framework"])
    try:
        model = find_model(row["model"])
    except UserError as error:
        raise RefusedError(error.what) from error
    inferred: list[str] = []
    campaign = next(
        e
        for e in table["campaigns"]
        if re.search(e["pattern"], row.get("source") or "") and e.get("engine", engine) == engine
    )
    tp, dp, ep, how = unfold(_degree(row, "tp"), _degree(row, "dp"), _degree(row, "ep"), _degree(row, "moe_tp"))
    if how:
        inferred.append(how)
    pp = _degree(row, "pp")
    is_static = mode.startswith("static")
    concurrency, batch = _number(row, "concurrency"), _number(row, "batch")
    users = concurrency / dp if concurrency else batch
    if not users:
        raise RefusedError("neither concurrency nor batch is stated")
    if concurrency and users < 1:
        dp_used = max(1.0, concurrency)
        users = concurrency / dp_used
    chips_stated = _number(row, "n_chips")
    try:
        one = _system(row["chip"], 1, facts, systems)
    except UserError as error:
        raise RefusedError(error.what) from error
    devices = tp * dp * pp
    chips = -(-devices // one.devices_per_chip)
    if chips_stated and not how and chips > chips_stated * 1.01:
        raise RefusedError(f"tp {tp} x dp {dp} x pp {pp} needs {chips} chips and the row states {chips_stated:g}")
    if chips > one.max_chips:
        raise RefusedError(f"needs {chips} chips; the fabric joins {one.max_chips}")
    system = _system(row["chip"], chips, facts, systems)
    weights, how = weights_of(row, model, system)
    if how:
        inferred.append(how)
    kv, how = kv_of(row, weights, campaign["campaign"], engine, model, system)
    if how:
        inferred.append(how)
    if not any(isinstance(layer.ffn, Moe) for layer in model.layers):
        ep = 1
    spec = (row.get("spec_decode") or "").strip()
    accept = re.search(r"accept\w* (?:length )?([\d.]+)", spec)
    speculates = bool(spec)
    if not spec and campaign["campaign"] == "ix":
        for entry in table["speculation"]:
            if (re.search(entry["model"], row["model"], re.IGNORECASE) and re.search(entry["framework"], row["framework"])
                    and re.search(entry.get("date", ""), row.get("date") or "")):  # fmt: skip
                speculates = True
                inferred.append("speculative (releases of this engine and date predict several tokens)")
    measured = {m: v for m in METRICS if (v := _number(row, m))}
    return ServingCase(
        id=row_id, chip=row["chip"], source=row.get("source") or "", campaign=campaign["campaign"], engine=engine,
        version=row["framework"], date=(row.get("date") or ""), model=model, arch=architecture(model), system=system, chips=chips,
        plan=ServePlan(tp=tp, pp=pp, dp=dp, ep=ep, weights=weights, kv=kv), prompt=prompt, output=output, users=users,
        mean_length=1.0 if is_static else float(campaign["mean_length"]), rounds=float(campaign["rounds"]), is_static=is_static,
        speculates=speculates, accept=float(accept[1]) if accept else None, cached=0.0, measured=measured, inferred=tuple(inferred), skip=skip,
        fully_specified=not any("not stated" in i or "speculative" in i for i in inferred),
    )  # fmt: skip


def _system(chip: str, chips: int, facts: Facts, known: dict[tuple[str, int], System] | None) -> System:
    """A machine by the name of a chip; remembered in `known`. A chip that holds fewer devices than a unit is a part of it."""
    key = (chip, chips)
    if known is not None and key in known:
        return known[key]
    system = resolve(facts, facts.resolve_system(chip), chips=chips)
    if known is not None:
        known[key] = system
    return system


def read_cases(rows: Iterable[Row], facts: Facts) -> list[ServingCase | str]:
    """Every row as a case, or the reason why it is not one."""
    systems: dict[tuple[str, int], System] = {}
    out: list[ServingCase | str] = []
    for row in rows:
        try:
            out.append(read_case(row, facts, systems))
        except RefusedError as error:
            out.append(str(error))
    return out
