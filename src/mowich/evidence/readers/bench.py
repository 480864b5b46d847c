"""JSON results of load generators: `vllm bench serve`, SGLang's bench_serving, InferenceX, llmperf.

Formats: vllm/benchmarks/serve.py, sglang/bench_serving.py, InferenceX's utils/process_result.py, llmperf's
token_benchmark_ray.py. A file holds one object, a list of objects, or an object on each line.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from functools import partial

from mowich.errors import UserError
from mowich.evidence.readers.record import FileFormat, Reading, cell, not_of_format, read_each
from mowich.evidence.row_checks import RefusedError
from mowich.evidence.serving_rows import CONCURRENCY_FACTOR
from mowich.files import parse_json

BenchResult = Mapping[str, object]
BenchCells = dict[str, str]

_NEAR = 0.03
"""How far two figures of one file that must agree may lie apart, because they are rounded."""

_TOGETHER = 1.5
"""How far the parts of a request may lie from the whole: means over requests of several lengths differ."""

_ENGINES = ("vllm", "sglang", "trt", "tensorrt", "neuron", "jetstream", "maxtext")
"""Words that name an engine; others (openai, openai-chat) name an interface that every engine has."""


def _objects(file: str, text: str) -> list[tuple[str, BenchResult]]:
    """(place, object) of a file. Raises UserError, with its line, for a file that is not JSON."""
    body = text.strip()
    if body.startswith("["):
        rows = parse_json(f'{{"rows": {text}}}', file)["rows"]
        listed = rows if isinstance(rows, list) else []
        return [(f"{file}, entry {i}", row) for i, row in enumerate(listed, 1) if isinstance(row, dict)]
    lines = [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
    if len(lines) > 1 and all(line.lstrip().startswith("{") for _, line in lines):
        return [(f"{file}:{n}", parse_json("\n" * (n - 1) + line, file)) for n, line in lines]
    return [(file, parse_json(text, file))]


def json_figure(data: BenchResult, where: str, *names: str) -> float | None:
    """The first stated one of some figures. Raises UserError for a figure that is not a number."""
    for name in names:
        value = data.get(name)
        if value is None or value == "":
            continue
        if isinstance(value, str):
            try:
                value = float(value)
            except ValueError:
                raise UserError(f"{name} is not a number", where=where, given=value) from None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"{name} is not a number", where=where, given=value)
        return float(value)
    return None


def _text(data: BenchResult, *names: str) -> str:
    return next((str(data[name]) for name in names if data.get(name) not in (None, "")), "")


def _unlike(one: float | None, other: float | None) -> bool:
    """Whether two figures are stated and differ."""
    return one is not None and other is not None and abs(one - other) > _NEAR * max(abs(one), abs(other))


def without_rate(tokens: float, osl: float) -> bool:
    """Whether tokens/s over requests/s is not the length of an answer: means over requests of several lengths
    differ."""
    return not 1.0 / _TOGETHER <= tokens / osl <= _TOGETHER


def users_kept(cap: float | None, asked: float | None, served: float | None, whole_ms: float | None) -> float | None:
    """Requests in flight. cap: the most that are let in; asked, served: requests a second, asked for and completed;
    whole_ms: time of one request. The cap where it is reached or no rate is asked for, else Little's law; None where
    neither is known.

    >>> users_kept(16, None, None, None), users_kept(16, 9.0, 5.0, 3000.0), users_kept(99, 2.0, 2.0, 3000.0)
    (16, 16, 6.0)
    """
    made = max(1.0, served * whole_ms / 1e3) if served and whole_ms else None
    if cap and (not asked or made is None or made * CONCURRENCY_FACTOR >= cap):
        return cap
    return made if asked else None


def _engine(word: str) -> str:
    return word if any(name in word.casefold() for name in _ENGINES) else ""


_STATISTICS: Mapping[str, tuple[str, ...]] = {"p50_": ("p50_", "median_"), "p90_": ("p90_",), "p99_": ("p99_",)}
_LATENCIES: Mapping[str, tuple[str, ...]] = {
    "ttft_ms": ("ttft_ms",),
    "tpot_ms": ("tpot_ms",),
    "itl_ms": ("itl_ms",),
    "e2e_ms": ("e2el_ms", "e2e_latency_ms"),
}
_SPREAD: Mapping[str, tuple[str, ...]] = {
    "mean_itl_ms": ("mean_itl_ms",),
    "e2e_ms": ("mean_e2el_ms", "mean_e2e_latency_ms"),
    **{
        ours + column: tuple(theirs + name for theirs in prefixes for name in names)
        for ours, prefixes in _STATISTICS.items()
        for column, names in _LATENCIES.items()
    },
}
"""Column -> its names in the JSON of a run. itl: time between two tokens of an answer, over all gaps of all requests;
tpot: mean of the gaps of one request."""


def _online(data: BenchResult, where: str, engine: str) -> BenchCells:
    """A run of vllm bench serve or of SGLang's bench_serving, which use the same names."""
    of = partial(json_figure, data, where)
    done, prompts, outputs = of("completed"), of("total_input_tokens"), of("total_output_tokens")
    seconds, rate, out_rate = of("duration"), of("request_throughput"), of("output_throughput")
    if not done or not prompts or not outputs:
        raise RefusedError("no request was completed")
    for what, printed, made in (
        ("request_throughput", rate, done / seconds if seconds else None),
        ("output_throughput", out_rate, outputs / seconds if seconds else None),
    ):
        if _unlike(printed, made):
            raise RefusedError(
                f"{what} {printed:g} is not what was completed over the duration, {made:.4g}: wrong units"
            )
    osl = outputs / done
    ttft, tpot, whole = of("mean_ttft_ms"), of("mean_tpot_ms"), of("mean_e2el_ms", "mean_e2e_latency_ms")
    check_latencies(ttft, tpot, whole, osl)
    sent = None if data.get("request_rate") in ("inf", math.inf) else of("request_rate")
    seen = whole or ((ttft + (osl - 1.0) * tpot) if ttft and tpot else None)
    users = users_kept(of("max_concurrency") or of("concurrency"), sent, rate, seen)
    if not users:
        raise RefusedError(
            "max_concurrency is not stated, and all requests came at once: the number of users is not known"
        )
    cells = {
        "model": _text(data, "model_id", "model"),
        "framework": engine or _engine(_text(data, "backend", "endpoint_type")),
        "mode": "online",
        "isl": cell(max(1, round(prompts / done))),
        "osl": cell(max(1, round(osl))),
        "concurrency": cell(max(1, round(users))),
        "ttft_ms": cell(ttft),
        "tpot_ms": cell(tpot),
        "output_tok_s": cell(out_rate),
        "total_tok_s": cell(of("total_token_throughput", "total_throughput")),
        "request_rate": cell(sent),
        "requests": cell(done),
        "failed": cell(of("failed")),
        "duration_s": cell(seconds),
        "date": _text(data, "date"),
        **{column: cell(of(*names)) for column, names in _SPREAD.items()},
    }
    accepted = of("accept_length")
    if accepted and accepted > 1.0:
        cells["spec_decode"] = f"accept length {accepted:g}"
    return cells


def check_latencies(ttft: float | None, tpot: float | None, whole: float | None, osl: float) -> None:
    """Raises RefusedError where the latencies of a run (ms) contradict each other."""
    for what, value in (("time to first token", ttft), ("time per output token", tpot), ("whole request", whole)):
        if value is not None and value < 0.0:
            raise RefusedError(f"the {what} is {value:g} ms")
    if ttft and tpot and whole and osl > 1:
        made = ttft + (osl - 1.0) * tpot
        if not 1.0 / _TOGETHER <= made / whole <= _TOGETHER:
            raise RefusedError(
                f"time to first token {ttft:g} ms + {osl - 1.0:.4g} x time per token {tpot:g} ms is {made:.4g} ms, and"
                f" the whole request took {whole:g} ms: wrong units"
            )


def json_format(
    name: str, says: str, program: str, keys: tuple[str, ...], one: Callable[[BenchResult, str], BenchCells]
) -> FileFormat:
    """The format of a program that writes its results as JSON. keys: what each result has, by which it is told; one:
    the cells of a result, from its JSON and its place. Reading raises UserError for a file without results, and for one
    that is of another program."""

    def cells(data: BenchResult, where: str) -> BenchCells:
        missing = [key for key in keys if key not in data]
        if missing:
            raise UserError(f"not a result of {program}: no {missing[0]}", where=where, allowed=", ".join(keys))
        return one(data, where)

    def looks(text: str) -> bool:
        return text.lstrip()[:1] in ("{", "[") and all(f'"{key}"' in text for key in keys)

    def read(file: str, text: str) -> Reading:
        found = _objects(file, text)
        if not found:
            raise not_of_format(program, file, f"objects with {', '.join(keys)}")
        return read_each(file, program, "serving", found, cells)

    return FileFormat(name=name, says=says, looks=looks, read=read)


_VLLM = ("completed", "total_input_tokens", "total_output_tokens", "mean_ttft_ms", "mean_tpot_ms")
_SGLANG = (*_VLLM, "mean_e2e_latency_ms")


def bench_cells(data: BenchResult, where: str) -> BenchCells:
    """The cells of one result of vllm bench serve, by the names of its JSON. Raises RefusedError for a result that
    contradicts itself."""
    return _online(data, where, "vllm")


_INFERENCEX = ("hw", "conc", "isl", "osl", "framework")


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1e3 * seconds


def _inferencex(data: BenchResult, where: str) -> BenchCells:
    """One aggregated result: latencies in seconds, throughput per GPU."""
    of = partial(json_figure, data, where)
    if str(data.get("disagg", "false")).casefold() == "true":
        raise RefusedError("disaggregated: workers of prefill and decode are not one plan")
    ttft, tpot, whole = of("mean_ttft", "median_ttft"), of("mean_tpot", "median_tpot"), of("mean_e2el", "median_e2el")
    speed, each = of("mean_intvty", "median_intvty"), of("output_tput_per_gpu")
    if speed and tpot and not 1.0 / _TOGETHER <= speed * tpot <= _TOGETHER:
        raise RefusedError(f"time per token {tpot:g} s x {speed:g} tokens/s per user is not 1: wrong units")
    osl = of("osl") or 0.0
    check_latencies(_ms(ttft), _ms(tpot), _ms(whole), osl)
    tp, ep = of("tp") or 0.0, of("ep", "ep_size")
    attention_dp = str(data.get("dp_attention", "false")).casefold() in ("true", "1")
    return {
        "source": "InferenceX",
        "chip": re.split(r"[-_]", _text(data, "hw"))[0],
        "model": _text(data, "model"),
        "framework": _text(data, "framework"),
        "precision": _text(data, "precision"),
        "mode": "online",
        "tp": cell(1.0 if attention_dp else tp),
        "dp": cell(tp) if attention_dp else "",
        "ep": cell(ep),
        "isl": cell(of("isl")),
        "osl": cell(osl),
        "concurrency": cell(of("conc")),
        "ttft_ms": cell(_ms(ttft)),
        "tpot_ms": cell(_ms(tpot)),
        "output_tok_s_per_chip": cell(each),
        "spec_decode": _text(data, "spec_decoding"),
        "date": _text(data, "date"),
        **{column: cell(_ms(of(*(n.removesuffix("_ms") for n in names)))) for column, names in _SPREAD.items()},
    }


_LLMPERF = ("num_concurrent_requests", "mean_output_tokens", "results_ttft_s_mean")


def _llmperf(data: BenchResult, where: str) -> BenchCells:
    """A summary of llmperf. Its inter-token latency counts the first token too, so the time per output token comes from
    the whole request."""
    of = partial(json_figure, data, where)
    outputs = of("results_number_output_tokens_mean", "mean_output_tokens") or 0.0
    prompts = of("results_number_input_tokens_mean", "mean_input_tokens")
    ttft, each = of("results_ttft_s_mean"), of("results_inter_token_latency_s_mean")
    whole = of("results_end_to_end_latency_s_mean") or (each * outputs if each else None)
    if not ttft or not whole or outputs <= 1:
        raise RefusedError("no latency of a whole request, or one token of output only")
    check_latencies(_ms(ttft), _ms(each), _ms(whole), 0.0)
    if each and not 1.0 / _TOGETHER <= each * outputs / whole <= _TOGETHER:
        raise RefusedError(f"{each:g} s a token x {outputs:g} tokens is not the {whole:g} s of a request: wrong units")
    if whole <= ttft:
        raise RefusedError(f"a request took {whole:g} s, its first token {ttft:g} s")
    return {
        "model": _text(data, "model"),
        "mode": "online",
        "isl": cell(None if prompts is None else round(prompts)),
        "osl": cell(round(outputs)),
        "concurrency": cell(of("num_concurrent_requests")),
        "ttft_ms": cell(1e3 * ttft),
        "tpot_ms": cell(1e3 * (whole - ttft) / (outputs - 1.0)),
        "output_tok_s": cell(of("results_mean_output_throughput_token_per_s")),
        "e2e_ms": cell(1e3 * whole),
        "requests": cell(of("results_num_completed_requests")),
        "failed": cell(of("results_number_errors")),
        **{
            f"{p}_{column}": cell(_ms(of(f"results_{name}_quantiles_{p}")))
            for p in ("p50", "p90", "p99")
            for column, name in (("ttft_ms", "ttft_s"), ("e2e_ms", "end_to_end_latency_s"))
        },
    }


VLLM = json_format(
    "vllm", "JSON of vllm bench serve", "vllm bench", _VLLM, lambda data, where: _online(data, where, "")
)
"""What `vllm bench serve --save-result` wrote."""
SGLANG = json_format(
    "sglang",
    "JSON of sglang.bench_serving",
    "sglang bench_serving",
    _SGLANG,
    lambda data, where: _online(data, where, _engine(_text(data, "backend")) or "sglang"),
)
"""What `sglang.bench_serving --output-file` wrote."""
INFERENCEX = json_format("inferencex", "results of InferenceX", "InferenceX", _INFERENCEX, _inferencex)
"""Aggregated results of InferenceX (InferenceMAX), one object or a list."""
LLMPERF = json_format("llmperf", "a summary of llmperf", "llmperf", _LLMPERF, _llmperf)
