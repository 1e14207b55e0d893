"""The version of the package, for results and for the command line."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

__all__ = ["VERSION"]

try:
    VERSION = version("hybrid-bench")
except PackageNotFoundError:  # a plain checkout on the path
    VERSION = "0+checkout"
