"""A parsed config with a name for its errors: typed access, all mistakes reported together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mowich.errors import UserError, UserErrors

Flag = bool | str | tuple[str, bool]
"""True, False, or the config key that says so (with its default, False when not given)."""


class Reader:
    """A config with its name for errors. Collects what is wrong instead of stopping at the first."""

    def __init__(self, data: Mapping[str, Any], where: str, architecture: str) -> None:
        self.data = data
        self.where = where
        self.architecture = architecture
        self.errors: list[UserError] = []

    def get(self, *keys: str, default: Any = None) -> Any:
        """The first of `keys` that is present and not null, else `default`."""
        for key in keys:
            if self.data.get(key) is not None:
                return self.data[key]
        return default

    def flag(self, flag: Flag) -> bool:
        """The truth of a `Flag`."""
        if isinstance(flag, bool):
            return flag
        key, default = flag if isinstance(flag, tuple) else (flag, False)
        return bool(self.get(key, default=default))

    def count(self, *keys: str, default: int | None = None, minimum: int = 1) -> int:
        """A whole number; without a default the key is required."""
        value = self.get(*keys, default=default)
        if value is None:
            self.errors.append(
                UserError(f"missing key '{keys[0]}'", where=self.where, fix=f"model_type {self.architecture} needs it")
            )
            return 1
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value % 1 != 0 or value < minimum:
            key = next((k for k in keys if k in self.data), keys[0])
            self.errors.append(UserError(f"'{key}' must be a whole number, at least {minimum}",
                                         where=self.where, given=value))  # fmt: skip
            return 1
        return int(value)

    def check(self) -> None:
        """Raise what was collected."""
        if len(self.errors) == 1:
            raise self.errors[0]
        if self.errors:
            raise UserErrors(self.errors)
