"""What a vendor's machines run and how they are grouped: facts `vendors.<vendor>.*`.

What a vendor's file does not say, or a vendor without a file, is as `vendors.others` says.
"""

from __future__ import annotations

from functools import cache

from mowich.errors import UserError
from mowich.facts import Facts, load_facts

OTHERS = "others"
HAND_TUNED = "hand-tuned"
"""What a question names in the place of a stack or an engine where each machine is to run kernels written by hand, as
far as there are some; the others run what their makers ship."""


def vendor_id(vendor: str) -> str:
    """The file of a vendor's facts by the name that chips give: "AWS" -> "aws"."""
    return vendor.casefold().replace(" ", "-")


def said_of_vendor(facts: Facts, vendor: str, what: str) -> str | None:
    """What the facts say of a vendor, or of others; None where neither does."""
    for name in (vendor_id(vendor), OTHERS):
        fact = facts.get(f"vendors.{name}.{what}")
        if fact is not None and fact.value is not None:
            return str(fact.value)
    return None


def of_vendor(facts: Facts, vendor: str, what: str) -> str:
    """The same. Raises UserError where nothing says it."""
    found = said_of_vendor(facts, vendor, what)
    if found is None:
        raise UserError(f"vendors.{vendor_id(vendor)}.{what} is not known", fix="state it in a file of facts")
    return found


def software_of(facts: Facts, chip: str, vendor: str, what: str) -> str:
    """What a chip's machines run, by `what` ("training_stack", "serving_engine"): as the chip's own file says, else as
    that of its vendor. Raises UserError where nothing says it."""
    own = facts.get(f"chips.{chip}.{what}")
    return of_vendor(facts, vendor, what) if own is None else str(own.value)


def chip_of(facts: Facts, system_id: str) -> str:
    """The chip of a system."""
    return str(facts.meta("systems", system_id)["chip"])


def unmeasured(facts: Facts, system_id: str) -> dict[str, str]:
    """What facts say of a chip that nobody has published a measurement of, as "unmeasured"; empty where they say
    nothing."""
    said = facts.get(f"chips.{chip_of(facts, system_id)}.unmeasured")
    return {} if said is None else {"unmeasured": str(said.value)}


def vendor_of(facts: Facts, system_id: str) -> str:
    """Who makes the chip of a system."""
    return str(facts.meta("chips", chip_of(facts, system_id))["vendor"])


def failure_class(facts: Facts, system_id: str) -> str:
    """Whose failure rates a system has (`reliability.components`)."""
    return of_vendor(facts, vendor_of(facts, system_id), "failure_class")


def ported_stack(facts: Facts, vendor: str) -> str:
    """Software that a workload is ported to once to run on a vendor's chips: the vendor's own, unless facts say a name
    for it."""
    return said_of_vendor(facts, vendor, "ported_stack") or vendor_id(vendor)


def kernel_target(facts: Facts, chip: str) -> str | None:
    """The simulated NeuronCore that runs kernels for a chip; None where there is none."""
    fact = facts.get(f"chips.{chip}.kernel_target")
    return None if fact is None or fact.value is None else str(fact.value)


@cache
def ships_with(system_id: object, stack: object) -> bool:
    """Whether a system trains on this stack unless another is named, by the facts that ship; no system of the user's
    does."""
    facts = load_facts()
    if not isinstance(system_id, str) or system_id not in facts.ids("systems"):
        return False
    return software_of(facts, chip_of(facts, system_id), vendor_of(facts, system_id), "training_stack") == stack


def split_words(text: str) -> tuple[str, ...]:
    """ "1f1b, interleaved" -> ("1f1b", "interleaved")."""
    return tuple(word.strip() for word in text.split(",") if word.strip())
