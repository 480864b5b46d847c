"""A plugin of pytest: the compiled libraries are those in the folder that MOWICH_SANITIZED names
(tests/property/test_sanitized.py)."""

from __future__ import annotations

import os
from pathlib import Path

from mowich.compiled import CompiledLibrary


def pytest_configure() -> None:
    """Where each library is loaded from, before a test asks for one."""
    folder, made = Path(os.environ["MOWICH_SANITIZED"]), CompiledLibrary.__post_init__

    def there(self: CompiledLibrary) -> None:
        made(self)
        self.path = folder / self.path.name

    CompiledLibrary.__post_init__ = there  # type: ignore[method-assign]
