"""The command line as a new user meets it: errors of one line with the right exit code, help on one screen, results on
stdout only."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mowich import cli, models
from mowich.cli.verbs import VERB_MODULES
from mowich.requests.room import with_rooms
from pace import pace

JOB = ["--train", "--tokens", "1T", "--seq", "4096", "--batch", "512seqs"]
SMALL = ["llama-3.1-8b", *JOB, "--on", "h100,gb300", "--chips", "64"]


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    code = cli.run(args)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["compare", "--chps", "3"], ["no such option: --chps", "did you mean '--chips'?"]),
        (["comapre"], ["no such command 'comapre'", "did you mean 'compare'?"]),
        (["compare"], ["missing argument 'MODEL'"]),
        (
            ["compare", "llama-3.1-8b", *JOB, "--on", "trn3-gen3"],
            ["unknown system 'trn3-gen3'", "did you mean 'trn3-gen2'?"],
        ),
        (["compare", "llama-3.1-8b", *JOB, "--on", "trn3", "--chips", "0"], ["--chips: must be at least 1, got '0'"]),
        (
            ["compare", "llama-3.1-8b", *JOB, "--on", "trn3", "--chips", "10M"],
            ["number of chips out of range", "10000000", "allowed: 1 to 1 000 000"],
        ),
        (
            ["compare", "llama-3.1-8b", "--train", "--tokens=-5", "--seq", "4096", "--batch", "8seqs", "--on", "trn3"],
            ["--tokens: must be at least 1, got '-5'"],
        ),
        (
            ["compare", "llama-3.1-8b", "--on", "trn3"],
            ["--train", "--seq: is required", "--batch: is required", "--tokens: is required"],
        ),
        (
            ["compare", "llama-3.1-8b", "--train", "--tokens", "1T", "--seq", "4096", "--batch", "512", "--on", "trn3"],
            ["less than one sequence", "512seqs"],
        ),
        (["compare", "llama-3.1-8b", *JOB, "--on", "trn3", "--set", "power.trn3=900"], ["900 has no unit"]),
        (["compare", "llama-3.1-8b", *JOB, "--on", "trn3", "--set", "plan.tpp=8"], ["unknown plan field 'tpp'"]),
        (
            ["compare", "llama-3.1-8b", *JOB, "--on", "trn3", "--set", "prices.term=4y"],
            ["unknown price term '4y'", "capacity-block"],
        ),
        (
            ["compare", "llama-3.1-8b", *JOB, "--on", "trn3", "--set", "chips.trainium3.memory.hbm_capacty=1 GiB"],
            ["unknown setting", "hbm_capacity"],
        ),
        (["compare", "llama-3.1-8b", *JOB, "--on", "trn3", "--set", "oops"], ["not a setting"]),
        (["compare", "llama-3.1-8b", *JOB, "--on", "trn3", "--equal", "money"], ["unknown footing 'money'"]),
        (["compare", "llama-3.1-8b", *JOB, "--on", "trn3", "--json", "--csv"], ["choose one of --json and --csv"]),
        (["compare", "llama-3.1-8b", *JOB, "--on", "trn3", "--facts", "{tmp}/nowhere"], ["no such directory"]),
        (["compare", "lama-3.1-8b", *JOB, "--on", "trn3"], ["unknown model", "did you mean 'llama-3.1-8b'?"]),
        (["plan", "llama-3.1-8b", *JOB, "--on", "trn3,gb300"], ["takes one system"]),
        (["facts", "show", "trainum3"], ["unknown name 'trainum3'", "trainium3"]),
        (["explain", "{tmp}/nowhere.json", "x.step_s"], ["cannot be read"]),
    ],
)
def test_bad_input_is_one_clear_line_each_and_exit_2(
    args: list[str], said: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, *(word.replace("{tmp}", str(tmp_path)) for word in args))
    assert code == 2
    assert out == ""
    assert "Traceback" not in err
    assert all(line.startswith(("error: ", "note: ")) for line in err.splitlines())
    for words in said:
        assert words in err


def test_every_problem_is_reported_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(
        capsys,
        "compare",
        "lama-3.1-8b",
        "--train",
        "--tokens",
        "0",
        "--seq",
        "x",
        "--batch",
        "y",
        "--on",
        "trn9",
        "--chips",
        "0",
    )
    assert code == 2
    assert len(err.splitlines()) == 6


def test_json_is_alone_on_stdout(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    saved = tmp_path / "r.json"
    code, out, err = run(
        capsys,
        "compare",
        *SMALL,
        "--json",
        "--out",
        str(saved),
        "--set",
        "prices.h100=$1.40/chip/h",
        "--set",
        "plan.tp=1,2,4,8",
    )
    assert code == 0
    assert err == ""
    data = json.loads(out)
    assert data["schema"] == "mowich/compare@1"
    assert saved.read_text() == out
    h100 = data["rows"][0]
    assert h100["usd_per_mtok"]["value"] > 0
    assert h100["price"].startswith("$1.40/chip/h, yours")
    assert h100["plan"]["tp"] in (1, 2, 4, 8)
    for metric in ("step_s", "memory_B", "usd_per_mtok", "J_per_token", "mfu", "days"):
        code, out, _ = run(capsys, "explain", str(saved), f"h100.{metric}", "--plain")
        assert code == 0, metric
        assert "\n  = " in out, metric
        assert max(map(len, out.splitlines())) <= 160


def test_same_input_same_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (run(capsys, "compare", *SMALL, "--json")[1] for _ in range(2))
    assert first == second


def test_text_fits_100_columns_and_csv_has_a_row_per_system(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "compare", *SMALL, "--plain")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 100
    out.encode("ascii")
    assert len(run(capsys, "compare", *SMALL, "--csv")[1].splitlines()) == 3


def test_the_users_price_and_power_change_the_row(capsys: pytest.CaptureFixture[str]) -> None:
    args = ["compare", "llama-3.1-8b", *JOB, "--on", "trn3,gb300", "--chips", "144", "--json"]
    data = json.loads(run(capsys, *args)[1])
    before = data["rows"][0]
    assert data["inputs"]["price_term"] == "default"
    after = json.loads(run(capsys, *args, "--set", "prices.trn3=$1.40/chip/h", "--set", "power.trn3=900 W")[1])["rows"][
        0
    ]
    assert before["price"].split(", ")[1] == "tco"
    assert before["breakeven_usd_per_chip_h"]["value"] > 0
    assert after["price"].endswith("yours")
    assert after["usd_per_mtok"]["value"] > 0
    assert after["usd_per_mtok"]["value"] != before["usd_per_mtok"]["value"]
    assert after["J_per_token"]["value"] != before["J_per_token"]["value"]


def test_pue_and_price_term(capsys: pytest.CaptureFixture[str]) -> None:
    base = json.loads(run(capsys, "compare", *SMALL, "--json")[1])["rows"][0]
    more = json.loads(
        run(capsys, "compare", *SMALL, "--json", "--set", "site.pue=1.52", "--set", "prices.term=spot")[1]
    )["rows"][0]
    assert more["J_per_token"]["value"] == pytest.approx(base["J_per_token"]["value"] * 1.52 / 1.14)
    assert more["price"].startswith("no spot price in the facts")
    assert more["usd_per_mtok"]["value"] is None


def test_one_kind_of_price_for_all_rows(capsys: pytest.CaptureFixture[str]) -> None:
    """Every row of an answer has the kind that was asked for, or none, with the reason."""
    job = ["llama-3.1-8b", *JOB, "--on", "h200,ironwood,trn2", "--chips", "64"]
    for kind, lacking in (("tco", set()), ("on-demand", {"trn2"}), ("capacity-block", {"ironwood"})):
        code, out, _ = run(capsys, "compare", *job, "--price", kind, "--json")
        data = json.loads(out)
        assert code == 0
        assert data["inputs"]["price_term"] == kind
        for row in data["rows"]:
            if row["system"] in lacking:
                assert row["price"].startswith(f"no {kind} price in the facts (there is tco, rent, ")
                assert row["usd_per_mtok"]["reason"] == row["price"]
            else:
                assert row["price"].split(", ")[1] == kind
    said = " ".join(run(capsys, "compare", *job, "--price", "on-demand")[1].split())
    assert "No on-demand price known: trn2." in said
    for wrong, words in (
        (["--price", "tcoo"], "unknown price term 'tcoo'"),
        (["--price", "tco", "--set", "prices.term=spot"], "give one of the two"),
        (["--set", "prices.ownership.asked.quarter=2026Q9"], "unknown choice '2026Q9'"),
        (["--set", "prices.trn2=$-1/chip/h"], "must be above 0"),
    ):
        code, _, err = run(capsys, "compare", *job, *wrong)
        assert (code, len(err.splitlines())) == (2, 1), err
        assert words in err


def test_nothing_feasible_is_exit_3(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "compare", "deepseek-v3", *JOB, "--on", "h100", "--chips", "8")
    assert code == 3
    assert "h100" in out


def test_plan_fit_model_facts_answer(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "plan", "llama-3.1-8b", *JOB, "--on", "h100:64", "--top", "3", "--json")
    data = json.loads(out)
    assert (code, data["schema"], len(data["plans"])) == (0, "mowich/plan@1", 3)
    assert run(capsys, "fit", "llama-3.1-8b", *JOB[:1], *JOB[3:], "--on", "h100")[1].startswith("Fits on 8 chips")
    data = json.loads(run(capsys, "model", "deepseek-v3", "--json")[1])
    assert (data["schema"], data["params"]) == ("mowich/model@1", 671026404352)
    assert "trainium3" in run(capsys, "facts", "list", "chips")[1]
    assert "144 GiB" in run(capsys, "facts", "show", "chips.trainium3.memory.hbm_capacity")[1]
    code, out, _ = run(capsys, "facts", "diff", "trn3", "gb300")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 100
    assert json.loads(run(capsys, "facts", "schema")[1])["title"] == "Mowich facts"


def test_k_means_1000_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    args = [
        "plan",
        "llama-3.1-8b",
        "--train",
        "--tokens",
        "1T",
        "--batch",
        "2M",
        "--on",
        "h100:8",
        "--top",
        "1",
        "--json",
    ]
    code, out, err = run(capsys, *args, "--seq", "4k")
    assert code in (0, 3)
    assert "--seq 4k is 4000 tokens" in err
    assert json.loads(out)["inputs"]["seq"] == 4000
    assert json.loads(run(capsys, *args, "--seq", "4Ki")[1])["inputs"]["seq"] == 4096


def test_our_bug_is_exit_70_without_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("boom\nboom")

    monkeypatch.setattr(models, "load_model", broken)
    code, _, err = run(capsys, "model", "gpt2")
    assert code == 70
    assert err.count("\n") == 1
    assert "--debug" in err
    with pytest.raises(RuntimeError):
        cli.run(["model", "gpt2", "--debug"])


def test_interrupt_is_130(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(models, "load_model", stop)
    assert run(capsys, "model", "gpt2")[0] == 130


def test_help_is_one_screen_each_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in (
        [],
        ["compare"],
        ["plan"],
        ["fit"],
        ["model"],
        ["explain"],
        ["validate"],
        ["facts"],
        ["facts", "list"],
        ["facts", "show"],
        ["facts", "diff"],
    ):
        code, out, _ = run(capsys, *verb, "--help")
        assert code == 0
        assert "Example: mowich" in out
        assert len(out.splitlines()) <= 67  # plan: of training, serving, images, a load, facts


def process(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    root = Path(cli.__file__).resolve().parents[2]
    return subprocess.run(
        [sys.executable, "-m", "mowich", *args],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(root), **env},
    )


def test_help_is_instant_and_loads_nothing_heavy() -> None:
    best = 9.0
    for _ in range(5):  # processor time of the child: the machine may be busy
        start = os.times()
        assert process("--help").returncode == 0
        end = os.times()
        best = min(best, end.children_user + end.children_system - start.children_user - start.children_system)
    assert best < 0.2 * pace()
    code = "import sys, mowich.cli; print([m for m in ('numpy', 'rich', 'yaml', 'pydantic') if m in sys.modules])"
    root = Path(cli.__file__).resolve().parents[2]
    shown = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert shown.stdout.strip() == "[]"


def test_a_profile_of_a_kernel_brings_no_models_and_no_evidence() -> None:
    """What a fresh process spends its time on: modules that no page of a kernel needs, YAML parsed in Python."""
    names = ("mowich.models", "mowich.plans.plan", "mowich.evidence", "mowich.show.compare")
    code = (
        "import sys; from mowich import cli; from yaml import scanner; scanner.Scanner.__init__ = None; "
        "code = cli.run(['kernel', 'profile', '@softmax']); "
        f"sys.exit(code or ' '.join(m for m in {names} if m in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


@pytest.mark.parametrize(
    ("words", "unwanted"),
    [
        ("compare --help", ("numpy", "rich", "yaml", "pydantic")),
        ("kernel run --help", ("numpy", "rich", "yaml", "pydantic")),
        ("--version", ("numpy", "mowich.cli.plan")),
        (
            "compare llama-3.1-8b --train --tokens 1T --seq 4096 --batch 64seqs --on h100:8 --set plan.tp=2 --facts .",
            ("numpy.ma", "pydantic", "mowich.serving.step", "mowich.neuroncore.core", "mowich.requests.kernels"),
        ),
        (
            "compare llama-3.1-8b --serve --isl 1k --osl 200 --on h200:8 --set plan.tp=8",
            (
                *("yaml", "numpy.ma", "statistics", "pydantic", "multiprocessing", "mowich.evidence"),
                *("mowich.training.search", "mowich.neuroncore.core", "mowich.requests.kernels", "mowich.cli.mcp"),
            ),
        ),
    ],
)
def test_a_verb_loads_what_it_needs(tmp_path: Path, words: str, unwanted: tuple[str, ...]) -> None:
    code = f"import sys; from mowich.cli import run; run({words.split()}); "
    code += f"print([m for m in {unwanted} if m in sys.modules], file=sys.stderr)"
    root = Path(cli.__file__).resolve().parents[2]
    own = tmp_path / "prices" / "user.yaml"
    own.parent.mkdir()
    own.write_text('trn3-gen2: {value: "$1/chip/h", grade: user}\n', encoding="utf-8")
    shown = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert shown.stdout
    assert shown.stderr == "[]\n"


def test_completion_knows_models_and_systems() -> None:
    done = process(_MOWICH_COMPLETE="complete_bash", COMP_WORDS="mowich model deepseek-v", COMP_CWORD="2")
    assert "deepseek-v3" in done.stdout.split()
    done = process(_MOWICH_COMPLETE="complete_bash", COMP_WORDS="mowich compare gpt2 --on trn3,gb3", COMP_CWORD="4")
    assert "trn3,gb300" in done.stdout.split()


def test_version_and_exit_codes_of_the_process() -> None:
    assert process("--version").stdout.startswith("mowich ")
    failed = process("compare", "gpt2", "--chps", "3")
    assert (failed.returncode, failed.stdout, failed.stderr.count("\n")) == (2, "", 1)


def test_a_verb_alone_is_built_for_itself(capsys: pytest.CaptureFixture[str]) -> None:
    from mowich.cli.app import _only, app

    assert [c.callback.__name__ for c in _only(["plan", "--help"]).registered_commands if c.callback] == ["plan"]
    (group,) = _only(["kernel", "run", "x.py"]).registered_groups
    assert group.typer_instance is not None
    assert [c.name for c in group.typer_instance.registered_commands] == ["run"]
    for words in ([], ["kernel"], ["kernel", "--help"], ["kernel", "no-such-verb"], ["no-such-verb"]):
        assert _only(words) is app
    assert cli.run(["kernel", "runn"]) == 2
    assert "did you mean 'run'" in capsys.readouterr().err
    assert cli.run(["--help"]) == 0
    assert "traffic" in capsys.readouterr().out


@pytest.mark.parametrize("first", ["mcp", "kernel tune", "plan"])
def test_a_command_loads_the_module_of_its_verb_and_the_list_keeps_its_order(first: str) -> None:
    code = (
        "import sys; from mowich.cli import verbs; from mowich.cli.app import app, _only\n"
        "from mowich.cli.options import command_word\n"
        f"_only({first.split()}); loaded = [m for m in verbs.VERB_MODULES if f'mowich.cli.{{m}}' in sys.modules]\n"
        "verbs.load_verbs(app); groups = {g.name: g.typer_instance for g in app.registered_groups}\n"
        "named = [(g and g + ' ', c) for g, a in [('', app), *groups.items()] for c in a.registered_commands]\n"
        "print([(g + command_word(c), c.callback._answer.__module__) for g, c in named]); print(list(groups), loaded)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found, loaded = map(ast.literal_eval, done.stdout.replace("] [", "], [").splitlines())
    homes = {verb: f"mowich.cli.{module}" for module, named in VERB_MODULES.items() for verb in named}
    table = [(verb, homes.get(verb, "mowich.cli.rooms")) for verb in with_rooms(homes)]
    words = [one for one in table if " " not in one[0] and one[0] not in ("facts", "forecast")]
    assert found[: len(words)] == words
    assert [one for one in found if one[0].startswith("kernel ")] == [one for one in table if " " in one[0]]
    assert {module for verb, module in found if verb.startswith("facts ")} == {"mowich.cli.facts"}
    assert loaded[0] == ["forecast", "facts", "kernel"]
    [own] = [module for module, named in VERB_MODULES.items() if first in named]
    assert set(loaded[1]) <= {own, "kernel", "serving"}


def test_a_comparison_imports_only_what_it_needs() -> None:
    """Facts that ship are kept parsed; what writes plans for programs, and rows of evidence, wait for who asks."""
    ask = ["compare", *SMALL, "--quiet"]
    code = f"import sys; from mowich import cli; code = cli.run({ask!r}); print(code, *sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    exit_code, *modules = done.stderr.split()
    assert exit_code == "0"
    unneeded = {"yaml", "multiprocessing", "mowich.launch.emitted", "mowich.evidence.rows", "pydantic", "numpy.ma"}
    assert unneeded & set(modules) == set()
