"""A file of facts to fill in: one chip and the machine that is made of it, or a machine of a chip that is there.

Every line that is needed stands there with its unit, an example of the family, and what may stay unknown. What the
family says already (latencies, the share of the network that is reached) is a reference to it. A line that is still to
be filled holds `FILL`, which `mowich facts check` refuses, all such lines in one run.
"""

from __future__ import annotations

from collections.abc import Iterator

from mowich.errors import UserError, unknown
from mowich.facts.load import Facts
from mowich.facts.schema import Fact

FILL = "FILL"
"""Stands where a number is to be written."""

PRECISION_WORDS = {
    "fp8": "one scale a tensor",
    "mxfp8": "blocks of 32",
    "nvfp4": "blocks of 16",
    "mxfp4": "blocks of 32",
}
_NETWORKS = {
    "AWS": "neuron_efa",
    "Google": "jupiter",
    "NVIDIA": "infiniband",
}
_OTHER_NETWORK = "ethernet"
"""Vendor of a chip -> the group of `networks.collectives.scale_out` that its machines have."""


def families(facts: Facts) -> tuple[str, ...]:
    """Families of chips whose measured efficiencies a new chip may have."""
    collectives = set(facts.children("networks.collectives")) - set(facts.ids("chips"))
    return tuple(f for f in facts.ids("devices") if f in collectives and facts.leaf(f"networks.collectives.{f}.step"))


def chips_of(facts: Facts, family: str) -> tuple[str, ...]:
    """Chips of a family that machines are made of."""
    used = {str(facts.meta("systems", one).get("chip")) for one in facts.ids("systems")}
    return tuple(c for c in facts.ids("chips") if c in used and facts.meta("chips", c).get("family") == family)


def chip_skeleton(facts: Facts, name: str, family: str) -> str:
    """A file with a chip, its machine and its price, as YAML. Raises UserError for a family that is not known, and for
    a name that is taken."""
    _free(facts, name, ("chips", "systems"))
    alike = _alike(facts, family)
    head = f"""\
# {name}: a chip of your own, and the machine that is made of it. Write a number for each {FILL}, then:
#   mowich facts check --facts {name}.yaml
#   mowich compare llama-3.1-8b --serve --isl 1k --osl 1k --on {name},trn3 --facts {name}.yaml
# A value is a number with its unit, in one string. Where you know a range: low and high beside it. Your own are of
# grade user. What you do not know is {{value: null, unit: ..., reason: ...}}, where a line allows it.
# Software: as measured on the family '{family}' ({", ".join(chips_of(facts, family))}). Other families:
#   {", ".join(f for f in families(facts) if f != family)}.
chips:
  {name}:
    id: {name}
    name: {name}
    vendor: {facts.meta("chips", alike)["vendor"]}  # whose software it runs (mowich facts list vendors), or a new name
    family: {family}"""
    lines = [
        head,
        "    peak_dense:  # of the whole chip, without sparsity",
        _line(facts, alike, "peak_dense.bf16", "TFLOP/s", "needed"),
        *(
            _line(facts, alike, f"peak_dense.{precision}", "TFLOP/s", f"{words}; may be null")
            for precision, words in PRECISION_WORDS.items()
        ),
        "    memory:",
        _line(facts, alike, "memory.hbm_capacity", "GB", "as sold; GB and GiB differ"),
        _line(facts, alike, "memory.hbm_usable", "MiB", "what the driver leaves to a program"),
        _line(facts, alike, "memory.hbm_bandwidth", "TB/s", "needed"),
        "    scale_up:",
        _line(facts, alike, "scale_up.bandwidth_per_direction", "GB/s", "links to other chips, one way, all together"),
        "    scale_out:",
        _line(facts, alike, "scale_out.bandwidth_per_direction", "GB/s", "network cards, one way"),
        "    power:",
        _line(facts, alike, "power.tdp", "W", "of the package; may be null"),
        _line(facts, alike, "power.all_in", "W", "with its share of the server; may be null: no energy then"),
        f"    devices_per_chip: {{value: {_number(facts, alike)}, grade: user}}  # that software sees in one package",
        *_system(facts, name, name, family, alike),
    ]
    return "\n".join(lines) + "\n"


def system_skeleton(facts: Facts, name: str, chip: str) -> str:
    """A file with a machine of a chip that is there, as YAML. Raises UserError for a chip that is not, and for a name
    that is taken."""
    _free(facts, name, ("systems",))
    if chip not in facts.ids("chips"):
        raise unknown("chip", chip, facts.ids("chips"), field="chip")
    family = facts.meta("chips", chip).get("family")
    if not family:
        raise UserError(f"'{chip}' has facts and no family", field="chip", fix=f"mowich facts show {chip}")
    lines = [
        f"# {name}: a machine of your own, of chips '{chip}'. Write a number for each {FILL}, then:",
        f"#   mowich facts check --facts {name}.yaml",
        *_system(facts, name, chip, str(family), chip),
    ]
    return "\n".join(lines) + "\n"


def _free(facts: Facts, name: str, kinds: tuple[str, ...]) -> None:
    taken = [kind for kind in kinds if name in facts.ids(kind)]
    if taken or name.casefold() in facts.instances():
        raise UserError(
            f"'{name}' is there already ({', '.join(taken) or 'an instance'})",
            field="name",
            fix="take another name; a variant needs only what differs: mowich help how-to",
        )


def _alike(facts: Facts, family: str) -> str:
    """A chip of the family whose numbers are the examples: the last that ships."""
    if family not in families(facts):
        raise unknown("family", family, families(facts), field="family")
    found = chips_of(facts, family)
    if not found:
        raise UserError(f"no machine has a chip of the family '{family}'", field="family", allowed=families(facts))
    return found[-1]


def _example(fact: Fact | None, alike: str) -> str:
    known = fact is not None and fact.value is not None
    return f"; {alike}: {fact.as_written}" if known and fact is not None else ""


def _line(facts: Facts, alike: str, field: str, unit: str, words: str) -> str:
    """One fact to fill in. Where it may be null and the family's chip has none, it is null already."""
    fact = _link(facts, alike) if field.startswith("scale_up.") else facts.get(f"chips.{alike}.{field}")
    start = f"      {field.rsplit('.', 1)[1]}"
    if "may be null" in words and (fact is None or fact.value is None):
        said = f"{words.split(';')[0]}; unknown for {alike} too"
        return f'{start}: {{value: null, unit: "{unit}", reason: "not supported, or no source states it"}}  # {said}'
    return f'{start}: {{value: "{FILL} {unit}", grade: user}}  # {words}{_example(fact, alike)}'


def _number(facts: Facts, alike: str) -> str:
    """Devices of a chip of the family."""
    return f"{facts.number(f'chips.{alike}.devices_per_chip'):g}"


def _machine_of(facts: Facts, chip: str) -> str:
    """The largest machine that ships of a chip; "" where there is none."""
    own = [s for s in facts.ids("systems") if facts.meta("systems", s).get("chip") == chip]
    sized = [(facts.number(f"systems.{s}.chips_per_unit"), s) for s in own if facts.paths(f"systems.{s}.levels")]
    return max(sized)[1] if sized else ""


def _inner(facts: Facts, machine: str) -> str:
    """Path of the innermost level between chips of a machine; "" where its chips meet in the network alone."""
    at = f"systems.{machine}.levels"
    found = [key for key in facts.children(at) if key not in ("chip", "scale_out")] if machine else []
    return f"{at}.{found[0]}" if found else ""


def _link(facts: Facts, chip: str) -> Fact | None:
    """What a chip's links carry, as the example."""
    inner = _inner(facts, _machine_of(facts, chip))
    return facts.get(f"{inner}.bandwidth") if inner else None


def _system(facts: Facts, name: str, chip: str, family: str, alike: str) -> Iterator[str]:
    """The machine and its price."""
    vendor = str(facts.meta("chips", alike)["vendor"])
    network = f"networks.collectives.scale_out.{_NETWORKS.get(vendor, _OTHER_NETWORK)}"
    own = _machine_of(facts, alike)
    inner = _inner(facts, own)
    scale_up = f"{{ref: chips.{chip}.scale_up.bandwidth_per_direction}}"
    if chip == alike:
        scale_up = f"{{ref: {inner}.bandwidth}}" if inner else f'{{value: "{FILL} GB/s", grade: user}}  # one way'
    yield "systems:"
    yield f"  {name}:"
    yield f"    id: {name}"
    yield f"    display: {name}"
    yield f"    chip: {chip}"
    yield f"    vendor: {vendor}"
    for field, words in (
        ("chips_per_unit", "chips that scale-up links join"),
        ("chips_per_server", "chips that fail with one host"),
        ("max_chips", "the most that the network joins"),
    ):
        seen = facts.get(f"systems.{own}.{field}") if own else None
        yield f"    {field}: {{value: {FILL}, grade: user}}  # {words}{_example(seen, own)}"
    yield "    levels:  # innermost first; one entry for each kind of link: tutorial, part 6"
    if facts.paths(f"systems.{own}.levels.chip"):
        yield f"      chip:  # the {_number(facts, alike)} devices of one package"
        yield "        kind: {text: links, grade: user}"
        yield "        chips: {value: 1, grade: user}"
        yield f"        bandwidth: {{ref: systems.{own}.levels.chip.bandwidth}}  # or your own, as in value: 2 TB/s"
        yield f"        latency: {{ref: networks.collectives.{family}.step}}"
    yield "      domain:"
    yield "        kind: {text: switch, grade: user}  # switch, ring, torus2d, torus3d, mesh or links"
    yield f"        chips: {{ref: systems.{name}.chips_per_unit}}"
    yield f"        bandwidth: {scale_up}"
    yield f"        latency: {{ref: networks.collectives.{family}.step}}"
    yield "      scale_out:  # the last one, always"
    yield "        kind: {text: network, grade: user}"
    yield f"        bandwidth: {{ref: chips.{chip}.scale_out.bandwidth_per_direction}}"
    yield f"        latency: {{ref: {network}.step}}  # or your own, as in value: 30 us"
    yield f"        efficiency: {{ref: {network}.efficiency}}"
    price = '{value: null, unit: "$/chip/h", reason: "no price known"}'
    yield "prices:"
    yield "  user:"
    yield f'    {name}: {price}  # or {{value: "$2.10/chip/h", grade: user}}'
