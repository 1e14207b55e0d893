"""Runs: what is saved of an evaluation, and how it is found and read again."""
