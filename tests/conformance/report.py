"""docs/records/conformance.md from the results: per suite and kernel passed, failed, not attempted and never run, with
the reasons."""

import fnmatch
import functools
import re
from collections import Counter
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import third_party
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
    "small": "small shapes of ours, its references",
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
    """known.yaml: entries with `ids` (a glob), `whose` (ours, theirs), `why`, perhaps `says` (words of the failure) and
    `target`; the first that matches explains a failure."""
    return yaml.safe_load((HERE / "known.yaml").read_text()) or []


def explanation(row: Row) -> str:
    for entry in known():
        if (
            fnmatch.fnmatchcase(row["id"], entry["ids"].replace("[", "[[]"))
            and entry.get("target", row["target"]) == row["target"]
            and entry.get("says", "") in row["why"]
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
    text = re.sub(r"(/\S*/)?\b(site-packages|python3\.\d+)/", "", text)
    text = re.sub(r"/\S*/(src/|test/|nki/|tests/|contributed/)", r"\1", text)
    text = re.sub(r"/tmp/\S*/", "", text)
    text = re.sub(r"0x[0-9a-f]+", "0x..", text)
    return text.replace("|", "/").replace("\n", " ").replace("`", "'").strip()


def cause(row: Row) -> str:
    """A reason with its numbers struck out, to count equal causes."""
    return re.sub(r"\d+(\.\d+)?(e[+-]?\d+)?", "#", plain(row["why"]))[:160]


def counts(rows: list[Row]) -> str:
    """Cells of a table: how many of each outcome, and the passed ones of all that are listed."""
    n = Counter(r["outcome"] for r in rows)
    share = f"{100 * n['passed'] / len(rows):.1f}%" if rows else ""
    return f"{n['passed']} | {n['failed']} | {n['not attempted']} | {n['never run']} | {share}"


def entry_table(rows: list[Row]) -> list[str]:
    """The kernels under nki.jit in nki-library's sources: do they import, how many of the cases that reached each
    passed, and why none did."""
    entries = sorted({r["id"] for r in rows if r["suite"] == "entry"})
    if not entries:
        return []
    library = [r for r in rows if r["suite"] == "nkilib"]
    listed: dict[str, set[str]] = {}
    found: dict[tuple[str, str, bool], list[bool]] = {}
    reach: dict[str, list[Row]] = {}
    for r in library:
        listed.setdefault(r["target"], set()).add(r["id"])
        for kernel in r.get("kernels", ()):
            reach.setdefault(kernel, []).append(r)
            by_error = r["outcome"] == "passed" and kernel not in r.get("ran", r["kernels"])
            if r["outcome"] in ("passed", "failed") and not by_error:
                found.setdefault((kernel, r["target"], r["strict"]), []).append(r["outcome"] == "passed")
    bare = {r["id"] for r in rows if r["suite"] == "entry" and r["strict"] and r["outcome"] == "passed"}
    columns = [("trn2", False), ("trn3", False), ("trn2", True), ("trn3", True)]

    def reason(name: str) -> str:
        """Why a kernel passed nowhere on a target."""
        said = []
        for target in ("trn2", "trn3"):
            if any(any(found.get((name, target, strict), [])) for strict in (False, True)):
                continue
            mine = reach.get(name, [])
            refused = next((r["why"] for r in mine if r["target"] == target and r["outcome"] == "not attempted"), "")
            if target == "trn2" and mine and not any(r["id"] in listed.get(target, set()) for r in mine):
                said.append("its tests are for trn3 only")
            else:
                said.append(f"{target}: {plain(refused)}" if refused else f"{target}: no case that reaches it has run")
        return "; ".join(said)

    lines, left = [], Counter[str]()
    for name in entries:
        counts = [found.get((name, *c), []) for c in columns]
        cells = [f"{sum(c)} of {len(c)}" if c else "" for c in counts]
        why = reason(name)
        left.update(why.split("; ") if why else [])
        lines.append(
            f"| {name.removeprefix('nkilib.')} | {'yes' if name in bare else ''} | {' | '.join(cells)} | {why} |"
        )
    ran = [sum(any(found.get((name, *c), [])) for name in entries) for c in columns]
    others = f" For the others: {', '.join(f'{why} ({n})' for why, n in sorted(left.items()))}." if left else ""
    return [
        "",
        "### Entry kernels",
        "",
        (
            f"The {len(entries)} functions under `nki.jit` in the library's sources. Cases that reached a kernel"
            " (launched it, or called it from"
        ),
        (
            "another) and passed, but for those that want an error of it; without repairs: with its dataclasses as"
            " published, as a user meets them (`--strict`)."
        ),
        (
            f"{len(bare)} import without the harness. A case passed on trn2 for {ran[0]} and on trn3 for {ran[1]},"
            f" without repairs for {ran[2]} and {ran[3]}.{others}"
        ),
        "",
        "| kernel | imports | trn2 | trn3 | trn2, without repairs | trn3, without repairs | why not |",
        "|--|--|--|--|--|--|--|",
        *lines,
    ]


def effort(rows: list[Row]) -> str:
    """Processor time of nki-library's cases, its inputs and references included."""
    done = [r for r in rows if r["suite"] == "nkilib" and r["outcome"] in ("passed", "failed") and not r["strict"]]
    spills = sum(bool(r.get("spilled")) for r in done)
    minutes = sum(r.get("cpu_s", 0.0) for r in done) / 60
    told = [r for r in done if "machine_s" in r]
    share = sum(r["machine_s"] for r in told) / (sum(r["cpu_s"] for r in told) or 1.0)
    kernels = f"; in the {len(told):,} of which it is known, the kernels themselves took {share:.0%}" if told else ""
    return (
        f"nki-library's {len(done):,} cases took {minutes:.0f} minutes of processor time, its inputs, references and"
        f" comparisons included: about {minutes / 2:.0f} minutes on two cores{kernels}. {spills or 'None'} of them had"
        " more live tiles than SBUF holds at some moment: an error for an author, unless `spill=True`; here, as in"
        " AWS's compiler, they spill."
    )


def failures_by_cause(rows: list[Row]) -> str:
    """How many failures are whose, and the share that passes without those of others."""
    done = [r for r in rows if r["outcome"] in ("passed", "failed")]
    n = Counter(explanation(r).split(":")[0] or "not yet explained" for r in done if r["outcome"] == "failed")
    passed = sum(r["outcome"] == "passed" for r in done)
    mine = passed + n.total() - n["theirs"]
    parts = ", ".join(f"{count:,} {name}" for name, count in sorted(n.items()))
    return (
        f"Failures by cause: {parts}. *Theirs* are faults of the tests or kernels, with the evidence below; *open* are"
        " those with evidence but without proof; of the"
        f" other {mine:,} cases that ran, {100 * passed / mine:.1f}% pass."
    )


def changes(before: list[Row], after: list[Row]) -> list[str]:
    """What became of the cases of an earlier run, those that fail now and passed then first: `passed -> failed: id
    (target)  why`. Cases that either run did not come to are left out."""
    ran = [r for r in before if r["outcome"] != "never run"]
    then = {(r["suite"], r["target"], r["id"], r["strict"]): r["outcome"] for r in ran}
    found = []
    for r in after:
        was, now = then.get((r["suite"], r["target"], r["id"], r["strict"])), r["outcome"]
        if was is not None and now not in (was, "never run"):
            found.append((now != "failed", was, now, f"{r['id']} ({r['target']})  {r['why'][:160]}".rstrip()))
    return [f"{was} -> {now}: {text}" for _, was, now, text in sorted(found)]


def left_out(rows: list[Row]) -> list[str]:
    """What nki-library's cases without an outcome are."""
    mine = [r for r in rows if r["suite"] == "nkilib"]
    skipped, left = ([r for r in mine if r["outcome"] == outcome] for outcome in ("not attempted", "never run"))
    out = []
    if skipped:
        large = sum("GB of memory" in r["why"] for r in skipped)
        out += [
            "",
            (
                f"Of its {len(skipped):,} cases not attempted, {large:,} need more memory than they had; its own suite"
                " skips the others."
            ),
        ]
    if left:
        fail = sum(bool(explanation(r)) for r in left)
        out += [
            "",
            (
                f"{len(left):,} cases of nki-library never ran, the largest: nothing is claimed for them. {fail:,} are"
                " of kinds whose failures are explained below."
            ),
        ]
    return out


def write(rows: list[Row]) -> str:
    everything = rows
    rows = [r for r in rows if r["suite"] != "entry" and not r["strict"]]
    rows = sorted(rows, key=lambda r: (list(TITLES).index(r["suite"]), r["target"], r["id"]))
    of_trn2 = {r["id"] for r in rows if (r["suite"], r["target"]) == ("nkilib", "trn2")}
    out = [
        "# Conformance",
        "",
        "Published NKI kernels, unmodified, on Mowich's NeuronCore, against references that are not ours. Written by",
        (
            "`make conformance`; edit nothing here. How it runs, and what had to be stood in for:"
            " `tests/conformance/README.md`."
        ),
        (
            "A case is *not attempted* when what it needs is missing from the checkout or it needs more memory than it"
            " may have, or when"
        ),
        (
            "its own suite skips it; it was *never run* when its suite lists it, and no run has come to it yet. The"
            " last column is passed"
        ),
        "of all that are listed: a case that did not run counts as not passed.",
        "",
        "| suite | target | cases | passed | failed | not attempted | never run | passed of listed |",
        "|--|--|--|--:|--:|--:|--:|--:|",
    ]
    for (suite, target, which, is_both), group in grouped(
        rows, lambda r: (r["suite"], r["target"], r["set"], r["target"] == "trn3" and r["id"] in of_trn2)
    ).items():
        title = (SET_TITLES.get(which, which) or "all") + (", cases of trn2" if is_both else "")
        out.append(f"| {suite} | {target} | {title} | {counts(group)} |")
    if any(r["outcome"] == "failed" for r in rows) and any(r["outcome"] == "passed" for r in rows):
        out += ["", failures_by_cause(rows)]
    if any(r["suite"] == "nkilib" for r in rows):
        out += ["", effort(rows)]
    out += left_out(rows)
    for suite, title in TITLES.items():
        mine = [r for r in rows if r["suite"] == suite]
        if not mine:
            out += ["", f"## {title}", "", "Not run: the checkout or the packages were absent."]
            continue
        out += [
            "",
            f"## {title}",
            "",
            "| kernel | target | passed | failed | not attempted | never run | passed of listed |",
            "|--|--|--:|--:|--:|--:|--:|",
        ]
        for (name, target), group in grouped(mine, lambda r: (kernel(r), r["target"])).items():
            out.append(f"| {name} | {target} | {counts(group)} |")
        if suite == "nkilib":
            out += entry_table(everything)
        for outcome, heading in (("failed", "Failures"), ("not attempted", "Not attempted")):
            chosen = [r for r in mine if r["outcome"] == outcome]
            if not chosen:
                continue
            out += ["", f"### {heading}", "", "| cases | reason | whose | an example |", "|--:|--|--|--|"]
            by_cause: dict[Hashable, list[Row]] = grouped(
                chosen, lambda r: (cause(r), explanation(r) if r["outcome"] == "failed" else "")
            )
            notes: dict[str, int] = {}  # explanations, once each below the table
            for (_, why), group in sorted(by_cause.items(), key=lambda kv: -len(kv[1])):  # type: ignore[misc]
                example = plain(group[0]["id"].split("::")[-1] if suite == "nkilib" else group[0]["id"])[:100]
                whose = (
                    f"{why.split(':')[0]} ({notes.setdefault(why, len(notes) + 1)})"
                    if why
                    else ("" if outcome == "not attempted" else "not yet explained")
                )
                out.append(f"| {len(group)} | {plain(group[0]['why'])[:200]} | {whose} | `{example}` |")
            if notes:
                out += ["", *(f"{n}. {plain(why.split(': ', 1)[1])}" for why, n in notes.items())]
    out += third_party.section(third_party.recorded())
    return "\n".join(out) + "\n"
