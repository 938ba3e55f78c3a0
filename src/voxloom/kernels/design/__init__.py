"""Regressors: responses, events convolved with them, drifts, and how well a design tells them apart."""
