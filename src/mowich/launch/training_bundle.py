"""The bundle of a training plan."""

from __future__ import annotations

from mowich.facts import Facts
from mowich.launch.arguments import LaunchProgram
from mowich.launch.bundle import Benchmark, BundleFile
from mowich.launch.plans import PlanLaunch
from mowich.launch.write import program_text
from mowich.shown import Result


def training_files(
    program: LaunchProgram, launch: PlanLaunch, inputs: Result, row: Result, facts: Facts
) -> tuple[list[BundleFile], Benchmark]:
    """Files of a training plan, and its benchmark."""
    files = [BundleFile(path="launch/commands.txt", text=program_text(program, launch))]
    return files, Benchmark(program=program.name, log="benchmark/train.log", files=(), predictions=())
