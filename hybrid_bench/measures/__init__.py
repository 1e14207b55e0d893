"""Measures: what is computed from ranks and from scores; numpy and scipy alone."""
