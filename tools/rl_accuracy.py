"""How far steps of reinforcement learning are from published ones, by phase and framework: the section of
docs/records/accuracy.md.

    python tools/rl_accuracy.py ROWS.csv

scores rows that do not ship, fits the factors of the framework again without one family of rows at a time, and keeps
what came of it in `rl_scores.json` and facts/published/left_out.json. `section` tells what is kept.
"""

from __future__ import annotations

import datetime
import json
import math
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from mowich.evidence.measured_tables import read_csv
from mowich.evidence.rl_rows import PHASES
from mowich.evidence.scores import RowResult, Summary, Validation, left_out_file, summarise
from mowich.facts import Facts, load_facts
from mowich.rl.frameworks import read_framework
from mowich.studies.rl_evidence import score_rl
from mowich.studies.validate import validate

KEPT = Path(__file__).with_name("rl_scores.json")
COMMAND = "python tools/rl_accuracy.py ROWS.csv"
WORK, STEP = "reinforcement learning", "step_time_s"

REACH = 1.3
"""How far both factors are moved from where they are, either way."""

PLACES = 41
"""Values of a factor that a fit chooses among."""

HEAD = """
## Reinforcement learning

Steps of reinforcement learning that frameworks publish, each phase by itself. The rows do not ship. `{command}` scored them on {date}: {rows} rows, of which {refused} were refused.
A step is scored by its measured plan, batch, mean length and cap. Waiting for answers is what the trainer of a split run waits: {stated} rows state it, {answered} of them state all that
a prediction needs.
"""


def factors(facts: Facts) -> tuple[str, str, str]:
    """Paths of the factors of generation, of training and of passes, of the framework that most rows are of."""
    paths = read_framework(facts, "NeMo RL").paths
    return paths["generation"], paths["training"], paths["passes"]


def left_out_errors(rows: Sequence[Mapping[str, str]], facts: Facts) -> tuple[dict[str, list[float]], list[bool]]:
    """(by family, ln of predicted over measured step with the factors of generation and of the trainer fitted to all
    other families; whether each measured step lies in the range of that prediction)."""
    made, trained, passed = factors(facts)
    now = [facts.number(path) for path in (made, trained, passed)]
    found: dict[str, list[list[float]]] = {}
    reach: dict[str, tuple[str, float, float]] = {}
    moves = (1.0 / REACH, 1.0, REACH)
    for by_made in moves:
        for by_trained in moves:
            values = {made: now[0] * by_made, trained: now[1] * by_trained, passed: now[2] * by_trained}
            results, _ = score_rl(rows, facts.with_values(values))
            for r in results:
                if r.metric == STEP and r.ratio:
                    found.setdefault(r.id, []).append([math.log(r.ratio)])
                    if by_made == by_trained == 1.0:
                        reach[r.id] = (
                            r.kind,
                            math.log((r.low or 0.0) / (r.predicted or 1.0)),
                            math.log((r.high or 0.0) / (r.predicted or 1.0)),
                        )
    ids = [i for i in found if len(found[i]) == len(moves) ** 2]
    table = np.array([np.ravel(found[i]) for i in ids]).reshape(-1, len(moves), len(moves))
    at = np.linspace(-math.log(REACH), math.log(REACH), PLACES)
    knots = np.log(moves)
    wide = np.array([[np.interp(at, knots, line) for line in row.T] for row in table])  # [rows, trained, made at]
    whole = np.array([[np.interp(at, knots, line) for line in row.T] for row in wide])  # [rows, made at, trained at]
    families = [reach[i][0] for i in ids]
    errors: dict[str, list[float]] = {}
    covered = []
    for family in sorted(set(families)):
        out = np.array([name == family for name in families])
        if out.all():
            continue
        best = np.unravel_index(np.argmin(np.abs(whole[~out]).mean(axis=0)), whole.shape[1:])
        for i in np.flatnonzero(out):
            error = float(whole[i][best])
            errors.setdefault(family, []).append(error)
            covered.append(reach[ids[i]][1] <= -error <= reach[ids[i]][2])
    return errors, covered


def entry(s: Summary) -> dict[str, object]:
    return {
        "n": s.n,
        "refused": s.unsupported,
        "median": s.median_abs_error,
        "p90": s.p90_abs_error,
        "in_range": s.interval_coverage,
    }


def by_phase(rows: Iterable[RowResult]) -> list[dict[str, object]]:
    """Errors by phase, then by phase and framework."""
    rows = list(rows)
    out: list[dict[str, object]] = []
    for metric, phase in PHASES.items():
        of_phase = [r for r in rows if r.metric == metric]
        names = sorted({r.stack for r in of_phase if r.status == "ok"})
        if of_phase:
            out.append({"phase": phase, "of": "all", **entry(summarise(of_phase))})
        out += [
            {"phase": phase, "of": name, **entry(summarise([r for r in of_phase if r.stack == name]))} for name in names
        ]
    return out


def kept_scores(found: Validation, rows: Sequence[Mapping[str, str]], facts: Facts) -> dict[str, object]:
    """What the section tells."""
    errors, covered = left_out_errors([r for r in rows if r["row_kind"] == "step"], facts)
    everything = np.expm1(np.abs(np.concatenate([*map(np.array, errors.values())])))
    own = [r for r in found.rows if r.metric == STEP and r.chip == "H100" and "DeepSeek" not in r.kind]
    refusals = dict.fromkeys((r.id, str(r.reason)) for r in found.rows if r.reason)
    sure = [pair for pair in found.pairs or () if not pair.doubts]
    refused = {r.id for r in found.rows} - {r.id for r in found.rows if r.status == "ok"}
    return {
        "date": datetime.date.today().isoformat(),
        "rows": len({r.id for r in found.rows}),
        "refused_rows": len(refused),
        "phases": by_phase(found.rows),
        "dense_and_qwen": entry(summarise(own)),
        "all": entry(summarise([r for r in found.rows if r.status == "ok"])),
        "families": [
            {"family": name, "n": len(e), "median": float(np.median(np.expm1(np.abs(e))))} for name, e in errors.items()
        ],
        "left_out": {
            "rows": len(everything),
            "median": float(np.median(everything)),
            "p90": float(np.quantile(everything, 0.9)),
            "in_range": float(np.mean(covered)),
        },
        "pairs": {
            "sure": len(sure),
            "right": sum(p.is_right for p in sure),
            "doubtful": len(found.pairs or ()) - len(sure),
        },
        "reasons": counted(one for _, reason in refusals for one in reason.split("; ")),
    }


def counted(reasons: Iterable[str]) -> list[dict[str, object]]:
    """Reasons with their rows, the most frequent first; what differs by row (a name, a doubt) stands beside its reason."""
    groups: dict[str, Counter[str]] = {}
    for reason in reasons:
        words, quote, rest = reason.removeprefix("its own ").partition(" '")
        if words.startswith("doubts: "):
            words, rest = "doubts", words.removeprefix("doubts: ") + quote + rest
        groups.setdefault(words.removesuffix(", got"), Counter())[rest.rstrip("'")] += 1
    ranked = sorted(groups.items(), key=lambda kv: (-kv[1].total(), kv[0]))
    return [
        {"rows": found.total(), "reason": words, "of": [name for name, _ in found.most_common() if name]}
        for words, found in ranked
    ]


def percent(value: object) -> str:
    return "-" if value is None else f"{100 * float(str(value)):.1f}%"


def section() -> list[str]:
    """Lines of docs/records/accuracy.md; none where nothing is kept."""
    if not KEPT.is_file():
        return []
    kept = json.loads(KEPT.read_text(encoding="utf-8"))
    waits = next((p for p in kept["phases"] if p["phase"] == PHASES["exposed_gen_time_s"]), {"n": 0, "refused": 0})
    head = HEAD.format(
        command=COMMAND,
        date=kept["date"],
        rows=kept["rows"],
        refused=kept["refused_rows"],
        stated=waits["n"] + waits["refused"],
        answered=waits["n"],
    )
    lines = head.splitlines()
    lines += ["", "| phase | of | n | refused | median | p90 | in range |", "|--|--|--|--|--|--|--|"]
    for p in kept["phases"]:
        lines.append(
            f"| {p['phase']} | {p['of']} | {p['n']} | {p['refused']} | {percent(p['median'])} | {percent(p['p90'])} | {percent(p['in_range'])} |"
        )
    out, own, pairs = kept["left_out"], kept["dense_and_qwen"], kept["pairs"]
    lines += [
        "",
        f"**A family left out.** The factors of generation and of the trainer are fitted to all other families of model and hardware: {percent(out['median'])} median, {percent(out['p90'])} at p90 of {out['rows']} steps, {percent(out['in_range'])} in range. Whole steps on H100 without DeepSeek, in sample: {percent(own['median'])} and {percent(own['p90'])} ({own['n']}).",
        "",
        "| family left out | n | median |",
        "|--|--|--|",
        *(f"| {f['family'].replace(' | ', ' on ')} | {f['n']} | {percent(f['median'])} |" for f in kept["families"]),
        "",
        f"**Order.** Of {pairs['sure']} pairs of a synchronous and an asynchronous run that share all else, differ by more than 10% and have no doubts, {pairs['right']} are predicted in the right order; {pairs['doubtful']} more have doubts of their own.",
        "",
        "**Refused, and why.** A row may have several reasons.",
        "",
        "| rows | reason |",
        "|--|--|",
        *(f"| {r['rows']} | {r['reason']}{': ' if r['of'] else ''}{', '.join(r['of'])} |" for r in kept["reasons"]),
    ]
    return lines


def main(file: str) -> None:
    from accuracy import kept

    facts = load_facts()
    found, rows = validate(file, facts), read_csv(Path(file), facts)
    scores = kept_scores(found, rows, facts)
    KEPT.write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
    out = scores["left_out"]
    assert isinstance(out, dict)
    one = {
        "work": WORK,
        "what": "time of a step",
        "unit": "families",
        "of": "model and hardware",
        **{key: out[key] if key == "rows" else round(out[key], 6) for key in out},
        "command": COMMAND,
        "date": scores["date"],
    }
    left_out_file().write_text(kept(WORK, [one]), encoding="utf-8")
    print("\n".join(section()))


if __name__ == "__main__":
    main(sys.argv[1])
