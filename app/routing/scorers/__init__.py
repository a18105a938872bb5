"""Scorers: one file each, with `make(**params) -> score(request, candidate)` on an absolute scale in [0, 1]."""
