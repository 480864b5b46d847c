"""AISimulate: not asked. This file says why, so that the page counts its rows as not answered."""

from __future__ import annotations

from protocol import main_unasked

NAME = "AISimulate"
NEEDS = "a wheel that PyPI does not hold"
WHY = "PyPI holds a stub of its wheel: the wheel comes from an index that is not public here"


if __name__ == "__main__":
    main_unasked("serving", WHY)
