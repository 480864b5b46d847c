"""Whether what `mowich next` would measure first teaches more than what anybody would measure: docs/records/next-replay.md.

    python tools/next_replay.py                 the page, of rows that ship (also: make docs)
    python tools/next_replay.py FILE.csv ...    first the chips of these tables of serving, kept in next_replay.json

All rows of a chip are hidden. Each of a fixed sample of them is asked in turn; other runs of its own setting are left
out. The rule chooses three of the other rows by what it expects, without a look at what they measured. Then all are
revealed. The same is done with eight rows drawn at random, many times. Tens of seconds.
"""

from __future__ import annotations

import csv
import json
import math
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from pages import write

from mowich.arrays import Floats
from mowich.evidence.fitting.serving import ServingPredictor
from mowich.evidence.prospects import Prospect, row_prospect, worth_most
from mowich.evidence.serving_checks import read_serving_cases
from mowich.evidence.serving_rows import ServingCase
from mowich.facts import Facts, load_facts
from mowich.facts.load import shipped_folder
from mowich.serving.anchors import AMOUNTS, CLASS_WORDS, METRICS, Anchor, Anchors, Class, anchors_for

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "records" / "next-replay.md"
KEPT = Path(__file__).with_name("next_replay.json")
TRAINIUM = shipped_folder() / "published" / "trainium_serving.csv"
CHOSEN, DRAWN = 3, 8
DRAWS = 40
ASKED = 24
"""Rows of a chip that are asked, at most."""
FEWEST = 12
"""Rows that a chip needs, to be asked at all."""
INSIDE = 0.7
"""Share in the 90% range below which a chip is named."""
SEED = 20261202
NAMED = {"tpot": "time per token", "ttft": "time to first token"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """One chip and latency. rows: that it has; asked: how many were asked; before, chosen, drawn: median error, ln, with
    all rows of the chip hidden, with the three chosen, and with eight at random; narrowed: median width of the range
    with the three chosen over that before; inside: share of the asked in the range with the three chosen."""

    chip: str
    metric: str
    rows: int
    asked: int
    before: float
    chosen: float
    drawn: float
    narrowed: float
    inside: float

    @property
    def wins(self) -> bool:
        """Whether three chosen rows leave a smaller error than eight at random."""
        return self.chosen < self.drawn


def setting(one: Class) -> tuple[object, ...]:
    """What a row ran, releases left aside: rows of one setting say the same."""
    words = (one.word(name) for name in CLASS_WORDS if name != "version")
    return (*words, *(round(one.log(name), 6) for name in AMOUNTS))


def replayed(known: Anchors, metric: str, rows: Sequence[Anchor], chip: str, asked: int = ASKED) -> Replayed | None:
    """A chip's rows, asked and revealed. known: the rows that stay. None: too few rows."""
    rows = [row for row in rows if not math.isnan(row.residue.get(metric, math.nan))]
    if len(rows) < FEWEST:
        return None
    draw = np.random.default_rng(SEED)
    sample = sorted(draw.choice(len(rows), min(asked, len(rows)), replace=False).tolist())
    settings = [setting(row.one) for row in rows]
    errors: list[tuple[float, float]] = []
    by_chance: list[Floats] = []
    widths, inside = [], []
    for i in sample:
        others = [row for row, same in zip(rows, settings, strict=True) if same != settings[i]]
        if len(others) < DRAWN:
            continue
        part = row_prospect(known, metric, rows[i].one, others)
        truth = rows[i].residue[metric]
        results = np.array([row.residue[metric] for row in others])
        three = [one.place for one in worth_most([part], len(others), CHOSEN)]
        errors.append((off(part, [], truth, results), off(part, three, truth, results)))
        draws = [draw.choice(len(others), DRAWN, replace=False).tolist() for _ in range(DRAWS)]
        by_chance.append(np.array([off(part, made, truth, results) for made in draws]))
        half = math.sqrt(part.given(three))
        widths.append(half / math.sqrt(part.given([])))
        inside.append(errors[-1][1] <= half)
    if not errors:
        return None
    before, chosen = (float(np.median(column)) for column in zip(*errors, strict=True))
    drawn = float(np.mean(np.median(np.stack(by_chance), axis=0)))
    return Replayed(
        chip=chip,
        metric=metric,
        rows=len(rows),
        asked=len(errors),
        before=before,
        chosen=chosen,
        drawn=drawn,
        narrowed=float(np.median(widths)),
        inside=float(np.mean(inside)),
    )


def off(part: Prospect, made: Sequence[int], truth: float, results: Floats) -> float:
    """Error in ln of what is expected with some results."""
    return abs(truth - part.expected(made, results[list(made)]))


def rows_of_cases(cases: Sequence[ServingCase], facts: Facts) -> list[Anchor]:
    """Measured rows with what the constants that ship miss them by; one a case."""
    predictor = ServingPredictor([(case.id, case) for case in cases], facts)
    today = {path: facts.number(path) for path in predictor.paths}
    found: dict[tuple[int, str], Anchor] = {}
    for k, row in predictor.rows_of(today).items():
        found[k, next(iter(row.residue))] = row
    merged: dict[str, Anchor] = {}
    for row in found.values():
        other = merged.get(row.id)
        residue = {**(other.residue if other else {}), **row.residue}
        merged[row.id] = Anchor(id=row.id, source=row.source, one=row.one, residue=residue)
    return list(merged.values())


def rows_that_ship() -> dict[str, list[Anchor]]:
    """Rows of anchors.csv by chip."""
    known = anchors_for()
    out: dict[str, list[Anchor]] = {}
    for i, chip in enumerate(known.words["chip"]):
        words = {name: known.words[name][i] for name in CLASS_WORDS if name != "guesses"}
        amounts = {name: float(2.0**log) for name, log in zip(AMOUNTS, known.logs[i], strict=True)}
        guesses = known.words["guesses"][i] == "yes"
        one = Class(**words, **amounts, vendor=known.vendors[i], guesses=guesses)  # type: ignore[arg-type]
        residue = {m: float(known.residue[m][i]) for m in METRICS}
        out.setdefault(chip, []).append(Anchor(id=known.ids[i], source=known.sources[i], one=one, residue=residue))
    return out


def of_table(path: Path, facts: Facts) -> list[Replayed]:
    """The chips of a table of serving whose rows do not stand among those that ship as residues."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    cases = [case for case in read_serving_cases(rows, facts) if isinstance(case, ServingCase)]
    found = rows_of_cases(cases, facts)
    out = []
    for chip in Counter(row.one.chip for row in found):
        here = [row for row in found if row.one.chip == chip]
        engine = Counter(row.one.engine for row in here).most_common(1)[0][0]
        out += _metrics(anchors_for(engine), here, chip)
    return out


def _metrics(known: Anchors, rows: Sequence[Anchor], chip: str, asked: int = ASKED) -> list[Replayed]:
    return [done for m in METRICS if (done := replayed(known, m, rows, chip, asked)) is not None]


def shipped(asked: int = ASKED) -> list[Replayed]:
    """Every chip whose rows ship and that has enough of them, most rows first."""
    known = anchors_for()
    out = []
    for chip, rows in rows_that_ship().items():
        others = np.array([i for i, name in enumerate(known.words["chip"]) if name != chip], dtype=np.intp)
        if len(rows) >= FEWEST:
            out += _metrics(known.take(others), rows, chip, asked)
    return out + of_table(TRAINIUM, load_facts())


def kept() -> list[Replayed]:
    """Chips whose rows do not ship."""
    return [Replayed(**one) for one in json.loads(KEPT.read_text(encoding="utf-8"))] if KEPT.is_file() else []


BEFORE = """# What to measure next, replayed

Generated by `make docs` (`tools/next_replay.py`). Do not edit.

`mowich next` ([how](../read/forecast.md#which-measurement-comes-next)) says which measurements narrow a range most. Here its rule is
played on chips that were measured. All rows of a chip are hidden. Rows of it are asked in turn, at most {asked}; other runs of the same setting are
left out. The rule chooses three of the chip's other rows, and does not see what they measured. Then the three are
revealed. Against it: eight rows drawn at random, {draws} times.

The error is ln(measured / predicted), without its sign, its median over the rows asked (that of eight: the mean over draws).
Constants stay those that ship; they were fitted to these rows too, but for those of MI300X. So this says what rows near
a question are worth, not how good constants are on a new chip: [accuracy-serving.md](accuracy-serving.md) leaves whole chips out.

"""


def page(found: Sequence[Replayed]) -> str:
    """The page."""
    out = BEFORE.format(asked=ASKED, draws=DRAWS)
    for metric in METRICS:
        here = sorted((one for one in found if one.metric == metric), key=lambda one: (-one.rows, one.chip))
        wins = sum(one.wins for one in here)
        out += f"## {NAMED[metric].capitalize()}\n\n"
        out += f"Three chosen beat eight at random on {wins} of {len(here)} chips.\n\n"
        out += (
            "| chip | rows | asked | error before | three chosen | eight at random | range after / before | in it |\n"
        )
        out += "|--|--|--|--|--|--|--|--|\n"
        for one in here:
            chosen = f"**{one.chosen:.3f}**" if one.wins else f"{one.chosen:.3f}"
            cells = (one.chip, one.rows, one.asked, f"{one.before:.3f}", chosen, f"{one.drawn:.3f}")
            out += f"| {' | '.join(map(str, cells))} | {one.narrowed:.2f} | {one.inside:.0%} |\n"
        out += "\n"
    narrow = sorted({one.chip for one in found if one.inside < INSIDE})
    if narrow:
        out += f"Fewer than {INSIDE:.0%} of a latency lie in the range with the three chosen on: {', '.join(narrow)}.\n"
        out += "The first rows of a vendor that nobody measured narrow a range too much: take it for a lower bound there.\n\n"
    return (
        out
        + f"A chip stands here with {FEWEST} rows or more of a latency. Rows of MI300X do not ship: their lines are kept.\n"
    )


def pages() -> dict[Path, str]:
    """The page and its text now."""
    return {PAGE: page([*shipped(), *kept()])}


if __name__ == "__main__":
    if sys.argv[1:]:
        facts = load_facts()
        found = [one for path in sys.argv[1:] for one in of_table(Path(path), facts)]
        KEPT.write_text(json.dumps([asdict(one) for one in found], indent=1) + "\n", encoding="utf-8")
    write(pages())
