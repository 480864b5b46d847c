"""Serving rows (plan --serve, compare --serve, fit --serve) and traffic made again at the worker plans that a result
states."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from mowich.economics import energy
from mowich.errors import UserError
from mowich.estimate import Estimate, Notes, exact, told
from mowich.facts import Facts
from mowich.machines.system import resolve
from mowich.models.model import Model
from mowich.plans.memory import kv_B_per_sequence, serving_memory_B
from mowich.plans.memory_range import usable_B
from mowich.plans.plan import ServePlan
from mowich.plans.shapes import Shapes
from mowich.price_terms import term_of_row
from mowich.serving.encoding import ServedImages
from mowich.serving.pairs import Prefill, paired_tokens_per_s, prompts_queue_s, queued_prompt_s
from mowich.serving.search import Found, ServeJob, closed_load, search_serving
from mowich.serving.steady import Prompting, Settled, Steady, closed_loop, decode_step, token_parts
from mowich.serving.step import step, total
from mowich.shown import Result
from mowich.studies.explain.source import METRIC_OF_BREAKEVEN, Numbers, Source, break_even, note_costs
from mowich.studies.explain.tree import ResultPath
from mowich.studies.outcome import cost_of
from mowich.studies.pools import bounded
from mowich.studies.serving import Deployment, WorkerRows, deploy, moved_facts, worker_rows
from mowich.studies.serving_plan import worker
from mowich.sums import float_sum

WORDS_OF_PART: Mapping[str, str] = {
    "correction": "what measured rows like it differ by, on the sum of the other parts",
}
"""Parts that no formula of a single worker gives."""


def measured_words(d: Deployment, i: int, *, users: float, prompt: float, output: float) -> str:
    """How far away measured rows are from plan i, and the nearest ones."""
    distance, nearest = d.measured(i, users=users, prompt=prompt, output=output)
    return "; ".join((distance, *(f"row {near.words()}, {near.source}" for near in nearest)))


FULLER = "what a batch of full workers takes more: of those that are not full the time is kept, to be safe"
"""Words for a term of a worker that only decodes."""

DIFFERS = "as the result states it: made again by this version and these facts it is another number"
"""Note for a part whose formula does not give the value of the result."""


HELD: Mapping[ResultPath, str] = dict.fromkeys(
    (("ttft_s",), ("tpot_s",), ("tokens_per_s_per_chip",), ("tokens_per_s_per_user",)), "the batch and the queue"
)
"""Number -> what is held fixed for its parts, and settles anew for the whole."""


def _job(inputs: Result, row: Result) -> ServeJob:
    """The job of a row; a point of a sweep states its own."""
    if "isl" in row:
        own = {k: row[k] for k in ("isl", "osl", "cached", "accept")}
        inputs = {**inputs, **own, "ttft_s": row["ttft_limit_s"], "tpot_s": row["tpot_limit_s"]}

    def limit(x: float | None) -> float:
        return math.inf if x is None else float(x)

    images = None if inputs.get("images") is None else ServedImages(**inputs["images"])
    return ServeJob(
        images=images,
        prompt=float(inputs["isl"]) + (0.0 if images is None else images.tokens),
        output=float(inputs["osl"]),
        ttft_s=limit(inputs.get("ttft_s")),
        tpot_s=limit(inputs.get("tpot_s")),
        cached=float(row["cached_frac"] if "cached_frac" in row else inputs.get("cached") or 0.0),
        accept=inputs.get("accept"),
    )


def part_terms(parts: Mapping[str, float], made: Notes, notes: Notes) -> None:
    """Record every part that takes time, with the terms that `made` holds of it."""
    rounding = 1e-12 * float_sum(map(abs, parts.values()))
    for name, seconds in parts.items():
        own = {k: t for k, t in made.terms.items() if k == name or k.startswith(f"{name}.")}
        if name in own and abs(own[name].value - seconds) <= 1e-9 * abs(seconds) + rounding:
            notes.terms |= own
        elif seconds or len(parts) == 1:
            words = WORDS_OF_PART.get(name, DIFFERS) if seconds else "none"
            notes.add(name, seconds, "s", words=words)
            if name in own:
                notes.terms[name] = replace(notes.terms[name], facts=own[name].facts)


def record_served_memory(rows: WorkerRows, notes: Notes) -> None:
    """Record what a device of a worker plan holds."""
    serving_memory_B(rows.shapes, rows.around, rows.usable_B, notes)
    notes.terms["weights"] = replace(
        notes.terms["weights"], inputs={**notes.terms["weights"].inputs, "format": rows.plan.weights}
    )


def one_step_terms(d: Deployment, facts: Facts, n: float, context: float, notes: Notes) -> float:
    """Record a step of n sequences of a rank of the first plan, each with `context` tokens of cache, each term with the
    facts that move it, and give its seconds."""
    found = moved_facts(d, facts)
    rows, made = found.plans[0], Notes(found.moved)
    columns = step(rows.shapes, rows.costs, n=n, context=context, verify=rows.verified, notes=made)
    parts = {name: float(seconds[0]) for name, seconds in columns.items()}
    part_terms(parts, made.with_facts(), notes)
    return float_sum(parts.values())


def record_loop(rows: WorkerRows, job: ServeJob, users: float, held: Settled | None, notes: Notes | None) -> Steady:
    """The closed loop of workers that prefill and decode, at the point where it runs (None: looked for), and its
    terms."""
    point = held and held.take(np.zeros(len(rows), dtype=np.intp))
    at = (
        rows.shapes,
        rows.costs,
        rows.around,
        closed_load(job, np.full(len(rows), users), rows.verified, rows.accepted, encode_s=rows.encode_s),
        rows.usable_B,
    )
    return closed_loop(*at, held=point, notes=notes)


def record_pair(decode: WorkerRows, prefill: WorkerRows, job: ServeJob, at: _PairPoint, notes: Notes) -> None:
    """Record the terms of workers that only prefill and others that only decode."""
    n, zero = len(decode), np.zeros(len(decode))
    of_step = Notes(notes.moved)
    parts = decode_step(
        decode.shapes,
        decode.costs,
        closed_load(job, zero + at.users, decode.verified, decode.accepted, encode_s=decode.encode_s),
        zero + at.users,
        of_step,
    )
    of_token = total(token_parts(parts, decode.around, decode.accepted, notes, of_step))
    s, c, e = prefill.shapes, prefill.costs, prefill.around
    lone = Prompting(
        s, c, e, closed_load(job, zero + 1.0, prefill.verified, prefill.accepted, encode_s=prefill.encode_s), zero
    ).steps(zero)
    made = Prefill.of(np.arange(n), s, c, e, lone, job.prompt, notes)
    at_decode, at_prefill = (at.whole.take(np.full(n, i)) for i in (0, len(at.whole) - 1))
    made.transfer(at_prefill, at_decode, decode.shapes, job.prompt, decode.costs.hbm_Bps, notes)
    queued = told(notes, "queue.queued", queued_prompt_s)(
        service=made.service, load=zero + at.load, workers=zero + at.found.prefill_workers, each=made.under_way
    )
    told(notes, "queue", prompts_queue_s)(queued=queued, service=made.service)
    f = at.found  # workers stay as busy, and hold as many users
    told(notes, "tokens_per_s", paired_tokens_per_s, unit="1/s")(
        prefill_workers=f.prefill_workers,
        prompts_per_s=f.prompts_per_s * f.ttft_parts["prefill"] / made.service,
        decode_workers=f.workers,
        answers_per_s=f.answers_per_s * (f.tpot_s - f.tpot_parts["correction"]) / of_token,
        osl=job.output,
    )
    notes.drop_zeros()


class _PairPoint(NamedTuple):
    """Where prefill and decode workers run. found: their point in the search; users: of a rank group that decodes;
    load: share of the time in which a prefill worker prefills; whole: the shapes of both on one
    device, with their caches, decode first."""

    found: Found
    users: float
    load: float
    whole: Shapes


@dataclass(frozen=True, kw_only=True)
class ServedRow:
    """A serving row with a plan, and the deployment that made it. plans: of the decode worker, and of the prefill
    worker where there is one; others: the rows that it is compared with."""

    result: Result
    row: Result
    model: Model
    facts: Facts
    job: ServeJob
    plans: tuple[ServePlan, ...]
    others: tuple[Result, ...]

    @property
    def together(self) -> bool:
        """Whether the same workers prefill and decode."""
        return bool(self.row["mode"] == "aggregated")

    @property
    def chips(self) -> int:
        return int(self.row["chips_requested"])

    @property
    def users(self) -> float:
        """Users of one rank group."""
        return float(self.row["batch"]) / self.plans[0].dp

    @property
    def term(self) -> str:
        return term_of_row(self.result["inputs"], str(self.row["system"]))

    @cached_property
    def here(self) -> Deployment:
        """The deployment under the facts of the result."""
        return self.deployment(self.facts)

    @cached_property
    def recorded(self) -> Notes:
        """The terms of its times at the point where its workers run, each with the facts that move it."""
        found = moved_facts(self.here, self.facts)
        notes = Notes(found.moved)
        self.record(found.plans, notes)
        return notes.with_facts()

    def record(self, rows: tuple[WorkerRows, ...], notes: Notes) -> None:
        """Record the terms of its times at the point where its workers run, under the facts of `rows`."""
        if self.together:
            record_loop(rows[0], self.job, self.users, self.settled, notes)
        else:
            record_pair(rows[0], rows[-1], self.job, self.pair_point, notes)

    @cached_property
    def settled(self) -> Settled | None:
        """The point at which its closed loop runs."""
        return record_loop(worker_rows(self.here)[0], self.job, self.users, None, None).settled

    @cached_property
    def pair_point(self) -> _PairPoint:
        """The point at which its pair of workers runs."""
        f, w, s = self.pair, worker(self.here, self.job), self.here.shapes
        under_way = float(s.dp[-1] * max(1.0, s.pp[-1]))
        prompts_per_s = f.tokens_per_s / self.job.output / f.prefill_workers
        return _PairPoint(f, self.users, prompts_per_s * f.ttft_parts["prefill"] / under_way, w.whole)

    @cached_property
    def pair(self) -> Found:
        """The point of its prefill and decode workers under the facts of the result."""
        return self.pair_found(self.here)

    def deployment(self, known: Facts) -> Deployment:
        system = resolve(known, self.row["system_id"], chips=self.chips)
        accept, images = self.job.accept, self.job.images
        return deploy(self.model, system, self.row["engine"], self.plans, known, accept=accept, images=images)

    def break_even(self, name: str, tokens_per_s: float, known: Facts, notes: Notes | None = None) -> Estimate | None:
        """Where the row equals the best other row. tokens_per_s: of all chips."""
        return break_even(
            name,
            self.others,
            known,
            system_id=str(self.row["system_id"]),
            chips=self.chips,
            idle=int(self.row["chips_idle"]),
            tokens_per_s=exact(tokens_per_s, "1/s"),
            goodput=exact(1.0, "1"),
            notes=notes,
        )

    def pair_found(self, d: Deployment) -> Found:
        """The point of the row's prefill and decode workers."""
        row, users = self.row, self.users
        most = bounded(self.result["inputs"].get("fixed") or {})
        pair = (len(self.plans) - 1, 0)
        got = search_serving(d.system, worker(d, self.job), self.job, top=64, together=False, pair=pair, **most)
        points: list[Found] = [*got.best, *got.front, *([got.closest] if got.closest else [])]
        if not points:
            raise UserError("with these facts, these prefill and decode workers miss a limit or cannot hold a request")
        return min(
            points,
            key=lambda f: (
                abs(f.tpot_s - row["tpot_s"]["value"]) / row["tpot_s"]["value"]
                + abs(f.workers - row["replicas"]["decode"])
                + abs(f.prefill_workers - row["replicas"]["prefill"])
                + abs(f.users - users) / users
            ),
        )

    def found(self, d: Deployment) -> _Served:
        """The point at which the row's workers run."""
        if not self.together:
            f = self.pair_found(d)
            return _Served(f.ttft_s, f.tpot_s, f.ttft_parts, f.tpot_parts, f.tokens_per_s)
        w, job, users = worker(d, self.job), self.job, self.users
        loop = record_loop(worker_rows(d)[0], job, users, None, None)
        first, at = np.zeros(1, dtype=np.intp), np.array([users])
        tpot = float(loop.tpot_s[0]) * math.exp(float(w.tpot.at(first, at)[0]))
        ttft = float(loop.ttft_s[0]) * math.exp(float(w.ttft.at(first, at)[0]))
        parts = [{k: float(v[0]) for k, v in p.items()} for p in (loop.ttft_parts, loop.tpot_parts)]
        for p, seconds in zip(parts, (ttft, tpot), strict=True):
            p["correction"] = seconds - float_sum(p.values())
        answer_s = ttft + (job.output - 1.0) * tpot
        speed = users * self.plans[0].dp * job.output / answer_s * self.row["replicas"]["decode"]
        return _Served(ttft, tpot, parts[0], parts[1], speed)

    def numbers(self, known: Facts, wanted: ResultPath) -> Numbers:
        """Every number of the row under other facts."""
        d = self.deployment(known)
        served = self.found(d)
        out: dict[ResultPath, float] = {
            ("ttft_s",): served.ttft_s,
            ("tpot_s",): served.tpot_s,
            ("tokens_per_s_per_chip",): served.tokens_per_s / self.chips,
            ("tokens_per_s_per_user",): 1.0 / served.tpot_s,
            ("memory_capacity_B",): d.system.hbm_usable_B,
        }
        out |= {("ttft_s", "breakdown", k): v for k, v in served.ttft_parts.items()}
        out |= {("tpot_s", "breakdown", k): v for k, v in served.tpot_parts.items()}
        memory = serving_memory_B(d.shapes.take(np.zeros(1, dtype=np.intp)), d.around_of(0), d.system.hbm_usable_B)
        out |= {("memory_B", k): float(v[0]) for k, v in memory.items()}
        cost = cost_of(
            known,
            d.system.id,
            term=self.term,
            used=int(self.row["chips_used"]),
            idle=int(self.row["chips_idle"]),
            step_s=exact(1.0 / served.tokens_per_s, "s"),
            tokens=1.0,
        )
        each = {"usd_per_mtok": cost["usd_per_mtok"], "J_per_token": cost["J_per_token"]}
        out |= {(name,): e.value for name, e in each.items() if e.value is not None}
        for name in METRIC_OF_BREAKEVEN:
            even = self.break_even(name, served.tokens_per_s, known)
            if even is not None and even.value is not None:
                out[(name,)] = even.value
        return out

    def terms(self, name: ResultPath, notes: Notes) -> None:
        """Record what a number of the row is made of."""
        d, first = self.here, str(name[0])
        if first in ("ttft_s", "tpot_s", "tokens_per_s_per_chip", "tokens_per_s_per_user"):
            self.time_terms(name, notes)
        elif first == "memory_B":
            memory_terms(d, self.facts, notes, name)

    def record_costs(self, name: ResultPath, known: Facts, notes: Notes) -> None:
        """Record what follows from the row's speed: its price, its power, and where it equals the best other row."""
        note_costs(name, [str(self.row["system_id"])], self.term, known, notes)
        if name[0] in METRIC_OF_BREAKEVEN:
            speed = self.chips * float(self.row["tokens_per_s_per_chip"]["value"])
            self.break_even(str(name[0]), speed, known, notes)

    def time_terms(self, name: ResultPath, notes: Notes) -> None:
        """Record the parts of a time, or of the inverse of a speed; for a speed of pairs, record the pairs too."""
        parts = self.row["ttft_s" if name[0] == "ttft_s" else "tpot_s"]["breakdown"]
        if len(name) > 2:
            parts = {name[2]: parts[name[2]]}
        part_terms(parts, self.recorded, notes)
        if "correction" in notes.terms and not self.together:
            notes.terms["correction"] = replace(notes.terms["correction"], words=FULLER)
        elif "correction" in notes.terms:
            said = measured_words(self.here, 0, users=self.users, prompt=self.job.prompt, output=self.job.output)
            notes.terms["correction"] = replace(notes.terms["correction"], note=said)
        if name[0] == "tokens_per_s_per_chip" and not self.together:
            notes.terms["tokens_per_s"] = self.recorded.terms["tokens_per_s"]


class _Served(NamedTuple):
    """Times of the row's workers, s, with their parts, and their tokens per second."""

    ttft_s: float
    tpot_s: float
    ttft_parts: Mapping[str, float]
    tpot_parts: Mapping[str, float]
    tokens_per_s: float


def served_row(result: Result, row: Result, model: Model, facts: Facts) -> ServedRow:
    """A serving row with a plan. facts: those of the result."""
    decode, prefill = ServePlan.from_dict(row["decode"]), ServePlan.from_dict(row["prefill"])
    return ServedRow(
        result=result,
        row=row,
        model=model,
        facts=facts,
        job=_job(result["inputs"], row),
        plans=(decode,) if decode == prefill else (decode, prefill),
        others=tuple(r for r in result.get("rows") or () if r is not row and r["feasible"] is not False),
    )


def serve_row(result: Result, at: ResultPath, row: Result, model: Model, facts: Facts) -> Source:
    """The source of a serving row with a plan."""
    served = served_row(result, row, model, facts)

    def symbols(known: Facts) -> dict[str, float]:
        site = energy.read_site(known)
        return {
            "isl": served.job.prompt,
            "osl": served.job.output,
            "pue": site.pue.value or 0.0,
            "idle_share": energy.drawn_power(known, str(row["system_id"])).idle_share.value or 0.0,
            "hbm_usable": known.number(served.here.system.paths["hbm_usable_B"]),
        }

    return Source(
        at=at,
        numbers=served.numbers,
        terms=served.terms,
        record=served.record_costs,
        symbols=symbols,
        held=HELD,
        title=str(row["display"]),
    )


def memory_terms(d: Deployment, facts: Facts, notes: Notes, name: ResultPath) -> None:
    """Record what a device of the first plan holds, or one part of it, each with the facts that move it."""
    found = moved_facts(d, facts)
    own = Notes(found.moved)
    record_served_memory(found.plans[0], own)
    parts = {"weights": "weights", "reserve": "reserve", "kv": "cache room"}
    wanted = [parts[str(name[1])]] if len(name) > 1 else parts.values()
    notes.terms |= {part: own.with_facts().terms[part] for part in wanted}


def serve_fit(result: Result, at: ResultPath, held: Result, model: Model, facts: Facts) -> Source:
    """The source of one way of holding a served model: the result itself, or one of smallest_by_weights."""
    inputs = result["inputs"]
    plan, chips, tokens = ServePlan.from_dict(held["plan"]), int(held["chips"]), float(inputs["kv_tokens"])

    def deployment(known: Facts) -> Deployment:
        return deploy(model, resolve(known, result["system_id"], chips=chips), result["engine"], [plan], known)

    def numbers(known: Facts, wanted: ResultPath) -> Numbers:
        d = deployment(known)
        capacity = usable_B(known, d.system)[0]
        memory = serving_memory_B(d.shapes, d.around, capacity)
        each = float(kv_B_per_sequence(d.shapes, np.array([tokens]))[0])
        room = math.floor(max(float(memory["kv"][0]), 0.0) / each)
        requests = room * plan.dp * held["workers"]
        out: dict[ResultPath, float] = {
            ("memory_B", "weights"): float(memory["weights"][0]),
            ("memory_B", "reserve"): float(memory["reserve"][0]),
            ("memory_B", "kv"): max(room, 1) * each,
            ("requests",): float(requests),
            ("memory_capacity_B",): capacity,
        }
        return out

    d = deployment(facts)

    def terms(name: ResultPath, notes: Notes) -> None:
        each = float(kv_B_per_sequence(d.shapes, np.array([tokens]))[0])
        if name[0] in ("memory_B", "requests"):
            memory_terms(d, facts, notes, name if name[0] == "memory_B" and name[-1] != "kv" else ())
            notes.add(
                "one request",
                each,
                "B",
                words="tokens x cache elements per token and rank x bytes, layers of its stage",
                tokens=tokens,
                format=plan.kv,
            )

    def symbols(known: Facts) -> dict[str, float]:
        fact = known.fact(d.system.paths["hbm_usable_B"])
        usable = fact.low or known.number(fact.path)
        each = float(kv_B_per_sequence(d.shapes, np.array([tokens]))[0])
        return {"hbm_usable": usable, "one_request": each, "usable": usable / d.system.devices_per_chip}

    return Source(
        at=at,
        numbers=numbers,
        terms=terms,
        symbols=symbols,
        title=f"{result['system_id']}: {model.name}",
    )
