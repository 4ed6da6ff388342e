"""The version, as installed; `pyproject.toml` is the one place where it is written."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("pcbench")
except PackageNotFoundError:  # a worker in a foreign environment loads pcbench from its files alone
    __version__ = "0 (not installed)"
