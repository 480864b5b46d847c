"""What an answer takes for granted of software, whatever the question: by default a plan needs nothing that its
software does not ship, software whose support ended is nobody's default where other software runs, and a launch command
that is written is the plan that was found."""

from __future__ import annotations

import json
import random
from functools import cache
from pathlib import Path

import pytest

import mowich
from mowich.cli import run
from mowich.errors import UserError
from mowich.facts import Facts, load_facts
from mowich.machines.system import resolve
from mowich.models import load_model
from mowich.models.model import as_trained
from mowich.plans.plan import TrainJob
from mowich.requests.command import command_of
from mowich.software.engine import engine_for, engine_names
from mowich.software.hybrid import Hybrids
from mowich.software.releases import SUPPORT_ENDED, release_words, status_of
from mowich.software.stack import RECIPE_CHOSEN, equip, stack_names
from mowich.training.search import search

MODELS = ("llama-3.1-8b", "llama-3.1-70b", "mixtral-8x7b", "qwen3-30b-a3b", "deepseek-v3", "gpt-oss-120b", "gpt2")
SYSTEMS = ("trn1", "trn2", "trn3", "trn3-gen1", "trn4", "h100", "gb300", "mi355x", "ironwood", "tpu-v5p", "rubin")
TRAINIUM = ("trn2", "trn3", "trn3-gen1")


@cache
def facts() -> Facts:
    return load_facts()


@cache
def future() -> Facts:
    return facts().with_values({RECIPE_CHOSEN: "future"})


@pytest.mark.share(3)
@pytest.mark.parametrize("seed", range(24))
def test_a_default_plan_needs_nothing_that_its_software_does_not_ship(seed: int) -> None:
    """Precision, sharding and schedule are those of the stack. With `future` the precisions of the chip come on top: no
    plan is lost, and nothing changes where all of them ship."""
    rng = random.Random(seed)
    model, system = as_trained(load_model(rng.choice(MODELS))), rng.choice(SYSTEMS)
    chips = rng.choice((16, 64, 256))
    job = TrainJob(tokens=1e12, seq=rng.choice((2048, 4096)), batch_seqs=float(rng.choice((256, 1024))))
    platform, later = equip(facts(), system, chips=chips), equip(future(), system, chips=chips)
    try:
        found = search(model, platform, job, top=3)
    except UserError:
        found = None
    more = search(model, later, job, top=1) if found is not None and found.best else None
    for one in found.best if found is not None else ():
        assert one.plan.precision in platform.ships
        assert one.plan.zero in (platform.zero if one.plan.pp == 1 else platform.zero_in_pipeline)
        assert one.plan.schedule in platform.schedules
    if found is not None and found.best:
        assert more is not None
        assert more.best[0].seconds_per_token <= found.best[0].seconds_per_token * (1 + 1e-9)
        if not platform.not_shipped:
            assert more.best[0].plan == found.best[0].plan
    assert set(later.recipes) == {*platform.recipes, *(p for p in platform.precisions if p not in platform.ships)}
    assert not set(platform.recipes) & set(platform.not_shipped)


def test_software_whose_support_ended_is_no_default_where_other_software_runs() -> None:
    """Trainium 1 and Inferentia 2 alone have nothing newer, and their answers say so."""
    known = facts()
    runs: dict[str, list[str]] = {}
    for name in stack_names(known):
        chips = known.get(f"training.{name}.chips")
        for chip in str(chips.value).split(", ") if chips is not None else ():
            runs.setdefault(chip, []).append(name)
    ended = set()
    for system in known.aliases():
        platform = equip(known, system)
        path = f"training.{platform.stack.name}"
        if status_of(known, path) == SUPPORT_ENDED:
            assert not [n for n in runs.get(platform.chip, ()) if status_of(known, f"training.{n}") != SUPPORT_ENDED], (
                system
            )
            assert "support ended with" in release_words(known, path)["release"]
            ended.add(platform.chip)
        engine = engine_for(known, resolve(known, system), None)
        assert status_of(known, f"serving.{engine}") != SUPPORT_ENDED
        assert platform.vendor != "AWS" or release_words(known, f"serving.{engine}")
    assert ended == {"trainium1", "inferentia2"}
    assert {equip(known, name).stack.name for name in (*TRAINIUM, "trn4")} == {"torchtitan-neuron"}


@pytest.mark.parametrize("kind", ["training", "serving"])
def test_what_software_says_of_itself_has_a_source_and_the_day_it_was_read(kind: str) -> None:
    known, said = facts(), 0
    for name in stack_names(known) if kind == "training" else engine_names(known):
        words = release_words(known, f"{kind}.{name}")
        assert bool(words) == (status_of(known, f"{kind}.{name}") is not None)
        if words:
            said += 1
            assert known.fact(f"{kind}.{name}.status").grade == "A"
            assert "; read 2026-" in words["release"]
    assert said >= 2


SERVED = {"isl": "2k", "osl": "500", "ttft": "9s", "tpot": "90ms"}


@pytest.mark.share(3)
@pytest.mark.parametrize("seed", range(6))
def test_what_is_written_for_trainium_is_the_plan(seed: int, tmp_path: Path) -> None:
    """`--emit torchtitan` and `--emit vllm`, read back with `--plan`."""
    rng = random.Random(seed)
    on, serves = f"{rng.choice(TRAINIUM)}:{rng.choice((16, 32, 64))}", seed % 2 == 0
    model = rng.choice(("llama-3.1-8b", "llama-3.1-70b", "qwen3-30b-a3b", "gpt-oss-120b"))
    train = {"tokens": "1T", "seq": rng.choice((4096, 8192)), "batch": rng.choice(("256seqs", "512seqs"))}
    ask = {"serve": SERVED} if serves else {"train": train}
    program = "vllm" if serves else "torchtitan"
    row = mowich.plan(model, on, top=1, emit=program, **ask).rows[0]  # type: ignore[call-overload]
    file = tmp_path / "launch.sh"
    file.write_text(row.emit(program), encoding="utf-8")
    again = mowich.plan(model, on, top=1, plan=file, **ask).rows[0]  # type: ignore[call-overload]
    for name in ("plan", "prefill", "decode", "replicas", "mode"):
        assert again.to_dict().get(name) == row.to_dict().get(name), name
    mark = "neuron_config" if serves else "--compile.backend neuron"
    assert mark in file.read_text(encoding="utf-8")


TRAINED = "--train --tokens 1T --seq 4096 --batch 512seqs --on trn2,trn3,h100 --chips 64"


def test_precisions_that_do_not_ship_are_told_and_counted_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept, files = {}, {}
    for recipe in ("", "--recipe future"):
        files[recipe] = tmp_path / f"{len(recipe)}.json"
        words = f"compare llama-3.1-8b {TRAINED} {recipe} --out {files[recipe]}"
        assert run(words.split()) == 0
        kept[recipe] = " ".join(capsys.readouterr().out.split())
    assert "Not shipped in training, and left out: fp8 (trn2); mxfp8 (trn3). --recipe future counts them." in kept[""]
    assert "No training software ships, and counted here all the same (--recipe future): fp8" in kept["--recipe future"]
    for recipe, file in files.items():
        data = json.loads(file.read_text(encoding="utf-8"))
        rows = {row["system"]: row["plan"]["precision"] for row in data["rows"]}
        assert rows["trn2"] == ("fp8" if recipe else "bf16")
        assert rows["trn3"] == ("mxfp8" if recipe else "bf16")
        assert recipe in command_of(data)
        assert "training.common.recipe" not in command_of(data)
        assert data["inputs"]["systems"][0]["release"].startswith("TorchTitan Neuron 0.2.2")
    asked = {"train": {"tokens": "1T", "seq": 4096, "batch": "512seqs"}, "chips": 64}
    (row,) = mowich.compare("llama-3.1-8b", ["trn3"], recipe="future", **asked).rows
    assert row.plan is not None
    assert row.plan.precision == "mxfp8"
    with pytest.raises(UserError, match=r"recipe: unknown recipe 'futur'.*did you mean 'future'"):
        mowich.compare("llama-3.1-8b", ["trn3"], recipe="futur", **asked)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("mixtral-8x7b --on trn2", "trn2: torchtitan-neuron ships llama, qwen3, qwen3_moe, deepseek_v3, gpt_oss;"),
        ("llama-3.1-8b --on trn3 --set plan.precision=mxfp8", "ships no recipe in mxfp8; it is timed as asked"),
        ("llama-3.1-8b --on trn1", "NxD Training and PyTorch/XLA up to Neuron 2.29 (support ended with Neuron 2.30.0"),
        ("llama-3.1-8b --on trn3 --stack neuron", "(support ended with Neuron 2.30.0 of 21 May 2026; read"),
        ("llama-3.1-8b --on trn1 --stack torchtitan-neuron", "runs on trainium2, trainium3 alone"),
    ],
)
def test_a_question_that_its_software_does_not_ship_says_so(
    words: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(f"plan {words} --train --tokens 1T --seq 2048 --batch 512seqs --chips 64 --top 1".split()) == 0
    assert said in " ".join(capsys.readouterr().err.split())


def test_the_megakernel_that_ships_stands_beside_the_model_and_the_chip_that_it_ships_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In rows of the default engine too, and in no row of another model or chip."""
    known = facts()
    assert status_of(known, "serving.nxdi-megakernel") == "maintenance"
    assert known.fact("serving.nxdi-megakernel.ships").address.endswith("tutorial-gpt-oss-120b-8k1k-trn3.html")
    for model, on in (("gpt-oss-120b", "trn3:8"), ("gpt-oss-120b", "trn2:16"), ("llama-3.1-8b", "trn3:8")):
        assert run(f"plan {model} --serve --isl 8k --osl 1k --on {on} --tpot 30ms --top 1".split()) == 0
        said = " ".join(capsys.readouterr().out.split())
        assert "vLLM Neuron 0.29.0.1.2.0, Neuron 2.33.0 of 19 October 2026 (beta; read 2026-12-01)" in said
        assert ("a decode megakernel" in said and "LNC 1" in said) == (model == "gpt-oss-120b" and on == "trn3:8")


def test_the_precisions_of_a_machine_are_those_of_its_chip_that_its_software_ships() -> None:
    """So a gap counts a precision that does not ship as software, whichever chip the software is put on."""
    assert equip(facts(), "trn2").recipes == ("bf16",)
    assert equip(facts(), "trn2", stack="megatron").recipes == ("bf16", "fp8")
    assert equip(facts(), "h100", stack="torchtitan-neuron").recipes == ("bf16",)
    a, b = equip(facts(), "trn3", chips=64), equip(facts(), "gb300", chips=64)
    for name, taken in (("compute", frozenset({"compute"})), ("software", frozenset({"software"}))):
        mixed = Hybrids(a, b).with_taken(taken)
        chip, stack = (b, a) if name == "compute" else (a, b)
        assert mixed.recipes == tuple(p for p in chip.precisions if p in stack.ships)
