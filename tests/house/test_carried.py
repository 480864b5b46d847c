"""How many types the bandwidth of a chip's memory passes from its fact to the number that a page shows.

A question is asked twice, with two bandwidths that are almost equal. A type carries the bandwidth where records of it
hold other numbers the second time, and where the answer does not move as far once these records are given the numbers
of the first time. So what only bounds the search, or is told beside the number, does not count.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
from collections.abc import Iterator, Mapping

import numpy as np
import pytest

from mowich import cli

QUESTIONS = {
    "step_s": "compare llama-3.1-70b --train --tokens 1T --seq 8192 --batch 512seqs --on h100:512 --set plan.tp=8"
    " --set plan.pp=4 --set plan.micro_batch=1 --set plan.precision=bf16 --set plan.zero=1",
    "tpot_s": "compare llama-3.1-70b --serve --isl 4k --osl 1k --ttft 2s --tpot 30ms --on h100:8 --set plan.tp=8"
    " --set plan.weights=bf16 --set plan.kv=bf16 --set plan.mode=aggregated",
}
"""Number of a row -> a question with few plans to try, so that both searches make the same records in turn."""

ONE, OTHER = 3.351, 3.3510001
"""TB/s, neither of them what the facts say."""

LEAST = 0.01
"""Of the move of the answer. A type that takes less of it away is on no way of its own: a worker that is faster holds
a few more sequences, and so its step has a little more work."""

MOST = 9
"""Types before the `Estimate` of the page."""

Record = dict[str, object]


def numbers(value: object, depth: int = 0) -> list[float]:
    """The floats of a field, also in columns and in mappings and sequences of them."""
    if isinstance(value, float | np.floating):
        return [float(value)]
    if isinstance(value, np.ndarray):
        return value.ravel().tolist() if value.dtype.kind == "f" else []
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple | list) else ()
    return [number for part in parts for number in numbers(part, depth + 1)] if depth < 2 else []


class Recorder:
    """Writes down each record that Mowich makes, by type; `held` gives those of one type other numbers."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.made: dict[type, list[Record]] = {}
        self.held: tuple[type, list[Record]] | None = None
        for of in set(_types()):
            patch.setattr(of, "__init__", self._recorded(of))

    def _recorded(self, of: type) -> object:
        make, names = of.__init__, [f.name for f in dataclasses.fields(of)]  # type: ignore[misc, arg-type]

        def init(record: object, *args: object, **keywords: object) -> None:
            make(record, *args, **keywords)
            mine = self.made.setdefault(of, [])
            if self.held and self.held[0] is of and len(mine) < len(self.held[1]):
                for name, value in self.held[1][len(mine)].items():
                    object.__setattr__(record, name, value)
            mine.append({name: getattr(record, name, None) for name in names})

        return init


def _types() -> Iterator[type]:
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] == "mowich":
            for of in vars(module).values():
                if isinstance(of, type) and dataclasses.is_dataclass(of) and "__init__" in vars(of):
                    yield of


def _moved(first: list[Record], second: list[Record]) -> list[Record]:
    """The fields of the first records whose numbers are others in the second."""
    pairs = zip(first, second, strict=True)
    return [{k: v for k, v in one.items() if numbers(v) != numbers(other[k])} for one, other in pairs]


@pytest.mark.slow
@pytest.mark.parametrize("number", QUESTIONS)
def test_bandwidth_passes_few_types(
    number: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ask(TBps: float) -> float:
        setting = f"chips.h100_sxm.memory.hbm_bandwidth={TBps!r}TB/s"
        code = cli.run([*shlex.split(QUESTIONS[number]), "--json", "--set", setting])
        said = capsys.readouterr()
        assert code == 0, said.err
        value: float = json.loads(said.out)["rows"][0][number]["value"]
        return value

    ask(ONE)  # all modules are loaded by now, and what is kept in memory is there
    recorder = Recorder(monkeypatch)
    before = ask(ONE)
    first, recorder.made = recorder.made, {}
    after = ask(OTHER)
    second = recorder.made
    assert after < before  # more bandwidth, less time
    moved = {of: _moved(records, second[of]) for of, records in first.items()}
    carriers = []
    for of, records in moved.items():
        if any(records):
            recorder.made, recorder.held = {}, (of, records)
            if (ask(OTHER) - before) / (after - before) < 1.0 - LEAST:
                carriers.append(of.__name__)
    assert {"Fact", "System", "Estimate"} <= set(carriers)
    carriers.remove("Estimate")
    assert len(carriers) <= MOST, sorted(carriers)
