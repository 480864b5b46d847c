#!/usr/bin/env python3
"""Run published NKI kernels on Mowich and write docs/records/conformance.md (README.md says how; `make conformance`
calls this).

Each result is appended to --state as it comes, so that a long suite may be run in parts, cut off and resumed; the
report shows the last result of each case. Exit status 1 if a case failed that known.yaml does not explain, 2 if nothing
could be run.
"""

import argparse
import ast
import gzip
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE)]
sys.path.append(str(HERE / "shims"))
sys.dont_write_bytecode = True

import report  # noqa: E402

CASE_SUITES = ("docs", "samples", "beta1", "pypi")
SETS = {
    "smoke": "",  # ids in nkilib_smoke.txt
    "fast": "regular,multirank,trace",  # of these, those that nki-library marks fast
    "regular": "regular,multirank,trace",
    "multirank": "multirank",
    "trace": "trace",
    "slow": "slow",
    "small": "small",  # of ours: small.py
    "all": "regular,multirank,trace,slow,small,skipped",
    # of these, the cheapest that reach each entry kernel (see `entry_cases`)
    "entry": "regular,multirank,trace,slow,small",
}
TRN3_ONLY = (  # where nki-library has cases that trn2 cannot run
    "core/mlp/test_mlp_proj_mxfp4.py",
    "core/moe/moe_cte/test_moe_bwmm_mx_cte.py",
    "core/moe/moe_tkg/test_moe_tkg.py",
    "core/output_projection/test_output_proj_cte.py",
    "core/qkv/test_qkv_cte.py",
    "core/qkv/test_qkv_tkg.py",
    "core/subkernels/test_rmsnorm_mx_quantize_tkg.py",
    "core/utils/test_quantize_to_mx.py",
    "experimental/mxfp_subkernels/test_mxfp_load.py",
)
RECORD = HERE / "results.jsonl.gz"
"""The last result of each case in the runs that were recorded: what --state begins with, so that a run of hours goes on
on another machine."""
FOLDERS = re.compile(
    r"/\S*?/(?=(?:site-packages|nki-library|nki-samples|aws-neuron-sdk|src/mowich|tests/conformance)/)"
)
RESUMED = {"failed": ("passed", "not attempted"), "new": ("passed", "not attempted", "failed")}
"""What --resume does not run again."""
OUTCOMES = {"passed": "passed", "failed": "failed", "skipped": "not attempted"}


class Timeout(BaseException):  # not an Exception: a kernel's own handlers must not catch it
    pass


def expire(*_: Any) -> None:
    raise Timeout


def innermost(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""


def run_cases(cases: list[Any], seconds: int, show_traceback: bool) -> Iterator[dict[str, Any]]:
    from registry import TARGETS, Skip, target

    signal.signal(signal.SIGPROF, expire)
    for c in cases:
        start, cpu, outcome, why, where = time.perf_counter(), time.process_time(), "passed", "", ""
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            with target(c.generation):
                c.run()
        except Skip as reason:
            outcome, why = "not attempted", str(reason)
        except Timeout:
            outcome, why = "failed", f"more than {seconds} s of CPU time"
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            lines = [line.strip() for line in str(error).split("\n") if line.strip()]
            outcome, why = "failed", f"{type(error).__name__}: {' '.join(lines[:3])[:400]}"
            where = innermost(error)
            if show_traceback:
                traceback.print_exc()
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        yield {
            "suite": c.suite,
            "target": TARGETS[c.generation],
            "id": c.id,
            "set": "",
            "strict": False,
            "outcome": outcome,
            "seconds": round(time.perf_counter() - start, 2),
            "cpu_s": round(time.process_time() - cpu, 2),
            "why": why,
            "where": where,
        }


def nkilib_command(library: Path, args: argparse.Namespace, platform: str, name: str) -> list[str]:
    command = [sys.executable, "-m", "pytest", "-p", "nkilib_plugin", "-p", "no:cacheprovider", "-q", "--no-header"]
    command += ["--continue-on-collection-errors"]  # test_topk_reduce.py imports what was not published
    command += ["-c", str(library / "test/pytest.ini"), "--rootdir", str(library)]
    command += ["--test-mode", "simulation", "--platform-target", platform, "--timeout", str(20 * args.timeout)]
    if args.jobs > 1:
        command += ["-n", str(args.jobs), *(["--maxschedchunk", "2"] if args.ids else ["--dist", "worksteal"])]
    if args.k:
        command += ["-k", args.k]
    if name == "smoke" and platform == "trn3" and not args.both:
        return command + [str(library / "test/integration/nkilib" / p) for p in TRN3_ONLY]
    if name == "smoke" and not args.paths:
        lines = (HERE / "nkilib_smoke.txt").read_text().splitlines()
        return command + [str(library / i) for i in lines if i and not i.startswith("#")]
    if name == "fast":
        command += ["-m", "fast"]
    return command + [str(library / p) for p in (args.paths or ["test/integration/nkilib"])]


def run_nkilib(
    library: Path, args: argparse.Namespace, platform: str, name: str, done: list[str], only: list[str]
) -> Iterator[dict[str, Any]]:
    """nki-library's suite in a pytest of its own, without the cases `done`, or `only` these: each as never run, then
    rows as they come."""
    with tempfile.TemporaryDirectory(prefix="conformance_", ignore_cleanup_errors=True) as folder:
        (Path(folder) / "done.txt").write_text("\n".join(done))
        (Path(folder) / "only.txt").write_text("\n".join(only))
        yield from run_nkilib_in(Path(folder), library, args, platform, name)


def run_nkilib_in(
    folder: Path, library: Path, args: argparse.Namespace, platform: str, name: str
) -> Iterator[dict[str, Any]]:
    results, listing, log = (
        folder / "results.jsonl",
        folder / "listing.jsonl",
        args.state.parent / f"nkilib_{platform}.log",
    )
    log.parent.mkdir(parents=True, exist_ok=True)
    results.touch()
    path = [library, library / "src", *os.environ.get("PYTHONPATH", "").split(":"), ROOT / "src", HERE, HERE / "shims"]
    environment = dict(
        os.environ,
        PYTHONPATH=":".join(str(p) for p in path if str(p)),
        MOWICH_CONFORMANCE_SETS=SETS[name],
        MOWICH_CONFORMANCE_RESULTS=str(results),
        MOWICH_CONFORMANCE_EVERY=str(args.every),
        MOWICH_CONFORMANCE_CPU_S=str(args.timeout),
        MOWICH_CONFORMANCE_MEMORY_GB=str(args.memory),
        MOWICH_CONFORMANCE_LISTING=str(listing),
        MOWICH_CONFORMANCE_DONE=str(folder / "done.txt"),
        MOWICH_CONFORMANCE_PAIRS=str(args.state.parent.resolve() / "conformance_pairs"),
        MOWICH_CONFORMANCE_ONLY=str(folder / "only.txt"),
        PYTHONDONTWRITEBYTECODE="1",
        PYTHONHASHSEED="0",  # ids of some parametrised tests depend on it
        NEURON_PYTHONHASHSEED="0",
        OMP_NUM_THREADS="1",
        OPENBLAS_NUM_THREADS="1",
        MKL_NUM_THREADS="1",
        MALLOC_MMAP_MAX_="0",  # arrays from memory that the process keeps: fresh pages took as long as the arithmetic
        MALLOC_TRIM_THRESHOLD_=str(1 << 40),
        MALLOC_ARENA_MAX="1",
    )
    if args.strict:
        environment["MOWICH_CONFORMANCE_STRICT"] = "1"
    if args.rounded:
        environment["MOWICH_CONFORMANCE_ROUNDED"] = "1"
    if platform == "trn3" and not args.both and name != "entry":
        environment["MOWICH_CONFORMANCE_WITHOUT"] = "trn2"
        if name == "smoke":  # the ids of the list are trn2's
            environment |= {"MOWICH_CONFORMANCE_SETS": "regular", "MOWICH_CONFORMANCE_EVERY": "16"}
    if SETS[name]:  # what it calls slow is a set of its own, but for two cases of several ranks
        environment["NKILIB_SIMULATION_RUN_ALL"] = "1"
    command = nkilib_command(library, args, platform, name)
    with log.open("w") as out, results.open() as lines:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=subprocess.STDOUT)
        deadline, seen = time.monotonic() + args.limit, 0
        try:
            while True:
                ended = process.poll() is not None
                if listing.exists():
                    for row in map(json.loads, listing.read_text().splitlines()):
                        yield {
                            "suite": "nkilib",
                            "target": platform,
                            "id": row["id"],
                            "set": row["set"],
                            "strict": args.strict,
                            "outcome": "never run",
                            "seconds": 0.0,
                            "cpu_s": 0.0,
                            "kernels": [],
                            "spilled": "",
                            "why": "",
                            "where": "",
                        }
                    listing.unlink()
                while line := lines.readline():
                    row = json.loads(line)
                    seen += 1
                    yield {
                        "suite": "nkilib",
                        "target": platform,
                        "id": row["id"],
                        "set": row["set"],
                        "strict": args.strict,
                        "outcome": OUTCOMES[row["outcome"]],
                        "seconds": row["seconds"],
                        "cpu_s": row["cpu_s"],
                        "machine_s": row["machine_s"],
                        "kernels": row["kernels"],
                        "ran": row["ran"],
                        "spilled": row["spilled"],
                        "why": row["why"],
                        "where": row["where"],
                    }
                if ended:
                    break
                if time.monotonic() > deadline:
                    process.terminate()
                    print(f"nkilib: stopped after --limit {args.limit} s", file=sys.stderr)
                    break
                time.sleep(0.2)
        finally:
            if process.poll() is None:
                process.terminate()
        process.wait()
    tail = log.read_text().strip().split("\n")
    print(f"nkilib on {platform}: {tail[-1] if tail else 'no output'} (log {log})", file=sys.stderr)
    if not seen:
        print("\n".join(tail[-30:]), file=sys.stderr)


def entry_kernels(library: Path) -> Iterator[tuple[str, str]]:
    """(module, function) of each kernel under nki.jit in the library's sources. A file that does not parse has none."""
    source = library / "src/nkilib_src"
    for file in sorted(source.rglob("*.py")):
        try:
            tree = ast.parse(file.read_text())
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and any("nki.jit" in ast.unparse(d) for d in node.decorator_list):
                yield ".".join(file.relative_to(source).with_suffix("").parts), node.name


def imports(library: Path, strict: bool) -> Iterator[dict[str, Any]]:
    """A row for each entry kernel of the library: whether it imports, with the stand-ins of nkilib_plugin.py or
    (strict) without."""
    code = (
        "import importlib, sys\n"
        "for line in sys.stdin:\n"
        "    module, name = line.split()\n"
        "    try: print(callable(getattr(importlib.import_module('nkilib_src.' + module), name)), flush=True)\n"
        "    except Exception as error: print(type(error).__name__, str(error).splitlines()[:1], flush=True)\n"
    )
    first = "import mowich.nki; mowich.nki.install(replace=True)\n" if strict else "import nkilib_plugin\n"
    path = ":".join(map(str, (library, library / "src", ROOT / "src", HERE, HERE / "shims")))
    names = list(entry_kernels(library))
    found = subprocess.run(
        [sys.executable, "-c", first + code],
        input="\n".join(map(" ".join, names)),
        text=True,
        capture_output=True,
        env=dict(os.environ, PYTHONPATH=path, PYTHONDONTWRITEBYTECODE="1"),
    )
    for (module, name), said in zip(names, found.stdout.splitlines(), strict=True):
        outcome = "passed" if said == "True" else "failed"
        yield {
            "suite": "entry",
            "target": "",
            "id": f"{module}:{name}",
            "set": "",
            "strict": strict,
            "outcome": outcome,
            "seconds": 0.0,
            "cpu_s": 0.0,
            "why": "" if outcome == "passed" else said,
            "where": "",
            "kernels": [],
        }


def entry_cases(rows: list[dict[str, Any]]) -> list[str]:
    """For each entry kernel and target the cheapest case known to reach it and pass; none that passes by an error."""
    wanted = {r["id"] for r in rows if r["suite"] == "entry"}
    best: dict[tuple[str, str], dict[str, Any]] = {}
    for r in rows:
        good = r["outcome"] == "passed" and not re.search(r"\[(invalid|boundary)_", r["id"])
        for kernel in wanted.intersection(r.get("ran", r.get("kernels", ()))) if good else ():
            place = kernel, r["target"]
            if place not in best or r["cpu_s"] < best[place]["cpu_s"]:
                best[place] = r
    return sorted({r["id"] for r in best.values()})


def key(row: dict[str, Any]) -> tuple[str, str, bool]:
    return row["target"], row["id"], row["strict"]


def interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def read(path: Path) -> list[dict[str, Any]]:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt") as f:
        return [json.loads(line) for line in f]


def record(rows: Iterable[dict[str, Any]]) -> None:
    """Write RECORD: the same rows give the same bytes, and name no folder of this machine."""
    last = {(r["suite"], r["target"], r["id"], r["strict"]): r for r in rows}
    lines = [FOLDERS.sub("", json.dumps(last[k], sort_keys=True)) + "\n" for k in sorted(last)]
    RECORD.write_bytes(gzip.compress("".join(lines).encode(), 9, mtime=0))


def checkout(value: str | None, proof: str) -> Path | None:
    return Path(value).resolve() if value and (Path(value) / proof).exists() else None


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--suite", default="docs,samples,beta1,pypi,nkilib")
    p.add_argument("--set", default="smoke", choices=sorted(SETS), help="which of nki-library's cases")
    p.add_argument("--platform", default="trn2", help="for nki-library: trn2, trn3 or trn2,trn3")
    p.add_argument(
        "--both", action="store_true", help="on trn3 also the cases that trn2 runs (else only what is trn3's)"
    )
    p.add_argument("--strict", action="store_true", help="without the repairs of nki-library's dataclasses")
    p.add_argument(
        "--rounded",
        action="store_true",
        help=(
            "nki-library's references with their kernels' roundings, where known (rounded.py, rounded_moe.py);"
            " results are printed, and not kept"
        ),
    )
    p.add_argument("--every", type=int, default=1, metavar="N", help="of nki-library's set, a sample: every N-th case")
    p.add_argument("--paths", nargs="*", help="folders or files of nki-library's tests instead of all")
    p.add_argument("--ids", type=Path, help="a file of nki-library's ids: only these, in this order")
    p.add_argument("-k", default="", help="only ids with this in them (for nki-library: pytest's -k)")
    p.add_argument("--timeout", type=int, default=300, help="seconds of CPU time per case")
    p.add_argument("--memory", type=float, default=8.0, metavar="GB", help="that a process of nki-library's may have")
    p.add_argument("--limit", type=int, default=14400, help="seconds for nki-library per platform")
    p.add_argument("--jobs", type=int, default=1, help="pytest-xdist workers for nki-library")
    p.add_argument("--state", type=Path, default=ROOT / "build/conformance.jsonl", help="results kept between runs")
    p.add_argument(
        "--resume",
        nargs="?",
        const="failed",
        choices=sorted(RESUMED),
        help="of nki-library only what failed or never ran in --state; new: only what never ran",
    )
    p.add_argument(
        "--record", action="store_true", help=f"keep the results in {RECORD.name}, with which --state begins"
    )
    p.add_argument("--report", type=Path, help="write the Markdown report here")
    p.add_argument(
        "--compare", type=Path, metavar="STATE", help="results of an earlier run: print the cases whose outcome changed"
    )
    p.add_argument("--show", choices=("all", "failed", "none"), default="all")
    p.add_argument("--traceback", action="store_true")
    p.add_argument("--list", action="store_true", help="print the ids of the cases outside nki-library")
    args = p.parse_args()
    suites = args.suite.split(",")

    if not os.environ.get("MOWICH_CONFORMANCE_EXTERNAL"):
        sys.path[:0] = [str(ROOT / "src")]
        importlib.import_module("mowich.nki").install(replace=True)
    from registry import CASES

    for module in ("cases_docs", "cases_samples", "cases_pypi"):
        importlib.import_module(module)
    cases = [c for c in CASES if c.suite in suites and args.k in c.id]
    if args.list:
        print("\n".join(f"{c.id} {c.generation}" for c in cases))
        return 0

    args.state.parent.mkdir(parents=True, exist_ok=True)
    kept = args.state if args.state.exists() else RECORD
    state = {key(r): r for r in (read(kept) if kept.exists() else [])}  # the last result of a case
    args.state.write_text("".join(json.dumps(row) + "\n" for row in state.values()))
    rows: list[dict[str, Any]] = []

    def keep(row: dict[str, Any]) -> None:
        listed = row["outcome"] == "never run"
        if listed and (args.rounded or key(row) in state):
            return
        if not listed:
            rows.append(row)
        if not args.rounded:
            state[key(row)] = row
            with args.state.open("a") as f:
                f.write(json.dumps(row) + "\n")
        if (args.show == "all" and not listed) or (args.show == "failed" and row["outcome"] == "failed"):
            print(f"{row['outcome']:13} {row['seconds']:7.2f}s {row['id']}  {row['why'][:160]}", flush=True)

    signal.signal(signal.SIGTERM, interrupt)  # what was seen is kept
    try:
        for row in run_cases(cases, args.timeout, args.traceback):
            keep(row)
        if "nkilib" in suites:
            library = checkout(os.environ.get("NKI_LIBRARY"), "test/pytest.ini")
            if library is None:
                print("nkilib: NKI_LIBRARY names no checkout; skipped", file=sys.stderr)
            else:
                for row in imports(library, args.strict):
                    keep(row)
                for platform in args.platform.split(","):
                    mine = [r for r in state.values() if (r["target"], r["strict"]) == (platform, args.strict)]
                    done = [r["id"] for r in mine if args.resume and r["outcome"] in RESUMED[args.resume]]
                    only = entry_cases(list(state.values())) if args.set == "entry" else []
                    if args.ids:
                        only = [line for line in args.ids.read_text().splitlines() if line]
                    for row in run_nkilib(library, args, platform, args.set, done, only):
                        keep(row)
    finally:
        if args.record:
            record(state.values())
        if args.report:
            args.report.write_text(report.write(list(state.values())))

    if args.compare:
        earlier = {key(r): r for r in read(args.compare)}
        changed = report.changes(list(earlier.values()), list(state.values()))
        print("\n".join([f"{len(changed)} outcomes changed against {args.compare}", *changed]))
    for suite, group in report.grouped(rows, lambda r: (r["suite"], r["target"])).items():
        n = Counter(r["outcome"] for r in group)
        print(f"  {' '.join(suite):14} {n['passed']} passed, {n['failed']} failed, {n['not attempted']} not attempted")
    if not rows:
        return 2
    return 1 if any(r["outcome"] == "failed" and (args.rounded or not report.explanation(r)) for r in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
