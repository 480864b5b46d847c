"""What a mask of attention shows: all, the past, a window or chunks of the past; anything else is a dense mask."""

from __future__ import annotations

from collections.abc import Sequence


def mask_kind(visible: Sequence[Sequence[bool]]) -> dict[str, object]:
    """Attributes of the core with this mask, rows are queries; none where every key is seen. Queries are the last of
    the keys, as in decoding with a cache.

    >>> mask_kind([[True, False], [True, True]])
    {'causal': True}
    >>> mask_kind([[True, False, False], [True, True, False], [False, True, True]])
    {'causal': True, 'window': 2}
    >>> mask_kind([[True, True], [True, False]])
    {'masked': True}
    """
    queries, keys = len(visible), len(visible[0])
    before = keys - queries
    spans = []
    for row in visible:
        seen = sum(row)
        first = row.index(True) if seen else 0
        if seen == 0 or not all(row[first : first + seen]):
            return {"masked": True}
        spans.append((first, first + seen))
    if all(span == (0, keys) for span in spans):
        return {}
    if not all(end == before + query + 1 for query, (_, end) in enumerate(spans)):
        return {"masked": True}
    if all(first == 0 for first, _ in spans):
        return {"causal": True}
    window = max(end - first for first, end in spans)
    if all(first == max(0, end - window) for first, end in spans):
        return {"causal": True, "window": window}
    if all(first == (end - 1) // window * window for first, end in spans):
        return {"causal": True, "window": window, "chunked": True}
    return {"masked": True}
