"""One published training row -> one `Case`: what was run, how it was spread, and what was measured.

Sources state different parts of a plan. What a row leaves open is filled in by the rules of `_Reader`, each of which
names the field and how it was filled in `Case.inferred`; a row that cannot be filled in honestly is refused with a
reason. The rules are about kinds of software, never about single rows; misprints are known by their content
(`facts/published/row_notes.yaml`). A cell that no rule can read is refused by name: columns with a closed list of
words, whole numbers, degrees that do not fill the devices, plans that need many times the memory. Nothing here looks at
a predicted time.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from mowich.errors import UserError
from mowich.evidence.measured_tables import is_time, table_form
from mowich.evidence.row_cells import MendedCells
from mowich.evidence.row_checks import LARGEST_COUNT, PublishedRow, RefusedError, has_word, refusal
from mowich.evidence.row_plan import CoarseFit, SharedRuns, frugal_plans
from mowich.evidence.row_rules import (
    OLD_MEGATRON,
    STATED_BY_CONVENTION,
    board_limits,
    length_of_mfu,
    network_speed,
    notes_on,
    per_device_batch,
    release_of_row,
    stack_of_row,
    stated_flop_per_token,
)
from mowich.evidence.row_words import (
    allocated_B,
    attention_of_words,
    is_autocast,
    precision_of,
    recompute_of,
    sharding_group,
    switch_of,
    task_of,
    zero_of,
)
from mowich.facts import Facts
from mowich.machines.system import PRECISIONS, resolve, under_power_cap
from mowich.models.model import Model
from mowich.plans.plan import RECOMPUTE, Plan, TrainJob, one_of
from mowich.software.recipes import newest, recipe_for
from mowich.software.stack import Platform, equip

MISREAD_MEMORY = 8.0
"""Need over the device's memory from which a plan counts as misread and the row is refused. Up to twice the memory,
errors of published rows do not depend on the need; rows at 2 to 6 times are real runs, whose offload and policies are
not modelled (refusing from 1.5 on would cost 30 good rows); plans whose layout was misprinted lie at 8 to 26 times."""

ONE_STAGE_MEMORY = 1.5
"""Need over the device's memory from which a topology in words must have had a pipeline that it does not name. The
pipeline is then filled in."""


_LONG = 16384
"""Sequence length from which context parallelism, not a pipeline, uses devices that the batch cannot feed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A row, filled in. measured is in the unit of `metric`; measured_step_s is the same figure as seconds per step of
    `job.batch_seqs` sequences. inferred: "field=value (how)" for every field that the row does not state.
    fully_specified: the model, layout, batch, precision and recompute were all stated. memory_share: what the plan
    needs over what the device has, by `plans.memory`; memory_plan: the plan of that share, `plan` unless the row leaves
    open how it fitted (`row_plan.frugal_plans`); allocated_B: bytes that its program's allocator held. source, date and
    kind are the row's own words."""

    id: str
    chip: str
    source: str
    system: Platform
    model: Model
    job: TrainJob
    plan: Plan
    metric: str
    measured: float
    measured_step_s: float
    inferred: tuple[str, ...]
    fully_specified: bool
    is_moe: bool
    kind: str
    memory_share: float
    memory_plan: Plan
    allocated_B: float | None


class _Reader(MendedCells):
    """Fills in one row. Mutable only while one row is read. is_frozen: adapters train; is_sharded: weights are
    spread over the data ranks."""

    def __init__(self, row: PublishedRow, facts: Facts, known: SharedRuns) -> None:
        super().__init__(row)
        self.facts = facts
        self.known = known
        self.misprinted_pp = ""
        self.set_so: Mapping[str, str] = {}  # by the release of its software
        self.release = ""
        self.stack = ""
        self.is_moe = self.is_frozen = self.is_sharded = False

    def with_prediction(self, model: Model, recipe: Mapping[str, float]) -> Model:
        """The model with its multi-token-prediction block where the run trained it."""
        if not model.mtp_layers:
            return model
        if not _has_mtp(self.row, self.stack):
            return self.known.variant(model, 0, trained=False)
        if "mtp_layers" in recipe:
            return self.known.variant(model, round(recipe["mtp_layers"]), trained=True)
        if "Bridge" in self.row.get("flop_convention", ""):
            return self.known.variant(model, model.mtp_layers, trained=True)  # its recipes train the block
        return model

    def read(self) -> Case:
        row = self.row
        self.checked()
        task = task_of(row.get("task", ""))
        if not task:
            self.fill("task", "pretrain", "not stated")
        self.topology()
        self.shape_of_name()
        recipe = self.recipe()
        self.stack, known = stack_of_row(row)
        if not known:
            self.fill("stack", self.stack, "the row names no software")
        system = self.system()
        system = self.known.as_recipes_say(system, recipe)
        model = self.model()
        seq = self.seq(system, model)
        precision, how = precision_of(row.get("precision", ""), system)
        if how:
            self.fill("precision", precision, how)
        system = self.released(system, model, precision)
        self.is_frozen = task == "lora" or has_word(row["model_name"], "lora")
        balanced = bool(re.search(r"force-balanced|balanced gate", row.get("notes", "")))
        model = self.with_prediction(model, recipe)

        def planned() -> tuple[Plan, TrainJob]:
            plan, batch = self.plan(system, model, seq, precision)
            return plan, TrainJob(
                tokens=batch * seq,
                seq=seq,
                batch_seqs=batch,
                batch_tolerance=0.05,  # a plan that a row states in part is completed near its batch
                is_balanced=balanced,
                task="lora" if self.is_frozen else task or "pretrain",
                element_B=4.0 if row.get("precision", "").strip().casefold() == "fp32" else 2.0,
                is_autocast=is_autocast(row.get("precision", "")),
                document=recipe.get("document"),
            )

        before = len(self.inferred)
        plan, job = planned()
        if self.is_topology_read and plan.pp == 1 and self.known.share(model, system, job, plan) > ONE_STAGE_MEMORY:
            del self.inferred[before:]
            row["PP"] = ""  # the words name no pipeline, and one stage cannot hold the model
            plan, job = planned()
        share, memory_plan = self.memory(model, system, job, plan)
        metric, measured, step_s = self.measured(model, system, job)
        judged = [item for item in self.inferred if not item.startswith(STATED_BY_CONVENTION)]
        return Case(
            id=row["id"],
            chip=row["chip"],
            source=row.get("source_group", ""),
            system=system,
            model=model,
            job=job,
            plan=plan,
            metric=metric,
            measured=measured,
            measured_step_s=step_s,
            inferred=tuple(self.inferred),
            fully_specified=not judged,
            is_moe=self.is_moe,
            kind=self.kind(),
            memory_share=share,
            memory_plan=memory_plan,
            allocated_B=allocated_B(row.get("notes", "")),
        )

    def released(self, system: Platform, model: Model, precision: str) -> Platform:
        """The system set as the release says that the row names, or as most runs of the newest release of its software
        that was out by its date."""
        recipe = attention_of_words(self.row.get("precision", ""), is_moe=self.is_moe)
        release = release_of_row(self.row, self.facts)
        by = newest(self.facts, system.stack.name, self.row.get("date", "")[:7] or "0")
        for one, name in ((release, model.name), (by, "")):
            if recipe is None and one is not None:
                recipe = recipe_for(self.facts, one, name, system.chip, precision, is_moe=self.is_moe)
        if recipe is None:
            return system
        how = f"of {recipe.path}"
        if recipe.is_default:
            how = f"not stated: what most runs of {recipe.release} are set to"
        self.fill("recipe", recipe.words, how)
        self.set_so, self.release = recipe.settings, recipe.release
        return self.known.as_released(self.facts, system, precision, recipe)

    def memory(self, model: Model, system: Platform, job: TrainJob, plan: Plan) -> tuple[float, Plan]:
        """(memory that the plan needs over the device's, the plan of that share). Raises RefusedError for a misread
        plan; `inferred` names a plan that does not fit, or fits only by choices that the row leaves open."""
        share = self.known.share(model, system, job, plan)
        if share > (1.0 if self.misprinted_pp else MISREAD_MEMORY):
            if self.misprinted_pp:
                raise refusal("PP", self.misprinted_pp, f"at most the {model.num_layers} layers")
            printed = ", ".join(
                f"{c} '{self.row[c]}'" for c in ("TP", "PP", "DP", "EP", "fsdp_zero") if self.row.get(c)
            )
            raise RefusedError(
                f"the plan ({printed or 'as filled in'}) needs {share:.1f} times the memory of the device: it is not"
                " the one that ran"
            )
        if share <= 1.0:
            return share, plan
        words = self.row.get("recompute", "")
        for other in frugal_plans(plan, self.inferred, words, system.stack.name):
            least = self.known.share(model, system, job, other)
            if least <= 1.0:
                changed = [f"{k} {v}" for k, v in other.to_dict().items() if v != plan.to_dict().get(k)]
                how = f"{share:.2f} as read; with {', '.join(changed)}, which the row leaves open, it fits"
                self.fill("memory", f"{least:.2f} of the device", how)
                return least, other
        self.fill("memory", f"{share:.2f} of the device", "by our memory model the plan does not fit")
        return share, plan

    def system(self) -> Platform:
        chips = self.degree("n_chips")
        if chips is None:
            chips = self.chips_of_degrees()
        domain = self.degree("chips_per_scaleup_domain")
        network = network_speed(self.row.get("system_note", "")) if domain == 8 else None
        detail = self.row.get("chip_detail", "")
        variant = re.match(r"[AH]800\b", detail)  # export versions, listed under the chip that they cut down
        chip = variant[0] if variant else self.row["chip"]
        board = board_limits(detail)
        key = (chip, chips, domain, self.stack, network, board)
        if key not in self.known.systems:
            try:
                system = equip(
                    self.facts,
                    self.facts.resolve_system(chip),
                    chips=chips,
                    stack=self.stack,
                    domain_chips=domain,
                    has_recipe=False,
                )
            except UserError as error:
                if self.row.get("stack") and error.field == "stack":  # the same mistake in a table's words
                    raise refusal("stack", self.stack, error.allowed or ()) from error
                raise RefusedError(error.line()) from error
            if network:  # the row states the network between its servers
                each = network[0] if network[1] else network[0] / (domain or 1)
                system = replace(
                    system,
                    levels=tuple(replace(at, bandwidth_Bps=each) if at.is_network else at for at in system.levels),
                )
            memory_Bps, watts = board
            if memory_Bps:
                system = replace(system, hbm_Bps=memory_Bps / system.devices_per_chip)
            if watts:
                system = under_power_cap(self.facts, system, watts)
            self.known.systems[key] = system
        return self.known.systems[key]

    def chips_of_degrees(self) -> int:
        """Chips that the stated degrees fill. Raises RefusedError when DP or the chip is not stated."""
        dp = self.degree("DP")
        if dp is None:
            raise RefusedError("the number of chips is not stated")
        devices = dp * math.prod(self.degree(c) or 1 for c in ("TP", "PP", "CP"))
        each = resolve(self.facts, self.facts.resolve_system(self.row["chip"])).devices_per_chip
        chips = max(1, devices // each)
        self.fill("n_chips", chips, "TP x PP x CP x DP")
        return chips

    def model(self) -> Model:
        from mowich.models.columns import COLUMNS, model_from_columns

        row = self.row
        key = tuple(row.get(c, "") for c in ("model_ref", "model_name", *COLUMNS))
        if key not in self.known.models:
            try:
                self.known.models[key] = model_from_columns(row)
            except UserError as error:
                self.known.models[key] = error
        found = self.known.models[key]
        if isinstance(found, UserError):
            raise RefusedError(found.what)
        model, guesses = found
        for guess in guesses:
            self.inferred.append(f"model: {guess}")
        self.is_moe = model.has_experts
        return model

    def seq(self, system: Platform, model: Model) -> int:
        stated = self.degree("seq_len")
        if stated is not None:
            return stated
        printed = re.search(r"seq(?:_len)?\s+(\d{3,7})\b", self.row.get("notes", ""))
        seq, how = (int(printed[1]), "from the notes") if printed else (None, "")
        if seq is None:
            seq, how = length_of_mfu(self.row, system, model), "its FLOP a token are those of the printed MFU and rate"
        if seq is None:
            seq, how = 4096, "not stated: the most common length"
        self.fill("seq", seq, how)
        return seq

    def batch(self, devices: int, seq: int) -> float | None:
        """Sequences per step: stated, or per-device batch x devices, or tokens per step from rate x time."""
        batch = self.number("global_batch_seqs")
        if batch:
            return self.misprinted_batch(batch, seq)
        each = per_device_batch(self.row.get("per_device_batch_stated", ""), seq)
        if each:
            return _possible_batch(each * devices)
        for note in notes_on("batches", self.row):
            self.fill("batch", f"{note['batch']:g}", note["source"])
            return float(note["batch"])
        step, chips = self.number("step_time_s"), self.number("n_chips")
        rate, each_chip, seqs = (
            self.number(c) for c in ("tokens_per_s_total", "tokens_per_s_per_chip", "seqs_per_s_total")
        )
        per_s = rate / seq if rate else each_chip * chips / seq if each_chip and chips else seqs
        if step and per_s:
            batch = max(1.0, float(round(_possible_batch(step * per_s))))
            self.fill("batch", f"{batch:g}", "printed rate x printed step time")
            return batch
        if is_time(self.row["primary_metric"].split(" ")[0]) and not self.number("grad_accum"):
            raise RefusedError("a time per step says nothing without the batch, which is not stated")
        return None

    def misprinted_batch(self, batch: float, seq: int) -> float:
        """The batch; where the data ranks do not divide it, the batch from the printed rate and step time if they
        divide that."""
        dp, step, rate = self.degree("DP"), self.number("step_time_s"), self.number("tokens_per_s_total")
        if not dp or not step or not rate or batch % dp == 0:
            return batch
        other = dp * round(step * rate / seq / dp)
        if not other or abs(step * rate / seq / other - 1.0) > 0.01:
            return batch
        self.fill(
            "global_batch_seqs",
            other,
            f"printed rate x printed step time; {batch:g}, which DP {dp} does not divide, is a misprint",
        )
        return float(other)

    def plan(self, system: Platform, model: Model, seq: int, precision: str) -> tuple[Plan, float]:
        """(the plan, sequences per step): what the row states, the rest by the rules of the methods below."""
        row, n, stack = self.row, system.devices, self.stack
        zero, recompute, tightest = self.policy()
        self.is_sharded = zero == 3 or stack.startswith("jax") or stack == "pytorch-fsdp"
        fits = CoarseFit(system=system, model=model, seq=seq, frozen=self.is_frozen, zero=zero, recompute=tightest)
        batch, accumulate, mb = self.batch(n, seq), self.degree("grad_accum"), self.degree("micro_batch")
        tp, pp, cp, ep = self.layout(fits, batch, accumulate, mb)
        if pp > model.num_layers:
            if not row.get("PP"):
                raise RefusedError(f"PP {pp} exceeds the {model.num_layers} layers")
            self.misprinted_pp, pp = row["PP"], 1
            self.fill("PP", 1, f"PP {self.misprinted_pp} exceeds the {model.num_layers} layers: a misprint")
        if n % (tp * pp * cp):
            raise RefusedError(f"TP {tp} x PP {pp} x CP {cp} does not divide {n} devices")
        dp = n // (tp * pp * cp)
        self.data_ranks(dp, cp, ep or 1, n)
        ep, etp = self.experts(tp, cp, dp, ep)
        shards = self.shards(system, tp * cp, dp, ep) if zero else 0
        mb, batch = self.micro_batch(fits, mb, batch, accumulate, tp, pp, cp, dp, ep)
        vpp = self.degree("VPP") if pp > 1 else 1
        if vpp is None:
            vpp = self.chunks(model, pp, batch / (mb * dp))
            if stack not in (*OLD_MEGATRON, "neuron"):
                self.fill("vpp", vpp, "not stated: about 4 where the layers divide" if vpp > 1 else "not stated, 1F1B")
        stated = switch_of("SP", row.get("SP", ""))
        is_split = self.set_so["sequence"] == "split" if "sequence" in self.set_so else stack not in OLD_MEGATRON
        sp = stated if stated is not None else tp > 1 and is_split
        if stated is None and tp > 1:
            self.fill("sp", "yes" if sp else "no", f"what {self.release if 'sequence' in self.set_so else stack} does")
        plan = Plan(
            tp=tp,
            sp=sp,
            pp=pp,
            vpp=vpp,
            dp=dp,
            cp=cp,
            ep=ep,
            etp=etp,
            zero=zero,
            shards=shards,
            micro_batch=mb,
            recompute=one_of(recompute, RECOMPUTE, "recompute"),
            precision=one_of(precision, PRECISIONS, "precision"),
            schedule="interleaved" if vpp > 1 else "1f1b",
            pp_scatter=stack in OLD_MEGATRON and tp > 1 and pp > 1,
        )
        return plan, batch

    def data_ranks(self, dp: int, cp: int, ep: int, devices: int) -> None:
        """Says what a stated DP counts: sources count replicas of the model, ranks that share gradients (x CP),
        replicas of the experts (/ EP), or replicas of a sharded model. A smaller count that divides the devices is a
        misprint, because devices and the other degrees leave one value. Raises RefusedError for any other count: more
        ranks than that need other devices."""
        stated = self.degree("DP")
        if stated is None or stated == dp:
            if stated is None:
                self.fill("dp", dp, "devices / (TP PP CP)")
            return
        meanings = {dp * cp: "the row's counts the ranks of CP too"}
        meanings |= {
            n // ep: "the row's counts replicas of the experts" for n in (dp * cp, dp) if ep > 1 and n % ep == 0
        }
        how = meanings.get(stated)
        if how is None and self.is_sharded and dp * cp % stated == 0:
            how = "the row's counts replicas of the sharded weights"
        if how is None and stated < dp and devices % stated == 0:
            how = "does not fill the devices with the other degrees: a misprint, as they leave one value"
        if how is None:
            allowed = ", ".join(str(n) for n in sorted({dp, *meanings}))
            raise refusal(
                "DP",
                self.row["DP"],
                allowed + (", or a part of the sharded ranks" if self.is_sharded else ""),
                why="does not fill the devices with the other degrees",
            )
        self.fill("dp", dp, f"devices / (TP PP CP); DP {stated}: {how}")

    def shards(self, system: Platform, inner: int, dp: int, ep: int) -> int:
        """Data ranks of a sharding group that the row states; 0: all. inner: tensor and context ranks of a data
        rank."""
        unit, server = (max(1, n // inner) for n in (system.domain_devices, system.server_devices))
        found = sharding_group(self.row.get("fsdp_zero", ""), data=dp, unit=unit, server=server, experts=ep)
        return 0 if found is None or found * inner % ep else found

    def policy(self) -> tuple[int, str, str]:
        """(ZeRO level, recompute, the recompute that memory is judged by: JAX policies are tuned until the batch
        fits)."""
        row, stack = self.row, self.stack
        zero = zero_of(row.get("fsdp_zero", ""))
        if zero is None and "zero" in self.set_so:
            zero = int(self.set_so["zero"])
            self.fill("zero", zero, f"what {self.release} is set to")
        if zero is None:
            zero = {"megatron": 1, "megatron-2025": 1, "megatron-2021": 0, "deepspeed-2022": 1, "neuron": 0}.get(
                stack, 3
            )
            if stack == "neuron" and re.search(
                "axlearn|jax", row["model_name"] + row.get("source_group", ""), re.IGNORECASE
            ):
                zero = 3
            self.fill("zero", zero, f"what {stack} does")
        recompute = recompute_of(row.get("recompute", ""))
        if recompute is not None:
            return zero, recompute, recompute
        recompute = "full" if stack == "jax-tpu" else "selective" if stack.startswith("jax-gpu") else "none"
        how = "not stated: the default policy of MaxText" if recompute == "full" else "not stated"
        if "recompute" in self.set_so:
            recompute, how = self.set_so["recompute"], f"not stated: what {self.release} is set to"
        self.fill("recompute", recompute, how)
        return zero, recompute, "full" if stack.startswith("jax") else recompute

    def layout(
        self, fits: CoarseFit, batch: float | None, accumulate: int | None, mb: int | None
    ) -> tuple[int, int, int, int]:
        """(tp, pp, cp, ep). Weight-sharding stacks need none of them; Megatron takes the least tensor and pipeline
        parallelism that fits, and expert parallelism across the scale-up domain. Batch, accumulation and micro-batch,
        where known, give the number of devices that share a micro-batch, which TP, PP and CP split."""
        sharded, n = self.is_sharded, fits.system.devices
        tp, pp, cp, ep = (self.degree(c) for c in ("TP", "PP", "CP", "EP"))
        dp = None if sharded else self.degree("DP")  # FSDP sources print replicas only
        if tp is None and pp and dp and dp > 1 and n % (pp * dp * (cp or 1)) == 0:
            tp = n // (pp * dp * (cp or 1))
            self.fill("tp", tp, "devices / (PP DP CP)")
        together = self._sharing(n, batch, accumulate, mb)
        if tp is None and together >= 1 and n % together == 0:
            tp, pp, cp = self._split_together(fits, int(together), accumulate or 1, pp, cp)
        elif tp is None:
            tp = self._usual_tp(fits, batch, pp or 1, cp or 1, ep or 1)
        if ep is None and self.is_moe:
            ep = self._usual_ep(fits, tp, pp or 1)
        pp, cp = self._rest(fits, batch, tp, ep or 1, pp, cp)
        return tp, pp, cp, ep or 1

    def _sharing(self, n: int, batch: float | None, accumulate: int | None, mb: int | None) -> float:
        """Devices of n that share a micro-batch; 0 where the row leaves this open."""
        return n * accumulate * (mb or 1) / batch if batch and accumulate and not self.is_sharded else 0.0

    def _rest(
        self, fits: CoarseFit, batch: float | None, tp: int, ep: int, pp: int | None, cp: int | None
    ) -> tuple[int, int]:
        """(pp, cp), given the other two degrees. pp, cp: as the row states them."""
        n, sharded = fits.system.devices, self.is_sharded
        shared = n // (tp * (pp or 1) * max(1, round(batch))) if batch and not sharded else 1
        if cp is None and shared > 1 and fits.seq >= _LONG and n % (tp * (pp or 1) * shared) == 0:
            cp = shared
            self.fill("cp", cp, "fewer sequences than data ranks")
        if pp is None:
            pp = 1 if sharded else fits.smallest_pp(tp, ep, n // (tp * (cp or 1)), cp or 1)
            self.fill("pp", pp, "not stated: the smallest that fits")
        if cp is None:
            cp = 1
            if sharded and batch and batch < n // (tp * pp):
                cp = max(1, round(n / (tp * pp) / batch))
                self.fill("cp", cp, "fewer sequences than data ranks")
        return pp, cp

    def _split_together(
        self, fits: CoarseFit, together: int, accumulate: int, pp: int | None, cp: int | None
    ) -> tuple[int, int, int]:
        """(tp, pp, cp) that split the devices that share a micro-batch. together: their number; pp, cp: as the row
        states them."""
        most = together // (pp or 1)
        tp = fits.smallest_tp(math.gcd(most, 8), pp or 1, 1, fits.system.devices)
        self.fill("tp", tp, "the smallest that fits, of the devices that share a micro-batch")
        rest = most // tp
        if pp is None:
            pp = 1 if accumulate < rest or fits.fits(tp, 1, 1, fits.system.devices, cp=rest) else rest
            self.fill("pp", pp, "what TP leaves of them, when micro-batches fill it and the model needs it")
        if cp is None:
            cp = max(1, together // (tp * pp))
            self.fill("cp", cp, "what TP and PP leave of the devices that share a micro-batch")
        return tp, pp, cp

    def _usual_tp(self, fits: CoarseFit, batch: float | None, pp: int, cp: int, ep: int) -> int:
        """Tensor parallelism where the row does not state it. pp, cp, ep: as the row states them, else 1."""
        if self.is_sharded or self.is_moe:
            shards = f"not stated: {self.stack} shards weights over the data ranks"
            self.fill("tp", 1, shards if self.is_sharded else "not stated: experts are spread instead")
            return 1
        n, domain = fits.system.devices, fits.system.domain_devices
        most = min(n, 8, max(1, domain))
        tp = fits.smallest_tp(most, pp, ep, n, least=n / (pp * cp * batch) if batch else 1.0)
        self.fill("tp", tp, "not stated: the smallest that fits and that the sequences of a batch feed")
        return tp

    def _usual_ep(self, fits: CoarseFit, tp: int, pp: int) -> int:
        """Expert parallelism where the row does not state it."""
        n, domain = fits.system.devices, fits.system.domain_devices
        if self.stack.startswith("jax"):
            ep, how = 1, f"{self.stack} shards experts over the data ranks"
        elif self.is_sharded:
            ep, how = fits.widest_ep(pp, n // tp, 64), "experts spread over the ranks, at most 64"
        else:
            ep, how = fits.widest_ep(pp, n, domain), "as wide as the scale-up domain, at most 64"
        self.fill("ep", ep, f"not stated: {how}")
        return ep

    def experts(self, tp: int, cp: int, dp: int, ep: int) -> tuple[int, int]:
        """(ep, etp). Older NeMo tables cut experts by TP as well; Megatron-Bridge and the others do not."""
        ranks, etp = tp * cp * dp, self.degree("ETP")
        if etp is None:
            older = re.search(r"dgxc|nemo perf docs", self.row.get("source_group", "").casefold())
            etp = tp if self.is_moe and ep > 1 and older and ep * tp <= ranks else 1
            if self.is_moe and tp > 1:
                self.fill("etp", etp, "older NeMo shards experts by TP too" if etp > 1 else "experts are not cut")
        if ranks % (ep * etp):
            raise RefusedError(f"EP {ep} x ETP {etp} does not divide the {ranks} ranks of a stage")
        return ep, etp

    def micro_batch(
        self,
        fits: CoarseFit,
        mb: int | None,
        batch: float | None,
        accumulate: int | None,
        tp: int,
        pp: int,
        cp: int,
        dp: int,
        ep: int,
    ) -> tuple[int, float]:
        """(micro-batch, sequences per step), whichever of the two the row states."""
        local = batch / dp if batch else None
        if mb and local and pp > 1 and self.is_sharded and not accumulate and local / mb <= 1:
            mb = 1  # PyTorch pipelines print the batch of a data rank
            self.fill("micro_batch", mb, "the batch printed is that of a data rank, fed to a pipeline")
        if mb is None:
            mb = self._usual_micro_batch(local, accumulate, pp)
            if mb is None:
                mb = fits.micro_batch(tp, pp, cp, dp, ep, round(local) if local else 8)
            if not (self.stack.startswith("jax") and self.row.get("per_device_batch_stated")):
                self.fill(
                    "micro_batch", mb, "1 in a pipeline; else the local batch, or the largest part of it that fits"
                )
        if batch is None:
            rounds = 1 if self.is_sharded and pp == 1 else max(32, 8 * pp)
            batch = float(mb * dp * rounds)
            self.fill("batch", f"{batch:g}", f"not stated: {rounds} micro-batches per replica")
        if batch < mb * dp:
            mb = max(1, int(batch // dp))
        return mb, batch

    def _usual_micro_batch(self, local: float | None, accumulate: int | None, pp: int) -> int | None:
        """The micro-batch that the software takes where the row does not state it; None for the largest that fits.
        local: sequences of a data rank, None where the batch is not known."""
        if pp > 1 or (local is not None and local < 1):
            return 1
        if local is None:
            return None
        if accumulate:
            return max(1, round(local / accumulate))
        return round(local) if self.stack.startswith("jax") else None  # jax: the whole local batch at once

    def chunks(self, model: Model, pp: int, rounds: float) -> int:
        """Model chunks per stage where the row does not state them: modern Megatron interleaves about 4 deep from PP 4
        on."""
        if self.stack not in ("megatron", "megatron-2025") or pp < 4 or rounds < pp:
            return 1
        for vpp in (4, 5, 3, 6, 2, 7):  # Megatron may count the embedding and the loss as layers
            if any((model.num_layers + extra) % (pp * vpp) == 0 for extra in (0, 2)):
                return vpp
        return 1

    def kind(self) -> str:
        """Model and stack, which group the errors."""
        return "lora" if self.is_frozen else f"{'moe' if self.is_moe else 'dense'} {self.stack}"

    def measured(self, model: Model, system: Platform, job: TrainJob) -> tuple[str, float, float]:
        """(metric, its figure, the step time from it, s)."""
        row = self.row
        metric = row["primary_metric"].split(" ")[0]
        metrics = table_form("training").metrics
        if metric not in metrics:
            raise RefusedError(f"primary_metric '{row['primary_metric']}' is not one of {', '.join(metrics)}")
        value = self.number(metric)
        if value is None or value <= 0:
            raise RefusedError(f"{metric} is blank")
        tokens = job.tokens_per_step
        if is_time(metric):
            return metric, value, value
        if metric in ("tokens_per_s_per_chip", "derived_tokens_per_s_per_chip"):
            return metric, value, tokens / (value * system.chips)
        if metric == "tokens_per_s_total":
            return metric, value, tokens / value
        if metric == "seqs_per_s_total":
            return metric, value, job.batch_seqs / value
        rate = self.number("tokens_per_s_per_chip") or self.number("derived_tokens_per_s_per_chip")
        total = self.number("tokens_per_s_total")
        if total:
            return metric, value, tokens / total
        if rate:
            return metric, value, tokens / (rate * system.chips)
        if self.number("step_time_s"):
            return metric, value, float(row["step_time_s"])
        flop_s = value * 1e12
        if metric == "mfu_reported_pct":
            flop_s = value / 100.0 * system.peak_flops["bf16"] * system.devices_per_chip
        return metric, value, tokens * stated_flop_per_token(row, model, job.seq) / (flop_s * system.chips)


def _has_mtp(row: PublishedRow, stack: str) -> bool:
    """Megatron trains the prediction blocks of a model that has them; other stacks, and rows labelled "w/o MTP", do
    not."""
    return stack in ("megatron", "megatron-2025") and "w/o mtp" not in row.get("notes", "").casefold()


def _possible_batch(sequences: float) -> float:
    """Sequences of a step. Raises RefusedError for more than any step has."""
    if not sequences <= LARGEST_COUNT:
        raise RefusedError(f"a batch of {sequences:g} sequences is larger than any")
    return sequences


def read_cases(rows: list[PublishedRow], facts: Facts) -> list[Case | str]:
    """A `Case` for each row, or the reason why there is none, in order."""
    known = SharedRuns()
    out: list[Case | str] = []
    for row in rows:
        try:
            out.append(_Reader(row, facts, known).read())
        except RefusedError as refusal:
            out.append(str(refusal))
    return out
