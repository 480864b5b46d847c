"""Text of serving: traffic, plans and comparisons."""

from __future__ import annotations

from mowich.report.table import UNKNOWN, Column, Style, percent, table, wrap
from mowich.studies.traffic import TrafficResult
from mowich.units import sig


def _ms(value: float | None) -> str:
    if value is None:
        return UNKNOWN
    return f"{sig(value)} s" if value >= 1 else f"{sig(value * 1e3)} ms"


def traffic_text(result: TrafficResult, style: Style) -> str:
    """The report of `mowich traffic`."""
    i = result.inputs
    good = "" if result.goodput_frac is None else f", {percent(result.goodput_frac)} within the SLO"
    lines = [
        style.bold(
            f"{result.completed} of {result.requests} requests served{good}: TTFT p50 {_ms(result.ttft_s['p50'])}, p99 {_ms(result.ttft_s['p99'])}; "
            f"TPOT p50 {_ms(result.tpot_s['p50'])}, p99 {_ms(result.tpot_s['p99'])}."
        ),
        "",
        *wrap(f"{i['model']} on {result.chips} chips of {i['system']}, engine {i['engine']}, {i['replicas']} replicas"
              + (f" for prefill and {i['decode_replicas']} for decode" if i["decode_plan"] else ""), style),
        "",
    ]  # fmt: skip
    rows = []
    for name, figures in (("time to first token", result.ttft_s), ("time per output token", result.tpot_s), ("whole request", result.e2e_s),
                          ("wait in the queue", result.queue_s)):  # fmt: skip
        rows.append([name, *(_ms(figures[k]) for k in ("mean", "p50", "p90", "p99"))])
    columns = [Column(name="seen by users", right=False), *(Column(name=n) for n in ("mean", "p50", "p90", "p99"))]
    lines += table(columns, rows, style)[0]
    facts = [
        f"{sig(result.tokens_per_s_per_chip)} output tokens/s per chip over {sig(result.makespan_s)} s; replicas busy {percent(result.utilisation)} of the time",
        f"{percent(result.cached_frac)} of prompt tokens from the prefix cache; {result.preemptions} preemptions; {result.failures} requests lost and sent again",
        f"energy {UNKNOWN if result.J_per_token is None else sig(result.J_per_token)} J and price {UNKNOWN if result.usd_per_mtok is None else '$' + sig(result.usd_per_mtok * 1e-6 * 1e6)} per million, of output tokens",
        f"{result.events} events ({result.steps} engine steps) in {sig(result.seconds)} s of processor time",
    ]
    return "\n".join([*lines, "", *(line for f in facts for line in wrap(f, style))]) + "\n"
