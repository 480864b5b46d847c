"""Questions that a scenario file asks: traffic, sweeps, fleets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, overload

from mowich.api.keywords import keywords_asked
from mowich.facts import Facts
from mowich.requests import scenarios
from mowich.studies import fleet as _fleet
from mowich.studies import sweep as _sweep
from mowich.studies.fleet import Fleet
from mowich.studies.sweep import Sweep

if TYPE_CHECKING:
    from mowich.studies.sweep_store import Parts
    from mowich.studies.traffic import TrafficResult


def traffic(
    scenario: str | Path,
    *,
    requests_out: str | Path | None = None,
    trace_out: str | Path | None = None,
    sessions_out: str | Path | None = None,
    draws: int | None = None,
    autoscale: Sequence[str] | str = (),
    regret: bool = False,
    facts: Facts | None = None,
) -> TrafficResult:
    """Simulate the serving traffic of a scenario, request by request.

    Args:
        scenario: a file, the name of one that ships ("chat-llama-70b"), or its text in braces.
        requests_out: a CSV file with a line for each request.
        trace_out: a timeline for ui.perfetto.dev.
        sessions_out: a CSV file with a line for each session of agents, or of a trace of sessions.
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
    from mowich.studies import traffic as study

    given: dict[str, object] = {"requests_out": requests_out, "trace_out": trace_out, "sessions_out": sessions_out}
    given |= {"draws": draws, "autoscale": autoscale or None, "regret": regret}
    with keywords_asked(scenarios.TRAFFIC, facts, scenario=scenario, **given) as asked:
        return study.traffic(
            asked.scenario,
            asked.facts,
            requests_out=asked.requests_out,
            trace_out=asked.trace_out,
            sessions_out=asked.sessions_out,
            draws=asked.draws,
            autoscale=asked.autoscale,
            regret=asked.regret,
        )


@overload
def sweep(
    scenario: str | Path,
    *,
    out: None = None,
    vary: Mapping[str, str] | None = None,
    price: str | None = None,
    term: str = "default",
    stack: str | None = None,
    recipe: str | None = None,
    facts: Facts | None = None,
    executor: Executor | None = None,
    tasks: int = 1,
) -> Sweep: ...


@overload
def sweep(
    scenario: str | Path,
    *,
    out: str | Path,
    vary: Mapping[str, str] | None = None,
    price: str | None = None,
    term: str = "default",
    stack: str | None = None,
    recipe: str | None = None,
    facts: Facts | None = None,
    executor: Executor | None = None,
    tasks: int = 1,
) -> Parts: ...


def sweep(
    scenario: str | Path,
    *,
    out: str | Path | None = None,
    vary: Mapping[str, str] | None = None,
    price: str | None = None,
    term: str = "default",
    stack: str | None = None,
    recipe: str | None = None,
    facts: Facts | None = None,
    executor: Executor | None = None,
    tasks: int = 1,
) -> Sweep | Parts:
    """The best plan at every point of a scenario's grid.

    Args:
        scenario: a file, the name of one that ships, or its text in braces.
        out: a directory for Parquet, where a killed sweep goes on (needs the extra [tables]).
        vary: further axes, {"chips": "64..4096:x2"}.
        price: kind of price for all points.
        term: the same under its older name.
        stack: training software.
        recipe: "future" takes precisions too that no software ships on a chip; "shipped" is the default.
        facts: other facts than the shipped ones.
        executor: any of `concurrent.futures`.
        tasks: pieces of work for it (with `out`: that many workers).

    Returns: a `Sweep`: `.rows`, one (question, answer) for each point; with `out` the `Parts` on disk. Units: SI.

    Example:
        >>> import mowich
        >>> text = (
        ...     "{mowich: 1, models: llama-3.1-8b, on: [trn3, h100], chips: [64], seq: 4096,"
        ...     " batch: 256seqs, tokens: 1T, plan: {precision: bf16}}"
        ... )
        >>> len(mowich.sweep(text).rows)
        2
    """
    given = {
        "out": out,
        "vary": vary,
        "price": price,
        "term": term,
        "stack": stack,
        "recipe": recipe,
        "executor": executor,
        "tasks": tasks,
    }
    with keywords_asked(scenarios.SWEEP, facts, scenario=scenario, **given) as asked:
        known, more, pool = asked.facts, asked.vary, asked.executor
        if asked.folder is None:
            grid = _sweep.read_sweep(asked.scenario, known, vary=more, stack=asked.stack)
            return _sweep.sweep(grid, known, term=asked.term, stack=asked.stack, executor=pool, tasks=asked.tasks)
        from mowich.studies.sweep_store import sweep_to

        grid = _sweep.read_sweep(asked.scenario, known, vary=more, most=_sweep.MAX_STORED, stack=asked.stack)
        return sweep_to(
            asked.folder, grid, known, term=asked.term, stack=asked.stack, executor=pool, workers=asked.tasks
        )


def fleet(
    scenario: str | Path,
    *,
    rates: str | Path | None = None,
    draws: int = 30,
    flips: bool = False,
    relaxed: bool = False,
    gap: float = 0.005,
    seed: int = 0,
    facts: Facts | None = None,
) -> Fleet:
    """What to buy, rent and assign in each period of a scenario.

    Args:
        scenario: a file, or the name of one that ships ("startup").
        rates: a file of speeds, instead of predicting them.
        draws: of prices and speeds within their ranges (0: none).
        flips: whether to look for prices and speeds at which the leader changes.
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
    given = {"draws": draws, "flips": flips, "relaxed": relaxed, "gap": gap, "seed": seed}
    with keywords_asked(scenarios.FLEET, facts, scenario=scenario, rates=rates, **given) as asked:
        assert asked.scenario is not None
        return _fleet.fleet(
            asked.scenario,
            asked.facts,
            rates_file=asked.rates,
            draws=asked.draws,
            with_flips=asked.flips,
            relaxed=asked.relaxed,
            gap=asked.gap,
            seed=asked.seed,
        )
