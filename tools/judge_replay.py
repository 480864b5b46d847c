"""How good the judge is on released families of kernels: docs/records/judge-accuracy.md, its picture
docs/images/judge.svg, and what docs/read/judge.md says of it between its marks.

    python tools/judge_replay.py                   the page and its picture, of what is kept (also: make docs)
    python tools/judge_replay.py POINTS.json [--megakernel DIR] [--nkilib DIR] [--kda DIR] [--accelopt DIR]
                                                   first what the clock says of each kernel (make judge-replay)

The second keeps in `judge_families.json`, for each kernel, its measured time and what an order rests on, predicted with
its family left out of the fit (`kernel_accuracy.py`). The first plays the judge: it measures what the judge asks for,
one kernel after another, and stops where the judge does.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from kernel_accuracy import FAMILIES
from pages import write

from mowich.neuroncore.order import ORDER_SAID, KernelSide
from mowich.studies.judge.measured import KnownTimes, measure_budget

DOCS = Path(__file__).resolve().parents[1] / "docs"
KEPT = Path(__file__).with_name("judge_families.json")
DIFFER = 0.05
"""Measured times that differ by more have an order; a choice that is nearer to the best is as good."""
MANY = 7
"""Variants from which on a family counts for the score of choices."""
DIGITS = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Variants of one kernel on one chip. times_s: measured; sides: what the clock says, in the same order; chart: the
    times were read off bars."""

    name: str
    chart: bool
    kernels: tuple[str, ...]
    times_s: tuple[float, ...]
    sides: tuple[KernelSide, ...]

    def regret(self, place: int) -> float:
        """How much longer a variant takes than the best."""
        return self.times_s[place] / min(self.times_s) - 1


# what is kept
# ----------------------------------------------------------------------------------------------------------------------


def kept_of(families: Iterable[Family]) -> list[dict[str, Any]]:
    """Families as they are kept: the ends of each fact once, and the shares of each kernel in the same order."""
    out = []
    for f in families:
        ends = {name: [low, high] for side in f.sides for name, (_, low, high) in side.path.items()}
        kernels = []
        for kernel, time_s, side in zip(f.kernels, f.times_s, f.sides, strict=True):
            shares = [_short(side.path[name][0]) if name in side.path else 0 for name in ends]
            rest = {"grade": side.grade, "width": list(side.width), "risks": [list(risk) for risk in side.risks]}
            kernels.append({"kernel": kernel, "measured_s": time_s, "clock_s": side.time_s, "shares": shares, **rest})
        common = {"kind": f.sides[0].kind, "pair": f.sides[0].pair}
        out.append({"family": f.name, "chart": f.chart, **common, "ends": ends, "kernels": kernels})
    return out


def _short(x: float) -> float:
    return round(x, DIGITS)


def families(kept: Sequence[Mapping[str, Any]] | None = None) -> list[Family]:
    """The families of the file."""
    rows = json.loads(KEPT.read_text(encoding="utf-8")) if kept is None else kept
    return [
        Family(
            name=row["family"],
            chart=row["chart"],
            kernels=tuple(k["kernel"] for k in row["kernels"]),
            times_s=tuple(k["measured_s"] for k in row["kernels"]),
            sides=tuple(_side(row, k) for k in row["kernels"]),
        )
        for row in rows
    ]


def _side(row: Mapping[str, Any], k: Mapping[str, Any]) -> KernelSide:
    return KernelSide(
        time_s=k["clock_s"],
        reason="",
        grade=k["grade"],
        kind=row["kind"],
        path={n: (share, *ends) for (n, ends), share in zip(row["ends"].items(), k["shares"], strict=True) if share},
        pair=row["pair"],
        width=tuple(k["width"]),
        risks=tuple((why, low, high) for why, low, high in k["risks"]),
    )


def judged_families(words: Sequence[str]) -> list[Family]:
    """The families of a file of measured points, each predicted with itself left out of the fit."""
    from kernel_accuracy import Timed, fitted, in_unit
    from kernel_points import Checkouts, published_counts, read, run, traces

    from mowich.neuroncore.order import order_side
    from mowich.neuroncore.profile import Profile

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("points", type=Path)
    for name in ("megakernel", "nkilib", "kda", "accelopt"):
        parser.add_argument(f"--{name}", type=lambda text: Path(text) if text else None, default=None)
    given = parser.parse_args(words)
    checkouts = Checkouts(given.points, given.megakernel, given.nkilib, given.kda, given.accelopt)
    counts, timed = published_counts(), []
    for point in read(given.points):
        if not checkouts.has(point):
            sys.exit(f"{point.id}: its checkout is not named (tools/README.md)")
        made = Timed(point, traces(run(point, checkouts)))
        made.point, _ = in_unit(made, counts.get(point.id))
        timed.append(made)
    out = []
    for name, chart in dict.fromkeys((t.point.family, t.point.chart) for t in timed):
        mine = [t for t in timed if (t.point.family, t.point.chart) == (name, chart)]
        values = fitted([t for t in timed if t.point.older == mine[0].point.older], name)
        out.append(
            Family(
                name=name,
                chart=chart,
                kernels=tuple(t.point.id for t in mine),
                times_s=tuple(float(f"{t.point.us / 1e6:.6g}") for t in mine),
                sides=tuple(order_side(Profile(t.schedule(values))) for t in mine),
            )
        )
    return out


# replay
# ----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A family, measured as the judge asks. budget: kernels that may be measured by default; measured: places, one after
    another, until the judge asks for none; regrets: of the judge's choice before the first and after each."""

    family: Family
    budget: int
    measured: tuple[int, ...]
    regrets: tuple[float, ...]

    def regret_after(self, count: int) -> float:
        """Of the choice after so many measured, or as many as the judge asked for."""
        return self.regrets[min(count, len(self.regrets) - 1)]


def replayed(family: Family) -> Replay:
    """Measure what the judge asks for until it asks for none."""
    measured: dict[int, float] = {}
    known = KnownTimes(family.sides, measured)
    regrets = [family.regret(known.by_time[0])]
    while asked := known.measure_next(1):
        measured = {**measured, asked[0]: family.times_s[asked[0]]}
        known = KnownTimes(family.sides, measured)
        regrets.append(family.regret(known.by_time[0]))
    budget = measure_budget(len(family.sides))
    return Replay(family=family, budget=budget, measured=tuple(measured), regrets=tuple(regrets))


def regret_at_random(family: Family, count: int) -> float:
    """The mean regret of the best of so many variants that are measured in random order.

    sum over i of t_i C(n - i, k - 1) / C(n, k) / t_1 - 1

    n: variants, t_1 to t_n their times, the fastest first; k (`count`): those that are measured.
    """
    times, n = sorted(family.times_s), len(family.times_s)
    ways = [math.comb(n - i, count - 1) for i in range(1, n + 1)]
    return sum(t * w for t, w in zip(times, ways, strict=True)) / math.comb(n, count) / times[0] - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PairCount:
    """Pairs whose measured times differ, those that get an order, and those of them that get the measured one."""

    differ: int = 0
    sure: int = 0
    right: int = 0

    def __add__(self, other: PairCount) -> PairCount:
        more = (other.differ, other.sure, other.right)
        differ, sure, right = (a + b for a, b in zip((self.differ, self.sure, self.right), more, strict=True))
        return PairCount(differ=differ, sure=sure, right=right)


def pair_count(family: Family) -> PairCount:
    """Of a family of which nothing was measured."""
    known, out = KnownTimes(family.sides, {}), PairCount()
    for a, b in combinations(range(len(family.sides)), 2):
        slow, fast = sorted((family.times_s[a], family.times_s[b]), reverse=True)
        if slow / fast - 1 <= DIFFER:
            continue
        verdict = known.order(a, b).verdict
        said = verdict in ("a slower", "b slower")
        is_right = said and (verdict == "a slower") == (family.times_s[a] > family.times_s[b])
        out += PairCount(differ=1, sure=int(said), right=int(is_right))
    return out


def good_choices(replays: Iterable[Replay]) -> tuple[int, int]:
    """(Families with `MANY` variants or more whose choice is as good as the best after the default budget, all such)."""
    many = [r for r in replays if len(r.family.sides) >= MANY]
    return sum(r.regret_after(r.budget) <= DIFFER for r in many), len(many)


# the page
# ----------------------------------------------------------------------------------------------------------------------


BEFORE = """# The judge on kernels that were measured

[`mowich kernel judge`](../read/judge.md) on released kernels that were measured on Trainium 2 and 3 ([accuracy of the clock](kernel-accuracy.md)). Each family is predicted with
itself left out of the fit. It is measured as the judge asks: one, then the next that it names with that time known. The **regret** is how much longer its choice takes than the
best of the family. Generated by `python tools/judge_replay.py`, from what `make judge-replay` keeps in `tools/judge_families.json`. A run of all kernels and fits takes some minutes.

![Regret of the choice against the share of variants measured, for each family](../images/judge.svg)

"""
AFTER = """

- *May be measured*: by default. *The judge asks for*: until nothing is worth a device; where it asks for more than it may measure, the regret is that after the budget.
- *As many at random*: mean regret of the best of as many variants measured in random order.
- *Pairs*: of a family, with measured times that differ by more than 5%. *Charts*: times read off bars.

Only constants of DMA were fitted without the family. Every other constant, the rules of the clock and the 6% by which two like kernels differ were chosen with all points in view.
So kernels of another kind may do worse.
"""


def summary(replays: Sequence[Replay]) -> str:
    """What stands between the marks of judge.md, and first in the record."""
    total = sum(map(pair_count, (r.family for r in replays)), PairCount())
    good, many = good_choices(replays)
    return (
        f"- Of the {many} families with {MANY} variants or more, the choice is within {DIFFER:.0%} of the best in {good},"
        " when as many were measured as may be by default.\n"
        f"- {total.differ} pairs of a family differ by more than {DIFFER:.0%}. Of {total.sure} ({total.sure / total.differ:.0%})"
        f" the judge says the order (with {ORDER_SAID:.0%} or more); {total.right} ({total.right / total.sure:.0%}) of these"
        " are in order."
    )


def table(replays: Sequence[Replay]) -> str:
    """A row for each family."""
    lines = [
        "| family | variants | may be measured | the judge asks for | regret, none measured | one | all that may be |"
        " as many at random | pairs | order said | in order |",
        "|--|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for r in replays:
        f, p = r.family, pair_count(r.family)
        regrets = [r.regrets[0], r.regret_after(1), r.regret_after(r.budget), regret_at_random(f, r.budget)]
        cells = [f"{title(f)}", len(f.sides), r.budget, len(r.measured), *(f"{x:.1%}" for x in regrets)]
        lines.append("| " + " | ".join(map(str, [*cells, p.differ, p.sure, p.right])) + " |")
    return "\n".join(lines)


def title(family: Family) -> str:
    """ "SiLU, trn2"."""
    name, chip = family.name.split()
    return f"{FAMILIES.get(name, name)}, {chip}{', charts' if family.chart else ''}"


ACROSS, WIDE, HIGH = 4, 230, 170
LEFT, TOP, PLOT_WIDE, PLOT_HIGH = 44, 30, 170, 100
JUDGE, RANDOM = "#2060a0", "#999999"
CHOICE = "the judge's choice; dot: it asks for no more; dashes: as many as may be measured"


def svg(replays: Sequence[Replay]) -> str:
    """A panel for each family with many variants: regret of the choice against variants measured."""
    many = [r for r in replays if len(r.family.sides) >= MANY]
    width, height = ACROSS * WIDE, math.ceil(len(many) / ACROSS) * HIGH + 26
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif"'
        ' font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for place, replay in enumerate(many):
        down, right = divmod(place, ACROSS)
        out.append(f'<g transform="translate({right * WIDE},{down * HIGH})">{"".join(_panel(replay))}</g>')
    y = height - 10
    for x, colour, text in (
        (LEFT, JUDGE, CHOICE),
        (LEFT + 470, RANDOM, "the best of as many measured at random, mean"),
    ):
        out.append(f'<line x1="{x}" x2="{x + 24}" y1="{y - 4}" y2="{y - 4}" stroke="{colour}" stroke-width="2"/>')
        out.append(f'<text x="{x + 30}" y="{y}">{text}</text>')
    return "\n".join([*out, "</svg>"]) + "\n"


def _panel(replay: Replay) -> list[str]:
    f, n = replay.family, len(replay.family.sides)
    random = [(k, regret_at_random(f, k)) for k in range(1, n + 1)]
    judge = [(k, replay.regret_after(k)) for k in range(n + 1)]
    most = max(y for _, y in random + judge)
    step = next(s for s in (0.02, 0.05, 0.1, 0.2, 0.5, 1.0) if most <= 4 * s)

    def x(k: float) -> float:
        return LEFT + PLOT_WIDE * k / n

    def y(regret: float) -> float:
        return TOP + PLOT_HIGH * (1 - regret / (4 * step))

    out = [f'<text x="8" y="{TOP - 12}" font-weight="bold">{title(f)} ({n})</text>']
    for tick in range(5):
        at = y(tick * step)
        out.append(f'<line x1="{LEFT}" x2="{LEFT + PLOT_WIDE}" y1="{at:.1f}" y2="{at:.1f}" stroke="#ddd"/>')
        out.append(f'<text x="{LEFT - 5}" y="{at + 4:.1f}" text-anchor="end">{tick * step:.0%}</text>')
    for share in (0.0, 0.5, 1.0):
        at = x(share * n)
        out.append(f'<text x="{at:.0f}" y="{TOP + PLOT_HIGH + 15}" text-anchor="middle">{share:.0%}</text>')
    budget, bottom = x(replay.budget), TOP + PLOT_HIGH
    out.append(
        f'<line x1="{budget:.1f}" x2="{budget:.1f}" y1="{TOP}" y2="{bottom}" stroke="#888" stroke-dasharray="3"/>'
    )
    for points, colour in ((random, RANDOM), (judge, JUDGE)):
        path = " ".join(f"{x(k):.1f},{y(regret):.1f}" for k, regret in points)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
    end = len(replay.measured)
    out.append(f'<circle cx="{x(end):.1f}" cy="{y(replay.regrets[-1]):.1f}" r="3.5" fill="{JUDGE}"/>')
    return out


MARKS = ("<!-- replay -->", "<!-- end -->")


def pages(read: Callable[[], list[Family]] = families) -> dict[Path, str]:
    """The record, what the page for users says of it, and the picture."""
    replays = [replayed(family) for family in read()]
    said = summary(replays)
    page = (DOCS / "read" / "judge.md").read_text(encoding="utf-8")
    before, _, rest = page.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    return {
        DOCS / "read" / "judge.md": f"{before}{MARKS[0]}\n{said}\n{MARKS[1]}{after}",
        DOCS / "records" / "judge-accuracy.md": f"{BEFORE}{said}\n\n{table(replays)}{AFTER}",
        DOCS / "images" / "judge.svg": svg(replays),
    }


def main(words: Sequence[str]) -> None:
    """Keep what the clock says of a file of points, if one is named; write the page."""
    if words:
        rows = ",\n".join(json.dumps(row) for row in kept_of(judged_families(words)))
        KEPT.write_text(f"[\n{rows}\n]\n", encoding="utf-8")
    write(pages())


if __name__ == "__main__":
    main(sys.argv[1:])
