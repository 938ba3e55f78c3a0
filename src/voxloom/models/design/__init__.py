"""Designs of runs: events, modulators, interactions, confounds, drifts; what they can answer."""
