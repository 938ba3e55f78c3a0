"""The stages of the line: each a module with a `NAME` and a function ``tasks(workspace) -> list of Task``."""
