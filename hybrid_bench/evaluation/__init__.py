"""Evaluation: mteb tasks on our engine, and the runner that evaluates models on them and saves what comes out."""
