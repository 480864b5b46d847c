#!/usr/bin/env python3
"""Run kernels of third parties from their public repositories, and write the section of docs/records/conformance.md on
them.

    make third-party CHECKOUTS=DIR     on a folder of checkouts, named owner+name or owner/name
    make third-party                   clones each repository of the list (third_party.yaml) at its commit

The list says what is run and what is expected; nothing of those repositories is kept here. Each repository runs in a
process of its own. Exit status 1 where an outcome is not as expected, 2 where nothing could be run.
"""

import argparse
import ast
import contextlib
import functools
import importlib
import importlib.util
import inspect
import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LIST = HERE / "third_party.yaml"
RECORD = HERE / "third_party_results.jsonl"
HEADING = "## Kernels of third parties"
COURSE = "asst4"
"""In the names of repositories that solve Stanford's assignment on Trainium (CS149)."""
KEPT = ["repo", "commit", "path", "kernel", "call", "expected", "says", "why", "outcome", "said", "files", "lacking"]
"""Columns of RECORD."""
OUTCOMES = ("equal", "ran", "refused", "failed", "not attempted")
NEURON = ("nki", "neuronxcc", "torch_neuronx", "libtorch_neuronx_lite", "jax_neuronx", "torch_xla", "neuron_dtypes")
"""Packages whose names a file with kernels must find."""
sys.dont_write_bytecode = True
Row = dict[str, Any]


class Timeout(BaseException):  # not an Exception: a kernel's own handlers must not catch it
    pass


# the list
# ----------------------------------------------------------------------------------------------------


def listed(path: Path = LIST) -> Iterator[Row]:
    """Each kernel of the list as a row: repo, commit, folders, path, kernel, name of the call, call, expected, says,
    why."""
    given = yaml.safe_load(path.read_text())
    for repo in given["repositories"]:
        for entry in repo["kernels"]:
            ((place, about),) = entry.items()
            file, _, kernel = place.rpartition(":")
            about = about if isinstance(about, dict) else {"call": about}
            call = given["calls"][about["call"]]
            yield {
                "repo": repo["repo"],
                "commit": repo["commit"],
                "folders": repo.get("folders", []),
                "path": file,
                "kernel": kernel,
                "call": about["call"],
                "how": call,
                "expected": about.get("outcome", "equal" if "reference" in call else "ran"),
                "says": about.get("says", ""),
                "why": about.get("why", ""),
            }


# checkouts
# ----------------------------------------------------------------------------------------------------


def git_folder(folder: Path) -> Path | None:
    """The folder of git's own files of a checkout, or of a bare one."""
    for found in (folder / ".git", folder / "repo/.git", folder / "repo", folder):
        if (found / "HEAD").exists() and (found / "objects").exists():
            return found
    return None


def source(repo: str, commit: str, checkouts: Path | None, build: Path) -> Path | str:
    """The Python files of a repository at a commit, in a folder of ours; a reason where they are not to be had."""
    out = build / f"{repo.replace('/', '+')}@{commit[:12]}"
    if out.exists():
        return out
    if checkouts is None:
        git: Path | None = build / "clones" / repo.replace("/", "+")
        if not git.exists():
            command = [
                "git",
                "clone",
                "--quiet",
                "--bare",
                "--filter=blob:none",
                f"https://github.com/{repo}",
                str(git),
            ]
            if subprocess.run(command).returncode:
                return "could not be cloned"
    else:
        folder = next((f for f in (checkouts / repo.replace("/", "+"), checkouts / repo) if f.exists()), None)
        if folder is None:
            return "no checkout"
        git = git_folder(folder)
        if git is None:
            return "the checkout has no git history, so that its commit is not known"
    files = subprocess.run(["git", f"--git-dir={git}", "archive", commit, ":(glob)**/*.py"], capture_output=True)
    if files.returncode:
        return f"the checkout lacks commit {commit[:12]}"
    out.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(files.stdout)) as archive:
        archive.extractall(out, [m for m in archive.getmembers() if m.name.endswith(".py")], filter="data")
    return out


# a run
# ----------------------------------------------------------------------------------------------------


def argument(text: object, random: np.random.Generator) -> Any:
    """What a call of the list passes: "f32[128, 512]" is an array of normal numbers, with " * 0.1" they are that much
    smaller, "i32[4] < 8" are integers below 8, "= expression" is an expression of NumPy; anything else is itself."""
    import ml_dtypes

    if not isinstance(text, str):
        return text
    if text.startswith("="):
        return eval(text[1:], {"np": np, "ml_dtypes": ml_dtypes, "bf16": ml_dtypes.bfloat16})
    match = re.fullmatch(r"(f32|bf16|f16|i32|u32)\[([\d, ]*)\](?: \* ([\d.]+)| < (\d+))?", text)
    if match is None:
        return text
    kinds = {"f32": np.float32, "bf16": ml_dtypes.bfloat16, "f16": np.float16, "i32": np.int32, "u32": np.uint32}
    shape = [int(n) for n in match[2].split(",")]
    if match[4]:
        return random.integers(0, int(match[4]), shape).astype(kinds[match[1]])
    return (random.standard_normal(shape) * float(match[3] or 1)).astype(kinds[match[1]])


def load(root: Path, row: Row) -> Any:
    """The kernel of a row, from its file."""
    file = root / row["path"]
    if not file.exists():
        raise FileNotFoundError(f"{row['path']} is not in this commit")
    for folder in (file.parent, root, *(root / f for f in row["folders"])):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
    name = "third_party_" + re.sub(r"\W", "_", row["path"].removesuffix(".py"))
    if name not in sys.modules:
        try:
            sys.modules[name] = load_file(name, file)
        except ImportError as error:
            if "relative import" not in str(error):
                raise
            sys.modules[name] = load_from_package(file)  # it imports from its neighbours
    return functools.reduce(getattr, row["kernel"].split("."), sys.modules[name])


def load_file(name: str, file: Path) -> Any:
    """A file as a module of its own."""
    spec = importlib.util.spec_from_file_location(name, file)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def load_from_package(file: Path) -> Any:
    """A file as the module of its package that it is."""
    above = file.parent
    while (above / "__init__.py").exists():
        above = above.parent
    sys.path.insert(0, str(above))
    return importlib.import_module(".".join(file.relative_to(above).with_suffix("").parts))


def judged(row: Row, root: Path, seconds: int) -> Row:
    """Run one kernel: the row with its outcome."""
    from third_party_references import REFERENCES

    import mowich.nki
    from mowich.errors import UserError, UserErrors
    from mowich.nki import beta1, runtime

    def expire(*_: Any) -> None:
        raise Timeout

    how, start = row["how"], time.process_time()
    outcome, why = "ran", ""
    signal.signal(signal.SIGPROF, expire)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        os.environ["NEURON_PLATFORM_TARGET_OVERRIDE"] = how.get("target", "trn2")
        random = np.random.default_rng(0)
        args = [argument(x, random) for x in how["inputs"]]
        words = {name: argument(x, random) for name, x in how.get("keywords", {}).items()}
        with contextlib.redirect_stdout(io.StringIO()):
            kernel = load(root, row)
            if not isinstance(kernel, runtime.Kernel):
                text = Path(inspect.getsourcefile(kernel) or "").read_text()
                kernel = (beta1 if "neuronxcc" in text else mowich.nki).jit(kernel)
            before = [np.array(a) if isinstance(a, np.ndarray) else a for a in args]
            given = how.get("grid")
            launched = kernel if given is None else kernel[tuple(given) if isinstance(given, list) else given]
            result = launched.launch(args, words, values=how.get("values", True))
        if "reference" in how:
            written = [args[i] for i in how["written"]] if "written" in how else result.outputs
            expected = REFERENCES[how["reference"]](*before, **words)
            expected = list(expected) if isinstance(expected, tuple) else [expected]
            assert len(written) >= len(expected), f"{len(written)} outputs, expected {len(expected)}"
            for got, want in zip(written, expected, strict=False):
                wide, want = np.asarray(got).astype(np.float64).squeeze(), np.asarray(want).squeeze()
                assert wide.shape == want.shape, f"shape {wide.shape}, expected {want.shape}"
                allowed = how.get("tolerance", 1e-4) * max(float(np.abs(want).max()), 1e-6)
                worst = float(np.abs(wide - want).max())
                assert worst <= allowed, f"differs by {worst:.3g}, allowed {allowed:.3g}"
            outcome = "equal"
        elif how.get("values", True):
            for got in result.outputs:
                assert np.isfinite(np.asarray(got).astype(np.float64)).all(), "an output is not finite, or not written"
        assert result.instructions > 0, "no instruction ran"
    except (UserError, UserErrors) as error:
        outcome, why = "refused", str(error)
    except Timeout:
        outcome, why = "failed", f"more than {seconds} s of processor time"
    except (ImportError, FileNotFoundError) as error:
        outcome, why = "not attempted", f"{type(error).__name__}: {error}"
    except Exception as error:
        outcome, why = "failed", f"{type(error).__name__}: {' '.join(str(error).split())}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    shown = re.sub(re.escape(str(root)) + "/?", "", why)[:300]
    return {k: row[k] for k in ("repo", "commit", "path", "kernel", "call", "expected", "says", "why")} | {
        "outcome": outcome,
        "said": re.sub(r"/\S*/(site-packages|src/mowich)/", r"\1/", shown),
        "cpu_s": round(time.process_time() - start, 1),
    }


def as_expected(row: Row) -> bool:
    """Whether an outcome, and its words, are those of the list."""
    return bool(row["outcome"] == row["expected"] and row["says"] in row["said"])


# names that files import
# ----------------------------------------------------------------------------------------------------

_MAKERS = {"nki_jit", "wrap_nki", "nki_call", "nki_op"}


def has_kernels(tree: ast.AST) -> bool:
    """Whether a file defines or launches kernels."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and any("nki." in ast.unparse(d) for d in node.decorator_list):
            return True
        if isinstance(node, ast.ImportFrom) and _MAKERS & {a.name for a in node.names}:
            return True
    return False


def unresolved(tree: ast.AST) -> list[str]:
    """Names of Neuron's packages that a file imports and that are not there."""
    out = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            wanted = [(a.name, "") for a in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            wanted = [(str(node.module), a.name) for a in node.names]
        else:
            continue
        for module, name in wanted:
            if module.partition(".")[0] not in NEURON:
                continue
            try:
                found = importlib.import_module(module)
                if name not in ("", "*") and not hasattr(found, name):
                    importlib.import_module(f"{module}.{name}")
            except ImportError:
                out.append(f"{module}.{name}".rstrip("."))
    return out


def imports(root: Path) -> Row:
    """How many files of a repository have kernels, and what those import that is not there."""
    files, lacking = 0, {}
    for file in sorted(root.rglob("*.py")):
        try:
            tree = ast.parse(file.read_text())
        except (SyntaxError, UnicodeDecodeError):
            continue
        if has_kernels(tree):
            files += 1
            if lack := unresolved(tree):
                lacking[str(file.relative_to(root))] = sorted(set(lack))
    return {"files": files, "lacking": lacking}


# the section of the document
# ----------------------------------------------------------------------------------------------------


def plain(text: str) -> str:
    """Text for a cell of a table."""
    return " ".join(text.replace("|", "/").replace("`", "'").split())


def section(rows: list[Row]) -> list[str]:
    """Lines of docs/records/conformance.md. rows: kernels, and one row of `imports` for each repository."""
    kernels = [r for r in rows if "kernel" in r]
    files = [r for r in rows if "files" in r]
    if not kernels:
        return []
    n = Counter(r["outcome"] for r in kernels)
    odd = [r for r in kernels if not as_expected(r)]
    repos = sorted({r["repo"] for r in kernels}, key=str.lower)
    out = [
        "",
        HEADING,
        "",
        f"{len(kernels)} kernels of {len(repos)} public repositories, unmodified, on small inputs. Written by",
        "`make third-party`, from the list in `tests/conformance/third_party.yaml`, which has commits and calls.",
        f"*Equal*: the outputs are those of a reference in NumPy ({n['equal']}). *Ran*: to the end, outputs not",
        f"checked ({n['ran']}). *Refused*: with one line that says what and where ({n['refused']}). *Failed*: another",
        f"result, or an error of Python ({n['failed']}). *Not attempted*: a file or a package is missing",
        f"({n['not attempted']}).",
        f"{sum(COURSE in r['repo'] for r in kernels)} of them solve one assignment of a course, in the",
        f"{sum(COURSE in repo for repo in repos)} repositories with {COURSE} in their names.",
        "",
        f"{len(kernels) - len(odd)} of {len(kernels)} outcomes are as the list expects them.",
    ]
    if files:
        total, lacking = sum(r["files"] for r in files), sum(len(r["lacking"]) for r in files)
        out += [
            f"In {total - lacking} of the {total} files of these repositories that define or launch kernels, every",
            "name that they import of Neuron's packages resolves.",
        ]
    out += [
        "",
        "| repository | commit | kernels | equal | ran | refused | failed | not attempted |",
        "|--|--|" + "--:|" * 6,
    ]
    for repo in repos:
        mine = [r for r in kernels if r["repo"] == repo]
        of = Counter(r["outcome"] for r in mine)
        out.append(
            f"| {repo} | {mine[0]['commit'][:10]} | {len(mine)} | " + " | ".join(str(of[o]) for o in OUTCOMES) + " |"
        )
    rest = [r for r in kernels if r["outcome"] not in ("equal", "ran") or not as_expected(r)]
    if rest:
        out += ["", "| kernel | outcome | it says | why |", "|--|--|--|--|"]
        for r in rest:
            why = r["why"] if as_expected(r) else f"NOT AS EXPECTED ({r['expected']})"
            where = f"{r['repo']} {Path(r['path']).name}:{r['kernel']}"
            out.append(f"| {where} | {r['outcome']} | {plain(r['said'])[:200]} | {plain(why)} |")
    return out


def recorded(path: Path = RECORD) -> list[Row]:
    """The rows of the last run."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def replaced(document: str, lines: list[str]) -> str:
    """A document with this section in the place of the old one, or at its end."""
    before, _, old = document.partition(f"\n{HEADING}\n")
    after = old.partition("\n## ")[2]
    return before.rstrip("\n") + "\n" + "\n".join(lines) + "\n" + (f"\n## {after}" if after else "")


# ----------------------------------------------------------------------------------------------------


def worker(root: Path, rows: list[Row], seconds: int) -> None:
    """Run the kernels of one repository; a line of JSON for each."""
    sys.path[:0] = [str(HERE)]
    import mowich.nki

    mowich.nki.install(replace=True)
    out = sys.stdout
    for row in rows:
        print(json.dumps(judged(row, root, seconds)), file=out, flush=True)
    print(json.dumps({"repo": rows[0]["repo"], **imports(root)}), file=out, flush=True)


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--checkouts", help="a folder of checkouts; without it each repository is cloned")
    p.add_argument("--list", type=Path, default=LIST)
    p.add_argument("--only", default="", help="repositories whose name contains this; nothing is recorded")
    p.add_argument("--seconds", type=int, default=30, help="processor time of a kernel")
    p.add_argument("--build", type=Path, default=ROOT / "build/third_party")
    p.add_argument("--report", type=Path, help="the document to write the section into")
    p.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.worker:
        worker(args.worker, json.load(sys.stdin), args.seconds)
        return 0
    rows = [r for r in listed(args.list) if args.only in r["repo"]]
    checkouts = Path(args.checkouts).resolve() if args.checkouts else None
    found: list[Row] = []
    environment = dict(os.environ, PYTHONPATH=f"{ROOT / 'src'}:{HERE}", OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")
    for repo in sorted({r["repo"] for r in rows}, key=str.lower):
        mine = [r for r in rows if r["repo"] == repo]
        folder = source(repo, mine[0]["commit"], checkouts, args.build)
        if isinstance(folder, str):
            print(f"{repo}: {folder}", file=sys.stderr)
            found += [r | {"outcome": "not attempted", "said": folder, "cpu_s": 0.0} for r in mine]
            continue
        command = [sys.executable, "-W", "ignore", __file__, "--worker", str(folder), "--seconds", str(args.seconds)]
        ran = subprocess.run(command, input=json.dumps(mine), text=True, stdout=subprocess.PIPE, env=environment)
        for row in map(json.loads, ran.stdout.splitlines()):
            found.append(row)
            if "kernel" in row and not as_expected(row):
                print(f"{repo} {row['path']}:{row['kernel']}: {row['outcome']}, {row['said']}", flush=True)
    kernels = [r for r in found if "kernel" in r]
    files = [r for r in found if "files" in r]
    count = Counter(r["outcome"] for r in kernels)
    odd = sum(not as_expected(r) for r in kernels)
    repos, lacking = len({r["repo"] for r in kernels}), sum(len(r["lacking"]) for r in files)
    print(f"{len(kernels)} kernels of {repos} repositories: {dict(count)}, {odd} not as expected")
    print(f"{lacking} of {sum(r['files'] for r in files)} files with kernels import a name that is not there")
    if len(kernels) == count["not attempted"]:
        return 2
    if not args.only:
        lines = [json.dumps({k: r[k] for k in KEPT if k in r}) + "\n" for r in found]
        RECORD.write_text("".join(lines))
        if args.report:
            args.report.write_text(replaced(args.report.read_text(), section(found)))
    return 1 if odd else 0


if __name__ == "__main__":
    sys.exit(main())
