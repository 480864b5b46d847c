"""The shipped facts of the tests: one object, so that what one test made of them serves the next, as in
`mowich web`."""

from __future__ import annotations

from mowich.facts import Facts, overlay

fresh_facts = overlay.shipped_facts
"""Facts of one's own: for a test that replaces code, or counts what is made."""

SHARED_FACTS: Facts = fresh_facts()
