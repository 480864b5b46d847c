"""What a field of the facts may hold: one table, and the same words from a file, from --set and from Python."""

from __future__ import annotations

import math
import random
import re
from pathlib import Path
from zlib import crc32

import pytest
import yaml

import mowich
from mowich.cli import run
from mowich.errors import UserError, UserErrors
from mowich.facts import Facts, Watched, fields, load_facts
from mowich.facts.load import FACT_KINDS
from mowich.facts.schema import check_fact
from mowich.requests.settings import read_value
from mowich.units import UNITS, parse

FACTS = load_facts()
TRN3 = "chips.trainium3"
BOX = "systems.trn3-gen2"
SCALES = {q.unit: (name, q.value) for name, q in UNITS.items() if q.value == 1.0 or q.unit in ("USD/chip/s", "USD/J")}
"""SI unit -> a unit that files can hold, and its size."""


def numbers() -> dict[str, str]:
    """Path -> SI unit of every fact that ships and is a number, or has a unit."""
    paths = (p for kind in FACT_KINDS for name in FACTS.ids(kind) for p in FACTS.paths(f"{kind}.{name}"))
    found = {p: FACTS.fact(p) for p in paths}
    return {p: f.unit for p, f in found.items() if f.unit != "text" and (f.unit or f.value is not None)}


def overlaid(folder: Path, path: str, written: str) -> Facts:
    """The facts with one leaf written into a directory of the user's."""
    kind, name, *keys = path.split(".")
    (folder / kind).mkdir(parents=True, exist_ok=True)
    text = "".join(f"{'  ' * i}'{key}':\n" for i, key in enumerate(keys[:-1])) + "  " * (len(keys) - 1)
    (folder / kind / f"{name}.yaml").write_text(f"{text}'{keys[-1]}': {{value: {written}, grade: user}}\n")
    return load_facts([folder])


def in_yaml(number: float) -> str:
    """A number as YAML reads it back (1e+30 would be a text)."""
    return yaml.safe_dump(number).split()[0]


def refusal(call: object) -> str | None:
    """The words of a refusal without its place; None where nothing is refused."""
    try:
        call()  # type: ignore[operator]
    except UserErrors as errors:
        return errors.line()  # one mistake has one refusal: equal to no other
    except UserError as error:
        return error.line().removeprefix(f"{error.where}: ")
    return None


def every_way(folder: Path, path: str, written: str, value: float, *, bare: bool) -> list[str | None]:
    """What Python, the command line and a file say to one value: SI, and as it is written; bare: without a unit."""
    return [
        refusal(lambda: FACTS.with_values({path: value})),
        refusal(lambda: FACTS.with_values(dict([read_value(FACTS, path, written, where="--set")]))),
        refusal(lambda: overlaid(folder, path, in_yaml(value) if bare else f'"{written}"')),
    ]


@pytest.mark.parametrize("chip", [c for c in FACTS.ids("chips") if FACTS.get(f"chips.{c}.memory.hbm_usable")])
def test_what_is_usable_of_a_memory_follows_its_capacity(chip: str) -> None:
    """One number says how much memory a chip has, with --set as with a file: the usable share and its range stay."""
    usable, capacity = (f"chips.{chip}.memory.{name}" for name in ("hbm_usable", "hbm_capacity"))
    before, size = FACTS.fact(usable), FACTS.number(capacity)
    twice = FACTS.with_values({capacity: 8.0 * size}).with_values({capacity: 2.0 * size})
    after = twice.fact(usable)
    most = before.high and min(before.high, max(float(before.value or 0), size))
    for now, was in ((after.value, before.value), (after.low, before.low), (after.high, most)):
        assert now == (was and pytest.approx(2.0 * was))
    assert after.formula
    assert refusal(lambda: twice.with_values({usable: 1.9 * size})) is None
    with pytest.raises(UserError, match=f"{usable}: hbm_usable is more than hbm_capacity"):
        FACTS.with_values({usable: 1.1 * (FACTS.fact(capacity).high or size)})
    with pytest.raises(UserError, match=f"{capacity}: hbm_usable is more than hbm_capacity"):
        FACTS.with_values({usable: 0.9 * size}).with_values({capacity: 0.8 * size})


def test_what_is_usable_follows_the_capacity_of_a_file(tmp_path: Path) -> None:
    first, second, third = (tmp_path / name for name in ("a", "b", "c"))
    for folder, line in ((first, "hbm_capacity"), (second, "hbm_usable"), (third, "hbm_capacity")):
        size = {first: "288 GiB", second: "200 GiB", third: "576 GiB"}[folder]
        (folder / "chips").mkdir(parents=True)
        (folder / "chips" / "trainium3.yaml").write_text(f'memory:\n  {line}: {{value: "{size}", grade: user}}\n')
    usable, GiB = f"{TRN3}.memory.hbm_usable", 2.0**30
    assert load_facts([first]).number(usable) == 288 * GiB
    assert load_facts([first, second]).number(usable) == 200 * GiB
    assert load_facts([first, second, third]).number(usable) == 400 * GiB
    assert load_facts([first]).with_values({f"{TRN3}.memory.hbm_capacity": GiB}).number(usable) == GiB


BAD = [
    ("prices.user.h100", "$-2.10/chip/h", "must be above 0, got '$-2.1/chip/h'"),
    ("prices.user.h100", "$0/chip/h", "must be above 0, got '$0/chip/h'"),
    ("prices.user.h100", "$1e300/chip/h", "out of range"),
    (f"{TRN3}.memory.hbm_bandwidth", "1e200 TB/s", "out of range"),
    (f"{TRN3}.memory.hbm_bandwidth", "1e300 TB/s", "not a finite number"),
    (f"{TRN3}.memory.hbm_bandwidth", "-6 TB/s", "must be above 0"),
    (f"{TRN3}.memory.hbm_bandwidth", "900 B/s", "out of range, got '900 B/s'; allowed: 1 MB/s to "),
    (f"{TRN3}.peak_dense.bf16", "1200 FLOP/s", "out of range"),
    (f"{TRN3}.power.all_in", "1 W", "out of range"),
    (f"{TRN3}.devices_per_chip", "1.5", "must be a whole number, got '1.5'"),
    (f"{TRN3}.devices_per_chip", "0", "must be at least 1"),
    (f"{TRN3}.devices_per_chip", "-1", "must be at least 1"),
    (f"{BOX}.max_chips", "1e300", "out of range"),
    (f"{BOX}.chips_per_unit", "0", "must be at least 1"),
    ("systems.h100.levels.domain.chips", "0", "must be at least 1"),
    (f"{BOX}.levels.scale_out.latency", "10 d", "out of range"),
    (f"{BOX}.levels.scale_out.latency", "-1 us", "must be at least 0"),
    ("sites.default.pue", "0.5", "out of range, got '0.5'; allowed: 1 to 10"),
    ("sites.default.pue", "-1", "must be above 0"),
    ("devices.neuroncore-v4.product_16", "1.2", "out of range, got '1.2'; allowed: above 0 to 1"),
    ("training.neuron.dp_overlap", "1.5", "out of range"),
    ("reliability.components.accelerator", "-1 1/s", "must be above 0"),
]


@pytest.mark.parametrize(("path", "written", "said"), BAD, ids=[f"{p}={w}" for p, w, _ in BAD])
def test_every_way_in_refuses_with_the_same_words(tmp_path: Path, path: str, written: str, said: str) -> None:
    unit = fields.unit_of(path, FACTS.fact(path).unit)
    value = float(written) if fields.is_plain_number(unit) else parse(written).value
    words = every_way(tmp_path, path, written, value, bare=fields.is_plain_number(unit))
    assert words[0] is not None
    assert said in words[0]
    assert words == [words[0]] * 3


@pytest.mark.parametrize(
    ("path", "written", "said"),
    [
        ("prices.user.h100", "2 W", "measures W, got '2 W'; allowed: USD/chip/s"),
        (
            "prices.user.h100",
            "$2.10/h",
            "measures USD/s, got '$2.10/h'; allowed: USD/chip/s; write it as in \"$1.40/chip/h\"",
        ),
        ("prices.user.h100", "2.10", "2.10 has no unit"),
        (f"{TRN3}.memory.hbm_bandwidth", "6 TB", "measures B, got '6 TB'"),
        (f"{TRN3}.memory.hbm_bandwidth", "6", '6 has no unit; write "6 TB/s", if that is meant'),
        (f"{TRN3}.memory.hbm_usable", "140", "they differ by 7%"),
        (f"{TRN3}.devices_per_chip", "2 W", "measures W, got '2 W'; allowed: a number without a unit"),
        ("sites.default.pue", "3 s", "measures s"),
        ("training.hopper.runtime_reserve", "3 s", "measures s, got '3 s'; allowed: B"),
        ("sites.default.electricity", "0.08 USD", "measures USD"),
        (f"{TRN3}.memory.hbm_bandwidth", "nan TB/s", "not a quantity"),
    ],
)
def test_a_file_and_the_command_line_refuse_another_unit(tmp_path: Path, path: str, written: str, said: str) -> None:
    words = [
        refusal(lambda: read_value(FACTS, path, written, where="--set")),
        refusal(lambda: overlaid(tmp_path, path, f'"{written}"')),
    ]
    assert words[0] is not None
    assert said in words[0]
    assert words[0] == words[1]


@pytest.mark.parametrize("path", ["prices.user.h100", f"{BOX}.max_chips", "sites.default.pue", f"{TRN3}.power.tdp"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, True, 10**400, None])
def test_what_is_no_number_is_refused(tmp_path: Path, path: str, value: object) -> None:
    with pytest.raises(UserError, match=r"not a (finite )?number"):
        FACTS.with_values({path: value})  # type: ignore[dict-item]
    if isinstance(value, float):
        word = {"inf": ".inf", "-inf": "-.inf", "nan": ".nan"}[str(value)]
        with pytest.raises(UserError, match="not a finite number"):
            overlaid(tmp_path, path, word)
        with pytest.raises(UserError):
            read_value(FACTS, path, str(value), where="--set")


def test_the_facts_that_ship_keep_the_table() -> None:
    for path in numbers():
        check_fact(path, FACTS.fact(path))


def test_what_one_way_in_accepts_all_accept(tmp_path: Path) -> None:
    known = numbers()
    accepted = refused = 0
    # paths and values by their names: a new fact leaves those of the others as they are. A capacity that is too small
    # is less than what is usable as well, which a file is told beside it
    fitting = [p for p in known if fields.unit_of(p, known[p]) in ("", "1", *SCALES) and not p.endswith("hbm_capacity")]
    named = sorted(fitting, key=lambda p: crc32(p.encode()))
    for case, path in enumerate(named[:150]):
        rng = random.Random(path)
        unit = fields.unit_of(path, known[path])
        middle = FACTS.fact(path).value
        value = rng.choice(
            [-1.0, 0.0, 1e-9, 0.3, 1.0, 1.5, 7.0, 1e4, 1e30, *([middle] * 3 if isinstance(middle, float) else [])]
        )
        name, scale = SCALES.get(str(unit), ("", 1.0))
        bare = fields.is_plain_number(unit)
        written = f"{value!r}" if bare else f"{value / scale!r} {name}"
        in_si = value if bare else parse(written).value
        words = set(every_way(tmp_path / str(case), path, written, in_si, bare=bare))
        assert len(words) == 1, (path, written, words)
        accepted, refused = accepted + (words == {None}), refused + (words != {None})
    assert accepted > 30
    assert refused > 30


PAGE = (Path(__file__).parents[2] / "docs" / "read" / "how-to.md").read_text(encoding="utf-8")
FILE = PAGE.split("```yaml acme.yaml\n")[1].split("```")[0]


@pytest.mark.share(2)
@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (
            "{ref: chips.acme1.scale_up.bandwidth_per_direction}",
            "{ref: chips.acme1.power.tdp}",
            "domain.bandwidth: measures W",
        ),
        ('"$2.10/chip/h"', '"2 W"', "acme: measures W"),
        ('"$2.10/chip/h"', '"$2.10/h"', "acme: measures USD/s"),
        ('"178 GiB"', '"1780 GiB"', "memory.hbm_usable: hbm_usable is more than hbm_capacity, 192 GB"),
        ("chips: {value: 16, grade", "chips: {value: 0, grade", "levels.domain.chips: must be at least 1"),
        ("max_chips: {value: 4096", "max_chips: {value: .nan", "not a finite number"),
        (
            'value: "30 us", grade: user',
            'value: "30 us", date: "2026-99-99", grade: user',
            "scale_out.latency: no day of the calendar",
        ),
        (
            'value: "900 W", grade',
            'value: "900 W", low: "1 W", high: "950 W", grade',
            "power.tdp: out of range, got '1 W'",
        ),
    ],
)
def test_a_chip_of_ones_own_is_checked_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, line: str
) -> None:
    file = tmp_path / "acme.yaml"
    file.write_text(FILE.replace(old, new, 1))
    assert run(["facts", "check", "--facts", str(file)]) == 5
    said = capsys.readouterr().err
    number = 1 + next(
        i for i, (a, b) in enumerate(zip(FILE.splitlines(), file.read_text().splitlines(), strict=True)) if a != b
    )
    assert re.search(rf"{re.escape(str(file))}:{number}[ :]", said)
    assert line in said
    assert len(said.strip().splitlines()) == 1


def test_a_price_is_never_taken_from_a_fact_of_another_unit(tmp_path: Path) -> None:
    (tmp_path / "prices").mkdir()
    (tmp_path / "prices" / "mine.yaml").write_text('offer: {value: "$2.10/h", grade: user}\n')
    (tmp_path / "prices" / "choices.yaml").write_text("h100:\n  on_demand: {text: prices.mine.offer, grade: user}\n")
    from mowich.economics.money import price

    with pytest.raises(UserError, match=r"prices\.mine\.offer: measures USD/s"):
        price(load_facts([tmp_path]), "h100", term="on-demand")


def test_a_field_holds_what_the_fact_that_it_refers_to_may_be() -> None:
    """Else a value would be good in a file, where it replaces the reference, and not with --set, which changes the fact
    itself."""
    for path in numbers():
        fact = FACTS.fact(path)
        if fact.path != path and path.startswith(("chips.", "systems.")):
            own, other = fields.field_of(path), fields.field_of(fact.path)
            assert other.low <= own.low, path
            assert other.high >= own.high, path
            assert not (other.above and not own.above and own.low == other.low), path
            assert not other.whole or own.whole, path


def test_every_unit_has_a_greatest_value() -> None:
    """Without one a slip of unit in a field of that unit would pass."""
    units = {quantity.unit for quantity in UNITS.values()} | {FACTS.fact(path).unit for path in numbers()}
    assert units <= set(fields.HIGHEST)


@pytest.mark.parametrize("on", [pytest.param("h100:64", marks=pytest.mark.slow), "trn3:64"])
def test_the_ends_of_what_a_field_may_hold_are_answered_or_refused(on: str) -> None:
    """A number that every way in accepts never ends in a bug: the step is a finite time above 0, or the plan says why
    there is none."""
    job = {"tokens": "1T", "seq": 4096, "batch": "64seqs"}
    rng = random.Random(8)
    watched = Watched(FACTS)

    def step(facts: Facts) -> float | None:
        fixed = {"tp": "8", "pp": "1"}
        return mowich.plan("llama-3.1-8b", on, train=job, top=1, facts=facts, fixed=fixed).rows[0].step_s.value

    step(watched)
    read = sorted(p for p, f in watched.read.items() if isinstance(f.value, float))
    answered = 0
    for path in rng.sample(read, 20):
        field = fields.field_of(path)
        for end in (0.0, field.low, min(field.high, fields.HIGHEST[watched.read[path].unit])):
            try:
                seconds = step(FACTS.with_values({path: end}))
            except UserError:
                continue
            answered += 1
            assert seconds is None or 0 < seconds < math.inf, path
    assert answered > 15
