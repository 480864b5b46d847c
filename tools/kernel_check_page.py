"""Writes docs/records/kernel-check.md: the table of rules from the rules, between the words of this file. Run by `make docs`."""

from __future__ import annotations

from pathlib import Path

from pages import write

from mowich.nki.check import NKI_RULES, STAGES, KernelRule

PAGE = Path(__file__).resolve().parents[1] / "docs" / "records" / "kernel-check.md"

HEADS = {
    "syntax": (
        "The Python of a kernel",
        "What the parsing front end takes of Python: it is the default up to NKI 0.6. From 0.7 on kernels are traced, and these rules are gone.",
    ),
    "words": ("Names, arguments, loops", "What a call may say, and what a dynamic loop may do."),
    "launch": ("Launches", "Seen in the text where it is plain, otherwise when the kernel runs."),
    "run": (
        "What a run shows",
        "With `-k NAME` and arguments, as for `mowich kernel run`; without, where no drawn shape passes.",
    ),
}
"""Stage -> (title, what it looks at)."""

BEFORE = """# Kernel check: what the compiler would refuse, without a compiler

`mowich kernel check FILE` reads the kernels of a file and lists what AWS's NKI compiler would refuse. Each finding is one line: file and line, what stands there, what to
write instead, and the rule. The exit code is 5 if something is found. Otherwise it is 0, and one line says so.

```
$ mowich kernel check kernels/softmax.py
kernels/softmax.py: nothing found (1 kernel, 1 function read)
```

Kernels are the functions under `nki.jit`, those given to it, functions under a decorator of the file that calls it, and functions that issue instructions of
`nki.isa`; also in texts within the file (`TEXT = \"\"\"@nki.jit ...\"\"\"`), with the lines of the file. Functions that they call are read too, in the file and in files
beside it that it imports. Kernels of the older interface (`neuronxcc.nki`) are read as well.

## Without shapes

The file itself is not run. Its kernels are tried, in a sandbox, on tensors whose shapes and formats are drawn: from the numbers of the text, from multiples of them, and
from usual sizes. Where a run stops, its arguments are changed to what the assertion or the error names, until one goes further. Nothing but the interface, arithmetic,
NumPy's numbers and the functions of files at hand can be reached: no file, no network, no other module. What is not at hand, such as an object of configuration, is an
unknown value. An instruction on an unknown value is left out, and a branch on one goes either way.

A line is told of only where every run that comes to it stops there: with the same words whatever the arguments are, or after a search over all their dimensions (up to
four) that finds none that passes. So an assertion (`assert M % 128 == 0`) makes more of the mistakes visible, and a finding is no matter of a shape that you would not
give. The finding then names the shape of one such run. Bytes that nothing wrote are looked for as well, but not where the kernel asks which core of a launch it is on, nor
where a loop went over nothing.

Of the kinds of mistakes in `tests/fixtures/mistakes/seeded.txt` this finds all but two: a race of two cores, and an overflow that hangs on the values. It finds nothing in
the twin of each kernel that does the same without the mistake, nor in public kernels that compile.

## With shapes

With `-k NAME` and arguments, as `mowich kernel run` takes them, that kernel runs with values. This finds what only a run shows: bytes that nothing wrote, an output that is
not written to its end, a race, an overflow. An exception of Python is a finding too, at the line of the kernel:

```
$ mowich kernel check kernels/softmax.py -k softmax "x=float32[256,1000]" --target trn2
kernels/softmax.py: nothing found (1 kernel, 1 function read; ran in 12 instructions)
```

From Python, `mowich.check_kernel("kernels.py")` checks a file, `mowich.check_kernel(kernel, array, target="trn3", lnc=2)` a kernel on arrays;
`.findings` has `file`, `line`, `rule`, `what` and `fix`. `--json` prints `mowich/kernel-check@1`.

## Which compiler

Rules hold for versions of NKI. Without `--nki` a finding is what every compiler refuses, whether it parses a kernel (up to 0.6) or traces it (0.7). What only those that
parse refuse is a note at the end, with the names of the rules; `parsing_front_end` lists it in the JSON. `--nki 0.6` takes the rules of 0.6, also those that public kernels of
earlier versions break (marked \\*). `--nki 0.7` takes the rules of the tracing front end. Kernels of the older interface are traced as Python: no rule over their text
holds, and they are tried.

The list comes from AWS's documentation and from the public source of its front end, `leanprover/KLR` (March 2026). What the compiler refuses later, in
passes that are not public, is not here: a kernel without a finding may still fail to compile. `tools/check_public.py` runs the check over checkouts of
public kernels that compile; none of the rules without \\* finds anything in them.

The kernels that ship with Mowich use comprehensions and `zip`: they are written for the tracing front end, and have the note.

## Races

Within one core the compiler orders instructions by their data, so that program order is what happens. The two cores of a launch (`--lnc 2`, `kernel[2]`)
share HBM, and only a `core_barrier`, a `sendrecv` or a collective orders them. Suppose that both cores touch the same bytes between two of these, and one writes. Then
the kernel is run twice more: once with the first core as far as it goes, and once with the second core first. If results differ, the answer names the lines that meet. If
both write the same values, that is no finding. Ranks of a collective are not run.
"""

AFTER = """
## What it does not see

- Values: the rules of a run hold for the arguments given. Other shapes, indices or magnitudes may break what these do not.
- Without shapes: a mistake that some shape hides, and one on a line that no run comes to, since an assertion, an unknown value or a mistake before it stops them all.
- Code that a run does not reach; a function that is chosen at run time from a file that is not beside the kernel's.
- A returned tensor of `nl.hbm`: a warning of `mowich kernel run`.
- Order within one instruction: a tile that is shifted onto itself on an engine.
"""


def table(stage: str) -> str:
    """The rules of a stage."""
    rows = [_row(rule) for rule in NKI_RULES.values() if rule.stage == stage]
    title, words = HEADS[stage]
    return "\n".join(
        [f"## {title}", "", words, "", "| rule | refused | instead | NKI | source |", "|--|--|--|--|--|", *rows, ""]
    )


def _row(rule: KernelRule) -> str:
    star = " \\*" if rule.only_named else ""
    cells = (f"`{rule.id}`", rule.what, rule.fix, f"{rule.versions}{star}", rule.source)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def pages() -> dict[Path, str]:
    """The page and its text."""
    return {PAGE: "\n".join([BEFORE, *(table(stage) for stage in STAGES)]).rstrip() + "\n" + AFTER}


if __name__ == "__main__":
    write(pages())
