"""A parsed config with a name for its errors: typed access, all mistakes reported together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mowich.errors import UserError, UserErrors
from mowich.models.stated_keys import HEAD_MOST

MAX_SIZE = 10**9
"""Largest size, count or length that a config may hold: no known config has a hundredth of it."""

Flag = bool | str | tuple[str, bool]
"""True, False, or the config key that says so (with its default, False when not given)."""


class ConfigReader:
    """A config with its name for errors. Collects what is wrong instead of stopping at the first."""

    def __init__(self, data: Mapping[str, object], where: str, architecture: str) -> None:
        self.data = data
        self.where = where
        self.architecture = architecture
        self.errors: list[UserError] = []
        self.asked: set[str] = set()
        self._clean: tuple[Mapping[str, object], int] | None = None

    def get(self, *keys: str, default: Any = None) -> Any:
        """The first of `keys` that is present and not null, else `default`."""
        self.asked.update(keys)
        for key in keys:
            if self.data.get(key) is not None:
                return self.data[key]
        return default

    def flag(self, flag: Flag) -> bool:
        """The truth of a `Flag`."""
        if isinstance(flag, bool):
            return flag
        key, default = flag if isinstance(flag, tuple) else (flag, False)
        value = self.get(key, default=default)
        if not isinstance(value, bool):
            self.errors.append(UserError(f"'{key}' must be true or false", where=self.where, given=value))
            return default
        return value

    def count(self, *keys: str, default: int | None = None, minimum: int = 1, maximum: int = MAX_SIZE) -> int:
        """A whole number; without a default the key is required."""
        value = self.get(*keys, default=default)
        if value is None:
            self.errors.append(
                UserError(f"missing key '{keys[0]}'", where=self.where, fix=f"model_type {self.architecture} needs it")
            )
            return 1
        key = next((k for k in keys if self.data.get(k) is not None), keys[0])
        return self.whole(value, key, minimum=minimum, maximum=maximum)

    def whole(self, value: object, key: str, *, minimum: int = 1, maximum: int = MAX_SIZE) -> int:
        """A whole number that stands under `key`, at the top or inside a group. What is wrong is collected, and
        `minimum` goes on."""
        maximum = min(maximum, HEAD_MOST) if key.endswith("head_dim") else maximum
        if isinstance(value, bool) or not isinstance(value, int | float) or value % 1 != 0 or value < minimum:
            what = f"'{key}' must be a whole number, at least {minimum}"
        elif value > maximum:
            what = f"'{key}' must be at most {maximum}"
        else:
            return int(value)
        self.errors.append(UserError(what, where=self.where, given=value))
        return max(1, minimum)

    def check(self) -> None:
        """Raise what was collected, each problem once: a key that two parts of a layer read is wrong once. Called for
        each layer, it looks for slips again only when another key was asked for."""
        if not self.errors and self._clean is not None:
            data, asked = self._clean
            if data is self.data and asked == len(self.asked):
                return
        found = list({error.line(): error for error in [*self.errors, *self._misspelt()]}.values())
        if len(found) == 1:
            raise found[0]
        if found:
            raise UserErrors(found)
        self._clean = self.data, len(self.asked)

    def _misspelt(self) -> Iterator[UserError]:
        """Keys that nobody asked for and that are one letter from one that is missing. What is missing has a default,
        so a misspelt key would change the answer without a word."""
        missing = [key for key in sorted(self.asked) if key not in self.data]
        for key in self.data:
            if key in self.asked:
                continue
            meant = next((m for m in missing if _one_letter_apart(key, m)), None)
            if meant is not None:
                yield UserError(f"unknown key '{key}'", where=self.where, fix=f"did you mean '{meant}'?")


def _one_letter_apart(a: str, b: str) -> bool:
    """Whether one letter more, less or another makes one word of the other."""
    if abs(len(a) - len(b)) > 1 or min(len(a), len(b)) < _SHORT:
        return False
    at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return a[at:] == b[at + 1 :] or a[at + 1 :] == b[at:] or a[at + 1 :] == b[at + 1 :]


_SHORT = 6
"""Letters of a key from which on a near one is taken for a slip."""
