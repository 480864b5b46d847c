"""Processor time of a stop of the serving slider: what the workers of `mowich web` compute for a comparison of five
systems.

    python benchmarks/slider_cost.py [--model llama-3.1-70b] [--again 1]

Each of 20 stops of the sliders (chips, prompt, answer, limits) is a question that was not asked before, as in
`tests/web/check_page.py`. Printed are medians over the stops, in ms, for each system, for putting the answer together,
and for all of it. --again N: each stop N times, of which the least counts; on a machine that others use. The server has
two such workers, and the browser takes 25 to 45 ms beside.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import statistics
import time

from mowich.web import asks, verbs
from mowich.web.first import FIRST, warm_up
from mowich.web.reading import Knowledge

STOPS = {
    "chips": ("72", "64", "128", "144", "256"),
    "isl": ("4k", "2k", "16k", "32k"),
    "osl": ("512", "2k", "4k", "256", "128"),
    "tpot": ("75ms", "30ms", "20ms", "100ms"),
    "ttft": ("3s", "5s"),
}
"""The page opens on 64 chips, 8k in and 1k out, 2 s and 50 ms; each slider stays at its last stop."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="llama-3.1-70b")
    parser.add_argument("--again", type=int, default=1)
    options = parser.parse_args()
    known, systems = Knowledge.of_server(()), FIRST.systems
    warm_up(known)
    gc.collect()
    gc.freeze()  # as a worker does

    def asked(question: dict[str, str]) -> asks.CompareBody:
        serve = {name: question[name] for name in ("isl", "osl", "ttft", "tpot")}
        body = {"model": options.model, "on": systems, "chips": question["chips"], "serve": serve}
        return asks.CompareBody.model_validate(body)

    def taken(ask: asks.CompareBody) -> list[float]:
        marks, rows = [time.process_time()], []
        for place in range(len(systems)):
            rows.append(verbs.row(ask, place, known))
            marks.append(time.process_time())
        verbs.together(ask, rows, known)
        marks.append(time.process_time())
        return [1e3 * (b - a) for a, b in itertools.pairwise(marks)]

    question = {"chips": "64", "isl": "8k", "osl": "1k", "ttft": "2s", "tpot": "50ms"}
    taken(asked(question))
    stops = []
    for name, values in STOPS.items():
        for value in values:
            question[name] = value
            each = [taken(asked(question)) for _ in range(options.again)]
            stops.append([min(times) for times in zip(*each, strict=True)])
    for name, times in zip((*systems, "together"), zip(*stops, strict=True), strict=True):
        print(f"{name:10} {statistics.median(times):6.1f} ms")
    whole = sorted(map(sum, stops))
    print(f"{'all':10} {statistics.median(whole):6.1f} ms (most {whole[-1]:.1f} of {len(whole)})")


if __name__ == "__main__":
    main()
