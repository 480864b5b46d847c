"""What the documents say: their commands run, the output they show is what is printed, and their links lead
somewhere."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from mowich.cli.app import app
from mowich.cli.verbs import ALL_VERBS, load_verbs
from mowich.handbook import handbook
from mowich.show.glossary import term_of

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "benchmarks").glob("*.md"),
        *(ROOT / "tools").glob("*.md"),
    ]
)


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"mowich_{name}", ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up by name
    spec.loader.exec_module(module)
    return module


documents = _module("documents")


LONG_PAGES = (
    "agents.md",
    "agents-traffic.md",
    "fleet.md",
    "fleet-lab-100mw.md",
    "fleet-rainier.md",
    "fleet-startup.md",
    "gap.md",
    "serving.md",
    "gallery.md",
    "for-kernel-engineers.md",
    "for-planners.md",
    "for-researchers.md",
    "for-journalists.md",
    "how-to.md",
    "judge.md",
    "report.md",
    "scaling.md",
    "skill.md",
    "sweeps.md",
    "tables.md",
    "tutorial-rl.md",
    "tutorial.md",
)
"""Pages whose commands take from three seconds to half a minute: `make test-slow` runs them."""


@pytest.mark.share(3)
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(p, marks=[pytest.mark.slow] if p.name in LONG_PAGES else [])
        for p in documents.PAGES
        if documents.has_code(p)
    ],
    ids=lambda p: p.name,
)
def test_every_command_of_a_page_runs_and_its_output_is_current(path: Path, tmp_path: Path) -> None:
    """README and the tutorial in an empty directory, the other pages beside the scenarios and kernels of a checkout.
    What is not run is listed with a reason."""
    ran, text = documents.follow(path, tmp_path)
    for one in ran:
        assert one.code == one.expected, f"{one.line}\n{one.stderr}"
    if path in documents.DOCUMENTS:
        assert ran
    else:
        wanted = [line for line in documents.page_commands(path) if not documents.is_left_out(line)]
        assert all(line.startswith("mowich ") for line in wanted), (
            "no test runs this: list it with a reason in commands_not_run.yaml"
        )
        assert [one.line for one in ran if one.line != "python"] == wanted
    shown, now = path.read_text(encoding="utf-8").splitlines(), text.splitlines()
    changed = [f"- {a}\n+ {b}" for a, b in zip(shown, now, strict=False) if a != b]
    assert shown == now, "output shown has changed: run `make docs`\n" + "\n".join(changed[:10])


def test_every_marker_of_output_is_one_that_is_read() -> None:
    """A misspelt marker would leave its block as it is, unchecked."""
    for path in documents.PAGES:
        for marker in re.findall(r"<!-- *output.*?-->", path.read_text(encoding="utf-8"), flags=re.DOTALL):
            assert documents.OUTPUT.fullmatch(marker + "\n"), f"{path.name}: {marker}"


def test_pages_of_fleets_show_what_their_commands_print() -> None:
    for path in sorted((ROOT / "docs").rglob("fleet-*.md")):
        assert documents.shows_output(path), path.name
        assert not any(documents.is_left_out(line) for line in documents.page_commands(path)), path.name


NOTHING_PUBLIC = re.compile(
    r"\b(no|none|not|nothing|nobody|neither|never)\b[^.]{0,60}\b(published|public|measured)\b", re.IGNORECASE
)
MEASURABLE = re.compile(
    r"\b(serving|served|tokens?|kernels?|latency|steps?|collectives?|all-reduce|profiles?)\b", re.IGNORECASE
)
NEW_TRAINIUM = re.compile(r"\b(Trainium ?[234]|Trn[234]|NeuronCore-v[345])\b", re.IGNORECASE)
DATED = re.compile(r"\b20\d\d\b")


def undated(text: str) -> list[str]:
    """Sentences that say that no measurement of a new Trainium is public, without saying when that was looked for."""
    blocks = re.split(r"\n\s*\n|\n(?=[|#]|- )", documents.FENCE.sub("\n\n", text))
    sentences = [s for b in blocks for s in re.split(r"(?<=[.:;!?*|])\s+(?=[A-Z*|`-])", re.sub(r"\s+", " ", b))]
    wanted = (NOTHING_PUBLIC, MEASURABLE, NEW_TRAINIUM)
    return [s for s in sentences if all(w.search(s) for w in wanted) and not DATED.search(s)]


def test_what_is_not_public_about_new_chips_says_when() -> None:
    """Measurements appear: "No serving of Trainium3 has been published" was true for some months, and nobody saw when
    it ended."""
    assert undated("No serving of Trainium3 has been published: its rows carry the priors.")
    assert undated("- **Trainium3** has no published kernel latency at all. More.")
    assert not undated("As of November 2026 no kernel latency of Trainium4 is published. Trainium3 has no price.")
    for path in (ROOT / "docs").rglob("*.md"):
        assert undated(path.read_text(encoding="utf-8")) == [], path.name
    for path in sorted((ROOT / "src" / "mowich").rglob("*.py")):
        for text in re.findall(r'"([^"\n]{20,})"', path.read_text(encoding="utf-8")):
            assert undated(text) == [], path.name


def test_commands_of_the_first_pages_are_run_or_listed() -> None:
    for path in documents.DOCUMENTS:
        for line in documents.page_commands(path):
            assert line.startswith("mowich ") or documents.is_left_out(line), line


def test_what_is_listed_as_not_run_stands_in_a_page() -> None:
    everything = [line for path in documents.PAGES for line in documents.page_commands(path)]
    for prefix, reason in documents.not_run().items():
        bare = [line.split(" #")[0].strip() for line in everything]
        assert any(line == prefix or (prefix.endswith("*") and line.startswith(prefix[:-1])) for line in bare), prefix
        assert len(reason) > 10


def test_commands_in_running_text_name_verbs_and_flags_that_exist() -> None:
    """`mowich compare --equal usd` in a sentence is not run, but it must be something that can be typed."""
    import typer

    root = typer.main.get_command(load_verbs(app))
    for path in documents.PAGES:
        text = documents.FENCE.sub("", path.read_text(encoding="utf-8"))
        for words in re.findall(r"`mowich ([^`\n]+)`", text):
            command, rest = root, re.sub(r"'[^']*'", "QUOTED", words).split()
            if rest[0] == "help":
                asked = rest[1] if len(rest) > 1 else "topics"
                opens = asked in {*handbook(), *ALL_VERBS, "topics"} or term_of(asked.upper()) is not None
                assert opens or asked.isupper(), f"{path.name}: mowich {words}"  # TOPIC stands for any
                continue
            while rest and hasattr(command, "commands") and rest[0] in command.commands:
                command = command.commands[rest.pop(0)]
            assert not hasattr(command, "commands") or not rest or rest[0].startswith(("-", "list|", "run|")), (
                f"{path.name}: mowich {words}"
            )
            known = {flag for parameter in command.params for flag in parameter.opts} | {
                "--help",
                "--version",
                "--debug",
            }
            for word in rest:
                if word.startswith("--"):
                    assert word.split("=")[0].rstrip(".,") in known, f"{path.name}: mowich {words}"


def test_values_in_the_facts_page_are_those_of_the_files() -> None:
    text = documents.FACTS_PAGE.read_text(encoding="utf-8")
    assert len(documents.FACT_ROW.findall(text)) > 20
    assert documents.renew_facts(text) == text, "a fact has changed: run `make docs`"


def test_commands_are_read_as_a_shell_would() -> None:
    block = "make demo\n$ mowich compare x \\\n   --chips 4   # exit 2\nmowich facts show 'a b'\n# mowich no\n"
    assert [(w, code) for w, code, _ in documents.commands(block)] == [
        (["compare", "x", "--chips", "4"], 2),
        (["facts", "show", "a b"], 0),
    ]


def test_an_excerpt_keeps_both_ends_and_refuses_what_is_not_there() -> None:
    assert documents.excerpt("a\nb 1 \nc\nd\n", "b", "c") == "b 1\nc\n"
    assert documents.excerpt("a\nb\n", None, None) == "a\nb\n"
    assert documents.excerpt("a\nb\n\nc\nd\n", None, "c", with_end=False) == "a\nb\n"
    with pytest.raises(ValueError, match="no line"):
        documents.excerpt("a\n", "z", None)


@pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{path.name}: {target}"


@pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_dollar_amount_is_never_in_double_quotes(path: Path) -> None:
    """A shell would read "$1.40" as the variable 1 and ".40"."""
    assert not re.search(r'="\$\d', path.read_text(encoding="utf-8")), path.name


def test_every_page_has_its_place_on_the_site() -> None:
    """The navigation of mkdocs.yml names each page of docs/ and notebook once, and nothing that is not there."""
    import yaml

    site = _module("build_site")

    def leaves(node: object) -> list[str]:
        if isinstance(node, list):
            return [leaf for item in node for leaf in leaves(item)]
        return leaves(list(node.values())) if isinstance(node, dict) else [str(node)]

    named = leaves(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    pages = [*PAGES, *(ROOT / "docs" / "notebooks").glob("*.ipynb")]
    stands = {site.place(p).as_posix() for p in pages if p.parent != ROOT or p.name in site.RENAMED}
    assert sorted(named) == sorted(stands)


def test_the_python_reference_has_every_public_name() -> None:
    """The site puts a section for each name of the package where docs/read/api.md has its mark."""
    import mowich

    site = _module("build_site")
    said = re.findall(r"^::: mowich\.(\w+)$", site.reference(), re.MULTILINE)
    assert sorted(said) == sorted(name for name in mowich.__all__ if not name.startswith("_"))
    assert len(site.API_HERE.findall((ROOT / "docs" / "read" / site.API_PAGE).read_text(encoding="utf-8"))) == 1


def test_docstrings_become_markdown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The site's reader of docstrings is not installed here; its class is not needed for the text."""
    monkeypatch.setitem(sys.modules, "griffe", ModuleType("griffe"))
    for name in ("Extension", "Object"):
        setattr(sys.modules["griffe"], name, object)
    text = """What it does.

    Args:
        first: a name,
            or a file.
        second: {"tokens": "1T"}.

    Returns: a thing: `.rows`.
    Units: SI.

    Example:
        >>> import mowich
        >>> 1 + 1  # doctest: +SKIP
        2
    """
    assert _module("doctest_fences").as_markdown(text) == (
        'What it does.\n\n**Arguments**\n\n- `first`: a name, or a file.\n- `second`: {"tokens": "1T"}.\n\n'
        "**Returns** a thing: `.rows`.\n\n\n**Units** SI.\n\n"
        "**Example**\n\n```pycon\n>>> import mowich\n>>> 1 + 1\n2\n```\n"
    )
