"""The options and arguments that several verbs share, with their help and their completion. Completion reads local data
only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def complete_model(incomplete: str) -> list[str]:
    """Built-in model names that start with what is typed."""
    from mowich.models import names

    return [n for n in names() if n.startswith(incomplete.casefold())]


def complete_systems(incomplete: str) -> list[str]:
    """System names, also behind a comma."""
    from mowich.facts import load

    done, _, word = incomplete.rpartition(",")
    return [f"{done},{n}" if done else n for n in load().ids("systems") if n.startswith(word.casefold())]


ModelName = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="Built-in name, config.json, or a directory with one.", autocompletion=complete_model
    ),
]
On = Annotated[
    str,
    typer.Option(
        "--on",
        metavar="SYSTEMS",
        help="trn3, trn3:64 (chips), trn3-gen2*4 (units), ironwood:4x4x8; commas between.",
        autocompletion=complete_systems,
    ),
]
Train = Annotated[bool, typer.Option("--train", help="The work is training.")]
Serve = Annotated[bool, typer.Option("--serve", help="The work is serving.")]
Isl = Annotated[str | None, typer.Option("--isl", metavar="N", help="Serving: prompt tokens, 8k.")]
Osl = Annotated[str | None, typer.Option("--osl", metavar="N", help="Serving: output tokens, 1k.")]
Ttft = Annotated[str | None, typer.Option("--ttft", metavar="TIME", help="Serving: most seconds to the first token.")]
Tpot = Annotated[str | None, typer.Option("--tpot", metavar="TIME", help="Serving: longest time per token, 30ms.")]
Kv = Annotated[
    str | None, typer.Option("--kv", metavar="N", help="Serving: tokens of a request, prompt and answer: 128k.")
]
Cached = Annotated[str | None, typer.Option("--cached", metavar="SHARE", help="Serving: share of prompts cached, 60%.")]
Accept = Annotated[
    float | None,
    typer.Option("--accept", metavar="N", help="Serving: tokens per speculative step."),
]
EngineName = Annotated[
    str | None, typer.Option("--engine", metavar="NAME", help="Serving: vllm, trtllm, sglang, neuron...")
]
Tokens = Annotated[str | None, typer.Option("--tokens", metavar="N", help="Tokens to train on: 15T.")]
Seq = Annotated[str | None, typer.Option("--seq", metavar="N", help="Tokens per sequence: 4096, 4Ki (4k is 4000).")]
Batch = Annotated[str | None, typer.Option("--batch", metavar="N", help="Per step: 16384seqs, or 64M (tokens).")]
Task = Annotated[
    str | None,
    typer.Option(
        "--task", metavar="TASK", help="pretrain, sft, lora, lora:16 (rank), lora:16:attention,mlp (targets)."
    ),
]
Document = Annotated[
    str | None, typer.Option("--document", metavar="N", help="Mean tokens of documents packed into a sequence.")
]
Fill = Annotated[
    float, typer.Option("--fill", metavar="SHARE", help="Share of a sequence that is no padding, 0.01 to 1.")
]
Chips = Annotated[
    str | None,
    typer.Option("--chips", metavar="N", help="Chips of each system (else: in its name, or a unit)."),
]
Equal = Annotated[
    str | None, typer.Option("--equal", metavar="WHAT", help="Footing of --chips: chips, units, usd or power.")
]
Stack = Annotated[
    str | None, typer.Option("--stack", metavar="NAME", help="Training software, for its measured overheads.")
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Change one thing: plan.tp=4,8, prices.trn3='$1.40/chip/h', power.trn3='900 W', "
        "prices.term=3y, site.pue=1.1, survival=memory, or any fact. Repeatable.",
    ),
]
FactsDir = Annotated[
    list[Path] | None,
    typer.Option("--facts", metavar="DIR", help="Your own chips, systems and prices: a directory or one file."),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
Csv = Annotated[bool, typer.Option("--csv", help="A table on stdout.")]
Plain = Annotated[bool, typer.Option("--plain", help="ASCII, no colour.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on stderr but errors.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Also save the result as JSON (for explain).")]
Seed = Annotated[
    int, typer.Option("--seed", metavar="N", help="Kept with the result; this verb draws nothing at random.")
]
DrawSeed = Annotated[int, typer.Option("--seed", metavar="N", help="Of the random draws.")]
