"""The version of the package. It is a module of its own, so that every layer can name it without importing the public
face."""

VERSION = "0.1.0"
"""The same as in pyproject.toml; results and stored sweeps carry it."""
