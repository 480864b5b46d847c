"""How far forward passes of whole models are from measured ones, by chip and model: the section of docs/records/accuracy.md.

    python tools/forward_accuracy.py ROWS.csv

scores rows that do not ship and keeps what came of it in `forward_scores.json` and facts/published/left_out.json.
Nothing is fitted to such rows. `section` tells what is kept.
"""

from __future__ import annotations

import datetime
import json
import sys
from pathlib import Path

from rl_accuracy import counted, entry, percent

from mowich.evidence.scores import Validation, left_out_file, summarise
from mowich.facts import load_facts
from mowich.studies.validate import validate

KEPT = Path(__file__).with_name("forward_scores.json")
COMMAND = "python tools/forward_accuracy.py ROWS.csv"
WORK = "forward passes"

HEAD = """
## Forward passes of diffusion transformers

One denoising step, measured: on Trainium one chip with tensor parallelism over its four devices, on GPUs stock diffusers in eager mode on one. The rows do not ship, and nothing was fitted to
them: the laws are those of training's forward pass, the rates those of the devices, the work what was captured from the code of the models. `{command}` scored them on {date}: {rows} rows, of which
{refused} were refused. A bias above 0: predicted too slow.
"""


def scores_of(found: Validation) -> dict[str, object]:
    """What the section tells."""
    answered = [row for row in found.rows if row.status == "ok"]
    summary = found.summary()
    return {
        "date": datetime.date.today().isoformat(),
        "rows": len(found.rows),
        "all": {**entry(summarise(answered)), "bias": summarise(answered).bias},
        **{
            name: {of: {**entry(s), "bias": s.bias} for of, s in summary[key].items() if s.n}  # type: ignore[literal-required]
            for name, key in (("chips", "by_chip"), ("models", "by_model"))
        },
        "ratios": {row.id: {"model": row.kind, "chip": row.chip, "ratio": row.ratio} for row in answered},
        "reasons": counted(row.reason for row in found.rows if row.reason),
    }


def section() -> list[str]:
    """Lines of docs/records/accuracy.md; none where nothing is kept."""
    if not KEPT.is_file():
        return []
    kept = json.loads(KEPT.read_text(encoding="utf-8"))
    refused = kept["rows"] - kept["all"]["n"]
    lines = HEAD.format(command=COMMAND, date=kept["date"], rows=kept["rows"], refused=refused).splitlines()
    lines += ["", "| rows | n | median | p90 | bias | in range |", "|--|--|--|--|--|--|"]
    for of, s in {"all": kept["all"], **kept["chips"], **kept["models"]}.items():
        figures = " | ".join(percent(s[key]) for key in ("median", "p90", "bias", "in_range"))
        lines.append(f"| {of} | {s['n']} | {figures} |")
    chips = sorted(kept["chips"])
    lines += ["", "Predicted over measured:", "", f"| model | {' | '.join(chips)} |", "|--|" + "--|" * len(chips)]
    for model in kept["models"]:
        at = {one["chip"]: f"{one['ratio']:.2f}" for one in kept["ratios"].values() if one["model"] == model}
        lines.append(f"| {model} | {' | '.join(at.get(chip, '-') for chip in chips)} |")
    lines += ["", "**Refused, and why.**", "", "| rows | reason |", "|--|--|"]
    return lines + [
        f"| {r['rows']} | {r['reason']}{': ' if r['of'] else ''}{', '.join(r['of'])} |" for r in kept["reasons"]
    ]


def main(file: str) -> None:
    from accuracy import kept

    scores = scores_of(validate(file, load_facts()))
    KEPT.write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
    every = scores["all"]
    assert isinstance(every, dict)
    one = {
        "work": WORK,
        "what": "time of a pass",
        "unit": "sources",
        "rows": every["n"],
        **{key: round(every[key], 6) for key in ("median", "p90", "in_range")},
        "command": COMMAND,
        "date": scores["date"],
    }
    left_out_file().write_text(kept(WORK, [one]), encoding="utf-8")
    print("\n".join(section()))


if __name__ == "__main__":
    main(sys.argv[1])
