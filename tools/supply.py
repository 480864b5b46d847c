"""What the project is made of, and what it must not hold: licences of what is installed, terms of what was measured, and
secrets. Offline, in a second; `make lint` runs it.

    python tools/supply.py           what is wrong
    python tools/supply.py --sbom    write licences into sbom.cdx.json

- Every package of requirements.lock that is installed has a licence of `ALLOWED`, and the bill of materials states it.
- Every action of a workflow is named by the digest of a commit.
- Every published measurement comes from a place that src/mowich/facts/published/terms.csv names, with its licence; "not
  stated" and "not read" are values.
- No file of the repository holds what looks like a key or a password.
"""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import yaml
from packaging.markers import Marker

ROOT = Path(__file__).resolve().parents[1]
FACTS = ROOT / "src" / "mowich" / "facts"
BILL = ROOT / "sbom.cdx.json"

ALLOWED = {
    **{name: name for name in ("MIT", "MIT-0", "0BSD", "Zlib", "CC0-1.0", "PSF-2.0")},
    **{name: name for name in ("Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "MPL-2.0")},
    "MIT License": "MIT",
    "ISC License": "ISC",
    "BSD 2-Clause License": "BSD-2-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}
"""Licences under which anybody may use, change and sell what he makes with them, as packages write them -> as SPDX
does. (MPL-2.0 binds changes of the package's own files.)"""

SECRETS: dict[str, tuple[str, str]] = {
    "a private key": ("PRIVATE KEY-----", r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----"),
    "a key of AWS": ("IA", r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a token of GitHub": ("_", r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{60,})\b"),
    "a token of PyPI": ("pypi-AgEI", r"\bpypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{50,}"),
    "a token of Hugging Face": ("hf_", r"\bhf_[A-Za-z0-9]{34}\b"),
    "a key of Google": ("AIza", r"\bAIza[0-9A-Za-z_-]{35}\b"),
    "a token of Slack": ("xox", r"\bxox[abprs]-[0-9A-Za-z-]{20,}"),
    "a key of an API": ("sk-", r"(?<![\w/-])sk-(?:ant-|proj-)?[A-Za-z0-9_-]{32,}\b"),
    "a password in an address": (
        "@",
        r"\b[a-z]{2,9}://[^\s/:@\"'{}$<>]{1,64}:[^\s/:@\"'{}$<>]{6,64}@[a-z0-9.-]+",
    ),
    "a signed token": ("eyJ", r"\beyJ[A-Za-z0-9_-]{20,}\.eyJ[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{20,}"),
}
"""What -> (letters that it has, how it looks)."""
MOST_B = 4_000_000
"""Largest file that is looked through."""


def locked(file: str = "requirements.lock") -> dict[str, str]:
    """Package -> version, of those that this platform installs."""
    text = (ROOT / file).read_text(encoding="utf-8")
    pins = re.findall(r"^([A-Za-z0-9_.-]+)==([^\s;]+)(?: *; *([^\\\n]+))?", text, re.MULTILINE)
    return {name: version for name, version, where in pins if not where or Marker(where.strip()).evaluate()}


def licence_of(package: str) -> str:
    """As its metadata has it: an expression, a field, or the classifiers."""
    data = metadata.metadata(package)
    first = str(data.get("License-Expression") or data.get("License") or "").split("\n")[0].strip()
    named = [c.rpartition("::")[2].strip() for c in data.get_all("Classifier") or [] if c.startswith("License ::")]
    return first or " AND ".join(named)


def expression_of(licence: str) -> str:
    """A licence in the words of SPDX, where all of its parts are known: "MIT License" is "MIT"."""
    return "".join(ALLOWED.get(part, part) for part in re.split("( AND | OR )", licence))


def licence_problems() -> Iterator[str]:
    listed = {one["name"]: one.get("licenses") for one in json.loads(BILL.read_text(encoding="utf-8"))["components"]}
    for package in locked():
        try:
            licence = licence_of(package)
        except metadata.PackageNotFoundError:
            yield f"requirements.lock: {package} is not installed: make installs it"
            continue
        choices = [set(one.split(" AND ")) for one in licence.split(" OR ")]
        if not any(choice <= set(ALLOWED) for choice in choices):
            yield f"{package}: licence {licence!r} is not among those that are allowed (tools/supply.py)"
        elif listed.get(package) != as_listed(licence):
            yield f"{BILL.name}: the licence of {package} is {licence!r}: make sbom writes it"


def as_listed(licence: str) -> list[dict[str, object]]:
    """A licence as CycloneDX lists it."""
    return [{"expression": expression_of(licence)}]


def list_licences() -> None:
    """Write the licences of all packages into the bill of materials. A package of another platform has none here."""
    bill = json.loads(BILL.read_text(encoding="utf-8"))
    here = locked()
    for one in bill["components"]:
        if one["name"] in here:
            one["licenses"] = as_listed(licence_of(one["name"]))
    bill["components"] = [dict(sorted(one.items())) for one in bill["components"]]
    BILL.write_text(json.dumps(bill, indent=2) + "\n", encoding="utf-8")


def action_problems() -> Iterator[str]:
    """A tag of an action can be moved: what a workflow runs is named by the digest of a commit."""
    for path in sorted((ROOT / ".github" / "workflows").glob("*.yml")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            used = re.search(r"\buses:\s*(\S+)", line)
            if used and not re.fullmatch(r"\.\S*|[\w./-]+@[0-9a-f]{40}", used[1]):
                yield f"{path.relative_to(ROOT)}:{number}: {used[1]} is no digest of a commit"


def place_of(address: str) -> str:
    """Where a source stands: a repository of GitHub, else a host; "unknown" where no address is known.

    >>> place_of("https://github.com/a/b/blob/0/c.md"), place_of("github:a/b@1 c"), place_of("https://x.org/y")
    ('github.com/a/b', 'github.com/a/b', 'x.org')
    """
    found = re.match(r"(?:https?://)?github(?:\.com/|:)([\w.-]+/[\w.-]+)", address)
    if found:
        return f"github.com/{found[1]}"
    host = re.match(r"https?://(?:www\.)?([\w.-]+)", address)
    return host[1] if host else "unknown"


def measured_places() -> dict[str, str]:
    """Place -> one table that has points from it."""
    sources = yaml.safe_load((FACTS / "sources.yaml").read_text(encoding="utf-8"))
    columns = {
        "training.csv": "source_address",
        "trainium_serving.csv": "source_path_or_url",
        "trainium_models.csv": "source",
        "collectives.csv": "source",
        "trainium_collectives.csv": "source",
    }
    found: dict[str, str] = {}
    for table, column in columns.items():
        with (FACTS / "published" / table).open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                address = row[column]
                found.setdefault(place_of(str(sources[address]["address"]) if address in sources else address), table)
    return found


def terms() -> dict[str, dict[str, str]]:
    """Place -> its row of terms.csv."""
    with (FACTS / "published" / "terms.csv").open(encoding="utf-8", newline="") as file:
        return {row["place"]: row for row in csv.DictReader(file)}


def term_problems() -> Iterator[str]:
    known, places = terms(), measured_places()
    for place, table in places.items():
        if place not in known:
            yield f"{table}: published/terms.csv has no licence or terms of {place}"
    for place, row in known.items():
        if place not in places:
            yield f"published/terms.csv: no measurement comes from {place}"
        if not row["licence"] or not row["why"] or row["grade"] not in ("A", "B", "C", "D"):
            yield f"published/terms.csv: {place} needs a licence, a grade from A to D, and why"
        if (row["licence"] == "not read") != (row["grade"] == "D"):
            yield f"published/terms.csv: {place}: what is not read has grade D, and nothing else has"


def files() -> list[Path]:
    """Files of the repository; all below it where this is no checkout."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    names = [name for name in done.stdout.decode().split("\0") if name] if done.returncode == 0 else []
    return [ROOT / name for name in names if (ROOT / name).is_file()]


def secrets_in(text: str) -> Iterator[tuple[int, str]]:
    """(line, what it looks like)."""
    for what, (letters, pattern) in SECRETS.items():
        for found in re.finditer(pattern, text) if letters in text else ():
            yield text.count("\n", 0, found.start()) + 1, what


def secret_problems() -> Iterator[str]:
    for path in files():
        if path.stat().st_size <= MOST_B:
            text = path.read_bytes().decode("utf-8", "replace")
            yield from (f"{path.relative_to(ROOT)}:{line}: looks like {what}" for line, what in secrets_in(text))


def main() -> int:
    if sys.argv[1:] == ["--sbom"]:
        list_licences()
        return 0
    found = [*licence_problems(), *term_problems(), *action_problems(), *secret_problems()]
    for line in found:
        print(f"error: {line}", file=sys.stderr)
    if not found:
        print(
            f"{len(locked())} licences allowed, {len(terms())} places of measurements with their terms, actions by digest, no secrets"
        )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
