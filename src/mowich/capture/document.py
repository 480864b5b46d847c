"""The JSON `mowich/captured@1` of a traced model: products, attention cores, experts, scans, bytes and parameters of
its layers, sizes as a + b*B + c*S + d*B*S."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, prod

from mowich.capture.dimensions import CHECKED, PROBES, Dimension, checked, fit, place, ratios
from mowich.capture.graph import PRODUCTS, Op, Trace
from mowich.capture.layers import LayerKind, generic, layout, relative
from mowich.capture.passes import Sizes, launches, moved, norms, residuals
from mowich.capture.problem import CaptureError

SCHEMA = "mowich/captured@1"
MAX_BYTES = 100_000
"""Of the file."""

KINDS = ("decoder", "encoder", "encoder-decoder", "vision-language", "speech", "diffusion", "module")

_UNKNOWN = frozenset(("aten._grouped_mm", "aten.dot"))


@dataclass(frozen=True, kw_only=True)
class About:
    """What the file says of a model beside its graph. roles: of weights by name;
    unknown: rows of what was not understood."""

    name: str
    source: str
    kind: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, object] | None = None
    latent: Mapping[str, object] | None = None
    max_seq: int | None = None
    cached: Mapping[str, int] | None = None
    notes: tuple[str, ...] = ()
    roles: Mapping[str, str] = field(default_factory=dict)
    unknown: tuple[dict[str, object], ...] = ()


@dataclass
class _Product:
    """A row of products while uses of its weight are joined. used: elements of the weight that it multiplies."""

    module: str
    weight: str | None
    name: str | None
    n: int
    k: int
    rows: Dimension
    biases: int
    times: int
    is_shared: bool


def digest(document: Mapping[str, object]) -> str:
    """SHA-256 of the canonical JSON without the key "digest".

    >>> digest({"digest": "any"}) == digest({})
    True
    """
    plain = {key: value for key, value in document.items() if key != "digest"}
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def written(document: Mapping[str, object]) -> str:
    """The text of the file.

    Raises:
        CaptureError: it is larger than `MAX_BYTES`.
    """
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=True, allow_nan=False) + "\n"
    if len(text) > MAX_BYTES:
        kinds = document.get("layers")
        raise CaptureError(
            f"the file would have {len(text):,} bytes, {len(kinds) if isinstance(kinds, list) else 0} kinds of layers",
            allowed=f"at most {MAX_BYTES:,} bytes",
            fix="capture a part of the model",
        )
    return text


def document(traces: Sequence[Trace], about: About) -> dict[str, object]:
    """The whole document from five passes, at `dimensions.PROBES` and `CHECKED`.

    Raises:
        CaptureError: a size that is no dimension, or a product that cannot be written as one.
    """
    return _Writer(traces, about).document()


class _Writer:
    def __init__(self, traces: Sequence[Trace], about: About) -> None:
        self.traces, self.about = traces, about
        self.first, self.last = traces[0], traces[-1]
        self.shapes = checked(traces)
        self.sizes = [Sizes(trace) for trace in traces]
        self.parameters = {n: prod(w.shape) for n, w in self.first.weights.items() if not w.is_buffer}
        self.layout = layout(self.first, self.shapes, self.last)
        self.notes = [*about.notes, *_far(self.last)]
        self.unknown: list[dict[str, object]] = [*about.unknown]
        self.kind = about.kind or self._kind()

    # ---- the whole

    def document(self) -> dict[str, object]:
        layers = [self._layer(kind) for kind in self.layout.kinds]
        in_layers = {name for kind in self.layout.kinds for call in kind.calls for name in self._names(kind, call)}
        rest = [name for name in self.parameters if name not in in_layers]
        embedding = [name for name in rest if name in self._embeddings()]
        seen = {name for index in self._inside() for name in self.first.ops[index].weights}
        head = self._head()
        outside = self._rows(self.layout.outside, "", rest, known=(seen & in_layers) | set(embedding), count=1)
        sums = {
            "embedding": self._count(embedding),
            "head": self._count([head]) if head and head not in embedding and head in rest else 0,
            "layers": self._count(in_layers),
        }
        total = sum(self.parameters.values())
        sums["other"] = total - sum(sums.values())
        hidden = max(
            ((self._whole(row["params"]) * len(kind.calls), self._whole(row["hidden"])))
            for row, kind in zip(layers, self.layout.kinds, strict=True)
        )[1]
        outside |= {"module": "", "class": self.first.modules.get("", ""), "params": self._count(rest)}
        outside["hidden"] = hidden
        made: dict[str, object] = {
            "schema": SCHEMA,
            "name": self.about.name,
            "source": self.about.source,
            "kind": self.kind,
            "versions": dict(self.about.versions),
            "probes": [list(sizes) for sizes in PROBES],
            "checked": list(CHECKED),
            "inputs": self._inputs(),
            "hidden": hidden,
            "vocab": self._vocab(),
            "tied": bool(head and head in embedding),
            "max_seq": self.about.max_seq,
            "params": total,
            "components": sums,
            "layers": layers,
            "pattern": list(self.layout.pattern),
            "outside": outside,
            "mtp": None,
            "latent": self.about.latent,
            "config": self.about.config,
            "reads": self._reads(),
            "not_understood": self.unknown,
            "notes": self.notes,
        }
        made["digest"] = digest(made)
        return made

    def _whole(self, value: object) -> int:
        assert isinstance(value, int)
        return value

    def _count(self, names: Sequence[str | None] | set[str]) -> int:
        return sum(self.parameters[name] for name in names if name is not None)

    def _inside(self) -> list[int]:
        return [i for kind in self.layout.kinds for call in kind.calls for i in range(call.start, call.end)]

    def _names(self, kind: LayerKind, call: object) -> tuple[str, ...]:
        """Parameters of one call of a kind: those of the first under its own module."""
        if call is kind.calls[0] or not kind.names:
            return kind.names
        module = getattr(call, "module", "")
        first = kind.calls[0].module
        return tuple(f"{module}.{relative(name, first)}" for name in kind.names)

    def _inputs(self) -> dict[str, object]:
        made: dict[str, object] = {}
        for name in self.first.input_shapes:
            shapes = [trace.input_shapes[name] for trace in self.traces]
            fits = [fit(sizes) for sizes in zip(*shapes, strict=True)]
            if None in fits:
                raise CaptureError("a size of this input is not a + b*batch + c*tokens + d*batch*tokens", where=name)
            made[name] = [list(one) for one in fits if one is not None]
        return made

    def _reads(self) -> list[dict[str, object]]:
        counts: dict[tuple[str, str, str], int] = {}
        for read in self.first.reads:
            key = (generic(read.module), read.what, read.where)
            counts[key] = counts.get(key, 0) + 1
        return [
            {"module": module, "what": what, "where": where, "count": count}
            for (module, what, where), count in counts.items()
        ]

    def _embeddings(self) -> set[str]:
        return {name for op in self.first.ops if op.name == "aten.embedding" for name in op.weights}

    def _token_table(self) -> str | None:
        """The weight that turns tokens into vectors: looked up outside of layers with an input; the largest of them."""
        inputs = set(self.first.inputs.values())
        for index in self.layout.outside:
            op = self.first.ops[index]
            if op.name in ("aten.view", "aten.slice", "aten._to_copy") and op.inputs and op.inputs[0] in inputs:
                inputs.update(op.outputs)
        lookups = [op for op in (self.first.ops[index] for index in self.layout.outside) if op.name == "aten.embedding"]
        tables = [op.weights[0] for op in lookups if op.weights and op.inputs and op.inputs[0] in inputs] or [
            op.weights[0] for op in lookups if op.weights and not op.inputs
        ]
        rows = self._last_width()
        sizes = {name: prod(self.first.weights[name].shape) for name in tables}
        heads = [name for name in tables if self.first.weights[name].shape[0] == rows]
        return max(heads or tables, key=lambda name: sizes[name]) if tables else None

    def _vocab(self) -> int:
        table = self._token_table()
        return self.first.weights[table].shape[0] if table and self._head() else 0

    def _head(self) -> str | None:
        """The weight of the last product after all layers, where it gives as much as there are tokens."""
        table, last = self._token_table(), self._last_product()
        if table is None or last is None:
            return None
        return last.weights[-1] if last.out_shapes[0][-1] == self.first.weights[table].shape[0] else None

    def _last_product(self) -> Op | None:
        """The last product after all layers that reads a weight."""
        end = max(call.end for kind in self.layout.kinds for call in kind.calls)
        after = (self.first.ops[index] for index in reversed(self.layout.outside) if index >= end)
        return next((op for op in after if op.name in PRODUCTS and op.weights), None)

    def _last_width(self) -> int:
        last = self._last_product()
        return last.out_shapes[0][-1] if last else 0

    def _kind(self) -> str:
        """What a module is by what it does: causal over tokens a decoder, else an encoder, without tokens a module."""
        if self._token_table() is None:
            return "module"
        cores = [op for op in self.last.ops if op.name == "attention"]
        causal = [bool(op.attributes.get("causal")) for op in cores]
        if all(causal) and self._head():
            return "decoder"
        return "encoder-decoder" if any(causal) and self._head() else "encoder"

    # ---- a layer

    def _layer(self, kind: LayerKind) -> dict[str, object]:
        call = kind.calls[0]
        earlier = {
            name
            for index in range(call.start)
            for name in self.first.ops[index].weights
            if name in self.parameters and name not in kind.names
        }
        row = self._rows(range(call.start, call.end), call.module, kind.names, known=earlier, count=len(kind.calls))
        return {
            "module": kind.module,
            "class": kind.class_name,
            "count": len(kind.calls),
            "params": self._count(kind.names),
            **row,
            "cached_elements": self._cached(kind, row),
        }

    def _cached(self, kind: LayerKind, row: Mapping[str, object]) -> int:
        """Elements that a token adds to the cache: as probed, else keys and values of the cached cores."""
        for call in kind.calls if self.about.cached is not None else ():
            assert self.about.cached is not None
            if call.module in self.about.cached:
                return self.about.cached[call.module]
        total = 0
        cores = row["cores"]
        assert isinstance(cores, list)
        for core in cores:
            if core["cached"]:
                latent = core["latent"]
                total += sum(latent.values()) if latent else core["kv_heads"] * (core["qk"] + core["v"])
        return total

    def _rows(
        self, indexes: Sequence[int], module: str, names: Sequence[str], *, known: set[str], count: int
    ) -> dict[str, object]:
        products: list[_Product] = []
        cores: list[dict[str, object]] = []
        experts: list[dict[str, object]] = []
        scans: list[dict[str, object]] = []
        used: dict[str, int] = dict.fromkeys(known, 2**62)
        for index in indexes:
            op = self.first.ops[index]
            if op.name in PRODUCTS:
                self._product(index, module, products, cores, used)
            elif op.name == "attention":
                cores.append(self._core(index, module))
            elif op.name == "experts":
                experts.append(self._experts(index, module))
            elif op.name == "scan":
                scans.append(self._scan(index, module))
        sums = [moved(trace, indexes, sizes) for trace, sizes in zip(self.traces, self.sizes, strict=True)]
        blocks, hidden = residuals(self.first, indexes)
        return {
            "hidden": hidden or self._width(indexes, names),
            "blocks": blocks,
            "products": [self._product_row(one) for one in products],
            "cores": _joined(cores),
            "experts": experts,
            "scans": scans,
            "moved": self._moved([one[0] for one in sums], module, "fused"),
            "moved_eager": self._moved([one[1] for one in sums], module, "eager"),
            "norms": norms(self.first, indexes),
            "launches": launches(self.first, indexes),
        } | ({"count": count, "cached_elements": 0} if not module else {})

    def _width(self, indexes: Sequence[int], names: Sequence[str]) -> int:
        """The width of what a layer without a residual sum gives: of its last output."""
        for index in reversed(indexes):
            shapes = self.first.ops[index].out_shapes
            if shapes and shapes[0]:
                return shapes[0][-1]
        return 1

    def _moved(self, values: Sequence[int], module: str, what: str) -> list[int]:
        found = ratios(values)
        if found is None:  # what grows with the square of tokens: at the probes it is exact
            note = f"elements moved ({what}) in {generic(module) or 'the model'} grow as the square of tokens"
            if note not in self.notes:
                self.notes.append(note)
            b0, s0 = PROBES[0]
            slope = (values[3] - values[2] - values[1] + values[0]) // (PROBES[1][1] - s0)
            return [0, 0, 0, max(0, slope or values[1] // (b0 * PROBES[1][1]))]
        return [ceil(one) for one in found]

    # ---- products

    def _product(
        self,
        index: int,
        module: str,
        products: list[_Product],
        cores: list[dict[str, object]],
        used: dict[str, int],
    ) -> None:
        """A product joins the rows of its layer. used: elements of each weight that rows have already."""
        op = self.first.ops[index]
        name, biases = _names(op)
        if name not in self.parameters:
            name = None
        if op.name in _UNKNOWN:
            self._say_unknown(op, "a product in groups of unknown sizes: every row is counted once")
        one = self._sized(index, module, name)
        if one is None:
            raise CaptureError(
                "rows of a product are not a + b*batch + c*tokens + d*batch*tokens in whole numbers",
                where=place(op),
                fix="let inputs(batch, tokens) count tokens where there are fewest, or fewer sizes grow with them",
            )
        if isinstance(one, dict):
            cores.append(one)
            return
        same = [p for p in products if (p.name, p.k, p.rows) == (name, one.k, one.rows)]
        again = [p for p in same if p.n == one.n and (name is not None or p.module == one.module)]
        if name is None:
            if again:
                again[0].times += 1
            else:
                products.append(one)
        elif name not in used:
            one.biases = self._biases(name, biases, one.n)
            products.append(one)
            used[name] = one.n * one.k
        elif used[name] + one.n * one.k <= self.parameters[name]:  # another part of one weight
            if same and same[0].times == 1:
                same[0].n += one.n
            else:
                products.append(one)
            used[name] += one.n * one.k
        elif again:
            again[0].times += 1
        else:
            one.is_shared = True
            one.module, one.weight = relative(op.module, module), name.rpartition(".")[2]
            products.append(one)

    def _biases(self, name: str, given: Sequence[str], width: int) -> int:
        """Elements of the bias of a weight: what its products add, else the parameter beside it."""
        added = sum(self.parameters.get(bias, 0) for bias in dict.fromkeys(given))
        beside = self.parameters.get(f"{name.removesuffix('weight')}bias", 0) if name.endswith("weight") else 0
        return added or (beside if beside in (width, self.first.weights[name].shape[0]) else 0)

    def _sized(self, index: int, module: str, name: str | None) -> _Product | dict[str, object] | None:
        """The row of one product, or the core that it is half of; None where its sizes grow with tokens too much."""
        ops = [trace.ops[index] for trace in self.traces]
        if ops[0].name == "aten.convolution":
            return self._plain(index, module, name, [(1, *_convolution(op)) for op in ops])
        shapes = [_operands(op) for op in ops]
        sizes = [_batched(*pair) for pair in shapes]
        if name is None:
            return self._between(index, module, sizes)
        if _is_left(ops[0]):
            sizes = [(batch, n, k, m) for batch, m, k, n in sizes]
        batch, _, k, n = sizes[0]
        if batch > 1 and len(shapes[0][0]) == 3 and 0 < batch * k * n <= self.parameters[name]:
            sizes = [(1, m, k, batch * n) for batch, m, k, n in sizes]  # a stack of matrices, one for each of a batch
        return self._plain(index, module, name, sizes)

    def _plain(
        self, index: int, module: str, name: str | None, sizes: Sequence[tuple[int, int, int, int]]
    ) -> _Product | None:
        """A row from (batch, m, k, n) of each pass, where k and n are the same in all."""
        if len({(k, n) for _, _, k, n in sizes}) > 1:
            return None
        rows = fit([batch * m for batch, m, _, _ in sizes])
        if rows is None:
            return None
        _, _, k, n = sizes[0]
        op = self.first.ops[index]
        path, weight = relative(op.module, module), None
        if name is not None:
            path, _, weight = relative(name, module).rpartition(".")
        return _Product(path, weight, name, n, k, rows, 0, 1, False)

    def _between(
        self, index: int, module: str, sizes: Sequence[tuple[int, int, int, int]]
    ) -> _Product | dict[str, object] | None:
        """A product of two activations: what grows with tokens becomes its rows; where two sizes do it is half of an
        attention core."""
        grows_m, grows_k, grows_n = (len({size[position] for size in sizes}) > 1 for position in (1, 2, 3))
        if not grows_k and not grows_n:
            return self._plain(index, module, None, sizes)
        if grows_k and grows_n:
            return None
        if not grows_m and sizes[0][0] == sizes[1][0]:
            turned = [(batch, n, k, m) if grows_n else (batch, k, m, n) for batch, m, k, n in sizes]
            return self._plain(index, module, None, turned)
        return self._half_core(index, module, sizes, is_scores=grows_n)

    def _half_core(
        self, index: int, module: str, sizes: Sequence[tuple[int, int, int, int]], *, is_scores: bool
    ) -> dict[str, object] | None:
        """Half of an attention core, scores or values, from (batch, m, k, n) of each pass."""
        op = self.first.ops[index]
        _, heads, k, n = sizes[0]
        sequences, queries = [size[0] for size in sizes], [size[1] for size in sizes]
        if len(set(queries)) > 1:
            heads = 1
        else:  # [batch x queries, heads, .]: each query has a product of its own
            rows, sequences = sequences, [trace.sizes[0] for trace in self.traces]
            if any(count % batch for count, batch in zip(rows, sequences, strict=True)):
                return None
            queries = [count // batch for count, batch in zip(rows, sequences, strict=True)]
        fits = [fit(sequences), fit(queries), fit([size[3 if is_scores else 2] for size in sizes])]
        if None in fits:
            return None
        return _core_row(
            relative(op.module, module),
            {
                "heads": heads,
                "kv_heads": 1,
                "qk": k if is_scores else 0,
                "v": 0 if is_scores else n,
                "eager": True,
                "causal": self.kind == "decoder",
                "cached": False,
            },
            [list(one) for one in fits if one is not None],
            self.kind,
        )

    def _product_row(self, one: _Product) -> dict[str, object]:
        role = self.about.roles.get(one.name or "", "unknown" if one.name else "replicated")
        if one.name and one.name == self._head():
            role = "vocabulary"
        return {
            "module": one.module,
            "weight": one.weight,
            "n": one.n,
            "k": one.k,
            "rows": list(one.rows),
            "role": role,
            "biases": one.biases,
            "times": one.times,
            "shared": one.is_shared,
        }

    def _say_unknown(self, op: Op, why: str) -> None:
        row: dict[str, object] = {"module": generic(op.module), "what": op.name, "why": why}
        if row not in self.unknown:
            self.unknown.append(row)

    # ---- what is taken whole

    def _fitted(self, index: int, key: str) -> Dimension:
        values = [trace.ops[index].attributes[key] for trace in self.traces]
        whole = [value for value in values if isinstance(value, int)]
        found = fit(whole) if len(whole) == len(values) else None
        if found is None:
            raise CaptureError(
                f"{key} is not a + b*batch + c*tokens + d*batch*tokens",
                where=place(self.first.ops[index]),
                given=values,
            )
        return found

    def _core(self, index: int, module: str) -> dict[str, object]:
        op = self.last.ops[index]
        sizes = [list(self._fitted(index, key)) for key in ("sequences", "queries", "keys")]
        attributes = dict(op.attributes)
        a, b, c, d = sizes[0]
        if attributes.get("heads") == 1 and not (a or c or d) and b > 1:  # [batch x heads, queries, width]
            attributes["heads"] = b
            kv_heads = attributes.get("kv_heads", 1)
            attributes["kv_heads"] = b if kv_heads == 1 else kv_heads
            sizes[0] = [0, 1, 0, 0]
        return _core_row(relative(op.module, module), attributes, sizes, self.kind)

    def _experts(self, index: int, module: str) -> dict[str, object]:
        op = self.first.ops[index]
        given = op.attributes
        keys = ("number", "top_k", "ffn", "width", "gated", "biases")
        return {
            "module": relative(op.module, module),
            **{key: given[key] for key in keys},
            "rows": list(self._fitted(index, "rows")),
            "params": self._count([name for name in dict.fromkeys(op.weights) if name in self.parameters]),
            "run": given.get("run", "chosen"),
            "groups": given.get("groups", 1),
            "top_groups": given.get("top_groups", 1),
        }

    def _scan(self, index: int, module: str) -> dict[str, object]:
        op = self.first.ops[index]
        given = op.attributes
        keys = ("kind", "heads", "head_dim", "groups", "state", "conv")
        return {
            "module": relative(op.module, module),
            **{key: given[key] for key in keys},
            "flop": list(self._fitted(index, "flop")),
            "state_elements": given["state_elements"],
            "conv_elements": given["conv_elements"],
        }


def _far(trace: Trace) -> list[str]:
    """What a pass of few tokens does not show, told once for each place."""
    told = {read.where: read for read in trace.far}
    return [
        f"{read.where} compares positions with {read.what}, more than the {trace.sizes[1]} tokens of a pass: "
        "a window of attention of that many tokens is not seen, all keys count"
        for read in told.values()
    ]


def _core_row(
    module: str, attributes: Mapping[str, object], sizes: Sequence[list[int]], kind: str
) -> dict[str, object]:
    causal = bool(attributes.get("causal", False))
    return {
        "module": module,
        "heads": attributes["heads"],
        "kv_heads": attributes["kv_heads"],
        "qk": attributes["qk"],
        "v": attributes["v"],
        "sequences": sizes[0],
        "queries": sizes[1],
        "keys": sizes[2],
        "causal": causal,
        "window": attributes.get("window"),
        "chunked": bool(attributes.get("chunked", False)),
        "sinks": bool(attributes.get("sinks", False)),
        "masked": bool(attributes.get("masked", False)),
        "cached": bool(attributes.get("cached", causal and kind in ("decoder", "encoder-decoder", "vision-language"))),
        "eager": bool(attributes.get("eager", False)),
        "latent": attributes.get("latent"),
        "kept": attributes.get("kept"),
    }


def _joined(cores: Sequence[dict[str, object]]) -> list[dict[str, object]]:
    """The two halves of attention without a softmax, scores and values, are one core."""
    made: list[dict[str, object]] = []
    for core in cores:
        before = made[-1] if made else None
        if (
            before is not None
            and (before["v"], core["qk"]) == (0, 0)
            and all(before[key] == core[key] for key in ("module", "sequences", "queries", "keys"))
        ):
            before["v"] = core["v"]
        else:
            made.append(core)
    return made


def _operands(op: Op) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of the two matrices of a product, in its order; of a constant the shape that the others leave it."""
    letters = str(op.attributes.get("operands", "a" * len(op.shapes)))[-2:]
    count = str(op.attributes.get("operands", "")).count("w")
    weights = list(_shapes(op.attributes.get("weight_shapes", ())))[-letters.count("w") :] if count else []
    shapes = list(op.shapes)[-letters.count("a") :] if "a" in letters else []
    found: list[tuple[int, ...] | None] = [
        (weights.pop(0) if letter == "w" else shapes.pop(0) if letter == "a" else None) for letter in letters
    ]
    out = op.out_shapes[0]
    if len(found) == 1:
        found.append(None)
    left, right = found
    if right is None:
        assert left is not None
        right = (*left[:-2], left[-1], out[-1])
    if left is None:
        left = (*right[:-2], out[-2] if len(out) > 1 else 1, right[-2])
    return left, right


def _shapes(value: object) -> tuple[tuple[int, ...], ...]:
    return value if isinstance(value, tuple) else ()


def _batched(left: tuple[int, ...], right: tuple[int, ...]) -> tuple[int, int, int, int]:
    """(batch, m, k, n) of left x right; a vector is a matrix of one row or column."""
    if len(left) == 1:
        left = (1, *left)
    if len(right) == 1:
        right = (*right, 1)
    batch = prod(left[:-2]) if len(left) > 2 else 1
    return batch, left[-2], left[-1], right[-1]


def _is_left(op: Op) -> bool:
    """Whether the weight is the first operand."""
    return str(op.attributes.get("operands", ""))[-2:] in ("wa", "wc")


def _names(op: Op) -> tuple[str | None, tuple[str, ...]]:
    """The weight of a product and its biases."""
    letters = str(op.attributes.get("operands", ""))
    if not op.weights or "w" not in letters:
        return None, ()
    if op.name == "aten.convolution":
        return op.weights[0], op.weights[1:]
    matrices = letters[-2:].count("w")
    if not matrices:
        return None, op.weights
    biases = letters[:-2].count("w")
    return op.weights[biases], op.weights[:biases]


def _convolution(op: Op) -> tuple[int, int, int]:
    """(rows, k, n) of a convolution: n kernels of k weights, a row for each position of the output; transposed: of the
    input."""
    shapes = _shapes(op.attributes.get("weight_shapes", ()))
    kernel = shapes[0] if shapes else op.shapes[1]
    if op.attributes.get("transposed"):
        return prod(op.shapes[0]) // kernel[0], kernel[0], prod(kernel[1:])
    return prod(op.out_shapes[0]) // kernel[0], prod(kernel[1:]), kernel[0]
