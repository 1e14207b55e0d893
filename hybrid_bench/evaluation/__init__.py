"""Evaluation: mteb tasks on our engine, and the runner that evaluates models on them and saves what comes out."""

# First of all: as mteb comes, our tasks are registered with it, for which no module of this wing may be half imported.
import mteb  # noqa: F401
