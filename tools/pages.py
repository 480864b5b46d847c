"""Pages that a script writes whole: `python tools/pages.py` renews all of them, in their order (part of `make docs`),
tests/house/test_pages.py compares them.

Each script of `SCRIPTS` has `pages()`, the files that it is for with their text, from the shipped facts and rows alone
and in seconds; `THEN` come those that tell what these have written. Left out, with the reason, in
`NOT_COMPARED`: what needs minutes, other packages or files that do not ship.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

SCRIPTS = (
    "accuracy",
    "collectives_accuracy",
    "goodput_page",
    "schedulers_page",
    "claims_page",
    "prices_page",
    "optimal_plans",
    "trainium_gain",
    "scaling",
    "kernel_check_page",
    "judge_replay",
    "glossary_page",
    "forecasts_page",
    "next_replay",
    "pictures",
    "nki_stubs",
    "python_stubs",
    "scenario_keys",
    "other_words",
)

THEN = ("brief_page",)
"""Scripts after `SCRIPTS`: the brief tells the errors that `accuracy` keeps in left_out.json."""

NOT_COMPARED = {
    "operator-tables.md": "tools/tables.py runs kernels for half a minute of CPU",
    "autoscaling.md": "tools/autoscaling_page.py plays a day 30 times, for 20 s of CPU and more without the compiled code",
    "constants-fit.md": "tools/fit.py fits for minutes, to rows that do not ship",
    "brief.md": "tools/brief_page.py, of `THEN`, asks for 15 s of CPU; tests/studies/test_brief.py compares it with its own brief",
    "accuracy-serving.md": "tools/fit_serving.py fits for minutes, to rows that do not ship",
    "accuracy-trainium.md": "tools/fit_neuron.py --write: a fit, which writes facts too",
    "clock-points.md": "tools/kernel_timing.py needs checkouts of AWS's SDK and nki-library",
    "accuracy-peers.md": "benchmarks/accuracy reads rows that do not ship: `make accuracy-peers`; tests/evidence/test_accuracy_peers.py compares it",
    "kernel-accuracy.md": "tools/kernel_accuracy.py needs checkouts of measured kernels: `make kernel-accuracy`",
    "kernel-layer.md": "tools/kernel_layer.py needs a checkout of nki-library",
    "conformance.md": "runs third-party kernels for hours: `make conformance`",
    "parameters.md": "counts with torch and transformers: `make test-slow`",
    "flops.md": "counts with torch and transformers: `make test-slow`",
    "capture-coverage.md": "captures some 240 models with torch, transformers, diffusers and timm: `make test-capture`",
}
"""Page that a script or a run writes -> why no test writes it again."""


def renew(names: Iterable[str]) -> None:
    """Write the files of these scripts, those of each before the next one is asked: it may read them."""
    for name in names:
        write(importlib.import_module(name).pages())


def write(texts: Mapping[Path, str]) -> None:
    """Write files and say which have changed."""
    for path, text in texts.items():
        changed = not path.is_file() or path.read_text(encoding="utf-8") != text
        path.write_text(text, encoding="utf-8")
        print(f"{path.relative_to(ROOT)}: {'renewed' if changed else 'as it was'}")


if __name__ == "__main__":
    renew((*SCRIPTS, *THEN))
