"""How often `mowich kernel advise` names the edit that made a released kernel faster: first, second, or at all.

    python tools/kernel_advice.py POINTS.json --megakernel DIR --nkilib DIR --kda DIR --accelopt DIR [--only GLOB]

The steps are listed in `kernel_steps.yaml`. Kernels are run unmodified, without values; edits are timed, and none is run for its values.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import io
import logging
import re
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from kernel_points import Checkouts, Point, read, run, text_of

from mowich.errors import UserError
from mowich.neuroncore.clock.records import ClockOptions
from mowich.nki import Result
from mowich.studies.advise.advise import AdviseAsk, KernelAdvice, advise_kernel

STEPS = Path(__file__).with_name("kernel_steps.yaml")


def _runs(point: Point, checkouts: Checkouts, folder: Path) -> tuple[Path, str, Callable[[str, bool], Result]]:
    """(The file of a point, its text, what runs another text of it)."""
    name, text = text_of(point, checkouts)
    original = folder / name
    original.write_text(text, encoding="utf-8")

    def launched(changed: str, values: bool) -> Result:
        file = original
        if changed != text:
            file = Path(tempfile.mkdtemp(dir=folder)) / name
            file.write_text(changed, encoding="utf-8")
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                result = run(point, checkouts, file)
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"{type(error).__name__}: {error}") from error
        result.timed = True
        if point.static:
            result.options = ClockOptions(dge=False)
        return result

    return original, text, launched


def advised(point: Point, checkouts: Checkouts, folder: Path) -> tuple[KernelAdvice, str]:
    """The advice on the kernel of a point, and the text of its file."""
    file, text, launched = _runs(point, checkouts, folder)
    function = "kernel" if point.older else point.row["runner"]["func"]
    ask = AdviseAsk(
        file=file.name, path=str(file), text=text, kernel=function, target=point.chip, run=launched, top=8, runs=False
    )
    return advise_kernel(ask), text


def place_of(advice: KernelAdvice, text: str, step: Mapping[str, Any], *, same_way: bool = False) -> int | None:
    """At which place, from 1, the advice has an edit of a step: of its kind, most of its lines there; None: it has not. same_way: a constant
    has to become larger where the authors made it larger."""
    lines = text.splitlines()
    for place, edit in enumerate(advice.edits, 1):
        if edit.kind not in step["kind"]:
            continue
        numbers = re.search(r" = (\d+) in place of (\d+)", edit.what)
        if (
            same_way
            and "to" in step
            and numbers
            and ("up" if int(numbers[1]) > int(numbers[2]) else "down") != step["to"]
        ):
            continue
        near = [line for _, at in edit.sites for line in lines[at - 1 : at + 3]]
        if any(word in line for word in step.get("at", ()) for line in near):
            return place
        within = [any(low <= at <= high for low, high in step.get("lines", ())) for _, at in edit.sites]
        if 2 * sum(within) >= len(within) and any(within):
            return place
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("points", type=Path)
    for name in ("megakernel", "nkilib", "kda", "accelopt"):
        parser.add_argument(f"--{name}", type=lambda word: Path(word) if word else None)
    parser.add_argument("--only", default="*")
    parser.add_argument("--verbose", action="store_true")
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    checkouts = Checkouts(given.points, given.megakernel, given.nkilib, given.kda, given.accelopt)
    points = {point.id: point for point in read(given.points)}
    steps = [
        step
        for step in yaml.safe_load(STEPS.read_text(encoding="utf-8"))
        if fnmatch.fnmatch(step["before"], given.only)
    ]
    found: dict[str, tuple[KernelAdvice, str]] = {}
    rows: list[tuple[float, int | None, int | None]] = []
    with tempfile.TemporaryDirectory() as folder:
        for step in steps:
            before, after = points[step["before"]], points[step["after"]]
            start = time.process_time()
            if before.id not in found:
                found[before.id] = advised(before, checkouts, Path(folder))
            advice, text = found[before.id]
            faster = 1 - after.us / before.us
            place = place_of(advice, text, step)
            rows.append((faster, place, place_of(advice, text, step, same_way=True)))
            print(
                f"{before.id} -> {after.id}: {faster:.1%} faster, {' or '.join(step['kind'])} ({step['what']}): place {place or '-'}, {time.process_time() - start:.1f} CPU s"
            )
            if given.verbose:
                for edit in advice.edits:
                    print(
                        f"    {edit.kind:10} {sorted({line for _, line in edit.sites})} {edit.what}: {edit.gain(advice.base_s):.1%}"
                    )
            sys.stdout.flush()
    for least in (0.01, 0.02):
        for said, column in (("", 1), (", constants in the direction of the authors", 2)):
            listed = [row[column] for row in rows if row[0] >= least]
            good = [place for place in listed if place is not None and place <= 2]
            first = sum(place == 1 for place in good)
            print(f"faster by {least:.0%} or more{said}: first or second {len(good)} of {len(listed)}, first {first}")


if __name__ == "__main__":
    main()
