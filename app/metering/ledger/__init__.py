"""The ledger: what every attempt cost, for good. SQL lives here and nowhere else."""
