"""What the server counts of itself, as Prometheus reads it: no address, no query and no body is in it."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping

Labels = tuple[tuple[str, str], ...]
Samples = Iterable[tuple[Labels, float]]

BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
"""Upper ends of the parts of the histogram of seconds."""

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"))


class Metrics:
    """Counts of requests, and whatever is read at the moment of asking."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, int]] = Counter()
        """(method, route, status) -> requests. Routes are those of the application: no client makes new ones."""
        self._parts: dict[str, list[int]] = {}
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._read: list[tuple[str, str, str, Callable[[], Samples]]] = []

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request that has ended. status 499: its client went away first."""
        self.requests[method if method in _METHODS else "other", route, status] += 1
        parts = self._parts.setdefault(route, [0] * (len(BOUNDS_S) + 1))
        parts[bisect_left(BOUNDS_S, seconds)] += 1
        self._sums[route] += seconds

    def read(self, name: str, kind: str, about: str, samples: Callable[[], Samples]) -> None:
        """A number that is asked for when the metrics are."""
        self._read.append((name, kind, about, samples))

    def text(self) -> str:
        """All of it in the text format of Prometheus."""
        out: list[str] = []

        def head(name: str, kind: str, about: str) -> None:
            out.extend((f"# HELP {name} {about}", f"# TYPE {name} {kind}"))

        head("mowich_requests_total", "counter", "Requests by route and status; 499: the client went away first.")
        for (method, route, status), n in sorted(self.requests.items()):
            out.append(_line("mowich_requests_total", {"method": method, "route": route, "status": str(status)}, n))
        name = "mowich_request_seconds"
        head(name, "histogram", "Seconds from the head of a request to the end of its answer.")
        for route, parts in sorted(self._parts.items()):
            below = 0
            for bound, n in zip((*BOUNDS_S, None), parts, strict=True):
                below += n
                le = "+Inf" if bound is None else f"{bound:g}"
                out.append(_line(f"{name}_bucket", {"route": route, "le": le}, below))
            out.append(_line(f"{name}_sum", {"route": route}, self._sums[route]))
            out.append(_line(f"{name}_count", {"route": route}, below))
        for name, kind, about, samples in self._read:
            head(name, kind, about)
            out.extend(_line(name, dict(labels), value) for labels, value in samples())
        return "\n".join(out) + "\n"


def _line(name: str, labels: Mapping[str, str], value: float) -> str:
    said = ",".join(f'{k}="{_escaped(v)}"' for k, v in labels.items())
    return f"{name}{{{said}}} {value!r}" if said else f"{name} {value!r}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
