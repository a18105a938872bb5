"""Emulated timing against published measurements: reading the points, predicting them, fitting constants, reporting."""
