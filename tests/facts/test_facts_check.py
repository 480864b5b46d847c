"""The fact check: what ships passes it, and each rule fails a file that breaks it. Overlays: what a user may add, and
the errors."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from mowich.errors import UserError, UserErrors
from mowich.facts import Facts, entries, load_facts
from mowich.facts.check import audit, check_files, field_name
from mowich.facts.load import FACT_KINDS, shipped_folder
from mowich.facts.schema import Fact
from mowich.units import Quantity, parse


def fact_files(root: Path) -> dict[Path, bytes]:
    """Path below a folder of facts -> what the file holds."""
    found = [root / "sources.yaml", root / "aliases.yaml", *(f for kind in FACT_KINDS for f in (root / kind).iterdir())]
    return {
        file.relative_to(root): file.read_bytes()
        for file in found
        if file.suffix in (".yaml", ".csv") and file.exists()
    }


@pytest.fixture(scope="module")
def shipped() -> dict[Path, bytes]:
    return fact_files(shipped_folder())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("facts")
    for kind in FACT_KINDS:
        (root / kind).mkdir()
    return root


@pytest.fixture
def copy(folder: Path, shipped: dict[Path, bytes]) -> Path:
    """A directory with the shipped facts, to be broken. What the last test left as it was is not written again, and so
    not parsed again."""
    held = fact_files(folder)
    for path in {*held, *shipped}:
        if path not in shipped:
            (folder / path).unlink()
        elif held.get(path) != shipped[path]:
            (folder / path).write_bytes(shipped[path])
    return folder


def problems(root: Path) -> str:
    return "\n".join(e.line() for e in check_files(root, Facts((root,), {}, {}, {})))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_shipped_facts_pass() -> None:
    assert [e.line() for e in check_files(shipped_folder(), load_facts())] == []


@pytest.mark.share(2)
@pytest.mark.parametrize(
    ("file", "old", "new", "problem"),
    [
        ("chips/trainium3.yaml", 'hbm_capacity: {value: "144 GiB"', "hbm_capacity: {value: 144", "144 has no unit"),
        ("chips/trainium3.yaml", "source: trn3,", "source: trn33,", "cites 'trn33'"),
        ("chips/trainium3.yaml", 'locator: "trainium3.rst: dense peak, BF16"', 'locator: ""', "has no locator"),
        ("chips/trainium3.yaml", 'low: "700 W"', 'low: "500 W"', "not the geometric mean"),
        (
            "chips/trainium3.yaml",
            ', reason: "AWS publishes no TDP',
            ', note: "AWS publishes no TDP',
            "unknown, without a reason",
        ),
        (
            "chips/trainium3.yaml",
            'bf16: {value: "',
            'bf16: {value: "9',
            "is above the peak of fp8, which has fewer bits",
        ),
        ("chips/gb300.yaml", '{ref: "chips.gb300.peak_dense.fp8"}', '{ref: "chips.gb300.fp8"}', "does not exist"),
        ("chips/gb300.yaml", "family:", "famly:", "did you mean 'family'"),
        ("systems/gb300.yaml", 'kind: {text: "switch"', 'kind: {text: "swich"', "not one of"),
        ("systems/gb300.yaml", "max_chips:", "max_chip:", "lacks systems.gb300.max_chips"),
        ("serving/vllm.yaml", "version:", "versions:", "lacks serving.vllm.version"),
        ("serving/sglang.yaml", "released:", "out:", "lacks serving.sglang.released"),
        ("serving/trtllm.yaml", 'released: {text: "20', 'released: {text: "in 20', "not a date as 2026-06"),
        ("serving/vllm-neuron.yaml", 'hand_tuned: {text: "', 'hand_tuned: {text: "x', "which is no engine"),
        ("training/megatron.yaml", "released:", "out:", "lacks training.megatron.released"),
        (
            "training/megatron.yaml",
            'version: {text: "Megatron-Core and Megatron-Bridge 26.06"',
            "version: {value: 26.06, note: x",
            "not a text",
        ),
        ("aliases.yaml", '"tpu7x"', '"trn3"', "'trn3' names both"),
    ],
)
def test_each_rule(copy: Path, file: str, old: str, new: str, problem: str) -> None:
    edit(copy / file, old, new)
    assert problem in problems(copy)


def test_problems_name_file_and_line(copy: Path) -> None:
    file = copy / "chips" / "trainium3.yaml"
    edit(file, "source: trn3,", "source: trn33,")
    line = 1 + next(i for i, text in enumerate(file.read_text().splitlines()) if "trn33" in text)
    assert f"trainium3.yaml:{line} peak_dense.bf16: cites" in problems(copy)


# ---- claims and the facts of the machines that they are about

NAMED = (
    '  Memory_capacity_vs_Trainium3:\n    title: "Memory of a chip, Trainium 4 over Trainium 3"\n    topic: memory\n'
)
MEMORY = f'{NAMED}    published: {{ref: "chips.trainium4.relative_to_trainium3.memory_capacity"}}'
TEXT = 'source: nand, locator: "a page", date: "2025-12", grade: B'


@pytest.mark.share(3)
@pytest.mark.parametrize(
    ("file", "old", "new", "problem"),
    [
        (
            "trainium4",
            MEMORY,
            f'{NAMED}    published: {{value: null, unit: "x", reason: "not found"}}',
            "is unknown, but chips.trainium4.relative_to_trainium3.memory_capacity states 2 x",
        ),
        (
            "trainium4",
            MEMORY,
            f'{NAMED}    published: {{value: "2 x", {TEXT}}}',
            "write {ref: chips.trainium4.relative_to_trainium3.memory_capacity}",
        ),
        (
            "trainium4",
            '{ref: "chips.trainium4.relative_to_trainium3.fp4"}',
            f'{{text: ">=5 x", {TEXT}}}',
            "and chips.trainium4.relative_to_trainium3.fp4 states >=6 x",
        ),
        ("ironwood", '{ref: "systems.ironwood.v7_fp8"}', f'{{value: "42 EFLOP/s", {TEXT}}}', "states 42.5 EFLOP/s"),
        (
            "trainium3-reinvent-2025",
            '{ref: "systems.trn3-gen2.max_chips"}',
            f"{{value: 1000000, {TEXT}}}",
            "states 1000000",
        ),
        ("gb300", '"1.1 EFLOP/s"', '"1.2 EFLOP/s"', "is 1.2 EFLOP/s, but systems.gb300.fp4_dense states 1080 PFLOP/s"),
        (
            "gb300",
            'published: {value: "1.1 EFLOP/s"',
            'published: {value: null, unit: "EFLOP/s", reason: "not found"}\n    former: {value: "1.1 EFLOP/s"',
            "is unknown, but systems.gb300.fp4_dense states",
        ),
        ("gb300", '    states: {ref: "systems.gb300.fp4_dense"}\n', "", "or name it in `states`"),
        (
            "trainium3-reinvent-2025",
            "    explained: ",
            "    beside: ",
            "is 20.7 TB, but systems.trn3-gen2.device_memory states 20736 GiB, and no `explained` says why",
        ),
        ("trainium4", NAMED, "  Memory_capacity_vs_Trainium3:\n    topic: memory\n", "has no title"),
        ("trainium4", "    topic: memory\n", "    topic: money\n", "its topic is 'money', not one of price, memory"),
        ("trainium4", "about: [chips.trainium4, systems.trn4]\n", "", "about: names no chip or system"),
        ("trainium4", "systems.trn4]", "systems.trn5]", "that has facts: 'systems.trn5'"),
    ],
)
def test_a_claim_cannot_contradict_the_fact_that_it_is_about(
    copy: Path, file: str, old: str, new: str, problem: str
) -> None:
    """Not known where a machine's file knows it, a second copy, another number: each is an error with the line."""
    edit(copy / "claims" / f"{file}.yaml", old, new)
    found = [e.line() for e in audit(copy, Facts((copy,), {}, {}, {}))]
    assert any(problem in line for line in found), found
    assert f"claims/{file}.yaml:" in "\n".join(found)


def test_rounding_decides_whether_two_texts_agree() -> None:
    """Over random numbers: a fact agrees with its own rounding, and not with one that is a unit of the last digit
    away."""
    draw = random.Random(7)
    for _ in range(2000):
        digits, scale = draw.randint(0, 3), draw.choice(["TB", "GB/s", "PFLOP/s", "x", "%"])
        value = draw.uniform(0.1, 999.0)
        rounded = round(value, digits)
        unit, step = parse(f"1 {scale}"), 10.0**-digits

        def fact(number: float, shown: str, unit: Quantity = unit) -> Fact:
            return Fact(path="p", value=number * unit.value, unit=unit.unit, shown=shown)

        mine = fact(rounded, f"{rounded:.{digits}f} {scale}")
        off = fact(rounded + step, f"{rounded + step:.{digits}f} {scale}")
        theirs = fact(value, f"{value!r} {scale}")
        assert entries.agree(mine, theirs)
        assert not entries.agree(off, theirs) or abs(value - rounded) > 0.4999 * step


def test_orphan_sources_are_found(copy: Path) -> None:
    (copy / "sources.yaml").write_text((copy / "sources.yaml").read_text() + "nobody: {title: x, looked: 2026-11-27}\n")
    assert [e.what for e in audit(copy, Facts((copy,), {}, {}, {}))] == ["source 'nobody' is cited by no fact"]


def test_field_names() -> None:
    assert field_name("systems.trn2.levels.server.bandwidth") == "levels.*.bandwidth"
    assert field_name("chips.x.memory.hbm_usable") == "memory.hbm_usable"


# ---- overlays


def overlay(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / (name.replace("__", "/") + ".yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def complaint(root: Path) -> str:
    with pytest.raises(UserError) as error:
        load_facts([root])
    return error.value.line()


def test_an_overlay_replaces_a_leaf_and_keeps_the_rest(tmp_path: Path) -> None:
    facts = load_facts([overlay(tmp_path, chips__h100_sxm='memory:\n  hbm_usable: {value: "78 GiB", grade: user}\n')])
    assert facts.number("chips.h100_sxm.memory.hbm_usable") == 78 * 2**30
    assert facts.number("chips.h100_sxm.memory.hbm_bandwidth") == 3.35e12


def test_an_overlay_adds_a_chip_a_system_and_a_name(tmp_path: Path) -> None:
    chip = (shipped_folder() / "chips" / "h100_sxm.yaml").read_text().replace("h100_sxm", "mine")
    system = (shipped_folder() / "systems" / "h100.yaml").read_text().replace("h100_sxm", "mine")
    names = 'my-rack: {display: "My rack", chip: mine, aliases: [mr]}\ntrn3-gen2: {aliases: [our-trn3]}\n'
    facts = load_facts([overlay(tmp_path, chips__mine=chip, **{"systems__my-rack": system}, aliases=names)])
    assert facts.resolve_system("mr") == "my-rack"
    assert facts.resolve_system("our-trn3") == facts.resolve_system("trn3") == "trn3-gen2"
    assert facts.number("systems.my-rack.levels.domain.bandwidth") == 4.5e11
    assert "my-rack" in facts.ids("systems")


def test_a_missing_unit_names_file_and_line(tmp_path: Path) -> None:
    text = complaint(overlay(tmp_path, chips__h100_sxm="memory:\n  hbm_usable: {value: 80, grade: user}\n"))
    assert "h100_sxm.yaml:2 memory.hbm_usable: 80 has no unit" in text
    assert 'write "80 GiB" or "80 GB"' in text


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        (
            {"chips__h100_sxm": 'memory:\n  hbm_usabel: {value: "1 GB"}\n'},
            "did you mean 'chips.h100_sxm.memory.hbm_usable'",
        ),
        ({"chips__h100_sxm": 'memory:\n  hbm_usable: {value: "1 GB", sorce: me}\n'}, "did you mean 'source'"),
        ({"chips__h100_sxm": "power:\n  tdp: 700\n"}, 'yaml:2 power.tdp: 700 has no unit; write {value: "700 W"'),
        ({"chips__h100_sxm": "memory:\n  hbm_usable: {value: '1 GB/s'}\n"}, "measures B/s"),
        ({"chips__h100_sxm": "memory: [\n"}, "not YAML"),
        ({"chips__mine": "memory:\n  hbm_usabel: {value: '1 GB'}\n"}, "did you mean 'memory.hbm_usable'"),
        ({"systems__mine": "display: Mine\nchip: h100\n"}, "its chip 'h100' has no file"),
        ({"systems__mine": "display: Mine\nchip: h100_sxm\n"}, "lacks systems.mine.max_chips"),
        ({"prices__user": "trn3-gen3: {value: '$1/chip/h'}\n"}, "did you mean 'trn3-gen2'"),
        ({"aliases": "trn3-gen2: {alias: [x]}\n"}, "did you mean 'aliases'"),
        ({"aliases": "trn2: {aliases: [x]}\ntrn3-gen2: 3\n"}, "aliases.yaml:2: trn3-gen2 is a mapping, got 3"),
        ({"sources": "mine: {title: x}\nyours: 3\n"}, "sources.yaml:2: yours is a mapping, got 3"),
        ({"chips__h100_sxm": "power:\n  tdp: {ref: chips.h100_sxm.power.tdp}\n"}, "round in a circle"),
        ({"chips__h100_sxm": "power:\n  tdp: {ref: chips.h100_sxm.power.tpd}\n"}, "does not exist"),
        ({"chip__mine": "x: 1\n"}, "did you mean 'chips'"),
        ({"prices": "x: 1\n"}, "not a file of facts"),
    ],
)
def test_overlay_errors(tmp_path: Path, files: dict[str, str], problem: str) -> None:
    assert problem in complaint(overlay(tmp_path, **files))


def test_names_of_a_system_are_a_list(tmp_path: Path) -> None:
    facts = Facts((shipped_folder(), overlay(tmp_path, aliases="trn3-gen2:\n  in_data: 3\n")), {}, {}, {})
    with pytest.raises(UserError, match=r"aliases\.yaml:2: in_data is a list of names, got 3"):
        facts.resolve_system("trn3")


def test_all_problems_of_an_overlay_at_once(tmp_path: Path) -> None:
    root = overlay(tmp_path, chips__h100_sxm="memory:\n  hbm_usable: {value: 80}\n  hbm_bandwidth: {value: 3}\n")
    with pytest.raises(UserErrors) as error:
        load_facts([root])
    assert len(error.value.errors) == 2


def test_a_missing_directory(tmp_path: Path) -> None:
    assert "no such directory" in complaint(tmp_path / "nowhere")
