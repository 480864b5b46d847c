"""Measured steps of reinforcement learning: each row becomes a run.

A row is a whole step (`step`), a micro-batch of the trainer (`trainer_only`), or a hand-over of weights (`weight_sync`,
read by `sync_rows`). A row that leaves out what decides its time is refused with every reason: no mean length of
answers, no acceptance of dynamic sampling, no time of tools, an unknown model or machine. The rules never read a row's
id, and nothing here looks at a predicted time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar, get_args

from mowich.errors import UserError
from mowich.evidence.measured_tables import table_form
from mowich.evidence.row_checks import Cells, PublishedRow, RefusedError, cell_count, cell_text, refusal
from mowich.evidence.row_words import recompute_of, switch_of
from mowich.evidence.serving_notes import engine_of, find_model
from mowich.facts import Facts
from mowich.machines.system import PRECISIONS, resolve
from mowich.models.model import Model
from mowich.models.task import Lora
from mowich.operators.tables.schema import FORMAT_B
from mowich.plans.plan import WEIGHTS, Plan, ServePlan, TrainJob, one_of
from mowich.rl.frameworks import Framework, read_framework
from mowich.rl.job import BatchOrder, Environment, Pass, RlJob, SidePlacement
from mowich.rl.lengths import Lengths

P_co = TypeVar("P_co", bound=Plan | ServePlan, covariant=True)
RowKind = Literal["step", "trainer_only", "weight_sync", "queue"]
ROW_KINDS: tuple[RowKind, ...] = get_args(RowKind)

PHASES: Mapping[str, str] = {
    "step_time_s": "step",
    "gen_time_s": "generation",
    "exposed_gen_time_s": "waiting for answers",
    "train_time_s": "training",
    "logprob_time_s": "log-probabilities",
    "ref_time_s": "log-probabilities of the reference",
    "weight_sync_s": "weight sync",
}
"""Column of seconds -> the phase that it times. exposed: the time that the trainer waits for answers."""

_COMPLAINT = re.compile(r"complain|defect|do not fit|ratio only|untuned|far from the chip", re.IGNORECASE)
"""Words of `doubts` for runs whose time is useless: from a complaint, with a defect, without a stated phase, or with
kernels for another generation of chips."""

_NUMBERED = re.compile(r"v?\d")
"""How a release with a number begins."""

_UNSURE_TOTAL = re.compile(r"tokens off the printed mean", re.IGNORECASE)
"""Words of `doubts` for a total of tokens that contradicts the mean length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RlSide(Generic[P_co]):
    """One side of a measured run. system_id, devices: where; software: engine or stack; plan: None where the row does
    not state it."""

    system_id: str
    devices: int
    software: str
    plan: P_co | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RlCase:
    """A row, read. row: as `told_row` has it; release: number of the framework's release, "" where not stated; job: of
    a step; update: of a trainer's micro-batch; saves_B: bytes of weights that the trainer writes for each micro-batch;
    rollouts: None where only the trainer ran; measured: seconds by column of `PHASES`; skip: columns that are not
    scored, with the reason; inferred: "field=value (how)"; pair: the key that a synchronous and an asynchronous run of
    one table share."""

    row: PublishedRow
    framework: Framework
    release: str
    model: Model
    trainer: RlSide[Plan]
    rollouts: RlSide[ServePlan] | None
    job: RlJob | None
    update: TrainJob | None
    saves_B: float
    memory_share: float | None
    measured: Mapping[str, float]
    skip: Mapping[str, str]
    inferred: tuple[str, ...]
    pair: tuple[str, ...]
    is_asynchronous: bool | None


def told_row(row: PublishedRow) -> PublishedRow:
    """A row with what results tell of it. chip: its hardware, without remarks in brackets; family: model and hardware,
    as its table groups them; stack: the framework in the row's words, with the number of its release.

    >>> told = told_row({"hardware": "H100 (not re-checked)", "framework": "slime", "framework_version": "v0.2"})
    >>> told["chip"], told["family"], told["stack"]
    ('H100', '? | H100', 'slime v0.2')
    """
    chip = re.sub(r"\s*\(.*", "", row.get("hardware") or "").strip()
    family = row.get("family") or f"{row.get('model') or '?'} | {chip or '?'}"
    return {**row, "chip": chip, "family": family, "stack": f"{row.get('framework') or '?'} {_release(row)}".strip()}


def _release(row: PublishedRow) -> str:
    """The release of the framework, where the row states its number."""
    stated = cell_text(row, "framework_version")
    return stated if _NUMBERED.match(stated) else ""


def read_rl_row(row: PublishedRow, facts: Facts) -> RlCase | str:
    """The run of a row, or the reasons why it cannot be predicted, in words."""
    try:
        return _Reader(told_row(row), facts).case()
    except RefusedError as error:
        return str(error)
    except UserError as error:
        return error.line()


class _Reader(Cells):
    """One row while it is read. missing: required inputs that the row does not state."""

    def __init__(self, row: PublishedRow, facts: Facts) -> None:
        super().__init__(row)
        self.facts = facts
        self.missing: list[str] = []

    def count(self, column: str) -> int:
        return cell_count(self.row, column)

    def need(self, words: str, stated: object = None) -> None:
        """Note what is missing, unless it is stated."""
        if not stated:
            self.missing.append(words)

    # ---- the row
    def case(self) -> RlCase:
        """Raises RefusedError with every reason at once."""
        table_form("rl").check_whole(self.row)
        kind = next(known for known in ROW_KINDS if known == self.text("row_kind"))
        doubts = self.text("doubts")
        self.need(f"its own doubts: {doubts.replace(';', ',')}", not _COMPLAINT.search(doubts))
        wanted = ("train_time_s",) if kind == "trainer_only" else tuple(PHASES)
        measured = {column: float(self.row[column]) for column in wanted if self.number(column)}
        self.need("the row states no time that is predicted", measured)
        framework, model, system_id = self.framework(), self.model(), self.system()
        placement: SidePlacement = "colocated" if self.text("colocated") == "yes" else "split"
        trains, makes = self.devices(is_alone=kind == "trainer_only", placement=placement)
        job = self.job(framework, placement) if kind == "step" else None
        update = self.update(trains) if kind == "trainer_only" else None
        stack = self.stack(framework)
        trainer = RlSide(system_id=system_id, devices=trains, software=stack, plan=self.trainer_plan(trains, stack))
        self.need("the degrees of the trainer are not stated", kind != "trainer_only" or trainer.plan)
        rollouts = None
        if kind == "step":
            engine, plan = self.engine(framework), self.worker_plan()
            rollouts = RlSide(system_id=system_id, devices=makes, software=engine, plan=plan)
        if self.missing or model is None:
            raise RefusedError("; ".join(self.missing))
        return RlCase(
            row=self.row,
            framework=framework,
            release=_release(self.row),
            model=model,
            trainer=trainer,
            rollouts=rollouts,
            job=job,
            update=update,
            saves_B=self.saves_B(model, framework) if update else 0.0,
            memory_share=self.number("gen_mem_util"),
            measured=measured,
            skip=self.skip(measured, placement),
            inferred=tuple(self.inferred),
            pair=tuple(self.text(column) for column in _IN_PAIR),
            is_asynchronous=None if job is None else job.staleness > 0,
        )

    def framework(self) -> Framework:
        word, stated, release = self.text("framework"), self.text("framework_version"), _release(self.row)
        if stated and not release:
            self.fill("release", "the newest", f"'{stated}' has no number")
        try:
            return read_framework(self.facts, word, release)
        except UserError:
            self.fill("framework", "unstated", f"no facts of '{word}'")
            return read_framework(self.facts, "")

    def model(self) -> Model | None:
        for word in filter(None, (self.text("hf_model"), self.text("model"))):
            try:
                return find_model(word)
            except UserError:
                continue
        self.need(f"no model '{self.text('model')}'")
        return None

    def system(self) -> str:
        """The machine."""
        word = self.text("chip")
        slice_ = re.fullmatch(r"TPU (v\w+)-\d+", word)
        try:
            return resolve(self.facts, slice_[1] if slice_ else word).id
        except UserError:
            self.need(f"no machine '{word}'")
            return ""

    def devices(self, *, is_alone: bool, placement: SidePlacement) -> tuple[int, int]:
        """(devices that train, devices that make answers)."""
        trains, makes, total = (self.number(f"n_gpus_{side}") for side in ("train", "gen", "total"))
        if placement == "colocated" or is_alone:
            trains = trains or total
            makes = makes or trains
        if not trains or not makes:
            self.need("how many devices train and how many make answers is not stated")
            return 0, 0
        return round(trains), round(makes)

    def job(self, framework: Framework, placement: SidePlacement) -> RlJob | None:
        """The job of a step; None where something is missing."""
        prompts, samples = self.number("prompts_per_step"), self.number("samples_per_prompt")
        mean = self.number("mean_gen_len") or self.number("mean_seq_len")
        cap = self.number("max_new_tokens") or self.number("max_seq_len")
        acceptance = self.number("acceptance")
        is_dynamic = self.names(r"dapo|dynamic sampling")
        self.need("the batch is not stated (prompts and samples of each)", prompts and samples)
        self.need("the mean length of answers is not stated", mean)
        self.need("the longest answer that is allowed is not stated", cap)
        kept = "dynamic sampling: the share of groups that it keeps is not stated"
        self.need(kept, not is_dynamic or acceptance is not None)
        environment = self.environment()
        if self.missing or not (prompts and samples and mean and cap):
            return None
        if mean >= cap:
            raise refusal("mean_seq_len", f"{mean:g}", f"below the longest answer, {cap:g} tokens")
        batch = round(prompts * samples)
        per_update = self.number("train_global_batch") or (self.number("ppo_mini_batch_prompts") or prompts) * samples
        prompt = self.prompt(batch, mean)
        stated = self.number("max_seq_len") or (self.number("max_prompt") or prompt) + cap
        sigma = self.facts.number("rl.assumed.sigma")
        self.fill("sigma", f"{sigma:g}", "lengths beside their mean and cap are not stated")
        return RlJob(
            algorithm="dapo" if is_dynamic else "ppo" if self.names("ppo") else "grpo",
            prompts=round(prompts),
            samples=round(samples),
            global_batch=round(min(per_update, batch)),
            lengths=Lengths.lognormal(mean=mean, cap=cap, sigma=sigma),
            prompt=prompt,
            most=max(stated, prompt + mean),
            passes=self.passes(framework),
            acceptance=acceptance or 1.0,
            placement=placement,
            staleness=self.staleness(framework, placement),
            order=self.order(framework),
            partial=self.partial(framework),
            environment=environment,
        )

    def environment(self) -> Environment:
        """What a sample waits for; where tools are called, their number and time are needed."""
        turns, call_s = self.number("turns"), self.number("call_s")
        is_agent = self.names(r"multi-turn|tool|agent")
        self.need("tools are called: their number and time are not stated", not is_agent or (turns and call_s))
        return Environment(turns=turns or 1.0, call_s=call_s or 0.0, reward_s=self.number("reward_s") or 0.0)

    def names(self, words: str) -> bool:
        """Whether the algorithm is one of these."""
        return bool(re.search(words, self.text("algorithm"), re.IGNORECASE))

    def prompt(self, batch: int, mean: float) -> float:
        """Mean tokens of a prompt: all tokens of a step less those of the answers."""
        total = self.number("total_tokens_per_step")
        if total and total / batch > mean and not _UNSURE_TOTAL.search(self.text("doubts")):
            return total / batch - mean
        tokens = self.facts.number("rl.assumed.prompt")
        self.fill("prompt", f"{tokens:g}", "tokens of a prompt are not stated")
        return tokens

    def passes(self, framework: Framework) -> tuple[Pass, ...]:
        """The passes that the row times; the framework's where it times none."""
        if self.number("ref_time_s"):
            return ("policy", "reference")
        if self.text("logprob_time_s") and float(self.text("logprob_time_s")) == 0.0:
            return ()
        self.fill("passes", "+".join(framework.forward) or "none", f"default of {framework.display}")
        return framework.forward

    def staleness(self, framework: Framework, placement: str) -> int:
        if placement == "colocated":
            return 0
        stated = self.number("max_staleness")
        if stated is None:
            synchronous = bool(re.match(r"synchronous", self.text("async_mode"), re.IGNORECASE))
            found = 0 if synchronous else framework.staleness
            self.fill("staleness", found, "the word synchronous" if synchronous else f"default of {framework.display}")
            return found
        if stated % 1:
            self.fill("staleness", 1, f"{stated:g} of a batch")
            return int(stated) + 1
        return int(stated)

    def order(self, framework: Framework) -> BatchOrder:
        return "started" if re.search(r"one[- ]step[- ]off", self.text("async_mode")) else framework.order

    def partial(self, framework: Framework) -> bool:
        stated = switch_of("inflight_weight_updates", self.text("inflight_weight_updates"))
        if stated is not None:
            return stated
        if "partial rollout" in self.text("async_mode"):
            return not re.search(r"no partial", self.text("async_mode"))
        return framework.partial

    def stack(self, framework: Framework) -> str:
        """The training stack that the row names; else the framework's."""
        word = self.text("train_backend").casefold()
        if "megatron" in word:
            return "megatron"
        if "fsdp" in word or "dtensor" in word:
            return framework.stack if framework.stack.startswith("pytorch") else "pytorch-fsdp"
        self.fill("stack", framework.stack, f"default of {framework.display}")
        return framework.stack

    def engine(self, framework: Framework) -> str:
        word = self.text("gen_engine")
        if word:
            return engine_of(word)
        self.fill("engine", framework.engine, f"default of {framework.display}")
        return framework.engine

    def trainer_plan(self, devices: int, stack: str) -> Plan | None:
        """The plan that the row states; None where it states no degree."""
        tp, cp, pp, ep = (self.count(f"train_{name}") for name in ("tp", "cp", "pp", "ep"))
        if not devices or not self.text("train_tp"):
            if devices:
                self.fill("trainer plan", "searched", "no degree is stated")
            return None
        inner = tp * cp * pp
        if devices % inner:
            raise refusal("n_gpus_train", str(devices), f"a multiple of tp x cp x pp, {inner}")
        vpp, again = self.count("train_vpp"), self.text("recompute")
        precision = self.text("train_precision") or "bf16"
        is_megatron = not stack.startswith("pytorch")
        sp = switch_of("sequence_parallel", self.text("sequence_parallel")) if is_megatron else False
        return Plan(
            tp=tp,
            cp=cp,
            pp=pp,
            ep=ep,
            dp=devices // inner,
            vpp=vpp,
            schedule="interleaved" if vpp > 1 else "1f1b",
            sp=tp > 1 if sp is None else sp and tp > 1,
            zero=1 if is_megatron else 3,
            micro_batch=self.count("micro_batch"),
            recompute=one_of("full" if "offload" in again else recompute_of(again) or "none", _RECOMPUTE, "recompute"),
            offload="activations" if "offload" in again else "none",
            precision=one_of(precision, PRECISIONS, "precision"),
        )

    def worker_plan(self) -> ServePlan | None:
        """The plan of one worker; None where the row states no degree."""
        if not self.text("gen_tp"):
            self.fill("worker", "searched", "no degree is stated")
            return None
        weights = one_of(self.text("gen_precision") or "bf16", WEIGHTS, "format of weights")
        return ServePlan(tp=self.count("gen_tp"), pp=self.count("gen_pp"), ep=self.count("gen_ep"), weights=weights)

    def update(self, devices: int) -> TrainJob | None:
        """A micro-batch of each device of a trainer that ran alone."""
        seq = self.number("max_seq_len") or self.number("mean_seq_len")
        if not seq or not devices:
            self.need("the length of the trained sequences is not stated")
            return None
        rank = re.search(r"LoRA\s*\(r=(\d+)\)", self.text("notes"))
        return TrainJob(
            tokens=1e12,
            seq=round(seq),
            batch_seqs=float(devices * self.count("micro_batch")),
            task="lora" if rank else "pretrain",
            lora=Lora(rank=int(rank[1])) if rank else None,
        )

    def saves_B(self, model: Model, framework: Framework) -> float:
        """Bytes of weights that a trainer of full weights writes for the workers, for each micro-batch. Its benchmark
        runs steps of `_MICRO_BATCHES`, and writes after each."""
        if "file_rate" not in framework.paths or not re.search(r"\bRL Full\b", self.text("notes")):
            return 0.0
        return FORMAT_B["bf16"] * model.params / _MICRO_BATCHES

    def skip(self, measured: Mapping[str, float], placement: str) -> dict[str, str]:
        """Columns whose time belongs to no phase of a step."""
        if placement == "split" and "gen_time_s" in measured:
            return {"gen_time_s": "generation of a split run is hidden: the trainer's waiting is scored"}
        return {}


_MICRO_BATCHES = 2
"""Micro-batches of a step of prime-rl's benchmark (benchmarks/scripts/run_single_benchmark.py, micro_batches)."""

_IN_PAIR = (
    "source",
    "framework",
    "framework_version",
    "model",
    "hardware",
    "n_gpus_total",
    "prompts_per_step",
    "samples_per_prompt",
    "max_new_tokens",
    "max_seq_len",
    "gen_precision",
    "train_precision",
)
"""Columns that agree where a synchronous and an asynchronous run differ only by their order of work."""

_RECOMPUTE: tuple[Literal["none", "selective", "full", "experts"], ...] = ("none", "selective", "full", "experts")
