"""Fits of one run: least squares by noise model, and what is told from a fit."""
