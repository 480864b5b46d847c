"""docs/conformance.md from the results: per suite and kernel passed, failed, not attempted, each with its reason."""

import fnmatch
import functools
import re
from collections import Counter
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
Row = dict[str, Any]
TITLES = {
    "docs": "The SDK's documentation: examples, the kernel-optimization tutorial, the MX deep dive",
    "samples": "nki-samples: tutorials and contributed kernels, both generations of the interface",
    "beta1": "The SDK's documentation: unit files of the older interface (`neuronxcc.nki`)",
    "pypi": "Independent packages from PyPI in their NKI mode",
    "nkilib": "nki-library: its own test suite in its simulation mode",
}
SET_TITLES = {
    "regular": "checked against references",
    "multirank": "several ranks",
    "trace": "run, outputs not checked",
    "slow": "large shapes",
    "skipped": "skipped upstream",
    "": "",
}


def grouped(rows: list[Row], key: Callable[[Row], Any]) -> dict[Any, list[Row]]:
    groups: dict[Any, list[Row]] = {}
    for r in rows:
        groups.setdefault(key(r), []).append(r)
    return groups


@functools.cache
def known() -> list[dict[str, str]]:
    """known.yaml: entries with `ids` (a glob), `whose` (ours, theirs), `why`; the first that matches explains a failure."""
    return yaml.safe_load((HERE / "known.yaml").read_text()) or []


def explanation(row: Row) -> str:
    for entry in known():
        if (
            fnmatch.fnmatchcase(row["id"], entry["ids"].replace("[", "[[]"))
            and entry.get("target", row["target"]) == row["target"]
        ):
            return f"{entry['whose']}: {entry['why']}"
    return ""


def kernel(row: Row) -> str:
    """What a row of the report stands for: a test file of nki-library, else the kernel named in the id."""
    if row["suite"] == "nkilib":
        return str(row["id"].split("::")[0].removeprefix("nkilib/").removesuffix(".py"))
    parts = row["id"].split("/")
    return "/".join(parts[1:3]) if row["suite"] == "pypi" else str(parts[1])


def plain(text: str) -> str:
    """A reason without addresses, temporary paths and table separators, so that the same cause reads the same."""
    text = re.sub(r"/\S*/(site-packages|python3\.\d+)/", "", text)
    text = re.sub(r"/\S*/(src/|test/|nki/|tests/|contributed/)", r"\1", text)
    text = re.sub(r"/tmp/\S*/", "", text)
    text = re.sub(r"0x[0-9a-f]+", "0x..", text)
    return text.replace("|", "/").replace("\n", " ").replace("`", "'").strip()


def cause(row: Row) -> str:
    """A reason with its numbers struck out, to count equal causes."""
    return re.sub(r"\d+(\.\d+)?(e[+-]?\d+)?", "#", plain(row["why"]))[:160]


def counts(rows: list[Row]) -> str:
    n = Counter(r["outcome"] for r in rows)
    done = n["passed"] + n["failed"]
    share = f"{100 * n['passed'] / done:.1f}%" if done else ""
    return f"{n['passed']} | {n['failed']} | {n['not attempted']} | {share}"


def write(rows: list[Row]) -> str:
    rows = sorted(rows, key=lambda r: (list(TITLES).index(r["suite"]), r["target"], r["id"]))
    out = [
        "# Conformance",
        "",
        "Published NKI kernels, unmodified, on Mowich's NeuronCore, against references that are not ours. Written by",
        "`make conformance`; edit nothing here. How it runs, and what had to be stood in for: `tests/conformance/README.md`.",
        "Of nki-library, the cases counted here are those that were run (the sets are in that file), a sample or all of a file's.",
        "A case is *not attempted* when what it needs is missing from the checkout, or when its own suite skips it.",
        "",
        "| suite | target | cases | passed | failed | not attempted | passed of run |",
        "|--|--|--|--:|--:|--:|--:|",
    ]
    for (suite, target, which), group in grouped(rows, lambda r: (r["suite"], r["target"], r["set"])).items():
        out.append(f"| {suite} | {target} | {SET_TITLES.get(which, which) or 'all'} | {counts(group)} |")
    for suite, title in TITLES.items():
        mine = [r for r in rows if r["suite"] == suite]
        if not mine:
            out += ["", f"## {title}", "", "Not run: the checkout or the packages were absent."]
            continue
        out += [
            "",
            f"## {title}",
            "",
            "| kernel | target | passed | failed | not attempted | passed of run |",
            "|--|--|--:|--:|--:|--:|",
        ]
        for (name, target), group in grouped(mine, lambda r: (kernel(r), r["target"])).items():
            out.append(f"| {name} | {target} | {counts(group)} |")
        for outcome, heading in (("failed", "Failures"), ("not attempted", "Not attempted")):
            chosen = [r for r in mine if r["outcome"] == outcome]
            if not chosen:
                continue
            out += ["", f"### {heading}", "", "| cases | reason | whose | an example |", "|--:|--|--|--|"]
            by_cause: dict[Hashable, list[Row]] = grouped(chosen, lambda r: (cause(r), explanation(r)))
            for (_, why), group in sorted(by_cause.items(), key=lambda kv: -len(kv[1])):  # type: ignore[misc]
                example = plain(group[0]["id"].split("::")[-1] if suite == "nkilib" else group[0]["id"])[:100]
                whose = why or ("" if outcome == "not attempted" else "not yet explained")
                out.append(f"| {len(group)} | {plain(group[0]['why'])[:200]} | {plain(whose)} | `{example}` |")
    return "\n".join(out) + "\n"
