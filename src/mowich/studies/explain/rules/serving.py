"""Rules of serving rows and of simulated traffic."""

from __future__ import annotations

from collections.abc import Mapping

from mowich.economics import energy, money
from mowich.studies.explain.rules.rule import CHOSEN_BY_SEARCH, R, Rule, of, under
from mowich.studies.explain.rules.training import CHIP_RULES, OWNED_RULES, SEARCHED, SET_OF_POINT
from mowich.studies.explain.rules.yearly import yearly_rules

NEAREST_RULES = (
    R(
        "measured nearest * correlation",
        "1",
        "how much a measured row says of the forecast: 0 nothing, 1 measured there",
        "table: a factor for each class that differs, and a decay with the doublings of each amount"
        " (mowich help theory-serving)",
    ),
    R("measured nearest * *", "1", "an amount of a measured row", "lookup: read from the measured rows"),
)
_WAITS = {
    "ttft_s": "mean time to the first token",
    "tpot_s": "mean time per output token",
    "p99_ttft_s": "99th percentile of the time to the first token",
    "p99_tpot_s": "99th percentile of the time per output token",
}
RANDOM_ARRIVALS = [
    R("share", "1", "share of the plan's rate at which requests arrive", "lookup: random_arrivals.ARRIVING"),
    R(
        "requests_per_s",
        "1/s",
        "requests per second that arrive at random",
        "inside: share x tokens per second of the plan / tokens of an answer",
    ),
    *(
        R(name, "s", f"{what} under Poisson arrivals", "simulation: as the command of the row gives it")
        for name, what in _WAITS.items()
    ),
]
_WORKERS = (
    R("prefill *", "1", "a choice of the plan of prefill workers", CHOSEN_BY_SEARCH),
    R("decode *", "1", "a choice of the plan of decode workers", CHOSEN_BY_SEARCH),
)
_METERED = R(
    "J_per_token",
    "J/token",
    "energy at the meter of an output token",
    "simulation: sum over systems of pue x power x chips x (busy + idle share x idle) / output tokens",
)
_CHIP_HOURS = R(
    "chip_hours",
    "chip-h",
    "chip-hours that were paid for",
    "simulation: replicas from order to leave x their chips",
)
SERVE_ROW = [
    SET_OF_POINT,
    R("isl", "tokens", "tokens of a prompt", "lookup: as the sweep says"),
    R("osl", "tokens", "tokens of an answer", "lookup: as the sweep says"),
    R("ttft_limit_s", "s", "most seconds to the first token", "lookup: as the sweep says"),
    R("tpot_limit_s", "s", "longest time per token", "lookup: as the sweep says"),
    R("cached", "1", "share of a prompt in the prefix cache", "lookup: as the sweep says"),
    R("accept", "tokens", "tokens kept per speculative step", "lookup: as the sweep says"),
    *under("random_arrivals", RANDOM_ARRIVALS),
    *CHIP_RULES,
    *OWNED_RULES,
    *yearly_rules("tokens_per_s_per_chip * chips_requested"),
    R(
        "tokens_served",
        "tokens",
        "output tokens of the days that the budget pays for, all chips at work",
        "inside: tokens_per_s_per_chip x chips_requested x days that are paid for",
    ),
    R(
        "chips_used",
        "chips",
        "chips that workers run on",
        "= ceil(replicas.decode * decode.tp * decode.pp * decode.dp * decode.cp / devices_per_chip)",
        when=("mode", "aggregated"),
    ),
    R(
        "chips_used",
        "chips",
        "chips that workers run on",
        "= ceil((replicas.decode * decode.tp * decode.pp * decode.dp * decode.cp + replicas.prefill * prefill.tp *"
        " prefill.pp * prefill.dp * prefill.cp) / devices_per_chip)",
        when=("mode", "disaggregated"),
    ),
    R("chips_used", "chips", "chips that workers run on", "lookup: none: there is no plan"),
    R(
        "batch",
        "sequences",
        "sequences that a decode worker holds at once, on average",
        "search: of a ladder of batches and the gaps beside its best, the one with the most tokens per second and chip"
        " within the limits (mowich help theory-serving)",
    ),
    *_WORKERS,
    R(
        "replicas *",
        "workers",
        "workers of one kind",
        "search: as many as the chips hold; apart, the split of prefill and decode at which neither starves",
    ),
    *NEAREST_RULES,
    R(
        "unstated * **",
        "1",
        "a setting of the engine that nobody states: its ends over measured rows, or what they multiply a time by",
        "search: the times evaluated once more with this one setting at each end, everything else fixed",
    ),
    R(
        "cached_frac",
        "1",
        "share of the prompt tokens that the cache has",
        "search: the curve of hits of the trace at (memory beside weights / bytes of a token - users x half an answer)"
        " x rank groups x workers",
    ),
    R("ttft_s", "s", "time from a request to its first token", "= sum(parts)"),
    R("ttft_s breakdown *", "s", "a part of the time to first token", "terms: the term below"),
    R("tpot_s", "s", "time between output tokens", "= sum(parts)"),
    R("tpot_s breakdown *", "s", "a part of the time per output token", "terms: the term below"),
    R(
        "tokens_per_s_per_chip",
        "1/s",
        "output tokens per second and chip, all chips counted",
        "= batch * replicas.decode * osl / (ttft_s + (osl - 1) * tpot_s) / chips_requested",
        when=("mode", "aggregated"),
    ),
    R(
        "tokens_per_s_per_chip",
        "1/s",
        "output tokens per second and chip, all chips counted",
        "= tokens_per_s / chips_requested",
    ),
    R("tokens_per_s_per_user", "1/s", "speed that one user sees", "= 1 / tpot_s"),
    R("usd_per_mtok", "USD/Mtok", "cost of a million output tokens", "= price / tokens_per_s_per_chip * 1e6"),
    R(
        "J_per_token",
        "J/token",
        "energy at the meter of an output token",
        "= pue * power * (chips_used + idle_share * chips_idle) / (tokens_per_s_per_chip * chips_requested)",
    ),
    R(
        "breakeven_usd_per_chip_h",
        "USD/chip/h",
        "price at which this row costs what the best other row does",
        of(
            money.breakeven_usd_per_chip_h,
            tokens_per_s="tokens_per_s_per_chip * chips_requested",
            goodput="1",
            chips="chips_requested",
        ),
    ),
    R(
        "breakeven_W_per_chip",
        "W",
        "power per chip at which this row uses the energy of the best other row",
        of(energy.breakeven_W_per_chip, tokens_per_s="tokens_per_s_per_chip * chips_requested", goodput="1"),
    ),
    R(
        "memory_B",
        "B",
        "memory of a decoding device: what is not weights or reserve is room for caches",
        "= sum(memory_B)",
    ),
    R("memory_B *", "B", "bytes of a decoding device", "terms: the terms below"),
    R("memory_capacity_B", "B", "what a program may use of a device's memory", "= hbm_usable / devices_per_chip"),
    R(
        "front * 0",
        "1/s",
        "tokens per second that a user sees, at a point of the Pareto front",
        "inside: 1 / time per output token of the plan and batch at this point",
    ),
    R(
        "front * 1",
        "1/s",
        "tokens per second and chip, at a point of the Pareto front",
        "inside: tokens per second of the plan and batch at this point / chips",
    ),
]

_TIMES = [
    R("mean", "s", "mean over the completed requests", "simulation: sum / requests"),
    R(
        "*",
        "s",
        "percentile over the completed requests",
        "simulation: of the sorted times, linear between ranks (above 200,000 requests: bins of 0.25%)",
    ),
]

_TASKS = [
    R("counted", "tasks", "tasks that stand in the times", "simulation: completed, begun within `counted`"),
    R("task_s mean", "s", "mean time to a task", "simulation: from its first prompt to its last answer, sum / tasks"),
    R("task_s *", "s", "percentile of the time to a task", "simulation: of the sorted times, linear between ranks"),
    R("calls_mean", "calls", "calls of the model of a task, on average", "simulation: counted / tasks"),
    R("prompt_mean", "tokens", "tokens of all prompts of a task, on average", "simulation: counted / tasks"),
    R("output_mean", "tokens", "tokens of all answers of a task, on average", "simulation: counted / tasks"),
    R("cached_frac", "1", "share of the tasks' prompt tokens from the prefix cache", "simulation: counted / prompts"),
]

_SESSIONS = [
    *_TASKS,
    *under("of *", _TASKS),
    R("begun", "tasks", "sessions that ended, completed or not", "simulation: counted"),
    R("completed", "tasks", "sessions that were done to the end", "simulation: counted"),
    R("cut", "tasks", "sessions that stopped because a prompt outgrew the cache", "simulation: counted"),
    R(
        "parts_s *",
        "s",
        "part of the mean time to a task, along its critical path",
        "simulation: from the last answer back, each call with what it came after; the parts sum to the mean",
    ),
    R("goodput_frac", "1", "share of the tasks that were done in time", "simulation: done within slo.task / tasks"),
    R(
        "tasks_per_h_per_chip",
        "1/h",
        "tasks completed per hour and chip",
        "simulation: completed / (makespan_s x chips that were paid for)",
    ),
    R("usd_per_task", "USD", "price of a task", "simulation: price of all chips over makespan_s / completed"),
    R(
        "J_per_task",
        "J",
        "energy at the meter of a task",
        "simulation: of all chips over makespan_s / completed",
    ),
]

_RATE_ROW = [
    *_WORKERS,
    R(
        "replicas *",
        "workers",
        "workers of one kind",
        "search: the fewest that kept the limits when played",
    ),
    R(
        "batch",
        "sequences",
        "sequences that a decode worker holds at most",
        "search: of the scheduler, of a rank group x dp",
    ),
    R("chips_requested", "chips", "chips that workers run on", "= sum(chips_of)"),
    R("chips_used", "chips", "chips that workers run on", "= sum(chips_of)"),
    R(
        "keeps *",
        "1",
        "chance that a limit is kept",
        "simulation: Phi(1.645 ln(limit / value) / ln(end / value)), end: of the 90% range, on the side of the limit",
    ),
    R("chips_of *", "chips", "chips that the workers on a system use", "count: devices of its workers, in whole chips"),
    *(
        R(name, "s", f"{what}, over the requests that are counted", "simulation: as `mowich traffic` gives it")
        for name, what in _WAITS.items()
    ),
    R("requests_per_s", "1/s", "requests answered per second", "simulation: completed requests / makespan"),
    R("in_flight", "requests", "requests inside, on average", "simulation: time of all requests / makespan"),
    R("utilisation", "1", "share of the time in which workers had work", "simulation: busy time / time, by chips"),
    R(
        "tokens_per_s_per_chip",
        "1/s",
        "output tokens per second and chip over the whole run",
        "simulation: output tokens of completed requests / (makespan x chips)",
    ),
    R("tokens_per_s_per_user", "1/s", "speed that one user sees", "= 1 / tpot_s"),
    R("usd_per_h", "USD/h", "price of its chips", "simulation: sum over systems of chips x price per chip-hour"),
    R(
        "usd_per_mtok",
        "USD/Mtok",
        "cost of a million output tokens at this load",
        "= usd_per_h / 3600 / (tokens_per_s_per_chip * chips_used) * 1e6",
    ),
    _METERED,
]

_PLAYED = (
    R("goodput_frac", "1", "share of the requests within every limit", "simulation: counted in that play"),
    _CHIP_HOURS,
    R("usd", "USD", "price of these chip-hours", "inside: chip-hours of each system x its price"),
)
"""Rules of a load that was played under a scaling rule."""

_SCALING = (
    _CHIP_HOURS,
    R("usd_per_day", "USD/day", "price of a day at the mean of the chips that were there", "inside: usd_per_h x 24"),
    R("scale_downs", "1", "replicas that autoscaling sent away", "simulation: counted"),
    R("start_s", "s", "from the order of a replica to its first request", "inside: sum of its parts"),
    R("start_s breakdown *", "s", "a part of the start of a replica", "lookup: facts serving.startup, weights / rate"),
    R("pools * chips_each", "chips", "chips of a replica", "lookup: the plan"),
    R("pools * replicas_mean", "1", "replicas that were paid for, on average", "simulation: paid time / makespan"),
    R("pools * replicas_most", "1", "most replicas paid for at a look", "simulation: counted"),
    R("pools * scale_ups", "1", "replicas of the pool that were ordered", "simulation: counted"),
    R("pools * scale_downs", "1", "replicas of the pool that were sent away", "simulation: counted"),
    R("pools * timeline * at_s", "s", "when a look was", "simulation: where the number of replicas changed, or evenly"),
    R("pools * timeline * came", "1", "requests that came since the point before", "simulation: counted"),
    R("pools * timeline * inside", "1", "requests inside at the look", "simulation: counted"),
    R("pools * timeline * wanted", "1", "most replicas wanted since the point before", "simulation: counted"),
    R("pools * timeline * *", "1", "replicas that serve, or are paid for, at the look", "simulation: counted"),
    R("hours * from_s", "s", "when an hour of the traffic begins", "count: of hours"),
    R("hours * requests", "requests", "requests that came in the hour", "simulation: counted"),
    R("hours * goodput_frac", "1", "share of them within every limit", "simulation: counted"),
    *under("rules *", _PLAYED),
    R("rules * ttft_p99_s", "s", "99th percentile of the time to first token", "simulation: of all requests"),
    R("rules * tpot_p99_s", "s", "99th percentile of the time per output token", "simulation: of all requests"),
    R("rules * scale_ups", "1", "replicas that the rule ordered", "simulation: counted"),
    R("rules * scale_downs", "1", "replicas that the rule sent away", "simulation: counted"),
    R("rules * regret_chip_hours", "chip-h", "chip-hours beyond the best in hindsight", "search: as scaling.regret"),
    R("rules * regret_frac", "1", "share of its chip-hours that the best in hindsight saves", "search: as above"),
    R(
        "regret goodput_frac",
        "1",
        "share of requests within limits that hindsight has to keep",
        "lookup: goodput of the rule",
    ),
    *(rule for name in ("rule", "constant", "hindsight", "known_rate") for rule in under(f"regret {name}", _PLAYED)),
    R(
        "regret constant replicas *",
        "1",
        "the constant number of replicas",
        "search: the cheapest that keeps the goodput",
    ),
    R(
        "regret chip_hours",
        "chip-h",
        "what the rule paid beyond the best in hindsight",
        "= rule.chip_hours - hindsight.chip_hours",
    ),
    R("regret frac", "1", "share of what the rule paid", "= chip_hours / rule.chip_hours"),
    R(
        "regret short_frac",
        "1",
        "goodput that the rule lacks of what was asked",
        "inside: asked goodput less the rule's",
    ),
    R("regret plays", "1", "times that the load was played", "search: counted"),
)
"""Rules of replicas that come and go."""

SERVING_RULES: Mapping[str, tuple[Rule, ...]] = {
    "serve": (
        *under("rows *", SERVE_ROW),
        *under("plans *", SERVE_ROW),
        *under("front *", SERVE_ROW),
        *SEARCHED,
        *under("random_arrivals", RANDOM_ARRIVALS),
    ),
    "mowich/rates@1": (
        *under("plans *", _RATE_ROW),
        R("evaluated", "plans", "worker plans that bounds were worked out for", "search: counted"),
        R(
            "candidates",
            "plans",
            "plans, and pairs of them, that by their bounds could do",
            "search: counted",
        ),
        R("simulated", "deployments", "deployments that were played out", "search: counted"),
        R("unserved * asked", "s", "limit that a system does not keep", "lookup: the question"),
        R(
            "unserved * least",
            "s",
            "what comes closest to that limit there",
            "simulation: of the closest that was played; of one request alone by closed form",
        ),
        R("unserved * chips", "chips", "chips that would be needed at least there", "search: by bounds"),
        R("simulated_requests", "requests", "requests of all that was played out", "search: counted"),
    ),
    "mowich/traffic@1": (
        *NEAREST_RULES,
        R("requests", "requests", "requests that arrived", "simulation: counted"),
        R("completed", "requests", "requests that were answered to the end", "simulation: counted"),
        R(
            "counted",
            "requests",
            "requests that stand in the times and in the goodput",
            "simulation: those that arrived within `counted` of the scenario, counted",
        ),
        R(
            "ranges * * 0",
            "s",
            "low end of the 90% interval of this time",
            "simulation: steps at the fast end of their interval, and other draws; in quadrature, in logarithms",
        ),
        R(
            "ranges * * 1",
            "s",
            "high end of the 90% interval of this time",
            "simulation: steps at the slow end of their interval, and other draws; in quadrature, in logarithms",
        ),
        R("requests_per_s", "1/s", "requests answered per second", "= completed / makespan_s"),
        R(
            "in_flight",
            "requests",
            "requests inside, on average",
            "simulation: time of all requests from arrival to last token / makespan_s",
        ),
        R("prompt_mean", "tokens", "mean tokens of a prompt", "simulation: counted / completed"),
        R(
            "chips_mean",
            "chips",
            "chips that were paid for, on average",
            "simulation: time for which each replica was there x its chips / makespan_s",
        ),
        R("chips_of *", "chips", "chips that the workers on a system use", "simulation: devices of its workers"),
        R(
            "usd_per_h",
            "USD/h",
            "price of the chips that were paid for",
            "simulation: sum over systems of chips x price per chip-hour, at the mean of the chips that were there",
        ),
        R("scale_ups", "1", "replicas that autoscaling ordered", "simulation: counted"),
        *under("scaling", _SCALING),
        *under("ttft_s", _TIMES),
        *under("tpot_s", _TIMES),
        *under("e2e_s", _TIMES),
        *under("queue_s", _TIMES),
        *under("sessions", _SESSIONS),
        R(
            "goodput_frac",
            "1",
            "share of the requests that met every limit of the scenario",
            "simulation: requests within ttft, tpot and e2e limits, of tasks done within task / requests",
        ),
        R(
            "tokens_per_s_per_chip",
            "1/s",
            "output tokens per second and chip over the whole run",
            "simulation: output tokens of completed requests / (makespan_s x chips)",
        ),
        R(
            "utilisation",
            "1",
            "share of the time in which workers had work",
            "simulation: busy time of all workers, by their chips / time that their chips were there",
        ),
        R(
            "J_per_token",
            "J/token",
            "energy at the meter of an output token",
            "= pue * power * (utilisation + idle_share * (1 - utilisation)) / tokens_per_s_per_chip",
            when=("is_mixed", False),
        ),
        _METERED,
        R(
            "usd_per_mtok",
            "USD/Mtok",
            "cost of a million output tokens",
            "= price / tokens_per_s_per_chip * 1e6",
            when=("is_mixed", False),
        ),
        R(
            "usd_per_mtok",
            "USD/Mtok",
            "cost of a million output tokens",
            "= usd_per_h / 3600 / (tokens_per_s_per_chip * chips_mean) * 1e6",
        ),
        R("media requests", "requests", "requests with images or sound", "simulation: counted"),
        R("media items", "1", "images and pieces of sound", "simulation: counted"),
        R("media tokens", "tokens", "embeddings that encoders made of them", "simulation: counted"),
        R(
            "media reused_frac",
            "1",
            "share of images and sound whose embeddings an encoder still held",
            "simulation: counted",
        ),
        R(
            "media encoder_utilisation",
            "1",
            "share of the time in which workers encoded",
            "simulation: time of encoding / time that the workers that encode were there",
        ),
        R(
            "media ttft_parts_s *",
            "s",
            "mean part of the time to first token; the parts sum to its mean",
            "simulation: of each request that is counted, by the simulated clock and by the law of the encoder",
        ),
        R("cached_frac", "1", "share of the prompt tokens found in the prefix cache", "simulation: counted"),
        R("cached_of *", "1", "share of the prompt tokens found in this memory or tier", "simulation: counted"),
        R("tier_read_B *", "B", "bytes that came from this tier", "simulation: counted"),
        R("tier_written_B *", "B", "bytes that were written to this tier", "simulation: counted"),
        R(
            "load_wait_s *",
            "s",
            "what a request waits for the tiers of its cache, over requests",
            "simulation: blocks / read rate of the tier's link, after those before them, and its latency",
        ),
        R("preemptions", "1", "times that a sequence lost its place", "simulation: counted"),
        R("failures", "1", "sequences lost to failed workers and served again", "simulation: counted"),
        *under("disturbed ttft_s", _TIMES),
        *under("disturbed e2e_s", _TIMES),
        R(
            "disturbed requests",
            "1",
            "counted requests whose replica went before they were answered",
            "simulation: counted",
        ),
        R("disturbed frac", "1", "share of the counted requests whose replica went", "= disturbed.requests / counted"),
        R("disturbed moves", "1", "sequences that went on in another replica", "simulation: counted"),
        R("tenants adapters", "1", "LoRA adapters that counted requests asked for", "simulation: counted"),
        R("tenants loads", "1", "times that an adapter was brought to a device", "simulation: counted"),
        R("tenants reads", "1", "of these, times that it was read from disk", "simulation: counted"),
        R(
            "tenants counted",
            "1",
            "tenants with enough requests for a 99th percentile",
            "simulation: those with 20 or more",
        ),
        R(
            "tenants * *",
            "s",
            "of the tenants' own 99th percentiles the best, the median or the worst",
            "simulation: of the sorted times of each tenant, linear between ranks",
        ),
        R("chips", "chips", "chips that the workers use", "simulation: devices of all workers / devices of a chip"),
        R("makespan_s", "s", "from the first arrival to the last token", "simulation: read off the simulated clock"),
        R("events", "1", "events that were simulated", "simulation: counted"),
        R("steps", "1", "engine steps that were simulated", "simulation: counted"),
        R(
            "coverage *",
            "1",
            "share of the busy time that rests on this kind of cost",
            "simulation: busy time of workers, by what their constants come from",
        ),
    ),
}
