"""Runs: their fits, and what is told from these."""
