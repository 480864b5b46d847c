"""Small graphs written by hand, operation by operation as PyTorch's dispatcher sees a module's forward pass."""

from __future__ import annotations

from dataclasses import dataclass, field

from mowich.capture.graph import Op, Trace, Weight

BATCH, TOKENS = 2, 12


@dataclass
class Graph:
    """Methods add operations and return the number of what these make."""

    ops: list[Op] = field(default_factory=list)
    weights: dict[str, Weight] = field(default_factory=dict)
    shapes: dict[int, tuple[int, ...]] = field(default_factory=dict)
    inputs: dict[str, int] = field(default_factory=dict)
    module: str = ""

    def given(self, name: str, *shape: int) -> int:
        number = self.inputs[name] = len(self.shapes)
        self.shapes[number] = shape
        return number

    def op(
        self,
        name: str,
        inputs: tuple[int, ...],
        *out_shapes: tuple[int, ...],
        weights: tuple[str, ...] = (),
        **attributes: object,
    ) -> int:
        outputs = tuple(range(len(self.shapes), len(self.shapes) + len(out_shapes)))
        shapes = tuple(self.shapes[number] for number in inputs)
        self.shapes.update(zip(outputs, out_shapes, strict=True))
        self.ops.append(
            Op(
                name=name,
                module=self.module,
                inputs=inputs,
                outputs=outputs,
                weights=weights,
                shapes=shapes,
                out_shapes=out_shapes,
                attributes=attributes,
                widths=(4,) * len(outputs),
            )
        )
        return outputs[0]

    def weight(self, name: str, *shape: int) -> str:
        self.weights.setdefault(name, Weight(name, shape, "float32"))
        return name

    def rows(self, x: int) -> int:
        count = 1
        for size in self.shapes[x][:-1]:
            count *= size
        return count

    def view(self, x: int, *shape: int) -> int:
        return self.op("aten.view", (x,), shape, size=list(shape))

    def linear(self, name: str, x: int, n: int, *, bias: bool = False) -> int:
        """view, mm (or addmm), view, as `nn.Linear` runs."""
        k = self.shapes[x][-1]
        weight = self.weight(f"{name}.weight", n, k)
        flat = self.view(x, self.rows(x), k)
        if bias:
            names = (self.weight(f"{name}.bias", n), weight)
            out = self.op(
                "aten.addmm", (flat,), (self.rows(x), n), weights=names, weight_shapes=((n,), (k, n)), operands="waw"
            )
        else:
            out = self.op(
                "aten.mm", (flat,), (self.rows(x), n), weights=(weight,), weight_shapes=((k, n),), operands="aw"
            )
        return self.view(out, *self.shapes[x][:-1], n)

    def each(self, name: str, *inputs: int) -> int:
        """Element by element."""
        widest = max((self.shapes[number] for number in inputs), key=len)
        return self.op(f"aten.{name}", inputs, widest)

    def cut(self, x: int, start: int, end: int) -> int:
        return self.op("aten.slice", (x,), (*self.shapes[x][:-1], end - start), dim=-1, start=start, end=end)

    def join(self, *inputs: int) -> int:
        total = sum(self.shapes[number][-1] for number in inputs)
        return self.op("aten.cat", inputs, (*self.shapes[inputs[0]][:-1], total), dim=-1)

    def turned(self, x: int, a: int = 1, b: int = 2) -> int:
        shape = list(self.shapes[x])
        shape[a], shape[b] = shape[b], shape[a]
        return self.op("aten.transpose", (x,), tuple(shape), dim0=a, dim1=b)

    def norm(self, name: str, x: int) -> int:
        """x * rsqrt(mean(x^2)) * weight over the last dimension."""
        shape = self.shapes[x]
        mean = self.op("aten.mean", (self.each("pow", x),), (*shape[:-1], 1), dim=[-1], keepdim=True)
        scaled = self.each("mul", x, self.each("rsqrt", mean))
        return self.op("aten.mul", (scaled,), shape, weights=(self.weight(f"{name}.weight", shape[-1]),), operands="wa")

    def embed(self, name: str, ids: int, rows: int, width: int) -> int:
        weight = self.weight(f"{name}.weight", rows, width)
        return self.op("aten.embedding", (ids,), (*self.shapes[ids], width), weights=(weight,), operands="wa")

    def heads(self, x: int, heads: int) -> int:
        """[batch, tokens, heads x width] -> [batch, heads, tokens, width]"""
        batch, tokens, width = self.shapes[x]
        return self.turned(self.view(x, batch, tokens, heads, width // heads))

    def core(self, q: int, k: int, v: int) -> int:
        """Attention taken whole, and its heads joined again."""
        batch, heads, tokens, _ = self.shapes[q]
        width = self.shapes[v][-1]
        out = self.op("attention", (q, k, v), (batch, heads, tokens, width), heads=heads, kv_heads=self.shapes[k][1])
        return self.view(
            self.op("aten.clone", (self.turned(out),), (batch, tokens, heads, width)), batch, tokens, heads * width
        )

    def trace(self, *outputs: int) -> Trace:
        return Trace(
            sizes=(BATCH, TOKENS),
            ops=tuple(self.ops),
            inputs=self.inputs,
            outputs=outputs,
            weights=self.weights,
            modules={},
        )
