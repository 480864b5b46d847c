"""Which of two kernels is slower: the ratio and its range, probabilities, ties, and what is not known."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mowich
import mowich.nki.beta1 as older
import mowich.nki.beta1.language as older_nl
import mowich.nki.isa as nisa
import mowich.nki.language as nl
from mowich import cli
from mowich.neuroncore.order import KernelOrder, shift, unshared
from mowich.nki import hollow
from mowich.show.formats import number_text

X = hollow((128, 8192), "float32")


def drawn(r: random.Random, more: int = 0) -> Callable[[Any], None]:
    """A kernel of a few loads, activations, sums and stores; `more` activations at the end of each turn."""
    turns, columns = r.randint(1, 4), r.choice((64, 512, 2048))
    steps = [r.choice(("activation", "add", "scale")) for _ in range(r.randint(1, 6))] + ["activation"] * more

    def kernel(x: Any) -> None:
        for i in range(turns):
            t = nl.ndarray((128, columns), dtype=nl.float32, buffer=nl.sbuf)
            nisa.dma_copy(dst=t, src=x[:, i * columns : (i + 1) * columns])
            for step in steps:
                if step == "activation":
                    nisa.activation(dst=t, data=t, op=nl.exp)
                elif step == "add":
                    nisa.tensor_tensor(dst=t, data1=t, data2=t, op=nl.add)
                else:
                    nisa.tensor_scalar(dst=t, data=t, op0=nl.multiply, operand0=2.0)
            nisa.dma_copy(dst=x[:, i * columns : (i + 1) * columns], src=t)

    return kernel


def run(kernel: Any, *arrays: Any, target: str = "trn2") -> Any:
    return mowich.run_kernel(kernel, *(arrays or (X,)), target=target, values=False, strict=False)


def ends(order: KernelOrder) -> tuple[float, float, float]:
    ratio = order.ratio
    assert ratio.value is not None
    assert ratio.low is not None
    assert ratio.high is not None
    return ratio.low, ratio.value, ratio.high


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
def test_the_order_of_b_and_a_is_that_of_a_and_b_turned(target: str) -> None:
    for seed in range(8):
        a, b = (run(drawn(random.Random(f"{seed}{side}")), target=target) for side in "ab")
        one, two = a.against(b), b.against(a)
        low, value, high = ends(one)
        assert ends(two) == pytest.approx((1 / high, 1 / value, 1 / low))
        assert value == pytest.approx(float(b.time_s) / float(a.time_s))
        assert one.p_a_slower == pytest.approx(1 - two.p_a_slower)
        assert one.p_tie == pytest.approx(two.p_tie, abs=0.01)
        turned = {"a slower": "b slower", "b slower": "a slower"}
        assert two.verdict == turned.get(one.verdict, one.verdict)


def test_a_kernel_beside_itself_is_a_tie_whose_range_is_that_of_a_pair() -> None:
    """exp(1.645 x 0.06) = 1.104."""
    for seed in range(6):
        a, b = (run(drawn(random.Random(seed))) for _ in "ab")
        assert a.against(a) == a.against(b)
        order = a.against(b)
        assert ends(order) == pytest.approx((math.exp(-1.645 * 0.06), 1.0, math.exp(1.645 * 0.06)))
        assert (order.verdict, order.p_a_slower) == ("tie", pytest.approx(0.5))
        assert str(order) == "A tie: the times differ by less than 10% with a probability of 89% (A is slower: 50%)."


def test_more_work_never_makes_a_kernel_less_surely_the_slower_one() -> None:
    for seed in range(6):
        base = run(drawn(random.Random(seed)))
        sure = [run(drawn(random.Random(seed), more)).against(base).p_a_slower for more in (0, 2, 6, 40)]
        assert sure == sorted(sure)
        assert sure[-1] > 0.95


def test_what_two_kernels_share_cancels() -> None:
    """The range of a ratio is narrower than that of two times which know nothing of each other."""
    narrower = 0
    for seed in range(12):
        a, b = (run(drawn(random.Random(f"{seed}{side}"))) for side in "ab")
        low, _, high = ends(a.against(b))
        apart = math.hypot(*(math.log(t.time_s.high / t.time_s.low) for t in (a, b)))
        narrower += math.log(high / low) < apart
    assert narrower == 12
    assert unshared({"a": 1.0}, {"a": 1.0}) == 0
    assert unshared({"a": 1.0}, {"b": 1.0}) == 1
    for _ in range(100):
        r = random.Random(_)
        share, end = r.random(), r.uniform(0.1, 3)
        assert shift(share, share, end) == pytest.approx(0)
        assert shift(0.2, 0.7, end) == pytest.approx(-shift(0.7, 0.2, end))


def test_kernels_of_two_chips_share_nothing() -> None:
    kernel = drawn(random.Random(3))
    same = run(kernel).against(run(kernel))
    other = run(kernel).against(run(kernel, target="trn3"))
    assert math.log(ends(other)[2] / ends(other)[0]) > 1.5 * math.log(ends(same)[2] / ends(same)[0])


def test_a_named_risk_widens_the_ratio_to_its_own_side_and_is_told() -> None:
    """A kernel that may take 1.65 times as long may be slower than it looks, and hardly faster."""

    def doubled(columns: int) -> Callable[[Any], Any]:
        @older.jit
        def kernel(x: Any) -> Any:
            out = older_nl.ndarray(x.shape, dtype=x.dtype, buffer=older_nl.shared_hbm)
            for i in range(x.shape[1] // columns):
                at = slice(i * columns, (i + 1) * columns)
                older_nl.store(out[:, at], value=older_nl.exp(older_nl.load(x[:, at])))
            return out

        return kernel

    x = hollow((128, 40_000), "float32")
    plain, crowded = run(doubled(5_000), x), run(doubled(10_000), x)
    order = plain.against(crowded)
    low, value, high = ends(order)
    assert math.log(high / value) > math.log(1.65)
    assert math.log(value / low) < math.log(1.3)
    assert len(order.risks) == 1
    assert order.risks[0].startswith("B: one instruction holds more than a third of SBUF")
    turned = ends(crowded.against(plain))
    assert turned == pytest.approx((1 / high, 1 / value, 1 / low))


def test_without_a_time_no_order_is_known() -> None:
    def nothing(x: Any) -> None:
        return

    order = run(nothing).against(run(drawn(random.Random(1))))
    assert (order.verdict, order.p_a_slower, order.p_tie, order.ratio.value) == ("no order known", None, None, None)
    assert str(order) == "No order known: no instruction ran."


FILE = """
import nki
import nki.isa as nisa
import nki.language as nl

@nki.jit
def kernel(x):
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    t = nl.ndarray((128, 512), dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=t, src=x)
    for _ in range(TURNS):
        nisa.activation(dst=t, op=nl.exp, data=t)
    nisa.dma_copy(dst=out, src=t)
    return out
"""


@pytest.mark.parametrize(
    ("turns", "verdict", "words"),
    [
        ((20, 1), "a slower", "A is slower than B with a probability of over 99%."),
        ((1, 1), "tie", "A tie: the times differ by less than 10% with a probability of 89% (A is slower: 50%)."),
        ((17, 18), "no order known", "No order known: B is slower than A with a probability of"),
    ],
)
def test_the_command_and_python_say_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], turns: tuple[int, int], verdict: str, words: str
) -> None:
    files = [tmp_path / f"{name}.py" for name in "ab"]
    found = []
    for file, n in zip(files, turns, strict=True):
        file.write_text(FILE.replace("TURNS", str(n)))
        space: dict[str, Any] = {}
        with mowich.nki.installed():
            exec(compile(file.read_text(), str(file), "exec"), space)
        found.append(run(space["kernel"], hollow((128, 512), "float32")))
    command = ["kernel", "diff", *map(str, files), "-k", "kernel", "x=float32[128,512]", "--target", "trn2"]
    assert cli.run([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["order"]
    order = found[0].against(found[1])
    assert told == json.loads(json.dumps(order.to_dict()))
    assert told["verdict"] == order.verdict == verdict
    assert cli.run(command) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert str(order) in text
    assert words in text
    value, low, high = (number_text(told["ratio"][end]) for end in ("value", "low", "high"))
    assert f"B takes {value} times the time of A ({low} .. {high})." in text
