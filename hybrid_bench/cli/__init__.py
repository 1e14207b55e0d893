"""The command line."""

from hybrid_bench.cli.commands import main

__all__ = ["main"]
