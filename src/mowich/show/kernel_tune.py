"""The page of a kernel that is tuned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from mowich.show.formats import headed, interval
from mowich.show.page import NOTHING, Column, Page, Part, Run, Table, estimate_of, paragraphs, word_columns
from mowich.shown import Result
from mowich.units import show


def tune_page(result: Result, run: Run) -> Page:
    """Variants of a kernel: the best of each target, all that ran by time, what was refused."""
    rows, targets = result["rows"], result["targets"]
    shapes = ", ".join(result["shapes"]) or "what inputs() of the file gives"
    varied = "; ".join(f"{name}: {', '.join(map(str, values))}" for name, values in result["axes"].items())
    good = [row for row in rows if row["rank"] is not None]
    bad = [row for row in rows if row["rank"] is None]
    return Page(
        title="A kernel tuned",
        sentences=tuple(_sentences(result)),
        assumptions=[
            ("file", result["file"]),
            ("targets", ", ".join(targets)),
            ("arguments", shapes),
            ("varied", varied),
            ("reference", result["reference"] or "none: values are not computed"),
        ],
        parts=(
            *paragraphs([f"{shapes}; {varied}; {', '.join(targets)}."], "caption"),
            *(part for target in targets for part in _of_target(result, target, good)),
            *([_refused(bad)] if bad else []),
        ),
        charts=[],
        records=[dict(row) for row in rows],
    )


def _sentences(result: Result) -> list[str]:
    out = []
    for best in result["best"]:
        if best["settings"] is None:
            out.append(f"No variant is good on {best['on']}.")
            continue
        sure = NOTHING if best["p_best"] is None else _chance(best["p_best"])
        words = f"Fastest on {best['on']}: {settings_text(best['settings'])}, {_time(best)}"
        words += f" (the fastest with a probability of {sure} or more)"
        if best["speedup"] is not None:
            words += f", {best['speedup']:.2f} times as fast as the file as it is"
        words = f"{words}."
        if not out:
            chosen = f"Fastest on {best['on']}: {settings_text(best['settings'])}"
            out += headed(words, f"{chosen}, probability {sure} or more.", f"Fastest on {best['on']}: {_time(best)}.")
            continue
        out.append(words)
    count, tried = result["count"], result["tried"]
    ran = f"{tried} of {result['space']} variants were tried"
    said = [f"{ran} on {', '.join(result['targets'])}" if len(result["targets"]) > 1 else ran]
    said += [f"{count[status]} {status}" for status in ("wrong", "refused") if count[status]]
    more = f" --limit {result['space']} tries all." if result["not_tried"] else ""
    out.append(f"{', '.join(said)}.{more}")
    out += [f"{name} changes nothing at these arguments." for name in result["no_effect"]]
    both = result["one_for_all"]
    if both is not None:
        losses = ", ".join(f"{loss:.1%} on {target}" for target, loss in both["loss"].items())
        out.append(f"One setting for all: {settings_text(both['settings'])} loses {losses}.")
    for best in result["best"]:
        if best["measure_next"]:
            words = "; ".join(map(settings_text, best["measure_next"]))
            out.append(f"Measure next on {best['on']}: {words}.")
    return out


def settings_text(settings: Mapping[str, object]) -> str:
    """ "AHEAD=2 TILE=128" """
    return " ".join(f"{name}={value}" for name, value in settings.items())


def _chance(p: float) -> str:
    """A probability; near certainty is not printed as certainty."""
    return f"{p:.0%}" if p < 0.995 else "99%"


def _time(row: Result) -> str:
    """ "9.92 (9.4-10.5) us" """
    e = estimate_of(row["time_s"])
    return NOTHING if e.value is None else f"{interval(e, 1e6)} us"


def _of_target(result: Result, target: str, good: Sequence[Result]) -> Sequence[Part]:
    """The table of one target, with its name above where there are several."""
    rows = [row for row in good if row["on"] == target]
    name = paragraphs([f"{target}:"], "caption") if len(result["targets"]) > 1 and rows else ()
    return (*name, *([_by_time(result, target, rows)] if rows else []))


def _by_time(result: Result, target: str, rows: Sequence[Result]) -> Table:
    names = list(result["axes"])
    return Table(
        title=f"{target}, by time",
        columns=[
            Column(name="rank"),
            *(Column(name=name) for name in names),
            Column(name="time"),
            Column(name="order", right=False, keep=5),
            Column(name="SBUF", keep=4),
            Column(name="HBM", keep=3),
            Column(name="binds", right=False, keep=1),
            Column(name="front", right=False, keep=2),
        ],
        rows=[
            [
                str(row["rank"]),
                *(str(row["settings"][name]) for name in names),
                _time(row),
                row["order"] or ("first" if row["rank"] == 1 else NOTHING),
                show(row["sbuf_B"], "B"),
                show(row["hbm_B"], "B"),
                row["binds"] or NOTHING,
                "front" if row["front"] else "",
            ]
            for row in rows
        ],
        note="SBUF: most bytes of a partition at once. Front: no other one is as fast with as few bytes of both.",
        most=20,
        elsewhere="--json, --csv or --out FILE.parquet",
    )


def _refused(rows: Sequence[Result]) -> Table:
    """What was wrong or refused, by reason."""
    counted = Counter((row["status"], row["reason"] or NOTHING) for row in rows)
    first = {(row["status"], row["reason"] or NOTHING): row for row in reversed(rows)}
    return Table(
        title="Wrong and refused",
        columns=word_columns(["variants", "status", "for example", "why"], left=["status", "for example", "why"]),
        rows=[
            [str(n), key[0], f"{settings_text(first[key]['settings'])} on {first[key]['on']}", key[1]]
            for key, n in counted.most_common()
        ],
        most=20,
        elsewhere="--json or --csv",
    )
