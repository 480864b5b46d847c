"""The scheduler of a traffic scenario: the defaults of an engine at a release, and its options in common words or in
the engine's own."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mowich.facts import Facts
from mowich.plans.launch_settings import LaunchSettings
from mowich.plans.schedulers import EngineScheduler, family_of, foreign_option, scheduler_of
from mowich.scenario import Node
from mowich.serving.traffic.policies import ADMISSIONS, PREEMPTIONS, RETRACT, SCHEDULER_POLICIES, Scheduler
from mowich.software.engine import packs_prompts
from mowich.studies.serving import BLOCK

MOST_IN_A_STEP = 2**20
"""Most tokens, and most sequences, of an engine's step: times are tabled for each number of them."""
_NO_EVICT = "GUARANTEED_NO_EVICT"
CAPACITY_POLICIES = {_NO_EVICT: "answer", "MAX_UTILIZATION": "chunk", "STATIC_BATCH": "batch"}
"""What TensorRT-LLM calls its rules of admission."""
COMPILED_SEQUENCES = 32
"""Sequences of a compiled graph where none are stated: the default of vLLM Neuron over NxD Inference."""
SHORTEST_BUCKET = 128
"""Tokens of the shortest bucket that NxD Inference chooses by itself."""
_COMPILED = (
    "token_generation_buckets",
    "context_encoding_buckets",
    "ctx_batch_size",
    "max_model_len",
    "is_block_kv_layout",
)
"""Options that say for which shapes graphs were compiled."""


@dataclass(slots=True, kw_only=True)
class SchedulerReader:
    """The keys of a scheduler, each in common words or in those of the engine. own: the engine's scheduler, None where
    the engine has no scheduler that is described."""

    node: Node
    facts: Facts
    engine: str
    own: EngineScheduler | None
    conservativeness: float = 1.0

    def spelled(self, option: str) -> str:
        """The key under which an option stands: the common one, or the engine's word where that is given."""
        word = self.own.words[option]["word"] if self.own and option in self.own.words else option
        if word != option and word in self.node and option in self.node:
            self.node.wrong(word, f"is {option} too", fix="leave one of them out")
            self.node.raw(option)
        return word if word in self.node else option

    def has(self, option: str) -> bool:
        """Whether an option that only some engines have is given, and is this engine's."""
        return self.own is not None and option in self.own.words and self.spelled(option) in self.node

    def count(self, option: str, default: float, *, minimum: float = 1) -> int:
        return int(self.node.count(self.spelled(option), default, minimum=minimum, maximum=MOST_IN_A_STEP))

    def flag(self, option: str, default: bool) -> bool:
        key = self.spelled(option)
        is_not = key != option and self.own is not None and bool(self.own.words[option].get("not"))
        return self.node.flag(key, default != is_not) != is_not

    def scheduler(self, launch: LaunchSettings, answer_limit: int, *, is_trace: bool) -> Scheduler:
        node, facts, engine = self.node, self.facts, self.engine
        chosen = default_rules(Scheduler(), facts, engine, self.own)
        for key, name, value in (
            (self.spelled("max_num_batched_tokens"), "budget", launch.budget),
            ("memory_share", "memory", launch.memory),
        ):
            if value is not None:
                node.refuse(f"is plan.{name} too", key, fix="leave one of them out")
        if (node.raw("preemption") == "swap" or node.raw("host_blocks")) and "host_bandwidth" not in node:
            allowed = 'a quantity such as "50 GB/s"'
            node.problem("host_bandwidth", "is needed to move cache to host memory", allowed=allowed)
        budget = launch.budget or facts.number(f"serving.{engine}.prompt_budget")
        mixes, chunks = (self.own.number(facts, what) if self.own else None for what in ("mixes", "chunks"))
        if mixes is None:
            mixes = facts.number(f"serving.{engine}.mixes_prompts")
        chosen = replace(
            chosen,
            budget=self.count("max_num_batched_tokens", budget),
            max_sequences=self.count("max_num_seqs", chosen.max_sequences),
            block=int(node.count(self.spelled("block_size"), BLOCK)),
            chunks=self.flag("chunked_prefill", chunks is None or chunks > 0),
            mixes=self.flag("mix_prefill", mixes > 0),
            packs=packs_prompts(facts, engine),
            policy=self._policy(chosen.policy),
            preemption=(
                node.text("preemption", PREEMPTIONS[0], allowed=PREEMPTIONS)
                if "preemption" in node
                else chosen.preemption
            ),
            host_blocks=int(node.count("host_blocks", 0, minimum=0)),
            host_Bps=node.quantity("host_bandwidth", "B/s", chosen.host_Bps) or chosen.host_Bps,
            answer_limit=answer_limit,
        )
        chosen = self._cached(chosen, is_trace=is_trace)
        return self._compiled(self._own_rules(chosen))

    def of_pool(self, scheduler: Scheduler, engine: str, dp: int) -> Scheduler:
        """The scheduler of a pool of workers with attention data parallelism of `dp`: a pool of another engine has that
        one's rules, at its newest release, and of the keys those that all engines have."""
        own = self.own
        if family_of(engine) != (own.family if own else None):
            own = scheduler_of(self.facts, engine)
            other = default_rules(scheduler, self.facts, engine)
            if "preemption" in self.node:
                other = replace(other, preemption=scheduler.preemption)
            if scheduler.policy == "priority":
                other = replace(other, policy=scheduler.policy)
            scheduler = replace(other, compiled=0, slot=0, prompt_buckets=(), token_buckets=())
        times = self.conservativeness
        if dp > 1 and own is not None and (share := own.number(self.facts, "ratio_dp")) is not None:
            times *= share
        ratio = min(scheduler.ratio * times, 1.0)
        return replace(scheduler, ratio=ratio, ratio_least=ratio * scheduler.ratio_least / scheduler.ratio)

    def _policy(self, default: str) -> str:
        """The order of the queue."""
        key = self.spelled("policy")
        allowed = self.own.words.get("policy", {}).get("values") if self.own else None
        known = tuple(allowed or SCHEDULER_POLICIES[:2])
        given = str(self.node.raw(key, default))
        if given in SCHEDULER_POLICIES and given not in known:
            name = self.own.name if self.own else self.engine
            self.node.problem(key, f"is an order of SGLang, not of {name}", given=given, allowed=known)
            return default
        return self.node.text(key, default, allowed=known)

    def _own_rules(self, chosen: Scheduler) -> Scheduler:
        """What only some engines have."""
        node = self.node
        if self.has("capacity_scheduler_policy"):
            key = self.spelled("capacity_scheduler_policy")
            chosen = replace(
                chosen, admission=CAPACITY_POLICIES[node.text(key, _NO_EVICT, allowed=[*CAPACITY_POLICIES])]
            )
        if self.has("scheduler_reserve_full_isl"):
            chosen = replace(chosen, admission="prompt" if node.flag("scheduler_reserve_full_isl", True) else "chunk")
        if self.has("long_prefill_token_threshold"):
            chosen = replace(chosen, long_prompt=self.count("long_prefill_token_threshold", 0, minimum=0))
        if self.has("schedule_conservativeness"):
            self.conservativeness = node.number("schedule_conservativeness", 1.0, low=0.01, high=100.0)
        if self.has("max_prefill_tokens"):
            chosen = replace(chosen, budget=min(chosen.budget, self.count("max_prefill_tokens", chosen.budget)))
        return chosen

    def _cached(self, chosen: Scheduler, *, is_trace: bool) -> Scheduler:
        """With the prefix cache, and what a name of its blocks stands for: a block, or what the names of a trace do."""
        node = self.node
        caches = self.flag("prefix_cache", chosen.policy in ("lpm", "dfs-weight"))
        hash_block = int(node.count("hash_block", chosen.block if caches and not is_trace else chosen.hash_block))
        if caches and hash_block % chosen.block:
            allowed = f"multiples of {chosen.block}"
            node.problem("hash_block", "is not a multiple of block_size", given=hash_block, allowed=allowed)
        return replace(chosen, prefix_cache=caches, hash_block=hash_block)

    def _compiled(self, chosen: Scheduler) -> Scheduler:
        """Steps of compiled graphs, where a key says for which shapes they were compiled. Without such a key, times are
        as they were fitted: to rows whose graphs held as many sequences as asked."""
        node = self.node
        if not any(self.has(option) for option in _COMPILED):
            return chosen
        tokens = self._buckets("token_generation_buckets")
        key = self.spelled("max_model_len")
        longest = int(node.count(key, tokens[-1] if tokens else 0))
        prompts = self._buckets("context_encoding_buckets")
        batch = self.count("ctx_batch_size", 1) if self.has("ctx_batch_size") else 1
        in_blocks = self.has("is_block_kv_layout") and node.flag(self.spelled("is_block_kv_layout"), False)
        if not longest:
            node.problem(None, f"graphs are compiled for a length: {key} is missing", fix=f"{key}: 8192")
            return chosen
        prompts, tokens = prompts or _powers(longest), tokens or _powers(longest)
        sequences = chosen.max_sequences if self.spelled("max_num_seqs") in node else COMPILED_SEQUENCES
        return replace(
            chosen,
            compiled=sequences,
            max_sequences=sequences,
            prompt_buckets=prompts,
            token_buckets=tokens,
            prompt_batch=batch,
            slot=0 if in_blocks or chosen.prefix_cache else tokens[-1],
            budget=prompts[-1] * batch,
            chunks=False,
            mixes=False,
            packs=False,
        )

    def _buckets(self, option: str) -> tuple[int, ...]:
        """Lengths that graphs were compiled for, rising; none where they are not given or wrong."""
        if not self.has(option):
            return ()
        key = self.spelled(option)
        given = self.node.raw(key)
        values = given if isinstance(given, list) else [given]
        lengths = tuple(int(self.node.count_of(key, value, 1)) for value in values)
        if list(lengths) != sorted(set(lengths)) or max(lengths, default=0) > MOST_IN_A_STEP:
            allowed = f"lengths that rise, up to {MOST_IN_A_STEP:,}"
            self.node.problem(key, "is not a list of buckets", given=str(given), allowed=allowed)
            return ()
        return lengths

    def done(self) -> None:
        """Report keys that nobody asked for: whose they are, where they are somebody's."""
        known = [entry["word"] for entry in (self.own.words if self.own else {}).values()]
        for key in self.node:
            if not self.node.is_asked(key) and (error := foreign_option(key, self.engine, self.own)) is not None:
                self.node.wrong(key, error.what, allowed=error.allowed, fix=error.fix)
        self.node.done(known)


def _powers(longest: int) -> tuple[int, ...]:
    """The buckets that NxD Inference chooses by itself: powers of two up to the longest sequence."""
    rising = []
    length = SHORTEST_BUCKET
    while length < longest:
        rising.append(length)
        length *= 2
    return (*rising, longest)


def default_rules(start: Scheduler, facts: Facts, engine: str, own: EngineScheduler | None = None) -> Scheduler:
    """What an engine's scheduler does by default. own: at a release; None: at the newest."""
    own = own or scheduler_of(facts, engine)
    if own is None:
        return replace(
            start, admission="chunk", preemption=start.preemption if start.preemption != RETRACT else PREEMPTIONS[0]
        )
    plain = Scheduler()
    admission, room, order = (own.text(facts, what) for what in ("admission", "room", "order"))
    rules = {
        what: own.number(facts, what)
        for what in ("ratio", "ratio_least", "ratio_steps", "retract_ahead", "retract_steps", "answer_clip")
    }
    ratio = plain.ratio if rules["ratio"] is None else rules["ratio"]
    least = rules["ratio_least"]

    def whole(what: str) -> int:
        value = rules[what]
        return int(getattr(plain, what) if value is None else value)

    return replace(
        start,
        admission=next((a for a in ADMISSIONS if a == admission), plain.admission),
        preemption=room or plain.preemption,
        policy=order or plain.policy,
        ratio=ratio,
        ratio_least=plain.ratio_least if least is None else ratio * least,
        ratio_steps=whole("ratio_steps"),
        retract_ahead=whole("retract_ahead"),
        retract_steps=whole("retract_steps"),
        answer_clip=whole("answer_clip"),
    )
