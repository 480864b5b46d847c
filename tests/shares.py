"""A share of the cases of a test in every run, the others in the slow suite."""

from __future__ import annotations

from collections.abc import Iterable
from zlib import crc32

import pytest


def put_aside(items: Iterable[pytest.Item]) -> None:
    """Of the cases of a test that is marked `share(n)` one in n, chosen by hash, stays in every run; the others become
    slow. At least one stays, and a case that is asked for alone."""
    cases: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("share") and not item.get_closest_marker("slow"):
            cases.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for alike in cases.values():
        marker = alike[0].get_closest_marker("share")
        assert marker
        most = -(-len(alike) // marker.args[0])
        for item in sorted(alike, key=lambda item: (crc32(item.name.encode()), item.name))[most:]:
            item.add_marker("slow")
