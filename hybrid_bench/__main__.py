"""``python -m hybrid_bench``: the command line of `hybrid_bench.cli`."""

from hybrid_bench.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
