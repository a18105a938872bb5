"""Pickers: one file each, with `make(**params) -> pick(request, candidates, seed, cursor)`."""
