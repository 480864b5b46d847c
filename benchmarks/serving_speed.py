"""Serving search beside AIConfigurator.

    python benchmarks/serving_speed.py [--python PYTHON_WITH_AICONFIGURATOR]

Searches, both programs in fresh processes, processor time of the whole process (import included): Llama-3.1-70B and
DeepSeek-V3 on 32 H200, ISL 4000, OSL 1000, TTFT 2 s, TPOT 30 ms. AIConfigurator (PyPI `aiconfigurator`, 0.12.0 when
this was written) is skipped where the given interpreter lacks it. Distinct worker configurations: (plan, batch) points
that were evaluated; AIConfigurator's 476 and 3,811 were counted by a study of its sweep and are not counted again here.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time

SEARCHES = (
    ("llama-3.1-70b", "meta-llama/Meta-Llama-3.1-70B", ("--set", "plan.weights=bf16"), 476),
    ("deepseek-v3", "deepseek-ai/DeepSeek-V3", (), 3811),
)


def cpu(command: list[str]) -> tuple[float, float, subprocess.CompletedProcess[str]]:
    """(processor seconds of a command and its children, wall seconds, what it returned)."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, time.perf_counter() - start, done


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable, help="an interpreter that has aiconfigurator")
    options = parser.parse_args()
    has = (
        subprocess.run([options.python, "-c", "import aiconfigurator"], capture_output=True, check=False).returncode
        == 0
    )
    if not has:
        print("aiconfigurator is not installed there: its side is skipped")
    for ours, theirs, extra, points in SEARCHES:
        run = "import sys; from mowich import cli; sys.exit(cli.run(sys.argv[1:]))"
        seconds, wall, done = cpu(
            [
                sys.executable,
                "-c",
                run,
                "plan",
                ours,
                "--serve",
                "--on",
                "h200:32",
                "--isl",
                "4000",
                "--osl",
                "1000",
                "--ttft",
                "2 s",
                "--tpot",
                "30 ms",
                "--engine",
                "trtllm",
                "--json",
                *extra,
            ]
        )
        answer = json.loads(done.stdout)
        best = answer["plans"][0]
        print(
            f"{ours}: mowich {seconds:.2f} s of processor time ({wall:.2f} s wall), {answer['points']} distinct worker"
            f" points, {answer['evaluated']} with pairs; best"
            f" {best['tokens_per_s_per_chip']['value']:.0f} tokens/s/chip"
        )
        if has:
            with tempfile.TemporaryDirectory() as folder:
                slow, wall, done = cpu(
                    [
                        options.python,
                        "-m",
                        "aiconfigurator.main",
                        "cli",
                        "default",
                        "--model-path",
                        theirs,
                        "--total-gpus",
                        "32",
                        "--system",
                        "h200_sxm",
                        "--backend",
                        "trtllm",
                        "--isl",
                        "4000",
                        "--osl",
                        "1000",
                        "--ttft",
                        "2000",
                        "--tpot",
                        "30",
                        "--save-dir",
                        folder,
                    ]
                )
            if done.returncode:
                print(f"  aiconfigurator failed: {(done.stderr or done.stdout).strip().splitlines()[-1][:200]}")
            else:
                print(
                    f"  aiconfigurator {slow:.2f} s ({wall:.2f} s wall), {points} distinct worker points:"
                    f" {slow / seconds:.0f} times ours"
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
