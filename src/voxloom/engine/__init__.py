"""Runs many small tasks on a cluster, remembers what is done, and survives being killed."""
