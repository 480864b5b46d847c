"""Questions that a scenario file asks: traffic, sweeps, fleets, reinforcement learning."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mowich.api.keyword_verb import keyword_verb
from mowich.requests import scenarios
from mowich.requests.rl import RL, RlRequest
from mowich.studies import fleet as _fleet
from mowich.studies import sweep as _sweep
from mowich.studies.fleet import Fleet
from mowich.studies.sweep import Sweep
from mowich.studies.sweep_grid import asked_grid

if TYPE_CHECKING:
    from mowich.studies.rl_answer import RlAnswer
    from mowich.studies.sweep_store import Parts
    from mowich.studies.traffic import TrafficResult


@keyword_verb(scenarios.TRAFFIC, "scenario")
def traffic(asked: scenarios.TrafficRequest) -> TrafficResult:
    """Simulate the serving traffic of a scenario, request by request.

    Args:
        scenario: a file, the name of one that ships ("chat-llama-70b"), or its text in braces.
        requests_out: a CSV file with a line for each request.
        sessions_out: a CSV file with a line for each session of agents, or of a trace of sessions.
        trace_out: a timeline for ui.perfetto.dev.
        draws: other draws of the traffic for the ranges (0: no ranges).
        autoscale: rules of autoscaling instead of the scenario's: inside, queue, sla, forecast; the first is played,
            the others are compared with it.
        regret: what autoscaling paid beyond the best in hindsight.
        facts: other facts than the shipped ones.

    Returns: a `TrafficResult`: percentiles of time to first token and per token. Units: seconds.

    Example:
        >>> import mowich
        >>> mowich.traffic("chat-llama-70b", draws=0).ttft_s["p99"] > 0
        True
    """
    from mowich.studies.traffic import traffic as study

    return study(asked)


@keyword_verb(RL, "model")
def rl(asked: RlRequest) -> RlAnswer:
    """A step of reinforcement learning on one system or several, or the split of chips that costs least.

    Args:
        model: a model; or a scenario: a file, the name of one that ships ("rl-nemo-8b"), or its text in braces. What
            is given beside a scenario wins over it.
        algorithm: "grpo", "ppo", "dapo" (with acceptance), "distill" (with a teacher).
        teacher: the model that rates the answers of a distillation.
        critic: of ppo, where it is another model than the policy.
        prompts: of a step.
        samples: answers to each prompt.
        batch: samples of a step, with one of the two.
        global_batch: samples of an optimizer step; all of a step where it is not given.
        epochs: how often a batch is trained on.
        mean: mean tokens of an answer.
        cap: longest answer in tokens.
        sigma: spread of lognormal lengths.
        quantiles: lengths in place of a mean, {"p50": 900, "p90": 2500}.
        lengths: a CSV with the lengths of a run's answers, in place of a mean.
        column: of that file, "tokens" where it is not given.
        prompt: mean tokens of a prompt.
        max_sequence: longest sequence that is trained on.
        reference: whether a reference model reads each batch.
        acceptance: share of groups that dynamic sampling keeps.
        placement: "colocated" or "split"; follows from where both sides are.
        staleness: steps by which weights that answer may be behind.
        order: "started" or "finished": the groups that an update takes.
        partial: whether new weights reach answers that are being made.
        on: where both sides are, "h100:16"; with `chips`, systems to split over.
        chips: in all, of a search for a split.
        goal: of the search, "cost" or "time".
        budget: with the goal "time": most dollars per million trained tokens.
        rollouts: where answers are made, "trn3:64".
        trainer: where updates are made, "gb300:72".
        engine: of rollouts, with its release.
        release: of the engine.
        rollout_plan: of a worker, {"tp": 4, "weights": "fp8"}; searched where it is not given.
        memory_share: of a device, that the engine may use.
        accept: tokens kept per speculative step.
        drafts: tokens drafted per speculative step.
        stack: training software.
        trainer_plan: choices of the trainer's plan, {"tp": 2, "pp": 4}; the others are searched.
        framework: "nemo-rl", "verl@0.5", ...
        sync: how new weights reach the workers.
        link: between the sites of both sides, "100Gbit/s".
        environment: "math", "code", "python", "shell", "swe": its usual times.
        turns: of the model in a sample, with a call of a tool between two.
        call: mean time of such a call.
        reward: mean time until a sample's reward.
        judge: a model that rewards, on chips of its own.
        judge_on: these chips.
        judge_tokens: that it writes for a sample.
        price: kind of price.
        term: the older name of `price`.
        seed: of the drawn lengths.
        facts: other facts than the shipped ones.

    Returns: an `RlAnswer`: `.rows`, one for a run; of a search the split first, then what it is compared with. Units:
        seconds, tokens, bytes/s, dollars per million trained tokens.

    Example:
        >>> import mowich
        >>> run = mowich.rl("rl-nemo-8b")
        >>> run.rows[0].step_s.unit, run.rows[0].staleness_max
        ('s', 0)
    """
    from mowich.studies.rl_answer import rl_found

    return rl_found(asked)


@keyword_verb(scenarios.SWEEP, "scenario", "systems", gives={"": "Sweep", "out": "Parts"})
def sweep(asked: scenarios.SweepRequest) -> Sweep | Parts:
    """The best plan at every point of a grid: of a scenario, or of models, systems and a job.

    Args:
        scenario: a file, the name of one that ships, or its text in braces; with `train` or `serve` the model, or
            several.
        systems: with a job: names of systems. Here, and in each value of a job: a text with commas, a range
            ("64..512:x2"), or a list. Beside a scenario it takes the place of the scenario's.
        train: a training job, whose values may be axes: {"tokens": "1T", "seq": [4096, 8192], "batch": "256seqs"}.
        serve: a serving job in the same way: {"isl": "1k,8k", "osl": "1k", "tpot": ["20ms", "50ms"]}.
        chips: of each system: "8..64:x2".
        fixed: choices of the plan that hold at every point, with a job: {"pp": 1}.
        vary: further axes, of plan fields and facts: {"plan.tp": "1,2"}.
        executor: any of `concurrent.futures`.
        tasks: pieces of work for it (with `out`: that many workers).
        price: kind of price for all points.
        stack: training software.
        recipe: "future" takes precisions too that no software ships on a chip; "shipped" is the default.
        term: the older name of `price`.
        out: a directory for Parquet, where a killed sweep goes on (needs the extra [tables]).
        facts: other facts than the shipped ones.

    Returns: a `Sweep`: `.rows`, one (question, answer) for each point; with `out` the `Parts` on disk. Units: SI.

    Example:
        >>> import mowich
        >>> job = {"tokens": "1T", "seq": 4096, "batch": "256seqs"}
        >>> len(mowich.sweep("llama-3.1-8b", "trn3,h100", train=job, chips=64, fixed={"precision": "bf16"}).rows)
        2
    """
    grid, known, pool = asked_grid(asked), asked.facts, asked.executor
    if asked.folder is None:
        return _sweep.sweep(grid, known, term=asked.term, stack=asked.stack, executor=pool, tasks=asked.tasks)
    from mowich.studies.sweep_store import sweep_to

    return sweep_to(asked.folder, grid, known, term=asked.term, stack=asked.stack, executor=pool, workers=asked.tasks)


@keyword_verb(scenarios.FLEET, "scenario")
def fleet(asked: scenarios.FleetRequest) -> Fleet:
    """What to buy, rent and assign in each period of a scenario.

    Args:
        scenario: a file, or the name of one that ships ("startup").
        have: in its place, systems and the chips of each that are there: "trn2:512,h100:64".
        work: with `have`, what is to be done: "serve llama-3.1-70b isl=2000 osl=500", one text or several.
        rates: a file of speeds, instead of predicting them.
        draws: of prices and speeds within their ranges (0: none).
        flips: whether to look for prices and speeds at which the leader changes.
        tenant: whose share of the chip-hours falls, and to what share: "anthropic=30%" or ("anthropic", 0.3).
        relaxed: whether fractions of a unit are allowed.
        gap: how far above the best bound the answer may end, a share.
        seed: of the draws.
        facts: other facts than the shipped ones.

    Returns: a `Fleet`: `.answer` with orders, use and shares by period. Units: dollars, joules, chips.

    Example:
        >>> import mowich
        >>> mowich.fleet("startup", draws=0).answer.is_feasible
        True
    """
    return _fleet.fleet(asked)
