"""The errors that are meant for a person: one clear line each, without a traceback on the command line."""

from __future__ import annotations

__all__ = ["DataError", "HybridBenchError", "ModelError", "RequestError"]


class HybridBenchError(Exception):
    """Base of all errors that this package raises on purpose. The message names the value and the fix."""


class RequestError(HybridBenchError, ValueError):
    """What was asked for cannot be done: an unknown name, or options that exclude each other. Exit code 2."""


class DataError(HybridBenchError):
    """A data file is missing, changed, or does not hold what its format promises. Exit code 1."""


class ModelError(HybridBenchError):
    """A model could not be loaded, or returned something that cannot be ranked. Exit code 1."""
