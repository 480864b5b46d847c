"""What `import mowich` offers: every name has a docstring that a reader can work from, with arguments, units and an
example that runs."""

from __future__ import annotations

import doctest
import inspect
import re
from pathlib import Path

import pytest

import mowich
from mowich.shown import Shown

NAMES = [name for name in mowich.__all__ if name != "__version__"]
METHODS = [name for name in vars(Shown) if not name.startswith("_")]


def document(name: str) -> str:
    return inspect.getdoc(getattr(mowich, name)) or ""


@pytest.mark.parametrize("name", NAMES)
def test_every_name_says_what_it_takes_in_which_units_with_an_example(name: str) -> None:
    found, text = getattr(mowich, name), document(name)
    assert re.search(r"\bUnits:\s+\S", text), f"{name}: no units"
    assert "\nExample:\n    >>> import mowich" in text or "\nExample:\n    >>> from mowich" in text, (
        f"{name}: no example"
    )
    if inspect.isfunction(found):
        assert "Returns:" in text, f"{name}: what it gives is not said"
        told = re.findall(r"^    (\w+): \S", text.partition("Args:")[2].partition("Returns:")[0], re.MULTILINE)
        assert told == list(inspect.signature(found).parameters), f"{name}: arguments"


@pytest.mark.parametrize("name", METHODS)
def test_every_method_of_a_result_says_the_same(name: str) -> None:
    method = getattr(Shown, name)
    text = inspect.getdoc(method) or ""
    assert "Example:\n    >>> import mowich" in text
    call = method.fget if isinstance(method, property) else method
    arguments = [word for word in inspect.signature(call).parameters if word != "self"]
    told = re.findall(r"^    (\w+): \S", text.partition("Args:")[2].partition("Returns:")[0], re.MULTILINE)
    assert [word for word in told if word in arguments] == arguments


def test_results_are_typed_classes_of_the_package() -> None:
    for name in NAMES:
        found = getattr(mowich, name)
        assert inspect.isclass(found) or inspect.isfunction(found), name
    shown = {n for n in NAMES if inspect.isclass(getattr(mowich, n)) and issubclass(getattr(mowich, n), Shown)}
    for name in NAMES:
        given = inspect.get_annotations(getattr(mowich, name)).get("return", "") if name.islower() else ""
        for word in re.findall(r"\b[A-Z]\w+", str(given)):
            assert word in mowich.__all__ or word in ("None", "Result", "Kernel", "Text"), (name, word)
    assert {"Comparison", "PlanList", "ServeResult", "PowerStudy", "ClaimStudy"} <= shown


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in NAMES if n != "calibrate" and n != "Calibration"])
def test_every_example_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those too that are too long for `make test`, which skips them."""
    monkeypatch.chdir(tmp_path)
    text = (
        document(name).replace("# doctest: +SKIP +ELLIPSIS", "# doctest: +ELLIPSIS").replace("  # doctest: +SKIP", "")
    )
    test = doctest.DocTestParser().get_doctest(text, {}, name, None, None)
    said: list[str] = []
    failed = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=said.append)
    assert failed.attempted > 0
    assert not failed.failed, "".join(said)


def test_a_kernel_is_loaded_from_a_file_or_from_those_that_ship(tmp_path: Path) -> None:
    assert mowich.load_kernel("@add").__name__ == "add"
    own = tmp_path / "own.py"
    own.write_text("import nki\n\n@nki.jit\ndef one(x):\n    return x\n\n@nki.jit\ndef two(x):\n    return x\n")
    assert mowich.load_kernel(own, "two").__name__ == "two"
    with pytest.raises(mowich.UserError, match="several kernels; allowed: one, two"):
        mowich.load_kernel(own)
    with pytest.raises(mowich.UserError, match="unknown kernel 'tow'"):
        mowich.load_kernel(own, "tow")
    with pytest.raises(mowich.UserError, match="unknown example '@ad'"):
        mowich.load_kernel("@ad")
    with pytest.raises(mowich.UserError, match="no Python file"):
        mowich.load_kernel(tmp_path / "none.py")
